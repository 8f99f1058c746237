"""Catalogues opened from the newest versions of their indexes; none is made here.

All functions raise `DamagedFile` where a file of the index is damaged, and `CatalogError` where
there is no index.
"""

import atexit
import logging
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..damage import ABSENT, Identity
from ..data.context import ContextFolder, IndexFolder, TableFiles
from ..data.remedies import index_of, making
from ..errors import CatalogError, DamagedCopy, DamagedFile, Unavailable
from ..model.survey import Survey
from .base import Catalogue
from .catalogue import MappedCatalogue
from .index.checks import faults_of
from .index.generations import IndexInfo, check_generation, current_generation
from .index.manifest import Manifest, newest_manifest
from .index.marks import NO_MARKS, marks_of
from .index.part import IndexPart, open_generation, open_part
from .index.part_record import read_part
from .tables.joined import joined_survey
from .tables.links import HeldSpectra
from .tables.vac import vac_columns, vac_survey

_LOG = logging.getLogger(__name__)
_MOST_COPIES: Final = 30
"""More than a part has files."""
_CHECKED_BYTES: Final = 2**26
"""Files of up to so many bytes in all are compared with their digests when they are opened, which
takes some 50 ms; the others in a thread that begins then."""


@dataclass(frozen=True, slots=True)
class IndexState:
    """The newest version of an index at some time."""

    manifest: Manifest
    generation: IndexInfo | None = None
    """The generation that an older version of this program made, if there is no manifest."""
    stamp: Identity = ABSENT
    """State of the file that names the generation."""

    @property
    def rows(self) -> str:
        """Text that changes when the rows change; empty: there is no index."""
        if self.generation is not None:
            return self.generation.name
        return self.manifest.rows

    @property
    def covers(self) -> tuple[str, ...]:
        """Names of what the index of a value-added table was made from."""
        return self.manifest.covers if self.generation is None else self.generation.segments


def newest_state(index: IndexFolder, known: IndexState | None = None) -> IndexState:
    """Return the newest version of an index; ``known`` itself if that still is the newest."""
    manifest = newest_manifest(index, known.manifest if known else None)
    if manifest.version:
        return known if known and known.manifest is manifest else IndexState(manifest)
    stamp = index.current.stamp()
    if known and not known.manifest.version and known.stamp == stamp:
        return known
    return IndexState(manifest, current_generation(index), stamp)


def is_in_use(context: ContextFolder, key: str) -> bool:
    """Return whether a file of a context is in use: of an index, the newest version has it."""
    if not (folder := index_of(key)):
        return True
    index = IndexFolder(context.backend, folder)
    try:
        state = newest_state(index)
    except DamagedFile:
        return True
    if state.generation is not None:
        return True
    manifest = state.manifest
    used = [index.manifest(manifest.version)]
    used += [index.entry(name) for part in manifest.parts for name in part.files]
    return any(f"{key}/".startswith(f"{entry.key}/") for entry in used)


def count_rows(index: IndexFolder) -> tuple[int, set[str]]:
    """Return how many rows an index answers, and the names of the segments that it covers."""
    state = newest_state(index)
    if state.generation is not None:
        return state.generation.nrows, set(state.generation.segments)
    nrows, covered = state.manifest.nrows, set[str]()
    for entry in state.manifest.parts:
        covered.update(read_part(index.part(entry.name)).segments)
        nrows -= int(np.count_nonzero(~marks_of(index, entry)["alive"]))
    return nrows, covered


@dataclass(frozen=True, slots=True)
class CheckedIndex:
    """An index of which all files are as they were written."""

    covers: tuple[str, ...]
    """Names of the segments, or of the table, that it covers; none: there is no index."""
    faults: tuple[str, ...]
    """What is wrong with its rows all the same."""


def check_index(index: IndexFolder, survey: Survey) -> CheckedIndex:
    """Compare all files of the newest version of an index with their digests, and look at its rows.

    Raises
    ------
    DamagedFile
        A file is not as it was written.
    """
    state = newest_state(index)
    if state.generation is not None:
        folder = index.generation(state.generation.name)
        check_generation(folder, state.generation)
        listed = [(open_generation(folder, state.generation, survey), NO_MARKS)]
    else:
        listed = []
        for entry in state.manifest.parts:
            part_folder = index.part(entry.name)
            part_folder.check(read_part(part_folder).digests)
            listed.append((open_part(part_folder, survey), marks_of(index, entry)))
    covers = [name for part, _ in listed for name in part.record.segments]
    faults = [
        f"{part.record.name}: {fault}" for part, marks in listed for fault in faults_of(part, marks)
    ]
    return CheckedIndex(tuple(covers), tuple(faults))


