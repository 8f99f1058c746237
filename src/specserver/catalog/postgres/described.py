"""A table of the data centre's own database, as the database describes it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from ...errors import BadParameter
from ...model.survey import Column, Survey
from .database import Database
from .names import COLLATED, StoredColumn, quoted
from .parameters import Parameters

_PLACED: Final = frozenset({"r", "m"})
"""Kinds of relations whose rows have a place of their own: ordinary tables, materialized views."""
_AS_TEXT: Final = '(CAST({} AS text) COLLATE "C")'
_TYPES: Final[Mapping[str, tuple[pa.DataType, str]]] = {
    "bool": (pa.bool_(), "{}"),
    "int2": (pa.int16(), "{}"),
    "int4": (pa.int32(), "{}"),
    "int8": (pa.int64(), "{}"),
    "float4": (pa.float32(), "{}"),
    "float8": (pa.float64(), "{}"),
    "numeric": (pa.float64(), "CAST({} AS double precision)"),
    "text": (pa.string(), COLLATED),
    "varchar": (pa.string(), COLLATED),
    "bpchar": (pa.string(), '(rtrim(CAST({} AS text)) COLLATE "C")'),
    **{
        name: (pa.string(), _AS_TEXT)
        for name in ("name", "uuid", "date", "time", "timestamp", "timestamptz")
    },
}
"""Type in PostgreSQL → Arrow type, and the value as SQL from the quoted name."""
_NUMERIC_ID: Final = (
    "CAST(CASE WHEN {0} >= 9223372036854775808 THEN {0} - 18446744073709551616 ELSE {0} END"
    " AS bigint)"
)
_DESCRIPTION: Final = """
SELECT a.attname, t.typname, coalesce(col_description(c.oid, a.attnum), ''),
    c.relkind::text, n.nspname, c.relname,
    a.attnotnull AND t.typname IN ('int2', 'int4', 'int8') AND NOT family.is_parent
        AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum
            AND i.indnkeyatts = 1 AND i.indisunique AND i.indisvalid AND i.indimmediate
            AND i.indpred IS NULL),
    EXISTS (SELECT FROM pg_proc WHERE proname = 'q3c_radial_query'
        AND pg_function_is_visible(oid)),
    family.is_parent, coalesce(NOT l.collisdeterministic, false),
    c.relkind = 'v' OR EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisvalid
        AND i.indkey[0] = a.attnum AND i.indpred IS NULL)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_collation l ON l.oid = a.attcollation
    CROSS JOIN LATERAL (SELECT c.relkind <> 'p'
        AND EXISTS (SELECT FROM pg_inherits WHERE inhparent = c.oid) AS is_parent) AS family
WHERE c.oid = to_regclass("""


@dataclass(frozen=True, slots=True)
class Described:
    """A table as the database describes it."""

    names: tuple[str, str]
    """Schema and table."""
    kind: str
    """``pg_class.relkind``."""
    types: Mapping[str, str]
    """Column → type."""
    comments: Mapping[str, str]
    keys: tuple[str, ...]
    """Columns of whole numbers that are unique and not null."""
    has_q3c: bool
    is_parent: bool
    """Whether others inherit from it: its own places and keys tell nothing of their rows."""
    loose: frozenset[str]
    """Columns of text in whose own collation different texts are equal."""
    indexed: frozenset[str]
    """Columns with which an index begins; all of a view, which may have those of its tables."""

    @property
    def has_places(self) -> bool:
        """Whether each row has a place of its own, by which it is known."""
        return self.kind in _PLACED and not self.is_parent


def describe(database: Database, table: str) -> Described:
    """Return what the database says of a table, ``schema.table`` as it reads names.

    Raises
    ------
    BadParameter
        There is no such table, or its name cannot be read.
    DatabaseAway, CatalogError
    """
    values = Parameters()
    query = f"{_DESCRIPTION}{values.bind(table, collated=False)}) ORDER BY a.attnum"
    found = database.arrow(query, values)
    rows = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
    if not rows:
        allowed = f"a table or view of {database.shown} that its user may see, as schema.table"
        raise BadParameter("table", table, allowed)
    kind, schema, relation, _, has_q3c, is_parent, _, _ = rows[0][3:]
    return Described(
        (schema, relation),
        kind,
        {row[0]: row[1] for row in rows},
        {row[0]: row[2] for row in rows if row[2]},
        tuple(row[0] for row in rows if row[6]),
        has_q3c,
        is_parent,
        frozenset(row[0] for row in rows if row[9]),
        frozenset(row[0] for row in rows if row[10]),
    )


def is_unique(database: Database, described: Described, column: str) -> bool:
    """Return whether a column has each value once, and no null; errors are those of `describe`.

    The whole table is read, unless an index says it.
    """
    if column in described.keys:
        return True
    name = quoted(column)
    query = (
        f"SELECT {name} FROM {quoted(*described.names)} GROUP BY {name}"
        f" HAVING count(*) > 1 OR {name} IS NULL LIMIT 1"
    )
    return not len(database.arrow(query))


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table that have a meaning here."""

    id: str
    position: tuple[str, str] | None
    key: str
    """Of whole numbers, by which rows are known; empty: by their places in the table."""


def stored_of(described: Described, columns: Columns, survey: Survey) -> dict[str, StoredColumn]:
    """Return the columns of a table by their names here: lower case, and those with a meaning.

    Columns of types that a catalogue cannot hold are left out.
    """
    meant = {columns.id: survey.id_column.name}
    if columns.position:
        meant |= dict(zip(columns.position, ("ra", "dec"), strict=True))
    found: dict[str, StoredColumn] = {}
    for actual in sorted(described.types, key=lambda name: name not in meant):
        form, expression = _TYPES.get(described.types[actual], (None, ""))
        if form is None:
            continue
        if actual in described.loose:
            # Not even an index on equality is of use.
            expression = _AS_TEXT
        name = meant.get(actual, actual.lower().lstrip("_") or actual)
        while name in found:
            name += "_2"
        if actual == columns.id:
            form = pa.from_numpy_dtype(np.dtype(survey.id_column.dtype))
            is_numeric = described.types[actual] == "numeric"
            expression = _NUMERIC_ID if is_numeric else "CAST({} AS bigint)"
            expression = "{}" if described.types[actual] == "int8" else expression
        found[name] = StoredColumn(name, form, actual, expression)
    return found


def described_columns(
    described: Described, stored: Mapping[str, StoredColumn]
) -> tuple[Column, ...]:
    """Return the columns as the database comments on them."""
    return tuple(
        Column(
            name,
            "U" if column.kind == "str" else np.dtype(column.form.to_pandas_dtype()).str,
            "",
            described.comments.get(column.physical, ""),
        )
        for name, column in stored.items()
    )
