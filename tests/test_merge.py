"""The merges of the parts of an index."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specserver.catalog.index import checks, due_merges, merge, write_part
from specserver.catalog.index.checks import faults_of, repeated_ids
from specserver.catalog.index.column_types import common_schema
from specserver.catalog.index.due_merges import make_due_merges
from specserver.catalog.index.manifest import (
    Manifest,
    PartEntry,
    commit_manifest,
    newest_manifest,
)
from specserver.catalog.index.marks import MARK, read_marks, write_marks
from specserver.catalog.index.merge import DEAD, MergedPart, merge_parts
from specserver.catalog.index.merge_rule import CHEAP, LARGEST, SMALL, due_merge
from specserver.catalog.index.part import open_part
from specserver.catalog.index.part_record import PartRecord
from specserver.catalog.index.stored_rows import MarkedPart, StoredRows
from specserver.data.context import IndexFolder, PartFolder
from specserver.data.local import LocalFolder
from specserver.data.root import open_root
from specserver.errors import DamagedFile
from specserver.surveys.desi import DESI


class Sizes:
    """An index of which only the parts' rows are known."""

    def __init__(self) -> None:
        self.parts: list[tuple[int, ...]] = []
        """The rows of what each part was made from, in order."""
        self.rewritten = 0
        """Rows written by merges of more than small parts."""

    def append(self, rows: int, most: int = LARGEST) -> None:
        self.parts.append((rows,))
        while due := due_merge(self.rows, [0] * len(self.parts), most):
            joined = self.parts[due]
            assert len(joined) >= 2
            total = sum(map(sum, joined))
            assert total <= most or total <= SMALL
            self.rewritten += total if total > SMALL else 0
            self.parts[due] = [sum(joined, ())]

    @property
    def rows(self) -> list[int]:
        return [sum(part) for part in self.parts]


def grown(sizes: Iterable[int], most: int = LARGEST) -> Sizes:
    index = Sizes()
    for rows in sizes:
        index.append(rows, most)
    return index


def test_a_hundred_million_rows_are_few_parts_written_a_few_times() -> None:
    index = grown([SMALL] * 5000)
    assert len(index.parts) <= 32
    assert index.rewritten <= 3 * 5000 * SMALL


def test_a_small_folder_is_one_part() -> None:
    assert grown([1, 500, 2000, 7, 10_000]).rows == [12_508]


def test_an_ingest_leaves_large_merges_to_others() -> None:
    index = grown([CHEAP // 2] * 40, CHEAP)
    assert max(index.rows) <= CHEAP
    assert due_merge(index.rows, [0] * len(index.rows))


def test_a_part_of_which_most_rows_are_dead_is_written_again() -> None:
    assert due_merge([10, 90_000, 90_000], [0, 90_000, 90_001]) == slice(2, 3)
    assert due_merge([90_000, 10], [100_000, 0], 80_000) is None


many = st.lists(
    st.one_of(
        st.integers(1, 3000),
        st.integers(1, SMALL * 2),
        st.integers(1, SMALL * 100),
        st.integers(1, LARGEST * 2),
    ),
    max_size=150,
)


@given(many)
@settings(deadline=None, max_examples=60)
def test_any_history_keeps_its_order_and_has_few_parts(sizes: list[int]) -> None:
    index = grown(sizes)
    assert [rows for part in index.parts for rows in part] == sizes
    # Seven of each level that merges, and those that would be too large together.
    assert len(index.parts) <= 4 * 7 + 8 * (2 * sum(sizes) // LARGEST)
    assert index.rewritten <= 8 * sum(sizes)


Mark: TypeAlias = tuple[int, bool, bool]
SURVEY = DESI
BEST = SURVEY.primary[0]
NSEGMENT = 3
"""Segments of each part."""


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> IndexFolder:
    """Return an empty index, whose batches are short."""
    for module in (merge, write_part):
        monkeypatch.setattr(module, "BATCH_ROWS", 100)
    return open_root(tmp_path).context("mock").index


def rows_of(rng: np.random.Generator, nrows: int, odd: int) -> pa.Table:
    """Return rows in HEALPix order; the types of some columns depend on the number of the part."""
    texts = [None if value < 2 else f"text {value}" for value in rng.integers(0, 9, nrows)]
    table = pa.table(
        {
            "_hpx": np.sort(rng.integers(-1, 12, nrows)) << 54,
            "targetid": rng.integers(1, 40, nrows),
            "_segment": rng.integers(0, NSEGMENT, nrows).astype(np.int32),
            "_row": rng.permutation(nrows).astype(np.int32),
            "ra": rng.uniform(0, 360, nrows),
            "dec": rng.uniform(-90, 90, nrows),
            BEST: rng.integers(0, 2, nrows).astype(np.uint8),
            "_source": texts,
            "wide": rng.integers(-9, 9, nrows).astype([np.int16, np.int32][odd % 2]),
            "mixed": texts if odd % 2 else rng.normal(size=nrows).astype(np.float32),
            f"only_{odd % 2}": rng.normal(size=nrows),
        }
    )
    return table.sort_by([(name, "ascending") for name in ("_hpx", "targetid", "_segment", "_row")])


def made_part(index: IndexFolder, number: int, table: pa.Table, marks: list[Mark]) -> MarkedPart:
    """Write rows as a part."""
    names = [f"seg-{number}-{segment}" for segment in range(NSEGMENT)]
    folder = index.new_part("0" * 8)
    write_part.write_part(
        folder,
        SURVEY,
        common_schema([table.schema]),
        table.to_batches(77),
        nrows=len(table),
        segments=names,
    )
    return MarkedPart(number, open_part(folder, SURVEY), np.array(marks, MARK), 0)


def kept(source: MarkedPart, table: pa.Table, number: int) -> list[dict[str, Any]]:
    """Return the rows of a part that are alive, as its marks say they are."""
    rows = table.to_pylist()
    for row, alive, primary in source.marks.tolist():
        rows[row][BEST] = int(primary) if alive else None
    return [
        {**row, "_segment": f"seg-{number}-{row['_segment']}"}
        for row in rows
        if row[BEST] is not None
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_merged_part_has_the_rows_of_its_sources(index: IndexFolder, seed: int) -> None:
    rng = np.random.default_rng(seed)
    tables = [rows_of(rng, int(rng.integers(0, 350)), number) for number in range(4)]
    sources, wanted = [], []
    for number, table in enumerate(tables):
        marked = np.flatnonzero(rng.random(len(table)) < 0.2)
        marks = [(row, *(rng.random(2) < 0.5)) for row in marked]
        sources.append(made_part(index, number, table, marks))
        wanted += kept(sources[-1], table, number)
    # A stable sort: equal rows keep the order of their parts, segments and rows.
    wanted.sort(key=lambda row: (row["_hpx"], row["targetid"]))

    made = merge_parts(index.new_part("1" * 8), SURVEY, sources)

    part = index.part(made.record.name)
    found = read(part, made.record)
    assert found.schema.field("wide").type == pa.int32()
    assert found.schema.field("mixed").type == pa.string()
    names = [name for name in found.column_names if name != "mixed"]
    segments = made.record.segments
    assert [
        {**row, "_segment": segments[row["_segment"]]} for row in found.select(names).to_pylist()
    ] == [{name: row.get(name) for name in names} for row in wanted]
    primary = np.load(part.column("primary").local_path())
    assert primary.tolist() == [row[BEST] == 1 for row in wanted]
    ra = found.column("ra").to_numpy()
    for source, rows, table in zip(sources, made.rows, tables, strict=True):
        alive = source.states(np.arange(len(table)))["alive"]
        assert ((rows == DEAD) == ~alive).all()
        assert (ra[rows[rows != DEAD]] == table.column("ra").to_numpy()[alive]).all()


def test_texts_and_numbers_of_one_column_become_text(index: IndexFolder) -> None:
    rng = np.random.default_rng(1)
    tables = [rows_of(rng, 120, number) for number in range(2)]
    sources = [made_part(index, number, table, []) for number, table in enumerate(tables)]
    made = merge_parts(index.new_part("1" * 8), SURVEY, sources)
    mixed = read(index.part(made.record.name), made.record).column("mixed").to_pylist()
    for rows, table in zip(made.rows, tables, strict=True):
        assert [mixed[row] for row in rows] == table.column("mixed").cast(pa.string()).to_pylist()


def test_damage_of_a_source_is_not_merged(index: IndexFolder) -> None:
    sources = [
        made_part(index, at, rows_of(np.random.default_rng(at), 50, at), []) for at in (0, 1)
    ]
    path = index.part(sources[1].part.record.name).rest.local_path()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    target = index.new_part("1" * 8)
    with pytest.raises(DamagedFile, match="rest"):
        merge_parts(target, SURVEY, sources)
    assert not target.exists()


def read(part: PartFolder, record: PartRecord) -> pa.Table:
    """Return all columns of a part."""
    files = (pa.ipc.open_file(file.local_path()).read_all() for file in (part.core, part.rest))
    found = {name: file.column(name) for file in files for name in file.column_names}
    assert list(found) == list(record.columns)
    return pa.table(found)


def committed(index: IndexFolder, sources: list[MarkedPart]) -> None:
    """Commit a version that has some parts, with their marks."""
    entries = []
    for source in sources:
        marks = index.new_marks("0" * 8)
        write_marks(marks, source.marks)
        entries.append(PartEntry(source.part.record.name, source.part.nrows, marks.name))
    commit_manifest(index, lambda base: replace(base, rows="r", parts=(*base.parts, *entries)))


def answered(index: IndexFolder) -> dict[float, bool]:
    """Return the rows that are alive, by their ra, and whether each is the best of its object."""
    found: dict[float, bool] = {}
    for marked in StoredRows(index, SURVEY).parts:
        for row, alive, best in marked.states(np.arange(marked.part.nrows)).tolist():
            if alive:
                found[float(marked.part.ra[row])] = best
    return found


def some_parts(index: IndexFolder, seed: int, nparts: int, nrows: int = 200) -> list[MarkedPart]:
    """Make parts of which some rows have marks."""
    rng = np.random.default_rng(seed)
    made = []
    for number in range(nparts):
        rows = np.sort(rng.choice(nrows, nrows // 5, replace=False))
        marks = [(int(row), *map(bool, rng.random(2) < 0.5)) for row in rows]
        made.append(made_part(index, number, rows_of(rng, nrows, number), marks))
    return made


def other_marks(index: IndexFolder, rng: np.random.Generator) -> None:
    """Commit a version in which more rows of all parts have marks."""

    def change(base: Manifest) -> Manifest:
        parts = []
        for entry in base.parts:
            old = read_marks(index.marks(entry.marks))
            state = {row: (alive, best) for row, alive, best in old.tolist()}
            for row in rng.choice(entry.nrows, 20, replace=False).tolist():
                alive = state.get(row, (True,))[0] and bool(rng.random() < 0.7)
                state[row] = alive, bool(rng.random() < 0.5)
            marks = index.new_marks("2" * 8)
            write_marks(marks, np.array([(row, *state[row]) for row in sorted(state)], MARK))
            parts.append(replace(entry, marks=marks.name))
        return replace(base, parts=tuple(parts), rows="changed")

    commit_manifest(index, change)


@pytest.mark.parametrize("seed", range(3))
def test_marks_that_are_made_during_a_merge_are_kept(
    index: IndexFolder, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    committed(index, some_parts(index, seed, 3))
    wanted: list[dict[float, bool]] = []

    def slow(*args: Any) -> MergedPart:
        made = merge_parts(*args)
        other_marks(index, rng)
        if not wanted:
            committed(index, some_parts(index, 77, 1))
        wanted.append(answered(index))
        return made

    monkeypatch.setattr(due_merges, "merge_parts", slow)
    with open_root(index.backend.local_path("")).context("mock").writing() as lease:
        merges = list(make_due_merges(index, SURVEY, lease))
    assert [merge.nparts for merge in merges] == [3, 2]
    newest = newest_manifest(index)
    assert newest.rows == "changed", "as the last of the other writers left it"
    assert answered(index) == wanted[-1]
    parts, marks = ({entry.name for entry in of} for of in (index.parts(), index.all_marks()))
    unused = (parts | marks) - {newest.parts[0].name, newest.parts[0].marks}
    # The marks that `other_marks` replaced are not listed: it does not do what a writer does.
    assert unused & parts <= {*newest.superseded} <= unused


def test_a_merge_whose_source_is_gone_is_discarded(
    index: IndexFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(index, some_parts(index, 1, 3))

    def slow(*args: Any) -> MergedPart:
        made = merge_parts(*args)
        commit_manifest(index, lambda base: replace(base, parts=base.parts[1:2]))
        return made

    monkeypatch.setattr(due_merges, "merge_parts", slow)
    with open_root(index.backend.local_path("")).context("mock").writing() as lease:
        assert not list(make_due_merges(index, SURVEY, lease))
    assert len(newest_manifest(index).parts) == 1
    assert len(index.parts()) == 3, "what was made is deleted"


def test_a_merge_interrupted_just_after_its_commit_keeps_what_it_made(
    index: IndexFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(index, some_parts(index, 1, 3))
    create, before = LocalFolder.create, answered(index)

    def slow(*args: Any) -> MergedPart:
        made = merge_parts(*args)
        other_marks(index, np.random.default_rng(0))
        before.update(answered(index))
        monkeypatch.setattr(LocalFolder, "create", interrupted)
        return made

    def interrupted(folder: LocalFolder, key: str, content: bytes) -> None:
        create(folder, key, content)
        if "/manifest/" in key:
            raise KeyboardInterrupt

    monkeypatch.setattr(due_merges, "merge_parts", slow)
    with (
        open_root(index.backend.local_path("")).context("mock").writing() as lease,
        pytest.raises(KeyboardInterrupt),
    ):
        list(make_due_merges(index, SURVEY, lease))
    (merged,) = newest_manifest(index).parts
    assert merged.marks
    assert answered(index).items() <= before.items()


def test_rows_that_are_not_as_they_must_be_are_found(index: IndexFolder) -> None:
    rows = rows_of(np.random.default_rng(3), 50, 0)
    marked = made_part(index, 0, rows, [(3, True, True), (7, False, False)])

    def faults(marks: Any = marked.marks, **arrays: Any) -> str:
        part = open_part(index.part(marked.part.record.name), SURVEY)
        for name, values in arrays.items():
            setattr(part, name, values)
        return "; ".join(faults_of(part, marks))

    part = marked.part
    assert faults() == ""
    assert "not in the order" in faults(ids=part.ids[::-1].copy())
    assert "sorted identifiers are not those" in faults(id_rank=part.id_rank[::-1].copy())
    assert "its array hpx is not ascending" in faults(hpx=part.hpx[::-1].copy())
    assert "a segment that it does not have" in faults(segment=part.segment + NSEGMENT)
    assert "of different rows" in faults(row=part.row + 1)
    assert "its marks" in faults(marked.marks[::-1])
    assert "its marks" in faults(np.array([(50, True, True)], MARK))


def test_spectra_with_several_rows_are_found_over_all_parts(
    index: IndexFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_RUN_ROWS", 7)
    rng, parts, alive = np.random.default_rng(3), [], []
    for number in range(3):
        rows = rows_of(rng, 30, number)
        rows = rows.append_column("_key", pa.array(rng.integers(0, 3, 30)))
        dead = np.sort(rng.permutation(30)[:10]).tolist()
        parts.append(made_part(index, number, rows, [(row, False, False) for row in dead]))
        kept = rows.take(pa.array(np.setdiff1d(np.arange(30), dead)))
        alive += zip(kept["targetid"].to_pylist(), kept["_key"].to_pylist(), strict=True)
    wanted = Counter({spectrum: n - 1 for spectrum, n in Counter(alive).items()})
    assert wanted.total()
    assert sorted(repeated_ids(parts)) == sorted(number for number, _ in wanted.elements())
    assert not list(repeated_ids([]))
