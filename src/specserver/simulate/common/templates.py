"""Rest-frame templates of galaxies, quasars and stars on the survey's logarithmic lattice.

They are drawn, not measured: continua from control points or black bodies, features from lists of
lines with depths that follow the temperature. Close enough that pipelines and people recognise
the objects; not a stellar library.
"""

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]

STEP = 1e-4
FIRST, STOP = 27000, 40480
"""Lattice pixels that a template covers: 501 to 11194 Å at rest."""

KMS_PER_PIXEL = 69.03
_FOREST_SEED = 1814  # the year Fraunhofer drew the lines; any constant would do


@dataclass(frozen=True, slots=True)
class StarType:
    """A class of stars and how often the survey meets it."""

    subclass: str
    teff_k: float
    metals: float
    """Strength of metal lines relative to the Sun's population."""
    weight: float
    kind: str = "dwarf"
    """``dwarf``, ``white dwarf`` or ``CV``."""


STARS = (
    StarType("O9.5Iae (30614)", 28000.0, 0.1, 0.01),
    StarType("B3V (29763)", 18000.0, 0.2, 0.02),
    StarType("B9.5V+... (37269)", 10500.0, 0.5, 0.03),
    StarType("A0 (19510)", 9600.0, 0.5, 0.08),
    StarType("A4V (136729)", 8500.0, 0.6, 0.06),
    StarType("F0IV (81937)", 7300.0, 0.5, 0.05),
    StarType("sd:F0 (G_84-29)", 6900.0, 0.15, 0.07),
    StarType("F5", 6500.0, 0.8, 0.12),
    StarType("F6Iab: (187929)", 6300.0, 0.6, 0.05),
    StarType("F9", 6100.0, 0.5, 0.12),
    StarType("G1V (95128)", 5900.0, 1.0, 0.06),
    StarType("G2", 5800.0, 1.0, 0.06),
    StarType("K1", 5000.0, 1.0, 0.05),
    StarType("K3V (32147)", 4700.0, 1.2, 0.04),
    StarType("K5", 4400.0, 1.1, 0.03),
    StarType("M0", 3850.0, 1.0, 0.03),
    StarType("M3", 3450.0, 1.0, 0.04),
    StarType("M6", 3000.0, 1.0, 0.02),
    StarType("WD", 14000.0, 0.0, 0.03, "white dwarf"),
    StarType("WDhotter", 26000.0, 0.0, 0.01, "white dwarf"),
    StarType("CV", 16000.0, 0.0, 0.02, "CV"),
)

# (wave_aa, depth at strength 1, sigma_aa)
_METALS = (
    (3581.0, 0.35, 10.0),
    (3735.0, 0.35, 10.0),
    (3820.0, 0.35, 9.0),
    (3860.0, 0.30, 10.0),
    (3934.78, 0.72, 7.5),
    (3969.59, 0.68, 7.0),
    (4046.9, 0.15, 3.0),
    (4227.9, 0.25, 4.0),
    (4300.0, 0.22, 11.0),
    (4308.95, 0.14, 4.0),
    (4326.0, 0.14, 4.0),
    (4384.8, 0.20, 5.0),
    (4456.0, 0.08, 6.0),
    (4532.0, 0.09, 8.0),
    (4669.0, 0.07, 12.0),
    (5015.0, 0.07, 9.0),
    (5100.0, 0.07, 45.0),
    (5168.7, 0.17, 3.5),
    (5174.1, 0.20, 3.5),
    (5185.0, 0.22, 3.5),
    (5228.0, 0.06, 5.0),
    (5271.0, 0.13, 5.5),
    (5329.5, 0.11, 4.0),
    (5372.0, 0.06, 3.0),
    (5407.0, 0.07, 4.0),
    (5711.0, 0.05, 4.0),
    (5784.0, 0.03, 4.0),
    (6138.0, 0.04, 6.0),
    (6192.0, 0.03, 5.0),
    (6233.0, 0.03, 4.0),
    (6496.0, 0.06, 6.0),
    (8500.4, 0.22, 3.5),
    (8544.4, 0.36, 4.0),
    (8664.5, 0.30, 4.0),
    (8809.0, 0.07, 3.0),
)
_SODIUM = ((5891.58, 0.36, 2.6), (5897.55, 0.30, 2.6), (8185.5, 0.06, 2.5), (8197.1, 0.07, 2.5))

