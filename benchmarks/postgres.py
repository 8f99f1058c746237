"""PostgreSQL with q3c as a reference: a cluster of its own, filled once, stopped at the end.

It keeps its usual settings but for memory and where it listens: a Unix socket, which is faster
than the loopback that ours is asked through.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Any, Final

import psycopg
import pyarrow as pa
import pyarrow.csv

from .cache import Cache
from .measure import NotRun

_MISSING: Final = "PostgreSQL + q3c missing (apt-get install postgresql-15-q3c)"
_USER: Final = "postgres"
_START_S: Final = 60.0
# The cluster ends when its standard input does: whoever held it is gone, however that came about.
_UNTIL_EOF: Final = '"$@" & cat > /dev/null; kill -INT $!; wait $!'
_SETTINGS: Final = (
    "listen_addresses=",
    "shared_buffers=512MB",
    "work_mem=64MB",
    "maintenance_work_mem=512MB",
    "max_wal_size=4GB",
)
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
    programs = _programs()
    stamp = {"table": digest, "schema": [_TABLE, *_INDEXES], "programs": programs.parent.name}

    def make(folder: Path) -> None:
        _initialise(programs, folder)
        with _running(programs, folder) as connection:
            _fill(connection, table)

    folder, _ = cache.part(name, stamp, make)
    with _running(programs, folder) as connection:
        _warm(connection)
        yield Postgres(connection, _versions(connection))


def _programs() -> Path:
    """Return the folder of the newest server that has q3c."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        number = folder.parent.name
        q3c = Path("/usr/share/postgresql") / number / "extension" / "q3c.control"
        if (folder / "initdb").exists() and q3c.exists():
            return folder
    raise NotRun(_MISSING)


def _as_user() -> dict[str, Any]:
    """Return what makes a child process run as a user whom PostgreSQL accepts: never root."""
    return {"user": _USER, "group": _USER} if os.geteuid() == 0 else {}


def _own(folder: Path) -> None:
    """Give a folder to that user."""
    if os.geteuid() == 0:
        shutil.chown(folder, _USER, _USER)
    folder.chmod(0o700)


def _initialise(programs: Path, folder: Path) -> None:
    """Make a new cluster."""
    _own(folder)
    command = [str(programs / "initdb"), "-D", str(folder), "-A", "trust", "-U", _USER]
    command += ["-E", "UTF8", "--locale=C"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd="/", check=False, **_as_user()
    )
    if done.returncode:
        raise NotRun(f"initdb failed: {done.stderr.strip().splitlines()[-1]}")


@contextmanager
def _running(programs: Path, folder: Path) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
    """Run a cluster, and lend a connection to it."""
    with ExitStack() as stack:
        sockets = stack.enter_context(TemporaryDirectory(prefix="specserver-bench-"))
        _own(Path(sockets))
        command = [str(programs / "postgres"), "-D", str(folder), "-k", sockets]
        command += [word for setting in _SETTINGS for word in ("-c", setting)]
        process = subprocess.Popen(
            ["sh", "-c", _UNTIL_EOF, "sh", *command],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            **_as_user(),
        )
        stack.callback(_stop, process)
        connection = stack.enter_context(_connected(process, sockets))
        connection.autocommit = True
        yield connection


def _connected(
    process: subprocess.Popen[bytes], sockets: str
) -> psycopg.Connection[tuple[Any, ...]]:
    """Return a connection, as soon as there is one."""
    deadline = monotonic() + _START_S
    while True:
        try:
            return psycopg.connect(host=sockets, user=_USER, dbname=_USER)
        except psycopg.OperationalError as error:
            if process.poll() is not None or monotonic() > deadline:
                raise NotRun(f"PostgreSQL did not start: {error}") from error
            sleep(0.1)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a cluster the fast way, which leaves it whole."""
    if process.stdin:
        process.stdin.close()
    process.wait(_START_S)


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
