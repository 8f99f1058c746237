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
DataFrame, Table, structured array              its id column, or plate, mjd, fiberid, run2d
a row of one of these                           one identifier
text of several, or within ``[…]``              a list, as `parse_id_text` reads it
name or Path of a text file, ``vos://…`` name   a list, the same way
==============================================  ========================================

Signed forms of large identifiers stay negative here: only the service knows what the survey means.
pandas and astropy are recognised by name, so that importing this module loads neither.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadIdentifier
from ..model.idtext import (
    USUAL_FORM,
    IdForm,
    IdPattern,
    id_columns,
    is_tuple,
    leads_list,
    parse_id_text,
    parse_id_tuple,
)

_VOS: Final = "vos://"
_MAX_FILE_NAME: Final = 1024  # longer text cannot be opened on common systems, so it is none
_LOST_DIGITS: Final = (
    "floats have lost the last digits (integers with missing values become floats in pandas);"
    " give whole numbers or text"
)
_FOREIGN: Final = frozenset({
    ("pandas", "DataFrame"), ("pandas", "Series"), ("pandas", "Index"),
    ("astropy", "Table"), ("astropy", "Row"),
})  # fmt: skip

_Ids = list[int | IdPattern]


def read_identifiers(
    given: object,
    id_col: str | None = None,
    *,
    form: IdForm = USUAL_FORM,
    read_vos: Callable[[str], str] | None = None,
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
        Reads a file in virtual storage as text, by its name.

    Raises
    ------
    BadIdentifier
        Something in it names no spectrum: a float, a missing value, other text.
    UnknownField
        A table without the column.

    Examples
    --------
    >>> read_identifiers([299489676975171584])
    ([299489676975171584], False)
    """
    return _Reading(id_col, form, read_vos).read(given)


def are_numbers(given: object) -> bool:
    """Return whether identifiers are whole numbers beyond doubt: no form is needed to read them."""
    if isinstance(given, np.ndarray):
        return given.dtype.kind in "iu"
    if isinstance(given, list):
        return set(map(type, given)) <= {int, np.int64, np.uint64}
    return isinstance(given, int | np.integer)


def _foreign(given: object) -> str:
    """Return the name of the pandas or astropy class that the object is of, or nothing."""
    for cls in type(given).__mro__:
        if (cls.__module__.partition(".")[0], cls.__name__) in _FOREIGN:
            return cls.__name__
    return ""


def _shown(given: object) -> str:
    text = given if isinstance(given, str) else repr(given)
    return text if len(text) <= 60 else text[:57] + "…"


def _unmasked(values: Any) -> npt.NDArray[Any]:
    """Return a column as plain array; a masked value in it is an error."""
    if np.ma.getmaskarray(values).any() if isinstance(values, np.ma.MaskedArray) else False:
        raise BadIdentifier("--", "the value is missing; leave such rows out")
    return np.asarray(values)


def _open(values: Any) -> list[Any]:
    """Return a column of a part of a tuple; None, which allows anything, where it is missing."""
    listed = np.ma.asarray(values).tolist()
    return [None if one is None or one != one else one for one in listed]  # noqa: PLR0124  # NaN


def _scalar(value: object) -> int:
    """Return one number as an identifier; everything else is an error that says why."""
    if isinstance(value, int | np.integer) and not isinstance(value, bool):
        number = int(value)
        if -(2**63) <= number < 2**64:
            return number
        raise BadIdentifier(number, "an identifier has at most 64 bits")
    if value is None or _shown(value) in {"nan", "<NA>", "NaT", "masked", "np.float64(nan)"}:
        raise BadIdentifier(value, "the value is missing; leave such rows out")
    if isinstance(value, float | np.floating):
        raise BadIdentifier(value, _LOST_DIGITS)
    kind = type(value).__name__
    reason = f"a {kind} is none; give whole numbers, text, tuples, arrays or tables of them"
    raise BadIdentifier(_shown(value), reason)


def _decoded(given: bytes | bytearray) -> str:
    try:
        return bytes(given).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadIdentifier(_shown(bytes(given[:60])), "the bytes are no text") from None


def _file_text(path: Path) -> str:
    """Return the text of a file of identifiers."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadIdentifier(str(path), f"the file cannot be read ({error.strerror})") from error
    if b"\0" in raw:
        reason = "the file is no text; read it, as with astropy's Table.read, and give the table"
        raise BadIdentifier(str(path), reason)
    return _decoded(raw)


def _file_named(text: str) -> Path | None:
    """Return the file of that name, or None; a name of digits only is a number."""
    name = text.strip()
    if "\n" in name or not name or len(name) > _MAX_FILE_NAME or name.isdecimal():
        return None
    with suppress(OSError, RuntimeError, ValueError):
        path = Path(name).expanduser()
        return path if path.is_file() else None
    return None


def file_text(given: str | PathLike[str], read_vos: Callable[[str], str] | None) -> str | None:
    """Return the text of the file that a caller named; None for text that names none."""
    if not isinstance(given, str):
        return _file_text(Path(given).expanduser())
    if given.lstrip().startswith(_VOS):
        if read_vos is None:
            raise BadIdentifier(_shown(given), "there is no virtual storage to read it from")
        return read_vos(given.strip())
    path = _file_named(given)
    return None if path is None else _file_text(path)


def table_of(given: Any) -> tuple[list[str], Callable[[int], Any]] | None:
    """Return the names of a table's columns, and what gives one by its place; None: no table."""
    kind = _foreign(given)
    if kind == "DataFrame":
        if None not in given.index.names and given.columns.intersection(given.index.names).empty:
            given = given.reset_index()
        return [str(name) for name in given.columns], lambda at: given.iloc[:, at].to_numpy()
    if kind == "Table":
        return list(given.colnames), lambda at: given[given.colnames[at]]
    if isinstance(given, np.ndarray) and given.dtype.names is not None:
        names, flat = given.dtype.names, given.reshape(-1)
        return list(names), lambda at: flat[names[at]]
    return None


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
    read_vos: Callable[[str], str] | None

    def read(self, given: object) -> tuple[_Ids, bool]:
        if isinstance(given, bytes | bytearray):
            given = _decoded(given)
        if isinstance(given, str):
            return self.read_text(given)
        if isinstance(given, PathLike):
            return self.parse(_file_text(Path(given).expanduser())), False
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
        return parse_id_text(text, self.form, id_col=self.id_col)

    def read_text(self, text: str) -> tuple[_Ids, bool]:
        held = file_text(text, self.read_vos)
        if held is not None:
            return self.parse(held), False
        try:
            found = self.parse(text)
        except BadIdentifier:
            if Path(text.strip()[:_MAX_FILE_NAME]).suffix.lower()[1:].isidentifier():
                reason = "there is no such file, and as text it is no identifier"
                raise BadIdentifier(_shown(text), reason) from None
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
        places = id_columns(names, self.form, self.id_col)
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
        if kind in {"Series", "Index"}:
            return self.read_array(given.to_numpy())
        if isinstance(given, np.ndarray):
            return self.read_array(given)
        if isinstance(given, Mapping | set | frozenset):
            what = "mapping has no rows" if isinstance(given, Mapping) else "set has no order"
            raise BadIdentifier(_shown(given), f"a {what}; give a list, an array or a table")
        return self.read_list(list(given)) if isinstance(given, Iterable) else None

    def read_columns(self, names: Sequence[str], column: Callable[[int], Any]) -> _Ids:
        """Return the identifiers of a table, of which ``column(place)`` is one column."""
        places = id_columns(names, self.form, self.id_col)
        if len(places) == 1:
            return self.read_array(column(places[0]))
        first, *others = places
        lists = [_unmasked(column(first)).tolist(), *(_open(column(one)) for one in others)]
        return [parse_id_tuple(row, self.form) for row in zip(*lists, strict=True)]

    def read_array(self, array: Any) -> _Ids:
        """Return the identifiers of an array of numbers, text, objects, tuples or records."""
        table = table_of(array)
        if table is not None:
            return self.read_columns(*table)
        values = _unmasked(array)
        if values.size == 0:
            return []
        if values.dtype.kind == "f":
            raise BadIdentifier(_shown(values.flat[0]), _LOST_DIGITS)
        if values.ndim > 2 or (values.ndim == 2 and values.shape[1] not in self.widths):
            reason = f"rows of an array have {self.widths[0]} or {self.widths[1]} values, a tuple"
            raise BadIdentifier(f"array of shape {values.shape}", reason)
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
        # Tuples come by the ten thousand: to look at each in every way takes twice as long.
        if kinds == {tuple} and all(
            one and type(one[0]) is int and not leads_list(one[0]) for one in values
        ):
            return [parse_id_tuple(one, self.form) for one in values]
        return [found for value in values for found in self.read_element(value)]

    def read_element(self, value: Any) -> _Ids:
        """Return the identifiers of one member of a list: several, when it is a list itself."""
        if isinstance(value, bytes):
            value = _decoded(value)
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
