"""The identifier of each row of a table, from columns under their usual names.

An identifier may be unsigned, in its signed 64-bit form, a decimal or padded text. As a float it
is refused: the digits that are lost say which reduction it is of. Without one, the parts of the
tuple form serve, with the reduction (run2d) or without it.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import BadIdentifier, BadParameter
from ...model.ids import FLOAT, NUMBER
from ...model.survey import Survey
from ...texts import joined
from ..index.column_types import put_column


class _Unfit(Exception):
    """Why a column holds no identifiers."""


def valid_names(names: Sequence[str]) -> list[str]:
    """Return names in lower case, of letters, digits and underscores, each once.

    Examples
    --------
    >>> valid_names(["RA", "Flux (r)", "2MASS", "_z", "ra"])
    ['ra', 'flux_r', 'c2mass', 'z', 'ra_2']
    """
    found: list[str] = []
    for number, name in enumerate(names, 1):
        plain = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_") or f"col{number}"
        plain = f"c{plain}" if plain[0].isdigit() else plain
        unique, copy = plain, 1
        while unique in found:
            copy += 1
            unique = f"{plain}_{copy}"
        found.append(unique)
    return found


def read_ids(
    survey: Survey, table: pa.Table, id_column: str | None
) -> tuple[pa.Table, str, tuple[str, ...]]:
    """Return the table with a column of identifiers, null where a row has none as yet.

    The parts of the tuple form get the survey's names for them.

    Returns
    -------
    table, kind, notes
        Identifiers are from a ``column`` or a ``tuple``, or those of ``spectra`` held, since some
        rows name no reduction.

    Raises
    ------
    BadParameter
        The table has neither identifiers nor parts, or only what cannot be used.
    """
    notes: list[str] = []
    wanted = survey.id_column.name
    name = _find(table, (wanted,)) if id_column is None else valid_names([id_column])[0]
    if id_column is not None and name not in table.column_names:
        raise BadParameter("id-column", id_column, f"one of {', '.join(table.column_names)}")
    if name is not None:
        try:
            ids = _ids(survey, table.column(name))
        except _Unfit as error:
            notes.append(f"{name} is not used: {error}")
            table = table.drop_columns([name])
        else:
            return _put_first(table, name, wanted, ids), "column", ()
    spellings = (
        (part, *(other for other, name in survey.aliases.items() if name == part))
        for part in survey.id_parts
    )
    parts = [_find(table, names) for names in spellings]
    if None in parts[:-1]:
        *numbers, last = survey.id_parts
        needed = f"{wanted} as whole numbers or text, or {', '.join(numbers)}"
        reason = "; ".join([*notes, f"it needs {needed} (and {last}, if it has it)"])
        text = "the table does not say which spectra its rows are of"
        raise BadParameter.saying(f"{text}: {reason}; it has {joined(table.column_names, 12)}")
    for part, column in zip(survey.id_parts, parts, strict=True):
        if column is not None and column != part:
            table = table.rename_columns({column: part})
    return *_from_parts(survey, table), tuple(notes)


def _find(table: pa.Table, names: Sequence[str]) -> str | None:
    """Return the first column with one of these names, underscores ignored."""
    bare = {name.replace("_", ""): name for name in reversed(table.column_names)}
    plain = (name.replace("_", "") for name in names)
    return next((bare[name] for name in plain if name in bare), None)


def _put_first(table: pa.Table, old: str | None, name: str, ids: Any) -> pa.Table:
    """Return the table with the identifiers in front, in place of a column."""
    gone = [column for column in dict.fromkeys((old, name)) if column in table.column_names]
    return table.drop_columns(gone).add_column(0, name, ids)


def _ids(survey: Survey, column: Any) -> pa.Array:
    """Return a column of identifiers in the survey's type; 0 and blanks are null."""
    kind = column.type
    if pa.types.is_floating(kind):
        raise _Unfit("its values are floats, which have lost the last digits of an identifier")
    if pa.types.is_integer(kind):
        listed = column.fill_null(0).to_numpy()
        unsigned = np.dtype(survey.id_column.dtype).kind == "u"
        if unsigned and listed.dtype.kind == "i":
            listed = listed.astype(np.int64).view(np.uint64)
        elif not unsigned and listed.dtype.kind == "u" and (listed >= 2**63).any():
            raise _Unfit("its values are beyond 63 bits")
        ids = listed.astype(survey.id_column.dtype)
    elif pa.types.is_string(kind):
        ids = _from_text(survey, column.to_pylist())
    else:
        raise _Unfit(f"it is of type {kind}")
    return pa.array(ids, mask=ids == 0)