def open_catalogue(
    context: ContextFolder,
    survey: Survey,
    state: IndexState | None = None,
    before: Catalogue | None = None,
) -> Catalogue:
    """Return the catalogue of a context.

    Parameters
    ----------
    state : the version of its index; None: the newest one
    before : an open catalogue of an earlier version, with which parts are shared
    """
    state = state or newest_state(context.index)
    if state.generation is not None:
        _LOG.warning(
            "%s: an older version made its index: %s", context.name, making(context.name, anew=True)
        )
    parts = _opened(context.index, context.name, survey, state, before)
    return _catalogue(MappedCatalogue(survey, state.rows, parts.listed), parts)


def open_table(
    files: TableFiles,
    held: HeldSpectra,
    state: IndexState,
    spectra: Catalogue | None,
    before: Catalogue | None = None,
) -> Catalogue:
    """Return the catalogue of a value-added table.

    Parameters
    ----------
    state : the version of its index
    spectra : the catalogue of the context, to which it is joined, if there is one
    before : an open catalogue of an earlier version, with which parts are shared
    """
    # Its own identifiers are of the survey's type, whatever its other columns are.
    parts = _opened(files.index, str(files), held.survey, state, before)
    names = list(dict.fromkeys(n for part, _ in parts.listed for n in part.schema.names))
    survey = vac_survey(held.survey, vac_columns(files), names)
    own = [name for name in names if not name.startswith("_")]
    survey = joined_survey(survey, files.name, own, spectra)
    return _catalogue(MappedCatalogue(survey, state.rows, parts.listed, spectra, before), parts)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts of a version, open."""

    listed: list[tuple[IndexPart, npt.NDArray[Any]]]
    """Each part and its marks."""
    unchecked: list[IndexPart] = field(default_factory=list)
    """Those whose digests are still to be compared."""


def _opened(
    index: IndexFolder, name: str, survey: Survey, state: IndexState, before: Catalogue | None
) -> _Parts:
    """Open the parts of a version; those that are open already are shared."""
    if state.generation is not None:
        folder = index.generation(state.generation.name)
        check_generation(folder, state.generation)
        return _Parts([(open_generation(folder, state.generation, survey), NO_MARKS)])
    if not state.manifest.version:
        context = name.partition(".")[0]
        raise CatalogError(f"{name} has no index: {making(context)}", f"maintain {context}")
    known: Mapping[str, IndexPart] = {}
    if isinstance(before, MappedCatalogue):
        known = {placed.part.record.name: placed.part for placed in before.parts}
    parts = _Parts([])
    for entry in state.manifest.parts:
        part = known.get(entry.name)
        if part is None:
            part = open_part(index.part(entry.name), survey)
        if not part.is_checked:
            parts.unchecked.append(part)
        parts.listed.append((part, marks_of(index, entry)))
    parts.unchecked.sort(key=lambda part: part.record.nbytes)
    nbytes = 0
    while parts.unchecked:
        nbytes += parts.unchecked[0].record.nbytes
        if nbytes > _CHECKED_BYTES:
            break
        _check_now(parts.unchecked.pop(0))
    return parts


def _check_now(part: IndexPart) -> None:
    """Compare a part of which nothing is mapped yet; damaged copies are fetched again."""
    for _ in range(_MOST_COPIES):
        with suppress(DamagedCopy):
            part.check()
            return
    part.check()


def _catalogue(made: MappedCatalogue, parts: _Parts) -> MappedCatalogue:
    """Return a catalogue; a thread goes on to compare its parts with their digests."""
    if parts.unchecked:
        thread = threading.Thread(
            target=_check_later, args=(weakref.ref(made), parts.unchecked), daemon=True,
            name="digests",
        )  # fmt: skip
        _CHECKING.add(thread)
        thread.start()
    return made


class _EndedError(Exception):
    """The catalogue is closed, or the process ends."""


_CHECKING: Final = weakref.WeakSet[threading.Thread]()
"""Threads that compare digests."""
_ENDING: Final = threading.Event()


def _check_later(made: "weakref.ref[MappedCatalogue]", parts: Sequence[IndexPart]) -> None:
    """Compare parts with their digests while their catalogue is in use."""

    def go_on() -> None:
        if _ENDING.is_set() or made() is None:
            raise _EndedError

    with suppress(_EndedError):
        for part in parts:
            try:
                part.check(go_on)
            except (DamagedFile, DamagedCopy) as error:
                if (catalogue := made()) is not None:
                    catalogue.damage = error
                return
            except Unavailable as error:
                _LOG.warning("%s: not compared with its digests: %s", part.folder, error.message)


def finish_checks() -> None:
    """Wait until all parts that are open are compared with their digests."""
    for thread in list(_CHECKING):
        thread.join()


@atexit.register
def _end() -> None:
    """Let the threads end before the interpreter does."""
    _ENDING.set()
    finish_checks()
