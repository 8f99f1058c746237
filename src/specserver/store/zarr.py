"""The arrays of a segment: a Zarr v3 group, one array a vector, through TensorStore.

================ =============== ======================================================
array            shape, dtype    content
================ =============== ======================================================
<vector>         nspec × npix    one for each vector of the survey, on its lattice
id               nspec           identifiers
first, count     nspec int32     lattice pixel of the first value, and number of values
wavelength       npix float64    vacuum Å of the columns (segments on the lattice)
<axis>           nspec × npix    the published axis (segments off the lattice only)
================ =============== ======================================================

A shard holds some thousand spectra, an inner chunk one: Blosc lz4 with bit shuffle, then crc32c.
Values outside ``first … first + count - 1`` are zero, and so is ivar there: no information.
Off the lattice, ``first`` is 0 and every spectrum keeps its own axis.

A vector with the attributes ``like`` and ``own`` (such as one arm of a spectrum that several arms
make) holds the pixels ``own`` only, and is zero elsewhere: there, within its ``pixels``, it is the
same as the vector that it is like, bit for bit, and `Segment.request` puts both together.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from ..errors import StoreError
from ..model.grid import Grid, PixelRange, grid_from_dict
from ..model.survey import Survey, Vector
from .layout import FORMAT_VERSION
from .shards import SHARD, ShardFrames, by_shard, shard_frames

_INDEX_CODECS: Final = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]
_CACHE_BYTES: Final = 256 * 2**20
_OPEN_SEGMENTS: Final = 4096


@dataclass(frozen=True, slots=True)
class SegmentArrays:
    """What is to be written: all spectra of a segment, in the segment's row order."""

    ids: npt.NDArray[Any]
    first: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]
    vectors: Mapping[str, Sequence[npt.NDArray[Any]]]
    """For each vector nspec arrays, 1D[count] each, or as long as the vector's own pixels; the axis
    among them off the lattice."""


def write_arrays(
    path: Path, survey: Survey, context: str, arrays: SegmentArrays, *, on_lattice: bool
) -> None:
    """Write the Zarr group of a segment into the folder ``path``."""
    nspec = len(arrays.ids)
    stored = survey.vectors if on_lattice else survey.record
    npix = survey.window.count if on_lattice else int(arrays.count.max())
    start = survey.window.first if on_lattice else 0
    attributes = {
        "specserver_format": FORMAT_VERSION,
        "survey": survey.name,
        "context": context,
        "on_lattice": on_lattice,
        "grid": survey.grid.to_dict(),
        "first_pixel": start,
        "frame": survey.frame,
        "vectors": [vector.name for vector in stored],
        "coordinates": "id first count wavelength" if on_lattice else "id first count",
        "like": {
            one.name: {"like": one.like, "own": one.own, "pixels": one.pixels}
            for one in stored
            if on_lattice and one.like
        },
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    path.mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(group, indent=1), "utf-8")
    _write_vector(path / "id", arrays.ids, "spectrum", {})
    _write_vector(path / "first", arrays.first, "spectrum", {"units": "pix"})
    _write_vector(path / "count", arrays.count, "spectrum", {"units": "pix"})
    if on_lattice:
        wave = survey.grid.wave(start, npix)
        medium = survey.medium or "as the catalogue says of each"
        _write_vector(path / "wavelength", wave, "pixel", {"units": "Angstrom", "medium": medium})
    shapes = {"nspec": nspec, "npix": npix}
    for vector in stored:
        about: dict[str, Any] = {"units": vector.unit, "long_name": vector.meaning}
        partial = on_lattice and vector.like
        if partial:
            about |= {"like": vector.like, "own": vector.own, "pixels": vector.pixels}
        array = ts.open(
            _sharded(path / vector.name, vector.dtype, shapes, about), create=True
        ).result()
        for at in range(0, nspec, SHARD):
            block = _block(arrays, vector, at, start, npix)
            if partial:
                whole = replace(vector, name=vector.like, pixels=None)
                shared = _block(arrays, whole, at, start, npix)
                _keep_own(block, shared, vector, start)
            array[at : at + len(block)].write(block).result()


