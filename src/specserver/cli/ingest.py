"""The command that brings spectra into the store: ingest."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..client.progress import Watch
from ..errors import BadArguments, BadParameter, UnknownContext
from ..extras import require
from .console import DATABASE, Data, data_folder, tell, working
from .database import follow
from .output import Json, print_records
from .summary import print_summary

if TYPE_CHECKING:
    from ..data.root import DataRoot
    from ..ingest.executors import Executor
    from ..ingest.option_effects import OptionEffects, SurveyOptions
    from ..surveys.declaration import NamedVectors

OwnColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Of --catalog, or --reader hats: column of an unusual name."),
]


def ingest(
    context: Annotated[
        str | None,
        typer.Argument(
            metavar="CONTEXT",
            help="A release, such as sdss_dr17; or a new name, with --reader or --flux.",
        ),
    ] = None,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH…", help="Files, and folders to look through."),
    ] = None,
    data: Data = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read (default: all cores).")
    ] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS|local[:N]",
            help="Read on a Dask cluster: its scheduler, such as tcp://host:8786, or N new"
            " processes here.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Exit with 1 when a file is refused, in conflict, or has other catalogue values;"
            " refuse other reductions.",
        ),
    ] = False,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace stored spectra whose values differ."),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write JSON lines: each file that was not stored, and why."
        ),
    ] = None,
    reader: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="A survey of your own: specutils (files it reads), columns (with --flux), or hats"
            " (HATS catalogues with spectra).",
        ),
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|URL",
            help="With --reader: table with identifiers, ra, dec, z, and more. Or, as"
            " postgresql://user@host/name, the database of the catalogue, which may be"
            f" ${DATABASE}.",
        ),
    ] = None,
    database: Annotated[
        str | None, typer.Option("--database", hidden=True, envvar=DATABASE)
    ] = None,
    id_column: OwnColumn = None,
    file_column: OwnColumn = None,
    ra_column: OwnColumn = None,
    dec_column: OwnColumn = None,
    z_column: OwnColumn = None,
    title: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With --reader: title of the survey.")
    ] = None,
    step: Annotated[
        float | None,
        typer.Option(metavar="AA", help="With --reader: step in Å of resampled spectra.  [1]"),
    ] = None,
    flux_unit: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT", help="With --reader: unit of flux, if files state none or a wrong one."
        ),
    ] = None,
    loader: Annotated[
        str | None,
        typer.Option(metavar="FORMAT", help="With --reader: the files' format in specutils."),
    ] = None,
    medium: Annotated[
        str | None,
        typer.Option(
            metavar="air|vacuum",
            help="With --reader: medium of wavelengths, for files that do not state it.",
        ),
    ] = None,
    wave_unit: Annotated[
        str | None,
        typer.Option(
            metavar="UNIT", help="With --reader: unit of wavelengths, for files that have none."
        ),
    ] = None,
    flux: Annotated[
        str | None,
        typer.Option(metavar="COL", help="A survey of your own: column or image of flux."),
    ] = None,
    wave: Annotated[
        str | None,
        typer.Option(metavar="COL", help="With --flux: column or image of wavelengths."),
    ] = None,
    error: Annotated[
        str | None,
        typer.Option(metavar="COL", help="With --flux: column or image of standard deviations."),
    ] = None,
    ivar: Annotated[
        str | None,
        typer.Option(metavar="COL", help="With --flux: column or image of inverse variances."),
    ] = None,
    list_readers: Annotated[
        bool, typer.Option("--list-readers", help="List what can be read, and end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring spectra into the store; what is there already is left alone.

    Takes plain and gzipped files of all reductions. A file with other values than are stored of
    its spectra is a conflict, listed with both paths; --replace stores the file's values instead.
    May be interrupted at any time, even by kill -9: run it again, and it goes on where it was.

    With --dask the workers of a cluster read the files and write to the store: each must reach the
    data folder and the files under the same paths, and have the same version of specserver. A
    worker that is lost costs what it was reading, which others read again.

    Example: specserver ingest sdss_dr17 ~/sdss/spectra --data /data/spec

    Example: specserver ingest my_survey DIR --reader specutils --catalog targets.csv

    Example: specserver ingest my_survey DIR --wave wl --flux f --error df --wave-unit nm

    Example: specserver ingest sdss_dr17 /sas/dr17 --data /data/spec --dask tcp://head:8786

    Example: specserver ingest my_survey sdss_hats --reader hats
    """
    begun = time.monotonic()
    if list_readers:
        working("importing specutils, for the formats that it reads")
        _print_readers(as_json=as_json)
        return
    if context is None or not paths:
        raise typer.BadParameter("say CONTEXT and PATH, such as: sdss_dr17 ~/spectra")
    working(f"reading {', '.join(map(str, paths))}")
    folder = data_folder(data)
    targets, url = _table_or_database(catalog, database)
    from ..ingest import run_ingest
    from ..ingest.option_effects import SurveyOptions
    from ..surveys.declaration import HATS

    named = {
        "id": id_column, "file": file_column, "ra": ra_column, "dec": dec_column, "z": z_column
    }  # fmt: skip
    columns = {what: name for what, name in named.items() if name}
    options = SurveyOptions(
        title=title or "",
        catalog=targets,
        columns=columns,
        step_aa=step,
        flux_unit=flux_unit,
        loader=loader or "",
        medium=medium or "",
        wave_unit=wave_unit or "",
        vectors=_vectors(
            reader, loader, {"flux": flux, "wave": wave, "error": error, "ivar": ivar}
        ),
        is_hats=reader == HATS,
    )
    effects = _declared(folder, context, paths, options, reader, report)
    _require_known(context, folder)
    with _executor(dask, workers) as executor, Watch("files") as watch:
        summary = run_ingest(
            folder,
            context,
            paths,
            workers=workers,
            strict=strict,
            replace=replace,
            report=report,
            effects=effects,
            progress=watch,
            besides=targets,
            executor=executor,
        )
    _link_tables(folder, context)
    # The time that the caller waited: importing the readers of files takes seconds.
    summary.seconds = time.monotonic() - begun
    print_summary(summary, as_json=as_json)
    if nlost := getattr(executor, "nlost", 0):
        which = "1 worker was" if nlost == 1 else f"{nlost:,} workers were"
        tell("warning", f"{which} lost: the parts at work there were read again")
    follow(url, folder, [context])
    if strict and (summary.nrefused or summary.nconflicts or summary.ndiffering):
        raise typer.Exit(1)


def _declared(
    folder: "DataRoot",
    context: str,
    paths: Sequence[Path],
    options: "SurveyOptions",
    reader: str | None,
    report: Path | None,
) -> "OptionEffects":
    """Declare the survey of the options, if they have one; return what they mean for the ingest."""
    from ..ingest.option_effects import OptionEffects, SurveyOptions

    if reader or options.vectors:
        from ..ingest.declare import declare

        return declare(folder, context, paths, options, report)
    if options != SurveyOptions():
        raise BadParameter("reader", reader, "the other options of your own survey need it: say"
                           " --reader specutils")  # fmt: skip
    return OptionEffects()


def _executor(dask: str | None, workers: int | None) -> AbstractContextManager["Executor | None"]:
    """Return what is to read the files until the end; None: processes of its own."""
    if dask is None:
        return nullcontext()
    if workers is not None:
        raise BadArguments("either --workers, or --dask local:N for N processes of Dask")
    require("--dask", "dask", "distributed")
    from ..ingest.on_dask import dask_executor

    return dask_executor(dask, working)


def _table_or_database(catalog: str | None, database: str | None) -> tuple[Path | None, str | None]:
    """Return the table of targets and the URL of the database, which ``--catalog`` may be."""
    from ..catalog.database_url import is_url

    if catalog is not None and is_url(catalog):
        return None, catalog
    return Path(catalog) if catalog else None, database


def _link_tables(folder: "DataRoot", context: str) -> None:
    """Link the rows of value-added tables to spectra that are new."""
    from ..service.archive import Archive

    if folder.context(context).kept_tables():
        Archive(folder).ensure_index(context)


def _require_known(context: str, folder: "DataRoot") -> None:
    """Raise an error that tells of files of one's own where nobody knows the context."""
    from ..surveys import find_release

    try:
        find_release(context, folder)
    except UnknownContext as unknown:
        own = "for files of your own say --reader specutils, or --flux NAME and --wave NAME"
        raise unknown.saying(f"{unknown.message}; {own}") from unknown


def _print_readers(*, as_json: bool) -> None:
    """Print what can be read."""
    from ..surveys.readers import list_readers

    known = {None: "found by itself", True: "yes", False: "no"}
    records = [asdict(info) for info in list_readers()]
    if not as_json:
        records = [record | {"detected": known[record["detected"]]} for record in records]
    print_records(records, ("name", "kind", "detected", "reads"), as_json=as_json)


def _vectors(
    reader: str | None, loader: str | None, given: dict[str, str | None]
) -> "NamedVectors | None":
    """Return the names of vectors that options give; None: none."""
    from ..surveys.declaration import COLUMNS, HATS, SPECUTILS, NamedVectors

    names = {vector: name for vector, name in given.items() if name}
    if reader not in {None, COLUMNS, HATS, SPECUTILS}:
        raise BadParameter(
            "reader",
            reader,
            "specutils, columns or hats (see --list-readers); a survey with files of its own kind"
            " is a plug-in, see 'add a survey' in the guide",
        )
    if not names and reader != COLUMNS:
        return None
    if "flux" not in names:
        raise BadParameter("flux", None, "name the column or image of flux: --flux NAME")
    if "error" in names and "ivar" in names:
        raise BadParameter("ivar", names["ivar"], "either --error or --ivar")
    if reader == SPECUTILS or loader:
        option = f"--loader {loader}" if loader else "--reader specutils"
        raise BadParameter("flux", names["flux"], f"names of columns without {option}")
    return NamedVectors(**names)
