"""Identifiers that say which context they are of, alone or among others that do not.

==============================================  ========================================
given                                           read as
==============================================  ========================================
text, ``'sdss_dr17:299489676975171584'``        what stands behind the colon, of that context;
                                                it holds to the end of the line or to the next
tuple or short row, ``('sdss_dr17', id)``       likewise; ``id`` in any form
table with a column ``context``                 ids of these contexts: of ``id_col``, or of the
                                                column ``id``, or of those of the context
list, array, text or file of any of these       a list; those that say nothing are of the call's
==============================================  ========================================

What says of no context is left to `identifiers`, after a glance: lists of numbers cost nothing.
Where spectra have names instead of numbers, only names of contexts that there are count as such.
"""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from os import PathLike
from typing import Any, Final

import numpy as np

from ...errors import BadIdentifier, BadParameter, UnknownField
from ...model.id_contexts import ContextText
from ...model.id_tables import Gaps, RowForm, is_missing, needed_parts, row_form
from ...model.id_text import parse_id_text
from ...model.id_tuple import IdPattern, format_id, format_ids
from ...model.ids import IdForm
from ..messages import warn_gaps, warn_shared
from ..request import RequestOptions
from ..session import Session
from ..storage import Storage
from .id_files import ReadVos, file_content
from .identifiers import (
    are_numbers,
    is_list_text,
    is_shared,
    read_identifiers,
    row_of,
    table_of,
)
from .other_contexts import raise_explained

ONE_OR_MORE: Final = "one spectrum or more: identifiers in any form, or a file or table of them"
"""What to give, in errors about empty lists."""

_CONTEXT: Final = "context"
_ID: Final = "id"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_DELIMITERS: Final = ",\t;|"

Ids = Sequence[int | IdPattern]
_Piece = tuple[str, Any]
"""Context, and what names a spectrum or several of it."""


@dataclass(frozen=True, slots=True)
class Named:
    """Identifiers, and which context each is of."""

    ids: Ids
    single: bool
    """Whether one spectrum was named by itself, not as a list."""
    contexts: list[str] | None = None
    """One each; None: all are of the context of the call."""

    @property
    def several(self) -> list[str]:
        """The contexts, each once, in the order of their first identifiers."""
        return list(dict.fromkeys(self.contexts or ()))

    @property
    def text(self) -> str:
        """The identifiers as a request states them; of several contexts, each with its own."""
        if len(self.several) < 2:
            return format_ids(self.ids)
        pairs = zip(self.contexts or (), self.ids, strict=True)
        return "\n".join(f"{context}:{format_id(one)}" for context, one in pairs)

    def within(self, options: RequestOptions) -> RequestOptions:
        """Return the options with the context of the identifiers, if all are of one."""
        several = self.several
        return replace(options, context=several[0]) if len(several) == 1 else options


def read_ids(session: Session, given: Any, id_col: str | None, options: RequestOptions) -> Named:
    """Return the identifiers in what a caller gave, and which context each is of.

    Raises
    ------
    BadIdentifier, NoIdentifier, UnknownField
        As `Naming.read`.
    """
    if isinstance(given, Named):
        return given
    naming = Naming(
        plain=options.context or session.context,
        form_of=session.id_form,
        is_context=session.has_context,
        read_vos=partial(Storage(session).get, token=options.token),
        id_col=id_col,
        gaps=Gaps(skip=options.missing == "skip"),
    )
    try:
        named = naming.read(given)
    except (UnknownField, BadIdentifier) as error:
        row = row_of(given)
        names = row[0] if row else getattr(error, "known", ())
        if names and not id_col:
            raise_explained(session, error, names, naming.plain)
        raise
    if naming.gaps.rows:
        warn_gaps(naming.gaps.rows)
    if is_shared(given):
        warn_shared()
    return named


def read_ids_of_one(
    session: Session, given: Any, id_col: str | None, options: RequestOptions, what: str
) -> Named:
    """Return identifiers of one context.

    Raises
    ------
    BadParameter
        There are none, or they are of several contexts, which ``what`` cannot show together.
    """
    named = read_ids(session, given, id_col, options)
    if not named.ids:
        raise BadParameter("id_list", "an empty list", f"{what} takes {ONE_OR_MORE}")
    if len(named.several) > 1:
        allowed = (
            f"{what} takes spectra of one context; call it for each, or show several together"
            " with plot([a, b]) or prospect"
        )
        raise BadParameter("context", ", ".join(named.several), allowed)
    return named


