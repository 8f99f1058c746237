"""Digests of files: made when a file is written, compared before it is used.

A digest is a file's size and its CRC-32, such as ``5120 c9a01b2f``: it takes 0.8 s a GB, and no
flip of one or two bits, and no run of damage up to 32 bits long, escapes it. It is not the crc32c
that Zarr appends to each chunk: that of any bytes and their own crc32c is a constant, so all sound
files of one size would have the same digest. A *record* is a JSON object in a file of its own that
states the digest of its own values under ``digest``, and those of files beside it under
``digests``. Records and files of older versions have none: they are read all the same.
"""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from .files import read_blocks

OWN: Final = "digest"
"""Key of the digest of a record's own values."""
LISTED: Final = "digests"
"""Key of the digests of files beside a record, by their paths from its folder."""
NO_DIGESTS: Final = "no digests: made by an older version, so damage to it may go unnoticed"
"""The note on a record without digests."""
BLOCK: Final = 2**18
"""Bytes read at a time: few enough for the cache of the processor."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record that was read."""

    values: dict[str, Any]
    """Its values without its own digest."""
    sealed: bool
    """Whether it states its own digest, which was compared; older versions wrote none."""


def digest_of(path: Path) -> str:
    """Return the digest of a file as it is now."""
    return digest_of_blocks(read_blocks(path, BLOCK))


def digest_of_blocks(blocks: Iterable[memoryview], go_on: Callable[[], None] = lambda: None) -> str:
    """Return the digest of a file that is read block by block.

    ``go_on`` is called between blocks; it may raise an error to end the work.
    """
    crc = size = 0
    for block in blocks:
        go_on()
        crc = zlib.crc32(block, crc)
        size += len(block)
    return f"{size} {crc:08x}"


def digest_of_bytes(content: bytes | memoryview) -> str:
    """Return the digest of a file of some bytes."""
    return f"{len(content)} {zlib.crc32(content):08x}"


def hash64(text: str) -> int:
    """Return a signed 64-bit hash of a text, the same in every process."""
    made = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(made.digest(), "little", signed=True)


def crc_of(path: Path) -> int:
    """Return the CRC-32 of a file."""
    return int(digest_of(path).split()[1], 16)


def difference(found: str, stated: str) -> str:
    """Return how a digest differs from the one stated, in words; empty: it does not."""
    if found == stated:
        return ""
    size, before = found.split(maxsplit=1)[0], stated.split(maxsplit=1)[0]
    if size != before:
        return f"has {size} bytes where {before} were written"
    return "its bytes are not those that were written"


def seal(values: Mapping[str, Any]) -> bytes:
    """Return the text of a record of some values, which JSON can hold."""
    return json.dumps({**values, OWN: _own(values)}, indent=1).encode()


def read_record(content: bytes) -> Record:
    """Return a record.

    Raises `ValueError` if it is no record or its values are not those that were written.
    """
    try:
        values = json.loads(content)
        stated = values.pop(OWN, None)
    except (AttributeError, TypeError) as error:
        raise ValueError("it is no record") from error
    if stated is not None and stated != _own(values):
        raise ValueError("its values are not those that were written")
    return Record(values, stated is not None)


def _own(values: Mapping[str, Any]) -> str:
    """Return the digest of a record's values, however they are laid out."""
    plain = json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
    return f"{zlib.crc32(plain):08x}"
