"""The index over the segments of a context: made anew from their Parquet, swapped in whole.

::

    <data>/<context>/index/
        CURRENT                 name of the generation in use; replaced atomically
        gen-…/
            catalog.duckdb      table `objects`: all columns, in HEALPix order, row 0 … n-1
            columns.arrow           the same, uncompressed, to be looked up by row
            hpx ra dec id primary segment row .npy                  1D[n], in that order
            id_sorted id_rank .npy                                  ids in order, and their rows
            index.json          segments and columns covered

A reader opens one generation and keeps it; it never waits for a writer. The index holds nothing
that the segments do not: deleting the folder costs the time of making it again. A value-added
table (`catalog.vac`) has an index of the same form.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import CatalogError
from ..files import EVERYONE_READS, close_like_parent, locked, replace_file
from ..model.survey import Survey
from .mapped import write_columns

SIDECARS: Final[Mapping[str, str]] = {
    "hpx": "<i8",
    "ra": "<f8",
    "dec": "<f8",
    "primary": "?",
    "segment": "<i4",
    "row": "<i4",
}
_BATCH: Final = 200_000
_KEEP: Final = 2
"""Generations kept: the one in use and the one that readers may still be leaving."""
_FORMAT: Final = 3


@dataclass(frozen=True, slots=True)
class IndexInfo:
    """What a generation covers."""

    name: str
    segments: tuple[str, ...]
    """Names of what it was made from; when they are no longer the same, it is out of date."""
    nrows: int
    columns: Mapping[str, str]
    """Column name → kind: int, uint, float, str or bool."""
    format: int = _FORMAT


def index_folder(data: Path, context: str) -> Path:
    """Return the folder of a context's index generations."""
    return data / context / "index"


def current_index(data: Path, context: str) -> IndexInfo | None:
    """Return what a context's generation in use covers, or None when there is none."""
    return current_generation(index_folder(data, context))


def current_generation(folder: Path) -> IndexInfo | None:
    """Return what the generation in use in a folder covers, or None when there is none."""
    try:
        name = (folder / "CURRENT").read_text("utf-8").strip()
        values = json.loads((folder / name / "index.json").read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError as error:
        raise CatalogError(f"{folder}: damaged; delete it, it is made again ({error})") from error
    if values.get("format") != _FORMAT:
        return None
    return IndexInfo(**{**values, "segments": tuple(values["segments"])})


def refresh_index(
    data: Path, survey: Survey, context: str, segments: Callable[[], Sequence[str]]
) -> IndexInfo | None:
    """Make a generation that covers exactly ``segments()``, unless the one in use does.

    ``segments`` is asked under the lock, so that what another process has committed is covered.
    """

    def build(path: Path, names: tuple[str, ...]) -> IndexInfo:
        files = [data / context / segment / "objects.parquet" for segment in names]
        return build_index(path, survey, names, files, unique=True)

    return refresh_generation(index_folder(data, context), segments, build)


def refresh_generation(
    folder: Path,
    wanted: Callable[[], Sequence[str]],
    build: Callable[[Path, tuple[str, ...]], IndexInfo],
) -> IndexInfo | None:
    """Make a generation of what is ``wanted``, unless the one in use is; swap it in whole.

    Parameters
    ----------
    wanted : asked under the lock; nothing wanted leaves things as they are
    build : writes a generation into a new folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        names = tuple(wanted())
        present = current_generation(folder)
        if not names or (present is not None and present.segments == names):
            return present
        name = f"gen-{uuid4().hex[:12]}"
        try:
            info = build(folder / name, names)
        except (duckdb.Error, OSError) as error:
            shutil.rmtree(folder / name, ignore_errors=True)
            raise CatalogError(f"{folder}: the index cannot be made: {error}") from error
        # The folder of generations may be new; the context's own says who may read it.
        close_like_parent(folder)
        replace_file(folder / "CURRENT", name.encode(), mode=EVERYONE_READS)
        _remove_old(folder, name)
    return info


def build_index(
    path: Path, survey: Survey, names: tuple[str, ...], files: Sequence[Path], *, unique: bool
) -> IndexInfo:
    """Write all files of a generation into the folder ``path``.

    Parameters
    ----------
    names : what is covered, for the record
    files : Parquet with the columns of `catalog.objects`
    unique : refuse a spectrum that stands in two rows
    """
    path.mkdir(parents=True, exist_ok=True)
    listed = [str(file) for file in files]
    with duckdb.connect(str(path / "catalog.duckdb")) as connection:
        connection.register("segment_files", _numbered(listed))
        rows = connection.read_parquet(listed, union_by_name=True, filename=True)
        rows.create_view("segment_rows" if "_version" not in rows.columns else "all_rows")
        if "_version" in rows.columns:
            _leave_out_replaced(connection, survey, rows.columns)
        _make_objects(connection, survey, rows.columns)
        columns = {
            str(column): _kind(str(kind))
            for column, kind in connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns"
                " WHERE table_name = 'objects' ORDER BY ordinal_position"
            ).fetchall()
        }
        nrows = _write_sidecars(connection, path, survey, unique=unique)
    info = IndexInfo(path.name, names, nrows, columns)
    (path / "index.json").write_text(json.dumps(asdict(info)), "utf-8")
    return info


def _leave_out_replaced(
    connection: duckdb.DuckDBPyConnection, survey: Survey, names: Sequence[str]
) -> None:
    """Make the view of all rows but those that others of their identifier and key replaced."""
    key = 'coalesce("_key", 0)' if "_key" in names else "0"
    over = f'PARTITION BY "{survey.id_column.name}", {key}'
    over += ' ORDER BY coalesce("_version", 0) DESC, filename, "_row"'
    parts = ["CREATE VIEW segment_rows AS SELECT * FROM all_rows"]
    parts += [f"QUALIFY row_number() OVER ({over}) = 1"]
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
    out = {
        name: np.lib.format.open_memmap(path / f"{name}.npy", "w+", dtype, (nrows,))
        for name, dtype in types.items()
    }
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


def load_sidecars(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Return the sidecar columns of a generation, memory-mapped."""
    names = (*SIDECARS, "id", "id_sorted", "id_rank")
    try:
        # Plain arrays over the maps: each slice of a `numpy.memmap` costs as much as a search.
        return {
            name: np.load(path / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in names
        }
    except (OSError, ValueError) as error:
        raise CatalogError(f"{path}: damaged index; delete it, it is made again") from error


def _kind(data_type: str) -> str:
    """Return the kind of a DuckDB type."""
    if data_type.startswith("U"):
        return "uint"
    if data_type in {"FLOAT", "DOUBLE"} or data_type.startswith("DECIMAL"):
        return "float"
    if data_type == "BOOLEAN":
        return "bool"
    return "int" if data_type.endswith("INT") or data_type == "INTEGER" else "str"


def _remove_old(folder: Path, current: str) -> None:
    """Remove all generations but the newest few; one that is open elsewhere stays readable."""
    others = [path for path in folder.glob("gen-*") if path.is_dir() and path.name != current]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in others[_KEEP - 1 :]:
        shutil.rmtree(path, ignore_errors=True)
