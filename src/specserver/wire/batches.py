"""Batches of a stream, each with its metadata, and the error that may end a stream."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import pyarrow as pa
from pyarrow import ipc

from ..errors import SpecServerError, StoreError
from .error import error_object, read_error

ANSWER: Final = "answer of the service"
"""Name of an answer in the errors of a damaged or incomplete one."""
METADATA_KEY: Final = b"specserver"


class Readable(Protocol):
    """A source of bytes, read forward only."""

    @property
    def read(self) -> Callable[[int], Any]:
        """Return so many bytes, in any object that holds bytes; fewer at the end."""


def error_metadata(error: SpecServerError, message: str) -> dict[bytes, bytes]:
    """Return the metadata of the batch that ends a stream with an error."""
    return {METADATA_KEY: json.dumps({"error": error_object(error, message)}).encode()}


@contextmanager
def open_answer(source: Readable | bytes, progress: Callable[[], str] = str) -> Iterator[Any]:
    """Open an answer as a reader of Arrow streams.

    Parameters
    ----------
    source
        The body of the answer, or all its bytes.
    progress
        Says how much had been read when an answer ends too early, such as ``after 3 spectra``.

    Raises
    ------
    StoreError
        The answer was cut off or is damaged.
    """
    try:
        with ipc.open_stream(source) as reader:
            yield reader
    except (pa.ArrowException, OSError) as error:
        done = progress()
        where = f" {done}" if done else ""
        raise StoreError(ANSWER, f"cut off or damaged{where} ({error})") from error


def read_batches(
    reader: ipc.RecordBatchStreamReader,
) -> Iterator[tuple[pa.RecordBatch, dict[str, Any]]]:
    """Yield the batches of an answer, each with the JSON object of its metadata.

    Raises
    ------
    SpecServerError
        The error that the service met on the way, instead of the remaining batches.
    """
    while True:
        try:
            batch, metadata = reader.read_next_batch_with_custom_metadata()
        except StopIteration:
            return
        said: dict[str, Any] = json.loads((metadata or {}).get(METADATA_KEY, b"{}"))
        if (error := said.get("error")) is not None:
            raise read_error(error)
        yield batch, said
        # The batch must not stay in memory while the next one arrives.
        del batch
