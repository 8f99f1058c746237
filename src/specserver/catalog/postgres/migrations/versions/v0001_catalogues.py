"""The tables that say what the catalogues hold."""

import sqlalchemy as sa
from alembic import context, op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    schema = context.config.attributes["schema"]
    text = sa.Text(collation="C")
    op.create_table(
        "context",
        sa.Column("name", text, primary_key=True, comment="Name of the release"),
        sa.Column("relation", text, nullable=False, comment="Name of its table in this schema"),
        sa.Column("survey", text, nullable=False, comment="Name of its survey"),
        sa.Column("version", sa.BigInteger, nullable=False, comment="Number of the manifest"),
        sa.Column(
            "rows", text, nullable=False, comment="Text that changes when rows change (manifest)"
        ),
        sa.Column("serial", sa.BigInteger, nullable=False, comment="How often rows have changed"),
        sa.Column("nrows", sa.BigInteger, nullable=False, comment="Number of rows"),
        sa.Column("nprimary", sa.BigInteger, nullable=False, comment="Number of best spectra"),
        sa.Column(
            "synced_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
            comment="Time of the last change",
        ),
        schema=schema,
        comment="Releases, and the manifest of the data folder that each table follows",
    )
    _make_details(schema)


def _make_details(schema: str) -> None:
    """Make the tables of the parts, segments and columns of each context."""
    text = sa.Text(collation="C")
    op.create_table(
        "part",
        sa.Column("context", text, primary_key=True, comment="Name of the release"),
        sa.Column("name", text, primary_key=True, comment="Name of the index part"),
        sa.Column("marks", text, nullable=False, comment="Name of its marks; empty: none"),
        schema=schema,
        comment="Parts of the manifest, whose rows the table has",
    )
    op.create_table(
        "segment",
        sa.Column("context", text, primary_key=True, comment="Name of the release"),
        sa.Column("number", sa.Integer, primary_key=True, comment="Its number: column _segment"),
        sa.Column("name", text, nullable=False, comment="Name of its folder"),
        sa.Column("is_listed", sa.Boolean, nullable=False, comment="The manifest lists it"),
        sa.UniqueConstraint("context", "name", name="segment_name"),
        schema=schema,
        comment="Segments of the store; numbers are never used again",
    )
    op.create_table(
        "field",
        sa.Column("context", text, primary_key=True, comment="Name of the release"),
        sa.Column("name", text, primary_key=True, comment="Name of the column"),
        sa.Column("place", sa.Integer, nullable=False, comment="Its place among the columns"),
        sa.Column("form", text, nullable=False, comment="Its Arrow type"),
        schema=schema,
        comment="Columns of the catalogues",
    )
    op.create_table(
        "gone",
        sa.Column("context", text, nullable=False, comment="Name of the release"),
        sa.Column("serial", sa.BigInteger, nullable=False, comment="When it was deleted"),
        sa.Column("id", sa.BigInteger, nullable=False, comment="Identifier, in its signed form"),
        sa.Index("gone_serial", "context", "serial"),
        schema=schema,
        comment="Identifiers of rows that were deleted",
    )


def downgrade() -> None:
    """Delete the tables."""
    schema = context.config.attributes["schema"]
    for name in ("gone", "field", "segment", "part", "context"):
        op.drop_table(name, schema=schema)
