"""Arrow IPC streams: tables, and spectra as cells (docs/wire.md)."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import SpecServerError
from ..wire.batches import error_metadata
from ..wire.cells import CellColumn
from ..wire.columns import CATALOG_PREFIX, CONTEXT, ID, MEDIUM, ON_LATTICE, PART, PIXELS, PLACE
from ..wire.head import to_metadata
from ..wire.media_types import ARROW
from .registry import writes

_END: Final = b"\xff\xff\xff\xff\0\0\0\0"
"""The end of a stream: the mark of a message, and that it has no bytes."""
_TABLE_ROWS: Final = 100_000
"""Rows of one batch of a table."""


class BrokenOff(Exception):
    """An answer that has begun and cannot be ended, and what makes its last message.

    Parameters
    ----------
    error : why
    schema : of the batches of the answer
    """

    def __init__(self, error: SpecServerError, schema: pa.Schema) -> None:
        super().__init__(error.message)
        self.error = error
        self._schema = schema

    def last_words(self, message: str) -> bytes:
        """Return a batch without rows whose metadata tell the error; no end of stream follows."""
        outbox = Outbox()
        with pa.ipc.new_stream(pa.PythonFile(outbox, "w"), self._schema) as writer:
            writer.write_batch(_no_rows(self._schema))
            # The reader has the schema already, which comes with the first batch.
            outbox.take()
            told = error_metadata(self.error, message)
            writer.write_batch(_no_rows(self._schema), custom_metadata=told)
            return outbox.take()


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    """Return a batch without rows."""
    return pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)


def telling(schema: pa.Schema, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a stream; errors on the way are raised as `BrokenOff`."""
    try:
        yield from pieces
    except SpecServerError as error:
        raise BrokenOff(error, schema) from error


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


@dataclass(frozen=True, slots=True)
class SpectrumStream:
    """Spectra as cells, in batches of one schema, made one at a time."""

    schema: pa.Schema
    batches: Iterable[pa.RecordBatch]


@writes(SpectrumStream, ARROW)
def write_spectra(stream: SpectrumStream) -> Iterator[bytes]:
    """Yield the stream, a batch at a time."""
    return stream_batches(stream.schema, stream.batches)


def stream_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Yield an Arrow IPC stream piece by piece, a batch at a time.

    Messages are serialized whole: a writer calls back for each buffer, which takes two thirds of
    the time of a short answer. The pieces are views of them, as a copy would be a fourth pass over
    an answer.

    Raises
    ------
    BrokenOff
        For an error of the batches: something has been sent by then.
    """
    return telling(schema, _pieces(schema, batches))


def _pieces(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Yield schema, batches and end of a stream."""
    yield cast("bytes", memoryview(schema.serialize()))
    for batch in batches:
        message = memoryview(batch.serialize())
        # Freed while its bytes are sent, which takes long for a slow reader.
        del batch
        yield cast("bytes", message)
        del message
    yield _END


@writes(pa.Table, ARROW)
def write_table(table: pa.Table) -> Iterator[bytes]:
    """Yield a table as an Arrow IPC stream."""
    return stream_batches(table.schema, table.to_batches(_TABLE_ROWS))


def spectra_schema(
    head: Mapping[str, Any],
    id_dtype: str,
    cells: Sequence[str],
    columns: pa.Schema | None,
    *,
    with_media: bool = False,
    with_parts: bool = False,
) -> pa.Schema:
    """Return the schema of a stream of spectra, its description in the metadata.

    Parameters
    ----------
    id_dtype : NumPy dtype text of the identifiers
    cells : vectors that travel
    columns : types of the catalogue columns
    with_media : each spectrum states the medium of its wavelengths
    with_parts : each spectrum states its part and its place
    """
    schema = _plain_schema(id_dtype, tuple(cells))
    if with_parts:
        schema = schema.append(pa.field(PART, pa.int32())).append(pa.field(PLACE, pa.int64()))
    if with_media:
        schema = schema.append(pa.field(MEDIUM, pa.string()))
    for field in columns or ():
        schema = schema.append(pa.field(CATALOG_PREFIX + field.name, field.type))
    return schema.with_metadata(to_metadata(head))


def id_type(dtype: str) -> pa.DataType:
    """Return the type of identifiers; objects are integers that no 64-bit type holds together."""
    kind = np.dtype(dtype)
    return pa.decimal128(20) if kind.kind == "O" else pa.from_numpy_dtype(kind)


@lru_cache
def _plain_schema(id_dtype: str, cells: tuple[str, ...]) -> pa.Schema:
    """Return the schema of a stream of spectra without catalogue columns."""
    return pa.schema(
        [
            pa.field(ID, id_type(id_dtype)),
            pa.field(CONTEXT, pa.string()),
            *(pa.field(name, pa.int32()) for name in PIXELS),
            pa.field(ON_LATTICE, pa.bool_()),
            *(pa.field(name, pa.large_binary()) for name in cells),
        ]
    )


def spectra_batch(
    schema: pa.Schema,
    arrays: Mapping[str, npt.NDArray[Any]],
    contexts: Sequence[str],
    cells: Mapping[str, CellColumn],
    columns: pa.Table | None,
    media: Sequence[str] | None = None,
) -> pa.RecordBatch:
    """Return one batch of spectra."""
    values: dict[str, Any] = {
        name: pa.array(array, schema.field(name).type) for name, array in arrays.items()
    }
    values[CONTEXT] = pa.array(contexts, pa.string())
    values |= {name: column.to_arrow() for name, column in cells.items()}
    absent = (one for one in schema if pa.types.is_large_binary(one.type))
    values |= {
        one.name: pa.nulls(len(contexts), one.type) for one in absent if one.name not in values
    }
    if media is not None:
        values[MEDIUM] = pa.array(media, pa.string())
    if columns is not None:
        for name in columns.column_names:
            values[CATALOG_PREFIX + name] = columns.column(name).combine_chunks()
    return pa.record_batch([values[field.name] for field in schema], schema=schema)
