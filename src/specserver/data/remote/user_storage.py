"""Virtual storage in an object store: the same as `data.user_storage` has on a disk.

::

    spaces/<user>/files/<name>              what the user sees
    spaces/<user>/files/<folder>/.folder    there is such a folder, perhaps an empty one
    spaces/<user>/lock                      held while the quota is checked and a file put

No name has a part that begins with a dot, so the last is no user's file. What a user holds is
counted by listing it.
"""

import hashlib
import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import uuid4

from typing_extensions import override

from ...damage import Identity
from ...errors import BadParameter, NoSuchFile, QuotaExceeded, StoreError
from ...model.spacename import split_file_name, split_name
from ..user_storage import StorageLimits, StorageUsage, StoredFile, check_quota

_FOLDER: Final = ".folder"
_KEY_BYTES: Final = 1024
"""Longest key of an object store."""
_PIECE: Final = 2**23


class RemoteDraft:
    """An upload on its way, on the disk of this node; out of sight until `commit`."""

    def __init__(
        self, space: "RemoteUserStorage", parts: tuple[str, ...], path: Path, nbytes: int
    ) -> None:
        self._space, self._parts, self._path, self._nbytes = space, parts, path, nbytes
        self._sum = hashlib.sha256()
        self._done = 0
        self._file = path.open("xb")

    def write(self, data: bytes) -> None:
        """Add bytes, at most as many as were stated."""
        if self._done + len(data) > self._nbytes:
            raise BadParameter("body", f"{self._nbytes + 1} bytes", f"{self._nbytes} were stated")
        try:
            self._file.write(data)
        except OSError as error:
            reason = f"cannot be written ({error.strerror})"
            raise StoreError(str(self._path), reason) from error
        self._sum.update(data)
        self._done += len(data)

    def commit(self) -> tuple[StoredFile, str]:
        """Bring the file into sight, in place of one of its name; return it and its SHA-256."""
        if self._done != self._nbytes:
            allowed = f"{self._nbytes} were stated: the file was cut off and is not kept"
            raise BadParameter("body", f"{self._done} bytes", allowed)
        try:
            self._file.close()
        except OSError as error:
            reason = f"cannot be written ({error.strerror})"
            raise StoreError(str(self._path), reason) from error
        self._space.place(self._path, self._parts, self._nbytes)
        name = "/".join(self._parts)
        return StoredFile(name, False, self._nbytes, time.time()), self._sum.hexdigest()

    def discard(self) -> None:
        """Delete the draft; without effect after `commit`."""
        self._file.close()
        self._path.unlink(missing_ok=True)


