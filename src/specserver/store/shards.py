"""Encoded chunks of a shard, read from its file straight into place.

A Zarr v3 shard ends with its index: for each inner chunk where it begins and how many bytes it
has, then a crc32c over all that. TensorStore hands out encoded chunks too, each as an object of
its own; laying seven thousand of them end to end took three times as long as reading them here.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..damage import Identity
from ..data.backend import Buffers
from ..data.handles import Entry, Folder
from ..errors import DamagedFile, StoreError
from ..wire.cells import decode_blosc

SHARD: Final = 1000
"""Spectra in a shard: one file a vector and shard, some 10 MB; an index of 16 kB."""
_CRC_BYTES: Final = 4
_ABSENT: Final = 2**64 - 1
_OPEN_FILES: Final = 400
"""Shards kept open: well below the 1,024 files that a process may usually have open."""
_DAMAGED: Final = "a chunk's checksum is wrong: restore the file"
_LOOK_S: Final = 1.0
"""Seconds between two looks whether an open shard still is the file in its place: one takes as
long as finding rows in it."""
_MOST_LOOKS: Final = 10_000
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
NameRows = Callable[[npt.NDArray[np.int64], DamagedFile], DamagedFile]


class ShardFile:
    """One shard, open for reading; safe to share between threads."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        try:
            self.source = entry.open()
        except OSError as error:
            raise entry.damaged(str(error.strerror)) from error
        self.nbytes = self.source.nbytes
        self.offsets, self.sizes = self._index()

    def _index(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return where each frame begins, and its bytes without the checksum; 1D[SHARD] each."""
        size = 16 * SHARD + _CRC_BYTES
        encoded = self.source.read(max(self.nbytes - size, 0), size)
        if len(encoded) != size or not _intact(encoded[:-_CRC_BYTES], encoded[-_CRC_BYTES:]):
            raise self.fault("the shard's index is damaged: restore the file")
        index = np.frombuffer(encoded, "<u8", 2 * SHARD).reshape(SHARD, 2)
        there = index[:, 0] != _ABSENT
        offsets = np.where(there, index[:, 0], 0).astype(np.int64)
        sizes = np.where(there, index[:, 1] - np.uint64(_CRC_BYTES), 0).astype(np.int64)
        if ((sizes < 0) | (offsets + sizes > self.nbytes)).any():
            raise self.fault("the shard's index is damaged: restore the file")
        return offsets, sizes

    def fault(self, reason: str) -> Exception:
        """Return the error for bytes that cannot be read, or are not those that were written."""
        if self.entry.state() != self.source.state:
            _looks.pop(str(self.entry), None)
            return _Replaced(str(self.entry))
        return self.entry.damaged(reason)


class _Replaced(Exception):
    """Another file is in the place of the one that is open: the open one is given up."""


def _once_more(
    act: Callable[[_Given], _Found], first: _Given, again: Callable[[], _Given]
) -> _Found:
    """Return ``act(first)``; if a shard was replaced meanwhile, act on its new file."""
    try:
        return act(first)
    except _Replaced:
        try:
            return act(again())
        except _Replaced as error:
            raise StoreError(str(error), "it is being replaced; ask again") from error


@dataclass(frozen=True, slots=True)
class ShardFrames:
    """Blosc frames of some rows of one vector, in their files."""

    sizes: npt.NDArray[np.int64]
    """1D[nrow], bytes of each."""
    _places: Sequence[tuple[ShardFile, int]]
    """File and offset of each."""
    _wanted: "ShardRows"
    _find: Callable[[], "ShardFrames"]
    """Finds the same rows in the files that are there now."""

    def copy_to(self, out: memoryview, at: Sequence[int]) -> None:
        """Read frame ``i`` to ``out[at[i]:]``; raise `DamagedFile` if one is missing or damaged."""
        self._naming(lambda now: now._copy_to(out, at))  # noqa: SLF001  # its own

    def decode(self, out: npt.NDArray[Any], npix: int, cut: slice) -> None:
        """Read and decompress the rows, and write of each the pixels of a cut; errors as `copy_to`.

        Parameters
        ----------
        out : 2D[nrow, npix of the cut]
        npix : pixels of a whole row
        """
        self._naming(lambda now: now._decode(out, npix, cut))  # noqa: SLF001  # its own

    def unreadable(self) -> npt.NDArray[np.bool_]:
        """Return which rows are damaged, 1D[nrow]; all are read, and none is unpacked."""
        return _once_more(ShardFrames._unreadable, self, self._renewed)

    def _naming(self, act: Callable[["ShardFrames"], None]) -> None:
        """Call ``act`` with these frames; an error names the damaged rows."""
        try:
            _once_more(act, self, self._renewed)
        except DamagedFile as error:
            lost = self._wanted.rows[self.unreadable()]
            raise (self._wanted.name(lost, error) if len(lost) else error) from error

    def _renewed(self) -> "ShardFrames":
        """Return the same rows in files that have taken the place of those that were open."""
        found = self._find()
        if not np.array_equal(found.sizes, self.sizes):
            raise StoreError(
                str(self._places[0][0].entry), "it changed while it was read; ask again"
            )
        return found

    def _unreadable(self) -> npt.NDArray[np.bool_]:
        """Return which rows are damaged."""
        bad = np.zeros(len(self.sizes), np.bool_)
        room = self._room()
        places = zip(self._places, self.sizes.tolist(), strict=True)
        for index, ((file, offset), size) in enumerate(places):
            try:
                if _frame(file, offset, room[: size + _CRC_BYTES], at_once=False) is None:
                    raise file.fault(_DAMAGED)
            except DamagedFile:
                bad[index] = True
        return bad

    def _copy_to(self, out: memoryview, at: Sequence[int]) -> None:
        """Read the frames into place."""

        def read(place: tuple[ShardFile, int], size: int, begin: int, *, at_once: bool) -> bool:
            file, offset = place
            frame, check = out[begin : begin + size], bytearray(_CRC_BYTES)
            if _fill(file, offset, [frame, check], at_once=at_once) != size + _CRC_BYTES:
                return False
            if not _intact(frame.tobytes(), check):
                raise file.fault(_DAMAGED)
            return True

        self._read_all(read, at)

    def _decode(self, out: npt.NDArray[Any], npix: int, cut: slice) -> None:
        """Read and decompress the rows."""
        # Both stay in the processor's cache from one row to the next.
        room, row = self._room(), np.empty(npix, out.dtype)
        whole = cut == slice(0, npix)

        def read(place: tuple[ShardFile, int], size: int, index: int, *, at_once: bool) -> bool:
            file, offset = place
            frame = _frame(file, offset, room[: size + _CRC_BYTES], at_once=at_once)
            if frame is None:
                return False
            try:
                decode_blosc(frame, out[index] if whole else row)
            except ValueError as error:
                raise file.fault(f"a chunk is damaged, {error}: restore the file") from error
            if not whole:
                out[index] = row[cut]
            return True

        self._read_all(read, range(len(out)))

    def _room(self) -> memoryview:
        """Return memory for the largest of the frames with its checksum."""
        return memoryview(bytearray(int(self.sizes.max(initial=0)) + _CRC_BYTES))

    def _read_all(self, read: Callable[..., bool], where: Sequence[int]) -> None:
        """Read all frames, each with its place, its bytes and where it goes."""
        wanted = list(zip(self._places, self.sizes.tolist(), where, strict=True))
        # Bytes in memory are read first; all others are announced before the first is awaited.
        cold = [frame for frame in wanted if not read(*frame, at_once=True)]
        for (file, offset), size, _ in cold:
            file.source.will_need(offset, size + _CRC_BYTES)
        for frame in cold:
            if not read(*frame, at_once=False):
                raise frame[0][0].fault("a chunk is cut off: restore the file")


def _fill(file: ShardFile, offset: int, buffers: Buffers, *, at_once: bool) -> int:
    """Read as many bytes as there is room for; return how many were read."""
    try:
        return file.source.read_into(offset, buffers, at_once=at_once)
    except OSError as error:
        raise file.fault(str(error.strerror)) from error


def _frame(file: ShardFile, offset: int, encoded: memoryview, *, at_once: bool) -> bytes | None:
    """Return a frame, its checksum verified; None if not all of it could be read."""
    if _fill(file, offset, [encoded], at_once=at_once) != len(encoded):
        return None
    frame = encoded[:-_CRC_BYTES].tobytes()
    if not _intact(frame, encoded[-_CRC_BYTES:]):
        raise file.fault(_DAMAGED)
    return frame


def _intact(data: bytes, check: bytes | bytearray | memoryview) -> bool:
    """Return whether bytes have the little-endian crc32c that is stated."""
    return bool(google_crc32c.value(data) == int.from_bytes(check, "little"))


@dataclass(frozen=True, slots=True)
class ShardRows:
    """Rows of an array, by the shard that holds them: the same for all vectors of a segment."""

    rows: npt.NDArray[np.int64]
    """1D[nrow]"""
    shards: Sequence[tuple[int, Sequence[int], npt.NDArray[np.int64]]]
    """Number of a shard, which of the rows it holds, and their rows within it."""
    name: NameRows
    """Returns an error that names the spectra of some rows, 1D[n], made of that for a file."""


def _unnamed(rows: npt.NDArray[np.int64], error: DamagedFile) -> DamagedFile:
    """Return the error for a file unchanged: the spectra of the rows are not known."""
    del rows
    return error


def by_shard(rows: npt.NDArray[np.integer], name: NameRows = _unnamed) -> ShardRows:
    """Sort rows, 1D[nrow] int, by their shards; ``name`` names their spectra in errors."""
    places: npt.NDArray[np.int64] = np.asarray(rows, np.int64)
    shards, within = np.divmod(places, SHARD)
    numbers = shards.tolist()
    if len(set(numbers)) < 2:
        alone = [(shard, range(len(rows)), within) for shard in set(numbers)]
        return ShardRows(places, alone, name)
    parts = ((shard, np.flatnonzero(shards == shard)) for shard in sorted(set(numbers)))
    sorted_ = [(shard, mine.tolist(), within[mine]) for shard, mine in parts]
    return ShardRows(places, sorted_, name)


def shard_frames(
    array: Folder, wanted: ShardRows, written: Mapping[str, int] = MappingProxyType({})
) -> ShardFrames:
    """Return the frames of some rows of an array, yet to be read.

    Parameters
    ----------
    written : key of a shard → bytes that were written of it; what is not stated is not compared

    Raises
    ------
    DamagedFile
        A shard is missing, its index is damaged, or a row is not in it.
    """
    found = partial(_found, wanted=wanted, written=written)
    return _once_more(found, array, lambda: array)


def _found(array: Folder, wanted: ShardRows, written: Mapping[str, int]) -> ShardFrames:
    """Return where the frames are in the files that there are."""
    sizes = np.zeros(len(wanted.rows), np.int64)
    places: list[Any] = [None] * len(wanted.rows)
    for shard, mine, within in wanted.shards:
        try:
            file = open_shard(array, shard)
            nbytes = written.get(file.entry.key, file.nbytes)
            if nbytes != file.nbytes:
                raise file.fault(f"has {file.nbytes} bytes where {nbytes} were written: restore it")
        except DamagedFile as error:
            raise wanted.name(wanted.rows[list(mine)], error) from error
        sizes[mine] = file.sizes[within]
        for index, offset in zip(mine, file.offsets[within].tolist(), strict=True):
            places[index] = (file, offset)
    if not sizes.all():
        row = int(np.argmin(sizes))
        reason = f"row {wanted.rows[row]} is not in its shard: restore the file"
        fault = places[row][0].fault(reason)
        if isinstance(fault, DamagedFile):
            fault = wanted.name(wanted.rows[sizes == 0], fault)
        raise fault
    return ShardFrames(sizes, places, wanted, partial(shard_frames, array, wanted, written))


def unreadable_rows(
    array: Folder, wanted: ShardRows, written: Mapping[str, int] = MappingProxyType({})
) -> npt.NDArray[np.bool_]:
    """Return which rows of an array are damaged, 1D[nrow]; all of them are read."""
    try:
        return shard_frames(array, wanted, written).unreadable()
    except DamagedFile:
        # A whole shard, perhaps one of several; or rows that it does not have.
        if len(wanted.rows) == 1:
            return np.ones(1, np.bool_)
        alone = (by_shard(wanted.rows[at : at + 1]) for at in range(len(wanted.rows)))
        return np.concatenate([unreadable_rows(array, row, written) for row in alone])


_looks: dict[str, tuple[float, Identity, Entry]] = {}
"""Time of the last look, state then, and handle of each shard, by path."""


def open_shard(array: Folder, number: int) -> ShardFile:
    """Return a shard open for reading; the same object while the file is in use, and in its place.

    Another file in its place is seen within a second.
    """
    now = monotonic()
    path = f"{array}/c/{number}/0"
    look = _looks.get(path)
    if look is None or now - look[0] > _LOOK_S:
        if len(_looks) >= _MOST_LOOKS:
            _looks.clear()
        entry = array.entry(f"c/{number}/0")
        look = _looks[path] = now, entry.state(), entry
    return _open_shard(look[2], look[1])


@lru_cache(maxsize=_OPEN_FILES)
def _open_shard(entry: Entry, state: Identity) -> ShardFile:
    """Return a shard as it is at a time."""
    del state
    return ShardFile(entry)
