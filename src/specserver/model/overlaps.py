"""Pairs of edges that overlap, and pairs of points and the edges across their meridians.

Only these pairs are tested, so a polygon of thousands of corners costs little more than one of
four. Pairs come in batches, and a batch bounds what is held.
"""

from collections.abc import Callable, Iterator
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from .sphere import Floats

Indices: TypeAlias = npt.NDArray[np.intp]
Check: TypeAlias = Callable[[], None]
"""The search calls it between pieces of its work; an exception that it raises ends the search."""

PAIRS: Final = 2**18
"""Pairs held at once: 2 MB a float array, which stays in cache."""
# Directions along which edges are sorted; along one of them most edges do not overlap.
_TURNS: Final = 12
# Azimuths are rounded by 1e-15 / 0.4, and an edge is 1e-12 wide.
_PAD_RAD: Final = 1e-9
# An edge over so much of the azimuths passes near the pole: it is taken to cross them all.
_ALMOST_HALF: Final = np.pi - 1e-3


def go_on() -> None:
    """Do nothing: the work goes on."""


def dots(left: Floats, right: Floats) -> Floats:
    """Return the products of vectors, 2D[n, 3] each, as 1D[n]; always summed in the same order."""
    found: Floats = left[:, 0] * right[:, 0] + left[:, 1] * right[:, 1] + left[:, 2] * right[:, 2]
    return found


def edge_pairs(
    corner: Floats, following: Floats, length_rad: Floats, width: float
) -> Iterator[tuple[Indices, Indices]]:
    """Yield pairs of edges, 1D[m] each, that overlap as seen along some axes, in batches.

    Parameters
    ----------
    corner, following : 2D[n, 3] float64, ends of the edges, unit vectors
    length_rad : 1D[n] float64
    width : by which an edge is wider than nothing, rad
    """
    axes = _axes(corner)
    begins, ends = corner @ axes.T, following @ axes.T
    # An arc bulges beyond its chord by no more than its sagitta.
    bulge = (2.0 * np.sin(length_rad / 4.0) ** 2 + width)[:, np.newaxis]
    low, high = np.minimum(begins, ends) - bulge, np.maximum(begins, ends) + bulge
    counts = [_following(low[:, axis], high[:, axis])[1].sum() for axis in range(len(axes))]
    best = int(np.argmin(counts))
    order, count = _following(low[:, best], high[:, best])
    end = np.cumsum(count)
    for first in range(0, int(end[-1]), PAIRS):
        pair = np.arange(first, min(first + PAIRS, int(end[-1])))
        at = np.searchsorted(end, pair, side="right")
        left, right = order[at], order[at + 1 + pair - (end[at] - count[at])]
        for axis in range(len(axes)):
            meet = (low[left, axis] <= high[right, axis]) & (low[right, axis] <= high[left, axis])
            left, right = left[meet], right[meet]
        yield left, right


def _axes(corner: Floats) -> Floats:
    """Return directions for projections, 2D[n, 3]: the axes, and some around the middle."""
    middle = corner.mean(axis=0)
    middle = middle / np.linalg.norm(middle) if middle.any() else corner[0]
    first, second = frame(middle)
    angle = np.arange(_TURNS) * np.pi / _TURNS
    return np.vstack([np.eye(3), np.outer(np.cos(angle), first) + np.outer(np.sin(angle), second)])


def _following(low: Floats, high: Floats) -> tuple[Indices, Indices]:
    """Return intervals in order, and how many after each overlap with it, 1D[n] each."""
    order = np.argsort(low)
    count = np.searchsorted(low[order], high[order], side="right") - np.arange(low.size) - 1
    return order, count


def frame(pole: Floats) -> tuple[Floats, Floats]:
    """Return two unit vectors, 1D[3] each, that with a pole, 1D[3], make a right-handed frame."""
    away = np.eye(3)[int(np.argmin(np.abs(pole)))]
    first = np.cross(pole, away)
    first /= np.linalg.norm(first)
    return first, np.cross(pole, first)


class Meridians:
    """Edges across the meridians of points, as seen from a pole.

    Parameters
    ----------
    pole : 1D[3] float64, unit vector
    point : 2D[k, 3] float64, unit vectors, away from the pole and its antipode
    corner, following : 2D[n, 3] float64, ends of the edges
    """

    def __init__(self, pole: Floats, point: Floats, corner: Floats, following: Floats) -> None:
        first, second = frame(pole)

        def azimuth(vector: Floats) -> Floats:
            found: Floats = np.arctan2(vector @ second, vector @ first)
            return found

        turn = azimuth(point)
        self._order = np.argsort(turn)
        turn = turn[self._order]
        twice = np.concatenate([turn, turn + 2.0 * np.pi])
        begin = azimuth(corner)
        step = (azimuth(following) - begin + np.pi) % (2.0 * np.pi) - np.pi
        low = np.minimum(begin, begin + step) - _PAD_RAD
        width = np.abs(step) + 2.0 * _PAD_RAD
        wide = np.abs(step) > _ALMOST_HALF
        low = np.where(wide, -np.pi, np.where(low < -np.pi, low + 2.0 * np.pi, low))
        self._start = np.searchsorted(twice, low)
        stop = np.searchsorted(twice, low + width, side="right")
        self._start[wide], stop[wide] = 0, len(turn)
        self._count = np.minimum(stop - self._start, len(turn))

    @property
    def npairs(self) -> int:
        """Number of pairs."""
        return int(self._count.sum())

    def pairs(self) -> Iterator[tuple[Indices, Indices]]:
        """Yield points and the edges across their meridians, 1D[npairs] int each, in batches."""
        end = np.cumsum(self._count)
        size = max(1, len(self._order))
        for first in range(0, int(end[-1]), PAIRS):
            pair = np.arange(first, min(first + PAIRS, int(end[-1])))
            edge = np.searchsorted(end, pair, side="right")
            at = self._start[edge] + pair - (end[edge] - self._count[edge])
            yield self._order[at % size], edge