class RemoteUserStorage:
    """The space of one user; safe to share between threads, processes and nodes.

    Parameters
    ----------
    store : where it is
    prefix : of the space
    """

    def __init__(self, store: Any, prefix: str, limits: StorageLimits) -> None:
        self.limits = limits
        self._store = store
        self._lock = f"{prefix}/lock"
        self._top = f"{prefix}/files"

    def entries(self, name: str = "") -> list[StoredFile]:
        """Return what a folder holds, by name."""
        parts = split_name(name)
        top = self._key(parts)
        found: dict[str, StoredFile] = {}
        for key, (nbytes, modified) in self._store.listed(top).items():
            child, slash, _ = key[len(top) + 1 :].partition("/")
            if slash:
                found.setdefault(child, StoredFile(child, True, 0, modified))
            elif child != _FOLDER:
                found[child] = StoredFile(child, False, nbytes, modified)
        if not found and parts and not self._is_folder(parts):
            if self._size(parts) is not None:
                raise BadParameter("name", name, "it is not a folder")
            raise NoSuchFile(name)
        return [found[child] for child in sorted(found)]

    def open(self, name: str) -> tuple[BinaryIO, Identity]:
        """Open a file for reading; if another takes its place meanwhile, reading is an error."""
        key = self._key(split_file_name(name))
        try:
            state, read = self._store.reader(key)
        except FileNotFoundError as error:
            raise NoSuchFile(name) from error
        return io.BufferedReader(_Pieces(state[1], read), _PIECE), state

    def draft(self, name: str, nbytes: int) -> RemoteDraft:
        """Begin a file of a stated length; raise `QuotaExceeded` when there is no room for it."""
        parts = split_file_name(name)
        if nbytes > self.limits.file_nbytes:
            raise QuotaExceeded("bytes in one file", nbytes, self.limits.file_nbytes)
        self._check(parts, nbytes, "it is a folder; give the name of a file")
        self._store.make_folder(self._top)
        return RemoteDraft(self, parts, self._store.new_path(f"{self._top}/{uuid4().hex}"), nbytes)

    def place(self, draft: Path, parts: tuple[str, ...], nbytes: int) -> None:
        """Put a complete draft under its name; `RemoteDraft.commit` calls this."""
        with self._locked():
            # Checked again: other uploads have come meanwhile, also on other nodes.
            self._check(parts, nbytes, "it has become a folder meanwhile")
            self._make_folders(parts[:-1])
            self._store.upload(self._key(parts), draft)

    def make_folder(self, name: str) -> None:
        """Make a folder and those above it; one that is there stays as it is."""
        parts = split_name(name)
        with self._locked():
            missing = [n for n in range(1, len(parts) + 1) if not self._is_folder(parts[:n])]
            check_quota(self.usage(), self.limits, 0, len(missing))
            self._make_folders(parts)

    def remove(self, name: str, *, recursive: bool = False) -> None:
        """Remove a file or a folder, one that is not empty only if ``recursive``."""
        parts = split_name(name)
        if not parts:
            raise BadParameter("name", name, "name a file or a folder of your space")
        with self._locked():
            key = self._key(parts)
            if self._size(parts) is not None:
                self._store.delete(key)
                return
            if not self._is_folder(parts):
                raise NoSuchFile(name)
            if not recursive and self._store.listed(key).keys() - {f"{key}/{_FOLDER}"}:
                allowed = "the folder is not empty; remove it with recursive=True"
                raise BadParameter("name", name, allowed)
            self._store.delete_tree(key)

    def usage(self) -> StorageUsage:
        """Return how much the space holds."""
        sizes = [size for size, _ in self._store.listed(self._top).values()]
        return StorageUsage(sum(sizes), len(sizes))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._store.lock(self._lock):
            yield

    def _key(self, parts: tuple[str, ...]) -> str:
        """Return the key of a file or folder."""
        key = "/".join((self._top, *parts))
        if len(self._store.name_of(f"{key}/{_FOLDER}").encode()) > _KEY_BYTES:
            raise BadParameter("name", "/".join(parts)[:80], "a shorter one, for an object store")
        return key

    def _size(self, parts: tuple[str, ...]) -> int | None:
        """Return the bytes of a file; None: there is none."""
        stamp: Identity = self._store.stamp(self._key(parts))
        return stamp[1] if any(stamp) else None

    def _is_folder(self, parts: tuple[str, ...]) -> bool:
        """Return whether there is a folder."""
        return not parts or bool(self._store.has_folder(self._key(parts)))

    def _check(self, parts: tuple[str, ...], nbytes: int, if_folder: str) -> None:
        """Raise the error for a file that cannot be put under a name."""
        if self._is_folder(parts):
            raise BadParameter("name", "/".join(parts), if_folder)
        old = self._size(parts)
        missing = [n for n in range(1, len(parts)) if not self._is_folder(parts[:n])]
        self._require_no_file(parts[:-1])
        new = len(missing) + (old is None)
        check_quota(self.usage(), self.limits, nbytes - (old or 0), new)

    def _require_no_file(self, folders: tuple[str, ...]) -> None:
        """Raise `BadParameter` if a file is where a folder should be."""
        for n in range(1, len(folders) + 1):
            if self._size(folders[:n]) is not None:
                raise BadParameter("name", "/".join(folders[:n]), "it is not a folder")

    def _make_folders(self, folders: tuple[str, ...]) -> None:
        """Make a folder and those above it; call under the lock."""
        self._require_no_file(folders)
        for n in range(1, len(folders) + 1):
            if not self._is_folder(folders[:n]):
                self._store.replace(f"{self._key(folders[:n])}/{_FOLDER}", b"")


class _Pieces(io.RawIOBase):
    """A file that is read piece by piece."""

    def __init__(self, nbytes: int, read: Any) -> None:
        self._nbytes, self._read, self._at = nbytes, read, 0

    @override
    def readable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Any) -> int:
        """Read the next bytes."""
        end = min(self._at + len(buffer), self._nbytes)
        if self._at >= end:
            return 0
        content = self._read(self._at, end)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)
