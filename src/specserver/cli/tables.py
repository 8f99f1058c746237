"""Commands for catalogues: value-added tables are added, listed and removed; PostgreSQL."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import BadParameter, UnknownContext
from .console import (
    DATABASE,
    ERROR,
    OUT,
    ContextName,
    Data,
    Database,
    present_folder,
    tell,
    working,
)
from .database import follow
from .output import Json, print_json, print_records

if TYPE_CHECKING:
    from ..service.archive import Archive
    from ..service.tables import AttachedTable

catalog_app = typer.Typer(
    no_args_is_help=True, help="Value-added tables: attach them to a release, list, remove."
)
FIELDS: Final = ("catalog", "rows", "linked", "placed", "columns", "title")
"""Fields of a value-added table as a record to print."""
Name = Annotated[str, typer.Argument(metavar="NAME", help="Letters, digits and _, a letter first.")]


@catalog_app.command(name="add", no_args_is_help=True)
def add_catalog(
    context: ContextName,
    name: Name,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="FITS, VOTable, ECSV, Parquet, CSV or TSV.")
    ],
    data: Data = None,
    title: Annotated[str, typer.Option(metavar="T", help="Title of the table.")] = "",
    id_column: Annotated[
        str | None, typer.Option(metavar="C", help="Column of identifiers, if not specobjid.")
    ] = None,
    hdu: Annotated[
        int | None, typer.Option(min=1, help="Extension of a FITS file (default: first table).")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of a table of that name.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Attach a table whose rows are of spectra; then query(catalog='CONTEXT.NAME').

    Rows are linked by specobjid (of any type but float), or by plate, mjd, fiberid and, where
    the table has it, run2d. Columns of arrays are left out. Queries of the table may name columns
    of the release's own catalogue too, as specobj.z.

    Example: specserver catalog add sdss_dr12 emissionlinesport portsmouth.fits
    """
    working(f"reading {file}")
    archive = _archive(data)
    from ..service.tables import attach_table

    found = attach_table(
        archive,
        context,
        name,
        file,
        title=title,
        id_column=id_column,
        hdu=hdu,
        overwrite=replace,
    )
    info = found.info
    assert info
    if as_json:
        print_json([record_of(found) | {"left_out": info.left_out, "notes": info.notes}])
    else:
        OUT.print(
            f"{found.context}.{name}: {info.nrows:,} rows, {found.ncolumns} columns;"
            f" {found.nlinked:,} rows are of spectra here, {found.nplaced:,} have a position"
        )
    lost, which = found.nnamed - found.nlinked, ""
    if info.ids == "spectra":
        lost, which = info.nrows - found.nlinked, " without run2d"
    if lost:
        tell(
            "note",
            f"{lost:,} rows{which} are of spectra that are not held here; they are linked when"
            " those are ingested",
        )
    for note in info.notes:
        tell("note", note)
    if info.left_out:
        ERROR.print(f"left out (no single values): {', '.join(info.left_out)}", markup=False)


