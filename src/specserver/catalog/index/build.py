"""The index over the segments of a context: made anew from their Parquet, swapped in whole.

::

    <data>/<context>/index/
        CURRENT                 name of the generation in use; replaced atomically
        gen-…/
            catalog.duckdb      table `objects`: all columns, in HEALPix order, row 0 … n-1
            columns.arrow           the same, uncompressed, to be looked up by row
            hpx ra dec id primary segment row .npy                  1D[n], in that order
            id_sorted id_rank .npy                                  ids in order, and their rows
            index.json          segments and columns covered, and the digests of the others

The digests are compared when a generation is opened, but for that of the database, which checks
each block as it reads it. A reader opens one generation and keeps it; it never waits for a writer.
The index holds nothing that the segments do not: deleting the folder costs the time of making it
again. A value-added table (`catalog.tables.vac`) has an index of the same form.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...digests import check_listed
from ...errors import CatalogError
from ...model.survey import Survey
from .column_file import allocate, load_mapped, write_columns
from .generations import (
    DATABASE,
    IndexInfo,
    current_generation,
    record_generation,
    refresh_generation,
)

SIDECARS: Final[Mapping[str, str]] = {
    "hpx": "<i8",
    "ra": "<f8",
    "dec": "<f8",
    "primary": "?",
    "segment": "<i4",
    "row": "<i4",
}
_BATCH: Final = 200_000


def index_folder(data: Path, context: str) -> Path:
    """Return the folder of a context's index generations."""
    return data / context / "index"


def current_index(data: Path, context: str) -> IndexInfo | None:
    """Return what a context's generation in use covers, or None when there is none."""
    return current_generation(index_folder(data, context))


def refresh_index(
    data: Path,
    survey: Survey,
    context: str,
    segments: Callable[[], Sequence[str]],
    *,
    bad: str = "",
) -> IndexInfo | None:
    """Make a generation that covers exactly ``segments()``, unless the one in use does.

    ``segments`` is asked under the lock, so that what another process has committed is covered.

    Parameters
    ----------
    bad : name of a generation that is damaged, whatever it covers

    Raises
    ------
    DamagedFile
        The catalogue rows of a segment are not those that were written.
    CatalogError
        It cannot be made: a full disk, a folder that cannot be written to.
    """

    def build(path: Path, names: tuple[str, ...]) -> IndexInfo:
        files = []
        for segment in names:
            folder = data / context / segment
            check_listed(folder / "segment.json", ["objects.parquet"])
            files.append(folder / "objects.parquet")
        return build_index(path, survey, names, files, unique=True)

    return refresh_generation(index_folder(data, context), segments, build, bad=bad)


def build_index(
    path: Path, survey: Survey, names: tuple[str, ...], files: Sequence[Path], *, unique: bool
) -> IndexInfo:
    """Write all files of a generation into the folder ``path``.

    Parameters
    ----------
    names : what is covered, for the record
    files : Parquet with the columns of `catalog.segment_rows`
    unique : refuse a spectrum that stands in two rows
    """
    path.mkdir(parents=True, exist_ok=True)
    listed = [str(file) for file in files]
    with duckdb.connect(str(path / DATABASE)) as connection:
        connection.register("segment_files", _numbered(listed))
        rows = connection.read_parquet(listed, union_by_name=True, filename=True)
        rows.create_view("all_rows")
        if unique:
            _leave_out_others(connection, survey, rows.columns)
        else:
            connection.execute("CREATE VIEW segment_rows AS SELECT * FROM all_rows")
        _make_objects(connection, survey, rows.columns)
        columns = {
            str(column): _kind(str(kind))
            for column, kind in connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_name = 'objects' ORDER BY ordinal_position"
            ).fetchall()
        }
        nrows = _write_sidecars(connection, path, survey, unique=unique)
        # Closing writes as well, but tells nobody when the disk is full.
        connection.execute("CHECKPOINT")
    return record_generation(path, names, nrows, columns)


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


def _numbered(files: Sequence[str]) -> Any:
    """Return an Arrow table of segment files and their numbers."""
    return pa.table({"_file": files, "_segment": np.arange(len(files), dtype=np.int32)})


