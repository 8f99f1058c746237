"""SQL queries of the table `objects` of one index generation."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from ...data.handles import Entry
from ...errors import CatalogError, QueryTimeout, SpecServerError, TooMuch
from ..base import Rows
from ..deadline import NEVER, Deadline
from ..sql.expressions import ColumnRef, Comparison, Condition, Literal
from .conditions import ConditionWriter
from .database import Attached

_CORRUPT: Final = "Corrupt database"
"""Text in errors of DuckDB, of any class, about a file whose blocks have changed."""
# Up to so many rows the columns of a condition are handed to the database, which is faster than
# joining the rows with its own table.
_HANDED_ROWS: Final = 2**20


class ObjectsReader:
    """The table of all rows of one generation, attached; safe to share between threads.

    Parameters
    ----------
    file : the generation's database
    columns : columns of the database → kind
    others : columns that only ``take`` has → kind
    take : returns columns of rows, ascending
    """

    def __init__(
        self,
        file: Entry,
        columns: Mapping[str, str],
        others: Mapping[str, str],
        take: Callable[[Sequence[str], Rows], pa.Table],
    ) -> None:
        self._file = file
        self._columns = columns
        self._kinds = {**columns, **others}
        self._take = take
        self.is_damaged = False
        """Whether the file was found damaged since it was opened."""
        try:
            self._database = Attached(file)
        except duckdb.Error as error:
            raise file.damaged(f"cannot be opened ({error})") from error

    def meeting(
        self,
        condition: Condition,
        rows: Rows | None,
        primary: tuple[str, int | str] | None,
        deadline: Deadline,
    ) -> Rows:
        """Return the rows that meet a condition, in its order or else ascending.

        Parameters
        ----------
        rows
            1D[n] int64, ascending, the only rows to look at; None: all, of a condition on columns
            of the database only.
        primary : column and value of the rows to look at; None: all

        Raises
        ------
        QueryTimeout, TooMuch, CatalogError, DamagedFile
        """
        handed = rows is not None and len(rows) <= _HANDED_ROWS
        if rows is not None and not handed and not condition.columns.issubset(self._columns):
            if condition.where is not None:
                rows = self._by_blocks(Condition(condition.where), rows, primary, deadline)
                return self.meeting(replace(condition, where=None), rows, primary, deadline)
            handed = True
        parts = [
            "SELECT o._index FROM",
            "candidates o" if handed else f"{self._database.objects} o",
        ]
        where: list[str] = []
        writer = ConditionWriter()
        if rows is not None and not handed:
            parts.append("SEMI JOIN candidates USING (_index)")
        if primary is not None:
            column, value = primary
            where.append(writer.write(Comparison("=", ColumnRef(column, "int"), Literal(value))))
        if condition.where is not None:
            where.append(f"({writer.write(condition.where)})")
        if where:
            parts += ["WHERE", " AND ".join(where)]
        order = [
            f"{writer.settled(ColumnRef(key.column, self._kinds[key.column]))}"
            f" {'DESC' if key.descending else 'ASC'} NULLS LAST"
            for key in condition.order
        ]
        parts += ["ORDER BY", ", ".join([*order, "o._index"])]
        if condition.limit is not None:
            parts.append(f"LIMIT {writer.write(Literal(condition.limit))}")
        with self._cursor(deadline) as cursor:
            if rows is not None:
                names = sorted(writer.columns) if handed else []
                table = self._take(names, rows).append_column("_index", pa.array(rows))
                cursor.register("candidates", table)
            answered = cursor.sql(" ".join(parts), params=writer.params)
            found: Rows = _table(answered)["_index"].to_numpy()
        return found

    def _by_blocks(
        self,
        condition: Condition,
        rows: Rows,
        primary: tuple[str, int | str] | None,
        deadline: Deadline,
    ) -> Rows:
        """Return the rows that meet a condition, ascending, with the columns of a block at once."""
        blocks = np.split(rows, range(_HANDED_ROWS, len(rows), _HANDED_ROWS))
        return np.concatenate([self.meeting(condition, b, primary, deadline) for b in blocks])

    def linked(self, parts: pa.Table, names: Sequence[str], last: str) -> pa.Table:
        """Return ``asking`` of a row of ``parts``, and ``row`` and ``reduction`` of each it names.

        Parameters
        ----------
        names : the columns that are equal
        last : the column of the reduction
        """
        equal = " AND ".join(f'p."{name}" = o."{name}"' for name in names)
        query = f'SELECT p.asking, o._index AS "row", o."{last}" AS reduction'
        query += f" FROM asked p JOIN {self._database.objects} o ON {equal}"
        with self._cursor() as cursor:
            cursor.register("asked", parts)
            return _table(cursor.sql(query))

    def close(self) -> None:
        """Detach the file; running queries still end."""
        self._database.close()

    @contextmanager
    def _cursor(self, deadline: Deadline = NEVER) -> Iterator[duckdb.DuckDBPyConnection]:
        """Lend a cursor to one query; interrupt it when the deadline passes."""
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
            raise self._error_of(error) from error
        finally:
            if timer:
                timer.cancel()
            cursor.close()

    def _error_of(self, error: duckdb.Error) -> SpecServerError:
        """Return an error of the database as one of ours."""
        self._database.failed(error)
        if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
            return CatalogError(f"a value in the condition does not fit its column: {error}")
        most = self._database.memory_bytes
        if isinstance(error, duckdb.OutOfMemoryException) and most:
            return TooMuch("bytes of memory for a condition", None, most, "database_memory_bytes")
        if _CORRUPT in str(error):
            self.is_damaged = True
            return self._file.damaged(f"cannot be read ({error})")
        return CatalogError(f"the catalogue refused the query: {error}")


def _table(answered: duckdb.DuckDBPyRelation) -> pa.Table:
    """Return the whole answer of a query."""
    table = answered.to_arrow_table()
    if table is None:
        raise CatalogError("the database gave no answer")
    return table
