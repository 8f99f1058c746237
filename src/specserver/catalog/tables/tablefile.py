"""A table from a file, as Arrow: FITS, VOTable, ECSV, Parquet, CSV; one value a cell.

Columns of arrays are left out. Text is stripped. Masked values, blanks in a column of numbers and
the file's own null value become null. Unit and description go into the metadata of each field.
"""

import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import csv

from ...errors import BadFile, BadParameter
from ...model.skyframe import Frame, frame_of
from ...ops.fitsnulls import masked_table
from ...ops.wholefits import require_whole
from ..index.column_types import put_column

_BROKEN: Final = (
    BadFile, OSError, ValueError, TypeError, KeyError, IndexError, NameError, pa.ArrowException
)  # fmt: skip
"""What readers raise; NameError: a mistake of astropy 8.0 with integers of 64 bits and TZERO."""
_WHOLE_DIGITS: Final = 18
"""Digits that 64 signed bits hold in any case; longer whole numbers of a CSV stay text."""

_FRAME: Final = ("RADESYS", "RADECSYS", "EQUINOX", "EPOCH")
"""Cards that state the system of positions."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table as read from a file."""

    table: pa.Table
    left_out: tuple[str, ...]
    """Columns whose cells are not single values."""
    frame: Frame | None = None
    """System of its positions as the file states it; None: ICRS, or it states none."""


def read_table(path: Path, *, hdu: int | None = None) -> TableFile:
    """Read a table file by its name's ending.

    Parameters
    ----------
    hdu : extension of a FITS file; the first table when None

    Raises
    ------
    BadParameter
        The name has another ending.
    BadFile
        The file cannot be read in the format of its ending.
    """
    name = path.name.lower().removesuffix(".gz")
    reader = next((reader for endings, reader in _READERS.items() if name.endswith(endings)), None)
    if reader is None:
        endings = ", ".join(ending for group in _READERS for ending in group)
        raise BadParameter("FILE", str(path), f"a name that ends in {endings} (.gz may follow)")
    try:
        require_whole(path)
        with warnings.catch_warnings():
            # Warnings about units and headers; they do not change a value.
            warnings.simplefilter("ignore")
            table = reader(path, hdu)
    except _BROKEN as error:
        raise BadFile(f"{path}: not a readable table ({error})") from error
    stated = (table.schema.metadata or {}).items()
    frame = frame_of({key.decode(): value.decode() for key, value in stated})
    return replace(_plain(table), frame=frame)


def _read_fits(path: Path, hdu: int | None) -> pa.Table:
    """Read a binary or ASCII table of a FITS file."""
    from astropy.io import fits  # noqa: PLC0415  # slow to import, and only this needs it
    from astropy.table import Table  # noqa: PLC0415

    with fits.open(path) as hdus:
        tables = [i for i, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU)]
        tables = tables or [i for i, hdu in enumerate(hdus) if isinstance(hdu, fits.TableHDU)]
        if not tables:
            raise ValueError("it has no table")
        chosen = tables[0] if hdu is None else hdu
        headers = (hdus[chosen].header, hdus[0].header)
        stating = [header for header in headers if set(_FRAME) & set(header)]
        return _from_astropy(masked_table(Table, hdus, chosen), stating[0] if stating else {})


def _read_votable(path: Path, _: int | None) -> pa.Table:
    """Read the first table of a VOTable, and the system that the column of its positions names."""
    from astropy.io import votable  # noqa: PLC0415

    file = votable.parse(str(path))
    table = next(iter(file.iter_tables()))
    systems = list(file.iter_coosys())
    named = {field.ref for field in table.fields if str(field.ucd or "").startswith("pos.eq.ra")}
    chosen = systems if len(systems) == 1 else [system for system in systems if system.ID in named]
    stated: dict[str, str] = {}
    if chosen:
        system = str(chosen[0].system or "").upper().removeprefix("EQ_")
        if system in {"ICRS", "FK4", "FK5"}:
            stated = {"RADESYS": system, "EQUINOX": str(chosen[0].equinox or "")}
    return _from_astropy(table.to_table(), stated)


def _read_ecsv(path: Path, _: int | None) -> pa.Table:
    """Read an ECSV file."""
    from astropy.table import Table  # noqa: PLC0415

    table = Table.read(path, format="ascii.ecsv")
    return _from_astropy(table, {str(key).upper(): value for key, value in table.meta.items()})


def _from_astropy(table: Any, cards: Mapping[str, Any]) -> pa.Table:
    """Return an astropy table as Arrow, columns of arrays as null type to be left out.

    Parameters
    ----------
    cards : header that may state the system of its positions
    """
    stated = {name: str(cards[name]) for name in _FRAME if name in cards}
    arrays, fields = [], []
    for name in table.colnames:
        column = table[name]
        values = np.ma.asarray(getattr(column, "value", column))
        array = _array(values) if values.ndim == 1 else pa.nulls(len(table))
        about = {"unit": str(column.unit or ""), "meaning": str(column.description or "")}
        fields.append(pa.field(str(name), array.type, metadata=about))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields, metadata=stated))


