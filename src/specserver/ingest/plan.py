"""The plan of an ingest: which files are read, and in which parts."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
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
_WINDOW: Final = 100_000
"""Files found before the first of them are read: some 50 MB, and a second or two."""
_FEW_FILES: Final = 50
"""Files of a folder's own survey that this process reads sooner than another one starts."""


@dataclass(slots=True)
class Found:
    """Numbers of files that the plan of an ingest has found so far."""

    wanted: int = 0
    """Files that are to be read."""
    known: int = 0
    """Files already stored, unchanged since, and not to be read again."""
    foreign: int = 0
    """FITS files whose name is not of this survey."""
    changed_medium: int = 0
    """Stored files whose stated medium has changed."""

    @property
    def files(self) -> int:
        """All of them."""
        return self.wanted + self.known + self.foreign + self.changed_medium


def require_there(paths: Iterable[Path]) -> None:
    """Refuse files and folders that do not exist."""
    if gone := [str(path) for path in paths if not path.exists()]:
        raise IngestError(f"no such file or folder: {', '.join(gone)}")


def find_files(
    paths: Iterable[Path],
    is_named: Callable[[Path], object],
    refuse: Callable[[OSError], object] | None = None,
) -> Iterator[Path]:
    """Yield files, and from folders, and the folders below, all files that ``is_named`` accepts.

    They are yielded while the folders are listed, each once. ``refuse`` is called with the error of
    each folder that cannot be listed.
    """
    paths = list(dict.fromkeys(path.absolute() for path in paths))
    # A file that is also given by itself is yielded in its own place.
    given = {path for path in paths if not path.is_dir()}
    # Archives contain links; a folder that is reached twice is searched once.
    entered: set[tuple[int, int]] = set()
    for path in paths:
        if path in given:
            yield path
            continue
        for folder, below, names in os.walk(path, onerror=refuse, followlinks=True):
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in entered:
                below.clear()
                continue
            entered.add((status.st_dev, status.st_ino))
            below.sort()
            files = (Path(folder, name) for name in sorted(names))
            yield from (file for file in files if is_named(file) and file not in given)


def is_fits_name(path: Path) -> bool:
    """Return whether a file has an ending of a FITS file."""
    return bool(_FITS.fullmatch(path.name))


def spectrum_files(
    paths: Iterable[Path],
    besides: Path | None = None,
    refuse: Callable[[OSError], object] | None = None,
) -> Iterator[Path]:
    """Yield files, and from folders all files with an ending of a spectrum's file: `find_files`.

    The file ``besides``, such as a table of targets, is left out of folders.
    """
    left_out = besides.resolve() if besides else None

    def is_named(path: Path) -> bool:
        return is_spectrum_name(path) and path.is_file() and path.resolve() != left_out

    return find_files(paths, is_named, refuse)


def plan_parts(
    survey: Survey,
    files: Iterable[Path],
    stored: Callable[[Sequence[Path]], Mapping[Path, Note]],
    workers: int,
    found: Found,
    note: Callable[[Iterable[Note]], None] = lambda _: None,
) -> Iterator[tuple[FileKey, ...]]:
    """Yield parts of neighbouring files that are to be read, while the files are found.

    Of each `_WINDOW` of files those of one group, which may hold the same spectrum, stay together.

    Parameters
    ----------
    stored : of some files, returns a note about each that is stored and not to be read again
    found : is counted up
    note : is called with a note about each file that is not read
    """
    files = iter(files)
    few = _FEW_FILES if isinstance(survey.reader, AnyFileReader) else 1
    most = min(SEGMENT_FILES, survey.part_files)
    while window := list(islice(files, _WINDOW)):
        keys = _keys(survey, window, found, note)
        notes = stored([key.path for key in keys])
        note(notes.values())
        conflicts = sum(told.became == "conflict" for told in notes.values())
        found.changed_medium += conflicts
        found.known += len(notes) - conflicts
        keys = [key for key in keys if key.path not in notes]
        found.wanted += len(keys)
        keys.sort(key=lambda key: (key.group, str(key.path)))
        yield from _parts(keys, workers, few, most)


def _keys(
    survey: Survey, files: Iterable[Path], found: Found, note: Callable[[Iterable[Note]], None]
) -> list[FileKey]:
    """Return the keys of the files of a survey; count and note all others."""
    keys = []
    for path in files:
        key = survey.reader.identify(path)
        if key is not None:
            keys.append(key)
        elif survey.reader.is_companion(path):
            why = "read along with another file, or of another context"
            note([Note(str(path), "passed over", why)])
        else:
            found.foreign += 1
            note([Note(str(path), "refused", f"not a file name of {survey.name}")])
    return keys


def beside_digest(survey: Survey, path: Path) -> int:
    """Return a signed 64-bit digest of the state of files read along with one; 0: there are none.

    A reader that has such files says which, in a method ``beside``.
    """
    find: Callable[[Path], Sequence[Path]] = getattr(survey.reader, "beside", lambda _: ())
    states = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in find(path)]
    return hash64(repr(states)) if states else 0


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
