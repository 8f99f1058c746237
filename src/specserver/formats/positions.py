"""Positions as they are uploaded: an Arrow stream or CSV, with columns ra and dec in degrees.

Names are read in any case, and other columns are ignored. More rows than are accepted are refused
before they take memory.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from io import BytesIO
from struct import unpack_from
from sys import maxsize
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from ..errors import BadParameter, TooMuch
from ..wire.columns import POSITION
from ..wire.media_types import ARROW, CSV
from .registry import FormatReader, reads

_MAX_HEADER: Final = 2**16
"""Bytes of a CSV header: each column costs a kilobyte of memory, also if it is ignored."""
_MAX_BATCHES: Final = 10_000
"""Batches of an Arrow stream, however short: each costs a kilobyte."""
_NEEDED: Final = f"columns {' and '.join(POSITION)}, ICRS degrees"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Positions:
    """Positions in the order of their rows, ICRS degrees; NaN where one is null."""

    ra_deg: Floats
    """1D[n] float64"""
    dec_deg: Floats
    """1D[n] float64"""


def _reading(read: Callable[[bytes, int], list[pa.ChunkedArray]]) -> FormatReader[Positions]:
    """Return a reader of two columns as one of positions."""

    @wraps(read)
    def read_positions(body: bytes, most: int | None) -> Positions:
        try:
            ra, dec = read(body, maxsize if most is None else most)
        except (pa.ArrowException, OSError, struct.error, UnicodeDecodeError) as error:
            said = " ".join(str(error).split())[:200]
            raise BadParameter("body", f"{len(body)} bytes", f"send {_NEEDED} ({said})") from error
        return Positions(_numbers(ra), _numbers(dec))

    return read_positions


@reads(Positions, ARROW)
@_reading
def read_arrow(body: bytes, most: int) -> list[pa.ChunkedArray]:
    """Read the two columns of an Arrow stream."""
    with pa.ipc.open_stream(body) as reader:
        schema = reader.schema
    names = _found(schema.names)
    for name in names:
        kind = schema.field(name).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
            raise BadParameter(name, str(kind), "numbers of degrees")
    _look_through(body, most)
    # The other columns are not decoded.
    options = pa.ipc.IpcReadOptions(
        included_fields=[schema.get_field_index(name) for name in names]
    )
    with pa.ipc.open_stream(body, options=options) as reader:
        table = reader.read_all()
    # Checks that the buffers are as long as the columns say.
    table.validate()
    return [table.column(name) for name in names]


def _look_through(body: bytes, most: int) -> None:
    """Refuse a stream with too many rows, or with compressed buffers.

    Few compressed bytes may become very many, also in dictionaries of columns that are ignored.
    """
    nrows = nbatches = 0
    for message in pa.ipc.MessageReader.open_stream(body):
        if message.type not in {"record batch", "dictionary"}:
            continue
        length, is_compressed = _described(message.metadata.to_pybytes(), message.type)
        if is_compressed:
            raise BadParameter("body", "a compressed Arrow stream", "send it uncompressed")
        nbatches += 1
        if nbatches > _MAX_BATCHES:
            raise TooMuch("batches in an Arrow stream", None, _MAX_BATCHES)
        nrows += length if message.type == "record batch" else 0
    # No stream has more rows than bytes: reading it raises the error.
    if most < nrows <= len(body):
        raise TooMuch("positions", nrows, most, "max_positions")


def _described(metadata: bytes, kind: str) -> tuple[int, bool]:
    """Return the rows that a batch states, and whether it states a compression (Message.fbs)."""

    def field(table: int, index: int) -> int:
        """Return where a field of a flatbuffers table is; 0: it is absent."""
        vtable = table - unpack_from("<i", metadata, table)[0]
        place = 4 + 2 * index
        known = place < unpack_from("<H", metadata, vtable)[0]
        offset: int = unpack_from("<H", metadata, vtable + place)[0] if known else 0
        return table + offset if offset else 0

    def table(place: int) -> int:
        """Return where the table is that a field refers to."""
        if not place:
            raise BadParameter("body", "an Arrow stream", "its metadata are damaged")
        found: int = place + unpack_from("<I", metadata, place)[0]
        return found

    root = unpack_from("<I", metadata, 0)[0]
    # Message: version, header_type, header, …; DictionaryBatch: id, data, …;
    # RecordBatch: length, nodes, buffers, compression.
    batch = table(field(root, 2))
    if kind == "dictionary":
        batch = table(field(batch, 1))
    length = field(batch, 0)
    return (unpack_from("<q", metadata, length)[0] if length else 0), bool(field(batch, 3))


@reads(Positions, CSV)
@_reading
def read_csv(body: bytes, most: int) -> list[pa.ChunkedArray]:
    """Read the two columns of a CSV file."""
    # The byte order mark that spreadsheets write is not part of the first name.
    body = body.removeprefix(b"\xef\xbb\xbf")
    header = body.split(b"\n", 1)[0].rstrip(b"\r")
    if not header.strip():
        raise BadParameter("body", "no header", f"send {_NEEDED}")
    if len(header) > _MAX_HEADER:
        raise TooMuch("bytes in a header line", len(header), _MAX_HEADER)
    body = body if body.endswith(b"\n") else body + b"\n"
    named = csv.read_csv(BytesIO(header + b"\n")).column_names
    names = _found(named)
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.float64()), include_columns=names
    )
    # Lines end in either; empty ones are no rows, so there may be fewer rows than this.
    if max(body.count(b"\n"), body.count(b"\r")) <= most + 1:
        table = csv.read_csv(BytesIO(body), convert_options=options)
        return [table.column(name) for name in names]
    batches, nrows = [], 0
    with csv.open_csv(BytesIO(body), convert_options=options) as reader:
        for batch in reader:
            nrows += len(batch)
            if nrows > most:
                raise TooMuch("positions", None, most, "max_positions")
            batches.append(batch)
        table = pa.Table.from_batches(batches, reader.schema)
    return [table.column(name) for name in names]


def _found(names: Sequence[str]) -> list[str]:
    """Return the names of the two columns as they are spelt."""
    found = []
    for wanted in POSITION:
        own = [name for name in names if name.strip().lower() == wanted]
        if len(own) != 1:
            raise BadParameter("columns", ", ".join(names)[:200], f"send {_NEEDED}, each once")
        found += own
    return found


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Return a column of numbers as float64."""
    # Not safe: integers beyond 2^53 lose digits; none of them is a declination.
    values = column.cast(pa.float64(), safe=False).combine_chunks()
    found: Floats = values.to_numpy(zero_copy_only=False)
    return found
