"""One part of an ingest: read its files, write its segments, note the outcome of each file."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final, TypeAlias
from zlib import crc32

import numpy as np

from .. import __version__
from ..catalog.segment_rows import Digests, Source, sky_order, write_objects
from ..data.context import SegmentFolder
from ..digests import crc_of
from ..errors import BadFile, IngestError, StoreError
from ..model.survey import (
    FileKey,
    RawSpectrum,
    RefusedSpectrum,
    Remark,
    RowsReader,
    Survey,
)
from ..ops.reading import file_bytes, read_spectra
from ..store.layout import SegmentInfo, finish_segment
from ..store.writer import SegmentArrays, write_arrays
from ..surveys import find_release
from ..surveys.generic import AnyFileReader
from .decisions import Decision, Decisions, IngestOptions
from .plan import beside_digest
from .report import Note, refusal

_TELL_EVERY: Final = 20
_TOGETHER: Final = 100
"""Spectra that are looked up together: some 15 MB."""
_SEGMENT_SPECTRA: Final = 2000
"""A segment ends with the file that brings it to so many spectra: some 300 MB of arrays."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What is counted of a spectrum that is stored."""

    replaces: bool
    """It replaces another one."""
    reduction: str
    """Its reduction, if it is not one of the release; else empty."""
    is_pointing: bool
    """Its only known position is the telescope's."""
    layout: str
    """How a file of the folder's own surveys was read."""
    remarks: tuple[str, ...]


_Waiting: TypeAlias = tuple[RawSpectrum, Digests, Counted, Source, int | None]
"""A spectrum that is to be stored, its digests, what is counted of it, its file, and its place on
the lattice."""


@dataclass
class Counts:
    """Counts of a part, or of a whole ingest."""

    read: int = 0
    stored: int = 0
    already: int = 0
    replaced: int = 0
    """Stored spectra that replace others."""
    nbytes_in: int = 0
    other_reductions: Counter[str] = field(default_factory=Counter)
    """Reductions that were stored and are not the release's, with the number of spectra of each."""
    pointings: int = 0
    """Stored spectra whose only known position is the telescope's."""
    remarks: Counter[str] = field(default_factory=Counter)
    """Remarks about stored spectra, with the number of spectra of each."""
    layouts: Counter[str] = field(default_factory=Counter)
    """How files of the folder's own surveys were read, with the number of stored spectra of each.
    """

    def count_stored(self, counted: Counted) -> None:
        """Count a stored spectrum."""
        self.stored += 1
        self.replaced += counted.replaces
        self.pointings += counted.is_pointing
        self.other_reductions.update(filter(None, [counted.reduction]))
        self.layouts.update(filter(None, [counted.layout]))
        self.remarks.update(counted.remarks)

    def add(self, part: "Counts") -> None:
        """Add the counts of a part."""
        for counter in fields(Counts):
            setattr(self, counter.name, getattr(self, counter.name) + getattr(part, counter.name))


@dataclass
class PartResult(Counts):
    """The result of a part."""

    segments: list[tuple[SegmentFolder, SegmentInfo]] = field(default_factory=list)
    """Each segment written, not yet committed, and its commit record."""
    counted: dict[str, list[Counted]] = field(default_factory=dict)
    """Name of a segment → what is counted of each row when it is committed."""
    notes: list[Note] = field(default_factory=list)
    """Notes about files and spectra that were not simply stored."""


def ingest_part(
    options: IngestOptions, part: Sequence[FileKey], tell: Callable[[int], None]
) -> PartResult:
    """Read a part's files and write its spectra as segments that are still to be committed.

    ``tell`` is called with the number of files done since the last call.
    """
    survey, release = find_release(options.context, options.data)
    decisions, result = Decisions(survey, release, options), PartResult()
    held = _Held(decisions, result)
    files: list[tuple[Source, Sequence[RawSpectrum]]] = []
    done = 0
    for key in part:
        done += 1
        if done == _TELL_EVERY:
            tell(done)
            done = 0
        file = _read(survey, key.path, result)
        if file is not None:
            files.append(file)
        if sum(len(found) for _, found in files) >= _TOGETHER:
            held.add_files(files)
            files = []
    tell(done)
    held.add_files(files)
    held.write()
    return result


def _read(
    survey: Survey, path: Path, result: PartResult
) -> tuple[Source, Sequence[RawSpectrum]] | None:
    """Return a file and its spectra; None, and a note in the result, if it is refused."""
    try:
        status = path.stat()
        content = file_bytes(survey.reader, path)
        crc = crc_of(path) if content is None else crc32(content)
        beside = beside_digest(survey, path)
        if isinstance(survey.reader, RowsReader):
            found, refused = survey.reader.read_rows(path)
            result.notes += _refusals(path, refused)
        else:
            found = read_spectra(survey.reader, path, content)
    except (BadFile, OSError) as error:
        any_file = isinstance(survey.reader, AnyFileReader)
        reason = refusal(path, error) if any_file else str(error)
        result.notes.append(Note(str(path), "refused", reason))
        return None
    result.read += 1
    result.nbytes_in += status.st_size
    return Source(str(path), status.st_size, status.st_mtime_ns, crc, beside), found


def _refusals(path: Path, refused: Sequence[RefusedSpectrum]) -> Iterator[Note]:
    """Yield a note for each reason why spectra of a file are refused."""
    grouped: dict[str, list[str]] = {}
    for spectrum in refused:
        grouped.setdefault(spectrum.reason, []).append(spectrum.label)
    for reason, labels in grouped.items():
        some = f"{len(labels):,} of its spectra" if len(labels) > 1 else labels[0]
        yield Note(str(path), "refused", f"{some}: {reason}", tuple(labels))


