"""FITS binary tables from bytes: the parts of the standard that survey spectra use.

astropy.io.fits reads one small file in 15 to 20 ms, nearly all of it in building objects for
columns that are not asked for; a survey has millions of such files. The layout of a binary table
(FITS standard 4.0, §7.3) is fixed-width big-endian rows behind 2880-byte header blocks, so one
NumPy dtype reads it, and files of one family share the dtype. The tests hold every value of every
real file against astropy.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadFile

BLOCK: Final = 2880
"""Bytes in whose multiples headers and data are written."""
CARD: Final = 80
"""Bytes of a header card."""
_END: Final = b"END     "
STRETCH: Final = 8 * BLOCK
"""Bytes that are searched at a time for the end of a header."""
_WORDS: Final = frozenset({np.dtype(">f4"), np.dtype(">i4")})
_TFORM = re.compile(r"(\d*)([LXBIJKAEDCMPQ])")
_FORMATS = {"L": "S1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
# TZERO that turns a signed integer into the unsigned one of the same width (§5.2.5).
_UNSIGNED = {"I": (2**15, ">u2"), "J": (2**31, ">u4"), "K": (2**63, ">u8")}


@dataclass(frozen=True, slots=True)
class Layout:
    """The layout of a table's rows, read from its header."""

    nrows: int
    dtype: np.dtype[Any]
    """Big-endian fields under the column names as written; text is bytes."""
    flipped: frozenset[str]
    """Integer columns stored signed with an offset: the top bit is to be flipped."""
    size: int
    """Bytes of data behind the header, without padding and heap."""
    heap: int
    """Bytes of heap behind the rows."""


def header_end(data: bytes, start: int) -> int:
    """Return the offset just behind the header that begins at ``start``, or raise `BadFile`."""
    for at in range(start, len(data), STRETCH):
        card = find_end(data, at, at + STRETCH)
        if card >= 0:
            return start + -(-(card + CARD - start) // BLOCK) * BLOCK
    raise BadFile("not a whole FITS file: a header has no END card")


def find_end(data: bytes, start: int, stop: int) -> int:
    """Return the offset of the END card between two offsets, or -1 if there is none."""
    # Only the first letter of each card: a search of all bytes takes many times as long.
    letters = data[start:stop:CARD]
    card = letters.find(b"E")
    while card >= 0 and not data.startswith(_END, start + card * CARD):
        card = letters.find(b"E", card + 1)
    return -1 if card < 0 else start + card * CARD


def cards(header: bytes) -> dict[str, str | int | float | bool]:
    """Return keyword → value of a header block; comments, HISTORY and CONTINUE are left out."""
    text = header.decode("ascii", "replace")
    values: dict[str, str | int | float | bool] = {}
    for at in range(0, len(text), CARD):
        if text[at + 8 : at + 10] == "= ":
            values[text[at : at + 8].rstrip()] = _value(text[at + 10 : at + CARD])
    return values


def _value(field: str) -> str | int | float | bool:
    """Return the value of one card's value field (§4.2)."""
    field = field.lstrip()
    if field.startswith("'"):
        end = 1
        while (end := field.find("'", end)) >= 0 and field[end + 1 : end + 2] == "'":
            end += 2
        return field[1 : end if end > 0 else None].replace("''", "'").rstrip()
    text = field.split("/", 1)[0].strip()
    if text in {"T", "F"}:
        return text == "T"
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text.replace("D", "E"))
    except ValueError:
        return text


@lru_cache(maxsize=256)
def table_layout(header: bytes) -> Layout:
    """Return the row layout of a binary table's header; headers of one family repeat exactly.

    Raises `BadFile` for another header, or one that contradicts itself.
    """
    values = cards(header)
    if values.get("XTENSION") != "BINTABLE":
        raise BadFile(f"expected a binary table, found {values.get('XTENSION', 'no extension')!r}")
    names, formats, offsets, flipped = [], [], [], set()
    offset = 0
    for column in range(1, int(values.get("TFIELDS", 0)) + 1):
        form = str(values.get(f"TFORM{column}", ""))
        name = str(values.get(f"TTYPE{column}", f"col{column}"))
        match = _TFORM.match(form)
        if match is None:
            raise BadFile(f"column {name} has an unknown TFORM {form!r}")
        code, zero = match[2], values.get(f"TZERO{column}")
        unsigned = code in _UNSIGNED and zero is not None and float(zero) == _UNSIGNED[code][0]
        if unsigned:
            flipped.add(name)
        item, width = _item(code, int(match[1] or 1), unsigned=unsigned)
        names.append(name)
        formats.append(item)
        offsets.append(offset)
        offset += width
    width = int(values.get("NAXIS1", 0))
    if width != offset:
        raise BadFile(f"the columns take {offset} bytes a row, the header says {width}")
    dtype = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": width})
    nrows = int(values.get("NAXIS2", 0))
    return Layout(nrows, dtype, frozenset(flipped), nrows * width, int(values.get("PCOUNT", 0)))