def _make_objects(
    connection: duckdb.DuckDBPyConnection, survey: Survey, names: Sequence[str]
) -> None:
    """Make the table of all rows in HEALPix order, the best of each object marked."""
    made, params = _best(survey, names)
    column, last = survey.primary[0], survey.id_parts[-1]
    left_out = ["filename", *([f'"{column}"'] if made and column in names else [])]
    told = ""
    if survey.last_open and "_key" in names:
        # Segments that older versions wrote do not say what tells spectra of one identifier apart.
        known = f'r."{last}", ' if last in names else ""
        told = f', coalesce({known}concat(\'key\', r."_key")) AS "{last}"'
        left_out += [f'"{last}"'] if known else []
    # Numbered as they come out of one sort; sorting by the number again would take half as long
    # once more, and a quarter more memory. `_in_order` checks what came of it.
    parts = [
        "CREATE TABLE objects AS SELECT (row_number() OVER () - 1)::BIGINT AS _index, *",
        f"FROM (SELECT f._segment, r.* EXCLUDE ({', '.join(left_out)})",
        f', {made} AS "{column}"' if made else "",
        told,
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


def best_first(survey: Survey, names: Sequence[str]) -> tuple[list[str], list[int | str]]:
    """Return what rows ``r`` are ordered by, the best first, and its parameters.

    Parameters
    ----------
    names : columns that there are
    """
    order: list[str] = []
    params: list[int | str] = []
    for column, first in survey.best.order if survey.best else ():
        if column not in names:
            continue
        # NaN is nothing known; it would come before all numbers.
        value = f'CASE WHEN r."{column}"::VARCHAR <> \'nan\' THEN r."{column}" END'
        if first != "desc":
            value = f'(r."{column}" = ?)'
            params.append(first)
        order.append(f"{value} DESC NULLS LAST")
    return order, params


def _write_sidecars(
    connection: duckdb.DuckDBPyConnection, path: Path, survey: Survey, *, unique: bool
) -> int:
    """Write the columns that are searched without SQL as memory-mappable files."""
    identifier = survey.id_column.name
    column, value = survey.primary
    ((nrows,),) = connection.execute("SELECT count(*) FROM objects").fetchall()
    types = {**SIDECARS, "id": survey.id_column.dtype}
    out = {name: allocate(path / f"{name}.npy", dtype, nrows) for name, dtype in types.items()}
    parts = [f'SELECT *, coalesce("{column}" = ?, false) AS _primary', "FROM objects"]
    reader = connection.sql(" ".join(parts), params=[value]).to_arrow_reader(_BATCH)
    if reader is None:
        raise CatalogError("the database gave no answer")
    names = {name: f"_{name}" for name in ("hpx", "primary", "segment", "row")}
    names |= {"ra": "ra", "dec": "dec", "id": identifier}
    at = 0
    for batch in write_columns(path, reader.schema.remove(0), _in_order(reader)):
        for name, array in out.items():
            values = batch.column(names[name])
            values = values.fill_null(0) if name == "id" else values
            array[at : at + len(batch)] = values.to_numpy(zero_copy_only=False)
        at += len(batch)
    if np.any(out["hpx"][1:] < out["hpx"][:-1]):
        raise CatalogError("the database did not keep the rows in HEALPix order")
    order = np.argsort(out["id"], kind="stable")
    ids = out["id"][order]
    if bool(np.any(ids[1:] == ids[:-1])):
        # Of the rows of one identifier the best comes first: it is what the identifier means.
        order = np.lexsort((~out["primary"], out["id"]))
        if unique:
            _require_distinct(connection, identifier, reader.schema.names)
    np.save(path / "id_sorted.npy", ids)
    np.save(path / "id_rank.npy", order.astype(np.int64))
    for array in out.values():
        array.flush()
    return int(nrows)


def _require_distinct(
    connection: duckdb.DuckDBPyConnection, identifier: str, names: Sequence[str]
) -> None:
    """Raise when a spectrum stands in two rows."""
    key = ', coalesce("_key", 0)' if "_key" in names else ""
    parts = ["SELECT", f'"{identifier}"', "FROM objects GROUP BY", f'"{identifier}"{key}']
    twice = connection.execute(" ".join([*parts, "HAVING count(*) > 1 LIMIT 5"])).fetchall()
    if twice:
        raise CatalogError(f"identifiers stored twice: {[row[0] for row in twice]}")


def _in_order(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield batches without their first column, the number of the row, having checked it."""
    at = 0
    for batch in batches:
        if not np.array_equal(batch.column(0).to_numpy(), np.arange(at, at + len(batch))):
            raise CatalogError("the database did not keep the rows in the order of their numbers")
        yield batch.select(batch.schema.names[1:])
        at += len(batch)


def load_sidecars(path: Path, nrows: int, id_dtype: str) -> dict[str, npt.NDArray[Any]]:
    """Return the sidecar columns of a generation, memory-mapped, 1D[nrows] each.

    Raises
    ------
    DamagedFile
        One of them cannot be read, or is not of this length and type.
    """
    types = {**SIDECARS, "id": id_dtype, "id_sorted": id_dtype, "id_rank": "<i8"}
    return {name: load_mapped(path / f"{name}.npy", dtype, nrows) for name, dtype in types.items()}


def _kind(data_type: str) -> str:
    """Return the kind of a DuckDB type."""
    if data_type.startswith("U"):
        return "uint"
    if data_type in {"FLOAT", "DOUBLE"} or data_type.startswith("DECIMAL"):
        return "float"
    if data_type == "BOOLEAN":
        return "bool"
    return "int" if data_type.endswith("INT") or data_type == "INTEGER" else "str"
