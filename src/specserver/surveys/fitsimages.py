"""Spectra in the images of a FITS file: flux, and beside it wavelengths and uncertainties.

specutils reads the axis of such files as linear, a missing axis as 1, 2, 3 … Å, and no HDUs of
wavelengths. So this module reads them as their headers state.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from ..errors import BadFile
from ..model.survey import Remark
from .foundspectrum import (
    INVERSE,
    UNCERTAINTIES,
    FoundSpectrum,
    ivar_in_unit,
    real_numbers,
    unit_text,
)
from .statedaxis import axis_of, is_logarithmic, multispec_axes, states_axis
from .statedmask import Flags, is_mask_image, mask_rule, not_taken
from .statedunit import angstroms

_FLUX: Final = ("FLUX", "SCI", "DATA", "SPECTRUM", "SPEC")
_WAVES: Final = (
    "WAVELENGTH", "WAVELENGTHS", "WAVE", "WAVES", "WAV", "LAMBDA", "LAM", "AWAV", "WAVE_AIR",
    "WAVE_VAC",
)  # fmt: skip
_LOG_WAVES: Final = ("LOGLAM", "LOGWAVE", "LOG_WAVE", "LOGLAMBDA", "LOG_LAMBDA", "LOG_LAM")
_SURE: Final = ("MASK", "DQ", "QUALITY")
"""Names of masks only: a file is refused if such an image has not the shape of flux."""
_LOG10_MOST: Final = 10.0
"""No wavelength is 1e10 Å: so large a number is no logarithm."""


def image_spectra(hdus: Any, wave_unit: str = "") -> list[FoundSpectrum] | None:
    """Return the spectra that the images of an opened FITS file hold; None: it has no such images.

    Parameters
    ----------
    hdus : what `astropy.io.fits` opens
    wave_unit : unit of wavelengths that state none

    Raises
    ------
    BadFile
        An image of flux has no wavelengths, or what stands beside it does not fit.
    """
    flux = _flux_hdu(hdus)
    if flux is None:
        return None
    images = {hdu.name.upper(): hdu for hdu in hdus if _is_image(hdu) and hdu is not flux}
    axes = _axes(flux, images, hdus, wave_unit)
    return None if axes is None else list(_spectra(flux, images, axes, _masks(flux, hdus)))


def _flux_hdu(hdus: Any) -> Any:
    """Return the image of flux: by its name, or else the first image; None: no image."""
    named = {hdu.name.upper(): hdu for hdu in reversed(hdus) if _is_image(hdu)}
    found = next((named[name] for name in _FLUX if name in named), None)
    if found is None and _is_image(hdus[0]):
        found = hdus[0]
    return found if found is not None and found.data.ndim <= 2 else None


def _is_image(hdu: Any) -> bool:
    """Return whether an HDU is an image with data."""
    return bool(getattr(hdu, "is_image", False)) and hdu.header.get("NAXIS", 0) > 0


def _axes(
    flux: Any, images: Mapping[str, Any], hdus: Any, wave_unit: str
) -> list[tuple[Any, Any]] | None:
    """Return the axis of each row of flux: as the file has it, and in Å; None: another format."""
    shape = flux.data.shape
    npix, rows = shape[-1], 1 if flux.data.ndim == 1 else shape[0]
    name = next((name for name in (*_WAVES, *_LOG_WAVES) if name in images), None)
    if name is not None:
        return _from_hdu(images[name], name, flux, hdus, wave_unit)
    cards = flux.header
    system = str(cards.get("WAT0_001", "")).lower()
    if "multispec" in system or str(cards.get("CTYPE1", "")).upper().startswith("MULTISPE"):
        return [(axis, axis) for axis in multispec_axes(cards, npix)]
    if flux.data.ndim == 2 and rows > 1 and "equispec" not in system:
        return None
    if not states_axis(cards):
        if any(getattr(hdu, "columns", None) is not None for hdu in hdus):
            return None
        raise BadFile(
            f"it states no wavelengths: there is no HDU {', '.join(_WAVES[:3])}, LAMBDA or LOGLAM,"
            f" and the header of HDU {flux.name or 0} has no CRVAL1 with CDELT1 or CD1_1"
        )
    if wave_unit and not cards.get("CUNIT1"):
        cards = {**cards, "CUNIT1": wave_unit}
    wave = axis_of(cards, npix)
    return [(wave, wave)] * rows


def _from_hdu(hdu: Any, name: str, flux: Any, hdus: Any, wave_unit: str) -> list[tuple[Any, Any]]:
    """Return the axes in an HDU of wavelengths."""
    shape = flux.data.shape
    if hdu.data.shape not in {shape, shape[-1:], (1, shape[-1])}:
        raise BadFile(f"HDU {name} has the shape {hdu.data.shape}, flux has {shape}")
    values = np.broadcast_to(real_numbers(hdu.data, f"HDU {name}"), shape)
    values = np.atleast_2d(values)
    unit = str(hdu.header.get("BUNIT") or hdu.header.get("CUNIT1") or "").strip()
    unit = unit or _linetools_unit(hdus) or str(flux.header.get("CUNIT1") or "") or wave_unit
    says_log = name in _LOG_WAVES or is_logarithmic(hdu.header) or is_logarithmic(flux.header)
    if says_log and np.nanmax(values) < _LOG10_MOST:
        return [(row, angstroms(10.0**row, unit or "Angstrom", f"HDU {name}")) for row in values]
    if name in _LOG_WAVES:
        raise BadFile(f"HDU {name} holds no logarithms: they reach {np.nanmax(values):g}")
    return [(row, angstroms(row, unit, f"HDU {name}")) for row in values]


def _linetools_unit(hdus: Any) -> str:
    """Return the unit of wavelengths in the card UNITS, which linetools writes as JSON."""
    try:
        stated = json.loads(str(hdus[0].header.get("UNITS", "{}")))
    except ValueError:
        return ""
    return str(stated.get("wave", "")) if isinstance(stated, dict) else ""


def _spectra(
    flux: Any,
    images: Mapping[str, Any],
    axes: Sequence[tuple[Any, Any]],
    masks: tuple[Flags, tuple[Remark, ...]],
) -> Iterator[FoundSpectrum]:
    """Yield the spectra of an image of flux, one per row."""
    stated = str(flux.header.get("BUNIT") or "")
    values = np.atleast_2d(real_numbers(flux.data, "flux"))
    spread, power = None, 0
    for name, hdu in images.items():
        if power := UNCERTAINTIES.get(name.lower(), 0):
            unit = str(hdu.header.get("BUNIT") or "")
            spread = ivar_in_unit(_beside(hdu, flux), power, unit, stated)
            break
    masked, remarks = np.atleast_2d(masks[0]), masks[1]
    for row, (axis, wave) in enumerate(axes):
        yield FoundSpectrum(
            axis=axis,
            wave=wave,
            flux=values[row],
            ivar=None if spread is None else spread[row],
            masked=masked[row],
            unit=unit_text(stated),
            cards=flux.header,
            states_ivar=power == INVERSE,
            remarks=remarks,
        )


def _masks(flux: Any, hdus: Any) -> tuple[Flags, tuple[Remark, ...]]:
    """Return the pixels that other images mask, and remarks about masks that are not used."""
    shape = flux.data.shape
    bad, remarks = np.zeros(shape, bool), []
    found = [hdu for hdu in hdus if _is_image(hdu) and hdu is not flux and is_mask_image(hdu)]
    for hdu in found:
        rule = mask_rule((hdu.header, hdus[0].header))
        if hdu.name in _SURE:
            _beside(hdu, flux)
        flags = rule.bad(hdu.data, hdu.name) if hdu.data.shape == shape else None
        if flags is None:
            remarks.append(not_taken(f"HDU {hdu.name}".strip(), hdu.data, shape))
        else:
            bad |= flags
    return bad, tuple(remarks)


def _beside(hdu: Any, flux: Any) -> Any:
    """Return an image that is parallel to flux, 2D[nspec, npix]."""
    if hdu.data.shape != flux.data.shape:
        raise BadFile(f"HDU {hdu.name} has the shape {hdu.data.shape}, flux has {flux.data.shape}")
    return np.atleast_2d(hdu.data)
