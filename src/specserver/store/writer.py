"""The writing of a segment's arrays, which `store.zarr` describes and reads."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from ..data.handles import Folder
from ..errors import StoreError
from ..model.survey import Survey, Vector
from .layout import FORMAT_VERSION
from .shards import SHARD
from .zarr import GROUP, own_pixels, shared_vectors

_INDEX_CODECS: Final = [
    {"name": "bytes", "configuration": {"endian": "little"}},
    {"name": "crc32c"},
]


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
    folder: Folder, survey: Survey, context: str, arrays: SegmentArrays, *, on_lattice: bool
) -> None:
    """Write the arrays of a segment as a Zarr group."""
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
        "like": shared_vectors(stored) if on_lattice else {},
    }
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    folder.entry(GROUP).replace(json.dumps(group, indent=1).encode())
    _write_vector(folder.below("id"), arrays.ids, "spectrum", {})
    _write_vector(folder.below("first"), arrays.first, "spectrum", {"units": "pix"})
    _write_vector(folder.below("count"), arrays.count, "spectrum", {"units": "pix"})
    if on_lattice:
        wave = survey.grid.wave(start, npix)
        medium = survey.medium or "as the catalogue says of each"
        _write_vector(
            folder.below("wavelength"), wave, "pixel", {"units": "Angstrom", "medium": medium}
        )
    shapes = {"nspec": nspec, "npix": npix}
    made: dict[str, Any] = {}
    for vector in stored:
        unit = vector.unit
        if unit and survey.in_unit:
            unit = "as the catalogue says of each"
        about: dict[str, Any] = {"units": unit, "long_name": vector.meaning}
        if on_lattice and vector.like:
            about |= {"like": vector.like, "own": vector.own, "pixels": vector.pixels}
        spec = _sharded(folder.below(vector.name), vector.dtype, shapes, about)
        made[vector.name] = ts.open(spec, create=True).result()
    likes = {vector.like for vector in stored if on_lattice and vector.like}
    for at in range(0, nspec, SHARD):
        shared: dict[str, npt.NDArray[Any]] = {}
        # Vectors that others share pixels with are written first.
        for vector in sorted(stored, key=lambda item: item.name not in likes):
            block = _block(arrays, vector, at, start, npix)
            if on_lattice and vector.like:
                _keep_own(block, shared[vector.like], vector, start)
            if vector.name in likes:
                shared[vector.name] = block
            made[vector.name][at : at + len(block)].write(block).result()


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


def _sharded(
    array: Folder, dtype: str, shapes: Mapping[str, int], attributes: Mapping[str, Any]
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
        "kvstore": array.kvstore(),
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
    array: Folder, values: npt.NDArray[Any], dimension: str, attributes: Mapping[str, Any]
) -> None:
    """Write a 1-D array in one chunk."""
    spec = {
        "driver": "zarr3",
        "kvstore": array.kvstore(),
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
