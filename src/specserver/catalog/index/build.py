"""The index of a context made anew from the Parquet files of its segments, in parts.

Of all rows together only the columns are read that say which spectra are answered and which are the
best; then the rows are read, put in order and written, some segments at a time. The index holds
nothing that the segments do not, so deleting its folder costs the time of making it again.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ...data.context import ContextFolder, IndexFolder, PartFolder, SegmentFolder
from ...data.leases import Lease
from ...errors import CatalogError, DamagedFile
from ...model.survey import Survey
from ..best import is_best
from .anew import NewPart, make_anew
from .column_types import common_schema, conformed, numbers_of, put_column, repeat_one_before
from .manifest import Manifest, newest_manifest, readable_manifests
from .part_record import PartRecord, read_part
from .write_part import BATCH_ROWS, write_part

_PART_BYTES: Final = 2**28
"""Rows are read until they take so many bytes of memory; then they become a part."""


def refresh_index(
    context: ContextFolder, survey: Survey, *, bad: str = "", lost: bool = False
) -> bool:
    """Make the index of a context if there is none of this format, or if a part of it is gone.

    Returns whether it was made.

    A complete segment that it does not list is work of a writer: the writer, or after it the next
    ingest, commits it.

    Parameters
    ----------
    bad : `Catalogue.version` of one that is known to be damaged
    lost
        A newer version is lost. All complete segments count as listed by it.

    Raises
    ------
    DamagedFile
        The catalogue rows of a segment are not those that were written.
    CatalogError
        It cannot be made: a full disk, a folder that cannot be written to.
    """
    index = context.index
    if not context.segments():
        return False

    def is_current(manifest: Manifest) -> bool:
        listed = _listed(index, manifest)
        return manifest.rows != bad and not (lost and {*context.segments()}.difference(listed))

    make = partial(_context_parts, context, survey, lost)
    return make_anew(index, context.leases, is_current, make)


def left_segments(context: ContextFolder, lease: Lease) -> list[str]:
    """Return the complete segments that the index does not list, and whose writers have ended.

    Parameters
    ----------
    lease : of the writer that calls this

    Raises
    ------
    DamagedFile
        It cannot be told which segments the index lists.
    """
    names = _unlisted(context.index, context.segments())
    if not names:
        return []
    with context.leases.others(lease) as others:
        names = [name for name in names if context.segment(name).lease not in others]
    names = [name for name in names if not context.leases.is_known(context.segment(name).lease)]
    # Looked at after the leases: a writer may have committed its segments and ended.
    return _unlisted(context.index, names)


def _unlisted(index: IndexFolder, names: Sequence[str]) -> list[str]:
    """Return those of some segments that the newest version of an index does not list."""
    listed = {*_listed(index, newest_manifest(index))}
    return [name for name in names if name not in listed]


def _listed(index: IndexFolder, manifest: Manifest) -> list[str]:
    """Return the segments that a version lists, in the order in which they were committed."""
    parts = (read_part(index.part(entry.name)) for entry in manifest.parts)
    return [name for part in parts for name in part.segments]


def _to_index(context: ContextFolder, *, lost: bool) -> list[SegmentFolder]:
    """Return the segments for an index made anew; of two with one spectrum the first has it.

    They are those that the newest version lists. If that is not known, they are all that are
    complete, and those that a version is known to list come first.
    """
    index, complete, names = context.index, dict.fromkeys(context.segments()), list[str]()
    if not lost:
        with suppress(DamagedFile):
            names = _listed(index, newest_manifest(index))
    names = names or [*_once_listed(index), *complete]
    return [context.segment(name) for name in dict.fromkeys(names) if name in complete]


def _once_listed(index: IndexFolder) -> Iterator[str]:
    """Yield the segments that versions of an index list, as far as it can be read, newest first."""
    manifests = readable_manifests(index)
    parts = dict.fromkeys(entry.name for manifest in manifests for entry in manifest.parts)
    for part in map(index.part, parts):
        if part.record.exists():
            with suppress(DamagedFile):
                yield from read_part(part).segments


def _context_parts(
    context: ContextFolder, survey: Survey, lost: bool, new_part: NewPart
) -> Iterator[PartRecord]:
    """Write the rows of an index made anew, some segments at a time."""
    segments = _to_index(context, lost=lost)
    thin = _ThinRows.read(segments, survey)
    waiting: list[tuple[pa.Table, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]] = []
    for number, segment in enumerate(segments):
        mine = slice(thin.first[number], thin.first[number + 1])
        waiting.append((read_rows(segment), thin.answered[mine], thin.best[mine]))
        is_last = number + 1 == len(segments)
        if is_last or sum(table.nbytes for table, _, _ in waiting) >= _PART_BYTES:
            names = [other.name for other in segments[number + 1 - len(waiting) : number + 1]]
            yield write_sorted(new_part(), survey, part_rows(survey, waiting), names)
            waiting = []


def write_sorted(
    folder: PartFolder, survey: Survey, table: pa.Table, segments: Sequence[str]
) -> PartRecord:
    """Write rows, in any order, as a part; parameters as of `write_part.write_part`."""
    ids = table.column(survey.id_column.name).fill_null(0)
    keys = (table["_row"], table["_segment"], ids, table["_hpx"])
    order = np.lexsort([key.to_numpy() for key in keys])
    schema = table.schema.remove_metadata()

    def batches() -> Iterator[pa.RecordBatch]:
        for at in range(0, len(order), BATCH_ROWS):
            some = table.take(pa.array(order[at : at + BATCH_ROWS]))
            yield from some.combine_chunks().to_batches()

    return write_part(folder, survey, schema, batches(), nrows=len(table), segments=segments)


def read_rows(segment: SegmentFolder, names: Sequence[str] | None = None) -> pa.Table:
    """Return catalogue rows of a segment; None: all columns.

    Raises `DamagedFile` if they cannot be read.
    """
    try:
        with pq.ParquetFile(segment.objects.local_path()) as file:
            there = file.schema_arrow.names
            table = file.read(None if names is None else [n for n in names if n in there])
    # pyarrow raises ValueError if the name of a column is not valid UTF-8.
    except (OSError, ValueError, pa.ArrowException) as error:
        raise segment.objects.damaged(f"cannot be read ({error})") from error
    return conformed(table, common_schema([table.schema]))


@dataclass(frozen=True, slots=True)
class _ThinRows:
    """What is known of all rows together: parallel arrays, in the order of segments and rows."""

    first: npt.NDArray[np.int64]
    """1D[nsegment + 1], first row of each segment."""
    answered: npt.NDArray[np.bool_]
    """1D[nrow], False: it was replaced, or another row has its identifier and key."""
    best: npt.NDArray[np.bool_]
    """1D[nrow], whether it is the best of its object by the survey's rule."""

    @classmethod
    def read(cls, segments: Sequence[SegmentFolder], survey: Survey) -> "_ThinRows":
        """Read the columns of segments; raise `DamagedFile` if one is not as it was written."""
        if not segments:
            raise CatalogError("its segments are gone: it was deleted meanwhile")
        best = survey.best
        names = [survey.id_column.name, "_key", "_version", "_row"]
        names += [best.group, *(name for name, _ in best.order)] if best else []
        tables = []
        for segment in segments:
            segment.check_listed([segment.objects.name])
            tables.append(read_rows(segment, list(dict.fromkeys(names))))
        nrows = np.cumsum([0, *(len(table) for table in tables)])
        schema = common_schema(table.schema for table in tables)
        rows = pa.concat_tables(conformed(table, schema) for table in tables)
        segment_of = np.repeat(np.arange(len(tables), dtype=np.int32), np.diff(nrows))
        places = segment_of, numbers_of(rows, "_row").astype(np.int32)
        left_out = np.zeros(len(rows), np.bool_)
        for segment, at in zip(segments, nrows[:-1].tolist(), strict=True):
            listed = segment.record.record().values.get("left_out", [])
            left_out[at + np.array(listed, np.int64)] = True
        answered = _newest(rows, survey, places, left_out)
        is_primary = np.zeros(len(rows), np.bool_)
        if best:
            some = rows.filter(pa.array(answered))
            kept = places[0][answered], places[1][answered]
            is_primary[answered] = is_best(survey, some, kept)
        return cls(nrows, answered, is_primary)


