"""The writing of a segment's arrays, which `store.zarr` describes and reads."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import google_crc32c
import numpy as np
import numpy.typing as npt
import tensorstore as ts
from numcodecs import VLenUTF8, blosc

from ..data.context import SegmentFolder
from ..data.handles import Folder
from ..errors import StoreError
from ..model.survey import Survey, Vector
from .layout import FORMAT_VERSION
from .shards import ABSENT_CHUNK, CRC_BYTES, SHARD, FrameArray
from .zarr import ABOUT, GROUP, own_pixels, shared_vectors

_LEVEL: Final = 5
"""Level of the compression."""
_BLOCK: Final = 50
"""Spectra laid on the lattice at once: their vectors stay in the processor's cache."""
_BYTES: Final[Mapping[str, Any]] = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC: Final[Mapping[str, Any]] = {"name": "crc32c"}


@dataclass(frozen=True, slots=True)
class SegmentArrays:
    """All spectra of a segment, in the segment's row order."""

    ids: npt.NDArray[Any]
    first: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]
    vectors: Mapping[str, Sequence[npt.NDArray[Any]]]
    """For each vector nspec arrays, 1D[count] each, or as long as the vector's own pixels. Off the
    lattice, the axis is a vector too."""


def write_arrays(
    segment: SegmentFolder, survey: Survey, context: str, arrays: SegmentArrays, *, on_lattice: bool
) -> None:
    """Write the arrays of a segment as a Zarr group."""
    folder = segment.arrays(FORMAT_VERSION)
    stored = survey.vectors if on_lattice else survey.record
    npix = survey.window.count if on_lattice else int(arrays.count.max())
    start = survey.window.first if on_lattice else 0
    cubes = [
        Cube(kind, npix, [_about(vector, survey, on_lattice=on_lattice) for vector in vectors])
        for kind, vectors in _by_dtype(stored).items()
    ]
    attributes = {
        "survey": survey.name,
        "context": context,
        "on_lattice": on_lattice,
        "grid": survey.grid.to_dict(),
        "first_pixel": start,
        "frame": survey.frame,
        "vectors": [vector.name for vector in stored],
        "coordinates": "id first count wavelength" if on_lattice else "id first count",
        "like": shared_vectors(stored) if on_lattice else {},
    }
    write_group(folder, attributes, cubes)
    _write_vector(folder.below("id"), arrays.ids, "spectrum", ABOUT["id"])
    _write_vector(folder.below("first"), arrays.first, "spectrum", ABOUT["first"])
    _write_vector(folder.below("count"), arrays.count, "spectrum", ABOUT["count"])
    if on_lattice:
        wave = survey.grid.wave(start, npix)
        medium = survey.medium or "as the catalogue says of each"
        _write_vector(
            folder.below("wavelength"), wave, "pixel", {"units": "Angstrom", "medium": medium}
        )
    for cube in cubes:
        vectors = [vector for vector in stored if vector.name in cube.names]
        frames = _encoded(arrays, vectors, start, npix, on_lattice=on_lattice)
        write_cube(folder, cube, len(arrays.ids), frames)


@dataclass(frozen=True, slots=True)
class Cube:
    """The array of all vectors of one data type."""

    dtype: str
    npix: int
    vectors: Sequence[Mapping[str, Any]]
    """Of each its ``name``, ``units`` and ``long_name``, and what the survey says else."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the vectors, in the order in which their frames lie in the file."""
        return tuple(vector["name"] for vector in self.vectors)


def _by_dtype(vectors: Sequence[Vector]) -> dict[str, list[Vector]]:
    """Return vectors by the names of their data types; those of the record come first."""
    found: dict[str, list[Vector]] = {}
    for vector in vectors:
        found.setdefault(np.dtype(vector.dtype).name, []).append(vector)
    return found


def _about(vector: Vector, survey: Survey, *, on_lattice: bool) -> dict[str, Any]:
    """Return what the attributes of an array say of a vector."""
    unit = "as the catalogue says of each" if vector.unit and survey.in_unit else vector.unit
    about: dict[str, Any] = {"name": vector.name, "units": unit, "long_name": vector.meaning}
    if on_lattice and vector.like:
        about |= {"like": vector.like, "own": vector.own, "pixels": vector.pixels}
    return about


def _encoded(
    arrays: SegmentArrays, vectors: Sequence[Vector], start: int, npix: int, *, on_lattice: bool
) -> Iterator[bytes]:
    """Yield the Blosc frames of vectors of one data type, row by row."""
    for at in range(0, len(arrays.ids), _BLOCK):
        blocks = {vector.name: _block(arrays, vector, at, start, npix) for vector in vectors}
        for vector in vectors:
            if on_lattice and vector.like:
                _keep_own(blocks[vector.name], blocks[vector.like], vector, start)
        for rows in zip(*blocks.values(), strict=True):
            for row in rows:
                yield blosc.compress(row, b"lz4", _LEVEL, blosc.BITSHUFFLE, 0)


def _block(
    arrays: SegmentArrays, vector: Vector, at: int, start: int, npix: int
) -> npt.NDArray[Any]:
    """Return some rows of a vector, 2D[n, npix]."""
    rows = arrays.vectors[vector.name][at : at + _BLOCK]
    block = np.zeros((len(rows), npix), vector.dtype)
    for index, values in enumerate(rows):
        first = int(arrays.first[at + index]) if vector.pixels is None else vector.pixels[0]
        block[index, first - start : first - start + len(values)] = values
    return block


