"""The table of a context follows the index manifest of its data folder.

The manifest is the commit: PostgreSQL can always be made again from it. A row is known by its
segment and its row there, so a merge of index parts changes nothing. One transaction brings the
table to the newest manifest, under a lock of the context: who comes second finds it done.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import sql

from ...data.context import ContextFolder
from ...model.survey import Survey
from ..following import Following
from ..index.column_types import common_schema, put_column
from ..index.manifest import Manifest, newest_manifest
from ..index.marks import marks_of
from ..index.part import open_part
from ..placed_part import PlacedPart, place_parts
from .database import Database
from .names import StoredColumn, fitting, stored_columns, to_postgres
from .newest import blocks, has_values, next_manifest, now_ms
from .patience import keep_out
from .schema import (
    NUMBER,
    PRIMARY,
    SERIAL,
    Connection,
    RowsTable,
    bring_up_to_date,
    index_columns,
    relation_of,
)
from .state import ContextState, read_state

_LOG = logging.getLogger(__name__)
_SHIFT: Final = 32
"""Bits of the row in the number of a row."""
_ANALYZED: Final = 0.1
"""Share of new rows from which the planner's statistics are made again at once."""
Ints = npt.NDArray[np.int64]
Tell = Callable[[int, int], object]


@dataclass(frozen=True, slots=True)
class Change:
    """What a synchronisation changed."""

    context: str
    version: int
    """Number of the manifest that the table has now."""
    inserted: int = 0
    updated: int = 0
    """Rows that became or ceased to be the best of their object."""
    deleted: int = 0
    anew: bool = False
    """The whole table was made anew."""


def sync_context(
    database: Database,
    context: ContextFolder,
    survey: Survey,
    tell: Tell | None = None,
    how: Following = Following.BY_ITSELF,
) -> Change | None:
    """Bring the table of a context to the newest manifest of its folder; None: it was there.

    Parameters
    ----------
    tell : called with the number of rows written so far, and the number to be written
    how : what it may do to a table that is newer, or of another data folder

    Raises
    ------
    DatabaseAway
        The database cannot be reached.
    CatalogError
        The context has no index, the table is of another data folder, or the database refuses a
        statement.
    DamagedFile
        The index is damaged.
    """
    state = read_state(database, context.name)
    if state is not None and state.is_of(newest_manifest(context.index)):
        return None
    with database.translated():
        bring_up_to_date(database.connect, database.schema)
    with database.writing() as connection:
        key = f"{database.schema} {context.name}"
        connection.execute("SELECT pg_advisory_xact_lock(hashtext(%s))", (key,))
        state = read_state(connection, context.name, database.schema)
        manifest = next_manifest(context, state, how)
        if manifest is None:
            return None
        return _Sync(database, connection, context, survey, state, manifest, tell).run()