def choose(
    decisions: Decisions, found: Sequence[RawSpectrum], source: Source, result: PartResult
) -> list[tuple[RawSpectrum, Digests, Counted]]:
    """Return the spectra of a file that are to be stored; count and note all others."""
    chosen: list[tuple[RawSpectrum, Digests, Counted]] = []
    grouped: dict[Decision, list[str]] = {}
    remarked: dict[Remark, list[str]] = {}
    for spectrum in found:
        decision, digests = decisions.decide(spectrum, source.path)
        if decision.became:
            grouped.setdefault(decision, []).append(decisions.label(spectrum))
        result.already += decision.became == "already there"
        if digests is not None:
            for remark in spectrum.remarks:
                remarked.setdefault(remark, []).append(decisions.label(spectrum))
            counted = Counted(
                decision.became == "replaced",
                spectrum.reduction if decision.foreign else "",
                spectrum.is_pointing,
                spectrum.layout,
                tuple(remark.kind for remark in spectrum.remarks),
            )
            chosen.append((spectrum, digests, counted))
    for decision, ids in grouped.items():
        result.notes.append(decision.note(source.path, ids))
    result.notes += [
        Note(source.path, "stored", remark.text, tuple(ids)) for remark, ids in remarked.items()
    ]
    return chosen


class _Held:
    """Spectra that wait in memory for their segment to be written.

    All spectra of a file go into one segment. A stored file is not read again, so spectra in a
    second segment that is lost would stay lost.
    """

    def __init__(self, decisions: Decisions, result: PartResult) -> None:
        self.decisions = decisions
        self.result = result
        self.waiting: list[_Waiting] = []

    def add_files(self, files: Sequence[tuple[Source, Sequence[RawSpectrum]]]) -> None:
        """Add those spectra of some files that are to be stored."""
        self.decisions.look_up([spectrum for _, found in files for spectrum in found])
        for source, found in files:
            self._add(choose(self.decisions, found, source, self.result), source)

    def _add(self, taken: Sequence[tuple[RawSpectrum, Digests, Counted]], source: Source) -> None:
        """Add the spectra of a file; write a segment when there are enough."""
        places = [self.decisions.places.of(spectrum.axis) for spectrum, *_ in taken]
        if None in places:
            places = [None] * len(places)
        self.waiting += [(*told, source, place) for told, place in zip(taken, places, strict=True)]
        self.decisions.rows.hold([spectrum for spectrum, *_ in taken])
        if len(self.waiting) >= _SEGMENT_SPECTRA:
            self.write()

    def write(self) -> None:
        """Write one segment of the spectra on the lattice and one of those off it."""
        self._drop_stored()
        for on_lattice in (True, False):
            members = [held for held in self.waiting if (held[-1] is not None) == on_lattice]
            if members:
                self._write(members, on_lattice=on_lattice)
        self.waiting = []
        self.decisions.rows.let_go()

    def _drop_stored(self) -> None:
        """Drop and note the spectra that others have stored since they were looked up."""
        waiting = [
            (spectrum, digests, source.path) for spectrum, digests, _, source, _ in self.waiting
        ]
        kept = []
        decided = self.decisions.decide_again(waiting)
        for held, decision in zip(self.waiting, decided, strict=True):
            if decision is None:
                kept.append(held)
                continue
            spectrum, *_, source, _ = held
            self.result.already += decision.became == "already there"
            label = self.decisions.label(spectrum)
            self.result.notes.append(decision.note(source.path, [label]))
        self.waiting = kept

    def _write(self, members: Sequence[_Waiting], *, on_lattice: bool) -> None:
        """Write a segment, which is still to be committed."""
        survey, folder = self.decisions.survey, self.decisions.folder
        order = sky_order([spectrum for spectrum, *_ in members])
        spectra, digests, counted, sources, places = zip(*(members[i] for i in order), strict=True)
        segment = folder.new_segment(self.decisions.options.lease)
        vectors = {
            vector.name: [spectrum.vectors[vector.name] for spectrum in spectra]
            for vector in survey.vectors
        }
        if not on_lattice:
            vectors[survey.grid.axis] = [spectrum.axis for spectrum in spectra]
        arrays = SegmentArrays(
            ids=np.array([spectrum.id for spectrum in spectra], survey.id_column.dtype),
            first=np.array([place or 0 for place in places], np.int32),
            count=np.array([len(spectrum.axis) for spectrum in spectra], np.int32),
            vectors=vectors,
        )
        try:
            write_arrays(segment, survey, folder.name, arrays, on_lattice=on_lattice)
            write_objects(segment.objects, survey, spectra, sources, digests)
            info = SegmentInfo(
                name=segment.name,
                context=folder.name,
                survey=survey.name,
                nspec=len(spectra),
                on_lattice=on_lattice,
                nbytes=segment.nbytes(),
                made_by=f"specserver {__version__}",
            )
            info = finish_segment(segment, info)
        except (OSError, ValueError, StoreError) as error:
            # The disk may be full.
            with suppress(OSError):
                segment.delete()
            if isinstance(error, StoreError):
                raise
            reason = str(error).partition("\n")[0]
            raise IngestError(
                f"{segment} cannot be written: {reason}; what is committed before is safe"
            ) from error
        self.result.segments.append((segment, info))
        self.decisions.rows.write(segment, spectra)
        self.result.counted[segment.name] = [*counted]
