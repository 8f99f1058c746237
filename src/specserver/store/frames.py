"""Encoded chunks of some spectra, read from their shards straight into place.

TensorStore hands out encoded chunks too, each as an object of its own; laying seven thousand of
them end to end took three times as long as reading them here. Frames that lie side by side in a
file are read at once.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import google_crc32c
import numpy as np
import numpy.typing as npt

from ..errors import DamagedFile, StoreError
from ..wire.cells import unpack_blosc
from .base import Place, Rows
from .shards import (
    CRC_BYTES,
    SHARD,
    CopiesDiscarded,
    FrameArray,
    Replaced,
    ShardFile,
    open_shards,
)

_READ_FRAMES: Final = 32
"""Frames read at once, or all of one spectrum: those decoded stay in the processor's cache."""
_CUT_OFF: Final = "a chunk is cut off"
_DAMAGED: Final = "a chunk's checksum is wrong"
_Given = TypeVar("_Given")
_Found = TypeVar("_Found")
NameRows = Callable[[npt.NDArray[np.int64], DamagedFile], DamagedFile]


def _once_more(
    act: Callable[[_Given], _Found], first: _Given, again: Callable[[], _Given]
) -> _Found:
    """Return ``act(first)``; if a shard was replaced meanwhile, act on its new file."""
    given, nreplaced = first, 0
    while True:
        try:
            return act(given)
        except CopiesDiscarded:
            given = again()  # each time there are fewer
        except Replaced as error:
            nreplaced += 1
            if nreplaced > 1:
                raise StoreError(str(error), "it is being replaced; ask again") from error
            given = again()


