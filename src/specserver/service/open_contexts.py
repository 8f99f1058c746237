"""The open parts of a data folder: releases, trees of files and value-added tables.

All requests share them. `archive.Archive` decides which contexts a caller may see.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final

from ..catalog.base import Catalogue
from ..catalog.followed import CatalogueDatabase
from ..catalog.index.build import refresh_index
from ..catalog.opening import (
    IndexState,
    finish_checks,
    newest_state,
    open_catalogue,
    open_table,
)
from ..catalog.tables.existing import open_existing
from ..catalog.tables.vac import is_current_vac, refresh_vac
from ..damage import ABSENT, Identity
from ..data.context import ContextFolder, IndexFolder, TableFiles
from ..data.root import DataRoot
from ..errors import CatalogError, DamagedCopy, DamagedFile, ServiceError
from ..model.survey import Release, Survey
from ..store.fits import FitsTree
from ..store.trees import read_fingerprints, read_tree
from ..store.zarr import Segment, open_segment
from ..surveys import find_release
from .fits_tree_source import open_tree
from .following import FollowedCatalogues
from .renewal import IndexRenewal
from .resolver import SpectrumResolver

_LOG = logging.getLogger(__name__)
_DESCRIBED_S: Final = 60.0
"""Time after which the columns of a table in a database are looked at again."""
_FOLLOW_S: Final = 5.0
"""Longest time that the start of a service waits for a database to follow a context."""


@dataclass(frozen=True, slots=True)
class OpenRelease:
    """One context, open: its survey, its release, and its catalogue of this moment."""

    survey: Survey
    release: Release
    catalog: Catalogue
    folder: ContextFolder

    def segment(self, number: int) -> Segment:
        """Return an open segment by its number in the catalogue."""
        segment = open_segment(self.folder.segment(self.catalog.segments[number]))
        segment.require_survey(self.survey)
        return segment


@dataclass(frozen=True, slots=True)
class QueryTable:
    """A catalogue to be queried: a context's own, or a value-added table."""

    survey: Survey
    """The survey with the columns of this catalogue."""
    catalog: Catalogue
    primary: bool
    """Only the best spectrum of each object."""
    attached: bool
    """It is a value-added table: some rows may have no spectrum here."""


@dataclass(frozen=True, slots=True)
class _OpenTable:
    """A value-added table, open."""

    state: IndexState
    """The version of its index."""
    spectra: Catalogue | None
    """The catalogue that it is joined to."""
    table: QueryTable
    key: tuple[object, ...]
    """Value that changes when it must be opened again."""


