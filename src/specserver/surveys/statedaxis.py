"""The spectral axis that an image's header states: linear, logarithmic, or a table of IRAF's.

Three ways to say that steps are equal in the logarithm are in use, and only the first is in the
FITS standard: the type `WAVE-LOG`; DC-FLAG = 1 of IRAF, and LOGSCALE or LOGLAM, by which CRVAL1
and CDELT1 are common logarithms; COEFF0 and COEFF1, likewise.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadFile
from .statedunit import angstroms

_NONLINEAR: Final = re.compile(r"(WAVE|AWAV|FREQ|ENER|WAVN|VRAD|VOPT|VELO|BETA|ZOPT)-[A-Z0-9]{3}")
_LOG_WORD: Final = re.compile(r"\blog(?![a-z]*linear)|^log", re.IGNORECASE)
# log10 of Å: no wavelength, and no step of them, is in Å where it is that small.
_LOG10_AA: Final = (1.0, 8.0)
Numbers = npt.NDArray[np.float64]


def states_axis(cards: Mapping[str, Any]) -> bool:
    """Tell whether a header states a spectral axis along the first axis of its image."""
    has_step = any(_number(cards, name) for name in ("CDELT1", "CD1_1"))
    in_pixels = str(cards.get("CTYPE1", "")).strip().upper() in {"PIXEL", "PIXELS"}
    if in_pixels or _number(cards, "DC-FLAG") == -1.0:
        return False
    return (_number(cards, "CRVAL1") is not None and has_step) or (
        _number(cards, "COEFF0") is not None and bool(_number(cards, "COEFF1"))
    )


def is_logarithmic(cards: Mapping[str, Any]) -> bool:
    """Tell whether a header says that its axis counts common logarithms of wavelengths."""
    if _true(cards.get("LOGSCALE")) or _true(cards.get("LOGLAM")) or _true(cards.get("DC-FLAG")):
        return True
    label = f"{cards.get('CTYPE1', '')} "
    texts = (label, str(cards.get("CUNIT1", "")), *re.findall(r"wtype=(\S+)", _wat(cards, 1)))
    if any(_LOG_WORD.search(text) for text in texts if not _NONLINEAR.match(text.strip().upper())):
        return True
    if _number(cards, "CRVAL1") is None:
        return _number(cards, "COEFF0") is not None
    # Some write WAVE-LOG over common logarithms. In the standard's sense it would be of X-rays.
    start, unit = _number(cards, "CRVAL1") or 0.0, _unit(cards)
    kind = str(cards.get("CTYPE1", "")).strip().upper()
    in_aa = unit.strip().lower()[:3] in {"", "ang", "aa"}
    return kind.endswith("-LOG") and in_aa and _LOG10_AA[0] < start < _LOG10_AA[1]


def axis_of(cards: Mapping[str, Any], npix: int) -> Numbers:
    """Return the spectral axis along the first axis of an image, 1D[npix] float64, Å.

    Raises
    ------
    BadFile
        What the header states cannot be read as wavelengths.
    """
    kind = str(cards.get("CTYPE1", "")).strip().upper()
    if is_logarithmic(cards):
        exponent = _linear(cards, npix)
        if not (np.abs(exponent) < 30.0).all():
            raise BadFile("its header says log-linear wavelengths, but counts them in no logarithm")
        unit = re.sub(r"(?i)^\s*log(10)?", "", _unit(cards)).strip(" ()[]")
        return np.asarray(angstroms(10.0**exponent, unit or "Angstrom", "its spectral axis"))
    if _NONLINEAR.fullmatch(kind):
        return _standard(cards, npix)
    return np.asarray(angstroms(_linear(cards, npix), _unit(cards), "its spectral axis"))


def multispec_axes(cards: Mapping[str, Any], npix: int) -> list[Numbers]:
    """Return the axis of each row of an image in IRAF's multispec format, 1D[npix] float64, Å.

    Raises
    ------
    BadFile
        One is not linear, log-linear, or a sum of Chebyshev or Legendre polynomials.
    """
    words = dict(re.findall(r'(spec\d+)\s*=\s*"([^"]*)"', _wat(cards, 2)))
    count = max(int(cards.get("NAXIS2", 1)), 1)
    rows = [words.get(f"spec{row}") for row in range(1, count + 1)]
    if None in rows:
        raise BadFile(f"its header states the axes of {len(words)} of {count} rows (WAT2_nnn)")
    scale, shift = _number(cards, "LTM1_1") or 1.0, _number(cards, "LTV1") or 0.0
    pixels = (np.arange(1, npix + 1, dtype=np.float64) - shift) / scale
    unit = _unit(cards)
    return [
        np.asarray(angstroms(_multispec(str(row).split(), pixels), unit, "its spectral axis"))
        for row in rows
    ]


def _multispec(words: list[str], pixels: Numbers) -> Numbers:
    """Return the values of one row's axis: words as 'ap beam dtype w1 dw nw z aplow aphigh …'."""
    try:
        kind, start, step, redshift = int(words[2]), *(float(words[at]) for at in (3, 4, 6))
        if kind in {0, 1}:
            line = start + step * (pixels - 1)
            return (10.0**line if kind else line) / (1 + redshift)
        if kind != 2:
            raise BadFile("a row of it has no wavelengths (dtype −1)")
        numbers = [float(one) for one in words[9:]]
    except (ValueError, IndexError) as error:
        raise BadFile(f"its WAT2_nnn cannot be read ({error})") from error
    total = np.zeros(len(pixels))
    while numbers:
        weight, zero, form, order = *numbers[:2], int(numbers[2]), int(numbers[3])
        if form not in {1, 2} or len(numbers) < 6 + order:
            raise BadFile(f"its WAT2_nnn has functions of type {form}; 1 and 2 can be read")
        low, high, coefficients = *numbers[4:6], numbers[6 : 6 + order]
        at = (2 * pixels - (high + low)) / (high - low)
        function = np.polynomial.chebyshev.chebval if form == 1 else np.polynomial.legendre.legval
        total += weight * (zero + function(at, coefficients))
        numbers = numbers[6 + order :]
    return np.asarray(total / (1 + redshift), np.float64)


