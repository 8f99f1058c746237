"""Spectra in the images of a FITS file: flux, and beside it wavelengths and uncertainties.

specutils reads the axis of such files as linear, a missing axis as 1, 2, 3 … Å, and no HDUs of
wavelengths. So this module reads them as their headers state.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from astropy.io import fits

from ..errors import BadFile
from ..model.survey import Remark
from .declaration import FileDefaults, NamedVectors
from .foundspectrum import (
    INVERSE,
    KINDS,
    UNCERTAINTIES,
    FoundSpectrum,
    ivar_in_unit,
    real_numbers,
    unit_text,
)
from .statedaxis import axis_of, axis_unit, is_logarithmic, multispec_axes, states_axis
from .statedmask import Flags, is_mask_image, mask_rule, not_taken
from .statedunit import angstroms, require_unit, unit_not_used

_FLUX: Final = ("FLUX", "SCI", "DATA", "SPECTRUM", "SPEC")
_WAVES: Final = (
    "WAVELENGTH", "WAVELENGTHS", "WAVE", "WAVES", "WAV", "LAMBDA", "LAM", "AWAV", "WAVE_AIR",
    "WAVE_VAC",
)  # fmt: skip
_LOG_WAVES: Final = ("LOGLAM", "LOGWAVE", "LOG_WAVE", "LOGLAMBDA", "LOG_LAMBDA", "LOG_LAM")
_SURE: Final = ("MASK", "DQ", "QUALITY")
"""Names of masks only: a file is refused if such an image has not the shape of flux."""
_ROW: Final = re.compile(r"(.*)\[(\d+)\]")
"""A row of an image, counted from 0: ``SPECTRUM VR[3]``."""
_LOG10_MOST: Final = 10.0
"""No wavelength is 1e10 Å: so large a number is no logarithm."""


@dataclass(frozen=True, slots=True)
class _Images:
    """The images of a file by meaning."""

    flux: Any
    wave: Any = None
    """None: the header of flux states the wavelengths."""
    wave_name: str = ""
    is_log: bool = False
    """The name of the image of wavelengths says that they are logarithms."""
    spread: Any = None
    """Uncertainties; None: there are none."""
    power: int = 0
    """Power of flux of the uncertainties: `foundspectrum.UNCERTAINTIES`."""
    layout: str = ""
    """Says where the vectors are."""


def image_spectra(hdus: Any, defaults: FileDefaults) -> list[FoundSpectrum] | None:
    """Return the spectra that the images of an opened FITS file hold; None: it has no such images.

    If the operator names the images, by their names or numbers, these are read; None: the name of
    flux is no image's.

    Parameters
    ----------
    hdus : what `astropy.io.fits` opens
    defaults : what the operator states

    Raises
    ------
    BadFile
        An image of flux has no wavelengths, or what stands beside it does not fit.
    """
    vectors = defaults.vectors
    images = _usual(hdus) if vectors is None else _named(hdus, vectors)
    if images is None:
        return None
    axes = _axes(images, hdus, defaults)
    if axes is None:
        return None
    bad, remarks = _masks(images.flux, hdus)
    remarks += unit_not_used(_axis_unit(images, hdus), defaults.wave_unit)
    return list(_spectra(images, axes, (bad, remarks), defaults))


def _usual(hdus: Any) -> _Images | None:
    """Return the images with the usual names; None: there is no flux."""
    flux = _flux_hdu(hdus)
    if flux is None:
        return None
    images = {hdu.name.upper(): hdu for hdu in hdus if _is_image(hdu) and hdu is not flux}
    wave = next((name for name in (*_WAVES, *_LOG_WAVES) if name in images), None)
    spread = next((name for name in images if name.lower() in UNCERTAINTIES), None)
    power = UNCERTAINTIES[spread.lower()] if spread else 0
    return _Images(
        flux,
        images[wave] if wave else None,
        wave or "",
        wave in _LOG_WAVES,
        images[spread] if spread else None,
        power,
        _layout(flux.name or str(hdus.index(flux)), wave or "", spread or "", power),
    )


def _named(hdus: Any, vectors: NamedVectors) -> _Images | None:
    """Return the images that the operator names; None: flux is no image."""
    by_name = {hdu.name.upper(): hdu for hdu in reversed(hdus) if _is_image(hdu)}
    by_number = {str(number): hdu for number, hdu in enumerate(hdus) if _is_image(hdu)}
    known = {**by_number, **by_name}
    found = {vector: _chosen(known, name, vector) for vector, name in vectors.named.items()}
    if found["flux"] is None:
        return None
    for vector, hdu in found.items():
        if hdu is None:
            raise BadFile(
                f"--flux names an image, and --{vector} {vectors.named[vector]} names none; say"
                " HDU:COLUMN of columns of a table"
            )
    if found["flux"].data.ndim > 2:
        raise BadFile(f"flux has {found['flux'].data.ndim} dimensions: a cube, not spectra")
    wave = found.get("wave")
    power = INVERSE if vectors.ivar else 1 if vectors.error else 0
    return _Images(
        found["flux"],
        wave,
        vectors.wave,
        wave is not None and wave.name.upper() in _LOG_WAVES,
        found.get("ivar", found.get("error")),
        power,
        _layout(vectors.flux, vectors.wave, vectors.ivar or vectors.error, power),
    )


def _layout(flux: str, wave: str, spread: str, power: int) -> str:
    """Return text that says where the vectors are."""
    waves = f"image {wave} of wavelengths" if wave else "wavelengths of its header"
    return f"image {flux}, {waves}" + (f", image {spread} of {KINDS[power]}" if spread else "")


def _chosen(known: Mapping[str, Any], name: str, vector: str) -> Any:
    """Return the image of a vector that the operator names, or its row; None: there is none."""
    row = _ROW.fullmatch(name)
    hdu = known.get((row[1] if row else name).upper())
    if hdu is None or row is None:
        return hdu
    if hdu.data.ndim != 2 or int(row[2]) >= len(hdu.data):
        raise BadFile(f"{name}: that image has the shape {hdu.data.shape}; row 0 is the first one")
    header = hdu.header.copy()
    if vector == "wave":
        # The unit of an image with rows of several kinds is that of flux.
        header.remove("BUNIT", ignore_missing=True)
    return fits.ImageHDU(hdu.data[int(row[2])], header)


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


def _axes(images: _Images, hdus: Any, defaults: FileDefaults) -> list[tuple[Any, Any]] | None:
    """Return the axis of each row of flux: as the file has it, and in Å; None: another format."""
    flux, wave_unit = images.flux, defaults.wave_unit
    shape = flux.data.shape
    npix, rows = shape[-1], 1 if flux.data.ndim == 1 else shape[0]
    if images.wave is not None:
        return _from_hdu(images, hdus, defaults)
    cards = flux.header
    system = str(cards.get("WAT0_001", "")).lower()
    if "multispec" in system or str(cards.get("CTYPE1", "")).upper().startswith("MULTISPE"):
        return [(axis, axis) for axis in multispec_axes(cards, npix)]
    if flux.data.ndim == 2 and rows > 1 and "equispec" not in system:
        if defaults.vectors is not None:
            raise BadFile(
                f"the image of flux has {rows} rows, and its header does not say that each is a"
                " spectrum: name the image of their wavelengths with --wave"
            )
        return None
    if not states_axis(cards):
        if defaults.vectors is None and any(
            getattr(hdu, "columns", None) is not None for hdu in hdus
        ):
            return None
        raise BadFile(
            f"it states no wavelengths: there is no HDU {', '.join(_WAVES[:3])}, LAMBDA or LOGLAM"
            f" (--wave names another), and the header of HDU {flux.name or 0} has no CRVAL1 with"
            " CDELT1 or CD1_1"
        )
    if defaults.vectors is not None and not is_logarithmic(cards):
        what = f"the spectral axis of HDU {defaults.vectors.flux}"
        require_unit(axis_unit(cards) or wave_unit, what, "--wave-unit")
    if wave_unit and not axis_unit(cards):
        cards = {**cards, "CUNIT1": wave_unit}
    wave = axis_of(cards, npix)
    return [(wave, wave)] * rows


def _from_hdu(images: _Images, hdus: Any, defaults: FileDefaults) -> list[tuple[Any, Any]]:
    """Return the axes in an HDU of wavelengths."""
    hdu, flux, wave_unit = images.wave, images.flux, defaults.wave_unit
    shape, name = flux.data.shape, images.wave_name
    if hdu.data.shape not in {shape, shape[-1:], (1, shape[-1])}:
        raise BadFile(f"HDU {name} has the shape {hdu.data.shape}, flux has {shape}")
    values = np.broadcast_to(real_numbers(hdu.data, f"HDU {name}"), shape)
    values = np.atleast_2d(values)
    unit = _axis_unit(images, hdus) or wave_unit
    if defaults.vectors is not None and not images.is_log:
        require_unit(unit, f"HDU {name}", "--wave-unit")
    says_log = images.is_log or is_logarithmic(hdu.header) or is_logarithmic(flux.header)
    if says_log and np.nanmax(values) < _LOG10_MOST:
        return [(row, angstroms(10.0**row, unit or "Angstrom", f"HDU {name}")) for row in values]
    if images.is_log:
        raise BadFile(f"HDU {name} holds no logarithms: they reach {np.nanmax(values):g}")
    return [(row, angstroms(row, unit, f"HDU {name}")) for row in values]


def _axis_unit(images: _Images, hdus: Any) -> str:
    """Return the unit that a file states for the wavelengths beside a flux; empty: none."""
    cards = images.flux.header
    if images.wave is None:
        return axis_unit(cards)
    own = images.wave.header
    unit = str(own.get("BUNIT") or own.get("CUNIT1") or "").strip()
    return unit or _linetools_unit(hdus) or str(cards.get("CUNIT1") or "")


def _linetools_unit(hdus: Any) -> str:
    """Return the unit of wavelengths in the card UNITS, which linetools writes as JSON."""
    try:
        stated = json.loads(str(hdus[0].header.get("UNITS", "{}")))
    except ValueError:
        return ""
    return str(stated.get("wave", "")) if isinstance(stated, dict) else ""


def _spectra(
    images: _Images,
    axes: Sequence[tuple[Any, Any]],
    masks: tuple[Flags, tuple[Remark, ...]],
    defaults: FileDefaults,
) -> Iterator[FoundSpectrum]:
    """Yield the spectra of an image of flux, one per row."""
    flux, spread = images.flux, None
    stated = str(flux.header.get("BUNIT") or "")
    if defaults.vectors is not None and defaults.flux_unit is None:
        require_unit(stated, f"HDU {defaults.vectors.flux}", "--flux-unit")
    values = np.atleast_2d(real_numbers(flux.data, "flux"))
    if images.spread is not None:
        unit = str(images.spread.header.get("BUNIT") or "")
        flux_stated = stated or defaults.flux_unit or ""
        spread = ivar_in_unit(_beside(images.spread, flux), images.power, unit, flux_stated)
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
            states_ivar=images.power == INVERSE,
            remarks=remarks,
            layout=images.layout,
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
