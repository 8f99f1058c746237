"""The position that the headers of a spectrum's file state, in ICRS; the object's comes first.

If headers state only the pointing of the telescope, this is returned and marked as a pointing.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any, Final

import numpy as np
from astropy import units as u
from astropy.coordinates import FK4, FK5, Angle, SkyCoord
from astropy.time import Time

from ..model.skyframe import Frame, frame_of
from .fileparts import FilePart

# Keywords of the object's own position.
_OBJECT: Final = (
    ("PLUG_RA", "PLUG_DEC"), ("RAOBJ", "DECOBJ"), ("OBJRA", "OBJDEC"), ("OBJ_RA", "OBJ_DEC"),
    ("RA_OBJ", "DEC_OBJ"), ("OBJCTRA", "OBJCTDEC"), ("RA_TARG", "DEC_TARG"),
    ("TARG_RA", "TARG_DEC"), ("TARGET_RA", "TARGET_DEC"), ("RAJ2000", "DEJ2000"),
    ("RAJ2000", "DECJ2000"),
)  # fmt: skip
# Keywords of any position; a comment may state that it is the telescope's.
_PLAIN: Final = (("RA", "DEC"), ("RA_DEG", "DEC_DEG"), ("RADEG", "DECDEG"))
_POINTING: Final = (
    ("OBSRA", "OBSDEC"), ("TELRA", "TELDEC"), ("RA_TEL", "DEC_TEL"), ("TEL_RA", "TEL_DEC"),
    ("CRVAL_RA", "CRVAL_DEC"), ("RA_PNT", "DEC_PNT"), ("MEANRA", "MEANDEC"),
)  # fmt: skip
_TELESCOPE: Final = re.compile(r"telescope|bore-?sig|pointing|plate cent|field cent", re.IGNORECASE)
_HOURS: Final = re.compile(r"\[\s*(?:h|hr|hrs|hours?|hourangle)\s*\]|\bhours\b", re.IGNORECASE)
_RADIANS: Final = re.compile(r"\[\s*rad(?:ians?)?\s*\]|\bradians\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Position:
    """A position on the sky."""

    ra_deg: float = nan
    dec_deg: float = nan
    """ICRS; NaN: none."""
    is_pointing: bool = False
    """It may not be the object's: it is the telescope's, or its system is not known."""


def position_of(parts: Sequence[FilePart]) -> Position:
    """Return the position that headers state; the spectrum's own header is the first part."""
    pointing = Position()
    for names, is_object in ((_OBJECT, True), (_PLAIN, True), (_POINTING, False)):
        for part in parts:
            for first, second in names:
                position = _stated(part, first, second)
                if position is None:
                    continue
                # RADEG of SDSS is the centre of a plate, while RA says in its comment what
                # it is; so a pointing is passed over as long as something else may follow.
                if is_object and not position.is_pointing:
                    return position
                if not isfinite(pointing.ra_deg):
                    pointing = Position(position.ra_deg, position.dec_deg, is_pointing=True)
    return pointing


def _stated(part: FilePart, first: str, second: str) -> Position | None:
    """Return the position in two cards; None: none."""
    cards = part.cards
    comment = f"{part.comments.get(first, '')} {part.comments.get(second, '')}"
    ra, dec = degrees(cards.get(first), hours=True), degrees(cards.get(second))
    if not isinstance(cards.get(first), str) and _HOURS.search(part.comments.get(first, "")):
        ra *= 15.0
    if _RADIANS.search(comment):
        ra, dec = np.degrees(ra), np.degrees(dec)
    if not (0.0 <= ra <= 360.0 and -90.0 <= dec <= 90.0):
        return None
    frame = None if "2000" in first else frame_of(cards)
    is_pointing = bool(_TELESCOPE.search(comment)) or not (frame is None or frame.is_known)
    # The plate's centre; its comment does not always state this.
    is_pointing |= first == "RADEG" and "PLATEID" in cards
    ra, dec = to_icrs(ra % 360.0, dec, frame)
    return Position(ra, dec, is_pointing)


def to_icrs(ra_deg: Any, dec_deg: Any, frame: Frame | None) -> tuple[Any, Any]:
    """Return positions in ICRS, degrees: numbers or arrays, as given.

    Positions in ICRS or in an unknown system are unchanged.
    """
    if frame is None or not frame.is_known:
        return ra_deg, dec_deg
    kind, form = (FK4, "byear") if frame.system == "FK4" else (FK5, "jyear")
    system = kind(equinox=Time(frame.equinox, format=form))
    sky = SkyCoord(ra_deg * u.deg, dec_deg * u.deg, frame=system).icrs
    if np.ndim(ra_deg):
        return sky.ra.deg, sky.dec.deg
    return float(sky.ra.deg), float(sky.dec.deg)


def degrees(value: object, *, hours: bool = False) -> float:
    """Return an angle, degrees: a number in degrees, or text in degrees or sexagesimal.

    Sexagesimal text counts ``hours`` or degrees; anything else is NaN.
    """
    if isinstance(value, int | float | np.number) and not isinstance(value, bool):
        return float(value)
    text = str(value or "").strip()
    try:
        return float(text)
    except ValueError:
        pass
    try:
        return float(Angle(text, u.hourangle if hours else u.deg).value) * (15.0 if hours else 1.0)
    except (ValueError, TypeError, u.UnitsError):
        return nan
