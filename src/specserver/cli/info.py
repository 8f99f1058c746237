"""Commands that list what a service or a data folder holds: contexts, catalogs, info."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import (
    ERROR,
    OUT,
    USUAL_DATA,
    Data,
    Url,
    client_of,
    present_folder,
    readable_bytes,
    tell_missing_surveys,
)

if TYPE_CHECKING:
    from ..client.api import SpecClient
    from ..data.root import DataRoot
    from ..service import SpectroscopicService


def contexts(data: Data = None, url: Url = None) -> None:
    """List the releases that a service serves, or that a data folder holds.

    Asks the service of --url, else that of $SPECSERVER_URL, else the data folder; where that is
    not named and not there, the service on this machine.

    Example: specserver contexts --data /data/spec
    """
    if client := _client_asked(url, data):
        OUT.print(client.list_contexts(fmt="text"))
        return
    folder = _folder_asked(data)
    table = Table("context", "title", "spectra", "original files")
    for context in _service(folder).contexts():
        table.add_row(
            context.name,
            context.title,
            f"{context.nspec:,}",
            f"{context.nfiles:,}" if context.nfiles else "",
        )
    OUT.print(table)


def catalogs(
    data: Data = None,
    url: Url = None,
    context: Annotated[str, typer.Option("--context", metavar="C")] = "default",
) -> None:
    """List the catalogues of a release with their columns.

    Asks the service of --url, else that of $SPECSERVER_URL, else the data folder; where that is
    not named and not there, the service on this machine.

    Example: specserver catalogs --data /data/spec --context sdss_dr17
    """
    if client := _client_asked(url, data):
        OUT.print(client.catalogs(context=context, fmt="text"))
        return
    found = _service(_folder_asked(data)).archive.catalogs(context)
    table = Table("catalogue", "rows", "what it holds")
    for table_info in found:
        table.add_row(table_info.name, f"{table_info.nrows:,}", table_info.summary)
    OUT.print(table)
    if not found:
        return
    columns = Table("column", "type", "unit", "meaning")
    for column in found[0].columns:
        columns.add_row(column.name, column.dtype, column.unit, column.meaning)
    OUT.print(columns)


def info(data: Data = None, url: Url = None) -> None:
    """State how much a data folder holds, or whether a service is alive.

    Asks the service of --url, else that of $SPECSERVER_URL, else the data folder; where that is
    not named and not there, the service on this machine.

    Example: specserver info --data /data/spec
    """
    if client := _client_asked(url, data):
        alive = client.isAlive()
        OUT.print(f"{client.get_svc_url()}: {'alive' if alive else 'no answer'}")
        if not alive:
            raise typer.Exit(1)
        OUT.print(client.list_contexts(fmt="text"))
        return
    folder = _folder_asked(data)
    from ..catalog.index.generations import current_generation
    from ..service.archive import Archive
    from ..service.tables import attached_tables
    from ..store.layout import list_segments
    from .tables import table_of_tables
    from .trees import table_of_trees

    table = Table(
        "context", "segments", "spectra", "on disk", "bytes a spectrum", title=str(folder)
    )
    for name in sorted(folder.contexts()):
        context = folder.context(name)
        segments = list_segments(context)
        if not segments:
            continue
        index = current_generation(context.index)
        covered = index is not None and index.segments == tuple(
            segment.name for segment in segments
        )
        # The index leaves out spectra that were replaced.
        stored = sum(segment.nspec for segment in segments)
        nspec = index.nrows if index is not None and covered else stored
        nbytes = sum(segment.nbytes for segment in segments)
        size = readable_bytes(nbytes)
        table.add_row(name, str(len(segments)), f"{nspec:,}", size, f"{nbytes / nspec:,.0f}")
    OUT.print(table)
    if folder.trees():
        OUT.print(table_of_trees(folder))
    if tables := attached_tables(Archive(folder)):
        OUT.print(table_of_tables(tables))


def _client_asked(url: str | None, data: str | None) -> "SpecClient | None":
    """Return a client of the service asked, and print its URL; None: ask the data folder."""
    from ..client.session import URL_VARIABLE, environment_url

    client = client_of(url)
    named = "--url" if url else URL_VARIABLE if environment_url() else "here"
    if named == "here" and (data or Path(USUAL_DATA).exists() or not client.isAlive()):
        return None
    ERROR.print(f"asking the service at {client.get_svc_url()} ({named})", markup=False)
    return client


def _folder_asked(data: str | None) -> "DataRoot":
    """Return the data folder; print its path and the contexts in it that are not served."""
    folder = present_folder(data)
    ERROR.print(f"asking the data folder {folder.full_paths()[0]}", markup=False)
    tell_missing_surveys(folder)
    return folder


def _service(folder: "DataRoot") -> "SpectroscopicService":
    """Return the service over a data folder."""
    from ..service import SpectroscopicService

    return SpectroscopicService(folder)
