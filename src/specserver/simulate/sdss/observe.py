"""The rows of HDU1 from noiseless models: noise, sky, masks and coverage."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...model.grid import LogLinear
from ..common.instrument import Instrument, instrument, read_noise_floor
from ..common.models import Models, build_models
from ..common.objects import DEAD
from ..common.templates import STEP, Float32
from .layout import RECORD, Family

GRID = LogLinear(STEP)

# SPPIXMASK, sdss/valis sdssMaskbits.par
NEARBADPIXEL, LOWFLAT, FULLREJECT, PARTIALREJECT = 1 << 16, 1 << 17, 1 << 18, 1 << 19
SCATTEREDLIGHT, NOSKY, BRIGHTSKY, NODATA = 1 << 20, 1 << 22, 1 << 23, 1 << 24
COMBINEREJ, BADFLUXFACTOR, BADSKYCHI = 1 << 25, 1 << 26, 1 << 27

# Where the arms of BOSS end inside the spectrum, or_mask of real files has these bits:
# (bit, first lattice pixel, one past the last).
_BOSS_ARMS = (
    (LOWFLAT, 37126, 37663),
    (LOWFLAT, 38039, 38169),
    (NOSKY, 37126, 37649),
    (NOSKY, 38004, 38169),
    (NODATA, 37095, 37126),
    (NODATA, 38169, 38590),
    (BADFLUXFACTOR, 37095, 37650),
    (BADFLUXFACTOR, 38002, 38590),
)
_BRIGHT_ALWAYS, _BRIGHT_SOMETIMES, _BRIGHT_RESIDUAL = 14.0, 2.2, 25.0
"""Line-to-continuum ratios of the sky from which and_mask, or_mask flag BRIGHTSKY and BADSKYCHI."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions that all spectra of a plate share."""

    exptime_s: float
    airglow: float
    """Strength of the OH lines relative to the typical night."""
    lines: float
    """Strength of the other sky lines relative to the typical night."""
    first: int
    """Lattice pixel where the plate's spectra start, give or take a few."""


@dataclass(frozen=True, slots=True)
class Observed:
    """A block of observed spectra on the instrument's window."""

    record: npt.NDArray[Any]
    """2D[nspec, npix] of `RECORD`"""
    start: npt.NDArray[np.int64]
    """1D[nspec] int64: first pixel of each spectrum within the window."""
    stop: npt.NDArray[np.int64]
    """1D[nspec] int64"""
    models: Models
    window: int
    """Lattice pixel of the window's first."""

    def spectrum(self, index: int) -> npt.NDArray[Any]:
        """Return the rows of one spectrum: 1D[npix] of `RECORD`."""
        rows: npt.NDArray[Any] = self.record[index, self.start[index] : self.stop[index]]
        return rows


def draw_conditions(family: Family, rng: np.random.Generator) -> Conditions:
    """Return the night and exposure of one observation of a plate."""
    return Conditions(
        exptime_s=float(rng.integers(3, 8)) * (900.0 if family.boss else 800.0),
        airglow=float(rng.lognormal(0.0, 0.3)),
        lines=float(rng.lognormal(0.0, 0.25)),
        first=int(rng.integers(35512, 35532) if family.boss else rng.integers(35790, 35815)),
    )


def observe(
    truth: npt.NDArray[Any], family: Family, night: Conditions, rng: np.random.Generator
) -> Observed:
    """Return the observed spectra of a block of objects: 1D[nspec] of TRUTH."""
    spectrograph = instrument(boss=family.boss)
    n = truth.size
    loss = np.clip(rng.lognormal(0.25, 0.3, n), 0.8, 3.0).astype(np.float32)
    models = build_models(truth, spectrograph, loss, night.exptime_s, rng)
    excess = spectrograph.lines * np.float32(night.lines) + spectrograph.airglow * np.float32(
        night.airglow
    )
    ripple = rng.normal(1.0, 0.015, n).astype(np.float32)
    sky = (loss * ripple)[:, None] * (spectrograph.sky * (1.0 + excess))
    coefficient = spectrograph.noise / np.float32(night.exptime_s)
    variance = (
        np.clip(models.flux, 0.0, None) + sky + loss[:, None] * read_noise_floor(spectrograph)
    )
    variance *= loss[:, None] * coefficient
    ivar = (rng.lognormal(0.0, 0.04, n).astype(np.float32)[:, None] / variance).astype(np.float32)
    record = np.empty(ivar.shape, dtype=RECORD)
    record["ivar"] = ivar
    record["and_mask"], record["or_mask"] = _masks(n, family, spectrograph, excess, rng)
    start, stop = _coverage(truth, family, spectrograph, night, rng)
    _holes(record, start, stop, rng)
    # Sky subtraction leaves more than photon noise under the strongest lines.
    residual = 1.0 + 1.6 * excess / (excess + 40.0)
    scatter = rng.standard_normal(ivar.shape, dtype=np.float32) * residual.astype(np.float32)
    good = record["ivar"] > 0
    scatter *= np.sqrt(variance)
    record["model"] = models.flux
    record["flux"] = models.flux + scatter * good
    record["loglam"] = GRID.axis_values(spectrograph.first, spectrograph.npix)
    width = rng.normal(1.0, 0.05, n).astype(np.float32)
    record["wdisp"] = width[:, None] * spectrograph.dispersion * good
    record["sky"] = sky * good
    # Fibres that were not plugged saw nothing.
    dead = truth["kind"] == DEAD
    for name in ("flux", "ivar", "wdisp", "sky", "model"):
        record[name][dead] = 0.0
    for name in ("and_mask", "or_mask"):
        record[name][dead] = NODATA
    return Observed(record, start, stop, models, spectrograph.first)


