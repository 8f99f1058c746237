"""The crossmatch: its search against brute force and astropy, then all ways that lead to it."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO, StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import astropy.units as u
import hpgeom
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import urllib3
from astropy.coordinates import SkyCoord, search_around_sky
from astropy.table import Column, MaskedColumn, QTable, Table
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import command
from serving import Served, serve
from specserver import specClient
from specserver.auth import TokenBook
from specserver.catalog.crossmatch import Matches, SkyColumns, find_nearby
from specserver.catalog.deadline import Deadline
from specserver.catalog.sky_pixels import NARROW, WIDTH_DEG
from specserver.client.api import SpecClient
from specserver.client.inputs.positions import read_positions
from specserver.data.root import open_root
from specserver.errors import (
    BadParameter,
    NotAuthenticated,
    QueryTimeout,
    TooMuch,
    UnknownCatalog,
    UnknownContext,
    UnknownField,
    UnknownProfile,
)
from specserver.model.sphere import separation_deg
from specserver.service import SpectroscopicService
from specserver.service.match import MatchRequest
from specserver.service.tables import attach_table

ARROW = "application/vnd.apache.arrow.stream"
ARCSEC = 1.0 / 3600.0
COLUMNS = ("hpx", "ra", "dec", "ids", "primary")
Sky = tuple[np.ndarray, np.ndarray]

# --- The search ---------------------------------------------------------------------------------


def columns_of(ra: Any, dec: Any, ids: Any = None, primary: Any = None) -> SkyColumns:
    """Return rows as an index holds them; NaN positions have a negative pixel and come first."""
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    known = np.isfinite(ra) & np.isfinite(dec)
    hpx = np.full(len(ra), -1)
    hpx[known] = hpgeom.angle_to_pixel(2**29, ra[known] % 360 % 360, dec[known])
    ids = np.arange(len(ra), dtype="u8") if ids is None else np.asarray(ids, "u8")
    primary = np.ones(len(ra), bool) if primary is None else np.asarray(primary)
    order = np.lexsort((ids, hpx))
    return SkyColumns(hpx[order], ra[order], dec[order], ids[order], primary[order])


def near(sky: SkyColumns, at: Sky, radius: float, *, nearest: bool, primary: bool = False) -> Any:
    """Return the matches among all rows, which are the same among the rows in three parts."""
    whole = find_nearby([sky], *at, radius, nearest=nearest, primary=primary)
    firsts = [0, len(sky.ids) // 3, len(sky.ids) // 2, len(sky.ids)]
    parts = [
        SkyColumns(*(getattr(sky, name)[first:end] for name in COLUMNS), first_row=first)
        for first, end in pairwise(firsts)
    ]
    require_same(find_nearby(parts, *at, radius, nearest=nearest, primary=primary), whole)
    return whole


def brute(sky: SkyColumns, at: Sky, radius: float) -> Matches:
    """Return all pairs by measuring all distances."""
    apart = separation_deg(at[0][:, None], at[1][:, None], sky.ra, sky.dec)
    position, row = np.nonzero(apart <= radius)
    order = np.lexsort((sky.ids[row], apart[position, row], position))
    position, row = position[order], row[order]
    return Matches(position, row, apart[position, row])


def require_same(found: Matches, expected: Matches) -> None:
    assert found.position.tolist() == expected.position.tolist()
    assert found.row.tolist() == expected.row.tolist()
    assert found.separation_deg.tolist() == expected.separation_deg.tolist()


def agree(sky: SkyColumns, at: Sky, radius: float) -> None:
    """Require what brute force finds, all of it and the nearest."""
    every = brute(sky, at, radius)
    require_same(near(sky, at, radius, nearest=False), every)
    first = every.where(np.diff(every.position, prepend=-1) != 0)
    require_same(near(sky, at, radius, nearest=True), first)


# Poles, RA 0, the corners and edges of HEALPix base pixels, and where its two projections meet.
SEEDS = [
    (0.0, 90.0), (123.0, -90.0), (0.0, 0.0), (359.9999999999, 12.0), (45.0, 0.0), (90.0, 66.4),
    (90.0, 41.8103148957786), (0.0, -41.8103148957786), (77.0, 89.99999), (200.1, -33.3),
]  # fmt: skip
RADII = [1e-7, 0.1 * ARCSEC, ARCSEC, 30 * ARCSEC, 0.03, 0.137, 0.5497, 0.99, 1.0]
offsets = st.tuples(
    st.sampled_from([0.0, 1e-9, 0.3, 0.999999, 1.0, 1.000001, 1.7, 3.0]) | st.floats(0, 3),
    st.floats(0, 360),
)
points = st.lists(st.tuples(st.sampled_from(SEEDS), offsets), max_size=25)


def placed(some: list[Any], radius: float) -> Sky:
    """Return points so many radii from their seeds, in some direction."""
    if not some:
        return np.empty(0), np.empty(0)
    seeds = SkyCoord([one for one, _ in some], unit="deg")
    moved = seeds.directional_offset_by(
        [angle for _, (_, angle) in some] * u.deg, [far * radius for _, (far, _) in some] * u.deg
    )
    return moved.ra.deg, moved.dec.deg


@pytest.mark.proof
@given(rows=points, at=points, radius=st.sampled_from(RADII))
@settings(max_examples=150)
def test_any_positions_match_as_brute_force_says(rows: Any, at: Any, radius: float) -> None:
    agree(columns_of(*placed(rows, radius)), placed(at, radius), radius)


def offset(ra: np.ndarray, dec: np.ndarray, far: Any, seed: int = 3) -> Sky:
    """Return points that far, deg, from others, in random directions."""
    angle = np.random.default_rng(seed).uniform(0, 360, len(ra)) * u.deg
    moved = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle, far * u.deg)
    return moved.ra.deg, moved.dec.deg


@pytest.mark.proof
@pytest.mark.parametrize("order", [5, 6, 9, 13, 17, 21])
def test_a_pixel_and_its_neighbours_reach_as_far_as_they_are_taken_to(order: int) -> None:
    """The largest radius for which pixels of an order serve, all over the sky."""
    radius = WIDTH_DEG * NARROW / 2**order * 0.999999
    rng = np.random.default_rng(order)
    narrow = rng.normal(0, 3 * radius, 2000)
    # All over the sky; where base pixels meet at the equator and where the two projections of
    # HEALPix do; around the poles.
    corner = 90 * rng.integers(0, 4, 2000) + rng.normal(0, 3 * radius, 2000)
    sign = rng.choice([-1, 1], 2000)
    some_ra, some_dec = sphere(rng, 20_000)
    ra = np.concatenate([some_ra, corner, corner, corner, rng.uniform(0, 360, 2000)])
    joint = np.degrees(np.arcsin(2 / 3)) * sign
    dec = np.concatenate([some_dec, narrow, joint + narrow, narrow, sign * (90 - np.abs(narrow))])
    rows = offset(ra, dec, radius * 0.99999)
    apart = separation_deg(ra, dec, *rows)
    # Near the poles the offset itself is rounded.
    far = apart > 0.99 * radius
    assert far.sum() > 0.9 * len(ra)
    sky = columns_of(*rows)
    found = near(sky, (ra, dec), radius, nearest=False)
    own = found.position[found.position == sky.ids[found.row].astype(int)]
    assert own.tolist() == np.flatnonzero(apart <= radius).tolist()


def sphere(rng: np.random.Generator, number: int) -> Sky:
    return rng.uniform(0, 360, number), np.degrees(np.arcsin(rng.uniform(-1, 1, number)))


def layouts(name: str, number: int, seed: int) -> Sky:
    rng = np.random.default_rng(seed)
    if name == "random":
        return sphere(rng, number)
    if name == "clustered":
        return rng.normal(210.0, 0.02, number), rng.normal(-54.0, 0.02, number)
    if name == "polar":
        return rng.uniform(0, 360, number), (90 - rng.gamma(1, 0.02, number)) * rng.choice(
            [-1, 1], number
        )
    return rng.normal(0, 0.02, number) % 360, rng.normal(0, 0.02, number)


@pytest.mark.parametrize("name", ["random", "clustered", "polar", "RA 0"])
@pytest.mark.parametrize("radius", [ARCSEC, 10 * ARCSEC])
def test_matches_are_those_of_astropy(name: str, radius: float) -> None:
    sky = columns_of(*layouts(name, 4000, 1))
    ra, dec = layouts(name, 3000, 2)
    ra[:1000], dec[:1000] = offset(sky.ra[:1000], sky.dec[:1000], 0.7 * radius)
    catalog, at = SkyCoord(sky.ra, sky.dec, unit="deg"), SkyCoord(ra, dec, unit="deg")
    index, apart, _ = at.match_to_catalog_sky(catalog)
    found = near(sky, (ra, dec), radius, nearest=True)
    inside = apart.deg <= radius
    assert found.position.tolist() == np.flatnonzero(inside).tolist()
    assert len(found) > 900
    assert found.row.tolist() == index[inside].tolist()
    # astropy's own distances are good to 1e-9 arcsec.
    assert np.abs(found.separation_deg - apart.deg[inside]).max() * 3600 < 1e-9
    one, other, _, _ = search_around_sky(at, catalog, radius * u.deg)
    found = near(sky, (ra, dec), radius, nearest=False)
    pairs = zip(found.position.tolist(), found.row.tolist(), strict=True)
    assert sorted(pairs) == sorted(zip(one.tolist(), other.tolist(), strict=True))


def test_dense_fields_are_searched_in_pieces() -> None:
    """Each position has more candidates than are tested at once."""
    rng = np.random.default_rng(4)
    # A clump of more rows than one piece, in a disc that no finer pixel parts.
    sky = columns_of(rng.normal(10, 1e-7, 300_000), rng.normal(20, 1e-7, 300_000))
    at = np.array([10.0, 10.0, 10.001]), np.array([20.0, 20.0000001, 20.0])
    every = find_nearby([sky], *at, 3 * ARCSEC, nearest=False, primary=False)
    assert np.bincount(every.position).tolist() == [300_000, 300_000]
    assert np.all(np.diff(every.separation_deg)[np.diff(every.position) == 0] >= 0)
    first = near(sky, at, 3 * ARCSEC, nearest=True)
    expected = [np.argmin(separation_deg(*one, sky.ra, sky.dec)) for one in zip(*at, strict=True)]
    assert first.row.tolist() == expected[:2]
    with pytest.raises(TooMuch, match=r"max_rows"):
        find_nearby([sky], *at, ARCSEC, nearest=False, primary=False, max_pairs=400_000)
    with pytest.raises(QueryTimeout):
        find_nearby([sky], *at, ARCSEC, nearest=True, primary=False, deadline=Deadline.after(0.0))


def test_of_equally_near_rows_the_least_identifier_is_the_nearest() -> None:
    sky = columns_of([5, 5, 5, 5], [1, 1, 1, 1 + 1e-5], [9, 4, 7, 1])
    found = near(sky, (np.array([5.0]), np.array([1.0])), ARCSEC, nearest=True)
    assert sky.ids[found.row].tolist() == [4]
    every = near(sky, (np.array([5.0]), np.array([1.0])), ARCSEC, nearest=False)
    assert sky.ids[every.row].tolist() == [4, 7, 9, 1]
    # Two spectra of one identifier: the best of them.
    sky = columns_of([5, 5], [1, 1], [4, 4], [False, True])
    found = near(sky, (np.array([5.0]), np.array([1.0])), ARCSEC, nearest=True)
    assert sky.primary[found.row].tolist() == [True]


def test_unknown_positions_match_nothing_on_either_side() -> None:
    nan = np.nan
    sky = columns_of([nan, 10, nan, 10], [nan, 20, 20, nan])
    at = np.array([nan, 10, 10, nan]), np.array([nan, 20, nan, 20])
    for nearest in (True, False):
        assert near(sky, at, 1.0, nearest=nearest).position.tolist() == [1]
        assert len(near(columns_of([], []), at, 1.0, nearest=nearest)) == 0
        assert len(near(sky, (np.empty(0), np.empty(0)), 1.0, nearest=nearest)) == 0
        assert len(near(sky, (np.array([190.0]), np.array([-20.0])), 1.0, nearest=nearest)) == 0
    one = near(columns_of([10], [20]), at, 1.0, nearest=True)
    assert (one.position.tolist(), one.row.tolist()) == ([1], [0])


def test_right_ascension_wraps() -> None:
    sky = columns_of([0.0, 359.99999], [0.0, 0.0])
    at = np.array([360.0, -1e-5, 720.0, -1e-300]), np.zeros(4)
    found = near(sky, at, 0.01 * ARCSEC, nearest=True)
    assert sky.ra[found.row].tolist() == [0.0, 359.99999, 0.0, 0.0]


# --- What a caller may hold ---------------------------------------------------------------------

RA, DEC = np.array([10.5, 0.25, 359.5]), np.array([-5.0, 89.5, 30.25])
FORMS: dict[str, Any] = {
    "SkyCoord": SkyCoord(RA, DEC, unit="deg"),
    "SkyCoord in another frame": SkyCoord(RA, DEC, unit="deg").galactic,
    "frame": SkyCoord(RA, DEC, unit="deg").frame,
    "Table": Table({"RA": RA, "x": RA, "Dec": DEC}),
    "Table of VizieR": Table({"_RAJ2000": RA + 9, "RAJ2000": RA, "DEJ2000": DEC, "_DEJ2000": DEC}),
    "Table with units": Table(
        {"ra": Column(RA / 15, unit="hourangle"), "dec": Column(DEC * 60, unit="arcmin")}
    ),
    "QTable": QTable({"ra": RA * u.deg, "dec": np.radians(DEC) * u.rad}),
    "QTable of coordinates": QTable({"n": [1, 2, 3], "sky": SkyCoord(RA, DEC, unit="deg").fk5}),
    "DataFrame": pd.DataFrame({"target_ra": RA, "target_dec": DEC}),
    "DataFrame of objects": pd.DataFrame({"RA": RA.astype(object), "DEC": DEC.astype(str)}),
    "structured array": np.array(
        list(zip(RA, DEC, strict=True)), [("PLUG_RA", ">f8"), ("PLUG_DEC", ">f8")]
    ),
    "dict": {"ra": RA.tolist(), "dec": DEC},
    "pair of arrays": (RA, DEC),
    "pair of lists": (RA.tolist(), DEC.tolist()),
    "pair of quantities": (RA * 60 * u.arcmin, DEC * u.deg),
    "pair of Series": (pd.Series(RA), pd.Series(DEC)),
    "2D array": np.column_stack([RA, DEC]),
    "list of pairs": list(zip(RA.tolist(), DEC.tolist(), strict=True)),
}


@pytest.mark.parametrize("form", FORMS)
def test_positions_of_every_form_are_read(form: str) -> None:
    ra, dec = read_positions(FORMS[form])
    assert (ra.dtype, dec.dtype) == (np.float64, np.float64)
    # Through another frame and back.
    assert np.all(separation_deg(ra, dec, RA, DEC) * 3600 < 1e-8)


def test_files_of_positions_are_read(tmp_path: Path) -> None:
    table = Table({"RA": RA, "DEC": Column(DEC, unit="deg"), "name": ["a", "b", "c"]})
    for name in ("t.fits", "t.csv", "t.ecsv", "t.vot", "t.parquet"):
        kind = {"t.csv": "ascii.csv", "t.vot": "votable"}.get(name)
        table.write(tmp_path / name, format=kind)
        for path in (tmp_path / name, str(tmp_path / name)):
            assert np.array_equal(read_positions(path), (RA, DEC)), name
    (tmp_path / "t.csv").write_text("\ufeff" + (tmp_path / "t.csv").read_text("utf-8"), "utf-8")
    assert np.array_equal(read_positions(tmp_path / "t.csv"), (RA, DEC))
    (tmp_path / "no.fits").write_text("no table", "utf-8")
    for path in ("no.fits", "absent.fits", "."):
        with pytest.raises(BadParameter, match="positions"):
            read_positions(tmp_path / path)


def test_missing_positions_become_nan() -> None:
    nan = np.nan
    masked = Table({"ra": MaskedColumn([1.0, 2.0, 3.0], mask=[0, 1, 0]), "dec": [1.0, 2.0, nan]})
    frame = pd.DataFrame({"ra": pd.array([1.0, None, 3.0], "Float64"), "dec": [1.0, 2.0, None]})
    masked_sky = QTable(masked)
    masked_sky["ra"].unit = masked_sky["dec"].unit = "deg"
    for given_ in (
        masked,
        frame,
        masked_sky,
        (np.ma.MaskedArray([1.0, 2, 3], [0, 1, 0]), [1.0, 2.0, nan]),
        ([1.0, None, 3.0], [1.0, 2.0, None]),
    ):
        ra, dec = read_positions(given_)
        assert np.isnan(ra).tolist() == [False, True, False]
        assert np.isnan(dec).tolist() == [False, False, True]


@pytest.mark.parametrize("nothing", [[], (), np.empty((0, 2)), Table({"ra": [], "dec": []})])
def test_no_positions_are_read_as_none(nothing: Any) -> None:
    ra, dec = read_positions(nothing)
    assert (ra.shape, dec.shape) == ((0,), (0,))


def test_what_is_no_position_is_refused() -> None:
    for wrong, why in (
        (Table({"x": [1.0]}), "ra_col"),
        (Table({"ra": ["5", "12 30 00"], "dec": ["+10", "1"]}), r"^ra='12 30 00' is .* as numbers"),
        (Table({"ra": Column([1.0], unit="Jy"), "dec": [1.0]}), "unit of ra"),
        (Table({"ra": Column([1.0], unit="furlongs"), "dec": [1.0]}), "unit of ra"),
        (([1.0, 2.0], [1.0]), "one length"),
        ([1.0, 2.0, 3.0], "shape"),
        (np.zeros((2, 3)), "shape"),
        (object(), "SkyCoord"),
    ):
        with pytest.raises(BadParameter, match=why):
            read_positions(wrong)
    table = Table({"ra": [1.0], "dec": [1.0], "Mine": [7.0]})
    assert read_positions(table, "mine", "DEC")[0].tolist() == [7.0]
    with pytest.raises(UnknownField, match="yours"):
        read_positions(table, "yours", "dec")
    with pytest.raises(BadParameter, match="both"):
        read_positions(table, "mine")


# --- Through the front door ---------------------------------------------------------------------

MOST = 400
"""Positions of one request to the service of these tests."""


@dataclass(frozen=True)
class Held:
    """A service, a user's client of it, and its catalogue of all spectra in a table."""

    running: Served
    spec: SpecClient
    table: Table

    @property
    def places(self) -> Sky:
        return np.asarray(self.table["ra"]), np.asarray(self.table["dec"])