def _block(
    arrays: SegmentArrays, vector: Vector, at: int, start: int, npix: int
) -> npt.NDArray[Any]:
    """Return the rows of one shard of a vector, 2D[n, npix]."""
    rows = arrays.vectors[vector.name][at : at + SHARD]
    block = np.zeros((len(rows), npix), vector.dtype)
    for index, values in enumerate(rows):
        first = int(arrays.first[at + index]) if vector.pixels is None else vector.pixels[0]
        block[index, first - start : first - start + len(values)] = values
    return block


def _keep_own(
    block: npt.NDArray[Any], shared: npt.NDArray[Any], vector: Vector, start: int
) -> None:
    """Clear what a vector shares with the one that it is like, once that is seen to be the same."""
    own = _own_pixels(vector.own, start, block.shape[1])
    first, stop = vector.pixels or (start, start + block.shape[1])
    inside = ~own
    inside[: max(0, first - start)] = inside[stop - start :] = False
    # As bytes: NaN is the same as itself, and minus zero is not zero.
    bits = f"u{block.dtype.itemsize}"
    if not np.array_equal(block.view(bits)[:, inside], shared.view(bits)[:, inside]):
        raise StoreError(vector.name, f"differs from {vector.like} where both should be the same")
    block[:, ~own] = 0


def _own_pixels(runs: Sequence[Sequence[int]], start: int, npix: int) -> npt.NDArray[np.bool_]:
    """Return which of some pixels a vector has of its own, 1D[npix]."""
    own = np.zeros(npix, np.bool_)
    for first, stop in runs:
        own[max(0, first - start) : max(0, stop - start)] = True
    return own


def _sharded(
    path: Path, dtype: str, shapes: Mapping[str, int], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the TensorStore spec of one vector's array."""
    kind = np.dtype(dtype)
    blosc = {
        "cname": "lz4",
        "clevel": 5,
        "shuffle": "bitshuffle",
        "typesize": kind.itemsize,
        "blocksize": 0,
    }
    inner = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "blosc", "configuration": blosc},
        {"name": "crc32c"},
    ]
    sharding = {
        "chunk_shape": [1, shapes["npix"]],
        "codecs": inner,
        "index_codecs": _INDEX_CODECS,
        "index_location": "end",
    }
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        # Minus zero equals the fill value and would come back as plus zero.
        "store_data_equal_to_fill_value": True,
        "metadata": {
            "shape": [shapes["nspec"], shapes["npix"]],
            "data_type": kind.name,
            "fill_value": 0,
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [SHARD, shapes["npix"]]},
            },
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["spectrum", "pixel"],
            "attributes": dict(attributes),
        },
    }


