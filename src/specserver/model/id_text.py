"""Identifiers as text: numbers, tuples, ranges, lists, wildcards and tables of them.

Grammar, where blanks separate as commas do and ``#`` starts a comment::

    text   = table | { line }
    table  = a header line with the id column, or the columns of a tuple, then its rows
    line   = { number | group }  |  a tuple without its brackets
    group  = "[" … "]" | "(" … ")"
    part   = number | low-high | several of these with commas, in quotes | "*"

A name that pictures and files have (`parse_printed`), or that an object of a survey with names has,
stands for its tuple.

A number has 64 bits, signed or unsigned. Meaning of a group:

* a group that holds groups is a list of identifiers, and a group within it is a tuple;
* ``[…]`` of cells is a list of numbers; ``(…)`` of cells is one tuple, unless its first cell is
  2^32 or more in size, an identifier itself: then it is a list too.

A line without brackets is one tuple when it has a cell that is no number (``4055,55359,408,v5_7_0``
or ``1963,54331,*``), or when it has as many numbers as a tuple, with or without the last part, and
all are below 2^24: too small for an identifier, large enough for a plate or a day. Any other line
is a list of numbers. So ``4055, 55359, 408`` is a tuple, and ``[4055, 55359, 408]`` three numbers.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from sys import maxsize
from typing import Final

from ..errors import BadIdentifier
from .id_names import IN_QUOTES, Word, unquoted
from .id_tables import MISSING, Gaps, read_table
from .id_tuple import (
    RANGE,
    IdPattern,
    filled_lines,
    is_tuple,
    parse_exact_lines,
    parse_id_tuple,
    parse_printed,
    shortened,
    too_many,
)
from .ids import FLOAT, MAX_DIGITS, NUMBER, USUAL_FORM, IdForm

_EMPTY_CELL = re.compile(r"(?:^|,)[ \t]*,", re.MULTILINE)
PART_BELOW: Final = 2**24
"""Below it a number may be a part: mjd, the largest, ends at 66383 in a packed identifier."""

_GROUPED: Final = re.compile(r"[()\[\]]|(?:^|[\s,])[\"']", re.MULTILINE)
"""Brackets, or quotes that open."""
IN_TUPLE: Final = "; any name of a spectrum can stand in a tuple: ('*', 'name')"
_MAX_DEPTH: Final = 8  # a printed array of tuples has three
_SCALAR_REPR = re.compile(r"\b(?:np\.|numpy\.)?(?:u?int\d*|u?longlong|str_)\(([^()]*)\)")
_ARRAY_REPR = re.compile(r"(?:np\.|numpy\.)?array\((\[.*\])(?:,\s*dtype=[^()\[\]]*)?\)", re.DOTALL)
_TOKEN = re.compile(
    rf"""(?P<newline>[\r\n]+) | (?P<blank>[^\S\r\n]+|\#[^\r\n]*) | (?P<comma>,)
    | (?P<open>[(\[]) | (?P<close>[)\]])
    | [bu]?(?P<quoted>{IN_QUOTES})
    | (?P<word>[^\s,()\[\]'"#]+)""",
    re.VERBOSE,
)


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
    text : as the grammar at the head of this module says
        A byte order mark, Windows line ends, blank lines and comments are passed over.
    id_col : as for `id_columns`, in a table; without effect on text that is none
    limit : identifiers that text may name; each range and choice within a tuple counts as one
        Whatever the text, no more memory is taken than for so many.
    gaps : what becomes of rows of a table without an identifier; None: they are refused

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
    reader = _IdReader(form, limit)
    table = read_table(body, form, id_col, gaps or Gaps())
    if table is None:
        try:
            if form.has_names and not _GROUPED.search(body):
                reader.read_names(body)
            else:
                reader.read(body)
        except BadIdentifier as error:
            if form.has_names:
                raise error.saying(error.message + IN_TUPLE, *error.settings) from error
            raise
        return reader.found
    for named in table:
        if isinstance(named, str):
            reader.read_cell(named)
        else:
            reader.read_tuple(named)
    return reader.found


def is_list_text(text: str, found: Sequence[int | IdPattern]) -> bool:
    """Return whether text is the text of a list, though it may hold one identifier only."""
    bare = "".join(text.split(" "))
    return (
        "\n" in bare.strip()
        or bare.startswith(("[", "(("))
        or (bare.startswith("(") and len(found) == 1 and isinstance(found[0], int))
    )


def _plain_numbers(text: str, limit: int | None) -> list[int] | None:
    """Return the numbers of a text that holds nothing else, or None to have it read in full."""
    body = text.strip()
    is_list = body.startswith("[") and body.endswith("]")
    body = body[1:-1] if is_list else body
    # On 2 MB of digits translate takes 3 ms, a regular expression 20.
    if not body.isascii() or body.encode().translate(None, b"0123456789+- \t\r\n,"):
        return None
    # Words beyond the limit stay in one piece.
    words = body.replace(",", " ").split(None, -1 if limit is None else limit)
    if limit is not None and len(words) > limit:
        raise too_many(limit)
    if max(map(len, words), default=0) > MAX_DIGITS or ("," in body and _EMPTY_CELL.search(body)):
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
    # Counted first: text may have very many empty lines.
    nlines = max(body.count("\n"), body.count("\r")) + 1
    return nlines <= len(words) and words == body.splitlines()


@dataclass(slots=True)
class _Group:
    """A bracket that is open, or a line: cells that may yet be one tuple."""

    bracket: str
    cells: list[str] = field(default_factory=list)
    is_list: bool = False
    """It holds a group, so it is no tuple and its cells are identifiers."""


class _IdReader:
    """Reads identifiers into `found`; parameters: those of `parse_id_text`."""

    def __init__(self, form: IdForm, limit: int | None) -> None:
        self.form = form
        self.found: list[int | IdPattern] = []
        self._limit = maxsize if limit is None else limit
        self._count = 0
        # A tuple in brackets on its own line has its parts, their commas and two brackets.
        self._ntokens = self._limit * (2 * len({*form.parts, *form.told_by}) + 4)

    def read(self, text: str) -> None:
        """Read the identifiers of lines and brackets."""
        bare = text.strip()
        array = _ARRAY_REPR.fullmatch(bare)
        body = _SCALAR_REPR.sub(r"\1", array[1] if array else bare)
        open_ = [_Group("")]
        word = Word if self.form.has_names else str
        comma_bad = True
        for kind, token in self._tokens(body):
            if kind == "comma" and comma_bad:
                raise BadIdentifier(shortened(body), "there is an empty place before a comma")
            if kind == "newline":
                if len(open_) > 1:
                    continue
                self._end_line(open_.pop())
                open_.append(_Group(""))
            elif kind == "open":
                self._flush(open_[-1])
                open_[-1].is_list = True
                open_.append(_Group(token))
                if len(open_) > _MAX_DEPTH + 1:
                    raise BadIdentifier(shortened(body), "brackets are nested too deeply")
            elif kind == "close":
                if len(open_) == 1 or open_[-1].bracket + token not in {"()", "[]"}:
                    raise BadIdentifier(shortened(body), f"{token!r} closes no bracket")
                self._end_group(open_.pop(), nested=len(open_) > 1)
            elif kind in {"word", "quoted"}:
                self._hold(open_[-1], word(token) if kind == "word" else unquoted(token))
            comma_bad = kind in {"comma", "open", "newline"}
        if len(open_) > 1:
            raise BadIdentifier(shortened(body), f"{open_[-1].bracket!r} is never closed")
        self._end_line(open_[-1])

    def read_names(self, text: str) -> None:
        """Read identifiers of a survey whose spectra have names: blanks may be part of one."""
        for line in filled_lines(text):
            cells = [cell.strip() for cell in line.partition("#")[0].split(",", self._limit)]
            named = [cell for cell in cells if not all(map(_is_value, cell.split()))]
            if named and not _is_value(cells[0]):
                for cell in cells:
                    self.read_cell(cell)
            else:
                # Numbers, or a tuple.
                self.read(line)

    def read_cell(self, cell: str) -> None:
        """Read one cell: an identifier, or, where it stood in quotes, text with several."""
        if not self.form.numbers and not FLOAT.fullmatch(cell) and "*" not in cell:
            # Spectra that are named rather than numbered.
            self.read_tuple([cell])
        elif (printed := parse_printed(cell, self.form)) is not None:
            self._keep(printed, 1)
        elif self.form.has_names and not (_is_value(cell) or "(" in cell or "," in cell):
            self.read_tuple(["*", cell])
        elif any(mark in cell for mark in "(, "):
            # Only what stood in quotes holds separators: a table's column of tuples.
            self.read(cell)
        else:
            self._keep(_read_number(cell), 1)

    def read_tuple(self, cells: Sequence[str]) -> None:
        """Read the parts of one tuple."""
        pattern = parse_id_tuple(cells, self.form)
        self._keep(pattern, pattern.nchoices)

    def _keep(self, identifier: int | IdPattern, count: int) -> None:
        self._count += count
        if self._count > self._limit:
            raise too_many(self._limit)
        self.found.append(identifier)

    def _hold(self, group: _Group, cell: str) -> None:
        group.cells.append(cell)
        held = len(group.cells)
        if held > len(self.form.parts) and self._count + held > self._limit:
            raise too_many(self._limit)

    def _flush(self, group: _Group) -> None:
        """Read the cells of a group that is not a tuple."""
        for cell in group.cells:
            self.read_cell(cell)
        group.cells.clear()

    def _end_line(self, line: _Group) -> None:
        if not line.is_list and self._is_bare_tuple(line.cells):
            self.read_tuple(line.cells)
        else:
            self._flush(line)

    def _end_group(self, group: _Group, *, nested: bool) -> None:
        may_be_tuple = group.cells and not group.is_list and (nested or group.bracket == "(")
        if may_be_tuple and is_tuple(group.cells, self.form):
            self.read_tuple(group.cells)
        else:
            self._flush(group)

    def _is_bare_tuple(self, cells: Sequence[str]) -> bool:
        """Return whether a line without brackets is one tuple: see the head of this module."""
        form = self.form
        if len(cells) < 2 or not form.numbers or not is_tuple(cells, form):
            return False
        if any(parse_printed(cell, form) is not None for cell in cells):
            return False
        if all(NUMBER.fullmatch(cell) for cell in cells):
            small = all(0 <= int(cell) < PART_BELOW for cell in cells)
            return small and form.numbers <= len(cells) <= len(form.parts)
        return all(NUMBER.fullmatch(cell) or not FLOAT.fullmatch(cell) for cell in cells)

    def _tokens(self, text: str) -> Iterator[tuple[str, str]]:
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise BadIdentifier(shortened(text[place:]), "the quote is never closed")
            self._ntokens -= 1
            if self._ntokens < 0:
                raise too_many(self._limit)
            kind, place = match.lastgroup or "", match.end()
            token = match[kind]
            if kind == "word" and ("..." in token or "…" in token):
                reason = "the list was cut when it was printed; send all of it"
                raise BadIdentifier(shortened(text), reason)
            if kind != "blank":
                yield kind, token


def _is_value(cell: str) -> bool:
    """Return whether a cell is a number, a wildcard or a missing value rather than a name."""
    return bool(FLOAT.fullmatch(cell)) or cell == "*" or cell.lower() in MISSING


def _read_number(text: str) -> int:
    """Return one identifier from its decimal text, signed or unsigned 64 bit."""
    bare = text.strip(" '\"")
    if NUMBER.fullmatch(bare) and -(2**63) <= int(bare) < 2**64:
        return int(bare)
    reason = "write a whole number, or a tuple as in (1963, 54331, 19)"
    if bare.lower() in MISSING:
        reason = "the value is missing; leave such rows out"
    elif bare.isascii() and bare.lstrip("+-").isdecimal():
        reason = "a number here has at most 64 bits"
    elif FLOAT.fullmatch(bare):
        reason = "a float has lost the last digits; give whole numbers or text"
    elif bare == "*" or RANGE.fullmatch(bare):
        reason = "ranges, lists and '*' stand within a tuple, as in (1963, 54331, '1-100')"
    raise BadIdentifier(shortened(text), reason)