# Heads of the TiO, CaH and VO bands: (head_aa, depth, length_aa), all degraded to the red.
_BANDS = (
    (4585.0, 0.18, 60.0),
    (4762.0, 0.35, 90.0),
    (4955.0, 0.45, 110.0),
    (5168.0, 0.50, 120.0),
    (5449.0, 0.38, 110.0),
    (5763.0, 0.22, 50.0),
    (5849.0, 0.42, 150.0),
    (6160.0, 0.50, 170.0),
    (6385.0, 0.18, 40.0),
    (6653.0, 0.45, 120.0),
    (6780.0, 0.25, 110.0),
    (7055.0, 0.55, 70.0),
    (7126.0, 0.42, 140.0),
    (7590.0, 0.45, 170.0),
    (7852.0, 0.14, 130.0),
    (8206.0, 0.18, 110.0),
    (8433.0, 0.38, 130.0),
    (8860.0, 0.35, 160.0),
    (9210.0, 0.20, 160.0),
)

# Continua of galaxies, f_λ relative to 5500 Å: (wave_aa, old, young).
_GALAXY = np.array(
    [
        (501, 0.020, 0.10),
        (911, 0.020, 0.60),
        (1216, 0.030, 2.60),
        (1500, 0.040, 2.50),
        (2000, 0.045, 1.95),
        (2500, 0.080, 1.60),
        (2800, 0.130, 1.42),
        (3100, 0.250, 1.30),
        (3400, 0.360, 1.20),
        (3640, 0.400, 1.16),
        (3700, 0.410, 1.28),
        (3850, 0.420, 1.62),
        (3960, 0.460, 1.68),
        (4010, 0.600, 1.68),
        (4080, 0.690, 1.66),
        (4250, 0.730, 1.58),
        (4500, 0.880, 1.43),
        (4800, 0.960, 1.28),
        (5100, 0.985, 1.14),
        (5500, 1.000, 1.00),
        (6000, 1.035, 0.88),
        (6500, 1.030, 0.79),
        (7000, 1.025, 0.70),
        (7500, 1.030, 0.63),
        (8000, 1.000, 0.57),
        (9000, 0.940, 0.48),
        (10000, 0.870, 0.41),
        (11200, 0.800, 0.35),
    ]
)

# Quasar features blended into the template: (wave_aa, equivalent width Å, sigma_aa). The strong
# lines are added to each object on its own; Fe II blends and the Balmer continuum belong here.
_QUASAR = (
    (1033.0, 10.0, 9.0),
    (1305.0, 3.0, 10.0),
    (1336.0, 1.2, 9.0),
    (1399.0, 9.0, 14.0),
    (1664.0, 2.5, 14.0),
    (1750.0, 1.5, 18.0),
    (1860.0, 3.5, 16.0),
    (1892.0, 3.5, 14.0),
    (5877.3, 5.5, 30.0),
    (7065.0, 2.0, 30.0),
    (8457.0, 9.0, 38.0),
)
_IRON = (
    (2080.0, 8.0, 35.0),
    (2250.0, 11.0, 55.0),
    (2400.0, 16.0, 50.0),
    (2500.0, 20.0, 55.0),
    (2600.0, 10.0, 40.0),
    (2950.0, 14.0, 70.0),
    (3190.0, 12.0, 60.0),
    (4480.0, 9.0, 30.0),
    (4570.0, 16.0, 42.0),
    (4670.0, 5.0, 25.0),
    (5170.0, 9.0, 28.0),
    (5250.0, 10.0, 35.0),
    (5320.0, 12.0, 35.0),
)

OLD, OLD_FAST, YOUNG, QUASAR, QUASAR_IRON = range(5)
FIRST_STAR = 5
"""Index of the first of `STARS` in `library`."""


def lattice_wave(first: int, stop: int) -> Float64:
    """Return vacuum wavelengths of lattice pixels: 1D[stop - first] float64, Å."""
    return np.asarray(10.0 ** (np.arange(first, stop) * STEP), dtype=np.float64)


