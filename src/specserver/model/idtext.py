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
from dataclasses import dataclass
from typing import Final

from ..errors import BadIdentifier, UnknownField
from .idpattern import (
    IdPattern,
    Part,
    Span,
    format_id,
    format_ids,
    is_range,
    is_tuple,
    leads_list,
    parse_exact_lines,
    parse_id_tuple,
    shortened,
)
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

_PART_BELOW: Final = 2**24  # mjd, the largest part, ends at 66383 in a packed identifier
_MAX_DIGITS: Final = 20  # of 2^64 - 1
_MAX_DEPTH: Final = 8  # a printed array of tuples has three
_OTHER_NAMES: Final = {"fiberid": ("fiber",)}

_NUMBER = re.compile(r"[+-]?[0-9]{1,20}")
_NAME = re.compile(r"[A-Za-z_]\w*")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eEdD][+-]?[0-9]+)?")
_MISSING: Final = frozenset({"", "none", "nan", "null", "nat", "<na>", "na", "masked", "--"})
_EMPTY_CELL = re.compile(r"(?:^|,)[ \t]*,", re.MULTILINE)
_SCALAR_REPR = re.compile(r"\b(?:np\.|numpy\.)?(?:u?int\d*|u?longlong|str_)\(([^()]*)\)")
_ARRAY_REPR = re.compile(r"(?:np\.|numpy\.)?array\((\[.*\])(?:,\s*dtype=[^()\[\]]*)?\)", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<newline>[\r\n]+) | (?P<blank>[^\S\r\n]+|\#[^\r\n]*) | (?P<comma>,)
    | (?P<open>[(\[]) | (?P<close>[)\]])
    | [bu]?(?P<quoted>'[^'\r\n]*'|"[^"\r\n]*") | (?P<word>[^\s,()\[\]'"#]+)""",
    re.VERBOSE,
)
_TABLE_CELL = re.compile(r'"[^"]*"|\S+')


@dataclass(frozen=True, slots=True)
class _Group:
    bracket: str
    items: "list[str | _Group]"


