"""The environment in which Alembic runs a migration: on a connection that is open already."""

from alembic import context

_given = context.config.attributes
context.configure(
    connection=_given["connection"],
    version_table="schema_version",
    version_table_schema=_given["schema"],
)
with context.begin_transaction():
    context.run_migrations()