@pytest.fixture(scope="module")
def held(
    mock_survey: Path, mock_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Held]:
    data = tmp_path_factory.mktemp("match") / "data"
    shutil.copytree(mock_data / "sdss_dr17", data / "sdss_dr17")
    service = SpectroscopicService(open_root(data))
    some = service.archive.open_release("sdss_dr17").catalog.place(np.arange(2)).ids
    extra = {
        "specobjid": [*some.tolist(), 2**50],
        "ra": [200.0, 201.0, 202.0],
        "dec": [80.0, 80.0, 80.0],
        "row": [70, 71, 72],
        "grade": [None, 2, 3],
    }
    file = data.parent / "extra.parquet"
    pq.write_table(pa.table(extra), file)
    attach_table(service.archive, "sdss_dr17", "extra", file)
    token = TokenBook(open_root(data)).create("ada", now=datetime.now(UTC))
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPECSERVER_MAX_POSITIONS", str(MOST))
            running = stack.enter_context(serve(data, mock_survey))
        spec = SpecClient(svc_url=running.url)
        spec.set_token(token)
        fields = "specobjid,ra,dec,z,class"
        table = spec.query(constraint="plate > 0", fields=fields, primary=False)
        yield Held(running, spec, table)


def test_every_spectrum_is_found_at_its_place(held: Held) -> None:
    found = held.spec.match(held.places, primary=False, fields="z,ra,dec")
    assert found.colnames == ["row", "specobjid", "separation", "z", "ra", "dec"]
    assert found["row"].tolist() == list(range(len(held.table)))
    assert str(found["separation"].unit) == "arcsec"
    assert not found["separation"].any()
    # Some spectra are of one object: the one of the least identifier stands for them.
    assert np.array_equal(found["ra"], held.table["ra"])
    assert np.array_equal(found["dec"], held.table["dec"])
    every = held.spec.match(held.places, which="all", primary=False)
    pairs = set(zip(every["row"].tolist(), every["specobjid"].tolist(), strict=True))
    assert set(enumerate(held.table["specobjid"].tolist())) <= pairs


