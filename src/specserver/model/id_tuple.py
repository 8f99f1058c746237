"""The tuple form of an identifier, with ranges, lists and wildcards, and its text.

Lists have some ten thousand tuples, whose parts repeat: parsed parts are cached.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

import numpy as np

from ..errors import BadIdentifier, TooMuch
from .id_names import MARKED, QUOTED, Word, name_of, quoted
from .ids import MAX_DIGITS, NUMBER, USUAL_FORM, IdForm

ID_FROM: Final = 2**32  # plate 1 packs to 2^50; no part of a tuple comes near
_KEPT_PARTS: Final = 2**14  # some MB; a survey has 1,000 fibres and some thousand plates and days
_KEPT_CHARS: Final = 128  # of a text part that is kept: longer ones would hold memory for ever
MAX_CHOICES: Final = 10_000
"""Ranges and values in one part of a tuple: more need tuples of their own."""

RANGE: Final = re.compile(r"([0-9]{1,20})(?:\s*-\s*([0-9]{1,20}))?")
"""A whole number, or a range of them."""
_WORD: Final = r"\w[\w.]{0,31}"
_TEXT = re.compile(_WORD, re.ASCII)
_VALUE = re.compile(r"[^\s\"',][^\r\n\"',]{0,254}")
_PRINTED = re.compile(
    r"(?!\w+://)(?:[^\s,()'\"#]*[/\\])?(?:(?:spec|plot|preview|grid|prospect)-)?"
    r"(?:([0-9]{1,6}(?:-[0-9]{1,6}){2,4}?)(?:-(v[0-9_]+|[0-9]+))?|([0-9]{10,20})(?=\.))"
    r"(?:\.[a-z]\w*){0,2}", re.ASCII | re.IGNORECASE,
)  # fmt: skip
_FILLED_LINE = re.compile(r"[^\n\r\v\f\x1c-\x1e\x85\u2028\u2029]+")


@dataclass(frozen=True, slots=True)
class Span:
    """Whole numbers from ``low`` to ``high``, both included."""

    low: int
    high: int

    def __post_init__(self) -> None:
        # A single number may be an identifier, and those may be negative.
        lowest = -(2**63) if self.low == self.high else 0
        if not lowest <= self.low <= self.high < 2**64:
            reason = "a range is low-high: 0 or more, the smaller first, within 64 bits"
            raise BadIdentifier(f"{self.low}-{self.high}", reason)

    @property
    def text(self) -> str:
        """The range as `parse_id_tuple` reads it."""
        # From 2^32 on, a bare number would make its tuple a list of identifiers.
        alone = self.low == self.high < ID_FROM
        return str(self.low) if alone else f"{self.low}-{self.high}"


Part: TypeAlias = tuple[Span, ...] | tuple[str, ...] | None
"""Values that one part of a tuple allows; None allows anything."""


@dataclass(frozen=True, slots=True)
class IdPattern:
    """The tuple form of an identifier, with ranges, lists and wildcards.

    The last parts are text, such as the reduction; the others are numbers, one of which is given.
    """

    parts: tuple[Part, ...]
    form: IdForm = USUAL_FORM
    told: tuple[tuple[str, str], ...] = ()
    """Names of columns and their values: it means the best of the spectra that have them."""

    def __post_init__(self) -> None:
        given = self.parts[: self.form.numbers] if self.form.has_reduction else self.parts
        if not any(given):
            reason = "it would name a whole survey; give at least one number, as in (1963, '*')"
            raise BadIdentifier(format_id(self), reason)

    @property
    def is_exact(self) -> bool:
        """Whether it names one spectrum: each part is one value, or the last is open and may be.

        An identifier with the last part also does, if that distinguishes its spectra.
        """
        if self.told:
            return True
        texts = self.parts[self.form.numbers :]
        if None in self.numbers or not texts:
            return None not in self.numbers
        *others, last = [part is not None and len(part) == 1 for part in texts]
        if last and self.form.last_open:
            return True
        open_ = texts[-1] is None and (self.form.has_reduction or self.form.last_open)
        return all(others) and (last or open_)

    def is_one(self, given: object) -> bool:
        """Return whether it names one spectrum, or is the name that a caller gave of an object."""
        return self.is_exact or (
            isinstance(given, str) and self.form.has_names and self.parts[0] is None
        )

    @property
    def nchoices(self) -> int:
        """1, and the number of ranges and values that its parts list beyond one each."""
        return 1 + sum(len(part) - 1 for part in self.parts if part is not None)

    @property
    def numbers(self) -> tuple[int | None, ...]:
        """The one value of each number; None where there are several."""
        return tuple([_only(part) for part in self.parts[: self.form.numbers]])


def parse_id_tuple(values: Sequence[object], form: IdForm = USUAL_FORM) -> IdPattern:
    """Read the tuple form of an identifier from its parts.

    Parameters
    ----------
    values : whole numbers, text such as ``'1-100'``, ``'1,5,9'`` or ``'26,103'``, ``'*'`` or None
        The last two allow anything, as do parts missing at the end.

    Raises
    ------
    BadIdentifier
        The tuple has too many parts, or a part is not of these forms.

    Examples
    --------
    >>> format_id(parse_id_tuple(("1962,1963", "*", 100, 26)))
    "('1962,1963', '*', 100, '26')"
    """
    whole = len(form.parts)
    parts: list[Part]
    told = _told(values[1:], form)
    if told and NUMBER.fullmatch(str(values[0]).strip()):
        parts = [_id_part(values[0]), *[None] * (whole - 1)]
        return IdPattern(tuple(parts), form, told)
    if not 1 <= len(values) <= whole:
        reason = f"a tuple has 1 to {whole} parts: {form.example}"
        raise BadIdentifier(shortened(values), reason)
    parts = []
    if form.leads_with_id:
        parts.append(_id_part(values[0]))
    parts += [_numbers_part(value) for value in values[len(parts) : form.numbers]]
    parts += [_text_part(value, form) for value in values[form.numbers :]]
    return IdPattern((*parts, *[None] * (whole - len(parts))), form)


def parse_printed(text: str, form: IdForm) -> int | IdPattern | None:
    """Read the name that pictures and files have for a spectrum; None for other text.

    ``267-51602-13`` and ``spec-0267-51602-0013.fits`` are the numbers of a tuple, in any case and
    folder; the reduction or the identifier may follow, as in names of files that would else be the
    same. A file may also be called after the identifier: ``plot-39627652595714901.png``.

    Examples
    --------
    >>> format_id(parse_printed("/data/spec-0267-51602-0013.fits", USUAL_FORM))
    '(267, 51602, 13)'
    """
    match = _PRINTED.fullmatch(text)
    if match is None or form.has_names:
        return None
    if number := match[3]:
        return int(number) if int(number) < 2**64 else None
    numbers, last = match[1].split("-"), (match[2] or "*").lower()
    if len(numbers) != form.numbers or not form.has_reduction:
        return None
    if last.isdecimal() and int(last) >= ID_FROM:
        return int(last)
    return parse_id_tuple([*numbers, last], form)


def leads_list(first: object) -> bool:
    """Return whether a tuple that begins with this is a list of identifiers, not one of them."""
    if type(first) is int:
        return not -ID_FROM < first < ID_FROM
    text = str(first).strip()
    return bool(NUMBER.fullmatch(text)) and not -ID_FROM < int(text) < ID_FROM


def is_tuple(cells: Sequence[object], form: IdForm) -> bool:
    """Return whether cells in round brackets are the parts of one identifier.

    They are a list of identifiers where the first is too large for a part, unless identifiers of
    the survey begin their tuples and no other cell looks like one.
    """
    if not leads_list(cells[0]) or is_named(cells, form):
        return True
    others = cells[1:]
    return (
        form.leads_with_id
        and len(others) > 0
        and (len(others) < len(form.parts) or bool(_told(others, form)))
        and not any(map(leads_list, others))
    )


def is_named(cells: Sequence[object], form: IdForm) -> bool:
    """Return whether cells are an identifier or ``'*'`` and a name: that is data, never parsed."""
    if not form.has_names or len(cells) != 2:
        return False
    first, name = cells
    is_first = first is None or isinstance(first, int | np.integer | Word)
    is_any = isinstance(first, str) and first.strip() == "*"
    return (is_first or is_any) and isinstance(name, str | bytes) and not isinstance(name, Word)


def too_many(limit: int) -> TooMuch:
    """Return the error of text that names more identifiers than a request may."""
    return TooMuch("identifiers", None, limit, "max_ids")


def parse_exact_lines(text: str, form: IdForm, limit: int | None) -> list[IdPattern] | None:
    """Read tuples without ranges, lists or wildcards, one a line, as `format_id` writes them.

    Returns None for any other text; for this one a tenth of the time of the whole grammar. Raises
    `TooMuch` when there are more than ``limit``.
    """
    if form.texts != 1 or form.leads_with_id:
        return None
    match = _exact_line(len(form.parts)).fullmatch
    found: list[IdPattern] = []
    for line in filled_lines(text):
        parts = match(line)
        if parts is not None:
            if limit is not None and len(found) >= limit:
                raise too_many(limit)
            *numbers, quoted, bare = parts.groups()
            exact = [_one_number(int(number)) for number in numbers]
            found.append(IdPattern((*exact, _text_part(quoted or bare, form)), form))
        else:
            return None
    return found or None


def filled_lines(text: str) -> Iterator[str]:
    """Yield the lines of text that are not empty, one at a time: a list could be very long."""
    return (match[0] for match in _FILLED_LINE.finditer(text))


def format_id(value: int | IdPattern, odd: re.Pattern[str] = QUOTED) -> str:
    """Return the identifier as one line of text, which `parse_id_text` reads as the same.

    ``odd`` are the characters of a name that are written as escapes.
    """
    if not isinstance(value, IdPattern):
        return str(int(value))
    if value.form.leads_with_id and (number := _only(value.parts[0])) is not None:
        # Without columns all parts are written: by itself the identifier would be no tuple.
        told = [f"'{name}={text}'" for name, text in value.told]
        rest = told or [_shown(part, odd) for part in value.parts[1:]]
        return f"({', '.join([str(number), *rest])})"
    shown = [_shown(part, odd) for part in value.parts]
    while len(shown) > 1 and shown[-1] == "'*'":
        shown.pop()
    return f"({shown[0]},)" if len(shown) == 1 else f"({', '.join(shown)})"


def format_ids(values: Sequence[int | IdPattern]) -> str:
    """Return identifiers as text, one a line, which `parse_id_text` reads as the same."""
    if set(map(type, values)) == {int}:
        return "\n".join(map(str, values))
    return "\n".join(map(marked_id, values))


def marked_id(value: int | IdPattern) -> str:
    """Return the identifier as `format_id` does, but fit to stand among contexts and comments."""
    return format_id(value, MARKED)


def shortened(given: object) -> str:
    """Return what was given as text for a message, cut where it is long."""
    text = given if isinstance(given, str) else repr(given)
    return text if len(text) <= 60 else text[:57] + "…"


def _told(values: Sequence[object], form: IdForm) -> tuple[tuple[str, str], ...]:
    """Return columns and values given as ``'name=value'``; empty unless all are."""
    if not form.told_by or form.has_names or not values:
        # A name may hold the sign.
        return ()
    if not isinstance(values[0], str) or "=" not in values[0]:
        return ()
    pairs = [str(value).partition("=") for value in values]
    known = {*form.told_by, *form.parts[1:]}
    told = tuple([(name.strip().lower(), value.strip()) for name, _, value in pairs])
    if not all(name in known for name, _ in told):
        return ()
    if not all(_VALUE.fullmatch(value) for _, value in told):
        reason = "a column's value is text without quotes and commas, up to 255 long"
        raise BadIdentifier(shortened(values), reason)
    return told


def _only(part: Part) -> int | None:
    """Return the one number that a part allows, or None."""
    if part is None or len(part) > 1 or not isinstance(part[0], Span):
        return None
    return part[0].low if part[0].low == part[0].high else None


def _shown(part: Part, odd: re.Pattern[str]) -> str:
    """Return a part as it stands in the text of a tuple; ``odd`` as for `format_id`."""
    number = _only(part)
    if number is not None and number < ID_FROM:
        return str(number)
    each = part or ("*",)
    text = ",".join(choice.text if isinstance(choice, Span) else choice for choice in each)
    return quoted(text, odd)


@lru_cache
def _exact_line(nparts: int) -> re.Pattern[str]:
    """Return the form of a tuple in which each number has one value, small beyond doubt."""
    numbers = ",".join([r"\s*([0-9]{1,9})\s*"] * (nparts - 1))
    last = rf"(?:,\s*(?:'({_WORD})'|({_WORD}))\s*)?"
    return re.compile(rf"\s*\({numbers}{last}\)\s*", re.ASCII)


@lru_cache(_KEPT_PARTS)
def _one_number(value: int) -> tuple[Span, ...]:
    """Return the part that allows one number."""
    return (Span(value, value),)


def _part_text(value: object) -> str | None:
    """Return a part as text, or None where it allows anything."""
    if value is None or (isinstance(value, str | bytes) and value.strip() in {"*", b"*", "None"}):
        return None
    if isinstance(value, bytes):
        return value.decode("ascii", "replace").strip()
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | np.integer):
        reason = "a part is a whole number, or text as '1-100' or '1,5,9'; not a float"
        raise BadIdentifier(shortened(value), reason)
    return str(value).strip()


def _numbers_part(value: object) -> tuple[Span, ...] | None:
    if (
        type(value) is str and len(value) <= MAX_DIGITS and value.isascii() and value.isdecimal()
    ) or isinstance(value, np.integer):
        value = int(value)
    if type(value) is int and value >= 0:
        return _one_number(value)
    text = _part_text(value)
    if text is None:
        return None
    reason = "this part is a whole number, a range '1-100', a list '1,5,9' or '*'"
    return _spans(text, RANGE, reason)


def _id_part(value: object) -> tuple[Span, ...] | None:
    """Return the part that is an identifier itself: one or a list of them, signed."""
    text = _part_text(value)
    reason = "the first part is an identifier, a list '1,5,9' of them or '*'"
    return None if text is None else _spans(text, NUMBER, reason)


def _spans(text: str, pattern: re.Pattern[str], reason: str) -> tuple[Span, ...]:
    """Return the numbers and ranges that a part lists; ``reason`` says what it must be."""
    matches = [pattern.fullmatch(choice.strip()) for choice in _listed(text)]
    spans = tuple([Span(int(m[1]), int(m[m.lastindex or 1])) for m in matches if m])
    if len(spans) < len(matches):
        raise BadIdentifier(shortened(text), reason)
    return spans


def _text_part(value: object, form: IdForm) -> tuple[str, ...] | None:
    if form.has_names and isinstance(value, str | bytes):
        name = name_of(value)
        return None if name is None else (name,)
    text = _part_text(value)
    if text is None or (not text and not form.has_reduction):
        return None
    made = _choices if len(text) <= _KEPT_CHARS else _choices.__wrapped__
    return made(text, form.has_reduction)


def _listed(text: str) -> list[str]:
    """Return what a part lists, with commas between."""
    listed = text.split(",", MAX_CHOICES)
    if len(listed) > MAX_CHOICES:
        raise TooMuch("ranges and values in one part of a tuple", None, MAX_CHOICES)
    return listed


@lru_cache(_KEPT_PARTS)
def _choices(text: str, is_reduction: bool) -> tuple[str, ...]:
    """Return the texts that a part allows."""
    texts = tuple(choice.strip() for choice in _listed(text))
    if not all(map((_TEXT if is_reduction else _VALUE).fullmatch, texts)) or "*" in texts:
        reason = "the last part is text as 26 or v5_13_2, or a list of it"
        if not is_reduction:
            reason = "this part is text without quotes and commas, up to 255 long, or a list"
        raise BadIdentifier(shortened(text), reason)
    return texts
