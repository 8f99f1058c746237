"""The position in the name of an object, such as SDSS J121903.98+152608.5.

It is never used as the position of a spectrum. If the two are far apart, one of them is wrong.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from ..model.sphere import separation_deg
from ..model.survey import Remark
from .fileparts import FilePart

_CARDS: Final = ("OBJECT", "OBJNAME", "TARGNAME", "TARGET", "DESIG", "OBJID")
_NAME: Final = re.compile(
    r"(?:J|(?<![0-9A-Z])2M)(\d\d)(\d\d)(\d\d)\.?(\d*)([+-])(\d\d)(\d\d)(\d\d)\.?(\d*)(?![\d.])"
)
"""Names of J2000 with seconds: a name without seconds is too coarse for a comparison."""
_FAR_ARCMIN: Final = 1.0
"""Names are truncated, in the worst case to a second of time, which is a quarter of this."""
_FAR: Final = (
    f"the name of the object holds a position over {_FAR_ARCMIN:g}′ from that of the spectrum,"
    " which is the one stored: look which is right (--catalog gives another)"
)


@dataclass(frozen=True, slots=True)
class NamedPosition:
    """A position from a name: ICRS, as accurate as the name."""

    name: str
    ra_deg: float
    dec_deg: float


def named_position(parts: Sequence[FilePart]) -> NamedPosition | None:
    """Return the position from the first name that has one, the spectrum's own header first."""
    for cards, card in product((part.cards for part in parts), _CARDS):
        name = str(cards.get(card, "")).strip()
        match = _NAME.search(name.upper())
        if match is None:
            continue
        hours, minutes, seconds = _sexagesimal(match.groups()[:4])
        degrees, arcmin, arcsec = _sexagesimal(match.groups()[5:])
        if max(minutes, seconds, arcmin, arcsec) >= 60.0:
            continue
        ra = 15.0 * (hours + minutes / 60.0 + seconds / 3600.0)
        dec = degrees + arcmin / 60.0 + arcsec / 3600.0
        if ra < 360.0 and dec <= 90.0:
            return NamedPosition(name, ra, -dec if match[5] == "-" else dec)
    return None


def far_from_name(named: NamedPosition | None, ra_deg: float, dec_deg: float) -> tuple[Remark, ...]:
    """Return a remark if a stored position (NaN: none) is far from the one in the object's name."""
    if named is None:
        return ()
    apart = 60.0 * float(separation_deg(named.ra_deg, named.dec_deg, ra_deg, dec_deg))
    if not apart > _FAR_ARCMIN:
        return ()
    return (Remark(_FAR, f"{named.name}: {apart:.1f}′ from {ra_deg:.5f} {dec_deg:+.5f}"),)


def _sexagesimal(texts: Sequence[str]) -> tuple[float, float, float]:
    """Return three numbers; the last one includes its decimals."""
    first, second, third, decimals = texts
    return float(first), float(second), float(f"{third}.{decimals}")
