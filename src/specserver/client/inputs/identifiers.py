"""Identifiers from numbers, text, tuples, arrays, tables or files.

==============================================  ========================================
given                                           read as
==============================================  ========================================
int, NumPy integer, decimal text                one identifier
tuple of parts, ``(1963, 54331, 19)``           one, or a list when it has wildcards
tuple that begins with a sequence, or with a    a list of identifiers
number of 2^32 or more in size
list, range, iterator, Series, Index, 1D array  a list; its kinds may be mixed
list or 2D array of short rows                  a list of tuples
DataFrame, Table, structured array, pyarrow     its id column, or plate, mjd, fiberid, run2d
a row of one of these                           one identifier
text of several, or within ``[…]``              a list, as `parse_id_text` reads it
name or Path of a text file, ``vos://…`` name   a list, the same way
… of a FITS file, a VOTable or a Parquet file   its table
text, ``'sdss_dr17:299489676975171584'``        what stands behind the colon, of that context;
                                                it holds to the end of the line or to the next
tuple or short row, ``('sdss_dr17', id)``       likewise; ``id`` in any form but these two
table or row with a column ``context``          its ``id_col``, ``id`` or what the context has
==============================================  ========================================

Identifiers without a context are of the context of the call; a row whose column ``context`` is
empty is refused, or left out as a row without an identifier is.
Where spectra have names instead of numbers, only names of contexts that exist count as such.

Signed forms of large identifiers stay negative here: only the service knows what the survey means.
A row without an identifier (None, NaN, NA, masked, empty) is refused, or left out: `Gaps`.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...errors import BadIdentifier, UnknownField
from ...model.id_contexts import ContextText
from ...model.id_tables import (
    Gaps,
    RowForm,
    is_missing,
    needed_parts,
    row_form,
    table_rows,
    text_of,
)
from ...model.id_text import IN_TUPLE, is_list_text, parse_id_text
from ...model.id_tuple import IdPattern, is_named, is_tuple, parse_id_tuple, shortened
from ...model.ids import IdForm
from .held_tables import foreign_kind, plain_column, row_of, table_of, unmasked
from .id_files import MAX_FILE_NAME, ReadVos, decoded, file_content

_LOST_DIGITS: Final = (
    "floats have lost the last digits (integers with missing values become floats in pandas);"
    " give whole numbers or text"
)
_CONTEXT: Final = "context"
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")

Ids = list[int | IdPattern]
_Found = tuple[str | None, Ids]
"""The context that the input names, or None, and identifiers of it."""


def _scalar(value: object) -> int:
    """Return one number as an identifier; raise an error with the reason for anything else."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if -(2**63) <= number < 2**64:
            return number
        raise BadIdentifier(number, "an identifier has at most 64 bits")
    if value is None or shortened(value) in {"nan", "<NA>", "NaT", "masked", "np.float64(nan)"}:
        raise BadIdentifier(value, "the value is missing; leave such rows out")
    if isinstance(value, float | np.floating):
        raise BadIdentifier(value, _LOST_DIGITS)
    kind = type(value).__name__
    reason = f"a {kind} is none; give whole numbers, text, tuples, arrays or tables of them"
    raise BadIdentifier(shortened(value), reason)


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray | np.void) and not isinstance(value, str | bytes)


