"""An index part is written from rows in HEALPix order: a batch and the thin arrays are in memory.

==========================  ======================================================================
hpx ra dec id primary       1D[nrow], columns of the rows, which are in HEALPix order: by pixel,
segment row                 identifier, segment and row
id_sorted id_rank           identifiers ascending, the best row of each first, and their rows
group_sorted group_rank     hashes of `Best.group`, ascending, and their rows; not where the group
                            is the identifier
file_sorted file_state      of contexts: hashes of the paths of the original files, ascending,
file_rank                   hashes of their states (`file_states`), and their rows
coverage                    the pixels of `COVERAGE_ORDER` that hold a row, packed bits
core rest                   all columns, as Arrow files, to be mapped
record                      `PartRecord`
==========================  ======================================================================
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...data.context import PartFolder
from ...data.handles import Entry
from ...digests import hash64
from ...errors import CatalogError
from ...model.survey import Survey
from .column_file import allocate, release
from .part_record import (
    ARRAYS,
    COVERAGE_ORDER,
    NO_BESIDE,
    PartRecord,
    covered_pixels,
    file_states,
    record_part,
)

BATCH_ROWS: Final = 2**17
"""Rows of a batch of the Arrow files."""
_CORE: Final = frozenset({"_hpx", "_segment", "_row"})
"""Columns in `PartFolder.core` besides those of the survey."""


def write_part(
    folder: PartFolder,
    survey: Survey,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    nrows: int,
    segments: Sequence[str],
    hashes: Mapping[str, npt.NDArray[np.int64]] | None = None,
) -> PartRecord:
    """Write all files of a part, its record last.

    The columns are those of `catalog.segment_rows`, and ``_segment``, int32, which is an index into
    ``segments``. If the survey has a rule for the best spectrum (`Survey.best`), the column
    `Survey.primary` has what the rule says.

    Parameters
    ----------
    folder : a new one, which does not exist yet
    survey : with the columns of this catalogue
    schema : numbers, truth values and text only, as `column_types.common_schema` returns them
    batches : rows in the order of ``_hpx``, identifier, ``_segment``, ``_row``; of any lengths
    nrows : number of all rows
    segments : names of the segments; of a value-added table, its own name
    hashes
        ``file``, ``state`` and ``group``, 1D[nrows] each, of all rows in their order, as far as
        they need not be hashed again.

    Raises
    ------
    CatalogError
        The rows are not in order, or are not ``nrows``.
    OSError
        The files cannot be written.
    """
    first = _CORE.union(column.name for column in survey.columns)
    core = [name for name in schema.names if name in first]
    rest = [name for name in schema.names if name not in first]
    folder.make()
    arrays = _Arrays(folder, survey, schema, nrows, hashes or {})
    with (
        _arrow_file(folder.core, schema, core) as write_core,
        _arrow_file(folder.rest, schema, rest) as write_rest,
    ):
        for batch in _of_one_length(schema, batches):
            arrays.add(batch)
            write_core(batch.select(core))
            write_rest(batch.select(rest))
    arrays.finish()
    columns = {field.name: str(field.type) for field in schema}
    record = PartRecord(folder.name, nrows, tuple(segments), columns, tuple(core))
    return record_part(folder, record)


@contextmanager
def _arrow_file(
    file: Entry, schema: pa.Schema, names: Sequence[str]
) -> Iterator[Callable[[pa.RecordBatch], None]]:
    """Open an Arrow file of some columns; yield the function that writes a batch."""
    columns = pa.schema([schema.field(name) for name in names])
    with (
        pa.OSFile(str(file.new_path()), "wb") as sink,
        pa.ipc.new_file(sink, columns) as writer,
    ):
        yield writer.write_batch


def _of_one_length(
    schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of `BATCH_ROWS`, but for the last one."""
    waiting: list[pa.RecordBatch] = []
    nwaiting = 0
    for batch in batches:
        waiting.append(batch)
        nwaiting += len(batch)
        if nwaiting >= BATCH_ROWS:
            table = pa.Table.from_batches(waiting, schema)
            at = nwaiting - nwaiting % BATCH_ROWS
            yield from _joined(table.slice(0, at))
            waiting, nwaiting = table.slice(at).to_batches(), nwaiting - at
    yield from _joined(pa.Table.from_batches(waiting, schema))


