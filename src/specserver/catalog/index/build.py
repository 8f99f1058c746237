"""The index over the segments of a context: made anew from their Parquet, swapped in whole.

=================  ===========================================================================
database           table `objects`: all columns, in HEALPix order, row 0 … n-1
columns            the same, uncompressed, to be looked up by row
a file a column    hpx, ra, dec, id, primary, segment, row: 1D[n], in that order; ids in order
                   (``id_sorted``), and their rows (``id_rank``)
record             segments and columns covered, and the digests of the others
=================  ===========================================================================

The digests are compared when a generation is opened, but for that of the database, which checks
each block as it reads it. A reader opens one generation and keeps it; it never waits for a writer.
The index holds nothing that the segments do not: deleting the folder costs the time of making it
again. A value-added table (`catalog.tables.vac`) has an index of the same form.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.context import ContextFolder, GenerationFolder
from ...data.handles import Entry
from ...errors import CatalogError
from ...model.survey import Survey
from ..duckdb.build import ObjectsTable, make_objects
from .column_file import allocate, load_mapped, write_columns
from .generations import IndexInfo, newest_generation, record_generation, refresh_generation

_SIDECARS: Final[Mapping[str, tuple[str, str]]] = {
    "hpx": ("_hpx", "<i8"),
    "ra": ("ra", "<f8"),
    "dec": ("dec", "<f8"),
    "primary": ("_primary", "?"),
    "segment": ("_segment", "<i4"),
    "row": ("_row", "<i4"),
}
"""Sidecar → column of the table of all rows, and dtype of the sidecar."""


def refresh_index(context: ContextFolder, survey: Survey) -> IndexInfo | None:
    """Make a generation that covers all committed segments, unless the one in use does.

    They are listed under the lock, so that what another process has committed is covered.

    Raises
    ------
    DamagedFile
        The catalogue rows of a segment are not those that were written.
    CatalogError
        It cannot be made: a full disk, a folder that cannot be written to.
    """
    build = partial(_build_context, context, survey)
    return refresh_generation(context.index, context.segments, build)


def newest_index(context: ContextFolder, survey: Survey, bad: str) -> IndexInfo:
    """Return a generation as `refresh_index` makes it; if none can be made, the one in use.

    Parameters
    ----------
    bad : name of a generation that is damaged, whatever it covers
    """
    build = partial(_build_context, context, survey)
    return newest_generation(context.index, context.name, context.segments, build, bad)


def _build_context(
    context: ContextFolder, survey: Survey, generation: GenerationFolder, names: tuple[str, ...]
) -> IndexInfo:
    """Write a generation that covers some segments."""
    files = []
    for name in names:
        segment = context.segment(name)
        segment.check_listed([segment.objects.name])
        files.append(segment.objects)
    return build_index(generation, survey, names, files, unique=True)


def build_index(
    generation: GenerationFolder,
    survey: Survey,
    names: tuple[str, ...],
    files: Sequence[Entry],
    *,
    unique: bool,
) -> IndexInfo:
    """Write all files of a generation.

    Parameters
    ----------
    names : of the segments or the table, for the record
    files : Parquet with the columns of `catalog.segment_rows`
    unique : refuse a spectrum that stands in two rows
    """
    generation.make()
    with make_objects(generation.database, survey, files, unique=unique) as objects:
        _write_sidecars(objects, generation, survey, unique=unique)
    return record_generation(generation, names, objects.nrows, objects.columns)


def _write_sidecars(
    objects: ObjectsTable, generation: GenerationFolder, survey: Survey, *, unique: bool
) -> None:
    """Write the columns that are searched without SQL as memory-mappable files."""
    sidecars = {**_SIDECARS, "id": (survey.id_column.name, survey.id_column.dtype)}
    out = {
        name: allocate(generation.column(name), dtype, objects.nrows)
        for name, (_, dtype) in sidecars.items()
    }
    reader = objects.batches()
    at = 0
    for batch in write_columns(generation, reader.schema.remove(0), _in_order(reader)):
        for name, array in out.items():
            values = batch.column(sidecars[name][0])
            values = values.fill_null(0) if name == "id" else values
            array[at : at + len(batch)] = values.to_numpy(zero_copy_only=False)
        at += len(batch)
    if np.any(out["hpx"][1:] < out["hpx"][:-1]):
        raise CatalogError("the database did not keep the rows in HEALPix order")
    order = np.argsort(out["id"], kind="stable")
    ids = out["id"][order]
    if bool(np.any(ids[1:] == ids[:-1])):
        # The best row of an identifier comes first: it is the one that the identifier means.
        order = np.lexsort((~out["primary"], out["id"]))
        if unique:
            objects.require_distinct()
    np.save(generation.column("id_sorted").local_path(), ids)
    np.save(generation.column("id_rank").local_path(), order.astype(np.int64))
    for array in out.values():
        array.flush()


def _in_order(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Check the first column of batches, the number of the row, and yield the others."""
    at = 0
    for batch in batches:
        if not np.array_equal(batch.column(0).to_numpy(), np.arange(at, at + len(batch))):
            raise CatalogError("the database did not keep the rows in the order of their numbers")
        yield batch.select(batch.schema.names[1:])
        at += len(batch)


def load_sidecars(
    generation: GenerationFolder, nrows: int, id_dtype: str
) -> dict[str, npt.NDArray[Any]]:
    """Return the sidecar columns of a generation, memory-mapped, 1D[nrows] each.

    Raises
    ------
    DamagedFile
        One of them cannot be read, or is not of this length and type.
    """
    types = {name: dtype for name, (_, dtype) in _SIDECARS.items()}
    types |= {"id": id_dtype, "id_sorted": id_dtype, "id_rank": "<i8"}
    files = {name: generation.column(name) for name in types}
    return {name: load_mapped(files[name], dtype, nrows) for name, dtype in types.items()}
