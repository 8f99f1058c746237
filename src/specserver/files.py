"""Files that are there whole or not at all, and locks that end by themselves."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

OWNER_ONLY: Final = 0o600
EVERYONE_READS: Final = 0o644
DISK_ERRORS: Final = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
    | {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP}
)
"""Errors of a disk that is full, broken or read-only, or that has something else where a file or
folder should be: no fault of the program."""
# Linux can say whether bytes are in memory; elsewhere every read may wait for the disk.
_AT_ONCE: Final[int | None] = getattr(os, "RWF_NOWAIT", None)
_ADVICE: Final = {
    errno.EROFS: "; run this where the folder can be written to",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "; run this as a user who has the right to it"),
}
"""What to do about errors of the disk."""
_MOST_TRIES: Final = 100
"""Number of attempts to make the folder of a lock, which others may delete meanwhile."""
_NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of a file system without hard links."""


def read_into(
    descriptor: int, begin: int, buffers: Sequence["memoryview | bytearray"], *, at_once: bool
) -> int:
    """Read from a place of an open file into buffers; return how many bytes were read.

    Parameters
    ----------
    at_once : read only what is in memory: nothing where the system cannot tell
    """
    if not at_once:
        return os.preadv(descriptor, buffers, begin)
    if _AT_ONCE is None:
        return 0
    try:
        return os.preadv(descriptor, buffers, begin, _AT_ONCE)
    except OSError:
        return 0


def read_blocks(path: Path, nbytes: int) -> Iterator[memoryview]:
    """Yield the bytes of a file, ``nbytes`` at a time; each block is valid until the next one."""
    block = memoryview(bytearray(nbytes))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(block):
            yield block[:count]


def disk_error(error: OSError) -> str:
    """Return what the system says of an error, and what to do about it."""
    return f"{error.strerror or error}{_ADVICE.get(error.errno or 0, '')}"


def replace_file(
    path: Path, content: bytes | memoryview, *, mode: int = OWNER_ONLY, new: bool = False
) -> None:
    """Put a file in place: a reader, also after a power cut, sees the old one or the new one.

    In a folder that only its owner may enter, the file too is for its owner only.

    Parameters
    ----------
    new : raise `FileExistsError` where there is a file, instead of taking its place
    """
    if is_closed(path.parent):
        mode &= OWNER_ONLY
    draft = path.with_name(f"{path.name}.{uuid4().hex[:8]}.draft")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not new:
            draft.replace(path)
        elif not _linked(path, draft):
            _moved(path, draft)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)


def _linked(path: Path, draft: Path) -> bool:
    """Link a new file to its draft; return False on a file system without hard links."""
    try:
        path.hardlink_to(draft)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        return False
    return True


def _moved(path: Path, draft: Path) -> None:
    """Move a draft to a new file where files have no links: one of several writers succeeds."""
    with locked(path.with_name("lock")):
        if path.exists():
            raise FileExistsError(errno.EEXIST, "there is a file", str(path))
        draft.replace(path)


def sync(path: Path | str) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_closed(folder: Path) -> bool:
    """Return whether a folder gives nothing to the group and to others."""
    return not folder.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock; the system gives it back when the process ends, however it ends.

    Yields False at once if another holds the lock and ``wait`` is False. The folder is made if
    there is none. The holder may delete the file: those who wait for it make it again.
    """
    left = _MOST_TRIES
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, OWNER_ONLY)
        except (FileNotFoundError, FileExistsError):
            # Another process has deleted the folder meanwhile, or no folder can be made there.
            left -= 1
            if not left:
                raise
            continue
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            if _is_at(path, descriptor):
                yield True
                return
        finally:
            os.close(descriptor)


def _is_at(path: Path, descriptor: int) -> bool:
    """Return whether an open file still has its name."""
    mine = os.fstat(descriptor)
    try:
        now = path.stat()
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (mine.st_dev, mine.st_ino)
