"""The spectra of a block of targets in the three arms of DESI: flux, inverse variance and mask.

Levels follow real coadds: inverse variance of the sky's continuum in 1,000 s of dark time, which
falls where an arm ends, the more so as the neighbouring arm takes over.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ...model.grid import Linear
from ..common.instrument import Instrument, instrument, single
from ..common.models import build_models
from ..common.objects import DEAD
from ..common.tables import read_numbers
from ..common.templates import STEP, Float32, lattice_wave
from .plan import Light

GRID = Linear(start=3600.0, step=0.8)
ARMS: Mapping[str, tuple[int, int]] = {"B": (0, 2751), "R": (2700, 5026), "Z": (4900, 7781)}
"""First pixel of the lattice and the one after the last, by arm."""
NPIX = 7781
REFERENCE_S = 1000.0
SOMEBADPIX, BADFIBER = 1, 512
"""SPECMASK bits."""

# Inverse variance of blank sky between its lines: (wave_aa, level) of each arm.
_LEVELS = {arm: read_numbers(f"desi_ivar_{arm.lower()}").T for arm in ARMS}
_FIRST, _STOP = 35540, 39935
"""Pixels of the templates' lattice around 3600–9824 Å."""
_SKY_SHARE = 1.2 / 2.1
"""A fibre of 1.5 arcsec takes in less sky than one of 2 arcsec."""
_FLOOR = 0.25
"""Noise that does not come from photons, in units of the sky's continuum."""
_BAD_RUNS = 3
"""Short runs of bad pixels an arm and target."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A block of targets as the arms see them."""

    model: Float32
    """2D[nspec, 7781] float32, 1e-17 erg s-1 cm-2 Å-1"""
    flux: Mapping[str, Float32]
    """By arm, 2D[nspec, npix] float32, 1e-17 erg s-1 cm-2 Å-1"""
    ivar: Mapping[str, Float32]
    """By arm, 2D[nspec, npix] float32, flux**-2"""
    mask: Mapping[str, npt.NDArray[np.uint32]]
    """By arm, 2D[nspec, npix] uint32"""


@dataclass(frozen=True, slots=True)
class _Lattice:
    """The survey's lattice as seen from the templates', and what the sky does there."""

    left: npt.NDArray[np.int64]
    part: Float32
    sky: Float32
    """1D[7781] float32, 1e-17 erg s-1 cm-2 Å-1: continuum"""
    lines: Float32
    """1D[7781] float32, in units of the continuum"""
    noise: Mapping[str, Float32]
    """By arm, 1D[npix] float32: variance per unit of flux in 1,000 s"""


@cache
def _spectrograph() -> Instrument:
    """Return the instrument on the templates' lattice: BOSS' sky, all arms' noise."""
    sky = instrument(boss=True)
    window = slice(_FIRST - sky.first, _STOP - sky.first)
    wave = lattice_wave(_FIRST, _STOP)
    ivar = np.max([np.interp(wave, at, level, 0.0, 0.0) for at, level in _LEVELS.values()], axis=0)
    level = sky.sky[window] * np.float32(_SKY_SHARE)
    # A pixel of the templates is 1.45 Å wide at 6300 Å.
    width = wave * STEP * np.log(10.0) / GRID.step
    noise = REFERENCE_S / (np.maximum(ivar, 0.03) * level * (1 + _FLOOR) * width)
    dispersion = np.full(wave.size, 0.8, np.float32)
    return Instrument(
        _FIRST, _STOP, level, sky.lines[window], sky.airglow[window], single(noise), dispersion
    )


@cache
def _lattice() -> _Lattice:
    """Return where each pixel of the survey lies between two of the templates."""
    spectrograph = _spectrograph()
    wave = GRID.wave(0, NPIX)
    place = np.log10(wave) / STEP - spectrograph.first
    left = np.floor(place).astype(np.int64)
    sky, steady, airglow = (
        single(np.interp(place, np.arange(spectrograph.npix), values))
        for values in (spectrograph.sky, spectrograph.lines, spectrograph.airglow)
    )
    noise = {}
    for arm, (first, stop) in ARMS.items():
        level = np.exp(np.interp(wave[first:stop], _LEVELS[arm][0], np.log(_LEVELS[arm][1])))
        noise[arm] = single(1.0 / (level * sky[first:stop] * (1 + _FLOOR)))
    return _Lattice(left, single(place - left), sky, 0.8 * steady + 1.5 * airglow, noise)


def observe_targets(
    targets: npt.NDArray[Any],
    exptime_s: Float32,
    airglow: float,
    rng: np.random.Generator,
    light: Sequence[Light],
) -> Seen:
    """Return what is seen of a block of targets.

    Parameters
    ----------
    targets : 1D[nspec] TARGET
    exptime_s : 1D[nspec] float32
    airglow : strength of the sky's lines relative to the typical night
    light : spectra of the first targets without noise, in place of drawn models
    """
    grid = _lattice()
    n = targets.size
    loss = np.clip(rng.lognormal(0.05, 0.15, n), 0.8, 2.0).astype(np.float32)
    models = build_models(targets, _spectrograph(), loss, REFERENCE_S, rng)
    model = models.flux[:, grid.left] * (1 - grid.part)
    model += models.flux[:, grid.left + 1] * grid.part
    for index, (wave_aa, seen) in enumerate(light):
        model[index] = np.interp(GRID.wave(0, NPIX), wave_aa, seen)
    background = grid.sky * (1 + _FLOOR + grid.lines * np.float32(airglow))
    factor = (loss * loss * REFERENCE_S / np.maximum(exptime_s, 1.0))[:, None]
    flux, ivar, mask = {}, {}, {}
    for arm, (first, stop) in ARMS.items():
        pixels = slice(first, stop)
        variance = np.maximum(model[:, pixels], 0) + background[pixels]
        variance *= factor * grid.noise[arm]
        noise = rng.standard_normal(variance.shape, dtype=np.float32)
        noise *= np.sqrt(variance)
        noise += model[:, pixels]
        flux[arm], ivar[arm] = noise, np.reciprocal(variance, out=variance)
        mask[arm] = np.zeros(variance.shape, np.uint32)
        _spoil(flux[arm], ivar[arm], mask[arm], rng)
    # Coadds of bad fibres are empty; the mask does not say so.
    bad = (targets["status"] != 0) | (targets["kind"] == DEAD)
    for values in (*flux.values(), *ivar.values(), *mask.values()):
        values[bad] = 0
    return Seen(model, flux, ivar, mask)


def _spoil(
    flux: Float32, ivar: Float32, mask: npt.NDArray[np.uint32], rng: np.random.Generator
) -> None:
    """Mask short runs of pixels, in place; half of them keep their values."""
    n, npix = flux.shape
    at = rng.integers(0, npix - 3, (n, _BAD_RUNS))
    length = rng.integers(0, 4, (n, _BAD_RUNS))
    offset = np.arange(3)
    row = np.arange(n)[:, None, None]
    flat = (row * npix + at[..., None] + offset)[offset < length[..., None]]
    mask.reshape(-1)[flat] = SOMEBADPIX
    # A masked pixel keeps what was measured if no exposure was better.
    lost = flat[rng.random(flat.size) < 0.5]
    flux.reshape(-1)[lost] = 0.0
    ivar.reshape(-1)[lost] = 0.0