def _from_text(survey: Survey, texts: Sequence[str | None]) -> npt.NDArray[Any]:
    """Return identifiers of text, 1D[n]; 0 for blank text."""
    ids = np.zeros(len(texts), survey.id_column.dtype)
    limits = np.iinfo(ids.dtype)
    for index, text in enumerate(texts):
        bare = (text or "").strip(" \t\0'\"")
        if not bare:
            continue
        if not NUMBER.fullmatch(bare):
            if FLOAT.fullmatch(bare):
                raise _Unfit(f"{bare!r} is a float, which has lost the last digits")
            raise _Unfit(f"{bare!r} is no whole number")
        number = survey.normal_id(int(bare))
        if not limits.min <= number <= limits.max:
            raise _Unfit(f"{bare!r} is beyond 64 bits")
        ids[index] = number
    return ids


def _from_parts(survey: Survey, table: pa.Table) -> tuple[pa.Table, str]:
    """Return the table with the identifiers that its complete tuples make, and their kind."""
    *names, last = survey.id_parts
    numbers = []
    for name in names:
        values = _whole(table.column(name), name)
        table = put_column(table, name, pa.array(values, mask=values == 0))
        numbers.append(values)
    ids = np.zeros(table.num_rows, survey.id_column.dtype)
    given = np.logical_and.reduce([values > 0 for values in numbers])
    complete = np.zeros(len(ids), bool)
    if last in table.column_names:
        texts = pc.utf8_trim_whitespace(table.column(last).cast(pa.string())).fill_null("")
        runs = np.array(texts.to_pylist(), dtype=object).astype(str)
        table = put_column(table, last, pa.array(runs.astype(object), mask=runs == ""))
        complete = given & (runs != "")
        chosen = [values[complete] for values in numbers]
        ids[complete] = pack_rows(survey, chosen, runs[complete])
    kind = "tuple" if (complete | ~given).all() else "spectra"
    return _put_first(table, None, survey.id_column.name, pa.array(ids, mask=ids == 0)), kind


def _whole(column: Any, name: str) -> npt.NDArray[np.int64]:
    """Return a column of whole numbers, 1D[n] int64; 0 for what is missing or negative."""
    if pa.types.is_string(column.type):
        column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
    try:
        # The cast refuses floats and text that are no whole numbers.
        values = pc.cast(column, pa.int64()).fill_null(0).to_numpy()
    except pa.ArrowInvalid as error:
        text = f"the column {name} of the table is not of whole numbers: {error}"
        raise BadParameter.saying(text) from error
    whole: npt.NDArray[np.int64] = np.maximum(values, 0)
    return whole


def pack_rows(
    survey: Survey, numbers: Sequence[npt.NDArray[np.int64]], reductions: npt.NDArray[Any]
) -> npt.NDArray[Any]:
    """Return the identifier of each tuple, 1D[n]; 0 where its parts make no identifier."""
    ids = np.zeros(len(reductions), survey.id_column.dtype)
    if survey.pack_arrays is None or survey.pack is None or not len(ids):
        return ids
    try:
        ids[:] = survey.pack_arrays(numbers, reductions)
    except BadIdentifier:
        # Some row is out of bounds: look at each.
        rows = zip(*(values.tolist() for values in numbers), strict=True)
        for index, (row, reduction) in enumerate(zip(rows, reductions.tolist(), strict=True)):
            try:
                ids[index] = survey.pack(row, str(reduction))
            except BadIdentifier:
                continue
    return ids
