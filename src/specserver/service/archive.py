"""The contexts of a data folder, open for reading: which there are, and their catalogues."""

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from ..catalog.duckdb import Catalog
from ..catalog.index import current_index, index_folder, refresh_index
from ..errors import CatalogError, UnknownCatalog, UnknownContext
from ..model.grid import Grid
from ..model.survey import Column, Release, Survey
from ..store.layout import list_contexts, segment_names
from ..store.zarr import Segment, open_segment
from ..surveys import find_release, load_surveys

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
    catalogs: tuple[str, ...]
    """Full names, the default one first."""
    id_column: str
    id_parts: tuple[str, ...]
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
class Holding:
    """One context, open: its survey, its release, and its catalogue of this moment."""

    survey: Survey
    release: Release
    catalog: Catalog
    folder: Path

    def segment(self, number: int) -> Segment:
        """Return an open segment by its number in the catalogue."""
        return open_segment(self.folder / self.catalog.info.segments[number])


class Archive:
    """A data folder; safe to share between threads."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._open: dict[str, tuple[int, Holding]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the contexts with spectra, each survey's releases from newest to oldest."""
        present = set(list_contexts(self.data))
        return [
            release.context
            for survey in load_surveys().values()
            for release in reversed(survey.releases)
            if release.context in present
        ]

    def resolve(self, name: str) -> str:
        """Return the context behind a name; ``default`` is the newest of the default survey."""
        names = self.names()
        if name in names:
            return name
        if name == DEFAULT and names:
            usual = [one for one in names if find_release(one)[0].is_default]
            return (usual or names)[0]
        raise UnknownContext(name, [DEFAULT, *names] if names else ["none yet: ingest first"])

    def searched(self, name: str) -> list[str]:
        """Return the contexts in which identifiers of a context are looked for, in order.

        ``default`` and a survey's newest release fall back to its older ones.
        """
        resolved = self.resolve(name)
        survey, _ = find_release(resolved)
        same = [one for one in self.names() if survey.release(one)]
        return same if same and same[0] == resolved else [resolved]

    def holding(self, name: str) -> Holding:
        """Return a context open for reading, with the newest generation of its index."""
        resolved = self.resolve(name)
        stamp = self._stamp(resolved)
        with self._lock:
            known = self._open.get(resolved)
            if known is None or known[0] != stamp:
                known = self._load(resolved)
                self._open[resolved] = known
        return known[1]

    def info(self, name: str) -> ContextInfo:
        """Return what a user needs to know of a context."""
        holding = self.holding(name)
        survey, release = holding.survey, holding.release
        title = release.title
        if name == DEFAULT:
            title = f"{title} (the newest here), then older releases"
        return ContextInfo(
            name=name,
            resolved=release.context,
            title=title,
            survey=survey.title,
            nspec=holding.catalog.info.nrows,
            catalogs=tuple(f"{release.context}.{table}" for table in survey.tables),
            id_column=survey.id_column.name,
            id_parts=survey.id_parts,
            z_column=survey.z_column,
            frame=survey.frame,
            grid=survey.grid,
            reductions=release.reductions,
        )

    def catalogs(self, name: str) -> list[CatalogInfo]:
        """Return the catalogues of a context."""
        holding = self.holding(name)
        known = {column.name: column for column in holding.survey.columns}
        columns = tuple(
            known.get(column, Column(column, kind))
            for column, kind in holding.catalog.columns.items()
        )
        return [
            CatalogInfo(
                f"{holding.release.context}.{table}",
                title,
                holding.catalog.count(primary=number == 0),
                columns,
            )
            for number, (table, title) in enumerate(holding.survey.tables.items())
        ]

    def find_catalog(self, context: str, catalog: str) -> tuple[str, bool]:
        """Return the context and the primary flag that a catalogue name stands for."""
        schema, _, table = catalog.strip().lower().rpartition(".")
        resolved = self.resolve(schema or context)
        tables = list(find_release(resolved)[0].tables)
        if table not in tables:
            known = [f"{one}.{table}" for one in self.names() for table in tables]
            raise UnknownCatalog(catalog, known)
        return resolved, table == tables[0]

    def _stamp(self, context: str) -> int:
        """Return a number that changes when another generation comes into use."""
        try:
            return (index_folder(self.data, context) / "CURRENT").stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def _load(self, context: str) -> tuple[int, Holding]:
        """Open the newest generation; make one first when segments are not covered."""
        survey, release = find_release(context)
        info = current_index(self.data, context)
        covered = info.segments if info else ()
        if tuple(segment_names(self.data, context)) != covered:
            try:
                info = refresh_index(
                    self.data, survey, context, lambda: segment_names(self.data, context)
                )
            except (PermissionError, CatalogError):
                if info is None:
                    raise
                _LOG.warning("%s: the index lacks segments and cannot be renewed here", context)
        if info is None:
            raise CatalogError(f"context {context} has no index and none can be made")
        catalog = Catalog(self.data, survey, context, info)
        return self._stamp(context), Holding(survey, release, catalog, self.data / context)
