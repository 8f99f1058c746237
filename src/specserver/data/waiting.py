"""Work that must not wait, as on an event loop: it uses what is known to be in memory.

A slow disk, or a lock that another thread holds, would delay all other requests of a process.
Within `no_waiting`, what would wait raises `WouldWait`, and the caller does the work in a thread
instead. What a thread saw of an object a moment ago is taken as it was.

Pages of mapped files are an exception: no call says whether they are in memory.
"""

import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from math import inf
from time import monotonic
from typing import Any, Final, TypeVar

Seen = TypeVar("Seen")

FRESH_S: Final = 0.1
"""How long what was seen of an object is taken as it was, s."""
_MOST_SEEN: Final = 4_096
_must_not_wait: Final = ContextVar("must_not_wait", default=False)
_seen: Final[dict[Hashable, tuple[float, Any]]] = {}
"""Time of the last look at an object, and what was seen."""


class WouldWait(Exception):
    """The work would wait for a disk or a lock."""


@contextmanager
def no_waiting() -> Iterator[None]:
    """Raise `WouldWait` where work within would wait."""
    token = _must_not_wait.set(True)
    try:
        yield
    finally:
        _must_not_wait.reset(token)


def may_wait() -> bool:
    """Return whether work may wait."""
    return not _must_not_wait.get()


def before_waiting() -> None:
    """Raise `WouldWait` within `no_waiting`."""
    if _must_not_wait.get():
        raise WouldWait


def look(key: Hashable, see: Callable[[], Seen], fresh_s: float = FRESH_S) -> Seen:
    """Return what ``see`` returns; within `no_waiting`, what it returned a moment ago.

    Parameters
    ----------
    fresh_s : how long ago that may be, s
    """
    if _must_not_wait.get():
        at, seen = _seen.get(key, (-inf, None))
        if monotonic() - at > fresh_s:
            raise WouldWait
        return seen  # type: ignore[no-any-return]  # it was seen by the same function
    at, found = monotonic(), see()
    if len(_seen) >= _MOST_SEEN:
        _seen.clear()
    _seen[key] = at, found
    return found


@contextmanager
def holding(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock; raise `WouldWait` within `no_waiting` if another thread holds it."""
    if not lock.acquire(blocking=may_wait()):
        raise WouldWait
    try:
        yield
    finally:
        lock.release()