def _newest(
    rows: pa.Table,
    survey: Survey,
    places: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
    left_out: npt.NDArray[np.bool_],
) -> npt.NDArray[np.bool_]:
    """Return which rows are the newest version of their identifier and key, 1D[nrow].

    Those that their commit left out come last. Of rows of one version it is the first: the other
    was not committed, or an older version of this program stored both.
    """
    segment, row = places
    ids, keys = numbers_of(rows, survey.id_column.name), numbers_of(rows, "_key")
    version = numbers_of(rows, "_version")
    order = np.lexsort([row, segment, -version, left_out, keys, ids])
    newest = np.ones(len(order), np.bool_)
    newest[order[repeat_one_before(order, ids, keys)]] = False
    return newest


def part_rows(
    survey: Survey,
    segments: Sequence[tuple[pa.Table, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]],
) -> pa.Table:
    """Return the rows of some segments that are answered, as a part has them.

    Parameters
    ----------
    segments
        All rows of each; and 1D[nrow], whether they are answered, and the best of their objects by
        the survey's rule.
    """
    schema = common_schema(table.schema for table, _, _ in segments)
    some = []
    for number, (table, answered, best) in enumerate(segments):
        rows = conformed(table, schema)
        if survey.best is not None:
            rows = put_column(rows, survey.primary[0], pa.array(best.view(np.uint8)))
        rows = put_column(rows, "_segment", pa.array(np.full(len(rows), number, np.int32)))
        some.append(rows.filter(pa.array(answered)))
    every = pa.concat_tables(some)
    last = survey.id_parts[-1]
    if survey.last_open and "_key" in every.column_names:
        # Segments of older versions lack the column that distinguishes spectra of one identifier.
        told = pc.binary_join_element_wise(
            "key", every["_key"].cast(pa.string()), "", null_handling="replace"
        )
        known = [every[last]] if last in every.column_names else []
        every = put_column(every, last, pc.coalesce(*known, told))
    return every
