"""The data that a command prints: aligned columns on a terminal, TSV into a pipe, or JSON lines.

Everything else that a command says, such as notes and progress, goes to standard error.
"""

import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .console import OUT

if TYPE_CHECKING:
    from ..client.results.columns import Columns

Json = Annotated[bool, typer.Option("--json", help="Print JSON: an object a line.")]
Record = Mapping[str, Any]
STDOUT: Final = "-"
_BREAKS: Final = str.maketrans("\t\r\n", "   ")


def print_records(
    records: Iterable[Record],
    names: Sequence[str],
    *,
    as_json: bool,
    shown: Mapping[str, Callable[[Any], str]] | None = None,
) -> None:
    """Print records under the names of their fields.

    Parameters
    ----------
    names
        Fields in the order of the columns; JSON has all fields of a record.
    shown
        How a terminal shows the values of a field, where not as they are.
    """
    if as_json:
        print_json(records)
    elif sys.stdout.isatty():
        _print_aligned(records, names, shown or {})
    else:
        lines = ([_text(record[name]) for name in names] for record in records)
        for cells in ([*names], *lines):
            sys.stdout.write("\t".join(cells) + "\n")


def print_json(records: Iterable[Record]) -> None:
    """Print each record as a line of JSON."""
    for record in records:
        sys.stdout.write(json.dumps(record, ensure_ascii=False, default=str) + "\n")


def print_facts(facts: Mapping[str, str], title: str) -> None:
    """Print names and what is said of each, two columns below a title."""
    width = max(map(len, facts))
    lines = [title, *(f"  {name:<{width}}  {said}" for name, said in facts.items())]
    sys.stdout.write("\n".join(lines) + "\n")


def print_table(table: Any, *, as_json: bool) -> None:
    """Print a Table of catalogue rows as CSV with the digits of each type, or as JSON lines."""
    from ..client.results.query_results import write_csv
    from ..client.results.table_file import columns_of

    columns = columns_of(table)
    if as_json:
        print_json(_rows(columns))
    else:
        write_csv(columns, sys.stdout)


@contextmanager
def file_or_stdout(out: str, ending: str) -> Iterator[str]:
    """Yield the name of a file to write; for ``-`` a temporary file, copied to standard output."""
    if out != STDOUT:
        yield out
        return
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"out{ending}"
        yield str(path)
        sys.stdout.buffer.write(path.read_bytes())


def json_id(value: Any) -> Any:
    """Return an identifier as JSON has it: text, or the list of the parts of a tuple."""
    return list(value) if isinstance(value, tuple) else str(value)


def _rows(columns: "Columns") -> Iterator[dict[str, Any]]:
    """Yield rows as JSON has them: null where a value is missing or not finite.

    Integers of 64 bits are text: jq and JavaScript round numbers beyond 2^53, as identifiers are.
    """
    made = []
    for values in columns.values.values():
        cells: list[Any] = values.tolist()
        if values.dtype.kind == "f":
            # tolist of float32 gives digits that the catalogue does not have.
            texts = map(str, values)
            cells = [
                float(text) if cell is not None and math.isfinite(cell) else None
                for cell, text in zip(cells, texts, strict=True)
            ]
        elif values.dtype.kind in "iu" and values.dtype.itemsize == 8:
            cells = [None if cell is None else str(cell) for cell in cells]
        made.append(cells)
    for row in zip(*made, strict=True):
        yield dict(zip(columns.values, row, strict=True))


def _text(value: Any) -> str:
    """Return a value as a cell of TSV."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)).translate(_BREAKS)
    return "" if value is None else str(value).translate(_BREAKS)


def _print_aligned(
    records: Iterable[Record], names: Sequence[str], shown: Mapping[str, Callable[[Any], str]]
) -> None:
    """Print aligned columns without borders; numbers to the right, with commas."""
    from rich.table import Table
    from rich.text import Text

    rows = list(records)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in names:
        numeric = all(isinstance(row[name], int | float) for row in rows)
        table.add_column(name, justify="right" if rows and numeric else "left")
    for row in rows:
        cells = []
        for name in names:
            value = row[name]
            plain = f"{value:,}" if type(value) is int else _text(value)
            cells.append(Text(shown[name](value) if name in shown else plain))
        table.add_row(*cells)
    OUT.print(table)
