"""The plan of an ingest: which files are read, and in which parts."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from ..digests import hash64
from ..errors import IngestError
from ..model.survey import FileKey, Survey
from ..ops.wholefits import FITS_ENDING
from ..surveys.declaration import is_spectrum_name
from ..surveys.generic import AnyFileReader
from .report import Note

_FITS: Final = re.compile(rf".*{FITS_ENDING}", re.DOTALL | re.IGNORECASE)
SEGMENT_FILES: Final = 2000
"""Most files of a part, for any survey: a worker that dies loses the work on one part."""
_FEW_FILES: Final = 50
"""Files of a folder's own survey that this process reads sooner than another one starts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The files that an ingest reads, and the number of files that it does not read."""

    parts: tuple[tuple[FileKey, ...], ...]
    """A segment or more each; files that may hold the same spectrum are in the same part."""
    known: int
    """Files already stored, unchanged since, and not to be read again."""
    foreign: int
    """FITS files whose name is not of this survey."""
    changed_medium: int = 0
    """Number of stored files whose stated medium has changed."""


def require_there(paths: Iterable[Path]) -> None:
    """Refuse files and folders that do not exist."""
    if gone := [str(path) for path in paths if not path.exists()]:
        raise IngestError(f"no such file or folder: {', '.join(gone)}")


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield all FITS files among paths and, recursively, below the folders among them."""
    # Archives contain links; a folder that is reached twice is searched once.
    entered: set[tuple[int, int]] = set()
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, below, names in os.walk(path, followlinks=True):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in entered:
                below.clear()
                continue
            entered.add((status.st_dev, status.st_ino))
            below.sort()
            yield from (Path(folder) / name for name in sorted(names) if _FITS.fullmatch(name))


def spectrum_files(paths: Iterable[Path], besides: Path | None = None) -> list[Path]:
    """Return files, and from folders all files with an ending of a spectrum's file.

    The file ``besides``, such as a table of targets, is left out.
    """
    left_out = besides.resolve() if besides else None
    found: list[Path] = []
    for path in paths:
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            file
            for file in inside
            if file == path
            or (file.is_file() and is_spectrum_name(file) and file.resolve() != left_out)
        ]
    return found


def make_plan(
    survey: Survey,
    paths: Iterable[Path],
    known: dict[str, tuple[int, int, int | None]],
    workers: int,
    note: Callable[[Iterable[Note]], None] = lambda _: None,
    media_conflicts: Mapping[str, Note] = MappingProxyType({}),
    not_applied: str = "",
) -> Plan:
    """Divide the files to be read into segments of neighbouring spectra.

    Parameters
    ----------
    known : path → size, time of last change in ns, and `beside_digest`, of files already stored
    note : is called with a note about each file that is not read
    media_conflicts : path → note about a stored file whose stated medium has changed
    not_applied : text added to the notes of other stored files: options that do not apply to them
    """
    keys: list[FileKey] = []
    foreign = stored = nunlike = 0
    for path in dict.fromkeys(found.absolute() for found in find_files(paths)):
        key = survey.reader.identify(path)
        if key is None and survey.reader.is_companion(path):
            why = "read along with another file, or of another context"
            note([Note(str(path), "passed over", why)])
        elif key is None:
            foreign += 1
            note([Note(str(path), "refused", f"not a file name of {survey.name}")])
        elif _unchanged(survey, path, known.get(str(path))):
            other = media_conflicts.get(str(path))
            stored += other is None
            nunlike += other is not None
            same = Note(str(path), "already there", f"stored, and unchanged since{not_applied}")
            note([other or same])
        else:
            keys.append(key)
    keys.sort(key=lambda key: (key.group, str(key.path)))
    most = min(SEGMENT_FILES, survey.part_files)
    few = _FEW_FILES if isinstance(survey.reader, AnyFileReader) else 1
    return Plan(tuple(_parts(keys, workers, few, most)), stored, foreign, nunlike)


def beside_digest(survey: Survey, path: Path) -> int:
    """Return a signed 64-bit digest of the state of files read along with one; 0: there are none.

    A reader that has such files says which, in a method ``beside``.
    """
    find: Callable[[Path], Sequence[Path]] = getattr(survey.reader, "beside", lambda _: ())
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in find(path)]
    return hash64(repr(states)) if states else 0


def _unchanged(survey: Survey, path: Path, known: tuple[int, int, int | None] | None) -> bool:
    """Return whether a file is the one that was stored."""
    if known is None:
        return False
    try:
        status = path.stat()
        size, mtime_ns, beside = known
        if (size, mtime_ns) != (status.st_size, status.st_mtime_ns):
            return False
        # An older version did not record the files beside.
        return beside is None or beside == beside_digest(survey, path)
    except OSError:
        return False


def _parts(
    keys: Sequence[FileKey], workers: int, few: int, most: int
) -> Iterator[tuple[FileKey, ...]]:
    """Yield runs of ``few`` to ``most`` files; files of one group stay together."""
    size = max(few, min(most, -(-len(keys) // max(1, workers))))
    at = 0
    while at < len(keys):
        stop = min(at + size, len(keys))
        while stop < len(keys) and keys[stop].group == keys[stop - 1].group:
            stop += 1
        yield tuple(keys[at:stop])
        at = stop
