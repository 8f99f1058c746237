"""The spectral axis that an image's header states: linear, logarithmic, or a table of IRAF's.

Headers state in three ways that steps are equal in the logarithm, and only the first is in the
FITS standard: the type `WAVE-LOG`; IRAF's DC-FLAG = 1, or LOGSCALE or LOGLAM: CRVAL1 and CDELT1
are common logarithms; COEFF0 and COEFF1, which are common logarithms too.

CTYPE1 states the quantity of an axis. Without CUNIT1, frequencies are in Hz and energies in J, as
in the standard, and wavenumbers are refused, because many are in 1/cm. Velocities are always
refused.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy import units as u
from astropy.wcs import WCS

from ..errors import BadFile
from .statedunit import angstroms, wave_unit

_NONLINEAR: Final = re.compile(r"(WAVE|AWAV|FREQ|ENER|WAVN|VRAD|VOPT|VELO|BETA|ZOPT)-[A-Z0-9]{3}")
_LOG_WORD: Final = re.compile(r"\blog(?![a-z]*linear)|^log", re.IGNORECASE)
# log10 of Å: no wavelength of WAVE-LOG is in Å where it is that small.
_LOG10_AA: Final = (2.0, 5.5)
_OTHER: Final = re.compile(
    r"VELO|FELO|VRAD|VOPT|ZOPT|BETA|TIME|UTC|TAI|MJD|PHASE|STOKES|RA--|DEC-|[GEHS]L(?:ON|AT)"
)
"""Types of axes that cannot be converted to wavelengths."""
_QUANTITIES: Final = (("FREQ", "Hz"), ("ENER", "J"), ("WAVEN", "1/m"), ("WAVN", "1/m"))
_PLAUSIBLE_AA: Final = (100.0, 1e8)
"""Range of plausible wavelengths, Å; checked if a header gives no unit, or has WAVE-LOG."""
Numbers = npt.NDArray[np.float64]


def states_axis(cards: Mapping[str, Any]) -> bool:
    """Return whether a header states a spectral axis along the first axis of its image."""
    has_step = any(_number(cards, name) for name in ("CDELT1", "CD1_1"))
    in_pixels = str(cards.get("CTYPE1", "")).strip().upper() in {"PIXEL", "PIXELS"}
    if in_pixels or _number(cards, "DC-FLAG") == -1.0:
        return False
    return (_number(cards, "CRVAL1") is not None and has_step) or (
        _number(cards, "COEFF0") is not None and bool(_number(cards, "COEFF1"))
    )


def is_logarithmic(cards: Mapping[str, Any]) -> bool:
    """Return whether a header states that its axis counts log10 of wavelengths."""
    if _true(cards.get("LOGSCALE")) or _true(cards.get("LOGLAM")) or _true(cards.get("DC-FLAG")):
        return True
    label = f"{cards.get('CTYPE1', '')} "
    texts = (label, str(cards.get("CUNIT1", "")), *re.findall(r"wtype=(\S+)", _wat(cards, 1)))
    if any(_LOG_WORD.search(text) for text in texts if not _NONLINEAR.match(text.strip().upper())):
        return True
    if _number(cards, "CRVAL1") is None:
        return _number(cards, "COEFF0") is not None
    # Some headers have WAVE-LOG and values in log10. By the standard these would be X-rays.
    start, unit = _number(cards, "CRVAL1") or 0.0, axis_unit(cards)
    kind = str(cards.get("CTYPE1", "")).strip().upper()
    in_aa = unit.strip().lower()[:3] in {"", "ang", "aa"}
    return kind.endswith("-LOG") and in_aa and _LOG10_AA[0] < start < _LOG10_AA[1]


def axis_of(cards: Mapping[str, Any], npix: int) -> Numbers:
    """Return the spectral axis along the first axis of an image, 1D[npix] float64, Å.

    Raises
    ------
    BadFile
        The axis that the header states cannot be read as wavelengths.
    """
    kind = str(cards.get("CTYPE1", "")).strip().upper()
    _require_wavelengths(cards, kind)
    if is_logarithmic(cards):
        exponent = _linear(cards, npix)
        if not (np.abs(exponent) < 30.0).all():
            raise BadFile("its header says log-linear wavelengths, but counts them in no logarithm")
        unit = re.sub(r"(?i)^\s*log(10)?", "", axis_unit(cards)).strip(" ()[]")
        return np.asarray(angstroms(10.0**exponent, unit or "Angstrom", "its spectral axis"))
    if _NONLINEAR.fullmatch(kind):
        return _standard(cards, kind, npix)
    counted = _linear(cards, npix)
    if unit := _default_unit(cards, kind):
        with np.errstate(divide="ignore"):
            return _plausible(angstroms(counted, unit, "its spectral axis"), kind)
    return np.asarray(angstroms(counted, axis_unit(cards), "its spectral axis"))


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
    unit = axis_unit(cards)
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
        numbers = [float(word) for word in words[9:]]
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
    """Return the values that the header states along the first axis, 1D[npix]."""
    start = _number(cards, "CRVAL1")
    if start is None:
        start, step, pixel = _number(cards, "COEFF0"), _number(cards, "COEFF1"), 1.0
    else:
        step = _step(cards)
        first = _number(cards, "CRPIX1")
        # IRAF and the standard count pixels from 1; the standard's default of CRPIX1 is 0.
        pixel = 1.0 if first is None else first
    assert start is not None
    assert step is not None
    return np.asarray(start + step * (np.arange(1, npix + 1) - pixel), np.float64)


def _step(cards: Mapping[str, Any]) -> float:
    """Return the step along the first axis: CD1_1, or else CDELT1 · PC1_1.

    Raise `BadFile` if they differ, or if wavelengths change along other axes too.
    """
    for name in cards:
        if re.fullmatch(r"(?:PC|CD)1_[2-9]", name) and _number(cards, name):
            raise BadFile(
                f"its wavelengths change along other axes of the image too ({name} ="
                f" {cards[name]}); only images with wavelengths along the first axis can be read"
            )
    scale, step = _number(cards, "PC1_1"), _number(cards, "CDELT1")
    scaled = (1.0 if step is None else step) * (1.0 if scale is None else scale)
    matrix = _number(cards, "CD1_1")
    if not matrix:
        return scaled
    if scale not in {None, 1.0} and not np.isclose(matrix, scaled, rtol=1e-9, atol=0):
        raise BadFile(
            f"its header states two steps: CD1_1 = {matrix}, and CDELT1 · PC1_1 = {scaled}; the"
            " standard allows one of them"
        )
    return matrix


def _require_wavelengths(cards: Mapping[str, Any], kind: str) -> None:
    """Refuse an axis that counts something else, or whose type and unit contradict each other."""
    if _OTHER.match(kind):
        raise BadFile(
            f"its axis is of the type {kind} (CTYPE1), which are no wavelengths, frequencies or"
            " energies; write it as wavelengths first"
        )
    unit = wave_unit(axis_unit(cards)) if axis_unit(cards) else None
    stated = _quantity_unit(kind)
    if stated and unit is not None and not unit.is_equivalent(u.Unit(stated)):
        raise BadFile(
            f"its axis is of the type {kind} (CTYPE1), but in {axis_unit(cards)!r} (CUNIT1): one of"
            " them is wrong"
        )


def _quantity_unit(kind: str) -> str:
    """Return the standard's unit of a type of axis; empty: it is of wavelengths."""
    return next((unit for start, unit in _QUANTITIES if kind.startswith(start)), "")


