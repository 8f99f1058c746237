"""Commands for virtual storage: vos ls, get, put, mkdir, rm."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .console import ERROR, OUT, TOKEN, Url, client_of, readable_bytes
from .output import Json, print_json

if TYPE_CHECKING:
    from ..wire.storage import SpaceEntry

vos_app = typer.Typer(
    no_args_is_help=True,
    help="Your own files on the server. All need a token: --token or SPECSERVER_TOKEN.",
)
Needed = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="T",
        envvar=TOKEN,
        help="Your token: without one there is no space. Better in the environment, where other"
        " users cannot see it.",
        show_default=False,
    ),
]
Name = Annotated[str, typer.Argument(metavar="NAME", help="As vos://a/b; vos:// may be left out.")]


@vos_app.command()
def ls(
    path: Annotated[str, typer.Argument(metavar="DIR", help="A folder; default: the top.")] = "",
    long: Annotated[
        bool, typer.Option("--long", "-l", help="Show sizes, times, and the space left.")
    ] = False,
    as_json: Json = False,
    url: Url = None,
    token: Needed = None,
) -> None:
    """List a folder.

    Example: specserver vos ls -l
    """
    space = client_of(url).vos
    if as_json:
        print_json(map(_record, space.entries(path, token=token)))
        return
    for entry in space.entries(path, token=token):
        name = entry.name + "/" * entry.is_folder
        size = "" if entry.is_folder else readable_bytes(entry.nbytes)
        line = f"{size:>9}  {entry.modified:%Y-%m-%d %H:%M}  {name}" if long else name
        sys.stdout.write(f"{line}\n")
    if long:
        used = space.usage(token=token)
        ERROR.print(
            f"{readable_bytes(used.nbytes)} of {readable_bytes(used.nbytes_limit)},"
            f" {used.nentries:,} of {used.nentries_limit:,} files and folders"
        )


def _record(entry: "SpaceEntry") -> dict[str, Any]:
    """Return a file or folder as a record to print."""
    return {
        "name": entry.name,
        "folder": entry.is_folder,
        "bytes": entry.nbytes,
        "modified": f"{entry.modified:%Y-%m-%dT%H:%M:%SZ}",
    }


@vos_app.command(no_args_is_help=True)
def get(
    name: Name,
    out: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Default: the same name, here; - for stdout."),
    ] = None,
    url: Url = None,
    token: Needed = None,
) -> None:
    """Fetch a file.

    Example: specserver vos get qso/ids.txt
    """
    space = client_of(url).vos
    if str(out) == "-":
        sys.stdout.buffer.write(space.get(name, token=token))
        return
    target = out or Path(name.rpartition("/")[2])
    space.get(name, target / name.rpartition("/")[2] if target.is_dir() else target, token=token)


@vos_app.command(no_args_is_help=True)
def put(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file here; - for stdin.")],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Default: the file's own; DIR/ for a folder.")
    ] = "",
    url: Url = None,
    token: Needed = None,
) -> None:
    """Keep a file; one of that name is replaced.

    Example: specserver vos put ids.txt qso/
    """
    target = name + file.name if name == "" or name.endswith("/") else name
    content = sys.stdin.buffer.read() if str(file) == "-" else file
    client_of(url).vos.put(target, content, token=token)
    OUT.print(f"vos://{target.removeprefix('vos://')}", markup=False)


@vos_app.command(no_args_is_help=True)
def mkdir(name: Name, url: Url = None, token: Needed = None) -> None:
    """Make a folder and those above it.

    Example: specserver vos mkdir qso/dr17
    """
    client_of(url).vos.mkdir(name, token=token)


@vos_app.command(no_args_is_help=True)
def rm(
    name: Name,
    recursive: Annotated[
        bool, typer.Option("--recursive", "-r", help="A folder with all it holds.")
    ] = False,
    url: Url = None,
    token: Needed = None,
) -> None:
    """Remove a file or an empty folder.

    Example: specserver vos rm qso/ids.txt
    """
    client_of(url).vos.rm(name, recursive=recursive, token=token)
