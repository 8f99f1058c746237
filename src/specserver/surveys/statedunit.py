"""Units in the spellings of real headers, as units of astropy.

Archives write `1E-17 erg/cm^2/s/Ang`, `ergs/sec/cm**2/Angstroms`, `Flux (10^-17 erg/s/cm^2/Ang)`.
A spelling is corrected only if it has one possible meaning: `A` in a unit of flux stays an ampere,
and the operator has to state the unit.
"""

import re
import warnings
from functools import partial
from pathlib import Path
from typing import Any, Final

from astropy import units as u

from ..errors import BadFile, BadParameter
from ..model.survey import Remark

_WORDS: Final = {
    "ang": "Angstrom", "angs": "Angstrom", "angst": "Angstrom", "angstrom": "Angstrom",
    "angstroms": "Angstrom", "angstroem": "Angstrom", "aa": "Angstrom", "ergs": "erg", "erg": "erg",
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "counts": "ct", "count": "ct",
    "cts": "ct", "electrons": "electron", "photons": "photon", "pixel": "pix", "pixels": "pix",
    "adu": "adu", "microns": "um", "micron": "um", "micrometer": "um", "micrometers": "um",
    "nanometer": "nm", "nanometers": "nm", "nanometre": "nm", "nanometres": "nm",
    "microjy": "uJy", "microjansky": "uJy", "jansky": "Jy", "janskys": "Jy", "jy": "Jy",
    "mjy": "mJy", "watt": "W", "watts": "W", "hz": "Hz",
}  # fmt: skip
# Words whose case distinguishes units: only these spellings are accepted.
_EXACT: Final = frozenset({"MJy"})
_FORMATS: Final = (None, "fits", "ogip", "vounit", "cds")
_EXAMPLE: Final = "'1e-17 erg / (s cm2 Angstrom)'"
_PURE: Final = frozenset({"dimensionless", "dimensionless_unit", "unitless", "none", "normalized"})
_WAVE_UNITS: Final = {"a": "Angstrom", "å": "Angstrom", "inverse cm": "1/cm", "cm-1": "1/cm"}
_TITLE: Final = re.compile(r"[A-Za-z ]+\((.*)\)")
"""A title around a unit: 'Flux (10^-17 erg/s/cm^2/Ang)'."""
_LONGEST_WAVE: Final = 1 * u.m
"""Longer units of length, such as the parsec, are of distances."""
_NO_FLUX: Final = ("length", "time", "angle", "solid angle", "mass", "speed", "area")
_LOG: Final = re.compile(r"\s*(?:log(?:10)?|dex)(?![a-z])(.*)", re.IGNORECASE)
_PLAIN_AA: Final = (100.0, 3000.0)
"""Wavelengths without a unit that begin above the one and reach beyond the other are Å: neither
numbers of pixels nor nm or µm do so."""


def flux_unit(text: str) -> Any:
    """Return the unit of a text such as BUNIT; None: it cannot be read. Empty is a pure number."""
    plain = text.strip().strip("[]").strip()
    # In a text of capitals 'S' is the second.
    plain = plain.lower() if "ERG" in plain and plain.isupper() else plain
    if not plain or plain.lower() in _PURE:
        return u.dimensionless_unscaled
    inner = _TITLE.fullmatch(plain)
    for spelling in (plain, inner.group(1) if inner else plain):
        unit = _parsed(spelling) or _parsed(_spelt(spelling))
        if unit is not None:
            return unit
    return None


def wave_unit(text: str) -> Any:
    """Return the unit of a spectral axis; None: it cannot be read, or is of another quantity."""
    plain = " ".join(text.split())
    title = None if log_unit(plain) is not None else _TITLE.fullmatch(plain)
    plain = (title[1] if title else plain).strip("[]()")
    unit = _parsed(_WAVE_UNITS.get(plain.lower(), plain)) or _parsed(_spelt(plain))
    if unit is None or not unit.is_equivalent(u.AA, u.spectral()):
        return None
    return None if unit.is_equivalent(u.m) and 1 * unit > _LONGEST_WAVE else unit


def unit_not_used(stated: str, given: str) -> tuple[Remark, ...]:
    """Return the remark that a file states another unit of wavelengths than the operator gives."""
    units = wave_unit(stated), wave_unit(given)
    if not stated.strip() or not given or stated == given or (units[0] and units[0] == units[1]):
        return ()
    return (
        Remark(
            f"the file states wavelengths in {stated}, which is used: --wave-unit {given} is for"
            " files that state none"
        ),
    )


def log_unit(text: str) -> str | None:
    """Return the unit inside a common logarithm, such as log10(Angstrom); None: it is none."""
    found = _LOG.fullmatch(text)
    return None if found is None else found[1].strip(" ()[]")


def is_flux_unit(text: str) -> bool:
    """Return whether a unit is of flux density or of counts."""
    unit = flux_unit(text) if text.strip() else None
    if unit is None:
        return False
    counts = (u.ct, u.adu, u.electron, u.ct / u.s, u.adu / u.s, u.electron / u.s)
    dense = unit.is_equivalent(u.Jy, u.spectral_density(5000.0 * u.AA))
    return dense or any(unit.is_equivalent(count) for count in counts)


