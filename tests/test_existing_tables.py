"""Tables of the data centre's own PostgreSQL as value-added catalogues, queried where they are."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from benchmarks.postgres_cluster import Cluster, has_q3c, programs

from commands import command
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import ServiceError
from specserver.service import SpectroscopicService

CONTEXT = "sdss_dr17"
COUNT = 60
"""Rows of the table that have a spectrum."""


@dataclass(frozen=True)
class Own:
    """A data folder, and a table of its own database."""

    data: Path
    files: Path
    url: str
    rows: dict[str, Any]
    """Columns of the table, in the order of its rows."""

    def attach(self, *words: object, code: int = 0, table: str = "vac.masses") -> str:
        return command(
            "table", "attach", CONTEXT, *words, "--postgres", self.url, "--table", table,
            "--data", self.data, code=code,
        )  # fmt: skip


@pytest.fixture(scope="module")
def own(
    postgres: Cluster, mock_data: Path, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Own]:
    """A table with identifiers in their signed form, its own positions, and some odd columns."""
    data = tmp_path_factory.mktemp("own") / "data"
    shutil.copytree(mock_data, data)
    catalog = SpectroscopicService(open_root(data)).archive.open_release(CONTEXT).catalog
    every = catalog.in_region(whole_sky())[:COUNT]
    ids = catalog.place(every).ids
    ra, dec = catalog.positions(every)
    rng = np.random.default_rng(8)
    rows = {
        "id": [*ids.view(np.int64).tolist(), None, 77],
        "ra": [*ra.tolist(), 359.9999, None],
        "dec": [*(dec + 1e-4).tolist(), 0.0, None],
        "mass": [None if v < 0.1 else float(np.float32(v)) for v in rng.random(COUNT + 2)],
        "kind": [("early", "late", None, "Ére")[v] for v in rng.integers(0, 4, COUNT + 2)],
    }
    fill(postgres.url, rows)
    yield Own(data, mock_survey, postgres.url, rows)
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA vac CASCADE")
        connection.execute("DROP DATABASE IF EXISTS with_q3c WITH (FORCE)")


def fill(url: str, rows: dict[str, Any]) -> None:
    """Make the tables of the data centre."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA vac")
        connection.execute(
            'CREATE TABLE vac.masses ("SpecObjID" bigint, "RA" float8, "DEC" float8, mass real,'
            " kind varchar(20), serial int PRIMARY KEY, tags text[],"
            " made date DEFAULT '2026-01-02', big numeric(20))"
        )
        connection.execute("COMMENT ON COLUMN vac.masses.mass IS 'Stellar mass'")
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO vac.masses VALUES (%s, %s, %s, %s, %s, %s, '{a}', DEFAULT, %s)",
                [
                    (*row, at * 3, None if row[0] is None else row[0] % 2**64)
                    for at, row in enumerate(zip(*rows.values(), strict=True))
                ],
            )
        connection.execute("CREATE VIEW vac.seen AS SELECT * FROM vac.masses WHERE mass > 0")
        connection.execute("CREATE TABLE vac.plain AS SELECT * FROM vac.masses")
        connection.execute("CREATE TABLE vac.nothing (a text)")


def whole_sky() -> Any:
    from specserver.model.region import cone

    return cone(0.0, 0.0, 180.0)


