"""The contract of `catalog.base.Catalogue`: each back end answers as a plain model does.

The model is the rows themselves, as Python values and NumPy arrays. A back end is a function that
opens segments as a catalogue; `BACK_ENDS` names them.
"""

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.postgres_cluster import Cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from specserver.catalog.base import Catalogue, Rows
from specserver.catalog.deadline import NEVER, Deadline
from specserver.catalog.duckdb import statements
from specserver.catalog.healpix import pixel
from specserver.catalog.index.build import refresh_index, write_sorted
from specserver.catalog.index.column_types import put_column
from specserver.catalog.index.manifest import (
    PartEntry,
    commit_manifest,
    new_rows,
    newest_manifest,
)
from specserver.catalog.index.marks import MARK, write_marks
from specserver.catalog.index.part import open_part
from specserver.catalog.opening import newest_state, open_catalogue, open_table
from specserver.catalog.postgres.following import PostgresFollower
from specserver.catalog.sql.constraint import parse_constraint
from specserver.catalog.sql.expressions import (
    Arithmetic,
    Between,
    Call,
    ColumnRef,
    Comparison,
    Condition,
    In,
    Is,
    Junction,
    Like,
    Literal,
    Not,
    Order,
    TypedExpression,
    combined,
)
from specserver.catalog.tables.vac import add_vac, refresh_vac, vac_survey
from specserver.data.context import IndexFolder, TableFiles
from specserver.data.root import open_root
from specserver.errors import QueryTimeout, TooMuch, UnknownField
from specserver.model.id_tuple import parse_id_tuple
from specserver.model.region import cone, polygon
from specserver.model.survey import Survey
from specserver.service.resolver import SpectrumResolver
from specserver.surveys.desi import DESI_EXPOSURES
from specserver.surveys.sdss import SDSS


@dataclass(frozen=True)
class BackEnd:
    """One implementation of the protocol."""

    open_context: Callable[[Path, Survey, str], Catalogue]
    """Opens the committed segments of a context in a data folder."""
    open_table: Callable[[TableFiles, Survey, Catalogue], Catalogue]
    """Opens a value-added table, joined with the catalogue of its context."""


LATE = Deadline(0.001, 0.0)
"""A deadline that has passed."""


def in_one_part(data: Path, survey: Survey, context: str) -> Catalogue:
    folder = open_root(data).context(context)
    refresh_index(folder, survey)
    return open_catalogue(folder, survey)


def table_in_one_part(files: TableFiles, survey: Survey, spectra: Catalogue) -> Catalogue:
    held = SpectrumResolver(survey, survey.releases[-1], spectra, None)
    refresh_vac(files, held)
    return open_table(files, held, newest_state(files.index), spectra)


def in_parts(data: Path, survey: Survey, context: str) -> Catalogue:
    """Open a part for each segment; some rows are dead, and some best ones only marked so."""
    in_one_part(data, survey, context)
    folder = open_root(data).context(context)
    split(folder.index, survey, [{number} for number in range(len(folder.segments()))], dead=30)
    return open_catalogue(folder, survey)


def table_in_parts(files: TableFiles, survey: Survey, spectra: Catalogue) -> Catalogue:
    """Open a table whose rows are in three parts."""
    table_in_one_part(files, survey, spectra)
    held = SpectrumResolver(survey, survey.releases[-1], spectra, None)
    as_catalogue = vac_survey(survey, (), ["specobjid", "ra", "dec"])
    split(files.index, as_catalogue, [{0, 3}, {1}, {2, 4}], dead=0, by="number")
    return open_table(files, held, newest_state(files.index), spectra)


def split(
    index: IndexFolder, survey: Survey, groups: Sequence[set[int]], *, dead: int, by: str = ""
) -> None:
    """Split an index of one part: a part has the rows of some segments, or values of a column."""
    rng = np.random.default_rng(7)
    base = newest_manifest(index)
    if len(base.parts) > 1:
        return
    whole = open_part(index.part(base.parts[0].name), survey)
    table = whole.columns.every(whole.schema.names)
    number = table.column(by or "_segment").to_numpy() % (5 if by else 1000)
    column, entries = survey.primary[0], []
    for group in groups:
        mine = table.filter(np.isin(number, list(group)))
        flips = np.zeros(len(mine), bool)
        if dead and survey.best:
            flips[rng.permutation(len(mine))[:40]] = True
        best = mine.column(column).to_numpy()
        mine = put_column(mine, column, pa.array(np.where(flips, 1 - best, best).astype("u1")))
        copies = table.take(rng.permutation(len(table))[:dead])
        rows = pa.concat_tables([mine, copies])
        rows = put_column(rows, "_segment", pa.array(np.zeros(len(rows), "i4")))
        rows = rows.append_column("_flip", pa.array([*flips, *[False] * len(copies)]))
        rows = rows.append_column("_copy", pa.array([*[False] * len(mine), *[True] * len(copies)]))
        names = [whole.record.segments[0 if by else min(group)]]
        folder = index.new_part("test")
        write_sorted(folder, survey, rows, names)
        part = open_part(folder, survey)
        flip, copy = (values.to_numpy() for values in part.columns.every(["_flip", "_copy"]))
        marked = np.flatnonzero(flip | copy)
        marks = np.zeros(len(marked), MARK)
        marks["row"], marks["alive"] = marked, ~copy[marked]
        marks["primary"] = part.primary[marked] ^ flip[marked]
        name = ""
        if len(marked):
            entry = index.new_marks("test")
            write_marks(entry, marks)
            name = entry.name
        entries.append(PartEntry(folder.name, part.nrows, name))
    made = replace(base, parts=tuple(entries), rows=new_rows())
    commit_manifest(index, lambda _: made)


def in_postgres(database: Callable[[Path], PostgresFollower]) -> BackEnd:
    """Return the back end of a database, which follows an index of several parts with marks."""

    def open_context(data: Path, survey: Survey, context: str) -> Catalogue:
        in_parts(data, survey, context)
        folder = open_root(data).context(context)
        database(data).sync(folder, survey)
        return database(data).open(context, survey)

    return BackEnd(open_context, table_in_parts)


BACK_ENDS: Mapping[str, BackEnd] = {
    "one part": BackEnd(in_one_part, table_in_one_part),
    "parts": BackEnd(in_parts, table_in_parts),
}


@dataclass(frozen=True)
class Model:
    """A catalogue and its rows, in no order; ``_segment`` and ``_row`` tell them apart."""

    catalogue: Catalogue
    survey: Survey
    segments: tuple[str, ...]
    table: dict[str, np.ndarray]
    """ColumnRef → values, 1D[n]; null is None in columns of objects."""

    def pairs(self, rows: Rows) -> list[tuple[int, int]]:
        """Return segment and row of rows of the catalogue, in their order."""
        place = self.catalogue.place(rows)
        return list(zip(place.segment.tolist(), place.row.tolist(), strict=True))

    def where(self, mask: np.ndarray) -> set[tuple[int, int]]:
        """Return segment and row of the model's rows that a mask names."""
        one = self.table
        return set(zip(one["_segment"][mask].tolist(), one["_row"][mask].tolist(), strict=True))

    @property
    def ids(self) -> np.ndarray:
        return self.table[self.survey.id_column.name]

    @cached_property
    def every(self) -> Rows:
        """All rows, in the order of the catalogue."""
        return self.catalogue.all_with_ids(np.unique(self.ids))

    @property
    def primary(self) -> np.ndarray:
        """Whether each row of `every` is the best of its object."""
        found = self.catalogue.query(PLACE, Condition(), None, primary=True)
        return np.isin(_keys(self.pairs(self.every)), _keys(pairs_of(found)))

    def are_in_order(self, rows: Rows) -> bool:
        """Return whether rows are in the order of the catalogue, each once."""
        return self.every[np.isin(self.every, rows)].tolist() == rows.tolist()

    def by_pair(self, name: str) -> dict[tuple[int, int], Any]:
        """Return the values of a column by segment and row."""
        pairs = zip(self.table["_segment"].tolist(), self.table["_row"].tolist(), strict=True)
        return dict(zip(pairs, self.table[name].tolist(), strict=True))