def angstroms(values: Any, stated: str, what: str) -> Any:
    """Return wavelengths in Å, 1D[npix] float64; wavelengths in Å are unchanged, bit for bit.

    Parameters
    ----------
    values : 1D[npix] float64, as the file has them
    stated : their unit as the file has it, which may be a logarithm's; empty: none
    what : name of the axis in messages

    Raises
    ------
    BadFile
        The unit is not of wavelength, frequency or energy, or is missing and ambiguous.
    """
    if (inner := log_unit(stated)) is not None:
        values, stated = 10.0**values, inner or "Angstrom"
    if not stated.strip():
        least, reach = _PLAIN_AA
        if not values.size or not (values.min() > least and values.max() > reach):
            raise BadFile(
                f"{what} has no unit, and may be in Å, nm, µm or pixels: say --wave-unit Angstrom,"
                " nm, um, …"
            )
        return values
    unit = wave_unit(stated)
    if unit is None:
        raise BadFile(f"{what} is in {stated!r}, which is no unit of wavelengths")
    return values if unit == u.AA else u.Quantity(values, unit).to_value(u.AA, u.spectral())


def require_unit(stated: str, what: str, option: str) -> None:
    """Refuse a column or image without a unit, where its meaning must not be guessed."""
    if not stated.strip():
        advice = {
            "--wave-unit": "--wave-unit Angstrom, nm, um, …",
            "--flux-unit": f"--flux-unit {_EXAMPLE}, or --flux-unit '' for a pure number",
        }
        raise BadFile(f"{what} has no unit: say {advice[option]}")


def _parsed(text: str) -> Any:
    """Return the unit that astropy reads in any of its formats, or None."""
    with warnings.catch_warnings():
        # Warnings of deprecated spellings, which are accepted here.
        warnings.simplefilter("ignore")
        for form in _FORMATS:
            try:
                return u.Unit(text, format=form)
            except (ValueError, TypeError):
                continue
    return None


def _spelt(text: str) -> str:
    """Return a unit with words and powers in astropy's spelling."""
    found = re.sub(r"[A-Za-zÅ]+", _word, re.sub(r"(?<=\d)[eE](?=[-+]?\d)", "E", text))
    # '10-17 erg', '1 x 10^-17 erg', '10^-17 erg', '1.0E-17 erg': one scale before the unit.
    scale = re.match(
        r"\s*(?:1(?:\.0*)?\s*[x*]\s*)?(?:10\s*(?:\^|\*\*)?\s*\(?\s*([-+]?\d+)\s*\)?"
        r"|1(?:\.0*)?E([-+]?\d+))[\s*.]*(?=[A-Za-z(])",
        found,
    )
    if scale:
        found = f"10**({int(scale[1] or scale[2])}) {found[scale.end() :]}"
    return found


def _word(found: re.Match[str]) -> str:
    """Return a word of a unit in astropy's spelling."""
    word = found[0]
    return word if word in _EXACT else _WORDS.get(word.lower(), word)


def units_of_flux(text: str, example: Path | None = None) -> tuple[str, str]:
    """Return the units of flux and ivar, as text that astropy reads to the same unit.

    Parameters
    ----------
    text : a unit as a header or the operator writes it
    example : the file that states it; None: the operator does

    Raises
    ------
    BadParameter
        It cannot be read, or is implausible: a flux per ampere or per cm.
    """
    said = f"{example or 'it'} so states"
    refused = partial(BadParameter, "flux-unit", text)
    unit = flux_unit(text)
    if unit is None:
        read = f"{said} what astropy cannot read" if example else "astropy cannot read it"
        raise refused(
            f"{read}; say what flux is in with --flux-unit, such as {_EXAMPLE}, or --flux-unit ''"
            " for a pure number"
        )
    if (kind := unit.physical_type) in _NO_FLUX:
        raise refused(f"it is a unit of {kind}, not of flux, such as {_EXAMPLE} or ct")
    written = [power.to_string() for power in (unit, unit**-2)]
    if [u.Unit(text) for text in written] != [unit, unit**-2]:
        raise refused("its text is not read back to the same unit")
    if u.A in unit.decompose().bases:
        meant = _respelt(unit, u.A, u.AA)
        raise refused(f"{said} a flux per ampere; if it means Ångström, say --flux-unit '{meant}'")
    powers = dict(zip(unit.bases, unit.powers, strict=True))
    if powers.get(u.AA) == -1 and powers.get(u.cm) == -1:
        meant = _respelt(unit, u.cm, u.cm**2)
        raise refused(f"{said} a flux per cm; if it means cm², say --flux-unit '{meant}'")
    return written[0], written[1]


def _respelt(unit: Any, base: Any, meant: Any) -> str:
    """Return a unit with one base replaced by another; its scale stays as stated."""
    power = dict(zip(unit.bases, unit.powers, strict=True)).get(base, 0)
    return str((unit / base**power * meant**power).to_string())
