"""Which trees of original files a data folder serves: ``<data>/<context>/tree.json``.

Beside it ``tree-….npy`` has a fingerprint of each file: what it was like at that time.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from ..damage import damaged
from ..digests import check_files, crc_of, digest_of, read_record, seal
from ..errors import StoreError
from ..files import EVERYONE_READS, remove_drafts, replace_file

_FORMAT = 1
_NAME = "tree.json"
_DAMAGED: Final = "damaged; declare the tree anew"
FINGERPRINT: Final = np.dtype([("id", "<u8"), ("size", "<i8"), ("mtime_ns", "<i8"), ("crc", "<u4")])
"""Of one file: identifier of its spectrum, bytes, time of change, and CRC-32 of its bytes."""


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
    """What the files of a tree were like when it was declared.

    Parameters
    ----------
    rows : 1D[n] of `FINGERPRINT`, by identifier
    """

    def __init__(self, rows: npt.NDArray[Any]) -> None:
        self.rows = rows

    def find(self, number: int) -> Any | None:
        """Return the fingerprint of the file of a spectrum, or None when it came later."""
        at = int(np.searchsorted(self.rows["id"], np.uint64(number)))
        known = at < len(self.rows) and int(self.rows["id"][at]) == number
        return self.rows[at] if known else None

    def of(self, number: int, size: int, mtime_ns: int) -> Any | None:
        """Return the fingerprint of a file of a size and time; None when it is another by now."""
        one = self.find(number)
        same = one is not None and (int(one["size"]), int(one["mtime_ns"])) == (size, mtime_ns)
        return one if same else None

    def check(self, number: int, path: Path, size: int, mtime_ns: int) -> None:
        """Refuse a file that says that it is the one of old, and has other bytes.

        One that was changed since, as its size or time tells, is another file, and served.

        Raises
        ------
        DamagedFile
            Its bytes are not what they were.
        """
        one = self.of(number, size, mtime_ns)
        if one is not None and crc_of(path) != int(one["crc"]):
            raise damaged(path, "its bytes are not those that were declared: restore the file")


def tree_file(data: Path, context: str) -> Path:
    """Return the file that declares a context's tree."""
    return data / context / _NAME


def list_trees(data: Path) -> list[str]:
    """Return the contexts that have a tree, sorted."""
    return sorted(path.parent.name for path in data.glob(f"*/{_NAME}")) if data.is_dir() else []


def read_tree(data: Path, context: str) -> TreeInfo | None:
    """Return the declaration of a context's tree, or None when it has none."""
    path = tree_file(data, context)
    try:
        values = read_record(path, _DAMAGED).values
    except FileNotFoundError:
        return None
    version = values.get("format")
    if isinstance(version, int) and version > _FORMAT:
        raise StoreError(str(path), f"format {version} is newer than this program's")
    try:
        info = TreeInfo(**values)
    except TypeError as error:
        raise damaged(path, f"{_DAMAGED} ({error})") from error
    if info.context != context:
        raise damaged(path, f"{_DAMAGED} (it declares {info.context!r})")
    return info


def read_fingerprints(data: Path, info: TreeInfo) -> Fingerprints | None:
    """Return the fingerprints of a tree's files, or None when there are none."""
    if not info.fingerprints:
        return None
    folder = tree_file(data, info.context).parent
    check_files(folder, info.digests)
    try:
        rows = np.load(folder / info.fingerprints, mmap_mode="r").view(np.ndarray)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(folder / info.fingerprints, f"{_DAMAGED} ({error})") from error
    return Fingerprints(rows)


def write_tree(data: Path, info: TreeInfo, rows: npt.NDArray[Any] | None = None) -> None:
    """Declare a tree, or declare it anew; a running service takes note at its next request.

    Parameters
    ----------
    rows : 1D[n] of `FINGERPRINT`, by identifier; None: without fingerprints
    """
    path = tree_file(data, info.context)
    path.parent.mkdir(parents=True, exist_ok=True)
    values = asdict(info)
    if rows is not None:
        file = path.with_name(f"tree-{uuid4().hex[:12]}.npy")
        try:
            np.save(file, rows)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        file.chmod(EVERYONE_READS)
        values |= {"fingerprints": file.name, "digests": {file.name: digest_of(file)}}
    replace_file(path, seal(values), mode=EVERYONE_READS)
    _remove_others(path, str(values["fingerprints"]))


def _remove_others(path: Path, used: str) -> None:
    """Remove what earlier declarations, and writers that were killed, left."""
    remove_drafts(path)
    for file in path.parent.glob("tree-*.npy"):
        if file.name != used:
            file.unlink(missing_ok=True)


def remove_tree(data: Path, context: str) -> bool:
    """Take a tree out of service; return False when there was none. Its files are left alone."""
    path = tree_file(data, context)
    present = path.exists()
    path.unlink(missing_ok=True)
    if present:
        _remove_others(path, "")
    return present
