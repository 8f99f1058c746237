"""Files that this process found damaged: for the log, ``/available`` and the metrics.

A file is listed until it changes: it is restored, made again or removed.
"""

import logging
import os
import threading
from pathlib import Path
from typing import Final, TypeAlias

from .errors import DamagedFile

Identity: TypeAlias = tuple[int, int, int]
"""Inode, size and time of change: they change when the file does."""
ABSENT: Final[Identity] = (0, 0, 0)
_MOST: Final = 1000
"""Files remembered: a whole disk that fails must not fill the memory."""
_LOG = logging.getLogger("specserver")
_found: dict[Path, tuple[Identity, str]] = {}
_lock = threading.Lock()


def identity(path: Path) -> Identity:
    """Return the identity of a file; `ABSENT` if it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return ABSENT
    return identity_of(status)


def identity_of(status: os.stat_result) -> Identity:
    """Return the identity of a file whose status is known, such as an open one."""
    return status.st_ino, status.st_size, status.st_mtime_ns


def damaged(path: Path | str, reason: str) -> DamagedFile:
    """Return the error for a damaged file, to be raised; take note of the file."""
    path = Path(path)
    now = identity(path)
    with _lock:
        known = _found.get(path)
        if known is None or known[0] != now:
            if len(_found) >= _MOST:
                _found.pop(next(iter(_found)))
            _found[path] = now, reason
            _LOG.error("damaged: %s: %s", path, reason)
    return DamagedFile(str(path), reason)


def damaged_files(below: Path) -> list[tuple[Path, str]]:
    """Return the damaged files below a folder that are still as they were found, and why."""
    with _lock:
        known = list(_found.items())
    there = [(path, seen, reason) for path, (seen, reason) in known if path.is_relative_to(below)]
    mended = [path for path, seen, _ in there if identity(path) != seen]
    with _lock:
        for path in mended:
            _found.pop(path, None)
    return sorted((path, reason) for path, _, reason in there if path not in mended)
