"""Cones and polygons against independent arithmetic, wherever on the sky they lie."""

import dataclasses
import pickle
from itertools import pairwise

import numpy as np
import pytest
from astropy.coordinates import angular_separation
from hypothesis import assume, given
from hypothesis import strategies as st

from specserver.errors import BadRegion
from specserver.model.region import Cone, Polygon, cone, polygon
from specserver.model.sphere import separation_deg

ARCSEC = 1.0 / 3600.0
RA = st.floats(-720.0, 720.0)
DEC = st.floats(-90.0, 90.0)


def unit(ra, dec):
    ra, dec = np.radians(np.asarray(ra, float)), np.radians(np.asarray(dec, float))
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def degrees(vector):
    x, y, z = np.asarray(vector).T
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def offset(ra, dec, distance_deg, angle):
    """Positions at a distance and direction of one position, in the tangent frame there."""
    centre, east = unit(ra, dec), unit(ra + 90.0, 0.0)
    sideways = np.outer(np.cos(angle), east) + np.outer(np.sin(angle), np.cross(centre, east))
    d = np.radians(distance_deg)[:, np.newaxis]
    return degrees(np.cos(d) * centre + np.sin(d) * sideways)


@pytest.fixture(scope="module")
def sky():
    """100,000 positions: 40,000 over the whole sky, the rest near the poles and RA 0."""
    rng = np.random.default_rng(20)
    ra = rng.uniform(0.0, 360.0, 100_000)
    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, 100_000)))
    depth = 10.0 ** rng.uniform(-9.0, 1.0, 60_000)
    dec[40_000:60_000] = 90.0 - depth[:20_000]
    dec[60_000:80_000] = -90.0 + depth[20_000:40_000]
    ra[80_000:] = rng.choice([-1.0, 1.0], 20_000) * depth[40_000:] % 360.0
    dec[80_000:90_000] = rng.uniform(-2.0, 2.0, 10_000)
    ra[:8] = [0.0, 0.0, 360.0, 0.0, 180.0, 90.0, 77.0, 270.0]
    dec[:8] = [90.0, -90.0, 0.0, 0.0, 0.0, 90.0, -90.0, 0.0]
    return ra, dec


def with_cluster(sky, ra, dec, spread_deg):
    """Replace 40,000 of the positions by ones at all distances around the given ones."""
    rng = np.random.default_rng(21)
    vector = unit(ra, dec)
    vector = vector[rng.integers(len(vector), size=40_000)]
    step = np.radians(spread_deg) * 10.0 ** rng.uniform(-6.0, 0.5, (40_000, 1))
    vector = vector + step * rng.normal(size=(40_000, 3))
    more = degrees(vector / np.linalg.norm(vector, axis=1, keepdims=True))
    keep = np.arange(100_000) % 5 >= 2
    return tuple(np.concatenate([old[keep], new]) for old, new in zip(sky, more, strict=True))


# --- distance -----------------------------------------------------------------------------------


def long_separation(ra1, dec1, ra2, dec2):
    """Chord lengths in extended precision: another formula, with more digits."""
    to_rad = np.arctan(np.longdouble(1.0)) / 45

    def vector(ra, dec):
        ra, dec = np.asarray(ra, np.longdouble) * to_rad, np.asarray(dec, np.longdouble) * to_rad
        return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], -1)

    one, two = vector(ra1, dec1), vector(ra2, dec2)
    near = np.sqrt(((one - two) ** 2).sum(-1))
    return 2 * np.arctan2(near, np.sqrt(((one + two) ** 2).sum(-1))) / to_rad


@pytest.mark.parametrize("distance_deg", [1e-9, ARCSEC, 1.0, 90.0, 180.0 - ARCSEC, 180.0 - 1e-9])
@pytest.mark.parametrize("dec", [0.0, 51.0, 89.9999, -90.0])
def test_distance_keeps_its_digits_at_every_scale(distance_deg, dec):
    rng = np.random.default_rng(1)
    angle = rng.uniform(0, 2 * np.pi, 500)
    ra2, dec2 = offset(0.0, dec, np.full(500, distance_deg), angle)
    found = separation_deg(0.0, dec, ra2, dec2)
    expected = long_separation(0.0, dec, ra2, dec2)
    np.testing.assert_allclose(found, expected.astype(float), rtol=3e-15, atol=2e-14)
    np.testing.assert_allclose(found, distance_deg, rtol=1e-13, atol=2e-13)


