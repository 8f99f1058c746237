"""Questions to the catalogue of one context, answered from the parts of one version of its index.

Geometry and identifiers are searched in the sorted, memory-mapped columns of each part; conditions
on other columns are answered by DuckDB, among the rows that geometry left. Values of the rows found
come from memory-mapped columns.

A row's number is its place among the rows of all parts, one part after the other. Answers are in
the order of the catalogue: by HEALPix pixel, identifier, part and row, whatever the parts are. With
one part this is the order of the numbers.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import DamagedFile, TooMuch
from ..model.id_tuple import IdPattern
from ..model.region import Cone, Polygon
from ..model.survey import Survey
from .base import Catalogue, Place, Rows
from .crossmatch import SkyColumns
from .deadline import NEVER, Deadline
from .duckdb.best import find_best
from .duckdb.statements import ConditionReader
from .field_names import FieldNames
from .healpix import cover
from .index.column_types import conformed, kind_of
from .index.part import IndexPart, row_blocks
from .index.part_search import spans_of
from .part_filter import PartFilter
from .placed_part import PlacedPart, place_parts
from .row_columns import RowColumns
from .sql.expressions import Condition
from .tables.joined import JoinedColumns

# Candidates tested between two checks of the deadline: some 50 ms and 20 MB.
_BLOCK_ROWS: Final = 2**18


class MappedCatalogue:
    """One version of an index, open for reading: the `Catalogue` of a data folder.

    Parameters
    ----------
    survey : with the columns of this catalogue
    version : `Catalogue.version`
    parts : its parts, and the marks of each (`catalog.index.marks`)
    spectra : the catalogue of the context, to which the rows of a value-added table are joined
    """

    def __init__(
        self,
        survey: Survey,
        version: str,
        parts: Sequence[tuple[IndexPart, npt.NDArray[Any]]],
        spectra: Catalogue | None = None,
    ) -> None:
        self.survey = survey
        self.version = version
        self.segments = tuple(name for part, _ in parts for name in part.record.segments)
        self.damage: DamagedFile | None = None
        """The damage that was found since it was opened, if any."""
        self.parts = tuple(place_parts(parts, survey))
        self._filter = PartFilter(self.parts)
        self._rows = RowColumns(self.parts, survey.id_column.name)
        self._kinds = {field.name: kind_of(field.type) for field in self._rows.schema}
        self.columns = {n: kind for n, kind in self._kinds.items() if not n.startswith("_")}
        self._joined: JoinedColumns | None = None
        self.spectrum_columns: Mapping[str, str] = {}
        self._take = self._rows.take
        if spectra is not None:
            self._joined = JoinedColumns(self._rows, spectra)
            self.spectrum_columns = self._joined.of_spectra
            self._take = self._joined.take
        self._conditions = ConditionReader(
            self._rows, self._take, self._kinds, self.spectrum_columns
        )

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""
        name = field.strip().strip('"').lower()
        name = self.survey.aliases.get(name, name)
        if name not in self.columns and name not in self.spectrum_columns:
            columns = (*self.columns, *self.spectrum_columns)
            raise FieldNames(columns, self.survey.aliases, self.survey.columns).unknown(field)
        return name

    def in_region(self, region: Cone | Polygon, deadline: Deadline = NEVER) -> Rows:
        """Return the rows whose position lies in a region, in the order of the catalogue."""
        runs = cover(region)
        found: list[Rows] = []
        waiting: list[tuple[PlacedPart, Rows]] = []
        nrows = 0

        def test() -> None:
            deadline.check()
            ra = np.concatenate([placed.part.ra[rows] for placed, rows in waiting])
            dec = np.concatenate([placed.part.dec[rows] for placed, rows in waiting])
            rows = np.concatenate([rows + placed.first_row for placed, rows in waiting])
            found.append(rows[region.contains(ra, dec, deadline.check)])
            waiting.clear()

        for placed in self._filter.in_pixels(runs):
            for block in row_blocks(placed.part.in_pixels(runs), _BLOCK_ROWS):
                waiting.append((placed, placed.answered(block)))
                nrows += len(block)
                if nrows >= _BLOCK_ROWS:
                    test()
                    nrows = 0
        if waiting:
            test()
        deadline.check()
        return self._ordered(found)

    def _ordered(self, found: Sequence[Rows]) -> Rows:
        """Return rows that were found part by part, in the order of the catalogue."""
        rows = np.concatenate([np.empty(0, np.int64), *found])
        return rows if len(self.parts) == 1 else self._rows.in_order(rows)

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none."""
        order = np.argsort(ids)
        ids = ids[order]
        found = np.full(len(ids), -1, np.int64)
        unsure = np.zeros(len(ids), np.bool_)
        for placed, some in self._filter.with_ids(ids):
            rows = placed.part.first_with(ids[some])
            here = rows >= 0
            # Another part may have a better row, and marks may say that another one is the best.
            unsure[some] |= here & (found[some] >= 0)
            if len(placed.marks):
                unsure[some] |= here & np.isin(ids[some], placed.marked_ids)
            found[some] = np.where(here, rows + placed.first_row, found[some])
        if unsure.any():
            found[unsure] = self._best_with(ids[unsure])
        rows = np.empty(len(ids), np.int64)
        rows[order] = found
        return rows

    def _best_with(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the best row of each identifier of all parts, 1D[n]; -1: none is answered."""
        rows = self.all_with_ids(ids)
        known = self._rows.gather("ids", rows)
        # Among equals it is the first in the order of the catalogue, which the sort keeps.
        order = np.lexsort((~self._rows.are_primary(rows), known))
        rows, known = rows[order], known[order]
        if not len(known):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, rows[at], -1)

    def all_with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return all rows of some identifiers, each once, in the order of the catalogue."""
        ids = np.unique(ids)
        found = [
            placed.answered(placed.part.all_with(ids[some])) + placed.first_row
            for placed, some in self._filter.with_ids(ids)
        ]
        return self._rows.in_order(np.concatenate([np.empty(0, np.int64), *found]))

    def place(self, rows: Rows) -> Place:
        """Return identifier, segment number and segment row of rows."""
        gather = self._rows.gather
        return Place(gather("ids", rows), self._rows.segments(rows), gather("row", rows))

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self._rows.gather("ids", np.array([row]))[0])

    def query(
        self,
        fields: Sequence[str],
        condition: Condition,
        rows: Rows | None,
        *,
        primary: bool,
        deadline: Deadline = NEVER,
        max_rows: int | None = None,
    ) -> pa.Table:
        """Return columns of the rows that meet a condition, as `Catalogue.query` says."""
        joined = self._joined
        if joined and not joined.of_spectra.keys().isdisjoint({*fields, *condition.columns}):
            rows = joined.with_spectrum(rows)
        if rows is not None and primary:
            rows = rows[self._rows.are_primary(rows)]
        if condition.where is None and not condition.order:
            nrows = self.count(primary=primary) if rows is None else len(rows)
            nrows = nrows if condition.limit is None else min(nrows, condition.limit)
            _check_count(nrows, max_rows)
            found = self._first(nrows, primary=primary) if rows is None else rows[:nrows]
        elif rows is None:
            best = self.survey.primary if primary else None
            found = self._conditions.meeting(condition, None, best, deadline)
        else:
            found = self._conditions.meeting(condition, rows, None, deadline)
        deadline.check()
        _check_count(len(found), max_rows)
        table = self._take(fields, found)
        deadline.check()
        return table

    def _first(self, nrows: int, *, primary: bool) -> Rows:
        """Return the first rows, or best rows, in the order of the catalogue."""
        found = [
            placed.every(primary=primary, most=nrows) + placed.first_row for placed in self.parts
        ]
        return self._rows.first(np.concatenate([np.empty(0, np.int64), *found]), nrows)

    def holds(self, column: str) -> bool:
        """Return whether there is a column, hidden or not: older versions wrote fewer."""
        return column in self._kinds

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept."""
        return self._take(fields, rows)

    def matching(self, pattern: IdPattern, deadline: Deadline = NEVER) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple with wildcards names, and their identifier parts."""
        parts = pattern.parts
        wanted = None
        if pattern.form.leads_with_id and parts[0] is not None:
            dtype = np.dtype(self.survey.id_column.dtype)
            # Each is one identifier: lists of them have no ranges.
            wanted = np.unique(spans_of(parts[0], dtype)[0])
            parts = (None, *parts[1:])
        some_parts: Iterable[tuple[PlacedPart, slice]]
        if wanted is None:
            some_parts = ((placed, slice(None)) for placed in self.parts)
        else:
            some_parts = self._filter.with_ids(wanted)
        rows, tables = [np.empty(0, np.int64)], []
        for placed, mine in some_parts:
            part = placed.part
            if wanted is None:
                some = part.search.candidates(parts)
            else:
                some = np.sort(part.all_with(wanted[mine]))
                some = self._having(placed, some, pattern.told)
            some, table = part.search.matching(placed.answered(some), parts, deadline)
            rows.append(some + placed.first_row)
            tables.append(table)
        found = np.concatenate(rows)
        names = self.survey.id_parts
        schema = pa.schema([self._rows.schema.field(name) for name in names])
        every = pa.concat_tables([schema.empty_table(), *(conformed(t, schema) for t in tables)])
        if len(every) > 1:
            every = every.append_column("_rank", pa.array(self._rows.ranks(found)))
            keys = [(name, "ascending") for name in (*names, "_rank")]
            order = pc.sort_indices(every, sort_keys=keys)
            found, every = found[order.to_numpy()], every.take(order)
        return found, every.select(names)

    def _having(self, placed: PlacedPart, rows: Rows, wanted: Sequence[tuple[str, str]]) -> Rows:
        """Return the rows that have some values, compared as text, in the columns named."""
        if not wanted or not len(rows):
            return rows
        good = np.ones(len(rows), np.bool_)
        held = [(name, value) for name, value in wanted if self.holds(name)]
        table = self._rows.take(
            list(dict.fromkeys(name for name, _ in held)), rows + placed.first_row
        )
        for name, value in held:
            stated = table.column(name).to_pylist()
            good &= np.array([cell is not None and str(cell) == value for cell in stated])
        return rows[good]

    @property
    def sky(self) -> tuple[SkyColumns, ...]:
        """Positions and identifiers of all rows."""
        return tuple(placed.sky for placed in self.parts)

    def positions(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec of rows, degrees, 1D[n]."""
        return self._rows.gather("ra", rows), self._rows.gather("dec", rows)

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking``, ``row`` and ``reduction`` of the rows with some identifier parts."""
        *names, last = self.survey.id_parts
        return self._conditions.linked(parts, names, last)

    def best_with(self, ids: npt.NDArray[Any], columns: pa.Table) -> Rows:
        """Return the best row of each identifier among those that agree with it, 1D[n]."""
        survey = self.survey
        by = [name for name in columns.column_names if name in self.columns]
        order = [name for name, _ in survey.best.order] if survey.best else []
        wanted = [name for name in (survey.id_column.name, *by, *order) if name in self.columns]
        rows = self.all_with_ids(ids)
        spectra = self.columns_of(list(dict.fromkeys(wanted)), rows)
        asked = columns.select(by).append_column(survey.id_column.name, pa.array(ids))
        found = find_best(survey, asked, spectra, by)
        return np.where(found >= 0, rows[found], -1) if len(rows) else found

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones."""
        return sum(placed.nprimary if primary else placed.nalive for placed in self.parts)

    def close(self) -> None:
        """Do nothing: the mapped columns are closed with the last object that has them."""


def _check_count(nrows: int, max_rows: int | None) -> None:
    """Raise `TooMuch` for more rows than may be answered."""
    if max_rows is not None and nrows > max_rows:
        raise TooMuch("rows", nrows, max_rows, "max_rows")
