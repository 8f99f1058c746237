"""The columns of a catalogue by the numbers of its rows, whichever parts they are in."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .base import Rows
from .index.column_types import common_schema
from .placed_part import PlacedPart

NUMBER: Final = "_index"
"""Column of `RowColumns.every` with the number of the row."""
ALIVE: Final = "_alive"
"""Column of `RowColumns.every` that is 0 in rows that are not answered; left out if none is."""


class RowColumns:
    """The columns of some parts; safe to share between threads."""

    def __init__(self, parts: Sequence[PlacedPart], id_column: str) -> None:
        self.parts = tuple(parts)
        self.nrows = sum(placed.part.nrows for placed in parts)
        """Number of rows, those that are not answered included."""
        self.schema = common_schema(placed.part.schema for placed in parts)
        """All columns, hidden ones too."""
        self._starts = np.array([placed.first_row for placed in parts], np.int64)
        self.order: tuple[str, ...] = (NUMBER,) if len(parts) == 1 else ("_hpx", id_column, NUMBER)
        """Columns of `every` by which rows are in the order of the catalogue."""

    def split(self, rows: Rows) -> Iterator[tuple[PlacedPart, Any, Rows]]:
        """Yield each part that has some of the rows, which of them it has, and their rows in it.

        Which they are is a slice or an array of indices.
        """
        if len(self.parts) == 1:
            yield self.parts[0], slice(None), rows
            return
        number = np.searchsorted(self._starts, rows, "right") - 1
        # Parts without rows begin where the next one does, so they are never found.
        for at in np.flatnonzero(np.bincount(number, minlength=1)).tolist():
            mine = np.flatnonzero(number == at)
            yield self.parts[at], mine, rows[mine] - self._starts[at]

    def gather(self, name: str, rows: Rows) -> npt.NDArray[Any]:
        """Return values of rows, 1D[n], of an attribute of `IndexPart`."""
        if len(self.parts) == 1:
            values: npt.NDArray[Any] = getattr(self.parts[0].part, name)[rows]
            return values
        found = np.empty(len(rows), getattr(self.parts[0].part, name).dtype)
        for placed, mine, own in self.split(rows):
            found[mine] = getattr(placed.part, name)[own]
        return found

    def segments(self, rows: Rows) -> npt.NDArray[np.int32]:
        """Return the number of the segment of rows, 1D[n]."""
        found = np.empty(len(rows), np.int32)
        for placed, mine, own in self.split(rows):
            found[mine] = placed.part.segment[own] + placed.first_segment
        return found

    def are_primary(self, rows: Rows) -> npt.NDArray[np.bool_]:
        """Return which rows are the best of their objects, 1D[n]."""
        found = np.empty(len(rows), np.bool_)
        for placed, mine, own in self.split(rows):
            found[mine] = placed.primary[own]
        return found

    def take(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept.

        Parameters
        ----------
        fields : names in their one spelling, each once
        rows : 1D[n] int64
        """
        schema = pa.schema([self.schema.field(field) for field in fields])
        tables, places = [], []
        for placed, mine, own in self.split(rows):
            tables.append(placed.take(schema, own))
            places.append(mine)
        if len(tables) == 1:
            return tables[0]
        if not tables:
            return self.parts[0].take(schema, rows)
        back = np.empty(len(rows), np.int64)
        back[np.concatenate(places)] = np.arange(len(rows))
        return pa.concat_tables(tables).combine_chunks().take(pa.array(back))

    def every(self, fields: Sequence[str]) -> pa.Table:
        """Return columns of all rows, mapped, and `NUMBER`, and `ALIVE`, by their numbers."""
        schema = pa.schema([self.schema.field(field) for field in fields])
        table = pa.concat_tables(placed.all_of(schema) for placed in self.parts)
        columns = dict(zip(fields, table.columns, strict=True)) | {NUMBER: self._numbers}
        return pa.table(columns if self._alive is None else {**columns, ALIVE: self._alive})

    @cached_property
    def _numbers(self) -> pa.Array:
        return pa.array(np.arange(self.nrows, dtype=np.int32 if self.nrows < 2**31 else np.int64))

    @cached_property
    def _alive(self) -> pa.ChunkedArray | None:
        masks = [placed.alive for placed in self.parts]
        if all(mask is None for mask in masks):
            return None
        return pa.chunked_array(
            [
                np.ones(placed.part.nrows, np.uint8) if mask is None else mask.view(np.uint8)
                for placed, mask in zip(self.parts, masks, strict=True)
            ]
        )

    def in_order(self, rows: Rows) -> Rows:
        """Return rows in the order of the catalogue."""
        rows = np.sort(rows)
        return rows if len(self.parts) == 1 else rows[self._sorted(rows)]

    def first(self, rows: Rows, nrows: int) -> Rows:
        """Return the first ``nrows`` of ascending rows in the order of the catalogue."""
        if len(self.parts) > 1 and nrows and 2 * nrows < len(rows):
            # Rows beyond the last pixel wanted need not be sorted.
            hpx = self.gather("hpx", rows)
            rows = rows[hpx <= np.partition(hpx, nrows - 1)[nrows - 1]]
        return self.in_order(rows)[:nrows]

    def ranks(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return numbers that are in the order of the catalogue, 1D[n] for n different rows."""
        if len(self.parts) == 1:
            return rows
        ascending = np.argsort(rows)
        order = ascending[self._sorted(rows[ascending])]
        ranks = np.empty(len(rows), np.int64)
        ranks[order] = np.arange(len(rows))
        return ranks

    def _sorted(self, rows: Rows) -> npt.NDArray[np.intp]:
        """Return the indices that bring ascending rows into the order of the catalogue."""
        hpx = self.gather("hpx", rows)
        order = np.argsort(hpx)
        ordered = hpx[order]
        same = np.zeros(len(rows) + 1, np.bool_)
        same[1:-1] = ordered[1:] == ordered[:-1]
        tied = np.flatnonzero(same[1:] | same[:-1])
        if len(tied):
            # Rows of one pixel stand together; they are brought into order among themselves.
            some = np.sort(order[tied])
            ids = self.gather("ids", rows[some])
            order[tied] = some[np.lexsort((ids, hpx[some]))]
        return order
