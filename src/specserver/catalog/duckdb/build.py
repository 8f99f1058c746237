"""The table `objects` of an index generation, made from Parquet: all columns, in HEALPix order."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from ...data.handles import Entry
from ...errors import CatalogError
from ...model.survey import Survey
from .best import best_first

_BATCH: Final = 200_000
"""Rows of one batch."""


class ObjectsTable:
    """The table of all rows of a generation, while the generation is made."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, survey: Survey) -> None:
        self._connection = connection
        self._survey = survey
        self.columns: Mapping[str, str] = {
            str(column): _kind(str(kind))
            for column, kind in connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_name = 'objects' ORDER BY ordinal_position"
            ).fetchall()
        }
        """Column name → kind: int, uint, float, str or bool."""
        ((nrows,),) = connection.execute("SELECT count(*) FROM objects").fetchall()
        self.nrows = int(nrows)

    def batches(self) -> pa.RecordBatchReader:
        """Return all rows: first their number ``_index``, last ``_primary``, bool.

        They should come in the order of ``_index``; the caller checks that.
        """
        column, value = self._survey.primary
        parts = [f'SELECT *, coalesce("{column}" = ?, false) AS _primary', "FROM objects"]
        found = self._connection.sql(" ".join(parts), params=[value])
        reader = found.to_arrow_reader(_BATCH)
        if reader is None:
            raise CatalogError("the database gave no answer")
        return reader

    def require_distinct(self) -> None:
        """Raise `CatalogError` when a spectrum stands in two rows."""
        identifier = self._survey.id_column.name
        key = ', coalesce("_key", 0)' if "_key" in self.columns else ""
        parts = ["SELECT", f'"{identifier}"', "FROM objects GROUP BY", f'"{identifier}"{key}']
        query = " ".join([*parts, "HAVING count(*) > 1 LIMIT 5"])
        if twice := self._connection.execute(query).fetchall():
            raise CatalogError(f"identifiers stored twice: {[row[0] for row in twice]}")


@contextmanager
def make_objects(
    file: Entry, survey: Survey, files: Sequence[Entry], *, unique: bool
) -> Iterator[ObjectsTable]:
    """Make the table in a new database file, and yield it until the file is closed.

    Parameters
    ----------
    files : Parquet with the columns of `catalog.segment_rows`
    unique : keep one row of each identifier and key

    Raises
    ------
    CatalogError
        The database cannot make it, as on a full disk.
    """
    listed = [str(file.local_path()) for file in files]
    try:
        with duckdb.connect(str(file.local_path())) as connection:
            numbers = np.arange(len(listed), dtype=np.int32)
            connection.register("segment_files", pa.table({"_file": listed, "_segment": numbers}))
            rows = connection.read_parquet(listed, union_by_name=True, filename=True)
            rows.create_view("all_rows")
            if unique:
                _leave_out_others(connection, survey, rows.columns)
            else:
                connection.execute("CREATE VIEW segment_rows AS SELECT * FROM all_rows")
            _sort_rows(connection, survey, rows.columns)
            yield ObjectsTable(connection, survey)
            # Closing writes as well, but raises nothing when the disk is full.
            connection.execute("CHECKPOINT")
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise CatalogError(f"{file}: the index cannot be made: {reason}") from error


def _leave_out_others(
    connection: duckdb.DuckDBPyConnection, survey: Survey, names: Sequence[str]
) -> None:
    """Make the view of one row for each identifier and key: that of the newest version.

    Of rows of one version, which two processes of one ingest can have stored, it is the first.
    """
    group = f'"{survey.id_column.name}"' + (', coalesce("_key", 0)' if "_key" in names else "")
    version = 'coalesce("_version", 0)' if "_version" in names else "0"
    parts = ["CREATE VIEW segment_rows AS SELECT * FROM all_rows"]
    # The window takes all columns through a sort; most contexts need none.
    twice = ["SELECT 1 FROM all_rows GROUP BY", group, "HAVING count(*) > 1 LIMIT 1"]
    if connection.execute(" ".join(twice)).fetchall():
        order = f'{version} DESC, filename, "_row"'
        parts += [f"QUALIFY row_number() OVER (PARTITION BY {group} ORDER BY {order}) = 1"]
    connection.execute(" ".join(parts))


def _sort_rows(connection: duckdb.DuckDBPyConnection, survey: Survey, names: Sequence[str]) -> None:
    """Make the table of all rows in HEALPix order, the best of each object marked."""
    made, params = _best(survey, names)
    column, last = survey.primary[0], survey.id_parts[-1]
    left_out = ["filename", *([f'"{column}"'] if made and column in names else [])]
    last_part = ""
    if survey.last_open and "_key" in names:
        # Segments of older versions lack the column that distinguishes spectra of one identifier.
        known = f'r."{last}", ' if last in names else ""
        last_part = f', coalesce({known}concat(\'key\', r."_key")) AS "{last}"'
        left_out += [f'"{last}"'] if known else []
    # Numbered as they come out of one sort; sorting by the number again would take half as long
    # once more, and a quarter more memory. `_in_order` checks the result.
    parts = [
        "CREATE TABLE objects AS SELECT (row_number() OVER () - 1)::BIGINT AS _index, *",
        f"FROM (SELECT f._segment, r.* EXCLUDE ({', '.join(left_out)})",
        f', {made} AS "{column}"' if made else "",
        last_part,
        "FROM segment_rows r JOIN segment_files f ON r.filename = f._file",
        f'ORDER BY r._hpx, r."{survey.id_column.name}", f._segment, r._row)',
    ]
    connection.execute(" ".join(parts), params)


def _best(survey: Survey, names: Sequence[str]) -> tuple[str, list[int | str]]:
    """Return the expression that is 1 for the best row of each object, and its parameters."""
    if survey.best is None:
        return "", []
    order, params = best_first(survey, names)
    order += ["f._segment", "r._row"]
    over = f'PARTITION BY r."{survey.best.group}" ORDER BY {", ".join(order)}'
    return f"(row_number() OVER ({over}) = 1)::UTINYINT", params


def _kind(data_type: str) -> str:
    """Return the kind of a DuckDB type."""
    if data_type.startswith("U"):
        return "uint"
    if data_type in {"FLOAT", "DOUBLE"} or data_type.startswith("DECIMAL"):
        return "float"
    if data_type == "BOOLEAN":
        return "bool"
    return "int" if data_type.endswith("INT") or data_type == "INTEGER" else "str"
