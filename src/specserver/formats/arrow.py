"""Arrow IPC streams: tables, and spectra as cells (docs/wire.md)."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

MEDIA_TYPE: Final = "application/vnd.apache.arrow.stream"


class Outbox:
    """A file to write to that hands its pieces on instead of keeping them."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[pa.Buffer | bytes] = []

    def write(self, data: pa.Buffer | bytes) -> int:
        """Keep a piece until it is taken; Arrow does not change what it has handed out."""
        self._pieces.append(data)
        return data.size if isinstance(data, pa.Buffer) else len(data)

    def flush(self) -> None:
        """Do nothing: pieces are handed on at once."""

    def close(self) -> None:
        """Do nothing: there is no file behind it."""

    def take(self) -> bytes:
        """Return all that was written since the last call."""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def stream_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Yield an Arrow IPC stream piece by piece, a batch at a time."""
    outbox = Outbox()
    with pa.ipc.new_stream(pa.PythonFile(outbox, "w"), schema) as writer:
        yield outbox.take()
        for batch in batches:
            writer.write_batch(batch)
            # Not held while its bytes travel, which a slow reader makes long.
            del batch
            yield outbox.take()
    yield outbox.take()


def stream_table(table: pa.Table, rows: int = 100_000) -> Iterator[bytes]:
    """Yield a table as an Arrow IPC stream."""
    return stream_batches(table.schema, table.to_batches(rows))


def spectra_schema(
    meta: Mapping[str, Any], id_dtype: str, cells: Sequence[str], columns: pa.Schema | None
) -> pa.Schema:
    """Return the schema of a stream of spectra, its description in the metadata."""
    fields = [
        pa.field("id", pa.from_numpy_dtype(np.dtype(id_dtype))),
        pa.field("context", pa.string()),
        *(pa.field(name, pa.int32()) for name in ("start", "width", "first", "count")),
        pa.field("on_lattice", pa.bool_()),
        *(pa.field(name, pa.large_binary()) for name in cells),
    ]
    if columns is not None:
        fields += [pa.field(f"col:{field.name}", field.type) for field in columns]
    return pa.schema(fields, metadata={"specserver": json.dumps(meta)})


def spectra_batch(
    schema: pa.Schema,
    arrays: Mapping[str, npt.NDArray[Any]],
    contexts: Sequence[str],
    cells: Mapping[str, pa.Array],
    columns: pa.Table | None,
) -> pa.RecordBatch:
    """Return one batch of spectra."""
    values: dict[str, Any] = {name: pa.array(array) for name, array in arrays.items()}
    values["context"] = pa.array(contexts, pa.string())
    values |= cells
    if columns is not None:
        for name in columns.column_names:
            values[f"col:{name}"] = columns.column(name).combine_chunks()
    return pa.record_batch([values[field.name] for field in schema], schema=schema)


def binary_column(
    data: npt.NDArray[np.uint8],
    offsets: npt.NDArray[np.int64],
    present: npt.NDArray[np.bool_],
) -> pa.Array:
    """Return cells that lie end to end as a large_binary array, without copying them.

    Parameters
    ----------
    data : 1D[nbytes]
    offsets : 1D[n + 1]
    present : 1D[n], False for a null
    """
    valid = None if present.all() else pa.py_buffer(np.packbits(present, bitorder="little"))
    buffers = [valid, pa.py_buffer(offsets), pa.py_buffer(data)]
    return pa.Array.from_buffers(pa.large_binary(), len(present), buffers)
