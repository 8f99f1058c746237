"""The rows of one table in PostgreSQL, as a catalogue answers from them.

Geometry is tested here, exactly, among candidates that the database returns.
"""

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import CatalogError, DamagedFile, TooMuch
from ...model.id_tuple import IdPattern
from ...model.region import Cone, Polygon
from ...model.survey import Survey
from ...wire.numeric import as_arrow
from ..base import Rows
from ..crossmatch import Matches, SkyColumns, find_nearby, in_their_order
from ..deadline import NEVER, Deadline
from ..duckdb.best import best_rows
from ..field_names import FieldNames
from ..sky_pixels import pixel_runs
from ..sql.expressions import Condition
from .conditions import ConditionWriter
from .database import Database
from .names import from_postgres, signed
from .parameters import Parameters
from .region_rows import LOOKED_AT, RegionRows, known_answer
from .relation import Floats, Ints, Relation, plain_array
from .seen import block_of, found_at, replaced, require_same, serial_of, telling, told
from .tuples import allowed, linked_query, order_of

_SHARED: Final = "rows share a number: attach the table again, with another --key"
_BLOCK: Final = 2**17
"""Rows or identifiers that are looked up by one query."""


class PostgresRows:
    """What all catalogues in PostgreSQL have in common; safe to share between threads.

    Parameters
    ----------
    survey : with the columns of this catalogue
    version : `Catalogue.version`
    """

    def __init__(
        self, database: Database, survey: Survey, version: str, relation: Relation
    ) -> None:
        self.survey = survey
        self.version = version
        self.damage: DamagedFile | None = None
        """None: the database tells of damage itself."""
        self.spectrum_columns: Mapping[str, str] = {}
        self._database = database
        self._relation = relation
        self._max_found: int | None = None
        """Rows in one region beyond which it is refused; None: any number."""
        self._last = threading.local()
        """What each thread found last in a region."""
        self._stored = relation.columns
        self._id = self._stored[survey.id_column.name]
        self._in_order = f"{relation.pixel}, {self._id.order}, {relation.number}"
        kinds = {name: column.kind for name, column in self._stored.items()}
        self.columns = {name: kind for name, kind in kinds.items() if not name.startswith("_")}

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""
        name = field.strip().strip('"').lower()
        name = self.survey.aliases.get(name, name)
        if name not in self.columns:
            columns = tuple(self.columns)
            raise FieldNames(columns, self.survey.aliases, self.survey.columns).unknown(field)
        return name

    def holds(self, column: str) -> bool:
        """Return whether there is a column, hidden or not: older versions wrote fewer."""
        return column in self._stored

    def close(self) -> None:
        """Do nothing: connections are those of the database."""

    # -- positions --------------------------------------------------------------------------------

    def in_region(
        self, region: Cone | Polygon, deadline: Deadline = NEVER, fields: Sequence[str] = ()
    ) -> Rows:
        """Return the rows whose position lies in a region, in the order of the catalogue.

        If few rows are expected, the same query fetches the columns that `query` reads next.
        """
        values = Parameters()
        near, fetched = self._near_region(region, values, fields)
        counting = self._relation.serial(values)
        found = RegionRows(region, deadline.check, self._max_found, counting=bool(counting))
        width = LOOKED_AT + (1 + len(fetched) if fetched else 0)
        block = block_of(self._expected(), width)
        self._database.each(telling(near, counting, width), values, deadline, found.take, block)
        deadline.check()
        self._saw(found.serial)
        rows = found.sorted(self._order, [self._stored[name] for name in fetched])
        # It must not keep them: they may be millions.
        self._last.rows = weakref.ref(rows)
        return rows

    def _saw(self, serial: int | None) -> None:
        """Look at the count of changes that an answer told; None: it told none."""

    def _expected(self) -> float:
        """About how many rows the query of a region looks at."""
        return 0.0

    def _order(self, number: Rows, hpx: Ints, ids: npt.NDArray[Any]) -> Ints:
        """Return the indices that sort rows as the catalogue does, 1D[n]; ``ids`` are signed."""
        return np.lexsort((number, self._unsigned(ids), hpx))

    def _unsigned(self, ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return identifiers of the database, 1D[n], in the survey's type, 1D[n]."""
        whole = ids.astype(np.int64)
        dtype = np.dtype(self.survey.id_column.dtype)
        return whole.view(dtype) if self._id.is_wrapped else whole.astype(dtype)

    def positions(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec of rows, degrees, 1D[n]."""
        found = self.columns_of(["ra", "dec"], rows)
        ra, dec = (
            column.cast(pa.float64()).fill_null(np.nan).to_numpy() for column in found.columns
        )
        return ra, dec

    def nearby(
        self,
        ra_deg: Floats,
        dec_deg: Floats,
        radius_deg: float,
        *,
        nearest: bool,
        primary: bool,
        max_pairs: int | None = None,
        deadline: Deadline = NEVER,
        go_on: Callable[[], None] = lambda: None,
    ) -> Matches:
        """Return the rows within a radius of each position: `Catalogue.nearby`."""
        found: list[Matches] = []
        left = max_pairs
        for which, runs in pixel_runs(ra_deg, dec_deg, radius_deg, self._size):
            go_on()
            place = ra_deg[which], dec_deg[which]
            numbers, sky = self._sky(*place, radius_deg, runs, deadline)
            pairs = find_nearby(
                [sky], *place, radius_deg,
                nearest=nearest, primary=primary, max_pairs=left, deadline=deadline, go_on=go_on,
            )  # fmt: skip
            if left is not None and not nearest:
                left -= len(pairs)
            found.append(Matches(which[pairs.position], numbers[pairs.row], pairs.separation_deg))
        return in_their_order(found)

    def _sky(
        self, ra_deg: Floats, dec_deg: Floats, radius_deg: float, runs: Ints, deadline: Deadline
    ) -> tuple[Rows, SkyColumns]:
        """Return the rows that may lie near positions, 1D[n], and where they are."""
        values = Parameters()
        query = self._near(ra_deg, dec_deg, radius_deg, runs, values)
        found = self._database.arrow(query, values, deadline)
        number, hpx, ra, dec, ids, primary = map(plain_array, found.columns)
        own = self._unsigned(ids)
        order = np.lexsort((number, own, hpx))
        number, hpx, ra, dec, own, primary = (
            array[order] for array in (number, hpx, ra, dec, own, primary)
        )
        sky = SkyColumns(hpx, ra.astype("f8"), dec.astype("f8"), own, primary.astype(np.bool_))
        return number, sky

    @property
    def _size(self) -> int:
        """About how many rows there are."""
        return _BLOCK

    def _is_last(self, rows: Rows) -> bool:
        """Return whether rows are those that this thread found in a region just now."""
        last: Callable[[], Rows | None] = getattr(self._last, "rows", lambda: None)
        return last() is rows

    def _among(self, rows: Rows, values: Parameters) -> tuple[str, str]:
        """Return what to select from, and the condition that a row has one of some numbers."""
        return self._relation.table, self._relation.numbered(rows, values)

    def _near_region(
        self, region: Cone | Polygon, values: Parameters, fields: Sequence[str]
    ) -> tuple[str, Sequence[str]]:
        """Return the query of the rows that may lie in a region, and the fields that it fetches.

        Its columns are `LOOKED_AT`; if there are such fields, `Relation.primary` and they follow.
        """
        raise NotImplementedError

    def _near(
        self, ra_deg: Floats, dec_deg: Floats, radius_deg: float, runs: Ints, values: Parameters
    ) -> str:
        """Return the query of the same, and `Relation.primary`, of rows that may be near positions.

        Parameters
        ----------
        ra_deg, dec_deg : 1D[n] float64, deg
        runs : 2D[nrun, 2], order-29 pixels that hold all that is near, half-open
        """
        raise NotImplementedError

    # -- identifiers ------------------------------------------------------------------------------

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none."""
        wanted = signed(ids)
        number, hpx, known, primary = self._having(np.unique(wanted))
        # Among equals it is the first in the order of the catalogue.
        order = np.lexsort((number, hpx, ~primary, known))
        number, known = number[order], known[order]
        if not len(known):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
        return np.where((known[at] == wanted) & (wanted != 0), number[at], -1)

    def all_with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return all rows of some identifiers, each once, in the order of the catalogue."""
        number, hpx, known, _ = self._having(np.unique(signed(ids)))
        order = self._order(number, hpx, known)
        return found_at(number[order], serial_of(number))

    def _having(self, ids: Ints) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]:
        """Return number, pixel, identifier and whether it is the best, of rows of identifiers."""
        relation, tables, serials = self._relation, [], []
        names = f"{relation.number}, {relation.pixel}, {self._id.identifier}, {relation.primary}"
        for at in range(0, max(len(ids), 1), _BLOCK):
            values = Parameters()
            where = relation.having(ids[at : at + _BLOCK], values)
            query = f"SELECT {names} FROM {relation.table} WHERE {where}"
            counting = relation.serial(values)
            table = self._database.arrow(telling(query, counting, 4), values)
            table, serial = told(table) if counting else (table, None)
            tables.append(table)
            serials.append(serial)
        for serial in serials:
            require_same(serials[0], serial)
        self._saw(serials[0])
        found = pa.concat_tables(tables)
        number, hpx, known, primary = map(plain_array, found.columns)
        number = found_at(number, serials[0])
        if len(tables) == 1:
            self._last.named = number, known
        return number, hpx, known.astype(np.int64), primary.astype(np.bool_)

    def _ids_of(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the identifiers of rows, 1D[n], in the survey's type, 1D[n]; 0: none.

        Those of rows that were found by identifiers just now are known.
        """
        number, known = getattr(self._last, "named", (rows[:0], rows[:0]))
        if len(number):
            order = np.argsort(number)
            at = order[np.minimum(np.searchsorted(number[order], rows), len(number) - 1)]
            if np.array_equal(number[at], rows):
                return self._unsigned(known[at])
        found: npt.NDArray[Any] = (
            self.columns_of([self._id.name], rows).column(0).fill_null(0).to_numpy()
        )
        return found

    def best_with(self, ids: npt.NDArray[Any], columns: pa.Table) -> Rows:
        """Return the best row of each identifier among those that agree with it, 1D[n]."""
        return best_rows(self, ids, columns)

    # -- columns and conditions -------------------------------------------------------------------

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept."""
        return self._taken(fields, rows, NEVER)

    def _taken(self, fields: Sequence[str], rows: Rows, deadline: Deadline) -> pa.Table:
        columns = [self._stored[field] for field in fields]
        wanted = np.unique(rows)
        step = max(len(wanted), 1) if self._is_last(rows) else _BLOCK
        names = ", ".join([self._relation.number, *(column.identifier for column in columns)])
        tables = []
        for at in range(0, max(len(wanted), 1), step):
            values = Parameters()
            some = rows if step >= len(wanted) else wanted[at : at + step]
            source, where = self._among(some, values)
            query = f"SELECT {names} FROM {source} WHERE {where}"
            block = block_of(len(some), 1 + len(columns))
            tables.append(self._database.arrow(query, values, deadline, block))
        found = pa.concat_tables(tables)
        number = plain_array(found.column(0))
        order = np.argsort(number)
        number = number[order]
        places = np.searchsorted(number, rows)
        if len(number) > len(wanted):
            raise CatalogError(_SHARED)
        if len(number) < len(wanted):
            raise replaced()
        table = from_postgres(found.select(range(1, found.num_columns)), columns)
        return table.take(as_arrow(order[places])) if fields else table

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
        known = known_answer(rows, fields, condition, primary=primary, max_rows=max_rows)
        if known is not None:
            return known
        columns = [self._stored[field] for field in fields]
        values = Parameters()
        writer = ConditionWriter(self._stored, values, self._database.letters())
        where = [self._relation.primary] if primary else []
        if condition.where is not None:
            where.append(f"({writer.require(condition.where)})")
        source = self._relation.table
        if rows is not None:
            source, among = self._among(rows, values)
            where.append(among)
        order = [writer.order(key.column, descending=key.descending) for key in condition.order]
        asked_for = condition.limit, None if max_rows is None else max_rows + 1
        most = [count for count in asked_for if count is not None]
        query = [
            f"SELECT {', '.join([self._relation.number, *(c.identifier for c in columns)])}",
            f"FROM {source}",
            f"WHERE {' AND '.join(where)}" if where else "",
            f"ORDER BY {', '.join([*order, self._in_order])}",
            f"LIMIT {values.bind(min(most))}" if most else "",
        ]
        before = serial_of(rows)
        counting = "" if before is None else self._relation.serial(values)
        asked = telling(" ".join(query), counting, 1 + len(columns))
        expected = min([*most, np.inf if rows is None else len(rows)])
        found = self._database.arrow(asked, values, deadline, block_of(expected, 1 + len(columns)))
        if counting:
            found, now = told(found)
            require_same(before, now)
        if rows is not None and len(found) > len(rows):
            raise CatalogError(_SHARED)
        if max_rows is not None and len(found) > max_rows:
            raise TooMuch("rows", None, max_rows, "max_rows")
        return from_postgres(found.select(range(1, found.num_columns)), columns)

    # -- tuples -----------------------------------------------------------------------------------

    def matching(self, pattern: IdPattern, deadline: Deadline = NEVER) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple with wildcards names, and their identifier parts."""
        names, leads = list(self.survey.id_parts), pattern.form.leads_with_id
        values = Parameters()
        where = [
            allowed(self._stored.get(name), part, values, is_id=not at and leads)
            for at, (name, part) in enumerate(zip(names, pattern.parts, strict=True))
            if part is not None
        ]
        columns = [self._stored[name] for name in names]
        query = (
            f"SELECT {', '.join([self._relation.number, *(c.identifier for c in columns)])}"
            f" FROM {self._relation.table} WHERE {' AND '.join(where) or 'true'}"
            f" ORDER BY {self._in_order}"
        )
        found = self._database.arrow(query, values, deadline)
        rows = plain_array(found.column(0))
        every = from_postgres(found.select(range(1, found.num_columns)), columns)
        if pattern.told and leads and pattern.parts[0] is not None:
            good = self._saying(rows, pattern.told)
            rows, every = rows[good], every.filter(pa.array(good))
        order = order_of(every, names)
        return rows[order.to_numpy()], every.take(order)

    def _saying(self, rows: Rows, told: Sequence[tuple[str, str]]) -> npt.NDArray[np.bool_]:
        """Return which rows have some values, compared as text, in the columns named."""
        good = np.ones(len(rows), np.bool_)
        held = [(name, value) for name, value in told if self.holds(name)]
        table = self.columns_of(list(dict.fromkeys(name for name, _ in held)), rows)
        for name, value in held:
            stated = table.column(name).to_pylist()
            good &= np.array([cell is not None and str(cell) == value for cell in stated], np.bool_)
        return good

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking``, ``row`` and ``reduction`` of the rows with some identifier parts."""
        *columns, last = (self._stored[name] for name in self.survey.id_parts)
        values = Parameters()
        table, number = self._relation.table, self._relation.number
        query = linked_query(table, number, columns, last, parts, values)
        found = self._database.arrow(query, values)
        reduction = from_postgres(found.select([2]), [last]).column(0)
        return pa.table({"asking": found.column(0), "row": found.column(1), "reduction": reduction})
