"""All columns of an index part, memory-mapped: rows are looked up without the database.

An uncompressed Arrow file has the values of a row at known places, so 100 rows of five columns
take 0.05 ms; the database, which decodes whole row groups and plans each query, takes 3 to 7.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from mmap import MADV_DONTNEED, mmap
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.handles import Entry
from ...wire.numeric import as_arrow, view
from ..base import Rows

DAMAGED_INDEX: Final = "damaged index"
_UNREADABLE: Final = (OSError, ValueError, EOFError, pa.ArrowException)
"""Errors of a file that is not as it was written."""
# Answers of up to so many rows become one batch: joining takes less than a frame for each batch.
_JOINED: Final = 2**17


def allocate(file: Entry, dtype: str, nrows: int) -> np.memmap[Any, Any]:
    """Make a ``.npy`` file of zeros, 1D[nrows], and return it mapped to be written.

    Its place on the disk is taken first: a disk that is full is then an `OSError` here, where a
    map without a disk behind it would end the process.
    """
    kind = np.dtype(dtype)
    path = file.allocate(_header(kind.str, nrows), nrows * kind.itemsize)
    mapped: np.memmap[Any, Any] = np.load(path, mmap_mode="r+")
    return mapped


def load_mapped(file: Entry, dtype: str, nrows: int) -> npt.NDArray[Any]:
    """Return a ``.npy`` file, 1D[nrows], mapped to be read.

    Raises
    ------
    DamagedFile
        It cannot be read, or is not of this length and type.
    """
    kind = np.dtype(dtype)
    head = _header(kind.str, nrows)

    def load(path: Path) -> npt.NDArray[Any]:
        # `numpy.load` takes ten times as long: it parses the head, and there are many files.
        mapped = _map(path) if nrows else None
        if mapped is not None and mapped[: len(head)] == head:
            return np.frombuffer(mapped, kind, nrows, len(head))
        values: npt.NDArray[Any] = np.load(path, mmap_mode="r").view(np.ndarray)
        if values.shape != (nrows,) or values.dtype != kind:
            raise ValueError(f"{values.dtype.str} of {values.shape}")
        return values

    try:
        return file.read_locally(load, _UNREADABLE)
    except _UNREADABLE as error:
        raise file.damaged(f"{DAMAGED_INDEX} ({error})") from error


def release(values: npt.NDArray[Any]) -> None:
    """Give the pages of a mapped array back to the system; they are read again when needed.

    Until then they count as memory of this process.
    """
    held: Any = values
    while not isinstance(held, mmap):
        held = held.obj if isinstance(held, memoryview) else held.base
    held.madvise(MADV_DONTNEED)


def _map(path: Path) -> mmap:
    """Return a file, mapped; raise `OSError` or `ValueError` if that is not possible."""
    mapped: Any = np.memmap(path, np.uint8, "r").base
    found: mmap = mapped
    return found


@lru_cache(maxsize=256)
def _header(descr: str, nrows: int) -> bytes:
    """Return the head of a ``.npy`` file."""
    header = BytesIO()
    about = {"descr": descr, "fortran_order": False, "shape": (nrows,)}
    np.lib.format.write_array_header_1_0(header, about)
    return header.getvalue()


class MappedColumns:
    """The columns of one part, 1D[nrow] each; safe to share between threads.

    Parameters
    ----------
    files : Arrow files with the same rows, and the names of the columns of each
    releasable : their pages can be released; answers that share a map keep its file open then
    """

    def __init__(
        self, files: Mapping[Entry, Sequence[str]], nrows: int, *, releasable: bool = False
    ) -> None:
        self._given = files, nrows
        self._files = [_ColumnFile(file, nrows, releasable=releasable) for file in files]
        self._at = {name: number for number, names in enumerate(files.values()) for name in names}

    def holds(self, field: str) -> bool:
        """Return whether there is a column."""
        return field in self._at

    def releasable(self) -> "MappedColumns":
        """Return the same columns in maps of their own, whose pages can be released."""
        return MappedColumns(*self._given, releasable=True)

    def release(self) -> None:
        """Give the pages that were read back to the system; they are read again when needed."""
        for file in self._files:
            file.release()

    def take(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept.

        Parameters
        ----------
        fields : names in their one spelling, each once
        rows : 1D[n] int64
        """
        order = None
        if len(rows) > 1 and not bool(np.all(rows[1:] >= rows[:-1])):
            order = np.argsort(rows, kind="stable")
            rows = rows[order]
        table = self._joined(fields, lambda file, names: file.ascending(names, rows))
        if order is None:
            return table
        return table.combine_chunks().take(as_arrow(inverse(order)))

    @property
    def starts(self) -> npt.NDArray[np.int64]:
        """1D[nbatch + 1], the first row of each batch, and the number of rows."""
        return self._files[0].starts

    def values(self, field: str, batch: int) -> pa.Array:
        """Return the values of a column in a batch."""
        return self._files[self._at[field]].batches[batch].column(field)

    def numbers(self, field: str, batch: int) -> npt.NDArray[Any] | None:
        """Return the values of a column in a batch, mapped; None: not all of them are numbers."""
        return self._files[self._at[field]].numbers(field)[batch]

    def every(self, fields: Sequence[str]) -> pa.Table:
        """Return columns of all rows, mapped: only values that are looked at are read."""
        return self._joined(fields, lambda file, names: file.every(names))

    def _joined(
        self, fields: Sequence[str], look: Callable[["_ColumnFile", Sequence[str]], pa.Table]
    ) -> pa.Table:
        """Return columns of both files in the order of ``fields``."""
        numbers = {self._at[field] for field in fields}
        if len(numbers) < 2:
            return look(self._files[min(numbers, default=0)], fields)
        found = {
            field: column
            for number in numbers
            for mine in [[field for field in fields if self._at[field] == number]]
            for field, column in zip(mine, look(self._files[number], mine).columns, strict=True)
        }
        return pa.table({field: found[field] for field in fields})