def _write_vector(
    path: Path, values: npt.NDArray[Any], dimension: str, attributes: Mapping[str, Any]
) -> None:
    """Write a 1-D array in one chunk."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": {
            "shape": [len(values)],
            "data_type": values.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [len(values)]}},
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": 3}},
                {"name": "crc32c"},
            ],
            "dimension_names": [dimension],
            "attributes": dict(attributes),
        },
    }
    ts.open(spec, create=True).result().write(values).result()


class Segment:
    """A committed segment, open for reading; safe to share between threads."""

    def __init__(self, path: Path) -> None:
        self.path = path / "spectra.zarr"
        try:
            group = json.loads((self.path / "zarr.json").read_text("utf-8"))["attributes"]
        except (OSError, ValueError, KeyError) as error:
            raise StoreError(str(self.path), f"no Zarr group ({error})") from error
        self.on_lattice: bool = group["on_lattice"]
        self.grid: Grid = grid_from_dict(group["grid"])
        self.vectors: tuple[str, ...] = tuple(group["vectors"])
        self._like: Mapping[str, Any] = group.get("like", {})
        self.ids = self._read_1d("id")
        self.first = self._read_1d("first")
        self.count = self._read_1d("count")
        self.start: int = group["first_pixel"]
        self.npix = int(self._array(self.vectors[0]).shape[1])

    @property
    def nspec(self) -> int:
        """Number of spectra."""
        return len(self.ids)

    def request_cells(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> Callable[[], dict[str, ShardFrames]]:
        """Find whole rows in their shards; their Blosc frames are read as they are laid in place.

        Parameters
        ----------
        vectors : none of those that are like another: their frames are not the whole of them
        rows : 1D[n] int, row of the segment
        """
        frames = self._frames(vectors, rows)
        return lambda: frames

    def request(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer], pixels: PixelRange
    ) -> Callable[[], dict[str, npt.NDArray[Any]]]:
        """Begin to read values; the call returned waits and gives them, 2D[nrow, npix] each.

        ``pixels`` are lattice pixels inside `window`.
        """
        cut = slice(pixels.first - self.start, pixels.stop - self.start)
        shared = [self._like[name]["like"] for name in vectors if name in self._like]
        pending = self._frames(list(dict.fromkeys((*vectors, *shared))), rows)

        def gather() -> dict[str, npt.NDArray[Any]]:
            values = {name: self._decoded(name, frames, cut) for name, frames in pending.items()}
            return {name: self._whole(name, values, pixels) for name in vectors}

        return gather

    def _frames(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> dict[str, ShardFrames]:
        """Return the frames of some rows of each vector, yet to be read."""
        wanted = by_shard(rows)
        return {name: shard_frames(f"{self.path}/{name}", wanted) for name in vectors}

    def _whole(
        self, name: str, values: Mapping[str, npt.NDArray[Any]], pixels: PixelRange
    ) -> npt.NDArray[Any]:
        """Return a vector with what it shares with another one put in."""
        about = self._like.get(name)
        if about is None:
            return values[name]
        first, stop = about["pixels"] or (pixels.first, pixels.stop)
        own = _own_pixels(about["own"], pixels.first, pixels.count)
        taken = ~own
        taken[: max(0, first - pixels.first)] = taken[max(0, stop - pixels.first) :] = False
        return np.where(taken, values[about["like"]], values[name])

    def _decoded(self, name: str, frames: ShardFrames, cut: slice) -> npt.NDArray[Any]:
        """Return the values of some rows, 2D[nrow, npix]."""
        # TensorStore takes twice as long for single rows, and keeps them for nobody.
        shape = (len(frames.sizes), cut.stop - cut.start)
        values: npt.NDArray[Any] = np.empty(shape, self._array(name).dtype.numpy_dtype)
        frames.decode(values, self.npix, cut)
        return values

    @property
    def window(self) -> PixelRange:
        """Lattice pixels that the arrays cover."""
        return PixelRange(self.start, self.start + self.npix)

    def verify(self) -> int:
        """Read every chunk against its checksum; return the bytes decoded.

        Raises
        ------
        StoreError
            Naming the array and the first spectra that cannot be read.
        """
        nbytes = 0
        for name in self.vectors:
            array = self._array(name)
            for at in range(0, self.nspec, SHARD):
                try:
                    nbytes += array[at : min(at + SHARD, self.nspec)].read().result().nbytes
                except ValueError as error:
                    rows = f"rows {at} … {min(at + SHARD, self.nspec) - 1}"
                    raise StoreError(str(self.path / name), f"{rows}: {error}") from error
        return nbytes

    def _read_1d(self, name: str) -> npt.NDArray[Any]:
        """Return a whole 1-D array."""
        values: npt.NDArray[Any] = self._array(name).read().result()
        return values

    def _array(self, name: str) -> Any:
        """Return an open TensorStore array."""
        return _open_array(f"{self.path}/{name}")


_context = lru_cache(maxsize=1)(
    lambda: ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
)


@lru_cache(maxsize=_OPEN_SEGMENTS * 8)
def _open_array(path: str) -> Any:
    """Open an array for reading; an immutable one stays open."""
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": path},
        # Chunks are read once and handed on: caching them would only hold memory.
        "recheck_cached_data": False,
    }
    try:
        return ts.open(spec, read=True, context=_context()).result()
    except ValueError as error:
        raise StoreError(path, str(error)) from error


@lru_cache(maxsize=_OPEN_SEGMENTS)
def open_segment(path: Path) -> Segment:
    """Return a segment open for reading; the same object for the same path."""
    return Segment(path)
