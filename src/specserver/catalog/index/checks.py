"""What must be true of the arrays of an index part, whatever wrote it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .part import IndexPart


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
    rows = marks["row"]
    if np.any(rows[1:] <= rows[:-1]) or (len(rows) and not 0 <= rows[0] <= rows[-1] < part.nrows):
        yield "its marks are not of its rows, each once"


def _is_ascending(keys: tuple[npt.NDArray[Any], ...]) -> bool:
    """Return whether rows are in the order of parallel arrays, 1D[n] each; none is twice."""
    equal = np.ones(max(len(keys[0]) - 1, 0), np.bool_)
    for values in keys:
        if np.any(equal & (values[1:] < values[:-1])):
            return False
        equal &= values[1:] == values[:-1]
    return not equal.any()
