"""What rows of an attached table are known by, and what their values are, whatever its database."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from benchmarks.postgres_cluster import Cluster

from commands import command
from specserver.data.root import open_root
from specserver.errors import BadConstraint, CatalogError
from specserver.model.region import cone
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.archive import Archive
from specserver.service.query import run_query

CONTEXT = "sdss_dr17"


@dataclass(frozen=True)
class Centre:
    """A data folder and the database of a data centre."""

    data: Path
    url: str

    def run(self, *statements: str, url: str = "") -> None:
        with psycopg.connect(url or self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    def attach(self, name: str, table: str, *words: str, url: str = "", code: int = 0) -> str:
        return command(
            "table", "attach", CONTEXT, name, "--postgres", url or self.url, "--table", table,
            *words, "--data", self.data, code=code,
        )  # fmt: skip

    @property
    def archive(self) -> Archive:
        """A service that has just begun, which knows the tables as they are now."""
        return SpectroscopicService(open_root(self.data)).archive

    def ask(self, name: str, field: str, constraint: str = "", region: Any = None) -> list[Any]:
        """Return a column of the rows that meet a condition, sorted."""
        request = QueryRequest(CONTEXT, region, constraint, (field,), f"{CONTEXT}.{name}")
        return sorted(run_query(self.archive, request).column(field).to_pylist(), key=str)

    def counts(self, name: str) -> tuple[int, int]:
        """Return how many rows a table has, and how many with an identifier."""
        catalogue = self.archive.table(CONTEXT, f"{CONTEXT}.{name}", primary=False).catalog
        return catalogue.count(primary=False), catalogue.count(primary=True)


@pytest.fixture(scope="module")
def centre(
    postgres: Cluster, mock_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Centre]:
    data = tmp_path_factory.mktemp("centre") / "data"
    shutil.copytree(mock_data, data)
    found = Centre(data, postgres.url)
    found.run("CREATE SCHEMA own")
    yield found
    found.run("DROP SCHEMA own CASCADE")


@pytest.fixture
def database(centre: Centre) -> Iterator[str]:
    """The URL of a database in LATIN1, whose users are in another time zone."""
    centre.run(
        "CREATE DATABASE western TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
        "ALTER DATABASE western SET timezone = 'America/New_York'",
        "ALTER DATABASE western SET datestyle = 'German'",
    )
    yield centre.url.replace("/postgres?", "/western?")
    centre.run("DROP DATABASE western WITH (FORCE)")


# -- what rows are known by -----------------------------------------------------------------------

COLUMNS = "specobjid bigint, ra float8, dec float8, serial int PRIMARY KEY, other int UNIQUE"


def test_a_table_from_which_others_inherit_needs_a_key_that_is_unique_in_all(
    centre: Centre,
) -> None:
    centre.run(
        f"CREATE TABLE own.parent ({COLUMNS})",
        "CREATE TABLE own.placed (specobjid bigint, ra float8, dec float8, serial int)",
    )
    # Before it has children it is like any table.
    centre.attach("placed", "own.placed")
    centre.run(
        "CREATE TABLE own.child () INHERITS (own.parent)",
        "CREATE TABLE own.child_of_placed () INHERITS (own.placed)",
        "INSERT INTO own.parent VALUES (1, 10, 1, 5, 100)",
        "INSERT INTO own.child VALUES (2, 200, 1, 5, 101)",
    )
    assert "--key" in centre.attach("parent", "own.parent", code=2)
    assert "unique" in centre.attach("parent", "own.parent", "--key", "serial", code=2)
    centre.attach("parent", "own.parent", "--key", "other")
    for ra, identifier in ((10, 1), (200, 2)):
        assert centre.ask("parent", "specobjid", region=cone(ra, 1, 0.1)) == [identifier]
    with pytest.raises(CatalogError, match="--key"):
        centre.ask("placed", "specobjid")
    centre.run("INSERT INTO own.child VALUES (3, 200, 1, 6, 100)")
    with pytest.raises(CatalogError, match="--key"):
        centre.ask("parent", "specobjid", region=cone(10, 1, 0.1))


def test_an_index_that_is_not_valid_tells_no_key(centre: Centre) -> None:
    centre.run(
        "CREATE TABLE own.cut (specobjid bigint, ra float8, dec float8, serial int NOT NULL)",
        "INSERT INTO own.cut VALUES (1, 10, 1, 5), (2, 200, 1, 5)",
    )
    with pytest.raises(psycopg.errors.UniqueViolation):
        centre.run("CREATE UNIQUE INDEX CONCURRENTLY ON own.cut (serial)")
    centre.attach("cut", "own.cut")
    for ra, identifier in ((10, 1), (200, 2)):
        assert centre.ask("cut", "specobjid", region=cone(ra, 1, 0.1)) == [identifier]


def test_relations_without_places_need_a_key(centre: Centre) -> None:
    centre.run(
        "CREATE TABLE own.whole (specobjid bigint, ra float8, dec float8, serial int)"
        " PARTITION BY RANGE (ra)",
        "CREATE TABLE own.west PARTITION OF own.whole FOR VALUES FROM (0) TO (180)",
        "CREATE TABLE own.east PARTITION OF own.whole FOR VALUES FROM (180) TO (360)",
        "INSERT INTO own.whole VALUES (1, 10, 1, 5), (2, 200, 1, 6)",
        "CREATE VIEW own.view AS SELECT * FROM own.whole",
        "CREATE MATERIALIZED VIEW own.kept AS SELECT * FROM own.whole",
    )
    for table in ("whole", "view"):
        assert "--key" in centre.attach(table, f"own.{table}", code=2)
        centre.attach(table, f"own.{table}", "--key", "serial")
    centre.attach("kept", "own.kept")
    centre.attach("west", "own.west")
    for name in ("whole", "view", "kept"):
        for ra, identifier in ((10, 1), (200, 2)):
            assert centre.ask(name, "specobjid", region=cone(ra, 1, 0.1)) == [identifier]
    assert centre.ask("west", "specobjid") == [1]


def test_an_identifier_of_0_is_none(centre: Centre) -> None:
    columns = {"specobjid": [0, 7, 0, 8], "serial": [1, 2, 3, 4]}
    file = centre.data.parent / "zero.parquet"
    pq.write_table(pa.table(columns), file)
    command("table", "add", CONTEXT, "zero", file, "--data", centre.data)
    for kind in ("bigint", "numeric(20)"):
        centre.run(
            "DROP TABLE IF EXISTS own.zero",
            f"CREATE TABLE own.zero (specobjid {kind}, serial int PRIMARY KEY)",
            "INSERT INTO own.zero VALUES (0, 1), (7, 2), (0, 3), (8, 4), (NULL, 5)",
        )
        centre.attach("nulls", "own.zero", "--replace")
        assert centre.counts("zero") == (4, 2)
        assert centre.counts("nulls") == (5, 2)


# -- values ---------------------------------------------------------------------------------------


def test_times_do_not_depend_on_settings_of_the_database(centre: Centre, database: str) -> None:
    centre.run(
        "CREATE SCHEMA own",
        "CREATE TABLE own.times (specobjid bigint, at timestamptz, day date, wall timestamp)",
        "INSERT INTO own.times VALUES"
        " (1, '2026-01-02 03:04:05.5+00', '2026-01-02', '2026-01-02 03:04:05')",
        url=database,
    )
    centre.attach("times", "own.times", "--replace", url=database)
    for field, text in (
        ("at", "2026-01-02 03:04:05.5+00"),
        ("day", "2026-01-02"),
        ("wall", "2026-01-02 03:04:05"),
    ):
        assert centre.ask("times", field) == [text]
        assert centre.ask("times", "specobjid", f"{field} = '{text}'") == [1]
        assert centre.ask("times", "specobjid", f"{field} > '2026-01-02 03:04:06'") == []


def test_letters_of_a_database_in_another_encoding(centre: Centre, database: str) -> None:
    centre.run(
        "CREATE SCHEMA own",
        "CREATE TABLE own.letters (specobjid bigint, kind text)",
        "INSERT INTO own.letters VALUES (1, 'Ére'), (2, '\u00a0late '), (3, 'early')",
        url=database,
    )
    centre.attach("letters", "own.letters", "--replace", url=database)
    for constraint, found in (
        ("lower(kind) = 'ére'", [1]),
        ("upper(kind) = 'ÉRE'", [1]),
        ("kind ilike 'éR%'", [1]),
        ("kind ilike 'EARLY'", [3]),
        ("trim(kind) = 'late'", [2]),
        ("kind = 'Ére'", [1]),
    ):
        assert centre.ask("letters", "specobjid", constraint) == found, constraint
    with pytest.raises(BadConstraint, match="encoding"):
        centre.ask("letters", "specobjid", "kind = 'Ω'")


def test_text_means_the_same_as_in_the_data_folder(centre: Centre) -> None:
    spaces = " \u00a0\u1680\u2000\u2001\u2009\u200a\u202f\u205f\u3000"
    others = "\t\n\u200b\u2028\u0085\ufeff"
    texts = ["abc", "ABC", "aBc", *(f"{blank}abc{blank}" for blank in spaces + others)]
    columns = {"specobjid": list(range(1, len(texts) + 1)), "name": texts}
    trimmed = [duckdb.execute("SELECT trim(?)", [text]).fetchall()[0][0] for text in texts]
    assert trimmed.count("abc") == 1 + len(spaces)
    centre.run(
        "CREATE COLLATION own.nocase"
        " (provider = icu, locale = 'und-u-ks-level2', deterministic = false)",
        "CREATE TABLE own.text (specobjid bigint, name text COLLATE own.nocase)",
        "CREATE TABLE own.plain (specobjid bigint, name text)",
    )
    with psycopg.connect(centre.url, autocommit=True) as connection:
        for table in ("text", "plain"):
            connection.cursor().executemany(
                f"INSERT INTO own.{table} VALUES (%s, %s)",
                list(zip(*columns.values(), strict=True)),
            )
    centre.attach("loose", "own.text")
    centre.attach("plain", "own.plain")
    for constraint, count in (
        ("name = 'abc'", 1),
        ("'abc' = name", 1),
        ("name in ('abc', 'x')", 1),
        ("name <> 'abc'", len(texts) - 1),
        ("not name = 'abc'", len(texts) - 1),
        ("name between 'abc' and 'abc'", 1),
        ("name like 'abc'", 1),
        ("name ilike 'abc'", 3),
        ("trim(name) = 'abc'", 1 + len(spaces)),
        ("name = 'abc' and specobjid > 0", 1),
    ):
        for name in ("loose", "plain"):
            assert len(centre.ask(name, "specobjid", constraint)) == count, (name, constraint)


def test_numbers_that_become_too_large_are_told(centre: Centre) -> None:
    centre.run(
        "CREATE TABLE own.large (specobjid bigint, z float8)",
        "INSERT INTO own.large VALUES (1, 1), (2, 1e300), (3, 1e-300)",
    )
    centre.attach("large", "own.large")
    for constraint in (
        "z * 1e308 * 10 > 1", "z * z < 1", "z / 1e300 > 1", "degrees(z * 1e7) > 1",
        "round(z * 1e7, 5) > 1", "z + 1e308 * z > 1",
    ):  # fmt: skip
        with pytest.raises(BadConstraint, match=r"too small .* \(value out of range: (over|under)"):
            centre.ask("large", "specobjid", constraint)
    assert centre.ask("large", "specobjid", "power(z * 1e7, 2) > 1") == [1, 2]
    assert centre.ask("large", "specobjid", "z > 0.5") == [1, 2]
