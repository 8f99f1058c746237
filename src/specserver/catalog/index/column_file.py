"""All columns of an index part, memory-mapped: rows are looked up without the database.

An uncompressed Arrow file has the values of a row at known places, so 100 rows of five columns
take 0.05 ms; the database, which decodes whole row groups and plans each query, takes 3 to 7.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from io import BytesIO
from mmap import MADV_DONTNEED, mmap
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.handles import Entry
from ..base import Rows

DAMAGED_INDEX: Final = "damaged index: it is made again where its folder can be written to"
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
    try:
        # `numpy.load` takes ten times as long: it parses the head, and there are many files.
        mapped = _map(file) if nrows else None
        if mapped is not None and mapped[: len(head)] == head:
            return np.frombuffer(mapped, kind, nrows, len(head))
        values: npt.NDArray[Any] = np.load(file.local_path(), mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise file.damaged(f"{DAMAGED_INDEX} ({error})") from error
    if values.shape != (nrows,) or values.dtype != kind:
        raise file.damaged(f"{DAMAGED_INDEX} ({values.dtype.str} of {values.shape})")
    return values


def release(values: npt.NDArray[Any]) -> None:
    """Give the pages of a mapped array back to the system; they are read again when needed.

    Until then they count as memory of this process.
    """
    held: Any = values
    while not isinstance(held, mmap):
        held = held.obj if isinstance(held, memoryview) else held.base
    held.madvise(MADV_DONTNEED)


def _map(file: Entry) -> mmap:
    """Return a file, mapped; raise `OSError` or `ValueError` if that is not possible."""
    mapped: Any = np.memmap(file.local_path(), np.uint8, "r").base
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
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return table.combine_chunks().take(pa.array(back))

    def pieces(self, rows: Rows) -> Iterator[tuple[int, Any, Rows]]:
        """Return each batch that has some of the rows, which of them it has, and their rows in it.

        Which they are is a slice or an array of indices.
        """
        return grouped(rows, self._files[0].starts)

    def values(self, field: str, batch: int) -> pa.Array:
        """Return the values of a column in a batch."""
        return self._files[self._at[field]].batches[batch].column(field)

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

    def release(self) -> None:
        """Give the pages that were read back to the system."""
        self._mapped.madvise(MADV_DONTNEED)

    @cached_property
    def _mapped(self) -> mmap:
        """The file in a map of this process, which keeps the file open as long as it lives."""
        try:
            return _map(self._file)
        except (OSError, ValueError) as error:
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


def open_arrow(file: Entry, mapped: pa.NativeFile | None = None) -> pa.RecordBatchFileReader:
    """Map an Arrow file, unless it is mapped already; raise `DamagedFile` if it is none."""
    try:
        return pa.ipc.open_file(mapped or pa.memory_map(str(file.local_path())))
    except (OSError, pa.ArrowException) as error:
        raise file.damaged(f"{DAMAGED_INDEX} ({error})") from error


def grouped(rows: Rows, starts: npt.NDArray[np.int64]) -> Iterator[tuple[int, Any, Rows]]:
    """Yield each run that has some of the rows, which of them it has, and their numbers in it.

    Which they are is a slice or an array of indices, ascending.

    Parameters
    ----------
    starts : 1D[nrun + 1], first row of each run
    """
    if len(starts) <= 2:
        yield 0, slice(None), rows
        return
    if bool(np.all(rows[1:] >= rows[:-1])):
        cuts = np.searchsorted(rows, starts)
        for at in np.flatnonzero(cuts[1:] > cuts[:-1]).tolist():
            mine = slice(int(cuts[at]), int(cuts[at + 1]))
            yield at, mine, rows[mine] - starts[at]
        return
    number = np.searchsorted(starts, rows, "right") - 1
    order = np.argsort(number.astype(np.int16), kind="stable")
    cuts = np.cumsum([0, *np.bincount(number).tolist()])
    for at in np.flatnonzero(cuts[1:] > cuts[:-1]).tolist():
        some = order[cuts[at] : cuts[at + 1]]
        yield at, some, rows[some] - starts[at]


def _rows_of(batch: pa.RecordBatch, rows: Rows) -> Any:
    """Return ascending rows of a batch; a run of them without a copy."""
    first, count = int(rows[0]), len(rows)
    if int(rows[-1]) - first == count - 1 and bool(np.all(rows[1:] > rows[:-1])):
        return batch.slice(first, count)
    return batch.take(pa.array(rows))
