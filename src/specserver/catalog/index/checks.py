"""What must be true of the parts of an index, whatever wrote them."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ...data.context import PartFolder
from ..base import Rows
from .column_types import repeat_one_before
from .part import IndexPart
from .part_record import coverage_of
from .stored_rows import NO_KEY, MarkedPart

_RUN_ROWS: Final = 2**17
"""Number of rows of each part that are compared at a time."""
_Run: TypeAlias = tuple[MarkedPart, Rows, npt.NDArray[Any]]
"""A part, some of its rows that are alive, 1D[n], and their identifiers, 1D[n], ascending."""


def faults_of(part: IndexPart, marks: npt.NDArray[Any]) -> Iterator[str]:
    """Yield what is wrong with the order of a part's rows, its sorted arrays or its marks.

    Parameters
    ----------
    marks : 1D[n] `MARK`
    """
    keys = part.hpx, part.ids, part.segment, part.row
    if not _is_ascending(keys):
        yield "its rows are not in the order of pixel, identifier, segment and row"
    if not np.array_equal(part.id_sorted, part.ids[part.id_rank]):
        yield "its sorted identifiers are not those of their rows"
    for name, values in part.sorted_arrays().items():
        if np.any(values[1:] < values[:-1]):
            yield f"its array {name} is not ascending"
    nsegment = len(part.record.segments)
    if part.nrows and not 0 <= part.segment.min() <= part.segment.max() < nsegment:
        yield "a row names a segment that it does not have"
    arrays: dict[str, npt.NDArray[Any]] = {
        "_hpx": part.hpx,
        "_segment": part.segment,
        "_row": part.row,
    }
    columns = part.columns.take(list(arrays), np.arange(part.nrows))
    if not all(np.array_equal(columns.column(name), arrays[name]) for name in arrays):
        yield "its arrays and its columns are of different rows"
    is_part = isinstance(part.folder, PartFolder)
    if is_part and not np.array_equal(np.unpackbits(part.coverage), coverage_of(part.hpx)):
        yield "the pixels that it says it covers are not those of its rows"
    rows = marks["row"]
    if np.any(rows[1:] <= rows[:-1]) or (len(rows) and not 0 <= rows[0] <= rows[-1] < part.nrows):
        yield "its marks are not of its rows, each once"


def repeated_ids(parts: Sequence[MarkedPart]) -> Iterator[int]:
    """Yield the identifier of each row that is alive and has identifier and key of another one."""
    for runs in _runs(parts):
        every = np.sort(np.concatenate([ids for _, _, ids in runs]))
        several = np.unique(every[1:][every[1:] == every[:-1]])
        if not len(several):
            continue
        mine = [np.isin(ids, several) for _, _, ids in runs]
        ids = np.concatenate([ids[some] for (_, _, ids), some in zip(runs, mine, strict=True)])
        keys = np.concatenate(
            [
                marked.values("_key", rows[some], NO_KEY)
                for (marked, rows, _), some in zip(runs, mine, strict=True)
            ]
        )
        order = np.lexsort((keys, ids))
        yield from ids[order[repeat_one_before(order, ids, keys)]].tolist()


def _runs(parts: Sequence[MarkedPart]) -> Iterator[list[_Run]]:
    """Yield the rows of parts by runs of identifiers: all rows of an identifier are in one."""
    firsts = [0] * len(parts)
    while any(first < marked.part.nrows for marked, first in zip(parts, firsts, strict=True)):
        last = min(
            marked.part.id_sorted[min(first + _RUN_ROWS, marked.part.nrows) - 1]
            for marked, first in zip(parts, firsts, strict=True)
            if first < marked.part.nrows
        )
        runs: list[_Run] = []
        for number, marked in enumerate(parts):
            ids, first = marked.part.id_sorted, firsts[number]
            firsts[number] = stop = int(np.searchsorted(ids, last, "right"))
            rows = marked.part.id_rank[first:stop].astype(np.int64)
            alive = marked.states(rows)["alive"]
            runs.append((marked, rows[alive], ids[first:stop][alive]))
        yield runs


def _is_ascending(keys: tuple[npt.NDArray[Any], ...]) -> bool:
    """Return whether rows are in the order of parallel arrays, 1D[n] each; none is twice."""
    equal = np.ones(max(len(keys[0]) - 1, 0), np.bool_)
    for values in keys:
        if np.any(equal & (values[1:] < values[:-1])):
            return False
        equal &= values[1:] == values[:-1]
    return not equal.any()