def test_distance_is_exact_at_both_ends():
    ra = np.array([0.0, 12.3, 359.9, 77.0, 180.0])
    dec = np.array([0.0, -45.6, 89.9, 90.0, -90.0])
    assert separation_deg(ra, dec, ra, dec).tolist() == [0.0] * 5
    assert separation_deg(ra, dec, ra + 180.0, -dec).tolist() == [180.0] * 5
    assert float(separation_deg(10.0, 90.0, 200.0, 90.0)) == 0.0
    assert float(separation_deg(0.0, 0.0, 360.0, 0.0)) == 0.0


@given(RA, DEC, RA, DEC)
def test_distance_is_symmetric_bounded_and_agrees_with_astropy(ra1, dec1, ra2, dec2):
    found = float(separation_deg(ra1, dec1, ra2, dec2))
    assert found == float(separation_deg(ra2, dec2, ra1, dec1))
    assert 0.0 <= found <= 180.0
    astropy = np.degrees(angular_separation(*np.radians([ra1, dec1, ra2, dec2])))
    assert found == pytest.approx(astropy, abs=1e-11)
    assert found + float(separation_deg(ra1, dec1, ra2 + 180.0, -dec2)) == pytest.approx(180.0)


def test_distance_to_no_position_is_nan():
    bad = separation_deg(0.0, 0.0, [np.nan, 0.0, np.inf, -9999.0, 1.0], [0.0, np.nan, 0, -9999, 91])
    assert np.isnan(bad).all()


# --- cones --------------------------------------------------------------------------------------

CENTRES = [(0.0, 0.0), (359.99999, -0.4), (180.0, 90.0), (33.0, -90.0), (0.001, 89.999), (217, 51)]
RADII = [ARCSEC, 0.01, 1.0, 30.0, 90.0, 150.0, 180.0 - ARCSEC, 180.0]


@pytest.mark.parametrize(("ra", "dec"), CENTRES)
def test_cone_agrees_with_brute_force(sky, ra, dec):
    rng = np.random.default_rng(3)
    for radius in RADII:
        scatter = 10.0 ** rng.uniform(-10.0, 0.0, 20_000) * rng.choice([-1.0, 1.0], 20_000)
        distance = np.clip(radius * (1.0 + scatter), 0.0, 180.0)
        near_ra, near_dec = offset(ra, dec, distance, rng.uniform(0, 2 * np.pi, 20_000))
        all_ra = np.concatenate([sky[0][20_000:], near_ra])
        all_dec = np.concatenate([sky[1][20_000:], near_dec])
        exact = long_separation(ra, dec, all_ra, all_dec)
        sure = np.abs(exact - radius) > 1e-13
        inside = cone(ra, dec, radius).contains(all_ra, all_dec)
        assert sure.mean() > 0.75
        assert np.array_equal(inside[sure], (exact <= radius)[sure])
        assert inside.any()


def test_cone_of_180_degrees_is_the_whole_sky(sky):
    for ra, dec in CENTRES:
        assert Cone(ra, dec, 180.0).contains(*sky).all()


@given(RA, DEC)
def test_cone_holds_its_centre_even_without_radius(ra, dec):
    assert Cone(ra, dec, 0.0).contains(ra, dec).tolist() == [True]


@given(RA, DEC, RA, DEC, st.floats(0.0, 180.0))
def test_cones_of_one_radius_hold_each_others_centres(ra1, dec1, ra2, dec2, radius):
    there = Cone(ra1, dec1, radius).contains(ra2, dec2)
    assume(abs(float(separation_deg(ra1, dec1, ra2, dec2)) - radius) > 1e-12)
    assert np.array_equal(there, Cone(ra2, dec2, radius).contains(ra1, dec1))


