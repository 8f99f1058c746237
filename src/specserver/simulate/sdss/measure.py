"""Measurements of the pipeline on an observed spectrum: numbers of HDU2 from arrays of HDU1."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common.templates import Float64
from .observe import GRID, Observed

# Edges of u, g, r, i, z in Å, and the factor from 1e-17 erg s-1 cm-2 Å-1 to nanomaggies
# (1 nanomaggy = 3.631e-29 erg s-1 cm-2 Hz-1) at their effective wavelengths.
BANDS_AA = (
    (3300.0, 3850.0),
    (3850.0, 5450.0),
    (5600.0, 6850.0),
    (6850.0, 8250.0),
    (8250.0, 9950.0),
)
_EFFECTIVE_AA = np.array([3551.0, 4686.0, 6166.0, 7480.0, 8932.0])
NANOMAGGIES: Float64 = 1e-17 * _EFFECTIVE_AA**2 / 2.99792458e18 / 3.631e-29
_NSIGMA = 10


def measure(seen: Observed) -> dict[str, npt.NDArray[Any]]:
    """Return measured columns by name, 1D[nspec] or 2D[nspec, 5 or 10]."""
    listed = [_measure_one(seen.spectrum(i)) for i in range(len(seen.start))]
    return {name: np.array([values[name] for values in listed]) for name in listed[0]}


def _measure_one(rows: npt.NDArray[Any]) -> Mapping[str, Any]:
    """Return the measured columns of one spectrum."""
    flux, ivar, model, sky = (rows[name].astype("f4") for name in ("flux", "ivar", "model", "sky"))
    good = ivar > 0
    masks = {
        "ANYANDMASK": np.bitwise_or.reduce(rows["and_mask"].astype("i4")),
        "ANYORMASK": np.bitwise_or.reduce(rows["or_mask"].astype("i4")),
    }
    root = np.sqrt(ivar)
    snr = flux * root
    wave = GRID.wave_of(rows["loglam"])
    edges = [np.searchsorted(wave, band) for band in BANDS_AA]
    bands = [_band(slice(*edge), flux, snr, ivar, sky, model) for edge in edges]
    stacked = np.array(bands, dtype="f4")
    out = masks | {
        "SN_MEDIAN": stacked[:, 0],
        "SPECTROFLUX": stacked[:, 1] * NANOMAGGIES,
        "SPECTROFLUX_IVAR": stacked[:, 2] / NANOMAGGIES**2,
        "SPECTROSKYFLUX": stacked[:, 3] * NANOMAGGIES,
        "SPECTROSYNFLUX": stacked[:, 4] * NANOMAGGIES,
        "SPECTROSYNFLUX_IVAR": stacked[:, 2] / NANOMAGGIES**2,
    }
    if not good.any():
        return out | _nothing()
    chi = ((flux - model) * root)[good]
    inside = np.flatnonzero(good)[[0, -1]]
    return out | {
        "SN_MEDIAN_ALL": np.median(snr[good]),
        "WAVEMIN": wave[inside[0]],
        "WAVEMAX": wave[inside[1]],
        "WCOVERAGE": 1e-4 * np.count_nonzero(good),
        "DOF": np.count_nonzero(good) - 7,
        "RCHI2": np.dot(chi, chi) / max(1, chi.size - 7),
        "CHI68P": np.partition(np.abs(chi), int(0.68 * chi.size))[int(0.68 * chi.size)],
        **_outliers(chi),
    }


def _band(
    edge: slice,
    flux: npt.NDArray[Any],
    snr: npt.NDArray[Any],
    ivar: npt.NDArray[Any],
    sky: npt.NDArray[Any],
    model: npt.NDArray[Any],
) -> tuple[float, ...]:
    """Return S/N, flux, its ivar, sky and model flux in one band; zeros where it is not covered."""
    weight = ivar[edge]
    if weight.size == 0 or not weight.any():
        return 0.0, 0.0, 0.0, 0.0, 0.0
    return (
        float(np.median(snr[edge])),
        float(flux[edge].mean()),
        float(weight.sum()),
        float(sky[edge].mean()),
        float(model[edge].mean()),
    )


def _outliers(chi: npt.NDArray[Any]) -> dict[str, Float64]:
    """Return the share of pixels beyond 1 … 10 σ on either side."""
    edges = np.arange(1, _NSIGMA + 1, dtype=np.float64)
    ordered = np.sort(chi)
    high = (chi.size - np.searchsorted(ordered, edges, side="right")) / chi.size
    low = np.searchsorted(ordered, -edges) / chi.size
    return {"FRACNSIGHI": high, "FRACNSIGLO": low, "FRACNSIGMA": high + low}


def _nothing() -> dict[str, Any]:
    """Return the measurements of a fibre without light: zeros, as in real files."""
    single = ("SN_MEDIAN_ALL", "WAVEMIN", "WAVEMAX", "WCOVERAGE", "DOF", "RCHI2", "CHI68P")
    tens = ("FRACNSIGHI", "FRACNSIGLO", "FRACNSIGMA")
    return dict.fromkeys(single, 0.0) | {name: np.zeros(_NSIGMA) for name in tens}
