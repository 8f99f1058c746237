"""Rows of a query → what the caller asked for: ids, tuples, one column, a table, a file."""

import csv
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter
from ...model.id_names import tuple_text
from ...model.ids import USUAL_FORM, usual_tuples
from ...wire.columns import CONTEXT, ID

if TYPE_CHECKING:
    from .columns import Columns

TUPLE: Final = "tuple"
_FORMS: Final = {
    "": "", "table": "table", "tables": "table", "pandas": "pandas", "array": "array",
    "numpy": "array", "structarray": "array",
}  # fmt: skip
"""Spellings of ``fmt``, in lower case; some are those of the old client's queries."""
SHARED: Final = "not_best"
"""Key in the metadata of a column of identifiers: some rows are not the best spectrum of their
identifier, and the identifier alone means the best one."""


Tuples = Mapping[str, Sequence[str]] | None
"""Columns of the tuples that name the rows, by context, for contexts whose identifiers do not.
None: the rows are of one context."""


def to_result(columns: "Columns", fields: Sequence[str], tuples: Tuples = None) -> Any:
    """Return an array, a list of tuples or pairs, or a Table, after the fields asked for.

    Parameters
    ----------
    fields
        What the caller asked for; empty for the identifier, of several contexts for pairs
        ``(context, id)`` or ``(context, tuple)``.
    """
    if tuples is not None and not besides(fields):
        return _pairs(columns, tuples)
    if list(fields) == [TUPLE]:
        return to_tuples(columns)
    if len(columns.values) == 1:
        return next(iter(columns.values.values()))
    table = columns.table()
    if columns.shared in table.colnames:
        table[columns.shared].meta[SHARED] = True
    return table


def read_form(fmt: str | None) -> str:
    """Return the form of a result in one spelling; empty where it follows the fields."""
    form = _FORMS.get(str(fmt or "").strip().lower())
    if form is None:
        raise BadParameter("fmt", fmt, "table, array or pandas; None: as the fields are")
    return form


def in_form(form: str, columns: "Columns", fields: Sequence[str], tuples: Tuples = None) -> Any:
    """Return rows in the form that `read_form` read; other parameters are those of `to_result`."""
    if not form or (form == "array" and len(columns.values) == 1):
        return to_result(columns, fields, tuples)
    table = to_columns(columns, fields, tuples).table()
    if form == "table":
        return table
    return table.to_pandas() if form == "pandas" else table.as_array()


def write_rows(
    columns: "Columns", fields: Sequence[str], file: TextIO, tuples: Tuples = None
) -> None:
    """Write one identifier or value a line, or a CSV with a header when there are several columns.

    Parameters are those of `to_result`.
    """
    if tuples is not None and not besides(fields):
        file.writelines(f"{line_of(pair)}\n" for pair in _pairs(columns, tuples))
    elif list(fields) == [TUPLE]:
        file.writelines(f"{line_of(parts)}\n" for parts in to_tuples(columns))
    elif len(columns.values) == 1:
        values = next(iter(columns.values.values()))
        file.writelines(f"{value}\n" for value in cells(values))
    else:
        write_csv(columns, file)


def line_of(value: Any) -> str:
    """Return an identifier, a tuple, or a pair of context and either, as a list of text has it."""
    if is_pair(value):
        return f"{value[0]}:{line_of(value[1])}"
    return tuple_text(value) if isinstance(value, tuple) else str(value)


def is_pair(value: Any) -> bool:
    """Return whether it is a context with an identifier or a tuple; tuples begin with a number."""
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)


def write_csv(columns: "Columns", file: TextIO) -> None:
    """Write rows as CSV with a header to an open text file."""
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(columns.values)
    rows.writerows(zip(*map(cells, columns.values.values()), strict=True))


def to_columns(columns: "Columns", fields: Sequence[str], tuples: Tuples = None) -> "Columns":
    """Return rows as the columns of a table, of the tuple form a column for each part.

    Parameters are those of `to_result`.

    Raises
    ------
    BadParameter
        Tuples of several contexts, whose parts differ.
    """
    if list(fields) == [TUPLE] and tuples is not None:
        allowed = "tuples of several contexts are written as text: a name that ends in .txt"
        raise BadParameter("out", TUPLE, allowed)
    if list(fields) != [TUPLE] or len(columns.values) > 1:
        return columns
    from .columns import Columns

    parts = to_tuples(columns)
    lists: list[Any] = list(zip(*parts, strict=True)) or [()] * len(USUAL_FORM.parts)
    kinds = [np.int64] * USUAL_FORM.numbers + [np.str_] * USUAL_FORM.texts
    values = {
        name: np.array(some, dtype=kind)
        for name, some, kind in zip(USUAL_FORM.parts, lists, kinds, strict=True)
    }
    return Columns(values, {})


def to_tuples(columns: "Columns") -> list[tuple[Any, ...]]:
    """Return the tuple form of the identifier of every row."""
    if len(columns.values) > 1:
        return list(zip(*(values.tolist() for values in columns.values.values()), strict=True))
    name, ids = next(iter(columns.values.items()))
    if np.ma.asarray(ids).dtype.kind != "u":
        raise BadParameter(
            "fields", TUPLE, f"the identifier {name!r} of this context is not packed from a tuple"
        )
    return usual_tuples(ids)


def cells(values: npt.NDArray[Any]) -> list[Any]:
    """Return values as they are written: a missing one as an empty text."""
    if values.dtype.kind != "f":
        return ["" if cell is None else cell for cell in values.tolist()]
    # tolist of float32 gives float64 with digits that the catalogue does not have.
    texts = [str(cell) for cell in np.asarray(values)]
    if isinstance(values, np.ma.MaskedArray):
        gone = np.ma.getmaskarray(values).tolist()
        texts = ["" if lost else text for text, lost in zip(texts, gone, strict=True)]
    return texts


def besides(names: Sequence[str]) -> list[str]:
    """Return the columns to show besides context and id; empty for these alone, or for tuples."""
    if TUPLE in names and len(names) > 1:
        allowed = "of several contexts tuples come alone: their parts differ"
        raise BadParameter("fields", ", ".join(names), allowed)
    return [] if list(names) == [TUPLE] else [name for name in names if name not in {CONTEXT, ID}]


def _pairs(columns: "Columns", tuples: Mapping[str, Sequence[str]]) -> list[tuple[str, Any]]:
    """Return ``(context, id)`` of every row, or ``(context, tuple)`` of contexts with tuples."""
    cells = {name: values.tolist() for name, values in columns.values.items()}
    return [
        (context, tuple(cells[name][row] for name in tuples[context]))
        if context in tuples
        else (context, number)
        for row, (context, number) in enumerate(zip(cells[CONTEXT], cells[ID], strict=True))
    ]
