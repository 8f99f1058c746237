"""The merges that are due are made, and committed beside what other writers commit meanwhile."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ...data.context import IndexFolder, PartFolder
from ...data.handles import Entry
from ...data.leases import Lease
from ...model.survey import Survey
from .column_file import load_mapped
from .manifest import Manifest, PartEntry, commit_manifest, discard
from .marks import NO_MARKS, marks_of, write_marks
from .merge import DEAD, MergedPart, merge_parts
from .merge_rule import LARGEST, due_merge
from .stored_rows import MarkedPart, StoredRows


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge that was made."""

    nparts: int
    """Number of parts that became one."""
    nrows: int
    """Rows of the part that was made."""


def make_due_merges(
    index: IndexFolder,
    survey: Survey,
    lease: Lease,
    most: int = LARGEST,
    begin: Callable[[int], Callable[[int], object]] | None = None,
) -> Iterator[Merge]:
    """Make the merges that are due, one after the other, and yield each that is committed.

    Readers and other writers go on meanwhile. Hold the lock of the index: two processes would make
    the same merges.

    Parameters
    ----------
    most : rows of the largest merge that is made
    begin
        Called with the number of rows before each merge; what it returns is called with the number
        of further rows that are done.

    Raises
    ------
    DamagedFile
        A part is damaged.
    IngestError
        Another writer has ended the lease.
    OSError
        The files cannot be written.
    """
    stored = StoredRows(index, survey)
    while True:
        dead = [int(np.count_nonzero(~marked.marks["alive"])) for marked in stored.parts]
        alive = [marked.part.nrows - n for marked, n in zip(stored.parts, dead, strict=True)]
        due = due_merge(alive, dead, most)
        if due is None:
            return
        entries, sources = stored.manifest.parts[due], stored.parts[due]
        tell = begin(sum(alive[due])) if begin else None
        folder = index.new_part(lease.name)
        made: list[PartFolder | Entry] = [folder]
        try:
            merged = merge_parts(folder, survey, sources, tell)
            committed = _commit(index, lease, entries, sources, merged, made)
        finally:
            discard(index, made)
        if committed:
            yield Merge(len(entries), merged.record.nrows)
        stored.renew()


def _commit(
    index: IndexFolder,
    lease: Lease,
    entries: tuple[PartEntry, ...],
    sources: Sequence[MarkedPart],
    merged: MergedPart,
    written: list[PartFolder | Entry],
) -> bool:
    """Commit a merged part in place of its sources; return False if one of them is gone.

    Marks that are written for it are added to ``written``.
    """
    names = [entry.name for entry in entries]

    def change(base: Manifest) -> Manifest | None:
        there = [part.name for part in base.parts]
        first = there.index(names[0]) if names[0] in there else 0
        stop = first + len(names)
        if there[first:stop] != names:
            return None
        lease.require()
        marks, name = _carried_over(index, base.parts[first:stop], entries, sources, merged), ""
        if len(marks):
            file = index.new_marks(lease.name)
            written.append(file)
            write_marks(file, marks)
            name = file.name
        made = PartEntry(merged.record.name, merged.record.nrows, name)
        left = [name for part in base.parts[first:stop] for name in part.files]
        parts = (*base.parts[:first], made, *base.parts[stop:])
        return base.leaving(left, parts=parts)

    committed = commit_manifest(index, change)
    return any(part.name == merged.record.name for part in committed.parts)


def _carried_over(
    index: IndexFolder,
    now: Sequence[PartEntry],
    before: Sequence[PartEntry],
    sources: Sequence[MarkedPart],
    merged: MergedPart,
) -> npt.NDArray[Any]:
    """Return the marks of a merged part: what marks say now of its sources and not of it.

    Parameters
    ----------
    now, before : the sources in the newest version, and in the one that was merged
    """
    folder, nrows = index.part(merged.record.name), merged.record.nrows
    primary = load_mapped(folder.column("primary"), "?", nrows)
    found = [NO_MARKS]
    for entry, old, source, rows in zip(now, before, sources, merged.rows, strict=True):
        if entry.marks == old.marks:
            continue
        row = np.flatnonzero(rows != DEAD)
        states = replace(source, marks=marks_of(index, entry)).states(row)
        states = states[~states["alive"] | (states["primary"] != primary[rows[row]])]
        states["row"] = rows[states["row"]]
        states["primary"] &= states["alive"]
        found.append(states)
    every = np.concatenate(found)
    return every[np.argsort(every["row"])]
