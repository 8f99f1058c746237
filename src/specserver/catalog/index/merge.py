"""Consecutive parts of an index become one, with memory for some columns of one batch.

The order of the rows comes from the arrays of pixels and identifiers. In this order the columns are
gathered batch by batch: since each part is in order, the rows of a batch are one run of each part.
Rows that are dead are left out, and what marks say of the others becomes part of their values.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.context import PartFolder
from ...model.survey import Survey
from ..base import Rows
from .column_file import MappedColumns, release
from .column_types import common_schema
from .part_record import PartRecord
from .stored_rows import MarkedPart
from .write_part import BATCH_ROWS, write_part

# So many columns are gathered before the pages of the sources are given back to the system: they
# count as memory of this process for as long as they are mapped.
_HELD_COLUMNS: Final = 16
DEAD: Final = -1


@dataclass(frozen=True, slots=True)
class MergedPart:
    """A part made of others."""

    record: PartRecord
    rows: tuple[npt.NDArray[np.int32], ...]
    """For each source its rows' numbers in the part, 1D[nrow]; `DEAD`: left out."""


def merge_parts(
    folder: PartFolder,
    survey: Survey,
    sources: Sequence[MarkedPart],
    tell: Callable[[int], object] | None = None,
) -> MergedPart:
    """Write the rows of consecutive parts as one part.

    Parameters
    ----------
    folder : a new one, which does not exist yet
    tell : called with the number of rows written since the last call

    Raises
    ------
    DamagedFile
        A source cannot be read, or is not as it was written.
    OSError
        The files cannot be written.
    """
    for source in sources:
        source.part.folder.check(source.part.record.digests)
    order = _order(sources)
    merged = np.full(sum(source.part.nrows for source in sources), DEAD, np.int32)
    merged[order] = np.arange(len(order), dtype=np.int32)
    rows = tuple(np.split(merged, np.cumsum([source.part.nrows for source in sources])[:-1]))
    schema = common_schema(source.part.schema for source in sources)
    record = write_part(
        folder,
        survey,
        schema,
        _batches(sources, schema, order, _primary(survey, sources, rows), tell),
        nrows=len(order),
        segments=[name for source in sources for name in source.part.record.segments],
        hashes=_hashes(sources, order),
    )
    return MergedPart(record, rows)


def _order(sources: Sequence[MarkedPart]) -> npt.NDArray[np.int32]:
    """Return the rows that are alive, numbered through all sources, in HEALPix order, 1D[n]."""
    every = (source.states(np.arange(source.part.nrows))["alive"] for source in sources)
    alive = np.flatnonzero(np.concatenate(list(every))).astype(np.int32)
    ids = np.concatenate([source.part.ids for source in sources])[alive]
    hpx = np.concatenate([source.part.hpx for source in sources])[alive]
    for source in sources:
        release(source.part.ids)
        release(source.part.hpx)
    # The sort keeps the order of equal ones, which is that of their parts, segments and rows.
    order: npt.NDArray[np.int32] = alive[np.lexsort((ids, hpx))]
    return order


def _hashes(
    sources: Sequence[MarkedPart], order: npt.NDArray[np.int32]
) -> dict[str, npt.NDArray[np.int64]]:
    """Return the hashes that all sources have, of rows in an order, 1D[n] each."""
    found = [source.part.row_hashes() for source in sources]
    known = set.intersection(*(set(hashes) for hashes in found))
    return {name: np.concatenate([hashes[name] for hashes in found])[order] for name in known}


@dataclass(frozen=True, slots=True)
class _Primary:
    """The values that marks say of the column of the best spectra."""

    column: str
    rows: npt.NDArray[np.int64]
    """1D[n], rows of the merged part, ascending."""
    values: npt.NDArray[np.bool_]
    """1D[n], whether they are the best."""
    value: int
    """The column's value for the best."""

    def put(self, array: pa.Array, at: int) -> pa.Array:
        """Return the column's values of a batch, from row ``at`` on, with those of the marks."""
        first, stop = np.searchsorted(self.rows, [at, at + len(array)])
        values = array.to_numpy(zero_copy_only=False).copy()
        values[self.rows[first:stop] - at] = self.values[first:stop] * self.value
        return pa.array(values, array.type)


def _primary(
    survey: Survey, sources: Sequence[MarkedPart], rows: Sequence[npt.NDArray[np.int32]]
) -> _Primary | None:
    """Return what marks say of the best spectra; None: the survey has no rule for them."""
    if survey.best is None:
        return None
    column, value = survey.primary
    marked = np.concatenate(
        [numbers[source.marks["row"]] for numbers, source in zip(rows, sources, strict=True)]
    )
    best = np.concatenate([source.marks["primary"] for source in sources])
    kept = np.flatnonzero(marked != DEAD)
    kept = kept[np.argsort(marked[kept])]
    return _Primary(column, marked[kept].astype(np.int64), best[kept], int(value))


def _batches(
    sources: Sequence[MarkedPart],
    schema: pa.Schema,
    order: npt.NDArray[np.int32],
    primary: _Primary | None,
    tell: Callable[[int], object] | None,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all sources in an order, with all columns that one of them has."""
    columns = [source.part.columns.releasable() for source in sources]
    starts = np.cumsum([0, *(source.part.nrows for source in sources)])
    segments = np.cumsum([0, *(len(source.part.record.segments) for source in sources)])
    for at in range(0, len(order), BATCH_ROWS):
        rows = order[at : at + BATCH_ROWS]
        of = np.searchsorted(starts, rows, "right") - 1
        runs, pick = _runs(of, rows - starts[of], len(sources))
        arrays: list[pa.Array] = []
        for field in schema:
            pieces = [_values(columns[source], field, run) for source, run in runs]
            array = pa.concat_arrays([chunk for piece in pieces for chunk in piece]).take(pick)
            if field.name == "_segment":
                array = pa.array((array.to_numpy() + segments[of]).astype(np.int32))
            if primary is not None and field.name == primary.column:
                array = primary.put(array, at)
            arrays.append(array)
            if len(arrays) % _HELD_COLUMNS == 0:
                for mapped in columns:
                    mapped.release()
        yield pa.record_batch(arrays, schema=schema)
        if tell is not None:
            tell(len(rows))


def _runs(
    of: npt.NDArray[np.int64], rows: npt.NDArray[np.int64], nsource: int
) -> tuple[list[tuple[int, Rows]], pa.Array]:
    """Return the run of rows that a batch takes of each source, and their order in the batch.

    Parameters
    ----------
    of, rows : 1D[n], the source of each row of the batch, and its number there

    Returns
    -------
    runs, pick
        Source and the numbers of its rows; and 1D[n] numbers of rows in all runs together.
    """
    runs, pick, total = [], np.empty(len(of), np.int64), 0
    for source in range(nsource):
        here = np.flatnonzero(of == source)
        if len(here):
            first, stop = int(rows[here[0]]), int(rows[here[-1]]) + 1
            pick[here] = rows[here] - first + total
            runs.append((source, np.arange(first, stop)))
            total += stop - first
    return runs, pa.array(pick)


def _values(columns: MappedColumns, field: pa.Field, rows: Rows) -> list[pa.Array]:
    """Return rows of a column in the type of a field; null where the column is not held."""
    if not columns.holds(field.name):
        return [pa.nulls(len(rows), field.type)]
    chunks: list[pa.Array] = columns.take([field.name], rows).column(0).cast(field.type).chunks
    return chunks
