"""The commit record of a segment; only a segment that has one counts.

A writer that dies leaves a segment without a commit record (`data.context`). Readers never see it,
and the next ingest removes it when the writer's lease is over. A committed segment is never
changed: its record states the digests of all its files but the shards, whose chunks have checksums
of their own.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from ..data.context import ContextFolder, SegmentFolder
from ..digests import seal
from ..errors import StoreError

FORMAT_VERSION = 2
"""Format of the arrays that are written; those of format 1 are read as well (`store.zarr`)."""
_DAMAGED = "damaged commit record"
_SHARD_DEPTH = 5
"""Least parts of the path of a shard from its segment: ``spectra.zarr/<vector>/c/<number>/0``."""


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """The commit record of a segment."""

    name: str
    context: str
    survey: str
    nspec: int
    on_lattice: bool
    nbytes: int
    """Bytes on disk of arrays and catalogue rows."""
    made_by: str
    format_version: int = FORMAT_VERSION
    digests: Mapping[str, str] = field(default_factory=dict)
    """Path from the segment's folder → digest (`specserver.digests`); empty: an older version
    made it."""
    left_out: Sequence[int] = ()
    """Rows that are not in the index, ascending: their spectra were stored already."""


def survey_name(context: ContextFolder) -> str:
    """Return the survey in the commit records of a context; empty if none can be read."""
    for name in context.segments():
        # The error for a damaged record is raised where it is verified or opened.
        with suppress(StoreError):
            return read_segment(context.segment(name)).survey
    return ""


def list_segments(context: ContextFolder) -> list[SegmentInfo]:
    """Return the committed segments of a context in order of their names."""
    return [read_segment(context.segment(name)) for name in context.segments()]


def read_segment(segment: SegmentFolder) -> SegmentInfo:
    """Return the commit record of a segment; raise `StoreError` if it has none that can be read."""
    record = segment.record
    try:
        values = record.record(_DAMAGED, FORMAT_VERSION).values
    except FileNotFoundError as error:
        raise StoreError(str(segment), "no committed segment") from error
    try:
        return SegmentInfo(**values)
    except TypeError as error:
        raise record.damaged(f"{_DAMAGED} ({error})") from error


def check_segment(segment: SegmentFolder) -> SegmentInfo:
    """Compare the small files of a segment with their digests; return its commit record.

    Its catalogue rows are compared by those who read them, the chunks of its shards likewise;
    of a shard as a whole only the size is compared when it is opened (`store.shards`). Raises
    `DamagedFile` if a file differs.
    """
    info = read_segment(segment)
    rows = segment.objects.name
    small = (name for name in info.digests if not is_shard(name) and name != rows)
    segment.check({name: info.digests[name] for name in small})
    return info


def is_shard(name: str) -> bool:
    """Return whether a path from a segment's folder is that of a shard."""
    return name.count("/") + 1 >= _SHARD_DEPTH


def finish_segment(segment: SegmentFolder, info: SegmentInfo) -> SegmentInfo:
    """Flush a segment that is written whole; return its record, with the digests of its files."""
    segment.inherit_access()
    segment.sync()
    return replace(info, digests=segment.digests(segment.files()))


def check_written(segment: SegmentFolder, info: SegmentInfo) -> None:
    """Check that the files of a segment are there, by its record as `finish_segment` returns it.

    Raises
    ------
    StoreError
        A file is missing, or has another size than when it was written.
    """
    sizes = segment.sizes([*info.digests])
    for (name, digest), size in zip(info.digests.items(), sizes, strict=True):
        if size != int(digest.split()[0]):
            raise StoreError(str(segment), f"{name} is missing or cut off, so it is not committed")


def commit_segment(segment: SegmentFolder, info: SegmentInfo, *, again: bool = False) -> None:
    """Write the commit record of a segment that is whole; errors as of `check_written`.

    Parameters
    ----------
    again : replace the record that its writer wrote before
    """
    check_written(segment, info)
    write = segment.record.replace if again else segment.record.create
    write(seal(asdict(info)))
