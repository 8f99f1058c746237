"""PostgreSQL with q3c as a reference: a cluster of its own, filled once, stopped at the end.

It keeps its usual settings but for memory and where it listens: a Unix socket, which is faster
than the loopback that ours is asked through.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.csv

from specserver.catalog.followed import open_database
from specserver.data.root import DataRoot
from specserver.surveys.sdss import SDSS

from .cache import Cache
from .data import CONTEXT
from .measure import NotRun
from .postgres_cluster import Cluster, NoPostgres, programs

_SETTINGS: Final = (
    "shared_buffers=512MB",
    "work_mem=64MB",
    "maintenance_work_mem=512MB",
    "max_wal_size=4GB",
)
_PREWARM: Final = """
SELECT pg_prewarm(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'specserver' AND c.relkind IN ('r', 'i') ORDER BY c.relkind = 'i'"""
_COPY_ROWS: Final = 200_000
_TABLE: Final = """
CREATE TABLE objects (
    specobjid bigint, ra double precision, dec double precision, z real, zerr real,
    class text, sn_median real, place integer
)"""
_INDEXES: Final = (
    "ALTER TABLE objects ADD PRIMARY KEY (specobjid)",
    "CREATE INDEX objects_q3c ON objects (q3c_ang2ipix(ra, dec))",
    "CLUSTER objects USING objects_q3c",
    "CREATE INDEX objects_z ON objects (z)",
    "VACUUM ANALYZE objects",
)


@dataclass(frozen=True, slots=True)
class Postgres:
    """A connection to the database that holds the catalogue."""

    connection: psycopg.Connection[tuple[Any, ...]]
    versions: dict[str, str]

    def rows(self, query: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return the rows of a query: prepared once, answered in PostgreSQL's binary form."""
        with self.connection.cursor(binary=True) as cursor:
            return cursor.execute(query, values, prepare=True).fetchall()


@contextmanager
def open_postgres(cache: Cache, name: str, table: pa.Table, digest: str) -> Iterator[Postgres]:
    """Start the cluster, filled with the rows of a table when it is new; stop it at the end.

    Parameters
    ----------
    digest : of the table
    """
    found = _programs(q3c=True)
    stamp = {"table": digest, "schema": [_TABLE, *_INDEXES], "programs": found.parent.name}

    def make(folder: Path) -> None:
        Cluster(found, folder).initialise()
        with _running(found, folder) as connection:
            _fill(connection, table)

    folder, _ = cache.part(name, stamp, make)
    with _running(found, folder) as connection:
        _warm(connection)
        yield Postgres(connection, _versions(connection))


@contextmanager
def open_catalogue(
    cache: Cache, name: str, data: DataRoot, stamp: Mapping[str, Any]
) -> Iterator[str]:
    """Start a cluster that holds the catalogue of a data folder; yield its URL; stop it at the end.

    Parameters
    ----------
    stamp : says what the catalogue was made from
    """
    found = _programs(q3c=False)
    folder_of = {"index": str(data.context(CONTEXT).index.versions()[-1]), **stamp}
    digest = {"programs": found.parent.name, **folder_of}

    def make(folder: Path) -> None:
        Cluster(found, folder).initialise()
        with Cluster(found, folder, _SETTINGS) as cluster:
            database = open_database(cluster.url)
            database.sync(data.context(CONTEXT), SDSS)
            database.close()
            with psycopg.connect(cluster.url, autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")

    folder, _ = cache.part(name, digest, make)
    with Cluster(found, folder, _SETTINGS) as cluster:
        with psycopg.connect(cluster.url, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
            connection.execute(_PREWARM)
        yield cluster.url


def _programs(*, q3c: bool) -> Path:
    """Return the folder of the server; raise `NotRun` if there is none."""
    try:
        return programs(q3c=q3c)
    except NoPostgres as error:
        raise NotRun(str(error)) from error


@contextmanager
def _running(found: Path, folder: Path) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Run a cluster, and lend a connection to it."""
    try:
        with (
            Cluster(found, folder, _SETTINGS) as cluster,
            psycopg.connect(cluster.url, autocommit=True) as connection,
        ):
            yield connection
    except NoPostgres as error:
        raise NotRun(str(error)) from error


def _fill(connection: psycopg.Connection[tuple[Any, ...]], table: pa.Table) -> None:
    """Copy the rows of a table, and index them."""
    at = table.schema.get_field_index("specobjid")
    signed = pa.chunked_array(
        [chunk.view(pa.int64()) for chunk in table.column(at).chunks], pa.int64()
    )
    rows = table.set_column(at, "specobjid", signed)
    with connection.cursor() as cursor:
        cursor.execute("CREATE EXTENSION q3c")
        cursor.execute(_TABLE)
        with cursor.copy("COPY objects FROM STDIN (FORMAT csv)") as copy:
            for batch in rows.to_batches(_COPY_ROWS):
                text = BytesIO()
                options = pyarrow.csv.WriteOptions(include_header=False)
                pyarrow.csv.write_csv(pa.table(batch), text, options)
                copy.write(text.getvalue())
        for statement in _INDEXES:
            sys.stderr.write(f"  {statement}\n")
            cursor.execute(statement)


def _warm(connection: psycopg.Connection[tuple[Any, ...]]) -> None:
    """Read the table and its indexes once, so that none of it comes from the disk."""
    connection.execute("CREATE EXTENSION IF NOT EXISTS pg_prewarm")
    for name in ("objects", "objects_pkey", "objects_q3c", "objects_z"):
        connection.execute("SELECT pg_prewarm(%s, 'read')", (name,))
    for name in ("objects_pkey", "objects_q3c", "objects_z"):
        connection.execute("SELECT pg_prewarm(%s)", (name,))


def _versions(connection: psycopg.Connection[tuple[Any, ...]]) -> dict[str, str]:
    """Return the versions of the server and of q3c."""
    row = connection.execute(
        "SELECT current_setting('server_version'),"
        " (SELECT extversion FROM pg_extension WHERE extname = 'q3c')"
    ).fetchone()
    number, q3c = row or ("", "")
    return {"postgresql": str(number).split()[0], "q3c": str(q3c)}