@cache
def library() -> Float32:
    """Return all templates, f_λ near 1 around 5500 Å: 2D[ntemplate, STOP - FIRST] float32."""
    wave = lattice_wave(FIRST, STOP)
    rows = [_galaxy(wave, 1, 160.0), _galaxy(wave, 1, 280.0), _galaxy(wave, 2, 110.0)]
    rows += [_quasar(wave, 0.4), _quasar(wave, 1.5)]
    rows += [_star(wave, one) for one in STARS]
    return np.array(rows, dtype=np.float32)


def gaussian(wave: Float64, centre_aa: float, sigma_aa: float) -> Float64:
    """Return exp(-x²/2) around a wavelength: 1D[npix] float64."""
    out: Float64 = np.exp(-0.5 * ((wave - centre_aa) / sigma_aa) ** 2)
    return out


def _smooth(values: Float64, sigma_pix: float) -> Float64:
    """Return values convolved with a Gaussian of that width in pixels: 1D[npix] float64."""
    half = int(4 * sigma_pix) + 1
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma_pix) ** 2)
    padded = np.pad(values, half, mode="edge")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


@cache
def _line_forest() -> Float64:
    """Return the depth of the many weak metal lines of a cool star: 1D[npix] float64."""
    rng = np.random.default_rng(_FOREST_SEED)
    depth = np.zeros(STOP - FIRST)
    # Line density of the solar spectrum rises steeply to the blue.
    wave = 3000.0 * (1.0 - 0.985 * rng.random(1500)) ** -0.28
    place = (np.log10(wave) / STEP).astype(int) - FIRST
    strength = rng.exponential(0.22, wave.size)
    np.add.at(depth, place, strength)
    return np.clip(_smooth(depth, 1.3), 0.0, 0.6)


def _balmer(wave: Float64, strength: float, core_aa: float, wing_aa: float) -> Float64:
    """Return the transmission of the Balmer series with its jump: 1D[npix] float64."""
    out = np.ones(wave.size)
    for level in range(3, 19):
        centre = 3647.05 / (1.0 - 4.0 / level**2)
        fade = 1.0 if level < 9 else (9.0 / level) ** 2
        crowd = min(1.0, 7.0 / level)
        core = 0.5 * gaussian(wave, centre, core_aa)
        wing = 0.5 / (1.0 + ((wave - centre) / (wing_aa * crowd)) ** 2)
        out *= 1.0 - 0.75 * strength * fade * (core + wing)
    jump = 1.0 / (1.0 + np.exp((wave - 3690.0) / 18.0))
    return np.asarray(out * (1.0 - 0.42 * strength * jump))


def _features(wave: Float64, teff_k: float, metals: float) -> Float64:
    """Return the transmission of stellar lines: 1D[npix] float64."""
    cool = float(np.clip((5200.0 / teff_k) ** 3.0, 0.0, 1.35))
    reach = 0.42 if teff_k < 9300.0 else 0.75
    hot = float(np.exp(-((np.log(teff_k / 9300.0) / reach) ** 2)))
    wing = 3.0 + 9.0 * hot
    out = _balmer(wave, max(hot, 0.12 if teff_k < 6200.0 else 0.0), 2.0 + 2.0 * hot, wing)
    for centre, depth, sigma in _METALS:
        out *= 1.0 - min(0.93, depth * cool * metals**0.5) * gaussian(wave, centre, sigma)
    sodium = float(np.clip((4600.0 / teff_k) ** 6.0, 0.0, 1.9)) * metals**0.5
    for centre, depth, sigma in _SODIUM:
        out *= 1.0 - min(0.85, depth * sodium) * gaussian(wave, centre, sigma)
    return np.asarray(out * (1.0 - np.clip(_line_forest() * cool * metals**0.5, 0.0, 0.7)))


def _blanketing(wave: Float64, teff_k: float, metals: float) -> Float64:
    """Return the depression of the blue by unresolved metal lines: 1D[npix] float64."""
    cool = float(np.clip((5400.0 / teff_k) ** 3.0, 0.0, 1.1)) * metals**0.4
    depth = np.interp(
        wave, [2000, 3000, 3800, 3990, 4020, 4500, 5500], [0.9, 0.7, 0.48, 0.4, 0.2, 0.08, 0]
    )
    return np.asarray(1.0 - np.clip(cool * depth, 0.0, 0.97))


def _bands(wave: Float64, teff_k: float) -> Float64:
    """Return the transmission of molecular bands of M stars: 1D[npix] float64."""
    strength = float(np.clip((4050.0 - teff_k) / 700.0, 0.0, 1.5))
    out = np.ones(wave.size)
    for head, depth, length in _BANDS:
        past = wave - head
        shape = np.where(past > 0.0, np.exp(-np.clip(past, 0.0, None) / length), 0.0)
        out *= 1.0 - min(0.9, depth * strength) * shape
    return out


def _planck(wave: Float64, teff_k: float) -> Float64:
    """Return a black body, f_λ = 1 at 5500 Å: 1D[npix] float64."""
    exponent = 1.43878e8 / teff_k
    shape: Float64 = np.expm1(exponent / 5500.0) / np.expm1(np.minimum(exponent / wave, 600.0))
    return np.asarray(shape * (5500.0 / wave) ** 5)


def _star(wave: Float64, star: StarType) -> Float64:
    """Return the template of a star: 1D[npix] float64."""
    shape = _planck(wave, star.teff_k)
    if star.kind == "white dwarf":
        return _smooth(shape * _balmer(wave, 0.75, 12.0, 38.0), 1.0)
    if star.kind == "CV":
        for level in range(3, 11):
            shape *= 1.0 + 6.0 / level**1.5 * gaussian(wave, 3647.05 / (1 - 4 / level**2), 13.0)
        return _smooth(shape * (1.0 + 0.25 * gaussian(wave, 4686.99, 14.0)), 1.0)
    shape *= _features(wave, star.teff_k, star.metals)
    shape *= _blanketing(wave, star.teff_k, star.metals)
    if star.teff_k < 4050.0:
        shape *= _bands(wave, star.teff_k)
    return _smooth(shape, 1.0)


def _galaxy(wave: Float64, column: int, sigma_kms: float) -> Float64:
    """Return the template of a stellar population: 1D[npix] float64."""
    points = np.log10(_GALAXY)
    drawn = 10.0 ** np.interp(np.log10(wave), points[:, 0], points[:, column])
    shape = _smooth(np.asarray(drawn, dtype=np.float64), 25.0)
    if column == 1:
        shape *= _sharp_break(wave) * _features(wave, 4900.0, 1.1)
        shape *= 1.0 - 0.35 * (1.0 - _bands(wave, 3800.0))
    else:
        shape *= _balmer(wave, 0.33, 4.0, 6.0) * (1.0 - 0.35 * (1.0 - _features(wave, 5600.0, 0.7)))
    return _smooth(shape, sigma_kms / KMS_PER_PIXEL)


def _sharp_break(wave: Float64) -> Float64:
    """Return what the smoothed continuum lost of the step at 4000 Å: 1D[npix] float64."""
    low = 0.10 * gaussian(wave, 3975.0, 28.0)
    high = 0.10 * gaussian(wave, 4035.0, 28.0)
    return np.asarray(1.0 - low + high)


def _quasar(wave: Float64, iron: float) -> Float64:
    """Return a quasar's continuum with its weaker blends: 1D[npix] float64."""
    blue = (wave / 5000.0) ** -1.55
    red = (wave / 5000.0) ** -0.45
    shape = np.where(wave < 5000.0, blue, red)
    softened = np.where(wave < 1200.0, shape * (wave / 1200.0) ** 0.9, shape)
    added = np.zeros(wave.size)
    for centre, width, sigma in _QUASAR:
        added += width / (sigma * 2.5066) * gaussian(wave, centre, sigma)
    for centre, width, sigma in _IRON:
        added += iron * width / (sigma * 2.5066) * gaussian(wave, centre, sigma)
    balmer = 0.09 * np.exp(-np.clip(3646.0 - wave, 0.0, None) / 800.0)
    added += balmer / (1.0 + np.exp((wave - 3700.0) / 40.0))
    return np.asarray(softened * (1.0 + added))
