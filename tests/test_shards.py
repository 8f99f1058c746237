"""Encoded chunks read from shards: equal to what Zarr reads, and damage is told."""

import gc
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec, Crc32cCodec

from conftest import folder_at
from specserver import files
from specserver.data.root import open_root
from specserver.errors import StoreError
from specserver.store.frames import StoredCells, by_shard, find_cells
from specserver.store.shards import SHARD, FrameArray, _open_shard, open_shards
from specserver.store.zarr import Segment
from specserver.surveys.sdss import SDSS

RECORD = ("flux", "ivar", "wdisp", "sky", "model")
"""Vectors of SDSS that are float32."""


@dataclass(frozen=True)
class Written:
    """Vectors of one data type of a segment: as a cube, and the fluxes as format 1 has them."""

    cube: Path
    flat: Path
    values: npt.NDArray[np.float32]
    """3D[nspec, nvector, npix] as zarr-python reads them."""


@pytest.fixture(scope="module")
def written(mock_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The arrays that tests copy."""
    cube = min(mock_data.glob("sdss_dr17/seg-*/cube.zarr")) / "float32"
    values = zarr.open_array(cube, mode="r")[:]
    flat = tmp_path_factory.mktemp("flat") / "flux"
    zarr.create_array(
        flat,
        data=values[:, 0],
        shards=(SHARD, values.shape[2]),
        chunks=(1, values.shape[2]),
        compressors=[BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=4), Crc32cCodec()],
    )
    return Written(cube, flat, values)


@pytest.fixture(params=["cube", "flat"])
def array(request: pytest.FixtureRequest, written: Written, tmp_path: Path) -> FrameArray:
    """Return an array that a test may damage."""
    shutil.copytree(getattr(written, request.param), tmp_path / request.param)
    folder = folder_at(tmp_path / request.param)
    return (
        FrameArray(folder, RECORD) if request.param == "cube" else FrameArray(folder, ("flux",), 2)
    )


def found(array: FrameArray, names: tuple[str, ...], rows: list[int]) -> StoredCells:
    """Find some rows of vectors."""
    wanted = by_shard(np.array(rows, np.int64), lambda _, error: error)
    return find_cells([(array, names)], wanted, {}, lambda: found(array, names, rows))


def laid(array: FrameArray, rows: list[int], names: tuple[str, ...] = ("flux",)) -> list[bytes]:
    """Return the frames of some rows, laid end to end in reverse and taken apart again.

    Those of the first vector come first.
    """
    cells = found(array, names, rows)
    taken = []
    places = {}
    for name in names:
        sizes = cells.sizes[name].tolist()
        at = [sum(sizes[index + 1 :]) for index in range(len(rows))]
        places[name] = np.zeros(sum(sizes), np.uint8), at
        taken += [(name, begin, begin + size) for begin, size in zip(at, sizes, strict=True)]
    cells.copy_to(places)
    return [places[name][0][begin:end].tobytes() for name, begin, end in taken]


def file_of(array: FrameArray) -> Path:
    """Return the first shard."""
    return array.folder.entry(array.shard(0)).local_path()


def damage(array: FrameArray, row: int) -> None:
    """Change a byte of the flux of a row."""
    file = file_of(array)
    data = bytearray(file.read_bytes())
    data[int(open_shards([(array, 0)])[0].offsets[row, 0]) + 20] ^= 1
    file.write_bytes(data)
    _open_shard.cache_clear()


def decoded(frames: list[bytes]) -> list[bytes]:
    """Return what frames hold."""
    return [bytes(Blosc().decode(frame)) for frame in frames]


def _open_shards() -> int:
    """Return how many shards this process has open; other files come and go meanwhile."""
    opened = (link.resolve() for link in Path("/proc/self/fd").iterdir())
    return sum("cube.zarr" in path.parts for path in opened)


@pytest.mark.parametrize("names", [("flux",), ("ivar", "model"), ("flux", "ivar"), RECORD])
@pytest.mark.parametrize("rows", [[3, 0, 7, 3], [4, 5, 6], [*range(50)], [1], []])
def test_frames_hold_what_zarr_reads(
    array: FrameArray, written: Written, names: tuple[str, ...], rows: list[int]
) -> None:
    names = tuple(name for name in names if name in array.vectors)
    expected = [written.values[row, RECORD.index(name)].tobytes() for name in names for row in rows]
    assert decoded(laid(array, rows, names)) == expected


def test_all_frames_of_a_spectrum_are_one_read_and_reads_follow_the_file(mock_data: Path) -> None:
    folder = open_root(mock_data).context("sdss_dr17")
    segment = Segment(folder.segment(folder.segments()[0]))
    reads: list[int] = []
    cells = segment.request_cells(segment.vectors, np.array([7, 3]))()
    for part in cells._parts:
        reads += [read.end - read.begin for read in part.reads()]
        begins = [read.begin for read in part.reads()]
        assert begins == sorted(begins)
    frames = sum(sizes + 4 for sizes in cells.sizes.values())
    assert len(reads) == 2 * len({segment._dtypes[name] for name in segment.vectors})
    assert sum(reads) == frames.sum()


def unpacked(array: FrameArray, rows: list[int], cut: slice) -> npt.NDArray[np.float32]:
    """Return pixels of the fluxes of some rows, decompressed."""
    out = np.empty((len(rows), cut.stop - cut.start), np.float32)
    found(array, ("flux",), rows).decode({"flux": out}, SDSS.window.count, cut)
    return out


def test_rows_decode_to_what_zarr_reads(array: FrameArray, written: Written) -> None:
    values = written.values[:, 0]
    npix = values.shape[1]
    for cut in (slice(0, npix), slice(0, 1), slice(17, npix - 5), slice(8, 8)):
        for rows in ([3, 0, 7, 3], [1], [4, 5], []):
            expected = np.array([values[row][cut] for row in rows], np.float32)
            got = unpacked(array, rows, cut)
            assert got.tobytes() == expected.tobytes()


def test_rows_decode_the_same_from_a_cold_disk(
    array: FrameArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = slice(100, 300)
    warm = unpacked(array, [5, 1, 4], cut)
    with file_of(array).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert unpacked(array, [5, 1, 4], cut).tobytes() == warm.tobytes()
    monkeypatch.setattr(files, "_AT_ONCE", None)
    assert unpacked(array, [5, 1, 4], cut).tobytes() == warm.tobytes()


def test_rows_of_a_damaged_chunk_are_not_decoded(array: FrameArray) -> None:
    file = file_of(array)
    damage(array, 2)
    assert unpacked(array, [1], slice(0, 9)).shape == (1, 9)
    with pytest.raises(StoreError, match="checksum"):
        unpacked(array, [1, 2], slice(0, 9))
    os.truncate(file, 10)
    with pytest.raises(StoreError, match=r"cut off|index is damaged"):
        unpacked(array, [1], slice(0, 9))
    _open_shard.cache_clear()


def test_rows_of_another_size_are_not_decoded(array: FrameArray) -> None:
    out = {"flux": np.empty((1, 10), np.float32)}
    with pytest.raises(StoreError, match="not of the size"):
        found(array, ("flux",), [0]).decode(out, 10, slice(0, 10))


def test_frames_are_the_same_from_a_cold_disk(array: FrameArray) -> None:
    warm = laid(array, [5, 1, 4])
    with file_of(array).open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert laid(array, [5, 1, 4]) == warm


def test_frames_are_the_same_where_the_system_cannot_say_what_is_in_memory(
    array: FrameArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = laid(array, [2, 6])
    monkeypatch.setattr(files, "_AT_ONCE", None)
    assert laid(array, [2, 6]) == usual


def test_a_damaged_chunk_is_told(array: FrameArray) -> None:
    damage(array, 2)
    assert laid(array, [1])
    with pytest.raises(StoreError, match="checksum"):
        laid(array, [1, 2])


@pytest.mark.parametrize("what", ["index", "short", "empty", "gone"])
def test_a_damaged_shard_is_told(array: FrameArray, what: str) -> None:
    file = file_of(array)
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


def test_a_chunk_cut_off_while_the_shard_is_open_is_told(array: FrameArray) -> None:
    _open_shard.cache_clear()
    laid(array, [0])
    os.truncate(file_of(array), 10)
    with pytest.raises(StoreError, match=r"cut off|index is damaged"):
        laid(array, [0])
    _open_shard.cache_clear()


def test_a_row_that_is_not_there_is_told(array: FrameArray) -> None:
    with pytest.raises(StoreError, match="row 999 is not in its shard"):
        laid(array, [0, SHARD - 1])


def test_shards_out_of_use_are_closed(mock_data: Path) -> None:
    folder = open_root(mock_data).context("sdss_dr17")
    segment = Segment(folder.segment(folder.segments()[0]))
    _open_shard.cache_clear()
    gc.collect()
    before = _open_shards()
    narrays = len({segment._dtypes[name] for name in segment.vectors})
    frames = segment.request_cells(segment.vectors, np.array([0]))()
    assert _open_shards() == before + narrays
    # In use, it stays open even when it has left the cache.
    _open_shard.cache_clear()
    gc.collect()
    assert _open_shards() == before + narrays
    del frames
    gc.collect()
    assert _open_shards() == before