class _Read(NamedTuple):
    """Frames of one file that lie side by side, and are read at once."""

    file: ShardFile
    begin: int
    end: int
    """With the last checksum."""
    frames: range
    """Which of the part."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Frames of some vectors of one array, row by row."""

    names: tuple[str, ...]
    files: Sequence[ShardFile]
    """The file of each row."""
    offsets: Sequence[int]
    """Where each frame begins; nrow × nvector of them."""
    sizes: Sequence[int]
    """Bytes of each."""

    def reads(self) -> list[_Read]:
        """Return the reads that take all frames, in the order in which they lie in their files."""
        files, width, nframe = self.files, len(self.names), len(self.offsets)
        reads, first, begin, end = [], 0, 0, -1
        for at, (offset, size) in enumerate(zip(self.offsets, self.sizes, strict=True)):
            # Rows that follow each other in one file are read at once, but only whole ones.
            if offset != end or (
                at % width == 0
                and (at - first >= _READ_FRAMES or files[at // width] is not files[first // width])
            ):
                if at:
                    reads.append(_Read(files[first // width], begin, end, range(first, at)))
                first, begin = at, offset
            end = offset + size + CRC_BYTES
        if nframe:
            reads.append(_Read(files[first // width], begin, end, range(first, nframe)))
        return sorted(reads, key=lambda read: (id(read.file), read.begin))


@dataclass(frozen=True, slots=True)
class StoredCells:
    """Blosc frames of some rows of some vectors, in their files."""

    sizes: Mapping[str, npt.NDArray[np.int64]]
    """1D[nrow] by vector, bytes of each."""
    _parts: Sequence[_Part]
    _wanted: "ShardRows"
    _find: Callable[[], "StoredCells"]
    """Finds the same rows in the files that are there now."""

    def copy_to(self, places: Mapping[str, Place]) -> None:
        """Read frame ``i`` of each vector to ``out[at[i]:]`` of its place.

        Raises
        ------
        DamagedFile
            A frame is missing or damaged.
        """
        self._naming(lambda now: now._copy_to(places))  # noqa: SLF001  # its own

    def decode(self, out: Mapping[str, Rows], npix: int, cut: slice) -> None:
        """Read and decompress the rows, and write of each the pixels of a cut; errors as `copy_to`.

        Parameters
        ----------
        out : nrow rows by vector, 1D[npix of the cut] each
        npix : pixels of a whole row
        """
        self._naming(lambda now: now._decode(out, npix, cut))  # noqa: SLF001  # its own

    def unreadable(self) -> npt.NDArray[np.bool_]:
        """Return which rows are damaged, 1D[nrow]; all are read, and none is unpacked."""
        return _once_more(StoredCells._unreadable, self, self._renewed)

    def _naming(self, act: Callable[["StoredCells"], None]) -> None:
        """Call ``act`` with these frames; an error names the damaged rows."""
        try:
            _once_more(act, self, self._renewed)
        except DamagedFile as error:
            lost = self._wanted.rows[self.unreadable()]
            raise (self._wanted.name(lost, error) if len(lost) else error) from error

    def _renewed(self) -> "StoredCells":
        """Return the same rows in files that have taken the place of those that were open."""
        found = self._find()
        now, before = found.sizes, self.sizes
        if not all(np.array_equal(now[name], before[name]) for name in before):
            entry = self._parts[0].files[0].entry
            raise StoreError(str(entry), "it changed while it was read; ask again")
        return found

    def _unreadable(self) -> npt.NDArray[np.bool_]:
        """Return which rows are damaged."""
        bad = np.zeros(len(self._wanted.rows), np.bool_)
        for part in self._parts:
            width = len(part.names)
            for at, (begin, size) in enumerate(zip(part.offsets, part.sizes, strict=True)):
                row, room = at // width, memoryview(bytearray(size + CRC_BYTES))
                alone = _Read(part.files[row], begin, begin + len(room), range(at, at + 1))
                try:
                    if not _fill(alone, [room], at_once=False):
                        raise alone.file.fault(_CUT_OFF)
                    _require_intact(alone, room[:size].tobytes(), room[size:])
                except DamagedFile:
                    bad[row] = True
        return bad

    def _copy_to(self, places: Mapping[str, Place]) -> None:
        """Read the frames into place."""
        _read_all([_copying(part, places) for part in self._parts])

    def _decode(self, out: Mapping[str, Rows], npix: int, cut: slice) -> None:
        """Read and decompress the rows."""
        _read_all([_decoding(part, out, npix, cut) for part in self._parts])


class _Taker(Protocol):
    """Reads some frames, and puts them where they are wanted."""

    def __call__(self, read: _Read, *, at_once: bool) -> bool:
        """Return whether all bytes could be read; ``at_once`` only those in memory can be."""


def _read_all(wanted: Sequence[tuple[list[_Read], _Taker]]) -> None:
    """Do all reads."""
    # Bytes in memory are read first; all others are announced before the first is awaited.
    cold = [
        (read, take) for reads, take in wanted for read in reads if not take(read, at_once=True)
    ]
    _begin([read for read, _ in cold])
    for read, take in cold:
        if not take(read, at_once=False):
            raise read.file.fault(_CUT_OFF)


def _begin(reads: Iterable[_Read]) -> None:
    """Begin reads, those of a file together."""
    ranges: dict[ShardFile, list[tuple[int, int]]] = {}
    for read in reads:
        ranges.setdefault(read.file, []).append((read.begin, read.end))
    for file, some in ranges.items():
        file.source.will_need(some)


def _copying(part: _Part, places: Mapping[str, Place]) -> tuple[list[_Read], _Taker]:
    """Return the reads of a part, and what takes its frames to their places."""
    outs = cycle([places[name][0].data for name in part.names])
    begins = chain.from_iterable(zip(*(places[name][1] for name in part.names), strict=True))
    frames = [
        out[begin : begin + size]
        for out, begin, size in zip(outs, begins, part.sizes, strict=False)
    ]
    room = memoryview(bytearray(CRC_BYTES * len(frames)))
    checks = [room[at : at + CRC_BYTES] for at in range(0, len(room), CRC_BYTES)]
    buffers = list(chain.from_iterable(zip(frames, checks, strict=True)))

    def take(read: _Read, *, at_once: bool) -> bool:
        chosen = read.frames
        if not _fill(read, buffers[2 * chosen.start : 2 * chosen.stop], at_once=at_once):
            return False
        for at in chosen:
            _require_intact(read, frames[at].tobytes(), checks[at])
        return True

    return part.reads(), take


def _decoding(
    part: _Part, out: Mapping[str, Rows], npix: int, cut: slice
) -> tuple[list[_Read], _Taker]:
    """Return the reads of a part, and what writes the pixels of a cut of its frames."""
    rows = [*chain.from_iterable(zip(*(out[name] for name in part.names), strict=True))]
    lines = [row.view(np.uint8).data for row in rows]
    reads, sizes, size = part.reads(), part.sizes, rows[0].itemsize if rows else 0
    kept = slice(cut.start * size, cut.stop * size)
    # It stays in the processor's cache from one read to the next.
    room = memoryview(bytearray(max((read.end - read.begin for read in reads), default=0)))

    def take(read: _Read, *, at_once: bool) -> bool:
        if not _fill(read, [room[: read.end - read.begin]], at_once=at_once):
            return False
        begin = 0
        for at in read.frames:
            end = begin + sizes[at]
            frame = room[begin:end].tobytes()
            begin = end + CRC_BYTES
            _require_intact(read, frame, room[end:begin])
            try:
                values = unpack_blosc(frame, npix * size)
            except ValueError as error:
                raise read.file.fault(f"a chunk is damaged, {error}") from error
            lines[at][:] = memoryview(values)[kept]
        return True

    return reads, take


def _fill(read: _Read, buffers: Sequence[memoryview], *, at_once: bool) -> bool:
    """Read frames and checksums into buffers; return whether all bytes could be read."""
    try:
        count = read.file.source.read_into(read.begin, read.end, buffers, at_once=at_once)
    except OSError as error:
        raise read.file.fault(str(error.strerror)) from error
    return count == read.end - read.begin


def _require_intact(read: _Read, frame: bytes, check: memoryview) -> None:
    """Raise the error for a frame that has not the little-endian crc32c that is stated."""
    if google_crc32c.value(frame) != int.from_bytes(check, "little"):
        raise read.file.fault(_DAMAGED)


@dataclass(frozen=True, slots=True)
class ShardRows:
    """Rows of an array, by the shard that holds them: the same for all arrays of a segment."""

    rows: npt.NDArray[np.int64]
    """1D[nrow]"""
    shards: Sequence[tuple[int, Sequence[int], npt.NDArray[np.int64]]]
    """Number of a shard, which of the rows it holds, and their rows within it."""
    name: NameRows
    """Returns an error that names the spectra of some rows, 1D[n], made of that for a file."""


def by_shard(rows: npt.NDArray[np.integer], name: NameRows) -> ShardRows:
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


def find_cells(
    wanted: Sequence[tuple[FrameArray, tuple[str, ...]]],
    rows: ShardRows,
    written: Mapping[str, int],
    again: Callable[[], StoredCells],
) -> StoredCells:
    """Return the frames of some rows of some arrays, yet to be read.

    Parameters
    ----------
    wanted : arrays, and the vectors that are wanted of each, in the array's order
    written : key of a shard → bytes that were written of it; what is not stated is not compared
    again : finds the same frames when a file has been replaced

    Raises
    ------
    DamagedFile
        A shard is missing, its index is damaged, or a row is not in it.
    """

    def found(wanted: Sequence[tuple[FrameArray, tuple[str, ...]]]) -> StoredCells:
        parts = [
            _found(array, names, rows, written, shards)
            for (array, names), shards in zip(wanted, _opened(wanted, rows), strict=True)
        ]
        sizes = {
            name: np.array(part.sizes[at :: len(part.names)], np.int64)
            for part in parts
            for at, name in enumerate(part.names)
        }
        return StoredCells(sizes, parts, rows, again)

    return _once_more(found, wanted, lambda: wanted)


def begin_cells(
    wanted: Sequence[tuple[FrameArray, tuple[str, ...]]],
    rows: ShardRows,
    again: Callable[[], StoredCells],
) -> StoredCells:
    """Start to fetch the frames of some rows of some arrays; the result has no frames.

    The parameters are those of `find_cells`. A damaged shard is no error here; reading it is.
    """

    def begun(wanted: Sequence[tuple[FrameArray, tuple[str, ...]]]) -> StoredCells:
        for (array, names), shards in zip(wanted, _opened(wanted, rows), strict=True):
            # The frames of a spectrum are stored in this order. Few bytes lie between them.
            first, last = array.vectors.index(names[0]), array.vectors.index(names[-1])
            for (_, _, within), file in zip(rows.shards, shards, strict=True):
                # Whoever reads the rows gets the error.
                if isinstance(file, DamagedFile) or not (file.is_full or file.sizes[within].all()):
                    continue
                ends = file.offsets[within, last] + file.sizes[within, last] + CRC_BYTES
                begins = file.offsets[within, first].tolist()
                file.source.will_need(list(zip(begins, ends.tolist(), strict=True)))
        return StoredCells({}, [], rows, again)

    return _once_more(begun, wanted, lambda: wanted)


def _opened(
    wanted: Sequence[tuple[FrameArray, tuple[str, ...]]], rows: ShardRows
) -> list[list[ShardFile | DamagedFile]]:
    """Return the shards that have some rows, a list for each array."""
    pairs = [(array, shard) for array, _ in wanted for shard, _, _ in rows.shards]
    files = iter(open_shards(pairs))
    return [list(islice(files, len(rows.shards))) for _ in wanted]


def _found(
    array: FrameArray,
    names: tuple[str, ...],
    wanted: ShardRows,
    written: Mapping[str, int],
    shards: Sequence[ShardFile | DamagedFile],
) -> _Part:
    """Return where the frames of some vectors are in the files that there are."""
    every = names == array.vectors
    columns = [] if every else [array.vectors.index(name) for name in names]
    offsets, sizes = np.zeros((2, len(wanted.rows), len(names)), np.int64)
    files: list[Any] = [None] * len(wanted.rows)
    for (_, mine, within), file in zip(wanted.shards, shards, strict=True):
        try:
            if isinstance(file, DamagedFile):
                raise file
            nbytes = written.get(file.entry.key, file.nbytes)
            if nbytes != file.nbytes:
                raise file.fault(f"has {file.nbytes} bytes where {nbytes} were written")
        except DamagedFile as error:
            raise wanted.name(wanted.rows[list(mine)], error) from error
        begins, counts = file.offsets[within], file.sizes[within]
        offsets[mine] = begins if every else begins[:, columns]
        sizes[mine] = counts if every else counts[:, columns]
        for index in mine:
            files[index] = file
    if not sizes.all():
        there = sizes.all(axis=1)
        row = int(np.argmin(there))
        fault = files[row].fault(f"row {wanted.rows[row]} is not in its shard")
        if isinstance(fault, DamagedFile):
            fault = wanted.name(wanted.rows[~there], fault)
        raise fault
    return _Part(names, files, offsets.ravel().tolist(), sizes.ravel().tolist())
