"""The commit of new segments to an index: any number of processes may do it at once.

Against the newest version it is decided which rows are new, which replace others, and which is the
best of each object. Then the version with a part of these rows is committed. If another writer was
faster, all this is decided again; mostly the part stays as it is, and only the list is another.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.context import ContextFolder, PartFolder, SegmentFolder
from ...data.handles import Entry
from ...data.leases import Lease
from ...model.survey import Survey
from ..best import is_best
from .build import part_rows, read_rows, write_sorted
from .column_types import common_schema, conformed, numbers_of, repeat_one_before
from .manifest import PartEntry, commit_manifest, discard, new_rows
from .marks import MARK, write_marks
from .stored_rows import Matches, StoredRows, StoredSpectrum, spectra
from .write_part import hash_texts

Bools: TypeAlias = npt.NDArray[np.bool_]
Complete: TypeAlias = Callable[[SegmentFolder, Sequence[int]], None]
"""Writes the record of a segment, which says which of its rows are left out of the index."""
_NEW: Final = -1


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row of a new segment that is left out: its identifier and key are stored already."""

    segment: SegmentFolder
    row: int
    version: int
    """How many versions of the spectrum it was to replace."""
    by: StoredSpectrum
    """The spectrum that is stored."""


@dataclass(slots=True)
class _Decision:
    """What becomes of the new rows in a version, and of those that are stored."""

    kept: Bools
    """1D[nrow] of the new rows: False where a row is left out."""
    left_out: list[LeftOut]
    best: Bools | None = None
    """1D[nrow], whether each is the best of its object; None: the survey has no rule for it."""
    changes: dict[int, npt.NDArray[Any]] = field(default_factory=dict)
    """Number of a part → marks of its rows that change, 1D[n] `MARK`."""

    def is_same(self, other: "_Decision | None") -> bool:
        """Return whether new rows become the same as by another decision."""
        if other is None or not np.array_equal(self.kept, other.kept):
            return False
        if self.best is None or other.best is None:
            return self.best is other.best
        return np.array_equal(self.best[self.kept], other.best[self.kept])


def commit_rows(
    context: ContextFolder,
    survey: Survey,
    lease: Lease,
    segments: Sequence[SegmentFolder],
    complete: Complete,
    stored: StoredRows | None = None,
) -> list[LeftOut]:
    """Add the rows of new segments to the index of a context; return those that are left out.

    A row is left out if its identifier and key are stored in the same version or a newer one. A
    segment of which all rows are left out is not committed; the caller deletes it.

    Parameters
    ----------
    segments : whose files are all written
    complete : is called before the commit for each segment that stays
    stored : the rows of the index, if they are open already

    Raises
    ------
    IngestError
        Another writer has ended the lease.
    DamagedFile
        A file of the index, or the rows of a segment, cannot be read.
    OSError
        The files cannot be written.
    """
    stored = stored or StoredRows(context.index, survey)
    return _Commit(context, survey, lease, complete, stored).run(segments)