def _item(
    code: str, repeat: int, *, unsigned: bool
) -> tuple[str | tuple[str, tuple[int, ...]], int]:
    """Return the NumPy format and the width in bytes of one cell."""
    if code == "A":
        return f"S{repeat}", repeat
    if code == "X":
        return f"V{-(-repeat // 8)}", -(-repeat // 8)
    if code in {"P", "Q", "C", "M"}:
        width = repeat * (16 if code in {"Q", "M"} else 8)
        return f"V{width}", width
    item = _UNSIGNED[code][1] if unsigned else _FORMATS[code]
    width = repeat * np.dtype(item).itemsize
    # A tuple: NumPy is slow to parse text such as "(5,)>f4".
    return item if repeat == 1 else (item, (repeat,)), width


@lru_cache(maxsize=256)
def _scalar_fields(layout: Layout) -> tuple[tuple[int, str, Any], ...]:
    """Return index, name and top bit (None: not flipped) of each field with one value a row."""
    names = layout.dtype.names or ()
    kinds = [layout.dtype[name] for name in names]
    return tuple(
        (at, name, kind.type(1 << (8 * kind.itemsize - 1)) if name in layout.flipped else None)
        for at, (name, kind) in enumerate(zip(names, kinds, strict=True))
        if not kind.shape and kind.kind != "V"
    )


@dataclass(frozen=True, slots=True)
class FitsTable:
    """The rows of a binary table, and their layout."""

    layout: Layout
    rows: npt.NDArray[Any]
    """1D[nrows] structured, big-endian, as stored."""

    def find(self, name: str) -> str | None:
        """Return the column's name as written; names are matched without case."""
        wanted = name.casefold()
        return next(
            (known for known in self.layout.dtype.names or () if known.casefold() == wanted), None
        )

    def column(self, written: str) -> npt.NDArray[Any]:
        """Return a column in native byte order with its unsigned offset applied, 1D[nrows]."""
        values = self.rows[written]
        native = values.astype(values.dtype.newbyteorder("="))
        if written in self.layout.flipped:
            native = native ^ native.dtype.type(1 << (8 * native.dtype.itemsize - 1))
        return native

    def columns(self, written: Sequence[str]) -> list[npt.NDArray[Any]]:
        """Return columns, 1D[nrows] each, as `column` does; in one step if all have 32 bits."""
        kinds = {self.layout.dtype[name] for name in self.layout.dtype.names or ()}
        if self.layout.flipped or not kinds or not kinds <= _WORDS:
            return [self.column(name) for name in written]
        words = self.rows.view(">u4").reshape(len(self.rows), -1)
        native = words.T.astype("=u4", order="C")
        names = self.layout.dtype.names or ()
        return [
            native[names.index(name)].view(self.layout.dtype[name].newbyteorder("="))
            for name in written
        ]

    def scalars(self, row: int) -> dict[str, Any]:
        """Return the values of a row, NumPy scalars or bytes, for columns with one value a row."""
        cells = self.rows[row]
        return {
            name: cells[at] if top is None else cells[at] ^ top
            for at, name, top in _scalar_fields(self.layout)
        }


def read_tables(data: bytes, count: int) -> tuple[bytes, list[FitsTable]]:
    """Return the primary header and the first ``count`` extensions, which must be binary tables.

    Raises
    ------
    BadFile
        The bytes are not FITS, end too early, or an extension is something else.
    """
    if not data.startswith(b"SIMPLE  ="):
        raise BadFile("not a FITS file")
    end = header_end(data, 0)
    primary = data[:end]
    position = end + _padded(_image_size(primary))
    tables = []
    for extension in range(1, count + 1):
        if position >= len(data):
            raise BadFile(f"there is no HDU {extension}")
        end = header_end(data, position)
        layout = table_layout(data[position:end])
        if end + layout.size > len(data):
            raise BadFile(f"cut off inside HDU {extension}")
        rows = np.frombuffer(data, layout.dtype, layout.nrows, end)
        tables.append(FitsTable(layout, rows))
        position = end + _padded(layout.size + layout.heap)
    return primary, tables


def _image_size(header: bytes) -> int:
    """Return the bytes of the image behind a primary header."""
    if header[CARD * 2 : CARD * 2 + 30].split(b"=")[-1].strip() == b"0":
        return 0
    values = cards(header)
    axes = [int(values.get(f"NAXIS{axis + 1}", 0)) for axis in range(int(values.get("NAXIS", 0)))]
    return prod(axes) * abs(int(values.get("BITPIX", 8))) // 8 if axes else 0


def _padded(size: int) -> int:
    """Return a size rounded up to whole blocks."""
    return -(-size // BLOCK) * BLOCK
