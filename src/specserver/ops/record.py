"""Records of the published table from separate vectors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt


def fill_records(
    dtype: np.dtype[Any], vectors: Mapping[str, npt.NDArray[Any]], pixels: slice
) -> npt.NDArray[Any]:
    """Return one spectrum as records, values untouched.

    Parameters
    ----------
    vectors : 1D[npix] each, in the survey's units; every field of ``dtype`` is one of them
    pixels : the valid ones

    Returns
    -------
    1D[valid pixels] structured, fields as in ``dtype``
    """
    out = np.empty(pixels.stop - pixels.start, dtype)
    for name in dtype.names or ():
        out[name] = vectors[name][pixels]
    return out
