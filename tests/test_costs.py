"""What costs much is pruned, waits in the heavy lane, and ends when its time is up."""

from pathlib import Path

import numpy as np
import pytest
import urllib3
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import serve
from specserver.auth import ANONYMOUS
from specserver.catalog.deadline import Deadline
from specserver.data.root import open_root
from specserver.errors import BadConstraint, QueryTimeout, TooMuch
from specserver.model import region
from specserver.model.id_tuple import Span, parse_id_tuple
from specserver.model.ids import unpack_specobjid
from specserver.model.overlaps import Meridians, edge_pairs
from specserver.model.region import polygon
from specserver.model.sphere import angle_rad, unit
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.limits import HeavyWork, Limits


def coast(n: int, seed: int, ra: float = 0.0, dec: float = 0.0) -> np.ndarray:
    """Return a polygon of n corners around a position, with bays, 2D[n, 2], deg."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0.0, 2.0 * np.pi, n))
    size = np.radians(10.0) * (1.0 + 0.3 * np.cos(7 * angle) + rng.uniform(0.0, 0.2, n))
    centre, east = unit(ra, dec), unit(ra + 90.0, 0.0)
    sideways = np.outer(np.cos(angle), east) + np.outer(np.sin(angle), np.cross(centre, east))
    x, y, z = (np.cos(size)[:, None] * centre + np.sin(size)[:, None] * sideways).T
    return np.stack([np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))], 1)


@settings(max_examples=25)
@given(st.integers(33, 300), st.integers(0, 10**6), st.floats(0.0, 360.0), st.floats(-90.0, 90.0))
def test_few_edges_tell_what_all_do(n: int, seed: int, ra: float, dec: float) -> None:
    corners = coast(n, seed, ra, dec)
    rng = np.random.default_rng(seed)
    near = corners[rng.integers(n, size=500)] + rng.normal(0.0, 1.0, (500, 1)) * [0.5, 0.2]
    far = np.stack([rng.uniform(0, 360, 300), rng.uniform(-90, 90, 300)], 1)
    points = np.vstack([near, far, corners, (corners + np.roll(corners, 1, 0)) / 2.0])
    points[:, 1] = np.clip(points[:, 1], -90.0, 90.0)
    one = polygon(corners)
    pruned = one.contains(*points.T)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(region, "_FEW_EDGES", 10**9)
        assert np.array_equal(one.contains(*points.T), pruned)
    assert pruned[800 : 800 + n].all()


def test_a_polygon_of_thousands_of_corners_has_few_pairs() -> None:
    corner = unit(*coast(7400, 1, 180.0, 20.0).T)
    following = np.roll(corner, -1, axis=0)
    pairs = edge_pairs(corner, following, angle_rad(corner, following), 2e-12)
    assert sum(len(one) for one, _ in pairs) < 100 * 7400
    pole = unit(np.array([40.0]), np.array([-60.0]))[0]
    rng = np.random.default_rng(2)
    point = unit(rng.uniform(160.0, 200.0, 3000), rng.uniform(0.0, 40.0, 3000))
    assert Meridians(pole, point, corner, following).npairs < 3000 * 7400 / 50


@pytest.mark.parametrize("nedges", [5, 500])
def test_a_polygon_looks_at_the_clock(nedges: int) -> None:
    class Late(Exception):
        pass

    def late() -> None:
        raise Late

    with pytest.raises(Late):
        polygon(coast(nedges, 3), late)
    with pytest.raises(Late):
        polygon(coast(nedges, 3)).contains([0.0, 10.0], [0.0, 0.0], late)


# --- Tuples with wildcards ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def service(mock_data: Path) -> SpectroscopicService:
    return SpectroscopicService(open_root(mock_data))


def bounded(service: SpectroscopicService, **limits: object) -> SpectroscopicService:
    return service.seen_by(ANONYMOUS, limits=Limits(**limits))  # type: ignore[arg-type]


PATTERNS = [
    (266,), ("266,267",), ("1-99999",), ("1-99999", "*", 5), ("*", "51602-55000"),
    ("*", "*", "1-9"), ("*", "*", "7,9,300-400,2"), ("266-300,280-4000", "*", "*", "26"),
    ("*", 51602, "*", "26,103"),
    ("*", "*", 99999), (266, "*", "*", "nothing"), ("0-18446744073709551615",),
]  # fmt: skip


@pytest.mark.parametrize("given_parts", PATTERNS)
def test_a_wildcard_finds_what_a_look_at_all_rows_does(
    service: SpectroscopicService, given_parts: tuple[object, ...]
) -> None:
    catalog = service.archive.open_release("default").catalog
    ids = catalog.place(np.arange(catalog.count(primary=False))).ids
    rows = unpack_specobjid(ids).tolist()
    pattern = parse_id_tuple(given_parts)

    def named(row: tuple[object, ...]) -> bool:
        return all(
            part is None
            or any(
                one.low <= value <= one.high if isinstance(one, Span) else one == value
                for one in part
            )
            for part, value in zip(pattern.parts, row, strict=True)
        )

    wanted = [one for row, one in sorted(zip(rows, ids.tolist(), strict=True)) if named(row)]
    assert service.resolve([pattern], "default", missing="skip").ids.tolist() == wanted
    found, parts = catalog.matching(pattern)
    assert catalog.place(found).ids.tolist() == wanted
    assert parts.num_rows == len(wanted)


def test_what_wildcards_find_is_bounded_while_it_grows(service: SpectroscopicService) -> None:
    nrows = service.archive.open_release("default").catalog.count(primary=False)
    assert bounded(service, max_ids=nrows).resolve("(1-99999,)", "default").nspec == nrows
    with pytest.raises(TooMuch, match=r"spectra.*max_ids"):
        bounded(service, max_ids=nrows - 1).resolve("(1-99999,)", "default")
    with pytest.raises(TooMuch, match=r"spectra.*max_ids"):
        bounded(service, max_ids=nrows + 2).resolve("(1-99999,)\n(1-99998,)", "default")


def test_wildcards_end_with_their_time(service: SpectroscopicService) -> None:
    with pytest.raises(QueryTimeout):
        bounded(service, deadline=Deadline.after(-1.0)).resolve("(266,)", "default")


@pytest.mark.parametrize("text", ["(266,)", "(266,'*',5)", "(266,51602,'1-3')", "('1-99999',)"])
def test_a_wildcard_is_heavy(service: SpectroscopicService, text: str) -> None:
    with pytest.raises(HeavyWork):
        bounded(service, is_light=True).resolve(text, "default")


def test_an_exact_tuple_is_light(service: SpectroscopicService) -> None:
    catalog = service.archive.open_release("default").catalog
    one = catalog.place(np.arange(1)).ids
    row = unpack_specobjid(one)[0].tolist()
    light = bounded(service, is_light=True)
    assert light.resolve(str(row), "default").ids.tolist() == one.tolist()
    assert light.resolve(str(one[0]), "default").nspec == 1


def test_a_polygon_in_a_condition_has_so_many_corners(service: SpectroscopicService) -> None:
    corners = ",".join(f"({ra:.6f},{dec:.6f})" for ra, dec in coast(40, 5).tolist())
    text = f"q3c_poly_query(ra,dec,ARRAY[{corners}])"
    bounded(service, max_corners=40).query(QueryRequest(constraint=text))
    with pytest.raises(TooMuch, match=r"40 corners.*39.*max_polygon_corners"):
        bounded(service, max_corners=39).query(QueryRequest(constraint=text))


# --- The database ---------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["(z > 1 or z < 2)", "not (z > 1 and z < 2)"])
def test_groups_within_each_other_are_counted(service: SpectroscopicService, group: str) -> None:
    """620 of them took DuckDB's planner 850 MB and 11 s, whatever its limit of memory."""
    some = " and ".join([group] * 30)
    assert service.query(QueryRequest(constraint=some)).num_rows >= 0
    with pytest.raises(BadConstraint, match=r"more than 100 groups.*ask in parts"):
        service.query(QueryRequest(constraint=" and ".join([group] * 620)))


