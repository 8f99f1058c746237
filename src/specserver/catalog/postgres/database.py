"""Connections to a PostgreSQL database, and its errors as ours.

Answers come as Arrow through ADBC, which takes no longer than psycopg for a few rows (0.7 ms) and a
third of the time for 100,000; psycopg writes.
"""

import atexit
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from math import ceil
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import adbc_driver_postgresql.dbapi as adbc
import psycopg
import pyarrow as pa
from adbc_driver_postgresql import StatementOptions
from psycopg import conninfo
from sqlalchemy.exc import TimeoutError as NoneFree
from sqlalchemy.pool import QueuePool

from ...errors import (
    BadConstraint,
    BadParameter,
    CatalogError,
    DatabaseAway,
    Overloaded,
    QueryTimeout,
    SpecServerError,
)
from ..database_url import is_readable, is_url
from ..deadline import NEVER, Deadline
from .letters import Letters, blanks_in
from .names import checked_schema, quoted
from .parameters import Parameters
from .refusals import why_away

_LOG = logging.getLogger(__name__)
SCHEMA: Final = "specserver"
"""Name of the schema, unless another is given."""
_CONNECT_S: Final = 5
_CONNECTIONS: Final = 8
"""Connections that a process keeps, and as many more that it opens under load."""
_WAIT_S: Final = 10.0
"""Longest wait for one of them."""
_RETRY_S: Final = 5
"""Seconds after which a caller is told to come again. The Python client does so three times, which
is longer than a restart takes."""
_STEPS: Final = 64
"""A timeout is rounded up by one of so many steps: most queries find it set already."""
# Compiling a query takes longer than most answers. Times are read as text, which must not depend on
# the settings of a role, a database or a server.
_OPTIONS: Final = (
    "-c jit=off -c default_transaction_read_only=on -c client_encoding=UTF8"
    " -c statement_timeout=0 -c timezone=UTC -c datestyle=ISO,YMD"
)
# Answers of cursors are read to their end.
_WHOLE: Final = "-c cursor_tuple_fraction=1"
_USUAL: Final[Mapping[str, str | int]] = {
    "application_name": "specserver",
    # A machine that is gone is noticed within a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}
"""Parameters of connections that the URL does not name."""
_CANCELLED: Final = "57014"
_GONE: Final = ("08", "57P", "53", "40", "55P")
"""Classes of errors of a database that ends, begins or is full, and of one that cancels what is in
the way of its replication, or is locked; the rest is tried again later."""
_NO_LIMIT: Final = """
SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout',
    'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"""
"""Takes the limits away that a role may have: to write a large catalogue takes its time."""
_CHANGED: Final = frozenset({"42P01", "42703", "3F000"})
"""A table or column is not there: it was made anew, or it is not made yet."""
_BEYOND: Final = "22"
"""Class of errors of values."""
_OUT_OF_RANGE: Final = "22003"
_NO_LETTER: Final = "22P05"
_LETTERS: Final = """
SELECT pg_encoding_to_char(d.encoding)::text, c.collname::text
FROM pg_database d JOIN pg_collation c ON c.collencoding IN (-1, d.encoding)
WHERE d.datname = current_database()
    AND c.collname IN ('C.utf8', 'C.UTF-8', 'und-x-icu', 'default')
    AND (c.collprovider <> 'i' OR d.encoding NOT IN (0, 7))
ORDER BY c.collname = 'default', c.collname LIMIT 1"""
"""Encoding, and the collation that knows the case of all letters: "C" knows that of ASCII alone.

ICU may not be built in, and knows neither SQL_ASCII nor MULE_INTERNAL.
"""


class Database:
    """A database and its schema of catalogues; safe to share between threads.

    Parameters
    ----------
    url
        ``postgresql://user@host:port/database``; a password in it is never shown. Behind it
        ``?schema=NAME`` names a schema other than `SCHEMA`.

    Raises
    ------
    BadParameter
        The URL cannot be read.
    """

    def __init__(self, url: str) -> None:
        self._info, self.schema = _read_url(url)
        given = conninfo.conninfo_to_dict(self._info)
        host = given.get("host") or given.get("hostaddr") or "local socket"
        self.shown = f"{given.get('dbname') or given.get('user') or 'database'} on {host}"
        """What messages call it, without user and password."""
        self._lock = threading.Lock()
        self._pool = self._new_pool()
        self._is_away = False
        self._letters: Letters | None = None
        atexit.register(self.close)

    def arrow(
        self,
        query: str,
        values: Parameters | None = None,
        deadline: Deadline = NEVER,
        block: int = 0,
    ) -> pa.Table:
        """Return the answer of a query that changes nothing; tried once more if it is lost.

        Parameters
        ----------
        block
            Rows that are fetched at a time, with a cursor: the driver has an answer four times
            as large as its values are until all of it has come. 0: all, which takes 0.5 ms less.

        Raises
        ------
        DatabaseAway
            The database cannot be reached.
        QueryTimeout
            The deadline passed.
        CatalogError
            The database refused the query.
        """

        def read(cursor: Any) -> pa.Table:
            tables = list(_fetched(cursor, block, deadline))
            return pa.concat_tables(tables) if len(tables) > 1 else tables[0]

        return self._ask(read, query, values, deadline, block=block)

    def each(
        self,
        query: str,
        values: Parameters,
        deadline: Deadline,
        take: Callable[[pa.Table], None],
        block: int = 0,
    ) -> None:
        """Hand the answer of a query on, block by block; parameters and errors are of `arrow`.

        It is not tried again once a block was handed on.
        """

        def read(cursor: Any) -> None:
            for table in _fetched(cursor, block, deadline):
                taken.append(True)
                take(table)

        taken: list[bool] = []
        self._ask(read, query, values, deadline, again=lambda: not taken, block=block)

    def _ask(
        self,
        read: Callable[[Any], Any],
        query: str,
        values: Parameters | None,
        deadline: Deadline,
        again: Callable[[], bool] = lambda: True,
        block: int = 0,
    ) -> Any:
        deadline.check()
        asked = query, values, deadline, block
        pool = self._pool
        try:
            try:
                found = self._asked(pool, read, *asked)
            except DatabaseAway:
                if not again():
                    raise
                found = self._asked(self._instead_of(pool), read, *asked)
        except DatabaseAway as error:
            if not self._is_away:
                _LOG.error("%s is away: %s", self.shown, error.__cause__)
            self._is_away = True
            raise
        if self._is_away:
            _LOG.warning("%s is back", self.shown)
            self._is_away = False
        return found

    def _asked(
        self,
        pool: QueuePool,
        read: Callable[[Any], Any],
        query: str,
        values: Parameters | None,
        deadline: Deadline,
        block: int,
    ) -> Any:
        try:
            lent = pool.connect()
        except NoneFree as error:
            text = "other queries have all connections to the database of the catalogue"
            raise Overloaded(_RETRY_S, text) from error
        except Exception as error:
            raise self.away(error) from error
        try:
            connection: Any = lent.dbapi_connection
            with connection.cursor() as cursor:
                timeout_ms = _rounded_ms(deadline)
                if lent.info.get("timeout_ms", 0) != timeout_ms:
                    cursor.execute(f"SET statement_timeout = {timeout_ms:d}")
                    lent.info["timeout_ms"] = timeout_ms
                if block:
                    cursor.execute("BEGIN READ ONLY")
                    query = f"DECLARE found NO SCROLL CURSOR FOR {query}"
                cursor.execute(query, values.batch() if values else None)
                found = read(cursor)
                if block:
                    cursor.execute("COMMIT")
                    # It was set again for each block.
                    lent.info["timeout_ms"] = None
        except adbc.Error as error:
            lent.invalidate()
            raise self._translated(error, deadline) from error
        except BaseException:
            lent.invalidate()
            raise
        else:
            lent.close()
        deadline.check()
        return found

    def letters(self) -> Letters:
        """Return what the database knows of letters; errors are those of `arrow`."""
        if self._letters is None:
            found = self.arrow(_LETTERS)
            encoding, collation = (column[0].as_py() for column in found.columns)
            self._letters = Letters(quoted(collation), blanks_in(encoding))
        return self._letters

    def has_schema(self) -> bool:
        """Return whether the schema was made; errors are those of `arrow`."""
        values = Parameters()
        query = f"SELECT to_regclass({values.bind(quoted(self.schema, 'context'))}) IS NOT NULL"
        return bool(self.arrow(query, values).column(0)[0].as_py())

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        """Return a new connection that may write; errors are those of `arrow`."""
        try:
            connection = psycopg.connect(self._info, connect_timeout=_CONNECT_S, autocommit=True)
            connection.execute(_NO_LIMIT)
            connection.autocommit = False
        except psycopg.Error as error:
            raise self.away() from error
        return connection

    @contextmanager
    def writing(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Yield a connection with one transaction, which is committed at the end.

        Errors are those of `arrow`.
        """
        with self.translated(), self.connect() as connection:
            connection.execute("SET LOCAL client_min_messages = warning")
            yield connection

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Raise errors of the database as those of `arrow`."""
        try:
            yield
        except psycopg.Error as error:
            raise self._translated(error, NEVER) from error

    def away(self, error: Exception | None = None) -> DatabaseAway:
        """Return the error of a database that cannot be reached, or lets nobody in."""
        return DatabaseAway(_RETRY_S, f"the database of the catalogue {why_away(error)}")

    def close(self) -> None:
        """Close all connections that are not in use."""
        atexit.unregister(self.close)
        self._pool.dispose()

    def _new_pool(self) -> QueuePool:
        given = conninfo.conninfo_to_dict(self._info).get("options") or ""
        options = f"{given} {_OPTIONS} {_WHOLE}".strip()
        info = conninfo.make_conninfo(self._info, options=options, connect_timeout=_CONNECT_S)
        return QueuePool(
            lambda: adbc.connect(info, autocommit=True),
            pool_size=_CONNECTIONS,
            max_overflow=_CONNECTIONS,
            timeout=_WAIT_S,
            reset_on_return=None,
            use_lifo=True,
        )

    def _instead_of(self, broken: QueuePool) -> QueuePool:
        """Return a pool of new connections: those that were open at a restart are all broken.

        Others may have made it meanwhile.
        """
        with self._lock:
            if self._pool is broken:
                with suppress(adbc.Error):
                    broken.dispose()
                self._pool = broken.recreate()
            return self._pool

    def _translated(self, error: adbc.Error | psycopg.Error, deadline: Deadline) -> SpecServerError:
        """Return an error of the database as one of ours."""
        state = error.sqlstate or ""
        if state == _CANCELLED and deadline.given_s is not None:
            return QueryTimeout(deadline.given_s)
        text = str(error).strip().partition("\n")[0]
        if state == _OUT_OF_RANGE:
            what = text.rpartition("ERROR:")[2].strip()
            return BadConstraint.saying(
                "a number in the condition is too large or too small for a double in some row"
                f" ({what}): PostgreSQL refuses what would be infinite or 0; write the condition"
                " with numbers of usual size"
            )
        if state == _NO_LETTER:
            return BadConstraint.saying(
                "text in the condition has letters that the database lacks: its encoding is not"
                " UTF-8"
            )
        if state.startswith(_BEYOND):
            return CatalogError(f"a value is beyond what the database can compute with: {text}")
        if not state or state.startswith(_GONE) or state in _CHANGED:
            return self.away(error)
        return CatalogError(f"the database of the catalogue refused a query ({state}): {text}")


def _fetched(cursor: Any, block: int, deadline: Deadline) -> Iterator[pa.Table]:
    """Yield the answer of the query that was executed, or in blocks that of its cursor."""
    if not block:
        yield cursor.fetch_arrow_table()
        return
    # FETCH is no query that COPY could take.
    cursor.adbc_statement.set_options(**{StatementOptions.USE_COPY.value: "false"})
    timeout_ms = _rounded_ms(deadline)
    while True:
        deadline.check()
        # A limit is that of one statement, and each block is one.
        if timeout_ms != (left_ms := _rounded_ms(deadline)):
            cursor.execute(f"SET statement_timeout = {left_ms:d}")
            timeout_ms = left_ms
        cursor.execute(f"FETCH {block:d} FROM found")
        table = cursor.fetch_arrow_table()
        yield table
        if len(table) < block:
            return


def _read_url(url: str) -> tuple[str, str]:
    """Return a URL as the driver takes it, and the schema that it names."""
    base, _, query = (url if is_url(url) and is_readable(url) else "").partition("?")
    try:
        said = parse_qsl(query, strict_parsing=bool(query))
        rest = urlencode([(name, value) for name, value in said if name != "schema"])
        # Without a URL there is no such option, which raises.
        given = conninfo.conninfo_to_dict(f"{base or 'no'}?{rest}")
        info = conninfo.make_conninfo("", **{**_USUAL, **given, "client_encoding": "UTF8"})
    except (psycopg.Error, ValueError):
        # Its message would repeat the URL, and a password in it.
        text = "the URL of the database cannot be read: it reads postgresql://user@host:5432/name"
        signs = "special signs in its parts are written by percent: / as %2F, @ as %40, : as %3A"
        raise BadParameter.saying(f"{text}; {signs}") from None
    return info, checked_schema(dict(said).get("schema") or SCHEMA)


def _rounded_ms(deadline: Deadline) -> int:
    """Return the time that is left, rounded up; 0: no limit."""
    left_s = deadline.left_s
    if left_s is None:
        return 0
    left_ms = max(1, ceil(left_s * 1000))
    step = max(1, (1 << left_ms.bit_length()) // _STEPS)
    return -(-left_ms // step) * step