def _array(values: Any) -> pa.Array:
    """Return a 1-D column as Arrow in native byte order; null type if cells are not scalars."""
    mask = np.ma.getmaskarray(values)
    data = np.ma.getdata(values)
    if data.dtype.kind in "SU":
        text = np.char.decode(data, "utf-8", "replace") if data.dtype.kind == "S" else data
        return pa.array(text.astype(object), pa.string(), mask=mask)
    if data.dtype.kind == "O":
        listed = [None if gone else cell for cell, gone in zip(data, mask, strict=True)]
        if any(isinstance(cell, np.ndarray | list | tuple) for cell in listed):
            return pa.nulls(len(listed))
        return pa.array([None if cell is None else str(cell) for cell in listed], pa.string())
    if data.dtype.kind not in "biuf":
        return pa.nulls(len(data))
    return pa.array(np.ascontiguousarray(data, data.dtype.newbyteorder("=")), mask=mask)


def _read_csv(path: Path, _: int | None) -> pa.Table:
    """Read a table of text with a header line; comment lines may stand before it."""
    with pa.input_stream(str(path)) as stream:
        data = stream.read().removeprefix(b"\xef\xbb\xbf")
    while data.startswith(b"#") and b"\n" in data:
        data = data.split(b"\n", 1)[1]
    options = csv.ParseOptions(delimiter="\t" if ".tsv" in path.name.lower() else ",")
    # Whole numbers beyond 64 signed bits would be read as floats, and lose their last digits.
    header = csv.open_csv(io.BytesIO(data), parse_options=options).schema
    as_text = csv.ConvertOptions(column_types=dict.fromkeys(header.names, pa.string()))
    raw = csv.read_csv(io.BytesIO(data), parse_options=options, convert_options=as_text)
    long = [name for name in raw.column_names if _has_long_numbers(raw.column(name))]
    types = csv.ConvertOptions(column_types=dict.fromkeys(long, pa.string()))
    table = csv.read_csv(io.BytesIO(data), parse_options=options, convert_options=types)
    for name in long:
        table = put_column(table, name, _whole(table.column(name)))
    return table


def _has_long_numbers(column: Any) -> bool:
    """Return whether a column of text holds whole numbers that might be more than 64 bits."""
    long = pc.match_substring_regex(column, rf"^\s*[+-]?[0-9]{{{_WHOLE_DIGITS},}}\s*$")
    return bool(pc.any(long).as_py())


def _whole(column: Any) -> Any:
    """Return text as whole numbers where all of it is, within 64 bits; otherwise as it is."""
    text = pc.utf8_trim_whitespace(column)
    text = pc.if_else(pc.equal(text, ""), pa.scalar(None, pa.string()), text)
    for kind in (pa.int64(), pa.uint64()):
        try:
            return text.cast(kind)
        except pa.ArrowInvalid:
            continue
    return text


_READERS: Final[Mapping[tuple[str, ...], Callable[[Path, int | None], pa.Table]]] = {
    (".fits", ".fit", ".fts"): _read_fits,
    (".vot", ".votable", ".xml"): _read_votable,
    (".ecsv",): _read_ecsv,
    (".parquet", ".parq", ".pq"): lambda path, _: pq.read_table(path),
    (".csv", ".tsv"): _read_csv,
}


def _plain(table: pa.Table) -> TableFile:
    """Return a table with only columns that a catalogue can hold."""
    arrays, fields, left_out = [], [], []
    for field, column in zip(table.schema, table.columns, strict=True):
        array = _simple(column)
        if array is None:
            left_out.append(field.name)
            continue
        arrays.append(array)
        fields.append(pa.field(field.name, array.type, metadata=field.metadata))
    return TableFile(pa.table(arrays, schema=pa.schema(fields)), tuple(left_out))


def _simple(column: Any) -> Any:
    """Return a column in a type that a catalogue can hold, or None."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_integer(kind):
        return column
    if pa.types.is_floating(kind):
        return column.cast(pa.float32()) if pa.types.is_float16(kind) else column
    if pa.types.is_decimal(kind):
        # Identifiers of 20 digits may be decimals; text keeps all their digits.
        return column.cast(pa.string()) if kind.scale == 0 else column.cast(pa.float64())
    texts: Sequence[Callable[[Any], bool]] = (
        pa.types.is_string, pa.types.is_large_string, pa.types.is_binary,
        pa.types.is_large_binary, pa.types.is_date, pa.types.is_timestamp, pa.types.is_time,
    )  # fmt: skip
    if any(test(kind) for test in texts):
        return pc.utf8_trim_whitespace(column.cast(pa.string()))
    return None