def test_columns_to_order_by_are_counted(service: SpectroscopicService) -> None:
    """5,000 of them took the database 1 GB for 300,000 rows."""
    some = "z > -1 order by " + ", ".join(["z desc"] * 20)
    assert service.query(QueryRequest(constraint=some)).num_rows > 0
    with pytest.raises(TooMuch, match=r"columns to order by.*limit is 20"):
        service.query(QueryRequest(constraint=f"{some}, z"))


def comb(nteeth: int) -> list[tuple[float, float]]:
    """Return a polygon of long narrow teeth that all positions lie near, deg."""
    ra = np.linspace(-20.0, 20.0, 2 * nteeth)
    tips = [(one, 30.0 if number % 2 else -29.0) for number, one in enumerate(ra.tolist())]
    return [(-20.0, -30.0), *tips, (20.0, -30.0)]


@pytest.mark.proof
def test_a_comb_of_thousands_of_teeth_is_heavy_and_ends_with_its_time(
    service: SpectroscopicService, mock_data: Path, mock_survey: Path
) -> None:
    """Each position is near all of its edges: no order of them saves work, the clock ends it."""
    ra = np.random.default_rng(1).uniform(-20.0, 20.0, 200_000)
    looked: list[None] = []

    def third_time() -> None:
        looked.append(None)
        if len(looked) == 3:
            raise QueryTimeout(1.0)

    with pytest.raises(QueryTimeout):
        polygon(comb(1000), third_time)
    one = polygon(comb(300))
    looked.clear()
    with pytest.raises(QueryTimeout):
        one.contains(ra, ra, third_time)
    with serve(mock_data, mock_survey) as running:
        asked = {"polygon": comb(3700), "timeout_s": 0.3}
        answer = urllib3.request("POST", f"{running.url}/bulk/query", json=asked, retries=False)
        assert (answer.status, answer.json()["code"]) == (413, "query_timeout")
        assert urllib3.request("GET", f"{running.url}/ping").status == 200
