"""Marks: the rows of an index part that differ from what the part says.

A row that was replaced is not alive any more, and another row of its object may be the best one
since the part was written. Marks are never changed: a version of the index that has other marks
names another file.
"""

import zlib
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...data.context import IndexFolder
from ...data.handles import Entry
from .column_file import DAMAGED_INDEX
from .manifest import PartEntry

MARK: Final = np.dtype([("row", "<i4"), ("alive", "?"), ("primary", "?")])
"""A mark: number of a row, whether it is answered, and whether it is the best of its object."""
NO_MARKS: Final[npt.NDArray[Any]] = np.empty(0, MARK)
"""The marks of a part of which no row differs."""
_CHECK_BYTES: Final = 8
"""Length of the CRC-32 behind the array, as text."""


def write_marks(file: Entry, marks: npt.NDArray[Any]) -> None:
    """Write marks, 1D[n] `MARK`, rows ascending; raise `FileExistsError` if the file exists."""
    content = BytesIO()
    np.save(content, marks.astype(MARK))
    body = content.getvalue()
    file.create(body + f"{zlib.crc32(body):08x}".encode())


def marks_of(index: IndexFolder, entry: PartEntry) -> npt.NDArray[Any]:
    """Return the marks of a part of a version, 1D[n] `MARK`; errors as of `read_marks`."""
    return read_marks(index.marks(entry.marks)) if entry.marks else NO_MARKS


def read_marks(file: Entry) -> npt.NDArray[Any]:
    """Return marks, 1D[n] `MARK`, rows ascending; raise `DamagedFile` if they are damaged."""
    try:
        content = file.read()
        body, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
        sound = f"{zlib.crc32(body):08x}".encode() == check
        marks: npt.NDArray[Any] = np.load(BytesIO(body)) if sound else np.empty(0, MARK)
    except (OSError, ValueError, EOFError) as error:
        raise file.damaged(f"{DAMAGED_INDEX} ({error})") from error
    if not sound:
        raise file.damaged(f"{DAMAGED_INDEX} (its bytes are not those that were written)")
    return marks
