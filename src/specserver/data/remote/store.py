"""A data folder in an object store: `Backend` for S3, Google Cloud Storage and Azure."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from uuid import uuid4
from weakref import WeakValueDictionary

import obstore
from typing_extensions import override

from ...digests import digest_of_blocks
from ...files import read_blocks
from ..user_storage import StorageLimits
from . import requests
from .cache import Drafts, NodeCache, drafts, has_drafts, node_cache
from .client import LOOP, asked, content_of, stores
from .listing import stamp_of
from .locks import OURS, RemoteLock
from .memory import STAMP
from .objects import LARGE, PIECES, RECENT_S, Objects, raised
from .options import CacheOptions
from .probe import probe
from .source import BLOCK, RemoteObject
from .user_storage import RemoteUserStorage

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta

_BLOCK: Final = 2**20


@dataclass(frozen=True, slots=True)
class ObjectStore(Objects):
    """A data folder in a bucket.

    Parameters
    ----------
    cache : where this node keeps copies
    """

    cache: CacheOptions

    @property
    def _cache(self) -> NodeCache:
        return node_cache(self.cache)

    @property
    def _drafts(self) -> Drafts:
        return drafts(self.cache)

    def probe(self, *, writing: bool) -> None:
        """Raise `StoreError` if the bucket cannot be reached, or lacks what is needed of it.

        What it can do is tried once in a process; then only whether it answers.
        """
        if (self.url, writing) in _probed:
            self.has_folder("")
            return
        # The folder of the copies is made, or refused, before anything relies on it.
        node_cache(self.cache)
        # Nobody waits for minutes for a store that has never answered: its address may be wrong.
        probe(stores(self.url, patient=False), self.url, writing=writing)
        _probed.update({(self.url, writing), (self.url, False)})

    def blocks(self, key: str) -> Iterator[memoryview]:
        """Yield the bytes of an object; those of a copy on this node if there is one."""
        copy = self._draft_of(key) or self._copy_of(key)
        if copy is None:
            name = self.name_of(key)
            for some in requests.streamed(self._patient, self._at(key), name, _BLOCK):
                yield memoryview(some)
            return
        yield from read_blocks(copy, _BLOCK)

    def digest(self, key: str) -> str:
        """Return the digest of an object: of one just written, that of what was written."""
        return self.digest_written(key) or digest_of_blocks(self.blocks(key))

    def open(self, key: str) -> RemoteObject:
        """Open an object."""
        name = self.name_of(key), self.cache
        held = _opened.pop(name, None)
        known = held[1] if held else _live.get(name)
        if known is not None and known.state == self.recent_stamp(key):
            return known
        asked_s = time.monotonic()
        meta = self._head(key)
        self._memory.remember({(STAMP, key): stamp_of(meta)}, asked_s)
        return self._object(key, meta)

    def _head(self, key: str) -> "ObjectMeta":
        """Return what the store says of an object."""
        return requests.head(self._stores.quick, self._at(key), self.name_of(key))

    def _object(self, key: str, meta: Any) -> RemoteObject:
        """Return an object that was just looked at, open."""
        about = meta["e_tag"] or "", stamp_of(meta)
        made = RemoteObject(self._stores, key, self.name_of(key), *about, self._cache)
        _live[self.name_of(key), self.cache] = made
        return made

    def will_open(self, keys: Iterable[str], tail: int) -> None:
        """Open objects at once, and read their last bytes; unless they were lately."""
        some = dict.fromkeys(keys)
        names = {key: (self.name_of(key), self.cache) for key in some}
        # Of those that are open it is asked whether they are still the same.
        self._answers([(STAMP, key) for key in some if names[key] in _live], RECENT_S)
        wanted = [
            key
            for key in some
            if names[key] not in _live and not self._memory.has((STAMP, key), RECENT_S)
        ]
        now = time.monotonic()
        for name in [name for name, (at, _) in [*_opened.items()] if now - at > _OPENED_S]:
            _opened.pop(name, None)
        if not wanted:
            return

        async def opened(key: str) -> None:
            with suppress(FileNotFoundError), asked(self.name_of(key)):
                options: GetOptions = {"range": {"suffix": tail + BLOCK}}
                result = await obstore.get_async(self._stores.quick, key, options=options)
                content = await content_of(result, self.name_of(key))
                made = self._object(key, result.meta)
                made.keep_tail(content)
                _opened[names[key]] = time.monotonic(), made
                self._memory.remember({(STAMP, key): made.state}, now)

        # Errors are raised when they are opened.
        LOOP.each([partial(opened, self._at(key)) for key in wanted])

    @contextmanager
    def _locked(self, key: str, *, wait: bool) -> Iterator[bool]:
        """Hold a lock; what is asked meanwhile is answered anew."""
        path, name = f"{OURS}{self._at(key)}", self.name_of(key)
        lock = RemoteLock(self._stores, self._cache, path, name, self._now)
        with lock.held(wait=wait) as mine, self._memory.strict():
            yield mine

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold a lock, which others take over some time after the end of this process."""
        return self._locked(key, wait=wait)

    def _now(self) -> float:
        """Return the present time of the storage, seconds since 1970."""
        key, name = f"{OURS}clock-{uuid4().hex}", self.name_of("")
        requests.put(self._stores.quick, key, name, b"specserver: may be deleted")
        try:
            return requests.head(self._stores.quick, key, name)["last_modified"].timestamp()
        finally:
            requests.delete(self._stores.quick, [key], name, within_s=requests.END_S)

    def local_path(self, key: str) -> Path:
        """Return the path of a copy on this node, which is fetched if there is none."""
        draft = self._draft_of(key)
        if draft is not None:
            return draft
        meta = self._head(key)
        return self._cache.whole(self._identity(key, meta), partial(self._fetch, key, meta))

    def _fetch(self, key: str, meta: Any, path: Path) -> None:
        """Write an object to a new file, in pieces."""
        size, e_tag = meta["size"], meta["e_tag"]
        with path.open("xb") as file:
            os.truncate(path, size)

            async def piece(at: int) -> None:
                options: GetOptions = {"range": (at, min(at + LARGE, size)), "if_match": e_tag}
                with asked(self.name_of(key)):
                    result = await obstore.get_async(self._stores.large, key, options=options)
                    content = await content_of(result, self.name_of(key))
                    os.pwrite(file.fileno(), content, at)

            pieces = [partial(piece, at) for at in range(0, size, LARGE)]
            for at in range(0, len(pieces), PIECES):
                raised(LOOP.each(pieces[at : at + PIECES]))
            os.fsync(file.fileno())

    def _identity(self, key: str, meta: Any) -> str:
        """Return a text that is another for another object."""
        return f"{self.name_of(key)} {meta['e_tag']} {meta['size']}"

    def _draft_of(self, key: str) -> Path | None:
        """Return the path of a file that this process has written and not yet stored."""
        self._at(key)
        if not has_drafts(self.cache):
            return None
        path = self._drafts.path(key)
        return path if path.is_file() else None

    def _copy_of(self, key: str) -> Path | None:
        """Return the path of the copy of an object on this node, if there is one."""
        meta = self._head(key)
        return self._cache.known(self._identity(key, meta))

    def discard_copies(self, key: str) -> bool:
        """Delete the copy of an object on this node; return whether there was one."""
        with suppress(FileNotFoundError):
            return self._cache.discard(self._identity(key, self._head(key)))
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
            meta = {"e_tag": self.upload(key, path), "size": path.stat().st_size}
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

    @override
    def delete_tree(self, prefix: str, first: str = "") -> None:
        """Delete all objects below a prefix, one of them first, and drafts of them."""
        if has_drafts(self.cache):
            self._drafts.delete(self._at(prefix))
        Objects.delete_tree(self, prefix, first)

    def user_storage(self, prefix: str, limits: StorageLimits) -> RemoteUserStorage:
        """Return the virtual storage of a user."""
        return RemoteUserStorage(self, self._at(prefix), limits)


_probed: Final[set[tuple[str, bool]]] = set()
"""Addresses that were tried, and whether they were to be written to."""
_Name: TypeAlias = tuple[str, CacheOptions]
"""Address of an object, and cache."""
_opened: Final[dict[_Name, tuple[float, RemoteObject]]] = {}
"""Objects that `will_open` has opened, and when, until they are asked for."""
_live: Final[WeakValueDictionary[_Name, RemoteObject]] = WeakValueDictionary()
"""All objects that are open."""
_OPENED_S: Final = 10.0


def open_store(url: str, cache: CacheOptions, look_s: float = 0.0) -> ObjectStore:
    """Return the store at an address; raise `BadParameter` if it is none."""
    url = url.rstrip("/")
    stores(url, patient=not look_s)
    return ObjectStore(url, look_s, cache)
