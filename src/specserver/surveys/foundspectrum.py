"""A spectrum as its file has it, before medium, position and unit are read from its header."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy import units as u

from ..errors import BadFile
from ..model.survey import Remark
from .statedunit import flux_unit

Numbers = npt.NDArray[np.float64]
INVERSE: Final = -2
"""Power of flux of inverse variances."""
_WHOLE: Final = 2**53
"""Smaller whole numbers are float64 exactly."""
_MISSING: Final = frozenset({"", "--", "n/a", "na", "#n/a", "<na>", "null", "none"})
"""Texts that say that there is no number, in lower case."""
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
KINDS: Final[Mapping[int, str]] = {1: "errors", 2: "variances", INVERSE: "inverse variances"}
"""Kinds of uncertainties by their power of flux."""

UNCERTAINTIES: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        ("error", "errors", "err", "sigma", "sig", "std", "stddev", "uncert", "uncertainty",
         "noise", "flux_error", "flux_err", "fluxerr", "fluxerror", "err_flux", "error_flux",
         "e_flux", "flux_sigma", "sigma_flux", "flux_uncertainty", "flux_unc", "flux_std"),
        1,
    ),
    **dict.fromkeys(("variance", "var", "flux_var", "flux_variance", "var_flux", "fluxvar"), 2),
    **dict.fromkeys(
        ("ivar", "invvar", "inverse_variance", "inv_var", "flux_ivar", "ivar_flux"), -2
    ),
}  # fmt: skip
"""Names of uncertainties, in lower case, and the power of flux of each."""


@dataclass(frozen=True, slots=True)
class FoundSpectrum:
    """One spectrum: arrays of npix values in the file's order."""

    axis: npt.NDArray[Any]
    """1D[npix], the spectral axis as the file has it."""
    wave: Numbers
    """1D[npix] float64, Å; may fall."""
    flux: Numbers
    """1D[npix] float64, in ``unit``."""
    ivar: Numbers | None
    """1D[npix] float64, ``unit**-2``: as the file states it, or made of its errors or variances,
    and then 0 where there is no information. None: no uncertainty is stated."""
    masked: npt.NDArray[np.bool_]
    """1D[npix], pixels that the file masks."""
    unit: str
    """Unit of flux as astropy writes it, or else as the file does; empty: none."""
    cards: Mapping[str, Any]
    """The header of the spectrum by keyword."""
    states_ivar: bool = False
    """The file states inverse variances: none of them is changed."""
    remarks: tuple[Remark, ...] = ()
    """Warnings that an ingest reports when the spectrum is stored."""
    layout: str = ""
    """Says where in the file the vectors are."""


def real_numbers(values: Any, what: str) -> Numbers:
    """Return real numbers as float64, NaN where masked; refuse those it does not hold exactly."""
    plain, gone = np.ma.getdata(values), np.ma.getmask(values)
    if plain.dtype.kind == "U":
        return _from_text(np.where(gone, "", plain), what)
    if plain.dtype.kind not in "fiu":
        raise BadFile(f"{what} is of type {plain.dtype}, not real numbers")
    if gone.any():
        # A value under a mask is not one of the file's.
        plain = np.where(gone, plain.dtype.type(0), plain)
    numbers = np.asarray(plain).astype(np.float64)
    if plain.dtype.itemsize >= numbers.itemsize and plain.dtype.newbyteorder("=") != np.float64:
        # Python compares integers with floats exactly; NumPy rounds them first.
        wide = object if plain.dtype.kind in "iu" else plain.dtype
        far = np.abs(numbers) >= _WHOLE if wide is object else ~np.isnan(plain)
        rounded = numbers[far].astype(wide) != plain[far].astype(wide)
        if rounded.any():
            raise BadFile(
                f"{what} is of type {plain.dtype}, with values that float64 does not hold, such as"
                f" {plain[far][rounded][0]}; if they may be rounded, write it as float64"
            )
    return np.where(gone, np.nan, numbers) if gone.any() else numbers


def _from_text(cells: npt.NDArray[np.str_], what: str) -> Numbers:
    """Return numbers as text, NaN where it says that there is none."""
    numbers = np.full(cells.shape, np.nan)
    for at, cell in np.ndenumerate(cells):
        text = cell.strip()
        if text.lower() in _MISSING:
            continue
        try:
            number = float(text.replace("_", "no number"))
            exact = not _INTEGER.fullmatch(text) or int(text) == number
        except (ValueError, OverflowError):
            exact = False
        if not exact:
            raise BadFile(
                f"{what} has {text!r} in row {at[-1] + 1}, which is no number, or none that float64"
                " holds"
            )
        numbers[at] = number
    return numbers


def unit_text(stated: str) -> str:
    """Return a unit of flux as astropy writes it, or as it is stated where it cannot be read."""
    unit = flux_unit(stated)
    return stated.strip() if unit is None else str(unit.to_string())


def ivar_in_unit(values: Any, power: int, stated: str, flux_stated: str) -> Numbers:
    """Return inverse variances in the unit of flux to the power of −2.

    The file's own inverse variances are unchanged; `inverse_variance` converts the others.

    Parameters
    ----------
    values : uncertainties, of any shape: errors, variances or inverse variances
    power : 1 for errors, 2 for variances, −2 for inverse variances
    stated : their unit as the file has it; empty: that of flux
    flux_stated : the unit of flux as the file has it
    """
    numbers = real_numbers(values, "the uncertainty")
    flux = flux_unit(flux_stated)
    if stated.strip() and stated != flux_stated and flux is not None:
        unit = flux_unit(stated)
        # Variances often carry the unit of errors.
        if unit is None or (unit != flux**power and not unit.is_equivalent(flux**power)):
            raise BadFile(f"uncertainties are in {stated!r}, flux is in {flux_stated!r}")
        if unit != flux**power:
            numbers = u.Quantity(numbers, unit).to_value(flux**power)
    return inverse_variance(numbers, power)


def inverse_variance(values: Numbers, power: int) -> Numbers:
    """Return inverse variances of errors (power 1), variances (2) or inverse variances (−2).

    Inverse variances are unchanged, also negative ones and NaN. An error or variance that is 0,
    negative or not finite has no information, and gives 0.
    """
    if power == INVERSE:
        return values
    good = np.isfinite(values) & (values > 0)
    ivar = np.zeros(values.shape)
    with np.errstate(over="ignore", under="ignore"):
        known = values[good]
        ivar[good] = 1 / known**2 if power == 1 else 1 / known
    # A square may underflow or overflow a float64; neither is a weight.
    ivar[~np.isfinite(ivar)] = 0.0
    return ivar
