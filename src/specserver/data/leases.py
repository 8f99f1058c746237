"""Leases: a writer holds one while it is at work, and unfinished folders carry its name.

::

    leases/<lease>      JSON: host, process and time of begin; its time of change is renewed
    leases/lock         held while leases are made and ended

A lease is over when its file is gone. Another writer deletes the file when the lease was not
renewed for a quarter of an hour, or when its process was on the same host and has ended. Only then
may it delete unfinished folders with the name of the lease. So a writer that was suspended must
commit nothing more: it asks `Lease.require` before each commit.
"""

import json
import os
import platform
import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from ..damage import ABSENT
from ..errors import IngestError, Unavailable
from .handles import Entry, Folder, NamedEntry

_RENEW_S: Final = 60.0
"""Time between two renewals."""
_OVER_S: Final = 900.0
"""A lease without renewal for so long is over: the host was lost or suspended."""
_NAME: Final = re.compile("[0-9a-f]{8}")
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Lease:
    """A writer at work. It can be sent to other processes, which then write for it."""

    entry: Entry

    @property
    def name(self) -> str:
        """Its name, eight hexadecimal digits; the name of an unfinished folder contains it."""
        return self.entry.name

    def require(self) -> None:
        """Raise `IngestError` if another writer has ended this lease."""
        if not self.entry.exists():
            raise IngestError(
                f"another writer has ended the lease {self.entry}: this process did not renew it"
                " for a quarter of an hour. What is committed is safe; run the same command again"
            )


class LeaseFolder(Folder):
    """The leases of a context."""

    __slots__ = ()

    lock = NamedEntry("lock")

    @contextmanager
    def hold(self) -> Iterator[Lease]:
        """Hold a new lease, which a thread renews; it is over at the end."""
        entry, process, done = self.entry(uuid4().hex[:8]), os.getpid(), threading.Event()
        about = {"host": _host(), "process": process, "begun": datetime.now(UTC).isoformat()}
        with ExitStack() as held:
            with self.lock.lock():
                entry.replace(json.dumps(about).encode())
                held.enter_context(entry.lock())
            thread = threading.Thread(target=_renew, args=(entry, done), daemon=True, name="lease")
            thread.start()
            try:
                yield Lease(entry)
            finally:
                # A forked process may come here too; the lease is its parent's.
                if os.getpid() == process:
                    done.set()
                    thread.join()
                    entry.delete()

    def are_held(self) -> bool:
        """Return whether a writer is at work, by the clock of this host."""
        return any(not _is_over(self.entry(name), time.time_ns()) for name in self._names())

    @contextmanager
    def others(self, own: Lease) -> Iterator[set[str]]:
        """Delete the leases that are over, and yield the names of the other writers at work.

        Until the end no further writer begins.
        """
        with self.lock.lock():
            # Leases are made under the lock, so that these are of killed processes.
            self.delete_drafts()
            own.entry.touch()
            now_ns = own.entry.stamp()[2]
            found = set()
            for name in self._names() - {own.name}:
                if _is_over(self.entry(name), now_ns):
                    self.entry(name).delete()
                else:
                    found.add(name)
            yield found

    def is_known(self, name: str) -> bool:
        """Return whether there is a lease of a name: its writer is at work, or was just killed.

        A list of the leases that an object store returns may lack a new one. So who deletes what a
        writer has left asks for its lease by name, after `others`.
        """
        return bool(_NAME.fullmatch(name)) and self.entry(name).exists()

    def _names(self) -> set[str]:
        """Return the names of all leases; what else is there is not of this program."""
        return {name for name in self.children() if _NAME.fullmatch(name)}


def _renew(entry: Entry, done: threading.Event) -> None:
    """Renew a lease until it is done, or another writer has ended it."""
    while not done.wait(_RENEW_S):
        try:
            entry.touch()
        except FileNotFoundError:
            return
        except (OSError, Unavailable):
            continue  # the storage may answer again before the lease is over


def _is_over(entry: Entry, now_ns: int) -> bool:
    """Return whether a lease is over at a time of the storage.

    Who deletes it then calls this under the lock, so that no writer is about to take it.
    """
    stamp = entry.stamp()
    if stamp == ABSENT or now_ns - stamp[2] > _OVER_S * 1e9:
        return True
    about: dict[str, Any] = {}
    with suppress(OSError, ValueError):
        about = json.loads(entry.read())
    if about.get("host") != _host():
        return False
    try:
        with entry.lock(wait=False) as free:
            return free
    except OSError:
        return False  # of another user


@cache
def _host() -> str:
    """Return a name of the running system, within which locks of files hold."""
    with suppress(OSError):
        return _BOOT.read_text("ascii").strip()
    return platform.node()
