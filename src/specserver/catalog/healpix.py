"""Positions on the sky as HEALPix order-29 nested pixels: one sortable integer each.

Order 29 pixels are 0.4 milliarcsec wide; positions near each other are near each other in the
order, so a region is a few runs of a sorted column.
"""

from math import atan2, ceil, degrees, hypot, log2
from typing import Final

import hpgeom
import numpy as np
import numpy.typing as npt

from ..model.region import Cone, Polygon

_ORDER: Final = 29
# A cover is some dozen pixels a quarter of the radius wide. A finer one has more runs to search,
# which takes longer than the candidates that it saves.
_PIXELS_PER_RADIUS: Final = 4
# Above this radius making a cover takes longer than testing all rows.
_WIDE_DEG: Final = 60.0
# Candidates are tested exactly, so the pad only has to be more than rounding.
_PAD_DEG: Final = 1e-9
# The cosine of a much smaller radius is 1, and its cover mostly empty.
_LEAST_DEG: Final = 1e-5


def pixel(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the order-29 nested pixel of each position, 1D[n] int64; −1 where it is not known."""
    ra, dec = np.asarray(ra_deg, np.float64), np.asarray(dec_deg, np.float64)
    known = np.isfinite(ra) & np.isfinite(dec)
    pixels = np.full(len(ra), -1, np.int64)
    pixels[known] = hpgeom.angle_to_pixel(2**_ORDER, np.mod(ra[known], 360.0), dec[known])
    return pixels


def cover(region: Cone | Polygon) -> npt.NDArray[np.int64]:
    """Return runs of order-29 pixels that hold the whole region, 2D[nrun, 2] int64, half-open."""
    centre, bound_deg = region.bounds()
    radius_deg = max(bound_deg, _LEAST_DEG)
    if radius_deg >= _WIDE_DEG:
        return np.array([[0, 12 * 4**_ORDER]], dtype=np.int64)
    # Of one position; NumPy takes ten times as long for it.
    x, y, z = centre.tolist()
    wanted = log2(degrees(1.0) * _PIXELS_PER_RADIUS / radius_deg)
    order = min(max(ceil(wanted), 0), _ORDER - 4)
    runs = hpgeom.query_circle(
        2**order,
        degrees(atan2(y, x)) % 360.0,
        degrees(atan2(z, hypot(x, y))),
        radius_deg + _PAD_DEG,
        inclusive=True,
        return_pixel_ranges=True,
    )
    scaled: npt.NDArray[np.int64] = runs.astype(np.int64) << (2 * (_ORDER - order))
    return scaled
