"""Tables of identifiers: the spectra that rows name, and the treatment of rows that name none.

A row names an identifier, a tuple, or an identifier with named values. Where spectra share an
identifier, every column that tells them apart counts: the whole tuple where that is there, else
``(identifier, 'program=dark', 'healpix=9144')``, which means the best of the spectra that have
these values. A missing value leaves its column open.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np

from ..errors import BadIdentifier, NoIdentifier, UnknownField
from .id_tuple import filled_lines, shortened
from .ids import IdForm

MISSING: Final = frozenset({"", "none", "nan", "null", "nat", "<na>", "na", "masked", "--"})
"""Cells that hold nothing, in lower case."""
_MAX_ROW: Final = 2**20
"""Characters of a table's row: catalogues have some hundred columns."""
_NAME = re.compile(r"[A-Za-z_]\w*")
_NAMED_ROWS: Final = 10
"""Rows without an identifier that a message names."""
_TABLE_CELL = re.compile(r'"[^"]*"|\S+')
_OTHER_NAMES: Final = {"fiberid": ("fiber",)}
_WHOLE_FLOAT: Final = re.compile(r"-?\d+\.0+")


@dataclass(slots=True)
class Gaps:
    """Treatment of rows without an identifier or context, and their numbers."""

    skip: bool = False
    """They are left out; else refused."""
    rows: list[int] = field(default_factory=list)
    """Rows that were left out, counted from 0."""
    lacking: list[str] = field(default_factory=list)
    """The identifier, the context or both: what these rows lack."""

    def add(self, rows: Iterable[int], lacking: str = "identifier") -> None:
        """Record rows that lack it; raise `NoIdentifier` if they are refused."""
        found = list(rows)
        if found and not self.skip:
            raise NoIdentifier(found, lacking)
        self.rows += found
        self.lacking += [lacking] if found and lacking not in self.lacking else []

    def rest(self, values: list[Any], needed: int) -> list[Any]:
        """Return the values that are present, and record the rows of the others.

        Of a tuple the first ``needed`` parts must be there; another that is None allows anything.
        """
        cut = [value[:needed] if isinstance(value, tuple | list) else value for value in values]
        gone = [is_missing(value) for value in cut]
        self.add(row for row, lost in enumerate(gone) if lost)
        return [value for value, lost in zip(values, gone, strict=True) if not lost]


def is_missing(value: object) -> bool:
    """Return whether a value is none: None, NaN, NA, masked, or empty text.

    A tuple or list is none when one of its numbers is.
    """
    if isinstance(value, str | bytes):
        return not value.strip()
    if isinstance(value, tuple | list):
        return any(
            is_missing(part) for part in value if not isinstance(part, str | bytes | list | tuple)
        )
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or value is np.ma.masked or type(value).__name__ in {"NAType", "NaTType"}


def needed_parts(form: IdForm) -> int:
    """Return how many parts of a tuple, from the first on, a row must have to name a spectrum."""
    return 1 if form.leads_with_id else max(1, form.numbers)


@dataclass(frozen=True, slots=True)
class RowForm:
    """The columns of a table that identify, and how their cells name a spectrum."""

    places: tuple[int, ...]
    """Columns to read, the identifier or the first part before the others."""
    needed: int
    """Number of them, from the first on, that a row must have."""
    told: tuple[str, ...] = ()
    """Names of the columns after the identifier, the parts of the tuple first; empty: all columns
    are parts of a tuple."""
    nparts: int = 0
    """Number of these columns that are parts of the tuple; 0 if a part has no column."""

    def named(self, cells: Sequence[Any]) -> Any:
        """Return what a row names: an identifier, or a tuple as `parse_id_tuple` reads it."""
        if len(self.places) == 1:
            return cells[0]
        if not self.told:
            return tuple([None if is_missing(cell) else cell for cell in cells])
        if isinstance(cells[0], str) and "(" in cells[0]:
            return cells[0]
        others = [None if _is_open(cell) else cell for cell in cells[1:]]
        if self.nparts and None not in others[: self.nparts]:
            return (cells[0], *others[: self.nparts])
        values = [
            f"{name}={text_of(cell)}"
            for name, cell in zip(self.told, others, strict=True)
            if cell is not None
        ]
        return (cells[0], *values) if values else cells[0]


def row_form(
    names: Sequence[str], form: IdForm, id_col: str | None, *, other: str | None = None
) -> RowForm:
    """Return how the rows of a table are read.

    Parameters
    ----------
    names : of the columns
    id_col : as for `id_columns`; a column that the caller names is read alone
    other : another name that the column of the identifier may have

    Raises
    ------
    UnknownField
        There is no column that identifies.
    """
    lower = [name.strip().lower() for name in names]
    column = next((name for name in (other, form.column) if name in lower), None)
    if id_col is None and column is not None and form.told_by and form.leads_with_id:
        parts = form.parts[1:]
        told = [name for name in dict.fromkeys((*parts, *form.told_by)) if name in lower]
        nparts = len(parts) if all(name in lower for name in parts) else 0
        places = [lower.index(name) for name in (column, *told)]
        return RowForm(tuple(places), 1, tuple(told), nparts)
    if other in lower and id_col is None:
        return RowForm((lower.index(other),), 1)
    found = id_columns(names, form, id_col)
    return RowForm(found, min(needed_parts(form), len(found)))


