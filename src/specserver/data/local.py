"""A data folder on a disk of this machine, or on one that it mounts."""

import glob
import os
import shutil
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from errno import ELOOP, ENOENT, ENOTDIR
from pathlib import Path
from typing import Final

from ..damage import ABSENT, Identity, identity_of
from ..digests import BLOCK, digest_of_blocks
from ..errors import StoreError
from ..files import (
    EVERYONE_READS,
    OWNER_ONLY,
    is_closed,
    locked,
    read_blocks,
    read_into,
    replace_file,
    sync,
)
from .backend import Buffers
from .user_storage import StorageLimits, UserStorage

_TRIES: Final = 100
"""Number of attempts to delete a folder in which other processes delete files meanwhile."""
_NOTHING_THERE: Final = frozenset({ENOENT, ENOTDIR, ELOOP})
"""Errors of a path that leads to nothing; the last is of a link to itself."""
_DRAFT: Final = f".{'[0-9a-f]' * 8}.draft"
"""Pattern of the end of a draft's name."""


class OpenFile:
    """A file, open for reading; safe to share between threads."""

    is_far = False

    def __init__(self, path: str) -> None:
        self._handle = os.open(path, os.O_RDONLY)
        # The end of the process does not close it: a thread may still read from the descriptor,
        # and a descriptor that is closed may be given to another file.
        weakref.finalize(self, os.close, self._handle).atexit = False
        status = os.fstat(self._handle)
        self.state, self.nbytes = identity_of(status), status.st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of bytes; fewer where the file ends."""
        return os.pread(self._handle, size, offset)

    def read_into(self, begin: int, end: int, buffers: Buffers, *, at_once: bool) -> int:
        """Read a range of bytes into buffers; return how many there were."""
        del end
        return read_into(self._handle, begin, buffers, at_once=at_once)

    def will_need(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Begin to read ranges of bytes from the disk."""
        for begin, end in ranges:
            os.posix_fadvise(self._handle, begin, end - begin, os.POSIX_FADV_WILLNEED)

    def discard_copies(self) -> bool:
        """Return False: there are none."""
        return False


