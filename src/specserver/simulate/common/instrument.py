"""The night sky and the spectrographs, which give a model its counts and noise.

Levels follow the medians of real files: sky, resolution and noise of SDSS (plates below 3000) and
BOSS at a given exposure time, and the strongest lines of the sky with their relative strengths.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from .tables import read_numbers
from .templates import KMS_PER_PIXEL, Float32, Float64, gaussian, lattice_wave

# Sky continuum of real BOSS files relative to 6500 Å: (wave_aa, level).
_SKY = read_numbers("sky_continuum")

# Variance per unit of (flux + sky) at the exposure time below: (wave_aa, coefficient).
_SDSS_NOISE, _BOSS_NOISE = read_numbers("noise_sdss"), read_numbers("noise_boss")
_SDSS_EXPTIME_S, _BOSS_EXPTIME_S = 2160.0, 3600.0

# Dispersion in pixels: (wave_aa, blue arm, red arm); the arms meet near 6000 Å.
_DISPERSION = read_numbers("dispersion")
_READ_FRACTION = 0.25
"""Share of the noise, in units of sky continuum, that does not come from photons."""
_AIRGLOW_FROM_AA = 6820.0


@dataclass(frozen=True, slots=True)
class Instrument:
    """One spectrograph on its window of lattice pixels."""

    first: int
    stop: int
    sky: Float32
    """1D[npix] float32, 1e-17 erg s-1 cm-2 Å-1: sky continuum of a fibre of full throughput."""
    lines: Float32
    """1D[npix] float32, in units of the sky continuum: lines that vary little."""
    airglow: Float32
    """1D[npix] float32, in units of the sky continuum: OH lines, which vary from plate to plate."""
    noise: Float32
    """1D[npix] float32: variance per unit of flux in one second."""
    dispersion: Float32
    """1D[npix] float32, pixels."""

    @property
    def npix(self) -> int:
        """Number of pixels of the window."""
        return self.stop - self.first


@cache
def instrument(*, boss: bool) -> Instrument:
    """Return the BOSS or the SDSS spectrographs."""
    first, stop = (35480, 40190) if boss else (35760, 39665)
    wave = lattice_wave(first, stop)
    level = 2.1 if boss else 5.0
    table, exptime_s = (_BOSS_NOISE, _BOSS_EXPTIME_S) if boss else (_SDSS_NOISE, _SDSS_EXPTIME_S)
    noise = np.exp(np.interp(wave, table[:, 0], np.log(table[:, 1]))) * exptime_s
    lines, airglow = _sky_lines(wave)
    blue, red = (np.interp(wave, _DISPERSION[:, 0], _DISPERSION[:, arm]) for arm in (1, 2))
    handover = 1.0 / (1.0 + np.exp(-(wave - 5950.0) / 45.0))
    return Instrument(
        first,
        stop,
        single(level * np.interp(wave, _SKY[:, 0], _SKY[:, 1])),
        single(lines),
        single(airglow),
        single(noise),
        single(blue + (red - blue) * handover),
    )


def read_noise_floor(spectrograph: Instrument) -> Float32:
    """Return the constant part of the variance in units of flux: 1D[npix] float32."""
    return spectrograph.sky * np.float32(_READ_FRACTION)


def _sky_lines(wave: Float64) -> tuple[Float64, Float64]:
    """Return steady lines and OH lines in units of the continuum: two 1D[npix] float64."""
    lines, airglow = np.zeros(wave.size), np.zeros(wave.size)
    for centre, peak in read_numbers("sky_lines"):
        target = airglow if centre > _AIRGLOW_FROM_AA else lines
        target += peak * gaussian(wave, centre, centre * 0.95 * KMS_PER_PIXEL / 299792.458)
    return lines, airglow


def single(values: Float64 | Float32) -> Float32:
    """Return values in single precision: 1D[npix] float32."""
    return values.astype(np.float32)
