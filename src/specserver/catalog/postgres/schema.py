"""The schema in the database: brought up to date by Alembic, and its tables of rows."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from psycopg import sql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from ...errors import CatalogError
from ...model.survey import Column, Survey
from .names import StoredColumn, fitting

Connection: TypeAlias = psycopg.Connection[tuple[Any, ...]]
HEAD: Final = "0002"
"""The newest version of the schema."""
NUMBER: Final = "_number"
PRIMARY: Final = "_primary"
SERIAL: Final = "_serial"
_OWN: Final[Mapping[str, tuple[str, str]]] = {
    NUMBER: (
        "bigint NOT NULL GENERATED ALWAYS AS ((_segment::bigint << 32) | _row) STORED",
        "Number of the row: that of its segment, and 32 bits with the row in it",
    ),
    PRIMARY: ("boolean NOT NULL", "Whether it is the best spectrum of its object"),
    SERIAL: ("bigint NOT NULL", "Count of changes (context.serial) at which it was written last"),
}
"""Columns besides those of the catalogue: type, and meaning."""
_INCLUDED: Final[Mapping[str, tuple[str, ...]]] = {"id": (NUMBER, "_hpx", PRIMARY)}
"""What an index has besides its columns: what is asked of identifiers is then read from the index
alone, and not from one page of the table for each."""
_RELATIONS: Final = frozenset({
    "context", "part", "segment", "field", "gone", "schema_version",
    "context_pkey", "part_pkey", "segment_pkey", "segment_name", "field_pkey", "gone_serial",
    "schema_version_pkc",
})  # fmt: skip
"""Tables besides those of contexts, and their indexes: names that a context may have, too."""
HIDDEN: Final[Mapping[str, str]] = {
    "_hpx": "HEALPix order-29 nested pixel of (ra, dec); -1: the position is not known",
    "_segment": "Number of the segment that has the spectrum (table segment)",
    "_row": "Row of the spectrum in its segment",
    "_source": "Path of the original file",
    "_size": "Bytes of the original file",
    "_mtime_ns": "Time of last change of the original file, ns since 1970",
    "_crc": "CRC-32 of the original file",
    "_key": "Distinguishes spectra of one identifier",
    "_digest": "Digest of the vectors of the spectrum",
    "_row_digest": "Digest of the catalogue values",
    "_beside": "Digest of what was read along with the file; 0: nothing",
    "_version": "How often the spectrum has been replaced",
}
"""Meaning of the columns that users do not see."""


def relation_of(context: str) -> str:
    """Return the name of the table of a context."""
    return fitting(f"{context}.rows" if context in _RELATIONS else context)


def index_of(relation: str, name: str) -> str:
    """Return the name of an index of the table of a context.

    No context has a dot in its name, so it is not that of a table.
    """
    return fitting(f"{relation}.{name}")


def bring_up_to_date(connect: Callable[[], Connection], schema: str) -> None:
    """Make the schema, or bring it to the newest version, in a transaction of its own.

    Raises
    ------
    CatalogError
        A newer version of this program made it, or the database is not in UTF-8.
    psycopg.Error
        The database refuses it, or has gone away.
    """
    try:
        _bring_up_to_date(connect, schema)
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise error.orig from error
        raise
    except CommandError as error:
        text = f"the schema {schema} of the database cannot be brought up to date"
        raise CatalogError(f"{text} ({error}): name another schema, or delete it") from error


def _bring_up_to_date(connect: Callable[[], Connection], schema: str) -> None:
    engine = sqlalchemy.create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    with engine.begin() as connection:

        def one(query: str, **values: str) -> Any:
            return connection.execute(sqlalchemy.text(query), values).scalar()

        encoding = one("SELECT current_setting('server_encoding')")
        if encoding != "UTF8":
            raise CatalogError(f"the database has the encoding {encoding}: create one in UTF8")
        name = _quoted(schema, "schema_version")
        found = None
        if one("SELECT to_regclass(:name)", name=name):
            found = one(f"SELECT version_num FROM {name}")
        if found == HEAD:
            return
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes.update(schema=schema, connection=connection)
        known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
        if found is not None and found not in known:
            text = f"a newer version of specserver made the schema {schema} ({found})"
            raise CatalogError(f"{text}: update specserver, or name another database")
        one("SELECT pg_advisory_xact_lock(hashtext(:name))", name=name)
        connection.execute(sqlalchemy.text(f"CREATE SCHEMA IF NOT EXISTS {_quoted(schema)}"))
        command.upgrade(config, "head")


class RowsTable:
    """The table of the rows of one context, while it is written.

    Parameters
    ----------
    connection : in a transaction
    relation : name of the table
    """

    def __init__(self, connection: Connection, schema: str, relation: str) -> None:
        self._connection = connection
        self._schema = schema
        self.relation = relation

    @property
    def name(self) -> sql.Identifier:
        """Its name in the schema."""
        return sql.Identifier(self._schema, self.relation)

    def exists(self) -> bool:
        """Return whether there is such a table."""
        name = self.name.as_string(self._connection)
        row = self._connection.execute("SELECT to_regclass(%s)", (name,)).fetchone()
        return row is not None and row[0] is not None

    def columns(self) -> set[str]:
        """Return the names of its columns; none if there is no such table."""
        query = """
            SELECT attname FROM pg_attribute
            WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped"""
        name = self.name.as_string(self._connection)
        return {column for (column,) in self._connection.execute(query, (name,))}

    def rights(self) -> list[tuple[str, str]]:
        """Return the roles that have been granted rights on it, empty for all, and the rights."""
        query = """
            SELECT coalesce(r.rolname, ''), a.privilege_type
            FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
                LEFT JOIN pg_roles r ON r.oid = a.grantee
            WHERE c.oid = to_regclass(%s) AND a.grantee <> c.relowner"""
        name = self.name.as_string(self._connection)
        return [(role, right) for role, right in self._connection.execute(query, (name,))]

    def make(self, columns: Iterable[StoredColumn], survey: Survey, title: str) -> None:
        """Make the table, without indexes."""
        self._run("DROP TABLE IF EXISTS {}", self.name)
        parts = [sql.SQL("{} {}").format(_of(c), sql.SQL(c.type)) for c in columns]
        parts += [
            sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(form))
            for name, (form, _) in _OWN.items()
        ]
        self._run("CREATE TABLE {} ({})", self.name, sql.SQL(", ").join(parts))
        self._run("COMMENT ON TABLE {} IS {}", self.name, sql.Literal(title))
        self.describe(columns, survey)
        for name, (_, meaning) in _OWN.items():
            self._comment(name, meaning)

    def add(self, columns: Iterable[StoredColumn]) -> None:
        """Add columns, which are null in the rows that are there."""
        for column in columns:
            self._run(
                "ALTER TABLE {} ADD COLUMN {} {}", self.name, _of(column), sql.SQL(column.type)
            )

    def describe(self, columns: Iterable[StoredColumn], survey: Survey) -> None:
        """Comment on columns: what the survey says of them."""
        known = {column.name: column for column in survey.columns}
        for column in columns:
            told = known.get(column.name, Column(column.name, ""))
            meaning = HIDDEN.get(column.name, told.meaning)
            unit = f" [{told.unit}]" if told.unit else ""
            wrapped = " (unsigned 64-bit number in its signed form)" if column.is_wrapped else ""
            self._comment(column.physical, f"{meaning}{unit}{wrapped}".strip() or "As in the files")

    def index(self, survey: Survey, columns: Mapping[str, StoredColumn]) -> None:
        """Make the indexes that are not there."""
        for name, keys in index_columns(survey, columns).items():
            unique = sql.SQL("UNIQUE " if keys == (NUMBER,) else "")
            listed = sql.SQL(", ").join(sql.Identifier(key) for key in keys)
            index = sql.Identifier(index_of(self.relation, name))
            others = sql.SQL(", ").join(map(sql.Identifier, _INCLUDED.get(name, ())))
            included = sql.SQL("INCLUDE ({})" if name in _INCLUDED else "{}").format(others)
            form = "CREATE {}INDEX IF NOT EXISTS {} ON {} ({}) {}"
            self._run(form, unique, index, self.name, listed, included)

    def put_in_order(self, survey: Survey, columns: Mapping[str, StoredColumn]) -> None:
        """Put the rows in the order of the sky: those of a region are then in few pages."""
        keys = index_columns(survey, columns)["hpx"]
        index = index_of(self.relation, "hpx")
        listed = sql.SQL(", ").join(map(sql.Identifier, keys))
        self._run("CREATE INDEX {} ON {} ({})", sql.Identifier(index), self.name, listed)
        self._run("CLUSTER {} USING {}", self.name, sql.Identifier(index))

    def take_place_of(self, other: "RowsTable", names: Iterable[str]) -> None:
        """Take the name, the rights and the names of indexes of another table; it is deleted.

        Whoever deletes it sees that nobody reads it (`patience`).
        """
        for role, right in other.rights():
            grantee = sql.Identifier(role) if role else sql.SQL("PUBLIC")
            self._run("GRANT {} ON {} TO {}", sql.SQL(right), self.name, grantee)
        self._run("DROP TABLE IF EXISTS {}", other.name)
        for name in names:
            old = sql.Identifier(self._schema, index_of(self.relation, name))
            new = sql.Identifier(index_of(other.relation, name))
            self._run("ALTER INDEX {} RENAME TO {}", old, new)
        self._run("ALTER TABLE {} RENAME TO {}", self.name, sql.Identifier(other.relation))

    def _comment(self, name: str, text: str) -> None:
        column = sql.Identifier(self._schema, self.relation, name)
        self._run("COMMENT ON COLUMN {} IS {}", column, sql.Literal(text))

    def _run(self, statement: str, *parts: sql.Composable) -> None:
        self._connection.execute(sql.SQL(statement).format(*parts))


def index_columns(
    survey: Survey, columns: Mapping[str, StoredColumn]
) -> dict[str, tuple[str, ...]]:
    """Return the columns of each index of a context by the end of its name.

    An index on columns that some release lacks is left out there.
    """
    found: dict[str, tuple[str, ...]] = {
        "number": (NUMBER,),
        "hpx": ("_hpx",),
        "id": (columns[survey.id_column.name].physical,),
        "serial": (SERIAL,),
    }
    for group in (survey.id_parts, *survey.indexed):
        if group[0] != survey.id_column.name and all(name in columns for name in group):
            found["_".join(group)] = tuple(columns[name].physical for name in group)
    return found


def _of(column: StoredColumn) -> sql.Identifier:
    return sql.Identifier(column.physical)


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)