class _Commit:
    """One commit, until it succeeds."""

    def __init__(
        self,
        context: ContextFolder,
        survey: Survey,
        lease: Lease,
        complete: Complete,
        stored: StoredRows,
    ) -> None:
        self._index = context.index
        self._survey = survey
        self._lease = lease
        self._complete = complete
        self._stored = stored

    def run(self, segments: Sequence[SegmentFolder]) -> list[LeftOut]:
        """Commit segments; return the rows that are left out."""
        made: list[PartFolder] = []
        nrows = 0
        last: _Decision | None = None
        new: _NewRows | None = None
        try:
            while True:
                self._stored.renew()
                # Another process may have made the index again from all segments that are complete.
                listed = self._stored.segments
                ours = [segment for segment in segments if segment.name not in listed]
                if new is None or len(ours) != len(new.segments):
                    new, last = _NewRows.read(ours, self._survey), None
                decision = self._decide(new)
                if not decision.is_same(last):
                    discard(self._index, made)
                    made, nrows = [], int(decision.kept.sum())
                    self._write_records(new, decision)
                    if nrows:
                        made = [self._index.new_part(self._lease.name)]
                        write_sorted(made[0], self._survey, *new.part(self._survey, decision))
                last = decision
                if not made or self._commit(made[0].name, nrows, decision):
                    return decision.left_out
        finally:
            discard(self._index, made)

    def _write_records(self, new: "_NewRows", decision: _Decision) -> None:
        """Write the records of the segments that stay."""
        for number, (segment, kept) in enumerate(
            zip(new.segments, new.split(decision.kept), strict=True)
        ):
            if kept.any():
                rows = new.split(new.rows)[number][~kept]
                self._complete(segment, sorted(rows.tolist()))

    def _commit(self, name: str, nrows: int, decision: _Decision) -> bool:
        """Commit a version with a new part; return False if another writer was faster."""
        base = self._stored.manifest
        marks = {at: self._write_marks(at, found) for at, found in decision.changes.items()}
        parts = [
            replace(entry, marks=marks[at].name) if at in marks else entry
            for at, entry in enumerate(base.parts)
        ]
        left = [base.parts[at].marks for at in marks if base.parts[at].marks]
        parts.append(PartEntry(name, nrows))
        made = base.leaving(left, rows=new_rows(), parts=tuple(parts))
        self._lease.require()
        found = commit_manifest(self._index, lambda newest: made if newest == base else None)
        if found.parts == made.parts:
            self._index.inherit_access()
            return True
        discard(self._index, marks.values())
        return False

    def _write_marks(self, at: int, changed: npt.NDArray[Any]) -> Entry:
        """Write the marks of a part with those that change."""
        before = self._stored.parts[at].marks
        kept = before[~np.isin(before["row"], changed["row"])]
        marks = np.concatenate([kept, changed])
        file = self._index.new_marks(self._lease.name)
        write_marks(file, marks[np.argsort(marks["row"])])
        return file

    def _decide(self, new: "_NewRows") -> _Decision:
        """Return what becomes of new rows in the newest version."""
        kept, left_out = new.first_of_each()
        dead: dict[int, npt.NDArray[np.int64]] = {}
        for found in self._stored.with_keys(new.ids, new.keys):
            version = found.part.values("_version", found.rows, 0)
            older = (version < new.versions[found.wanted]) & kept[found.wanted]
            dead[found.part.number] = found.rows[older]
            others = found.where(~older & kept[found.wanted])
            kept[others.wanted] = False
            for at, by in zip(others.wanted.tolist(), spectra(others), strict=True):
                left_out.append(new.left_out(at, by))
        decision = _Decision(kept, left_out)
        for number, rows in dead.items():
            if len(rows):
                decision.changes[number] = _marks(rows, alive=False, primary=False)
        if self._survey.best is not None:
            self._decide_best(new, decision)
        return decision

    def _decide_best(self, new: "_NewRows", decision: _Decision) -> None:
        """Decide which rows are the best of their objects, among new rows and stored ones."""
        assert self._survey.best
        group = self._survey.best.group
        names = list(dict.fromkeys((group, *(name for name, _ in self._survey.best.order))))
        candidates = _Candidates(names)
        decision.best = np.zeros(len(decision.kept), np.bool_)
        last = self._stored.parts[-1] if self._stored.parts else None
        nstored = last.first_segment + len(last.part.record.segments) if last else 0
        mine = np.flatnonzero(decision.kept)
        candidates.add(
            new.table.take(pa.array(mine)), _NEW, mine, new.numbers[mine] + nstored, new.rows[mine]
        )
        for found in self._of_same_objects(new, group, decision):
            rows = np.unique(found.rows)
            dead = decision.changes.get(found.part.number)
            if dead is not None:
                rows = rows[~np.isin(rows, dead["row"])]
            part = found.part.part
            held = part.columns.take([name for name in names if name in part.schema.names], rows)
            candidates.add(
                held, found.part.number, rows, part.segment[rows] + found.part.first_segment,
                part.row[rows],
            )  # fmt: skip
        for number, rows, best in candidates.best(self._survey):
            if number == _NEW:
                decision.best[rows] = best
                continue
            changed = best != self._stored.parts[number].states(rows)["primary"]
            marks = _marks(rows[changed], alive=True, primary=best[changed])
            before = decision.changes.get(number, marks[:0])
            if len(before) + len(marks):
                decision.changes[number] = np.concatenate([before, marks])

    def _of_same_objects(
        self, new: "_NewRows", group: str, decision: _Decision
    ) -> Iterable[Matches]:
        """Return stored rows of the objects of new rows, and of the rows that these replace."""
        by_id = group == self._survey.id_column.name
        wanted = [new.ids if by_id else hash_texts(new.table.column(group))]
        for number, dead in decision.changes.items():
            part, rows = self._stored.parts[number].part, dead["row"].astype(np.int64)
            if by_id:
                wanted.append(part.ids[rows])
            elif group in part.schema.names:
                wanted.append(hash_texts(part.columns.take([group], rows).column(0)))
        values = np.unique(np.concatenate(wanted))
        return self._stored.with_ids(values) if by_id else self._stored.of_objects(values)


