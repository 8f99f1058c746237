"""What the database records of a context: the manifest that its table has, and its columns."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from psycopg import sql

from ...data.context import ContextFolder
from ...errors import CatalogError
from ..index.manifest import Manifest
from .database import Database
from .names import StoredColumn, quoted
from .parameters import Parameters
from .schema import Connection


@dataclass(frozen=True, slots=True)
class ContextState:
    """The table of a context at some time."""

    context: str
    relation: str
    """Name of the table."""
    version: int
    """Number of the manifest that it has."""
    rows: str
    """`Manifest.rows` of that."""
    serial: int
    """Number that grows whenever rows change."""
    nrows: int
    nprimary: int
    parts: Mapping[str, str]
    """Name of each part of the manifest → name of its marks."""
    segments: Mapping[str, int]
    """Name of each segment, also those that are not listed any more → its number."""
    listed: tuple[str, ...]
    """Names of the segments that the manifest lists."""
    columns: Mapping[str, StoredColumn]
    exists: bool
    """The table is there: whoever owns it can drop it."""
    age_s: float
    """Time since it was brought to that manifest, seconds, by the clock of the database."""

    def is_of(self, manifest: Manifest) -> bool:
        """Return whether the table has the rows, and knows the parts, of a manifest."""
        parts = {entry.name: entry.marks for entry in manifest.parts}
        return self.exists and self.rows == manifest.rows and self.parts == parts

    def require_own(self, context: ContextFolder, manifest: Manifest) -> None:
        """Raise `CatalogError` if the table is of another data folder.

        Names of segments and of parts are random: two folders have one in common only if one is
        a copy of the other.
        """
        known = {*self.parts, *self.segments}
        if not known.isdisjoint([*(part.name for part in manifest.parts), *manifest.superseded]):
            return
        held = context.segments()
        if self.segments and held and known.isdisjoint(held):
            text = f"the database has {self.context} of another data folder, or of before it was"
            text += " deleted and ingested again: name another schema with ?schema=NAME behind the"
            text += f" URL, or replace it by 'specserver catalog sync {self.context} --replace'"
            raise CatalogError(text, "catalog sync --replace")


_QUERY = """
SELECT json_build_object(
    'context', row_to_json(c),
    'exists', to_regclass({schema} || '.' || quote_ident(c.relation)) IS NOT NULL,
    'age_s', extract(epoch FROM clock_timestamp() - c.synced_at),
    'parts', (SELECT json_object_agg(name, marks) FROM {part} WHERE context = c.name),
    'segments', (SELECT json_agg(json_build_array(name, number, is_listed) ORDER BY number)
        FROM {segment} WHERE context = c.name),
    'fields', (SELECT json_agg(json_build_array(name, form) ORDER BY place)
        FROM {field} WHERE context = c.name))::text
FROM {context} c WHERE name = """
_TABLES = ("context", "part", "segment", "field")


def read_state(
    source: Database | Connection, context: str, schema: str = ""
) -> ContextState | None:
    """Return what is recorded of a context; None: nothing is.

    Parameters
    ----------
    source : the database, or a connection in a transaction; then with the schema

    Raises
    ------
    DatabaseAway, CatalogError
    """
    schema = schema or (source.schema if isinstance(source, Database) else "")
    names = {name: quoted(schema, name) for name in _TABLES}
    query = _QUERY.format(**names, schema=sql.Literal(quoted(schema)).as_string(None))
    found: list[Any]
    if isinstance(source, Database):
        if not source.has_schema():
            return None
        values = Parameters()
        query += values.bind(context)
        found = source.arrow(query, values).column(0).to_pylist()
    else:
        rows = source.execute(f"{query}%s".encode(), (context,)).fetchall()
        found = [row[0] for row in rows]
    return _parsed(json.loads(found[0])) if found else None


def _parsed(told: Mapping[str, Any]) -> ContextState:
    """Return a state from its record."""
    about, segments = told["context"], told["segments"] or []
    return ContextState(
        about["name"],
        about["relation"],
        about["version"],
        about["rows"],
        about["serial"],
        about["nrows"],
        about["nprimary"],
        told["parts"] or {},
        {name: number for name, number, _ in segments},
        tuple(name for name, _, is_listed in segments if is_listed),
        {name: StoredColumn(name, pa.type_for_alias(form)) for name, form in told["fields"] or []},
        told["exists"],
        told["age_s"],
    )
