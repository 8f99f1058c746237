"""How the catalogue values of one spectrum differ between two files that hold it.

Archives deliver one spectrum in several files, such as lite and full. A value that only one of the
files has is not a difference.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite, isnan
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..catalog.index.build import read_rows
from ..catalog.segment_rows import plain_value
from ..data.context import SegmentFolder
from ..model.survey import RawSpectrum, Survey

_SHOWN: Final = 3
"""Number of columns that a reason names."""
_LONGEST: Final = 40
"""Number of characters of a value that a reason shows."""
Row = Mapping[str, Any]
"""The known catalogue values by column; float32 values are NumPy scalars."""
Place = tuple[int, int | None]
"""Identifier and key of a spectrum."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How the row of a file differs from the row that is kept."""

    columns: tuple[str, ...]
    """Columns with a different value in each row; the survey's own columns come first."""
    shown: str
    """The first of them with both values."""
    besides: tuple[str, ...]
    """Columns that only one of the rows has."""
    anew: bool
    """The file has a value that the kept row does not have."""

    def reason(self, other: str, advice: str) -> str:
        """Return what became of the row, if the row of the file ``other`` is kept."""
        if self.columns:
            count = len(self.columns)
            some = f"{count:,} catalogue values differ"
            if count == 1:
                some = "1 catalogue value differs"
            return f"the vectors are the same, {some}; what {other} gives is kept; {advice}"
        if self.besides:
            more = len(self.besides) - _SHOWN
            names = ", ".join(self.besides[:_SHOWN]) + f" and {more:,} more" * (more > 0)
            return f"the same values are stored, besides those that only one file has: {names}"
        return "the same values are stored"


def compare(survey: Survey, given: Row, kept: Row) -> Difference:
    """Return how the row of a file differs from the row that is kept."""
    core = [column.name for column in survey.columns]
    names = [name for name in dict.fromkeys((*core, *given)) if name in given]
    other = [name for name in names if name not in kept or not _alike(given[name], kept[name])]
    columns = [name for name in other if name in kept]
    besides = [name for name in other if name not in kept]
    besides += [name for name in kept if name not in given]
    values = [f"{name} {_text(kept[name])} → {_text(given[name])}" for name in columns[:_SHOWN]]
    return Difference(
        tuple(columns),
        ", ".join(values) + ", …" * (len(columns) > _SHOWN),
        tuple(besides),
        anew=bool(other),
    )


def row_of(spectrum: RawSpectrum) -> Row:
    """Return the catalogue values of a spectrum that was read."""
    row = {name: value for name, value in spectrum.row.items() if value is not None}
    for name, value in (("ra", spectrum.ra_deg), ("dec", spectrum.dec_deg)):
        row.pop(name, None)
        if isfinite(value):
            row[name] = value
    return row


def stored_row(segment: SegmentFolder, row: int) -> Row:
    """Return the catalogue values of a spectrum of a segment."""
    found = {}
    for name, values, is_float32 in _columns(segment):
        value = values[row].as_py()
        if value is not None:
            found[name] = np.float32(value) if is_float32 else value
    return found


class PartRows:
    """Catalogue rows of the spectra of a part: in memory, or in the segments that it wrote."""

    def __init__(self, survey: Survey) -> None:
        self.survey = survey
        self._held: dict[Place, RawSpectrum] = {}
        self._written: dict[Place, tuple[SegmentFolder, int]] = {}

    def hold(self, spectra: Sequence[RawSpectrum]) -> None:
        """Add spectra that are held in memory until `let_go`."""
        self._held.update(((spectrum.id, spectrum.key), spectrum) for spectrum in spectra)

    def let_go(self) -> None:
        """Remove the spectra in memory: their segments are written."""
        self._held.clear()

    def write(self, segment: SegmentFolder, spectra: Sequence[RawSpectrum]) -> None:
        """Add a segment that was written, of spectra in its order."""
        for row, spectrum in enumerate(spectra):
            self._written[spectrum.id, spectrum.key] = segment, row

    def of(self, place: Place) -> Row:
        """Return the row of a spectrum by its identifier and key."""
        held = self._held.get(place)
        return stored_row(*self._written[place]) if held is None else row_of(held)


@lru_cache(maxsize=32)
def _columns(segment: SegmentFolder) -> list[tuple[str, pa.Array, bool]]:
    """Return name, values and whether it is float32, for each catalogue column of a segment."""
    table = read_rows(segment).combine_chunks()
    names = [name for name in table.column_names if not name.startswith("_")]
    # Reading a value from a chunk takes a fifth of the time of a ChunkedArray.
    columns = [(name, table.column(name).chunk(0)) for name in names]
    return [(name, values, pa.types.is_float32(values.type)) for name, values in columns]


def _alike(given: Any, kept: Any) -> bool:
    """Return whether a value, once stored, equals the kept one."""
    told, plain = plain_value(given), plain_value(kept)
    if told == plain:
        return True
    if isinstance(told, str) or isinstance(plain, str):
        return str(told) == str(plain)
    if isinstance(kept, np.float32):
        with np.errstate(over="ignore"):
            told = np.float32(told).item()
    return told == plain or all(
        isinstance(number, float) and isnan(number) for number in (told, plain)
    )


def _text(value: Any) -> str:
    """Return a value as a reason shows it."""
    text = repr(str(value)) if isinstance(value, str) else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