def _linear(cards: Mapping[str, Any], npix: int) -> Numbers:
    """Return what the header counts along the first axis, 1D[npix]."""
    start = _number(cards, "CRVAL1")
    if start is None:
        start, step, pixel = _number(cards, "COEFF0"), _number(cards, "COEFF1"), 1.0
    else:
        step = _number(cards, "CD1_1") or _number(cards, "CDELT1") or 0.0
        first = _number(cards, "CRPIX1")
        # IRAF and the standard count pixels from 1; the standard's default of CRPIX1 is 0.
        pixel = 1.0 if first is None else first
    assert start is not None
    assert step is not None
    return np.asarray(start + step * (np.arange(1, npix + 1) - pixel), np.float64)


def _standard(cards: Mapping[str, Any], npix: int) -> Numbers:
    """Return an axis with one of the standard's algorithms, such as WAVE-LOG, read by wcslib."""
    from astropy import units as u  # noqa: PLC0415  # slow to import, and only this needs it
    from astropy.wcs import WCS  # noqa: PLC0415

    wcs = WCS(naxis=1)
    try:
        wcs.wcs.ctype = [str(cards["CTYPE1"]).strip()]
        wcs.wcs.cunit = [_unit(cards).rstrip("s") if _unit(cards) else "m"]
        wcs.wcs.crval = [_number(cards, "CRVAL1") or 0.0]
        wcs.wcs.crpix = [_number(cards, "CRPIX1") or 0.0]
        wcs.wcs.cdelt = [_number(cards, "CD1_1") or _number(cards, "CDELT1") or 0.0]
        for name, attribute in (("RESTWAV", "restwav"), ("RESTFRQ", "restfrq")):
            if value := _number(cards, name):
                setattr(wcs.wcs, attribute, value)
        wcs.wcs.set()
        (values,) = wcs.all_pix2world(np.arange(1, npix + 1), 1)
        return np.asarray(u.Quantity(values, wcs.wcs.cunit[0]).to_value(u.AA, u.spectral()))
    except Exception as error:  # wcslib has errors of many classes
        raise BadFile(f"its axis of the type {cards['CTYPE1']} cannot be read: {error}") from error


def _unit(cards: Mapping[str, Any]) -> str:
    """Return the unit of the first axis as the header writes it; empty where it does not say."""
    unit = str(cards.get("CUNIT1") or "").strip()
    words = re.search(r"units=(\"[^\"]*\"|\S+)", _wat(cards, 1))
    return unit or (words[1].strip('"') if words else "")


def _wat(cards: Mapping[str, Any], axis: int) -> str:
    """Return IRAF's attributes of an axis: its cards of 68 characters joined."""
    names = sorted(name for name in cards if re.fullmatch(rf"WAT{axis}_\d{{3}}", name))
    # A blank at the end of a card is a part of the text, and is lost in reading it.
    return "".join(f"{cards[name]!s:68s}" for name in names)


def _number(cards: Mapping[str, Any], name: str) -> float | None:
    """Return the number of a card; None where there is none."""
    value = cards.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _true(value: object) -> bool:
    """Tell whether a card says yes: T, 1, 'T', 'yes'."""
    return value == 1 or str(value).strip().lower() in {"t", "true", "yes", "y"}
