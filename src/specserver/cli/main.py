"""The command `specserver` and how its errors are shown."""

import sys
import warnings
from typing import Annotated, TextIO

import typer
from rich.markup import escape

from .. import __version__
from ..errors import CallerError, SpecServerError
from ..files import DISK_ERRORS
from . import (
    composite,
    demo,
    fetch,
    info,
    ingest,
    match,
    serve,
    simulate,
    tables,
    token,
    trees,
    verify,
    vos,
)
from .console import ERROR, in_options

app = typer.Typer(
    name="specserver",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Survey spectra: found, fetched and looked at.

    Begin with [bold]specserver demo[/], or with your own files:

      specserver ingest sdss_dr17 ~/spectra
      specserver serve &
      specserver query --cone 180 0 2 --where "class = 'QSO'"
    """,
)


def _version(wanted: bool) -> None:
    """Print the version and end."""
    if wanted:
        sys.stdout.write(f"specserver {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


_NEED_ARGUMENTS = {ingest.ingest, fetch.query, fetch.get, match.match, composite.stack}
for command in (
    *(ingest.ingest, verify.verify, serve.serve, fetch.query, fetch.get, match.match),
    *(composite.stack, info.contexts, info.catalogs, info.info, demo.demo),
):
    app.command(no_args_is_help=command in _NEED_ARGUMENTS)(command)
for name, group in {
    "simulate": simulate.simulate_app,
    "catalog": tables.catalog_app,
    "tree": trees.tree_app,
    "token": token.token_app,
    "context": token.context_app,
    "vos": vos.vos_app,
}.items():
    app.add_typer(group, name=name)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as a sentence, without its line of code."""
    del category, filename, lineno, file, line
    ERROR.print(f"[yellow]warning:[/] {escape(in_options(str(message)))}")


def main() -> None:
    """Run the command; errors of this package are printed as a sentence without a traceback."""
    warnings.showwarning = _show_warning
    try:
        app()
    except BrokenPipeError:
        # The reader of our output, such as head, has seen enough.
        sys.stderr.close()
        sys.exit(0)
    except SpecServerError as error:
        ERROR.print(f"[bold red]specserver:[/] {escape(in_options(error.message))}")
        sys.exit(2 if isinstance(error, CallerError) else 1)
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        where = f"{error.filename}: " if error.filename else ""
        ERROR.print(f"[bold red]specserver:[/] {escape(where)}{error.strerror}")
        sys.exit(1)
    except KeyboardInterrupt:
        ERROR.print("specserver: stopped")
        sys.exit(130)