@given(RA, DEC, st.floats(0.0, 180.0))
def test_cone_bounds_hold_the_cone(ra, dec, radius):
    centre, bound = Cone(ra, dec, radius).bounds()
    assert np.allclose(centre, unit(ra, dec), atol=1e-14)
    assert min(180.0, radius * (1 + 1e-15) + 1e-8) <= bound <= min(180.0, radius + 1e-6)


@pytest.mark.parametrize(
    ("ra", "expected"), [(-1.0, 359.0), (360.0, 0.0), (725.0, 5.0), (-1e-20, 0.0), (-360.0, 0.0)]
)
def test_ra_is_wrapped(ra, expected):
    assert Cone(ra, 0.0, 1.0).ra_deg == expected
    assert polygon([(ra, 0), (ra + 1, 0), (ra, 1)]).vertices[0] == (expected, 0.0)


@pytest.mark.parametrize(
    ("values", "advice"),
    [
        ((np.nan, 0, 1), "finite"),
        ((np.inf, 0, 1), "finite"),
        ((0, 90.0001, 1), "-90° to 90°"),
        ((0, np.nan, 1), "-90° to 90°"),
        ((0, 0, -1e-9), "0° to 180°"),
        ((0, 0, 180.001), "0° to 180°"),
        ((0, 0, np.nan), "0° to 180°"),
        (("here", 0, 1), "ra, dec and radius"),
        (([1, 2], 0, 1), "ra, dec and radius"),
        ((None, 0, 1), "ra, dec and radius"),
        ((10**400, 0, 1), "ra, dec and radius"),
    ],
)
def test_what_is_no_cone_is_refused(values, advice):
    with pytest.raises(BadRegion, match=advice):
        cone(*values)


def test_cone_reads_numbers_of_any_kind():
    assert cone("10", np.float32(-5.5), 1) == Cone(10.0, -5.5, 1.0)


# --- polygons: independent answers ----------------------------------------------------------------


def in_convex(corners, points):
    """Points on the inner side of every edge of a convex polygon."""
    corners = np.asarray(corners, np.longdouble)
    normals = np.cross(corners, np.roll(corners, -1, axis=0))
    if np.sum(normals @ corners.sum(axis=0)) < 0:
        normals = -normals
    rows = np.arange(len(points))
    for normal in normals:
        rows = rows[points[rows] @ normal >= 0.0]
    inside = np.zeros(len(points), bool)
    inside[rows] = True
    return inside


def in_fan(centre, corners, points):
    """Points in any of the triangles that a star-shaped polygon makes with its centre."""
    ring = [*corners, corners[0]]
    inside = np.zeros(len(points), bool)
    for a, b in pairwise(ring):
        inside |= in_convex(np.array([centre, a, b]), points)
    return inside


def in_plane(centre, corners, points):
    """Ray casting in the gnomonic projection, where great circles are straight lines."""
    frame = np.linalg.svd(centre[np.newaxis])[2]
    frame[0] = centre
    ahead = points @ centre > 0.0
    u, v = ((points[ahead] @ frame[1:].T) / (points[ahead] @ centre)[:, np.newaxis]).T
    polygon_u, polygon_v = ((corners @ frame[1:].T) / (corners @ centre)[:, np.newaxis]).T
    odd = np.zeros(len(u), bool)
    for i in range(len(corners)):
        u1, v1, u2, v2 = polygon_u[i - 1], polygon_v[i - 1], polygon_u[i], polygon_v[i]
        spans = (v1 > v) != (v2 > v)
        odd ^= spans & (u < u1 + (v - v1) * (u2 - u1) / (v2 - v1 if v1 != v2 else 1.0))
    inside = np.zeros(len(points), bool)
    inside[ahead] = odd
    return inside


def edge_distance(corners, points):
    """Sine of the distance to the nearest great circle of an edge."""
    following = np.roll(corners, -1, axis=0)
    normals = np.cross(corners + following, following - corners)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    nearest = np.full(len(points), np.inf)
    for normal in normals:
        np.minimum(nearest, np.abs(points @ normal), out=nearest)
    return nearest