@catalog_app.command(name="attach", no_args_is_help=True)
def attach_catalog(
    context: ContextName,
    name: Name,
    postgres: Annotated[
        str,
        typer.Option(
            metavar="URL",
            help="Database: postgresql://user@host/name. Its password is not kept: the service"
            " takes it from PGPASSWORD or ~/.pgpass.",
        ),
    ],
    table: Annotated[str, typer.Option(metavar="SCHEMA.TABLE", help="Table or view in it.")],
    ra: Annotated[
        str, typer.Option(metavar="C", help="Column of right ascension, degrees, if not ra.")
    ] = "",
    dec: Annotated[
        str, typer.Option(metavar="C", help="Column of declination, degrees, if not dec.")
    ] = "",
    id_column: Annotated[
        str, typer.Option("--id", metavar="C", help="Column of identifiers, if not specobjid.")
    ] = "",
    key: Annotated[
        str,
        typer.Option(
            metavar="C", help="Column of unique whole numbers (default: the primary key)."
        ),
    ] = "",
    data: Data = None,
    title: Annotated[str, typer.Option(metavar="T", help="Title of the table.")] = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Take the place of an attached table of that name.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Attach a table of your own PostgreSQL, which is queried in place; nothing of it is copied.

    It is searched by position, condition and identifier, in transactions that cannot write.
    Positions are found by q3c where the extension is installed, else by indexes on the columns of
    the position. Its columns have lower-case names; those of other types than numbers, text, truth
    values and times are left out.

    Example: specserver catalog attach sdss_dr17 masses --postgres postgresql://vo@db.example.org/vac
    --table granada.masses --id specobjid
    """
    if bool(ra) != bool(dec):
        raise BadParameter.saying("--ra and --dec go together")
    working(f"asking for {table}")
    archive = _archive(data)
    from ..catalog.database_url import without_password
    from ..service.tables import attach_existing_table

    found = attach_existing_table(
        archive,
        context,
        name,
        postgres,
        table,
        id_column=id_column,
        position=(ra, dec) if ra else None,
        key=key,
        title=title,
        overwrite=replace,
    )
    if as_json:
        print_json([record_of(found)])
    else:
        OUT.print(f"{found.context}.{name}: {found.nrows:,} rows, {found.ncolumns} columns")
    if without_password(postgres) != postgres:
        tell("note", "the password is not kept: the service takes it from PGPASSWORD or ~/.pgpass")


@catalog_app.command(name="list")
def list_catalogs(
    data: Data = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="C", help="Only of this release.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List value-added tables.

    Example: specserver catalog list --data /data/spec
    """
    archive = _archive(data)
    from ..service.tables import attached_tables

    print_records(map(record_of, attached_tables(archive, context)), FIELDS, as_json=as_json)


@catalog_app.command(name="remove", no_args_is_help=True)
def remove_catalog(context: ContextName, name: Name, data: Data = None) -> None:
    """Detach a value-added table; the file that it came from is left alone.

    Example: specserver catalog remove sdss_dr12 emissionlinesport
    """
    archive = _archive(data)
    from ..service.tables import detach_table

    detach_table(archive, context, name)
    OUT.print(f"{context}.{name} is removed")


@catalog_app.command(name="sync")
def sync_catalogs(
    contexts: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONTEXT", help="Releases (default: all of the data folder)."),
    ] = None,
    data: Data = None,
    catalog: Database = None,
    replace: Annotated[
        bool,
        typer.Option(
            help="Also where the database has a release of another data folder, or of before it"
            " was deleted and ingested again."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the catalogues in PostgreSQL to what the data folder has.

    The first time it makes the tables; later it writes only what is new. A service and an ingest
    with the same --catalog do this by themselves: it is for a new or a restored database.

    Example: specserver catalog sync --catalog postgresql://spec@db.example.org/spectra
    """
    folder = present_folder(data)
    if catalog is None:
        raise BadParameter.saying(f"name the database with --catalog or {DATABASE}")
    archive = _archive(data)
    known = [name for name in archive.names() if folder.context(name).segments()]
    for name in contexts or ():
        if name not in known:
            raise UnknownContext(name, known, f"{folder} has")
    for name in contexts or known:
        archive.ensure_index(name)
    done = follow(catalog, folder, contexts or known, replace=replace)
    print_records(done, ("context", "version", "new", "deleted"), as_json=as_json)


def record_of(attached: "AttachedTable") -> dict[str, Any]:
    """Return a value-added table as a record to print."""
    return {
        "catalog": f"{attached.context}.{attached.name}",
        "rows": attached.nrows,
        "linked": attached.nlinked,
        "placed": attached.nplaced,
        "columns": attached.ncolumns,
        "title": attached.title,
    }


def _archive(data: str | None) -> "Archive":
    """Return the archive of a data folder."""
    folder = present_folder(data)
    from ..service.archive import Archive

    return Archive(folder)