class OpenContexts:
    """A data folder and its open parts; safe to share between threads.

    Parameters
    ----------
    database : answers the catalogues of contexts; None: their indexes in the folder do
    """

    def __init__(self, data: DataRoot, database: CatalogueDatabase | None = None) -> None:
        self.data = data
        self._followed = FollowedCatalogues(database) if database else None
        self._open: dict[str, tuple[IndexState, OpenRelease]] = {}
        self._open_followed: dict[str, OpenRelease] = {}
        self._trees: dict[str, tuple[Identity, FitsTree]] = {}
        self._tables: dict[str, _OpenTable] = {}
        self._existing: dict[str, tuple[tuple[object, ...], QueryTable]] = {}
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._renewal = IndexRenewal()

    @property
    def nopen(self) -> int:
        """Number of contexts whose segments are open for reading."""
        return len(self._open)

    def release(self, context: str) -> OpenRelease | None:
        """Return the segments of a context open for reading, or None when it has none.

        Raises
        ------
        Overloaded
            Its index is damaged, and is being made again.
        DamagedFile, CatalogError
            Its index is damaged, or it has none, and it cannot be made again.
        """
        folder = self.data.context(context)
        try:
            return self._newest_release(folder)
        except DamagedFile as error:
            bad = _rows_of(folder.index)
            survey, _ = find_release(context, self.data)
            again = partial(refresh_index, folder, survey, bad=bad)
            self._renewal.require(context, f"{bad} {error.message}", again)
            raise

    def _newest_release(self, folder: ContextFolder) -> OpenRelease | None:
        """Return the newest version of a context, opened first if it is not open."""
        if self._followed is not None:
            return self._followed_release(self._followed, folder)
        # A lock for each: one that takes long to open must not stop the other contexts.
        with self._loading.setdefault(folder.name, threading.Lock()):
            known = self._open.get(folder.name)
            state = newest_state(folder.index, known[0] if known else None)
            if known is None or state is not known[0]:
                if folder.first_segment() is None:
                    return None
                survey, release = find_release(folder.name, self.data)
                if known and state.manifest.version < known[0].manifest.version:
                    # The newest manifest is lost, or all are: what this version lacks is added.
                    refresh = partial(refresh_index, folder, survey, lost=True)
                    self._renewal.begin(folder.name, f"{state.rows} {known[0].rows}", refresh)
                # Parts that are open already are shared.
                before = known[1].catalog if known else None
                catalog = open_catalogue(folder, survey, state, before)
                known = self._open[folder.name] = (
                    state,
                    OpenRelease(survey, release, catalog, folder),
                )
        if isinstance(known[1].catalog.damage, DamagedCopy):
            # What is mapped of the copy is not read any more.
            self._open.pop(folder.name, None)
            return self._newest_release(folder)
        if known[1].catalog.damage is not None:
            raise known[1].catalog.damage
        return known[1]

    def _followed_release(
        self, followed: FollowedCatalogues, folder: ContextFolder
    ) -> OpenRelease | None:
        """Return a context whose catalogue a database answers."""
        known = self._open_followed.get(folder.name)
        if known is not None and followed.is_current(folder, known.catalog):
            return known
        if not folder.segments():
            return None
        survey, release = find_release(folder.name, self.data)
        with self._loading.setdefault(folder.name, threading.Lock()):
            catalog = followed.catalog(folder, survey)
            if known is None or known.catalog is not catalog:
                known = OpenRelease(survey, release, catalog, folder)
                self._open_followed[folder.name] = known
        return known

    def tree(self, context: str) -> FitsTree | None:
        """Return the tree of original files of a context, or None when it has none."""
        folder = self.data.context(context)
        stamp = folder.tree.stamp()
        if stamp == ABSENT:
            return None
        with self._lock:
            known = self._trees.get(context)
            if known is None or known[0] != stamp:
                info = read_tree(folder)
                if info is None:
                    return None
                known = self._trees[context] = (
                    stamp,
                    open_tree(info, read_fingerprints(folder, info)),
                )
        return known[1]

    def table(self, context: str, table: str) -> QueryTable:
        """Return a value-added table open for reading.

        Where the table, or the spectra that it links to, changed since its index was made, the
        index is used as it is while another is made. Errors are as of `release`.
        """
        files = self.data.context(context).table(table)
        held, catalog = self._held(context)
        if (declared := files.declaration.stamp()) != ABSENT:
            return self._existing_table(files, held, catalog, declared)
        try:
            return self._newest_table(files, held, catalog)
        except (DamagedFile, CatalogError) as error:
            bad = _rows_of(files.index)
            again = partial(refresh_vac, files, held, bad=bad)
            state = f"{bad} {files.file.stamp()} {error.message}"
            self._renewal.require(str(files), state, again)
            raise

    def _newest_table(
        self, files: TableFiles, held: SpectrumResolver, catalog: Catalogue | None
    ) -> QueryTable:
        """Return the newest version of a table, opened first if it is not open."""
        name = str(files)
        with self._loading.setdefault(name, threading.Lock()):
            known = self._tables.get(name)
            # Taken first, so that the next request sees changes made meanwhile.
            file = files.file.stamp()
            state = newest_state(files.index, known.state if known else None)
            key = (file, held.version)
            is_same = known and known.state is state and known.spectra is catalog
            if known is None or not is_same or known.key != key:
                if not is_current_vac(files, held, state.covers):
                    renew = partial(refresh_vac, files, held)
                    self._renewal.begin(name, _table_state(state.rows, file, held), renew)
                before = known.table.catalog if known else None
                opened = open_table(files, held, state, catalog, before)
                made = QueryTable(opened.survey, opened, primary=False, attached=True)
                known = self._tables[name] = _OpenTable(state, catalog, made, key)
        if isinstance(known.table.catalog.damage, DamagedCopy):
            self._tables.pop(name, None)
            return self._newest_table(files, held, catalog)
        if known.table.catalog.damage is not None:
            raise known.table.catalog.damage
        return known.table

    def _existing_table(
        self,
        files: TableFiles,
        held: SpectrumResolver,
        catalog: Catalogue | None,
        declared: Identity,
    ) -> QueryTable:
        """Return a table that stays in a database; what this says of it is read each minute."""
        key = (declared, catalog, int(time.monotonic() // _DESCRIBED_S))
        known = self._existing.get(str(files))
        if known is None or known[0] != key:
            opened = open_existing(files, held.survey, catalog)
            made = QueryTable(opened.survey, opened, primary=False, attached=True)
            known = self._existing[str(files)] = key, made
        return known[1]

    def _held(self, context: str) -> tuple[SpectrumResolver, Catalogue | None]:
        """Return the spectra of a context, as its tables link to them, and its catalogue."""
        survey, release = find_release(context, self.data)
        source = self.release(context)
        catalog = source.catalog if source else None
        return SpectrumResolver(survey, release, catalog, self.tree(context)), catalog

    def ensure_index(self, context: str, *, whole: bool = False) -> list[str]:
        """Make the index of a context, and those of its tables, where they are not up to date.

        Returns those that were made. What cannot be made, as in a folder that cannot be written
        to, is logged.

        Parameters
        ----------
        whole : compare large parts with their digests before this returns
        """
        folder, made = self.data.context(context), list[str]()
        if folder.segments():
            with _logged(context):
                survey, _ = find_release(context, self.data)
                refresh = partial(refresh_index, folder, survey)
                opened: Callable[[], object] = partial(self._newest_release, folder)
                if self._followed is not None:
                    opened = partial(self._await, self._followed, folder, survey)
                if _ensure(folder.index, refresh, opened, whole=whole):
                    made.append(context)
        for table in folder.kept_tables():
            files = folder.table(table)
            with _logged(str(files)):
                held, catalog = self._held(context)
                # Where it fails here, the next request does not try again.
                tried = _table_state(_rows_of(files.index), files.file.stamp(), held)
                self._renewal.give_up(str(files), tried)
                refresh = partial(refresh_vac, files, held)
                opened = partial(self._newest_table, files, held, catalog)
                if _ensure(files.index, refresh, opened, whole=whole):
                    made.append(str(files))
        return made

    @staticmethod
    def _await(followed: FollowedCatalogues, folder: ContextFolder, survey: Survey) -> None:
        """Let the database follow, and wait for it a moment: later ones find it at work."""
        thread = followed.follow(folder, survey)
        if thread is not None:
            thread.join(_FOLLOW_S)


def _rows_of(index: IndexFolder) -> str:
    """Return the text that says which rows an index has; empty if it is not known."""
    try:
        return newest_state(index).rows
    except DamagedFile:
        return ""


def _table_state(rows: str, file: Identity, held: SpectrumResolver) -> str:
    """Return a text that changes when a table, its spectra or the rows of its index do."""
    return f"{rows} {file} {held.version}"


def _ensure(
    index: IndexFolder, refresh: Callable[..., bool], opened: Callable[[], object], *, whole: bool
) -> bool:
    """Make an index if it is out of date, or damaged; return whether it was made."""
    made = refresh()
    try:
        opened()
        if whole:
            finish_checks()
            opened()
    except DamagedFile:
        return refresh(bad=_rows_of(index)) or made
    return made


@contextmanager
def _logged(name: str) -> Iterator[None]:
    """Log an error of the service instead of raising it."""
    try:
        yield
    except ServiceError as error:
        _LOG.warning("%s: its index cannot be renewed here: %s", name, error.message)
