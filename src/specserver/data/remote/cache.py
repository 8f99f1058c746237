"""The cache of a node: copies of objects on its disk, which all its processes share.

::

    <cache>/
        node            a random name: processes that share this folder are of one node
        files/<hash>    copies of whole objects, such as files of index parts
        ranges/<hash>   ranges of an object at their places, then which of them are there
        drafts/<name>/  files that libraries write before they are stored; locked by their process
        locks/<hash>    locks among the processes of this node

The hash is of the address, the ETag and the size of an object, so another object at the same
address is another copy; of ranges also of the size of a block. After a restart of the machine
ranges are forgotten: it may have ended before their bytes were on the disk.
"""

import errno
import fcntl
import logging
import math
import os
import shutil
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Final
from uuid import uuid4

from ...errors import StoreError
from ...files import locked, sync
from .options import CacheOptions

_LOG = logging.getLogger(__name__)
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_LOOK_BYTES: Final = 2**26
"""Bytes that a process adds between two looks at how much there is."""
_IN_USE_S: Final = 3600.0
"""A whole file that was used within this time is not deleted: processes map it."""
_TELL_S: Final = 600.0
_KEPT: Final = 0.9
"""Part of the limit that stays after copies are deleted."""


class NodeCache:
    """The cache in a folder; safe to share between threads and processes."""

    def __init__(self, options: CacheOptions) -> None:
        self.options = options
        self.top = Path(options.folder)
        self._added = options.nbytes
        """Bytes added since it was looked how many there are."""
        self._lock = threading.Lock()
        self._used: set[Path] = set()
        self._warned: dict[str, float] = {}
        """When each warning was logged last."""
        try:
            for name in ("files", "ranges", "drafts", "locks"):
                (self.top / name).mkdir(parents=True, exist_ok=True, mode=0o700)
            _require_own(self.top)
            with locked(self.top / "locks" / "begin"):
                # A copy of the folder, as in the image of a container, is another node.
                state = (self.top / "locks" / "begin").stat()
                own = f"{self._text('node', uuid4().hex)} {state.st_dev} {state.st_ino} {_boot()}"
                self.node = _hash(own)
                if self._text("boot", _boot()) != _boot():
                    shutil.rmtree(self.top / "ranges")
                    (self.top / "ranges").mkdir(mode=0o700)
                    (self.top / "boot").write_text(_boot(), "utf-8")
        except OSError as error:
            raise StoreError(
                str(self.top),
                f"copies of objects cannot be kept here ({error.strerror or error}); name another"
                " folder with SPECSERVER_CACHE",
            ) from error
        self._remove_left_drafts()

    def _text(self, name: str, usual: str) -> str:
        """Return the text of a file, which is written if there is none."""
        file = self.top / name
        if not file.exists() or not file.read_text("utf-8"):
            file.write_text(usual, "utf-8")
        return file.read_text("utf-8")

    def whole(self, identity: str, fetch: Callable[[Path], None]) -> Path:
        """Return the path of the copy of an object on this disk. If there is none, it is fetched.

        Parameters
        ----------
        identity : text that is another for another object
        fetch : writes the object to a new file

        Raises
        ------
        StoreError
            The disk is full.
        """
        path = self.top / "files" / _hash(identity)
        self._note_use(path)
        if not _touched(path):
            draft = path.with_name(f"{path.name}.{uuid4().hex[:8]}.draft")
            with locked(self.top / "locks" / path.name):
                if not _touched(path):
                    try:
                        fetch(draft)
                        draft.replace(path)
                    except OSError as error:
                        raise self._full(error) from error
                    finally:
                        draft.unlink(missing_ok=True)
                (self.top / "locks" / path.name).unlink(missing_ok=True)
            self.make_room(path.stat().st_size)
        return path

    def keep(self, identity: str, file: Path) -> None:
        """Move a file here as the copy of an object that was made of it."""
        # After a power cut it must not be shorter.
        sync(file)
        size = file.stat().st_size
        path = self.top / "files" / _hash(identity)
        file.replace(path)
        self._note_use(path)
        self.make_room(size)

    def note_full(self, error: OSError) -> None:
        """Log that the disk takes no copies, once a while."""
        text = "%s takes no copies of objects: %s"
        self._warn(_TELL_S, text, self.top, error.strerror or error)

    def _warn(self, every_s: float, text: str, *about: object) -> None:
        """Log a warning, unless it was logged a short time ago."""
        now = time.monotonic()
        if now - self._warned.get(text, -math.inf) > every_s:
            self._warned[text] = now
            _LOG.warning(text, *about)

    def _note_use(self, path: Path) -> None:
        """Note that this process maps a file; a thread touches all of them while it lives."""
        with self._lock:
            if not self._used:
                threading.Thread(target=self._touch_used, daemon=True, name="cache").start()
            self._used.add(path)

    def _touch_used(self) -> None:
        """Touch what this process maps, so that no other deletes it."""
        while True:
            time.sleep(_IN_USE_S / 3)
            with self._lock:
                used = list(self._used)
            for path in used:
                with suppress(OSError):
                    _touched(path)

    def known(self, identity: str) -> Path | None:
        """Return the path of the copy of an object, if there is one."""
        path = self.top / "files" / _hash(identity)
        return path if path.exists() else None

    def discard(self, identity: str) -> bool:
        """Delete the copies of an object; return whether there were any."""
        found = False
        for folder in ("files", "ranges"):
            with suppress(FileNotFoundError):
                (self.top / folder / _hash(identity)).unlink()
                found = True
        return found

    def ranges(self, identity: str) -> Path:
        """Return the path of the ranges of an object."""
        return self.top / "ranges" / _hash(identity)

    def new_drafts(self) -> "Drafts":
        """Return a folder for files that libraries write; it ends with this process."""
        return Drafts(self.top / "drafts" / uuid4().hex)

    @contextmanager
    def local_lock(self, identity: str, *, wait: bool) -> Iterator[bool]:
        """Hold a lock among the processes of this node."""
        with locked(self.top / "locks" / _hash(identity), wait=wait) as mine:
            yield mine

    def make_room(self, nbytes: int) -> None:
        """Count new bytes, and delete the copies used longest ago where there are too many."""
        with self._lock:
            self._added += nbytes
            if self._added < min(_LOOK_BYTES, self.options.nbytes // 20):
                return
            self._added = 0
        # Those who add are in a hurry; the event loop is one of them.
        threading.Thread(target=self._look_for_room, daemon=True, name="cache room").start()

    def _look_for_room(self) -> None:
        """Delete copies if there are too many, and no other process does so."""
        with suppress(OSError), locked(self.top / "locks" / "room", wait=False) as mine:
            if mine:
                self._delete_oldest()

    def _delete_oldest(self) -> None:
        """Delete copies until they are within the limit; ranges first, then whole files."""
        found: list[tuple[bool, float, int, Path]] = []
        for folder in ("ranges", "files"):
            for entry in os.scandir(self.top / folder):
                if entry.name.endswith(".draft"):
                    continue
                with suppress(FileNotFoundError):
                    state = entry.stat()
                    is_whole = folder == "files"
                    found.append((is_whole, state.st_mtime, 512 * state.st_blocks, Path(entry)))
        held = sum(nbytes for _, _, nbytes, _ in found)
        if held <= self.options.nbytes:
            return
        for is_whole, used, nbytes, path in sorted(found):
            if held <= _KEPT * self.options.nbytes:
                return
            if is_whole and time.time() - used < _IN_USE_S:
                # Not each time that it is looked.
                text = "the cache %s is too small for the index: SPECSERVER_CACHE_BYTES is %d"
                self._warn(_IN_USE_S, text, self.top, self.options.nbytes)
                return
            path.unlink(missing_ok=True)
            held -= nbytes

    def _full(self, error: OSError) -> StoreError | OSError:
        """Return the error for a disk that cannot take a copy; others as they are."""
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}:
            return error
        return StoreError(
            str(self.top),
            f"a copy of an index file cannot be kept here ({error.strerror}); make room, or name"
            " another folder with SPECSERVER_CACHE",
        )

    def _remove_left_drafts(self) -> None:
        """Delete the drafts of processes that have ended."""
        for folder in (self.top / "drafts").iterdir():
            # One that is being made gets its name when it is locked.
            if folder.suffix:
                continue
            with suppress(OSError), (folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
        for draft in (self.top / "files").glob("*.draft"):
            name = draft.name.partition(".")[0]
            with suppress(OSError), locked(self.top / "locks" / name, wait=False) as free:
                if free:
                    draft.unlink(missing_ok=True)


class Drafts:
    """Files that libraries write before they are stored."""

    def __init__(self, top: Path) -> None:
        draft = top.with_name(f"{top.name}.new")
        draft.mkdir(mode=0o700)
        self.top = top
        lock = os.open(draft / "lock", os.O_WRONLY | os.O_CREAT, 0o600)
        weakref.finalize(self, os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)
        # Others look for folders that nobody has locked: they see it locked.
        draft.replace(top)

    def path(self, key: str) -> Path:
        """Return the path of the draft of an object."""
        return self.top / "files" / key

    def make(self, prefix: str) -> None:
        """Make the folder of the drafts below a prefix."""
        self.path(prefix).mkdir(parents=True, exist_ok=True, mode=0o700)

    def below(self, prefix: str) -> list[tuple[str, Path]]:
        """Return key and path of all drafts below a prefix."""
        top, files = self.path(prefix), self.top / "files"
        found = [path for path in top.rglob("*") if path.is_file()]
        return [(path.relative_to(files).as_posix(), path) for path in found]

    def delete(self, prefix: str) -> None:
        """Delete the drafts below a prefix."""
        shutil.rmtree(self.path(prefix), ignore_errors=True)


_WRITING: Final[set[tuple[CacheOptions, int]]] = set()
_MAKING: Final = threading.Lock()
"""Two threads that ask at once are given the same."""


@lru_cache(maxsize=16)
def _cache_of(options: CacheOptions, process: int) -> NodeCache:
    """Return the cache of a process."""
    del process
    return NodeCache(options)


@lru_cache(maxsize=16)
def _drafts_of(options: CacheOptions, process: int) -> Drafts:
    """Return the drafts of a process."""
    return _cache_of(options, process).new_drafts()


def node_cache(options: CacheOptions) -> NodeCache:
    """Return the cache in a folder, the same one within a process."""
    with _MAKING:
        return _cache_of(options, os.getpid())


def drafts(options: CacheOptions) -> Drafts:
    """Return the drafts of this process; raise `StoreError` if the disk takes none."""
    with _MAKING:
        try:
            found = _drafts_of(options, os.getpid())
        except OSError as error:
            said = f"files cannot be written here ({error.strerror})"
            raise StoreError(
                options.folder, f"{said}; make room, or set SPECSERVER_CACHE"
            ) from error
        _WRITING.add((options, os.getpid()))
        return found


def has_drafts(options: CacheOptions) -> bool:
    """Return whether this process has written drafts."""
    return (options, os.getpid()) in _WRITING


def _require_own(top: Path) -> None:
    """Raise `OSError` for a folder in which others can put copies."""
    state = top.stat()
    if state.st_uid != os.getuid() or state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(errno.EPERM, "other users can write to it")


def _hash(identity: str) -> str:
    """Return the name of the copy of an object."""
    return blake2b(identity.encode("utf-8", "surrogateescape"), digest_size=20).hexdigest()


def _touched(path: Path) -> bool:
    """Note that a copy is used; return whether there is one."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _boot() -> str:
    """Return a text that changes when the machine is started again."""
    with suppress(OSError):
        return _BOOT.read_text("ascii").strip()
    return ""
