"""The command `specserver` and how its errors are shown."""

import errno
import os
import sys
import warnings
from typing import Annotated, Any, Final

import typer
from rich.markup import escape
from typer.core import TyperGroup
from typing_extensions import override

from .. import __version__
from ..errors import CallerError, SpecServerError, SpecServerWarning
from ..files import DISK_ERRORS, disk_error
from . import (
    composite,
    demo,
    draw,
    export,
    fetch,
    info,
    ingest,
    maintain,
    match,
    migrate,
    serve,
    simulate,
    tables,
    token,
    trees,
    verify,
    vos,
)
from .console import CONTEXT, ERROR, TOKEN, URL, Url, tell
from .options import in_options

DONE: Final = 0
FAILED: Final = 1
"""The service or its data are at fault, or damage was found."""
WRONG: Final = 2
"""The call is wrong; the message says how to correct it."""
STOPPED: Final = 130
"""Stopped by Ctrl-C."""


_GO_ON: Final = frozenset({"ingest", "maintain", "migrate"})
"""Commands that lose nothing when they are stopped."""


class _Commands(TyperGroup):
    """Ends each command with its exit code; an error is one sentence, without a traceback."""

    @override
    def invoke(self, ctx: Any) -> Any:
        try:
            made = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of our output, such as head, has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(DONE) from None
        except typer.BadParameter as error:
            # What Typer says names no value.
            if errors := getattr(error.__cause__, "errors", None):
                what = error.message.partition(", unable to parse")[0]
                error.message = f"{errors()[0]['input']!r} is not possible: {what}"
            raise
        except SpecServerError as error:
            _fail(in_options(error, app))
            raise typer.Exit(WRONG if isinstance(error, CallerError) else FAILED) from None
        except OSError as error:
            if error.errno not in {*DISK_ERRORS, errno.ENOENT}:
                raise
            _fail(": ".join(filter(None, [error.filename, disk_error(error)])))
            raise typer.Exit(FAILED) from None
        except KeyboardInterrupt:
            goes_on = ctx.invoked_subcommand in _GO_ON
            _fail("stopped; the same command goes on where it was" if goes_on else "stopped")
            raise typer.Exit(STOPPED) from None
        return made


def _fail(text: str) -> None:
    """Print why the command ends."""
    ERROR.print(f"[bold red]specserver:[/] {escape(text)}")


app = typer.Typer(
    name="specserver",
    cls=_Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Survey spectra: found, fetched and looked at.

    Begin with 'specserver demo', or with your own files:

    \b
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
    url: Url = None,
    context: Annotated[
        str | None,
        typer.Option("--context", metavar="C", help="Release to ask.", show_default=False),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--token", metavar="T", help="Token of the caller.", show_default=False),
    ] = None,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command: they hold where it is not given its own."""
    given = {URL: url, CONTEXT: context, TOKEN: token}
    os.environ.update({variable: value for variable, value in given.items() if value is not None})


_NEED_ARGUMENTS = {
    *(ingest.ingest, migrate.migrate, fetch.query, fetch.get, match.match, composite.stack),
    *(draw.plot, draw.preview, draw.grid, draw.prospect),
}
for command in (
    *(
        ingest.ingest,
        verify.verify,
        maintain.maintain,
        migrate.migrate,
        serve.serve,
        fetch.query,
        fetch.get,
        match.match,
    ),
    *(
        composite.stack,
        draw.plot,
        draw.preview,
        draw.grid,
        draw.prospect,
        info.contexts,
        info.catalogs,
        info.info,
        demo.demo,
    ),
):
    app.command(no_args_is_help=command in _NEED_ARGUMENTS)(command)
_GROUPS: Final = {
    "export": export.export_app,
    "simulate": simulate.simulate_app,
    "catalog": tables.catalog_app,
    "table": tables.catalog_app,
    "tree": trees.tree_app,
    "token": token.token_app,
    "context": token.context_app,
    "vos": vos.vos_app,
}
for name, group in _GROUPS.items():
    # ``table`` is another name of ``catalog``, for value-added tables.
    app.add_typer(group, name=name, hidden=name == "table")
for listed in (app, *_GROUPS.values()):
    for member in listed.registered_commands:
        # Typer would cut the sentence in a list of commands.
        member.short_help = (member.callback.__doc__ or "").partition("\n")[0]


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning as a sentence, without its line of code."""
    text = in_options(message, app) if isinstance(message, SpecServerWarning) else str(message)
    tell("warning", text)


def _reopen_closed() -> None:
    """Open /dev/null for streams that the shell closed (``>&-``): no file gets their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode))


def main() -> None:
    """Run the command; of warnings only those of this package are printed."""
    _reopen_closed()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", SpecServerWarning)
        warnings.showwarning = _show_warning
        # Help and usage errors have boxes and colours on a terminal, and are plain in a pipe.
        terminal = sys.stdout.isatty() and sys.stderr.isatty()
        app.rich_markup_mode = "rich" if terminal else None
        app()
