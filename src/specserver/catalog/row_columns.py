"""The columns of a catalogue: rows are read by their numbers from the parts that hold them."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from operator import attrgetter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..wire.numeric import as_arrow
from .base import Rows
from .index.column_file import Grouped, grouped, inverse
from .index.column_types import common_schema
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
        # Those of most parts are one object.
        schemas = {id(placed.part.schema): placed.part.schema for placed in parts}
        self.schema = common_schema(schemas.values())
        """All columns, hidden ones too."""
        firsts = [placed.first_row for placed in parts]
        self._starts = np.array([*firsts, self.nrows], np.int64)
        self.order: tuple[str, ...] = (NUMBER,) if len(parts) == 1 else ("_hpx", id_column, NUMBER)
        """Columns of `every` by which rows are in the order of the catalogue."""
        self._kept: dict[str, list[bool]] = {}

    def split(self, rows: Rows) -> Iterator[tuple[PlacedPart, Any, Rows]]:
        """Yield each part that has some of the rows, which of them it has, and their rows in it.

        Which they are is a slice or an array of indices.
        """
        mine = grouped(rows, self._starts)
        for at, (number, own) in enumerate(mine):
            some = slice(mine.cuts[at], mine.cuts[at + 1])
            yield self.parts[number], some if mine.order is None else mine.order[some], own

    def gather(self, name: str, rows: Rows) -> npt.NDArray[Any]:
        """Return values of rows, 1D[n], of an attribute of `PlacedPart` or its part."""
        of = attrgetter(name)
        mine = grouped(rows, self._starts)
        found = [of(self.parts[number])[own] for number, own in mine]
        return mine.given(np.concatenate(found or [of(self.parts[0])[:0]]))

    def answered(self, rows: Rows) -> Rows:
        """Return the given rows without those that are not answered; their order is kept."""
        if not len(self._dead):
            return rows
        at = np.minimum(self._dead.searchsorted(rows), len(self._dead) - 1)
        answered: Rows = rows[self._dead[at] != rows]
        return answered

    @cached_property
    def _dead(self) -> Rows:
        """Rows that are not answered, ascending."""
        dead = [placed.dead + placed.first_row for placed in self.parts]
        return np.concatenate([np.empty(0, np.int64), *dead])

    def take(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept.

        Parameters
        ----------
        fields : names in their one spelling, each once
        rows : 1D[n] int64
        """
        schema = pa.schema([self.schema.field(field) for field in fields])
        if len(self.parts) == 1 and len(rows) not in _GATHERED:
            return self.parts[0].take(schema, rows)
        numbers = self._holding(rows)
        if len(numbers) < 2 and len(rows) not in _GATHERED:
            placed = self.parts[numbers[0] if numbers else 0]
            return placed.take(schema, rows - placed.first_row)
        listed = [(n, batch) for n in numbers for batch in range(len(self.parts[n].batches))]
        starts = [self.parts[number].batches for number in numbers]
        mine = grouped(rows, np.concatenate([*starts, [self.nrows]]))
        batches = [(*listed[at], inside) for at, inside in mine]
        columns = {
            field.name: self._gathered(field, batches, mine)
            for field in schema
            if all(self._keeps(field)[number] for number in numbers)
        }
        if others := [field for field in schema if field.name not in columns]:
            table = self._of_parts(pa.schema(others), rows)
            columns.update(zip(table.column_names, table.columns, strict=True))
        return pa.table([columns[name] for name in schema.names], schema=schema)

    def _of_parts(self, schema: pa.Schema, rows: Rows) -> pa.Table:
        """Return columns of rows, which each part reads as Arrow."""
        mine = grouped(rows, self._starts)
        whole = pa.concat_tables(self.parts[number].take(schema, own) for number, own in mine)
        if mine.order is None:
            return whole
        return whole.combine_chunks().take(as_arrow(inverse(mine.order)))

    def _keeps(self, field: pa.Field) -> list[bool]:
        """Return whether each part can give a column as it is stored (`PlacedPart.keeps`)."""
        known = self._kept.get(field.name)
        if known is None:
            known = self._kept[field.name] = [placed.keeps(field) for placed in self.parts]
        return known

    def _holding(self, rows: Rows) -> list[int]:
        """Return the numbers of the parts that have some of the rows."""
        number = self._starts.searchsorted(rows, "right") - 1
        numbers: list[int] = np.bincount(number, minlength=1).nonzero()[0].tolist()
        return numbers

    def _gathered(
        self, field: pa.Field, batches: Sequence[tuple[int, int, Rows]], mine: Grouped
    ) -> pa.Array:
        """Return a column of rows, whose parts all have it as it is.

        Parameters
        ----------
        batches : number of a part, number of a batch of it, and rows of that batch
        mine : the same rows by their batches
        """
        columns = [self.parts[number].part.columns for number, *_ in batches]
        found = []
        for of, (_, batch, inside) in zip(columns, batches, strict=True):
            values = of.numbers(field.name, batch)
            if values is None:
                break
            found.append(values[inside])
        else:
            return as_arrow(mine.given(np.concatenate(found)))
        taken = [
            of.values(field.name, batch).take(as_arrow(inside))
            for of, (_, batch, inside) in zip(columns, batches, strict=True)
        ]
        whole = taken[0] if len(taken) == 1 else pa.concat_arrays(taken)
        return whole if mine.order is None else whole.take(as_arrow(inverse(mine.order)))

    def every(self, fields: Sequence[str]) -> pa.Table:
        """Return columns of all rows, mapped, and `NUMBER`, and `ALIVE`, by their numbers."""
        schema = pa.schema([self.schema.field(field) for field in fields])
        table = pa.concat_tables(placed.all_of(schema) for placed in self.parts)
        columns = dict(zip(fields, table.columns, strict=True)) | {NUMBER: self._numbers}
        return pa.table(columns if self._alive is None else {**columns, ALIVE: self._alive})

    @cached_property
    def _numbers(self) -> pa.Array:
        return as_arrow(np.arange(self.nrows, dtype=np.int32 if self.nrows < 2**31 else np.int64))

    @cached_property
    def _alive(self) -> pa.Array | None:
        if not len(self._dead):
            return None
        alive = np.ones(self.nrows, np.uint8)
        alive[self._dead] = 0
        return as_arrow(alive)

    def in_order(self, rows: Rows) -> Rows:
        """Return rows in the order of the catalogue."""
        rows = np.sort(rows)
        return rows if len(self.parts) == 1 else self.sorted(rows, self.gather("part.hpx", rows))

    def first(self, rows: Rows, nrows: int) -> Rows:
        """Return the first ``nrows`` of ascending rows in the order of the catalogue."""
        if len(self.parts) > 1 and nrows and 2 * nrows < len(rows):
            # Rows beyond the last pixel wanted need not be sorted.
            hpx = self.gather("part.hpx", rows)
            rows = rows[hpx <= np.partition(hpx, nrows - 1)[nrows - 1]]
        return self.in_order(rows)[:nrows]

    def ranks(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return numbers that are in the order of the catalogue, 1D[n] for n different rows."""
        if len(self.parts) == 1:
            return rows
        ranks = np.empty(len(rows), np.int64)
        ranks[np.argsort(rows)] = np.argsort(self.in_order(rows))
        return ranks

    def sorted(self, rows: Rows, hpx: npt.NDArray[np.int64]) -> Rows:
        """Return ascending rows in the order of the catalogue.

        Parameters
        ----------
        hpx : 1D[n], their order-29 pixels
        """
        order = hpx.argsort()
        ordered = hpx[order]
        same = np.zeros(len(rows) + 1, np.bool_)
        same[1:-1] = ordered[1:] == ordered[:-1]
        tied = (same[1:] | same[:-1]).nonzero()[0]
        if len(tied):
            # Rows of one pixel stand together; they are brought into order among themselves.
            some = np.sort(order[tied])
            ids = self.gather("part.ids", rows[some])
            order[tied] = some[np.lexsort((ids, hpx[some]))]
        return rows[order]
