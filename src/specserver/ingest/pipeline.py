"""The ingest of a folder into a context: plan, read in parallel, commit segment by segment."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..catalog.index.stored_rows import StoredRows
from ..data.context import ContextFolder
from ..data.leases import Lease
from ..data.root import DataRoot
from ..errors import IngestError, StoreError
from ..model.survey import Survey
from ..store.layout import check_written
from ..store.migration import Progress
from ..surveys import find_release
from ..surveys.generic import AnyFileReader, read_declaration
from .commit import commit_left, commit_segments
from .decisions import IngestOptions
from .executors import Executor, OwnProcesses, Part, Parts
from .maintain import merge_small_parts, writing
from .option_effects import OptionEffects
from .plan import Found, find_files, is_fits_name, plan_parts, require_there, spectrum_files
from .report import Report, Tally, open_report
from .stored_files import StoredFiles
from .worker import Counts, PartResult

_MERGE_S: Final = 60.0
"""Time between merges of small parts of the index while an ingest goes on."""
_NOTHING: Final = OptionEffects()
_ATTEMPTS: Final = 3
"""Readings of a part whose segments someone removes before they are committed."""


@dataclass
class IngestSummary(Counts, Tally):
    """The result of an ingest."""

    context: str = ""
    files: int = 0
    report: Path | None = None
    """File that lists the outcome of each file."""
    not_applied: list[str] = field(default_factory=list)
    """Warnings about options that do not apply to files that are stored already."""
    segments: int = 0
    removed: int = 0
    """Uncommitted segments of earlier, interrupted runs that were removed."""
    nbytes_out: int = 0
    seconds: float = 0.0


def run_ingest(
    data: DataRoot,
    context: str,
    paths: Iterable[Path],
    *,
    workers: int | None = None,
    strict: bool = False,
    replace: bool = False,
    report: Path | None = None,
    effects: OptionEffects = _NOTHING,
    progress: Progress | None = None,
    besides: Path | None = None,
    executor: Executor | None = None,
) -> IngestSummary:
    """Store all spectra of files and folders in a context; stored spectra are left alone.

    A spectrum is stored already if its identifier is stored with the same bits. Other bits are a
    conflict, or, with ``replace``, replace the stored spectrum: each reader sees the whole old
    one, and then the whole new one. Several ingests of a context may run at once.

    Parameters
    ----------
    workers : processes of its own that read; all cores when None
    strict : refuse spectra whose reduction is not the release's
    replace : replace stored spectra whose values differ
    report : file to write (see `ingest.report`): a line for each file that was not simply stored
    effects : options of this command that concern stored files, as `declare` returns them
    progress : called with the numbers of files that are read, and that are found so far
    besides : file in these folders that is no spectrum, such as a table of targets
    executor : what reads instead of processes of its own, such as `on_dask.DaskExecutor`

    Raises
    ------
    UnknownContext
        No survey has such a release.
    IngestError
        A path does not exist, a reading process died, another command has changed the declaration
        of the context, or another writer has ended the lease of this one, which was suspended.
    """
    begun = time.monotonic()
    find_release(context, data)
    paths = list(paths)
    require_there(paths)
    summary = IngestSummary(context=context, report=report)
    folder = data.context(context)
    with writing(data, folder) as lease, open_report(report, summary) as told:
        survey = _survey(data, context, effects)
        summary.removed = folder.remove_left(lease)
        told.add(commit_left(folder, survey, lease).notes)
        stored = StoredRows(folder.index, survey)
        known = StoredFiles(stored, survey, effects, replace=replace)
        found = Found()
        if isinstance(survey.reader, AnyFileReader):
            files = spectrum_files(paths, besides, told.refuse)
        else:
            # A reader of files that are no FITS says which are its own, in a method ``is_named``.
            is_named = getattr(survey.reader, "is_named", is_fits_name)
            files = find_files(paths, is_named, told.refuse)
        executor = executor or OwnProcesses.of(workers)
        planned = plan_parts(survey, files, known.notes, executor.width, found, told.add)
        given = frozenset(str(path.absolute()) for path in paths)
        options = IngestOptions(data, context, lease.name, given, strict, replace)
        _read_all(
            _Writer(folder, survey, lease, stored, summary, told),
            executor,
            options,
            Parts(planned),
            found,
            progress,
        )
        summary.files = found.files
        summary.already += found.known
        summary.not_applied = effects.warnings(found.known + found.changed_medium)
    if effects.own and not any(why.startswith(effects.own) for _, why in summary.refused):
        summary.not_applied.append(f"{effects.example}: {effects.own}")
    summary.seconds = time.monotonic() - begun
    return summary


def _survey(data: DataRoot, context: str, effects: OptionEffects) -> Survey:
    """Return the survey; it does not change while the ingest has its lease."""
    declared = effects.declared
    if declared is not None and declared != read_declaration(data, context):
        raise IngestError(f"another command has declared {context} anew; run this one again")
    return find_release(context, data)[0]


@dataclass(frozen=True, slots=True)
class _Writer:
    """Commits what the parts of an ingest have become."""

    context: ContextFolder
    survey: Survey
    lease: Lease
    stored: StoredRows
    summary: IngestSummary
    told: Report

    def commit(self, results: Sequence[PartResult]) -> None:
        """Commit the segments of some parts together, and count and note what became of all."""
        for result in results:
            self.told.add(result.notes)
            self.summary.add(result)
        segments = [segment for result in results for segment in result.segments]
        done = commit_segments(self.context, self.survey, self.lease, segments, self.stored)
        self.told.add(done.notes)
        for name, row, counted in (
            (name, row, counted)
            for result in results
            for name, rows in result.counted.items()
            for row, counted in enumerate(rows)
        ):
            if (name, row) not in done.left_out:
                self.summary.count_stored(counted)
        self.summary.already += sum(note.became == "already there" for note in done.notes)
        self.summary.segments += len(done.segments)
        self.summary.nbytes_out += sum(info.nbytes for info in done.segments)


def _read_all(
    writer: _Writer,
    executor: Executor,
    options: IngestOptions,
    parts: Parts,
    found: Found,
    progress: Progress | None,
) -> None:
    """Read all parts, and commit their segments as soon as they are written."""
    lost: Counter[Part] = Counter()
    merged = time.monotonic()
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, found.wanted)

    for ended in executor.results(options, parts, count):
        whole = []
        for part, result in ended:
            try:
                for segment, info in result.segments:
                    check_written(segment, info)
                whole.append(result)
            except StoreError:
                # Someone has removed files of it.
                lost[part] += 1
                if lost[part] > _ATTEMPTS:
                    raise
                for segment, _ in result.segments:
                    segment.delete()
                found.wanted += len(part)
                parts.add(part)
        writer.commit(whole)
        if time.monotonic() - merged > _MERGE_S:
            merge_small_parts(writer.context, writer.survey, writer.lease)
            merged = time.monotonic()
    # Of workers that were lost: others have read their parts again.
    writer.context.remove_own(writer.lease)
    merge_small_parts(writer.context, writer.survey, writer.lease)
