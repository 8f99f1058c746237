"""The contexts of a data folder, open for reading: which there are, and their catalogues."""

import logging
import threading
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..auth import Caller, is_private
from ..catalog.base import Catalogue
from ..catalog.index.build import index_folder
from ..catalog.opening import open_catalogue, open_table
from ..catalog.tables.vac import TableStamp, current_vac, has_vac, read_vac, vac_names, vac_stamp
from ..damage import damaged_files
from ..errors import (
    NoCatalog,
    ServiceError,
    SpecServerError,
    StoreError,
    UnknownCatalog,
    UnknownContext,
)
from ..model.grid import Grid
from ..model.ids import IdForm
from ..model.survey import Column, Release, Survey
from ..store.fits import FitsTree
from ..store.layout import check_segment, segment_names
from ..store.presence import Presence
from ..store.trees import read_fingerprints, read_tree, tree_file
from ..store.zarr import Segment, open_segment
from ..surveys import find_release, load_surveys
from .fits_tree_source import FitsTreeSource, open_tree
from .resolver import SpectrumResolver
from .source import SpectrumSource

DEFAULT = "default"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """What a user needs to know of a context."""

    name: str
    resolved: str
    """The release behind the name ``default``; otherwise the name itself."""
    title: str
    survey: str
    nspec: int
    nfiles: int
    """Spectra in the tree of original files when it was declared; 0: there is no tree."""
    catalog: str
    """Full name of the default catalogue."""
    catalogs: tuple[str, ...]
    """Full names of those there are, the default one first, then value-added tables."""
    id_column: str
    id_form: IdForm
    z_column: str
    frame: str
    grid: Grid
    reductions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """What a user needs to know of a catalogue."""

    name: str
    title: str
    nrows: int
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged file."""

    context: str
    file: str
    """Its path within the data folder."""
    reason: str


@dataclass(frozen=True, slots=True)
class OpenRelease:
    """One context, open: its survey, its release, and its catalogue of this moment."""

    survey: Survey
    release: Release
    catalog: Catalogue
    folder: Path

    def segment(self, number: int) -> Segment:
        """Return an open segment by its number in the catalogue."""
        segment = open_segment(self.folder / self.catalog.segments[number])
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
    """A value-added table, of which some rows may have no spectrum here."""


class Archive:
    """A data folder; safe to share between threads."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._open: dict[str, tuple[int, OpenRelease]] = {}
        self._trees: dict[str, tuple[int, FitsTree]] = {}
        self._tables: dict[tuple[str, str], tuple[TableStamp, QueryTable]] = {}
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._presence = Presence(data)
        self.caller: Caller | None = None
        self._seen: tuple[str, ...] | None = None

    def visible_to(self, caller: Caller) -> "Archive":
        """Return this archive, with what it has open, as a caller may see it now.

        The view is for one request: which contexts there are is looked up once.
        """
        view = copy(self)
        view.caller, view._seen = caller, None  # noqa: SLF001  # its own
        return view

    def names(self) -> list[str]:
        """Return the contexts with spectra, each survey's releases from newest to oldest."""
        if self._seen is not None:
            return list(self._seen)
        present = self._presence.contexts()
        names = [
            release.context
            for survey in load_surveys(self.data).values()
            for release in reversed(survey.releases)
            if release.context in present and self._shows(release.context)
        ]
        if self.caller is not None:
            self._seen = tuple(names)
        return names

    def _shows(self, context: str) -> bool:
        """Return whether the caller may know of a context; without a caller, all may be known."""
        caller = self.caller
        return caller is None or caller.may_see(context) or not is_private(self.data, context)

    def resolve(self, name: str) -> str:
        """Return the context behind a name; ``default`` is the newest of the default survey."""
        names = self.names()
        if name in names:
            return name
        if name == DEFAULT and names:
            usual = [one for one in names if find_release(one, self.data)[0].is_default]
            return (usual or names)[0]
        if name in self._presence.contexts() and self._shows(name):
            # What a folder declares damaged is none of the names: this tells why.
            find_release(name, self.data)
        raise UnknownContext(name, [DEFAULT, *names] if names else ["none yet: ingest first"])

    def searched(self, name: str) -> list[str]:
        """Return the contexts in which identifiers of a context are looked for, in order.

        ``default`` and a survey's newest release fall back to its older ones.
        """
        resolved = self.resolve(name)
        survey, _ = find_release(resolved, self.data)
        same = [one for one in self.names() if survey.release(one)]
        return same if same and same[0] == resolved else [resolved]

    def survey(self, name: str) -> Survey:
        """Return the survey of a context."""
        return find_release(self.resolve(name), self.data)[0]

    def open_release(self, name: str) -> OpenRelease:
        """Return a context open for reading, with the newest generation of its index.

        Raises
        ------
        NoCatalog
            The context is served from a tree of files alone.
        """
        resolved = self.resolve(name)
        found = self._open_release(resolved)
        if found is None:
            raise NoCatalog(resolved, self._known_catalogs())
        return found

    def tree(self, name: str) -> FitsTree | None:
        """Return the tree of original files of a context, or None when it has none."""
        resolved = self.resolve(name)
        stamp = _changed(tree_file(self.data, resolved))
        if not stamp:
            return None
        with self._lock:
            known = self._trees.get(resolved)
            if known is None or known[0] != stamp:
                info = read_tree(self.data, resolved)
                if info is None:
                    return None
                known = self._trees[resolved] = (
                    stamp,
                    open_tree(info, read_fingerprints(self.data, info)),
                )
        return known[1]

    def sources(self, name: str) -> list[SpectrumSource]:
        """Return where the spectra of a context are looked for: its segments, then its tree."""
        resolved = self.resolve(name)
        source, tree = self._open_release(resolved), self.tree(resolved)
        found: list[SpectrumSource] = [source] if source else []
        return [*found, FitsTreeSource(tree)] if tree else found

    def info(self, name: str) -> ContextInfo:
        """Return what a user needs to know of a context."""
        resolved = self.resolve(name)
        survey, release = find_release(resolved, self.data)
        source, tree = self._open_release(resolved), self.tree(resolved)
        title = release.title
        if source is None:
            title = f"{title}, from original files"
        if name == DEFAULT:
            title = f"{title} (the newest here), then older releases"
        nfiles = tree.nfiles if tree else 0
        tables = [*(survey.tables if source else ()), *vac_names(self.data, resolved)]
        return ContextInfo(
            name=name,
            resolved=resolved,
            title=title,
            survey=survey.title,
            nspec=source.catalog.count(primary=False) if source else nfiles,
            nfiles=nfiles,
            catalog=f"{resolved}.{next(iter(survey.tables))}",
            catalogs=tuple(f"{resolved}.{table}" for table in tables),
            id_column=survey.id_column.name,
            id_form=survey.id_form,
            z_column=survey.z_column,
            frame=survey.frame,
            grid=survey.grid,
            reductions=release.reductions,
        )

    def catalogs(self, name: str) -> list[CatalogInfo]:
        """Return the catalogues of a context: its own, then value-added tables."""
        resolved = self.resolve(name)
        source = self._open_release(resolved)
        found = []
        if source is not None:
            columns = _described(source.catalog, source.survey.columns)
            found = [
                CatalogInfo(
                    f"{resolved}.{table}",
                    title,
                    source.catalog.count(primary=number == 0),
                    columns,
                )
                for number, (table, title) in enumerate(source.survey.tables.items())
            ]
        for table in vac_names(self.data, resolved):
            try:
                info = read_vac(self.data, resolved, table)
                opened = self._attached(resolved, table)
            except ServiceError as error:
                # A query of it tells the error; the others are listed.
                _LOG.error("%s.%s: %s", resolved, table, error.message)
                continue
            columns = _described(opened.catalog, opened.survey.columns)
            found.append(CatalogInfo(f"{resolved}.{table}", info.title, info.nrows, columns))
        return found

    def table(self, context: str, catalog: str | None, *, primary: bool) -> QueryTable:
        """Return the catalogue that a name stands for; the context's own when there is no name."""
        if not catalog:
            source = self.open_release(context)
            return QueryTable(source.survey, source.catalog, primary, attached=False)
        schema, _, table = catalog.strip().lower().rpartition(".")
        resolved = self.resolve(schema or context)
        own = list(find_release(resolved, self.data)[0].tables)
        if table in own:
            return self.table(resolved, None, primary=table == own[0])
        if has_vac(self.data, resolved, table):
            return self._attached(resolved, table)
        raise UnknownCatalog(catalog, self._known_catalogs())

    def held(self, name: str) -> SpectrumResolver:
        """Return what value-added tables link to in a context."""
        resolved = self.resolve(name)
        source = self._open_release(resolved)
        catalog = source.catalog if source else None
        return SpectrumResolver(*find_release(resolved, self.data), catalog, self.tree(resolved))

    def _known_catalogs(self) -> list[str]:
        """Return the full names of all catalogues."""
        found = []
        for context in self.names():
            own = self.survey(context).tables if segment_names(self.data, context) else ()
            found += [f"{context}.{table}" for table in (*own, *vac_names(self.data, context))]
        return found

    def _attached(self, context: str, table: str) -> QueryTable:
        """Return a value-added table open for reading, its links up to date."""
        held = self.held(context)
        # Taken first: what changes while the table is being opened makes the next request look.
        stamp = vac_stamp(self.data, context, table, held)
        with self._lock:
            known = self._tables.get((context, table))
        if known is not None and known[0] == stamp and not known[1].catalog.is_damaged:
            return known[1]
        bad = known[1].catalog.version if known and known[1].catalog.is_damaged else ""
        info = current_vac(self.data, context, table, held, bad=bad)
        if known is None or known[1].catalog.version != info.name:
            base = find_release(context, self.data)[0]
            opened = open_table(self.data, context, table, base, held, info)
        else:
            opened = known[1].catalog
        made = QueryTable(opened.survey, opened, primary=False, attached=True)
        with self._lock:
            self._tables[context, table] = (stamp, made)
        return made

    def _open_release(self, context: str) -> OpenRelease | None:
        """Return the segments of a context open for reading, or None when it has none."""
        stamp = self._stamp(context)
        # A lock for each: an index that is made again must not stop the other contexts.
        with self._loading.setdefault(context, threading.Lock()):
            known = self._open.get(context)
            catalog = known[1].catalog if known else None
            if known is None or known[0] != stamp or (catalog and catalog.is_damaged):
                if not segment_names(self.data, context):
                    return None
                bad = catalog.version if catalog and catalog.is_damaged else ""
                known = self._open[context] = self._load(context, bad)
        return known[1]

    def _stamp(self, context: str) -> int:
        """Return a number that changes when another generation comes into use."""
        return _changed(index_folder(self.data, context) / "CURRENT")

    def _load(self, context: str, bad: str = "") -> tuple[int, OpenRelease]:
        """Open the newest generation; ``bad`` is the name of one that is known to be damaged."""
        survey, release = find_release(context, self.data)
        catalog = open_catalogue(
            self.data, context, survey, partial(segment_names, self.data, context), bad
        )
        return self._stamp(context), OpenRelease(survey, release, catalog, self.data / context)

    def inspect(self) -> None:
        """Look through all indexes, tables and segments; what is damaged is noted and logged.

        Of a segment its small files are read, no spectrum.
        """
        for context in self.names():
            try:
                self.sources(context)
                for table in vac_names(self.data, context):
                    self._attached(context, table)
            except SpecServerError as error:
                _LOG.error("%s: %s", context, error.message)
            for name in segment_names(self.data, context):
                try:
                    check_segment(self.data / context / name)
                except StoreError as error:
                    _LOG.error("%s: %s", context, error.message)

    def damaged(self) -> list[Damaged]:
        """Return the damaged files that this process has found and that are still as they were."""
        found = []
        for path, reason in damaged_files(self.data):
            name = path.relative_to(self.data)
            if self._shows(name.parts[0]):
                found.append(Damaged(name.parts[0], name.as_posix(), reason))
        return found


def _changed(path: Path) -> int:
    """Return a file's time of last change, ns; 0 when there is no such file."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _described(catalog: Catalogue, known: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns of a catalogue with what is known of them."""
    columns = {column.name: column for column in known}
    return tuple(columns.get(name, Column(name, kind)) for name, kind in catalog.columns.items())
