"""The catalogue against brute force in float64: regions, identifiers, conditions."""

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specserver.catalog.deadline import Deadline
from specserver.catalog.healpix import pixel
from specserver.catalog.index.build import refresh_index
from specserver.catalog.opening import open_catalogue
from specserver.catalog.sql.constraint import MAX_LIST
from specserver.data.root import open_root
from specserver.errors import BadConstraint, CatalogError, QueryTimeout, TooMuch, UnknownField
from specserver.model.region import cone, polygon
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.query import run_query
from specserver.surveys.sdss import SDSS

NROWS = 100_000


def random_positions(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return positions over the whole sky, denser at the poles and where RA wraps."""
    ra = rng.uniform(0.0, 360.0, NROWS)
    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, NROWS)))
    fifth = NROWS // 5
    dec[:fifth] = 90.0 - rng.exponential(0.5, fifth)
    dec[fifth : 2 * fifth] = -90.0 + rng.exponential(0.5, fifth)
    ra[2 * fifth : 3 * fifth] = rng.normal(0.0, 1.0, fifth) % 360.0
    dec[2 * fifth : 3 * fifth] = rng.normal(0.0, 1.0, fifth)
    return ra, dec


def unit(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def great_circle_deg(ra: np.ndarray, dec: np.ndarray, ra0: float, dec0: float) -> np.ndarray:
    """Return distances in degrees from the cross and the scalar product of unit vectors."""
    one, other = unit(ra, dec), unit(np.array(ra0), np.array(dec0))
    sine = np.linalg.norm(np.cross(one, other), axis=-1)
    return np.degrees(np.arctan2(sine, one @ other))


class Sky:
    """A catalogue of positions without spectra, in two segments."""

    def __init__(self, data: Path) -> None:
        rng = np.random.default_rng(20260101)
        self.ra, self.dec = random_positions(rng)
        self.id = rng.permutation(NROWS).astype("u8") + np.uint64(2**63)
        self.z = rng.uniform(0.0, 4.0, NROWS).astype("f4")
        self.kind = rng.choice(["GALAXY", "QSO", "STAR"], NROWS)
        self.primary = rng.integers(0, 2, NROWS).astype("u1")
        names = ["seg-000001-aaaaaaaa", "seg-000002-bbbbbbbb"]
        for number, name in enumerate(names):
            self._write(data / "sdss_dr17" / name, np.arange(number, NROWS, 2))
        folder = open_root(data).context("sdss_dr17")
        refresh_index(folder, SDSS)
        self.catalog = open_catalogue(folder, SDSS)
        self.data = data
        self.service = SpectroscopicService(open_root(data))

    def _write(self, folder: Path, rows: np.ndarray) -> None:
        folder.mkdir(parents=True)
        count = len(rows)
        table = {
            "specobjid": self.id[rows],
            "ra": self.ra[rows],
            "dec": self.dec[rows],
            "z": self.z[rows],
            "class": self.kind[rows],
            "specprimary": self.primary[rows],
            "_hpx": pixel(self.ra[rows], self.dec[rows]),
            "_row": np.arange(count, dtype="i4"),
            "_source": ["x"] * count,
            "_size": np.zeros(count, "i8"),
            "_mtime_ns": np.zeros(count, "i8"),
        }
        pq.write_table(pa.table(table), folder / "objects.parquet")
        record = {"name": folder.name, "context": "sdss_dr17", "survey": "sdss", "nspec": count}
        record |= {"on_lattice": True, "nbytes": 1, "made_by": "test"}
        (folder / "segment.json").write_text(json.dumps(record))

    def ids(self, request: QueryRequest) -> list[int]:
        return sorted(self.service.query(request).column("specobjid").to_pylist())


@pytest.fixture(scope="module")
def sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    return Sky(tmp_path_factory.mktemp("sky"))


CENTRES = [(0.0, 0.0), (359.9999, 0.3), (0.0001, -0.3), (180.0, 45.0), (12.3, 90.0), (77.0, -90.0)]
CENTRES += [(200.0, 89.7), (300.0, -89.9), (45.0, 41.8103), (90.0, -41.8103)]


@pytest.mark.proof
@pytest.mark.parametrize(
    "radius",
    [1 / 3600, 10 / 3600, 0.01, 0.1, 1.0, 5.0, 30.0, 59.9, 60.1, 90.0, 120.0, 179.9, 180.0],
)
def test_cone_equals_brute_force(sky: Sky, radius: float) -> None:
    for ra, dec in CENTRES:
        inside = great_circle_deg(sky.ra, sky.dec, ra, dec) <= radius
        request = QueryRequest(region=cone(ra, dec, radius), primary=False)
        assert sky.ids(request) == sorted(sky.id[inside].tolist()), (ra, dec, radius)


@pytest.mark.proof
def test_small_cones_around_objects_find_them(sky: Sky) -> None:
    rng = np.random.default_rng(3)
    for row in rng.integers(0, NROWS, 200).tolist():
        ra, dec = float(sky.ra[row]), float(sky.dec[row])
        radius = 10 ** rng.uniform(-3.56, 0.0)
        inside = great_circle_deg(sky.ra, sky.dec, ra, dec) <= radius
        found = sky.ids(QueryRequest(region=cone(ra, dec, radius), primary=False))
        assert found == sorted(sky.id[inside].tolist())
        assert int(sky.id[row]) in found


def test_cones_without_radius_find_the_object_in_their_centre(sky: Sky) -> None:
    for row in range(0, NROWS, NROWS // 100):
        place = cone(float(sky.ra[row]), float(sky.dec[row]), 0.0)
        assert int(sky.id[row]) in sky.ids(QueryRequest(region=place, primary=False))


POLYGONS = {
    "triangle": [(10.0, 10.0), (25.0, 12.0), (17.0, 30.0)],
    "across RA 0": [(359.0, -1.0), (1.0, -1.0), (1.0, 1.0), (359.0, 1.0)],
    "around the north pole": [(0.0, 89.0), (120.0, 89.0), (240.0, 89.0)],
    "around the south pole": [(0.0, -88.0), (90.0, -89.0), (180.0, -88.0), (270.0, -89.5)],
    "an octant": [(0.0, 0.0), (90.0, 0.0), (0.0, 90.0)],
}


@pytest.mark.parametrize("name", POLYGONS)
@pytest.mark.parametrize("winding", [1, -1])
def test_convex_polygon_equals_half_spaces(sky: Sky, name: str, winding: int) -> None:
    vertices = POLYGONS[name]
    corners = unit(*np.array(vertices).T)
    points = unit(sky.ra, sky.dec)
    inside = np.ones(NROWS, bool)
    sign = np.sign(np.dot(np.cross(corners[0], corners[1]), corners.sum(axis=0)))
    for one, other in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        inside &= sign * (points @ np.cross(one, other)) >= 0.0
    assert inside.any()
    request = QueryRequest(region=polygon(vertices[::winding]), primary=False)
    assert sky.ids(request) == sorted(sky.id[inside].tolist())


def test_a_concave_polygon_is_its_triangles(sky: Sky) -> None:
    arrow = [(355.0, -3.0), (5.0, -3.0), (0.0, -1.0), (0.0, 6.0)]
    left = [(355.0, -3.0), (0.0, -1.0), (0.0, 6.0)]
    right = [(355.0, -3.0), (5.0, -3.0), (0.0, -1.0)]
    whole = sky.ids(QueryRequest(region=polygon(arrow), primary=False))
    parts = set()
    for one in (left, right):
        parts |= set(sky.ids(QueryRequest(region=polygon(one), primary=False)))
    assert whole == sorted(parts)
    assert whole


def test_or_stays_inside_the_cone(sky: Sky) -> None:
    inside = great_circle_deg(sky.ra, sky.dec, 0.0, 0.0) <= 1.0
    either = (sky.kind == "QSO") | (sky.z > 3.0)
    expected = sorted(sky.id[inside & either].tolist())
    text = "class = 'QSO' or z > 3"
    assert sky.ids(QueryRequest(region=cone(0, 0, 1), constraint=text, primary=False)) == expected
    old = f"q3c_radial_query(ra,dec,0.0,0.0,1.0) AND {text}"
    assert sky.ids(QueryRequest(constraint=old, primary=False)) == expected
    assert 0 < len(expected) < either.sum()


def test_conditions_order_and_limit(sky: Sky) -> None:
    text = "z between 2 and 2.2 and class = 'QSO' order by z desc limit 100"
    table = sky.service.query(QueryRequest(constraint=text, fields=("specobjid", "z")))
    mine = (sky.z >= 2) & (sky.z <= np.float32(2.2)) & (sky.kind == "QSO") & (sky.primary == 1)
    z = np.sort(sky.z[mine])[::-1][:100]
    assert table.column("z").to_pylist() == z.tolist()


def test_primary_and_all_are_two_catalogues(sky: Sky) -> None:
    best = sky.ids(QueryRequest(catalog="sdss_dr17.specobj"))
    assert best == sorted(sky.id[sky.primary == 1].tolist())
    assert len(sky.ids(QueryRequest(catalog="specobjall"))) == NROWS
    assert sky.ids(QueryRequest(primary=False, constraint="specprimary = 1")) == best


def test_ids_resolve_in_order_with_duplicates_and_strangers(sky: Sky) -> None:
    rng = np.random.default_rng(9)
    asked = rng.choice(sky.id, 10_000)
    asked[::100] = 7
    rows = sky.catalog.with_ids(asked)
    assert (rows[::100] == -1).all()
    known = np.delete(np.arange(10_000), np.arange(0, 10_000, 100))
    assert sky.catalog.place(rows[known]).ids.tolist() == asked[known].tolist()


def test_columns_come_in_the_order_of_rows(sky: Sky) -> None:
    rows = sky.catalog.with_ids(sky.id[:500])
    again = np.concatenate([rows, rows[::-1]])
    z = sky.catalog.columns_of(["z"], again).column("z").to_numpy()
    assert np.array_equal(z, np.concatenate([sky.z[:500], sky.z[:500][::-1]]))


def test_an_empty_region_answers_nothing(sky: Sky) -> None:
    request = QueryRequest(region=cone(180.0, 45.0, 1e-7), constraint="z > 0", fields=("z",))
    assert sky.service.query(request).num_rows == 0


def test_unknown_columns_are_named_with_what_is_near(sky: Sky) -> None:
    with pytest.raises(UnknownField, match="zz"):
        sky.service.query(QueryRequest(fields=("zz",)))
    with pytest.raises((UnknownField, BadConstraint), match="clas"):
        sky.service.query(QueryRequest(constraint="clas = 'QSO'"))
    for hidden in ("_source", "_hpx", "_index"):
        with pytest.raises(UnknownField):
            sky.service.query(QueryRequest(fields=(hidden,)))


ALL = ("specobjid", "ra", "dec", "z", "class", "specprimary")


def test_columns_without_a_condition_equal_those_with_one(sky: Sky) -> None:
    """Looked up in mapped columns, or found by the database: the same rows, types and values."""
    region = cone(0, 0, 2)
    for fields in (ALL, ("z",), ("class", "specobjid")):
        plain = QueryRequest(region=region, fields=fields, primary=False)
        always = QueryRequest(region=region, fields=fields, primary=False, constraint="dec > -91")
        assert sky.service.query(plain).equals(sky.service.query(always))
    found = sky.service.query(QueryRequest(region=region, fields=ALL, primary=False))
    row = {int(one): index for index, one in enumerate(sky.id.tolist())}
    mine = [row[one] for one in found.column("specobjid").to_pylist()]
    for name, values in (("ra", sky.ra), ("dec", sky.dec), ("z", sky.z), ("class", sky.kind)):
        assert found.column(name).to_pylist() == values[mine].tolist(), name


def test_a_wide_region_with_a_condition_is_the_same_by_either_way(
    sky: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few candidates are handed to the database; many are joined with its own table."""
    request = QueryRequest(
        region=cone(10, 40, 50), constraint="z > 1 order by z desc limit 500", fields=ALL
    )
    handed = sky.service.query(request)
    monkeypatch.setattr("specserver.catalog.duckdb.statements._HANDED_ROWS", 10)
    assert sky.service.query(request).equals(handed)
    assert len(handed) == 500


def test_blocks_of_candidates_leave_none_out(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    request = QueryRequest(region=cone(0, 80, 30), primary=False)
    whole = sky.ids(request)
    monkeypatch.setattr("specserver.catalog.search.BLOCK_ROWS", 1000)
    monkeypatch.setattr("specserver.catalog.search._GAP_ROWS", 0)
    assert sky.ids(request) == whole
    assert len(whole) > 20_000


def test_a_whole_catalogue_and_its_first_rows(sky: Sky) -> None:
    every = sky.service.query(QueryRequest(fields=("specobjid", "z"), primary=False))
    assert len(every) == NROWS
    best = sky.service.query(QueryRequest(fields=("specobjid",)))
    assert sorted(best.column(0).to_pylist()) == sorted(sky.id[sky.primary == 1].tolist())
    few = sky.service.query(QueryRequest(constraint="limit 7", fields=("specobjid", "z")))
    assert few.column(0).to_pylist() == best.column(0).to_pylist()[:7]


@pytest.mark.parametrize("constraint", ["", "z > 0", "z > 0 order by z", "specobjid > 1"])
def test_too_many_rows_are_refused_before_their_columns_are_read(
    sky: Sky, constraint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = QueryRequest(region=cone(0, 0, 2), constraint=constraint, fields=ALL)
    archive = sky.service.archive
    nrows = len(run_query(archive, request))
    assert len(run_query(archive, request, max_rows=nrows)) == nrows > 100
    # Whoever reads a column from here on fails.
    catalog = archive.open_release("default").catalog
    take = catalog._take

    def unread(fields: list[str], rows: np.ndarray) -> pa.Table:
        assert list(fields) != list(ALL)
        return take(fields, rows)

    monkeypatch.setattr(catalog, "_take", unread)
    with pytest.raises(TooMuch, match=f"{nrows:,} rows"):
        run_query(archive, request, max_rows=nrows - 1)


def test_time_runs_out_without_a_condition_too(sky: Sky) -> None:
    for region in (None, cone(0, 0, 120)):
        request = QueryRequest(region=region, fields=ALL, primary=False, timeout_s=1e-6)
        with pytest.raises(QueryTimeout):
            sky.service.query(request)


def test_time_runs_out_between_blocks_of_candidates(
    sky: Sky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A region of the whole sky is given up long before it has been tested."""
    monkeypatch.setattr("specserver.catalog.search.BLOCK_ROWS", 100)
    tested = []

    class Slow:
        def bounds(self) -> tuple[np.ndarray, float]:
            return np.array([1.0, 0.0, 0.0]), 180.0

        def contains(self, ra: np.ndarray, dec: np.ndarray, _check=None) -> np.ndarray:
            tested.append(len(dec))
            time.sleep(0.01)
            return np.ones(len(ra), bool)

    catalog = sky.service.archive.open_release("default").catalog
    with pytest.raises(QueryTimeout):
        catalog.in_region(Slow(), Deadline.after(0.05))
    assert 0 < len(tested) < NROWS // 100


def test_lists_of_identifiers_are_looked_up(sky: Sky) -> None:
    """A list in front is searched for; with OR, NOT or arithmetic it is a condition like any."""
    chosen = sky.id[::1000]
    listed = ", ".join(map(str, chosen.tolist()))
    half = {int(one) for one in chosen if sky.z[np.flatnonzero(sky.id == one)[0]] > 2}
    one = f"specobjid in ({listed})"
    for text, expected in (
        (one, set(chosen.tolist())),
        (f"{one} AND z > 2", half),
        (f'"specobjid" IN ({listed}) and (z > 2)', half),
        (f"{one} and not z <= 2", half),
        (f"z > 2 and {one}", half),
        (f"{one} and z > 2 or specobjid = {sky.id[1]}", half | {int(sky.id[1])}),
        (f"specobjid = {sky.id[5]}", {int(sky.id[5])}),
        (f"specobjid = {sky.id[5]} and z > 5", set()),
        (f"specobjid = {sky.id[5]} + 0", {int(sky.id[5])}),
        (f"specobjid in ({int(sky.id[5]) - 2**64})", {int(sky.id[5])}),
        ("specobjid in (12345)", set()),
    ):
        found = sky.ids(QueryRequest(constraint=text, primary=False))
        assert set(found) == expected, text[-60:]
        assert len(found) == len(expected)
    inside = great_circle_deg(sky.ra, sky.dec, 0.0, 0.0) <= 30.0
    near = QueryRequest(region=cone(0, 0, 30), constraint=one, primary=False)
    assert set(sky.ids(near)) == set(sky.id[inside].tolist()) & set(chosen.tolist())
    ordered = QueryRequest(constraint=f"{one} order by z limit 3", fields=("z",), primary=False)
    z = sky.service.query(ordered).column("z").to_pylist()
    assert z == np.sort(sky.z[::1000])[:3].tolist()


@pytest.mark.parametrize(
    "text", ["in (1,,2)", "in ()", "in (1 2)", "in (1", "in (1) limit", "in (1) and", "= 1 2"]
)
def test_what_is_no_list_of_identifiers_is_refused_as_before(sky: Sky, text: str) -> None:
    with pytest.raises(BadConstraint):
        sky.service.query(QueryRequest(constraint=f"specobjid {text}"))


def test_a_list_of_identifiers_has_its_limit(sky: Sky) -> None:
    listed = ",".join(map(str, range(1, MAX_LIST + 2)))
    with pytest.raises(TooMuch, match="values in a list"):
        sky.service.query(QueryRequest(constraint=f"specobjid in ({listed})"))


def test_an_index_that_is_deleted_is_made_anew_from_the_segments(sky: Sky) -> None:
    asked = QueryRequest(region=cone(0, 0, 1), fields=ALL, primary=False)
    before = sky.service.query(asked)
    shutil.rmtree(sky.data / "sdss_dr17" / "index")
    service = SpectroscopicService(open_root(sky.data))
    with pytest.raises(CatalogError, match="specserver maintain sdss_dr17"):
        service.query(asked)
    service.archive.ensure_indexes()
    assert service.query(asked).equals(before)
    assert sky.service.query(asked).equals(before)
