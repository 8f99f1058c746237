"""Tables of a PostgreSQL are searched by position as the same tables in the data folder are."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.coordinates import SkyCoord
from benchmarks.postgres_cluster import Cluster, has_q3c, programs
from hypothesis import example, given
from hypothesis import strategies as st

from commands import command
from specserver.catalog.base import Catalogue
from specserver.catalog.deadline import Deadline
from specserver.catalog.postgres import existing
from specserver.catalog.postgres.boxes import edges
from specserver.data.root import open_root
from specserver.errors import QueryTimeout, TooMuch
from specserver.model.region import cone
from specserver.model.sphere import separation_deg
from specserver.service import SpectroscopicService
from specserver.service.match import MatchRequest, run_match

CONTEXT = "sdss_dr17"
PLACED = ("keyed", "by_place", "seen", "unindexed", "q3c")
"""Tables of the same rows with positions of their own."""
BARE = ("bare", "bare_view")
"""Tables without positions."""


@dataclass(frozen=True)
class Both:
    """A data folder with a table, and the same table in a database, attached in several ways."""

    service: SpectroscopicService
    url: str
    ra: np.ndarray
    dec: np.ndarray

    def catalogue(self, name: str) -> Catalogue:
        return self.service.archive.table(CONTEXT, f"{CONTEXT}.{name}", primary=False).catalog

    def match(self, name: str, ra: Any, dec: Any, radius: float, which: Any) -> list[Any]:
        """Return position, identifier, row and separation of pairs, as text to 1e-9 arcsec."""
        request = MatchRequest(
            np.asarray(ra, float), np.asarray(dec, float), radius, which, ("serial",),
            CONTEXT, f"{CONTEXT}.{name}", primary=False,
        )  # fmt: skip
        found = run_match(self.service.archive, request)
        *exact, apart = (
            found.column(n).to_pylist() for n in ("row", "specobjid", "serial", "separation")
        )
        rounded = [None if value is None else round(value, 6) for value in apart]
        rows = list(zip(*exact, rounded, strict=True))
        return rows if which == "nearest" else sorted(rows, key=str)

    def cone(self, name: str, *at: float) -> list[int]:
        catalogue = self.catalogue(name)
        found = catalogue.columns_of(["serial"], catalogue.in_region(cone(*at)))
        return sorted(found.column(0).to_pylist())


@pytest.fixture(scope="module")
def both(
    postgres: Cluster, mock_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Both]:
    data = tmp_path_factory.mktemp("both") / "data"
    shutil.copytree(mock_data, data)
    service = SpectroscopicService(open_root(data))
    spectra = service.archive.open_release(CONTEXT).catalog
    every = spectra.in_region(cone(0.0, 0.0, 180.0))
    held = spectra.place(every).ids
    rng = np.random.default_rng(30)
    count = 600
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    dec[:80], dec[80:160] = 90 - rng.exponential(0.4, 80), -90 + rng.exponential(0.4, 80)
    ra[160:260], dec[160:260] = rng.normal(0, 0.4, 100) % 360, rng.normal(0, 0.4, 100)
    ra[:3], dec[:3] = 0.0, (90.0, -90.0, 0.0)
    ids = np.arange(count, dtype=np.int64) + 10
    # Some are at the same position, some have no identifier, some are of spectra.
    ra[300:310], dec[300:310] = ra[310:320], dec[310:320]
    ids[: len(held)] = held.view(np.int64)[:count]
    own = {"specobjid": pa.array(ids), "ra": ra, "dec": dec, "serial": np.arange(count)}
    # Two rows of one spectrum, one of none that is held, and one without identifier.
    few = np.concatenate([held.view(np.int64), held.view(np.int64)[:7], [12345, 0]])
    bare = {
        "specobjid": pa.array(few, mask=few == 0),
        "serial": np.arange(len(few)),
    }
    for name, columns in (("own", own), ("bare_own", bare)):
        file = data.parent / f"{name}.parquet"
        pq.write_table(pa.table(columns), file)
        command("table", "add", CONTEXT, name, file, "--data", data)
    fill(postgres.url, own, bare)
    here = ("keyed", "by_place", "seen", "unindexed", *BARE)
    attached = [(name, postgres.url, f"sky.{name}") for name in here]
    if has_q3c(programs()):
        with psycopg.connect(postgres.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE both_q3c")
        url = postgres.url.replace("/postgres?", "/both_q3c?")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION q3c")
        fill(url, own, bare)
        attached.append(("q3c", url, "sky.keyed"))
    for name, url, table in attached:
        key = ("--key", "serial") if table.endswith(("seen", "view")) else ()
        command("table", "attach", CONTEXT, name, "--postgres", url, "--table", table, *key,
                "--data", data)  # fmt: skip
    yield Both(service, postgres.url, ra, dec)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA sky CASCADE")
        connection.execute("DROP DATABASE IF EXISTS both_q3c WITH (FORCE)")


def fill(url: str, own: dict[str, Any], bare: dict[str, Any]) -> None:
    """Make the tables; right ascension is from -180° in one of them, and some rows have none."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA sky")
        connection.execute(
            "CREATE TABLE sky.keyed"
            " (specobjid bigint, ra float8, dec float8, serial int PRIMARY KEY)"
        )
        columns = (np.asarray(values).tolist() for values in own.values())
        nowhere = [(None, None, None, -1), (1, float("nan"), 1.0, -2), (2, 0.0, -999.0, -3),
                   (3, float("inf"), 0.0, -4)]  # fmt: skip
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO sky.keyed VALUES (%s, %s, %s, %s)",
                [*zip(*columns, strict=True), *nowhere],
            )
            connection.execute("CREATE TABLE sky.bare (specobjid bigint, serial int PRIMARY KEY)")
            cursor.executemany(
                "INSERT INTO sky.bare VALUES (%s, %s)",
                list(zip(bare["specobjid"].to_pylist(), bare["serial"].tolist(), strict=True)),
            )
        turned = "CASE WHEN ra > 180 THEN ra - 360 ELSE ra END AS ra"
        connection.execute(
            f"CREATE TABLE sky.by_place AS SELECT specobjid, {turned}, dec, serial FROM sky.keyed"
        )
        connection.execute("CREATE TABLE sky.unindexed AS SELECT * FROM sky.keyed")
        connection.execute("CREATE INDEX ON sky.keyed (dec)")
        connection.execute("CREATE INDEX ON sky.by_place (ra, dec)")
        connection.execute("CREATE VIEW sky.seen AS SELECT * FROM sky.keyed")
        connection.execute("CREATE VIEW sky.bare_view AS SELECT * FROM sky.bare")
        connection.execute("ANALYZE")


