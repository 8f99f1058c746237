"""HEALPix pixels around positions, by their size and by how many rows are in them."""

from collections.abc import Iterator
from typing import Final

import hpgeom
import numpy as np
import numpy.typing as npt

from ..model.sphere import is_position, wrap_deg

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

ORDER: Final = 29
# Pixels finer than 3 milliarcsec save no candidate, and those of order 29 may be off by rounding.
FINEST: Final = 26
# Mean width of a pixel of order 0, the square root of its area.
WIDTH_DEG: Final = float(np.degrees(np.sqrt(4.0 * np.pi / 12.0)))
# Opposite edges of a pixel are 0.673 mean widths or more apart (cdshealpix,
# SMALLER_EDGE2OPEDGE_DIST); the rest is a margin for rounding.
NARROW: Final = 0.6
# Positions searched together: some 20 MB of arrays.
POSITIONS: Final = 2**14
_EVEN_BITS: Final = 0x5555555555555555


def shift(order: int) -> int:
    """Return by how many bits order-29 pixels are finer than those of an order."""
    return 2 * (ORDER - order)


def fine_order(radius_deg: float) -> int:
    """Return the order of the finest pixels that are wider than a radius."""
    return int(np.clip(np.floor(np.log2(WIDTH_DEG * NARROW / radius_deg)), 0, FINEST))


def sparse_order(nrows: int, most: int) -> int:
    """Return the order of pixels of about one row each, were the rows spread over the whole sky."""
    return int(np.clip(np.rint(np.log2(max(nrows, 12) / 12) / 2), 0, most))


def at_edge(pixel: Ints, levels: int) -> Bools:
    """Return which pixels touch the edge of the pixel so many orders up that they are in.

    In the nested scheme even and odd bits are the coordinates within that pixel.
    """
    below = (1 << 2 * levels) - 1
    even, odd = below & _EVEN_BITS, below & (_EVEN_BITS << 1)
    x, y = pixel & even, pixel & odd
    edge: Bools = (x == 0) | (x == even) | (y == 0) | (y == odd)
    return edge


def pixel_runs(
    ra_deg: Floats, dec_deg: Floats, radius_deg: float, nrows: int
) -> Iterator[tuple[Ints, Ints]]:
    """Yield positions in groups, and the runs of pixels that hold all that is near a group.

    Parameters
    ----------
    ra_deg, dec_deg, radius_deg : as of `find_nearby`
    nrows : number of rows in which is searched

    Yields
    ------
    1D[n] int64, indices of positions; 2D[nrun, 2] int64, order-29 pixels, half-open, ascending.
    """
    known = np.flatnonzero(is_position(ra_deg, dec_deg))
    pixel = hpgeom.angle_to_pixel(2**ORDER, wrap_deg(ra_deg[known]), dec_deg[known])
    fine = fine_order(radius_deg)
    order = sparse_order(nrows, fine)
    edgy = at_edge(pixel >> shift(fine), fine - order)
    by_pixel = np.argsort(pixel)
    for at in range(0, len(known), POSITIONS):
        some = by_pixel[at : at + POSITIONS]
        inside = np.unique(pixel[some] >> shift(order))
        # Only of positions at its edge something near may be in the next pixel.
        edges = np.unique(pixel[some[edgy[some]]] >> shift(order))
        around = np.unique(np.append(inside, hpgeom.neighbors(2**order, edges)))
        around = around[around >= 0]
        begins = np.flatnonzero(np.diff(around, prepend=-2) > 1)
        ends = np.append(begins[1:], len(around)) - 1
        runs = np.column_stack([around[begins], around[ends] + 1]) << shift(order)
        yield np.sort(known[some]), runs