def _keys(pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return a number for each segment and row."""
    return np.array([segment << 32 | row for segment, row in pairs], np.int64)


def written(
    data: Path, survey: Survey, context: str, table: dict[str, np.ndarray], back_end: BackEnd
) -> Model:
    """Write rows as segments, and open them."""
    table["_hpx"] = np.where(
        np.isnan(table["ra"]),
        -1,
        pixel(np.nan_to_num(table["ra"]), np.nan_to_num(table["dec"])),
    )
    segments = tuple(f"seg-{number + 1:06d}-{number:08x}" for number in set(table["_segment"]))
    for number, name in enumerate(segments):
        mine = np.flatnonzero(table["_segment"] == number)
        folder = data / context / name
        folder.mkdir(parents=True)
        columns = {
            key: pa.array(
                list(values[mine]) if values.dtype == object else values[mine], from_pandas=key in
                {"ra", "dec"},
            )
            for key, values in table.items()
            if key != "_segment"
        }  # fmt: skip
        pq.write_table(pa.table(columns), folder / "objects.parquet")
        record = {"name": name, "context": context, "survey": survey.name, "nspec": len(mine)}
        record |= {"on_lattice": True, "nbytes": 1, "made_by": "test"}
        (folder / "segment.json").write_text(json.dumps(record))
    catalogue = back_end.open_context(data, survey, context)
    return Model(catalogue, survey, segments, table)


def some(rng: np.random.Generator, values: Sequence[Any], count: int) -> np.ndarray:
    """Return values drawn at random, as objects."""
    drawn = np.empty(count, object)
    drawn[:] = [values[at] for at in rng.integers(0, len(values), count)]
    return drawn


def base_rows(rng: np.random.Generator, count: int, nsegments: int) -> dict[str, np.ndarray]:
    """Return positions, some on the poles, the meridian, or unknown, and where the rows are."""
    ra, dec = rng.uniform(0.0, 360.0, count), np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, count)))
    part = count // 5
    dec[:part] = 90.0 - rng.exponential(0.5, part)
    dec[part : 2 * part] = -90.0 + rng.exponential(0.5, part)
    ra[2 * part : 3 * part] = rng.normal(0.0, 1.0, part) % 360.0
    dec[2 * part : 3 * part] = rng.normal(0.0, 1.0, part)
    ra[:3], dec[:3] = 0.0, (90.0, -90.0, 0.0)
    ra[-3:] = dec[-3:] = np.nan
    segment = np.sort(rng.integers(0, nsegments, count))
    row = np.concatenate([np.arange(np.sum(segment == one)) for one in range(nsegments)])
    return {"ra": ra, "dec": dec, "_segment": segment, "_row": row.astype("i4"),
            "_source": np.array([f"/files/{at}.fits" for at in range(count)], object)}  # fmt: skip


def plain_rows(count: int = 400) -> dict[str, np.ndarray]:
    """Return rows of a survey whose identifiers are made of tuples, each identifier once."""
    rng = np.random.default_rng(10)
    table = base_rows(rng, count, 3)
    plate, mjd = rng.integers(266, 272, count), rng.integers(51600, 51603, count)
    fiber = np.arange(count) % 50 + 1
    run2d = some(rng, ["26", "103", "v5_13_2"], count).astype(str)
    ids = np.array(
        [SDSS.pack((p, m, f), r) for p, m, f, r in zip(plate, mjd, fiber, run2d, strict=True)],
        np.uint64,
    )
    _, first = np.unique(ids, return_index=True)
    kept = np.zeros(count, bool)
    kept[first] = True
    assert SDSS.unpack is not None
    parts = SDSS.unpack(ids)
    table |= {
        "specobjid": ids,
        **{name: parts[name].astype("i4") for name in ("plate", "mjd", "fiberid")},
        "run2d": parts["run2d"].astype(object),
        "z": some(rng, [0.0, 0.5, -0.25, 1.5, 1e-4, math.nan, 3.25], count).astype("f4"),
        "zerr": some(rng, [None, 0.0, 0.125, -1.0, math.nan, math.inf, 2.5], count),
        "class": some(rng, ["GALAXY", "QSO", "star", " o'k ", "", None], count),
        "zwarning": some(rng, [0, 1, 4, 16, 2**40, -1, None], count),
        "specprimary": rng.integers(0, 2, count).astype("u1"),
        "ok": some(rng, [True, False, None], count),
    }
    table = {name: values[kept] for name, values in table.items()}
    for one in set(table["_segment"]):
        table["_row"][table["_segment"] == one] = np.arange(np.sum(table["_segment"] == one))
    return table


def shared_rows(count: int = 300) -> dict[str, np.ndarray]:
    """Return rows of a survey of which several share an identifier, and some stand there twice."""
    rng = np.random.default_rng(11)
    table = base_rows(rng, count, 2)
    expid = np.arange(count).astype("i4") + 1
    table |= {
        "targetid": rng.integers(1, 60, count).astype("i8"),
        "expid": expid,
        "z": rng.uniform(0.0, 2.0, count),
        "fiberstatus": rng.integers(0, 2, count).astype("i4"),
        "exptime": rng.permutation(count).astype("f4"),
        "_key": expid.astype("i8"),
        "_version": np.zeros(count, "i8"),
    }
    # One spectrum of each identifier has no exposure time: without two of them none is a draw.
    table["exptime"][np.unique(table["targetid"][10:-10], return_index=True)[1] + 10] = np.nan
    # The last ten replace the first ten: of the same identifier and key, in the later version.
    for name in ("targetid", "expid", "_key"):
        table[name][-10:] = table[name][:10]
    table["_version"][-10:] = 1
    return table


@pytest.fixture(scope="module", params=[*BACK_ENDS, "postgres"])
def back_end(request: pytest.FixtureRequest) -> Iterator[BackEnd]:
    if request.param in BACK_ENDS:
        yield BACK_ENDS[request.param]
        return
    cluster: Cluster = request.getfixturevalue("postgres")
    opened: dict[Path, PostgresFollower] = {}

    def database(data: Path) -> PostgresFollower:
        if data not in opened:
            schema = f"test_{crc32(str(data).encode()):08x}"
            opened[data] = PostgresFollower(f"{cluster.url}&schema={schema}")
        return opened[data]

    yield in_postgres(database)
    for one in opened.values():
        one.close()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, back_end: BackEnd) -> Model:
    folder = tmp_path_factory.mktemp("plain")
    return written(folder, SDSS, "sdss_dr17", plain_rows(), back_end)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, back_end: BackEnd) -> Model:
    folder = tmp_path_factory.mktemp("shared")
    context = DESI_EXPOSURES.releases[0].context
    model = written(folder, DESI_EXPOSURES, context, shared_rows(), back_end)
    # What was replaced is not in the catalogue.
    kept = {name: values[10:] for name, values in model.table.items()}
    return replace(model, table=kept)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory, back_end: BackEnd) -> Model:
    """A catalogue of one segment without rows."""
    folder = tmp_path_factory.mktemp("empty")
    none = {name: values[:0] for name, values in plain_rows().items()}
    typed = {"zerr": "f8", "class": "U1", "zwarning": "i8", "ok": "?", "run2d": "U1"}
    none |= {name: none[name].astype(dtype) for name, dtype in typed.items()}
    none["_source"] = none["_source"].astype("U1")
    name = "seg-000001-00000000"
    (folder / "sdss_dr17" / name).mkdir(parents=True)
    columns = {key: values for key, values in none.items() if key != "_segment"}
    columns["_hpx"] = np.empty(0, "i8")
    pq.write_table(pa.table(columns), folder / "sdss_dr17" / name / "objects.parquet")
    record = {"name": name, "context": "sdss_dr17", "survey": "sdss", "nspec": 0}
    record |= {"on_lattice": True, "nbytes": 1, "made_by": "test"}
    (folder / "sdss_dr17" / name / "segment.json").write_text(json.dumps(record))
    catalogue = back_end.open_context(folder, SDSS, "sdss_dr17")
    return Model(catalogue, SDSS, (name,), {**none, "_hpx": columns["_hpx"]})


@pytest.fixture(params=["plain", "shared", "empty"])
def model(request: pytest.FixtureRequest, back_end: BackEnd) -> Model:
    assert back_end
    found: Model = request.getfixturevalue(request.param)
    return found


# -- rows and their columns -----------------------------------------------------------------------


def test_every_row_is_there_once_in_the_order_of_the_sky(model: Model) -> None:
    pairs = model.pairs(model.every)
    assert len(pairs) == len(set(pairs)) == model.catalogue.count(primary=False)
    assert set(pairs) == model.where(np.ones(len(model.ids), bool))
    assert model.catalogue.segments == model.segments
    place, ids = model.catalogue.place(model.every), model.by_pair(model.survey.id_column.name)
    assert place.ids.tolist() == [ids[pair] for pair in pairs]
    assert place.ids.dtype == np.dtype(model.survey.id_column.dtype)
    hpx = model.by_pair("_hpx")
    assert pairs == sorted(pairs, key=lambda pair: (hpx[pair], ids[pair], pair))
    assert [model.catalogue.identifier(row) for row in model.every[:9].tolist()] == [
        ids[pair] for pair in pairs[:9]
    ]


def test_a_catalogue_tells_its_survey_its_state_and_its_columns(model: Model) -> None:
    catalogue = model.catalogue
    assert catalogue.survey.name == model.survey.name
    assert catalogue.version
    assert catalogue.damage is None
    visible = {name for name in model.table if not name.startswith("_")}
    assert visible <= set(catalogue.columns)
    assert not any(name.startswith("_") for name in catalogue.columns)
    assert set(catalogue.columns.values()) <= {"int", "uint", "float", "str", "bool"}
    assert catalogue.holds("_source")
    assert catalogue.holds("z")
    assert not catalogue.holds("nothing")
    assert catalogue.spelling(' "Z" ') == "z"
    with pytest.raises(UnknownField):
        catalogue.spelling("nothing")
    with pytest.raises(UnknownField):
        catalogue.spelling("_source")


def test_kinds_and_aliases_of_columns(plain: Model) -> None:
    kinds = {"specobjid": "uint", "plate": "int", "z": "float", "class": "str", "ok": "bool"}
    assert {name: plain.catalogue.columns[name] for name in kinds} == kinds
    assert plain.catalogue.spelling("Z_ERR") == "zerr"


def same(found: Any, expected: Any) -> bool:
    """Tell whether two values are one, null and NaN each being itself."""
    if isinstance(found, float) and isinstance(expected, float) and math.isnan(expected):
        return math.isnan(found)
    return bool(found == expected)


def test_columns_come_in_the_order_of_the_rows_duplicates_kept(model: Model) -> None:
    count = len(model.ids)
    rows = model.every[np.random.default_rng(1).integers(0, max(count, 1), 50 if count else 0)]
    names = [*(name for name in model.table if name not in {"ra", "dec"}), "ra"]
    found = model.catalogue.columns_of(names, rows)
    assert found.column_names == names
    for name in names:
        values = model.by_pair(name)
        for pair, value in zip(model.pairs(rows), found.column(name).to_pylist(), strict=True):
            expected = values[pair]
            if name == "ra" and math.isnan(expected):
                expected = None
            if name == model.survey.primary[0] and model.survey.best is not None:
                continue
            assert same(value, expected), name
    sources = model.by_pair("_source")
    paths = model.catalogue.columns_of(["_source"], rows).column("_source").to_pylist()
    assert paths == [sources[pair] for pair in model.pairs(rows)]


def test_positions_are_nan_where_they_are_unknown(model: Model) -> None:
    ra, dec = model.catalogue.positions(model.every)
    expected = model.by_pair("ra"), model.by_pair("dec")
    pairs = model.pairs(model.every)
    np.testing.assert_array_equal(ra, np.array([expected[0][pair] for pair in pairs]))
    np.testing.assert_array_equal(dec, np.array([expected[1][pair] for pair in pairs]))
    assert ra.dtype == dec.dtype == np.float64


# -- identifiers ----------------------------------------------------------------------------------


def best_of(model: Model, mask: np.ndarray) -> tuple[int, int] | None:
    """Return segment and row of the best of some rows by the survey's order; None of none."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return None

    def rank(at: int) -> list[Any]:
        key: list[Any] = []
        for name, first in model.survey.best.order if model.survey.best else ():
            value = model.table[name][at].item()
            known = not math.isnan(value)
            score = -value if first == "desc" else float(value != first)
            key.append((not known, score if known else 0.0))
        return [*key, model.table["_segment"][at], model.table["_row"][at]]

    best = min(rows.tolist(), key=rank)
    return int(model.table["_segment"][best]), int(model.table["_row"][best])


def test_an_identifier_means_its_best_row(model: Model) -> None:
    asked = np.random.default_rng(2).permutation(np.concatenate([model.ids, model.ids[:5]]))
    asked = np.concatenate([asked, np.array([2**62 + 1, 0], asked.dtype)])
    rows = model.catalogue.with_ids(asked)
    assert rows.dtype == np.int64
    for one, row in zip(asked.tolist(), rows.tolist(), strict=True):
        best = best_of(model, model.ids == one)
        assert (None if row < 0 else model.pairs(np.array([row]))[0]) == best
    assert len(model.catalogue.with_ids(asked[:0])) == 0


def test_all_rows_of_identifiers_come_once_and_ascending(model: Model) -> None:
    asked = np.concatenate([model.ids[:7], model.ids[:3], np.array([2**62 + 1], model.ids.dtype)])
    rows = model.catalogue.all_with_ids(asked)
    assert model.are_in_order(rows)
    assert set(model.pairs(rows)) == model.where(np.isin(model.ids, asked))


def test_the_primary_rows_are_the_best_of_each_object(shared: Model) -> None:
    best = {best_of(shared, shared.ids == one) for one in np.unique(shared.ids).tolist()}
    found = shared.catalogue.query(
        ["_segment", "_row"], Condition(), None, primary=True
    ).to_pylist()
    assert {(one["_segment"], one["_row"]) for one in found} == best
    assert shared.catalogue.count(primary=True) == len(best)
    assert set(shared.pairs(shared.every[shared.primary])) == best
    marked = shared.catalogue.columns_of([DESI_EXPOSURES.primary[0]], shared.every).column(0)
    assert np.array_equal(marked.to_numpy() == 1, shared.primary)


def test_the_best_row_that_agrees_with_columns(shared: Model) -> None:
    ids = np.array([*shared.ids[:40].tolist(), 2**40], np.int64)
    expid: list[int | None] = [*shared.table["expid"][:40].tolist(), 1]
    expid[3] = None
    expid[4] = 10**6
    asked = pa.table({"expid": pa.array(expid, pa.int64()), "unknown": ["x"] * len(ids)})
    rows = shared.catalogue.best_with(ids, asked)
    for one, wanted, row in zip(ids.tolist(), expid, rows.tolist(), strict=True):
        mask = shared.ids == one
        if wanted is not None:
            mask &= shared.table["expid"] == wanted
        best = best_of(shared, mask)
        assert (None if row < 0 else shared.pairs(np.array([row]))[0]) == best
    alone = shared.catalogue.best_with(ids, asked.select([]))
    assert alone.tolist() == shared.catalogue.with_ids(ids).tolist()


def test_text_agrees_without_case_and_outer_blanks(plain: Model) -> None:
    asked = pa.table({"run2d": [f" {one.upper()} " for one in plain.table["run2d"].tolist()]})
    rows = plain.catalogue.best_with(plain.ids, asked)
    assert rows.tolist() == plain.catalogue.with_ids(plain.ids).tolist()
    other = pa.table({"run2d": ["other"] * len(plain.ids)})
    assert set(plain.catalogue.best_with(plain.ids, other).tolist()) == {-1}


# -- tuples ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given_parts",
    [("267", "*", "*", "*"), ("*", "51601", "1-10", "*"), ("266-268", "*", "7", "26"),
     ("*", "*", "3", "v5_13_2"), ("267", "51600", "*", "103"), ("9999", "*", "*", "*"),
     ("*", "*", "1-50", "*")],
)  # fmt: skip
def test_tuples_with_wildcards(plain: Model, empty: Model, given_parts: tuple[str, ...]) -> None:
    pattern = parse_id_tuple(given_parts)
    for model in (plain, empty):
        mask = np.ones(len(model.ids), bool)
        for name, part in zip(SDSS.id_parts, given_parts, strict=True):
            if part != "*" and name == "run2d":
                mask &= model.table[name] == part
            elif part != "*":
                low, _, high = part.partition("-")
                values = model.table[name]
                mask &= (values >= int(low)) & (values <= int(high or low))
        rows, parts = model.catalogue.matching(pattern, NEVER)
        assert set(model.pairs(rows)) == model.where(mask)
        assert len(rows) == mask.sum()
        assert parts.column_names == list(SDSS.id_parts)
        told = [tuple(one.values()) for one in parts.to_pylist()]
        assert told == sorted(told)
        assert parts.equals(model.catalogue.columns_of(SDSS.id_parts, rows))


