"""Queries of the rows of one catalogue: the database is given the columns that it reads."""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from ...errors import CatalogError, QueryTimeout, SpecServerError, TooMuch
from ..base import Rows
from ..deadline import NEVER, Deadline
from ..row_columns import ALIVE, NUMBER, RowColumns
from ..sql.expressions import ColumnRef, Comparison, Condition, Literal
from .conditions import ConditionWriter, quoted
from .database import cursor as new_cursor
from .database import failed, memory_bytes

# Of up to so many rows the columns of a condition are gathered, which is faster than joining the
# rows with all columns.
_HANDED_ROWS: Final = 2**20
_ROW: Final = "_row_given"
"""Column with the numbers of rows that are given."""


class ConditionReader:
    """Finds the rows that meet conditions; safe to share between threads.

    Parameters
    ----------
    columns : the columns of all rows
    take : returns columns of rows in their order, those of ``others`` too
    own : columns of all rows → kind
    others : columns that only ``take`` has → kind
    """

    def __init__(
        self,
        columns: RowColumns,
        take: Callable[[Sequence[str], Rows], pa.Table],
        own: Mapping[str, str],
        others: Mapping[str, str],
    ) -> None:
        self._columns = columns
        self._take = take
        self._own = own
        self._kinds = {**own, **others}

    def meeting(
        self,
        condition: Condition,
        rows: Rows | None,
        primary: tuple[str, int | str] | None,
        deadline: Deadline,
    ) -> Rows:
        """Return the rows that meet a condition, in its order or else that of the catalogue.

        Parameters
        ----------
        rows
            1D[n] int64, in the order of the catalogue, the only rows to look at; None: all, of a
            condition on columns of all rows only.
        primary : column and value of the rows to look at; None: all

        Raises
        ------
        QueryTimeout, TooMuch, CatalogError
        """
        handed = rows is not None and len(rows) <= _HANDED_ROWS
        if rows is not None and not handed and not condition.columns.issubset(self._own):
            if condition.where is not None:
                rows = self._by_blocks(Condition(condition.where), rows, primary, deadline)
                return self.meeting(replace(condition, where=None), rows, primary, deadline)
            handed = True
        writer = ConditionWriter()
        where = self._where(condition, primary, writer)
        order = [
            f"{writer.settled(ColumnRef(key.column, self._kinds[key.column]))}"
            f" {'DESC' if key.descending else 'ASC'} NULLS LAST"
            for key in condition.order
        ]
        sorts = bool(order) or condition.limit is not None
        # Rows that are given have their numbers among these, which are in order.
        ties = [NUMBER] if rows is not None else list(self._columns.order)
        ties = ties if sorts else []
        names = sorted(writer.columns.union(ties) - {NUMBER})
        if handed and rows is not None:
            columns = zip(names, self._take(names, rows).columns, strict=True)
            table = pa.table({**dict(columns), NUMBER: _numbers(rows)})
        else:
            table = self._columns.every(names)
        if ALIVE in table.column_names:
            where.append(f"o.{ALIVE} = 1")
        number, source = f"o.{NUMBER}", "catalogue o"
        if rows is not None and not handed:
            number, source = f"s.{NUMBER}", f"catalogue o JOIN given s ON o.{NUMBER} = s.{_ROW}"
        order += [number if name == NUMBER else f"o.{quoted(name)}" for name in ties]
        query = [
            f"SELECT {number} AS found FROM {source}",  # noqa: S608  # names of ours
            f"WHERE {' AND '.join(where)}" if where else "",
            f"ORDER BY {', '.join(order)}" if order else "",
            f"LIMIT {writer.write(Literal(condition.limit))}"
            if condition.limit is not None
            else "",
        ]
        with lent_cursor(deadline) as cursor:
            cursor.register("catalogue", table)
            if rows is not None and not handed:
                cursor.register("given", pa.table({_ROW: rows, NUMBER: _numbers(rows)}))
            answered = cursor.sql(" ".join(query), params=writer.params)
            found: Rows = _table(answered)["found"].to_numpy().astype(np.int64)
        if rows is not None:
            return rows[found if sorts else np.sort(found)]
        return found if sorts else self._columns.in_order(found)

    def _where(
        self,
        condition: Condition,
        primary: tuple[str, int | str] | None,
        writer: ConditionWriter,
    ) -> list[str]:
        """Return the terms that rows must meet."""
        where = []
        if primary is not None:
            column, value = primary
            where.append(writer.write(Comparison("=", ColumnRef(column, "int"), Literal(value))))
        if condition.where is not None:
            where.append(f"({writer.write(condition.where)})")
        return where

    def _by_blocks(
        self,
        condition: Condition,
        rows: Rows,
        primary: tuple[str, int | str] | None,
        deadline: Deadline,
    ) -> Rows:
        """Return the rows that meet a condition, with the columns of a block at once."""
        blocks = np.split(rows, range(_HANDED_ROWS, len(rows), _HANDED_ROWS))
        return np.concatenate([self.meeting(condition, b, primary, deadline) for b in blocks])

    def linked(self, parts: pa.Table, names: Sequence[str], last: str) -> pa.Table:
        """Return ``asking`` of a row of ``parts``, and ``row`` and ``reduction`` of each it names.

        Parameters
        ----------
        names : the columns that are equal
        last : the column of the reduction
        """
        table = self._columns.every([*names, last])
        equal = [f'p."{name}" = o."{name}"' for name in names]
        if ALIVE in table.column_names:
            equal.append(f"o.{ALIVE} = 1")
        query = f'SELECT p.asking, o.{NUMBER}::BIGINT AS "row", o."{last}" AS reduction'
        query += f" FROM asked p JOIN catalogue o ON {' AND '.join(equal)}"
        with lent_cursor() as cursor:
            cursor.register("asked", parts)
            cursor.register("catalogue", table)
            return _table(cursor.sql(query))


@contextmanager
def lent_cursor(deadline: Deadline = NEVER) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a cursor for one query; interrupt the query when the deadline passes."""
    deadline.check()
    try:
        cursor = new_cursor()
    except duckdb.Error as error:
        raise CatalogError(f"the database cannot be opened ({error})") from error
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
        raise _error_of(error) from error
    finally:
        if timer:
            timer.cancel()
        cursor.close()


def _error_of(error: duckdb.Error) -> SpecServerError:
    """Return an error of the database as one of ours."""
    failed(error)
    if isinstance(error, (duckdb.ConversionException, duckdb.OutOfRangeException)):
        return CatalogError(f"a value in the condition does not fit its column: {error}")
    most = memory_bytes()
    if isinstance(error, duckdb.OutOfMemoryException) and most:
        return TooMuch("bytes of memory for a condition", None, most, "database_memory_bytes")
    return CatalogError(f"the catalogue refused the query: {error}")


def _numbers(rows: Rows) -> pa.Array:
    """Return 0 … n-1 for n rows."""
    return pa.array(np.arange(len(rows)))


def _table(answered: duckdb.DuckDBPyRelation) -> pa.Table:
    """Return the whole answer of a query."""
    table = answered.to_arrow_table()
    if table is None:
        raise CatalogError("the database gave no answer")
    return table