@dataclass(frozen=True, slots=True)
class LocalFolder:
    """A folder of files: `Backend` for a disk."""

    top: str
    """Path of the data folder, which need not be there yet."""

    @property
    def is_far(self) -> bool:
        """False: reading a file takes a disk's time."""
        return False

    def probe(self, *, writing: bool) -> None:
        """Raise `StoreError` if something else is where the folder should be."""
        path = Path(self.top)
        if path.is_dir() or (writing and not path.exists()):
            return
        what = "is no folder" if path.exists() else "there is no such data folder"
        raise StoreError(
            self.top,
            f"{what}; name another with --data or SPECSERVER_DATA, or fill it with"
            " 'specserver ingest'",
        )

    def name_of(self, key: str) -> str:
        """Return the path of a file."""
        return f"{self.top}/{key}" if key else self.top

    def _at(self, key: str) -> str:
        """Return the path of a file; no key leads out of the folder."""
        if ".." in key and ".." in key.split("/"):
            raise ValueError(f"{key!r} is no key")
        return self.name_of(key)

    def stamp(self, key: str) -> Identity:
        """Return what changes when a file changes."""
        try:
            return identity_of(os.stat(self._at(key)))  # noqa: PTH116  # every request asks
        except OSError as error:
            if error.errno in _NOTHING_THERE:
                return ABSENT
            raise

    def stamps(self, keys: Sequence[str]) -> list[Identity]:
        """Return the stamps of files."""
        return [self.stamp(key) for key in keys]

    recent_stamp = stamp_now = stamp

    def has_folder(self, prefix: str) -> bool:
        """Return whether there is a folder."""
        return Path(self._at(prefix)).is_dir()

    def children(self, prefix: str) -> list[str]:
        """Return the names directly below a folder; those of folders end in a slash."""
        try:
            with os.scandir(self._at(prefix)) as entries:
                return [f"{entry.name}/" if _is_folder(entry) else entry.name for entry in entries]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all files below a folder."""
        for name in self.children(prefix):
            key = f"{prefix}/{name}" if prefix else name
            if name.endswith("/"):
                yield from self.keys(key[:-1])
            else:
                yield key

    def read(self, key: str) -> bytes:
        """Return all bytes of a file."""
        return Path(self._at(key)).read_bytes()

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return all bytes of some files; None where there is none."""
        found: list[bytes | None] = []
        for key in keys:
            try:
                found.append(self.read(key))
            except FileNotFoundError:
                found.append(None)
        return found

    def blocks(self, key: str) -> Iterator[memoryview]:
        """Return the bytes of a file block by block."""
        return read_blocks(Path(self._at(key)), BLOCK)

    def digest(self, key: str) -> str:
        """Return the digest of a file."""
        return digest_of_blocks(self.blocks(key))

    def open(self, key: str) -> OpenFile:
        """Open a file."""
        return OpenFile(self._at(key))

    def will_open(self, keys: Iterable[str], tail: int) -> None:
        """Do nothing: opening a file takes no time."""

    def create(self, key: str, content: bytes | memoryview) -> None:
        """Write a file that is not there yet."""
        replace_file(self._path_in_folder(key), content, mode=EVERYONE_READS, new=True)

    def replace(self, key: str, content: bytes | memoryview, *, owner_only: bool = False) -> None:
        """Write a file in place of the one that is there."""
        mode = OWNER_ONLY if owner_only else EVERYONE_READS
        replace_file(self._path_in_folder(key), content, mode=mode)

    def touch(self, key: str) -> None:
        """Set the time of last change of a file to the present time of the file system."""
        # Without times the server of a network file system takes its own.
        os.utime(self._at(key))

    def delete(self, key: str) -> None:
        """Delete a file, or an empty folder."""
        path = Path(self._at(key))
        with suppress(FileNotFoundError):
            try:
                path.unlink()
            except IsADirectoryError:
                path.rmdir()

    def delete_tree(self, prefix: str, first: str = "") -> None:
        """Delete a folder and all that is in it, one of its files first; of a link, the link."""
        path = Path(self._at(prefix))
        with suppress(FileNotFoundError):
            if path.is_symlink():
                path.unlink()
                return
            if first:
                (path / first).unlink(missing_ok=True)
                sync(path)
        for _ in range(_TRIES):
            try:
                shutil.rmtree(path)
            except FileNotFoundError:
                # The folder is gone, or another process has just deleted a file in it.
                if path.exists():
                    continue
            return
        shutil.rmtree(path)

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold the lock of a file, which the system gives back when the process ends."""
        return locked(Path(self._at(key)), wait=wait)

    def local_path(self, key: str) -> Path:
        """Return the path of a file."""
        return Path(self._at(key))

    def new_path(self, key: str) -> Path:
        """Return the path of a file."""
        return Path(self._at(key))

    def discard_copies(self, key: str) -> bool:
        """Return False: there is none."""
        del key
        return False

    def is_link(self, prefix: str) -> bool:
        """Return whether a folder is a link."""
        return Path(self._at(prefix)).is_symlink()

    def user_storage(self, prefix: str, limits: StorageLimits) -> UserStorage:
        """Return the virtual storage of a user in a folder."""
        return UserStorage(Path(self._at(prefix)), limits)

    def make_folder(self, prefix: str) -> None:
        """Make a folder, and those above it."""
        _make(Path(self._at(prefix)))

    def allocate(self, key: str, head: bytes, nbytes: int) -> Path:
        """Make a file of some bytes and zeros, with its space on the disk reserved."""
        path = Path(self._at(key))
        with path.open("xb") as file:
            file.write(head)
            file.flush()
            if nbytes:
                os.posix_fallocate(file.fileno(), len(head), nbytes)
        return path

    def nfree(self, prefix: str) -> int:
        """Return the bytes that are free on the disk of a folder."""
        return shutil.disk_usage(self._at(prefix)).free

    def sync(self, prefix: str) -> None:
        """Flush a folder, all that is in it, and its place in the folder above, to the disk."""
        top = Path(self._at(prefix))
        for folder, _, files in os.walk(top):
            for name in files:
                sync(f"{folder}/{name}")
            sync(folder)
        sync(top.parent)

    def delete_drafts(self, key: str) -> None:
        """Delete the drafts of killed writers of a file, or of all files in a folder."""
        path = Path(self._at(key))
        below = path.rglob(f"*{_DRAFT}") if path.is_dir() else []
        for draft in (*path.parent.glob(f"{glob.escape(path.name)}{_DRAFT}"), *below):
            if not draft.is_dir():
                draft.unlink(missing_ok=True)

    def set_access(self, prefix: str, *, private: bool) -> None:
        """Let only the owner into a folder and all that it holds, or let everyone read it.

        Links are not followed.
        """
        folder_mode, file_mode = (0o700, OWNER_ONLY) if private else (0o755, EVERYONE_READS)
        top = Path(self._at(prefix))
        _make(top)
        # From the top: once the folder itself is closed, nothing below can be reached.
        top.chmod(folder_mode)
        for folder, folders, files in os.walk(top):
            for mode, names in ((folder_mode, folders), (file_mode, files)):
                for below in (Path(folder) / name for name in names):
                    # What another process removes meanwhile needs no mode.
                    with suppress(FileNotFoundError):
                        if not below.is_symlink():
                            below.chmod(mode)

    def inherit_access(self, prefix: str) -> None:
        """Let only the owner into a folder that lies in a folder closed to all others."""
        if is_closed(Path(self._at(prefix)).parent):
            self.set_access(prefix, private=True)

    def _path_in_folder(self, key: str) -> Path:
        """Return the path of a file that is to be written, its folder made."""
        path = Path(self._at(key))
        _make(path.parent)
        return path


def _make(folder: Path) -> None:
    """Make a folder, and those above it; raise `NotADirectoryError` where something else is."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        # For callers this error means that another writer was faster.
        raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR), str(folder)) from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether a name is of a folder, or of a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link that leads to itself, or to where this user may not look