def test_tuples_that_begin_with_an_identifier(shared: Model) -> None:
    form = shared.survey.id_form
    one = int(shared.ids[0])
    mine = np.flatnonzero(shared.ids == one)
    expid = int(shared.table["expid"][mine[0]])
    for parts, mask in (
        ((str(one), "*"), shared.ids == one),
        ((str(one), str(expid)), (shared.ids == one) & (shared.table["expid"] == expid)),
        (("*", f"{expid}-{expid + 20}"),
         (shared.table["expid"] >= expid) & (shared.table["expid"] <= expid + 20)),
    ):  # fmt: skip
        rows, _ = shared.catalogue.matching(parse_id_tuple(parts, form))
        assert set(shared.pairs(rows)) == shared.where(mask)


def test_tuples_without_their_reduction_are_joined(plain: Model, empty: Model) -> None:
    *names, last = SDSS.id_parts
    asked = {name: [*plain.table[name][:30].tolist(), 1] for name in names}
    parts = pa.table({"asking": np.arange(31) + 7, **asked})
    found = plain.catalogue.linked(parts).to_pylist()
    told = {
        (one["asking"], *plain.pairs(np.array([one["row"]])), one["reduction"]) for one in found
    }
    assert len(told) == len(found)
    expected = set()
    for number in range(31):
        mask = np.logical_and.reduce([plain.table[name] == asked[name][number] for name in names])
        reduction = plain.by_pair(last)
        expected |= {(number + 7, pair, reduction[pair]) for pair in plain.where(mask)}
    assert told == expected
    assert empty.catalogue.linked(parts).num_rows == 0


