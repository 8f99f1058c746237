"""Exclusive locks in an object store, which has none of its own.

A lock is an object that one of several writers creates. Its holder writes it anew every few
seconds; who waits takes it over when it has not changed for a while by the waiter's own clock. So
no clocks are compared. Processes of one node exclude each other by a lock in the folder of the
node's cache: the system gives that back when a process ends, and the next one takes the object over
at once.

A holder that was suspended for longer than the lock lasts does not hold it any more, and does not
know. So locks save work, and nothing that must not be lost depends on them alone: what is committed
is committed by an object that only one writer can create.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final
from uuid import uuid4

from ...errors import StoreError, Unavailable
from . import requests
from .cache import NodeCache
from .client import Changed, Stores, state_of

OURS: Final = ".specserver/"
"""Prefix of objects that are no files: locks, trials. What is listed leaves them out; no name of a
user or of a context begins with a dot."""
_RENEW_S: Final = 10.0
LASTS_S: Final = 45.0
"""A lock that was not renewed for so long is over."""
_LOOK_S: Final = 0.25


class RemoteLock:
    """A lock; make one each time that it is taken.

    Parameters
    ----------
    key : of the object of the lock
    name : its address, for messages
    now : returns the present time of the storage, seconds since 1970
    """

    def __init__(
        self, stores: Stores, cache: NodeCache, key: str, name: str, now: Callable[[], float]
    ) -> None:
        self._stores, self._cache = stores, cache
        self._key, self._name, self._now = key, name, now
        self._owner = uuid4().hex
        self._state: Any = {}

    @contextmanager
    def held(self, *, wait: bool) -> Iterator[bool]:
        """Hold the lock; without waiting, yield False if another holds it."""
        with self._cache.local_lock(self._name, wait=wait) as mine:
            if not mine or not self._taken(wait=wait):
                yield False
                return
            done = threading.Event()
            thread = threading.Thread(target=self._renew, args=(done,), daemon=True, name="lock")
            thread.start()
            try:
                yield True
            finally:
                done.set()
                thread.join(requests.END_S)
                self._release()

    def _taken(self, *, wait: bool) -> bool:
        """Take the lock from nobody, or from one that has ended; return whether it is ours."""
        seen, since = None, time.monotonic()
        while True:
            found = self._look()
            if found is None:
                if self._write("create"):
                    return True
                continue
            state, owner, modified = found
            if state != seen:
                seen, since = state, time.monotonic()
            is_free = (
                "released" in owner
                # The lock of this node is ours, so its last holder has ended.
                or owner.get("node") == self._cache.node
                or time.monotonic() - since > LASTS_S
                or (not wait and self._now() - modified > LASTS_S)
            )
            if is_free and self._write(state):
                return True
            if not (wait or is_free):
                return False
            time.sleep(_LOOK_S)

    def _look(self) -> tuple[Any, dict[str, Any], float] | None:
        """Return state, owner and time of the lock; None: nobody holds it."""
        try:
            content, meta = requests.get(self._stores.quick, self._key, self._name)
        except FileNotFoundError:
            return None
        owner: dict[str, Any] = {}
        with suppress(ValueError):
            owner = json.loads(content)
        return state_of(meta), owner, meta["last_modified"].timestamp()

    def _write(self, mode: Any, state: str = "renewed", within_s: float | None = None) -> bool:
        """Write the object of the lock; return whether it could be written in this mode."""
        # Each time other bytes: the ETag must change, as it shows that the holder is alive.
        about = {"node": self._cache.node, "owner": self._owner, state: uuid4().hex}
        content = json.dumps(about).encode()
        try:
            made = requests.put(
                self._stores.quick, self._key, self._name, content, mode=mode, within_s=within_s
            )
        except (FileExistsError, Changed, FileNotFoundError):
            # It may be our own write, sent twice because its answer was lost.
            found = self._look()
            if found is None or found[1].get("owner") != self._owner:
                return False
            self._state = found[0]
            return True
        self._state = state_of(made)
        return True

    def _renew(self, done: threading.Event) -> None:
        """Renew the lock until it is released, or another holds it."""
        while not done.wait(_RENEW_S):
            with suppress(OSError, Unavailable):
                if not self._write(self._state):
                    return

    def _release(self) -> None:
        """Say that nobody holds the lock, if it is still ours."""
        # StoreError: the process is ending, or this is a destructor.
        with suppress(OSError, Unavailable, StoreError):
            self._write(self._state, "released", requests.END_S)
