"""What this process asked of object stores, and read from copies instead: for the metrics."""

import threading
from dataclasses import dataclass
from typing import Final


@dataclass
class _Counts:
    """Counts since they were taken last."""

    answered: int = 0
    """Requests that a store answered."""
    failed: int = 0
    """Requests that it did not answer, or refused."""
    fetched_bytes: int = 0
    copied_bytes: int = 0
    """Bytes read from copies on this node's disk."""


class Transfers:
    """The counts of this process; safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = _Counts()
        self._has_any = False

    def add(self, *, answered: int = 0, failed: int = 0, fetched_bytes: int = 0) -> None:
        """Count."""
        with self._lock:
            self._counts.answered += answered
            self._counts.failed += failed
            self._counts.fetched_bytes += fetched_bytes
            self._has_any = True

    def add_copied(self, nbytes: int) -> None:
        """Count bytes read from copies. It is called for each range, so it has to be fast."""
        with self._lock:
            self._counts.copied_bytes += nbytes
            self._has_any = True

    def take(self) -> _Counts | None:
        """Return what was counted since this was called last; None: nothing."""
        if not self._has_any:
            return None
        with self._lock:
            taken, self._counts, self._has_any = self._counts, _Counts(), False
        return taken


TRANSFERS: Final = Transfers()
