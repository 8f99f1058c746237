"""PostgreSQL as a back end of the catalogue: the only package that uses its drivers."""
