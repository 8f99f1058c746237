"""Indexes made again while the service answers: one at a time, in threads of their own."""

import atexit
import logging
import threading
from collections.abc import Callable
from typing import Final

from ..errors import Overloaded, SpecServerError

_LOG = logging.getLogger(__name__)
_RETRY_S: Final = 2
"""Seconds after which a caller is told to come again."""
_END_S: Final = 10
"""Seconds that a process which ends waits for the index that it is making."""


class IndexRenewal:
    """Makes indexes again, each once for a state of it; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._tried: dict[str, tuple[str, bool]] = {}
        """Index → the state in which it was to be made again, and whether that is still going on.
        """

    def begin(
        self, name: str, state: str, make: Callable[[], bool], *, needed: bool = False
    ) -> bool:
        """Make an index again soon; return False if that was tried for the same state and failed.

        Parameters
        ----------
        name : of the context or table
        state : text that changes when the index does
        make : makes it; returns False if another process has made it
        needed : no request can be answered without it
        """
        with self._lock:
            known = self._tried.get(name)
            if known is not None and known[0] == state:
                return known[1]
            self._tried[name] = state, True
        thread = threading.Thread(
            target=self._make, args=(name, state, make), kwargs={"needed": needed},
            daemon=True, name="index",
        )  # fmt: skip
        # The interpreter would end it within a call of the database, which aborts the process.
        atexit.register(thread.join, _END_S)
        thread.start()
        return True

    def give_up(self, name: str, state: str) -> None:
        """Let `begin` return False for a state of an index: its maker logs why it fails."""
        with self._lock:
            self._tried[name] = state, False

    def require(self, name: str, state: str, make: Callable[[], bool]) -> None:
        """Make an index again, which no request can be answered without, as `begin` does.

        Raises `Overloaded` until it is made; returns if it cannot be made.
        """
        if self.begin(name, state, make, needed=True):
            raise Overloaded(_RETRY_S, f"{name}: its index is being made again")

    def _make(self, name: str, state: str, make: Callable[[], bool], *, needed: bool) -> None:
        """Make an index again, when no other is being made."""
        try:
            with self._making:
                if make():
                    _LOG.warning("%s: its index was made again", name)
        except (SpecServerError, OSError) as error:
            level = logging.ERROR if needed else logging.WARNING
            _LOG.log(level, "%s: its index cannot be made again: %s", name, error)
        finally:
            with self._lock:
                self._tried[name] = state, False
            atexit.unregister(threading.current_thread().join)