# -- regions --------------------------------------------------------------------------------------


def unit(ra: Any, dec: Any) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def distance_deg(model: Model, ra: float, dec: float) -> np.ndarray:
    one, other = unit(model.table["ra"], model.table["dec"]), unit(ra, dec)
    return np.degrees(np.arctan2(np.linalg.norm(np.cross(one, other), axis=-1), one @ other))


@pytest.mark.parametrize(
    ("ra", "dec"), [(0.0, 90.0), (120.0, -90.0), (0.0, 0.0), (359.999, 0.01), (180.0, 45.0)]
)
@pytest.mark.parametrize("radius", [1e-3, 0.3, 2.0, 40.0, 179.0])
def test_cones_on_poles_and_meridian(model: Model, ra: float, dec: float, radius: float) -> None:
    rows = model.catalogue.in_region(cone(ra, dec, radius))
    assert model.are_in_order(rows)
    assert set(model.pairs(rows)) == model.where(distance_deg(model, ra, dec) <= radius)


def test_polygons_across_the_meridian_and_around_a_pole(model: Model) -> None:
    ra, dec = model.table["ra"], model.table["dec"]
    box = polygon([(359.0, -1.0), (1.0, -1.0), (1.0, 1.0), (359.0, 1.0)])
    rows = model.catalogue.in_region(box)
    # Sides that are great circles bend by less than 2e-4 deg from the parallels.
    inside = (np.abs((ra + 180.0) % 360.0 - 180.0) < 1.0) & (np.abs(dec) < 1.0 - 2e-4)
    near = (np.abs((ra + 180.0) % 360.0 - 180.0) < 1.0) & (np.abs(dec) < 1.0 + 2e-4)
    assert model.where(inside) <= set(model.pairs(rows)) <= model.where(near)
    around = polygon([(0.0, 89.0), (120.0, 89.0), (240.0, 89.0)])
    found = set(model.pairs(model.catalogue.in_region(around)))
    assert model.where(dec > 89.6) <= found <= model.where(dec > 88.9)


def test_a_cone_and_the_columns_of_the_sky_agree(plain: Model) -> None:
    matches = plain.catalogue.nearby(
        np.array([0.0, 10.0]),
        np.array([0.0, 90.0]),
        0.9,
        nearest=False,
        primary=False,
    )
    for number, (ra, dec) in enumerate([(0.0, 0.0), (10.0, 90.0)]):
        rows = matches.row[matches.position == number]
        expected = plain.where(distance_deg(plain, ra, dec) <= 0.9)
        assert set(plain.pairs(rows)) == expected