@dataclass(frozen=True, slots=True)
class _NewRows:
    """The rows of new segments: parallel arrays, 1D[nrow] each, segment by segment."""

    segments: Sequence[SegmentFolder]
    tables: Sequence[pa.Table]
    table: pa.Table
    """All of them."""
    ids: npt.NDArray[Any]
    keys: npt.NDArray[np.int64]
    versions: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int32]
    """Number of the segment of each."""
    rows: npt.NDArray[np.int32]
    """Row of each in its segment."""

    @classmethod
    def read(cls, segments: Sequence[SegmentFolder], survey: Survey) -> "_NewRows":
        """Read the rows of segments."""
        tables = [read_rows(segment) for segment in segments]
        schema = common_schema(table.schema for table in tables)
        table = pa.concat_tables([conformed(some, schema) for some in tables] or [pa.table({})])
        numbers = np.repeat(np.arange(len(tables), dtype=np.int32), [*map(len, tables)])
        return cls(
            segments,
            tables,
            table,
            numbers_of(table, survey.id_column.name).astype(survey.id_column.dtype),
            numbers_of(table, "_key"),
            numbers_of(table, "_version"),
            numbers,
            numbers_of(table, "_row").astype(np.int32),
        )

    def split(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Return the values of each segment."""
        ends = accumulate(map(len, self.tables), initial=0)
        return [values[first:stop] for first, stop in pairwise(ends)]

    def part(self, survey: Survey, decision: _Decision) -> tuple[pa.Table, list[str]]:
        """Return the rows for an index part, and the names of the segments in it."""
        kept = self.split(decision.kept)
        best = self.split(decision.kept if decision.best is None else decision.best)
        staying = [at for at, some in enumerate(kept) if some.any()]
        rows = part_rows(survey, [(self.tables[at], kept[at], best[at]) for at in staying])
        return rows, [self.segments[at].name for at in staying]

    def first_of_each(self) -> tuple[Bools, list[LeftOut]]:
        """Return which rows are the first of their identifier and key, and the others."""
        order = np.lexsort([np.arange(len(self.ids)), -self.versions, self.keys, self.ids])
        again = repeat_one_before(order, self.ids, self.keys)
        kept = np.ones(len(order), np.bool_)
        kept[order[again]] = False
        firsts = order[np.maximum.accumulate(np.where(again, 0, np.arange(len(order))))]
        others = [
            self.left_out(other, self._spectrum(first))
            for other, first in zip(order[again].tolist(), firsts[again].tolist(), strict=True)
        ]
        return kept, others

    def left_out(self, at: int, by: StoredSpectrum) -> LeftOut:
        """Return that a row is left out."""
        segment, version = self.segments[self.numbers[at]], int(self.versions[at])
        return LeftOut(segment, int(self.rows[at]), version, by)

    def _spectrum(self, at: int) -> StoredSpectrum:
        """Return a new row as it will be stored."""
        row = self.table.slice(at, 1)
        return StoredSpectrum(
            int(numbers_of(row, "_digest")[0]),
            int(numbers_of(row, "_row_digest")[0]),
            int(self.versions[at]),
            self.segments[self.numbers[at]].name,
            int(self.rows[at]),
            row.column("_source")[0].as_py(),
        )


class _Candidates:
    """Rows of which the best of each object is chosen."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._tables: list[pa.Table] = []
        self._parts: list[tuple[int, npt.NDArray[np.int64]]] = []
        self._places: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]] = []

    def add(
        self,
        table: pa.Table,
        number: int,
        rows: npt.NDArray[np.int64],
        segments: npt.NDArray[np.int32],
        places: npt.NDArray[np.int32],
    ) -> None:
        """Add rows of a part, 1D[n] each: their numbers, segments, and rows in these."""
        self._tables.append(table.select([n for n in self._names if n in table.column_names]))
        self._parts.append((number, rows))
        self._places.append((segments.astype(np.int32), places))

    def best(self, survey: Survey) -> Iterable[tuple[int, npt.NDArray[np.int64], Bools]]:
        """Return which rows of each part are the best."""
        schema = common_schema(table.schema for table in self._tables)
        every = pa.concat_tables(conformed(table, schema) for table in self._tables)
        segments, rows = (np.concatenate(values) for values in zip(*self._places, strict=True))
        best = is_best(survey, every, (segments, rows))
        ends = np.cumsum([len(mine) for _, mine in self._parts])[:-1]
        for (number, mine), some in zip(self._parts, np.split(best, ends), strict=True):
            yield number, mine, some


def _marks(rows: npt.NDArray[np.int64], *, alive: bool, primary: Any) -> npt.NDArray[Any]:
    """Return marks of rows, 1D[n] `MARK`."""
    marks = np.empty(len(rows), MARK)
    marks["row"], marks["alive"], marks["primary"] = rows, alive, primary
    return marks
