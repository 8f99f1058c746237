"""The columns of a catalogue: rows are read by their numbers from the parts that hold them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .base import Rows
from .index.column_file import grouped
from .index.column_types import common_schema
from .index.part import IndexPart
from .placed_part import PlacedPart

NUMBER: Final = "_index"
"""Column of `RowColumns.every` with the number of the row."""
ALIVE: Final = "_alive"
"""Column of `RowColumns.every` that is 0 in rows that are not answered; left out if none is."""
# So many rows of one part are gathered value by value. Fewer take less time as rows of Arrow, and a
# run of more is not copied.
_GATHERED: Final = range(2**12, 2**17)


class RowColumns:
    """The columns of some parts; safe to share between threads."""

    def __init__(self, parts: Sequence[PlacedPart], id_column: str) -> None:
        self.parts = tuple(parts)
        self.nrows = sum(placed.part.nrows for placed in parts)
        """Number of rows, those that are not answered included."""
        self.schema = common_schema(placed.part.schema for placed in parts)
        """All columns, hidden ones too."""
        firsts = [placed.first_row for placed in parts]
        self._starts = np.array([*firsts, self.nrows], np.int64)
        self.order: tuple[str, ...] = (NUMBER,) if len(parts) == 1 else ("_hpx", id_column, NUMBER)
        """Columns of `every` by which rows are in the order of the catalogue."""

    def split(self, rows: Rows) -> Iterator[tuple[PlacedPart, Any, Rows]]:
        """Yield each part that has some of the rows, which of them it has, and their rows in it.

        Which they are is a slice or an array of indices.
        """
        for number, mine, own in grouped(rows, self._starts):
            yield self.parts[number], mine, own

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
        parts = list(self.split(rows))
        if not parts or (len(parts) == 1 and len(rows) not in _GATHERED):
            placed, _, own = parts[0] if parts else (self.parts[0], None, rows)
            return placed.take(schema, own)
        pieces = _Pieces(
            len(rows),
            [
                (placed.part, batch, _some(mine, some), inside)
                for placed, mine, own in parts
                for batch, some, inside in placed.part.columns.pieces(own)
            ],
        )
        columns = []
        for field in schema:
            if all(placed.keeps(field) for placed, *_ in parts):
                columns.append(pieces.gather(field))
                continue
            tables = [placed.take(pa.schema([field]), own) for placed, _, own in parts]
            places = np.concatenate([np.arange(len(rows))[mine] for _, mine, _ in parts])
            whole = pa.concat_tables(tables).combine_chunks()
            columns.append(whole.column(0).take(_inverse(places)))
        return pa.table(columns, schema=schema)

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


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Where the values of some rows are: in batches of parts."""

    nrows: int
    listed: list[tuple[IndexPart, int, Any, Rows]]
    """Part and number of a batch, which of the rows it has, and their numbers in it."""

    def gather(self, field: pa.Field) -> pa.Array:
        """Return a column of the rows, which all parts have in its type."""
        arrays = [part.columns.values(field.name, batch) for part, batch, *_ in self.listed]
        is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        if is_number and not any(array.null_count for array in arrays):
            found = np.empty(self.nrows, field.type.to_pandas_dtype())
            for array, (_, _, where, inside) in zip(arrays, self.listed, strict=True):
                found[where] = array.to_numpy()[inside]
            return pa.array(found)
        taken = [
            array.take(pa.array(inside))
            for array, (*_, inside) in zip(arrays, self.listed, strict=True)
        ]
        if len(taken) == 1:
            return taken[0]
        places = [np.arange(self.nrows)[where] for _, _, where, _ in self.listed]
        return pa.concat_arrays(taken).take(_inverse(np.concatenate(places)))


def _some(mine: Any, some: Any) -> Any:
    """Return which rows are some of those that are mine; each is a slice of all, or indices."""
    if isinstance(mine, slice):
        first = mine.start or 0
        if isinstance(some, slice):
            whole = some.stop is None
            return mine if whole else slice(first + some.start, first + some.stop)
        return some + first
    return mine[some]


def _inverse(places: npt.NDArray[np.intp]) -> pa.Array:
    """Return the indices that bring rows from some places back into their order."""
    back = np.empty(len(places), np.int64)
    back[places] = np.arange(len(places))
    return pa.array(back)