class _Sync:
    """One transaction."""

    def __init__(
        self,
        database: Database,
        connection: Connection,
        context: ContextFolder,
        survey: Survey,
        state: ContextState | None,
        manifest: Manifest,
        tell: Tell | None,
    ) -> None:
        self._database = database
        self._schema = database.schema
        self._connection = connection
        self._context = context
        self._survey = survey
        self._tell = tell
        self._written = self._total = 0
        self._inserted = self._updated = self._deleted = self._nprimary = 0
        self._manifest = manifest
        self._state = state
        # By the clock, a database that was restored or made anew never has a number again that
        # stood for other rows.
        self._serial = max(now_ms(connection), (state.serial if state else 0) + 1)
        self._table = RowsTable(connection, self._schema, relation_of(context.name))

    def run(self) -> Change:
        """Bring the table to the newest manifest."""
        manifest, state = self._manifest, self._state
        name = self._context.name
        parts = self._opened(manifest)
        self._columns = stored_columns(common_schema(p.part.schema for p in parts))
        if state is None:
            # Whoever deleted its row in "context" left what belongs to it.
            for table in ("segment", "part", "field", "gone"):
                self._run("DELETE FROM {} WHERE context = %s", table, values=(name,))
        self._numbers = self._number_segments(parts)
        anew = state is None or self._is_other(state, parts)
        if anew:
            self._load(parts)
        elif state is not None and state.rows != manifest.rows:
            self._follow(state, parts)
        self._record(anew=anew)
        change = Change(
            name, manifest.version, self._inserted, self._updated, self._deleted, anew=anew
        )
        _LOG.info("the database follows: %s", change)
        return change

    def _opened(self, manifest: Manifest) -> list[PlacedPart]:
        """Open the parts of a version; those that are new are compared with their digests."""
        index = self._context.index
        known = self._state.parts if self._state else {}
        listed = []
        for entry in manifest.parts:
            part = open_part(index.part(entry.name), self._survey)
            if entry.name not in known:
                part.check()
            listed.append((part, marks_of(index, entry)))
        return place_parts(listed, self._survey)

    def _is_other(self, state: ContextState, parts: Sequence[PlacedPart]) -> bool:
        """Return whether the table has to be made anew.

        It is gone, types are others, rows that it has get values in new columns, or it has columns
        that are not recorded, as one has that is in the index again, or lacks some that are.
        """
        there = self._table.columns()
        for name, column in self._columns.items():
            known = state.columns.get(name)
            if (known is not None) != (column.physical in there):
                return True
            if known is not None and known.form != column.form:
                return True
        return any(
            has_values(placed, self._new_columns(state), state.listed)
            for placed, entry in zip(parts, self._manifest.parts, strict=True)
            if entry.name not in state.parts
        )

    def _new_columns(self, state: ContextState) -> list[StoredColumn]:
        """Return the columns that the table lacks."""
        return [column for name, column in self._columns.items() if name not in state.columns]

    def _load(self, parts: Sequence[PlacedPart]) -> None:
        """Make the table anew beside the old one, which answers until this is committed."""
        columns = self._columns.values()
        release = self._survey.release(self._context.name)
        title = f"{release.title if release else self._context.name}: one row a spectrum"
        beside = RowsTable(self._connection, self._schema, fitting(f"{self._table.relation} anew"))
        beside.make(columns, self._survey, title)
        self._total = sum(placed.nalive for placed in parts)
        for placed in parts:
            self._copy(beside, placed, placed.every(primary=False, most=None))
        if len(parts) > 1:
            # Each part is in the order of the sky, and all of them are to be.
            beside.put_in_order(self._survey, self._columns)
        beside.index(self._survey, self._columns)
        self._run("ANALYZE {}", beside.relation)
        if self._table.exists():
            keep_out(self._connection, self._table.name)
        beside.take_place_of(self._table, index_columns(self._survey, self._columns))
        self._run("DELETE FROM {} WHERE context = %s", "gone", values=(self._context.name,))

    def _follow(self, state: ContextState, parts: Sequence[PlacedPart]) -> None:
        """Change the rows of the table that differ."""
        if new := self._new_columns(state):
            self._add(new)
        self._forget(state, parts)
        held = set(state.listed)
        fresh: list[tuple[PlacedPart, bool]] = []
        changed: list[tuple[PlacedPart, bool]] = []
        for placed, entry in zip(parts, self._manifest.parts, strict=True):
            if state.parts.get(entry.name) == entry.marks:
                continue
            is_fresh = held.isdisjoint(placed.part.record.segments)
            (fresh if is_fresh else changed).append((placed, entry.name in state.parts))
        self._total = sum(placed.nalive for placed, _ in fresh)
        for placed, is_known in changed:
            self._compare(placed, is_known=is_known)
        for placed, _ in fresh:
            self._copy(self._table, placed, placed.every(primary=False, most=None))
        self._table.index(self._survey, self._columns)

    def _add(self, columns: Sequence[StoredColumn]) -> None:
        """Add columns in a transaction of its own: it keeps readers out until it is committed."""
        with self._database.writing() as connection:
            table = RowsTable(connection, self._schema, self._table.relation)
            keep_out(connection, table.name)
            table.add(columns)
            table.describe(columns, self._survey)
            query = sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, %s)")
            fields = query.format(sql.Identifier(self._schema, "field"))
            for column in columns:
                place = list(self._columns).index(column.name)
                values = (self._context.name, column.name, place, str(column.form))
                connection.execute(fields, values)

    def _number_segments(self, parts: Sequence[PlacedPart]) -> dict[str, int]:
        """Return the numbers of the segments; new ones get the next that were never used."""
        known = dict(self._state.segments) if self._state else {}
        names = [name for placed in parts for name in placed.part.record.segments]
        for name in names:
            if name not in known:
                known[name] = len(known)
                values = (self._context.name, known[name], name)
                self._run("INSERT INTO {} VALUES (%s, %s, %s, true)", "segment", values=values)
        query = "UPDATE {} SET is_listed = (name = ANY(%s)) WHERE context = %s"
        self._run(query, "segment", values=(names, self._context.name))
        return known

    def _forget(self, state: ContextState, parts: Sequence[PlacedPart]) -> None:
        """Delete the rows of segments that are not listed any more."""
        listed = {name for placed in parts for name in placed.part.record.segments}
        lost = [state.segments[name] for name in state.listed if name not in listed]
        if lost:
            self._delete("_segment = ANY(%s)", (lost,))

    def _compare(self, placed: PlacedPart, *, is_known: bool) -> None:
        """Bring the rows of a part that the table has to their state, and add those it lacks.

        Of a part whose other marks are known only the rows with marks can differ: marks are added.
        """
        part = placed.part
        rows = placed.marks["row"] if is_known else np.arange(part.nrows)
        alive = np.ones(part.nrows, np.bool_) if placed.alive is None else placed.alive
        numbers = self._row_numbers(placed, rows)
        self._run("CREATE TEMP TABLE IF NOT EXISTS state (number bigint, alive boolean,"
                  " best boolean) ON COMMIT DROP")  # fmt: skip
        self._run("TRUNCATE state")
        states = pa.table([numbers, alive[rows], placed.primary[rows]], ["number", "alive", "best"])
        self._send("COPY state FROM STDIN (FORMAT BINARY)", [states])
        self._run("ANALYZE state")
        self._delete(f"{NUMBER} IN (SELECT number FROM state WHERE NOT alive)", ())
        if not is_known:
            mine = [self._numbers[name] for name in part.record.segments]
            absent = f"NOT EXISTS (SELECT FROM state s WHERE s.number = t.{NUMBER})"
            self._delete(f"_segment = ANY(%s) AND {absent}", (mine,))
        self._update_best()
        query = (
            "SELECT number FROM state s WHERE alive"
            f" AND NOT EXISTS (SELECT FROM {{}} t WHERE t.{NUMBER} = s.number)"
        )
        lacking = [number for (number,) in self._run(query, self._table.relation).fetchall()]
        if lacking:
            self._copy(self._table, placed, np.sort(rows[np.isin(numbers, lacking)]))

    def _update_best(self) -> None:
        """Write which rows are the best of their objects."""
        column = self._columns.get(self._survey.primary[0]) if self._survey.best else None
        also = f", {column.identifier} = s.best::integer" if column else ""
        query = (
            f"UPDATE {{}} t SET {PRIMARY} = s.best, {SERIAL} = %s{also} FROM state s"
            f" WHERE t.{NUMBER} = s.number AND t.{PRIMARY} <> s.best RETURNING s.best"
        )
        best = [row[0] for row in self._run(query, self._table.relation, values=(self._serial,))]
        self._updated += len(best)
        self._nprimary += sum(best) - (len(best) - sum(best))

    def _delete(self, where: str, values: tuple[Any, ...]) -> None:
        """Delete rows, and keep their identifiers for who has them open."""
        identifier = self._columns[self._survey.id_column.name].identifier
        query = (
            f"WITH dead AS (DELETE FROM {{}} t WHERE {where} RETURNING {identifier} AS id,"
            f" {PRIMARY} AS best), noted AS (INSERT INTO {{}} SELECT %s, %s, id FROM dead"
            " WHERE id IS NOT NULL) SELECT count(*), count(*) FILTER (WHERE best) FROM dead"
        )
        values = (*values, self._context.name, self._serial)
        ((count, best),) = self._run(query, self._table.relation, "gone", values=values).fetchall()
        self._deleted += count
        self._nprimary -= best

    def _row_numbers(self, placed: PlacedPart, rows: npt.NDArray[Any]) -> Ints:
        """Return the numbers of rows of a part in the table, 1D[n]."""
        segments = placed.part.record.segments
        of = np.array([self._numbers[name] for name in segments] or [0], np.int64)
        numbers: Ints = (of[placed.part.segment[rows]] << _SHIFT) | placed.part.row[rows]
        return numbers

    def _copy(self, table: RowsTable, placed: PlacedPart, rows: Ints) -> None:
        """Write rows of a part, which ascend."""
        columns = list(self._columns.values())
        names = [*(column.physical for column in columns), PRIMARY, SERIAL]
        listed = sql.SQL(", ").join(map(sql.Identifier, names))
        query = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(table.name, listed)
        self._send(query, (self._rows(placed, columns, some) for some in blocks(rows)))
        self._inserted += len(rows)
        self._nprimary += int(np.count_nonzero(placed.primary[rows]))

    def _rows(self, placed: PlacedPart, columns: Sequence[StoredColumn], rows: Ints) -> pa.Table:
        """Return rows of a part as the table has them."""
        schema = pa.schema([(column.name, column.form) for column in columns])
        found = placed.take(schema, rows)
        numbers = self._row_numbers(placed, rows) >> _SHIFT
        found = put_column(found, "_segment", pa.array(numbers.astype(np.int32)))
        arrays = {
            column.physical: to_postgres(found.column(column.name), column.form)
            for column in columns
        }
        serial = np.full(len(rows), self._serial)
        if self._tell is not None:
            self._written += len(rows)
            self._tell(self._written, max(self._total, self._written))
        return pa.table({**arrays, PRIMARY: pa.array(placed.primary[rows]), SERIAL: serial})

    def _send(self, query: Any, tables: Iterable[pa.Table]) -> None:
        """Write tables with PostgreSQL's binary COPY."""
        encoder = None
        with self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for table in tables:
                if encoder is None:
                    encoder = ArrowToPostgresBinaryEncoder(table.schema)
                    copy.write(encoder.write_header())
                for batch in table.combine_chunks().to_batches():
                    copy.write(encoder.write_batch(batch))
            if encoder is not None:
                copy.write(encoder.finish())

    def _record(self, *, anew: bool) -> None:
        """Write which manifest the table has."""
        name, manifest = self._context.name, self._manifest
        changed = self._inserted + self._updated + self._deleted
        before = self._state if self._state and not anew else None
        nrows = (before.nrows if before else 0) + self._inserted - self._deleted
        nprimary = (before.nprimary if before else 0) + self._nprimary
        if not anew and self._inserted > _ANALYZED * nrows:
            self._run("ANALYZE {}", self._table.relation)
        for table in ("part", "field", "context"):
            key = "name" if table == "context" else "context"
            self._run(f"DELETE FROM {{}} WHERE {key} = %s", table, values=(name,))
        serial = self._serial if changed or anew or before is None else before.serial
        values: tuple[Any, ...] = (
            name, self._table.relation, self._survey.name, manifest.version, manifest.rows,
            serial, nrows, nprimary,
        )  # fmt: skip
        self._run(
            "INSERT INTO {} VALUES (%s, %s, %s, %s, %s, %s, %s, %s, clock_timestamp())",
            "context",
            values=values,
        )
        for entry in manifest.parts:
            values = (name, entry.name, entry.marks)
            self._run("INSERT INTO {} VALUES (%s, %s, %s)", "part", values=values)
        for place, column in enumerate(self._columns.values()):
            values = (name, column.name, place, str(column.form))
            self._run("INSERT INTO {} VALUES (%s, %s, %s, %s)", "field", values=values)

    def _run(self, query: str, *relations: str, values: tuple[Any, ...] | None = None) -> Any:
        """Run a statement with the names of tables of the schema."""
        names = [sql.Identifier(self._schema, relation) for relation in relations]
        return self._connection.execute(sql.SQL(query).format(*names), values)
