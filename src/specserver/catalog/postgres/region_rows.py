"""The rows of a region, and their columns if the same query fetched them.

It takes two queries to find the rows in a region and to read their columns. If few rows are
expected, the first query fetches the columns, too, and the second is not needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import TooMuch
from ...model.region import Cone, Polygon
from ...wire.numeric import as_arrow
from ..base import Rows
from ..sql.expressions import Condition
from .names import StoredColumn, from_postgres
from .relation import Ints, plain_array
from .seen import FoundRows, found_at, told_first

OrderOf: TypeAlias = Callable[[Rows, Ints, npt.NDArray[Any]], Ints]
LOOKED_AT: Final = 5
"""Columns of rows that may lie in a region: number, pixel, ra, dec and identifier."""


@dataclass(frozen=True, slots=True)
class _Fetched:
    """Columns of rows, in the order of the rows."""

    primary: npt.NDArray[np.bool_]
    """1D[n], whether a row is the best of its object."""
    table: pa.Table


def known_answer(
    rows: Rows | None,
    fields: Sequence[str],
    condition: Condition,
    *,
    primary: bool,
    max_rows: int | None,
) -> pa.Table | None:
    """Return the answer of `Catalogue.query` from the columns fetched with the rows.

    None: these columns are not enough.
    """
    fetched: _Fetched | None = getattr(rows, "fetched", None)
    if fetched is None or not condition.is_any:
        return None
    if not set(fields) <= set(fetched.table.column_names):
        return None
    found = fetched.table.select(fields)
    if primary:
        found = found.take(as_arrow(np.flatnonzero(fetched.primary)))
    if condition.limit is not None:
        found = found.slice(0, condition.limit)
    if max_rows is not None and len(found) > max_rows:
        raise TooMuch("rows", None, max_rows, "max_rows")
    return found


class RegionRows:
    """The rows of an answer that lie in a region, block after block.

    A block has the columns `LOOKED_AT`. If the query fetches more, the next column says whether a
    row is the best of its object, and the fetched columns follow.

    Parameters
    ----------
    check : called between parts of the work; it may raise an error to end it
    most : rows beyond which the region is refused; None: any number
    counting : one row of the answer tells the count of changes
    """

    def __init__(
        self, region: Cone | Polygon, check: Callable[[], None], most: int | None, *, counting: bool
    ) -> None:
        self._region, self._check, self._most, self._counting = region, check, most, counting
        self._found: list[tuple[Ints, Ints, npt.NDArray[Any]]] = []
        self._fetched: list[pa.Table] = []
        self.serial: int | None = None
        """The count of changes; None: it was not told."""

    def take(self, block: pa.Table) -> None:
        """Take the rows of a block that are inside."""
        number, hpx, ra, dec, ids = map(plain_array, block.columns[:LOOKED_AT])
        inside = self._region.contains(ra.astype("f8"), dec.astype("f8"), self._check)
        if self._counting and self.serial is None:
            good, self.serial = told_first(number)
            inside &= good
        self._found.append((number[inside], hpx[inside], ids[inside]))
        if block.num_columns > LOOKED_AT:
            fetched = block.select(range(LOOKED_AT, block.num_columns))
            self._fetched.append(fetched.take(as_arrow(np.flatnonzero(inside))))
        if self._most is not None and sum(len(some[0]) for some in self._found) > self._most:
            raise TooMuch("rows in the region", None, self._most)

    def sorted(self, order_of: OrderOf, columns: Sequence[StoredColumn]) -> FoundRows:
        """Return the rows, 1D[n], which keep the columns that the query fetched.

        Parameters
        ----------
        order_of : returns the indices that sort rows, 1D[n], by their numbers, pixels, identifiers
        columns : those that the query fetched
        """
        number, hpx, ids = (np.concatenate([some[at] for some in self._found]) for at in range(3))
        order = order_of(number, hpx, ids)
        rows = found_at(number[order], self.serial)
        if columns:
            every = pa.concat_tables(self._fetched).take(as_arrow(order))
            primary = plain_array(every.column(0)).astype(np.bool_)
            table = from_postgres(every.select(range(1, every.num_columns)), columns)
            rows.fetched = _Fetched(primary, table)
        return rows
