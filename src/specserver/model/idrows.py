"""Rows of a table → what each names: an identifier, a tuple, or an identifier with named values.

Where spectra share an identifier, a row names one of them by every column it has that tells them
apart: the whole tuple where that is there, else ``(identifier, 'program=dark', 'healpix=9144')``,
which means the best of the spectra that have these values. A missing value leaves its column open.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ..errors import UnknownField
from .idgaps import is_missing, needed_parts
from .idgroups import MISSING
from .ids import IdForm

_OTHER_NAMES: Final = {"fiberid": ("fiber",)}
_WHOLE_FLOAT: Final = re.compile(r"-?\d+\.0+")


@dataclass(frozen=True, slots=True)
class RowForm:
    """Which columns of a table identify, and what the cells of a row in them name."""

    places: tuple[int, ...]
    """Columns to read, the identifier or the first part before the others."""
    needed: int
    """How many of them, from the first on, a row must have."""
    told: tuple[str, ...] = ()
    """Names of the columns after the identifier, the parts of the tuple first; empty: all columns
    are parts of a tuple."""
    nparts: int = 0
    """Number of these columns that are parts of the tuple; 0 if a part has no column."""

    def named(self, cells: Sequence[Any]) -> Any:
        """Return what a row names: an identifier, or a tuple as `parse_id_tuple` reads it."""
        if len(self.places) == 1:
            return cells[0]
        if not self.told:
            return tuple([None if is_missing(one) else one for one in cells])
        if isinstance(cells[0], str) and "(" in cells[0]:
            return cells[0]
        others = [None if _is_open(one) else one for one in cells[1:]]
        if self.nparts and None not in others[: self.nparts]:
            return (cells[0], *others[: self.nparts])
        values = [
            f"{name}={_text(one)}"
            for name, one in zip(self.told, others, strict=True)
            if one is not None
        ]
        return (cells[0], *values) if values else cells[0]


def row_form(
    names: Sequence[str], form: IdForm, id_col: str | None, *, other: str | None = None
) -> RowForm:
    """Return how the rows of a table are read.

    Parameters
    ----------
    names : of the columns
    id_col : as for `id_columns`; a column that the caller names is read alone
    other : another name that the column of the identifier may have

    Raises
    ------
    UnknownField
        There is no column that identifies.
    """
    lower = [name.strip().lower() for name in names]
    column = next((one for one in (other, form.column) if one in lower), None)
    if id_col is None and column is not None and form.told_by and form.leads_with_id:
        parts = form.parts[1:]
        told = [one for one in dict.fromkeys((*parts, *form.told_by)) if one in lower]
        nparts = len(parts) if all(one in lower for one in parts) else 0
        places = [lower.index(one) for one in (column, *told)]
        return RowForm(tuple(places), 1, tuple(told), nparts)
    if other in lower and id_col is None:
        return RowForm((lower.index(other),), 1)
    found = id_columns(names, form, id_col)
    return RowForm(found, min(needed_parts(form), len(found)))


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


def _is_open(value: Any) -> bool:
    """Return whether a cell says nothing of its column."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value.strip().lower() in MISSING or value.strip() == "*"
    return is_missing(value)


def _text(value: Any) -> str:
    """Return a cell as text; a whole number that became a float as the number."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, float | np.floating) and float(value).is_integer():
        value = int(value)
    text = str(value).strip()
    return text.partition(".")[0] if _WHOLE_FLOAT.fullmatch(text) else text
