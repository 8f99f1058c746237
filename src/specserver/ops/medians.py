"""All values of some pixels → composite pixels: medians, and means of values within limits."""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, pi
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .composite import Stacked, middle

_MAD_SIGMA: Final = 1.4826022185056018
"""Standard deviation of a normal distribution over its median absolute deviation."""
_REACH: Final = 4.0
"""Ranks beside the middle that a median of n may be, in units of √n: eight of its σ."""
_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(8)

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Clip:
    """Rule for values to leave out."""

    sigma: float
    """Limit of the distance from the median, in standard deviations, by the median deviation."""
    maxiters: int
    """Most times that this is repeated, each time with the median of the values left."""


def combine_values(flux: Array, var: Array, method: str, clip: Clip | None) -> Stacked:
    """Combine the values of each pixel over spectra.

    Parameters
    ----------
    flux, var : 2D[nspec, npix] float, any unit, flux**2; var is zero where there is no value
    method : ``mean``, ``ivar`` or ``median``
    clip : which values are left out before; None: none
    """
    if not flux.size:
        # No spectrum reaches these pixels.
        nothing = np.full(flux.shape[1], np.nan)
        return Stacked(nothing, nothing, nothing, np.zeros(flux.shape[1], np.int64))
    # A row a pixel, so that sorting one stays within it.
    values, spread = np.ascontiguousarray(flux.T), np.ascontiguousarray(var.T)
    used = spread > 0
    ordered = np.sort(np.where(used, values, np.inf), axis=1)
    low, high = np.zeros(len(values), np.int64), used.sum(1)
    if clip is not None:
        low, high = _clip(ordered, high, clip)
        ends = np.arange(len(values))
        last = ordered.shape[1] - 1
        used &= values >= ordered[ends, np.minimum(low, last)][:, None]
        used &= values <= ordered[ends, np.maximum(high - 1, 0)][:, None]
    count = high - low
    with np.errstate(divide="ignore", invalid="ignore"):
        if method == "median":
            flux_out, error = _median(ordered, spread, used, low, high)
            bootstrap = _median_bootstrap(ordered, low, high)
        else:
            weight = np.where(used, 1 / spread if method == "ivar" else 1.0, 0.0)
            flux_out, error, bootstrap = _mean(values, spread, used, weight.astype(np.float64))
    some, several = count > 0, count > 1
    return Stacked(
        np.where(some, flux_out, np.nan),
        np.where(some, error, np.nan),
        np.where(several, bootstrap, np.nan),
        count,
    )


def _clip(
    ordered: Array, count: npt.NDArray[np.int64], clip: Clip
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the run of each row's ordered values that is left; where σ is zero, all."""
    low, high = np.zeros_like(count), count.copy()
    rank = np.arange(ordered.shape[1])
    for _ in range(clip.maxiters):
        median = np.where(high > low, middle(ordered, low, high), 0.0)
        inside = (rank >= low[:, None]) & (rank < high[:, None])
        deviation = np.sort(np.where(inside, np.abs(ordered - median[:, None]), np.inf), axis=1)
        reach = clip.sigma * _MAD_SIGMA * middle(deviation, np.zeros_like(low), high - low)
        reach = np.where((reach > 0) & (high > low), reach, np.inf)
        below = (inside & (ordered < (median - reach)[:, None])).sum(1)
        above = (inside & (ordered > (median + reach)[:, None])).sum(1)
        low, high = low + below, high - above
        if not below.any() and not above.any():
            break
    return low, high


def _mean(
    values: Array, spread: Array, used: npt.NDArray[np.bool_], weight: npt.NDArray[np.float64]
) -> tuple[Array, Array, Array]:
    """Return means of the values used, and both errors; 2D[npix, nspec] in, 1D[npix] out."""
    total = weight.sum(1)
    flux = (weight * np.where(used, values, 0)).sum(1) / total
    variance = (weight**2 * np.where(used, spread, 0)).sum(1)
    residual = np.where(used, values - flux[:, None], 0)
    scatter = ((weight * residual) ** 2).sum(1)
    return flux, np.sqrt(variance) / total, np.sqrt(scatter) / total


def _median(
    ordered: Array,
    spread: Array,
    used: npt.NDArray[np.bool_],
    low: npt.NDArray[np.int64],
    high: npt.NDArray[np.int64],
) -> tuple[Array, Array]:
    """Return medians, and their errors by variance.

    The median of many normal values with deviations σ has the variance (π/2) / (Σ 1/σ)². For n of
    them the factor is π n / (2n + π - 2), which is 1 for one and within a part in fifty of what
    holds for an odd number.
    """
    count = high - low
    known = np.where(used, 1 / np.sqrt(spread), 0).sum(1, dtype=np.float64)
    factor = pi * count / (2 * count + pi - 2)
    return middle(ordered, low, high), np.sqrt(factor * count) / known


def _median_bootstrap(
    ordered: Array, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the bootstrap's standard deviation of medians, after Maritz and Jarrett (1978).

    It is the variance of the ordered values under the chances that each is the median of a
    replica, which is its limit for infinitely many replicas.
    """
    out = np.full(len(ordered), np.nan)
    for index, (begin, stop) in enumerate(zip(low.tolist(), high.tolist(), strict=True)):
        if stop - begin > 1:
            first, chance = _chances(stop - begin)
            some = ordered[index, begin + first : begin + first + len(chance)].astype(np.float64)
            out[index] = np.sqrt(chance @ (some - chance @ some) ** 2)
    return out


@lru_cache(maxsize=1024)
def _chances(count: int) -> tuple[int, npt.NDArray[np.float64]]:
    """Return the first rank that may be the median of a replica, and the chance of each.

    These are integrals of the beta distribution with both parameters (n + 1) / 2 over n equal
    parts of 0 … 1; those that vanish are left out.
    """
    reach = ceil(_REACH * count**0.5) + 1
    first, stop = max(count // 2 - reach, 0), min(count // 2 + reach + 1, count)
    centre = (np.arange(first, stop) + 0.5) / count
    at = centre[:, None] + _NODES / (2 * count)
    density = np.exp((count - 1) / 2 * np.log(4 * at * (1 - at)))
    chance = density @ _NODE_WEIGHTS
    return first, chance / chance.sum()
