"""The rows of a catalogue that lie near each of many positions, exactly, and their distances.

The rows are sorted along the HEALPix curve, so a pixel of any size is one run of them. A pixel that
is wider than the radius, with its neighbours, holds all that lies within the radius of any point in
it; so each position has a few short runs of candidates, found for all positions together, and the
great-circle distance of the candidates decides.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import hpgeom
import numpy as np
import numpy.typing as npt

from ..errors import TooMuch
from ..model.sphere import is_position, separation_deg, unit, wrap_deg
from .deadline import NEVER, Deadline
from .sky_pixels import (
    FINEST,
    NARROW,
    ORDER,
    POSITIONS,
    WIDTH_DEG,
    Bools,
    Floats,
    Ints,
    at_edge,
    fine_order,
    shift,
    sparse_order,
)

MAX_RADIUS_DEG: Final = 1.0
"""Largest radius; a cone query returns larger fields."""
# A position far from the edges of a pixel needs no neighbours; a pixel of more rows is divided.
_FEW_ROWS: Final = 16
# Candidates tested together: some 20 MB of arrays, as of positions searched together.
_CANDIDATES: Final = 2**18
# Orders by which a full pixel is divided, to a third of the radius: searching finer parts takes
# longer than the candidates that they save.
_DIVIDED: Final = 2
# Added to a squared chord and to a difference in degrees, against rounding.
_PAD: Final = 1e-12


@dataclass(frozen=True, slots=True)
class SkyColumns:
    """Positions of rows of a catalogue: parallel arrays, one entry a row, in HEALPix order."""

    hpx: Ints
    """1D[nrow], order-29 nested pixel, ascending; negative where the position is unknown."""
    ra: Floats
    """1D[nrow], deg; NaN where unknown."""
    dec: Floats
    """1D[nrow], deg; NaN where unknown."""
    ids: npt.NDArray[Any]
    """1D[nrow], identifier. Among equally near rows the smallest identifier comes first."""
    primary: Bools
    """1D[nrow], whether it is the best spectrum of its object."""
    alive: Bools | None = None
    """1D[nrow], whether it is answered; None: all are."""
    first_row: int = 0
    """Number of the first row in the catalogue."""
    near: Bools | None = None
    """1D[12·4^order], which pixels hold a row or are next to one that does; None: any may."""

    def reached(self, pixel: Ints, radius_deg: float) -> Ints:
        """Return which of some pixels of order 29, 1D[n], may have rows within a radius."""
        order = 0 if self.near is None else int(np.log2(len(self.near) // 12)) // 2
        if self.near is None or radius_deg > WIDTH_DEG / 2**order * NARROW:
            return np.arange(len(pixel))
        return np.flatnonzero(self.near[pixel >> shift(order)])


@dataclass(frozen=True, slots=True)
class Matches:
    """Pairs of a position and a row near it: parallel arrays, one entry a pair.

    In the order of the positions; those of one position from the nearest on, then by identifier.
    """

    position: Ints
    """1D[npair], index of the position."""
    row: Ints
    """1D[npair], row of the catalogue."""
    separation_deg: Floats
    """1D[npair], great-circle distance, deg."""

    def __len__(self) -> int:
        return len(self.row)

    def where(self, which: Any) -> "Matches":
        """Return some of the pairs, by a mask, indices or a slice."""
        return Matches(self.position[which], self.row[which], self.separation_deg[which])


@dataclass(frozen=True, slots=True)
class _Runs:
    """Candidates of positions: parallel arrays, one entry a run of rows, half-open."""

    position: Ints
    start: Ints
    stop: Ints

    def where(self, which: Bools) -> "_Runs":
        """Return some of the runs."""
        return _Runs(self.position[which], self.start[which], self.stop[which])

    @staticmethod
    def join(parts: list["_Runs"]) -> "_Runs":
        """Return runs that are not empty, in the order of their positions."""
        position = np.concatenate([part.position for part in parts])
        start = np.concatenate([part.start for part in parts])
        stop = np.concatenate([part.stop for part in parts])
        some = np.flatnonzero(start < stop)
        some = some[np.argsort(position[some], kind="stable")]
        return _Runs(position[some], start[some], stop[some])

    def pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """Yield position and row of candidates in blocks; a run may be cut."""
        stops = np.cumsum(self.stop - self.start)
        starts = stops - (self.stop - self.start)
        total = int(stops[-1]) if len(stops) else 0
        for at in range(0, total, _CANDIDATES):
            end = min(at + _CANDIDATES, total)
            first, last = np.searchsorted(stops, [at, end - 1], "right").tolist()
            own = slice(first, last + 1)
            counts = np.minimum(stops[own], end) - np.maximum(starts[own], at)
            shift = np.repeat(self.start[own] - starts[own], counts)
            yield np.repeat(self.position[own], counts), np.arange(at, end) + shift


@dataclass(frozen=True, slots=True)
class _Reach:
    """The discs around positions."""

    point: Floats
    """2D[n, 3], unit vectors of the positions."""
    radius_deg: float

    def touches(self, position: Ints, pixel: Ints, order: int) -> Bools:
        """Return which pixels of an order a disc may reach, by the discs around the pixels."""
        centre = np.stack(hpgeom.pixel_to_vector(2**order, pixel), axis=-1)
        apart = centre - self.point[position]
        both = np.radians(self.radius_deg) + hpgeom.max_pixel_radius(2**order, degrees=False)
        limit = (2.0 * np.sin(both / 2.0)) ** 2 + _PAD
        near: Bools = np.einsum("ij,ij->i", apart, apart) <= limit
        return near


def find_nearby(
    skies: Sequence[SkyColumns],
    ra_deg: Floats,
    dec_deg: Floats,
    radius_deg: float,
    *,
    nearest: bool,
    primary: bool,
    max_pairs: int | None = None,
    deadline: Deadline = NEVER,
    go_on: Callable[[], None] = lambda: None,
) -> Matches:
    """Return the rows within a radius of each position, or the nearest one of them.

    Parameters
    ----------
    skies : the rows of the catalogue in ascending runs of their numbers
    ra_deg, dec_deg : 1D[n] float64, deg, ICRS
        Where either is NaN nothing is near.
    radius_deg : more than 0, up to `MAX_RADIUS_DEG`
    nearest : one row for each position that has any, else all
    primary : only the best spectrum of each object
    max_pairs : refuse to return more
    go_on : called between pieces of the work; raises when the client has gone

    Raises
    ------
    TooMuch
        There are more pairs.
    QueryTimeout
        The deadline passed.
    """
    known = np.flatnonzero(is_position(ra_deg, dec_deg))
    ra, dec = wrap_deg(ra_deg[known]), dec_deg[known]
    pixel = hpgeom.angle_to_pixel(2**ORDER, ra, dec)
    # Sorted by row, so that each part of the columns is read once.
    order = np.argsort(pixel)
    known, ra, dec, pixel = known[order], ra[order], dec[order], pixel[order]
    found: list[Matches] = []
    count = 0
    for at in range(0, len(known), POSITIONS):
        some = slice(at, at + POSITIONS)
        point = unit(ra[some], dec[some])
        for sky in skies:
            go_on()
            deadline.check()
            reached = sky.reached(pixel[some], radius_deg)
            reach = _Reach(point[reached], radius_deg)
            for position, row in _candidates(sky.hpx, pixel[some][reached], reach).pairs():
                go_on()
                deadline.check()
                mine = reached[position] + at
                pairs = _within(sky, ra, dec, mine, row, radius_deg, primary=primary)
                pairs = _first_of_each(skies, pairs) if nearest else pairs
                count += len(pairs)
                if max_pairs is not None and count > max_pairs and not nearest:
                    raise TooMuch("pairs of a match", count, max_pairs, "max_rows")
                found.append(pairs)
    every = _joined(found)
    if nearest:
        # The candidates of a position may have been tested in two pieces, or be of several parts.
        together = every.where(np.argsort(every.position, kind="stable"))
        every = _first_of_each(skies, together)
    every = Matches(known[every.position], every.row, every.separation_deg)
    return _in_order(skies, every)


def in_their_order(found: Sequence[Matches]) -> Matches:
    """Return pairs of several groups of positions in the order of the positions."""
    every = _joined(list(found))
    return every.where(np.argsort(every.position, kind="stable"))


def _joined(found: list[Matches]) -> Matches:
    """Return all pairs, in the order in which they were found."""
    none = np.empty(0, np.int64)
    return Matches(
        np.concatenate([none, *(pairs.position for pairs in found)]),
        np.concatenate([none, *(pairs.row for pairs in found)]),
        np.concatenate([none.astype(np.float64), *(pairs.separation_deg for pairs in found)]),
    )


def _candidates(hpx: Ints, pixel: Ints, reach: _Reach) -> _Runs:
    """Return the runs of rows among which are all that lie within reach of each position.

    Parameters
    ----------
    pixel : 1D[n] int64, order 29, ascending
    """
    fine = fine_order(reach.radius_deg)
    coarse = sparse_order(len(hpx), fine)
    left = np.arange(len(pixel))
    parts = []
    for order in range(coarse, fine):
        # Positions that are not at an edge: all within the radius is in the same pixel.
        inside = left[~at_edge(pixel[left] >> shift(fine), fine - order)]
        runs = _runs(hpx, inside, pixel[inside] >> shift(order), order)
        few = runs.stop - runs.start <= _FEW_ROWS
        parts.append(runs.where(few))
        settled = np.zeros(len(pixel), np.bool_)
        settled[inside[few]] = True
        left = left[~settled[left]]
        if few.all():
            break
    return _Runs.join([*parts, *_around(hpx, left, pixel[left] >> shift(fine), fine, reach)])


def _around(hpx: Ints, position: Ints, pixel: Ints, order: int, reach: _Reach) -> list[_Runs]:
    """Return the rows in pixels of an order and around them; of full ones only the near parts."""
    last = min(order + _DIVIDED, FINEST)
    around = np.column_stack([pixel, hpgeom.neighbors(2**order, pixel)]).ravel()
    there = around >= 0
    position, pixel = np.repeat(position, 9)[there], around[there]
    parts = []
    while True:
        runs = _runs(hpx, position, pixel, order)
        many = (runs.stop - runs.start > _FEW_ROWS) & (order < last)
        parts.append(runs.where(~many))
        if not many.any():
            return parts
        order += 1
        position = np.repeat(position[many], 4)
        pixel = ((pixel[many] << 2)[:, np.newaxis] + np.arange(4)).ravel()
        near = reach.touches(position, pixel, order)
        position, pixel = position[near], pixel[near]


def _runs(hpx: Ints, position: Ints, pixel: Ints, order: int) -> _Runs:
    """Return the rows in pixels of an order, each with its position."""
    first = pixel << shift(order)
    starts = np.searchsorted(hpx, first)
    return _Runs(position, starts, np.searchsorted(hpx, first + (1 << shift(order))))


def _within(
    sky: SkyColumns,
    ra: Floats,
    dec: Floats,
    position: Ints,
    row: Ints,
    radius_deg: float,
    *,
    primary: bool,
) -> Matches:
    """Return the pairs of positions and candidates that are no farther apart than a radius."""
    # Most candidates are too far north or south; testing that takes a tenth of a distance.
    near = np.abs(sky.dec[row] - dec[position]) <= radius_deg + _PAD
    if primary:
        near &= sky.primary[row]
    elif sky.alive is not None:
        near &= sky.alive[row]
    position, row = position[near], row[near]
    apart = separation_deg(ra[position], dec[position], sky.ra[row], sky.dec[row])
    near = apart <= radius_deg
    return Matches(position[near], row[near] + sky.first_row, apart[near])


def _first_of_each(skies: Sequence[SkyColumns], pairs: Matches) -> Matches:
    """Return the nearest row of each position, whose pairs stand together."""
    if not len(pairs):
        return pairs
    begins = np.flatnonzero(np.diff(pairs.position, prepend=-1))
    counts = np.diff(begins, append=len(pairs))
    least = np.minimum.reduceat(pairs.separation_deg, begins)
    pairs = pairs.where(pairs.separation_deg == np.repeat(least, counts))
    if len(pairs) > len(begins):
        pairs = _in_order(skies, pairs)
        pairs = pairs.where(np.diff(pairs.position, prepend=-1) != 0)
    return pairs


def _in_order(skies: Sequence[SkyColumns], pairs: Matches) -> Matches:
    """Return pairs by position, then by separation and identifier, the best spectrum first."""
    some = pairs.where(np.lexsort((pairs.separation_deg, pairs.position)))
    same = some.position[1:] == some.position[:-1]
    if np.any(same & (some.separation_deg[1:] == some.separation_deg[:-1])):
        ids, primary = _gathered(skies, some.row)
        keys = (some.row, ~primary, ids, some.separation_deg, some.position)
        return some.where(np.lexsort(keys))
    return some


def _gathered(skies: Sequence[SkyColumns], row: Ints) -> tuple[npt.NDArray[Any], Bools]:
    """Return identifier, and whether it is the best of its object, of rows, 1D[n]."""
    ids, primary = np.zeros(len(row), skies[0].ids.dtype), np.zeros(len(row), np.bool_)
    for sky in skies:
        here = (row >= sky.first_row) & (row < sky.first_row + len(sky.ids))
        own = row[here] - sky.first_row
        ids[here], primary[here] = sky.ids[own], sky.primary[own]
    return ids, primary
