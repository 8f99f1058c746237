"""Bit masks onto other pixels: an output pixel has the bits of all that it overlaps."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .pixels import Edges

_ROUNDING: Final = 1e-9
"""Part of a pixel below which an overlap is rounding of the edges."""


def any_bits(
    mask: npt.NDArray[Any], edges: Edges, wanted: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Return the bits that any input pixel has under each output pixel, 1D[m] as ``mask``.

    Parameters
    ----------
    mask : 1D[npix] int
    edges : edges of its pixels
    wanted : 1D[m + 1] float64, Å, ascending, edges of the output pixels
    """
    spare = _ROUNDING * np.diff(wanted)
    low, high = edges.runs(wanted[:-1] + spare, wanted[1:] - spare)
    # A zero at the end, so that every bound is a place; between equal bounds reduceat returns
    # the value there instead of no bits.
    padded = np.append(mask, mask.dtype.type(0))
    joined = np.bitwise_or.reduceat(padded, np.stack([low, high], axis=1).ravel())[::2]
    return np.where(high > low, joined, 0).astype(mask.dtype)
