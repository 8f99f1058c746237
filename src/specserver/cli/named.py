"""The spectra that a command is given: identifiers as arguments, in a file, on standard input."""

import csv
import json
import re
import sys
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ..errors import BadArguments, BadIdentifier, NoIdentifier
from ..model.spacename import in_space
from .console import client_of

if TYPE_CHECKING:
    from ..client.api import SpecClient
    from ..client.inputs.context_ids import Named

STDIN: Final = "-"
Ids = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ID…",
        help="Numbers, or tuples such as '(266,51602,1-100)'; C:ID of another context;"
        " - reads them from standard input.",
        show_default=False,
    ),
]
IdsFile = Annotated[
    str | None,
    typer.Option(
        "--ids", metavar="FILE", help="File or table of identifiers, - for stdin, or vos://…"
    ),
]
_NEEDED: Final = "give one identifier or more, a line each, or a table with a row each"
_PRINTED: Final = (
    "where standard input has no column of identifiers, let query print it: without --fields, or"
    " with two columns or more"
)
_UNSAFE: Final = re.compile(r"[^\w.]+")


def read_named(
    url: str | None,
    ids: list[str] | None,
    ids_file: str | None,
    context: str,
    *,
    skip_missing: bool,
    token: str | None,
) -> tuple["SpecClient", "Named", dict[str, Any]]:
    """Return the client of a command, the spectra that it is given, and the keywords of a request.

    Standard input holds identifiers as a file does, or rows that `query` has printed: CSV, TSV or
    JSON lines.

    Raises
    ------
    BadArguments
        None are given.
    """
    client = client_of(url)
    given = [ids_text(sys.stdin.read()) if text == STDIN else text for text in ids or []]
    text: str | Path = "\n".join(given)
    if ids_file is not None:
        if ids_file == STDIN:
            text = f"{text}\n{ids_text(sys.stdin.read())}"
        elif str(text).strip():
            text = f"{text}\n{_file_text(ids_file, client, token)}"
        else:
            # The client reads tables of every kind.
            text = ids_file if in_space(ids_file) else Path(ids_file)
    if not str(text).strip():
        if STDIN in {*(ids or ()), ids_file}:
            raise BadArguments(f"standard input is empty: {_NEEDED}")
        raise BadArguments("name at least one spectrum, or a file with --ids")
    missing = "skip" if skip_missing else "error"
    options: dict[str, Any] = {"context": context, "missing": missing, "token": token}
    try:
        named = client.read_named(text, **options)
    except BadIdentifier as error:
        if isinstance(error, NoIdentifier) or STDIN not in {*(ids or ()), ids_file}:
            raise
        raise error.saying(f"{error.message}; {_PRINTED}", *error.settings) from error
    if not named.ids:
        raise BadArguments(f"{ids_file or text} names no spectrum: {_NEEDED}")
    return client, named, options


def ids_text(text: str) -> str:
    """Return identifiers on standard input as text that the client reads: JSON lines as CSV."""
    text = text.removeprefix("\ufeff")
    if not text.lstrip().startswith("{"):
        return text
    try:
        rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise BadArguments(f"standard input is no JSON with an object a line: {error}") from error
    made = StringIO()
    table = csv.DictWriter(made, rows[0], extrasaction="ignore", lineterminator="\n")
    table.writeheader()
    table.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return made.getvalue()


def name_of(named: "Named") -> str:
    """Return what the file of these spectra is called, without its ending."""
    from ..model.id_tuple import format_id

    if len(named.ids) > 1 or not named.single:
        return f"{len(named.ids)}-spectra"
    return _UNSAFE.sub("-", format_id(named.ids[0])).strip("-")


def _cell(value: object) -> str:
    """Return a value of JSON as a cell; a list is the tuple that names a spectrum."""
    if isinstance(value, list):
        from ..model.id_names import tuple_text

        return tuple_text(value)
    return "" if value is None else str(value)


def _file_text(name: str, client: "SpecClient", token: str | None) -> str:
    """Return the text of a file, here or in virtual storage."""
    if in_space(name):
        return client.vos.read_text(name, token=token)
    return Path(name).read_text("utf-8-sig")
