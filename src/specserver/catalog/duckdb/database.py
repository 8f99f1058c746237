"""The one database of a process: DuckDB, in memory, with one bound for all queries.

It opens no file: each query is given the mapped tables that it reads.
"""

import threading
from dataclasses import dataclass
from typing import Final

import duckdb

_LOST: Final = (duckdb.FatalException, duckdb.InternalException)
"""After these errors a database answers nothing more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What all queries together may take; None: DuckDB's own limit."""

    memory_bytes: int | None = None
    threads: int | None = None


class _Database:
    """The database in use, and its bounds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.bounds = Bounds()
        self.connection: duckdb.DuckDBPyConnection | None = None


_THE: Final = _Database()


def bound_database(bounds: Bounds) -> None:
    """Set the memory and the threads that all queries may use from now on."""
    with _THE.lock:
        if bounds != _THE.bounds:
            _THE.bounds, _THE.connection = bounds, None


def memory_bytes() -> int | None:
    """Return the bytes of memory that all queries together may take; None: DuckDB's limit."""
    return _THE.bounds.memory_bytes


def cursor() -> duckdb.DuckDBPyConnection:
    """Return a connection of its own for one query; raise `duckdb.Error` for none."""
    with _THE.lock:
        if _THE.connection is None:
            _THE.connection = _connected(_THE.bounds)
        return _THE.connection.cursor()


def failed(error: duckdb.Error) -> None:
    """Take note of an error; if it ended the database, the next query opens another."""
    if isinstance(error, _LOST):
        with _THE.lock:
            _THE.connection = None


def _connected(bounds: Bounds) -> duckdb.DuckDBPyConnection:
    """Return a new database."""
    # A query that needs more memory is refused; no temporary files are written.
    config: dict[str, str | bool | int | float | list[str]] = {
        "temp_directory": "", "python_enable_replacements": False
    }  # fmt: skip
    if bounds.memory_bytes is not None:
        config["memory_limit"] = f"{max(1, bounds.memory_bytes // 2**20)}MiB"
    if bounds.threads is not None:
        config["threads"] = bounds.threads
    connection = duckdb.connect(config=config)
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection
