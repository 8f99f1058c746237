"""Rows of a list or a table that have no identifier: refused, or left out and counted."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import NoIdentifier
from .ids import IdForm


@dataclass(slots=True)
class Gaps:
    """What is to become of rows without an identifier, and which they are."""

    skip: bool = False
    """Leave them out; else they are refused."""
    rows: list[int] = field(default_factory=list)
    """Those that were left out, counted from 0."""

    def add(self, rows: Iterable[int]) -> None:
        """Take note of rows; raise `NoIdentifier` where they are refused."""
        found = list(rows)
        if found and not self.skip:
            raise NoIdentifier(found)
        self.rows += found

    def rest(self, values: list[Any], needed: int) -> list[Any]:
        """Return the values that are there, having taken note of the others.

        Of a tuple the first ``needed`` parts must be there; another that is None allows anything.
        """
        cut = [one[:needed] if isinstance(one, tuple | list) else one for one in values]
        gone = [is_missing(one) for one in cut]
        self.add(row for row, lost in enumerate(gone) if lost)
        return [value for value, lost in zip(values, gone, strict=True) if not lost]


def is_missing(value: object) -> bool:
    """Return whether a value is none: None, NaN, NA, masked, or empty text.

    A tuple or list is none when one of its numbers is.
    """
    if isinstance(value, str | bytes):
        return not value.strip()
    if isinstance(value, tuple | list):
        return any(
            is_missing(one) for one in value if not isinstance(one, str | bytes | list | tuple)
        )
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return value is None or value is np.ma.masked or type(value).__name__ in {"NAType", "NaTType"}


def needed_parts(form: IdForm) -> int:
    """Return how many parts of a tuple, from the first on, a row must have to name a spectrum."""
    return 1 if form.leads_with_id else max(1, form.numbers)