@dataclass(frozen=True, slots=True)
class Naming:
    """How identifiers are read that may be of several contexts."""

    plain: str
    """Context of those that say nothing."""
    form_of: Callable[[str], IdForm]
    """What the identifiers of a context look like."""
    is_context: Callable[[str], bool]
    """Whether the service has such a context."""
    read_vos: ReadVos
    id_col: str | None = None
    gaps: Gaps = field(default_factory=Gaps)
    """What becomes of rows without an identifier."""

    @property
    def _text(self) -> ContextText:
        """How text is read."""
        return ContextText(self.plain, self.form_of, self.is_context)

    def read(self, given: object) -> Named:
        """Return the identifiers in what a caller gave.

        Raises
        ------
        BadIdentifier
            Something in it names no spectrum.
        NoIdentifier
            Rows that have none.
        UnknownField
            A table without the column.
        """
        if are_numbers(given):
            return Named(*read_identifiers(given, self.id_col, gaps=self.gaps))
        if isinstance(given, Iterator):
            given = list(given)
        if isinstance(given, bytes | bytearray):
            given = bytes(given).decode("utf-8-sig", "replace")
        if isinstance(given, str | PathLike):
            return self._read_text(given)
        row = self._row(given)
        if row is not None:
            return self._named([row], single=True)
        if isinstance(given, list | tuple) and self._is_pair(given):
            return self._named([(given[0], given[1])], single=True)
        pieces = self._many(given)
        return self._left(given) if pieces is None else self._named(pieces, single=False)

    def _left(self, given: object) -> Named:
        """Return identifiers of which none says which context it is of."""
        found = read_identifiers(
            given,
            self.id_col,
            form=self.form_of(self.plain),
            read_vos=self.read_vos,
            gaps=self.gaps,
        )
        return Named(*found)

    def _read_text(self, given: str | PathLike[str]) -> Named:
        """Return the identifiers of text, or of the file that it names."""
        held = file_content(given, self.read_vos)
        if held is not None and not isinstance(held, str):
            pieces = self._many(held)
            return self._left(held) if pieces is None else self._named(pieces, single=False)
        text = str(given) if held is None else held
        table = self._table(text)
        if table is not None:
            return self._named(table, single=False)
        if self._text.names_context(text):
            pieces = list(self._text.split(text))
            alone = held is None and len(pieces) == 1 and not text.lstrip().startswith("[")
            return self._named(pieces, single=alone and "\n" not in text.strip())
        if held is None:
            return self._left(given)
        # Not read a second time: it may have come over the network.
        form = self.form_of(self.plain)
        return Named(parse_id_text(held, form, id_col=self.id_col, gaps=self.gaps), False)

    def _named(self, pieces: Sequence[_Piece], *, single: bool) -> Named:
        """Return the identifiers that pieces hold, in their order."""
        held: dict[str, list[Any]] = {}
        for context, value in pieces:
            held.setdefault(context, []).append(value)
        read = {context: iter(self._of(context, values)) for context, values in held.items()}
        ids: list[int | IdPattern] = []
        contexts: list[str] = []
        for context, _ in pieces:
            found = next(read[context])
            ids += found
            contexts += [context] * len(found)
        alone = single and len(ids) == 1 and (isinstance(ids[0], int) or ids[0].is_exact)
        if alone and isinstance(pieces[0][1], str):
            alone = not is_list_text(pieces[0][1], ids)
        return Named(ids, alone, contexts)

    def _of(self, context: str, values: list[Any]) -> list[Ids]:
        """Return the identifiers in each of some values of one context."""
        numbers = [int(one) if type(one) is str and one.isdecimal() else one for one in values]
        if set(map(type, numbers)) == {int}:
            return [[one] for one in read_identifiers(numbers)[0]]
        form = self.form_of(context)
        # As a member of a list, text is no name of a file.
        return [read_identifiers([one], self.id_col, form=form)[0] for one in values]

    def _is_pair(self, value: Sequence[Any]) -> bool:
        """Return whether it is a context and an identifier."""
        if len(value) != 2 or not isinstance(value[0], str):
            return False
        return _NAME.fullmatch(value[0]) is not None and self._text.is_known(value[0])

    def _table(self, text: str) -> list[_Piece] | None:
        """Return what a table in text names; None when it has no column of contexts."""
        lines = [line for line in text.splitlines() if line.strip() and line.lstrip()[0] != "#"]
        if len(lines) < 2 or _CONTEXT not in lines[0].lower():
            return None
        comma = next((one for one in _DELIMITERS if one in lines[0]), "")
        split = csv.reader(lines, delimiter=comma, skipinitialspace=True) if comma else None
        rows = [[cell.strip() for cell in row] for row in split or map(str.split, lines)]
        names = [name.lower() for name in rows[0]]
        if _CONTEXT not in names or len(names) < 2:
            return None
        for row in rows[1:]:
            if len(row) != len(names):
                raise BadIdentifier(comma.join(row), f"the row has not all of {names}")
        columns = list(zip(*rows[1:], strict=True))
        return self._rows(names, columns.__getitem__)

    def _row(self, given: object) -> _Piece | None:
        """Return what a row of a table names; None when it says of no context."""
        row = row_of(given)
        if row is None or _CONTEXT not in map(str.lower, row[0]):
            return None
        names, values = row
        found = self._rows(names, lambda place: values[place : place + 1])
        return found[0] if found else None

    def _rows(self, names: Sequence[str], column: Callable[[int], Sequence[Any]]) -> list[_Piece]:
        """Return what the rows of a table name, one of its columns being ``context``."""
        lower = [name.lower() for name in names]
        told = column(lower.index(_CONTEXT))
        contexts = [self.plain if is_missing(one) else str(one).strip() for one in told]
        forms = {one: self._row_form(lower, one) for one in dict.fromkeys(contexts)}
        needed = {place for read in forms.values() for place in read.places}
        columns = {place: column(place) for place in needed}
        made: list[_Piece] = []
        absent: list[int] = []
        for row, context in enumerate(contexts):
            read = forms[context]
            values = [columns[place][row] for place in read.places]
            if any(map(is_missing, values[: read.needed])):
                absent.append(row)
            else:
                made.append((context, read.named(values)))
        self.gaps.add(absent)
        return made

    def _row_form(self, names: Sequence[str], context: str) -> RowForm:
        """Return how rows that are of a context name their spectra."""
        if self.id_col and self.id_col.lower() not in names:
            raise UnknownField(self.id_col, names)
        # A table of one other column is one of identifiers, whatever its name.
        others = [name for name in names if name != _CONTEXT]
        read = row_form(others, self.form_of(context), self.id_col, other=_ID)
        return replace(read, places=tuple(names.index(others[place]) for place in read.places))

    def _many(self, given: object) -> list[_Piece] | None:
        """Return what a table, an array or a list names; None when it says of no context."""
        table = table_of(given)
        if table is not None:
            names, column = table
            if _CONTEXT not in map(str.lower, names):
                return None
            return self._rows(names, lambda place: np.ma.asarray(column(place)).tolist())
        values = given
        if getattr(getattr(given, "dtype", None), "kind", "") in {"O", "U", "S", "T"}:
            values = np.ma.asarray(given).tolist()
        if not isinstance(values, list | tuple) or not self._is_any(values):
            return None
        rest = self.gaps.rest(list(values), needed_parts(self.form_of(self.plain)))
        return [piece for one in rest for piece in self._element(one)]

    def _is_any(self, values: Sequence[Any]) -> bool:
        """Return whether any member says which context it is of."""
        kinds = set(map(type, values))
        if kinds == {tuple}:
            # Tuples of numbers come by the ten thousand.
            values = [one for one in values if one and type(one[0]) is not int]
        return not kinds <= {int, np.int64, np.uint64} and any(map(self._says, values))

    def _says(self, value: Any) -> bool:
        """Return whether one member of a list says which context it is of."""
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            return self._text.names_context(value)
        if isinstance(value, list | tuple):
            return self._is_pair(value) or self._is_any(value)
        return self._row(value) is not None

    def _element(self, value: Any) -> Iterator[_Piece]:
        """Yield what one member of a list names."""
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if not self._says(value):
            yield self.plain, value
        elif isinstance(value, str):
            yield from self._text.split(value)
        elif isinstance(value, list | tuple):
            if self._is_pair(value):
                yield value[0], value[1]
            else:
                for one in value:
                    yield from self._element(one)
        elif (row := self._row(value)) is not None:
            yield row
