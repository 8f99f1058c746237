"""Regions of the sky: cones and great-circle polygons, and which positions lie inside them.

Positions are right ascension and declination in degrees. Containment is decided in float64 with
no projection, so it holds at the poles, across RA 0 and up to the whole sky. Coordinates that
are not a position (not finite, or |dec| > 90°, as survey sentinels) lie in no region.
"""

from dataclasses import InitVar, dataclass, field
from math import cos, degrees, isfinite, pi, radians, sin
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import BadRegion
from .overlaps import PAIRS, Check, Indices, Meridians, dots, edge_pairs, go_on
from .sphere import Bools, Floats, angle_rad, is_position, separation_deg, unit, wrap_deg

# A position this near to an edge counts as on it: a thousand times the rounding of a coordinate.
_EDGE_RAD: Final = 1e-12
# Vertices nearer than this are one vertex; it must exceed twice the width of an edge.
_SAME_RAD: Final = 1e-11
# An edge this near to 180° has no sure direction: rounding its ends turns it by 1e-16/1e-6 rad.
_OPPOSITE_RAD: Final = 1e-6
# The sum of n turning angles of an exact hemisphere differs from 0 by rounding only.
_HEMISPHERE_SR: Final = 1e-12
# Bounds grow by 0.2 mas: over the edge width and the rounding of any index, under any need.
_PAD_RAD: Final = 1e-9
# A bound beyond this radius excludes less than 0.1 % of the sky: not worth a test.
_WHOLE_SKY_RAD: Final = 3.1
# Ten times the rounding of a cosine that is computed of right ascensions up to so many degrees.
_COSINE_ERROR: Final = 1e-14
_USUAL_DEG: Final = 720.0
# Up to so many edges, all of them are compared with each position.
_FEW_EDGES: Final = 32
# Testing a pair among all takes an eighth of the time of finding and testing one.
_PAIR_COST: Final = 8
# Directions tried as end points of test arcs, and how far along one a position may lie.
_TRIED: Final = 64
_ALIGNED: Final = 0.9


@dataclass(frozen=True, slots=True)
class Cone:
    """All positions within ``radius_deg`` of a centre, the rim included."""

    ra_deg: float
    dec_deg: float
    radius_deg: float

    def __post_init__(self) -> None:
        if not isfinite(self.ra_deg):
            raise BadRegion(f"the cone's ra is {self.ra_deg}: give a finite number of degrees")
        if not abs(self.dec_deg) <= 90.0:
            raise BadRegion(f"the cone's dec is {self.dec_deg}°: give one from -90° to 90°")
        if not 0.0 <= self.radius_deg <= 180.0:
            raise BadRegion(f"the cone's radius is {self.radius_deg}°: give one from 0° to 180°")
        object.__setattr__(self, "ra_deg", self.ra_deg % 360.0 % 360.0)

    def contains(
        self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, _check: Check = go_on
    ) -> Bools:
        """Return 1D[n] bool: which positions, 1D[n] float64, deg, lie in the cone."""
        ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
        ra, dec = np.broadcast_arrays(*np.atleast_1d(ra, dec))
        with np.errstate(invalid="ignore", over="ignore"):
            cosine = self._cosine(ra, dec) - np.cos(np.radians(self.radius_deg))
            usual = (np.abs(dec) <= 90.0) & (np.abs(ra) <= _USUAL_DEG)
            unsure = ~(usual & (np.abs(cosine) > _COSINE_ERROR))
        inside: Bools = cosine > 0.0
        # The cosine does not decide near the rim, nor for coordinates that are not a position.
        if unsure.any():
            near = wrap_deg(ra[unsure])
            distance = separation_deg(self.ra_deg, self.dec_deg, near, dec[unsure])
            inside[unsure] = distance <= self.radius_deg
        return inside

    def _cosine(self, ra_deg: Floats, dec_deg: Floats) -> Floats:
        """Return the cosine of the distance from the centre: a quarter of the distance's time."""
        centre, dec = np.radians(self.dec_deg), np.radians(dec_deg)
        turn = np.cos(np.radians(ra_deg - self.ra_deg))
        cosine: Floats = np.sin(centre) * np.sin(dec) + np.cos(centre) * np.cos(dec) * turn
        return cosine

    def bounds(self) -> tuple[Floats, float]:
        """Return the centre, 1D[3] float64 unit vector, and a slightly larger radius in deg."""
        # As `sphere.unit`, of one position: NumPy takes ten times as long for it.
        ra, dec = radians(self.ra_deg), radians(self.dec_deg)
        across = sin(radians(90.0 - abs(self.dec_deg)))
        centre = np.array([across * cos(ra), across * sin(ra), sin(dec)])
        return centre, min(180.0, self.radius_deg + degrees(_PAD_RAD))