def positions(both: Both) -> tuple[np.ndarray, np.ndarray]:
    """Return positions near rows, some of nothing, and one that is not known."""
    rng = np.random.default_rng(31)
    dec = np.clip(both.dec + rng.normal(0, 0.02, len(both.dec)), -90, 90)
    return np.append(both.ra, [1.0, np.nan, -10.0]), np.append(dec, [-30.0, 1.0, 3.0])


@given(
    st.floats(-180, 360),
    st.floats(-90, 90),
    st.floats(1e-7, 179),
    st.floats(0, 360),
)
@example(0.0, 89.0, 0.9999999999, 90.0)
@example(359.9999, -89.9, 0.1, 270.0)
@example(-1.125, 0.0, 6.0, 11.0)
def test_a_box_holds_its_circle(ra: float, dec: float, radius: float, angle: float) -> None:
    box = edges(np.array([ra]), np.array([dec]), radius)
    # A position at just that distance, in any direction and any notation.
    centre = SkyCoord(ra, dec, unit="deg")
    rim = centre.directional_offset_by(angle * u.deg, radius * u.deg)
    at, height = rim.ra.deg, rim.dec.deg
    west, east, south, north = (float(edge[0]) for edge in box)
    # Astropy rounds to some 1e-13 rad, and to more beside a pole.
    if separation_deg(ra, dec, at, height) > radius:
        return
    assert south <= height <= north
    for written in (at, at - 360):
        assert any(west + turn <= written <= east + turn for turn in (-360, 0, 360))


def skip_without(name: str) -> None:
    if name == "q3c" and not has_q3c(programs()):
        pytest.skip("the extension q3c is not installed")


