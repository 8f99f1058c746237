"""What a spectrum's file says besides its values: the cards of its parts, and its wave columns.

A reader of specutils hands on one header at most; air, equinox and unit may stand in another.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

_WAVES: Final = re.compile(r"wave|lambda|lam|(?<![a-z])wl(?![a-z])|awav", re.IGNORECASE)
_TEXTS: Final = frozenset({".csv", ".txt", ".dat", ".ascii", ".asc"})


@dataclass(frozen=True, slots=True)
class WaveColumn:
    """A column of a file's table that may hold its wavelengths."""

    name: str
    ucd: str
    values: npt.NDArray[Any]
    """Its numbers, of any shape."""


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file with cards of its own: an HDU, or the whole of a text file."""

    name: str
    cards: Mapping[str, Any]
    """Cards by keyword in capitals; of a repeated one the first."""
    waves: Sequence[WaveColumn] = field(default=())


def read_parts(path: Path) -> list[FilePart]:
    """Return the parts of a file, in its order; none where it is neither FITS nor a text table."""
    if path.suffix.lower() == ".ecsv" or path.suffix.lower() in _TEXTS:
        return _text_parts(path)
    from astropy.io import fits  # noqa: PLC0415  # slow to import, and only this needs it

    try:
        with fits.open(path, memmap=False) as hdus:
            return [_fits_part(hdu) for hdu in hdus]
    except OSError:
        return []


def _fits_part(hdu: Any) -> FilePart:
    """Return an HDU's cards and columns of wavelengths."""
    cards: dict[str, Any] = {}
    for card in hdu.header.cards:
        cards.setdefault(card.keyword.upper(), card.value)
    names = [] if getattr(hdu, "columns", None) is None else hdu.columns.names
    ucds = {name: str(cards.get(f"TUCD{at}", "")).strip() for at, name in enumerate(names, 1)}
    waves = [
        WaveColumn(name, ucd, np.asarray(hdu.data[name]))
        for name, ucd in ucds.items()
        if _WAVES.search(name) or ucd.startswith("em.wl")
    ]
    return FilePart(hdu.name, cards, waves)


def _text_parts(path: Path) -> list[FilePart]:
    """Return the one part that a table in a text file is."""
    from astropy.table import Table  # noqa: PLC0415

    form = "ascii.ecsv" if path.suffix.lower() == ".ecsv" else "ascii"
    try:
        table = Table.read(path, format=form)
    except (OSError, ValueError):
        return []
    waves = [
        WaveColumn(name, str(table[name].meta.get("ucd", "")), np.asarray(table[name]))
        for name in table.colnames
        if _WAVES.search(name)
    ]
    return [FilePart("", {str(key).upper(): one for key, one in table.meta.items()}, waves)]
