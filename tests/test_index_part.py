"""An index part is read as it was written, and is found by position, identifier and file."""

from typing import Any

import hpgeom
import numpy as np
import pyarrow as pa
import pytest

from specserver.catalog.healpix import cover, pixel
from specserver.catalog.index.column_types import common_schema, conformed
from specserver.catalog.index.marks import MARK, read_marks, write_marks
from specserver.catalog.index.part import IndexPart, open_part
from specserver.catalog.index.part_record import NO_BESIDE, file_states
from specserver.catalog.index.write_part import write_part
from specserver.catalog.placed_part import PlacedPart, place_parts
from specserver.catalog.search import BLOCK_ROWS, IdSearch, PixelSearch
from specserver.data.context import IndexFolder
from specserver.data.root import open_root
from specserver.digests import hash64
from specserver.errors import CatalogError, DamagedFile
from specserver.model.region import cone
from specserver.surveys.lamost import LAMOST
from specserver.surveys.sdss import SDSS

NROWS = 300_000
"""More than two batches."""


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> IndexFolder:
    """Return the folder of an index without a version."""
    return open_root(tmp_path_factory.mktemp("parts")).context("sdss_dr17").index


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    """Return rows in HEALPix order, the first of unknown position."""
    rng = np.random.default_rng(5)
    ra, dec = rng.uniform(0.0, 360.0, NROWS), rng.uniform(0.0, 90.0, NROWS)
    ra[:3] = dec[:3] = np.nan
    table = pa.table(
        {
            "specobjid": rng.permutation(NROWS).astype("u8") + np.uint64(2**63),
            "ra": pa.array(ra, from_pandas=True),
            "dec": pa.array(dec, from_pandas=True),
            "z": rng.uniform(0.0, 4.0, NROWS).astype("f4"),
            "class": rng.choice(["GALAXY", "QSO"], NROWS),
            "specprimary": rng.integers(0, 2, NROWS).astype("u1"),
            "extra": rng.integers(0, 9, NROWS),
            "_hpx": pixel(ra, dec),
            "_row": np.arange(NROWS, dtype="i4"),
            "_segment": rng.integers(0, 2, NROWS).astype("i4"),
            "_source": [f"/f/{number // 3}" for number in range(NROWS)],
            "_size": np.full(NROWS, 9),
            "_mtime_ns": np.arange(NROWS) // 3,
        }
    )
    return table.take(pa.array(np.lexsort((table["specobjid"], table["_hpx"]))))


@pytest.fixture(scope="module")
def part(index: IndexFolder, rows: pa.Table) -> IndexPart:
    folder = index.new_part("lease")
    batches = rows.to_batches(70_001)
    write_part(folder, SDSS, rows.schema, batches, nrows=NROWS, segments=("seg-1", "seg-2"))
    return open_part(folder, SDSS)


def test_columns_are_those_that_were_written(part: IndexPart, rows: pa.Table) -> None:
    assert set(part.schema.names) == set(rows.column_names)
    assert part.record.segments == ("seg-1", "seg-2")
    for wanted in (
        np.arange(131_000, 131_200),
        np.array([7, 3, 299_999, 131_072, 131_071, 3]),
        np.empty(0, np.int64),
    ):
        # Columns of both files, mixed.
        found = part.columns.take(["extra", "z", "class", "_source", "ra"], wanted)
        assert found.equals(rows.select(found.column_names).take(pa.array(wanted)).combine_chunks())
    assert part.columns.every(["z", "extra"]).equals(rows.select(["z", "extra"]))
    assert np.array_equal(part.ids, rows["specobjid"])
    assert np.array_equal(part.primary, rows["specprimary"].to_numpy() == 1)
    assert np.array_equal(part.ra, rows["ra"].to_numpy(), equal_nan=True)


def placed(*parts: IndexPart) -> list[PlacedPart]:
    return place_parts([(part, np.empty(0, MARK)) for part in parts], SDSS)


def test_rows_are_found_by_identifier(part: IndexPart, rows: pa.Table) -> None:
    ids = np.unique(rows["specobjid"].to_numpy()[::1000])
    search = IdSearch(placed(part, part))
    asked = np.concatenate([[np.uint64(5)], ids])
    for found in (*search.first(asked), *search.every(asked)):
        assert np.array_equal(part.ids[found.rows], ids)
        assert np.array_equal(found.which, np.arange(len(ids)) + 1)
    assert [named.placed.first_row for named in search.first(ids)] == [0, NROWS]
    assert not [*search.first(np.array([5], "u8"))]


@pytest.mark.parametrize("radius", [0.0, 1e-9, 1e-7, 1e-6, 1e-4])
def test_the_smallest_cones_are_covered(radius: float) -> None:
    rng = np.random.default_rng(7)
    ra, dec = rng.uniform(0.0, 360.0, 200), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, 200)))
    for x, y, held in zip(ra.tolist(), dec.tolist(), pixel(ra, dec).tolist(), strict=True):
        runs = cover(cone(x, y, radius))
        assert ((runs[:, 0] <= held) & (held < runs[:, 1])).any(), (x, y)


