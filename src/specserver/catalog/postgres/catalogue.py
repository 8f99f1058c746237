"""Questions to the catalogue of one context, answered by PostgreSQL.

Geometry is tested here, exactly, among the rows of the runs of HEALPix pixels that the database
returns. A row's number is that of its segment and its row there, so it means the same for ever.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...errors import DamagedFile, Overloaded, TooMuch
from ...model.id_tuple import IdPattern
from ...model.region import Cone, Polygon
from ...model.survey import Survey
from ...wire.numeric import as_arrow
from ..base import Catalogue, Place, Rows
from ..crossmatch import Matches, SkyColumns, find_nearby, in_their_order, pixel_runs
from ..deadline import NEVER, Deadline
from ..duckdb.best import best_rows
from ..field_names import FieldNames
from ..healpix import cover
from ..sql.expressions import Condition
from .conditions import ConditionWriter
from .database import Database
from .names import from_postgres, quoted, signed
from .parameters import Parameters
from .schema import NUMBER, PRIMARY, SERIAL
from .state import ContextState
from .tuples import allowed, linked_query

_ROW_BITS: Final = 32
_AGAIN_S: Final = 1
"""Seconds after which a caller is told to come again whose rows were replaced meanwhile."""
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class PostgresCatalogue:
    """One context in a database: the `Catalogue` of its table.

    It answers from the rows that the table has at the moment; `version` is that of its beginning.

    Parameters
    ----------
    survey : with the columns of this catalogue
    state : of the table
    """

    def __init__(self, database: Database, survey: Survey, state: ContextState) -> None:
        self.survey = survey
        self.version = state.rows
        self.damage: DamagedFile | None = None
        """None: the database tells of damage itself."""
        self.spectrum_columns: Mapping[str, str] = {}
        self.segments = tuple(state.segments)
        self.serial = state.serial
        """Count of changes of the table when this was opened."""
        self._database = database
        self._state = state
        self._stored = state.columns
        self._table = quoted(database.schema, state.relation)
        self._id = self._stored[survey.id_column.name]
        self._in_order = f"_hpx, {self._id.order}, {NUMBER}"
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

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones."""
        return self._state.nprimary if primary else self._state.nrows

    def close(self) -> None:
        """Do nothing: connections are those of the database."""

    # -- positions --------------------------------------------------------------------------------

    def in_region(self, region: Cone | Polygon, deadline: Deadline = NEVER) -> Rows:
        """Return the rows whose position lies in a region, in the order of the catalogue."""
        found: list[tuple[Ints, Ints, npt.NDArray[Any]]] = []

        def take(batch: pa.RecordBatch) -> None:
            number, hpx, ra, dec, ids = map(_plain, batch.columns)
            inside = region.contains(ra.astype("f8"), dec.astype("f8"), deadline.check)
            found.append((number[inside], hpx[inside], ids[inside]))

        values = Parameters()
        query = self._in_runs(cover(region), values, f"_hpx, ra, dec, {self._id.identifier}")
        self._database.each(query, values, deadline, take)
        deadline.check()
        none = np.empty(0, np.int64)
        number, hpx, ids = (
            np.concatenate([none, *(some[at] for some in found)]) for at in range(3)
        )
        return self._sorted(number, hpx, ids)

    def _in_runs(self, runs: Ints, values: Parameters, columns: str) -> str:
        """Return the query of the rows in runs of order-29 pixels, 2D[n, 2], half-open."""
        low, high = (values.bind_numbers(edge) for edge in (runs[:, 0], runs[:, 1]))
        # Each run is a search in the index on _hpx: as a plain join it takes ten times as long.
        return (
            f"SELECT found.* FROM unnest({low}, {high}) AS run(low, high) CROSS JOIN LATERAL"
            f" (SELECT {NUMBER}, {columns} FROM {self._table}"
            " WHERE _hpx >= run.low AND _hpx < run.high OFFSET 0) AS found"
        )

    def _sorted(self, number: Rows, hpx: Ints, ids: npt.NDArray[Any]) -> Rows:
        """Return rows in the order of the catalogue; identifiers are in their signed form."""
        return number[np.lexsort((number, self._unsigned(ids), hpx))]

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
        for which, runs in pixel_runs(ra_deg, dec_deg, radius_deg):
            go_on()
            numbers, sky = self._sky(runs, deadline)
            pairs = find_nearby(
                [sky], ra_deg[which], dec_deg[which], radius_deg,
                nearest=nearest, primary=primary, max_pairs=left, deadline=deadline, go_on=go_on,
            )  # fmt: skip
            if left is not None and not nearest:
                left -= len(pairs)
            found.append(Matches(which[pairs.position], numbers[pairs.row], pairs.separation_deg))
        return in_their_order(found)

    def _sky(self, runs: Ints, deadline: Deadline) -> tuple[Rows, SkyColumns]:
        """Return the rows in runs of order-29 pixels, 1D[n], and their positions."""
        values = Parameters()
        query = self._in_runs(runs, values, f"_hpx, ra, dec, {self._id.identifier}, {PRIMARY}")
        found = self._database.arrow(query, values, deadline)
        number, hpx, ra, dec, ids, primary = map(_plain, found.columns)
        own = self._unsigned(ids)
        order = np.lexsort((number, own, hpx))
        number, hpx, ra, dec, own, primary = (
            array[order] for array in (number, hpx, ra, dec, own, primary)
        )
        sky = SkyColumns(hpx, ra.astype("f8"), dec.astype("f8"), own, primary.astype(np.bool_))
        return number, sky

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
        return self._sorted(number, hpx, known)

    def _having(self, ids: Ints) -> tuple[Ints, Ints, Ints, npt.NDArray[np.bool_]]:
        """Return number, pixel, identifier and whether it is the best, of rows of identifiers."""
        values = Parameters()
        query = (
            f"SELECT {NUMBER}, _hpx, {self._id.identifier}, {PRIMARY} FROM {self._table}"
            f" WHERE {self._id.identifier} = ANY({values.bind_numbers(ids)})"
        )
        found = self._database.arrow(query, values)
        number, hpx, known, primary = map(_plain, found.columns)
        return number, hpx, known.astype(np.int64), primary.astype(np.bool_)

    def place(self, rows: Rows) -> Place:
        """Return identifier, segment number and segment row of rows."""
        ids = self.columns_of([self._id.name], rows).column(0).fill_null(0).to_numpy()
        self._know(rows)
        segment, row = rows >> _ROW_BITS, rows & (2**_ROW_BITS - 1)
        return Place(ids, segment.astype(np.int32), row.astype(np.int32))

    def _know(self, rows: Rows) -> None:
        """Read the names of segments again if rows are of newer ones."""
        if len(rows) and int(rows.max() >> _ROW_BITS) >= len(self.segments):
            values = Parameters()
            query = (
                f"SELECT name FROM {quoted(self._database.schema, 'segment')}"
                f" WHERE context = {values.bind(self._context)} ORDER BY number"
            )
            self.segments = tuple(self._database.arrow(query, values).column(0).to_pylist())

    @property
    def _context(self) -> str:
        return self._state.context

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self.place(np.array([row])).ids[0])

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
        values = Parameters()
        query = (
            f"SELECT {', '.join([NUMBER, *(column.identifier for column in columns)])}"
            f" FROM {self._table} WHERE {NUMBER} = ANY({values.bind_numbers(wanted)})"
        )
        found = self._database.arrow(query, values, deadline)
        number = _plain(found.column(0))
        order = np.argsort(number)
        number = number[order]
        at = np.searchsorted(number, rows)
        if len(number) < len(wanted):
            raise Overloaded(_AGAIN_S, "spectra were replaced while they were read")
        table = from_postgres(found.drop_columns([NUMBER]), columns)
        return table.take(as_arrow(order[at])) if fields else table

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
        columns = [self._stored[field] for field in fields]
        values = Parameters()
        writer = ConditionWriter(self._stored, values, self._database.case_collation())
        where = [PRIMARY] if primary else []
        if condition.where is not None:
            where.append(f"({writer.require(condition.where)})")
        if rows is not None:
            where.append(f"{NUMBER} = ANY({values.bind_numbers(rows)})")
        order = [writer.order(key.column, descending=key.descending) for key in condition.order]
        most = [
            n
            for n in (condition.limit, None if max_rows is None else max_rows + 1)
            if n is not None
        ]
        query = [
            f"SELECT {', '.join([*(column.identifier for column in columns), NUMBER])}",
            f"FROM {self._table}",
            f"WHERE {' AND '.join(where)}" if where else "",
            f"ORDER BY {', '.join([*order, self._in_order])}",
            f"LIMIT {values.bind(min(most))}" if most else "",
        ]
        found = self._database.arrow(" ".join(query), values, deadline)
        if max_rows is not None and len(found) > max_rows:
            raise TooMuch("rows", None, max_rows, "max_rows")
        return from_postgres(found.drop_columns([NUMBER]), columns)

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
            f"SELECT {', '.join([NUMBER, *(column.identifier for column in columns)])}"
            f" FROM {self._table} WHERE {' AND '.join(where) or 'true'} ORDER BY {self._in_order}"
        )
        found = self._database.arrow(query, values, deadline)
        rows = _plain(found.column(0))
        every = from_postgres(found.drop_columns([NUMBER]), columns)
        if pattern.told and leads and pattern.parts[0] is not None:
            good = self._saying(rows, pattern.told)
            rows, every = rows[good], every.filter(pa.array(good))
        if len(every) > 1:
            every = every.append_column("_rank", as_arrow(np.arange(len(rows))))
            keys = [(name, "ascending") for name in (*names, "_rank")]
            order = pc.sort_indices(every, sort_keys=keys)
            rows, every = rows[order.to_numpy()], every.take(order)
        return rows, every.select(names)

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
        query = linked_query(self._table, columns, last, parts, values)
        found = self._database.arrow(query, values)
        reduction = from_postgres(found.select([2]), [last]).column(0)
        return pa.table({"asking": found.column(0), "row": found.column(1), "reduction": reduction})

    # -- versions ---------------------------------------------------------------------------------

    def carried(self, rows: Rows, before: Catalogue) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the rows themselves, and identifiers whose rows have changed: `Catalogue`."""
        assert isinstance(before, PostgresCatalogue)
        values = Parameters()
        since = values.bind(before.serial)
        query = (
            f"SELECT {self._id.identifier} FROM {self._table} WHERE {SERIAL} > {since}"
            f" UNION ALL SELECT id FROM {quoted(self._database.schema, 'gone')}"
            f" WHERE context = {values.bind(self._context)} AND serial > {since}"
        )
        found = self._database.arrow(query, values).column(0).cast(pa.int64()).drop_null()
        return rows.copy(), np.unique(self._unsigned(found.to_numpy()))


def _plain(column: Any) -> npt.NDArray[Any]:
    """Return values without null, 1D[n]: NaN for a number with a fraction, 0 for a whole one."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        array = array.fill_null(np.nan if pa.types.is_floating(array.type) else 0)
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values
