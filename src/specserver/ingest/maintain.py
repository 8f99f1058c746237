"""The upkeep of a context: its index in few parts, and nothing left of writers that were killed.

Services and ingests go on meanwhile.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from ..catalog.index.cleaning import remove_unused
from ..catalog.index.due_merges import make_due_merges
from ..catalog.index.manifest import newest_manifest
from ..catalog.index.merge_rule import CHEAP
from ..data.context import ContextFolder, IndexFolder
from ..data.leases import Lease
from ..data.root import DataRoot
from ..errors import IngestError, SpecServerError
from ..files import DISK_ERRORS, disk_error
from ..model.survey import Survey
from ..store.migration import Progress, remove_leftovers
from ..surveys import find_release
from ..surveys.generic import read_declaration
from .commit import commit_left

_LOG = logging.getLogger(__name__)
GRACE_S: Final = 900.0
"""Time for which files stay that a merge has replaced: a reader opens a version in far less."""


@dataclass(slots=True)
class Maintenance:
    """What was done in a context."""

    context: str
    busy: bool = False
    """Another process maintains the context; nothing was done."""
    committed: int = 0
    """Number of segments that a killed ingest had written whole, and that were committed now."""
    removed: int = 0
    """Number of unfinished segments of killed ingests that were deleted."""
    anew: list[str] = field(default_factory=list)
    """The context, and its value-added tables, of which the index was made anew."""
    parts: int = 0
    """Number of parts of the index afterwards."""
    merges: int = 0
    merged: int = 0
    """Number of parts that were joined."""
    rows: int = 0
    """Number of rows that merges wrote."""
    files: int = 0
    """Number of parts and marks that were deleted."""
    nbytes: int = 0
    """Bytes of the deleted parts and marks."""
    seconds: float = 0.0


def maintain(
    data: DataRoot,
    context: str,
    *,
    grace_s: float = GRACE_S,
    renew_tables: Callable[[], list[str]] = list,
    progress: Progress | None = None,
) -> Maintenance:
    """Maintain a context: make the merges that are due, and delete what is not needed any more.

    Parameters
    ----------
    grace_s : age from which files are deleted that newer ones have replaced
    renew_tables : makes the indexes of value-added tables that are out of date, and returns which

    Raises
    ------
    UnknownContext
        No survey has such a release.
    DamagedFile, CatalogError, IngestError
    """
    begun = time.monotonic()
    folder, done = data.context(context), Maintenance(context)
    survey = None if is_abandoned(folder) else find_release(context, data)[0]
    with writing(data, folder) as lease, folder.maintenance.lock(wait=False) as mine:
        if not mine:
            done.busy = True
            return done
        done.removed = folder.remove_left(lease)
        if survey is not None:
            left = commit_left(folder, survey, lease)
            done.committed = len(left.segments)
            done.anew = sorted({*renew_tables(), *([context] if left.anew else [])})
            _maintain_indexes(folder, survey, lease, grace_s, done, progress)
        _delete_rest(data, folder, lease, grace_s)
    if survey is None:
        folder.delete_empty()
    done.seconds = time.monotonic() - begun
    return done


def is_abandoned(context: ContextFolder) -> bool:
    """Return whether a context has nothing but what killed writers left before a first commit."""
    leases = context.leases
    return leases.exists() and not (
        context.segments() or context.tree.exists() or leases.are_held()
    )


@contextmanager
def writing(data: DataRoot, context: ContextFolder) -> Iterator[Lease]:
    """Hold a lease of a writer of a context; errors of the disk are those of the ingest."""
    try:
        with context.writing() as lease:
            yield lease
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        raise IngestError(
            f"cannot write to {error.filename or data}: {disk_error(error)}"
        ) from error


def merge_small_parts(context: ContextFolder, survey: Survey, lease: Lease) -> None:
    """Make the merges that take about a second each, unless another process does.

    If that fails, a warning is logged: what an ingest has committed is safe all the same.
    """
    try:
        with context.index.lock.lock(wait=False) as mine:
            if mine:
                deque(make_due_merges(context.index, survey, lease, CHEAP), maxlen=0)
    except (SpecServerError, OSError) as error:
        _LOG.warning("%s: the parts of its index were not joined: %s", context.name, error)


def _maintain_indexes(
    context: ContextFolder,
    survey: Survey,
    lease: Lease,
    grace_s: float,
    done: Maintenance,
    progress: Progress | None,
) -> None:
    """Merge the parts of the context's index, and clean all indexes."""
    with context.index.lock.lock():
        merges = make_due_merges(context.index, survey, lease, begin=_begin(progress))
        for merge in merges:
            done.merges += 1
            done.merged += merge.nparts
            done.rows += merge.nrows
        done.parts = len(newest_manifest(context.index).parts)
        _clean(context, context.index, lease, grace_s, done)
    for name in context.kept_tables():
        index = context.table(name).index
        with index.lock.lock():
            _clean(context, index, lease, grace_s, done)


def _clean(
    context: ContextFolder, index: IndexFolder, lease: Lease, grace_s: float, done: Maintenance
) -> None:
    """Delete what is not needed of an index; call under its lock."""

    def at_work() -> Callable[[str], bool]:
        with context.leases.others(lease) as others:
            if not others:
                # Only holders of leases, and of the lock of the index, write there.
                index.delete_drafts()
            known = {*others, lease.name}
        return lambda name: name in known or context.leases.is_known(name)

    cleaned = remove_unused(index, at_work, grace_s)
    done.files += cleaned.nfiles
    done.nbytes += cleaned.nbytes


def _delete_rest(data: DataRoot, context: ContextFolder, lease: Lease, grace_s: float) -> None:
    """Delete what is left of tables that are gone, and what killed writers left of single files."""
    # A migration replaces records of segments, and holds no lease.
    with context.migration.lock(wait=False) as mine, context.leases.others(lease) as others:
        if mine and not others:
            context.delete_detached()
            for name in context.segments():
                context.segment(name).record.delete_drafts()
            context.declaration.delete_drafts()
            declared = read_declaration(data, context.name)
            for table in context.target_tables():
                if declared is None or table.name != declared.table:
                    table.delete()
    remove_leftovers(context, grace_s=grace_s)


def _begin(progress: Progress | None) -> Callable[[int], Callable[[int], object]] | None:
    """Return what `make_due_merges` calls before each merge, if progress is shown."""
    if progress is None:
        return None

    def begin(total: int) -> Callable[[int], object]:
        rows = 0

        def tell(more: int) -> None:
            nonlocal rows
            rows += more
            progress(rows, total)

        return tell

    return begin