def star(ra, dec, outer, inner, tips):
    angle = np.arange(2 * tips) * np.pi / tips + 0.1
    return np.stack(offset(ra, dec, np.where(np.arange(2 * tips) % 2, inner, outer), angle), 1)


def ring(dec, n, start=0.0):
    return np.stack([start + np.arange(n) * 360.0 / n, np.full(n, dec)], axis=1)


def comb(ra, dec, size):
    """A concave polygon that no single point sees whole: five teeth on a bar."""
    top = [(i / 10, 1.0 if i % 2 else 0.15) for i in range(1, 11)]
    flat = np.array([(0.0, 0.0), (1.0, 0.0), *top[::-1]]) - 0.5
    return degrees_around(ra, dec, flat * size)


def degrees_around(ra, dec, flat):
    """Polygon corners given in a tangent plane, in degrees."""
    east, centre = unit(ra + 90.0, 0.0), unit(ra, dec)
    flat = np.tan(np.radians(flat))
    vector = centre + flat[:, :1] * east + flat[:, 1:] * np.cross(centre, east)
    return np.stack(degrees(vector / np.linalg.norm(vector, axis=1, keepdims=True)), axis=1)


SQUARE = ((10.0, 1.0), (12.0, 1.0), (12.0, 3.0), (10.0, 3.0))

POLYGONS = {
    "triangle": ([(200, -10), (230, 5), (210, 40)], None, in_convex),
    "square across RA 0": ([(359, -1), (1, -1), (1, 1), (359, 1)], None, in_convex),
    "octant": ([(0, 0), (90, 0), (45, 90)], None, in_convex),
    "vertex at the pole": ([(0, 90), (350, 60), (10, 60)], None, in_convex),
    "star": (star(130, 30, 10, 3, 5), (130, 30), in_fan),
    "star across RA 0": (star(0, -5, 3, 1, 7), (0, -5), in_fan),
    "star at the pole": (star(0, 90, 20, 4, 9), (0, 90), in_fan),
    "star of 1 arcsec": (star(0, 20, ARCSEC, 0.3 * ARCSEC, 5), (0, 20), in_fan),
    "star of 1 mas at the pole": (star(0, -90, 3e-7, 1e-7, 4), (0, -90), in_fan),
    "star of 1 mas": (star(123.4, 56.7, 3e-7, 1e-7, 4), (123.4, 56.7), in_fan),
    "wide star": (star(77, -33, 85, 30, 6), (77, -33), in_fan),
    "around the north pole": (ring(80, 4), (0, 90), in_convex),
    "around the south pole": (ring(-60, 7), (0, -90), in_convex),
    "many vertices": (ring(40, 1000, 0.05), None, in_convex),
    "just less than half the sky": (ring(0.001, 12), None, in_convex),
    "just less than half, south": (ring(-1e-6, 5), None, in_convex),
    "lune": ([(10, 0), (15, 89.9999), (20, 0), (15, -89.9999)], None, in_convex),
    "comb": (comb(0, 0, 4), (0, 0), in_plane),
    "comb at the pole": (comb(10, 89.9, 30), (10, 89.9), in_plane),
    "comb of 2 arcsec": (comb(300, -70, 2 * ARCSEC), (300, -70), in_plane),
    "needle": ([(50, 10), (70, 10), (60, 10.2)], None, in_convex),
}


@pytest.mark.parametrize("name", POLYGONS)
def test_polygon_agrees_with_brute_force(sky, name):
    vertices, centre, answer = POLYGONS[name]
    ra, dec = np.asarray(vertices, float).T
    corners = unit(ra, dec)
    middles = corners + np.roll(corners, -1, axis=0)
    on_edges = degrees(
        np.concatenate([corners, middles / np.linalg.norm(middles, axis=1)[:, None]])
    )
    spread = float(np.degrees(np.linalg.norm(middles / 2 - corners, axis=1).min()))
    all_ra, all_dec = with_cluster(sky, *on_edges, spread)
    points = unit(all_ra, all_dec)
    expected = (
        answer(corners, points) if answer is in_convex else answer(unit(*centre), corners, points)
    )
    sure = edge_distance(corners, points) > 1e-11
    inside = polygon(vertices).contains(all_ra, all_dec)
    assert sure.mean() > 0.5
    assert inside[sure].sum() > 500
    assert (~inside[sure]).sum() > 500
    assert np.array_equal(inside[sure], expected[sure])
    reverse = polygon(vertices[::-1]).contains(all_ra, all_dec)
    assert np.array_equal(inside, reverse)


