"""Rows found by the parts of the tuple form of their identifiers, in sorted columns.

Each part that a tuple gives is a search in the sorted values of its column, so a tuple with
wildcards costs what it finds. A column is sorted when it is first asked for: 0.1 s a million rows,
and 12 bytes a row held from then on.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...model.id_tuple import Part, Span
from ..base import Rows
from .column_file import MappedColumns

# If one part has this few candidates, the other parts are not searched.
_FEW: Final = 4096


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The values of a column in order; text is replaced by numbers of its distinct values."""

    values: npt.NDArray[Any]
    """1D[n], ascending."""
    rows: npt.NDArray[np.int32]
    """1D[n], the row of each value."""
    codes: dict[str, int] | None

    def runs(self, part: Sequence[Span] | Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the runs of values that a part allows, 2D[nrun, 2], half-open."""
        low, high = spans_of(part, self.values.dtype, self.codes)
        starts = np.searchsorted(self.values, low)
        return np.stack([starts, np.searchsorted(self.values, high, "right")], axis=1)


class PartSearch:
    """The identifier parts of the rows of one index part; safe to share between threads."""

    def __init__(self, mapped: MappedColumns, names: Sequence[str], nrows: int) -> None:
        self._mapped = mapped
        self._names = list(names)
        self._nrows = nrows
        self._sorted: dict[str, _Sorted] = {}
        self._lock = threading.Lock()

    def candidates(self, parts: Sequence[Part]) -> Rows:
        """Return the rows that one of the parts allows, 1D[n] int64, ascending.

        A column that the rows lack allows none.
        """
        best: tuple[int, _Sorted, npt.NDArray[np.intp]] | None = None
        for name, part in zip(self._names, parts, strict=True):
            if part is None:
                continue
            if not self._mapped.holds(name):
                return np.empty(0, np.int64)
            column = self._column(name)
            runs = column.runs(part)
            count = int(np.sum(runs[:, 1] - runs[:, 0]))
            if best is None or count < best[0]:
                best = count, column, runs
            if count <= _FEW:
                break
        if best is None:
            return np.arange(self._nrows)
        some = [best[1].rows[start:stop] for start, stop in best[2].tolist()]
        return np.sort(np.concatenate(some)).astype(np.int64) if some else np.empty(0, np.int64)

    def _column(self, name: str) -> _Sorted:
        with self._lock:
            known = self._sorted.get(name)
            if known is None:
                known = self._sorted[name] = self._sort(name)
        return known

    def _sort(self, name: str) -> _Sorted:
        column = self._mapped.every([name]).column(name)
        rows = np.flatnonzero(column.is_valid().to_numpy())
        column = column.drop_null().combine_chunks()
        codes = None
        if pa.types.is_string(column.type):
            encoded = column.dictionary_encode()
            if isinstance(encoded, pa.ChunkedArray):
                encoded = encoded.combine_chunks()
            codes = {text: code for code, text in enumerate(encoded.dictionary.to_pylist())}
            column = encoded.indices
        values = np.asarray(column.to_numpy(zero_copy_only=False))
        order = np.argsort(values, kind="stable")
        return _Sorted(values[order], rows[order].astype(np.int32), codes)


def spans_of(
    part: Sequence[Span] | Sequence[str], dtype: np.dtype[Any], codes: dict[str, int] | None = None
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the bounds of the ranges that a part allows, disjoint and ascending, 1D[n] each.

    Parameters
    ----------
    dtype : of the values
    codes : numbers of texts, where a part is text
    """
    limits = np.iinfo(dtype)
    spans: list[tuple[int, int]] = []
    for choice in part:
        if isinstance(choice, Span):
            spans.append((max(choice.low, int(limits.min)), min(choice.high, int(limits.max))))
        elif codes is not None and choice in codes:
            spans.append((codes[choice], codes[choice]))
    joined: list[tuple[int, int]] = []
    for low, high in sorted(span for span in spans if span[0] <= span[1]):
        if joined and low <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(high, joined[-1][1])
        else:
            joined.append((low, high))
    lows = np.array([low for low, _ in joined], dtype)
    return lows, np.array([high for _, high in joined], dtype)


def allowed(table: pa.Table, parts: Sequence[Part]) -> npt.NDArray[np.bool_]:
    """Return which rows of a table all parts allow, 1D[n]; its columns are those of the parts."""
    good = np.ones(len(table), np.bool_)
    for values, part in zip(table.columns, parts, strict=True):
        if part is not None:
            good &= _allowed(values, part)
    return good


def _allowed(
    values: pa.ChunkedArray, part: Sequence[Span] | Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Return which values of a column a part allows, 1D[n]."""
    if pa.types.is_string(values.type):
        texts = pa.array([text for text in part if isinstance(text, str)], values.type)
        found: npt.NDArray[np.bool_] = pc.is_in(values, value_set=texts).to_numpy()
        return found
    valid = values.is_valid().to_numpy()
    numbers = values.fill_null(0).to_numpy()
    low, high = spans_of(part, numbers.dtype)
    if not len(low):
        return np.zeros(len(numbers), np.bool_)
    at = np.searchsorted(low, numbers, "right") - 1
    inside: npt.NDArray[np.bool_] = valid & (at >= 0) & (numbers <= high[at])
    return inside
