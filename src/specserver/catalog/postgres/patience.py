"""A lock that keeps readers out, taken without holding them up.

A lock that waits for a query holds up all queries that come after it. So this one waits for a
moment only, lets those pass that have come meanwhile, and tries again.
"""

from time import monotonic, sleep
from typing import Final

from psycopg import errors, sql

from ...errors import Overloaded
from .schema import Connection

_MOMENT_MS: Final = 100
_PAUSE_S: Final = 0.3
_LONGEST_S: Final = 3600.0
"""Far above the longest time that a service lets a query take."""
_RETRY_S: Final = 60


def keep_out(connection: Connection, table: sql.Identifier) -> None:
    """Lock a table against all others until the transaction of a connection ends.

    Raises
    ------
    Overloaded
        For an hour there was no moment in which nobody read the table.
    psycopg.Error
        The database refuses it.
    """
    lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table)
    end_s = monotonic() + _LONGEST_S
    while True:
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {_MOMENT_MS:d}".encode())
                connection.execute(lock)
                connection.execute("SET LOCAL lock_timeout = 0")
        except errors.LockNotAvailable as error:
            if monotonic() > end_s:
                text = "queries of the catalogue's table have kept it from being changed"
                raise Overloaded(_RETRY_S, text) from error
            sleep(_PAUSE_S)
        else:
            return
