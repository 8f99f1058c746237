"""Positions on the sky as HEALPix order-29 nested pixels: one sortable integer each.

Order 29 pixels are 0.4 milliarcsec wide; positions near each other are near each other in the
order, so a region is a few runs of a sorted column.
"""

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


def pixel(ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the order-29 nested pixel of each position, 1D[n] int64; −1 where it is not known."""
    ra, dec = np.asarray(ra_deg, np.float64), np.asarray(dec_deg, np.float64)
    known = np.isfinite(ra) & np.isfinite(dec)
    pixels = np.full(len(ra), -1, np.int64)
    pixels[known] = hpgeom.angle_to_pixel(2**_ORDER, np.mod(ra[known], 360.0), dec[known])
    return pixels


def cover(region: Cone | Polygon) -> npt.NDArray[np.int64]:
    """Return runs of order-29 pixels that hold the whole region, 2D[nrun, 2] int64, half-open."""
    centre, radius_deg = region.bounds()
    if radius_deg >= _WIDE_DEG:
        return np.array([[0, 12 * 4**_ORDER]], dtype=np.int64)
    ra, dec = hpgeom.vector_to_angle(np.asarray(centre, np.float64))
    wanted = np.log2(np.degrees(1.0) * _PIXELS_PER_RADIUS / max(radius_deg, 1e-7))
    order = int(np.clip(np.ceil(wanted), 0, _ORDER - 4))
    runs = hpgeom.query_circle(
        2**order,
        float(ra[0]),
        float(dec[0]),
        radius_deg + _PAD_DEG,
        inclusive=True,
        return_pixel_ranges=True,
    )
    scaled: npt.NDArray[np.int64] = runs.astype(np.int64) << (2 * (_ORDER - order))
    return scaled
