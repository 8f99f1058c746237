"""The stream of FITS files (docs/wire.md) → files, one in memory at a time."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from ...errors import StoreError
from ..wire import METADATA_KEY, read_batches
from .columns import Readable

_WHERE = "answer of the service"


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A FITS file of a spectrum."""

    id: int
    context: str
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class FilesHead:
    """What a stream of files says of itself."""

    nspec: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...] = ()


def read_files(
    source: Readable,
    begun: Callable[[FilesHead], None],
    tell: Callable[[int, int], None],
) -> Iterator[ReceivedFile]:
    """Yield the files of an answer while it arrives.

    Parameters
    ----------
    source
        The body of the answer.
    begun
        Called once with what the stream says of itself.
    tell
        Called with the number of files done, and of all.

    Raises
    ------
    StoreError
        The answer was cut off or is damaged.
    """
    done = 0
    try:
        with ipc.open_stream(source) as reader:
            head = _head(reader.schema)
            begun(head)
            for batch, _ in read_batches(reader):
                for row in range(batch.num_rows):
                    yield _file(batch, row)
                    done += 1
                    tell(done, head.nspec)
    except (pa.ArrowException, OSError) as error:
        raise StoreError(_WHERE, f"cut off or damaged after {done:,} files ({error})") from error
    if done != head.nspec:
        raise StoreError(_WHERE, f"cut off: {done:,} of {head.nspec:,} files came; ask again")


def _head(schema: pa.Schema) -> FilesHead:
    """Read what the stream says of itself."""
    try:
        said: dict[str, Any] = json.loads((schema.metadata or {})[METADATA_KEY])
        missing, damaged = (
            tuple(str(one) for one in said.get(name) or ()) for name in ("missing", "damaged")
        )
        return FilesHead(int(said["nspec"]), missing, damaged)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(_WHERE, f"not a stream of files ({error!r})") from error


def _file(batch: pa.RecordBatch, row: int) -> ReceivedFile:
    """Return one file of a batch."""
    number, context, name = (batch.column(one)[row].as_py() for one in ("id", "context", "name"))
    return ReceivedFile(number, context, name, batch.column("data")[row].as_buffer().to_pybytes())
