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

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...digests import check_listed
from ...errors import CatalogError
from ...model.survey import Survey
from ..duckdb.build import ObjectsTable, make_objects
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
    with make_objects(path / DATABASE, survey, files, unique=unique) as objects:
        _write_sidecars(objects, path, survey, unique=unique)
    return record_generation(path, names, objects.nrows, objects.columns)


def _write_sidecars(objects: ObjectsTable, path: Path, survey: Survey, *, unique: bool) -> None:
    """Write the columns that are searched without SQL as memory-mappable files."""
    types = {**SIDECARS, "id": survey.id_column.dtype}
    out = {
        name: allocate(path / f"{name}.npy", dtype, objects.nrows) for name, dtype in types.items()
    }
    reader = objects.batches()
    names = {name: f"_{name}" for name in ("hpx", "primary", "segment", "row")}
    names |= {"ra": "ra", "dec": "dec", "id": survey.id_column.name}
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
            objects.require_distinct()
    np.save(path / "id_sorted.npy", ids)
    np.save(path / "id_rank.npy", order.astype(np.int64))
    for array in out.values():
        array.flush()


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
