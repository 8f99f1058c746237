"""Where a store keeps its segments, and when a segment counts.

::

    <data>/<context>/<segment>/
        spectra.zarr/     Zarr v3 group, see `store.zarr`
        objects.parquet   catalogue rows, see `catalog.segment_rows`
        segment.json      written last: a segment is committed when, and only when, it exists

A writer that dies leaves a folder without ``segment.json``; readers never see it and the next
ingest removes it. A committed segment is never changed: ``segment.json`` states the digests of all
its files but the shards, whose chunks have checksums of their own.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from uuid import uuid4

from ..damage import damaged
from ..digests import check_files, digests_of, read_record, seal
from ..errors import StoreError
from ..files import EVERYONE_READS, close_like_parent, replace_file

FORMAT_VERSION = 1
MARKER = "segment.json"
"""The commit record of a segment."""
OBJECTS = "objects.parquet"
"""Its catalogue rows."""
_DAMAGED = "damaged commit record: restore the file"
_SHARD_DEPTH = 5
"""Parts of the path of a shard from its segment: ``spectra.zarr/<vector>/c/<number>/0``."""


@dataclass(frozen=True, slots=True)
class SegmentInfo:
    """What the commit record of a segment says."""

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


def require_folder(data: Path) -> Path:
    """Return a data folder that is there.

    Raises
    ------
    StoreError
        There is no such folder, or it is none.
    """
    if not data.is_dir():
        what = "is no folder" if data.exists() else "there is no such data folder"
        raise StoreError(
            str(data.absolute()),
            f"{what}; name another with --data or SPECSERVER_DATA, or fill it with"
            " 'specserver ingest'",
        )
    return data


def survey_name(data: Path, context: str) -> str:
    """Return the survey that a context's segments say they are of; empty where none can be read."""
    for marker in (data / context).glob(f"seg-*/{MARKER}"):
        # A damaged one is told where it is verified or opened.
        with suppress(StoreError):
            return read_segment(marker.parent).survey
    return ""


def list_contexts(data: Path) -> list[str]:
    """Return the contexts that have at least one committed segment, sorted."""
    if not data.is_dir():
        return []
    # Every request asks: nothing is listed beyond the first segment of each context.
    return sorted(folder.name for folder in data.iterdir() if _has_segment(folder))


def _has_segment(context: Path) -> bool:
    """Return whether a folder holds a committed segment."""
    try:
        with os.scandir(context) as entries:
            segments = (Path(one.path) for one in entries if one.name.startswith("seg-"))
            return any((segment / MARKER).exists() for segment in segments)
    except NotADirectoryError:
        return False


def list_segments(data: Path, context: str) -> list[SegmentInfo]:
    """Return the committed segments of a context in order of their names."""
    markers = sorted((data / context).glob(f"seg-*/{MARKER}"))
    return [read_segment(marker.parent) for marker in markers]


def segment_names(data: Path, context: str) -> list[str]:
    """Return the names of the committed segments of a context, in order."""
    return sorted(marker.parent.name for marker in (data / context).glob(f"seg-*/{MARKER}"))


def read_segment(path: Path) -> SegmentInfo:
    """Return the commit record of a segment's folder.

    Raises
    ------
    StoreError
        It is not committed, or of a newer version.
    DamagedFile
        The record is damaged.
    """
    marker = path / MARKER
    try:
        values = read_record(marker, _DAMAGED).values
    except FileNotFoundError as error:
        raise StoreError(str(path), "no committed segment") from error
    version = values.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreError(str(marker), f"format {version} is newer than this program's")
    try:
        return SegmentInfo(**values)
    except TypeError as error:
        raise damaged(marker, f"{_DAMAGED} ({error})") from error


def check_segment(path: Path) -> SegmentInfo:
    """Compare the small files of a segment with their digests; return its commit record.

    Its catalogue rows are compared by those who read them, the chunks of its shards likewise;
    of a shard as a whole only the size is compared when it is opened (`store.shards`).

    Raises
    ------
    DamagedFile
        A file is not as it was written.
    """
    info = read_segment(path)
    small = {name: one for name, one in info.digests.items() if not is_shard(name)}
    check_files(path, {name: one for name, one in small.items() if name != OBJECTS})
    return info


def is_shard(name: str) -> bool:
    """Return whether a path from a segment's folder is that of a shard."""
    return name.count("/") + 1 == _SHARD_DEPTH


def new_segment(data: Path, context: str) -> Path:
    """Create and return a folder for a segment that is not yet committed."""
    folder = data / context
    folder.mkdir(parents=True, exist_ok=True)
    number = sum(1 for _ in folder.glob("seg-*")) + 1
    path = folder / f"seg-{number:06d}-{uuid4().hex[:8]}"
    path.mkdir()
    return path


def commit_segment(path: Path, info: SegmentInfo) -> None:
    """Make a whole segment durable, then make it count; both or neither survive a power cut."""
    close_like_parent(path)
    names = []
    for folder, _, files in os.walk(path):
        for name in files:
            _sync(Path(folder) / name)
            names.append((Path(folder) / name).relative_to(path).as_posix())
        _sync(Path(folder))
    _sync(path.parent)
    record = seal({**asdict(info), "digests": digests_of(path, sorted(names))})
    replace_file(path / MARKER, record, mode=EVERYONE_READS)


def remove_uncommitted(data: Path, context: str) -> int:
    """Remove what dead writers left; return the number of folders. Call under the ingest lock."""
    dead = [
        folder
        for folder in (data / context).glob("seg-*")
        if folder.is_dir() and not (folder / MARKER).exists()
    ]
    for folder in dead:
        shutil.rmtree(folder)
    return len(dead)


def folder_size(path: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
