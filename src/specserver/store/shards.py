"""Shards: files of encoded chunks that end with an index, opened here to read ranges of them.

A Zarr v3 shard ends with its index: for each inner chunk where it begins and how many bytes it
has, then a crc32c over all that. An inner chunk holds one vector of one spectrum: a Blosc frame,
then its crc32c. The frames of a spectrum lie side by side in the shard of their array.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic
from typing import Any, Final, NamedTuple
from weakref import ref

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..damage import Identity
from ..data.backend import Backend
from ..data.handles import Entry, Folder
from ..errors import DamagedFile

SHARD: Final = 1000
"""Spectra in a shard. Each vector of them takes some 10 MB, and 16 kB in the index."""
CRC_BYTES: Final = 4
ABSENT_CHUNK: Final = 2**64 - 1
"""Offset and size in the index of a chunk that is not in the shard."""
_OPEN_FILES: Final = 400
"""Shards kept open: well below the 1,024 files that a process may usually have open."""
_LOOK_S: Final = 1.0
"""Seconds between two looks whether an open shard still is the file in its place: one takes as
long as finding rows in it."""
_MOST_LOOKS: Final = 10_000


@dataclass(frozen=True, slots=True)
class FrameArray:
    """A Zarr array of frames: ``nspec × nvector × npix``, or ``nspec × npix`` of one vector."""

    folder: Folder
    vectors: tuple[str, ...]
    """Its vectors, in the order in which their frames lie in the file."""
    ndim: int = 3

    def shard(self, number: int) -> str:
        """Return the path of a shard from the array's folder."""
        return f"c/{number}" + "/0" * (self.ndim - 1)


class ShardFile:
    """One shard, open for reading; safe to share between threads."""

    def __init__(self, entry: Entry, nvector: int) -> None:
        self.entry = entry
        try:
            self.source = entry.open()
        except OSError as error:
            raise entry.damaged(str(error.strerror)) from error
        self.nbytes = self.source.nbytes
        self.offsets, self.sizes = self._index(nvector)
        self.is_full = bool(self.sizes.all())
        """Whether all frames are there."""

    def _index(self, nvector: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Return where each frame begins, and its bytes without the checksum.

        2D[SHARD, nvector] each.
        """
        size = _index_bytes(nvector)
        encoded = self.source.read(max(self.nbytes - size, 0), size)
        check = int.from_bytes(encoded[-CRC_BYTES:], "little")
        if len(encoded) != size or google_crc32c.value(encoded[:-CRC_BYTES]) != check:
            raise self.fault("the shard's index is damaged")
        index = np.frombuffer(encoded, "<u8", 2 * SHARD * nvector).reshape(SHARD, nvector, 2)
        there = index[..., 0] != ABSENT_CHUNK
        offsets = np.where(there, index[..., 0], 0).astype(np.int64)
        sizes = np.where(there, index[..., 1] - np.uint64(CRC_BYTES), 0).astype(np.int64)
        if ((sizes < 0) | (offsets + sizes > self.nbytes)).any():
            raise self.fault("the shard's index is damaged")
        return offsets, sizes.astype(np.int32)

    def fault(self, reason: str) -> Exception:
        """Return the error for bytes that cannot be read, or are not those that were written."""
        # An answer from memory may be about the file that was replaced.
        if self.entry.stamp_now() != self.source.state:
            _looks.pop(self.entry, None)
            return Replaced(str(self.entry))
        if self.source.discard_copies():
            return CopiesDiscarded(str(self.entry))
        return self.entry.damaged(reason)


def _index_bytes(nvector: int) -> int:
    """Return the length of the index at the end of a shard."""
    return 16 * SHARD * nvector + CRC_BYTES


class Replaced(Exception):
    """Another file is in the place of the one that is open: the open one is given up."""


class CopiesDiscarded(Replaced):
    """Damaged copies of this machine are given up: the storage may have the right bytes."""


class _Look(NamedTuple):
    """What was found at a shard's place."""

    at: float
    """Time, as of `monotonic`."""
    file: "ref[ShardFile]"


_looks: dict[Entry, _Look] = {}
"""The last look at each shard."""


def open_shards(wanted: Sequence[tuple[FrameArray, int]]) -> list[ShardFile | DamagedFile]:
    """Return shards that are open for reading; the list has the error of one that cannot be opened.

    A shard that is in use is not opened again. If another file replaces it, that is seen within a
    second.

    Parameters
    ----------
    wanted : array, and number of the shard in it
    """
    entries = [array.folder.entry(array.shard(number)) for array, number in wanted]
    found: list[Any] = [_known(entry) for entry in entries]
    lacking = {at: len(wanted[at][0].vectors) for at, file in enumerate(found) if file is None}
    _announce((entries[at], nvector) for at, nvector in lacking.items())
    for at, nvector in lacking.items():
        try:
            found[at] = _looked(entries[at], nvector)
        except DamagedFile as error:
            found[at] = error
    return found


def _announce(wanted: Iterable[tuple[Entry, int]]) -> None:
    """Start to open the shards that are in an object store, all at once.

    Parameters
    ----------
    wanted : shards, and the number of vectors of each
    """
    keys: dict[tuple[Backend, int], list[str]] = {}
    for entry, nvector in wanted:
        if entry.backend.is_far:
            keys.setdefault((entry.backend, nvector), []).append(entry.key)
    for (backend, nvector), some in keys.items():
        backend.will_open(some, _index_bytes(nvector))


def _looked(entry: Entry, nvector: int) -> ShardFile:
    """Return what is in the place of a shard now."""
    if len(_looks) >= _MOST_LOOKS:
        _looks.clear()
    now = monotonic()
    file = _open_shard(entry, entry.state(), nvector)
    _looks[entry] = _Look(now, ref(file))
    return file


def _known(entry: Entry) -> ShardFile | None:
    """Return the shard that was found in its place a moment ago, if it still is open."""
    look = _looks.get(entry)
    return look.file() if look is not None and monotonic() - look.at <= _LOOK_S else None


@lru_cache(maxsize=_OPEN_FILES)
def _open_shard(entry: Entry, state: Identity, nvector: int) -> ShardFile:
    """Return a shard as it is at a time."""
    del state
    return ShardFile(entry, nvector)
