"""Questions to the catalogue of one context, answered from one generation of its index.

Geometry and identifiers are searched in sorted, memory-mapped columns; conditions on other
columns are answered by DuckDB, from the rows that geometry left. What is asked of the rows found
is looked up in memory-mapped columns again.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..damage import damaged
from ..errors import CatalogError, QueryTimeout, SpecServerError, TooMuch, UnknownField
from ..model.idtext import IdPattern
from ..model.region import Cone, Polygon
from ..model.survey import Survey
from .crossmatch import SkyColumns
from .deadline import NEVER, Deadline
from .duckdb.database import Attached
from .healpix import cover
from .index.build import index_folder, load_sidecars
from .index.column_file import MappedColumns, Rows
from .index.generations import DATABASE, IndexInfo, check_generation
from .part_search import PartSearch, spans_of
from .sql.constraint import Condition

__all__ = ["Catalog", "Place", "Rows"]

_CORRUPT: Final = "Corrupt database"
"""What the database says of a file whose blocks are not those that it wrote, whatever it raises."""
# Runs of candidates nearer than this are read as one: testing so many rows in vain takes as long
# as setting out once more.
_GAP_ROWS: Final = 64
# Candidates tested at once: some 50 ms, after which the clock is looked at, and 20 MB.
_BLOCK_ROWS: Final = 2**18
# Up to so many rows the columns of a condition are handed to the database, which is faster than
# joining the rows with its own table.
_HANDED_ROWS: Final = 2**20


@dataclass(frozen=True, slots=True)
class Place:
    """Where spectra are: parallel arrays, one entry a spectrum."""

    ids: npt.NDArray[Any]
    segment: npt.NDArray[np.int32]
    row: npt.NDArray[np.int32]


class Catalog:
    """One generation of a context's index, open for reading; safe to share between threads."""

    def __init__(
        self,
        data: Path,
        survey: Survey,
        context: str,
        info: IndexInfo,
        folder: Path | None = None,
    ) -> None:
        self.survey = survey
        self.context = context
        self.info = info
        # A value-added table's index stands in a folder of its own.
        path = (folder or index_folder(data, context)) / info.name
        check_generation(path, info)
        self._columns = load_sidecars(path, info.nrows, survey.id_column.dtype)
        self._mapped = MappedColumns(path, info.nrows)
        self._parts = PartSearch(self._mapped, survey.id_parts, info.nrows)
        self._file = path / DATABASE
        self.is_damaged = False
        """Whether the database was found damaged since it was opened."""
        try:
            self._database = Attached(data, self._file)
        except duckdb.Error as error:
            raise damaged(self._file, f"cannot be opened ({error})") from error
        self._objects = self._database.objects

    @cached_property
    def columns(self) -> dict[str, str]:
        """Column name → kind, hidden columns left out."""
        return {name: kind for name, kind in self.info.columns.items() if not name.startswith("_")}

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""
        name = field.strip().strip('"').lower()
        name = self.survey.aliases.get(name, name)
        if name not in self.columns:
            near = get_close_matches(name, self.columns, 3)
            raise UnknownField(field, sorted(self.columns), near)
        return name

    def in_region(self, region: Cone | Polygon, deadline: Deadline = NEVER) -> Rows:
        """Return the rows whose position lies in a region, ascending."""
        ra, dec = self._columns["ra"], self._columns["dec"]
        found = []
        for rows in _blocks(np.searchsorted(self._columns["hpx"], cover(region))):
            deadline.check()
            found.append(rows[region.contains(ra[rows], dec[rows], deadline.check)])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none."""
        known, rank = self._columns["id_sorted"], self._columns["id_rank"]
        if not len(known):
            return np.full(len(ids), -1, np.int64)
        # In order the searches share what is in the processor's cache: a third of the time.
        order = np.argsort(ids)
        at = np.minimum(np.searchsorted(known, ids[order]), len(known) - 1)
        rows = np.empty(len(ids), np.int64)
        rows[order] = np.where(known[at] == ids[order], rank[at], -1)
        return rows

    def all_with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return all rows of some identifiers, ascending: a value-added table may repeat one."""
        known, rank = self._columns["id_sorted"], self._columns["id_rank"]
        wanted = np.unique(ids)
        starts = np.searchsorted(known, wanted)
        here = starts < len(known)
        starts, wanted = starts[here], wanted[here]
        starts, wanted = starts[known[starts] == wanted], wanted[known[starts] == wanted]
        nexts = np.minimum(starts + 1, len(known) - 1)
        if not np.any((known[nexts] == wanted) & (nexts > starts)):
            return np.sort(rank[starts])
        counts = np.searchsorted(known, wanted, "right") - starts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(rank[np.repeat(starts, counts) + within])

    def place(self, rows: Rows) -> Place:
        """Return identifier, segment number and segment row of rows."""
        columns = self._columns
        return Place(columns["id"][rows], columns["segment"][rows], columns["row"][rows])

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self._columns["id"][row])

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
        """Return columns of the rows that meet a condition, in HEALPix order unless it orders.

        Parameters
        ----------
        fields : names in their one spelling, each once
        rows : 1D[n] int64, ascending, or None
            The only rows to look at.
        max_rows : refuse to answer more

        Raises
        ------
        TooMuch
            There are more rows; no column has been read then.
        QueryTimeout
            The deadline passed.
        """
        if condition.sql or condition.order:
            found = self._meeting(condition, rows, primary=primary, deadline=deadline)
        else:
            found = self._plain(rows, primary=primary)[: condition.limit]
        deadline.check()
        if max_rows is not None and len(found) > max_rows:
            raise TooMuch("rows", len(found), max_rows, "max_rows")
        table = self._mapped.take(fields, found)
        deadline.check()
        return table

    def holds(self, column: str) -> bool:
        """Return whether there is a column, hidden or not: older versions wrote fewer."""
        return column in self.info.columns

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept."""
        return self._mapped.take(fields, rows)

    def matching(self, pattern: IdPattern, deadline: Deadline = NEVER) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple with wildcards names, with their identifier parts.

        Ordered by the parts. Raises `QueryTimeout` when the deadline has passed.
        """
        parts = pattern.parts
        if pattern.form.leads_with_id and parts[0] is not None:
            dtype = np.dtype(self.survey.id_column.dtype)
            # Each is one identifier: lists of them have no ranges.
            wanted, _ = spans_of(parts[0], dtype)
            rows = self._having(self.all_with_ids(wanted), pattern.told)
            parts = (None, *parts[1:])
        else:
            rows = self._parts.candidates(parts)
        return self._parts.matching(rows, parts, deadline)

    def _having(self, rows: Rows, told: Sequence[tuple[str, str]]) -> Rows:
        """Return those of some rows that have the values, as text, in the columns named."""
        if not told or not len(rows):
            return rows
        good = np.ones(len(rows), np.bool_)
        held = [(name, value) for name, value in told if self.holds(name)]
        table = self._mapped.take(list(dict.fromkeys(name for name, _ in held)), rows)
        for name, value in held:
            stated = table.column(name).to_pylist()
            good &= np.array([one is not None and str(one) == value for one in stated])
        return rows[good]

    @property
    def sky(self) -> SkyColumns:
        """Where all rows are, as `catalog.crossmatch` searches them."""
        one = self._columns
        return SkyColumns(one["hpx"], one["ra"], one["dec"], one["id"], one["primary"])

    def positions(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec of rows, degrees, 1D[n]."""
        return self._columns["ra"][rows], self._columns["dec"][rows]

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking`` (row of ``parts``) and ``row`` here, and the reduction of each.

        Parameters
        ----------
        parts : the columns of the tuple form of an identifier but the last, and ``asking``
        """
        *names, last = self.survey.id_parts
        equal = " AND ".join(f'p."{name}" = o."{name}"' for name in names)
        query = f'SELECT p.asking, o._index AS "row", o."{last}" AS reduction'
        query += f" FROM asked p JOIN {self._objects} o ON {equal}"
        with self._cursor() as cursor:
            cursor.register("asked", parts)
            return _table(cursor.sql(query))

    def sources(self, rows: Rows) -> list[str]:
        """Return the paths of the original files of rows."""
        paths: list[str] = self.columns_of(["_source"], rows).column("_source").to_pylist()
        return paths

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones."""
        return int(self._columns["primary"].sum()) if primary else self.info.nrows

    def close(self) -> None:
        """Let the database go; memory-mapped columns go with the object."""
        self._database.close()

    def _plain(self, rows: Rows | None, *, primary: bool) -> Rows:
        """Return the rows to look at, ascending, without asking the database."""
        best = self._columns["primary"]
        if rows is None:
            return np.flatnonzero(best) if primary else np.arange(self.info.nrows)
        return rows[best[rows]] if primary else rows

    def _meeting(
        self, condition: Condition, rows: Rows | None, *, primary: bool, deadline: Deadline
    ) -> Rows:
        """Return the rows that meet a condition, in its order or else ascending."""
        if rows is not None:
            rows = self._plain(rows, primary=primary)
            if not len(rows):
                return rows
        handed = rows is not None and len(rows) <= _HANDED_ROWS
        parts = [
            "SELECT o._index FROM",
            "candidates o" if handed else f"{self._database.objects} o",
        ]
        where: list[str] = []
        params: list[Any] = []
        if rows is not None and not handed:
            parts.append("SEMI JOIN candidates USING (_index)")
        elif rows is None and primary:
            column, value = self.survey.primary
            where.append(f'o."{column}" = ?')
            params.append(value)
        if condition.sql:
            where.append(f"({condition.sql})")
            params += condition.params
        if where:
            parts += ["WHERE", " AND ".join(where)]
        order = [
            f'o."{one.column}" {"DESC" if one.descending else "ASC"}' for one in condition.order
        ]
        parts += ["ORDER BY", ", ".join([*order, "o._index"])]
        if condition.limit is not None:
            parts.append("LIMIT ?")
            params.append(condition.limit)
        with self._cursor(deadline) as cursor:
            if rows is not None:
                names = sorted(condition.columns) if handed else []
                table = self._mapped.take(names, rows).append_column("_index", pa.array(rows))
                cursor.register("candidates", table)
            found: Rows = _table(cursor.sql(" ".join(parts), params=params))["_index"].to_numpy()
        return found

    @contextmanager
    def _cursor(self, deadline: Deadline = NEVER) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a cursor of its own to one question; interrupt it when time is up."""
        deadline.check()
        try:
            cursor = self._database.cursor()
        except duckdb.Error as error:
            raise CatalogError(f"{self._file}: cannot be opened ({error})") from error
        left_s = deadline.left_s
        timer = None if left_s is None else threading.Timer(left_s, cursor.interrupt)
        if timer:
            timer.daemon = True
            timer.start()
        try:
            yield cursor
            # An interrupt between two statements of ours has nothing to stop.
            deadline.check()
        except duckdb.InterruptException as error:
            raise QueryTimeout(deadline.given_s or 0.0) from error
        except duckdb.Error as error:
            raise self._told(error) from error
        finally:
            if timer:
                timer.cancel()
            cursor.close()

    def _told(self, error: duckdb.Error) -> SpecServerError:
        """Return an error of the database as one of ours."""
        self._database.failed(error)
        if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
            return CatalogError(f"a value in the condition does not fit its column: {error}")
        most = self._database.memory_bytes
        if isinstance(error, duckdb.OutOfMemoryException) and most:
            return TooMuch("bytes of memory for a condition", None, most, "database_memory_bytes")
        if _CORRUPT in str(error):
            self.is_damaged = True
            return damaged(self._file, f"cannot be read ({error})")
        return CatalogError(f"the catalogue refused the query: {error}")


def _table(answered: duckdb.DuckDBPyRelation) -> pa.Table:
    """Return the whole answer of a query."""
    table = answered.to_arrow_table()
    if table is None:
        raise CatalogError("the database gave no answer")
    return table


def _blocks(runs: npt.NDArray[np.intp]) -> Iterator[Rows]:
    """Yield the rows of ascending runs, 2D[nrun, 2] half-open, so many at a time."""
    starts, stops = runs[runs[:, 0] < runs[:, 1]].T
    apart = np.flatnonzero(starts[1:] - stops[:-1] > _GAP_ROWS)
    first = starts[np.concatenate([[0], apart + 1])] if len(starts) else starts
    last = stops[np.concatenate([apart, [-1]])] if len(starts) else stops
    waiting: list[Rows] = []
    nrows = 0
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        for at in range(start, stop, _BLOCK_ROWS):
            waiting.append(np.arange(at, min(at + _BLOCK_ROWS, stop)))
            nrows += len(waiting[-1])
            if nrows >= _BLOCK_ROWS:
                yield np.concatenate(waiting)
                waiting, nrows = [], 0
    if waiting:
        yield np.concatenate(waiting)