@pytest.mark.parametrize("name", POLYGONS)
def test_polygon_agrees_with_brute_force_where_its_test_arcs_end(name):
    """The answer for a position comes from an arc to an end; here arcs have length 0 or 180°."""
    vertices, centre, answer = POLYGONS[name]
    corners, region = unit(*np.asarray(vertices, float).T), polygon(vertices)
    rng = np.random.default_rng(8)
    ends = np.concatenate([region._area.ends, np.negative(region._area.ends)])
    step = 10.0 ** rng.uniform(-18.0, -0.5, (2000, 4, 1)) * rng.normal(size=(2000, 4, 3))
    points = (ends + step).reshape(-1, 3)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    points[:4] = ends
    expected = (
        answer(corners, points) if answer is in_convex else answer(unit(*centre), corners, points)
    )
    sure = edge_distance(corners, points) > 1e-11
    whole = dataclasses.replace(region._area, radius_rad=np.pi)
    assert np.array_equal(whole.contains(points)[sure], expected[sure])


@pytest.mark.parametrize("name", POLYGONS)
def test_polygon_bounds_hold_the_polygon(sky, name):
    vertices = POLYGONS[name][0]
    ra, dec = (some[::5] for some in with_cluster(sky, *np.asarray(vertices, float).T, 1.0))
    region = polygon(vertices)
    centre, radius = region.bounds()
    assert centre.shape == (3,)
    assert np.linalg.norm(centre) == pytest.approx(1.0, abs=1e-14)
    inside = region.contains(ra, dec)
    distance = separation_deg(*degrees(centre), ra, dec)
    assert (distance[inside] <= radius).all()
    corners = separation_deg(*degrees(centre), *np.asarray(vertices, float).T)
    assert radius <= 1.0000001 * corners.max() + 1e-6


def band(bottom, top):
    """A C-shaped band, open between its last and first vertices in RA."""
    along = np.linspace(0.0, 340.0 if len(bottom) > 6 else 300.0, len(bottom))
    quads = [
        unit([along[i], along[j], along[j], along[i]], [bottom[i], bottom[j], top[j], top[i]])
        for i, j in pairwise(range(len(along)))
    ]
    low, high = np.stack([along, bottom], axis=1), np.stack([along, top], axis=1)
    return np.concatenate([low, high[::-1]]), quads


BANDS = {
    "at the equator": band([-2.0] * 35, [3.0] * 35),
    "at high declination": band([60.0] * 35, [70.0] * 35),
    "wide": band([-30.0] * 35, [20.0] * 35),
    "farthest from its middle within an edge": band(
        [14.0, -40.0, -40.0, 14.0, 14.0, 14.0], [17.0, 40.0, 40.0, 17.0, 17.0, 17.0]
    ),
    "with its middle's antipode": band(
        [-8.0, -40.0, -40.0, -8.0, -8.0, -8.0], [8.0, 40.0, 40.0, 8.0, 8.0, 8.0]
    ),
}


@pytest.mark.parametrize("name", BANDS)
def test_band_almost_around_the_sky(sky, name):
    """Smaller than a hemisphere, contained in none: only the signed area tells its inside."""
    vertices, quads = BANDS[name]
    points = unit(*sky)
    expected = np.logical_or.reduce([in_convex(quad, points) for quad in quads])
    sure = edge_distance(unit(*vertices.T), points) > 1e-11
    for order in (vertices, np.roll(vertices[::-1], 3, axis=0)):
        region = polygon(order)
        inside = region.contains(*sky)
        assert np.array_equal(inside[sure], expected[sure])
        centre, radius = region.bounds()
        assert (separation_deg(*degrees(centre), *sky)[inside] <= radius).all()