def id_columns(names: Sequence[str], form: IdForm, id_col: str | None) -> tuple[int, ...]:
    """Return the places of the columns that identify: one, or those of a tuple in their order.

    ``id_col`` must be a column, in upper or lower case. Without it they are the survey's
    identifier, or the numbers of its tuple form and the text after them, if there, or the only
    column. A tuple that begins with the identifier is preferred if all its parts are there; the
    last one can be missing if it may be open. Raises `UnknownField` if there are no such columns.
    """
    lower = [name.strip().lower() for name in names]
    found = [
        next((name for name in (part, *_OTHER_NAMES.get(part, ())) if name in lower), None)
        for part in form.parts
    ]
    parts = tuple(lower.index(name) for name in found if name is not None)
    if id_col is None and form.leads_with_id and None not in found[: -form.last_open or None]:
        return parts
    wanted = (id_col or form.column).lower()
    if wanted in lower:
        return (lower.index(wanted),)
    needed = found[: form.numbers or len(found)]
    if id_col is None and None not in needed:
        return parts
    if id_col is None and len(names) == 1:
        return (0,)
    raise UnknownField(id_col or form.column, names)


def _is_open(value: Any) -> bool:
    """Return whether a cell is missing or a wildcard."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.strip().lower() in MISSING or value.strip() == "*"
    return is_missing(value)


def text_of(value: Any) -> str:
    """Return a cell as text; a whole number that became a float as the number."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return text.partition(".")[0] if _WHOLE_FLOAT.fullmatch(text) else text


def read_table(
    text: str, form: IdForm, id_col: str | None, gaps: Gaps
) -> Iterator[str | Sequence[str]] | None:
    """Return an iterator over what the rows of a table in text name; None if it has no header line.

    Each is the text of an identifier, or the parts of a tuple. Parameters as of
    `id_text.parse_id_text`.

    Raises
    ------
    BadIdentifier
        A row that lacks a cell, or is too long.
    NoIdentifier
        Rows that have none, unless they are to be left out.
    UnknownField
        There is no column that identifies.
    """
    rows = table_rows(text)
    names = next(rows, [])
    known = {(id_col or form.column).lower(), form.parts[0]}
    if known.isdisjoint(name.lower() for name in names):
        second = next(islice(_table_lines(text), 1, None), "")
        may_be_header = names and second and all(_NAME.fullmatch(name) for name in names if name)
        # Where spectra have names, names of columns look like them.
        if not form.numbers or not may_be_header:
            return None
    read = row_form(names, form, id_col)
    return _named_rows(rows, names, read, form, gaps)


def table_rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of each row of a table in text: the first row says what separates them.

    There are none where that row is too long to be the names of columns.
    """
    first = next(_table_lines(text), "")
    if len(first) <= _MAX_ROW:
        comma = next((mark for mark in ",\t;|" if mark in first), "")
        yield from _cells(_table_lines(text), comma)


def _named_rows(
    rows: Iterator[list[str]], names: Sequence[str], read: RowForm, form: IdForm, gaps: Gaps
) -> Iterator[str | Sequence[str]]:
    """Yield the identifiers or parts that rows of cells name."""
    places, needed = read.places, read.places[: read.needed]
    # Where spectra have names, a word such as 'na' may be one.
    blank = MISSING if form.numbers else {""}
    absent: list[int] = []
    for number, row in enumerate(rows):
        if len(row) <= max(places):
            raise BadIdentifier(shortened(",".join(row)), f"the row has not all of {names}")
        if any(row[place].lower() in blank for place in needed):
            absent.append(number)
            if len(absent) > _NAMED_ROWS and not gaps.skip:
                break
        else:
            cells = [row[place] for place in places]
            yield read.named(cells) if read.told else cells[0] if len(places) == 1 else cells
    gaps.add(absent)


def _bare(cell: str) -> str:
    """Return a cell without the blanks and quotes around it."""
    cell = cell.strip(" ")
    return cell[1:-1].strip(" ") if cell[:1] in "'\"" and cell[:1] == cell[1:][-1:] else cell


def _table_lines(text: str) -> Iterator[str]:
    """Yield the lines of a table; comments are none."""
    return (line for line in filled_lines(text) if line.strip() and line.lstrip()[0] != "#")


def _cells(lines: Iterator[str], comma: str) -> Iterator[list[str]]:
    """Yield the cells of each row; without a comma of any kind blanks separate them."""
    nchars = 0
    first = ""

    def counted() -> Iterator[str]:
        nonlocal nchars, first
        for line in lines:
            first = first or line
            nchars += len(line)
            # A quote that is never closed makes one row of all lines.
            if nchars > _MAX_ROW:
                raise BadIdentifier(shortened(line), f"a row has more than {_MAX_ROW:,} characters")
            yield line

    try:
        each = counted()
        split = csv.reader(each, delimiter=comma, skipinitialspace=True) if comma else None
        for row in split or map(_TABLE_CELL.findall, each):
            nchars = 0
            yield [_bare(cell) for cell in row]
    except csv.Error as error:
        raise BadIdentifier(shortened(first), f"the table cannot be read: {error}") from error