def test_the_nearest_is_the_one_that_astropy_finds(held: Held) -> None:
    best = held.spec.query(constraint="plate > 0", fields="specobjid,ra,dec")
    catalog = SkyCoord(best["ra"], best["dec"], unit="deg")
    at = SkyCoord(*offset(*held.places, 2 * ARCSEC), unit="deg")
    index, apart, _ = at.match_to_catalog_sky(catalog)
    radius = 3 * u.arcsec
    for given_ in (at, at.galactic, Table({"ra": at.ra, "dec": at.dec})):
        found = held.spec.match(given_, radius, fields=["class"])
        inside = apart <= radius
        assert inside.sum() > 50
        assert (~np.ma.getmaskarray(found["specobjid"])).tolist() == inside.tolist()
        assert np.isfinite(found["separation"]).tolist() == inside.tolist()
        assert np.array_equal(found["specobjid"][inside], best["specobjid"][index[inside]])
        off = np.abs(found["separation"][inside] - apart.arcsec[inside])
        assert off.max() < 1e-6  # through the Galactic frame and back


def test_an_answer_has_a_row_for_each_position_or_for_each_pair(held: Held) -> None:
    ra, dec = held.places
    at = np.array([np.nan, ra[0], 10.0, ra[0]]), np.array([0.0, dec[0], -89.0, dec[0]])
    found = held.spec.match(at, fields="z", primary=False)
    assert found["row"].tolist() == [0, 1, 2, 3]
    assert np.ma.getmaskarray(found["specobjid"]).tolist() == [True, False, True, False]
    assert np.isnan(found["z"]).tolist() == [True, False, True, False]
    asked = {"context": "default", "radius": ARCSEC, "which": "nearest"}
    assert found.meta == asked | {"found": 2}
    every = held.spec.match(at, which="all", primary=False)
    assert set(every["row"].tolist()) == {1, 3}
    for which in ("nearest", "all"):
        none = held.spec.match([], which=which, fields="z,class")
        assert none.colnames == ["row", "specobjid", "separation", "z", "class"]
        assert len(none) == 0
    far = held.spec.match((10.0, -89.0), which="all")
    assert len(far) == 0
    assert np.ma.getmaskarray(held.spec.match((10.0, -89.0))["specobjid"]).all()


