"""Connections to PostgreSQL: how many there are, and how long a query keeps one."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg
import pytest
from benchmarks.postgres_cluster import Cluster

from specserver.catalog.deadline import Deadline
from specserver.catalog.postgres import database as database_module
from specserver.catalog.postgres.database import Database
from specserver.errors import DatabaseAway, Overloaded, QueryTimeout
from test_postgres import until

NAME = "connections"
_ASLEEP = """
SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND wait_event = 'PgSleep'"""


@pytest.fixture
def database(postgres: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    """A database to which there are two connections at most."""
    monkeypatch.setattr(database_module, "_CONNECTIONS", 1)
    monkeypatch.setattr(database_module, "_WAIT_S", 0.2)
    with closing(Database(f"{postgres.url}&application_name={NAME}")) as found:
        yield found


@pytest.fixture
def pids(postgres: Cluster) -> Iterator[Callable[[], list[int]]]:
    """Return the processes that serve it."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        query = "SELECT pid FROM pg_stat_activity WHERE application_name = %s ORDER BY pid"
        yield lambda: [pid for (pid,) in connection.execute(query, (NAME,))]


@pytest.mark.proof
def test_there_are_no_more_connections_than_are_allowed(
    database: Database, postgres: Cluster, pids: Callable[[], list[int]]
) -> None:
    with ThreadPoolExecutor(2) as pool, psycopg.connect(postgres.url, autocommit=True) as other:
        waiting = [pool.submit(database.arrow, "SELECT pg_sleep(2)::text") for _ in range(2)]
        # The driver opens a connection of a moment before each of its own.
        until(lambda: other.execute(_ASLEEP, (NAME,)).fetchone(), lambda found: found == (2,))
        before = pids()
        with pytest.raises(Overloaded, match="other queries have all connections") as refused:
            database.arrow("SELECT 1")
        assert not isinstance(refused.value, DatabaseAway)
        assert pids() == before
        for answer in waiting:
            answer.result()
    assert database.arrow("SELECT 1").num_rows == 1
    assert set(pids()) <= set(before)


def test_queries_that_break_together_make_connections_once(
    database: Database, postgres: Cluster, pids: Callable[[], list[int]]
) -> None:
    with ThreadPoolExecutor(2) as pool, psycopg.connect(postgres.url, autocommit=True) as other:
        # What is asked once more would sleep again.
        query = "SELECT pg_sleep(60)::text WHERE NOT pg_try_advisory_lock_shared(4711)"
        with closing(psycopg.connect(postgres.url)) as locking:
            locking.execute("SELECT pg_advisory_lock(4711)")
            waiting = [pool.submit(database.arrow, query) for _ in range(2)]
            until(lambda: other.execute(_ASLEEP, (NAME,)).fetchone(), lambda found: found == (2,))
        for pid in pids():
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        assert [answer.result().num_rows for answer in waiting] == [0, 0]
    assert len(pids()) <= 2


@pytest.mark.proof
def test_a_deadline_ends_the_block_that_it_finds(
    database: Database, pids: Callable[[], list[int]]
) -> None:
    began = time.monotonic()
    query = "SELECT n, pg_sleep(0.02)::text FROM generate_series(1, 1000) AS n"
    with pytest.raises(QueryTimeout):
        # The second block of 2 s begins before the deadline.
        database.arrow(query, None, Deadline.after(2.5), block=100)
    assert time.monotonic() - began < 3.5
    until(pids, lambda found: not found)
    # Nor does the limit of a query stay for the next one.
    assert database.arrow("SELECT 1", None, Deadline.after(0.5), block=1).num_rows == 1
    assert database.arrow("SELECT pg_sleep(0.8)::text").num_rows == 1