@dataclass(frozen=True, slots=True)
class _Edges:
    """The closed chain of great-circle arcs around a polygon.

    ``corner`` and ``following`` are the ends of the arcs, ``normal`` the unit vectors to the left
    of the direction of travel: 2D[n, 3] float64 each. ``length_rad`` is 1D[n] float64.
    """

    corner: Floats
    following: Floats
    normal: Floats
    length_rad: Floats

    @staticmethod
    def around(corner: Floats) -> "_Edges":
        """Join the vertices, 2D[n, 3] float64 unit vectors."""
        following = np.roll(corner, -1, axis=0)
        # (a+b) × (b-a) is 2 a × b, but keeps its digits when a and b are close or opposite.
        normal = np.cross(corner + following, following - corner)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        return _Edges(corner, following, normal, angle_rad(corner, following))

    def touch(self, point: Floats, edge: Indices) -> Bools:
        """Return which points, 2D[k, 3], near the great circle of an edge, lie on that edge."""
        normal = self.normal[edge]
        after: Floats = np.vecdot(point, np.cross(normal, self.corner[edge]))
        before: Floats = np.vecdot(point, np.cross(self.following[edge], normal))
        return (after >= -_EDGE_RAD) & (before >= -_EDGE_RAD)

    def odd_crossings(self, distance: Floats, point: Floats, end: Floats) -> Bools:
        """Return which arcs from a point to ``end`` cross the edges an odd number of times.

        Whatever the rounding, a vertex lies on one side of an arc for both of its edges, so an
        arc through a vertex crosses there once or twice as it would beside the vertex.

        Parameters
        ----------
        distance : 2D[k, n] float64, sine of the distance of each point to the left of each edge
        point : 2D[k, 3] float64, unit vectors
        end : 1D[3] float64, unit vector
        """
        left = distance > 0.0
        side = np.cross(point, end) @ self.corner.T >= 0.0
        next_side = np.roll(side, -1, axis=1)
        crossed = (left != (self.normal @ end > 0.0)) & (side != next_side) & (left == next_side)
        odd: Bools = np.logical_xor.reduce(crossed, axis=1)
        return odd

    def crossings_of_few(
        self, near: Meridians, point: Floats, end: Floats, check: Check
    ) -> tuple[Bools, Bools]:
        """Return what `odd_crossings` does, and which points lie on an edge, 1D[k] each.

        Only edges that an arc may cross are tested.
        """
        plane = np.cross(point, end)
        end_left = self.normal @ end > 0.0
        times, on_edge = np.zeros(len(point), np.intp), np.zeros(len(point), np.bool_)
        for at, edge in near.pairs():
            check()
            distance = dots(point[at], self.normal[edge])
            left = distance > 0.0
            side = dots(plane[at], self.corner[edge]) >= 0.0
            next_side = dots(plane[at], self.following[edge]) >= 0.0
            crossed = (left != end_left[edge]) & (side != next_side) & (left == next_side)
            times += np.bincount(at[crossed], minlength=len(point))
            row = np.flatnonzero(np.abs(distance) <= _EDGE_RAD)
            on_edge[at[row[self.touch(point[at[row]], edge[row])]]] = True
        return times % 2 == 1, on_edge

    def left_area_sr(self) -> float:
        """Return the area to the left of a simple chain: 2π less the sum of its turns."""
        before = np.roll(self.normal, 1, axis=0)
        sine = np.vecdot(np.cross(before, self.normal), self.corner)
        return 2.0 * pi - float(np.sum(np.arctan2(sine, np.vecdot(before, self.normal))))

    def first_meeting(self, check: Check) -> tuple[int, int] | None:
        """Return two edges that cross, overlap or touch elsewhere than at their common vertex."""
        size = len(self.corner)
        width = 2.0 * _EDGE_RAD
        for first, second in edge_pairs(self.corner, self.following, self.length_rad, width):
            check()
            next_first, next_second = (first + 1) % size, (second + 1) % size
            ends = ((second, first), (next_second, first), (first, second), (next_first, second))
            height = np.array([np.vecdot(self.normal[e], self.corner[v]) for v, e in ends])
            left, near = height > 0.0, np.abs(height) <= _EDGE_RAD
            met = (left[0] != left[1]) & (left[2] != left[3]) & (left[0] == left[3])
            # With an end so near to the other's circle, edges that cross also touch.
            met &= ~near.any(axis=0)
            for (vertex, edge), is_near in zip(ends, near, strict=True):
                is_other = (vertex != edge) & (vertex != (edge + 1) % size)
                row = np.flatnonzero(is_near & is_other)
                met[row] |= self.touch(self.corner[vertex[row]], edge[row])
            if met.any():
                found = int(np.argmax(met))
                return int(first[found]), int(second[found])
        return None

    def farthest_rad(self, centre: Floats) -> float:
        """Return the largest distance from ``centre`` to any point of the edges, in rad."""
        height = self.normal @ centre
        beside = np.linalg.norm(np.cross(self.normal, centre), axis=1)
        far = self.normal * height[:, np.newaxis] - centre
        reached = self.touch(far, np.arange(len(far))) * (pi - np.arctan2(np.abs(height), beside))
        return float(np.max(np.maximum(reached, angle_rad(self.corner, centre))))