def test_the_best_spectra_or_all(held: Held) -> None:
    best = set(held.spec.query(constraint="plate > 0").tolist())
    found = held.spec.match(held.places, 2 * u.arcmin, "all")
    assert set(found["specobjid"].tolist()) == best
    found = held.spec.match(held.places, 2 * u.arcmin, "all", primary=False)
    assert set(found["specobjid"].tolist()) == set(held.table["specobjid"].tolist())


def test_a_value_added_catalogue_is_matched(held: Held) -> None:
    at = [(201.0, 80.0), (202.0, 80.0), (203.0, 80.0)]
    found = held.spec.match(at, catalog="extra", fields="grade,row")
    assert found.colnames == ["row", "specobjid", "separation", "grade", "row_2"]
    assert found["row_2"].filled(-1).tolist() == [71, 72, -1]
    assert found["grade"].filled(-1).tolist() == [2, 3, -1]
    names = held.spec.match(at, catalog="sdss_dr17.extra", fields="*").colnames
    assert names[:3] == ["row", "specobjid", "separation"]
    assert {"ra", "dec", "row_2", "grade"} <= set(names[3:])
    assert len(set(names)) == len(names)


def test_answers_are_written_to_files(held: Held, tmp_path: Path) -> None:
    # astropy's reader of CSV takes identifiers from 2^63 up for text.
    small = held.table[held.table["specobjid"] < 2**63]
    at = (np.append(small["ra"], np.nan), np.append(small["dec"], 0.0))
    found = held.spec.match(at, fields="z,class", primary=False)
    for name in ("m.csv", "m.ecsv", "m.fits", "m.parquet"):
        done = held.spec.match(at, out=tmp_path / name, fields="z,class", primary=False)
        assert done == "OK"
        again = Table.read(tmp_path / name)
        assert again.colnames == found.colnames, name
        assert np.array_equal(again["row"], found["row"]), name
        assert np.array_equal(again["specobjid"][:-1], found["specobjid"][:-1]), name
        # The digits of a float32 in a CSV are those of a float32.
        assert np.array_equal(again["z"][:-1].astype("f4"), found["z"][:-1]), name
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["m"] * 4
    assert held.spec.match(at, out="vos://m.csv", primary=False) == "OK"
    assert held.spec.vos.read_text("vos://m.csv").startswith("row,specobjid,separation\n0,")
    for wrong in ("m.png", "vos://m", tmp_path / "absent" / "m.csv"):
        with pytest.raises(BadParameter, match="out"):
            held.spec.match(at, out=wrong)