def parse_id_text(
    text: str, form: IdForm = USUAL_FORM, *, id_col: str | None = None
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

    Raises
    ------
    BadIdentifier
        Text that names no spectrum, or a list that was cut when it was printed.
    UnknownField
        A table without the column.
    """
    body = text.removeprefix("\ufeff")
    numbers = _plain_numbers(body)
    if numbers is not None:
        return list(numbers)
    tuples = parse_exact_lines(body, form)
    if tuples is not None:
        return list(tuples)
    table = _read_table(body, form, id_col)
    return _read_lines(body, form) if table is None else table


def id_columns(names: Sequence[str], form: IdForm, id_col: str | None) -> tuple[int, ...]:
    """Return the places of the columns that identify: one, or those of a tuple in their order.

    ``id_col`` must be there, in whatever case. Without it the survey's identifier is taken, or the
    numbers of its tuple form and the text after them, if there, or the only column. Where the
    identifier leads the tuple and all parts are there, or all but one that may be open, the tuple
    says more.
    """
    lower = [name.strip().lower() for name in names]
    found = [
        next((one for one in (part, *_OTHER_NAMES.get(part, ())) if one in lower), None)
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


def _read_number(text: str) -> int:
    """Return one identifier from its decimal text, signed or unsigned 64 bit."""
    bare = text.strip(" '\"")
    if _NUMBER.fullmatch(bare) and -(2**63) <= int(bare) < 2**64:
        return int(bare)
    reason = "write a whole number, or a tuple as in (1963, 54331, 19)"
    if bare.lower() in _MISSING:
        reason = "the value is missing; leave such rows out"
    elif bare.lstrip("+-").isdecimal():
        reason = "a number here has at most 64 bits"
    elif _FLOAT.fullmatch(bare):
        reason = "a float has lost the last digits; give whole numbers or text"
    elif bare == "*" or is_range(bare):
        reason = "ranges, lists and '*' stand within a tuple, as in (1963, 54331, '1-100')"
    raise BadIdentifier(shortened(text), reason)


def _plain_numbers(text: str) -> list[int] | None:
    """Return the numbers of a text that holds nothing else, or None to have it read in full."""
    body = text.strip()
    is_list = body.startswith("[") and body.endswith("]")
    body = body[1:-1] if is_list else body
    # On 2 MB of digits translate takes 3 ms, a regular expression 20.
    if not body.isascii() or body.encode().translate(None, b"0123456789+- \t\r\n,"):
        return None
    words = body.replace(",", " ").split()
    if max(map(len, words), default=0) > _MAX_DIGITS or ("," in body and _EMPTY_CELL.search(body)):
        return None
    try:
        numbers = list(map(int, words))
    except ValueError:
        return None
    if numbers and (min(numbers) < -(2**63) or max(numbers) >= 2**64):
        return None
    if is_list or words == body.splitlines() or not any(0 <= n < _PART_BELOW for n in numbers):
        return numbers
    return None


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise BadIdentifier(shortened(text[place:]), "the quote is never closed")
        kind, place = match.lastgroup or "", match.end()
        token = match[kind]
        if kind == "word" and ("..." in token or "…" in token):
            reason = "the list was cut when it was printed; send all of it"
            raise BadIdentifier(shortened(text), reason)
        if kind != "blank":
            yield kind, token


def _lines(text: str) -> list[list[str | _Group]]:
    """Return the cells and groups of each line; a group belongs to the line that it begins on."""
    lines: list[list[str | _Group]] = [[]]
    groups: list[_Group] = []
    comma_bad = True
    for kind, token in _tokens(text):
        items = groups[-1].items if groups else lines[-1]
        if kind == "comma" and comma_bad:
            raise BadIdentifier(shortened(text), "there is an empty place before a comma")
        if kind == "newline":
            if groups:
                continue
            lines.append([])
        elif kind == "open":
            groups.append(_Group(token, []))
            items.append(groups[-1])
            if len(groups) > _MAX_DEPTH:
                raise BadIdentifier(shortened(text), "brackets are nested too deeply")
        elif kind == "close":
            if not groups or groups.pop().bracket + token not in {"()", "[]"}:
                raise BadIdentifier(shortened(text), f"{token!r} closes no bracket")
        elif kind in {"word", "quoted"}:
            items.append(token if kind == "word" else token[1:-1].strip())
        comma_bad = kind in {"comma", "open", "newline"}
    if groups:
        raise BadIdentifier(shortened(text), f"{groups[-1].bracket!r} is never closed")
    return lines


def _read_lines(text: str, form: IdForm) -> list[int | IdPattern]:
    bare = text.strip()
    array = _ARRAY_REPR.fullmatch(bare)
    found: list[int | IdPattern] = []
    for items in _lines(_SCALAR_REPR.sub(r"\1", array[1] if array else bare)):
        cells = [item for item in items if isinstance(item, str)]
        if len(cells) == len(items) and _is_bare_tuple(cells, form):
            found.append(parse_id_tuple(cells, form))
        else:
            found.extend(one for item in items for one in _read_item(item, form))
    return found


def _is_bare_tuple(cells: Sequence[str], form: IdForm) -> bool:
    """Return whether a line without brackets is one tuple: see the head of this module."""
    if len(cells) < 2 or not form.numbers or not is_tuple(cells, form):
        return False
    if all(_NUMBER.fullmatch(cell) for cell in cells):
        small = all(0 <= int(cell) < _PART_BELOW for cell in cells)
        return small and form.numbers <= len(cells) <= len(form.parts)
    return all(_NUMBER.fullmatch(cell) or not _FLOAT.fullmatch(cell) for cell in cells)


def _read_item(item: str | _Group, form: IdForm, *, nested: bool = False) -> list[int | IdPattern]:
    """Return the identifiers of a cell or a group."""
    if isinstance(item, str):
        if not form.numbers and not _FLOAT.fullmatch(item) and "*" not in item:
            # Spectra that are named rather than numbered.
            return [parse_id_tuple([item], form)]
        # Only what stood in quotes holds separators: a table's column of tuples.
        is_text = any(mark in item for mark in "(, ")
        return _read_lines(item, form) if is_text else [_read_number(item)]
    cells = [one for one in item.items if isinstance(one, str)]
    may_be_tuple = len(cells) == len(item.items) > 0 and (nested or item.bracket == "(")
    if may_be_tuple and is_tuple(cells, form):
        return [parse_id_tuple(cells, form)]
    return [found for one in item.items for found in _read_item(one, form, nested=True)]


def _read_table(text: str, form: IdForm, id_col: str | None) -> list[int | IdPattern] | None:
    """Return the identifiers of a table with a header line, or None when there is no header."""
    lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]
    comma = next((one for one in ",\t;|" if lines and one in lines[0]), "")
    rows = _cells(lines, comma)
    names = next(rows, [])
    known = {(id_col or form.column).lower(), form.parts[0]}
    if known.isdisjoint(name.lower() for name in names):
        may_be_header = len(lines) > 1 and all(_NAME.fullmatch(name) for name in names if name)
        # Where spectra have names, names of columns look like them.
        if not form.numbers or not may_be_header:
            return None
    places = id_columns(names, form, id_col)
    found: list[int | IdPattern] = []
    for row in rows:
        if len(row) <= max(places):
            raise BadIdentifier(shortened(comma.join(row)), f"the row has not all of {names}")
        if len(places) == 1:
            found.extend(_read_item(row[places[0]], form))
        else:
            found.append(parse_id_tuple([row[place] for place in places], form))
    return found


def _cells(lines: Sequence[str], comma: str) -> Iterator[list[str]]:
    """Yield the cells of each row; without a comma of any kind blanks separate them."""
    try:
        split = csv.reader(lines, delimiter=comma, skipinitialspace=True) if comma else None
        for row in split or map(_TABLE_CELL.findall, lines):
            yield [cell.strip(" '\"") for cell in row]
    except csv.Error as error:
        raise BadIdentifier(shortened(lines[0]), f"the table cannot be read: {error}") from error
