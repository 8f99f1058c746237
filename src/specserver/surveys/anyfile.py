"""Spectra of any file that specutils reads, with the file's own values; with its target's, too."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy import nddata
from astropy import units as u
from astropy.io import fits
from specutils import SpectrumList
from specutils.io.registers import identify_spectrum_format

from ..errors import BadFile
from ..model.medium import Medium
from ..model.survey import Remark
from .besidemask import BesideMasks
from .declaration import IT_HOLDS, FileDefaults, ending_of
from .fileparts import TEXTS, FilePart, fits_parts, header_part, text_part, text_table
from .fitsimages import image_spectra
from .foundspectrum import INVERSE, FoundSpectrum, inverse_variance, real_numbers
from .namedcolumns import table_spectra, text_spectra
from .namedposition import NamedPosition, named_position
from .statedaxis import axis_of, is_logarithmic, states_axis
from .statedmask import Flags
from .statedmedium import medium_of
from .statedposition import Position, position_of
from .unread import asked_for, columns_of, what_it_holds, why_unread

_REDSHIFTS: Final = ("REDSHIFT", "Z")
# General formats of specutils: images and tables of any kind.
_GENERAL: Final = frozenset({"wcs1d-fits", "iraf", "tabular-fits", "ECSV", "ASCII", "IPAC"})
_POWERS: Final[Mapping[type, int]] = {
    nddata.StdDevUncertainty: 1, nddata.VarianceUncertainty: 2, nddata.InverseVariance: INVERSE
}  # fmt: skip
"""Power of flux of the kinds of uncertainties of a Spectrum."""
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class ReadSpectrum:
    """One spectrum of a file."""

    wave: npt.NDArray[np.float64]
    """1D[npix] float64, Å, rising, in the medium ``medium``."""
    flux: npt.NDArray[np.float64]
    """1D[npix] float64, in ``unit``."""
    ivar: npt.NDArray[np.float64] | None
    """1D[npix] float64, ``unit**-2``: as the file states it; made of its errors or variances it is
    0 where there is no information. None: the file states no uncertainty."""
    mask: npt.NDArray[np.uint32]
    """1D[npix] uint32; 1: the file masks it, or flux or ivar is not finite, or ivar is negative."""
    unit: str
    """Unit of flux as astropy reads it, or as the file has it; empty: the file states none."""
    medium: Medium
    """Medium of the wavelengths: as the file states it, or else the operator."""
    position: Position
    """Position from the header, the object's if it has one."""
    z: float
    """Redshift from the header; NaN: none."""
    named: NamedPosition | None = None
    """Position in the name of the object; None: none."""
    remarks: tuple[Remark, ...] = ()
    """Warnings that an ingest reports when the spectrum is stored."""
    layout: str = ""
    """Where in the file its vectors are, in words."""


_NOTHING: Final = FileDefaults()


def read_file(path: Path, defaults: FileDefaults = _NOTHING) -> list[ReadSpectrum]:
    """Return all spectra of a file as its headers describe them.

    This module reads images and tables with the usual names, specutils reads all other files.

    Raises
    ------
    BadFile
        With the reason: not recognised, no wavelengths, an image and not a spectrum, …
    """
    with warnings.catch_warnings():
        # Many headers violate the standard in small ways that affect no value.
        warnings.simplefilter("ignore")
        form = "" if defaults.vectors else _format_of(path, defaults.loader)
        found, parts = _read_here(path, defaults, plain=not form)
        if found is None and defaults.vectors:
            held = columns_of(path)
            raise BadFile(f"no part of it has {asked_for(defaults.vectors)}{IT_HOLDS}{held}")
        if found is None:
            found = _read_by_specutils(path, form or defaults.loader, defaults.wave_unit)
        if not found:
            raise BadFile("specutils finds no spectrum in it")
        return [_finished(spectrum, parts, defaults) for spectrum in found]


def _read_here(
    path: Path, defaults: FileDefaults, *, plain: bool
) -> tuple[list[FoundSpectrum] | None, list[FilePart]]:
    """Return the spectra of a file of plain images or tables, None of others; and its parts."""
    if ending_of(path) in TEXTS:
        table = text_table(path)
        if table is None:
            return None, []
        part = text_part(table)
        return text_spectra(table, part.cards, defaults) if plain else None, [part]
    try:
        with fits.open(path, memmap=False) as hdus:
            parts = fits_parts(hdus)
            if not plain:
                return None, parts
            found = image_spectra(hdus, defaults)
            return table_spectra(hdus, defaults) if found is None else found, parts
    except (OSError, TypeError, IndexError):
        return None, []