def test_wrong_questions_are_told_what_is_wrong(held: Held) -> None:
    spec, at = held.spec, held.places
    for radius in (0, -1, 1.1, np.nan, np.inf, 2 * u.deg):
        with pytest.raises(BadParameter, match="radius"):
            spec.match(at, radius)
    for wrong in ("wide", 3 * u.Jy, None):
        with pytest.raises(BadParameter, match="radius"):
            spec.match(at, wrong)
    with pytest.raises(BadParameter, match="nearest"):
        spec.match(at, which="first")
    with pytest.raises(BadParameter, match=r"position 1=\(5.0, 95.0\)"):
        spec.match([(5.0, 5.0), (5.0, 95.0)])
    with pytest.raises(BadParameter, match="position 0"):
        spec.match([(np.inf, 5.0)])
    with pytest.raises(UnknownField, match="nosuch"):
        spec.match(at, fields="nosuch")
    with pytest.raises(UnknownContext):
        spec.match(at, context="sdss_dr99")
    with pytest.raises(UnknownCatalog):
        spec.match(at, catalog="nosuch")
    with pytest.raises(UnknownProfile):
        spec.match(at, profile="nosuch")
    with pytest.raises(TooMuch, match=r"401 positions.*max_positions"):
        spec.match((np.zeros(MOST + 1), np.zeros(MOST + 1)))
    for wrong in (0, -1, float("nan")):
        with pytest.raises(BadParameter, match="timeout"):
            spec.match(at, timeout=wrong)
    with pytest.raises(NotAuthenticated):
        spec.match(at, token="specserver.wrong." + "x" * 43)
    with pytest.raises(TypeError, match="colour"):
        spec.match(at, colour="red")


