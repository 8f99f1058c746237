"""Consoles, and the options and functions that commands share."""

from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape

from ..extras import require

if TYPE_CHECKING:
    from ..client.api import SpecClient
    from ..data.root import DataRoot

# Lines are not wrapped here, so that grep finds them whole; the terminal wraps them.
OUT = Console(soft_wrap=True, highlight=False)
ERROR = Console(stderr=True, soft_wrap=True, highlight=False)

USUAL_DATA = "specserver-data"
URL: Final = "SPECSERVER_URL"
CONTEXT: Final = "SPECSERVER_CONTEXT"
TOKEN: Final = "SPECSERVER_TOKEN"  # noqa: S105  # the name of a variable

Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        envvar="SPECSERVER_DATA",
        help="Data folder, or s3://bucket/prefix, gs://…, az://… (default: ./specserver-data).",
        show_default=False,
        show_envvar=True,
    ),
]
DATABASE: Final = "SPECSERVER_CATALOG"
Database = Annotated[
    str | None,
    typer.Option(
        "--catalog",
        metavar="URL",
        envvar=DATABASE,
        help="PostgreSQL that answers the catalogue and follows the data folder, as"
        " postgresql://user@host/name; a password is best in PGPASSWORD or ~/.pgpass.",
        show_default=False,
        show_envvar=True,
    ),
]
Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        metavar="URL",
        help="Service to ask (default: $SPECSERVER_URL, then http://127.0.0.1:6998/spec).",
        show_default=False,
    ),
]
Token = Annotated[
    str | None,
    typer.Option(
        "--token",
        metavar="T",
        envvar=TOKEN,
        help="Token of the caller; other users cannot see it if it is in the environment.",
        show_default=False,
        show_envvar=True,
    ),
]
Context = Annotated[
    str,
    typer.Option(
        "--context", metavar="C", envvar=CONTEXT, help="Release to ask, such as sdss_dr17."
    ),
]
Contexts = Annotated[
    str,
    typer.Option(
        "--context",
        metavar="C[,C…]",
        envvar=CONTEXT,
        help="Release to ask, or several: sdss_dr17,…",
    ),
]
Catalog = Annotated[
    str | None,
    typer.Option("--catalog", metavar="NAME", help="Another catalogue of the release."),
]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out what is not found or damaged.")
]
Everything = Annotated[
    bool, typer.Option("--all", help="All spectra, not only the best of each object.")
]
ContextName = Annotated[str, typer.Argument(metavar="CONTEXT", help="sdss_dr8 … sdss_dr17")]


def tell(kind: str, text: str) -> None:
    """Print a line that begins with its kind, such as a note or a warning, on standard error."""
    ERROR.print(f"[yellow]{kind}:[/] {escape(text)}")


def working(text: str) -> None:
    """Print on a terminal what a command does: its imports take seconds, without a progress bar."""
    if ERROR.is_terminal:
        ERROR.print(f"[dim]{escape(text)} …[/]")


def data_folder(given: str | None) -> "DataRoot":
    """Return the data folder that a command is to write to; it need not exist.

    Errors are those of `require_server` and `DataRoot.prepare`.
    """
    return _opened(given).prepare()


def present_folder(given: str | None, look_s: float = 0.0) -> "DataRoot":
    """Return the data folder that a command is to read; raise `StoreError` when there is none.

    Parameters
    ----------
    look_s : as of `open_root`
    """
    return _opened(given, look_s).require()


def _opened(given: str | None, look_s: float = 0.0) -> "DataRoot":
    """Return the data folder at a path or an address."""
    require_server()
    from ..data.root import open_root

    return open_root(given or USUAL_DATA, look_s=look_s)


def tell_missing_surveys(data: "DataRoot") -> None:
    """Name each context of a data folder whose survey is not installed."""
    from ..store.layout import survey_name
    from ..surveys import missing_survey

    for context in sorted(data.contexts()):
        if lacking := missing_survey(context, survey_name(data.context(context)), data):
            ERROR.print(f"[yellow]{escape(lacking)}[/]")


def require_server() -> None:
    """Raise `MissingPackage` if a package of the server is missing."""
    require("this command", "server")


def readable_bytes(count: float) -> str:
    """Return a number of bytes as people read it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def client_of(url: str | None) -> "SpecClient":
    """Return a client of the service at a URL."""
    from ..client.api import SpecClient

    client = SpecClient()
    if url:
        client.set_svc_url(url)
    return client
