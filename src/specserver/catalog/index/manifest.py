"""The versions of an index: a manifest lists the parts of one, and its appearance is the commit.

A manifest is written under the number after the newest one, and only if there is none of that
number. So of several writers that began with the same version one succeeds, and the others look at
what it made and decide again. No writer waits for another, and a reader sees whole versions only.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final
from uuid import uuid4

from ...damage import ABSENT, Identity
from ...data.context import IndexFolder, PartFolder
from ...data.handles import Entry
from ...digests import seal
from ...errors import DamagedFile, Unavailable
from .column_file import DAMAGED_INDEX

_FORMAT: Final = 4
"""Formats up to 3 are generations (`catalog.index.generations`)."""
_KEPT: Final = 20
"""Manifests kept, however old they are."""
_KEPT_NS: Final = 3_600 * 10**9
"""Age from which the others are deleted: far above the time between two looks of a reader."""


@dataclass(frozen=True, slots=True)
class PartEntry:
    """One part of a version."""

    name: str
    nrows: int
    marks: str = ""
    """Name of the marks of its rows; empty: it has none."""

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the part and of its marks."""
        return (self.name, self.marks) if self.marks else (self.name,)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One version of an index."""

    version: int = 0
    """Its number; 0: there is no version yet."""
    rows: str = ""
    """Text that changes when rows, or values of theirs, change: a merge keeps it."""
    parts: tuple[PartEntry, ...] = ()
    """In the order in which they were committed; a merged part takes the place of its sources."""
    superseded: Mapping[str, float] = field(default_factory=dict)
    """Part or marks that this version does not use any more → Unix time at which it was left."""
    covers: tuple[str, ...] = ()
    """Names of what the index of a value-added table was made from."""
    format: int = _FORMAT
    stamp: Identity = field(default=ABSENT, compare=False)
    """State of its file when it was read."""

    @property
    def nrows(self) -> int:
        """Number of rows of all parts, replaced ones included."""
        return sum(part.nrows for part in self.parts)

    def leaving(self, names: Iterable[str], **changes: Any) -> "Manifest":
        """Return it with other values, where parts and marks with some names are superseded now."""
        superseded = {**self.superseded, **dict.fromkeys(names, time.time())}
        return replace(self, superseded=superseded, **changes)


def new_rows() -> str:
    """Return a new value of `Manifest.rows`."""
    return uuid4().hex[:12]


def newest_manifest(index: IndexFolder, known: Manifest | None = None) -> Manifest:
    """Return the newest version of an index; version 0 where there is none.

    Where the newest manifest is lost, that is the one before. Another one of the same number, of an
    index that was deleted and made again, is told by its stamp.

    Parameters
    ----------
    known : the newest one at an earlier time: if it still is, nothing is read

    Raises
    ------
    DamagedFile
        Its manifest is damaged.
    """
    if known is not None and known.version:
        after, same = index.manifest(known.version + 1), index.manifest(known.version)
        if not after.exists() and same.stamp() == known.stamp != ABSENT:
            return known
    gone = 0
    while newest := _newest_version(index):
        try:
            return _read(index, newest)
        except FileNotFoundError as error:
            # It was deleted since the folder was listed, so there are newer ones.
            if newest == gone:
                raise index.manifest(gone).damaged(f"{DAMAGED_INDEX} ({error.strerror})") from error
            gone = newest
    return Manifest()


def _newest_version(index: IndexFolder) -> int:
    """Return the number of the newest manifest; 0: there is none."""
    newest = (index.versions() or [0])[-1]
    # The list that an object store returns may lack the newest ones.
    while index.manifest(newest + 1).exists():
        newest += 1
    return newest


def readable_manifests(index: IndexFolder) -> Iterator[Manifest]:
    """Yield all manifests of an index that can be read, from the newest to the oldest."""
    for version in reversed(index.versions()):
        with suppress(DamagedFile, FileNotFoundError):
            yield _read(index, version)


def commit_manifest(
    index: IndexFolder, change: Callable[[Manifest], Manifest | None], *, anew: bool = False
) -> Manifest:
    """Commit the next version of an index; return it, or the newest if nothing was to be changed.

    Parameters
    ----------
    change
        Returns the next version of a version, or None to leave it. It is called again for a newer
        version if another writer was faster. The number is set here.
    anew : give it version 0 instead of the newest one, which may be damaged

    Raises
    ------
    DamagedFile
        The newest manifest is damaged, or what has the name of the next one is none.
    OSError
        The folder cannot be written to.
    """
    while True:
        newest = (index.versions() or [0])[-1] if anew else 0
        base = Manifest(version=newest) if anew else newest_manifest(index)
        made = change(replace(base, version=0) if anew else base)
        if made is None:
            return base
        made = replace(made, version=base.version + 1)
        entry = index.manifest(made.version)
        try:
            entry.create(_sealed(made))
        except FileExistsError:
            # Another writer was faster. If the file there cannot be read, this raises.
            with suppress(FileNotFoundError):
                _read(index, made.version)
            continue
        if _is_late(index, base.version):
            entry.delete()
            continue
        _forget(index)
        return replace(made, stamp=entry.stamp())


def discard(index: IndexFolder, made: Iterable[PartFolder | Entry]) -> None:
    """Delete parts and marks that were made for a version, if there are any, unless it has them.

    Its writer may have been interrupted just after the commit. `cleaning` deletes what stays.
    """
    with suppress(OSError, DamagedFile, Unavailable):
        newest = newest_manifest(index)
        used = {name for part in newest.parts for name in part.files}.union(newest.superseded)
        for some in made:
            if some.name not in used:
                some.delete()


def _sealed(manifest: Manifest) -> bytes:
    """Return the text of a manifest."""
    values = asdict(manifest)
    del values["stamp"]
    return seal(values)


def _read(index: IndexFolder, version: int) -> Manifest:
    """Return the manifest of a version."""
    entry = index.manifest(version)
    # Taken first: if the file is replaced meanwhile, it is read again.
    stamp = entry.stamp()
    values: dict[str, Any] = entry.record(DAMAGED_INDEX, _FORMAT).values
    try:
        parts = tuple(PartEntry(**part) for part in values.pop("parts"))
        changed = {"parts": parts, "covers": tuple(values["covers"]), "stamp": stamp}
        made = Manifest(**{**values, **changed})
    except (TypeError, KeyError) as error:
        raise entry.damaged(f"{DAMAGED_INDEX} ({error})") from error
    if made.version != version:
        raise entry.damaged(f"{DAMAGED_INDEX} (it is of version {made.version})")
    return made


def _is_late(index: IndexFolder, base: int) -> bool:
    """Return whether a manifest just written took the number of one that was deleted long ago.

    Manifests are deleted from the oldest on, so then the one before it is gone, too.
    """
    versions = index.versions()
    if base:
        # The list that an object store returns may lack it; a link to nothing is only listed.
        return base not in versions and not index.manifest(base).exists()
    return len(versions) > 1 and versions[1] > base + 2


def _forget(index: IndexFolder) -> None:
    """Delete old manifests, from the oldest on."""
    versions = index.versions()
    if not versions:
        return
    newest_ns = index.manifest(versions[-1]).stamp()[2]
    for version in versions[:-_KEPT]:
        entry = index.manifest(version)
        if newest_ns - entry.stamp()[2] < _KEPT_NS:
            return
        entry.delete()
