"""The ingest of a folder into a context: plan, read in parallel, commit segment by segment."""

import multiprocessing
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import pyarrow as pa

from ..catalog.index.build import refresh_index
from ..catalog.segment_rows import read_sources
from ..data.context import ContextFolder
from ..data.leases import Lease
from ..data.root import DataRoot
from ..errors import IngestError, StoreError
from ..files import DISK_ERRORS
from ..model.survey import FileKey, Survey
from ..processes import end_with_parent, leaving_interrupts_to_this_process
from ..store.layout import check_written, commit_segment
from ..surveys import find_release
from ..surveys.generic import AnyFileReader, read_declaration
from .decisions import IngestOptions, find_duplicates
from .option_effects import OptionEffects
from .plan import Found, find_files, is_fits_name, plan_parts, require_there, spectrum_files
from .report import Report, Tally, open_report
from .stored_files import StoredFiles
from .stored_ids import StoredIds
from .worker import Counts, PartResult, ingest_part

_REFRESH_S: Final = 60.0
"""Time between renewals of the index while an ingest goes on, so that servers see it grow."""
_POLL_S: Final = 0.2
_NOTHING: Final = OptionEffects()


_ATTEMPTS: Final = 3
"""Readings of a part whose segments someone removes before they are committed."""
Part: TypeAlias = tuple[FileKey, ...]
Progress: TypeAlias = Callable[[int, int], object]
"""Shows the progress of an ingest: so many files are read, of so many found so far."""


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
) -> IngestSummary:
    """Store all spectra of files and folders in a context; stored spectra are left alone.

    A spectrum is stored already if its identifier is stored with the same bits. Other bits are a
    conflict, or, with ``replace``, replace the stored spectrum: until the end of the ingest, or
    the next renewal of the index, each reader sees the whole old one, and then the whole new one.

    Parameters
    ----------
    workers : processes that read; all cores when None
    strict : refuse spectra whose reduction is not the release's
    replace : replace stored spectra whose values differ
    report : file to write (see `ingest.report`): a line for each file that was not simply stored
    effects : options of this command that concern stored files, as `declare` returns them
    besides : file in these folders that is no spectrum, such as a table of targets

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
    with _writing(data, folder) as lease, open_report(report, summary) as told:
        survey = _survey(data, context, effects)
        summary.removed = folder.remove_left(lease)
        known, table = _stored(folder, survey)
        stored = StoredFiles(table, survey, effects, replace=replace)
        found = Found()
        if isinstance(survey.reader, AnyFileReader):
            files = spectrum_files(paths, besides)
        else:
            files = find_files(paths, is_fits_name)
        workers = workers or os.cpu_count() or 1
        parts = plan_parts(survey, files, stored.notes, workers, found, told.add)
        given = frozenset(str(path.absolute()) for path in paths)
        options = IngestOptions(data, context, lease.name, known, given, strict, replace)
        names = _read_all(options, lease, parts, found, summary, workers, told, progress)
        summary.files = found.files
        summary.already += found.known
        summary.not_applied = effects.warnings(found.known + found.changed_medium)
        if len(names) > 1:
            segments = [folder.segment(name) for name in names]
            rows = read_sources(segments, survey.id_column.name)
            told.add(find_duplicates(rows, survey, segments))
        refresh_index(folder, survey)
    if effects.own and not any(why.startswith(effects.own) for _, why in summary.refused):
        summary.not_applied.append(f"{effects.example}: {effects.own}")
    summary.seconds = time.monotonic() - begun
    return summary


@contextmanager
def _writing(data: DataRoot, context: ContextFolder) -> Iterator[Lease]:
    """Hold a lease of a writer of a context; errors of the disk are those of the ingest."""
    try:
        with context.writing() as lease:
            yield lease
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise IngestError(f"cannot write to {data}: {error.strerror}") from error


def _survey(data: DataRoot, context: str, effects: OptionEffects) -> Survey:
    """Return the survey; it does not change while the ingest has its lease."""
    declared = effects.declared
    if declared is not None and declared != read_declaration(data, context):
        raise IngestError(f"another command has declared {context} anew; run this one again")
    return find_release(context, data)[0]


def _stored(context: ContextFolder, survey: Survey) -> tuple[StoredIds, pa.Table]:
    """Return the stored spectra, and their catalogue rows; without those that were replaced."""
    names = tuple(context.segments())
    table = read_sources([context.segment(name) for name in names], survey.id_column.name)
    known, rows = StoredIds.of(table, survey.id_column.name, survey.id_column.dtype, names)
    # A file whose spectra were all replaced is not known, so that it is read if it is given again.
    return known, table.take(pa.array(np.sort(rows)))


def _read_all(
    options: IngestOptions,
    lease: Lease,
    parts: Iterator[Part],
    found: Found,
    summary: IngestSummary,
    workers: int,
    told: Report,
    progress: Progress | None,
) -> list[str]:
    """Read all parts and commit each segment as soon as it is written; return their names."""
    names: list[str] = []
    again: deque[Part] = deque()
    lost: Counter[Part] = Counter()
    renewed = time.monotonic()
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, found.wanted)

    for part, result in _results(options, parts, again, workers, count):
        try:
            for segment, info in result.segments:
                check_written(segment, info)
        except StoreError:
            # Someone has removed files of it.
            lost[part] += 1
            if lost[part] > _ATTEMPTS:
                raise
            for segment, _ in result.segments:
                segment.delete()
            found.wanted += len(part)
            again.append(part)
            continue
        for segment, info in result.segments:
            commit_segment(segment, info)
            lease.require()
            names.append(info.name)
            summary.segments += 1
            summary.nbytes_out += info.nbytes
        told.add(result.notes)
        summary.add(result)
        if time.monotonic() - renewed > _REFRESH_S:
            survey = find_release(options.context, options.data)[0]
            refresh_index(options.data.context(options.context), survey)
            renewed = time.monotonic()
    return sorted(names)


def _results(
    options: IngestOptions,
    parts: Iterator[Part],
    again: deque[Part],
    workers: int,
    count: Callable[[int], None],
) -> Iterator[tuple[Part, PartResult]]:
    """Yield each part and its result as soon as it is done.

    Parameters
    ----------
    again : the caller adds parts that are to be read once more
    """
    first = list(islice(parts, 2))
    parts = chain(first, parts)

    def following() -> Part | None:
        return again.popleft() if again else next(parts, None)

    if workers == 1 or len(first) <= 1:
        while (part := following()) is not None:
            yield part, ingest_part(options, part, count)
        return
    # spawn: a forked child would lack TensorStore's threads.
    spawning = multiprocessing.get_context("spawn")
    told = spawning.SimpleQueue()
    with ProcessPoolExecutor(workers, spawning, _begin, (told, options)) as pool:
        at_work: dict[Future[PartResult], Part] = {}
        try:
            while True:
                # Parts are submitted when a worker can take them: a long queue of them is large.
                while len(at_work) < 2 * workers and (part := following()) is not None:
                    with leaving_interrupts_to_this_process():
                        at_work[pool.submit(_work, part)] = part
                if not at_work:
                    break
                ended, _ = wait(at_work, _POLL_S, FIRST_COMPLETED)
                while not told.empty():
                    count(told.get())
                for future in ended:
                    yield at_work.pop(future), future.result()
        except BrokenProcessPool as error:
            raise IngestError(
                "a reading process died (out of memory?); what is committed is safe:"
                " run the same command again, perhaps with fewer --workers"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)
    while not told.empty():
        count(told.get())


_WORKER: list[Any] = []
"""Arguments of this worker process: the queue for progress, and the options."""


def _begin(told: Any, options: IngestOptions) -> None:
    """Prepare a worker process."""
    end_with_parent()
    _WORKER[:] = [told, options]


def _work(part: Sequence[FileKey]) -> PartResult:
    """Do one part in a worker process."""
    told, options = _WORKER
    return ingest_part(options, part, told.put)