@pytest.mark.parametrize("radius", [1e-4, 0.02, 0.9])
def test_the_rows_near_many_positions(plain: Model, radius: float) -> None:
    rng = np.random.default_rng(12)
    ra, dec = plain.table["ra"][:-3], plain.table["dec"][:-3]
    # Positions about as far from rows as the radius, some of nothing, and one that is unknown.
    away = rng.uniform(0.0, 1.5, len(ra)) * radius
    dec = np.clip(dec + np.where(rng.random(len(dec)) < 0.5, away, -away), -90.0, 90.0)
    ra, dec = np.append(ra, [1.0, math.nan]), np.append(dec, [-30.0, 1.0])
    apart = np.stack([distance_deg(plain, *place) for place in zip(ra, dec, strict=True)])
    for primary in (False, True):
        allowed = plain.table["specprimary"] == 1 if primary else np.ones(len(plain.ids), bool)
        words = {"nearest": False, "primary": primary}
        found = plain.catalogue.nearby(ra, dec, radius, **words)
        assert np.all(np.diff(found.position) >= 0)
        told = set(zip(found.position.tolist(), plain.pairs(found.row), strict=True))
        assert len(told) == len(found) > 0
        # A distance that differs from the radius by rounding may be either.
        within, about = (
            {
                (at, pair)
                for at, row in enumerate(apart)
                for pair in plain.where((row <= radius + margin) & allowed)
            }
            for margin in (-1e-10, 1e-10)
        )
        assert within <= told <= about
        best = plain.catalogue.nearby(ra, dec, radius, nearest=True, primary=primary)
        assert best.position.tolist() == sorted(set(found.position.tolist()))
        firsts = np.flatnonzero(np.diff(found.position, prepend=-1))
        assert best.row.tolist() == found.row[firsts].tolist()
        with pytest.raises(TooMuch):
            plain.catalogue.nearby(ra, dec, radius, max_pairs=len(found) - 1, **words)


# -- order, limit, bounds -------------------------------------------------------------------------

Z = ColumnRef("z", "float")
HIGH = Comparison(">", Z, Literal(0.1))


def pairs_of(table: pa.Table) -> list[tuple[int, int]]:
    return [(one["_segment"], one["_row"]) for one in table.to_pylist()]


PLACE = ["_segment", "_row"]


def test_without_a_condition_all_rows_come_in_order(model: Model) -> None:
    catalogue = model.catalogue
    assert pairs_of(catalogue.query(PLACE, Condition(), None, primary=False)) == model.pairs(
        model.every
    )
    some_rows = model.every[::3]
    asked = catalogue.query(PLACE, Condition(), some_rows, primary=False)
    assert pairs_of(asked) == model.pairs(some_rows)
    best = model.every[model.primary]
    assert pairs_of(catalogue.query(PLACE, Condition(), None, primary=True)) == model.pairs(best)
    assert len(best) == catalogue.count(primary=True)


@pytest.mark.parametrize("primary", [True, False])
@pytest.mark.parametrize("given_rows", [None, slice(0, None, 2), slice(0, 0)])
def test_a_condition_on_some_rows_keeps_their_order(
    model: Model, primary: bool, given_rows: slice | None
) -> None:
    rows = None if given_rows is None else model.every[given_rows]
    looked = model.every if rows is None else rows
    table = model.catalogue.columns_of(["z"], looked)
    good = np.array([one is not None and one > 0.1 for one in table.column("z").to_pylist()], bool)
    if primary:
        good &= model.primary[np.isin(model.every, looked)]
    found = model.catalogue.query(PLACE, Condition(HIGH), rows, primary=primary)
    assert pairs_of(found) == model.pairs(looked[good])


@pytest.mark.parametrize("primary", [True, False])
@pytest.mark.parametrize("limit", [None, 3])
def test_a_condition_in_a_region(model: Model, primary: bool, limit: int | None) -> None:
    catalogue = model.catalogue
    for place in ((0.0, 0.0, 2.0), (0.0, 90.0, 3.0), (0.0, 0.0, 179.0), (77.0, 50.0, 1e-3)):
        rows = catalogue.in_region(cone(*place))
        good = np.isin(rows, model.every[model.primary]) if primary else np.ones(len(rows), bool)
        along = catalogue.in_region(cone(*place), NEVER, PLACE)
        assert np.array_equal(rows, along)
        for order in ((), (Order("z", True),)):
            words = {"primary": primary}
            alone = catalogue.query(PLACE, Condition(order=order, limit=limit), rows, **words)
            again = catalogue.query(
                PLACE, Condition(order=order, limit=limit), rows.copy(), **words
            )
            assert alone.equals(again)
            asked = Condition(order=order, limit=limit)
            # Of some of the rows, and of other columns, nothing was fetched before.
            named = (PLACE, PLACE[::-1], PLACE[:1], ["ra"])
            for some, names in [*((along, names) for names in named), (along[::2], PLACE)]:
                one, other = (
                    catalogue.query(names, asked, it, **words) for it in (some, some.copy())
                )
                assert one.equals(other)
            if len(alone):
                most = {**words, "max_rows": len(alone) - 1}
                with pytest.raises(TooMuch):
                    catalogue.query(PLACE, asked, along, **most)
            if not order:
                assert pairs_of(alone) == model.pairs(rows[good])[:limit]
            high = catalogue.query(["z"], Condition(HIGH, order, limit), rows, **words)
            copied = catalogue.query(["z"], Condition(HIGH, order, limit), rows.copy(), **words)
            assert high.equals(copied)
        assert catalogue.columns_of(PLACE, rows).equals(catalogue.columns_of(PLACE, rows.copy()))


@pytest.mark.parametrize("limit", [0, 1, 7, 10**9])
@pytest.mark.parametrize("descending", [True, False])
def test_order_and_limit(model: Model, limit: int, descending: bool) -> None:
    where = Not(Is(Z, None))
    condition = Condition(where, (Order("z", descending),), limit)
    found = model.catalogue.query(PLACE, condition, None, primary=False)
    values = model.by_pair("z")
    known = [pair for pair in model.pairs(model.every) if not math.isnan(values[pair])]
    # Python's sort is stable as well: rows that are equal stay in their order.
    expected = sorted(known, key=lambda pair: -values[pair] if descending else values[pair])
    assert pairs_of(found) == expected[:limit]
    alone = model.catalogue.query(PLACE, Condition(limit=limit), None, primary=False)
    assert pairs_of(alone) == model.pairs(model.every)[:limit]


def test_null_comes_last_whichever_the_order(plain: Model) -> None:
    for descending in (True, False):
        order = (Order("class", descending), Order("zwarning", not descending))
        found = plain.catalogue.query(
            ["class", "zwarning"], Condition(order=order), None, primary=False
        ).to_pylist()
        assert len(found) == len(plain.ids)

        def rank(one: dict[str, Any]) -> tuple[Any, ...]:
            return one["class"] is None, one["class"] or ""

        ordered = [rank(one) for one in found]
        known = [one for one in ordered if not one[0]]
        assert ordered == known + [one for one in ordered if one[0]]
        assert known == sorted(known, reverse=descending)


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("some_rows", [True, False])
def test_nan_comes_last_as_null_does(plain: Model, descending: bool, some_rows: bool) -> None:
    looked = plain.every[::2] if some_rows else plain.every
    values = plain.by_pair("zerr")
    known, rest = [], []
    for pair in plain.pairs(looked):
        lacks = values[pair] is None or math.isnan(values[pair])
        (rest if lacks else known).append(pair)
    condition = Condition(order=(Order("zerr", descending),))
    found = plain.catalogue.query(PLACE, condition, looked if some_rows else None, primary=False)
    known.sort(key=lambda pair: values[pair], reverse=descending)
    assert [values[pair] for pair in pairs_of(found)[: len(known)]] == [
        values[pair] for pair in known
    ]
    assert pairs_of(found)[len(known) :] == rest


def test_more_rows_than_may_be_are_refused(plain: Model) -> None:
    count = len(plain.ids)
    assert plain.catalogue.query(["z"], Condition(), None, primary=False, max_rows=count)
    for condition in (Condition(), Condition(Is(Literal(None), None))):
        with pytest.raises(TooMuch):
            plain.catalogue.query(["z"], condition, None, primary=False, max_rows=count - 1)