def _default_unit(cards: Mapping[str, Any], kind: str) -> str:
    """Return the standard's unit of an axis without one; empty: it has one, or is of wavelengths.

    Wavenumbers without a unit raise `BadFile`: too many of them are in 1/cm.
    """
    unit = _quantity_unit(kind)
    if axis_unit(cards) or not unit:
        return ""
    if unit == "1/m":
        raise BadFile(
            f"its axis is of the type {kind} (CTYPE1) and has no unit (CUNIT1), and may be in 1/m"
            " or 1/cm: say --wave-unit 1/m or 1/cm"
        )
    return unit


def _plausible(wave: Any, kind: str) -> Numbers:
    """Return wavelengths, 1D[npix] float64, Å, having refused implausible ones."""
    least, most = _PLAUSIBLE_AA
    if not ((wave > least) & (wave < most)).all():
        raise BadFile(
            f"its axis of the type {kind} (CTYPE1) would reach from {wave[0]:g} to {wave[-1]:g} Å:"
            " its unit (CUNIT1) is missing or wrong, or it counts logarithms in another way; where"
            " it has no unit, say --wave-unit Angstrom, nm, Hz, …"
        )
    return np.asarray(wave, np.float64)


def _standard(cards: Mapping[str, Any], kind: str, npix: int) -> Numbers:
    """Return an axis with one of the standard's algorithms, such as WAVE-LOG, read by wcslib."""
    wcs = WCS(naxis=1)
    default, step = _default_unit(cards, kind), _step(cards)
    try:
        wcs.wcs.ctype = [kind]
        wcs.wcs.cunit = [axis_unit(cards).rstrip("s") if axis_unit(cards) else default or "m"]
        wcs.wcs.crval = [_number(cards, "CRVAL1") or 0.0]
        wcs.wcs.crpix = [_number(cards, "CRPIX1") or 0.0]
        wcs.wcs.cdelt = [step]
        for name, attribute in (("RESTWAV", "restwav"), ("RESTFRQ", "restfrq")):
            if value := _number(cards, name):
                setattr(wcs.wcs, attribute, value)
        wcs.wcs.set()
        (values,) = wcs.all_pix2world(np.arange(1, npix + 1), 1)
        wave = u.Quantity(values, wcs.wcs.cunit[0]).to_value(u.AA, u.spectral())
    except Exception as error:  # wcslib raises errors of many classes
        raise BadFile(f"its axis of the type {kind} cannot be read: {error}") from error
    # Values that are logarithms, under a type that ends in LOG, give X-rays or metres.
    return _plausible(wave, kind) if default or kind.endswith("-LOG") else np.asarray(wave)


def axis_unit(cards: Mapping[str, Any]) -> str:
    """Return the unit of the first axis as the header writes it; empty: none."""
    unit = str(cards.get("CUNIT1") or "").strip()
    words = re.search(r"units=(\"[^\"]*\"|\S+)", _wat(cards, 1))
    return unit or (words[1].strip('"') if words else "")


def _wat(cards: Mapping[str, Any], axis: int) -> str:
    """Return IRAF's attributes of an axis: its cards of 68 characters joined."""
    names = sorted(name for name in cards if re.fullmatch(rf"WAT{axis}_\d{{3}}", name))
    # A blank at the end of a card belongs to the text; reading the card loses it.
    return "".join(f"{cards[name]!s:68s}" for name in names)


def _number(cards: Mapping[str, Any], name: str) -> float | None:
    """Return the number of a card; None where there is none."""
    value = cards.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _true(value: object) -> bool:
    """Return whether a card is true: T, 1, 'T' or 'yes'."""
    return value == 1 or str(value).strip().lower() in {"t", "true", "yes", "y"}