def _format_of(path: Path, loader: str) -> str:
    """Return specutils' name of the survey or instrument format of a file.

    Empty: none but the general ones, whose axes specutils guesses.
    """
    if loader:
        return "" if loader in _GENERAL else loader
    try:
        names = identify_spectrum_format(str(path), SpectrumList)
    except Exception:  # noqa: BLE001  # those who recognise formats raise what they like
        return ""
    own = set([names] if isinstance(names, str) else names) - _GENERAL
    return str(min(own)) if own else ""


def _read_by_specutils(path: Path, loader: str, wave_unit: str) -> list[FoundSpectrum]:
    """Return the spectra that specutils finds; ``wave_unit`` is for images that state none."""
    try:
        spectra = SpectrumList.read(str(path), **({"format": loader} if loader else {}))
    except Exception as error:  # a loader may raise any exception
        held = what_it_holds(path)
        raise BadFile(why_unread(path, error, loader) + (IT_HOLDS + held) * bool(held)) from error
    found: list[FoundSpectrum] = []
    masks = BesideMasks(path, loader)
    shared: Mapping[str, Any] = {}
    for spectrum in spectra:
        # If a file has one header, it belongs to the first spectrum.
        shared = _header(spectrum) or shared
        cards: Mapping[str, Any] = header_part(shared).cards
        if wave_unit and not cards.get("CUNIT1"):
            cards = {**cards, "CUNIT1": wave_unit}
        # specutils reads such axes wrongly: a pixel off (spSpec, spPlate), as linear, or in metres.
        states = states_axis(cards) and (loader in {"", *_GENERAL} or is_logarithmic(cards))
        found += _rows(spectrum, shared, cards if states else {}, masks)
    return found


def _header(spectrum: Any) -> Mapping[str, Any]:
    """Return the header of a Spectrum by keyword."""
    header = spectrum.meta.get("header")
    return header if header is not None and hasattr(header, "get") else {}


def _rows(
    spectrum: Any, header: Mapping[str, Any], cards: Mapping[str, Any], masks: BesideMasks
) -> Iterator[FoundSpectrum]:
    """Yield the spectra of a Spectrum, which may have many on one axis, stated by some cards."""
    if spectrum.flux.ndim > 2:
        raise BadFile(f"flux has {spectrum.flux.ndim} dimensions: a cube, not spectra")
    wave = _wave(spectrum, cards)
    flux = _by_row(spectrum, real_numbers(spectrum.flux.value, "flux"))
    stated = _ivar(spectrum)
    ivar = None if stated is None else _by_row(spectrum, stated)
    own, remarks = _mask(spectrum, masks)
    masked = _by_row(spectrum, own)
    for row, values in enumerate(flux):
        yield FoundSpectrum(
            axis=np.ravel(spectrum.spectral_axis.value),
            wave=wave,
            flux=values,
            ivar=None if ivar is None else ivar[row],
            masked=masked[row],
            unit=spectrum.flux.unit.to_string(),
            cards=header,
            states_ivar=isinstance(spectrum.uncertainty, nddata.InverseVariance),
            remarks=remarks,
            layout=f"specutils' loader {masks.form}" if masks.form else "a loader of specutils",
        )


def _mask(spectrum: Any, masks: BesideMasks) -> tuple[Flags, tuple[Remark, ...]]:
    """Return the mask of a Spectrum: its loader's, or else the file's."""
    values = np.asarray(spectrum.flux.value)
    blank = ~np.isfinite(values)
    own = np.zeros(values.shape, bool) if spectrum.mask is None else np.asarray(spectrum.mask) != 0
    # If a loader gives no mask, Spectrum masks the pixels whose flux is NaN.
    if spectrum.mask is not None and not (blank.any() and np.array_equal(own, np.isnan(values))):
        return own, ()
    bad, remarks = masks.of(values, np.ravel(spectrum.spectral_axis.value))
    return own | bad, remarks


