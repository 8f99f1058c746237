"""Questions to the catalogue of one context, answered from one generation of its index.

Geometry and identifiers are searched in sorted, memory-mapped columns; conditions on other
columns are answered by DuckDB, restricted to the rows that geometry left.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import CatalogError, QueryTimeout, UnknownField
from ..model.idtext import IdPattern, Span
from ..model.region import Cone, Polygon
from ..model.survey import Survey
from .constraint import Condition
from .healpix import cover
from .index import IndexInfo, index_folder, load_sidecars

Rows = npt.NDArray[np.int64]
_OPEN: Final[dict[str, str | bool | int | float | list[str]]] = {
    "access_mode": "READ_ONLY",
    "enable_external_access": False,
    "lock_configuration": True,
}


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
        self._columns = load_sidecars(path)
        try:
            self._connection = duckdb.connect(str(path / "catalog.duckdb"), config=_OPEN)
        except duckdb.Error as error:
            raise CatalogError(f"{path}: cannot be opened ({error})") from error

    @property
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

    def in_region(self, region: Cone | Polygon) -> Rows:
        """Return the rows whose position lies in a region, ascending."""
        hpx = self._columns["hpx"]
        runs = np.searchsorted(hpx, cover(region))
        found = []
        for start, stop in runs.tolist():
            if stop > start:
                ra, dec = self._columns["ra"][start:stop], self._columns["dec"][start:stop]
                found.append(start + np.flatnonzero(region.contains(ra, dec)))
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none."""
        known, rank = self._columns["id_sorted"], self._columns["id_rank"]
        if not len(known):
            return np.full(len(ids), -1, np.int64)
        at = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        return np.where(known[at] == ids, rank[at], -1)

    def place(self, rows: Rows) -> Place:
        """Return identifier, segment number and segment row of rows."""
        columns = self._columns
        return Place(columns["id"][rows], columns["segment"][rows], columns["row"][rows])

    def query(
        self,
        fields: Sequence[str],
        condition: Condition,
        rows: Rows | None,
        *,
        primary: bool,
        timeout_s: float | None,
    ) -> pa.Table:
        """Return columns of the rows that meet a condition, in HEALPix order unless it orders.

        Parameters
        ----------
        fields : names in their one spelling
        rows : 1D[n] int64, ascending, or None
            The only rows to look at.
        """
        plain = not condition.sql and not condition.order and condition.limit is None
        if plain and list(fields) == [self.survey.id_column.name]:
            return self._ids(rows, primary=primary)
        parts = ["SELECT", ", ".join(f'o."{field}"' for field in fields), "FROM objects o"]
        params: list[Any] = []
        where = []
        if rows is not None:
            if not len(rows):
                where.append("false")
            else:
                where.append("o._index BETWEEN ? AND ? AND o._index IN (SELECT i FROM candidates)")
                params += [int(rows[0]), int(rows[-1])]
        if primary:
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
        with self._cursor(timeout_s) as cursor:
            if rows is not None:
                cursor.register("candidates", pa.table({"i": rows}))
            return _table(cursor.sql(" ".join(parts), params=params))

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept."""
        wanted, inverse = np.unique(rows, return_inverse=True)
        parts = [
            "SELECT",
            ", ".join(f'o."{field}"' for field in fields),
            "FROM candidates c JOIN objects o ON o._index = c.i",
            "WHERE o._index BETWEEN ? AND ? ORDER BY c.i",
        ]
        with self._cursor(None) as cursor:
            cursor.register("candidates", pa.table({"i": wanted}))
            bounds = [int(wanted[0]), int(wanted[-1])] if len(wanted) else [0, -1]
            found = _table(cursor.sql(" ".join(parts), params=bounds))
        return found.take(pa.array(inverse.ravel()))

    def matching(self, pattern: IdPattern) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple with wildcards names, with their identifier parts.

        Ordered by the parts, the reduction last.
        """
        where: list[str] = ["true"]
        params: list[int | str] = []
        for column, part in zip(self.survey.id_parts, pattern.parts, strict=True):
            if part is None:
                continue
            one = []
            for choice in part:
                if isinstance(choice, Span):
                    one.append(f'"{column}" BETWEEN ? AND ?')
                    params += [choice.low, choice.high]
                else:
                    one.append(f'"{column}" = ?')
                    params.append(choice)
            where.append(f"({' OR '.join(one)})")
        names = [f'"{column}"' for column in self.survey.id_parts]
        parts = ["SELECT _index,", ", ".join(names), "FROM objects WHERE", " AND ".join(where)]
        parts += ["ORDER BY", ", ".join(names)]
        with self._cursor(None) as cursor:
            found = _table(cursor.sql(" ".join(parts), params=params))
        return found.column("_index").to_numpy(), found.drop_columns(["_index"])

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
        query += f" FROM asked p JOIN objects o ON {equal}"
        with self._cursor(None) as cursor:
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
        """Close the database; memory-mapped columns go with the object."""
        self._connection.close()

    def _ids(self, rows: Rows | None, *, primary: bool) -> pa.Table:
        """Return identifiers without asking the database."""
        ids, best = self._columns["id"], self._columns["primary"]
        if rows is None:
            chosen = ids[best] if primary else ids[:]
        else:
            chosen = ids[rows[best[rows]] if primary else rows]
        return pa.table({self.survey.id_column.name: np.ascontiguousarray(chosen)})

    @contextmanager
    def _cursor(self, timeout_s: float | None) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a cursor of its own to one question; interrupt it when time is up."""
        cursor = self._connection.cursor()
        timer = threading.Timer(timeout_s, cursor.interrupt) if timeout_s else None
        began = time.monotonic()
        if timer:
            timer.daemon = True
            timer.start()
        try:
            yield cursor
            # An interrupt between two statements of ours has nothing to stop.
            if timeout_s and time.monotonic() - began > timeout_s:
                raise QueryTimeout(timeout_s)
        except duckdb.InterruptException as error:
            raise QueryTimeout(timeout_s or 0.0) from error
        except (duckdb.ConversionException, duckdb.OutOfRangeException) as error:
            raise CatalogError(
                f"a value in the condition does not fit its column: {error}"
            ) from error
        except duckdb.Error as error:
            raise CatalogError(f"the catalogue refused the query: {error}") from error
        finally:
            if timer:
                timer.cancel()
            cursor.close()


def _table(answered: duckdb.DuckDBPyRelation) -> pa.Table:
    """Return the whole answer of a query."""
    table = answered.to_arrow_table()
    if table is None:
        raise CatalogError("the database gave no answer")
    return table