def test_a_deadline_that_has_passed_ends_each_search(plain: Model) -> None:
    catalogue = plain.catalogue
    for condition in (Condition(), Condition(HIGH)):
        with pytest.raises(QueryTimeout):
            catalogue.query(["z"], condition, None, primary=False, deadline=LATE)
    with pytest.raises(QueryTimeout):
        catalogue.in_region(cone(0.0, 0.0, 90.0), LATE)
    with pytest.raises(QueryTimeout):
        catalogue.matching(parse_id_tuple(("267", "*", "*", "*")), LATE)


def test_a_catalogue_can_be_opened_and_closed_again(tmp_path: Path, back_end: BackEnd) -> None:
    model = written(tmp_path, SDSS, "sdss_dr17", plain_rows(), back_end)
    model.catalogue.close()
    with closing(back_end.open_context(tmp_path, SDSS, "sdss_dr17")) as again:
        assert again.version == model.catalogue.version
        found = again.query(PLACE, Condition(HIGH), None, primary=False)
        z = model.table["z"]
        assert set(pairs_of(found)) == model.where(z > 0.1)


# -- conditions against an interpreter of the tree ------------------------------------------------

Row: TypeAlias = Mapping[str, Any]


def value_of(one: TypedExpression, row: Row) -> Any:
    """Return the value of a tree for a row; None is NULL, which NaN is too."""
    found = _value_of(one, row)
    return None if isinstance(found, float) and math.isnan(found) else found


def _value_of(one: TypedExpression, row: Row) -> Any:  # noqa: PLR0911, PLR0912  # one a class
    match one:
        case ColumnRef():
            return row[one.name]
        case Literal():
            return one.value
        case Comparison():
            return compare(one.operator, value_of(one.left, row), value_of(one.right, row))
        case Between():
            value = value_of(one.value, row)
            above = compare(">=", value, value_of(one.low, row))
            return both(above, compare("<=", value, value_of(one.high, row)))
        case In():
            value = value_of(one.value, row)
            return None if value is None else any(value == listed for listed in one.listed)
        case Like():
            value = value_of(one.value, row)
            wild = {"%": ".*", "_": "."}
            pattern = "".join(wild.get(sign) or re.escape(sign) for sign in one.pattern)
            flags = re.DOTALL | (re.IGNORECASE if one.ignores_case else 0)
            return None if value is None else re.fullmatch(pattern, value, flags) is not None
        case Is():
            return value_of(one.value, row) is one.state
        case Not():
            value = value_of(one.value, row)
            return None if value is None else not value
        case Junction():
            terms = [value_of(term, row) for term in one.terms]
            if one.operator == "OR":
                terms = [None if term is None else not term for term in terms]
            joined = False if False in terms else None if None in terms else True
            return joined if one.operator == "AND" or joined is None else not joined
        case Arithmetic():
            return compute(one, [value_of(operand, row) for operand in one.operands])
        case Call():
            return call(one, [value_of(arg, row) for arg in one.args])


def both(one: bool | None, other: bool | None) -> bool | None:
    return False if False in (one, other) else None if None in (one, other) else True


def compare(operator: str, left: Any, right: Any) -> bool | None:
    if left is None or right is None:
        return None
    return {
        "=": left == right, "<>": left != right, "<": left < right, "<=": left <= right,
        ">": left > right, ">=": left >= right,
    }[operator]  # fmt: skip


def compute(one: Arithmetic, values: list[Any]) -> Any:
    if None in values:
        return None
    if len(values) == 1:
        return ~values[0] if one.operator == "~" else -values[0]
    left, right = values
    if one.kind == "int":
        if one.operator == "%":
            return None if right == 0 else int(math.copysign(1, left)) * (abs(left) % abs(right))
        return {
            "+": left + right, "-": left - right, "*": left * right, "&": left & right,
            "|": left | right, ">>": left >> max(0, min(right, 63)),
        }[one.operator]  # fmt: skip
    left, right = np.float64(left), np.float64(right)
    with np.errstate(all="ignore"):
        return float({
            "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod,
        }[one.operator](left, right))  # fmt: skip


def call(one: Call, values: list[Any]) -> Any:
    known = [value for value in values if value is not None]
    if one.function in {"greatest", "least"}:
        return None if not known else (max if one.function == "greatest" else min)(known)
    if one.function == "coalesce":
        return known[0] if known else None
    if len(known) < len(values):
        return None
    (value,) = values
    functions: dict[str, Callable[[Any], Any]] = {
        "abs": abs, "lower": str.lower, "upper": str.upper, "length": len,
        "trim": lambda text: text.strip(" "), "sqrt": math.sqrt,
        "ln": lambda number: math.log(number) if number else -math.inf,
        "log10": lambda number: math.log10(number) if number else -math.inf,
        "floor": np.floor, "ceil": np.ceil,
    }  # fmt: skip
    try:
        found = functions[one.function](value)
    except ValueError:
        return None
    return float(found) if one.kind == "float" else found


INTS = st.sampled_from([0, 1, 4, 16, -1, 266, 269, 51601, 2**31, -(2**31)]).map(Literal)
FLOATS = st.sampled_from([0.0, 0.5, -0.25, 0.125, 1e-4, 2.5, 1e9, -1.0]).map(Literal)
TEXTS = st.sampled_from(["GALAXY", "qso", "star", " o'k ", "", "26", "v5_13_2", "STAR"])
INT_COLUMNS = st.sampled_from(
    [ColumnRef(name, "int") for name in ("plate", "mjd", "fiberid", "zwarning")]
)
FLOAT_COLUMNS = st.sampled_from([ColumnRef("z", "float"), ColumnRef("zerr", "float")])
TEXT_COLUMNS = st.sampled_from([ColumnRef("class", "str"), ColumnRef("run2d", "str")])


def integers(depth: int) -> st.SearchStrategy[TypedExpression]:
    if depth == 0:
        return INTS | INT_COLUMNS
    part = integers(depth - 1)
    return (
        INTS | INT_COLUMNS
        | st.builds(combined, st.sampled_from("+-*%"), part, part)
        | st.builds(bits, st.sampled_from("&|"), part, part)
        | st.builds(lambda one, by: Arithmetic(">>", (one, Literal(by)), "int", one.bits),
                    INT_COLUMNS, st.integers(0, 5))
        | INT_COLUMNS.map(lambda one: Arithmetic("~", (one,), "int", one.bits + 1))
        | INT_COLUMNS.map(lambda one: Arithmetic("-", (one,), "int", one.bits))
        | INT_COLUMNS.map(lambda one: Call("abs", (one,), "int", one.bits))
        | TEXT_COLUMNS.map(lambda one: Call("length", (one,), "int", 64))
        | st.builds(lambda name, args: Call(name, tuple(args), "int", 64),
                    st.sampled_from(["greatest", "least", "coalesce"]),
                    st.lists(INTS | INT_COLUMNS, min_size=1, max_size=3))
    )  # fmt: skip


def bits(operator: str, left: TypedExpression, right: TypedExpression) -> TypedExpression:
    """Return a bitwise operation, or the left operand where it is no whole number."""
    wide = max(left.bits, right.bits) + 1
    if "float" in {left.kind, right.kind} or wide > 126:
        return left
    return Arithmetic(operator, (left, right), "int", wide)


