"""Encoded chunks read from shards: equal to what Zarr reads, and damage is told."""

import gc
import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from numcodecs import Blosc

from conftest import Served, folder_at
from specserver.data import local
from specserver.data.root import open_root
from specserver.errors import StoreError
from specserver.store.shards import SHARD, _open_shard, by_shard, open_shard, shard_frames
from specserver.store.zarr import Segment


@pytest.fixture
def array(served: Served, tmp_path: Path) -> Path:
    """Return the array of fluxes of one segment, a copy that a test may damage."""
    first = min(served.data.glob("sdss_dr17/seg-*/spectra.zarr"))
    shutil.copytree(first / "flux", tmp_path / "flux")
    return tmp_path / "flux"


def laid(path: Path, rows: list[int]) -> list[bytes]:
    """Return the frames of some rows, laid end to end in reverse and taken apart again."""
    frames = shard_frames(folder_at(path), by_shard(np.array(rows)))
    sizes = frames.sizes.tolist()
    at = [sum(sizes[index + 1 :]) for index in range(len(rows))]
    room = bytearray(sum(sizes))
    frames.copy_to(memoryview(room), at)
    return [bytes(room[begin : begin + size]) for begin, size in zip(at, sizes, strict=True)]


def decoded(frames: list[bytes]) -> list[bytes]:
    """Return what frames hold."""
    return [bytes(Blosc().decode(frame)) for frame in frames]


def _open_shards() -> int:
    """Return how many shards this process has open; other files come and go meanwhile."""
    opened = (link.resolve() for link in Path("/proc/self/fd").iterdir())
    return sum("spectra.zarr" in path.parts for path in opened)


def test_frames_hold_what_zarr_reads(array: Path) -> None:
    values = zarr.open_array(array, mode="r")
    rows = [3, 0, 7, 3]
    assert decoded(laid(array, rows)) == [values[row].tobytes() for row in rows]


def unpacked(path: Path, rows: list[int], cut: slice) -> npt.NDArray[np.float32]:
    """Return pixels of some rows, decompressed."""
    npix = zarr.open_array(path, mode="r").shape[1]
    out = np.empty((len(rows), cut.stop - cut.start), np.float32)
    shard_frames(folder_at(path), by_shard(np.array(rows, np.int64))).decode(out, npix, cut)
    return out


def test_rows_decode_to_what_zarr_reads(array: Path) -> None:
    values = zarr.open_array(array, mode="r")
    npix = values.shape[1]
    for cut in (slice(0, npix), slice(0, 1), slice(17, npix - 5), slice(8, 8)):
        for rows in ([3, 0, 7, 3], [1], []):
            expected = np.array([values[row][cut] for row in rows], np.float32)
            got = unpacked(array, rows, cut)
            assert got.tobytes() == expected.tobytes()


def test_rows_decode_the_same_from_a_cold_disk(
    array: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = slice(100, 300)
    warm = unpacked(array, [5, 1, 4], cut)
    with (array / "c/0/0").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert unpacked(array, [5, 1, 4], cut).tobytes() == warm.tobytes()
    monkeypatch.setattr(local, "_AT_ONCE", None)
    assert unpacked(array, [5, 1, 4], cut).tobytes() == warm.tobytes()


def test_rows_of_a_damaged_chunk_are_not_decoded(array: Path) -> None:
    file = array / "c/0/0"
    data = bytearray(file.read_bytes())
    data[int(open_shard(folder_at(file.parents[2]), 0).offsets[2]) + 20] ^= 1
    file.write_bytes(data)
    _open_shard.cache_clear()
    assert unpacked(array, [1], slice(0, 9)).shape == (1, 9)
    with pytest.raises(StoreError, match="checksum"):
        unpacked(array, [1, 2], slice(0, 9))
    os.truncate(file, 10)
    with pytest.raises(StoreError, match=r"cut off|index is damaged"):
        unpacked(array, [1], slice(0, 9))
    _open_shard.cache_clear()


def test_rows_of_another_size_are_not_decoded(array: Path) -> None:
    frames = shard_frames(folder_at(array), by_shard(np.array([0])))
    with pytest.raises(StoreError, match="not of the size"):
        frames.decode(np.empty((1, 10), np.float32), 10, slice(0, 10))


def test_frames_are_the_same_from_a_cold_disk(array: Path) -> None:
    warm = laid(array, [5, 1, 4])
    with (array / "c/0/0").open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert laid(array, [5, 1, 4]) == warm


def test_frames_are_the_same_where_the_system_cannot_say_what_is_in_memory(
    array: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = laid(array, [2, 6])
    monkeypatch.setattr(local, "_AT_ONCE", None)
    assert laid(array, [2, 6]) == usual


def test_a_damaged_chunk_is_told(array: Path) -> None:
    file = array / "c/0/0"
    data = bytearray(file.read_bytes())
    place = open_shard(folder_at(file.parents[2]), 0)
    data[int(place.offsets[2]) + 20] ^= 1
    file.write_bytes(data)
    _open_shard.cache_clear()
    assert laid(array, [1])
    with pytest.raises(StoreError, match="checksum"):
        laid(array, [1, 2])


@pytest.mark.parametrize("what", ["index", "short", "empty", "gone"])
def test_a_damaged_shard_is_told(array: Path, what: str) -> None:
    file = array / "c/0/0"
    data = bytearray(file.read_bytes())
    if what == "index":
        data[-100] ^= 1
    file.write_bytes(
        {"index": bytes(data), "short": bytes(data[:-1]), "empty": b"", "gone": b""}[what]
    )
    if what == "gone":
        file.unlink()
    _open_shard.cache_clear()
    with pytest.raises(StoreError, match=r"damaged|No such file"):
        laid(array, [1])


def test_a_chunk_cut_off_while_the_shard_is_open_is_told(array: Path) -> None:
    _open_shard.cache_clear()
    laid(array, [0])
    os.truncate(array / "c/0/0", 10)
    with pytest.raises(StoreError, match=r"cut off|index is damaged"):
        laid(array, [0])
    _open_shard.cache_clear()


def test_a_row_that_is_not_there_is_told(array: Path) -> None:
    with pytest.raises(StoreError, match="row 999 is not in its shard"):
        laid(array, [0, SHARD - 1])


def test_shards_out_of_use_are_closed(served: Served) -> None:
    folder = open_root(served.data).context("sdss_dr17")
    segment = Segment(folder.segment(folder.segments()[0]))
    _open_shard.cache_clear()
    gc.collect()
    before = _open_shards()
    frames = segment.request_cells(segment.vectors, np.array([0]))()
    assert _open_shards() == before + len(segment.vectors)
    # In use, it stays open even when it has left the cache.
    _open_shard.cache_clear()
    gc.collect()
    assert _open_shards() == before + len(segment.vectors)
    del frames
    gc.collect()
    assert _open_shards() == before
