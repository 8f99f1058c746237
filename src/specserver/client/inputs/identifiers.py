"""Identifiers from whatever a caller holds: numbers, text, tuples, arrays, tables, files.

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
==============================================  ========================================

Signed forms of large identifiers stay negative here: only the service knows what the survey means.
pandas, astropy and pyarrow are recognised by name, so that importing this module loads none.
A row without an identifier (None, NaN, NA, masked, empty) is refused, or left out: `Gaps`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import BadIdentifier
from ...model.id_tables import Gaps, is_missing, needed_parts, row_form
from ...model.id_text import parse_id_text
from ...model.id_tuple import IdPattern, is_tuple, leads_list, parse_id_tuple, shortened
from ...model.ids import USUAL_FORM, IdForm
from ..results.query_results import SHARED
from .id_files import MAX_FILE_NAME, ReadVos, decoded, file_content, read_file

_LOST_DIGITS: Final = (
    "floats have lost the last digits (integers with missing values become floats in pandas);"
    " give whole numbers or text"
)
_FOREIGN: Final = {
    ("pandas", "DataFrame"): "DataFrame", ("pandas", "Series"): "Series",
    ("pandas", "Index"): "Index", ("astropy", "Table"): "Table", ("astropy", "Row"): "Row",
    ("pyarrow", "Table"): "ArrowTable", ("pyarrow", "RecordBatch"): "ArrowTable",
    ("pyarrow", "ChunkedArray"): "ArrowArray", ("pyarrow", "Array"): "ArrowArray",
}  # fmt: skip

_Ids = list[int | IdPattern]


def read_identifiers(
    given: object,
    id_col: str | None = None,
    *,
    form: IdForm = USUAL_FORM,
    read_vos: ReadVos | None = None,
    gaps: Gaps | None = None,
) -> tuple[_Ids, bool]:
    """Return the identifiers in what a caller gave, and whether it was a single one.

    Parameters
    ----------
    given :
        See the table at the head of this module. Order and duplicates are kept.
    id_col :
        Column of a table to take; without effect on what has no columns.
    form :
        What identifiers of the survey look like: the column taken when ``id_col`` is not given,
        and the parts of a tuple.
    read_vos :
        Reads a file in virtual storage, by its name.
    gaps :
        What becomes of rows without an identifier; None: they are refused.

    Raises
    ------
    BadIdentifier
        Something in it names no spectrum: a float, a missing value, other text.
    NoIdentifier
        Rows that have none.
    UnknownField
        A table without the column.

    Examples
    --------
    >>> read_identifiers([299489676975171584])
    ([299489676975171584], False)
    """
    return _Reading(id_col, form, read_vos, gaps or Gaps()).read(given)


def are_numbers(given: object) -> bool:
    """Return whether identifiers are whole numbers beyond doubt: no form is needed to read them."""
    if isinstance(given, np.ndarray):
        return given.dtype.kind in "iu"
    if isinstance(given, list):
        return set(map(type, given)) <= {int, np.int64, np.uint64}
    return isinstance(given, int | np.integer)


def _foreign(given: object) -> str:
    """Return which class of pandas, astropy or pyarrow the object is of, or nothing."""
    for cls in type(given).__mro__:
        kind = _FOREIGN.get((cls.__module__.partition(".")[0], cls.__name__))
        if kind is not None:
            return kind
    return ""


def _unmasked(values: Any) -> npt.NDArray[Any]:
    """Return a column as plain array; a masked value in it is an error."""
    if np.ma.getmaskarray(values).any() if isinstance(values, np.ma.MaskedArray) else False:
        raise BadIdentifier("--", "the value is missing; leave such rows out")
    return np.asarray(values)


def _scalar(value: object) -> int:
    """Return one number as an identifier; everything else is an error that says why."""
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


def table_of(given: Any) -> tuple[list[str], Callable[[int], Any]] | None:
    """Return the names of a table's columns, and what gives one by its place; None: no table."""
    kind = _foreign(given)
    if kind == "DataFrame":
        if None not in given.index.names and given.columns.intersection(given.index.names).empty:
            given = given.reset_index()
        return [str(name) for name in given.columns], lambda at: _plain(given.iloc[:, at])
    if kind == "ArrowTable":
        return list(given.column_names), lambda at: _plain(given.column(at))
    if kind == "Table":
        return list(given.colnames), lambda at: given[given.colnames[at]]
    if isinstance(given, np.ndarray) and given.dtype.names is not None:
        names, flat = given.dtype.names, given.reshape(-1)
        return list(names), lambda at: flat[names[at]]
    return None