def _by_row(spectrum: Any, values: Array) -> Array:
    """Return an array that is parallel to flux as 2D[nspec, npix]."""
    at = getattr(spectrum, "spectral_axis_index", None)
    full = np.broadcast_to(values, spectrum.flux.shape)
    return np.atleast_2d(np.moveaxis(full, spectrum.flux.ndim - 1 if at is None else at, -1))


def _wave(spectrum: Any, cards: Mapping[str, Any]) -> npt.NDArray[np.float64]:
    """Return the spectral axis of a Spectrum, 1D[npix] float64, Å; cards come first."""
    axis = spectrum.spectral_axis
    if axis.ndim != 1 or not axis.size:
        raise BadFile(f"the spectral axis has the shape {axis.shape}")
    if cards.get("NAXIS1") == axis.size:
        return axis_of(cards, axis.size)
    try:
        # Values in Å stay unchanged, bit for bit.
        wave = axis.value if axis.unit == u.AA else axis.to_value(u.AA, u.spectral())
    except (u.UnitConversionError, ValueError) as error:
        raise BadFile(f"the spectral axis is in {axis.unit}, which are no wavelengths") from error
    return real_numbers(wave, "the spectral axis")


def _ivar(spectrum: Any) -> npt.NDArray[np.float64] | None:
    """Return inverse variances, in the unit of flux to the power of −2; None: nothing is stated.

    The file's own inverse variances are unchanged; `inverse_variance` converts the others.
    """
    if spectrum.uncertainty is None:
        return None
    power = _POWERS.get(type(spectrum.uncertainty))
    if power is None:
        raise BadFile(f"its uncertainties are of the kind {type(spectrum.uncertainty).__name__}")
    wanted = spectrum.flux.unit**power
    stated = wanted if spectrum.uncertainty.unit is None else spectrum.uncertainty.unit
    values = real_numbers(spectrum.uncertainty.array, "the uncertainty")
    if stated != wanted:
        try:
            values = u.Quantity(values, stated).to_value(wanted)
        except u.UnitConversionError as error:
            raise BadFile(f"uncertainties are in {stated}, flux in {spectrum.flux.unit}") from error
    return inverse_variance(values, power)


def _finished(
    found: FoundSpectrum, parts: Sequence[FilePart], defaults: FileDefaults
) -> ReadSpectrum:
    """Return a spectrum with rising wavelengths and what its headers state."""
    if len(found.flux) != len(found.wave):
        raise BadFile(f"{len(found.flux)} values of flux for {len(found.wave)} wavelengths")
    # Wavelengths fall in some files; all arrays are reversed together.
    turn = slice(None, None, -1) if found.wave[0] > found.wave[-1] else slice(None)
    wave = np.ascontiguousarray(found.wave[turn])
    if not np.isfinite(wave).all() or wave[0] <= 0 or not (np.diff(wave) > 0).all():
        raise BadFile(
            "its wavelengths are neither strictly increasing nor strictly decreasing, or are no"
            " numbers above 0"
        )
    flux = np.ascontiguousarray(found.flux[turn])
    bad = found.masked[turn] | ~np.isfinite(flux)
    ivar = None if found.ivar is None else np.ascontiguousarray(found.ivar[turn])
    if ivar is not None and found.states_ivar:
        bad |= ~(np.isfinite(ivar) & (ivar >= 0))
    elif ivar is not None:
        ivar = np.where(np.isfinite(flux), ivar, 0.0)
    stated = [header_part(found.cards), *parts]
    return ReadSpectrum(
        wave=wave,
        flux=flux,
        ivar=ivar,
        mask=bad.astype(np.uint32),
        unit=found.unit,
        medium=medium_of(parts, found.axis, defaults.medium),
        position=position_of(stated),
        z=_redshift(stated),
        named=named_position(stated),
        remarks=found.remarks,
        layout=found.layout,
    )


def _redshift(parts: Sequence[FilePart]) -> float:
    """Return the first redshift that a header states; NaN: none."""
    values = (part.cards.get(name) for part in parts for name in _REDSHIFTS)
    numbers = (
        value for value in values if isinstance(value, int | float) and not isinstance(value, bool)
    )
    return float(next(numbers, nan))
