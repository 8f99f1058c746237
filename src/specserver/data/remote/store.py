"""A data folder in an object store: `Backend` for S3, Google Cloud Storage and Azure."""

import errno
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import obstore

from ...damage import Identity
from .cache import Drafts, NodeCache, drafts, node_cache
from .client import LOOP, Changed, Stores, asked, stores
from .listing import answers_of, stamp_of
from .locks import ENDING, RemoteLock
from .memory import CHILDREN, FOLDER, STAMP, Memory, Question
from .options import CacheOptions
from .probe import probe
from .source import RemoteObject

_RECENT_S: Final = 30.0
"""Age of what is known of objects that are not expected to change."""
_LARGE: Final = 2**23
"""Objects beyond it are written and read in pieces, or with the longer time limit."""
_PIECES: Final = 8
"""Pieces of a large object that are fetched at once."""
_BLOCK: Final = 2**20
_TRIES: Final = 10
"""Attempts to change an object that other writers change at the same time."""


@dataclass(frozen=True, slots=True)
class ObjectStore:
    """A prefix of a bucket.

    Parameters
    ----------
    url : its address, without a slash at the end
    cache : where this node keeps copies
    look_s
        Age in seconds of what may be answered from memory about objects that do change: 0 for
        writers. Under a lock everything is asked anew.
    """

    url: str
    cache: CacheOptions
    look_s: float = 0.0

    @property
    def is_far(self) -> bool:
        """True: each request takes a network's time."""
        return True

    @property
    def _stores(self) -> Stores:
        return stores(self.url, patient=not self.look_s)

    @property
    def _cache(self) -> NodeCache:
        return node_cache(self.cache)

    @property
    def _drafts(self) -> Drafts:
        return drafts(self.cache)

    @property
    def _memory(self) -> Memory:
        return _memory_of(self.url, os.getpid())

    def probe(self, *, writing: bool) -> None:
        """Raise `StoreError` if the bucket cannot be reached, or lacks what is needed of it."""
        probe(self._stores, self.url, writing=writing)

    def name_of(self, key: str) -> str:
        """Return the address of an object."""
        return f"{self.url}/{key}" if key else self.url

    def _at(self, key: str) -> str:
        """Return the path of an object in the store."""
        if ".." in key and ".." in key.split("/"):
            raise ValueError(f"{key!r} is no key")
        return key

    def stamp(self, key: str) -> Identity:
        """Return what changes when an object changes."""
        return self.stamps([key])[0]

    def stamps(self, keys: Sequence[str]) -> list[Identity]:
        """Return the stamps of objects, asked for at once."""
        return self._answers([(STAMP, self._at(key)) for key in keys], self.look_s)

    def recent_stamp(self, key: str) -> Identity:
        """Return the stamp of an object, half a minute old at most."""
        found: Identity = self._answers([(STAMP, self._at(key))], _RECENT_S)[0]
        return found

    def has_folder(self, prefix: str) -> bool:
        """Return whether there is an object below a prefix."""
        return bool(self._answers([(FOLDER, self._at(prefix))], self.look_s)[0])

    def children(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix; those of folders end in a slash."""
        return list(self._answers([(CHILDREN, self._at(prefix))], self.look_s)[0])

    def _answers(self, questions: Sequence[Question], age_s: float) -> list[Any]:
        """Return answers from memory, or of the store."""
        ask = partial(answers_of, self._stores.quick, self.url)
        return self._memory.answers(questions, age_s, ask)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all objects below a prefix."""
        return (key for key in self._every(prefix) if not key.endswith(ENDING))

    def _every(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all objects below a prefix, those of locks too."""
        with asked(self.name_of(prefix)):
            for some in obstore.list(self._stores.quick, self._at(prefix) or None):
                yield from (meta["path"] for meta in some)

    def read(self, key: str) -> bytes:
        """Return all bytes of an object."""
        with asked(self.name_of(key)):
            return bytes(obstore.get(self._stores.large, self._at(key)).bytes())

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return all bytes of some objects, asked for at once; None where there is none."""

        async def get(key: str) -> bytes | None:
            with suppress(FileNotFoundError), asked(self.name_of(key)):
                result = await obstore.get_async(self._stores.quick, self._at(key))
                return bytes(await result.bytes_async())
            return None

        found: list[bytes | None] = _raised(LOOP.each([partial(get, key) for key in keys]))
        return found

    def blocks(self, key: str) -> Iterator[memoryview]:
        """Yield the bytes of an object; those of a copy on this node if there is one."""
        copy = self._draft_of(key) or self._copy_of(key)
        if copy is None:
            with asked(self.name_of(key)):
                result = obstore.get(self._stores.large, self._at(key))
                for some in result.stream(min_chunk_size=_BLOCK):
                    yield memoryview(some)
            return
        block = memoryview(bytearray(_BLOCK))
        with copy.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                yield block[:count]

    def open(self, key: str) -> RemoteObject:
        """Open an object."""
        opened = _opened.pop(self.name_of(key), None)
        if opened is not None:
            return opened
        with asked(self.name_of(key)):
            meta = obstore.head(self._stores.quick, self._at(key))
        self._memory.remember({(STAMP, key): stamp_of(meta)})
        return self._object(key, meta)

    def _object(self, key: str, meta: Any) -> RemoteObject:
        """Return an object that was just looked at, open."""
        about = meta["e_tag"] or "", stamp_of(meta)
        return RemoteObject(self._stores, key, self.name_of(key), *about, self._cache)

    def will_open(self, keys: Iterable[str], tail: int) -> None:
        """Open objects at once, and read their last bytes; unless they were lately."""
        some = dict.fromkeys(keys)
        wanted = [key for key in some if not self._memory.has((STAMP, key), _RECENT_S)]
        if not wanted:
            return

        async def opened(key: str) -> None:
            with suppress(FileNotFoundError), asked(self.name_of(key)):
                options = {"range": {"suffix": tail}}
                result = await obstore.get_async(self._stores.quick, key, options=options)  # type: ignore[arg-type]  # a literal
                content = memoryview(await result.bytes_async())
                made = self._object(key, result.meta)
                made.keep_tail(content)
                _opened[self.name_of(key)] = made
                self._memory.remember({(STAMP, key): made.state})

        # Errors are raised when they are opened.
        LOOP.each([partial(opened, self._at(key)) for key in wanted])

    def create(self, key: str, content: bytes | memoryview) -> None:
        """Write a new object."""
        try:
            self._put(key, content, "create")
        except FileExistsError:
            # The store may have written it, and its answer was lost: then it was sent again.
            if self.read(key) != bytes(content):
                raise

    def replace(self, key: str, content: bytes | memoryview, *, owner_only: bool = False) -> None:
        """Write an object or replace it; who may read it is for the store to say."""
        del owner_only
        self._put(key, content, "overwrite")

    def _put(self, key: str, content: bytes | memoryview, mode: Any) -> None:
        """Write an object, whole or not at all."""
        path, where = self._at(key), self._stores[len(content) > _LARGE]
        try:
            with asked(self.name_of(key)):
                whole = memoryview(content).cast("B")
                obstore.put(where, path, whole, mode=mode, use_multipart=False)
        finally:
            self._memory.forget(key)

    def touch(self, key: str) -> None:
        """Write an object anew, so that its time is the present one."""
        for _ in range(_TRIES):
            with asked(self.name_of(key)):
                result = obstore.get(self._stores.quick, self._at(key))
                content, e_tag = bytes(result.bytes()), result.meta["e_tag"]
            with suppress(Changed):
                return self._put(key, content, {"e_tag": e_tag})
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name_of(key))

    def delete(self, key: str) -> None:
        """Delete an object, and its lock; folders are no objects."""
        if not key:
            return
        with suppress(FileNotFoundError), asked(self.name_of(key)):
            obstore.delete(self._stores.quick, [self._at(key), f"{key}{ENDING}"])
        self._memory.forget(key)

    def delete_tree(self, prefix: str, first: str = "") -> None:
        """Delete all objects below a prefix, one of them first."""
        if not self._at(prefix):
            raise ValueError("the whole data folder is not deleted")
        self._drafts.delete(prefix)
        if first:
            self.delete(f"{prefix}/{first}")
        try:
            found = [*self._every(prefix)]
            with suppress(FileNotFoundError), asked(self.name_of(prefix)):
                for at in range(0, len(found), 1000):
                    obstore.delete(self._stores.quick, found[at : at + 1000])
        finally:
            self._memory.forget(prefix, below=True)

    @contextmanager
    def _locked(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a lock; what is asked meanwhile is answered anew."""
        path, name = f"{self._at(key)}{ENDING}", self.name_of(key)
        lock = RemoteLock(self._stores, self._cache, path, name, self._now)
        with lock.held(wait=wait) as mine, self._memory.strict():
            yield mine

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold a lock, which others take over some time after the end of this process."""
        return self._locked(key, wait=wait)

    def _now(self) -> float:
        """Return the present time of the storage, seconds since 1970."""
        key = f"clock-{self._cache.node}{ENDING}"
        with asked(self.name_of(key)):
            obstore.put(self._stores.quick, key, str(time.time_ns()).encode())
            return obstore.head(self._stores.quick, key)["last_modified"].timestamp()

    def local_path(self, key: str) -> Path:
        """Return the path of a copy on this node, which is fetched if there is none."""
        draft = self._draft_of(key)
        if draft is not None:
            return draft
        with asked(self.name_of(key)):
            meta = obstore.head(self._stores.quick, self._at(key))
        return self._cache.whole(self._identity(key, meta), partial(self._fetch, key, meta))

    def _fetch(self, key: str, meta: Any, path: Path) -> None:
        """Write an object to a new file, in pieces."""
        size, e_tag = meta["size"], meta["e_tag"]
        with path.open("xb") as file:
            os.truncate(path, size)

            async def piece(at: int) -> None:
                options = {"range": (at, min(at + _LARGE, size)), "if_match": e_tag}
                with asked(self.name_of(key)):
                    result = await obstore.get_async(self._stores.large, key, options=options)  # type: ignore[arg-type]  # a literal
                    os.pwrite(file.fileno(), memoryview(await result.bytes_async()), at)

            pieces = [partial(piece, at) for at in range(0, size, _LARGE)]
            for at in range(0, len(pieces), _PIECES):
                _raised(LOOP.each(pieces[at : at + _PIECES]))
            os.fsync(file.fileno())

    def _identity(self, key: str, meta: Any) -> str:
        """Return a text that is another for another object."""
        return f"{self.name_of(key)} {meta['e_tag']} {meta['size']}"

    def _draft_of(self, key: str) -> Path | None:
        """Return the path of a file that this process has written and not yet stored."""
        path = self._drafts.path(self._at(key))
        return path if path.is_file() else None

    def _copy_of(self, key: str) -> Path | None:
        """Return the path of the copy of an object on this node, if there is one."""
        with asked(self.name_of(key)):
            meta = obstore.head(self._stores.quick, self._at(key))
        return self._cache.known(self._identity(key, meta))

    def discard_copies(self, key: str) -> bool:
        """Delete the copy of an object on this node; return whether there was one."""
        with suppress(FileNotFoundError), asked(self.name_of(key)):
            meta = obstore.head(self._stores.quick, self._at(key))
            return self._cache.discard(self._identity(key, meta))
        return False

    def make_folder(self, prefix: str) -> None:
        """Make a folder on this node for files that libraries write."""
        self._drafts.make(self._at(prefix))

    def new_path(self, key: str) -> Path:
        """Return the path at which a library writes a file, on this node."""
        return self._drafts.path(self._at(key))

    def allocate(self, key: str, head: bytes, nbytes: int) -> Path:
        """Make such a file, with its space on the disk reserved."""
        path = self.new_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(head)
            file.flush()
            if nbytes:
                os.posix_fallocate(file.fileno(), len(head), nbytes)
        return path

    def nfree(self, prefix: str) -> int:
        """Return a number without meaning: a bucket has no end."""
        del prefix
        return sys.maxsize

    def sync(self, prefix: str) -> None:
        """Store the files that libraries wrote below a prefix; they become copies of this node."""
        for key, path in self._drafts.below(self._at(prefix)):
            with asked(self.name_of(key)):
                made = obstore.put(
                    self._stores.large, key, path, chunk_size=_LARGE, max_concurrency=_PIECES
                )
            self._memory.forget(key)
            meta = {"e_tag": made["e_tag"], "size": path.stat().st_size}
            self._cache.keep(self._identity(key, meta), path)
        self._drafts.delete(prefix)

    def is_link(self, prefix: str) -> bool:
        """Return False: an object store has no links."""
        del prefix
        return False

    def delete_drafts(self, key: str) -> None:
        """Do nothing: an object is written whole, or is not there."""

    def set_access(self, prefix: str, *, private: bool) -> None:
        """Do nothing: who may read the bucket is said where it is kept."""

    def inherit_access(self, prefix: str) -> None:
        """Do nothing, likewise."""


_opened: Final[dict[str, RemoteObject]] = {}
"""Objects that `will_open` has opened, by address, until they are asked for."""


@lru_cache(maxsize=16)
def _memory_of(url: str, process: int) -> Memory:
    """Return what a process knows of a store."""
    del url, process
    return Memory()


def open_store(url: str, cache: CacheOptions, look_s: float = 0.0) -> ObjectStore:
    """Return the store at an address; raise `BadParameter` if it is none."""
    url = url.rstrip("/")
    stores(url)
    return ObjectStore(url, cache, look_s)


def _raised(found: Sequence[Any]) -> Any:
    """Return results of requests; raise the first error among them."""
    for some in found:
        if isinstance(some, BaseException):
            raise some
    return list(found)
