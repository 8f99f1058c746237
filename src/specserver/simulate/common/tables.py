"""Binary tables of a mock survey, and the resources that list columns, lines and levels.

The columns are those of real files, kept as ``layouts/*.tsv`` (name, TFORM, TDIM): facts of a
format, which this package carries itself because the real files do not travel with it.
"""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt

from .cards import Card

_NUMPY = {"E": ">f4", "D": ">f8", "J": ">i4", "K": ">i8", "I": ">i2", "B": "u1"}


@dataclass(frozen=True, slots=True)
class ColumnForm:
    """One column of a binary table."""

    name: str
    form: str
    dim: str = ""

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


def read_rows(name: str) -> list[list[str]]:
    """Return the fields of a resource of this package, line by line."""
    text = files(__name__.rpartition(".")[0]).joinpath("layouts", f"{name}.tsv").read_text("utf-8")
    return [line.split("\t") for line in text.splitlines()]


def read_numbers(name: str) -> npt.NDArray[np.float64]:
    """Return a resource of numbers: 2D[nline, nfield] float64."""
    return np.array(read_rows(name), np.float64)


def table_cards(width: int, nrow: int, nfield: int) -> list[Card]:
    """Return the mandatory cards of a binary table."""
    return [
        Card("XTENSION", "BINTABLE", "binary table extension"),
        Card("BITPIX", 8, "array data type"),
        Card("NAXIS", 2, "number of array dimensions"),
        Card("NAXIS1", width, "length of dimension 1"),
        Card("NAXIS2", nrow, "length of dimension 2"),
        Card("PCOUNT", 0, "number of group parameters"),
        Card("GCOUNT", 1, "number of groups"),
        Card("TFIELDS", nfield, "number of table fields"),
    ]
