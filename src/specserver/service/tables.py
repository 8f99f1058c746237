"""Value-added tables attached to a context and detached, as an operator asks for it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..catalog.tables.existing import attach_existing, read_declaration
from ..catalog.tables.vac import VacInfo, add_vac, read_vac, remove_vac
from .archive import Archive


@dataclass(frozen=True, slots=True)
class AttachedTable:
    """A value-added table of a context."""

    context: str
    info: VacInfo | None
    """None: it stays in a database."""
    name: str
    title: str
    nrows: int
    nnamed: int
    """Rows that name a spectrum."""
    nlinked: int
    """Rows that name a spectrum which is held; in a context of files alone, as ``nnamed``."""
    nplaced: int
    """Rows that have a position."""
    ncolumns: int


def attach_table(
    archive: Archive,
    context: str,
    name: str,
    file: Path,
    *,
    title: str = "",
    id_column: str | None = None,
    hdu: int | None = None,
    overwrite: bool = False,
) -> AttachedTable:
    """Attach a table file to a context; queries may name it from then on.

    Parameters
    ----------
    context : a context that is served, whose spectra the rows describe
    title : of the table, for lists of catalogues
    id_column : column of the identifiers, when it has another name
    hdu : extension of a FITS file; the first table when None
    overwrite : take the place of a table of that name
    """
    resolved = archive.resolve(context)
    add_vac(
        archive.data.context(resolved).table(name),
        archive.survey(resolved),
        file,
        title=title,
        id_column=id_column,
        hdu=hdu,
        overwrite=overwrite,
    )
    archive.ensure_index(resolved)
    return _attached(archive, resolved, name)


def attach_existing_table(
    archive: Archive,
    context: str,
    name: str,
    url: str,
    table: str,
    *,
    id_column: str = "",
    position: tuple[str, str] | None = None,
    key: str = "",
    title: str = "",
    overwrite: bool = False,
) -> AttachedTable:
    """Declare a table of a database; parameters as of `catalog.tables.existing.attach_existing`."""
    resolved = archive.resolve(context)
    attach_existing(
        archive.data.context(resolved).table(name),
        archive.survey(resolved),
        url,
        table,
        id_column=id_column,
        position=position,
        key=key,
        title=title,
        overwrite=overwrite,
    )
    return _attached(archive, resolved, name)


def attached_tables(archive: Archive, context: str | None = None) -> list[AttachedTable]:
    """Return the value-added tables of a context, or of all."""
    contexts = archive.names() if context is None else [archive.resolve(context)]
    return [
        _attached(archive, resolved, name)
        for resolved in contexts
        for name in archive.data.context(resolved).tables()
    ]


def detach_table(archive: Archive, context: str, name: str) -> None:
    """Take a table away from a context; raise `UnknownCatalog` when it has none of that name."""
    remove_vac(archive.data.context(archive.resolve(context)).table(name))


def _attached(archive: Archive, context: str, name: str) -> AttachedTable:
    """Return the description of an attached table; make its index when there is none yet."""
    catalog = archive.table(context, f"{context}.{name}", primary=False).catalog
    files = archive.data.context(context).table(name)
    if files.declaration.exists():
        nrows, nnamed = (catalog.count(primary=primary) for primary in (False, True))
        declared = read_declaration(files)
        # Which rows have neither is not counted: that would read all of them.
        nplaced = nrows if declared.ra else nnamed
        ncolumns = len(catalog.columns)
        return AttachedTable(
            context, None, name, declared.title, nrows, nnamed, nnamed, nplaced, ncolumns
        )
    info = read_vac(files)
    rows, named = np.arange(catalog.count(primary=False)), catalog.count(primary=True)
    ra, _ = catalog.positions(rows)
    wanted = f".{catalog.survey.id_column.name}"
    joined = [column for column in catalog.spectrum_columns if column.endswith(wanted)]
    lost = sum(column.null_count for column in catalog.columns_of(joined, rows).columns)
    return AttachedTable(
        context,
        info,
        name,
        info.title,
        info.nrows,
        named,
        len(rows) - lost if joined else named,
        int(np.isfinite(ra).sum()),
        len(catalog.columns),
    )