def numbers(depth: int) -> st.SearchStrategy[TypedExpression]:
    if depth == 0:
        return FLOATS | FLOAT_COLUMNS
    part = numbers(depth - 1)
    return (
        FLOATS | FLOAT_COLUMNS
        | st.builds(combined, st.sampled_from("+-*/%"), part, part | integers(depth - 1))
        | st.builds(lambda name, one: Call(name, (one,), "float"),
                    st.sampled_from(["sqrt", "ln", "log10", "floor", "ceil", "abs"]), part)
        | FLOAT_COLUMNS.map(lambda one: Arithmetic("-", (one,), "float"))
        | st.builds(lambda name, args: Call(name, tuple(args), "float"),
                    st.sampled_from(["greatest", "least", "coalesce"]),
                    st.lists(part, min_size=1, max_size=3))
    )  # fmt: skip


def texts() -> st.SearchStrategy[TypedExpression]:
    return TEXT_COLUMNS | st.builds(
        lambda name, one: Call(name, (one,), "str"),
        st.sampled_from(["lower", "upper", "trim"]),
        TEXT_COLUMNS,
    )


SIGNS = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])


def truths(depth: int) -> st.SearchStrategy[TypedExpression]:
    whole, real, text = integers(2), numbers(2), texts()
    literal_text = TEXTS.map(Literal)
    tests = (
        st.builds(Comparison, SIGNS, whole, whole)
        | st.builds(Comparison, SIGNS, real, real)
        | st.builds(Comparison, SIGNS, text, literal_text | text)
        | st.builds(Comparison, st.sampled_from(["=", "<>"]), st.just(ColumnRef("ok", "bool")),
                    st.booleans().map(Literal))
        | st.builds(Between, whole, INTS, INTS)
        | st.builds(Between, real, FLOATS, FLOATS)
        | st.builds(In, INT_COLUMNS,
                    st.lists(INTS.map(lambda one: one.value), min_size=1, max_size=4).map(tuple))
        | st.builds(In, text, st.lists(TEXTS, min_size=1, max_size=4).map(tuple))
        | st.builds(Like, text, st.sampled_from(["%a%", "_al%", "%", "q__", "26", "V5%"]),
                    st.booleans())
        | st.builds(Is, whole | real | text, st.none())
        | st.builds(Is, st.just(ColumnRef("ok", "bool")), st.sampled_from([None, True, False]))
        | st.just(ColumnRef("ok", "bool"))
    )  # fmt: skip
    if depth == 0:
        return tests
    part = truths(depth - 1)
    return (
        tests
        | st.builds(Not, part)
        | st.builds(Junction, st.sampled_from(["AND", "OR"]),
                    st.lists(part, min_size=2, max_size=4).map(tuple))
        | st.builds(Is, part, st.sampled_from([None, True, False]))
    )  # fmt: skip


def test_any_condition_means_what_the_interpreter_says(plain: Model) -> None:
    hidden = {"_segment", "_row", "_hpx", "_source"}
    columns = {name: plain.table[name].tolist() for name in plain.table if name not in hidden}
    listed = zip(*columns.values(), strict=True)
    rows = [dict(zip(columns, values, strict=True)) for values in listed]

    @settings(max_examples=150)
    @given(where=st.deferred(lambda: truths(2)), ordered=st.booleans(), some_rows=st.booleans())
    def check(where: TypedExpression, *, ordered: bool, some_rows: bool) -> None:
        expected = plain.where(np.array([value_of(where, row) is True for row in rows]))
        looked = plain.every[::2] if some_rows else None
        if looked is not None:
            expected &= set(plain.pairs(looked))
        order = (Order("specobjid", descending=True),) if ordered else ()
        condition = Condition(where, order)
        found = plain.catalogue.query(["specobjid", *PLACE], condition, looked, primary=False)
        assert set(pairs_of(found)) == expected
        assert len(found) == len(expected)
        if ordered:
            ids = found.column("specobjid").to_pylist()
            assert ids == sorted(ids, reverse=True)

    check()


_HIGH = 2**63 + 5 * 2**50
BIG_NUMBERS: Mapping[str, Callable[[int, float], bool]] = {
    f"specobjid > {_HIGH}": lambda number, _: number > _HIGH,
    f"specobjid <= {_HIGH} and specobjid > 5": lambda number, _: 5 < number <= _HIGH,
    f"specobjid between {2**62} and {_HIGH}": lambda number, _: 2**62 <= number <= _HIGH,
    "specobjid % 7 = 3": lambda number, _: number % 7 == 3,
    "specobjid & 1024 = 0": lambda number, _: not number & 1024,
    "(specobjid | 1024) = specobjid": lambda number, _: number & 1024 > 0,
    "specobjid >> 50 >= 8192": lambda number, _: number >> 50 >= 8192,
    "specobjid * 3 > 18446744073709551615": lambda number, _: number * 3 >= 2**64,
    "-specobjid < -9300000000000000000": lambda number, _: -number < -9300000000000000000,
    "~specobjid < -9300000000000000000": lambda number, _: ~number < -9300000000000000000,
    "specobjid in (1, 18446744073709551615) or z > 1": lambda _, z: z > 1,
    "specobjid / 2 > 4.7e18": lambda number, _: number / 2 > 4.7e18,
    "greatest(specobjid, 9300000000000000000) = specobjid": lambda number, _: number >= 93 * 10**17,
    "round(z, 1) = 0.5 or power(z, 2) > 2": lambda _, z: round(z, 1) == 0.5 or z * z > 2,
    "round(z * 3) = 2 and exp(z) < 1e300": lambda _, z: z == 0.5,
    "z % 0.4 < 0.2 and log(2, z) > -4": lambda _, z: z > 1 / 16 and math.fmod(z, 0.4) < 0.2,
    "exp(z * 1000) > 1e308 or sin(1 / (z - 0.5)) > 2": lambda _, z: z > 0.7,
}  # fmt: skip
"""Conditions on unsigned numbers of 64 bits, and functions, and what they mean."""


@pytest.fixture(scope="module")
def high(tmp_path_factory: pytest.TempPathFactory, back_end: BackEnd) -> Model:
    """Rows of which many have identifiers that are no signed numbers of 64 bits."""
    table = plain_rows(200)
    assert SDSS.unpack is not None
    table["plate"] = (np.arange(len(table["plate"])) * 61 + 266).astype("i4")
    parts = zip(*(table[n] for n in ("plate", "mjd", "fiberid", "run2d")), strict=True)
    table["specobjid"] = np.array([SDSS.pack((p, m, f), r) for p, m, f, r in parts], np.uint64)
    assert (table["specobjid"] >= 2**63).sum() > 20
    return written(tmp_path_factory.mktemp("high"), SDSS, "sdss_dr17", table, back_end)


@pytest.mark.parametrize("text", BIG_NUMBERS)
def test_conditions_on_large_numbers_and_of_functions(high: Model, text: str) -> None:
    condition = parse_constraint(text, high.catalogue.columns, {})
    found = high.catalogue.query(PLACE, condition, None, primary=False)
    values = zip(high.ids.tolist(), high.table["z"].astype(float).tolist(), strict=True)
    means = BIG_NUMBERS[text]
    uses_z = "z" in condition.columns
    good = np.array(
        [not (uses_z and math.isnan(z)) and means(number, z) for number, z in values], bool
    )
    assert set(pairs_of(found)) == high.where(good)
    assert 0 < len(found) < len(high.ids)


@pytest.mark.parametrize("descending", [True, False])
def test_unsigned_numbers_are_in_their_order(high: Model, descending: bool) -> None:
    order = Condition(order=(Order("specobjid", descending),))
    found = high.catalogue.query(["specobjid"], order, None, primary=False).column(0).to_pylist()
    assert found == sorted(high.ids.tolist(), reverse=descending)


# -- a value-added table joined with the catalogue of its context ---------------------------------