@dataclass(frozen=True, slots=True)
class _Area:
    """One side of the edges: the parity of an arc to either end tells whether a point is in it.

    Two ends are kept, since an arc to a point almost opposite to its end has no sure direction.
    """

    edges: _Edges
    ends: tuple[Floats, Floats]
    end_inside: tuple[bool, bool]
    centre: Floats
    radius_rad: float

    @staticmethod
    def smaller(edges: _Edges) -> "_Area":
        """Take the smaller side of simple edges; of two hemispheres the left one."""
        width = _HEMISPHERE_SR + 8.0 * float(np.finfo(np.float64).eps) * len(edges.corner)
        is_right = edges.left_area_sr() > 2.0 * pi + width
        ends = _ends(edges)
        inside = (_is_left(edges, ends[0]) != is_right, _is_left(edges, ends[1]) != is_right)
        # ½ ∮ r × dr is the integral of the position over the area on the left.
        moment = edges.length_rad @ edges.normal * (-1.0 if is_right else 1.0)
        centre: Floats = moment / np.linalg.norm(moment) if moment.any() else edges.corner[0]
        whole = _Area(edges, ends, inside, centre, pi)
        radius = edges.farthest_rad(centre) + _PAD_RAD
        # No edge lies outside the cap, so its outside belongs to the area as its antipode does.
        if radius > _WHOLE_SKY_RAD or whole.contains(-centre[np.newaxis])[0]:
            return whole
        return _Area(edges, ends, inside, centre, radius)

    def contains(self, point: Floats, check: Check = go_on) -> Bools:
        """Return which points, 2D[n, 3] float64 unit vectors, lie inside or on an edge."""
        inside = np.zeros(len(point), dtype=np.bool_)
        chord = np.linalg.norm(point - self.centre, axis=1)
        near = (chord <= 2.0 * np.sin(self.radius_rad / 2.0)) | (self.radius_rad == pi)
        aligned = np.abs(point @ self.ends[0]) > _ALIGNED
        step = max(1, PAIRS // len(self.edges.corner))
        for which, end in enumerate(self.ends):
            rows = np.flatnonzero(near & (aligned == bool(which)))
            pruned = self._pruned(point[rows], end)
            if pruned is not None:
                odd, on_edge = self.edges.crossings_of_few(pruned, point[rows], end, check)
                inside[rows] = (odd != self.end_inside[which]) | on_edge
                continue
            for first in range(0, rows.size, step):
                check()
                row = rows[first : first + step]
                distance = point[row] @ self.edges.normal.T
                odd = self.edges.odd_crossings(distance, point[row], end)
                inside[row] = odd != self.end_inside[which]
                at, edge = np.nonzero(np.abs(distance) <= _EDGE_RAD)
                inside[row[at[self.edges.touch(point[row[at]], edge)]]] = True
        return inside

    def _pruned(self, point: Floats, end: Floats) -> Meridians | None:
        """Return the pairs of points and edges to test, if they are few among all."""
        edges = self.edges
        if len(edges.corner) <= _FEW_EDGES or not len(point):
            return None
        found = Meridians(end, point, edges.corner, edges.following)
        few = found.npairs * _PAIR_COST <= len(point) * len(edges.corner)
        return found if few else None


def _ends(edges: _Edges) -> tuple[Floats, Floats]:
    """Return two directions, 60° or more from being parallel, far from all edges' circles."""
    index = np.arange(_TRIED, dtype=np.float64)
    z = (2.0 * index + 1.0) / _TRIED - 1.0
    # The golden angle spreads the directions; the offset keeps them off round coordinates.
    azimuth_deg = index * (3.0 - np.sqrt(5.0)) * 180.0 + 7.0713
    tried = unit(azimuth_deg, np.degrees(np.arcsin(z)))
    clear = np.array([np.min(np.abs(edges.normal @ direction)) for direction in tried])
    first = tried[int(np.argmax(clear))]
    second = tried[int(np.argmax(np.where(np.abs(tried @ first) < 0.5, clear, -1.0)))]
    return first, second


def _is_left(edges: _Edges, end: Floats) -> bool:
    """Return whether ``end`` lies left of the edges, by an arc to it from the longest one."""
    longest = int(np.argmax(edges.length_rad))
    middle = edges.corner[longest] + edges.following[longest]
    middle = (middle / np.linalg.norm(middle))[np.newaxis]
    distance = middle @ edges.normal.T
    # The arc starts on this edge; taken to start on the side of its end, it does not cross it.
    starts_left = float(edges.normal[longest] @ end) > 0.0
    distance[0, longest] = 1.0 if starts_left else -1.0
    return starts_left != bool(edges.odd_crossings(distance, middle, end)[0])


def _clean_vertices(pairs: Floats) -> Floats:
    """Return the vertices, 2D[n, 2] float64, deg, wrapped in RA and without repetitions."""
    bad = np.flatnonzero(~is_position(pairs[:, 0], pairs[:, 1]))
    if bad.size:
        ra, dec = pairs[bad[0]]
        raise BadRegion(
            f"vertex {bad[0] + 1} is (ra={ra}, dec={dec}): give finite degrees, ra before dec,"
            " dec from -90 to 90"
        )
    pairs = np.stack([wrap_deg(pairs[:, 0]), pairs[:, 1]], axis=1)
    corner = unit(pairs[:, 0], pairs[:, 1])
    pairs = pairs[angle_rad(corner, np.roll(corner, -1, axis=0)) > _SAME_RAD]
    if len(np.unique(pairs, axis=0)) < 3:
        raise BadRegion("give a polygon at least 3 different vertices, or ask for a cone")
    return pairs


def _area_within(pairs: Floats, check: Check) -> _Area:
    """Return the area that vertices, 2D[n, 2] float64, deg, surround."""

    def named(vertex: int) -> str:
        ra, dec = pairs[vertex % len(pairs)]
        return f"({ra:.9g}, {dec:.9g})"

    corner = unit(pairs[:, 0], pairs[:, 1])
    missing_rad = angle_rad(corner, -np.roll(corner, -1, axis=0))
    for vertex in np.flatnonzero(missing_rad < _OPPOSITE_RAD).tolist():
        raise BadRegion(
            f"vertices {named(vertex)} and {named(vertex + 1)} are opposite on the sky, so the edge"
            " between them could run anywhere: put another vertex between them"
        )
    edges = _Edges.around(corner)
    if met := edges.first_meeting(check):
        first, second = sorted(met)
        raise BadRegion(
            f"the polygon's edge {named(first)}–{named(first + 1)} meets its edge"
            f" {named(second)}–{named(second + 1)}: list the vertices in order around the boundary,"
            " and ask for separate parts separately"
        )
    return _Area.smaller(edges)


@dataclass(frozen=True, slots=True)
class Polygon:
    """The sky within great-circle edges between consecutive (ra, dec) vertices in degrees.

    The inside is the smaller side of the edges, whatever the winding; of two exact hemispheres it
    is the one on the left. Edges belong to the polygon. They may neither cross nor touch.
    """

    vertices: tuple[tuple[float, float], ...]
    check: InitVar[Check] = go_on
    _area: _Area = field(init=False, repr=False, compare=False)

    def __post_init__(self, check: Check) -> None:
        given = np.array(self.vertices, dtype=np.float64)
        pairs = _clean_vertices(given.reshape(len(self.vertices), 2))
        object.__setattr__(self, "vertices", tuple((ra, dec) for ra, dec in pairs.tolist()))
        object.__setattr__(self, "_area", _area_within(pairs, check))

    def contains(
        self, ra_deg: npt.ArrayLike, dec_deg: npt.ArrayLike, check: Check = go_on
    ) -> Bools:
        """Return 1D[n] bool: which positions, 1D[n] float64, deg, lie in the polygon."""
        ra, dec = np.asarray(ra_deg, dtype=np.float64), np.asarray(dec_deg, dtype=np.float64)
        ra, dec = np.broadcast_arrays(*np.atleast_1d(ra, dec))
        inside = is_position(ra, dec)
        inside[inside] = self._area.contains(unit(ra[inside], dec[inside]), check)
        return inside

    def bounds(self) -> tuple[Floats, float]:
        """Return a cap that holds the polygon: 1D[3] float64 unit vector, and radius in deg."""
        return self._area.centre.copy(), float(np.degrees(self._area.radius_rad))


def cone(ra_deg: float, dec_deg: float, radius_deg: float) -> Cone:
    """Return a cone from three values that are numbers of degrees, or raise `BadRegion`."""
    try:
        return Cone(float(ra_deg), float(dec_deg), float(radius_deg))
    except (TypeError, ValueError, OverflowError) as e:
        raise BadRegion("a cone takes three numbers: ra, dec and radius in degrees") from e


def polygon(vertices: npt.ArrayLike, check: Check = go_on) -> Polygon:
    """Return a polygon from its vertices, 2D[n, 2] (ra, dec) or 1D[2n] ra, dec, …, in deg.

    Raises `BadRegion` if these are no vertices or no polygon.
    """
    advice = "give the vertices in degrees as [(ra, dec), …] or [ra, dec, ra, dec, …]"
    try:
        values = np.asarray(vertices, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise BadRegion(f"the polygon is not made of numbers: {advice}") from e
    is_flat = values.ndim == 1 and values.size % 2 == 0
    if not is_flat and values.shape[1:] != (2,):
        raise BadRegion(f"an array of shape {values.shape} is no polygon: {advice}")
    return Polygon(tuple((ra, dec) for ra, dec in values.reshape(-1, 2).tolist()), check)
