"""Emission lines of the simulated objects: which, how strong, how broad.

The list is HDU3's of the recent reductions; older ones have fewer rows and other names for the
lines around 3970 Å (see `line_rows`).
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .instrument import Instrument
from .objects import AGN, BROADLINE, GALAXY, PASSIVE, QSO
from .tables import read_rows
from .templates import KMS_PER_PIXEL, STEP, Float32, Float64

# (name, vacuum Å, broad equivalent width Å of a quasar, narrow one, ratio to Hβ in H II regions)
_LINES = read_rows("emission_lines")
NAMES = tuple(line[0] for line in _LINES)
WAVE, _BROAD, _NARROW, _REGION = np.array([line[1:] for line in _LINES], np.float64).T
H_BETA = NAMES.index("H_beta")

_OLD_NAMES = {"H_zeta": ("H_epsilon", 3890.15108), "[Ne_III] 3970": ("[Ne_III] 3970", 3971.12319)}
_QUASAR_SIGMA_KMS = 2300.0
_CORE_SHARE, _CORE_WIDTH = 0.4, 0.38
"""Broad lines are cuspy: a share of the flux has a fraction of the width."""
_NARROW_HALF, _BROAD_HALF = 30, 330
"""Half-widths in pixels of the stretch to which a line is added."""


@cache
def line_rows(run2d: str) -> tuple[tuple[int, str, float], ...]:
    """Return HDU3's rows of a reduction: index into `NAMES`, name there, vacuum Å there."""
    if run2d not in ("26", "v5_7_0"):
        return tuple((i, name, float(WAVE[i])) for i, name in enumerate(NAMES))
    left_out = {"H_epsilon"} | ({"[N_II] 5755", "He_I 5876"} if run2d == "26" else set())
    return tuple(
        (i, *_OLD_NAMES.get(name, (name, float(WAVE[i]))))
        for i, name in enumerate(NAMES)
        if name not in left_out
    )


def narrow_areas(truth: npt.NDArray[Any], level: Float32) -> Float32:
    """Return fluxes of narrow lines for a unit continuum.

    Parameters
    ----------
    truth : 1D[nspec] TRUTH
    level : 2D[nspec, nline] float32, continuum at each line in the template's unit

    Returns
    -------
    2D[nspec, nline] float32, unit of ``level`` times Å at rest
    """
    out = np.zeros(level.shape)
    galaxy = truth["kind"] == GALAXY
    ratios = _ratios(truth[galaxy])
    out[galaxy] = truth["ew"][galaxy, None] * level[galaxy, H_BETA, None] * ratios
    quasar = truth["kind"] == QSO
    out[quasar] = _NARROW * (0.3 + 1.2 * truth["ratio"][quasar, None]) * level[quasar]
    return out.astype(np.float32)


def broad_areas(truth: npt.NDArray[Any], level: Float32) -> Float32:
    """Return fluxes of broad lines for a unit continuum: as `narrow_areas`."""
    out = np.zeros(level.shape)
    quasar = truth["kind"] == QSO
    out[quasar] = _BROAD * truth["ew"][quasar, None] * level[quasar]
    seyfert = (truth["kind"] == GALAXY) & (truth["subtype"] == BROADLINE)
    out[seyfert] = 0.35 * _BROAD * level[seyfert] * (WAVE > 4800.0)
    return out.astype(np.float32)


def _ratios(galaxies: npt.NDArray[Any]) -> Float64:
    """Return line fluxes relative to Hβ: 2D[ngalaxy, nline] float64.

    Star-forming galaxies lie on the local sequence of the [N II]–[O III] diagram (Kewley et al.
    2013), active and passive ones to its right.
    """
    ratios = np.tile(_REGION, (galaxies.size, 1))
    n2 = -1.25 + 0.85 * galaxies["ratio"].astype(np.float64)
    o3 = 0.61 / (n2 + 0.08) + 1.1
    active = np.isin(galaxies["subtype"], (PASSIVE, AGN, BROADLINE))
    n2 = np.where(active, -0.15 + 0.35 * galaxies["ratio"], n2)
    o3 = np.where(active, 0.45 + 0.55 * galaxies["mix"], o3)
    alpha, strong = ratios[:, NAMES.index("H_alpha")], 10.0**n2
    ratios[:, NAMES.index("[N_II] 6583")] = alpha * strong
    ratios[:, NAMES.index("[N_II] 6548")] = alpha * strong / 3.06
    ratios[:, NAMES.index("[O_III] 5007")] = 10.0**o3
    ratios[:, NAMES.index("[O_III] 4959")] = 10.0**o3 / 2.98
    hard = np.where(active, 2.2, 1.0)[:, None]
    for name in ("[O_I] 6300", "[O_I] 6363", "[S_II] 6716", "[S_II] 6730"):
        ratios[:, [NAMES.index(name)]] *= hard
    metal_rich = (0.35 + 1.0 * (o3 + 0.6))[:, None]
    for name in ("[O_II] 3725", "[O_II] 3727", "[Ne_III] 3868", "[Ne_III] 3970"):
        ratios[:, [NAMES.index(name)]] *= np.clip(metal_rich, 0.3, 2.2)
    return ratios


def widths_kms(truth: npt.NDArray[Any]) -> tuple[Float64, Float64]:
    """Return the dispersions of narrow and broad lines: two 1D[nspec] float64, km/s."""
    narrow = np.where(truth["kind"] == QSO, 190.0, np.clip(0.8 * truth["vdisp"], 60.0, 220.0))
    return narrow, _QUASAR_SIGMA_KMS * np.clip(truth["width"].astype(np.float64), 0.45, 1.8)


def add_lines(
    model: Float32,
    truth: npt.NDArray[Any],
    narrow: Float32,
    broad: Float32,
    spectrograph: Instrument,
) -> None:
    """Add lines, Gaussians in log wavelength, to models in place.

    Parameters
    ----------
    model : 2D[nspec, npix] float32, 1e-17 erg s-1 cm-2 Å-1
    narrow, broad : 2D[nspec, nline] float32, 1e-17 erg s-1 cm-2
    """
    sigma_narrow, sigma_broad = (kms / KMS_PER_PIXEL for kms in widths_kms(truth))
    core, wings = np.float32(_CORE_SHARE), np.float32(1 - _CORE_SHARE)
    wave = WAVE * (1.0 + truth["z"][:, None])
    position = np.log10(wave) / STEP - spectrograph.first
    for areas, sigma_pix, half in (
        (narrow, np.sqrt(sigma_narrow**2 + 0.9**2), _NARROW_HALF),
        (broad * core, sigma_broad * _CORE_WIDTH, _BROAD_HALF),
        (broad * wings, sigma_broad * 1.25, _BROAD_HALF),
    ):
        near = (position > -half) & (position < spectrograph.npix + half)
        spectrum, line = np.nonzero(near & (areas > 0))
        centre, sigma = position[spectrum, line], sigma_pix[spectrum]
        pixel = np.rint(centre).astype(np.int64)[:, None] + np.arange(-half, half + 1)
        shape = np.exp(-0.5 * ((pixel - centre[:, None]) / sigma[:, None]) ** 2)
        width_aa = sigma * STEP * np.log(10.0) * wave[spectrum, line]
        shape *= (areas[spectrum, line] / (width_aa * np.sqrt(2.0 * np.pi)))[:, None]
        flat = spectrum[:, None] * spectrograph.npix + pixel
        seen = (pixel >= 0) & (pixel < spectrograph.npix)
        np.add.at(model.reshape(-1), flat[seen], shape[seen].astype(np.float32))
