"""An index made anew as a whole: there is none, or it is damaged or out of date."""

import errno
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, TypeAlias

from ...data.context import IndexFolder, PartFolder
from ...data.leases import Lease, LeaseFolder
from ...errors import CatalogError, DamagedFile
from .manifest import Manifest, PartEntry, commit_manifest, discard, new_rows, newest_manifest
from .part_record import PartRecord

NewPart: TypeAlias = Callable[[], PartFolder]
"""Returns a folder for another part."""
_NO_RIGHT: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


def make_anew(
    index: IndexFolder,
    leases: LeaseFolder,
    is_current: Callable[[Manifest], bool],
    make: Callable[[NewPart], Iterable[PartRecord]],
    covers: Sequence[str] = (),
) -> bool:
    """Make the next version of an index, unless there is a current one; return whether it did.

    One process at a time makes it. If it cannot be made, what was written of it is deleted.

    Parameters
    ----------
    leases : of the context
    is_current : whether a version is; a version that raises `DamagedFile` is not
    make : writes its parts, in folders that it asks for, and yields their records
    covers : `Manifest.covers` of the new version

    Raises
    ------
    CatalogError
        The folder cannot be written to.
    """
    try:
        base, sound = _newest(index, is_current)
        if base is not None and sound:
            return False
        with leases.hold() as lease, index.lock.lock():
            made = None
            while made is None:
                base, sound = _newest(index, is_current)
                if base is not None and sound:
                    return False
                made = _made(index, lease, base, make, covers)
            # The folder may be new; it gets the access rights of the context's folder.
            index.inherit_access()
            _delete_generations(index)
            return True
    except OSError as error:
        advice = ""
        if error.errno in _NO_RIGHT:
            advice = ": make it where the folder can be written to, then copy it here"
        reason = error.strerror or str(error)
        raise CatalogError(f"{index}: the index cannot be made ({reason}){advice}") from error


def _newest(
    index: IndexFolder, is_current: Callable[[Manifest], bool]
) -> tuple[Manifest | None, bool]:
    """Return the newest version, None if it cannot be read, and whether it is current."""
    try:
        newest = newest_manifest(index)
    except DamagedFile:
        return None, False
    try:
        return newest, newest.version > 0 and is_current(newest)
    except DamagedFile:
        return newest, False


def _made(
    index: IndexFolder,
    lease: Lease,
    base: Manifest | None,
    make: Callable[[NewPart], Iterable[PartRecord]],
    covers: Sequence[str],
) -> Manifest | None:
    """Return the version after ``base`` that has new parts only; None if there is a newer one."""
    folders: list[PartFolder] = []

    def new_part() -> PartFolder:
        folders.append(index.new_part(lease.name))
        return folders[-1]

    is_newest = True

    def change(old: Manifest) -> Manifest | None:
        nonlocal is_newest
        is_newest = base is None or old == base
        return _next(old, parts, covers) if is_newest else None

    try:
        parts = tuple(PartEntry(record.name, record.nrows) for record in make(new_part))
        lease.require()
        made = commit_manifest(index, change, anew=base is None)
        return made if is_newest else None
    finally:
        discard(index, folders)


def _next(old: Manifest, parts: tuple[PartEntry, ...], covers: Sequence[str]) -> Manifest:
    """Return the version with new parts only."""
    left = [name for part in old.parts for name in part.files]
    return old.leaving(left, rows=new_rows(), parts=parts, covers=tuple(covers))


def _delete_generations(index: IndexFolder) -> None:
    """Delete the index of an older version, which is not read any more."""
    with suppress(OSError):
        index.current.delete()
        index.current.delete_drafts()
        for generation in index.generations():
            generation.delete()
