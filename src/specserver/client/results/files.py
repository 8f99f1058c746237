"""The stream of FITS files (docs/wire.md) → files, one in memory at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from ...errors import StoreError
from ...wire.batches import ANSWER, Readable, open_answer, read_batches
from ...wire.columns import CONTEXT, FILE_DATA, FILE_NAME, ID
from ...wire.head import FilesHead, from_metadata


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """A FITS file of a spectrum."""

    id: int
    context: str
    name: str
    data: bytes


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
    with open_answer(source, lambda: f"after {done:,} files") as reader:
        head = FilesHead.from_json(from_metadata(reader.schema.metadata))
        begun(head)
        for batch, _ in read_batches(reader):
            for row in range(batch.num_rows):
                yield _file(batch, row)
                done += 1
                tell(done, head.nspec)
    if done != head.nspec:
        raise StoreError(ANSWER, f"cut off: {done:,} of {head.nspec:,} files came; ask again")


def _file(batch: pa.RecordBatch, row: int) -> ReceivedFile:
    """Return one file of a batch."""
    number, context, name = (batch.column(one)[row].as_py() for one in (ID, CONTEXT, FILE_NAME))
    return ReceivedFile(
        number, context, name, batch.column(FILE_DATA)[row].as_buffer().to_pybytes()
    )
