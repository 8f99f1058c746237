"""Text with identifiers of several contexts, each after the name of its own and a colon.

``sdss_dr17:299489676975171584`` states the context of all that follows the colon, to the end of
the line or to the next context. A pair as Python prints one, ``('sdss_dr17', 2994896769)``, says
the same. Identifiers without a context are of the context of the call.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import Final

from ..errors import BadIdentifier
from .id_names import IN_QUOTES, quoted, unquoted
from .id_tables import table_rows
from .id_text import IN_TUPLE, parse_id_text
from .id_tuple import IdPattern, filled_lines, too_many
from .ids import IdForm

_MARK: Final = re.compile(r"(?:(?<=[\s,\[(])|^)(['\"]?)([a-z][a-z0-9_]*):(?!//)")
_PAIR: Final = re.compile(r"[(\[]\s*['\"]([a-z][a-z0-9_]*)['\"]\s*,\s*")
_NAMED: Final = re.compile(rf"(\(\s*(?:[+-]?\d{{1,20}}|'\*'|\*)\s*,\s*)({IN_QUOTES})(?=\s*\))")
"""A tuple of an identifier and a name, which is never parsed."""
_OTHER_HALF: Final = {")": "(", "]": "[", "(": ")", "[": "]"}
_BETWEEN: Final = " \t,"
"""What separates identifiers on a line."""


@dataclass(slots=True)
class ContextIds:
    """Identifiers of one context among those of others."""

    context: str
    ids: list[int | IdPattern]
    places: list[int]
    """Position of each identifier in the caller's list, ascending."""


@dataclass(frozen=True, slots=True)
class ContextText:
    """A reader of text whose identifiers may state their contexts."""

    plain: str
    """Context of identifiers that state none."""
    form_of: Callable[[str], IdForm]
    """Form of the identifiers of a context; raises `UnknownContext`."""
    is_context: Callable[[str], bool]
    """Whether there is such a context."""
    _forms: dict[str, IdForm] = field(default_factory=dict, repr=False, compare=False)
    _known: dict[str, bool] = field(default_factory=dict, repr=False, compare=False)

    def read(self, text: str, limit: int | None = None) -> list[ContextIds]:
        """Return the identifiers that text names, by context, in the order of first mention.

        Parameters
        ----------
        limit : identifiers that the text may name; None: any number

        Raises
        ------
        BadIdentifier
            Text that names no spectrum.
        TooMuch
            More identifiers than ``limit``.
        UnknownContext
            There is no such context.
        """
        if not self.names_context(text):
            alone = parse_id_text(text, self._form(self.plain), limit=limit)
            return [ContextIds(self.plain, alone, list(range(len(alone))))]
        found: dict[str, ContextIds] = {}
        count = 0
        for context, value in self.split(text):
            ids = parse_id_text(value, self._form(context), limit=limit)
            some = found.setdefault(context, ContextIds(context, [], []))
            some.ids += ids
            some.places += range(count, count + len(ids))
            count += len(ids)
            if limit is not None and count > limit:
                raise too_many(limit)
        return list(found.values())

    def is_known(self, name: str) -> bool:
        """Return whether a word in the place of a context is one.

        Where spectra have names instead of numbers, only contexts that there are count.
        """
        form = self._form(self.plain)
        if form.numbers > 0 and not form.has_names:
            return True
        if name not in self._known:
            self._known[name] = self.is_context(name)
        return self._known[name]

    def _form(self, context: str) -> IdForm:
        """Return the form of the identifiers of a context, asked for once."""
        if context not in self._forms:
            self._forms[context] = self.form_of(context)
        return self._forms[context]

    def names_context(self, text: str) -> bool:
        """Return whether text states a context; cells of a table state none."""
        quoted = "'" in text or '"' in text
        if ":" not in text and not (quoted and _PAIR.search(text)):
            return False
        lines = filled_lines(self._without_pairs(text))
        if not any(True for line in lines for _ in self._marks(line.partition("#")[0])):
            return False
        form = self._form(self.plain)
        columns = map(str.lower, next(table_rows(text), []))
        return {form.column, form.parts[0]}.isdisjoint(columns)

    def split(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield context and text of each identifier or list; `plain` if none is stated.

        Raises `BadIdentifier` if nothing follows a context.
        """
        for whole in filled_lines(self._without_pairs(text)):
            line = whole.partition("#")[0]
            marks = self._marks(line)
            first = next(marks, None)
            if before := _bare(line[: first.start()] if first else line):
                yield self.plain, before
            for mark, after in pairwise(chain((first,), marks, (None,))):
                if mark is None:
                    break
                rest = line[mark.end() : after.start() if after else None]
                if mark[1]:
                    rest = rest.rpartition(mark[1])[0]
                if not (value := _bare(rest)):
                    reason = f"nothing follows {mark[2]}:{IN_TUPLE}"
                    raise BadIdentifier(whole.strip()[:60], reason)
                yield mark[2], value

    def _without_pairs(self, text: str) -> str:
        """Return text in which pairs, as Python prints them, are written with a colon."""

        def joined(pair: re.Match[str]) -> str:
            return f"{pair[1]}:" if self.is_known(pair[1]) else pair[0]

        if self._form(self.plain).has_names:
            text = _NAMED.sub(lambda it: it[1] + quoted(unquoted(it[2])), text)
        return _PAIR.sub(joined, text)

    def _marks(self, line: str) -> Iterator[re.Match[str]]:
        """Yield the places where a line states a context."""
        return (mark for mark in _MARK.finditer(line) if self.is_known(mark[2]))


def _bare(text: str) -> str:
    """Return text without separators, and without brackets that lack their other half."""
    text = text.strip(_BETWEEN)
    if text.isalnum():
        return text
    count = {bracket: text.count(bracket) for bracket in _OTHER_HALF}
    low, high = 0, len(text)

    def is_spare(bracket: str, kinds: str) -> bool:
        return bracket in kinds and count[bracket] > count[_OTHER_HALF[bracket]]

    while low < high and (text[high - 1] in _BETWEEN or is_spare(text[high - 1], ")]")):
        high -= 1
        count[text[high]] = count.get(text[high], 0) - 1
    while low < high and (text[low] in _BETWEEN or is_spare(text[low], "([")):
        count[text[low]] = count.get(text[low], 0) - 1
        low += 1
    return text[low:high]
