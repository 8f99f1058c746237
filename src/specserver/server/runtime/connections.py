"""All connections of a process: limits of their number and of the bytes of their bodies."""

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from ...errors import Overloaded
from ...processes import handle_limit
from ...settings import Settings
from .error_responses import RETRY_AFTER_S

_LOG = logging.getLogger("specserver")
# Handles that are left to files of the data folder (400 shards, and the indexes), and to 256
# connections that the kernel hands over before the first of them can be refused.
_KEPT_HANDLES: Final = 768
_FEWEST: Final = 16
_QUIET_S: Final = 10.0
FREE_BYTES: Final = 64 * 2**10
"""Bytes of each body that are not counted, so that light requests are received at any time.

The server buffers as many bytes of a body that is not being read.
"""


class Connection(Protocol):
    """A connection that may be ended in favour of another."""

    def end(self) -> None:
        """End it at once."""

    def stalled_s(self) -> float:
        """Return for how long the rest of a body has been waited for, s; 0: for none."""


class Connections:
    """The connections of one process.

    Parameters
    ----------
    count : called with the kind of each connection that the server ends, or that ends too early
    """

    def __init__(self, settings: Settings, count: Callable[[str], None] = lambda _: None) -> None:
        self.settings = settings
        self.most = max(_FEWEST, min(settings.max_connections, handle_limit() - _KEPT_HANDLES))
        self.patience_s = min(5.0, settings.body_stall_timeout_s)
        self._bytes_left = settings.body_memory_bytes
        self._count = count
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}
        self._told: dict[str, tuple[float, int]] = {}

    def admit(self, connection: Connection) -> bool:
        """Add a new connection; return whether there is room for it.

        Where there is none, the one that has been idle longest is ended, else the one whose body
        has stalled longest.
        """
        if len(self._open) >= self.most:
            given_up = next(iter(self._idle), None) or max(
                self._open, key=lambda other: other.stalled_s()
            )
            if given_up not in self._idle and given_up.stalled_s() < self.patience_s:
                self.tell("refused_connection", f"all {self.most} connections are busy")
                return False
            self.leave(given_up)
            given_up.end()
            self.tell("ended_for_another", f"{self.most} connections are open")
        self._open.add(connection)
        self._idle[connection] = None
        return True

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        self._idle.pop(connection, None)

    def busy(self, connection: Connection) -> None:
        """Mark a connection as busy."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Mark a connection as idle: all its requests are answered."""
        if connection in self._open:
            self._idle[connection] = None

    def tell(self, kind: str, reason: str) -> None:
        """Count a connection that was ended, and log it: one line of each kind in ten seconds."""
        self._count(kind)
        last, unsaid = self._told.get(kind, (-_QUIET_S, 0))
        now = time.monotonic()
        if now - last < _QUIET_S:
            self._told[kind] = (last, unsaid + 1)
            return
        self._told[kind] = (now, 0)
        more = f" ({unsaid} more since the last line)" if unsaid else ""
        _LOG.warning("%s: %s%s", kind.replace("_", " "), reason, more)

    def take(self, nbytes: int) -> None:
        """Take memory for a piece of a body; raise `Overloaded` if bodies hold all there is."""
        if nbytes > self._bytes_left:
            self.tell("body_memory", "bodies being received hold all of body_memory_bytes")
            raise Overloaded(RETRY_AFTER_S)
        self._bytes_left -= nbytes

    def give_back(self, nbytes: int) -> None:
        """Give memory back."""
        self._bytes_left += nbytes
