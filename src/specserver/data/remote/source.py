"""One object, open to read ranges of it, of which copies are kept on this node's disk."""

import errno
import os
import threading
import time
import weakref
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import obstore

from ...damage import Identity
from ...transfers import TRANSFERS
from ..backend import Buffers
from .cache import NodeCache
from .client import LOOP, Stores, asked, content_of, require_whole

if TYPE_CHECKING:
    from obstore import GetOptions

BLOCK: Final = 4096
"""Copies are kept in whole blocks; that of a file system, so that holes take no room."""
_GAP: Final = 2**16
"""Ranges with fewer bytes between them are fetched together: a request costs more than those."""
_TRUSTED_S: Final = 60.0
_TRUSTED_AFTER: Final = 3
"""Copies that were given up so often within that time are as the store has them; more than once, as
several threads may have read what one of them gave up."""
_MOST_GIVEN_UP: Final = 10_000
_NOTED_S: Final = 60.0
_HELD_BYTES: Final = 2**23
"""Bytes of an object that are held for who reads them soon, where the disk takes no copies."""
_given_up: Final[dict[str, list[float]]] = {}
"""Times at which the copies of an object were given up."""
_LATEST: Final = 200
"""Most fetches whose bytes are held until they are read, where the disk takes none: those of a
batch."""


class _Fetch(NamedTuple):
    """A range of whole blocks that is fetched."""

    begin: int
    end: int
    number: int
    """Which of the ranges that are fetched together."""
    future: "Future[list[memoryview]]"

    def covers(self, begin: int, end: int) -> bool:
        """Return whether it has all bytes of a range."""
        return self.begin <= begin and end <= self.end

    @property
    def has_failed(self) -> bool:
        """Whether it has ended with an error."""
        return self.future.done() and self.future.exception() is not None


