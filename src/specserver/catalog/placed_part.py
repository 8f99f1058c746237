"""An index part in its place in a catalogue: where its rows are, and what marks say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..model.survey import Survey
from ..wire.numeric import as_arrow
from .base import Rows
from .crossmatch import SkyColumns
from .index.part import IndexPart
from .index.write_part import BATCH_ROWS


@dataclass(frozen=True, eq=False)
class PlacedPart:
    """A part of a catalogue; safe to share between threads."""

    part: IndexPart
    survey: Survey
    marks: npt.NDArray[Any]
    """1D[n] `MARK`."""
    first_row: int
    """Number of its first row in the catalogue."""
    first_segment: int
    """Number of its first segment in the catalogue."""

    @property
    def dead(self) -> npt.NDArray[np.int32]:
        """1D[n], rows that are not answered, ascending."""
        dead: npt.NDArray[np.int32] = self.marks["row"][~self.marks["alive"]]
        return dead

    @cached_property
    def alive(self) -> npt.NDArray[np.bool_] | None:
        """1D[nrow], whether each row is answered; None: all are."""
        if not len(self.dead):
            return None
        alive = np.ones(self.part.nrows, np.bool_)
        alive[self.dead] = False
        return alive

    @cached_property
    def batches(self) -> Rows:
        """1D[nbatch], the first row of each batch of its columns in the catalogue."""
        return self.part.columns.starts[:-1] + self.first_row

    @cached_property
    def primary(self) -> npt.NDArray[np.bool_]:
        """1D[nrow], whether each row is the best of its object; a row that is dead is not."""
        if not len(self.marks):
            return self.part.primary
        primary = self.part.primary.copy()
        primary[self.marks["row"]] = self.marks["primary"] & self.marks["alive"]
        return primary

    @cached_property
    def marked_ids(self) -> npt.NDArray[Any]:
        """1D[n], identifiers of the rows with marks, ascending."""
        found: npt.NDArray[Any] = np.unique(self.part.ids[self.marks["row"]])
        return found

    @cached_property
    def nalive(self) -> int:
        """Number of rows that are answered."""
        return self.part.nrows - len(self.dead)

    @cached_property
    def nprimary(self) -> int:
        """Number of best rows."""
        return int(np.count_nonzero(self.primary))

    @property
    def sky(self) -> SkyColumns:
        """Positions and identifiers of its rows."""
        part, best = self.part, self.primary
        return SkyColumns(
            part.hpx, part.ra, part.dec, part.ids, best, self.alive, self.first_row, part.near
        )

    def every(self, *, primary: bool, most: int | None) -> Rows:
        """Return its rows, or its best ones, ascending; no more than ``most``."""
        wanted = self.primary if primary else self.alive
        rows = np.arange(self.part.nrows) if wanted is None else np.flatnonzero(wanted)
        return rows[:most]

    def take(self, schema: pa.Schema, rows: Rows) -> pa.Table:
        """Return columns of its rows, in the order of ``rows``; null where it lacks a column."""
        table = self.part.columns.take(
            [n for n in schema.names if n in self.part.schema.names], rows
        )
        changed: dict[str, Any] = {}
        if self.first_segment and "_segment" in schema.names:
            changed["_segment"] = as_arrow(self.part.segment[rows] + np.int32(self.first_segment))
        if self._marks_column in schema.names:
            changed[self._marks_column] = self._best(self.primary[rows])
        return _with_schema(table, schema, changed, len(rows))

    def keeps(self, field: pa.Field) -> bool:
        """Return whether the part has a column, of the type of a field, that is not changed."""
        changed = (self._marks_column, "_segment" if self.first_segment else "")
        return field.name not in changed and self.part.has(field)

    def all_of(self, schema: pa.Schema) -> pa.Table:
        """Return columns of all its rows, mapped."""
        names = [name for name in schema.names if name in self.part.schema.names]
        changed = {}
        if self._marks_column in schema.names:
            changed[self._marks_column] = self._best(self.primary)
        return _with_schema(self.part.columns.every(names), schema, changed, self.part.nrows)

    @property
    def _marks_column(self) -> str:
        """Name of the column that marks change; empty: there is none."""
        return self.survey.primary[0] if len(self.marks) and self.survey.best else ""

    def _best(self, primary: npt.NDArray[np.bool_]) -> pa.Array:
        """Return values of the survey's column of best rows."""
        return as_arrow(primary.view(np.uint8))


def place_parts(
    parts: Sequence[tuple[IndexPart, npt.NDArray[Any]]], survey: Survey
) -> list[PlacedPart]:
    """Return parts and their marks in their places, in their order."""
    placed: list[PlacedPart] = []
    first_row = first_segment = 0
    for part, marks in parts:
        placed.append(PlacedPart(part, survey, marks, first_row, first_segment))
        first_row += part.nrows
        first_segment += len(part.record.segments)
    return placed


def _with_schema(
    table: pa.Table, schema: pa.Schema, changed: dict[str, Any], nrow: int
) -> pa.Table:
    """Return a table with the columns of a schema: changed ones, its own, or null.

    Parameters
    ----------
    nrow : number of its rows, which a table without columns does not know
    """
    if not changed and table.schema.equals(schema):
        return table
    columns = []
    for field in schema:
        column = changed.get(field.name)
        if column is None and field.name in table.column_names:
            column = table.column(field.name)
        if column is None:
            column = _nulls(nrow, field.type)
        columns.append(column if column.type == field.type else column.cast(field.type))
    return pa.table(columns, schema=schema)


def _nulls(nrow: int, form: pa.DataType) -> pa.ChunkedArray:
    """Return a column of nulls, which takes the memory of one batch."""
    block = pa.nulls(min(nrow, BATCH_ROWS), form)
    chunks = [block.slice(0, nrow - at) for at in range(0, nrow, BATCH_ROWS)]
    return pa.chunked_array(chunks, form)
