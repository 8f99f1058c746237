"""The check that a FITS file is whole: its bytes hold every HDU that its headers announce.

Libraries read what is left of a file that was cut off, and warn at most. So a file is looked
through, header by header, before a value of it is used. The data are not read, unless the file is
packed: a packed file has to be unpacked to its end, which is where its checksum is.

The padding of an HDU to whole blocks is a part of it (FITS standard 4.0, §3.3.2). A file that ends
inside the padding of its last HDU is refused too, as it may have had further HDUs.
Behind the last HDU only zeros and blanks are taken; other bytes are there when an HDU before them
lost some of its own.
"""

import bz2
import gzip
import io
import lzma
import os
import zlib
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import IO, Any, Final

from ..errors import BadFile
from .fitstable import BLOCK, CARD, STRETCH, cards, find_end

FITS_ENDING: Final = r"\.(?:fits|fit|fts)(?:\.gz)?"
"""Pattern of how the names of FITS files end, in lower case."""
_PRIMARY: Final = b"SIMPLE  ="
_EXTENSION: Final = b"XTENSION="
_FIRST: Final = 12
"""Header cards that hold the dimensions of up to seven axes."""
_PIECE: Final = 1 << 20
"""Bytes of a packed file that are unpacked at a time."""
_PACKERS: Final = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\x00", lzma.open))
_UNPACKED: Final = "cut off or damaged: it does not unpack to its end"
_first_cards = lru_cache(maxsize=256)(cards)
"""Keyword → value of the first cards of a header; those of one family repeat exactly."""
_BROKEN: Final = (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile)


def require_whole(path: Path) -> None:
    """Refuse a FITS file, plain or packed, that does not hold what its headers announce.

    A packed file of another kind is unpacked to its end; any other file is passed over.

    Raises
    ------
    BadFile
        It is empty or cut off, an HDU of it is, or it does not unpack to its end.
    OSError
        It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(len(_PRIMARY))
        file.seek(0)
        if not start:
            raise BadFile("the file is empty")
        packer = _packer_of(start)
        if packer is not None:
            _require_whole_packed(file, packer)
        elif start == _PRIMARY:
            _require_hdus(file, os.fstat(file.fileno()).st_size)


def whole_bytes(data: bytes) -> bytes:
    """Return the bytes of a file, unpacked if packed; refuse what `require_whole` refuses."""
    if not data:
        raise BadFile("the file is empty")
    try:
        data = _unpacked(data)
    except (*_BROKEN, OSError) as error:
        raise BadFile(f"{_UNPACKED} ({error})") from error
    if data.startswith(_PRIMARY):
        _require_hdus(io.BytesIO(data), len(data))
    return data


def open_bytes(path: Path) -> bytes:
    """Return the bytes of a file, unpacked where it is packed.

    Raises
    ------
    BadFile
        It cannot be read, or does not unpack to its end.
    """
    try:
        return _unpacked(path.read_bytes())
    except (OSError, *_BROKEN) as error:
        raise BadFile(f"cannot be read: {error}") from error


def _packer_of(start: bytes) -> Any:
    """Return the function that opens a file with these first bytes; None: it is not packed."""
    return next((packer for magic, packer in _PACKERS if start.startswith(magic)), None)


def _unpacked(data: bytes) -> bytes:
    """Return the bytes of a file, unpacked if they are packed."""
    packer = _packer_of(data)
    if packer is None:
        return data
    with packer(io.BytesIO(data), "rb") as stream:
        return bytes(stream.read())


def _require_whole_packed(file: IO[bytes], packer: Any) -> None:
    """Unpack a file to its end; refuse it if it begins as a FITS file and is not whole."""
    try:
        with packer(file, "rb") as stream:
            if stream.peek(len(_PRIMARY)).startswith(_PRIMARY):
                _require_hdus(stream, None)
            while stream.read(_PIECE):
                pass
    except (*_BROKEN, OSError) as error:
        raise BadFile(f"{_UNPACKED} ({error})") from error


def _require_hdus(stream: IO[bytes], length: int | None) -> None:
    """Refuse a stream that ends before its HDUs do.

    Parameters
    ----------
    length : its length, bytes; None if only reading shows it
    """
    number = 0
    block = stream.read(BLOCK)
    while block and (number == 0 or block.startswith(_EXTENSION)):
        header = _header(stream, block, goes_back=length is not None)
        if header is None:
            raise BadFile(f"cut off inside the header of HDU {number}")
        _skip(stream, length, _data_size(header, number), number)
        number += 1
        block = stream.read(BLOCK)
    while block:
        if block.strip(b"\0 "):
            raise BadFile(
                f"behind HDU {number - 1} are bytes that are no HDU: the file is cut off there, or"
                " an HDU before them has lost a part"
            )
        block = stream.read(_PIECE)


def _header(stream: IO[bytes], first: bytes, *, goes_back: bool) -> list[bytes] | None:
    """Return the bytes of a header in pieces, or None if the stream ends inside the header.

    Parameters
    ----------
    first : its first block, which is read already
    goes_back : the stream can seek backwards at no cost, so that several blocks are read at a time
    """
    pieces, size = [first], BLOCK
    while (card := find_end(pieces[-1], 0, size)) < 0:
        if len(pieces[-1]) < size:
            return None
        size = STRETCH if goes_back else BLOCK
        pieces.append(stream.read(size))
    stop = -(-(card + CARD) // BLOCK) * BLOCK
    behind = len(pieces[-1]) - stop
    if behind < 0:
        return None
    if behind:
        stream.seek(-behind, os.SEEK_CUR)
        pieces[-1] = pieces[-1][:stop]
    return pieces


def _data_size(header: list[bytes], number: int) -> int:
    """Return the bytes of data that a header announces, without padding (§4.4.1, §7.3.1)."""
    # The cards that say so are the first ones; only random groups, long deprecated, are otherwise.
    values = _first_cards(header[0][: _FIRST * CARD])
    naxis = values.get("NAXIS")
    if naxis and (values.get("NAXIS1") == 0 or f"NAXIS{naxis}" not in values):
        values = cards(b"".join(header))
    try:
        axes = [int(values[f"NAXIS{axis + 1}"]) for axis in range(int(values["NAXIS"]))]
        bits = abs(int(values["BITPIX"]))
        more, groups = int(values.get("PCOUNT", 0)), int(values.get("GCOUNT", 1))
    except (KeyError, ValueError):
        axes, bits, more, groups = [-1], 0, 0, 0
    if min([0, *axes, more, groups]) < 0:
        raise BadFile(f"the header of HDU {number} does not say how large its data are")
    if values.get("GROUPS") is True and axes[:1] == [0]:
        del axes[0]
    return bits // 8 * groups * (more + prod(axes)) if axes else 0


def _skip(stream: IO[bytes], length: int | None, size: int, number: int) -> None:
    """Go behind the data of an HDU and its padding; refuse a stream that ends before."""
    padded = -(-size // BLOCK) * BLOCK
    if length is None:
        there = 0
        while piece := stream.read(min(_PIECE, padded - there)):
            there += len(piece)
    else:
        there = min(padded, length - stream.tell())
        stream.seek(padded, os.SEEK_CUR)
    if there < size:
        raise BadFile(
            f"cut off inside HDU {number}: its header announces {size:,} bytes, {there:,} are there"
        )
    if there < padded:
        raise BadFile(
            f"cut off inside HDU {number}: {padded - there:,} bytes are missing of the padding to"
            f" {BLOCK}, and perhaps all behind it; if its writer left them out, write it anew with"
            " astropy"
        )