@dataclass(frozen=True, slots=True)
class IdentifierReader:
    """Reads the identifiers of one object that a caller gives."""

    text: ContextText
    """Context of the call, and the form of the identifiers of each context."""
    id_col: str | None = None
    """Column of a table to take; no effect on input without columns."""
    read_vos: ReadVos | None = None
    gaps: Gaps = field(default_factory=Gaps)
    """Whether rows without an identifier are refused or left out."""
    mixed: bool = True
    """Whether identifiers may say their context."""
    _others: dict[str, "IdentifierReader"] = field(default_factory=dict, repr=False, compare=False)

    @property
    def form(self) -> IdForm:
        """Form of the identifiers of the context of the call."""
        return self.text.form_of(self.text.plain)

    def read(self, given: Any) -> tuple[Ids, bool, list[str] | None]:
        """Return identifiers, whether a single one was given, and the contexts.

        Order and duplicates are kept. Contexts are one each; None: all are of that of the call.

        Raises
        ------
        BadIdentifier
            Something in it names no spectrum: a float, a missing value, other text.
        NoIdentifier
            Rows that have none.
        UnknownField
            A table without the column.
        """
        if isinstance(given, Iterator):
            given = list(given)
        if isinstance(given, np.ndarray) and given.ndim == 0 and given.dtype.names is None:
            given = unmasked(given)[()]
        if isinstance(given, bytes | bytearray):
            given = decoded(given)
        if isinstance(given, str | PathLike):
            found, single = self.read_text(given)
        elif self.is_pair(given):
            value, some = given[1], self.of(*given)
            found = [(given[0], some)]
            single = not isinstance(value, str) or not is_list_text(value, some)
        else:
            is_one = not self.is_list(given) if isinstance(given, tuple) else self.is_row(given)
            many = None if is_one else self.read_many(given)
            found, single = list(self.read_element(given) if many is None else many), many is None
        ids = [named for _, some in found for named in some]
        single = single and len(ids) == 1 and (isinstance(ids[0], int) or ids[0].is_one(given))
        if all(context is None for context, _ in found):
            return ids, single, None
        return ids, single, [context or self.text.plain for context, some in found for _ in some]

    def is_pair(self, value: Any) -> bool:
        """Return whether it is a context and what names a spectrum of it."""
        if not self.mixed or not isinstance(value, list | tuple) or len(value) != 2:
            return False
        name = value[0]
        return isinstance(name, str) and bool(_NAME.fullmatch(name)) and self.text.is_known(name)

    def says(self, value: Any) -> bool:
        """Return whether something in it names its context."""
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str):
            return self.mixed and self.text.names_context(value)
        if isinstance(value, list | tuple):
            return self.is_pair(value) or any(map(self.says, value))
        row = None if isinstance(value, int | np.integer) else row_of(value)
        return row is not None and self.has_contexts(row[0])

    def has_contexts(self, names: Sequence[str]) -> bool:
        """Return whether a table with these columns has the context of each row."""
        return self.mixed and _CONTEXT in map(str.lower, names)

    def of(self, context: str, value: Any) -> Ids:
        """Return the identifiers of one context that a value names; text is no name of a file."""
        if type(value) is int:
            return [_scalar(value)]
        if context not in self._others:
            text = replace(self.text, plain=context)
            self._others[context] = IdentifierReader(text, self.id_col, mixed=False)
        return [named for _, some in self._others[context].read_list([value]) for named in some]

    def read_text(self, given: str | PathLike[str]) -> tuple[list[_Found], bool]:
        """Return what text names, or the file of that name, and whether it may be a single one."""
        held = file_content(given, self.read_vos, self.form)
        if held is not None and not isinstance(held, str):
            return list(self.read_many(held) or ()), False
        text = str(given) if held is None else held
        table = self.read_text_table(text)
        if table is not None:
            return list(table), False
        if self.says(text):
            pieces = list(self.text.split(text))
            found = [(context, self.of(context, value)) for context, value in pieces]
            alone = held is None and len(pieces) == 1 and not text.lstrip().startswith("[")
            alone = alone and "\n" not in text.strip()
            return list(found), alone and not is_list_text(pieces[0][1], found[0][1])
        try:
            ids = parse_id_text(text, self.form, id_col=self.id_col, gaps=self.gaps)
        except BadIdentifier:
            is_name = Path(text.strip()[:MAX_FILE_NAME]).suffix.lower()[1:].isidentifier()
            if held is None and is_name:
                reason = "there is no such file, and as text it is no identifier"
                raise BadIdentifier(shortened(text), reason) from None
            raise
        if not ids and held is None and text.lstrip().startswith("#"):
            raise BadIdentifier(text, f"text after # is a comment{IN_TUPLE}")
        return [(None, ids)], held is None and not is_list_text(text, ids)

    def read_text_table(self, text: str) -> Iterator[_Found] | None:
        """Return what a table in text names; None when it has no column of contexts."""
        if not self.mixed or _CONTEXT not in text.lower():
            return None
        cells = table_rows(text)
        names = [name.lower() for name in next(cells, [])]
        rows = list(cells) if _CONTEXT in names and len(names) > 1 else []
        if not rows:
            identifying = {"id", self.id_col, self.form.column, self.form.parts[0]}
            return None if identifying.isdisjoint(names) else iter(())
        for row in rows:
            if len(row) != len(names):
                raise BadIdentifier(",".join(row), f"the row has not all of {names}")
        columns = list(zip(*rows, strict=True))
        return self.read_rows(names, columns.__getitem__)

    def is_list(self, given: tuple[object, ...]) -> bool:
        """Return whether a tuple is a list of identifiers rather than the parts of one."""
        if not given or _is_sequence(given[0]) or not is_tuple(given, self.form):
            return True
        return self.mixed and not is_named(given, self.form) and any(map(self.says, given))

    def is_row(self, given: object) -> bool:
        """Return whether it is one row of a table."""
        if isinstance(given, np.void):
            return given.dtype.names is not None
        kind = foreign_kind(given)
        if kind == "Series":
            labels = [str(label).lower() for label in getattr(given, "index", ())]
            known = {(self.id_col or self.form.column).lower(), self.form.parts[0]}
            return self.has_contexts(labels) or not known.isdisjoint(labels)
        return kind == "Row"

    def read_row(self, given: Any, row: int) -> Iterator[_Found]:
        """Yield the identifier of one row of a table, which has a number in a list of rows."""
        names, values = row_of(given) or ([], [])
        if self.has_contexts(names):
            yield from self.read_rows(names, lambda place: values[place : place + 1], row)
            return
        read = row_form(names, self.form, self.id_col)
        cells = [values[place] for place in read.places]
        if read.told or len(cells) == 1:
            yield from self.read_element(read.named(cells))
        else:
            parts = [None if np.ma.is_masked(cell) else cell for cell in cells]
            yield None, [parse_id_tuple(parts, self.form)]

    def read_many(self, given: Any) -> Iterator[_Found] | None:
        """Return the identifiers of a table, an array or anything else with several values."""
        table = table_of(given)
        if table is not None:
            return self.read_columns(*table)
        if foreign_kind(given) in {"Series", "Index", "ArrowArray"}:
            return self.read_array(plain_column(given))
        if isinstance(given, np.ndarray):
            return self.read_array(given)
        if isinstance(given, Mapping | set | frozenset):
            what = "mapping has no rows" if isinstance(given, Mapping) else "set has no order"
            raise BadIdentifier(shortened(given), f"a {what}; give a list, an array or a table")
        return self.read_list(list(given)) if isinstance(given, Iterable) else None

    def read_columns(self, names: Sequence[str], column: Callable[[int], Any]) -> Iterator[_Found]:
        """Yield the identifiers of a table; ``column(place)`` returns a column."""
        if not names and not self.id_col:
            # A table without columns has no rows.
            return
        if not self.has_contexts(names):
            places = self.row_form(names, None).places
            if len(places) == 1:
                yield from self.read_array(column(places[0]))
                return
        yield from self.read_rows(names, lambda place: np.ma.asarray(column(place)).tolist())

    def row_form(self, names: Sequence[str], context: str | None) -> RowForm:
        """Return how rows name spectra of a context; None: rows without one."""
        if context is None:
            return row_form(names, self.form, self.id_col)
        lower = [name.lower() for name in names]
        if self.id_col and self.id_col.lower() not in lower:
            raise UnknownField(self.id_col, lower)
        # A table of one other column is one of identifiers, whatever its name.
        others = [name for name in lower if name != _CONTEXT]
        read = row_form(others, self.text.form_of(context), self.id_col, other="id")
        return replace(read, places=tuple(lower.index(others[place]) for place in read.places))

    def read_rows(
        self, names: Sequence[str], column: Callable[[int], Sequence[Any]], first: int = 0
    ) -> Iterator[_Found]:
        """Yield the identifiers of rows, each with the context in its column, if there is one."""
        contexts: list[str | None] = [None]
        if self.has_contexts(names):
            told = column([name.lower() for name in names].index(_CONTEXT))
            contexts = ["" if is_missing(cell) else text_of(cell) for cell in told]
        # The context of the call is no guess: other spectra may have the same identifiers there.
        self.gaps.add((at for at, name in enumerate(contexts, first) if name == ""), _CONTEXT)
        forms = {context: self.row_form(names, context) for context in {*contexts} - {""}}
        columns = {place: column(place) for read in forms.values() for place in read.places}
        if None in forms:
            contexts *= len(columns[forms[None].places[0]])
        made: list[tuple[str | None, Any]] = []
        absent: list[int] = []
        for row, context in enumerate(contexts):
            if context == "":
                continue
            read = forms[context]
            values = [columns[place][row] for place in read.places]
            if any(map(is_missing, values[: read.needed])):
                absent.append(first + row)
            else:
                made.append((context, read.named(values)))
        self.gaps.add(absent)
        for context, named in made:
            if type(named) is tuple:
                form = self.form if context is None else self.text.form_of(context)
                yield context, [parse_id_tuple(named, form)]
            elif context is not None:
                yield context, self.of(context, named)
            else:
                yield from self.read_element(named)

    def read_array(self, array: Any) -> Iterator[_Found]:
        """Yield the identifiers of an array of numbers, text, objects, tuples or records."""
        table = table_of(array)
        if table is not None:
            yield from self.read_columns(*table)
            return
        values = np.asarray(array)
        if values.size == 0:
            return
        if values.dtype.kind == "f" and np.isnan(values).all():
            self.gaps.add(range(len(values)))
            return
        if values.dtype.kind == "f":
            raise BadIdentifier(shortened(values.flat[0]), _LOST_DIGITS)
        is_masked = np.ma.is_masked(array)
        listed = (np.ma.asarray(array) if is_masked else values).tolist()
        if values.ndim == 1 and values.dtype.kind in "iu" and not is_masked:
            yield None, listed
            return
        widths = self.form.numbers, len(self.form.parts)
        is_odd = values.ndim > 2 or (values.ndim == 2 and values.shape[1] not in widths)
        if is_odd and not (values.dtype.kind in "OSUT" and self.says(listed)):
            reason = f"rows of an array have {widths[0]} or {widths[1]} values, a tuple"
            raise BadIdentifier(f"array of shape {values.shape}", reason)
        yield from self.read_list(listed)

    def read_list(self, values: list[Any]) -> Iterator[_Found]:
        """Yield the identifiers of a list; numbers, and tuples of one context, all together."""
        kinds = set(map(type, values))
        if kinds == {int} and -(2**63) <= min(values) <= max(values) < 2**64:
            yield None, list(values)
            return
        form = self.form
        if kinds == {tuple} and any(None in parts for parts in values):
            values = self.gaps.rest(values, needed_parts(form))
        # There may be ten thousand tuples: testing each for every form takes twice as long.
        if kinds == {tuple} and all(
            parts and type(parts[0]) is int and is_tuple(parts, form) for parts in values
        ):
            yield None, [parse_id_tuple(parts, form) for parts in values]
            return
        for row, value in enumerate(self.gaps.rest(values, needed_parts(form))):
            yield from self.read_element(value, row)

    def read_element(self, value: Any, row: int = 0) -> Iterator[_Found]:
        """Yield the identifiers of one member of a list: several, when it is a list itself."""
        if isinstance(value, bytes):
            value = decoded(value)
        if isinstance(value, int | np.integer):
            yield None, [_scalar(value)]
        elif isinstance(value, str):
            yield from self.read_words(value)
        elif self.is_pair(value):
            yield value[0], self.of(*value)
        # Asked of each member, so the usual kinds first: recognising a row takes microseconds.
        elif not isinstance(value, list | tuple) and self.is_row(value):
            yield from self.read_row(value, row)
        elif isinstance(value, np.ndarray) and value.ndim == 0:
            yield from self.read_element(unmasked(value)[()])
        elif not _is_sequence(value):
            yield None, [_scalar(value)]
        elif self.is_list(parts := tuple(value)):
            yield from self.read_list(list(parts))
        else:
            yield None, [parse_id_tuple(parts, self.form)]

    def read_words(self, text: str) -> Iterator[_Found]:
        """Yield the identifiers of text that is a member of a list."""
        if self.says(text):
            for context, value in self.text.split(text):
                yield context, self.of(context, value)
            return
        found = parse_id_text(text, self.form, id_col=self.id_col, gaps=self.gaps)
        if not found:
            raise BadIdentifier(text, "the value is missing; leave such rows out")
        yield None, found
