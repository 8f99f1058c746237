"""The header cards of the parts of a spectrum's file, and its columns of wavelengths.

A specutils reader returns at most one header; medium, equinox and unit may be in another.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from astropy.utils.data import get_readable_fileobj

from ..ops.fitsnulls import table_column

_WAVES: Final = re.compile(r"wave|lambda|lam|(?<![a-z])wl(?![a-z])|awav", re.IGNORECASE)
_PLACE: Final = re.compile(r"(PLUG_|TARGET_|TARG_|OBJ_?)?(RA|DEC)")
TEXTS: Final = frozenset({".ecsv", ".csv", ".txt", ".dat", ".ascii", ".asc"})
"""Endings of files of text."""


@dataclass(frozen=True, slots=True)
class WaveColumn:
    """A table column that may hold wavelengths."""

    name: str
    ucd: str
    values: npt.NDArray[Any]
    """Values, of any shape."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file with its own cards: an HDU, or a whole text file."""

    name: str
    cards: Mapping[str, Any]
    """Cards by keyword in capitals; the first card of a repeated keyword."""
    comments: Mapping[str, str] = field(default_factory=dict)
    """Comments of the cards, by keyword."""
    waves: Sequence[WaveColumn] = field(default=())


def fits_parts(hdus: Any) -> list[FilePart]:
    """Return the parts of an opened FITS file, in its order."""
    return [header_part(hdu.header, hdu) for hdu in hdus]


def header_part(header: Any, hdu: Any = None) -> FilePart:
    """Return a header's cards, and the columns of wavelengths of its HDU."""
    cards: dict[str, Any] = {}
    comments: dict[str, str] = {}
    for card in getattr(header, "cards", ()):
        cards.setdefault(card.keyword.upper(), card.value)
        comments.setdefault(card.keyword.upper(), card.comment)
    if not hasattr(header, "cards"):
        cards = {str(key).upper(): value for key, value in header.items()}
    names = [] if getattr(hdu, "columns", None) is None else hdu.columns.names
    if names and len(hdu.data) == 1:
        _add_place(hdu, cards, comments)
    ucds = {name: str(cards.get(f"TUCD{at}", "")).strip() for at, name in enumerate(names, 1)}
    waves = [
        WaveColumn(name, ucd, np.asarray(table_column(hdu, name)))
        for name, ucd in ucds.items()
        if _WAVES.search(name) or ucd.startswith("em.wl")
    ]
    return FilePart("" if hdu is None else hdu.name, cards, comments, waves)


def _add_place(hdu: Any, cards: dict[str, Any], comments: dict[str, str]) -> None:
    """Add the position in a table of one row, such as the object's, to the cards."""
    # 2dfdr writes radians without stating so.
    unstated = "rad" if hdu.name == "FIBRES" else "deg"
    for column in hdu.columns:
        name = column.name.upper()
        if not _PLACE.fullmatch(name) or name in cards:
            continue
        value = table_column(hdu, column.name)[0]
        if np.ndim(value) == 0 and value is not np.ma.masked:
            cards[name] = value
            comments[name] = f"[{column.unit or unstated}]"


def text_table(path: Path) -> Any:
    """Return the table in a text file; None if it is no table."""
    form = "ascii.ecsv" if path.suffix.lower() == ".ecsv" else "ascii"
    try:
        # Spreadsheets write a byte order mark.
        with get_readable_fileobj(str(path), encoding="utf-8-sig") as file:
            return Table.read(file.read().split("\n"), format=form)
    except (OSError, ValueError, TypeError):
        return None


def text_part(table: Any) -> FilePart:
    """Return a table of a text file as the one part of it."""
    waves = [
        WaveColumn(name, str(table[name].meta.get("ucd", "")), np.asarray(table[name]))
        for name in table.colnames
        if _WAVES.search(name)
    ]
    return FilePart("", {str(key).upper(): value for key, value in table.meta.items()}, {}, waves)
