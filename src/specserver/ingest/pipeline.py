"""The ingest of a folder into a context: plan, read in parallel, commit segment by segment."""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from ..catalog.index import refresh_index
from ..catalog.objects import read_sources
from ..errors import IngestError
from ..files import locked
from ..model.survey import Survey
from ..processes import end_with_parent
from ..store.layout import commit_segment, remove_uncommitted, segment_names
from ..surveys import find_release
from .known import NO_KEY, Known
from .plan import Plan, make_plan
from .worker import PartResult, ingest_part

_REFRESH_S: Final = 60.0
"""Time between renewals of the index while an ingest goes on, so that servers see it grow."""
_POLL_S: Final = 0.2


class Progress(Protocol):
    """Whoever wants to show how far an ingest is."""

    def __call__(self, done: int, total: int) -> None:
        """Take note that ``done`` of ``total`` files have been looked at."""


@dataclass(slots=True)
class IngestSummary:
    """What an ingest did."""

    context: str
    files: int = 0
    read: int = 0
    stored: int = 0
    already: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of each file that could not be used."""
    other_reductions: Counter[str] = field(default_factory=Counter)
    """Reductions stored although they are not the release's, with their counts."""
    pointings: int = 0
    """Spectra stored of which only the telescope's position is known."""
    segments: int = 0
    removed: int = 0
    """Uncommitted segments of earlier, interrupted runs that were removed."""
    nbytes_in: int = 0
    nbytes_out: int = 0
    seconds: float = 0.0

    def add(self, part: PartResult) -> None:
        """Count a part in."""
        self.read += part.read
        self.stored += part.stored
        self.already += part.already
        self.refused += part.refused
        self.other_reductions += part.other_reductions
        self.pointings += part.pointings
        self.nbytes_in += part.nbytes_in
        self.segments += len(part.segments)
        self.nbytes_out += sum(info.nbytes for _, info in part.segments)


def run_ingest(
    data: Path,
    context: str,
    paths: Iterable[Path],
    *,
    workers: int | None = None,
    strict: bool = False,
    progress: Progress | None = None,
) -> IngestSummary:
    """Bring all spectra of files and folders into a context; what is there already is left alone.

    Parameters
    ----------
    workers : processes that read; all cores when None
    strict : refuse spectra whose reduction is not the release's

    Raises
    ------
    UnknownContext
        No survey has such a release.
    IngestError
        A path does not exist, another ingest is at work, or a reading process died.
    """
    begun = time.monotonic()
    survey, _ = find_release(context, data)
    paths = list(paths)
    if gone := [str(path) for path in paths if not path.exists()]:
        raise IngestError(f"no such file or folder: {', '.join(gone)}")
    summary = IngestSummary(context)
    with _sole_ingest(data, context):
        summary.removed = remove_uncommitted(data, context)
        known_files, known = _stored(data, survey, context)
        workers = workers or os.cpu_count() or 1
        plan = make_plan(survey, paths, known_files, workers)
        summary.files = plan.known + len(plan.foreign) + sum(len(part) for part in plan.parts)
        summary.already = plan.known
        summary.refused += [
            (str(path), f"not a file name of {survey.name}") for path in plan.foreign
        ]
        _read_all(data, survey, context, plan, known, summary, workers, strict, progress)
        refresh_index(data, survey, context, lambda: segment_names(data, context))
    summary.seconds = time.monotonic() - begun
    return summary


@contextmanager
def _sole_ingest(data: Path, context: str) -> Iterator[None]:
    """Let one ingest at a time write a context."""
    try:
        (data / context).mkdir(parents=True, exist_ok=True)
        with locked(data / context / "ingest.lock", wait=False) as mine:
            if not mine:
                raise IngestError(f"another ingest into {context} is at work; wait for its end")
            yield
    except PermissionError as error:
        raise IngestError(f"cannot write to {data}: {error}") from error


def _stored(data: Path, survey: Survey, context: str) -> tuple[dict[str, tuple[int, int]], Known]:
    """Return the files already stored, and the spectra already stored."""
    names = segment_names(data, context)
    paths = {name: data / context / name / "objects.parquet" for name in names}
    table = read_sources(paths, survey.id_column.name)
    files = zip(
        table.column("_source").to_pylist(),
        table.column("_size").to_pylist(),
        table.column("_mtime_ns").to_pylist(),
        strict=True,
    )
    ids = table.column(survey.id_column.name).to_numpy().astype(survey.id_column.dtype)
    keys = table.column("_key") if "_key" in table.column_names else None
    known = Known.of(
        ids, np.zeros(len(ids), np.int64) if keys is None else keys.fill_null(NO_KEY).to_numpy()
    )
    return {path: (size, mtime) for path, size, mtime in files}, known


def _read_all(
    data: Path,
    survey: Survey,
    context: str,
    plan: Plan,
    known: Known,
    summary: IngestSummary,
    workers: int,
    strict: bool,
    progress: Progress | None,
) -> None:
    """Read all parts and commit each segment as soon as it is written."""
    total = sum(len(part) for part in plan.parts)
    renewed = time.monotonic()
    for result in _results(data, context, plan, known, workers, strict, _counter(total, progress)):
        for path, info in result.segments:
            commit_segment(Path(path), info)
        summary.add(result)
        if time.monotonic() - renewed > _REFRESH_S:
            refresh_index(data, survey, context, lambda: segment_names(data, context))
            renewed = time.monotonic()


def _counter(total: int, progress: Progress | None) -> Callable[[int], None]:
    """Return a function that adds up files and tells the progress."""
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        if progress is not None:
            progress(done, total)

    return count


def _results(
    data: Path,
    context: str,
    plan: Plan,
    known: Known,
    workers: int,
    strict: bool,
    count: Callable[[int], None],
) -> Iterator[PartResult]:
    """Yield the result of each part, in the order in which they are done."""
    if workers == 1 or len(plan.parts) <= 1:
        for part in plan.parts:
            yield ingest_part(data, context, part, known, strict=strict, tell=count)
        return
    # spawn: forking a process that has TensorStore's threads would leave the child without them.
    spawning = multiprocessing.get_context("spawn")
    told = spawning.SimpleQueue()
    with ProcessPoolExecutor(workers, spawning, _begin, (told, known)) as pool:
        open_: set[Future[PartResult]] = set()
        waiting = list(reversed(plan.parts))
        try:
            while waiting or open_:
                # No more in flight than can be worked on: a result holds nothing big, a queue of
                # parts sent ahead would.
                while waiting and len(open_) < 2 * workers:
                    open_.add(pool.submit(_work, data, context, waiting.pop(), strict))
                ended, open_ = wait(open_, _POLL_S, FIRST_COMPLETED)
                while not told.empty():
                    count(told.get())
                for future in ended:
                    yield future.result()
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
"""What this worker process was given when it began: the queue to tell, and the known ids."""


def _begin(told: Any, known: Known) -> None:
    """Prepare a worker process."""
    end_with_parent()
    _WORKER[:] = [told, known]


def _work(data: Path, context: str, part: Any, strict: bool) -> PartResult:
    """Do one part in a worker process."""
    told, known = _WORKER
    return ingest_part(data, context, part, known, strict=strict, tell=told.put)