@pytest.mark.parametrize("name", ["triangle", "star", "comb at the pole", "around the north pole"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rotation_of_the_sky_changes_nothing(sky, name, seed):
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    vertices = np.asarray(POLYGONS[name][0], float)
    ra, dec = with_cluster(sky, *vertices.T, 5.0)
    turned = np.stack(degrees(unit(*vertices.T) @ turn.T), axis=1)
    sure = edge_distance(unit(*vertices.T), unit(ra, dec)) > 1e-11
    inside = polygon(vertices).contains(ra, dec)
    there = polygon(turned).contains(*degrees(unit(ra, dec) @ turn.T))
    assert np.array_equal(inside[sure], there[sure])


def test_edges_and_vertices_are_inside_and_a_hair_beyond_is_not():
    vertices = np.array(POLYGONS["star"][0])
    corners = unit(*vertices.T)
    share = np.linspace(0.0, 1.0, 50)[:, np.newaxis, np.newaxis]
    chord = ((1 - share) * corners + share * np.roll(corners, -1, axis=0)).reshape(-1, 3)
    chord /= np.linalg.norm(chord, axis=1, keepdims=True)
    normal = np.cross(corners, np.roll(corners, -1, axis=0))
    normal /= np.linalg.norm(normal, axis=1, keepdims=True)
    region = polygon(vertices)
    assert region.contains(*vertices.T).all()
    assert region.contains(*degrees(chord)).all()
    middle = chord.reshape(50, -1, 3)[20:30]
    within = region.contains(*degrees((middle + 1e-11 * normal).reshape(-1, 3)))
    beyond = region.contains(*degrees((middle - 1e-11 * normal).reshape(-1, 3)))
    assert set(within + 2 * beyond) in ({1}, {2})


def test_arcs_through_vertices_and_along_edges_are_not_miscounted():
    """Grid positions lined up with the vertices and edges of a polygon on the same grid."""
    vertices = [(0, 0), (4, 0), (4, 4), (3, 4), (3, 1), (2, 1), (2, 4), (1, 4), (1, 1), (0, 1)]
    region = polygon(vertices)
    ra, dec = (a.ravel() for a in np.meshgrid(np.arange(-4, 9) / 2.0, np.arange(-4, 13) / 2.0))
    columns = (ra >= 0) & (ra <= 4) & (dec >= 0)
    # Edges in RA bulge off the parallel by at most 0.003 deg; the grid avoids those lines.
    clear = ~(np.isin(dec, [1.0, 4.0]))
    teeth = ((ra >= 1) & (ra <= 2)) | ((ra >= 3) & (ra <= 4))
    expected = columns & ((dec <= 1) | (teeth & (dec <= 4)))
    assert np.array_equal(region.contains(ra, dec)[clear], expected[clear])


def test_hemisphere_is_on_the_left():
    north = polygon(ring(0, 4))
    south = polygon(ring(0, 4)[::-1])
    ra, dec = [0, 50, 100, 0, 10], [90, 1e-6, 30, -90, -1e-6]
    assert north.contains(ra, dec).tolist() == [True, True, True, False, False]
    assert south.contains(ra, dec).tolist() == [False, False, False, True, True]
    for region in (north, south):
        assert 90.0 < region.bounds()[1] < 90.00001


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [3, 500])
def test_tilted_hemisphere_is_on_the_left(seed, n):
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    vertices = np.stack(degrees(unit(*ring(0, n).T) @ turn.T), axis=1)
    poles = degrees(unit([0.0, 0.0], [90.0, -90.0]) @ turn.T)
    assert polygon(vertices).contains(*poles).tolist() == [True, False]
    assert polygon(vertices[::-1]).contains(*poles).tolist() == [False, True]


def test_bounds_are_tight_however_the_vertices_are_spread():
    extra = [(10.0 + i / 50, 1.0) for i in range(1, 50)]
    centre, radius = polygon([SQUARE[0], *extra, *SQUARE[1:]]).bounds()
    assert degrees(centre) == pytest.approx((11.0, 2.0), abs=0.01)
    assert radius == pytest.approx(np.sqrt(2.0), rel=0.01)


@given(
    st.floats(0, 360),
    DEC,
    st.floats(1e-5, 80.0),
    st.integers(3, 12),
    st.randoms(use_true_random=False),
)
def test_random_stars_anywhere(ra, dec, size, tips, random):
    """Star-shaped polygons of any size and place hold what their triangles hold."""
    n = 2 * tips
    radius = np.array([size * random.uniform(0.2, 1.0) for _ in range(n)])
    angle = (np.arange(n) + np.array([random.uniform(0, 0.8) for _ in range(n)])) * 2 * np.pi / n
    assume((np.diff(angle, append=angle[0] + 2 * np.pi) < 3.0).all())
    vertices = np.stack(offset(ra, dec, radius, angle), axis=1)
    rng = np.random.default_rng(random.randrange(2**32))
    point = offset(ra, dec, size * 1.2 * np.sqrt(rng.uniform(size=300)), rng.uniform(0, 7, 300))
    vectors, corners = unit(*point), unit(*vertices.T)
    sure = edge_distance(corners, vectors) > 1e-12
    expected = in_fan(unit(ra, dec), corners, vectors)
    assert np.array_equal(polygon(vertices).contains(*point)[sure], expected[sure])


def test_memory_stays_bounded_for_many_points_and_vertices(sky):
    """100,000 × 1,000 pairs of float64 would be 800 MB."""
    tracemalloc = pytest.importorskip("tracemalloc")
    region = polygon(ring(0.5, 1000))
    tracemalloc.start()
    region.contains(*sky)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


# --- polygons: what is accepted and refused -------------------------------------------------------


@pytest.mark.parametrize(
    "given_vertices",
    [
        SQUARE,
        [list(pair) for pair in SQUARE],
        np.array(SQUARE),
        np.array(SQUARE, dtype=">f4"),
        np.array(SQUARE).ravel(),
        [10, 1, 12, 1, 12, 3, 10, 3],
        ["10", "1", "12", "1", "12", "3", "10", "3"],
        [*SQUARE, SQUARE[0]],
        [SQUARE[0], SQUARE[0], *SQUARE[1:], SQUARE[3]],
        [(370, 1), (-348, 1), (12, 3), (10 + 1e-13, 3), (10, 3), (10, 1)],
    ],
)
def test_every_way_to_write_a_polygon(given_vertices):
    region = polygon(given_vertices)
    assert np.allclose(region.vertices, SQUARE, rtol=0, atol=1e-12)
    assert len(region.vertices) == 4


def test_polygons_are_values():
    region = polygon(SQUARE)
    assert region == Polygon(SQUARE)
    assert hash(region) == hash(Polygon(SQUARE))
    assert region != polygon(SQUARE[::-1])
    copy = pickle.loads(pickle.dumps(region))
    assert copy == region
    assert copy.contains(11, 2).tolist() == [True]
    assert repr(region) == f"Polygon(vertices={SQUARE})"


def test_repeated_pole_with_different_ra_is_one_vertex():
    assert len(polygon([(0, 90), (77, 90), (350, 60), (10, 60)]).vertices) == 3


@pytest.mark.parametrize(
    ("vertices", "advice"),
    [
        ([], "at least 3"),
        ([(0, 0), (1, 1)], "at least 3"),
        ([(0, 0), (1, 1), (0, 0)], "at least 3"),
        ([(5, 5)] * 9, "at least 3"),
        ([(0, 90), (90, 90), (180, 90)], "at least 3"),
        ([(0, 0), (1, 1), (0, 0), (1, 1)], "at least 3"),
        ([(0, 0), (180, 0), (90, 10)], "another vertex between"),
        ([(0, 90), (20, -90), (30, 0)], "another vertex between"),
        ([(10, 20), (190 + 1e-7, -20), (30, 0)], "another vertex between"),
        ([(0, 0), (10, 10), (10, 0), (0, 10)], "meets"),
        ([(0, 0), (10, 0), (20, 0)], "meets"),
        ([(0, 0), (10, 0), (10, 10), (5, 0), (0, 10)], "meets"),
        ([(0, 0), (10, 0), (5, 5), (10, 10), (0, 10), (5, 5)], "meets"),
        ([(0, 0), (10, 0), (10, 10), (20, 10), (10, 10), (0, 10)], "meets"),
        ([(358, 0), (2, 0), (358, 3), (2, 3)], "meets"),
        (ring(85, 5)[[0, 2, 4, 1, 3]], "meets"),
        ([(0, 91), (1, 1), (2, 0)], "vertex 1 .*ra before dec"),
        ([(0, 0), (1, 1), (2, np.nan)], "vertex 3 .*finite"),
        ([(0, 0), (np.inf, 1), (2, 0)], "vertex 2 .*finite"),
        ([1, 2, 3, 4, 5], "\\[ra, dec, ra, dec"),
        (np.zeros((2, 5)), "\\[ra, dec, ra, dec"),
        (np.zeros((3, 2, 2)), "\\[ra, dec, ra, dec"),
        (5.0, "\\[ra, dec, ra, dec"),
        ("circle", "not made of numbers"),
        ([(1, 2), (3,)], "not made of numbers"),
        ([(1, 2), (3, 10**400), (3, 3)], "not made of numbers"),
        ([1, 2, object(), 3], "not made of numbers"),
    ],
)
def test_what_is_no_polygon_is_refused_with_advice(vertices, advice):
    with pytest.raises(BadRegion, match=advice):
        polygon(vertices)


def test_crossing_is_found_among_many_edges():
    vertices = np.array(star(130, 30, 10, 3, 500))
    assert len(polygon(vertices).vertices) == 1000
    vertices[[400, 403]] = vertices[[403, 400]]
    with pytest.raises(BadRegion, match="meets"):
        polygon(vertices)


@pytest.mark.parametrize("region", [cone(0, 0, 180), polygon(ring(1, 4)), polygon(SQUARE)])
def test_what_is_no_position_is_in_no_region(region):
    ra = [np.nan, 10, np.inf, -9999, 0, 11]
    dec = [0, np.nan, 2, -9999, 90.1, 2]
    assert region.contains(ra, dec).tolist() == [False] * 5 + [True]


@pytest.mark.parametrize("region", [cone(11, 2, 3), polygon(SQUARE)])
def test_contains_takes_none_one_and_many(region):
    assert region.contains([], []).tolist() == []
    assert region.contains([], []).dtype == bool
    assert region.contains(11, 2).tolist() == [True]
    assert region.contains(np.float32(11), [2, 50]).tolist() == [True, False]
    assert region.contains([371, -349], 2).tolist() == [True, True]


@given(
    ra=st.floats(0, 360),
    dec=st.floats(-90, 90),
    radius=st.one_of(st.floats(0, 180), st.floats(0, 1e-6), st.floats(179.999, 180)),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_cone_holds_what_is_no_farther_than_its_radius(
    ra: float, dec: float, radius: float, seed: int
) -> None:
    """The quick test by the cosine decides as the distance itself, at the rim and anywhere."""
    rng = np.random.default_rng(seed)
    ras = np.concatenate([rng.uniform(-720, 720, 50), ra + rng.normal(0, 1e-7, 50), [ra, 1e9]])
    decs = np.concatenate([rng.uniform(-90, 90, 50), dec + rng.normal(0, 1e-7, 50), [dec, 0.0]])
    bad = np.array([np.nan, np.inf, 0.0, 0.0])
    ras, decs = np.concatenate([ras, bad]), np.concatenate([decs, [0.0, 0.0, np.nan, -9999.0]])
    # Of some the distance is the radius itself, to the last bit.
    for limit in (radius, *separation_deg(ra, dec, ras[48:54], np.clip(decs[48:54], -90, 90))):
        if np.isfinite(limit):
            found = cone(ra, dec, limit).contains(ras, decs)
            with np.errstate(invalid="ignore"):
                wrapped = np.mod(np.mod(ras, 360.0), 360.0)
                expected = separation_deg(ra % 360.0 % 360.0, dec, wrapped, decs) <= limit
            assert found.tolist() == expected.tolist()
    assert not found[-4:].any()