class _Copies:
    """The ranges of an object that are on this node's disk; safe to share between processes.

    Behind their places the file has a byte for each block: whether it is there.
    """

    def __init__(self, cache: NodeCache, identity: str, nbytes: int) -> None:
        self._cache = cache
        path = cache.ranges(identity)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # Not at the end of the process: a thread may still write, and the number be another file's.
        weakref.finalize(self, os.close, self._file).atexit = False
        self._nbytes = nbytes
        self._map_at = -(-nbytes // BLOCK) * BLOCK
        os.ftruncate(self._file, self._map_at + self._map_at // BLOCK)
        self._there = bytearray(self._map_at // BLOCK)
        """Which blocks this process knows to be there: what is there stays."""
        self._used = -_NOTED_S
        self.note_use()

    def has(self, begin: int, end: int) -> bool:
        """Return whether this process knows that a whole range is there."""
        return self._there.find(0, begin // BLOCK, -(-end // BLOCK)) < 0

    def lacking(self, begin: int, end: int) -> tuple[int, int] | None:
        """Return the range of whole blocks that a range lacks, if it lacks any."""
        if self.has(begin, end):
            return None
        first, stop = begin // BLOCK, -(-end // BLOCK)
        there = os.pread(self._file, stop - first, self._map_at + first)
        self._there[first : first + len(there)] = there
        at = there.find(0)
        if at < 0:
            return None
        last = first + there.rfind(0) + 1
        return (first + at) * BLOCK, min(last * BLOCK, self._nbytes)

    def is_gone(self) -> bool:
        """Return whether another process has deleted them, to make room."""
        return os.fstat(self._file).st_nlink == 0

    def note_use(self) -> None:
        """Say that they were read: those that were not are deleted first."""
        now = time.monotonic()
        if now - self._used > _NOTED_S:
            self._used = now
            os.utime(self._file)

    def put(self, begin: int, content: memoryview) -> None:
        """Keep the bytes of whole blocks; raise `OSError` if the disk does not take them."""
        if os.pwrite(self._file, content, begin) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # A byte a block: processes that set neighbours do not undo each other's.
        first, stop = begin // BLOCK, -(-(begin + len(content)) // BLOCK)
        os.pwrite(self._file, b"\1" * (stop - first), self._map_at + first)
        self._there[first:stop] = b"\1" * (stop - first)
        self._cache.make_room(len(content))

    def read_into(self, offset: int, buffers: Buffers, flags: int) -> int:
        """Read a range that is there into buffers; return how many bytes."""
        self.note_use()
        return os.preadv(self._file, buffers, offset, flags)


class RemoteObject:
    """An object, open for reading; safe to share between threads.

    Parameters
    ----------
    stores, path : where it is
    name : its address, for messages
    e_tag, state : of the object when it was opened
    cache : where copies of its ranges are kept
    """

    is_far = True

    def __init__(
        self,
        stores: Stores,
        path: str,
        name: str,
        e_tag: str,
        state: Identity,
        cache: NodeCache,
    ) -> None:
        self._stores, self._path, self._name = stores, path, name
        self._e_tag = e_tag
        self.state, self.nbytes = state, state[1]
        self._identity = f"{name} {e_tag} {self.nbytes}"
        self._cache = cache
        self._lock = threading.Lock()
        self._under_way: list[_Fetch] = []
        """Also those that have ended, and of which the disk takes no copies."""
        self._copies = self._opened()

    def _opened(self) -> _Copies | None:
        """Return the copies of its ranges; None: the disk does not take any."""
        try:
            return _Copies(self._cache, self._identity, self.nbytes) if self.nbytes else None
        except OSError as error:
            self._cache.note_full(error)
            return None

    def keep_tail(self, content: memoryview) -> None:
        """Keep the last bytes of the object, which were read when it was opened."""
        begin = self.nbytes - len(content)
        whole = -(-begin // BLOCK) * BLOCK
        if self._copies is not None and whole < self.nbytes:
            with suppress(OSError):
                self._copies.put(whole, content[whole - begin :])

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of bytes; fewer where the object ends."""
        size = max(min(size, self.nbytes - offset), 0)
        room = bytearray(size)
        if size:
            self.read_into(offset, [memoryview(room)], at_once=False)
        return bytes(room)

    def read_into(self, offset: int, buffers: Buffers, *, at_once: bool) -> int:
        """Read a range of bytes into buffers; return how many there were."""
        end = min(offset + sum(map(len, buffers)), self.nbytes)
        copies = self._copies
        if copies is not None and copies.has(offset, end):
            return self._read_copies(copies, offset, buffers, at_once=at_once)
        if at_once or offset >= end:
            return 0
        if copies is not None and copies.lacking(offset, end) is None:
            return self._read_copies(copies, offset, buffers, at_once=at_once)
        content = self._fetched(offset, end)
        done = 0
        for buffer in buffers:
            some = content[done : done + len(buffer)]
            memoryview(buffer)[: len(some)] = some
            done += len(some)
        return done

    def _read_copies(self, copies: _Copies, offset: int, buffers: Buffers, *, at_once: bool) -> int:
        """Read a range of which copies are there."""
        try:
            done = copies.read_into(offset, buffers, os.RWF_NOWAIT if at_once else 0)
        except (OSError, AttributeError):
            if not at_once:
                raise
            return 0
        TRANSFERS.add(copied_bytes=done)
        return done

    def will_need(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Begin to fetch ranges of which there are no copies, near ones together."""
        wanted = [self._lacking(*some) for some in ranges]
        with self._lock:
            joined = _joined([some for some in wanted if some])
            if joined:
                self._begin(joined)

    def discard_copies(self) -> bool:
        """Give up the copies of its bytes on this node; return whether there were any.

        Copies that were given up, and fetched again, are as the store has them.
        """
        now = time.monotonic()
        with self._lock:
            times = [at for at in _given_up.get(self._identity, []) if now - at < _TRUSTED_S]
            if len(times) >= _TRUSTED_AFTER:
                return False
            if len(_given_up) >= _MOST_GIVEN_UP:
                _given_up.clear()
            _given_up[self._identity] = [*times, now]
            self._under_way = []
            self._cache.discard(self._identity)
            self._copies = self._opened()
        return True

    def _lacking(self, begin: int, end: int) -> tuple[int, int] | None:
        """Return the part of a range, in whole blocks, that neither is there nor is coming."""
        end = min(end, self.nbytes)
        if begin >= end:
            return None
        if self._copies is None:
            first, stop = begin // BLOCK * BLOCK, min(-(-end // BLOCK) * BLOCK, self.nbytes)
        else:
            lacking = self._copies.lacking(begin, end)
            if lacking is None:
                return None
            first, stop = lacking
        coming = any(some.covers(first, stop) for some in self._under_way if not some.has_failed)
        return None if coming else (first, stop)

    def _begin(self, ranges: Sequence[tuple[int, int]]) -> list[_Fetch]:
        """Begin to fetch ranges of whole blocks; call under the lock."""
        future = LOOP.submit(self._fetch(ranges))
        begun = [_Fetch(*some, number, future) for number, some in enumerate(ranges)]
        held = [*self._under_way[-_LATEST:], *begun]
        while sum(some.end - some.begin for some in held) > _HELD_BYTES and held[0] not in begun:
            del held[0]
        self._under_way = held
        return begun

    async def _fetch(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Fetch ranges of whole blocks, and keep copies if the disk takes them."""
        with asked(self._name):
            contents = await LOOP.limited(partial(self._ranges, ranges), len(ranges))
        kept = set()
        if self._copies is not None and self._copies.is_gone():
            self._copies = self._opened()
        if self._copies is not None:
            try:
                for some, content in zip(ranges, contents, strict=True):
                    self._copies.put(some[0], content)
                    if self._copies.lacking(*some) is None:
                        kept.add(some)
            except OSError as error:
                self._cache.note_full(error)
        with self._lock:
            self._under_way = [f for f in self._under_way if (f.begin, f.end) not in kept]
        return contents

    async def _ranges(self, ranges: Sequence[tuple[int, int]]) -> list[memoryview]:
        """Return ranges of the object as it was when it was opened."""
        store = self._stores.quick
        *others, last = ranges
        contents: list[memoryview] = []
        if others:
            # Together they take less of the processors than one by one.
            begins, ends = zip(*others, strict=True)
            found = await obstore.get_ranges_async(
                store, self._path, starts=begins, ends=ends, coalesce=0
            )
            contents = [memoryview(content) for content in found]
            for content, some in zip(contents, others, strict=True):
                require_whole(content, *some, self._name)
            TRANSFERS.add(fetched_bytes=sum(map(len, contents)))
        # They have no condition. The last one has: there was no other object until then, whose
        # bytes would be kept as copies of this one.
        options: GetOptions = {"range": last, "if_match": self._e_tag}
        result = await obstore.get_async(store, self._path, options=options)
        return [*contents, await content_of(result, self._name)]

    def _fetched(self, begin: int, end: int) -> memoryview:
        """Return the bytes of a range, waiting for those that are coming."""
        with self._lock:
            self._under_way = [some for some in self._under_way if not some.has_failed]
            fetch = next((some for some in self._under_way if some.covers(begin, end)), None)
            if fetch is None:
                first = begin // BLOCK * BLOCK
                stop = min(-(-end // BLOCK) * BLOCK, self.nbytes)
                fetch = self._begin([(first, stop)])[0]
        content = fetch.future.result()[fetch.number]
        return content[begin - fetch.begin : end - fetch.begin]


def _joined(ranges: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return ranges with those joined that lie near each other."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if joined and begin - joined[-1][1] <= _GAP:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined
