"""The one database of a process for a data folder: DuckDB, in memory, with one bound for all.

Each generation of an index that is in use is attached to it, read-only, and detached when no
catalogue uses it any longer. The database opens no file outside of the data folder; within it only
statements of this module name files.
"""

import threading
import weakref
from collections import Counter, deque
from contextlib import suppress
from hashlib import blake2s
from pathlib import Path
from typing import Final

import duckdb

from ...data.handles import Entry

_bounds: dict[str, int] = {}
_LOST: Final = (duckdb.FatalException, duckdb.InternalException)
"""After these errors a database answers nothing more."""


def bound_databases(memory_bytes: int, threads: int) -> None:
    """Set the memory and threads of each database that this process opens from now on."""
    _bounds.update(memory_bytes=memory_bytes, threads=threads)


class Database:
    """One DuckDB instance, for the files below a folder."""

    def __init__(self, folder: Path) -> None:
        self.bounds = dict(_bounds)
        # A query that needs more memory is refused; no temporary files are written.
        config: dict[str, str | bool | int | float | list[str]] = {"temp_directory": ""}
        if self.bounds:
            config["memory_limit"] = f"{max(1, self.bounds['memory_bytes'] // 2**20)}MiB"
            config["threads"] = self.bounds["threads"]
        self.connection = duckdb.connect(config=config)
        self.connection.execute("SET allowed_directories = [?]", [str(folder)])
        self.connection.execute("SET enable_external_access = false")
        self.connection.execute("SET lock_configuration = true")
        self.is_lost = False
        self._lock = threading.Lock()
        self._users: Counter[Path] = Counter()
        self._left: deque[Path] = deque()

    def attach(self, file: Path) -> None:
        """Attach a file for one more user; raise `duckdb.Error` when that fails."""
        with self._lock:
            if not self._users[file]:
                quoted = str(file).replace("'", "''")
                with self.connection.cursor() as cursor:
                    cursor.execute(f"ATTACH '{quoted}' AS {_name(file)} (READ_ONLY)")
            self._users[file] += 1
        self._detach_left()

    def leave(self, file: Path) -> None:
        """End one use of an attached file; after the last one the file is detached.

        The garbage collector may call this while this thread holds the lock. Then the holder of the
        lock detaches the file.
        """
        self._left.append(file)
        self._detach_left()

    def _detach_left(self) -> None:
        while self._left and self._lock.acquire(blocking=False):
            try:
                self._detach(self._left.popleft())
            finally:
                self._lock.release()

    def _detach(self, file: Path) -> None:
        self._users[file] -= 1
        if self._users[file]:
            return
        del self._users[file]
        # A file that running statements read stays open until they end.
        with suppress(duckdb.Error), self.connection.cursor() as cursor:
            cursor.execute(f"DETACH {_name(file)}")


class Attached:
    """A file that is attached to a database while this object lives; threads may share it."""

    def __init__(self, file: Entry) -> None:
        folder, self._file = file.resolved()
        # A context that is a link to another disk has a database of its own.
        inside = self._file.is_relative_to(folder)
        self._folder = folder if inside else self._file.parent.parent
        self.objects = f"{_name(self._file)}.objects"
        """The file's table of all rows, as statements name it."""
        self._lock = threading.Lock()
        self._hold()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Return a connection of its own for one question; raise `duckdb.Error` for none."""
        if self._database.is_lost:
            with self._lock:
                if self._database.is_lost:
                    self._leave()
                    self._hold()
        return self._database.connection.cursor()

    def failed(self, error: duckdb.Error) -> None:
        """Record an error; if it ended the database, the next question opens another."""
        if isinstance(error, _LOST):
            self._database.is_lost = True

    @property
    def memory_bytes(self) -> int | None:
        """Bytes of memory that all questions together may take; None: DuckDB's own limit."""
        return self._database.bounds.get("memory_bytes")

    def close(self) -> None:
        """End the use of the file; running questions are still answered."""
        self._leave()

    def _hold(self) -> None:
        self._database = _database_of(self._folder)
        self._database.attach(self._file)
        self._leave = weakref.finalize(self, self._database.leave, self._file)
        # At the end of the process nothing needs to be detached.
        self._leave.atexit = False


_known: weakref.WeakValueDictionary[Path, Database] = weakref.WeakValueDictionary()
_known_lock = threading.Lock()


def _database_of(folder: Path) -> Database:
    """Return the database of a folder; a new one if the known one is lost or has other bounds."""
    with _known_lock:
        known = _known.get(folder)
        if known is None or known.is_lost or known.bounds != _bounds:
            known = _known[folder] = Database(folder)
        return known


def _name(file: Path) -> str:
    """Return what statements call an attached file: the same in each database."""
    return f"generation_{blake2s(str(file).encode(), digest_size=12).hexdigest()}"
