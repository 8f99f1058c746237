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

from .tables import read_numbers, read_rows

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


STARS = tuple(
    StarType(subclass, float(teff_k), float(metals), float(weight), *kind)
    for subclass, teff_k, metals, weight, *kind in read_rows("stars")
)

# (wave_aa, depth at strength 1, sigma_aa)
_METALS = read_numbers("metal_lines")
_SODIUM = ((5891.58, 0.36, 2.6), (5897.55, 0.30, 2.6), (8185.5, 0.06, 2.5), (8197.1, 0.07, 2.5))

# Heads of the TiO, CaH and VO bands: (head_aa, depth, length_aa), all degraded to the red.
_BANDS = read_numbers("molecular_bands")

# Continua of galaxies, f_λ relative to 5500 Å: (wave_aa, old, young).
_GALAXY = read_numbers("galaxy_continua")

# Quasar features blended into the template: (wave_aa, equivalent width Å, sigma_aa). The strong
# lines are added to each object on its own; Fe II blends and the Balmer continuum belong here.
_QUASAR, _IRON = read_numbers("quasar_features"), read_numbers("iron_blends")

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
    rows += [_star(wave, star) for star in STARS]
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
