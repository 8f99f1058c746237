"""The open parts of a data folder: releases, trees of files and value-added tables.

All requests share them. `archive.Archive` decides which contexts a caller may see.
"""

import threading
from dataclasses import dataclass

from ..catalog.base import Catalogue
from ..catalog.opening import open_catalogue, open_table
from ..catalog.tables.vac import TableStamp, current_vac, vac_stamp
from ..damage import ABSENT, Identity
from ..data.context import ContextFolder
from ..data.root import DataRoot
from ..model.survey import Release, Survey
from ..store.fits import FitsTree
from ..store.trees import read_fingerprints, read_tree
from ..store.zarr import Segment, open_segment
from ..surveys import find_release
from .fits_tree_source import open_tree
from .resolver import SpectrumResolver


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


class OpenContexts:
    """A data folder and its open parts; safe to share between threads."""

    def __init__(self, data: DataRoot) -> None:
        self.data = data
        self._open: dict[str, tuple[Identity, OpenRelease]] = {}
        self._trees: dict[str, tuple[Identity, FitsTree]] = {}
        self._tables: dict[tuple[str, str], tuple[TableStamp, QueryTable]] = {}
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}

    def release(self, context: str) -> OpenRelease | None:
        """Return the segments of a context open for reading, or None when it has none."""
        folder = self.data.context(context)
        stamp = folder.index.current.stamp()
        # A lock for each: an index that is made again must not stop the other contexts.
        with self._loading.setdefault(context, threading.Lock()):
            known = self._open.get(context)
            bad = known[1].catalog.version if known and known[1].catalog.is_damaged else ""
            if known is None or known[0] != stamp or bad:
                if not folder.segments():
                    return None
                survey, release = find_release(context, self.data)
                opened = OpenRelease(survey, release, open_catalogue(folder, survey, bad), folder)
                # Taken anew: opening may have made another generation.
                known = self._open[context] = (folder.index.current.stamp(), opened)
        return known[1]

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
        """Return a value-added table open for reading, its links up to date."""
        survey, release = find_release(context, self.data)
        source = self.release(context)
        catalog = source.catalog if source else None
        held = SpectrumResolver(survey, release, catalog, self.tree(context))
        # Taken first, so that the next request sees changes made while the table is being opened.
        files = self.data.context(context).table(table)
        stamp = vac_stamp(files, held)
        with self._lock:
            known = self._tables.get((context, table))
        if known is not None and known[0] == stamp and not known[1].catalog.is_damaged:
            return known[1]
        bad = known[1].catalog.version if known and known[1].catalog.is_damaged else ""
        info = current_vac(files, held, bad=bad)
        if known and known[0][0] == held.version and known[1].catalog.version == info.name:
            opened = known[1].catalog
        else:
            opened = open_table(files, held, info, catalog)
        made = QueryTable(opened.survey, opened, primary=False, attached=True)
        with self._lock:
            self._tables[context, table] = (stamp, made)
        return made
