"""The commit of segments that an ingest has written, and of those that a killed one completed."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ..catalog.index.build import left_segments, refresh_index
from ..catalog.index.commit import commit_rows
from ..catalog.index.manifest import newest_manifest
from ..catalog.index.stored_rows import StoredRows
from ..data.context import ContextFolder, SegmentFolder
from ..data.leases import Lease
from ..errors import DamagedFile, StoreError
from ..model.survey import Survey
from ..store.layout import SegmentInfo, check_segment, check_written, commit_segment
from .decisions import note_left_out
from .report import Note


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of a commit."""

    segments: list[SegmentInfo] = field(default_factory=list)
    """Those that are in the index now."""
    notes: list[Note] = field(default_factory=list)
    """A note about each spectrum that was left out: it is stored already."""
    left_out: frozenset[tuple[str, int]] = frozenset()
    """Segment and row of these spectra."""
    anew: bool = False
    """Whether the index was made anew before."""


def commit_segments(
    context: ContextFolder,
    survey: Survey,
    lease: Lease,
    segments: Sequence[tuple[SegmentFolder, SegmentInfo]],
    stored: StoredRows | None = None,
) -> Committed:
    """Commit segments that are written whole.

    Several processes may do so at once: each spectrum is stored once, and those that commit it
    later have a note about it. Parameters and errors as of `catalog.index.commit.commit_rows`.
    """
    if not segments:
        return Committed()
    infos = {segment.name: info for segment, info in segments}

    def complete(segment: SegmentFolder, left_out: Sequence[int]) -> None:
        info = replace(infos[segment.name], left_out=tuple(left_out))
        commit_segment(segment, info, again=segment.is_committed())
        infos[segment.name] = info

    folders = [segment for segment, _ in segments]
    left = commit_rows(context, survey, lease, folders, complete, stored)
    notes = [note_left_out(context, survey, row) for row in left]
    nleft = Counter(row.segment.name for row in left)
    for segment, info in segments:
        if nleft[segment.name] == info.nspec:
            segment.delete()
            del infos[segment.name]
    return Committed(
        list(infos.values()), notes, frozenset((row.segment.name, row.row) for row in left)
    )


def commit_left(context: ContextFolder, survey: Survey, lease: Lease) -> Committed:
    """Commit the complete segments that killed writers left, after making the index if need be.

    Damaged ones stay as they are; `verify` reports them.
    """
    anew = False
    try:
        left = left_segments(context, lease)
        is_there = newest_manifest(context.index).version > 0
    except DamagedFile:
        left, is_there = context.segments(), False
    if left and not is_there:
        anew = refresh_index(context, survey)
        left = left_segments(context, lease)
    whole: list[tuple[SegmentFolder, SegmentInfo]] = []
    for segment in map(context.segment, left):
        with suppress(StoreError):
            info = check_segment(segment)
            check_written(segment, info)
            segment.check_listed([segment.objects.name])
            whole.append((segment, info))
    return replace(commit_segments(context, survey, lease, whole), anew=anew)
