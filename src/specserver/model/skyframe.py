"""Positions in tables and headers: usual names of columns, and the system where it is not ICRS."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

POSITION_COLUMNS: Final = (
    ("ra", "dec"), ("plug_ra", "plug_dec"), ("target_ra", "target_dec"), ("ra_icrs", "de_icrs"),
    ("raj2000", "dej2000"), ("raj2000", "decj2000"), ("_raj2000", "_dej2000"),
    ("ra_deg", "dec_deg"), ("radeg", "decdeg"), ("alpha_j2000", "delta_j2000"),
    ("ra_j2000", "dec_j2000"), ("ra_icrs", "dec_icrs"), ("ra_1", "dec_1"),
)  # fmt: skip
"""Usual names of the columns of right ascension and declination, in lower case and in the order of
the search. ICRS or equinox 2000, which differ by 0.02 arcsec."""
_J2000: Final = 2000.0
_FK5_FROM: Final = 1984.0
"""Earlier equinoxes are of FK4 if the header names no system (FITS, paper II)."""
# EPOCH meant the equinox once, and means the time of observation in other headers.
_EQUINOXES: Final = frozenset({1875.0, 1900.0, 1950.0, 1975.0, 2000.0})


@dataclass(frozen=True, slots=True)
class Frame:
    """A system of positions that is not ICRS."""

    system: str
    """FK4, FK5, or the name of an unknown system, such as that of apparent places."""
    equinox: float = _J2000
    """Besselian year for FK4, Julian year for FK5."""

    @property
    def label(self) -> str:
        """Usual name of the system, such as FK4 B1950."""
        letter = "B" if self.system == "FK4" else "J"
        return f"{self.system} {letter}{self.equinox:g}" if self.is_known else self.system

    @property
    def is_known(self) -> bool:
        """Whether its positions can be brought into ICRS."""
        return self.system in {"FK4", "FK5"}


def frame_of(cards: Mapping[str, Any]) -> Frame | None:
    """Return the system of a header's positions; None: ICRS.

    FK5 of J2000, which deviates by less than 0.03 arcsec, counts as ICRS.
    """
    system = str(cards.get("RADESYS") or cards.get("RADECSYS") or "").strip().upper()
    equinox = _equinox(cards)
    if system == "ICRS" or (not system and equinox is None):
        return None
    if system and system not in {"FK4", "FK4-NO-E", "FK5"}:
        return Frame(system)
    old = system.startswith("FK4") or (not system and equinox is not None and equinox < _FK5_FROM)
    year = equinox if equinox is not None else (1950.0 if old else _J2000)
    if not old and year == _J2000:
        return None
    return Frame("FK4" if old else "FK5", year)


def _equinox(cards: Mapping[str, Any]) -> float | None:
    """Return the equinox, years; None where the header states none."""
    stated = _year(cards.get("EQUINOX"))
    if stated is not None and stated > 0.0:
        return stated
    epoch = _year(cards.get("EPOCH"))
    return epoch if epoch in _EQUINOXES else None


def _year(value: object) -> float | None:
    """Return a year: a number, or text with or without its letter (B1950.0, J2000)."""
    try:
        return float(str(value).strip().lstrip("BJbj"))
    except ValueError:
        return None
