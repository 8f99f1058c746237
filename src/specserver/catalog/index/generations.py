"""Generations of an index: made whole, brought into use by one atomic change, checked when opened.

A damaged generation is never read: the next process that needs it makes another, where the folder
can be written to.
"""

import errno
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Final, TypeAlias

from ...data.context import GenerationFolder, IndexFolder
from ...digests import seal
from ...errors import CatalogError, DamagedFile, ServiceError
from .column_file import DAMAGED_INDEX

_LOG = logging.getLogger(__name__)
_KEEP: Final = 2
"""Generations kept: the one in use and the one that readers may still be leaving."""
_FORMAT: Final = 3


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """The record of a generation: the segments that it covers."""

    name: str
    segments: tuple[str, ...]
    """Names of what it was made from; it is out of date when these change."""
    nrows: int
    columns: Mapping[str, str]
    """Column name → kind: int, uint, float, str or bool."""
    format: int = _FORMAT
    digests: Mapping[str, str] = field(default_factory=dict)
    """File → digest (`specserver.digests`); empty: an older version made it."""


Build: TypeAlias = Callable[[GenerationFolder, tuple[str, ...]], IndexInfo]
"""Makes the folder of a generation and writes it, from segments or a table with some names."""


def current_generation(index: IndexFolder) -> IndexInfo | None:
    """Return the record of the generation in use, or None if there is none."""
    current = index.current
    try:
        name = _current_name(index)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise current.damaged(f"{DAMAGED_INDEX} ({error})") from error
    if not index.is_generation(name):
        raise current.damaged(f"{DAMAGED_INDEX} (it names {name!r})")
    record = index.generation(name).record
    try:
        values = record.record(DAMAGED_INDEX).values
    except FileNotFoundError:
        return None
    if values.get("format") != _FORMAT:
        return None
    try:
        return IndexInfo(**{**values, "segments": tuple(values["segments"])})
    except (TypeError, KeyError) as error:
        raise record.damaged(f"{DAMAGED_INDEX} ({error})") from error


def _current_name(index: IndexFolder) -> str:
    """Return the name of the generation in use."""
    return index.current.read().decode().strip()


def newest_generation(
    index: IndexFolder,
    name: str,
    wanted: Callable[[], Sequence[str]],
    build: Build,
    bad: str,
) -> IndexInfo:
    """Return a generation of what is ``wanted``, made first if there is none.

    Where none can be made, one that is out of date is returned, with a warning.

    Parameters
    ----------
    name : of the context or table, for the warning
    wanted, build, bad : as for `refresh_generation`

    Raises
    ------
    DamagedFile, CatalogError
        There is none, and none can be made.
    """
    present, fault = None, None
    try:
        present = current_generation(index)
    except DamagedFile as error:
        fault = error
    if present is not None and present.name == bad:
        present = None
    # One of an older version has no digests: it is made again where that is possible.
    if present and present.digests and present.segments == tuple(wanted()):
        return present
    try:
        made = refresh_generation(index, wanted, build, bad=bad)
    except ServiceError as error:
        if present is not None:
            _LOG.warning("%s: its index cannot be renewed here: %s", name, error.message)
            return present
        if fault is not None and isinstance(error, CatalogError):
            raise fault from error
        raise
    if made is None:
        raise CatalogError(f"{name} has no index and none can be made")
    return made


def refresh_generation(
    index: IndexFolder, wanted: Callable[[], Sequence[str]], build: Build, *, bad: str = ""
) -> IndexInfo | None:
    """Make a generation of what is ``wanted``, unless the one in use is; swap it in whole.

    Parameters
    ----------
    wanted : called under the lock; if it returns no names, no generation is made
    bad : name of a generation that is damaged, whatever it covers
    """
    try:
        with index.lock.lock():
            names = tuple(wanted())
            present = _sound(index, bad)
            if not names or (present is not None and present.segments == names):
                _remove_left(index)
                return present
            return _made(index, names, build)
    except OSError as error:
        raise CatalogError(_cannot(index, error)) from error


def _cannot(index: IndexFolder, error: OSError) -> str:
    """Return why an index cannot be made, with advice if the folder cannot be written to."""
    reason = f"{index}: the index cannot be made ({error.strerror})"
    if error.errno not in {errno.EROFS, errno.EACCES, errno.EPERM}:
        return reason
    with suppress(OSError, ValueError, DamagedFile):
        other = index.generation(_current_name(index)).record.record().values.get("format")
        if other != _FORMAT:
            reason += f"; the one there is of format {other}, and this version reads {_FORMAT}"
    advice = f"serve the data once where it can be written to, then copy {index.name}/ here"
    return f"{reason}: {advice}"


def record_generation(
    generation: GenerationFolder, names: tuple[str, ...], nrows: int, columns: Mapping[str, str]
) -> IndexInfo:
    """Write the record of a generation whose other files are all written."""
    digests = generation.digests(generation.made_files())
    info = IndexInfo(generation.name, names, nrows, columns, digests=digests)
    generation.record.create(seal(asdict(info)))
    return info


def check_generation(
    generation: GenerationFolder, info: IndexInfo, *, database: bool = False
) -> None:
    """Compare the files of a generation with their digests, where it has them.

    Parameters
    ----------
    database : that of the database too, which takes as long as reading it

    Raises
    ------
    DamagedFile
        A file is not as it was written.
    """
    left_out = "" if database else generation.database.name
    generation.check({name: digest for name, digest in info.digests.items() if name != left_out})


def _sound(index: IndexFolder, bad: str) -> IndexInfo | None:
    """Return the generation in use, unless it is damaged or of a version without digests."""
    try:
        present = current_generation(index)
    except DamagedFile:
        return None
    if present is None or present.name == bad or not present.digests:
        return None
    return present


def _made(index: IndexFolder, names: tuple[str, ...], build: Build) -> IndexInfo:
    """Make a generation and bring it into use; if that fails, delete it."""
    generation = index.new_generation()
    try:
        info = build(generation, names)
        # The folder of generations may be new; it gets the access rights of the context's folder.
        index.inherit_access()
        index.current.replace(generation.name.encode())
    except OSError as error:
        raise CatalogError(f"{index}: the index cannot be made: {error}") from error
    finally:
        if not _is_current(index, generation):
            _delete(generation)
    _remove_old(index, generation)
    _remove_left(index)
    return info


def _is_current(index: IndexFolder, generation: GenerationFolder) -> bool:
    """Return whether a generation is the one in use."""
    try:
        return _current_name(index) == generation.name
    except (OSError, ValueError):
        return False


def _delete(generation: GenerationFolder) -> None:
    """Delete a generation; files that cannot be deleted now are deleted when another is made."""
    with suppress(OSError):
        generation.delete()


def _remove_left(index: IndexFolder) -> None:
    """Remove files of writers that were killed; call under the lock."""
    index.current.delete_drafts()
    for generation in index.generations():
        if not generation.record.exists():
            _delete(generation)


def _remove_old(index: IndexFolder, current: GenerationFolder) -> None:
    """Remove all generations but the newest few; one that is open elsewhere stays readable."""
    others = [generation for generation in index.generations() if generation != current]
    others.sort(key=lambda generation: generation.record.stamp()[2], reverse=True)
    for generation in others[_KEEP - 1 :]:
        _delete(generation)
