"""Identifiers as text: numbers, tuples, ranges, lists, wildcards and tables of them.

Grammar, where blanks separate as commas do and ``#`` starts a comment::

    text   = table | { line }
    table  = a header line with the id column, or the columns of a tuple, then its rows
    line   = { number | group }  |  a tuple without its brackets
    group  = "[" … "]" | "(" … ")"
    part   = number | low-high | several of these with commas, in quotes | "*"

A number has 64 bits, signed or unsigned. What a group means:

* a group that holds groups is a list of identifiers, and a group within it is a tuple;
* ``[…]`` of cells is a list of numbers; ``(…)`` of cells is one tuple, unless its first cell is
  2^32 or more in size, an identifier itself: then it is a list too.

A line without brackets is one tuple when it has a cell that is no number (``4055,55359,408,v5_7_0``
or ``1963,54331,*``), or when it has as many numbers as a tuple, with or without the last part, and
all are below 2^24: too small for an identifier, large enough for a plate or a day. Any other line
is a list of numbers. So ``4055, 55359, 408`` is a tuple, and ``[4055, 55359, 408]`` three numbers.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final

from ..errors import BadIdentifier
from .idgaps import Gaps
from .idgroups import MISSING, PART_BELOW, IdReader, too_many
from .idpattern import (
    IdPattern,
    Part,
    Span,
    filled_lines,
    format_id,
    format_ids,
    is_tuple,
    leads_list,
    parse_exact_lines,
    parse_id_tuple,
    shortened,
)
from .idrows import id_columns, row_form
from .ids import USUAL_FORM, IdForm

__all__ = [
    "USUAL_FORM",
    "IdForm",
    "IdPattern",
    "Part",
    "Span",
    "format_id",
    "format_ids",
    "id_columns",
    "is_tuple",
    "leads_list",
    "parse_id_text",
    "parse_id_tuple",
]

_MAX_DIGITS: Final = 20  # of 2^64 - 1
_MAX_ROW: Final = 2**20
"""Characters of a table's row: catalogues have some hundred columns."""
_NAME = re.compile(r"[A-Za-z_]\w*")
_EMPTY_CELL = re.compile(r"(?:^|,)[ \t]*,", re.MULTILINE)
_NAMED_ROWS: Final = 10  # those without an identifier that a message names
_TABLE_CELL = re.compile(r'"[^"]*"|\S+')


def parse_id_text(
    text: str,
    form: IdForm = USUAL_FORM,
    *,
    id_col: str | None = None,
    limit: int | None = None,
    gaps: Gaps | None = None,
) -> list[int | IdPattern]:
    """Read identifiers from text: lists, tuples, tables, one a line or many.

    Parameters
    ----------
    text :
        As the grammar at the head of this module says; a byte order mark, Windows line ends,
        blank lines and comments are passed over.
    form :
        What identifiers of the survey look like.
    id_col :
        As for `id_columns`, in a table; without effect on text that is none.
    limit :
        Identifiers that text may name; each range and each choice within a tuple counts as one.
        Whatever the text, no more memory is taken than for so many.
    gaps :
        What becomes of rows of a table without an identifier; None: they are refused.

    Raises
    ------
    BadIdentifier
        Text that names no spectrum, or a list that was cut when it was printed.
    NoIdentifier
        Rows of a table that have none.
    UnknownField
        A table without the column.
    TooMuch
        Text that names more identifiers than ``limit``.
    """
    body = text.removeprefix("\ufeff")
    numbers = _plain_numbers(body, limit)
    if numbers is not None:
        return list(numbers)
    tuples = parse_exact_lines(body, form, limit)
    if tuples is not None:
        return list(tuples)
    reader = IdReader(form, limit)
    if not _read_table(body, reader, id_col, gaps or Gaps()):
        reader.read(body)
    return reader.found


def _plain_numbers(text: str, limit: int | None) -> list[int] | None:
    """Return the numbers of a text that holds nothing else, or None to have it read in full."""
    body = text.strip()
    is_list = body.startswith("[") and body.endswith("]")
    body = body[1:-1] if is_list else body
    # On 2 MB of digits translate takes 3 ms, a regular expression 20.
    if not body.isascii() or body.encode().translate(None, b"0123456789+- \t\r\n,"):
        return None
    # What is beyond the limit stays in one piece.
    words = body.replace(",", " ").split(None, -1 if limit is None else limit)
    if limit is not None and len(words) > limit:
        raise too_many(limit)
    if max(map(len, words), default=0) > _MAX_DIGITS or ("," in body and _EMPTY_CELL.search(body)):
        return None
    try:
        numbers = list(map(int, words))
    except ValueError:
        return None
    if numbers and (min(numbers) < -(2**63) or max(numbers) >= 2**64):
        return None
    if is_list or not any(0 <= n < PART_BELOW for n in numbers) or _one_a_line(body, words):
        return numbers
    return None


def _one_a_line(body: str, words: Sequence[str]) -> bool:
    """Return whether each line is one of the words."""
    # Counted first: lines that are empty could be very many.
    nlines = max(body.count("\n"), body.count("\r")) + 1
    return nlines <= len(words) and words == body.splitlines()


def _read_table(text: str, reader: IdReader, id_col: str | None, gaps: Gaps) -> bool:
    """Read the identifiers of a table with a header line; return False when there is no header."""
    form = reader.form
    first, second = islice(chain(_table_lines(text), ("", "")), 2)
    if len(first) > _MAX_ROW:
        return False
    comma = next((one for one in ",\t;|" if one in first), "")
    rows = _cells(_table_lines(text), comma)
    names = next(rows, [])
    known = {(id_col or form.column).lower(), form.parts[0]}
    if known.isdisjoint(name.lower() for name in names):
        may_be_header = second and all(_NAME.fullmatch(name) for name in names if name)
        # Where spectra have names, names of columns look like them.
        if not form.numbers or not may_be_header:
            return False
    read = row_form(names, form, id_col)
    places, needed = read.places, read.places[: read.needed]
    # Where spectra have names, a word such as 'na' may be one.
    blank = MISSING if form.numbers else {""}
    absent: list[int] = []
    for number, row in enumerate(rows):
        if len(row) <= max(places):
            raise BadIdentifier(shortened(comma.join(row)), f"the row has not all of {names}")
        if any(row[place].lower() in blank for place in needed):
            absent.append(number)
            if len(absent) > _NAMED_ROWS and not gaps.skip:
                break
        else:
            cells = [row[place] for place in places]
            one = read.named(cells) if read.told else cells[0] if len(places) == 1 else cells
            if isinstance(one, str):
                reader.read_cell(one)
            else:
                reader.read_tuple(one)
    gaps.add(absent)
    return True


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
            yield [cell.strip(" '\"") for cell in row]
    except csv.Error as error:
        raise BadIdentifier(shortened(first), f"the table cannot be read: {error}") from error
