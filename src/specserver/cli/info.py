"""Commands that list what a service or a data folder holds: contexts, catalogs, info."""

import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

from ..errors import ServiceError
from .console import (
    ERROR,
    URL,
    USUAL_DATA,
    Context,
    Data,
    Url,
    client_of,
    present_folder,
    readable_bytes,
    tell_missing_surveys,
)
from .output import Json, print_json, print_records

if TYPE_CHECKING:
    from ..client.api import SpecClient
    from ..data.root import DataRoot

_CONTEXT: Final = ("context", "survey", "spectra", "files", "title")
_OF_TREES: Final = {"files": lambda number: f"{number:,}" if number else ""}
_CATALOG: Final = ("catalog", "rows", "title", "joined_with")
_COLUMN: Final = ("name", "dtype", "unit", "meaning")
_HELD: Final = ("context", "segments", "spectra", "bytes", "bytes_per_spectrum")


def contexts(ctx: typer.Context, data: Data = None, as_json: Json = False, url: Url = None) -> None:
    """List the releases that a service serves, or that a data folder holds.

    Asks the data folder of --data, else the service as the other commands do, else the folder
    specserver-data here.

    Example: specserver contexts --data /data/spec
    """
    if client := _client_asked(ctx, url, data):
        _print_contexts(client, as_json=as_json)
        return
    folder = _folder_asked(data)
    from ..service import SpectroscopicService

    records = [
        {
            "context": info.name,
            "survey": info.survey,
            "spectra": info.nspec,
            "files": info.nfiles,
            "title": info.title,
        }
        for info in SpectroscopicService(folder).contexts()
    ]
    _print_listed(records, as_json=as_json)


def catalogs(
    ctx: typer.Context,
    data: Data = None,
    context: Context = "default",
    as_json: Json = False,
    url: Url = None,
) -> None:
    """List the catalogues of a release, then the columns of the first one.

    With --json an object for each catalogue, all with their columns. Asks the data folder of
    --data, else the service as the other commands do, else the folder specserver-data here.

    Example: specserver catalogs --context sdss_dr17
    """
    if client := _client_asked(ctx, url, data):
        told = client.catalogs(context=context, fmt="json").values()
    else:
        folder = _folder_asked(data)
        from ..service import SpectroscopicService

        told = map(asdict, SpectroscopicService(folder).archive.catalogs(context))
    records = [
        {
            "catalog": said["name"],
            "rows": said["nrows"],
            "title": said["title"],
            "joined_with": said.get("joined_with", ""),  # an older service says none
            "columns": list(said["columns"]),
        }
        for said in told
    ]
    print_records(records, _CATALOG, as_json=as_json)
    if records and not as_json:
        typer.echo()
        print_records(records[0]["columns"], _COLUMN, as_json=False)


def info(ctx: typer.Context, data: Data = None, as_json: Json = False, url: Url = None) -> None:
    """State how much a data folder holds, or whether a service is alive and what it serves.

    Asks the data folder of --data, else the service as the other commands do, else the folder
    specserver-data here.

    Example: specserver info --data /data/spec
    """
    if client := _client_asked(ctx, url, data):
        if not client.isAlive():
            raise ServiceError(f"{client.get_svc_url()}: no answer")
        if not as_json:
            typer.echo(f"{client.get_svc_url()}: alive")
        _print_contexts(client, as_json=as_json)
        return
    folder = _folder_asked(data)
    from ..service.archive import Archive
    from ..service.tables import attached_tables
    from . import tables, trees

    held = list(_held(folder))
    rooted = list(trees.records_of(folder)) if folder.trees() else []
    attached = list(map(tables.record_of, attached_tables(Archive(folder))))
    if as_json:
        print_json([{"folder": str(folder), "contexts": held, "trees": rooted, "tables": attached}])
        return
    shown = {"bytes": readable_bytes}
    for records, names in ((held, _HELD), (rooted, trees.FIELDS), (attached, tables.FIELDS)):
        if records or names is _HELD:
            print_records(records, names, as_json=False, shown=shown)


def _print_contexts(client: "SpecClient", *, as_json: bool) -> None:
    """Print the contexts of a service."""
    records = [
        {
            "context": name,
            "survey": said["survey"],
            "spectra": said["nspec"],
            "files": said["files"],
            "title": said["description"],
        }
        for name, said in client.list_contexts(fmt="json").items()
    ]
    _print_listed(records, as_json=as_json)


def _print_listed(records: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print descriptions of contexts; on a terminal without the files of trees if none has any."""
    has_files = not sys.stdout.isatty() or any(record["files"] for record in records)
    names = [name for name in _CONTEXT if name != "files" or has_files]
    print_records(records, names, as_json=as_json, shown=_OF_TREES)


def _held(folder: "DataRoot") -> Iterator[dict[str, Any]]:
    """Yield what a data folder holds of each context with segments."""
    from ..catalog.opening import count_rows
    from ..store.layout import list_segments

    for name in sorted(folder.contexts()):
        context = folder.context(name)
        segments = list_segments(context)
        if not segments:
            continue
        nspec, covered = count_rows(context.index)
        # The index leaves out spectra that were replaced.
        if not covered.issuperset(segment.name for segment in segments):
            nspec = sum(segment.nspec for segment in segments)
        nbytes = sum(segment.nbytes for segment in segments)
        yield {
            "context": name,
            "segments": len(segments),
            "spectra": nspec,
            "bytes": nbytes,
            "bytes_per_spectrum": round(nbytes / nspec),
        }


def _client_asked(ctx: typer.Context, url: str | None, data: str | None) -> "SpecClient | None":
    """Return a client of the service asked, and print its URL; None: ask the data folder.

    Raises
    ------
    ServiceError
        Nothing is named, and there is neither a service nor a data folder here.
    """
    client = client_of(url)
    from ..client.session import environment_url

    before = ctx.find_root().params["url"]
    given = "--url" if url or before else URL if environment_url() else ""
    source = ctx.get_parameter_source("data")
    if given != "--url" and source is not None and source.name == "COMMANDLINE":
        return None
    if not given:
        if data:
            return None
        if not client.isAlive():
            if Path(USUAL_DATA).exists():
                return None
            raise ServiceError(
                f"no service answers at {client.get_svc_url()}, and there is no such data folder"
                f" as {USUAL_DATA} here: name one with --url or --data"
            )
    ERROR.print(f"asking the service at {client.get_svc_url()} ({given or 'here'})", markup=False)
    return client


def _folder_asked(data: str | None) -> "DataRoot":
    """Return the data folder; print its path and the contexts in it that are not served."""
    folder = present_folder(data)
    ERROR.print(f"asking the data folder {folder.names()[0]}", markup=False)
    tell_missing_surveys(folder)
    return folder
