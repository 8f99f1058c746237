"""One object, open to read ranges of it, of which copies are kept on this node's disk."""

import errno
import os
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import obstore

from ...damage import Identity
from ...files import read_into
from ...transfers import TRANSFERS
from ..backend import Buffers
from .cache import NodeCache
from .client import LOOP, Stores, asked, content_of, require_whole
from .fetches import Fetch, Range, calls, joined_ranges

if TYPE_CHECKING:
    from obstore import GetOptions

BLOCK: Final = 512
"""Copies are kept in whole blocks. They are small, so that few bytes are fetched in vain."""
_PAGE: Final = 4096
_TRUSTED_S: Final = 60.0
_TRUSTED_AFTER: Final = 3
"""If one thread has given up the copies of an object so often within that time, the store has the
same bytes. Each thread counts for itself, because many may have read the same damaged copy."""
_MOST_GIVEN_UP: Final = 10_000
_NOTED_S: Final = 60.0
_HELD_BYTES: Final = 2**23
"""Bytes of an object that are held for who reads them soon, where the disk takes no copies."""
_given_up: Final[dict[tuple[str, int], list[float]]] = {}
"""Times at which a thread has given up the copies of an object."""


class _Copies:
    """The ranges of an object that are on this node's disk; safe to share between processes.

    Behind their places the file has a byte for each block: whether it is there.
    """

    def __init__(self, cache: NodeCache, identity: str, nbytes: int) -> None:
        self._cache = cache
        path = cache.ranges(identity)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # The end of the process does not close it: a thread may still write to the descriptor,
        # and a descriptor that is closed may be given to another file.
        weakref.finalize(self, os.close, self._file).atexit = False
        self._nbytes = nbytes
        self._map_at = -(-nbytes // _PAGE) * _PAGE
        nblock = -(-nbytes // BLOCK)
        os.ftruncate(self._file, self._map_at + nblock)
        self._there = bytearray(nblock)
        """Which blocks this process knows to be there. Another process may have added more since
        the last `look`; none removes any."""
        self._note_use()

    def incomplete(self, ranges: Sequence[Range]) -> list[Range]:
        """Return the ranges that this process does not know to be there completely."""
        find = self._there.find
        # As in `read_into`: it is done for each range of each request, so without `_blocks`.
        return [some for some in ranges if find(0, some[0] // BLOCK, -(-some[1] // BLOCK)) >= 0]

    def look(self, begin: int, end: int) -> None:
        """Learn which blocks of a range other processes have put there."""
        first, stop = _blocks(begin, end)
        there = os.pread(self._file, stop - first, self._map_at + first)
        self._there[first : first + len(there)] = there

    def lacking(self, begin: int, end: int) -> Range | None:
        """Return the whole blocks that a range lacks, as of the last look; None: it lacks none."""
        first, stop = _blocks(begin, end)
        at = self._there.find(0, first, stop)
        if at < 0:
            return None
        last = self._there.rfind(0, first, stop)
        return at * BLOCK, min((last + 1) * BLOCK, self._nbytes)

    def is_gone(self) -> bool:
        """Return whether another process has deleted them, to make room."""
        return os.fstat(self._file).st_nlink == 0

    def _note_use(self) -> None:
        """Say that they were read: those that were not are deleted first."""
        self._noted_until = time.monotonic() + _NOTED_S
        os.utime(self._file)

    def put(self, begin: int, content: memoryview) -> None:
        """Keep the bytes of whole blocks; raise `OSError` if the disk does not take them."""
        if os.pwrite(self._file, content, begin) != len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # A byte a block: processes that set neighbours do not undo each other's.
        first, stop = _blocks(begin, begin + len(content))
        os.pwrite(self._file, b"\1" * (stop - first), self._map_at + first)
        self._there[first:stop] = b"\1" * (stop - first)
        self._cache.make_room(len(content))

    def read_into(self, begin: int, end: int, buffers: Buffers, *, at_once: bool) -> int | None:
        """Read a range into buffers; return how many bytes, None if it is not all there."""
        if self._there.find(0, begin // BLOCK, -(-end // BLOCK)) >= 0:
            return None
        if time.monotonic() > self._noted_until:
            self._note_use()
        done = read_into(self._file, begin, buffers, at_once=at_once)
        if done == end - begin:
            # Otherwise it is read once more.
            TRANSFERS.copied_bytes += done
        return done

    def fill(self, begin: int, room: memoryview) -> None:
        """Read a range that has copies of some parts; the other parts are overwritten later."""
        TRANSFERS.copied_bytes += os.preadv(self._file, [room], begin)


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
        # The layout of the file depends on the size of a block, so its name does, too.
        self._identity = f"{name} {e_tag} {self.nbytes} {BLOCK}"
        self._cache = cache
        self._lock = threading.Lock()
        self._under_way: list[Fetch] = []
        """Also those that have ended, and of which the disk takes no copies."""
        self._is_full = False
        """Whether the disk took no copy of what was fetched last."""
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
            self.read_into(offset, offset + size, [memoryview(room)], at_once=False)
        return bytes(room)

    def read_into(self, begin: int, end: int, buffers: Buffers, *, at_once: bool) -> int:
        """Read a range of bytes into buffers; return how many there were."""
        copies = self._copies
        if copies is not None:
            there = copies.read_into(begin, end, buffers, at_once=at_once)
            if there is not None:
                return there
        end = min(end, self.nbytes)
        if at_once or begin >= end:
            return 0
        content = self._fetched(begin, end)
        done = 0
        for buffer in buffers:
            some = content[done : done + len(buffer)]
            memoryview(buffer)[: len(some)] = some
            done += len(some)
        return done

    def will_need(self, ranges: Sequence[Range]) -> None:
        """Begin to fetch ranges of which there are no copies, near ones together."""
        copies = self._copies
        if copies is not None:
            ranges = copies.incomplete(ranges)
        if ranges:
            with self._lock:
                for some in calls(joined_ranges(self._lacking(ranges))):
                    fetch = Fetch(some)
                    # What is held and was not read yet is needed earlier than this.
                    if self._holds_bytes and not self._make_room(fetch.nbytes):
                        return
                    self._begin(fetch)

    def discard_copies(self) -> bool:
        """Give up the copies of its bytes on this node; return whether there were any.

        Copies that were given up, and fetched again, are as the store has them.
        """
        now, mine = time.monotonic(), (self._identity, threading.get_ident())
        with self._lock:
            times = [at for at in _given_up.get(mine, []) if now - at < _TRUSTED_S]
            if len(times) >= _TRUSTED_AFTER:
                return False
            if len(_given_up) >= _MOST_GIVEN_UP:
                _given_up.clear()
            _given_up[mine] = [*times, now]
            self._under_way = []
            self._cache.discard(self._identity)
            self._copies = self._opened()
        return True

    def _lacking(self, ranges: Sequence[Range]) -> list[Range]:
        """Return the parts of ranges that have no copies and are not being fetched.

        They are whole blocks.

        Call it under the lock.
        """
        blocks = (_blocks(*some) for some in ranges if some[0] < min(some[1], self.nbytes))
        whole = [(first * BLOCK, min(stop * BLOCK, self.nbytes)) for first, stop in blocks]
        copies = self._copies
        if copies is not None and whole:
            copies.look(min(whole)[0], max(end for _, end in whole))
            whole = [part for some in whole if (part := copies.lacking(*some))]
        self._under_way = [fetch for fetch in self._under_way if not fetch.has_failed]
        if not self._under_way:
            return whole
        return [part for some in whole for part in self._not_coming(*some)]

    def _not_coming(self, begin: int, end: int) -> Iterator[Range]:
        """Yield the parts of a range that are not being fetched; call it under the lock."""
        found = (common for fetch in self._under_way for _, common in fetch.common(begin, end))
        for first, stop in sorted(found):
            if first > begin:
                yield begin, first
            begin = max(begin, stop)
        if begin < end:
            yield begin, end

    @property
    def _holds_bytes(self) -> bool:
        """Whether fetched bytes are held in memory, as the disk takes no copies."""
        return self._copies is None or self._is_full

    def _begin(self, fetch: Fetch) -> None:
        """Begin to fetch ranges of whole blocks; call it under the lock."""
        fetch.future = LOOP.submit(self._fetch(fetch))
        self._under_way.append(fetch)

    def _make_room(self, nbytes: int, *, must: bool = False) -> bool:
        """Drop fetched bytes that are held, but only as many as there is no room for.

        Those that were read are dropped first. Call it under the lock.

        Parameters
        ----------
        nbytes : bytes to make room for
        must : drop bytes that were not read yet, too

        Returns
        -------
        Whether there is room.
        """
        excess = sum(some.nbytes for some in self._under_way) + nbytes - _HELD_BYTES
        ended = [some for some in self._under_way if some.future.done()]
        for some in sorted(ended, key=lambda some: not some.was_read):
            if excess > 0 and (must or some.was_read):
                excess -= some.nbytes
                self._under_way.remove(some)
        return excess <= 0

    async def _fetch(self, fetch: Fetch) -> list[memoryview]:
        """Fetch ranges of whole blocks, and keep copies if the disk takes them."""
        with asked(self._name):
            call = partial(self._ranges, fetch.ranges)
            contents = await LOOP.limited(call, len(fetch.ranges), fetch.nbytes)
        with self._lock:
            if self._copies is not None and self._copies.is_gone():
                self._copies = self._opened()
            copies = self._copies
        is_kept = copies is not None
        if copies is not None:
            try:
                for begin, content in zip(fetch.begins, contents, strict=True):
                    copies.put(begin, content)
            except OSError as error:
                self._cache.note_full(error)
                is_kept = False
        with self._lock:
            self._is_full = not is_kept
            if is_kept:
                self._under_way = [some for some in self._under_way if some is not fetch]
            else:
                self._make_room(0, must=True)
        return contents

    async def _ranges(self, ranges: Sequence[Range]) -> list[memoryview]:
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
        """Return the bytes of a range; wait for those that are being fetched, or must be."""
        with self._lock:
            copies = self._copies
            lacking = self._lacking([(begin, end)])
            if lacking and self._holds_bytes:
                self._make_room(end - begin, must=True)
                # Other bytes of this range may have been dropped.
                lacking = self._lacking([(begin, end)])
            if lacking:
                self._begin(Fetch(lacking))
            fetches = [some for some in self._under_way if some.common(begin, end)]
            are_all = copies is None or not [*self._not_coming(begin, end)]
        if len(fetches) == 1 and (content := fetches[0].content(begin, end)) is not None:
            return content
        room = memoryview(bytearray(end - begin))
        if copies is not None and not are_all:
            copies.fill(begin, room)
        for fetch in fetches:
            fetch.copy_to(room, begin)
        return room


def _blocks(begin: int, end: int) -> Range:
    """Return the first block of a range, and the one behind its last."""
    return begin // BLOCK, -(-end // BLOCK)
