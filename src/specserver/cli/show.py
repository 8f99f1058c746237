"""Commands that tell what there is: contexts, catalogs, info."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from .console import OUT, Data, Url, data_folder, readable_bytes, require_server

if TYPE_CHECKING:
    from ..client.api import SpecClient
    from ..service import SpectroscopicService


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(contexts)
    app.command()(catalogs)
    app.command()(info)


def contexts(data: Data = None, url: Url = None) -> None:
    """List the releases that a service serves, or that a data folder holds.

    Example: specserver contexts --data /data/spec
    """
    if url is not None:
        OUT.print(client_of(url).list_contexts(fmt="text"), highlight=False)
        return
    table = Table("context", "title", "spectra", "original files")
    for one in _service(data).contexts():
        table.add_row(
            one.name, one.title, f"{one.nspec:,}", f"{one.nfiles:,}" if one.nfiles else ""
        )
    OUT.print(table)


def catalogs(
    data: Data = None,
    url: Url = None,
    context: Annotated[str, typer.Option("--context", metavar="C")] = "default",
) -> None:
    """List the catalogues of a release with their columns.

    Example: specserver catalogs --data /data/spec --context sdss_dr17
    """
    if url is not None:
        OUT.print(client_of(url).catalogs(context=context, fmt="text"), highlight=False)
        return
    found = _service(data).catalogs(context)
    table = Table("catalogue", "rows", "what it holds")
    for one in found:
        table.add_row(one.name, f"{one.nrows:,}", one.title)
    OUT.print(table)
    if not found:
        return
    columns = Table("column", "type", "unit", "meaning")
    for column in found[0].columns:
        columns.add_row(column.name, column.dtype, column.unit, column.meaning)
    OUT.print(columns)


@dataclass(frozen=True, slots=True)
class _Holding:
    """Figures of one context."""

    context: str
    segments: int
    nspec: int
    nbytes: int


def info(data: Data = None, url: Url = None) -> None:
    """Tell how much a data folder holds, or whether a service is alive.

    Example: specserver info --data /data/spec
    """
    if url is not None:
        client = client_of(url)
        alive = client.isAlive()
        OUT.print(f"{client.get_svc_url()}: {'alive' if alive else 'no answer'}", highlight=False)
        if not alive:
            raise typer.Exit(1)
        OUT.print(client.list_contexts(fmt="text"), highlight=False)
        return
    require_server()
    from ..service.archive import Archive
    from ..service.tables import attached_tables
    from ..store.layout import list_contexts, list_segments
    from ..store.trees import list_trees
    from .catalog import table_of_tables, table_of_trees

    folder = Path(data_folder(data))
    table = Table(
        "context", "segments", "spectra", "on disk", "bytes a spectrum", title=str(folder)
    )
    for name in list_contexts(folder):
        segments = list_segments(folder, name)
        nspec = sum(one.nspec for one in segments)
        nbytes = sum(one.nbytes for one in segments)
        size = readable_bytes(nbytes)
        table.add_row(name, str(len(segments)), f"{nspec:,}", size, f"{nbytes / nspec:,.0f}")
    OUT.print(table)
    if list_trees(folder):
        OUT.print(table_of_trees(folder))
    if tables := attached_tables(Archive(folder)):
        OUT.print(table_of_tables(tables))


def _service(data: str | None) -> "SpectroscopicService":
    """Return the service over a data folder."""
    require_server()
    from ..service import SpectroscopicService

    return SpectroscopicService(Path(data_folder(data)))


def client_of(url: str | None) -> "SpecClient":
    """Return a client of the service at a URL."""
    from ..client.api import SpecClient

    client = SpecClient()
    if url:
        client.set_svc_url(url)
    return client
