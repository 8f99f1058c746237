"""Records of the published table from separate vectors: interleaving and placing on a window."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.grid import Grid, PixelRange


def fill_records(
    dtype: np.dtype[Any],
    grid: Grid,
    start: int,
    vectors: Mapping[str, npt.NDArray[Any]],
    pixels: PixelRange,
    window: PixelRange | None = None,
) -> npt.NDArray[Any]:
    """Return one spectrum as records, values untouched.

    Parameters
    ----------
    start : pixel of the first value of every vector
    vectors : 1D[npix] each, in the survey's units; the axis among them only when it is not the
        lattice's
    pixels : the valid pixels
    window : lattice pixels to cover, or None for just the valid ones
        Outside ``pixels`` all vectors are zero (ivar 0: no information); the axis goes on.

    Returns
    -------
    1D[npix] structured, fields as in ``dtype``
    """
    covered = pixels if window is None else window
    out = np.zeros(covered.count, dtype)
    low, high = max(pixels.first, covered.first), min(pixels.stop, covered.stop)
    for name in dtype.names or ():
        if name == grid.axis and name not in vectors:
            out[name] = grid.axis_values(covered.first, covered.count)
        elif high > low:
            inside = vectors[name][low - start : high - start]
            out[name][low - covered.first : high - covered.first] = inside
    return out
