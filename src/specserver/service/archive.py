"""The contexts of a data folder, open for reading, and their catalogues."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from ..auth import Caller, is_private
from ..catalog.base import Catalogue
from ..catalog.opening import is_in_use
from ..catalog.tables.existing import title_of
from ..catalog.tables.vac import has_vac
from ..data.root import DataRoot
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
from ..store.layout import check_segment
from ..surveys import find_release, load_surveys
from .fits_tree_source import FitsTreeSource
from .open_contexts import OpenContexts, OpenRelease, QueryTable
from .source import SpectrumSource

DEFAULT = "default"
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ContextInfo:
    """Description of a context for users."""

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
    """Full names of all catalogues: the default one first, value-added tables last."""
    id_column: str
    id_form: IdForm
    z_column: str
    frame: str
    grid: Grid
    reductions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """Description of a catalogue for users."""

    name: str
    title: str
    nrows: int
    columns: tuple[Column, ...]
    joined_with: str = ""
    """Full name of the catalogue whose columns queries of a value-added table may name, too."""

    @property
    def summary(self) -> str:
        """The title, and what it is joined with."""
        return f"{self.title}; joined with {self.joined_with}" if self.joined_with else self.title


@dataclass(frozen=True, slots=True)
class Damaged:
    """A damaged file."""

    context: str
    file: str
    """Its path within the data folder."""
    reason: str


@dataclass(frozen=True, slots=True)
class Searched:
    """Sources in which the identifiers of a context are searched."""

    survey: Survey
    releases: tuple[str, ...]
    """Contexts, in the order in which they are searched."""
    sources: tuple[SpectrumSource, ...]
    """Segments, then the tree, of each release in this order."""
    refused: ServiceError | None
    """Why an older release cannot be opened, if one cannot."""


class Archive:
    """A data folder as one caller may see it; without a caller, all of it.

    It is made for each request, and looks only once whether a context is there for a caller.
    """

    def __init__(self, opened: DataRoot | OpenContexts, caller: Caller | None = None) -> None:
        self._opened = opened if isinstance(opened, OpenContexts) else OpenContexts(opened)
        self._caller = caller
        self._seen: tuple[str, ...] | None = None
        self._served: dict[str, bool] = {}

    @property
    def data(self) -> DataRoot:
        """The data folder."""
        return self._opened.data

    @property
    def nopen(self) -> int:
        """Number of contexts whose segments are open for reading in this process."""
        return self._opened.nopen

    def seen_by(self, caller: Caller) -> "Archive":
        """Return the same data folder, with its open files, as a caller may see it."""
        return Archive(self._opened, caller)

    def names(self) -> list[str]:
        """Return the contexts with spectra, each survey's releases from newest to oldest."""
        if self._seen is not None:
            return list(self._seen)
        present = self.data.contexts()
        names = [
            release.context
            for survey in load_surveys(self.data).values()
            for release in reversed(survey.releases)
            if release.context in present and self._shows(release.context)
        ]
        if self._caller is not None:
            self._seen = tuple(names)
        return names

    def _serves(self, context: str) -> bool:
        """Return whether `names` has a context: looked up alone, as most requests name theirs."""
        if self._seen is not None:
            return context in self._seen
        if context not in self._served or self._caller is None:
            try:
                find_release(context, self.data)
            except (UnknownContext, StoreError):
                return False
            held = self.data.has_spectra(self.data.context(context))
            self._served[context] = held and self._shows(context)
        return self._served[context]

    def _shows(self, context: str) -> bool:
        """Return whether the caller may know of a context; without a caller, all may be known."""
        caller = self._caller
        return caller is None or caller.may_see(context) or not is_private(self.data, context)

    def resolve(self, name: str) -> str:
        """Return the context of a name; ``default`` is the newest of the default survey.

        Raises `UnknownContext`, or the error of a survey whose declaration is damaged.
        """
        if name != DEFAULT and self._serves(name):
            return name
        names = self.names()
        if name in names:
            return name
        if name == DEFAULT and names:
            usual = [known for known in names if self._release(known)[0].is_default]
            return (usual or names)[0]
        if name in self.data.contexts() and self._shows(name):
            # A survey whose declaration is damaged has no names: this raises the reason.
            find_release(name, self.data)
        raise UnknownContext(name, names or ["none yet: ingest first"])

    def _release(self, context: str) -> tuple[Survey, Release]:
        """Return the survey and the release of a context that was there."""
        try:
            return find_release(context, self.data)
        except UnknownContext as error:
            # Since then its folder has vanished; the error would name contexts that are not here.
            others = [name for name in self.names() if name != context]
            raise UnknownContext(context, others) from error

    def search(self, name: str) -> Searched:
        """Return where identifiers of a context are looked for.

        ``default`` and a survey's newest release fall back to its older ones.

        Raises
        ------
        ServiceError
            The context cannot be opened. The error of an older release is part of the answer.
        """
        resolved = self.resolve(name)
        survey, _ = self._release(resolved)
        known = [release.context for release in reversed(survey.releases)]
        folders = {folder.name for folder in self.data.folders()}
        same = [context for context in known if context in folders and self._serves(context)]
        releases = same if same and same[0] == resolved else [resolved]
        sources = self._sources(resolved)
        refused: ServiceError | None = None
        for older in releases[1:]:
            try:
                sources += self._sources(older)
            except ServiceError as error:
                refused = refused or error
        return Searched(survey, tuple(releases), tuple(sources), refused)

    def survey(self, name: str) -> Survey:
        """Return the survey of a context."""
        return self._release(self.resolve(name))[0]

    def open_release(self, name: str) -> OpenRelease:
        """Return a context open for reading, with the newest version of its index.

        Raises
        ------
        NoCatalog
            The context is served from a tree of files alone.
        """
        resolved = self.resolve(name)
        found = self._opened.release(resolved)
        if found is None:
            raise NoCatalog(resolved, self._known_catalogs())
        return found

    def _sources(self, context: str) -> list[SpectrumSource]:
        """Return where the spectra of a release are: its segments, then its tree."""
        source, tree = self._opened.release(context), self._opened.tree(context)
        found: list[SpectrumSource] = [source] if source else []
        return [*found, FitsTreeSource(tree)] if tree else found

    def info(self, name: str) -> ContextInfo:
        """Return the description of a context."""
        resolved = self.resolve(name)
        survey, release = self._release(resolved)
        source, tree = self._opened.release(resolved), self._opened.tree(resolved)
        title = release.title
        if source is None:
            title = f"{title}, from original files"
        if name == DEFAULT:
            title = f"{title} (the newest here), then older releases"
        nfiles = tree.nfiles if tree else 0
        tables = [*(survey.tables if source else ()), *self.data.context(resolved).tables()]
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
        source = self._opened.release(resolved)
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
        for table in self.data.context(resolved).tables():
            try:
                title = title_of(self.data.context(resolved).table(table))
                opened = self._opened.table(resolved, table)
                nrows = opened.catalog.count(primary=False)
            except ServiceError as error:
                # A query of this table raises the error; the others are listed.
                _LOG.error("%s.%s: %s", resolved, table, error.message)
                continue
            columns = _described(opened.catalog, opened.survey.columns)
            name = f"{resolved}.{table}"
            joined_with = found[0].name if source and opened.catalog.spectrum_columns else ""
            found.append(CatalogInfo(name, title, nrows, columns, joined_with))
        return found

    def describe(self, info: ContextInfo) -> tuple[bool, dict[str, str]]:
        """Return whether a context is private, and the title of each of its catalogues."""
        own = self.survey(info.resolved).tables
        titles = {}
        for name in info.catalogs:
            table = name.rpartition(".")[2]
            # A damaged table is listed: a query of it raises the error.
            with suppress(ServiceError):
                titles[name] = ""
                held = self.data.context(info.resolved).table(table)
                titles[name] = own[table] if table in own else title_of(held)
        return is_private(self.data, info.resolved), titles

    def table(self, context: str, catalog: str | None, *, primary: bool) -> QueryTable:
        """Return the catalogue of a name, or raise `UnknownCatalog`; no name: the context's own."""
        if not catalog:
            source = self.open_release(context)
            return QueryTable(source.survey, source.catalog, primary, attached=False)
        schema, _, table = catalog.strip().lower().rpartition(".")
        resolved = self.resolve(schema or context)
        own = list(self._release(resolved)[0].tables)
        if table in own:
            return self.table(resolved, None, primary=table == own[0])
        if has_vac(self.data.context(resolved).table(table)):
            return self._opened.table(resolved, table)
        raise UnknownCatalog(catalog, self._known_catalogs())

    def _known_catalogs(self) -> list[str]:
        """Return the full names of all catalogues."""
        found = []
        for context in self.names():
            own = self.survey(context).tables if self.data.context(context).first_segment() else ()
            found += [
                f"{context}.{table}" for table in (*own, *self.data.context(context).tables())
            ]
        return found

    def ensure_indexes(self) -> None:
        """Make the indexes that are not up to date, or damaged, where that is possible."""
        for context in self.names():
            self.ensure_index(context)

    def ensure_index(self, context: str, *, whole: bool = False) -> list[str]:
        """Make the indexes of one context and of its tables, as `ensure_indexes` does.

        Returns the names of those that were made. ``whole`` is as of `OpenContexts.ensure_index`.
        """
        return self._opened.ensure_index(context, whole=whole)

    def inspect(self) -> None:
        """Check all indexes, tables and segments; damage is noted and logged.

        Of a segment the small files are read, but no spectrum. Those in an object store are looked
        at when they are opened, and by `verify`: all would take a network's time at each start.
        """
        for context in self.names():
            folder = self.data.context(context)
            try:
                self._sources(context)
                for table in folder.tables():
                    self._opened.table(context, table)
            except SpecServerError as error:
                _LOG.error("%s: %s", context, error.message)
            for name in [] if folder.backend.is_far else folder.segments():
                try:
                    check_segment(folder.segment(name))
                except StoreError as error:
                    _LOG.error("%s: %s", context, error.message)

    def damaged(self) -> list[Damaged]:
        """Return the damaged files that this process found, if they are in use as they were."""
        found = []
        for key, reason in self.data.damaged_files():
            context = key.partition("/")[0]
            if self._shows(context) and is_in_use(self.data.context(context), key):
                found.append(Damaged(context, key, reason))
        return found


def _described(catalog: Catalogue, known: Sequence[Column]) -> tuple[Column, ...]:
    """Return the columns of a catalogue, with meaning and unit where they are known."""
    columns = {column.name: column for column in known}
    return tuple(columns.get(name, Column(name, kind)) for name, kind in catalog.columns.items())