class _ColumnFile:
    """One Arrow file; it is opened when it is first used."""

    def __init__(self, file: Entry, nrows: int, *, releasable: bool) -> None:
        self._file = file
        self._nrows = nrows
        self._releasable = releasable
        self._numbers: dict[str, list[npt.NDArray[Any] | None]] = {}

    def release(self) -> None:
        """Give the pages that were read back to the system."""
        self._mapped.madvise(MADV_DONTNEED)

    @cached_property
    def _mapped(self) -> mmap:
        """The file in a map of this process, which keeps the file open as long as it lives."""
        try:
            return self._file.read_locally(_map, _UNREADABLE)
        except _UNREADABLE as error:
            raise self._file.damaged(f"{DAMAGED_INDEX} ({error})") from error

    @cached_property
    def batches(self) -> list[pa.RecordBatch]:
        """Its batches, mapped."""
        mapped = pa.BufferReader(pa.py_buffer(self._mapped)) if self._releasable else None
        file = open_arrow(self._file, mapped)
        try:
            batches = [file.get_batch(index) for index in range(file.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise self._file.damaged(f"{DAMAGED_INDEX} ({error})") from error
        found = sum(batch.num_rows for batch in batches)
        if found != self._nrows:
            raise self._file.damaged(f"{DAMAGED_INDEX} ({found} rows of {self._nrows})")
        # One without rows says which types the columns have.
        return batches or [pa.RecordBatch.from_pylist([], file.schema)]

    def numbers(self, name: str) -> list[npt.NDArray[Any] | None]:
        """Return the values of a column in each batch, mapped; None: not all are numbers."""
        found = self._numbers.get(name)
        if found is None:
            arrays = (batch.column(name) for batch in self.batches)
            found = self._numbers[name] = [*map(_numbers, arrays)]
        return found

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """1D[nbatch + 1], the first row of each batch."""
        return np.cumsum([0, *(batch.num_rows for batch in self.batches)], dtype=np.int64)

    def every(self, names: Sequence[str]) -> pa.Table:
        """Return columns of all rows."""
        return pa.Table.from_batches([batch.select(names) for batch in self.batches])

    def ascending(self, names: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows that are in ascending order."""
        cuts = np.searchsorted(rows, self.starts)
        parts = []
        for number in np.flatnonzero(cuts[1:] > cuts[:-1]).tolist():
            inside = rows[cuts[number] : cuts[number + 1]] - self.starts[number]
            parts.append(_rows_of(self.batches[number].select(names), inside))
        table = pa.Table.from_batches(parts or [self.batches[0].select(names).slice(0, 0)])
        return table.combine_chunks() if len(parts) > 1 and len(rows) <= _JOINED else table


def _opened_arrow(file: Entry, mapped: pa.NativeFile) -> pa.RecordBatchFileReader:
    """Return an Arrow file that is mapped already; raise `DamagedFile` if it is none."""
    try:
        return pa.ipc.open_file(mapped)
    except _UNREADABLE as error:
        raise file.damaged(f"{DAMAGED_INDEX} ({error})") from error


def open_arrow(file: Entry, mapped: pa.NativeFile | None = None) -> pa.RecordBatchFileReader:
    """Map an Arrow file, unless it is mapped already; raise `DamagedFile` if it is none."""
    if mapped is not None:
        return _opened_arrow(file, mapped)
    try:
        return file.read_locally(
            lambda path: pa.ipc.open_file(pa.memory_map(str(path))), _UNREADABLE
        )
    except _UNREADABLE as error:
        raise file.damaged(f"{DAMAGED_INDEX} ({error})") from error


@dataclass(frozen=True, slots=True)
class Grouped:
    """Rows by the runs that hold them."""

    runs: list[int]
    """Number of each run that has some of the rows, ascending."""
    cuts: list[int]
    """Where the rows of each of them begin in `inside`, and the end of the last."""
    inside: Rows
    """1D[n], numbers of the rows within their runs, run by run."""
    order: npt.NDArray[np.intp] | None
    """1D[n], places of `inside` among the rows that were given; None: they are in their order."""

    def __iter__(self) -> Iterator[tuple[int, Rows]]:
        """Yield each run, and the numbers within it of the rows that it has."""
        starts = self.cuts[:-1], self.cuts[1:]
        for run, start, stop in zip(self.runs, *starts, strict=True):
            yield run, self.inside[start:stop]

    def given(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values of `inside`, 1D[n], in the order of the rows that were given."""
        if self.order is None:
            return values
        found = np.empty_like(values)
        found[self.order] = values
        return found


def grouped(rows: Rows, starts: npt.NDArray[np.int64]) -> Grouped:
    """Return rows, 1D[n], by the runs that hold them.

    Parameters
    ----------
    starts : 1D[nrun + 1], first row of each run; none of the rows is before or after them
    """
    if len(starts) == 2:
        return Grouped([0], [0, len(rows)], rows - starts[0], None)
    order = None
    if bool((rows[1:] >= rows[:-1]).all()):
        cuts = rows.searchsorted(starts)
        counts = cuts[1:] - cuts[:-1]
    else:
        number = (starts.searchsorted(rows, "right") - 1).astype(np.int16)
        order = number.argsort(kind="stable")
        rows = rows[order]
        counts = np.bincount(number, minlength=len(starts) - 1)
        cuts = np.append(0, counts.cumsum())
    some = counts.nonzero()[0]
    inside = rows - starts[:-1].repeat(counts)
    return Grouped(some.tolist(), [*cuts[some].tolist(), len(rows)], inside, order)


def inverse(order: npt.NDArray[np.intp]) -> Rows:
    """Return the inverse of a permutation, 1D[n]."""
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return back


def _rows_of(batch: pa.RecordBatch, rows: Rows) -> Any:
    """Return ascending rows of a batch; a run of them without a copy."""
    first, count = int(rows[0]), len(rows)
    if int(rows[-1]) - first == count - 1 and bool(np.all(rows[1:] > rows[:-1])):
        return batch.slice(first, count)
    return batch.take(as_arrow(rows))


def _numbers(array: pa.Array) -> npt.NDArray[Any] | None:
    """Return an array as it is, if all of its values are numbers."""
    form = array.type
    if array.null_count or not (pa.types.is_integer(form) or pa.types.is_floating(form)):
        return None
    return view(array)