@dataclass(frozen=True)
class Joined:
    """A table, and the rows of its merge with the catalogue."""

    catalogue: Catalogue
    nrows: int
    merged: list[dict[str, Any]]
    """Rows whose spectrum is held, by ``number``: columns of the table, and ``specobj.…``."""


@pytest.fixture(scope="module")
def joined(plain: Model, back_end: BackEnd, tmp_path_factory: pytest.TempPathFactory) -> Joined:
    """A table of fewer rows than spectra, some of one spectrum, some of none that is held."""
    rng, count = np.random.default_rng(20), 150
    ids = [*some(rng, plain.ids.tolist(), count - 4).tolist(), 2**62 + 1, 2**63 + 1, None, None]
    own = {
        "specobjid": ids,
        "number": list(range(count)),
        "z": some(rng, [None, math.nan, 0.5, -0.25, 2.5], count).tolist(),
        "zwarning": some(rng, [0, 4, 2**31, None], count).tolist(),
    }
    folder = tmp_path_factory.mktemp("joined")
    types = [("specobjid", pa.uint64()), ("number", pa.int32()), ("z", pa.float64())]
    schema = pa.schema([*types, ("zwarning", pa.int64())])
    pq.write_table(pa.table(own, schema=schema), folder / "rows.parquet")
    files = open_root(folder).context("sdss_dr17").table("myvac")
    add_vac(files, SDSS, folder / "rows.parquet")
    columns = {name: values.tolist() for name, values in plain.table.items() if name[0] != "_"}
    spectra = {
        row["specobjid"]: row
        for row in (
            dict(zip(columns, values, strict=True))
            for values in zip(*columns.values(), strict=True)
        )
    }
    merged = []
    for row in (dict(zip(own, values, strict=True)) for values in zip(*own.values(), strict=True)):
        if found := spectra.get(row["specobjid"]):
            parts = {name: found[name] for name in SDSS.id_parts}
            merged.append(parts | row | {f"specobj.{name}": found[name] for name in found})
    catalogue = back_end.open_table(files, SDSS, plain.catalogue)
    return Joined(catalogue, count, merged)


def renamed(node: Any, names: Mapping[str, str]) -> Any:
    """Return a tree with other names of columns."""
    if isinstance(node, tuple):
        return tuple(renamed(part, names) for part in node)
    if isinstance(node, ColumnRef):
        return replace(node, name=names.get(node.name, node.name))
    if not is_dataclass(node):
        return node
    parts = {field.name: renamed(getattr(node, field.name), names) for field in fields(node)}
    return replace(node, **parts)


def test_a_joined_table_names_both(joined: Joined, plain: Model) -> None:
    catalogue = joined.catalogue
    assert catalogue.spectrum_columns == {
        f"specobj.{name}": kind for name, kind in plain.catalogue.columns.items()
    }
    assert not any("." in name for name in catalogue.columns)
    assert plain.catalogue.spectrum_columns == {}
    for name, means in {
        "Z": "z", "myvac.z": "z", "SpecObj.Z": "specobj.z", "specobjall.z": "specobj.z",
        "class": "specobj.class", "z_err": "specobj.zerr", "specobj.Z_ERR": "specobj.zerr",
        "plate": "plate", "specobj.plate": "specobj.plate",
    }.items():  # fmt: skip
        assert catalogue.spelling(name) == means
    for name in ("specobj._row", "myvac.class", "specobj.number", "other.z", "specobj."):
        with pytest.raises(UnknownField):
            catalogue.spelling(name)


def test_columns_of_spectra_that_are_not_held_are_null(joined: Joined) -> None:
    rows = np.random.default_rng(3).integers(0, joined.nrows, 400)
    names = ["specobj.z", "number", "specobj.class"]
    found = joined.catalogue.columns_of(names, rows)
    assert found.column_names == names
    known = {row["number"]: (row["specobj.z"], row["specobj.class"]) for row in joined.merged}
    assert len(known) < joined.nrows
    for row in found.to_pylist():
        z, kind = known.get(row["number"], (None, None))
        assert same(row["specobj.z"], z)
        assert row["specobj.class"] == kind
    none = joined.catalogue.columns_of(names, rows[:0])
    assert none.column_names == names
    assert len(none) == 0


def test_a_query_finds_rows_without_a_spectrum_only_by_columns_of_the_table(joined: Joined) -> None:
    catalogue = joined.catalogue
    assert len(catalogue.query(["number"], Condition(), None, primary=False)) == joined.nrows
    both = catalogue.query(["specobj.z"], Condition(), None, primary=False)
    assert len(both) == len(joined.merged)
    order = Condition(order=(Order("specobj.specobjid", descending=True),), limit=9)
    found = catalogue.query(["number", "specobj.specobjid"], order, None, primary=False)
    ids = sorted((row["specobjid"] for row in joined.merged), reverse=True)
    assert found.column("specobj.specobjid").to_pylist() == ids[:9]
    with pytest.raises(TooMuch):
        catalogue.query(["specobj.z"], Condition(), None, primary=False, max_rows=len(both) - 1)
    with pytest.raises(QueryTimeout):
        catalogue.query(["specobj.z"], order, None, primary=False, deadline=LATE)


@pytest.mark.parametrize("column", ["z", "specobj.zerr"])
@pytest.mark.parametrize("descending", [True, False])
def test_nan_comes_last_in_a_table_and_in_its_spectra(
    joined: Joined, column: str, descending: bool
) -> None:
    condition = Condition(order=(Order(column, descending),))
    fields = [column, "specobj.specobjid"]
    found = joined.catalogue.query(fields, condition, None, primary=False).column(0).to_pylist()
    known = [value for value in found if value is not None and not math.isnan(value)]
    assert known == found[: len(known)] == sorted(known, reverse=descending)
    assert 0 < len(known) < len(found)


def test_conditions_on_more_rows_than_are_handed_to_the_database_at_once(
    joined: Joined, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Comparison(">=", ColumnRef("specobj.fiberid", "int"), ColumnRef("zwarning", "int"))
    for condition in (
        Condition(where, (Order("specobj.fiberid", True), Order("number", False)), 11),
        Condition(where, limit=11),
        Condition(where),
        Condition(order=(Order("specobj.fiberid", True), Order("number", True))),
    ):
        whole = joined.catalogue.query(["number", "specobj.z"], condition, None, primary=False)
        with monkeypatch.context() as patched:
            patched.setattr(statements, "_HANDED_ROWS", 7)
            split = joined.catalogue.query(["number", "specobj.z"], condition, None, primary=False)
        assert split.column("number").to_pylist() == whole.column("number").to_pylist()
        assert len(whole) >= 11


def test_any_condition_on_both_means_what_it_does_on_the_merge(joined: Joined) -> None:
    names = {name: f"specobj.{name}" for name in ("zerr", "class", "ok", "fiberid")}
    numbers = joined.catalogue.columns_of(["number"], np.arange(joined.nrows)).column(0).to_pylist()

    @settings(max_examples=50)
    @given(where=st.deferred(lambda: truths(2)), some_rows=st.booleans())
    def check(where: TypedExpression, *, some_rows: bool) -> None:
        tree = renamed(where, names)
        looked = np.arange(joined.nrows)[::2] if some_rows else None
        among = numbers if looked is None else [numbers[row] for row in looked]
        expected = [
            row["number"] for row in joined.merged
            if row["number"] in among and value_of(tree, row) is True
        ]  # fmt: skip
        condition, asked = Condition(tree), ["number", "specobj.z"]
        found = joined.catalogue.query(asked, condition, looked, primary=False)
        assert sorted(found.column("number").to_pylist()) == sorted(expected)

    check()
