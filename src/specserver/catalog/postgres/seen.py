"""The count of changes of a table, told along with the answers to queries.

Some questions take two queries: one finds rows, and one asks for those of them that meet a
condition. If rows were replaced between the two, an object would be in neither answer. So both
answers have one more row, which costs no round trip: the count of changes at that moment.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from ...errors import Replaced
from ..base import Rows
from .relation import Ints, plain_array

_CELLS: Final = 2**19
"""Values of an answer that are fetched at once: the driver takes some 40 bytes for each."""
_FEWEST: Final = 2**12
_AGAIN_S: Final = 1
"""Seconds after which a caller is told to come again whose rows were replaced meanwhile."""


class FoundRows(np.ndarray[Any, np.dtype[np.int64]]):
    """Numbers of rows, 1D[n], and the count of changes when they were found; parts keep it."""

    serial: int | None = None
    """None: it is not known."""
    fetched: Any = None
    """Columns that the same query fetched (see `region_rows`); a part of the rows has none."""

    @override
    def __array_finalize__(self, base: npt.NDArray[Any] | None) -> None:
        self.serial = getattr(base, "serial", None)


def found_at(rows: Rows, serial: int | None) -> FoundRows:
    """Return rows, 1D[n], that know at which count of changes they were found."""
    found = rows.view(FoundRows)
    found.serial = serial
    return found


def serial_of(rows: Rows | None) -> int | None:
    """Return the count of changes when rows were found; None: it is not known."""
    found: int | None = getattr(rows, "serial", None)
    return found


def telling(query: str, serial: str, ncolumns: int) -> str:
    """Return a query whose answer has one more row, which tells the count of changes.

    Parameters
    ----------
    query : its first column is the number of a row, which is not negative
    serial : query of the count of changes; empty: nobody counts them
    ncolumns : number of columns of the answer
    """
    if not serial:
        return query
    nulls = ", NULL" * (ncolumns - 1)
    return f"SELECT -1 - counted.serial{nulls} FROM ({serial}) AS counted UNION ALL ({query})"


def told(table: pa.Table) -> tuple[pa.Table, int | None]:
    """Return an answer without that row, and the count; None: there is no such row."""
    number = plain_array(table.column(0))
    places = np.flatnonzero(number < 0)
    if not len(places):
        return table, None
    at = int(places[0])
    rest = table.slice(at + 1)
    return (pa.concat_tables([table.slice(0, at), rest]) if at else rest), -1 - int(number[at])


def told_first(number: Ints) -> tuple[npt.NDArray[np.bool_], int | None]:
    """Return which numbers of a batch are those of rows, 1D[n], and the count, if it is there."""
    good = number >= 0
    return good, None if good.all() else -1 - int(number[~good][0])


def block_of(expected: float, ncolumns: int) -> int:
    """Return how many rows of an answer to fetch at a time; 0: all.

    Parameters
    ----------
    expected : about how many there are
    """
    return max(_CELLS // ncolumns, _FEWEST) if expected * ncolumns > _CELLS else 0


def require_same(before: int | None, now: int | None) -> None:
    """Raise `Replaced` if rows have changed between two queries."""
    if before != now:
        raise replaced()


def replaced() -> Replaced:
    """Return the error of rows that have changed between two queries."""
    return Replaced(_AGAIN_S, "spectra were replaced while they were read")
