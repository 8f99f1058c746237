"""Binary tables of a mock survey, and the resources that list columns, cards, lines and levels.

Columns and cards are those of real files, kept as ``layouts/*.tsv``: facts of a format, which this
package carries itself because the real files do not travel with it.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from .cards import Card, Value

_NUMPY = {"E": ">f4", "D": ">f8", "J": ">i4", "K": ">i8", "I": ">i2", "B": "u1"}


@dataclass(frozen=True, slots=True)
class ColumnForm:
    """One column of a binary table."""

    name: str
    form: str
    dim: str = ""
    unit: str = ""

    @property
    def is_text(self) -> bool:
        """True for character columns."""
        return self.form.endswith("A")

    def numpy(self) -> tuple[Any, ...]:
        """Return the field of a NumPy structured dtype."""
        count = int(self.form[:-1] or 1)
        if self.is_text:
            return (self.name, f"S{count}")
        kind = _NUMPY[self.form[-1]]
        return (self.name, kind, (count,)) if count > 1 else (self.name, kind)

    def cards(self, number: int, zero: int = 0) -> list[Card]:
        """Return the cards of the column with a number, from 1; ``zero`` is its TZERO, if any."""
        cards = [Card(f"TTYPE{number}", self.name), Card(f"TFORM{number}", self.form)]
        cards += [Card(f"TSCAL{number}", 1), Card(f"TZERO{number}", zero)] if zero else []
        cards += [Card(f"TUNIT{number}", self.unit)] if self.unit else []
        return cards + ([Card(f"TDIM{number}", self.dim)] if self.dim else [])


@cache
def read_rows(name: str) -> list[list[str]]:
    """Return the fields of a resource of this package, line by line."""
    text = files(__name__.rpartition(".")[0]).joinpath("layouts", f"{name}.tsv").read_text("utf-8")
    return [line.split("\t") for line in text.splitlines()]


def read_numbers(name: str) -> npt.NDArray[np.float64]:
    """Return a resource of numbers: 2D[nline, nfield] float64."""
    return np.array(read_rows(name), np.float64)


def read_cards(name: str, family: str, /, **words: Value) -> list[Card]:
    """Return the cards of a resource that are of all families (``*``) or of one.

    Its lines are family, keyword, value with fields for ``words``, and comment.
    """
    return [
        Card(key, _value(text.format(**words)), comment)
        for who, key, text, comment in read_rows(name)
        if who in ("*", family)
    ]


def table_cards(width: int, nrow: int, nfield: int) -> list[Card]:
    """Return the mandatory cards of a binary table."""
    return read_cards("table", "table", width=width, nrow=nrow, nfield=nfield)


def _value(text: str) -> Value:
    """Return the value of a card from its text in a resource."""
    if text.startswith("'"):
        return text.strip("'")
    if text in {"T", "F"}:
        return text == "T"
    return float(text) if "." in text else int(text)