@pytest.fixture(scope="module")
def asked(own: Own) -> Iterator[tuple[Own, SpecClient, Served]]:
    """The table attached three times, as a table with a key, without one, and as a view."""
    printed = own.attach("masses", "--title", "Masses of Granada")
    assert f"{CONTEXT}.masses: {COUNT + 2} rows" in printed
    own.attach("plain", table="vac.plain")
    own.attach("seen", "--key", "serial", table="vac.seen")
    own.attach("big", "--id", "big", table="vac.masses")
    if has_q3c(programs()):
        other = own.url.replace("/postgres?", "/with_q3c?")
        with psycopg.connect(own.url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE with_q3c")
        fill(other, own.rows)
        with psycopg.connect(other, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION q3c")
            connection.execute('CREATE INDEX ON vac.masses (q3c_ang2ipix("RA", "DEC"))')
        Own(own.data, own.files, other, own.rows).attach("q3c")
    with serve(own.data, own.files) as running:
        client = SpecClient()
        client.set_svc_url(running.url)
        yield own, client, running


NAMES = ("masses", "plain", "seen", "big", "q3c")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_is_searched_by_position_condition_and_identifier(
    asked: tuple[Own, SpecClient, Served], name: str
) -> None:
    own, client, _ = asked
    if name == "q3c" and not has_q3c(programs()):
        pytest.skip("the extension q3c is not installed")
    catalog = f"{CONTEXT}.{name}"
    seen = [at for at in range(COUNT + 2) if name != "seen" or own.rows["mass"][at] is not None]

    def serials(**words: Any) -> list[int]:
        found = client.query(catalog=catalog, fields=["serial"], fmt="pandas", **words)
        return sorted(found["serial"].tolist())

    def expected(good: Any) -> list[int]:
        return [at * 3 for at in seen if good(at)]

    mass, kind = own.rows["mass"], own.rows["kind"]
    assert serials() == expected(lambda at: at >= 0)
    assert serials(constraint="mass > 0.5") == expected(lambda at: (mass[at] or 0) > 0.5)
    assert serials(constraint="kind = 'early'") == expected(lambda at: kind[at] == "early")
    assert serials(constraint="lower(kind) like 'ér%'") == expected(lambda at: kind[at] == "Ére")
    assert serials(constraint="made = '2026-01-02' and kind is null") == expected(
        lambda at: kind[at] is None
    )
    ids = [int(np.int64(value).astype(np.uint64)) for value in own.rows["id"][:5]]
    assert serials(constraint=f"specobjid in ({', '.join(map(str, ids))})") == expected(
        lambda at: at < 5
    )
    assert serials(constraint=f"specobjid = {ids[0]} and mass < 2") == expected(
        lambda at: at == 0 and mass[0] is not None
    )
    ra, dec = np.array(own.rows["ra"], float), np.array(own.rows["dec"], float)
    for place, size in (((ra[3], dec[3]), 1e-3), ((0.0, 0.0), 0.01), ((10.0, 89.0), 60.0)):
        apart = separation(*place, ra, dec)
        found = serials(ra=place[0], dec=place[1], size=size)
        assert found == expected(lambda at, apart=apart, size=size: apart[at] <= size)
    order = client.query(
        catalog=catalog, constraint="mass > 0 order by mass desc limit 3", fields=["mass"],
        fmt="pandas",
    )  # fmt: skip
    highest = sorted((value for value in mass if value is not None), reverse=True)[:3]
    np.testing.assert_array_equal(order["mass"], np.array(highest, np.float32))
    places = np.column_stack([ra, dec])[:10]
    matches = client.match(places, 1e-5, "nearest", ["serial"], catalog=catalog, primary=False)
    near = [at if at in seen else None for at in range(10)]
    assert [value for value in matches["serial"].tolist() if value is not None] == [
        at * 3 for at in near if at is not None
    ]
    assert np.nanmax(np.array(matches["separation"], float)) < 1e-6


def separation(ra: float, dec: float, others_ra: Any, others_dec: Any) -> Any:
    from specserver.model.sphere import separation_deg

    count = len(others_ra)
    return separation_deg(np.full(count, ra), np.full(count, dec), others_ra, others_dec)


def test_a_table_is_listed_with_what_the_database_says_of_it(
    asked: tuple[Own, SpecClient, Served],
) -> None:
    own, client, _ = asked
    listed = client.catalogs(fmt="json", context=CONTEXT)
    found = listed[f"{CONTEXT}.masses"]
    assert "Masses of Granada" in str(found)
    assert "Stellar mass" in str(found)
    assert "tags" not in [column["name"] for column in found["columns"]]
    printed = command("table", "list", "--data", own.data)
    assert "masses" in printed
    assert str(COUNT + 2) in printed


def test_what_changes_in_the_table_is_answered_at_once(
    asked: tuple[Own, SpecClient, Served],
) -> None:
    own, client, _ = asked
    words = {"catalog": f"{CONTEXT}.plain", "fields": ["kind"], "fmt": "pandas"}
    with psycopg.connect(own.url, autocommit=True) as connection:
        connection.execute("UPDATE vac.plain SET kind = 'changed' WHERE serial = 6")
        found = client.query(constraint="kind = 'changed'", **words)
        assert found["kind"].tolist() == ["changed"]
        connection.execute("UPDATE vac.plain SET kind = 'late' WHERE serial = 6")


def test_nothing_is_written_and_no_password_is_kept(own: Own, postgres: Cluster) -> None:
    given = postgres.url.replace("postgres@", "postgres:s3cr3t@")
    printed = command(
        "table", "attach", CONTEXT, "kept", "--postgres", given, "--table", "vac.masses",
        "--data", own.data,
    )  # fmt: skip
    assert "the password is not kept" in printed
    for path in own.data.rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes()
    command("table", "remove", CONTEXT, "kept", "--data", own.data)
    assert "kept" not in command("table", "list", "--data", own.data)


@pytest.mark.proof
def test_wrong_words_are_told(own: Own) -> None:
    for words, said in (
        (("x", "--id", "kind"), "fitting type"),
        (("x", "--ra", "RA"), "go together"),
        (("x", "--ra", "RA", "--dec", "kind"), "fitting type"),
        (("specobj",), "specobj"),
    ):
        assert said in own.attach(*words, code=2)
    assert "no column specobjid" in own.attach("x", table="vac.nothing", code=2)
    assert "schema.table" in own.attach("x", table="vac.none", code=2)
    assert "--key" in own.attach("x", table="vac.seen", code=2)
    own.attach("twice")
    assert "--replace" in own.attach("twice", code=2)
    own.attach("twice", "--replace")
    command("table", "remove", CONTEXT, "twice", "--data", own.data)


def test_a_table_that_is_gone_does_not_hide_the_others(
    asked: tuple[Own, SpecClient, Served],
) -> None:
    own, client, _ = asked
    with psycopg.connect(own.url, autocommit=True) as connection:
        connection.execute('CREATE TABLE vac.brief AS SELECT "SpecObjID" FROM vac.masses')
        own.attach("brief", table="vac.brief")
        connection.execute("DROP TABLE vac.brief")
    with pytest.raises(ServiceError, match="is gone"):
        client.query(catalog=f"{CONTEXT}.brief", fields=["serial"])
    assert f"{CONTEXT}.masses" in client.catalogs(fmt="json", context=CONTEXT)
    command("table", "remove", CONTEXT, "brief", "--data", own.data)
