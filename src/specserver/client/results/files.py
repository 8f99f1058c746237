"""The stream of FITS files (docs/wire.md) → files, one in memory at a time."""

from collections.abc import Callable, Iterator

from ...errors import StoreError
from ...wire.batches import ANSWER, Readable, open_answer, read_batches
from ...wire.columns import FILE_DATA, FILE_NAME
from ...wire.head import FilesHead, from_metadata


def read_files(
    source: Readable,
    begun: Callable[[FilesHead], None],
    tell: Callable[[int, int], None],
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of an answer while it arrives.

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
                data = batch.column(FILE_DATA)[row].as_buffer().to_pybytes()
                yield batch.column(FILE_NAME)[row].as_py(), data
                done += 1
                tell(done, head.nspec)
    if done != head.nspec:
        raise StoreError(ANSWER, f"cut off: {done:,} of {head.nspec:,} files came; ask again")