def _plain(column: Any) -> npt.NDArray[Any]:
    """Return a column of pandas or pyarrow, as objects where one of them is missing.

    Never as floats: these lose the last digits of identifiers.
    """
    if hasattr(column, "to_pylist"):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
    elif isinstance(column.dtype, np.dtype) or not column.isna().any():
        values = column.to_numpy()
    else:
        values = column.to_numpy(dtype=object, na_value=None)
    return values


def row_of(given: Any) -> tuple[list[str], list[Any]] | None:
    """Return names and values of a row of a table; None for what is none, or a list of values."""
    if isinstance(given, np.void):
        return None if given.dtype.names is None else (list(given.dtype.names), list(given.item()))
    kind = _foreign(given)
    if kind == "Row":
        return list(given.colnames), list(given)
    # The labels of a column are numbers.
    if kind == "Series" and given.index.dtype.kind not in "iu":
        return [str(label) for label in given.index], given.tolist()
    return None


def is_shared(given: Any) -> bool:
    """Tell whether a column of a query has identifiers that mean another row than theirs."""
    meta = getattr(given, "meta", None)
    return isinstance(given, np.ndarray) and isinstance(meta, Mapping) and SHARED in meta


def is_list_text(text: str, found: Sequence[int | IdPattern]) -> bool:
    """Return whether text is the text of a list, though it may hold one identifier only."""
    bare = "".join(text.split(" "))
    return (
        "\n" in bare.strip()
        or bare.startswith(("[", "(("))
        or (bare.startswith("(") and isinstance(found[0], int))
    )


def _is_sequence(value: object) -> bool:
    return isinstance(value, Sequence | np.ndarray | np.void) and not isinstance(value, str | bytes)