def test_more_pairs_than_a_query_may_have_rows_are_refused(held: Held) -> None:
    service = SpectroscopicService(open_root(held.running.data))
    asked = MatchRequest(*held.places, 1.0, "all", primary=False)
    with pytest.raises(TooMuch, match=r"pairs of a match.*max_rows"):
        service.match(asked, max_rows=len(held.table))
    nearest = MatchRequest(*held.places, 1.0, primary=False)
    assert service.match(nearest, max_rows=1).num_rows == len(held.table)
    late = MatchRequest(*held.places, 1.0, primary=False, timeout_s=1e-9)
    with pytest.raises(QueryTimeout):
        service.match(late)


def test_the_module_and_its_clients_match_in_their_context(held: Held) -> None:
    mine = SpecClient("sdss_dr17", svc_url=held.running.url)
    ids = held.spec.match(held.places)["specobjid"].tolist()
    assert mine.match(held.places)["specobjid"].tolist() == ids
    asked = {"context": "sdss_dr17", "profile": "default"}
    assert held.spec.match(held.places, **asked)["specobjid"].tolist() == ids
    specClient.set_svc_url(held.running.url)
    try:
        assert specClient.match(held.places)["specobjid"].tolist() == ids
    finally:
        specClient.set_svc_url(None)


def test_it_is_told_what_happens(held: Held, capsys: pytest.CaptureFixture[str]) -> None:
    held.spec.match(held.places, timeout=30)
    assert capsys.readouterr().err == ""
    held.spec.match(held.places, verbose=True, debug=True)
    told = capsys.readouterr().err
    assert f"POST {held.running.url}/bulk/match" in told
    assert f"{len(held.table)} rows in" in told


