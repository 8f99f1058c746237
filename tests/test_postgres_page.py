"""The page on PostgreSQL: its commands run, and its tables are those of a real database."""

import os
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from benchmarks.postgres_cluster import Cluster

from pages import ROOT, demonstration, run_page
from serving import Served

PAGE = ROOT / "docs" / "how-to" / "postgres.md"
RELATIONS = ("context", "segment", "part", "field", "gone")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with demonstration(tmp_path_factory.mktemp("demo")) as served:
        yield served


@pytest.fixture(scope="module")
def database(postgres: Cluster) -> Iterator[str]:
    """The URL of a database with a table of its owner."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE page")
    url = postgres.url.replace("/postgres?", "/page?")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA vac")
        connection.execute(
            "CREATE TABLE vac.masses (specobjid bigint PRIMARY KEY, ra float8, dec float8,"
            " mass real)"
        )
    yield url
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE page WITH (FORCE)")


def described(url: str, relation: str, only: str = "") -> list[str]:
    """Return the lines of a table of the page: the columns of a table of the database."""
    query = """
        SELECT a.attname, format_type(a.atttypid, a.atttypmod), col_description(c.oid, a.attnum)
        FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'specserver'::regnamespace AND c.relname = %s
            AND a.attnum > 0 AND NOT a.attisdropped AND a.attname LIKE %s ORDER BY a.attnum"""
    with psycopg.connect(url) as connection:
        found = connection.execute(query, (relation, f"{only}%")).fetchall()
    return [f"| `{name}` | {form} | {meaning} |" for name, form, meaning in found]


def test_its_commands_run_and_its_tables_are_those_of_the_database(
    running: Served, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = PAGE.read_text("utf-8")
    monkeypatch.setenv("SPECSERVER_CATALOG", database)
    monkeypatch.setenv("OWN_DATABASE", database)
    assert run_page(PAGE, tmp_path / "page", running) == []
    told = text.splitlines()
    for relation in RELATIONS:
        lines = described(database, relation)
        assert len(lines) > 2
        assert [line for line in lines if line not in told] == [], relation
    rows = described(database, "sdss_dr17", r"\_")
    assert [line for line in rows if line not in told] == []
    with psycopg.connect(database) as connection:
        indexes = connection.execute(
            "SELECT indexname FROM pg_indexes WHERE schemaname = 'specserver'"
            " AND tablename = 'sdss_dr17'"
        ).fetchall()
        query = """
            SELECT count(*) FROM pg_attribute
            WHERE attrelid = ANY(%s::regclass[]) AND attnum > 0 AND NOT attisdropped
                AND coalesce(col_description(attrelid, attnum), '') = ''"""
        tables = [f"specserver.{name}" for name in (*RELATIONS, "sdss_dr17")]
        # Every column says what it is.
        assert connection.execute(query, (tables,)).fetchone() == (0,)
    assert {name for (name,) in indexes} == {
        line.split("`")[1] for line in told if line.startswith("| `sdss_dr17_")
    }
    assert "SPECSERVER_CATALOG" in os.environ
