"""The plan of an ingest: which files, in which parts, with what already known."""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..model.survey import FileKey, Survey
from ..ops.wholefits import FITS_ENDING

_FITS: Final = re.compile(rf".*{FITS_ENDING}", re.DOTALL)
SEGMENT_FILES: Final = 2000
"""Files of one part at most, of whatever survey: what is lost when a worker dies."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be read."""

    parts: tuple[tuple[FileKey, ...], ...]
    """A segment or more each; files that may hold the same spectrum are in the same part."""
    known: int
    """Files already stored, unchanged since, and not to be read again."""
    foreign: tuple[Path, ...]
    """FITS files whose name is not of this survey."""


def find_files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield all FITS files among paths and, recursively, below the folders among them."""
    # Archives are woven of links; a folder reached twice is looked at once.
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
            yield from (Path(folder) / name for name in sorted(names) if _is_fits(name))


def _is_fits(name: str) -> bool:
    """Tell whether a name ends as FITS files do."""
    return _FITS.fullmatch(name.lower()) is not None


def make_plan(
    survey: Survey, paths: Iterable[Path], known: dict[str, tuple[int, int]], workers: int
) -> Plan:
    """Divide the files to be read into segments of neighbouring spectra.

    Parameters
    ----------
    known : path → (size, time of last change in ns) of files already stored
    """
    keys: list[FileKey] = []
    foreign: list[Path] = []
    stored = 0
    for path in dict.fromkeys(one.absolute() for one in find_files(paths)):
        key = survey.reader.identify(path)
        if key is None:
            if not survey.reader.is_companion(path):
                foreign.append(path)
        elif _unchanged(path, known.get(str(path))):
            stored += 1
        else:
            keys.append(key)
    keys.sort(key=lambda key: (key.group, str(key.path)))
    most = min(SEGMENT_FILES, survey.part_files)
    return Plan(tuple(_parts(keys, workers, most)), stored, tuple(foreign))


def _unchanged(path: Path, known: tuple[int, int] | None) -> bool:
    """Tell whether a file is the one that was stored."""
    if known is None:
        return False
    try:
        status = path.stat()
    except OSError:
        return False
    return known == (status.st_size, status.st_mtime_ns)


def _parts(keys: Sequence[FileKey], workers: int, most: int) -> Iterator[tuple[FileKey, ...]]:
    """Yield runs of up to ``most`` files, never parting those of one group."""
    size = max(1, min(most, -(-len(keys) // max(1, workers))))
    at = 0
    while at < len(keys):
        stop = min(at + size, len(keys))
        while stop < len(keys) and keys[stop].group == keys[stop - 1].group:
            stop += 1
        yield tuple(keys[at:stop])
        at = stop