def test_rows_are_found_by_position_and_coverage_skips_the_rest(part: IndexPart) -> None:
    north, south = cover(cone(50.0, 40.0, 3.0)), cover(cone(50.0, -40.0, 3.0))
    search = PixelSearch(placed(part, part))
    (found,) = search.candidates(north)
    inside = np.flatnonzero(cone(50.0, 40.0, 3.0).contains(part.ra, part.dec))
    assert {*inside.tolist(), *(inside + NROWS).tolist()} <= {*found.rows.tolist()}
    assert np.all(np.diff(found.rows) > 0)
    for name in ("hpx", "ra", "dec"):
        assert np.array_equal(getattr(found, name), getattr(part, name)[found.rows % NROWS])
    assert search.parts(north) == [0, 1]
    assert search.parts(south) == []
    assert not [*search.candidates(south)]
    covered = np.zeros(12 * 4**6, bool)
    covered[hpgeom.angle_to_pixel(2**6, part.ra[3:], part.dec[3:])] = True
    assert np.array_equal(np.unpackbits(part.coverage), covered)
    whole = [some.rows for some in search.candidates(np.array([[0, 12 * 4**29]]))]
    assert max(map(len, whole)) <= BLOCK_ROWS
    known = np.arange(3, NROWS)
    assert np.array_equal(np.concatenate(whole), np.concatenate([known, known + NROWS]))


def test_files_are_found_by_their_hash_and_state(part: IndexPart, rows: pa.Table) -> None:
    hashes, states = part.files
    first, stop = np.searchsorted(hashes.hashes, [hash64("/f/77"), hash64("/f/77") + 1])
    mine = hashes.rows[first:stop]
    assert rows["_source"].take(pa.array(mine)).to_pylist() == ["/f/77"] * 3
    state = file_states(np.array([9]), np.array([77]), np.array([NO_BESIDE]))
    assert states[first:stop].tolist() == state.tolist() * 3
    other = file_states(np.array([9, 77]), np.array([78, 9]), np.array([NO_BESIDE, 0]))
    assert state[0] not in other


def test_objects_that_are_not_the_identifier_are_found(index: IndexFolder) -> None:
    assert LAMOST.best is not None
    name = LAMOST.id_column.name
    table = pa.table(
        {
            name: np.array([1, 2, 3], LAMOST.id_column.dtype),
            LAMOST.best.group: ["J1", None, "J1"],
            LAMOST.primary[0]: np.array([1, 1, 0], "u1"),
            "ra": [1.0, 2.0, 3.0],
            "dec": [1.0, 2.0, 3.0],
            "_hpx": pa.array([1, 2, 3], pa.int64()),
            "_row": pa.array([0, 1, 2], pa.int32()),
            "_segment": pa.array([0, 0, 0], pa.int32()),
        }
    )
    folder = index.new_part("lease")
    write_part(folder, LAMOST, table.schema, table.to_batches(), nrows=3, segments=("seg-1",))
    part = open_part(folder, LAMOST)
    assert sorted(zip(part.groups.hashes.tolist(), part.groups.rows.tolist(), strict=True)) == (
        sorted([(hash64("J1"), 0), (0, 1), (hash64("J1"), 2)])
    )
    assert part.primary.tolist() == [True, True, False]


@pytest.mark.parametrize("fault", ["order", "fewer", "more"])
def test_rows_out_of_order_make_no_part(index: IndexFolder, rows: pa.Table, fault: str) -> None:
    folder = index.new_part("lease")
    some = rows.slice(0, 10)
    if fault == "order":
        some = some.take(pa.array(range(9, -1, -1)))
    nrows = {"order": 10, "fewer": 11, "more": 9}[fault]
    with pytest.raises(CatalogError):
        write_part(folder, SDSS, rows.schema, some.to_batches(), nrows=nrows, segments=())
    assert not folder.record.exists()


def test_a_part_without_rows_has_its_columns(index: IndexFolder, rows: pa.Table) -> None:
    folder = index.new_part("lease")
    write_part(folder, SDSS, rows.schema, [], nrows=0, segments=("seg-1",))
    part = open_part(folder, SDSS)
    assert part.columns.take(["z", "extra"], np.empty(0, np.int64)).schema.names == ["z", "extra"]
    assert not [*PixelSearch(placed(part)).candidates(np.array([[0, 12 * 4**29]]))]


def test_a_part_whose_record_is_missing_or_changed_is_damaged(
    index: IndexFolder, rows: pa.Table
) -> None:
    folder = index.new_part("lease")
    write_part(folder, SDSS, rows.schema, rows.slice(0, 5).to_batches(), nrows=5, segments=())
    path = folder.record.local_path()
    path.write_text(path.read_text().replace('"nrows": 5', '"nrows": 6'))
    with pytest.raises(DamagedFile):
        open_part(folder, SDSS)
    path.unlink()
    with pytest.raises(DamagedFile):
        open_part(folder, SDSS)


def test_marks_are_read_as_written_and_damage_is_found(index: IndexFolder) -> None:
    entry = index.new_marks("lease")
    marks = np.array([(3, True, False), (9, False, False)], MARK)
    write_marks(entry, marks)
    assert np.array_equal(read_marks(entry), marks)
    path = entry.local_path()
    content = bytearray(path.read_bytes())
    content[-12] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        read_marks(entry)


def test_types_of_columns_are_joined() -> None:
    cases: list[tuple[Any, Any, Any]] = [
        (pa.int32(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.int32(), pa.float32(), pa.float64()),
        (pa.float32(), pa.float64(), pa.float64()),
        (pa.uint64(), pa.int64(), pa.string()),
        (pa.int64(), pa.string(), pa.string()),
        (pa.null(), pa.int64(), pa.int64()),
        (pa.large_string(), pa.null(), pa.string()),
        (pa.bool_(), pa.int8(), pa.int8()),
    ]
    for first, second, wanted in cases:
        for pair in ((first, second), (second, first)):
            assert common_schema([pa.schema([("a", form)]) for form in pair]).types == [wanted]
    found = conformed(pa.table({"a": [1]}), pa.schema([("b", pa.string()), ("a", pa.float64())]))
    assert found.to_pylist() == [{"b": None, "a": 1.0}]
