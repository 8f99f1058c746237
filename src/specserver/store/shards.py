"""Encoded chunks of a shard, read from its file straight into place.

A Zarr v3 shard ends with its index: for each inner chunk where it begins and how many bytes it
has, then a crc32c over all that. TensorStore hands out encoded chunks too, each as an object of
its own; laying seven thousand of them end to end took three times as long as reading them here.
"""

import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..errors import StoreError

SHARD: Final = 1000
"""Spectra in a shard: one file a vector and shard, some 10 MB; an index of 16 kB."""
_CRC_BYTES: Final = 4
_ABSENT: Final = 2**64 - 1
_OPEN_FILES: Final = 400
"""Shards kept open: well below the 1,024 files that a process may usually have open."""
_DAMAGED: Final = "a chunk's checksum is wrong: restore the file"
# Linux can say whether the bytes are in memory; elsewhere every read may wait for the disk.
_AT_ONCE: Final = getattr(os, "RWF_NOWAIT", None)


class ShardFile:
    """One shard, open for reading; safe to share between threads."""

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self.handle = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise StoreError(path, str(error.strerror)) from error
        weakref.finalize(self, os.close, self.handle)
        self.offsets, self.sizes = self._index()

    def _index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where each frame begins, and its bytes without the checksum; 1D[SHARD] each."""
        size = 16 * SHARD + _CRC_BYTES
        whole = os.fstat(self.handle).st_size
        encoded = os.pread(self.handle, size, max(whole - size, 0))
        if len(encoded) != size or not _intact(encoded[:-_CRC_BYTES], encoded[-_CRC_BYTES:]):
            raise StoreError(self.path, "the shard's index is damaged: restore the file")
        index = np.frombuffer(encoded, "<u8", 2 * SHARD).reshape(SHARD, 2)
        there = index[:, 0] != _ABSENT
        offsets = np.where(there, index[:, 0], 0).astype(np.int64)
        sizes = np.where(there, index[:, 1] - np.uint64(_CRC_BYTES), 0).astype(np.int64)
        if ((sizes < 0) | (offsets + sizes > whole)).any():
            raise StoreError(self.path, "the shard's index is damaged: restore the file")
        return offsets, sizes


@dataclass(frozen=True, slots=True)
class ShardFrames:
    """Blosc frames of some rows of one vector, in their files."""

    sizes: npt.NDArray[np.int64]
    """1D[nrow], bytes of each."""
    _places: Sequence[tuple[ShardFile, int]]
    """File and offset of each."""

    def lay(self, out: memoryview, at: Sequence[int]) -> None:
        """Read the frame of row ``i`` to ``out[at[i]:]``, its checksum verified.

        Raises
        ------
        StoreError
            A frame is missing or damaged.
        """
        wanted = list(zip(self._places, self.sizes.tolist(), at, strict=True))
        # What is in memory comes at once; for the rest the disk is told all before any is awaited.
        cold = [one for one in wanted if not _read(*one, out, _AT_ONCE)] if _AT_ONCE else wanted
        for (file, offset), size, _ in cold:
            os.posix_fadvise(file.handle, offset, size + _CRC_BYTES, os.POSIX_FADV_WILLNEED)
        for one in cold:
            if not _read(*one, out, 0):
                raise StoreError(one[0][0].path, "a chunk is cut off: restore the file")


def _read(place: tuple[ShardFile, int], size: int, at: int, out: memoryview, flags: int) -> bool:
    """Read one frame into place; return False when not all of it was to be had."""
    file, offset = place
    frame, check = out[at : at + size], bytearray(_CRC_BYTES)
    try:
        got = os.preadv(file.handle, [frame, check], offset, flags)
    except OSError as error:
        if flags:
            return False
        raise StoreError(file.path, str(error.strerror)) from error
    if got != size + _CRC_BYTES:
        return False
    if not _intact(frame.tobytes(), check):
        raise StoreError(file.path, _DAMAGED)
    return True


def _intact(data: bytes, check: bytes | bytearray) -> bool:
    """Return whether bytes have the little-endian crc32c that is stated."""
    return bool(google_crc32c.value(data) == int.from_bytes(check, "little"))


def shard_frames(path: str, rows: npt.NDArray[np.integer]) -> ShardFrames:
    """Return the frames of some rows of the array at ``path``, yet to be read.

    Parameters
    ----------
    rows : 1D[nrow] int, row of the array

    Raises
    ------
    StoreError
        A shard is missing, its index is damaged, or a row is not in it.
    """
    shards, within = np.divmod(np.asarray(rows, np.int64), SHARD)
    sizes = np.zeros(len(rows), np.int64)
    places: list[Any] = [None] * len(rows)
    for shard in np.unique(shards).tolist():
        file = open_shard(f"{path}/c/{shard}/0")
        mine = np.flatnonzero(shards == shard)
        sizes[mine] = file.sizes[within[mine]]
        for index, offset in zip(mine.tolist(), file.offsets[within[mine]].tolist(), strict=True):
            places[index] = (file, offset)
    if not sizes.all():
        raise StoreError(path, f"row {rows[np.argmin(sizes)]} is not in its shard")
    return ShardFrames(sizes, places)


@lru_cache(maxsize=_OPEN_FILES)
def open_shard(path: str) -> ShardFile:
    """Return a shard open for reading; the same object for the same path, while it is in use."""
    return ShardFile(path)
