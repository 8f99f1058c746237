"""Spectra of files that a loader of specutils reads.

Importing specutils takes seconds, so `anyfile` imports this module only when a file needs it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy import nddata
from astropy import units as u
from specutils import SpectrumList
from specutils.io.registers import identify_spectrum_format

from ..errors import BadFile
from ..model.survey import Remark
from .besidemask import BesideMasks
from .declaration import IT_HOLDS
from .fileparts import header_part
from .foundspectrum import INVERSE, FoundSpectrum, inverse_variance, real_numbers
from .statedaxis import axis_of, axis_unit, is_logarithmic, states_axis
from .statedmask import Flags
from .statedunit import unit_not_used
from .unread import what_it_holds, why_unread

# General formats of specutils: images and tables of any kind.
_GENERAL: Final = frozenset({"wcs1d-fits", "iraf", "tabular-fits", "ECSV", "ASCII", "IPAC"})
_POWERS: Final[Mapping[type, int]] = {
    nddata.StdDevUncertainty: 1, nddata.VarianceUncertainty: 2, nddata.InverseVariance: INVERSE
}  # fmt: skip
"""Power of flux of the kinds of uncertainties of a Spectrum."""
Array = npt.NDArray[Any]


def format_of(path: Path, loader: str) -> str:
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


def read_by_specutils(path: Path, loader: str, wave_unit: str) -> list[FoundSpectrum]:
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
        stated = axis_unit(cards)
        if wave_unit and not stated:
            cards = {**cards, "CUNIT1": wave_unit}
        # specutils reads such axes wrongly: a pixel off (spSpec, spPlate), as linear, or in metres.
        states = states_axis(cards) and (loader in {"", *_GENERAL} or is_logarithmic(cards))
        unit = stated if states else spectrum.spectral_axis.unit.to_string()
        remarks = unit_not_used(unit, wave_unit)
        found += _rows(spectrum, shared, cards if states else {}, masks, remarks)
    return found


def _header(spectrum: Any) -> Mapping[str, Any]:
    """Return the header of a Spectrum by keyword."""
    header = spectrum.meta.get("header")
    return header if header is not None and hasattr(header, "get") else {}


def _rows(
    spectrum: Any,
    header: Mapping[str, Any],
    cards: Mapping[str, Any],
    masks: BesideMasks,
    more: tuple[Remark, ...],
) -> Iterator[FoundSpectrum]:
    """Yield the spectra of a Spectrum, which may have many on one axis, stated by some cards."""
    if spectrum.flux.ndim > 2:
        raise BadFile(f"flux has {spectrum.flux.ndim} dimensions: a cube, not spectra")
    wave = _wave(spectrum, cards)
    flux = _by_row(spectrum, real_numbers(spectrum.flux.value, "flux"))
    stated = ivar_of(spectrum)
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
            remarks=(*remarks, *more),
            layout=f"specutils' loader {masks.form}" if masks.form else "a loader of specutils",
        )


def _mask(spectrum: Any, masks: BesideMasks) -> tuple[Flags, tuple[Remark, ...]]:
    """Return the mask of a Spectrum: its loader's, or else the file's."""
    instead = masks.in_place_of_loader()
    if instead is not None:
        return instead, ()
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


def ivar_of(spectrum: Any) -> npt.NDArray[np.float64] | None:
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
