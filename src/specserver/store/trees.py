"""Trees of original files that a data folder serves, and the fingerprints of their files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..damage import damaged
from ..data.context import ContextFolder
from ..digests import crc_of, seal

_FORMAT = 1
_DAMAGED: Final = "damaged"
FINGERPRINT: Final = np.dtype([("id", "<u8"), ("size", "<i8"), ("mtime_ns", "<i8"), ("crc", "<u4")])
"""Fingerprint of a file: identifier of its spectrum, bytes, time of change, CRC-32 of its bytes."""


@dataclass(frozen=True, slots=True)
class TreeInfo:
    """The declaration of a tree."""

    context: str
    root: str
    """Absolute path of the folder."""
    reductions: tuple[str, ...]
    """The only reductions that are served."""
    nfiles: int
    """Spectra found when the tree was declared."""
    follow_links: bool = False
    """Whether links may lead out of the folder."""
    format: int = _FORMAT
    fingerprints: str = ""
    """Name of the file of fingerprints; empty: there is none."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """Its digest (`specserver.digests`)."""


class Fingerprints:
    """Fingerprints of the files of a tree when it was declared: 1D[n] `FINGERPRINT`, by id."""

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self.rows = rows

    def of(self, number: int, size: int, mtime_ns: int) -> Any | None:
        """Return the fingerprint of a file; None if there is none of this size and time."""
        at = int(np.searchsorted(self.rows["id"], np.uint64(number)))
        if at == len(self.rows):
            return None
        row = self.rows[at]
        stated = int(row["id"]), int(row["size"]), int(row["mtime_ns"])
        return row if stated == (number, size, mtime_ns) else None

    def check(self, number: int, path: Path, size: int, mtime_ns: int) -> None:
        """Raise `DamagedFile` for a file with size and time of its fingerprint but other bytes.

        A file of another size or time was changed since, and is served.
        """
        row = self.of(number, size, mtime_ns)
        if row is not None and crc_of(path) != int(row["crc"]):
            raise damaged(path, "its bytes are not those that were declared: restore the file")


def read_tree(context: ContextFolder) -> TreeInfo | None:
    """Return the declaration of a context's tree, or None when it has none."""
    file = context.tree
    try:
        values = file.record(_DAMAGED, _FORMAT).values
    except FileNotFoundError:
        return None
    try:
        info = TreeInfo(**values)
    except TypeError as error:
        raise file.damaged(f"{_DAMAGED} ({error})") from error
    if info.context != context.name:
        raise file.damaged(f"{_DAMAGED} (it declares {info.context!r})")
    return info


def read_fingerprints(context: ContextFolder, info: TreeInfo) -> Fingerprints | None:
    """Return the fingerprints of a tree's files, or None when there are none."""
    if not info.fingerprints:
        return None
    context.check(info.digests)
    file = context.entry(info.fingerprints)
    try:
        rows = np.load(file.local_path(), mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise file.damaged(f"{_DAMAGED} ({error})") from error
    return Fingerprints(rows)


def write_tree(
    context: ContextFolder, info: TreeInfo, rows: npt.NDArray[Any] | None = None
) -> None:
    """Declare a tree, or declare it anew; a running service takes note at its next request.

    With fingerprints, ``rows`` are 1D[n] of `FINGERPRINT`, by identifier.
    """
    values = asdict(info)
    if rows is not None:
        file, content = context.new_fingerprints(), BytesIO()
        np.save(content, rows)
        file.replace(content.getbuffer())
        values |= {"fingerprints": file.name, "digests": {file.name: file.digest()}}
    context.tree.replace(seal(values))
    _remove_others(context, str(values["fingerprints"]))


def _remove_others(context: ContextFolder, used: str) -> None:
    """Remove files of earlier declarations, and drafts of killed writers."""
    context.tree.delete_drafts()
    for file in context.fingerprints():
        if file.name != used:
            file.delete()


def remove_tree(context: ContextFolder) -> bool:
    """Take a tree out of service; return False when there was none. Its files are left alone."""
    present = context.tree.exists()
    context.tree.delete()
    if present:
        _remove_others(context, "")
    return present
