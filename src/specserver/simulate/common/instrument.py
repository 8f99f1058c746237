"""The night sky and the spectrographs: what turns a model into counts and noise.

Levels follow the medians of real files: sky, resolution and noise of SDSS (plates below 3000) and
BOSS at a given exposure time, and the strongest lines of the sky with their relative strengths.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from .tables import read_rows
from .templates import KMS_PER_PIXEL, Float32, Float64, gaussian, lattice_wave

# Sky continuum of real BOSS files relative to 6500 Å: (wave_aa, level).
_SKY = np.array(
    [
        (3548, 1.65),
        (3700, 1.45),
        (3900, 1.40),
        (4300, 1.32),
        (4700, 1.30),
        (5100, 1.18),
        (5370, 1.20),
        (5560, 1.28),
        (5754, 1.50),
        (5956, 1.72),
        (6165, 1.35),
        (6400, 1.10),
        (6700, 0.96),
        (7100, 0.92),
        (7600, 0.94),
        (8200, 0.90),
        (8800, 0.92),
        (9300, 0.88),
        (9650, 0.95),
        (10000, 1.35),
        (10400, 1.40),
    ]
)

# Variance per unit of (flux + sky) at the exposure time below: (wave_aa, coefficient).
_SDSS_NOISE = np.array(
    [
        (3760, 1.45),
        (3830, 0.86),
        (3980, 0.47),
        (4170, 0.27),
        (4360, 0.187),
        (4780, 0.120),
        (5250, 0.088),
        (5700, 0.082),
        (6000, 0.066),
        (6310, 0.036),
        (6600, 0.030),
        (7240, 0.031),
        (7900, 0.036),
        (8300, 0.050),
        (8700, 0.078),
        (9220, 0.150),
    ]
)
_BOSS_NOISE = np.array(
    [
        (3548, 1.60),
        (3630, 0.80),
        (3800, 0.218),
        (3980, 0.085),
        (4170, 0.049),
        (4570, 0.028),
        (5010, 0.0192),
        (5500, 0.0155),
        (5750, 0.0158),
        (6025, 0.0204),
        (6310, 0.0172),
        (6610, 0.0122),
        (6920, 0.0109),
        (7590, 0.0105),
        (8320, 0.0094),
        (8710, 0.0068),
        (9550, 0.0144),
        (10000, 0.042),
        (10250, 0.17),
        (10420, 0.60),
    ]
)
_SDSS_EXPTIME_S, _BOSS_EXPTIME_S = 2160.0, 3600.0

# Dispersion in pixels: (wave_aa, blue arm, red arm); the arms meet near 6000 Å.
_DISPERSION = np.array(
    [
        (3550, 1.34, 1.20),
        (4000, 1.20, 1.20),
        (4500, 1.07, 1.15),
        (5000, 0.96, 1.10),
        (5600, 0.87, 1.06),
        (6200, 0.86, 1.01),
        (7000, 0.86, 0.90),
        (8000, 0.86, 0.80),
        (9000, 0.86, 0.74),
        (9800, 0.86, 0.78),
        (10400, 0.86, 0.88),
    ]
)
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
        _single(level * np.interp(wave, _SKY[:, 0], _SKY[:, 1])),
        _single(lines),
        _single(airglow),
        _single(noise),
        _single(blue + (red - blue) * handover),
    )


def read_noise_floor(spectrograph: Instrument) -> Float32:
    """Return the constant part of the variance in units of flux: 1D[npix] float32."""
    return spectrograph.sky * np.float32(_READ_FRACTION)


def _sky_lines(wave: Float64) -> tuple[Float64, Float64]:
    """Return steady lines and OH lines in units of the continuum: two 1D[npix] float64."""
    lines, airglow = np.zeros(wave.size), np.zeros(wave.size)
    for centre_text, peak_text in read_rows("sky_lines"):
        centre, peak = float(centre_text), float(peak_text)
        target = airglow if centre > _AIRGLOW_FROM_AA else lines
        target += peak * gaussian(wave, centre, centre * 0.95 * KMS_PER_PIXEL / 299792.458)
    return lines, airglow


def _single(values: Float64) -> Float32:
    """Return values in single precision: 1D[npix] float32."""
    return values.astype(np.float32)
