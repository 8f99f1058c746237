"""Virtual storage: a folder for each user, with a quota, that no name can leave.

::

    <data>/spaces/<user>/
        files/…     what the user sees
        drafts/     uploads on their way; each locked by the process that writes it
        usage       "bytes entries": kept under the lock, counted anew when missing or a day old
        lock

A file comes into sight when it is whole, by a rename. Every name is checked as text, and then
followed from folder to folder by descriptors that refuse links (openat with O_NOFOLLOW), so that
not even a link that someone puts there by other means leads out.
"""

import errno
import fcntl
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from uuid import uuid4

from ..damage import Identity, identity_of
from ..errors import BadParameter, NoSuchFile, QuotaExceeded, StoreError
from ..files import locked
from ..model.spacename import split_file_name, split_name

_USAGE: Final = re.compile(r"([0-9]+) ([0-9]+)\n")
# A power cut may lose the last count though not the file; such a difference lives a day.
_USAGE_AGE_S: Final = 86_400.0
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# A pipe someone put there must not hold the open until someone writes into it.
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class StorageLimits:
    """Limits of a space."""

    nbytes: int
    nentries: int
    """Files and folders."""
    file_nbytes: int


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file or folder in a space."""

    name: str
    is_folder: bool
    nbytes: int
    modified: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class StorageUsage:
    """Bytes and entries in a space."""

    nbytes: int
    nentries: int


def check_quota(used: StorageUsage, limits: StorageLimits, nbytes: int, nentries: int) -> None:
    """Raise `QuotaExceeded` if so many more bytes or files do not fit."""
    if used.nbytes + nbytes > limits.nbytes:
        raise QuotaExceeded("bytes", used.nbytes + nbytes, limits.nbytes)
    if used.nentries + nentries > limits.nentries:
        raise QuotaExceeded("files", used.nentries + nentries, limits.nentries)


class StorageDraft(Protocol):
    """An upload on its way; out of sight until `commit`."""

    def write(self, data: bytes) -> None:
        """Add bytes, at most as many as were stated."""

    def commit(self) -> tuple[StoredFile, str]:
        """Bring the file into sight, in place of one of its name; return it and its SHA-256."""

    def discard(self) -> None:
        """Delete the draft; without effect after `commit`."""


class Space(Protocol):
    """The space of one user; safe to share between threads and processes."""

    limits: StorageLimits

    def entries(self, name: str = "") -> list[StoredFile]:
        """Return what a folder holds, by name."""

    def open(self, name: str) -> tuple[BinaryIO, Identity]:
        """Open a file for reading; return it and its identity."""

    def draft(self, name: str, nbytes: int) -> StorageDraft:
        """Begin a file of a stated length; raise `QuotaExceeded` when there is no room for it."""

    def make_folder(self, name: str) -> None:
        """Make a folder and those above it; one that is there stays as it is."""

    def remove(self, name: str, *, recursive: bool = False) -> None:
        """Remove a file or a folder, one that is not empty only if ``recursive``."""

    def usage(self) -> StorageUsage:
        """Return how much the space holds."""


class Draft:
    """An upload on its way; out of sight until `commit`."""

    def __init__(
        self, space: "UserStorage", parts: tuple[str, ...], path: Path, nbytes: int
    ) -> None:
        self._space = space
        self._parts = parts
        self.path = path
        self._nbytes = nbytes
        self._sum = hashlib.sha256()
        self._done = 0
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._file = os.fdopen(descriptor, "wb")
        # Held while the process lives: a draft that can be locked is a dead one's.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The length counts for the quota at once; holes take no room on the disk.
        os.truncate(descriptor, nbytes)

    def write(self, data: bytes) -> None:
        """Add bytes, at most as many as were stated."""
        if self._done + len(data) > self._nbytes:
            raise BadParameter("body", f"{self._nbytes + 1} bytes", f"{self._nbytes} were stated")
        with _disk(self.path):
            self._file.write(data)
        self._sum.update(data)
        self._done += len(data)

    def commit(self) -> tuple[StoredFile, str]:
        """Bring the file into sight, in place of one of its name; return it and its SHA-256."""
        if self._done != self._nbytes:
            allowed = f"{self._nbytes} were stated: the file was cut off and is not kept"
            raise BadParameter("body", f"{self._done} bytes", allowed)
        with _disk(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._space.place(self.path, self._parts, self._nbytes)
            self._file.close()
        name = "/".join(self._parts)
        return StoredFile(name, False, self._nbytes, time.time()), self._sum.hexdigest()

    def discard(self) -> None:
        """Delete the draft; without effect after `commit`."""
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            self._file.close()


class UserStorage:
    """The space of one user; safe to share between threads and processes.

    Its folder, ``<data>/spaces/<user>``, is made when first written to.
    """

    def __init__(self, folder: Path, limits: StorageLimits) -> None:
        self.folder = folder
        self.limits = limits
        self._files = folder / "files"
        self._drafts = folder / "drafts"
        self._usage_file = folder / "usage"

    def entries(self, name: str = "") -> list[StoredFile]:
        """Return what a folder holds, by name; folders within end in no slash here."""
        parts = split_name(name)
        if not self._files.is_dir():
            if parts:
                raise NoSuchFile(name)
            return []
        with self._open_folder(parts) as folder, os.scandir(folder) as found:
            listed = sorted((entry.name, entry.stat(follow_symlinks=False)) for entry in found)
        return [
            StoredFile(child, stat.S_ISDIR(state.st_mode), _size(state), state.st_mtime)
            for child, state in listed
            if stat.S_ISDIR(state.st_mode) or stat.S_ISREG(state.st_mode)
        ]

    def open(self, name: str) -> tuple[BinaryIO, Identity]:
        """Open a file for reading; it stays whole though another takes its place meanwhile."""
        parts = split_file_name(name)
        if not self._files.is_dir():
            raise NoSuchFile(name)
        with self._open_folder(parts[:-1]) as folder, _named(name):
            descriptor = os.open(parts[-1], _FILE, dir_fd=folder)
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            os.close(descriptor)
            raise NoSuchFile(name)
        return os.fdopen(descriptor, "rb"), identity_of(state)

    def draft(self, name: str, nbytes: int) -> Draft:
        """Begin a file of a stated length; raise `QuotaExceeded` when there is no room for it."""
        parts = split_file_name(name)
        if nbytes > self.limits.file_nbytes:
            raise QuotaExceeded("bytes in one file", nbytes, self.limits.file_nbytes)
        with self._locked():
            used = self._count()
            coming = self._coming()
            old = self._state(parts)
            if old is not None and stat.S_ISDIR(old.st_mode):
                raise BadParameter("name", name, "it is a folder; give the name of a file")
            freed = _size(old) if old else 0
            new = self._missing(parts[:-1]) + (old is None)
            check_quota(used, self.limits, nbytes + sum(coming) - freed, len(coming) + new)
            return Draft(self, parts, self._drafts / uuid4().hex, nbytes)

    def place(self, draft: Path, parts: tuple[str, ...], nbytes: int) -> None:
        """Rename a complete draft to its name; `Draft.commit` calls this."""
        with self._locked():
            old = self._state(parts)
            if old is not None and stat.S_ISDIR(old.st_mode):
                raise BadParameter("name", "/".join(parts), "it has become a folder meanwhile")
            # Checked again: the uploads that ran beside this one have made folders meanwhile.
            new = self._missing(parts[:-1]) + (old is None)
            more = nbytes - (_size(old) if old else 0)
            check_quota(self._count(), self.limits, more, new)
            with self._open_folder(parts[:-1], make=True) as folder:
                used = self._count()  # with the folders just made
                self._usage_file.unlink(missing_ok=True)
                os.rename(draft, parts[-1], dst_dir_fd=folder)
                os.fsync(folder)
            change = nbytes - (_size(old) if old else 0)
            self._keep(StorageUsage(used.nbytes + change, used.nentries + (old is None)))

    def make_folder(self, name: str) -> None:
        """Make a folder and those above it; one that is there stays as it is."""
        parts = split_name(name)
        with self._locked():
            new = self._missing(parts) + len(self._coming())
            check_quota(self._count(), self.limits, 0, new)
            with self._open_folder(parts, make=True):
                pass

    def remove(self, name: str, *, recursive: bool = False) -> None:
        """Remove a file or a folder, one that is not empty only if ``recursive``."""
        parts = split_name(name)
        if not parts:
            raise BadParameter("name", name, "name a file or a folder of your space")
        with self._locked():
            state = self._state(parts)
            if state is None:
                raise NoSuchFile(name)
            self._usage_file.unlink(missing_ok=True)
            with self._open_folder(parts[:-1]) as folder, _named(name):
                if not stat.S_ISDIR(state.st_mode):
                    os.unlink(parts[-1], dir_fd=folder)
                elif recursive:
                    # Does not follow links: it goes by descriptors too.
                    shutil.rmtree(parts[-1], dir_fd=folder)
                else:
                    os.rmdir(parts[-1], dir_fd=folder)

    def usage(self) -> StorageUsage:
        """Return how much the space holds."""
        if not self._files.is_dir():
            return StorageUsage(0, 0)
        with self._locked():
            return self._count()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the space's lock; make the space if it does not exist."""
        with _disk(self.folder):
            # One by one: `parents=True` would make those above with the mode of the umask.
            for folder in (self.folder.parent, self.folder, self._files, self._drafts):
                folder.mkdir(mode=0o700, exist_ok=True)
            with locked(self.folder / "lock"):
                yield

    @contextmanager
    def _open_folder(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Yield the descriptor of a folder, opened without following links."""
        with _disk(self.folder):
            descriptor = os.open(self._files, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for number, part in enumerate(parts):
                with _named("/".join(parts[: number + 1])):
                    if make:
                        self._make(part, descriptor)
                    below = os.open(part, _FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    def _make(self, part: str, above: int) -> None:
        """Make a folder in a folder, and count it; call under the lock."""
        used = self._count()
        with suppress(FileExistsError):
            os.mkdir(part, 0o700, dir_fd=above)
            self._keep(StorageUsage(used.nbytes, used.nentries + 1))

    def _missing(self, folders: tuple[str, ...]) -> int:
        """Return how many folders of a path do not exist yet."""
        present = (n for n in range(len(folders), 0, -1) if self._state(folders[:n]) is not None)
        return len(folders) - next(present, 0)

    def _state(self, parts: tuple[str, ...]) -> os.stat_result | None:
        """Return the state of a file or folder, or None when there is none."""
        try:
            with self._open_folder(parts[:-1]) as folder:
                return os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except (FileNotFoundError, NoSuchFile):
            return None

    def _coming(self) -> list[int]:
        """Return the lengths of all drafts; remove those whose process has ended."""
        coming = []
        for path in self._drafts.iterdir():
            with suppress(FileNotFoundError), path.open("rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                except BlockingIOError:
                    coming.append(os.fstat(file.fileno()).st_size)
        return coming

    def _count(self) -> StorageUsage:
        """Return how much the space holds: the last count, or a new one if that is old."""
        with suppress(OSError, ValueError):
            if abs(time.time() - self._usage_file.stat().st_mtime) < _USAGE_AGE_S:
                kept = _USAGE.fullmatch(self._usage_file.read_text("ascii"))
                if kept is not None:  # a torn one lacks its line end
                    return StorageUsage(int(kept[1]), int(kept[2]))
        nbytes = nentries = 0
        for _, folders, files, descriptor in os.fwalk(self._files):
            nentries += len(folders) + len(files)
            for name in files:
                nbytes += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
        counted = StorageUsage(nbytes, nentries)
        self._keep(counted)
        return counted

    def _keep(self, usage: StorageUsage) -> None:
        self._usage_file.write_text(f"{usage.nbytes} {usage.nentries}\n", "ascii")


def _size(state: os.stat_result) -> int:
    return 0 if stat.S_ISDIR(state.st_mode) else state.st_size


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Raise system errors about a name as errors of the service."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:
            allowed = "the folder is not empty; remove it with recursive=True"
            raise BadParameter("name", name, allowed) from error
        if error.errno == errno.ENOTDIR:
            raise BadParameter("name", name, "it is not a folder") from error
        # ELOOP: a link, which for us is not there; ENXIO: a socket.
        if error.errno in {errno.ENOENT, errno.ELOOP, errno.ENXIO}:
            raise NoSuchFile(name) from error
        raise


@contextmanager
def _disk(path: Path) -> Iterator[None]:
    """Raise system errors about the disk as `StoreError`."""
    try:
        yield
    except OSError as error:
        raise StoreError(str(path), f"cannot be written or read ({error.strerror})") from error