@pytest.mark.parametrize("which", ["nearest", "all"])
@pytest.mark.parametrize("name", PLACED)
def test_a_match_finds_what_the_same_table_in_the_data_folder_has(
    both: Both, name: str, which: str
) -> None:
    skip_without(name)
    ra, dec = positions(both)
    for radius in (1e-5, 0.02, 0.9):
        expected = both.match("own", ra, dec, radius, which)
        assert both.match(name, ra, dec, radius, which) == expected
        assert sum(row[1] is not None for row in expected) >= 1
    # The rows themselves: each is the nearest one of its own position.
    apart = [row[3] for row in both.match(name, both.ra, both.dec, 1e-5, "nearest")]
    assert max(apart) < 1e-6


@pytest.mark.parametrize("which", ["nearest", "all"])
@pytest.mark.parametrize("name", BARE)
def test_a_table_without_positions_is_matched_by_those_of_its_spectra(
    both: Both, name: str, which: str
) -> None:
    spectra = both.service.archive.open_release(CONTEXT).catalog
    ra, dec = spectra.positions(spectra.in_region(cone(0.0, 0.0, 180.0)))
    for radius in (1e-5, 0.9):
        expected = both.match("bare_own", ra, dec, radius, which)
        assert both.match(name, ra, dec, radius, which) == expected
        assert len(expected) >= len(ra)
    table = both.catalogue(name)
    rows = table.in_region(cone(ra[5], dec[5], 0.5))
    for found, wanted in zip(table.positions(rows), (ra, dec), strict=True):
        assert np.all(np.isin(found, wanted))


@pytest.mark.parametrize("name", [*PLACED, *BARE])
def test_a_cone_finds_what_the_same_table_in_the_data_folder_has(both: Both, name: str) -> None:
    skip_without(name)
    model = "bare_own" if name in BARE else "own"
    for at in (
        (0, 90, 1),
        (0, -90, 1),
        (359.9, 0.1, 0.5),
        (10, 89, 60),
        (100, 0, 120),
        (3, 4, 180),
    ):
        assert both.cone(name, *at) == both.cone(model, *at)


@pytest.mark.proof
@pytest.mark.parametrize("name", ["keyed", "q3c", "bare"])
def test_a_match_of_many_candidates_is_done_in_pieces(
    both: Both, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    skip_without(name)
    model = "bare_own" if name in BARE else "own"
    ra, dec = positions(both)
    expected = {which: both.match(model, ra, dec, 0.9, which) for which in ("nearest", "all")}
    monkeypatch.setattr(existing, "MAX_CANDIDATES", 150)
    for which, rows in expected.items():
        assert both.match(name, ra, dec, 0.9, which) == rows
    monkeypatch.setattr(existing, "MAX_CANDIDATES", 2)
    with pytest.raises(TooMuch, match="near one position"):
        both.match(name, ra, dec, 0.9, "nearest")
    table = both.catalogue(name)
    words: dict[str, Any] = {"nearest": False, "primary": False}
    monkeypatch.setattr(existing, "MAX_CANDIDATES", 150)
    count = len(expected["all"])
    assert len(table.nearby(ra, dec, 0.9, max_pairs=count, **words)) == count
    with pytest.raises(TooMuch, match="pairs"):
        table.nearby(ra, dec, 0.9, max_pairs=count - 1, **words)
    with pytest.raises(QueryTimeout):
        table.nearby(ra, dec, 0.9, deadline=Deadline(0.001, 0.0), **words)


def test_positions_far_apart_do_not_fetch_what_is_between_them(
    both: Both, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of 600 rows all are between these; no more than a few are near one of them.
    monkeypatch.setattr(existing, "MAX_CANDIDATES", 400)
    asked = []
    table = both.catalogue("keyed")
    monkeypatch.setattr(type(table), "_near", counted(type(table)._near, asked))
    table.nearby(np.array([20.0, 20.0]), np.array([89.0, -89.0]), 0.01, nearest=True, primary=False)
    assert len(asked) == 1


def counted(function: Any, calls: list[Any]) -> Any:
    def called(*args: Any) -> Any:
        calls.append(args)
        return function(*args)

    return called


def test_a_region_of_too_many_rows_is_refused(both: Both) -> None:
    table: Any = both.catalogue("keyed")
    table._max_found = 100
    try:
        with pytest.raises(TooMuch, match="rows in the region"):
            table.in_region(cone(0.0, 0.0, 180.0))
        assert len(table.in_region(cone(0.0, 0.0, 0.2))) > 0
    finally:
        table._max_found = existing.MAX_FOUND
