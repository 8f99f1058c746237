"""The medium of wavelengths: vacuum, air, or not known."""

from typing import Final, Literal

Medium = Literal["vacuum", "air", "unknown"]

VACUUM: Final = "vacuum"
AIR: Final = "air"
UNKNOWN: Final = "unknown"
MEDIA: Final[tuple[Medium, ...]] = (VACUUM, AIR, UNKNOWN)

MEDIUM_COLUMN: Final = "medium"
"""Catalogue column (text, one of `MEDIA`) of surveys whose spectra differ in their medium."""
