"""Generations of an index: made whole, brought into use by one atomic change, checked when opened.

::

    <folder>/
        CURRENT         name of the generation in use
        gen-…/          its files (`catalog.index.build`)
            index.json  what it covers, and the digests of its other files
        lock            held while a generation is made

A generation that is damaged is never read: the next one who needs it makes another, where the
folder can be written to.
"""

import errno
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from ...damage import damaged
from ...digests import check_files, digests_of, read_record, seal
from ...errors import CatalogError, DamagedFile
from ...files import EVERYONE_READS, close_like_parent, locked, remove_drafts, replace_file
from .column_file import DAMAGED_INDEX

DATABASE: Final = "catalog.duckdb"
_KEEP: Final = 2
"""Generations kept: the one in use and the one that readers may still be leaving."""
_FORMAT: Final = 3
_CURRENT: Final = "CURRENT"
_RECORD: Final = "index.json"
_COVERED: Final = frozenset({".npy", ".arrow", ".duckdb"})
_GENERATION: Final = re.compile(r"gen-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What a generation covers."""

    name: str
    segments: tuple[str, ...]
    """Names of what it was made from; when they are no longer the same, it is out of date."""
    nrows: int
    columns: Mapping[str, str]
    """Column name → kind: int, uint, float, str or bool."""
    format: int = _FORMAT
    digests: Mapping[str, str] = field(default_factory=dict)
    """File → digest (`specserver.digests`); empty: an older version made it."""


def current_generation(folder: Path) -> IndexInfo | None:
    """Return what the generation in use in a folder covers, or None when there is none."""
    try:
        name = (folder / _CURRENT).read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise damaged(folder / _CURRENT, f"{DAMAGED_INDEX} ({error})") from error
    if not _GENERATION.fullmatch(name):
        raise damaged(folder / _CURRENT, f"{DAMAGED_INDEX} (it names {name!r})")
    path = folder / name / _RECORD
    try:
        values = read_record(path, DAMAGED_INDEX).values
    except FileNotFoundError:
        return None
    if values.get("format") != _FORMAT:
        return None
    try:
        return IndexInfo(**{**values, "segments": tuple(values["segments"])})
    except (TypeError, KeyError) as error:
        raise damaged(path, f"{DAMAGED_INDEX} ({error})") from error


def refresh_generation(
    folder: Path,
    wanted: Callable[[], Sequence[str]],
    build: Callable[[Path, tuple[str, ...]], IndexInfo],
    *,
    bad: str = "",
) -> IndexInfo | None:
    """Make a generation of what is ``wanted``, unless the one in use is; swap it in whole.

    Parameters
    ----------
    wanted : asked under the lock; nothing wanted leaves things as they are
    build : writes a generation into a new folder
    bad : name of a generation that is damaged, whatever it covers
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            names = tuple(wanted())
            present = _sound(folder, bad)
            if not names or (present is not None and present.segments == names):
                _remove_left(folder)
                return present
            return _made(folder, names, build)
    except OSError as error:
        raise CatalogError(_cannot(folder, error)) from error


def _cannot(folder: Path, error: OSError) -> str:
    """Return why an index cannot be made, and what to do where the folder cannot be written to."""
    told = f"{folder}: the index cannot be made ({error.strerror})"
    if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return told
    with suppress(OSError, ValueError, DamagedFile):
        name = (folder / _CURRENT).read_text("utf-8").strip()
        other = read_record(folder / name / _RECORD).values.get("format")
        if other != _FORMAT:
            told += f"; that which is there is of format {other}, and this version reads {_FORMAT}"
    return f"{told}: serve the data once where it can be written to, then copy {folder.name}/ here"


def record_generation(
    path: Path, names: tuple[str, ...], nrows: int, columns: Mapping[str, str]
) -> IndexInfo:
    """Write the record of a generation whose other files are all written."""
    written = sorted(file.name for file in path.iterdir() if file.suffix in _COVERED)
    info = IndexInfo(path.name, names, nrows, columns, digests=digests_of(path, written))
    (path / _RECORD).write_bytes(seal(asdict(info)))
    return info


def check_generation(path: Path, info: IndexInfo, *, database: bool = False) -> None:
    """Compare the files of a generation with their digests, where it has them.

    Parameters
    ----------
    database : that of the database too, which takes as long as reading it

    Raises
    ------
    DamagedFile
        A file is not as it was written.
    """
    check_files(
        path, {name: one for name, one in info.digests.items() if database or name != DATABASE}
    )


def _sound(folder: Path, bad: str) -> IndexInfo | None:
    """Return the generation in use, unless it is damaged or of a version without digests."""
    try:
        present = current_generation(folder)
    except DamagedFile:
        return None
    if present is None or present.name == bad or not present.digests:
        return None
    return present


def _made(
    folder: Path, names: tuple[str, ...], build: Callable[[Path, tuple[str, ...]], IndexInfo]
) -> IndexInfo:
    """Make a generation and bring it into use; when that fails nothing is left of it."""
    name = f"gen-{uuid4().hex[:12]}"
    try:
        info = build(folder / name, names)
        # The folder of generations may be new; the context's own says who may read it.
        close_like_parent(folder)
        replace_file(folder / _CURRENT, name.encode(), mode=EVERYONE_READS)
    except OSError as error:
        raise CatalogError(f"{folder}: the index cannot be made: {error}") from error
    finally:
        if not _is_current(folder, name):
            shutil.rmtree(folder / name, ignore_errors=True)
    _remove_old(folder, name)
    _remove_left(folder)
    return info


def _is_current(folder: Path, name: str) -> bool:
    """Return whether a generation is the one in use."""
    try:
        return (folder / _CURRENT).read_text("utf-8").strip() == name
    except (OSError, ValueError):
        return False


def _remove_left(folder: Path) -> None:
    """Remove what writers left that were killed; call under the lock."""
    remove_drafts(folder / _CURRENT)
    for path in folder.glob("gen-*"):
        if not (path / _RECORD).exists():
            shutil.rmtree(path, ignore_errors=True)


def _remove_old(folder: Path, current: str) -> None:
    """Remove all generations but the newest few; one that is open elsewhere stays readable."""
    others = [path for path in folder.glob("gen-*") if path.is_dir() and path.name != current]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[_KEEP - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
