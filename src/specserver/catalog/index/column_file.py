"""All columns of a generation, memory-mapped: rows are looked up without the database.

An uncompressed Arrow file has the values of a row at known places, so 100 rows of five columns
take 0.05 ms; the database, which decodes whole row groups and plans each query, takes 3 to 7.
The price is the bytes of the columns, 85 a row of a plain catalogue, beside its 50 in the database.
"""

from collections.abc import Iterable, Sequence
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.context import GenerationFolder
from ...data.handles import Entry
from ..base import Rows

DAMAGED_INDEX: Final = "damaged index: it is made again where its folder can be written to"
# Answers of up to so many rows become one batch: joining takes less than a frame for each batch.
_JOINED: Final = 2**17


def write_columns(
    generation: GenerationFolder, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterable[pa.RecordBatch]:
    """Write batches of rows in their order as columns of a generation, and yield each."""
    with (
        pa.OSFile(str(generation.columns.local_path()), "wb") as file,
        pa.ipc.new_file(file, schema) as writer,
    ):
        for batch in batches:
            writer.write_batch(batch)
            yield batch


def allocate(file: Entry, dtype: str, nrows: int) -> np.memmap[Any, Any]:
    """Make a ``.npy`` file of zeros, 1D[nrows], and return it mapped to be written.

    Its place on the disk is taken first: a disk that is full is then an `OSError` here, where a
    map without a disk behind it would end the process.
    """
    kind = np.dtype(dtype)
    header = BytesIO()
    about = {"descr": kind.str, "fortran_order": False, "shape": (nrows,)}
    np.lib.format.write_array_header_1_0(header, about)
    path = file.allocate(header.getvalue(), nrows * kind.itemsize)
    mapped: np.memmap[Any, Any] = np.load(path, mmap_mode="r+")
    return mapped


def load_mapped(file: Entry, dtype: str, nrows: int) -> npt.NDArray[Any]:
    """Return a ``.npy`` file, 1D[nrows], mapped to be read.

    Raises
    ------
    DamagedFile
        It cannot be read, or is not of this length and type.
    """
    try:
        # Plain arrays over the maps: each slice of a `numpy.memmap` costs as much as a search.
        values: npt.NDArray[Any] = np.load(file.local_path(), mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise file.damaged(f"{DAMAGED_INDEX} ({error})") from error
    if values.shape != (nrows,) or values.dtype != np.dtype(dtype):
        raise file.damaged(f"{DAMAGED_INDEX} ({values.dtype.str} of {values.shape})")
    return values


class MappedColumns:
    """The columns of one generation, 1D[nrows] each; safe to share between threads."""

    def __init__(self, generation: GenerationFolder, nrows: int) -> None:
        kept = generation.columns
        try:
            file = pa.ipc.open_file(pa.memory_map(str(kept.local_path())))
            self._batches = [file.get_batch(index) for index in range(file.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise kept.damaged(f"{DAMAGED_INDEX} ({error})") from error
        self._schema = file.schema
        lengths = [batch.num_rows for batch in self._batches]
        if sum(lengths) != nrows:
            raise kept.damaged(f"{DAMAGED_INDEX} ({sum(lengths)} rows of {nrows})")
        self._starts = np.cumsum([0, *lengths], dtype=np.int64)

    def take(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept.

        Parameters
        ----------
        fields : names in their one spelling, each once
        rows : 1D[n] int64
        """
        schema = pa.schema([self._schema.field(field) for field in fields])
        if len(rows) < 2 or bool(np.all(rows[1:] >= rows[:-1])):
            return self._ascending(schema, rows)
        order = np.argsort(rows, kind="stable")
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return self._ascending(schema, rows[order]).combine_chunks().take(pa.array(back))

    def _ascending(self, schema: pa.Schema, rows: Rows) -> pa.Table:
        """Return columns of rows that are in ascending order."""
        cuts = np.searchsorted(rows, self._starts)
        parts = []
        for number in np.flatnonzero(cuts[1:] > cuts[:-1]).tolist():
            inside = rows[cuts[number] : cuts[number + 1]] - self._starts[number]
            batch = self._batches[number].select(schema.names)
            parts.append(_rows_of(batch, inside))
        table = pa.Table.from_batches(parts, schema)
        return table.combine_chunks() if len(parts) > 1 and len(rows) <= _JOINED else table


def _rows_of(batch: pa.RecordBatch, rows: Rows) -> Any:
    """Return ascending rows of a batch; a run of them without a copy."""
    first, count = int(rows[0]), len(rows)
    if int(rows[-1]) - first == count - 1 and bool(np.all(rows[1:] > rows[:-1])):
        return batch.slice(first, count)
    return batch.take(pa.array(rows))