def _joined(table: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a table in batches of `BATCH_ROWS`."""
    for at in range(0, len(table), BATCH_ROWS):
        yield from table.slice(at, BATCH_ROWS).combine_chunks().to_batches()


class _Arrays:
    """The arrays of a part while it is written."""

    def __init__(
        self,
        folder: PartFolder,
        survey: Survey,
        schema: pa.Schema,
        nrows: int,
        hashes: Mapping[str, npt.NDArray[np.int64]],
    ) -> None:
        self._folder = folder
        self._survey = survey
        self._nrows = nrows
        identifier = survey.id_column
        columns = {**ARRAYS, "id": (identifier.name, identifier.dtype)}
        self._columns = {name: column for name, (column, _) in columns.items()}
        types = {**{name: dtype for name, (_, dtype) in columns.items()}, "primary": "?"}
        self._out = {
            name: allocate(folder.column(name), dtype, nrows) for name, dtype in types.items()
        }
        self._covered = np.zeros(12 * 4**COVERAGE_ORDER, np.bool_)
        group = survey.best.group if survey.best else identifier.name
        makers: dict[str, Callable[[pa.RecordBatch], npt.NDArray[np.int64]]] = {}
        if group in schema.names and group != identifier.name:
            makers["group"] = lambda batch: hash_texts(batch.column(group))
        if "_source" in schema.names:
            makers |= {"file": lambda batch: hash_texts(batch.column("_source"))}
            makers |= {"state": states_of}
        self._hashes = {name: hashes.get(name, np.empty(nrows, np.int64)) for name in makers}
        self._makers = {name: make for name, make in makers.items() if name not in hashes}
        self._at = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Add the next rows."""
        at, end = self._at, self._at + len(batch)
        if end > self._nrows:
            raise CatalogError(f"{self._folder}: more rows than {self._nrows}")
        for name, column in self._columns.items():
            values = batch.column(column)
            values = values.fill_null(0) if name == "id" else values
            self._out[name][at:end] = values.to_numpy(zero_copy_only=False)
        hpx = self._out["hpx"][max(at - 1, 0) : end]
        if np.any(hpx[1:] < hpx[:-1]):
            raise CatalogError(f"{self._folder}: the rows are not in HEALPix order")
        column, best = self._survey.primary
        if column in batch.schema.names:
            primary = pc.equal(batch.column(column), pa.scalar(best)).fill_null(False)
            self._out["primary"][at:end] = primary.to_numpy(zero_copy_only=False)
        self._covered[covered_pixels(hpx)] = True
        for name, make in self._makers.items():
            self._hashes[name][at:end] = make(batch)
        for array in self._out.values():
            release(array)
        self._at = end

    def finish(self) -> None:
        """Write what needs all rows."""
        if self._at != self._nrows:
            raise CatalogError(f"{self._folder}: {self._at} rows of {self._nrows}")
        for array in self._out.values():
            array.flush()
        ids = self._out["id"]
        order = np.argsort(ids, kind="stable")
        known = ids[order]
        if np.any(known[1:] == known[:-1]):
            # The best row of an identifier comes first: it is the one that the identifier means.
            order = np.lexsort((~self._out["primary"], ids))
        self._save("id", known, order)
        if (groups := self._hashes.get("group")) is not None:
            order = np.argsort(groups, kind="stable")
            self._save("group", groups[order], order)
        if (files := self._hashes.get("file")) is not None:
            states = self._hashes["state"]
            order = np.lexsort((states, files))
            self._save("file", files[order], order)
            np.save(self._folder.column("file_state").new_path(), states[order])
        np.save(self._folder.coverage.new_path(), np.packbits(self._covered))

    def _save(self, name: str, values: npt.NDArray[Any], rows: npt.NDArray[np.intp]) -> None:
        """Write values in their order, and their rows."""
        np.save(self._folder.column(f"{name}_sorted").new_path(), values)
        np.save(self._folder.column(f"{name}_rank").new_path(), rows.astype(np.int32))


def hash_texts(column: Any) -> npt.NDArray[np.int64]:
    """Return `digests.hash64` of values as text, 1D[n] int64; 0 for null."""
    texts = column.cast(pa.string())
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    encoded = texts.dictionary_encode()
    hashes = np.array([*map(hash64, encoded.dictionary.to_pylist()), 0], np.int64)
    codes = encoded.indices.fill_null(len(hashes) - 1).to_numpy(zero_copy_only=False)
    found: npt.NDArray[np.int64] = hashes[codes]
    return found


def states_of(rows: pa.RecordBatch | pa.Table) -> npt.NDArray[np.int64]:
    """Return `file_states` of the files of rows with the columns of `catalog.segment_rows`."""
    names, absent = rows.schema.names, {"_beside": NO_BESIDE}
    states = (
        rows.column(name).fill_null(absent.get(name, 0)).to_numpy(zero_copy_only=False)
        if name in names
        else np.full(len(rows), absent.get(name, 0))
        for name in ("_size", "_mtime_ns", "_beside")
    )
    return file_states(*states)
