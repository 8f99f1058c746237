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
        self.copied_bytes = 0
        """All bytes ever read from copies. Each range is added without the lock, because the lock
        takes a tenth of the time of the read. Two threads that add at once may lose a range."""
        self._copied_taken = 0

    def add(self, *, answered: int = 0, failed: int = 0, fetched_bytes: int = 0) -> None:
        """Count."""
        with self._lock:
            self._counts.answered += answered
            self._counts.failed += failed
            self._counts.fetched_bytes += fetched_bytes

    def take(self) -> _Counts | None:
        """Return what was counted since this was called last; None: nothing."""
        with self._lock:
            taken, self._counts = self._counts, _Counts()
            copied = self.copied_bytes
            taken.copied_bytes, self._copied_taken = copied - self._copied_taken, copied
        return taken if taken != _Counts() else None


TRANSFERS: Final = Transfers()
