"""Names of indexes that no table can have: ``a.id`` instead of ``a_id``, the table of a context."""

from alembic import context, op
from psycopg import sql

revision = "0002"
down_revision = "0001"

_OWN = ("number", "hpx", "id", "serial")
_INDEXES = """
SELECT c.relname, array_to_string(ARRAY(
    SELECT a.attname FROM unnest(i.indkey) WITH ORDINALITY AS k(number, place)
        JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY place), '_')
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = to_regclass(%s)"""
_LONGEST = 63


def upgrade() -> None:
    """Rename the indexes, and the tables of contexts that are called as one of ours."""
    schema = context.config.attributes["schema"]
    run = op.get_bind().exec_driver_sql
    found = run(f"SELECT name, relation FROM {_quoted(schema, 'context')}").fetchall()
    for name, relation in found:
        table = _quoted(schema, relation)
        renamed = f"{name}.rows" if relation == f"{name}_rows" else relation
        for index, columns in run(_INDEXES, (table,)).fetchall():
            end = index.removeprefix(f"{relation}_")
            if end != index and (end in _OWN or end == columns):
                _rename("INDEX", schema, index, f"{renamed}.{end}")
        if renamed != relation:
            _rename("TABLE", schema, relation, renamed)
            query = f"UPDATE {_quoted(schema, 'context')} SET relation = %s WHERE name = %s"
            run(query, (renamed, name))
    op.alter_column(
        "context", "serial", schema=schema, comment="Number that grows whenever rows change"
    )


def downgrade() -> None:
    """Keep the names: the older version makes the indexes again that it knows."""


def _rename(what: str, schema: str, old: str, new: str) -> None:
    """Rename a table or an index, if the name is not too long."""
    if len(new.encode()) <= _LONGEST:
        query = f"ALTER {what} IF EXISTS {_quoted(schema, old)} RENAME TO {_quoted(new)}"
        op.get_bind().exec_driver_sql(query.replace("%", "%%"))


def _quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)
