"""Arms of a spectrograph merged into one spectrum, by inverse variance where they overlap."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Arm:
    """The measurements of one arm for all spectra, on a run of pixels of a common lattice."""

    pixels: slice
    flux: npt.NDArray[Any]
    """2D[nspec, npix] float"""
    ivar: npt.NDArray[Any]
    """2D[nspec, npix] float, flux**-2"""
    mask: npt.NDArray[Any]
    """2D[nspec, npix] int, 0 is good"""

    def cut(self, pixels: slice) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """Return flux, ivar and mask of some of its pixels, 2D[nspec, n] each."""
        inside = slice(pixels.start - self.pixels.start, pixels.stop - self.pixels.start)
        return self.flux[:, inside], self.ivar[:, inside], self.mask[:, inside]


def merge_arms(
    arms: Sequence[Arm], npix: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Return flux, ivar and mask over all arms: 2D[nspec, npix] each, of the arms' types.

    Combined in float64 and rounded once where two arms overlap, bit for bit as in the arm
    elsewhere, zero where there is none.

    Parameters
    ----------
    arms : from blue to red; only neighbours overlap
    """
    merged = [np.zeros((len(x), npix), x.dtype) for x in (arms[0].flux, arms[0].ivar, arms[0].mask)]
    for arm in arms:
        for out, values in zip(merged, arm.cut(arm.pixels), strict=True):
            out[:, arm.pixels] = values
    for blue, red in pairwise(arms):
        overlap = slice(red.pixels.start, blue.pixels.stop)
        if overlap.start >= overlap.stop:
            continue
        both = [np.stack(pair) for pair in zip(blue.cut(overlap), red.cut(overlap), strict=True)]
        for out, values in zip(merged, combine(*both), strict=True):
            out[:, overlap] = values
    flux, ivar, mask = merged
    return flux, ivar, mask


def combine(
    flux: npt.NDArray[Any], ivar: npt.NDArray[Any], mask: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[Any]]:
    """Return the weighted mean of several measurements, its inverse variance and its mask.

    Masked measurements have no weight. Where all are masked they are used all the same, and what
    masks any of them masks the mean. Where none has any weight, flux and ivar are zero.

    Parameters
    ----------
    flux : 3D[nmeasurement, nspec, npix] float
    ivar : 3D[nmeasurement, nspec, npix] float, flux**-2
    mask : 3D[nmeasurement, nspec, npix] int, 0 is good

    Returns
    -------
    2D[nspec, npix] float64, float64 and of the type of ``mask``
    """
    trusted = np.where(mask == 0, ivar, 0).astype(np.float64)
    good = trusted.sum(axis=0) > 0.0
    weight = np.where(good, trusted, ivar)
    total = weight.sum(axis=0)
    # A pixel without weight may hold anything, even NaN.
    weighted = weight * np.where(weight > 0.0, flux, 0.0)
    mean = weighted.sum(axis=0) / np.where(total > 0.0, total, 1.0)
    return mean, total, np.where(good, 0, np.bitwise_or.reduce(mask)).astype(mask.dtype)
