"""Questions to the catalogue of one context, answered from the parts of one version of its index.

Geometry and identifiers are searched in the sorted, memory-mapped columns of each part; conditions
on other columns are answered by DuckDB, among the rows that geometry left. Values of the rows found
come from memory-mapped columns.

A row's number is its place among the rows of all parts, one part after the other. Answers are in
the order of the catalogue: by HEALPix pixel, identifier, part and row, whatever the parts are. With
one part this is the order of the numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import StoreError, TooMuch
from ..model.id_tuple import IdPattern
from ..model.region import Cone, Polygon
from ..model.survey import Survey
from ..wire.numeric import as_arrow
from .base import Catalogue, Place, Rows
from .crossmatch import Matches, SkyColumns, find_nearby
from .deadline import NEVER, Deadline
from .duckdb.best import best_rows
from .duckdb.statements import ConditionReader
from .field_names import FieldNames
from .healpix import cover
from .index.column_types import kind_of
from .index.part import IndexPart
from .index.part_search import allowed, spans_of
from .placed_part import place_parts
from .row_columns import RowColumns
from .search import BLOCK_ROWS, IdSearch, PixelSearch
from .sql.expressions import Condition
from .tables.joined import JoinedColumns


class MappedCatalogue:
    """One version of an index, open for reading: the `Catalogue` of a data folder.

    Parameters
    ----------
    survey : with the columns of this catalogue
    version : `Catalogue.version`
    parts : its parts, and the marks of each (`catalog.index.marks`)
    spectra : the catalogue of the context, to which the rows of a value-added table are joined
    before : an earlier one, of which is shared what has not changed
    """

    def __init__(
        self,
        survey: Survey,
        version: str,
        parts: Sequence[tuple[IndexPart, npt.NDArray[Any]]],
        spectra: Catalogue | None = None,
        before: Catalogue | None = None,
    ) -> None:
        self.survey = survey
        self.version = version
        self.segments = tuple(name for part, _ in parts for name in part.record.segments)
        self.damage: StoreError | None = None
        """The damage that was found since it was opened, if any."""
        self.parts = tuple(place_parts(parts, survey))
        self._pixels = PixelSearch(self.parts)
        self._rows = RowColumns(self.parts, survey.id_column.name)
        self._kinds = {field.name: kind_of(field.type) for field in self._rows.schema}
        self.columns = {n: kind for n, kind in self._kinds.items() if not n.startswith("_")}
        self.joined: JoinedColumns | None = None
        self.spectrum_columns: Mapping[str, str] = {}
        self._take = self._rows.take
        if spectra is not None:
            earlier: JoinedColumns | None = None
            if isinstance(before, MappedCatalogue) and before.version == version:
                earlier = before.joined
            self.joined = JoinedColumns(self._rows, self._ids, spectra, earlier)
            self.spectrum_columns = self.joined.of_spectra
            self._take = self.joined.take
        self._conditions = ConditionReader(
            self._rows, self._take, self._kinds, self.spectrum_columns
        )

    @cached_property
    def _ids(self) -> IdSearch:
        return IdSearch(self.parts)

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""
        name = field.strip().strip('"').lower()
        name = self.survey.aliases.get(name, name)
        if name not in self.columns and name not in self.spectrum_columns:
            columns = (*self.columns, *self.spectrum_columns)
            raise FieldNames(columns, self.survey.aliases, self.survey.columns).unknown(field)
        return name

    def in_region(
        self, region: Cone | Polygon, deadline: Deadline = NEVER, fields: Sequence[str] = ()
    ) -> Rows:
        """Return the rows whose position lies in a region, in the order of the catalogue."""
        del fields
        found, pixels = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for some in self._pixels.candidates(cover(region)):
            deadline.check()
            inside = region.contains(some.ra, some.dec, deadline.check)
            found.append(some.rows[inside])
            pixels.append(some.hpx[inside])
        deadline.check()
        rows = np.concatenate(found)
        if len(self.parts) > 1:
            rows = self._rows.sorted(rows, np.concatenate(pixels))
        return self._rows.answered(rows)

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none."""
        order = np.argsort(ids)
        ids = ids[order]
        found = np.full(len(ids), -1, np.int64)
        unsure = np.zeros(len(ids), np.bool_)
        for named in self._ids.first(ids):
            placed, which = named.placed, named.which
            # Another part may have a better row, and marks may say that another one is the best.
            unsure[which] |= found[which] >= 0
            if len(placed.marks):
                unsure[which] |= np.isin(ids[which], placed.marked_ids)
            found[which] = named.rows + placed.first_row
        if unsure.any():
            found[unsure] = self._best_with(ids[unsure])
        rows = np.empty(len(ids), np.int64)
        rows[order] = found
        return rows

    def _best_with(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the best row of each identifier of all parts, 1D[n]; -1: none is answered."""
        rows = self.all_with_ids(ids)
        known = self._rows.gather("part.ids", rows)
        # Among equals it is the first in the order of the catalogue, which the sort keeps.
        order = np.lexsort((~self._rows.gather("primary", rows), known))
        rows, known = rows[order], known[order]
        if not len(known):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, rows[at], -1)

    def all_with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return all rows of some identifiers, each once, in the order of the catalogue."""
        return self._rows.answered(self._rows.in_order(self._ids.rows(np.unique(ids))))

    def place(self, rows: Rows) -> Place:
        """Return identifier, segment number and segment row of rows."""
        nrows, dtype = len(rows), self.parts[0].part.ids.dtype
        found = Place(np.empty(nrows, dtype), np.empty(nrows, np.int32), np.empty(nrows, np.int32))
        for placed, mine, own in self._rows.split(rows):
            found.ids[mine] = placed.part.ids[own]
            found.segment[mine] = placed.part.segment[own] + placed.first_segment
            found.row[mine] = placed.part.row[own]
        return found

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self._rows.gather("part.ids", np.array([row]))[0])

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
        joined = self.joined
        if joined and not joined.of_spectra.keys().isdisjoint({*fields, *condition.columns}):
            rows = joined.with_spectrum(rows)
        if rows is not None and primary:
            rows = rows[self._rows.gather("primary", rows)]
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
        if wanted is None:
            some = [p.part.search.candidates(parts) + p.first_row for p in self.parts]
            rows = self._rows.answered(np.sort(np.concatenate(some)))
        else:
            rows = self._rows.answered(np.sort(self._ids.rows(wanted)))
            rows = self._having(rows, pattern.told)
        names = list(self.survey.id_parts)
        found, tables = [rows[:0]], [self._rows.take(names, rows[:0])]
        for at in range(0, len(rows), BLOCK_ROWS):
            deadline.check()
            block = rows[at : at + BLOCK_ROWS]
            table = self._rows.take(names, block)
            good = allowed(table, parts)
            found.append(block[good])
            tables.append(table if good.all() else table.filter(pa.array(good)))
        rows, every = np.concatenate(found), pa.concat_tables(tables)
        if len(every) > 1:
            every = every.append_column("_rank", as_arrow(self._rows.ranks(rows)))
            keys = [(name, "ascending") for name in (*names, "_rank")]
            order = pc.sort_indices(every, sort_keys=keys)
            rows, every = rows[order.to_numpy()], every.take(order)
        return rows, every.select(names)

    def _having(self, rows: Rows, wanted: Sequence[tuple[str, str]]) -> Rows:
        """Return the rows that have some values, compared as text, in the columns named."""
        if not wanted or not len(rows):
            return rows
        good = np.ones(len(rows), np.bool_)
        held = [(name, value) for name, value in wanted if self.holds(name)]
        table = self._rows.take(list(dict.fromkeys(name for name, _ in held)), rows)
        for name, value in held:
            stated = table.column(name).to_pylist()
            good &= np.array([cell is not None and str(cell) == value for cell in stated])
        return rows[good]

    def carried(self, rows: Rows, before: Catalogue) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the new numbers of rows of an earlier version: `Catalogue.carried`."""
        assert isinstance(before, MappedCatalogue)
        now = {placed.part: placed for placed in self.parts}
        shift = np.zeros(len(before.parts) + 1, np.int64)
        changed = set(self.parts)
        for number, old in enumerate(before.parts):
            new = now.get(old.part)
            if new is not None and np.array_equal(new.marks, old.marks):
                shift[number] = new.first_row - old.first_row
                changed.remove(new)
            else:
                changed.add(old)
        moved = rows.copy()
        if shift.any():
            firsts = np.array([placed.first_row for placed in before.parts])
            # The last one is that of rows of -1, which are before all parts.
            moved += shift[firsts.searchsorted(rows, "right") - 1]
        some = [placed.part.ids for placed in changed]
        return moved, np.unique(np.concatenate([self.parts[0].part.ids[:0], *some]))

    @property
    def sky(self) -> tuple[SkyColumns, ...]:
        """Positions and identifiers of all rows."""
        return tuple(placed.sky for placed in self.parts)

    def nearby(
        self,
        ra_deg: npt.NDArray[np.float64],
        dec_deg: npt.NDArray[np.float64],
        radius_deg: float,
        *,
        nearest: bool,
        primary: bool,
        max_pairs: int | None = None,
        deadline: Deadline = NEVER,
        go_on: Callable[[], None] = lambda: None,
    ) -> Matches:
        """Return the rows within a radius of each position: `Catalogue.nearby`."""
        return find_nearby(
            self.sky, ra_deg, dec_deg, radius_deg,
            nearest=nearest, primary=primary, max_pairs=max_pairs, deadline=deadline, go_on=go_on,
        )  # fmt: skip

    def positions(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec of rows, degrees, 1D[n]."""
        return self._rows.gather("part.ra", rows), self._rows.gather("part.dec", rows)

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking``, ``row`` and ``reduction`` of the rows with some identifier parts."""
        *names, last = self.survey.id_parts
        return self._conditions.linked(parts, names, last)

    def best_with(self, ids: npt.NDArray[Any], columns: pa.Table) -> Rows:
        """Return the best row of each identifier among those that agree with it, 1D[n]."""
        return best_rows(self, ids, columns)

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones."""
        return sum(placed.nprimary if primary else placed.nalive for placed in self.parts)

    def close(self) -> None:
        """Do nothing: the mapped columns are closed with the last object that has them."""


def _check_count(nrows: int, max_rows: int | None) -> None:
    """Raise `TooMuch` for more rows than may be answered."""
    if max_rows is not None and nrows > max_rows:
        raise TooMuch("rows", nrows, max_rows, "max_rows")
