"""Chunks of stored spectra: where they lie, and damage to them."""

from collections.abc import Iterable
from pathlib import Path

from specserver.store.shards import SHARD, open_shards
from specserver.store.zarr import Segment


def shard_of(segment: Segment, vector: str) -> Path:
    """Return the first shard of a vector."""
    array = segment._array_of[vector]
    return array.folder.entry(array.shard(0)).local_path()


def chunk_of(segment: Segment, vector: str, row: int) -> tuple[Path, int, int]:
    """Return the shard of a chunk, the byte at which its frame begins, and the frame's bytes."""
    array = segment._array_of[vector]
    (shard,) = open_shards([(array, row // SHARD)])
    at = row % SHARD, array.vectors.index(vector)
    path = array.folder.entry(array.shard(row // SHARD)).local_path()
    return path, int(shard.offsets[at]), int(shard.sizes[at])


def flip_chunks(segment: Segment, vector: str, rows: Iterable[int]) -> Path:
    """Change a byte in the middle of chunks of one shard; return the shard."""
    places = [chunk_of(segment, vector, row) for row in rows]
    path = places[0][0]
    content = bytearray(path.read_bytes())
    for _, begin, size in places:
        content[begin + size // 2] ^= 255
    path.write_bytes(content)
    return path
