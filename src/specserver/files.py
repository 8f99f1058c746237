"""Files that are there whole or not at all, and locks that end with their holder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

OWNER_ONLY: Final = 0o600
EVERYONE_READS: Final = 0o644


def replace_file(path: Path, content: bytes, *, mode: int = OWNER_ONLY) -> None:
    """Put a file in place: a reader, also after a power cut, sees the old one or the new one."""
    draft = path.with_name(f"{path.name}.{uuid4().hex[:8]}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock; the system gives it back when the process ends, however it ends.

    Yields False at once when the lock is taken and not to be awaited.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, OWNER_ONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)
