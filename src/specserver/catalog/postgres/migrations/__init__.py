"""Migrations of the tables that say what the catalogues hold, as Alembic runs them."""
