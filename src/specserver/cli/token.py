"""Commands of the operator about access: token, context."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import typer

from ..errors import UnknownContext
from .console import ERROR, Data, data_folder, present_folder
from .output import Json, print_json, print_records

if TYPE_CHECKING:
    from ..data.root import DataRoot

token_app = typer.Typer(
    no_args_is_help=True, help="Make, list and revoke the tokens of a data folder."
)
context_app = typer.Typer(no_args_is_help=True, help="Hide a release, or show it to all.")
_FIELDS: Final = ("id", "user", "admin", "contexts", "created", "expires", "expired")
Name = Annotated[str, typer.Argument(metavar="CONTEXT", help="Such as sdss_dr17.")]


@token_app.command(no_args_is_help=True)
def create(
    user: Annotated[str, typer.Option("--user", metavar="U", help="Whose token it is.")],
    admin: Annotated[
        bool, typer.Option("--admin", help="May see every context, stop the service, debug it.")
    ] = False,
    context: Annotated[
        list[str] | None,
        typer.Option(
            "--context", metavar="C", help="Private release that it shows; may be repeated."
        ),
    ] = None,
    expires: Annotated[
        str, typer.Option(metavar="WHEN", help="30d (h, d, w, y), 2027-01-01 (UTC), or never.")
    ] = "1y",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make a token and print it; it cannot be shown again.

    A running service knows it at once.

    Example: specserver token create --user ada --context sdss_dr17 --expires 30d
    """
    folder = data_folder(data)
    from ..auth import TokenBook, parse_expiry

    now = datetime.now(UTC)
    contexts = [_context(name, folder) for name in context or []]
    end = parse_expiry(expires, now)
    token = TokenBook(folder).create(user, is_admin=admin, contexts=contexts, expires=end, now=now)
    if as_json:
        print_json([{"token": token, "user": user, "expires": _utc(end) if end else None}])
    else:
        sys.stdout.write(f"{token}\n")
    until = f"until {end:%Y-%m-%d %H:%M} UTC" if end else "for ever"
    ERROR.print(f"valid {until}; keep it: it is not shown again")


@token_app.command(name="list")
def list_tokens(data: Data = None, as_json: Json = False) -> None:
    """List the tokens, without their secrets.

    Example: specserver token list --data /data/spec
    """
    folder = present_folder(data)
    from ..auth import TokenBook

    now = datetime.now(UTC)
    records = (
        {
            "id": record.id,
            "user": record.user,
            "admin": record.is_admin,
            "contexts": list(record.contexts),
            "created": _utc(record.created),
            "expires": _utc(record.expires) if record.expires else None,
            "expired": record.expires is not None and record.expires <= now,
        }
        for record in TokenBook(folder).records()
    )
    print_records(records, _FIELDS, as_json=as_json)


def _utc(time: datetime) -> str:
    """Return a time as text of ISO 8601."""
    return f"{time:%Y-%m-%dT%H:%M}Z"


@token_app.command(no_args_is_help=True)
def revoke(
    token_id: Annotated[str, typer.Argument(metavar="ID", help="As listed; or the whole token.")],
    data: Data = None,
) -> None:
    """Take a token back; a running service refuses it at once.

    If the data are in an object store, it refuses it within two seconds.

    Example: specserver token revoke 4f1c2a9b03
    """
    folder = present_folder(data)
    from ..auth import TokenBook

    record = TokenBook(folder).revoke(token_id)
    ERROR.print(f"token {record.id} of {record.user} is revoked")


@context_app.command(no_args_is_help=True)
def private(name: Name, data: Data = None) -> None:
    """Hide a release from all whose token does not name it; do so before it is ingested.

    Example: specserver context private sdss_dr17
    """
    _set(name, data, private=True)


@context_app.command(no_args_is_help=True)
def public(name: Name, data: Data = None) -> None:
    """Show a release to all again.

    Example: specserver context public sdss_dr17
    """
    _set(name, data, private=False)


def _set(name: str, data: str | None, *, private: bool) -> None:
    """Hide or show a release; a running service follows at once."""
    # A release may be hidden before it has any data.
    folder = data_folder(data) if private else present_folder(data)
    from ..auth import set_private

    context = _context(name, folder, new=private)
    set_private(folder, context, private=private)
    state = "private: only tokens that name it see it" if private else "public"
    ERROR.print(f"{context} is {state}")


def _context(name: str, folder: "DataRoot", *, new: bool = False) -> str:
    """Return the name of a release; also of one that is private before its first ingest.

    Raises
    ------
    UnknownContext
        There is none, and ``new`` does not allow one, which an ingest is to declare.
    """
    from ..auth import is_private
    from ..surveys import find_release
    from ..surveys.generic import is_context_name

    try:
        return find_release(name, folder)[1].context
    except UnknownContext:
        if not is_context_name(name) or not (new or is_private(folder, name)):
            raise
    ERROR.print(f"{name} is no release known here: it is that of files still to be ingested")
    return name
