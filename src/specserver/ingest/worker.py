"""One part of an ingest: read its files, write its segments, say what became of each file."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..catalog.objects import Source, sky_order, write_objects
from ..errors import BadFile
from ..model.grid import locate
from ..model.survey import FileKey, RawSpectrum, Survey
from ..store.layout import SegmentInfo, folder_size, new_segment
from ..store.zarr import SegmentArrays, write_arrays
from ..surveys import find_release

_TELL_EVERY: Final = 20


@dataclass(slots=True)
class PartResult:
    """What became of a part."""

    segments: list[tuple[str, SegmentInfo]] = field(default_factory=list)
    """Folder and commit record of each segment written, not yet committed."""
    read: int = 0
    stored: int = 0
    already: int = 0
    nbytes_in: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason."""
    other_reductions: Counter[str] = field(default_factory=Counter)
    """Reductions that are not the release's, and how many spectra have them."""


def ingest_part(
    data: Path,
    context: str,
    part: Sequence[FileKey],
    known_ids: npt.NDArray[Any],
    *,
    strict: bool,
    tell: Callable[[int], None],
) -> PartResult:
    """Read a part's files and write its spectra as segments that are still to be committed.

    Parameters
    ----------
    known_ids : 1D[n] ids already stored, sorted
    tell : called with the number of files done since the last call
    """
    survey, release = find_release(context)
    result = PartResult()
    spectra: list[RawSpectrum] = []
    sources: list[Source] = []
    seen: set[int] = set()
    done = 0
    for key in part:
        done += 1
        if done == _TELL_EVERY:
            tell(done)
            done = 0
        try:
            status = key.path.stat()
            found = survey.reader.read(key.path)
        except (BadFile, OSError) as error:
            result.refused.append((str(key.path), str(error)))
            continue
        result.read += 1
        result.nbytes_in += status.st_size
        for one in found:
            foreign = one.reduction not in release.reductions
            if foreign and strict:
                result.refused.append(
                    (str(key.path), f"reduction {one.reduction} is not of {context}")
                )
                continue
            if one.id in seen or _contains(known_ids, one.id):
                result.already += 1
                continue
            if foreign:
                result.other_reductions[one.reduction] += 1
            seen.add(one.id)
            spectra.append(one)
            sources.append(Source(str(key.path), status.st_size, status.st_mtime_ns))
    tell(done)
    _write(data, context, survey, spectra, sources, result)
    return result


def _contains(ids: npt.NDArray[Any], wanted: int) -> bool:
    """Tell whether a sorted array of ids holds one."""
    at = int(np.searchsorted(ids, ids.dtype.type(wanted)))
    return at < len(ids) and int(ids[at]) == wanted


def _write(
    data: Path,
    context: str,
    survey: Survey,
    spectra: Sequence[RawSpectrum],
    sources: Sequence[Source],
    result: PartResult,
) -> None:
    """Write the spectra on the lattice, and those off it, as a segment each."""
    places = [_place(survey, one) for one in spectra]
    for on_lattice in (True, False):
        members = [i for i, place in enumerate(places) if (place is not None) == on_lattice]
        if not members:
            continue
        order = [members[i] for i in sky_order([spectra[i] for i in members])]
        chosen = [spectra[i] for i in order]
        path = new_segment(data, context)
        vectors = {
            vector.name: [one.vectors[vector.name] for one in chosen] for vector in survey.vectors
        }
        if not on_lattice:
            vectors[survey.grid.axis] = [one.axis for one in chosen]
        arrays = SegmentArrays(
            ids=np.array([one.id for one in chosen], survey.id_column.dtype),
            first=np.array([places[i] or 0 for i in order], np.int32),
            count=np.array([len(one.axis) for one in chosen], np.int32),
            vectors=vectors,
        )
        write_arrays(path / "spectra.zarr", survey, context, arrays, on_lattice=on_lattice)
        write_objects(path / "objects.parquet", survey, chosen, [sources[i] for i in order])
        made_by = f"specserver {__version__}"
        info = SegmentInfo(
            path.name, context, survey.name, len(chosen), on_lattice, folder_size(path), made_by
        )
        result.segments.append((str(path), info))
        result.stored += len(chosen)


def _place(survey: Survey, spectrum: RawSpectrum) -> int | None:
    """Return the lattice pixel of the first value, or None when the spectrum keeps its own axis."""
    first = locate(survey.grid, spectrum.axis)
    if first is None:
        return None
    inside = survey.window.first <= first and first + len(spectrum.axis) <= survey.window.stop
    return first if inside else None
