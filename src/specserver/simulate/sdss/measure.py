"""Measurements of the pipeline on observed spectra: numbers of HDU2, and line fits of HDU3."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..common import emission
from ..common.objects import DEAD, STAR
from ..common.templates import KMS_PER_PIXEL, STEP, Float64
from .layout import LINE_RECORD
from .observe import GRID, Observed
from .plan import Plate

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
_NOT_FITTED = -1.0
_ERRORS = tuple(name for name in LINE_RECORD.names or () if name.endswith("_ERR"))


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
    bands = [_band(slice(*edge), snr, ivar, flux, sky, model) for edge in edges]
    stacked = np.array(bands, dtype="f4")
    out = masks | {
        "SN_MEDIAN": stacked[:, 0],
        "SPECTROFLUX": stacked[:, 2] * NANOMAGGIES,
        "SPECTROFLUX_IVAR": stacked[:, 1] / NANOMAGGIES**2,
        "SPECTROSKYFLUX": stacked[:, 3] * NANOMAGGIES,
        "SPECTROSYNFLUX": stacked[:, 4] * NANOMAGGIES,
        "SPECTROSYNFLUX_IVAR": stacked[:, 1] / NANOMAGGIES**2,
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
    edge: slice, snr: npt.NDArray[Any], ivar: npt.NDArray[Any], *fluxes: npt.NDArray[Any]
) -> list[float]:
    """Return S/N, summed ivar and mean fluxes in one band; zeros where it is not covered."""
    if not ivar[edge].any():
        return [0.0] * (2 + len(fluxes))
    means = [float(values[edge].mean()) for values in fluxes]
    return [float(np.median(snr[edge])), float(ivar[edge].sum()), *means]


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


def line_fits(
    truth: npt.NDArray[Any], plate: Plate, seen: Observed, rng: np.random.Generator
) -> npt.NDArray[Any]:
    """Return the line fits of a block: 2D[nspec, nline] of `LINE_RECORD`.

    Lines outside the spectrum have zero values and negative errors, as in real files.
    """
    listed = emission.line_rows(plate.family.run2d)
    index = np.array([i for i, _, _ in listed])
    out = np.zeros((truth.size, len(listed)), dtype=LINE_RECORD)
    out["PLATE"], out["MJD"] = plate.number, plate.mjd
    out["FIBERID"] = truth["fiber"][:, None]
    out["LINENAME"] = [name.ljust(13).encode() for _, name, _ in listed]
    out["LINEWAVE"] = [wave for _, _, wave in listed]
    for name in (*_ERRORS, "LINECHI2"):
        out[name] = _NOT_FITTED
    observed_aa = emission.WAVE[index] * (1.0 + truth["z"][:, None])
    pixel = np.rint(np.log10(observed_aa) / STEP).astype(np.int64) - seen.window
    where = np.clip(pixel, 0, seen.record.shape[1] - 1)
    ivar = np.take_along_axis(seen.record["ivar"].astype("f8"), where, axis=1)
    fitted = (pixel > seen.start[:, None] + 8) & (pixel < seen.stop[:, None] - 8) & (ivar > 0)
    fitted &= ~np.isin(truth["kind"], (STAR, DEAD))[:, None]
    step_aa = observed_aa * STEP * np.log(10.0)
    noise = step_aa / np.sqrt(np.where(fitted, ivar, 1.0))
    for name, values in _fits(truth, seen, index, noise, rng).items():
        out[name][fitted] = values[fitted]
    return out


def _fits(
    truth: npt.NDArray[Any],
    seen: Observed,
    index: npt.NDArray[np.int64],
    noise: Float64,
    rng: np.random.Generator,
) -> dict[str, npt.NDArray[Any]]:
    """Return fitted values by column, 2D[nspec, nline] each, as is the error of flux in a pixel."""
    narrow, broad = seen.models.narrow[:, index], seen.models.broad[:, index]
    sigma_narrow, sigma_broad = emission.widths_kms(truth)
    sigma = np.where(broad > narrow, sigma_broad[:, None], sigma_narrow[:, None])
    half = np.ceil(3.0 * np.hypot(sigma / KMS_PER_PIXEL, 0.9)).astype(np.int64)
    error = np.sqrt(3.0 * half) * noise
    area = narrow + broad + error * rng.standard_normal(noise.shape)
    level = np.clip(seen.models.continuum[:, index], 1e-4, None)
    return {
        "LINEZ": truth["z"][:, None] * np.ones_like(area),
        "LINEZ_ERR": np.full(area.shape, 2e-5),
        "LINESIGMA": sigma,
        "LINESIGMA_ERR": 0.05 * sigma,
        "LINEAREA": area,
        "LINEAREA_ERR": error,
        "LINEEW": area / level,
        "LINEEW_ERR": error / level,
        "LINECONTLEVEL": level,
        "LINECONTLEVEL_ERR": 0.02 * level,
        "LINENPIXLEFT": half,
        "LINENPIXRIGHT": half,
        "LINEDOF": 2.0 * half,
        "LINECHI2": 2.0 * half,
    }
