"""Noiseless spectra of a block of objects, as the fibre sees them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import emission
from .instrument import Instrument, read_noise_floor
from .objects import AGN, BROADLINE, DEAD, GALAXY, PASSIVE, QSO, SKY, STAR, STARBURST
from .tables import read_numbers
from .templates import (
    FIRST,
    FIRST_STAR,
    OLD,
    OLD_FAST,
    QUASAR,
    QUASAR_IRON,
    STEP,
    YOUNG,
    Float32,
    Float64,
    lattice_wave,
    library,
)

_LYA_AA, _LYB_AA, _LYMAN_AA = 1215.67, 1025.72, 911.76
# Share of the first template: lowest value and range, by subtype of galaxy.
_YOUNG_SHARE = {
    PASSIVE: (0.0, 1.0),
    AGN: (0.08, 0.3),
    BROADLINE: (0.12, 0.4),
    STARBURST: (0.75, 0.2),
}
_MEDIAN_AA = {False: 6300.0, True: 6800.0}


@dataclass(frozen=True, slots=True)
class Models:
    """Noiseless spectra with the lines that were put in."""

    flux: Float32
    """2D[nspec, npix] float32, 1e-17 erg s-1 cm-2 Å-1"""
    narrow: Float32
    """2D[nspec, nline] float32, 1e-17 erg s-1 cm-2"""
    broad: Float32
    """2D[nspec, nline] float32, 1e-17 erg s-1 cm-2"""
    continuum: Float32
    """2D[nspec, nline] float32, 1e-17 erg s-1 cm-2 Å-1, at each line"""


def build_models(
    truth: npt.NDArray[Any],
    spectrograph: Instrument,
    loss: Float32,
    exptime_s: float,
    rng: np.random.Generator,
) -> Models:
    """Return the models of a block, scaled to the signal-to-noise that each object asks for.

    Parameters
    ----------
    truth : 1D[nspec] TRUTH
    loss : 1D[nspec] float32
        How much fainter a fibre's sky-to-noise ratio is than the instrument's best.
    """
    first, second, share = _ingredients(truth)
    flux = _continuum(truth, spectrograph, first, second, share)
    lines = np.rint(np.log10(emission.WAVE) / STEP).astype(np.int64) - FIRST
    lib = library()
    level = share[:, None] * lib[first[:, None], lines]
    level += (1 - share[:, None]) * lib[second[:, None], lines]
    narrow = emission.narrow_areas(truth, level)
    broad = emission.broad_areas(truth, level)
    stretch = (1.0 + truth["z"][:, None]).astype(np.float32)
    tilt = np.exp(truth["tilt"][:, None] * np.log(emission.WAVE * stretch / 6500.0))
    size = tilt.astype(np.float32)
    narrow, broad, level = narrow * size * stretch, broad * size * stretch, level * size
    emission.add_lines(flux, truth, narrow, broad, spectrograph)
    _absorb(flux, truth, spectrograph, rng)
    amplitude = _amplitude(flux, truth, spectrograph, loss, exptime_s)[:, None]
    return Models(flux * amplitude, narrow * amplitude, broad * amplitude, level * amplitude)


def _ingredients(
    truth: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Float32]:
    """Return the two templates of each object and the share of the first."""
    kind, subtype = truth["kind"], truth["subtype"].astype(np.int64)
    first = np.full(truth.size, OLD, dtype=np.int64)
    second = np.full(truth.size, OLD, dtype=np.int64)
    share = np.array(truth["mix"], dtype=np.float32)
    for number in range(5):
        low, reach = _YOUNG_SHARE.get(number, (0.3, 0.45))
        chosen = (kind == GALAXY) & (subtype == number)
        first[chosen] = OLD_FAST if number == PASSIVE else YOUNG
        share[chosen] = low + reach * share[chosen]
    first[kind == QSO], second[kind == QSO] = QUASAR_IRON, QUASAR
    star = kind == STAR
    first[star] = second[star] = FIRST_STAR + subtype[star]
    return first, second, share


def _continuum(
    truth: npt.NDArray[Any],
    spectrograph: Instrument,
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    share: Float32,
) -> Float32:
    """Return shifted templates with their tilt: 2D[nspec, npix] float32."""
    lib = library()
    out = np.empty((truth.size, spectrograph.npix), dtype=np.float32)
    shift = np.log10(1.0 + truth["z"]) / STEP
    whole = np.floor(shift).astype(np.int64)
    part = (shift - whole).astype(np.float32)
    for i in range(truth.size):
        start = spectrograph.first - int(whole[i]) - 1 - FIRST
        window = slice(start, start + spectrograph.npix + 1)
        rest = share[i] * lib[first[i], window] + (1 - share[i]) * lib[second[i], window]
        out[i] = part[i] * rest[:-1] + (1 - part[i]) * rest[1:]
    axis = np.log(lattice_wave(spectrograph.first, spectrograph.stop) / 6500.0).astype(np.float32)
    out *= np.exp(truth["tilt"][:, None] * axis)
    return out


def _absorb(
    flux: Float32, truth: npt.NDArray[Any], spectrograph: Instrument, rng: np.random.Generator
) -> None:
    """Multiply the quasars of a block by the transmission of intergalactic gas, in place."""
    wave = lattice_wave(spectrograph.first, spectrograph.stop)
    for i in np.flatnonzero(truth["kind"] == QSO):
        z = float(truth["z"][i])
        if _LYA_AA * (1 + z) > wave[0]:
            flux[i] *= _forest(wave, z, rng)
        if truth["subtype"][i]:
            flux[i] *= _broad_absorption(wave, z, rng)
        if rng.random() < 0.3:
            flux[i] *= _metal_system(wave, rng.uniform(0.35, max(0.4, z)))


def _forest(wave: Float64, z: float, rng: np.random.Generator) -> Float32:
    """Return the transmission of the Lyα forest with its Lyβ and Lyman limit.

    The mean optical depth follows Becker et al. (2013) in form, the scatter a lognormal field.
    """
    count = int(np.searchsorted(wave, _LYA_AA * (1 + z)))
    depth = 0.0036 * (wave[:count] / _LYA_AA) ** 3.45
    noise = rng.standard_normal(count + 16)
    coarse = np.convolve(noise, np.hanning(13)[1:-1], mode="same")[8 : 8 + count] / 2.1
    fine = np.convolve(noise[::-1], np.ones(3), mode="same")[8 : 8 + count] / 1.73
    tau = depth * 0.62 * np.exp(1.25 * (0.7 * coarse + 0.7 * fine))
    # Lyβ of the gas that lies _LYB/_LYA bluer, with a fifth of the optical depth.
    offset = round(np.log10(_LYA_AA / _LYB_AA) / STEP)
    beta = int(np.searchsorted(wave, _LYB_AA * (1 + z)))
    tau[:beta] += 0.19 * tau[offset : offset + beta] if offset + beta <= count else 0.0
    out = np.ones(wave.size, dtype=np.float32)
    out[:count] = np.exp(-tau)
    if rng.random() < 0.12:
        # A damped Lyα system of about 10^20.6 cm-2.
        centre_aa = _LYA_AA * (1 + z - rng.uniform(0.05, 0.4))
        out *= np.exp(-60.0 / (1.0 + (wave - centre_aa) ** 2 / 3.0)).astype(np.float32)
    limit = _LYMAN_AA * (1 + z - rng.exponential(0.12))
    out[wave < limit] *= np.float32(0.03)
    return out


def _broad_absorption(wave: Float64, z: float, rng: np.random.Generator) -> Float32:
    """Return the troughs of an outflow in C IV, Si IV and N V."""
    out = np.ones(wave.size)
    outflow, width = rng.uniform(0.02, 0.06), rng.uniform(0.004, 0.011)
    for line_aa, depth in ((1549.06, 0.8), (1396.8, 0.5), (1240.1, 0.7)):
        centre = line_aa * (1 + z) * (1 - outflow)
        out *= 1 - depth * np.exp(-(np.abs((wave - centre) / (centre * width)) ** 3))
    return out.astype(np.float32)


def _metal_system(wave: Float64, z: float) -> Float32:
    """Return the transmission of an intervening galaxy: Mg II, Mg I, Fe II."""
    out = np.ones(wave.size)
    for line_aa, depth in read_numbers("metal_absorption"):
        centre = line_aa * (1 + z)
        out *= 1 - depth * np.exp(-0.5 * ((wave - centre) / (centre * 2.4e-4)) ** 2)
    return out.astype(np.float32)


def _amplitude(
    flux: Float32,
    truth: npt.NDArray[Any],
    spectrograph: Instrument,
    loss: Float32,
    exptime_s: float,
) -> Float32:
    """Return the factor that gives each object its signal-to-noise at a typical pixel."""
    boss = spectrograph.stop > 40000
    pixel = round(np.log10(_MEDIAN_AA[boss]) / STEP) - spectrograph.first
    near = slice(pixel - 150, pixel + 151)
    typical = np.median(flux[:, near], axis=1)
    level = np.median(flux[:, ::8], axis=1)
    background = float(np.median((spectrograph.sky + read_noise_floor(spectrograph))[near])) * loss
    noise = float(np.median(spectrograph.noise[near])) / exptime_s * loss
    want = truth["sn"] ** 2 * noise
    signal = 0.5 * (want + np.sqrt(want**2 + 4 * want * background))
    out = signal / np.clip(0.5 * (typical + level), 1e-3, None)
    out = np.where(truth["kind"] == SKY, 0.012 * background / np.clip(level, 1e-3, None), out)
    return np.where(truth["kind"] == DEAD, 0.0, out).astype(np.float32)
