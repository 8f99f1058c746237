"""Files that this process found damaged: for the log, ``/available`` and the metrics.

A file is listed until it changes: it is restored, made again or removed.
"""

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from .errors import DamagedFile

Identity: TypeAlias = tuple[int, int, int]
"""Inode, size and time of change, ns; in an object store a hash of the ETag is the first."""
ABSENT: Final[Identity] = (0, 0, 0)
_MOST: Final = 1000
"""Files remembered: a whole disk that fails must not fill the memory."""
_LOG = logging.getLogger("specserver")
_found: dict[str, tuple[Identity, str]] = {}
_lock = threading.Lock()


def identity(path: Path | str) -> Identity:
    """Return the identity of a file; `ABSENT` if it cannot be read."""
    try:
        status = os.stat(path)  # noqa: PTH116  # as good for a text
    except OSError:
        return ABSENT
    return identity_of(status)


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity of a file whose status is known, such as an open one."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def damaged(name: Path | str, reason: str, now: Identity | None = None) -> DamagedFile:
    """Return the error for a damaged file, to be raised; take note of the file.

    Parameters
    ----------
    name : its path, or its address in an object store
    now : its identity; None: it is a file of this machine
    """
    name = str(name)
    now = identity(name) if now is None else now
    with _lock:
        known = _found.get(name)
        if known is None or known[0] != now:
            if len(_found) >= _MOST:
                _found.pop(next(iter(_found)))
            _found[name] = now, reason
            _LOG.error("damaged: %s: %s", name, reason)
    return DamagedFile(name, reason)


def damaged_files(
    below: Path | str, look: Callable[[str], Identity] = identity
) -> list[tuple[str, str]]:
    """Return the damaged files below a folder that are still as they were found, and why.

    Parameters
    ----------
    below : path of the folder, or its address
    look : returns the identity of a file at present
    """
    with _lock:
        known = list(_found.items())
    top = f"{below}/"
    there = [(name, seen, reason) for name, (seen, reason) in known if name.startswith(top)]
    mended = [name for name, seen, _ in there if look(name) != seen]
    with _lock:
        for name in mended:
            _found.pop(name, None)
    return sorted((name, reason) for name, _, reason in there if name not in mended)
