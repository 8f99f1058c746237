"""The only package that uses DuckDB."""