# --- The endpoint -------------------------------------------------------------------------------


def ask(held: Held, body: bytes, kind: str, query: str = "", accept: str = "") -> Any:
    """Return the answer to a request as it stands."""
    headers = {"Content-Type": kind} | ({"Accept": accept} if accept else {})
    url = f"{held.running.url}/bulk/match?{query}"
    return urllib3.request("POST", url, body=body, headers=headers, retries=False, timeout=60)


def stream(compression: str | None = None, **columns: Any) -> bytes:
    table = pa.table(columns)
    sink = BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_both_forms_go_in_and_come_out(held: Held) -> None:
    ra, dec = held.places
    text = "name,DEC , Ra\n" + "".join(
        f'"a, b",{one!r},{other!r}\n' for one, other in zip(dec.tolist(), ra.tolist(), strict=True)
    )
    bodies = {
        "text/csv": ("\ufeff" + text + "x,,\n").encode(),
        "text/csv; charset=utf-8": (text + "x,NaN,0").replace("\n", "\r\n").encode(),
        ARROW: stream(
            RA=pa.chunked_array([ra, pa.array([None], pa.float64())]), dec=np.append(dec, 1)
        ),
    }
    query = "primary=false&fields=z,class&radius=0.001"
    found = held.spec.match(held.places, 0.001, primary=False, fields="z,class")
    for kind, body in bodies.items():
        for accept in ("", "*/*", "text/csv", f"{ARROW}, text/csv;q=0.5"):
            answer = ask(held, body, kind, query, accept)
            assert answer.status == 200, answer.data
            said = answer.headers["Content-Type"].partition(";")[0]
            wanted = (accept if accept not in {"", "*/*"} else kind).partition(",")[0]
            assert said == wanted.partition(";")[0]
            if said == "text/csv":
                types = pa.csv.ConvertOptions(column_types={"specobjid": pa.uint64()})
                table = pa.csv.read_csv(BytesIO(answer.data), convert_options=types)
            else:
                table = pa.ipc.open_stream(answer.data).read_all()
            assert table.column_names == found.colnames
            assert table["row"].to_pylist() == list(range(len(ra) + 1))
            assert table["specobjid"].to_pylist() == [*found["specobjid"].tolist(), None]
            assert table["separation"].to_pylist()[:-1] == found["separation"].tolist()
            assert table["z"].cast(pa.float32()).to_pylist()[:-1] == found["z"].tolist()


def longer(body: bytes, count: int) -> bytes:
    """Return a stream that says it has more values than there are bytes."""
    return body.replace(count.to_bytes(8, "little"), (10**12).to_bytes(8, "little"))


@pytest.mark.parametrize(
    ("kind", "body", "said"),
    [
        ("", b"ra,dec\n1,2\n", "Content-Type"),
        ("application/json", b"{}", "Content-Type"),
        ("text/csv", b"", "no header"),
        ("text/csv", b"\n1,2\n", "no header"),
        ("text/csv", b"ra,decl\n1,2\n", "ra and dec"),
        ("text/csv", b"ra,dec,RA\n1,2,3\n", "each once"),
        ("text/csv", b"ra,dec\n1,north\n", "north"),
        ("text/csv", b"ra,dec\n1,2,3\n", "columns"),
        ("text/csv", b"ra,dec\n1,\xff\xfe\n", "ra and dec"),
        ("text/csv", b"ra,dec\n1,91\n", "position 0"),
        (ARROW, b"", "ra and dec"),
        (ARROW, b"nothing of the sort", "ra and dec"),
        (ARROW, stream(ra=[1.0], dec=[2.0])[:-60], "ra and dec"),
        (ARROW, stream(ra=[1.0]), "ra and dec"),
        (ARROW, stream(ra=["1"], dec=[2.0]), "numbers"),
        (ARROW, stream(ra=[1.0], dec=pa.nulls(1)), "numbers"),
        (ARROW, stream("zstd", ra=[1.0] * 99, dec=[2.0] * 99), "uncompressed"),
        (ARROW, stream("lz4", ra=[1.0] * 99, dec=[2.0] * 99), "uncompressed"),
        (ARROW, longer(stream(ra=[1.0] * 123, dec=[2.0] * 123), 123), "ra and dec"),
    ],
)
def test_bodies_that_are_none_are_refused(held: Held, kind: str, body: bytes, said: str) -> None:
    answer = ask(held, body, kind)
    assert (answer.status, answer.json()["code"]) == (400, "bad_parameter"), answer.data
    assert said in answer.json()["message"]


