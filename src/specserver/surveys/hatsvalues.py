"""Spectra of HATS catalogues of others, brought into the units and the order of the store."""

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadFile
from .foundspectrum import INVERSE, ivar_in_unit, real_numbers
from .hatstable import HatsTable
from .statedunit import angstroms

_WAVE = "wavelength"


def stored_values(
    table: HatsTable, vectors: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """Return the vectors of a spectrum as they are stored: 1D[npix] each.

    Wavelengths become float64 in Å, uncertainties inverse variances, and flags numbers. Pixels at
    the end without a wavelength, with which lists are filled to one length, are left out. All other
    values stay as they are.

    Raises
    ------
    BadFile
        The wavelengths are in no unit of wavelengths, or values are no real numbers.
    """
    numbers = real_numbers(vectors[_WAVE], "the list of wavelengths")
    # Lists are often filled up with −1, 0 or NaN, which are neither wavelengths nor logarithms.
    held = np.flatnonzero(np.isfinite(numbers) & (numbers > 0))
    if not len(held):
        raise BadFile("it has no wavelengths")
    npix = int(held[-1]) + 1
    stored = {name: values[:npix] for name, values in vectors.items()}
    stored[_WAVE] = _wavelengths(table.wave_unit, numbers[:npix])
    flux = stored["flux"]
    bad = ~np.isfinite(flux)
    if "ivar" in stored:
        given = stored["ivar"]
        if table.power != INVERSE or table.ivar_unit:
            spectra = table.spectra
            made = ivar_in_unit(given, table.power, table.ivar_unit, spectra.flux_unit)
            unchanged = table.power == INVERSE and np.array_equal(made, given, equal_nan=True)
            stored["ivar"] = given if unchanged else made
        if table.power == INVERSE:
            bad |= ~(np.isfinite(stored["ivar"]) & (stored["ivar"] >= 0))
    mask = stored.get("mask")
    if mask is None or mask.dtype == np.bool_:
        stored["mask"] = (bad if mask is None else bad | mask).astype(np.uint32)
    return {
        name: np.ascontiguousarray(values, np.uint8 if values.dtype == np.bool_ else None)
        for name, values in stored.items()
    }


def _wavelengths(unit: str, numbers: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return wavelengths in Å, 1D[npix] float64; ``log`` before a unit means logarithms."""
    what = "the list of wavelengths"
    if not unit.startswith("log"):
        plain: npt.NDArray[np.float64] = angstroms(numbers, unit, what)
        return plain
    inner = unit.removeprefix("log").removeprefix("dex").strip(" ()[]")
    powers: npt.NDArray[np.float64] = angstroms(10.0**numbers, inner or "Angstrom", what)
    return powers
