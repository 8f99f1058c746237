"""All that asks DuckDB."""