def _coverage(
    truth: npt.NDArray[Any],
    family: Family,
    spectrograph: Instrument,
    night: Conditions,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each spectrum's first and last pixel in the window, in the family's real range."""
    n = truth.size
    second = truth["fiber"] > family.nfiber // 2
    if family.boss:
        first = night.first + rng.integers(0, 3, n) + np.where(second, 52, 0)
        last = 40142 + rng.integers(0, 9, n) + np.where(second, 20, 0)
    else:
        first = night.first + rng.integers(-3, 18, n) - np.where(second, 4, 0)
        last = 39628 + rng.integers(0, 19, n)
        cut = rng.random(n) < 0.01
        last = np.where(cut, last - rng.integers(50, 900, n), last)
    return first - spectrograph.first, last - spectrograph.first


def _masks(
    n: int, family: Family, spectrograph: Instrument, excess: Float32, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return and_mask and or_mask: two 2D[n, npix] int32."""
    always = np.where(excess > _BRIGHT_ALWAYS, BRIGHTSKY, 0).astype(np.int32)
    sometimes = np.where(excess > _BRIGHT_SOMETIMES, BRIGHTSKY, 0).astype(np.int32)
    sometimes |= np.where(excess > _BRIGHT_RESIDUAL, BADSKYCHI, 0).astype(np.int32)
    if family.boss:
        for bit, first, stop in _BOSS_ARMS:
            sometimes[first - spectrograph.first : stop - spectrograph.first] |= bit
    and_mask = np.tile(always, (n, 1))
    or_mask = np.tile(sometimes | always, (n, 1))
    _strew(or_mask, FULLREJECT | PARTIALREJECT | COMBINEREJ, 40, 3, rng)
    _strew(or_mask, COMBINEREJ, 25, 3, rng)
    _strew(or_mask, NEARBADPIXEL, 12, 22, rng)
    _strew(or_mask, SCATTEREDLIGHT, 2, 40, rng)
    return and_mask, or_mask


def _strew(
    mask: npt.NDArray[np.int32], bits: int, count: int, length: int, rng: np.random.Generator
) -> None:
    """Set bits on short runs at random places, in place."""
    n, npix = mask.shape
    place = rng.integers(0, npix - length, (n, count))
    flat = (place + np.arange(n)[:, None] * npix)[..., None] + np.arange(length)
    mask.reshape(-1)[flat.reshape(-1)] |= np.int32(bits)


def _holes(
    record: npt.NDArray[Any],
    start: npt.NDArray[np.int64],
    stop: npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> None:
    """Take away pixels, in place: single ones without a flag, rare stretches, ends."""
    ivar, and_mask, or_mask = (record[name] for name in ("ivar", "and_mask", "or_mask"))
    for i, (low, high) in enumerate(zip(start.tolist(), stop.tolist(), strict=True)):
        ivar[i, rng.integers(low, high, int(rng.integers(0, 12)))] = 0.0
        draw = rng.random()
        if draw < 0.06:
            place = int(rng.integers(low, high - 70))
            hole = slice(place, place + int(rng.integers(12, 70)))
            bits = np.int32(NEARBADPIXEL | FULLREJECT | PARTIALREJECT | COMBINEREJ | NODATA)
        elif draw < 0.14:
            hole = slice(high - int(rng.integers(2, 30)), high)
            bits = np.int32(NODATA)
        else:
            continue
        ivar[i, hole] = 0.0
        and_mask[i, hole] |= bits
        or_mask[i, hole] |= bits
