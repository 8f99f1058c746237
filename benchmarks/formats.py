"""Segments in format 1 of the store, as version 0.1.0 wrote them, and files that leave the cache.

In format 1 each vector has an array of its own. Only spectra on the lattice are written, and no
vectors that are like others.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from specserver.data.context import SegmentFolder
from specserver.data.root import DataRoot, open_root
from specserver.digests import seal
from specserver.store.zarr import Segment, open_segment
from specserver.surveys import find_release

SHARD: Final = 1000
"""Spectra of a shard."""
_LITTLE: Final = {"name": "bytes", "configuration": {"endian": "little"}}
_CRC: Final = {"name": "crc32c"}
_ZSTD: Final = {"name": "zstd", "configuration": {"level": 3}}


def as_format_1(source: DataRoot, folder: Path, context: str) -> DataRoot:
    """Write a context anew with segments of format 1; all other files are shared by hard links."""
    data = open_root(folder)
    copytree(
        source.context(context).local_path(),
        data.context(context).local_path(),
        copy_function=os.link,
        ignore=ignore_patterns("*.zarr", "segment.json", "leases", "catalogs"),
    )
    for name in source.context(context).segments():
        _write_segment(open_segment(source.context(context).segment(name)), data.context(context))
    data.context(context).sync()
    return data


def _write_segment(stored: Segment, context: Any) -> None:
    """Write the arrays and the record of a segment."""
    segment: SegmentFolder = context.segment(stored.info.name)
    survey = find_release(context.name)[0]
    if not stored.on_lattice or set(stored.vectors) != {one.name for one in survey.vectors}:
        raise ValueError(f"{segment}: not on the lattice, or other vectors")
    arrays = segment.local_path() / "spectra.zarr"
    group = {
        "specserver_format": 1,
        "survey": survey.name,
        "context": context.name,
        "on_lattice": True,
        "grid": survey.grid.to_dict(),
        "first_pixel": stored.start,
        "frame": survey.frame,
        "vectors": list(stored.vectors),
        "coordinates": "id first count wavelength",
        "like": {},
    }
    arrays.mkdir()
    about = {"zarr_format": 3, "node_type": "group", "attributes": group}
    (arrays / "zarr.json").write_text(json.dumps(about, indent=1))
    _write_1d(arrays / "id", stored.ids)
    _write_1d(arrays / "first", stored.first)
    _write_1d(arrays / "count", stored.count)
    _write_1d(arrays / "wavelength", survey.grid.wave(stored.start, stored.npix))
    rows = np.arange(stored.nspec)
    for vector in survey.vectors:
        made = ts.open(
            _sharded(arrays / vector.name, vector.dtype, stored.nspec, stored.npix), create=True
        ).result()
        for at in range(0, stored.nspec, SHARD):
            some = rows[at : at + SHARD]
            values = stored.request([vector.name], some, stored.window)()[vector.name]
            made[at : at + len(some)].write(values).result()
    info = replace(stored.info, format_version=1, digests={})
    digests = segment.digests(segment.files())
    segment.record.create(seal({**asdict(info), "digests": digests}))


def _sharded(array: Path, dtype: str, nspec: int, npix: int) -> dict[str, Any]:
    """Return the TensorStore spec of a vector's array."""
    kind = np.dtype(dtype)
    blosc = {
        "cname": "lz4",
        "clevel": 5,
        "shuffle": "bitshuffle",
        "typesize": kind.itemsize,
        "blocksize": 0,
    }
    sharding = {
        "chunk_shape": [1, npix],
        "codecs": [_LITTLE, {"name": "blosc", "configuration": blosc}, _CRC],
        "index_codecs": [_LITTLE, _CRC],
        "index_location": "end",
    }
    grid = {"name": "regular", "configuration": {"chunk_shape": [SHARD, npix]}}
    return {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(array)},
        "store_data_equal_to_fill_value": True,
        "metadata": {
            "shape": [nspec, npix],
            "data_type": kind.name,
            "fill_value": 0,
            "chunk_grid": grid,
            "codecs": [{"name": "sharding_indexed", "configuration": sharding}],
            "dimension_names": ["spectrum", "pixel"],
        },
    }


def _write_1d(array: Path, values: npt.NDArray[Any]) -> None:
    """Write a 1-D array in one chunk."""
    grid = {"name": "regular", "configuration": {"chunk_shape": [len(values)]}}
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(array)},
        "metadata": {
            "shape": [len(values)],
            "data_type": values.dtype.name,
            "chunk_grid": grid,
            "codecs": [_LITTLE, _ZSTD, _CRC],
        },
    }
    ts.open(spec, create=True).result().write(values).result()


def forget(paths: Iterable[Path]) -> None:
    """Tell the system to drop files, which are on the disk, from its page cache."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
