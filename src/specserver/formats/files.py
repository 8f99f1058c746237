"""Files as streams, one in memory at a time: Arrow IPC (docs/wire.md), and ZIP."""

import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from ..wire.columns import CONTEXT, FILE_DATA, FILE_NAME, ID
from ..wire.head import FilesHead, to_metadata
from ..wire.media_types import ARROW, ZIP
from .arrow import Outbox, id_type, stream_batches
from .registry import writes


@dataclass(frozen=True, slots=True)
class SpectrumFile:
    """A FITS file of a spectrum."""

    id: int
    context: str
    """Release that holds the spectrum."""
    name: str
    data: bytes


@dataclass(frozen=True, slots=True)
class FileStream:
    """Files, made one at a time, each with the spectrum that it is of."""

    head: FilesHead
    id_dtype: str
    files: Iterable[SpectrumFile]


@dataclass(frozen=True, slots=True)
class FileArchive:
    """Files, made one at a time, to be kept together."""

    files: Iterable[SpectrumFile]


@writes(FileStream, ARROW)
def write_stream(stream: FileStream) -> Iterator[bytes]:
    """Yield an Arrow IPC stream, one file a batch."""
    schema = pa.schema(
        [
            pa.field(ID, id_type(stream.id_dtype)),
            pa.field(CONTEXT, pa.string()),
            pa.field(FILE_NAME, pa.string()),
            pa.field(FILE_DATA, pa.large_binary()),
        ],
        metadata=to_metadata(stream.head.to_json()),
    )
    rows = (
        {ID: file.id, CONTEXT: file.context, FILE_NAME: file.name, FILE_DATA: file.data}
        for file in stream.files
    )
    batches = (pa.RecordBatch.from_pylist([row], schema=schema) for row in rows)
    return stream_batches(schema, batches)


@writes(FileArchive, ZIP)
def write_zip(archive: FileArchive) -> Iterator[bytes]:
    """Yield a ZIP archive of the files as they are; one that comes several times is in it once."""
    outbox = Outbox()
    seen: set[str] = set()
    with zipfile.ZipFile(outbox, "w", zipfile.ZIP_STORED) as packed:
        for file in archive.files:
            if file.name not in seen:
                seen.add(file.name)
                # The earliest time that ZIP knows: the same files make the same archive.
                packed.writestr(zipfile.ZipInfo(file.name), file.data)
                yield outbox.take()
    yield outbox.take()
