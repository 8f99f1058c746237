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
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from ..errors import StoreError
from ..model.grid import Grid, PixelRange, grid_from_dict
from ..model.survey import Survey
from .layout import FORMAT_VERSION
from .shards import SHARD, ShardFrames, shard_frames

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
    """For each vector nspec arrays, 1D[count] each; the axis among them off the lattice."""


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
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    path.mkdir(parents=True)
    (path / "zarr.json").write_text(json.dumps(group, indent=1), "utf-8")
    _write_vector(path / "id", arrays.ids, "spectrum", {})
    _write_vector(path / "first", arrays.first, "spectrum", {"units": "pix"})
    _write_vector(path / "count", arrays.count, "spectrum", {"units": "pix"})
    if on_lattice:
        wave = survey.grid.wave(start, npix)
        _write_vector(path / "wavelength", wave, "pixel", {"units": "Angstrom", "medium": "vacuum"})
    shapes = {"nspec": nspec, "npix": npix}
    for vector in stored:
        about = {"units": vector.unit, "long_name": vector.meaning}
        array = ts.open(
            _sharded(path / vector.name, vector.dtype, shapes, about), create=True
        ).result()
        rows = arrays.vectors[vector.name]
        for at in range(0, nspec, SHARD):
            block = np.zeros((min(SHARD, nspec - at), npix), vector.dtype)
            for index, values in enumerate(rows[at : at + SHARD]):
                offset = int(arrays.first[at + index]) - start
                block[index, offset : offset + len(values)] = values
            array[at : at + len(block)].write(block).result()


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
        rows : 1D[n] int, row of the segment
        """
        frames = {name: shard_frames(f"{self.path}/{name}", rows) for name in vectors}
        return lambda: frames

    def request(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer], pixels: PixelRange
    ) -> Callable[[], dict[str, npt.NDArray[Any]]]:
        """Begin to read values; the call returned waits and gives them, 2D[nrow, npix] each.

        ``pixels`` are lattice pixels inside `window`.
        """
        cut = slice(pixels.first - self.start, pixels.stop - self.start)
        try:
            pending = {
                name: self._array(name)[np.asarray(rows, np.int64), cut].read() for name in vectors
            }
        except ValueError as error:
            raise StoreError(str(self.path), str(error)) from error
        return lambda: {name: self._decoded(name, future) for name, future in pending.items()}

    def _decoded(self, name: str, future: Any) -> npt.NDArray[Any]:
        """Return the values of a finished read."""
        try:
            values: npt.NDArray[Any] = future.result()
        except ValueError as error:
            raise StoreError(str(self.path / name), str(error)) from error
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
