"""Commands for trees of original files: tree add, list, remove."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import StoreError, UnknownContext
from .console import OUT, ContextName, Data, data_folder, present_folder
from .output import Json, print_json, print_records

if TYPE_CHECKING:
    from ..data.root import DataRoot

tree_app = typer.Typer(
    no_args_is_help=True, help="Trees of original FITS files, served without an ingest."
)

FIELDS: Final = ("context", "files", "reductions", "folder")
"""Fields of a tree as a record to print."""


@tree_app.command(name="add", no_args_is_help=True)
def add_tree(
    context: ContextName,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Top of the tree.")],
    data: Data = None,
    run2d: Annotated[
        list[str] | None,
        typer.Option(metavar="R", help="A reduction besides the release's own; repeatable."),
    ] = None,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow links that lead out of the tree.")
    ] = False,
    fingerprints: Annotated[
        bool,
        typer.Option(help="Read all files once, so that 'verify' notices damage to them later."),
    ] = True,
    as_json: Json = False,
) -> None:
    """Serve spectra straight from original files, in the archive's layout, without an ingest.

    DIR is a mirror, or one of its folders: that holds dr17/, or eboss/spectro/redux/, or run2d
    folders such as v5_13_2/. Spectra are found by identifier; queries need an ingest or a table
    attached with 'specserver catalog add'.

    Example: specserver tree add sdss_dr17 /sas/dr17
    """
    into = data_folder(data)
    from ..service.fits_tree_source import add_tree as add

    info = add(
        into,
        context,
        folder,
        reductions=run2d or (),
        follow_links=follow_links,
        fingerprints=fingerprints,
    )
    if as_json:
        print_json([{"context": context, "files": info.nfiles, "folder": str(info.root)}])
    else:
        OUT.print(f"{context}: {info.nfiles:,} spectra in {info.root}", markup=False)


@tree_app.command(name="list")
def list_trees(data: Data = None, as_json: Json = False) -> None:
    """List trees of original files.

    Example: specserver tree list --data /data/spec
    """
    print_records(records_of(present_folder(data)), FIELDS, as_json=as_json)


@tree_app.command(name="remove", no_args_is_help=True)
def remove_tree(context: ContextName, data: Data = None) -> None:
    """Serve a tree no longer; its files are left alone.

    Example: specserver tree remove sdss_dr17
    """
    folder = present_folder(data)
    from ..store.trees import remove_tree as remove

    if not remove(folder.context(context)):
        raise UnknownContext(context, folder.trees() or ["no tree"])
    OUT.print(f"the tree of {context} is no longer served")


def records_of(data: "DataRoot") -> Iterator[dict[str, Any]]:
    """Yield the trees of a data folder as records to print."""
    from ..store.trees import read_tree

    for context in data.trees():
        folder = data.context(context)
        info = read_tree(folder)
        if info is None:
            raise StoreError(str(folder), "the tree was removed just now")
        yield {
            "context": context,
            "files": info.nfiles,
            "reductions": list(info.reductions),
            "folder": str(info.root),
        }