def write_group(folder: Folder, attributes: Mapping[str, Any], cubes: Sequence[Cube]) -> None:
    """Write the metadata of a group of arrays."""
    told = {
        "specserver_format": FORMAT_VERSION,
        **attributes,
        "arrays": {cube.dtype: cube.names for cube in cubes},
    }
    _write_json(folder, {"node_type": "group", "attributes": told})


def write_cube(folder: Folder, cube: Cube, nspec: int, frames: Iterable[bytes]) -> None:
    """Write the array of a cube, and the names of its vectors, into the folder of a group.

    Parameters
    ----------
    frames : the encoded chunks, for each spectrum one of each vector
    """
    array, nvector, kind = folder.below(cube.dtype), len(cube.names), np.dtype(cube.dtype)
    dimension = f"vector_{cube.dtype}"
    blosc_codec = {
        "cname": "lz4",
        "clevel": _LEVEL,
        "shuffle": "bitshuffle",
        "typesize": kind.itemsize,
        "blocksize": 0,
    }
    sharding = {
        "chunk_shape": [1, 1, cube.npix],
        "codecs": [_BYTES, {"name": "blosc", "configuration": blosc_codec}, _CRC],
        "index_codecs": [_BYTES, _CRC],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    shape, chunk = (nspec, nvector, cube.npix), (SHARD, nvector, cube.npix)
    dimensions = ("spectrum", dimension, "pixel")
    about = {"vectors": cube.vectors}
    _write_json(array, _metadata(shape, chunk, cube.dtype, codecs, dimensions, about))
    place, left = FrameArray(array, cube.names), iter(frames)
    for number, at in enumerate(range(0, nspec, SHARD)):
        count = min(SHARD, nspec - at) * nvector
        array.entry(place.shard(number)).create(_shard(islice(left, count), SHARD * nvector))
    names = bytes(VLenUTF8().encode(np.array(cube.names, object)))
    label, text = folder.below(dimension), [{"name": "vlen-utf8"}, _CRC]
    _write_json(label, _metadata((nvector,), (nvector,), "string", text, (dimension,), {}))
    label.entry("c/0").create(names + _crc_of(names))


def _shard(frames: Iterable[bytes], nchunk: int) -> memoryview:
    """Return a shard of encoded chunks."""
    content = bytearray()
    index = np.full((nchunk, 2), ABSENT_CHUNK, "<u8")
    for place, frame in zip(index, frames, strict=False):
        place[:] = len(content), len(frame) + CRC_BYTES
        content += frame
        content += _crc_of(frame)
    content += index.tobytes()
    content += _crc_of(index.tobytes())
    return memoryview(content)


def _crc_of(content: bytes) -> bytes:
    """Return the crc32c of some bytes."""
    return int(google_crc32c.value(content)).to_bytes(CRC_BYTES, "little")


def _keep_own(
    block: npt.NDArray[Any], shared: npt.NDArray[Any], vector: Vector, start: int
) -> None:
    """Check that a vector equals the one that it is like in shared pixels, and clear these."""
    own = own_pixels(vector.own, start, block.shape[1])
    first, stop = vector.pixels or (start, start + block.shape[1])
    # As bytes: NaN is the same as itself, and minus zero is not zero.
    bits = f"u{block.dtype.itemsize}"
    ours, theirs = block.view(bits), shared.view(bits)
    # By runs of pixels: indexing single pixels takes ten times as long.
    for run in _runs(~own):
        inside = slice(max(run.start, first - start), min(run.stop, stop - start))
        if inside.start < inside.stop and not np.array_equal(ours[:, inside], theirs[:, inside]):
            told = f"differs from {vector.like} where both should be the same"
            raise StoreError(vector.name, told)
        block[:, run] = 0


def _runs(chosen: npt.NDArray[np.bool_]) -> list[slice]:
    """Return the runs of chosen pixels, 1D[npix]."""
    edges = np.flatnonzero(np.diff(chosen, prepend=False, append=False)).tolist()
    return [slice(*pair) for pair in zip(edges[::2], edges[1::2], strict=True)]


def _metadata(
    shape: Sequence[int],
    chunk: Sequence[int],
    dtype: str,
    codecs: Sequence[Mapping[str, Any]],
    dimensions: Sequence[str],
    attributes: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metadata of an array."""
    return {
        "node_type": "array",
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": "" if dtype == "string" else 0,
        "codecs": codecs,
        "dimension_names": dimensions,
        "attributes": attributes,
    }


def _write_json(folder: Folder, metadata: Mapping[str, Any]) -> None:
    """Write the metadata of a group or an array."""
    folder.entry(GROUP).replace(json.dumps({"zarr_format": 3, **metadata}, indent=1).encode())


def _write_vector(
    array: Folder, values: npt.NDArray[Any], dimension: str, attributes: Mapping[str, Any]
) -> None:
    """Write a 1-D array in one chunk."""
    context = ts.Context()
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "memory"},
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
    ts.open(spec, create=True, context=context).result().write(values).result()
    made = ts.KvStore.open({"driver": "memory"}, context=context).result()
    for key in made.list().result():
        array.entry(key.decode()).replace(made[key])
