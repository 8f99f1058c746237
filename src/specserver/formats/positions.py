"""Positions as they are uploaded: an Arrow stream or CSV, with columns ra and dec in degrees."""

import struct
from collections.abc import Sequence
from io import BytesIO
from struct import unpack_from
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyarrow import csv

from ..errors import BadParameter
from .arrow import MEDIA_TYPE

CSV_TYPE: Final = "text/csv"
_KINDS: Final = f"{MEDIA_TYPE} or {CSV_TYPE}"
_NEEDED: Final = "columns ra and dec, ICRS degrees"

Floats = npt.NDArray[np.float64]


def read_positions(body: bytes, media_type: str) -> tuple[Floats, Floats]:
    """Return the columns ``ra`` and ``dec`` of a table, 1D[n] float64, deg; NaN where null.

    Names are taken in any case, and other columns passed over.

    Raises
    ------
    BadParameter
        The body is no such table, or of another media type.
    """
    kind = media_type.partition(";")[0].strip().lower()
    if kind not in {MEDIA_TYPE, CSV_TYPE}:
        raise BadParameter("Content-Type", media_type, _KINDS)
    try:
        ra, dec = _read_arrow(body) if kind == MEDIA_TYPE else _read_csv(body)
    except (pa.ArrowException, OSError, struct.error) as error:
        said = " ".join(str(error).split())[:200]
        raise BadParameter("body", f"{len(body)} bytes", f"send {_NEEDED} ({said})") from error
    return _numbers(ra), _numbers(dec)


def _read_arrow(body: bytes) -> list[pa.ChunkedArray]:
    with pa.ipc.open_stream(body) as reader:
        schema = reader.schema
    names = _found(schema.names)
    for name in names:
        _require_numbers(name, schema.field(name).type)
    _require_plain(body)
    # Nothing is made of the other columns, whatever they are.
    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(one) for one in names])
    with pa.ipc.open_stream(body, options=options) as reader:
        table = reader.read_all()
    # That the buffers are as long as the columns say they are.
    table.validate()
    return [table.column(name) for name in names]


def _require_plain(body: bytes) -> None:
    """Raise `BadParameter` when a stream is compressed: few bytes may then become very many."""
    messages = pa.ipc.MessageReader.open_stream(body)
    for message in messages:
        if message.type == "record batch" and _is_compressed(message.metadata.to_pybytes()):
            raise BadParameter("body", "a compressed Arrow stream", "send it uncompressed")


def _is_compressed(metadata: bytes) -> bool:
    """Tell whether a record batch states a compression (Arrow's Message.fbs)."""

    def field(table: int, index: int) -> int:
        """Return where a field of a flatbuffers table is; 0: it is absent."""
        vtable = table - unpack_from("<i", metadata, table)[0]
        place = 4 + 2 * index
        known = place < unpack_from("<H", metadata, vtable)[0]
        offset: int = unpack_from("<H", metadata, vtable + place)[0] if known else 0
        return table + offset if offset else 0

    # Message: version, header_type, header, …; RecordBatch: length, nodes, buffers, compression.
    header = field(unpack_from("<I", metadata, 0)[0], 2)
    return bool(field(header + unpack_from("<I", metadata, header)[0], 3))


def _read_csv(body: bytes) -> list[pa.ChunkedArray]:
    # The byte order mark that spreadsheets write is not part of the first name.
    body = body.removeprefix(b"\xef\xbb\xbf")
    header = body.split(b"\n", 1)[0].rstrip(b"\r")
    if not header.strip():
        raise BadParameter("body", "no header", f"send {_NEEDED}")
    body = body if body.endswith(b"\n") else body + b"\n"
    named = csv.read_csv(BytesIO(header + b"\n")).column_names
    names = _found(named)
    options = csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.float64()), include_columns=names
    )
    table = csv.read_csv(BytesIO(body), convert_options=options)
    return [table.column(name) for name in names]


def _found(names: Sequence[str]) -> list[str]:
    """Return the names of the two columns as they are spelt."""
    found = []
    for wanted in ("ra", "dec"):
        own = [name for name in names if name.strip().lower() == wanted]
        if len(own) != 1:
            raise BadParameter("columns", ", ".join(names)[:200], f"send {_NEEDED}, each once")
        found += own
    return found


def _require_numbers(name: str, kind: pa.DataType) -> None:
    """Raise `BadParameter` for a column of anything but numbers."""
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind)):
        raise BadParameter(name, str(kind), "numbers of degrees")


def _numbers(column: pa.ChunkedArray) -> Floats:
    """Return a column of numbers as float64."""
    # Not safe: of integers beyond 2^53 digits are lost, and none of them is a declination.
    values = column.cast(pa.float64(), safe=False).combine_chunks()
    found: Floats = values.to_numpy(zero_copy_only=False)
    return found