def test_headers_alone_are_no_positions(held: Held) -> None:
    for kind, body in (
        ("text/csv", b"ra,dec"),
        ("text/csv", b"ra,dec\n"),
        (ARROW, stream(ra=pa.array([], pa.float64()), dec=pa.array([], pa.int8()))),
    ):
        answer = ask(held, body, kind, "fields=z", "text/csv")
        assert (answer.status, answer.data) == (200, b"row,specobjid,separation,z\n")


def test_integers_and_short_floats_are_positions(held: Held) -> None:
    body = stream(ra=pa.array([10, 2**60]), dec=pa.array([1.5, 2.5], pa.float32()))
    assert ask(held, body, ARROW).status == 200


def test_the_codes_of_refusals(held: Held) -> None:
    body = b"ra,dec\n1,2\n"
    for query, status, code in (
        ("radius=2", 400, "bad_parameter"),
        ("radius=nan", 400, "bad_parameter"),
        ("radius=wide", 422, "invalid_request"),
        ("which=first", 422, "invalid_request"),
        ("fields=nosuch", 400, "unknown_field"),
        ("context=sdss_dr99", 404, "unknown_context"),
        ("catalog=nosuch", 404, "unknown_catalog"),
        ("profile=nosuch", 404, "unknown_profile"),
        ("timeout_s=0", 422, "invalid_request"),
    ):
        answer = ask(held, body, "text/csv", query)
        assert (answer.status, answer.json()["code"]) == (status, code), query
    many = b"ra,dec\n" + b"1,2\n" * (MOST + 1)
    answer = ask(held, many, "text/csv")
    assert (answer.status, answer.json()["code"]) == (413, "too_much")


def test_long_bodies_are_read_in_a_heavy_turn(served: Served) -> None:
    spec = SpecClient(svc_url=served.url)
    table = spec.query(constraint="plate > 0", fields="specobjid,ra,dec", primary=False)
    times = 300
    at = np.tile(table["ra"], times), np.tile(table["dec"], times)
    found = spec.match(at, primary=False)
    assert len(found) == times * len(table)
    assert not np.ma.getmaskarray(found["specobjid"]).any()
    assert not found["separation"].any()


# --- The command --------------------------------------------------------------------------------


def test_the_command_prints_and_writes(
    held: Held, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = ("--url", held.running.url)
    table = held.table[:5]
    ids = table["specobjid"].tolist()
    table.rename_columns(["ra", "dec"], ["alpha", "delta"])
    table.write(tmp_path / "t.fits")
    columns = ("--ra-col", "alpha", "--dec-col", "DELTA")
    said = command("match", tmp_path / "t.fits", *columns, "--fields", "z", "--all", *url)
    rows = Table.read(said, format="ascii.csv")
    assert rows.colnames == ["row", "specobjid", "separation", "z"]
    assert rows["row"].tolist() == [0, 1, 2, 3, 4]
    near_ = held.spec.match((table["alpha"], table["delta"]), primary=False)
    assert rows["specobjid"].tolist() == near_["specobjid"].tolist()
    out = tmp_path / "m.ecsv"
    more = ("--which", "all", "--radius", "5", "--all", "--out", out)
    said = command("match", tmp_path / "t.fits", *columns, *more, *url)
    assert "rows in" in said
    assert set(ids) <= set(Table.read(out)["specobjid"].tolist())
    monkeypatch.setattr("sys.stdin", StringIO("\ufeffra,dec\n201.0,80.0\n"))
    said = command("match", "-", "--catalog", "extra", *url)
    assert said.splitlines()[1].startswith("0,")
    assert "no such file" in command("match", tmp_path / "absent", *url, code=2)
    for words, shown in (
        (("--ra-col", "alpha"), "specserver: --dec-col is not possible: give both"),
        ((*columns, "--radius", 9999), "--radius 9999.0 is not possible: arcsec"),
        ((*columns, "--radius", -1), "--radius -1.0 is not possible: arcsec"),
    ):
        assert shown in command("match", tmp_path / "t.fits", *words, *url, code=2)
    assert "--ra-col" in command("match", tmp_path / "t.fits", *url, code=2)
    assert "nearest" in command("match", tmp_path / "t.fits", "--which", "some", *url, code=2)
