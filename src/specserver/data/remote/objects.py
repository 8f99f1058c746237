"""The objects of a prefix of a bucket: asked for, read, written and deleted."""

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import obstore

from ...damage import Identity
from ...digests import digest_of_bytes
from . import requests
from .client import LOOP, Changed, Store, Stores, asked, content_of, state_of, stores
from .listing import answers_of, begin_answers, stamp_of
from .locks import OURS
from .memory import CHILDREN, FOLDER, STAMP, Memory, Question

if TYPE_CHECKING:
    from obstore import GetOptions

RECENT_S: Final = 30.0
"""Age of what is known of objects that are not expected to change."""
LARGE: Final = 2**23
"""Objects beyond it are written and read in pieces, or with the longer time limit."""
PIECES: Final = 8
"""Pieces of a large object that are moved at once."""
_MOST_DIGESTS: Final = 10_000
_TRIES: Final = 10
"""Attempts to change an object that other writers change at the same time."""


@dataclass(frozen=True, slots=True)
class Objects:
    """A prefix of a bucket.

    Parameters
    ----------
    url : its address, without a slash at the end
    look_s
        Age in seconds of what may be answered from memory about objects that do change: 0 for
        writers. Under a lock everything is asked anew.
    """

    url: str
    look_s: float

    @property
    def is_far(self) -> bool:
        """True: each request takes a network's time."""
        return True

    @property
    def _stores(self) -> Stores:
        return stores(self.url, patient=not self.look_s)

    @property
    def _patient(self) -> Store:
        """The store to read an object whose size is not known: users do not wait for long."""
        return self._stores[not self.look_s]

    def digest_written(self, key: str) -> str | None:
        """Return the digest of an object that this process has written, if it is remembered."""
        return _digests_of(self.url, os.getpid()).get(key)

    @property
    def _memory(self) -> Memory:
        return _memory_of(self.url, os.getpid())

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

    def stamp_now(self, key: str) -> Identity:
        """Return the stamp of an object; the store is always asked."""
        with self._memory.strict():
            return self.stamp(key)

    def stamps(self, keys: Sequence[str]) -> list[Identity]:
        """Return the stamps of objects, asked for at once."""
        return self._answers([(STAMP, self._at(key)) for key in keys], self.look_s)

    def recent_stamp(self, key: str) -> Identity:
        """Return the stamp of an object, half a minute old at most."""
        found: Identity = self._answers([(STAMP, self._at(key))], RECENT_S)[0]
        return found

    def has_folder(self, prefix: str) -> bool:
        """Return whether there is an object below a prefix."""
        return bool(self._answers([(FOLDER, self._at(prefix))], self.look_s)[0])

    def children(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix; those of folders end in a slash."""
        return list(self._answers([(CHILDREN, self._at(prefix))], self.look_s)[0])

    def _answers(self, questions: Sequence[Question], age_s: float) -> list[Any]:
        """Return answers from memory, or of the store."""
        store = self._stores.quick
        ask, begin = partial(answers_of, store, self.url), partial(begin_answers, store, self.url)
        return self._memory.answers(questions, age_s, ask, begin)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all objects below a prefix."""
        return (key for key in self._every(prefix) if not key.startswith(OURS))

    def _every(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all objects below a prefix."""
        found = requests.listed(self._stores.quick, self._at(prefix), self.name_of(prefix))
        return (meta["path"] for meta in found)

    def read(self, key: str) -> bytes:
        """Return all bytes of an object."""
        return requests.get(self._patient, self._at(key), self.name_of(key))[0]

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return all bytes of some objects, asked for at once; None where there is none."""

        async def get(key: str) -> bytes | None:
            with suppress(FileNotFoundError), asked(self.name_of(key)):
                result = await obstore.get_async(self._stores.quick, self._at(key))
                return bytes(await content_of(result, self.name_of(key)))
            return None

        found: list[bytes | None] = raised(LOOP.each([partial(get, key) for key in keys]))
        return found

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
        path, where = self._at(key), self._stores[len(content) > LARGE]
        try:
            whole = memoryview(content).cast("B")
            requests.put(where, path, self.name_of(key), whole, mode=mode, use_multipart=False)
            _digests_of(self.url, os.getpid()).put(key, digest_of_bytes(whole))
        finally:
            self._memory.forget(key)

    def touch(self, key: str) -> None:
        """Write an object anew, so that its time is the present one."""
        for _ in range(_TRIES):
            content, meta = requests.get(self._stores.quick, self._at(key), self.name_of(key))
            with suppress(Changed):
                return self._put(key, content, state_of(meta))
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.name_of(key))

    def delete(self, key: str) -> None:
        """Delete an object, and its lock; folders are no objects."""
        if not key:
            return
        with suppress(FileNotFoundError):
            some = [self._at(key), f"{OURS}{key}"]
            requests.delete(self._stores.quick, some, self.name_of(key))
        self._memory.forget(key)

    def delete_tree(self, prefix: str, first: str = "") -> None:
        """Delete all objects below a prefix, one of them first."""
        if not self._at(prefix):
            raise ValueError("the whole data folder is not deleted")
        if first:
            self.delete(f"{prefix}/{first}")
        try:
            found = [*self._every(prefix), *self._every(f"{OURS}{prefix}")]
            name = self.name_of(prefix)
            with suppress(FileNotFoundError):
                for at in range(0, len(found), 1000):
                    requests.delete(self._stores.quick, found[at : at + 1000], name)
        finally:
            self._memory.forget(prefix, below=True)

    def listed(self, prefix: str) -> dict[str, tuple[int, float]]:
        """Return bytes, and time of change in seconds since 1970, of all objects below a prefix."""
        found = requests.listed(self._stores.quick, f"{self._at(prefix)}/", self.name_of(prefix))
        return {
            meta["path"]: (meta["size"], meta["last_modified"].timestamp())
            for meta in found
            if not meta["path"].startswith(OURS)
        }

    def reader(self, key: str) -> tuple[Identity, Callable[[int, int], bytes]]:
        """Return the state of an object, and a call that reads a range of it as it is now."""
        path, name = self._at(key), self.name_of(key)
        meta = requests.head(self._stores.quick, path, name)

        def read(begin: int, end: int) -> bytes:
            options: GetOptions = {"range": (begin, end), "if_match": meta["e_tag"]}
            return requests.get(self._patient, path, name, options)[0]

        return stamp_of(meta), read

    def upload(self, key: str, path: Path) -> str:
        """Write a file of this node as an object, in pieces; return its ETag."""
        try:
            made = requests.put(
                self._stores.large,
                self._at(key),
                self.name_of(key),
                path,
                chunk_size=LARGE,
                max_concurrency=PIECES,
            )
        finally:
            self._memory.forget(key)
        return made["e_tag"] or ""


class _Digests:
    """Digests of the objects that a process has written lately: they are read only once more."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def put(self, key: str, digest: str) -> None:
        """Note the digest of an object."""
        if len(self._known) >= _MOST_DIGESTS:
            self._known.clear()
        self._known[key] = digest

    def get(self, key: str) -> str | None:
        """Return the digest of an object, once."""
        return self._known.pop(key, None)


@lru_cache(maxsize=16)
def _digests_of(url: str, process: int) -> _Digests:
    """Return the digests of what a process has written to a store."""
    del url, process
    return _Digests()


@lru_cache(maxsize=16)
def _memory_of(url: str, process: int) -> Memory:
    """Return what a process knows of a store."""
    del url, process
    return Memory()


def raised(found: Sequence[Any]) -> Any:
    """Return results of requests; raise the first error among them."""
    for some in found:
        if isinstance(some, BaseException):
            raise some
    return list(found)