@dataclass(frozen=True, slots=True)
class _Reading:
    """The reading of one given object: what its columns and tuples are."""

    id_col: str | None
    form: IdForm
    read_vos: ReadVos | None
    gaps: Gaps

    def read(self, given: object) -> tuple[_Ids, bool]:
        if isinstance(given, bytes | bytearray):
            given = decoded(given)
        if isinstance(given, str):
            return self.read_text(given)
        if isinstance(given, PathLike):
            return self.read_held(read_file(Path(given).expanduser())), False
        if isinstance(given, tuple) and not self.is_list(given):
            pattern = parse_id_tuple(given, self.form)
            return [pattern], pattern.is_exact
        if self.is_row(given):
            found = self.read_row(given)
            return found, len(found) == 1 and (isinstance(found[0], int) or found[0].is_exact)
        if isinstance(given, np.ndarray) and given.ndim == 0 and given.dtype.names is None:
            return self.read(_unmasked(given)[()])
        many = self.read_many(given)
        return ([_scalar(given)], True) if many is None else (many, False)

    def parse(self, text: str) -> _Ids:
        return parse_id_text(text, self.form, id_col=self.id_col, gaps=self.gaps)

    def read_held(self, content: Any) -> _Ids:
        """Return the identifiers in the text or the table of a file."""
        table = None if isinstance(content, str) else table_of(content)
        return self.parse(content) if table is None else self.read_columns(*table)

    def read_text(self, text: str) -> tuple[_Ids, bool]:
        held = file_content(text, self.read_vos)
        if held is not None:
            return self.read_held(held), False
        try:
            found = self.parse(text)
        except BadIdentifier:
            if Path(text.strip()[:MAX_FILE_NAME]).suffix.lower()[1:].isidentifier():
                reason = "there is no such file, and as text it is no identifier"
                raise BadIdentifier(shortened(text), reason) from None
            raise
        if len(found) != 1 or is_list_text(text, found):
            return found, False
        return found, isinstance(found[0], int) or found[0].is_exact

    def is_list(self, given: tuple[object, ...]) -> bool:
        """Return whether a tuple is a list of identifiers rather than the parts of one."""
        return not given or _is_sequence(given[0]) or not is_tuple(given, self.form)

    def is_row(self, given: object) -> bool:
        """Return whether it is one row of a table."""
        if isinstance(given, np.void):
            return given.dtype.names is not None
        kind = _foreign(given)
        if kind == "Series":
            labels = {str(label).lower() for label in getattr(given, "index", ())}
            return not labels.isdisjoint(
                {(self.id_col or self.form.column).lower(), self.form.parts[0]}
            )
        return kind == "Row"

    def read_row(self, row: Any) -> _Ids:
        names, values = row_of(row) or ([], [])
        read = row_form(names, self.form, self.id_col)
        if read.told:
            return self.read_element(read.named([values[place] for place in read.places]))
        places = read.places
        if len(places) == 1:
            return self.read_element(values[places[0]])
        parts = [None if np.ma.is_masked(values[place]) else values[place] for place in places]
        return [parse_id_tuple(parts, self.form)]

    def read_many(self, given: Any) -> _Ids | None:
        """Return the identifiers of a table, an array or anything else with several values."""
        table = table_of(given)
        if table is not None:
            return self.read_columns(*table)
        kind = _foreign(given)
        if kind in {"Series", "Index", "ArrowArray"}:
            return self.read_array(_plain(given))
        if isinstance(given, np.ndarray):
            return self.read_array(given)
        if isinstance(given, Mapping | set | frozenset):
            what = "mapping has no rows" if isinstance(given, Mapping) else "set has no order"
            raise BadIdentifier(shortened(given), f"a {what}; give a list, an array or a table")
        return self.read_list(list(given)) if isinstance(given, Iterable) else None

    def read_columns(self, names: Sequence[str], column: Callable[[int], Any]) -> _Ids:
        """Return the identifiers of a table, of which ``column(place)`` is one column."""
        if not names and not self.id_col:
            # A table without columns has no rows.
            return []
        read = row_form(names, self.form, self.id_col)
        if len(read.places) == 1:
            return self.read_array(column(read.places[0]))
        lists = [np.ma.asarray(column(place)).tolist() for place in read.places]
        rows = list(zip(*lists, strict=True))
        gone = [at for at, row in enumerate(rows) if any(map(is_missing, row[: read.needed]))]
        self.gaps.add(gone)
        lost = set(gone)
        named = [read.named(row) for at, row in enumerate(rows) if at not in lost]
        return [
            parse_id_tuple(one, self.form) if type(one) is tuple else self.read_element(one)[0]
            for one in named
        ]

    def read_array(self, array: Any) -> _Ids:
        """Return the identifiers of an array of numbers, text, objects, tuples or records."""
        table = table_of(array)
        if table is not None:
            return self.read_columns(*table)
        values = np.asarray(array)
        if values.size == 0:
            return []
        if values.dtype.kind == "f" and np.isnan(values).all():
            self.gaps.add(range(len(values)))
            return []
        if values.dtype.kind == "f":
            raise BadIdentifier(shortened(values.flat[0]), _LOST_DIGITS)
        if values.ndim > 2 or (values.ndim == 2 and values.shape[1] not in self.widths):
            reason = f"rows of an array have {self.widths[0]} or {self.widths[1]} values, a tuple"
            raise BadIdentifier(f"array of shape {values.shape}", reason)
        if isinstance(array, np.ma.MaskedArray) and np.ma.getmaskarray(array).any():
            return self.read_list(np.ma.asarray(array).tolist())
        if values.ndim == 1 and values.dtype.kind in "iu":
            return list(values.tolist())
        return self.read_list(values.tolist())

    @property
    def widths(self) -> tuple[int, int]:
        """Lengths of a tuple, without and with its last part."""
        return self.form.numbers, len(self.form.parts)

    def read_list(self, values: list[Any]) -> _Ids:
        kinds = set(map(type, values))
        if kinds == {int} and -(2**63) <= min(values) <= max(values) < 2**64:
            return list(values)
        if kinds == {tuple} and any(None in one for one in values):
            values = self.gaps.rest(values, needed_parts(self.form))
        # Tuples come by the ten thousand: to look at each in every way takes twice as long.
        if kinds == {tuple} and all(
            one and type(one[0]) is int and not leads_list(one[0]) for one in values
        ):
            return [parse_id_tuple(one, self.form) for one in values]
        rows = self.gaps.rest(values, needed_parts(self.form))
        return [found for value in rows for found in self.read_element(value)]

    def read_element(self, value: Any) -> _Ids:
        """Return the identifiers of one member of a list: several, when it is a list itself."""
        if isinstance(value, bytes):
            value = decoded(value)
        if isinstance(value, int | np.integer):
            return [_scalar(value)]
        if isinstance(value, str):
            found = self.parse(value)
            if not found:
                raise BadIdentifier(value, "the value is missing; leave such rows out")
            return found
        # Asked of each member, so the usual kinds first: recognising a row takes microseconds.
        if not isinstance(value, list | tuple) and self.is_row(value):
            return self.read_row(value)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = _unmasked(value)[()]
        if not _is_sequence(value):
            return [_scalar(value)]
        parts = tuple(value)
        if self.is_list(parts):
            return self.read_list(list(parts))
        return [parse_id_tuple(parts, self.form)]
