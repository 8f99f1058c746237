"""Arrow IPC streams: tables, and spectra as cells (docs/wire.md)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Final, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import SpecServerError
from ..wire.batches import error_metadata
from ..wire.cells import CellColumn
from ..wire.columns import (
    CATALOG_PREFIX,
    CONTEXT,
    COUNT,
    FIRST,
    ID,
    MEDIUM,
    ON_LATTICE,
    PART,
    PIXELS,
    PLACE,
    START,
    WIDTH,
)
from ..wire.head import PartsHead, StreamHead, to_metadata
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
        """Return a batch without rows whose metadata state the error; no end of stream follows."""
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


def breaking_off(schema: pa.Schema, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces of a stream; raise its errors as `BrokenOff`."""
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
class CellBatch:
    """Encoded spectra of one batch; the columns of docs/wire.md."""

    ids: npt.NDArray[Any]
    contexts: list[str]
    start: npt.NDArray[np.int32]
    width: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]
    on_lattice: npt.NDArray[np.bool_]
    cells: dict[str, CellColumn]
    columns: pa.Table | None
    media: list[str] | None
    """Medium of each, if the survey does not state one for all."""
    part: int = 0
    """Index of the head that describes it, where a stream has several."""
    places: npt.NDArray[np.int64] | None = None
    """1D[n], positions in the caller's list, where a stream has several parts."""


@dataclass(slots=True)
class SpectrumStream:
    """Spectra as they travel; their batches are read one by one."""

    head: StreamHead | PartsHead
    id_dtype: str
    """NumPy dtype text of the identifiers."""
    cells: tuple[str, ...]
    """Vectors that travel, and the axes of spectra that have their own."""
    has_media: bool
    """Whether each spectrum states the medium of its wavelengths."""
    batches: Iterator[CellBatch]


@writes(SpectrumStream, ARROW)
def write_spectra(stream: SpectrumStream) -> Iterator[bytes]:
    """Return the stream, a batch at a time; the first batch is read at once, for its columns."""
    first = next(stream.batches, None)
    schema = _spectra_schema(stream, first and first.columns)
    batches = chain([first], stream.batches) if first else iter(())
    return stream_batches(schema, map(partial(_spectra_batch, schema), batches))


def stream_batches(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[bytes]:
    """Yield an Arrow IPC stream piece by piece, a batch at a time.

    Messages are serialized whole: a writer calls back for each buffer, which takes two thirds of
    the time of a short answer. The pieces are views of them, as a copy would be a fourth pass over
    an answer. Errors of the batches are raised as `BrokenOff`: something has been sent by then.
    """
    return breaking_off(schema, _pieces(schema, batches))


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


def _spectra_schema(stream: SpectrumStream, columns: pa.Table | None) -> pa.Schema:
    """Return the schema of a stream of spectra, its description in the metadata."""
    schema = _plain_schema(stream.id_dtype, stream.cells)
    if isinstance(stream.head, PartsHead):
        schema = schema.append(pa.field(PART, pa.int32())).append(pa.field(PLACE, pa.int64()))
    if stream.has_media:
        schema = schema.append(pa.field(MEDIUM, pa.string()))
    for field in columns.schema if columns is not None else ():
        schema = schema.append(pa.field(CATALOG_PREFIX + field.name, field.type))
    return schema.with_metadata(to_metadata(stream.head.to_json()))


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


def _spectra_batch(schema: pa.Schema, batch: CellBatch) -> pa.RecordBatch:
    """Return one batch of spectra; null where the batch has no cells of a vector."""
    nspec = len(batch.ids)
    values: dict[str, Any] = {
        ID: batch.ids,
        CONTEXT: batch.contexts,
        START: batch.start,
        WIDTH: batch.width,
        FIRST: batch.first,
        COUNT: batch.count,
        ON_LATTICE: batch.on_lattice,
    }
    if batch.places is not None:
        values |= {PART: np.full(nspec, batch.part), PLACE: batch.places}
    if batch.media is not None:
        values[MEDIUM] = batch.media
    arrays = {name: pa.array(column, schema.field(name).type) for name, column in values.items()}
    arrays |= {name: cells.to_arrow() for name, cells in batch.cells.items()}
    if batch.columns is not None:
        for name in batch.columns.column_names:
            arrays[CATALOG_PREFIX + name] = batch.columns.column(name).combine_chunks()
    lacking = (field for field in schema if field.name not in arrays)
    arrays |= {field.name: pa.nulls(nspec, field.type) for field in lacking}
    return pa.record_batch([arrays[name] for name in schema.names], schema=schema)
