"""The verification of a data folder: each file is compared with its digest, each link followed."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..catalog.opening import check_index, open_catalogue
from ..catalog.segment_rows import read_sources
from ..catalog.sql.expressions import Condition
from ..catalog.tables.vac import check_vac, read_vac
from ..data.context import ContextFolder, SegmentFolder, TableFiles
from ..data.root import DataRoot
from ..digests import NO_DIGESTS, crc_of
from ..errors import SpecServerError, StoreError
from ..model.survey import Survey
from ..store.fits import FitsTree
from ..store.layout import is_shard, list_segments, survey_name
from ..store.trees import read_fingerprints, read_tree
from ..store.zarr import Segment
from ..surveys import find_release, missing_survey
from ..surveys.declaration import require_named
from ..surveys.generic import read_declaration
from .stored_ids import StoredIds

_SHOWN: Final = 10
_BATCH: Final = 1000


@dataclass(slots=True)
class Finding:
    """The result for one part of a data folder."""

    context: str
    what: str
    """Name of a segment, ``index``, ``table NAME``, ``tree`` or ``declaration``."""
    nspec: int = 0
    """Number of spectra of a segment that readers can reach."""
    nreplaced: int = 0
    """Number of spectra that were replaced by others: they are kept, but no reader reaches them."""
    nbytes: int = 0
    """Bytes of values that were decoded."""
    faults: list[str] = field(default_factory=list)
    """Faults found; empty if there are none."""
    notes: list[str] = field(default_factory=list)
    """Remarks about parts without faults."""


def verify(data: DataRoot) -> Iterator[Finding]:
    """Read everything in a data folder; yield a finding for each part."""
    declared = data.require().declarations()
    for context in sorted({*data.contexts(), *declared}):
        folder = data.context(context)
        told: list[str] = []
        if context in declared:
            found = _finding(context, "declaration", partial(_declaration, data))
            told = found.faults
            yield found
        try:
            if folder.segments() and (fault := missing_survey(context, survey_name(folder), data)):
                nspec = sum(info.nspec for info in list_segments(folder))
                yield Finding(context, "survey", nspec, faults=[fault])
                continue
            survey = find_release(context, data)[0]
        except SpecServerError as error:
            if error.message in told:
                note = "without its declaration nothing else of it can be verified"
                yield Finding(context, "survey", notes=[note])
            else:
                yield Finding(context, "survey", faults=[error.message])
            continue
        yield from _verify_context(folder, survey)
        if folder.tree.exists():
            yield _finding(context, "tree", partial(_tree, folder))


def _verify_context(context: ContextFolder, survey: Survey) -> Iterator[Finding]:
    """Read segments, index and tables of a context."""
    names = context.segments()
    replaced = _replaced(context, survey, names)
    damaged: set[str] = set()
    for name in names:
        segment = context.segment(name)
        found = _finding(context.name, name, partial(_segment, segment, survey, replaced.get(name)))
        if found.faults:
            damaged.add(name)
        yield found
    if names:
        yield _finding(context.name, "index", partial(_index, context, survey, damaged))
    for table in context.tables():
        look = partial(_table, context.table(table))
        yield _finding(context.name, f"table {table}", look)


def _finding(context: str, what: str, look: Callable[[Finding], None]) -> Finding:
    """Return the finding of a check; an error is a fault."""
    found = Finding(context, what)
    try:
        look(found)
    except SpecServerError as error:
        found.faults.append(error.message)
    except (OSError, ValueError, KeyError, IndexError, pa.ArrowException) as error:
        found.faults.append(f"{type(error).__name__}: {error}")
    return found


def _replaced(context: ContextFolder, survey: Survey, names: Sequence[str]) -> dict[str, int]:
    """Return how many spectra of each segment were replaced by others.

    Segments whose catalogue rows are damaged or cannot be read are left out.
    """
    sound: dict[str, pa.Table] = {}
    identifier = survey.id_column
    for name in names:
        # The check of the segment reports files that cannot be read.
        with suppress(OSError, SpecServerError):
            segment = context.segment(name)
            segment.check_listed([segment.objects.name])
            sound[name] = read_sources([segment], identifier.name)
    if not sound:
        return {}
    try:
        table = pa.concat_tables(sound.values(), promote_options="default")
        _, kept = StoredIds.of(table, identifier.name, identifier.dtype, tuple(sound))
    except (ValueError, TypeError, KeyError, pa.ArrowException):
        # Columns of a damaged file without a digest; the check of its segment reports it.
        return {}
    replaced = np.ones(table.num_rows, bool)
    replaced[kept] = False
    ends = np.cumsum([rows.num_rows for rows in sound.values()])
    parts = np.split(replaced, ends[:-1])
    return {name: int(part.sum()) for name, part in zip(sound, parts, strict=True)}


def _segment(folder: SegmentFolder, survey: Survey, nreplaced: int | None, found: Finding) -> None:
    """Read all arrays of a segment, and compare its rows with its catalogue rows.

    ``nreplaced`` is None if the digest of its catalogue rows is still to be compared.
    """
    if nreplaced is None:
        folder.check_listed([folder.objects.name])
    segment = Segment(folder)
    segment.require_survey(survey)
    found.nreplaced = nreplaced or 0
    found.nspec = segment.nspec - found.nreplaced
    found.nbytes = segment.verify()
    # Each chunk is sound, but may belong to another shard.
    folder.check_listed(filter(is_shard, segment.info.digests))
    if not segment.info.digests:
        found.notes.append(NO_DIGESTS)
    rows = pq.read_table(folder.objects.local_path())
    ids = rows.column(survey.id_column.name).to_numpy()
    if len(ids) != segment.nspec:
        found.faults.append(f"{len(ids)} catalogue rows, {segment.nspec} spectra")
    elif not np.array_equal(ids, segment.ids[rows.column("_row").to_numpy()]):
        found.faults.append("catalogue rows and spectra are not of the same ids")


def _index(
    context: ContextFolder, survey: Survey, damaged: Collection[str], found: Finding
) -> None:
    """Compare an index with its digests, and follow each of its links to the spectrum.

    Damaged segments are skipped: they are reported already.
    """
    names = tuple(context.segments())
    if left := context.uncommitted():
        found.notes.append(
            f"{len(left)} segments of an ingest that was cut off, or goes on: the next removes them"
        )
    covered = check_index(context.index)
    if not set(covered).issuperset(names):
        found.notes.append(f"it does not cover all segments: 'specserver maintain {context.name}'")
    if not covered:
        return
    catalogue = open_catalogue(context, survey)
    fields = [survey.id_column.name, "_segment", "_row"]
    table = catalogue.query(fields, Condition(), None, primary=False)
    ids, segment, row = (table.column(field).to_numpy() for field in fields)
    for number, name in enumerate(catalogue.segments):
        if name not in names or name in damaged:
            continue
        mine = segment == number
        if not np.array_equal(Segment(context.segment(name)).ids[row[mine]], ids[mine]):
            found.faults.append(f"links to {name} lead to other spectra")


def _table(files: TableFiles, found: Finding) -> None:
    """Compare a value-added table and its index with their digests, and read the table."""
    if not check_vac(files):
        found.notes.append(NO_DIGESTS)
    info = read_vac(files)
    table = pq.read_table(files.file.local_path())
    if table.num_rows != info.nrows:
        found.faults.append(f"{table.num_rows} rows, {info.nrows} recorded")
    if not check_index(files.index):
        found.notes.append(f"its index is not made yet: 'specserver maintain {files.context.name}'")


def _tree(context: ContextFolder, found: Finding) -> None:
    """Compare all files of a tree with their fingerprints.

    Raises
    ------
    StoreError
        A file is missing or has changed since the tree was declared; up to ten are named.
    """
    info = read_tree(context)
    if info is None:
        return
    fingerprints = read_fingerprints(context, info)
    if fingerprints is None:
        found.notes.append(NO_DIGESTS)
        return
    survey, release = find_release(context.name)
    links = info.follow_links
    tree = FitsTree(Path(info.root), survey, release, info.reductions, follow_links=links)
    bad: list[str] = []
    for at in range(0, len(fingerprints.rows), _BATCH):
        rows = fingerprints.rows[at : at + _BATCH]
        ids = rows["id"].astype(tree.survey.id_column.dtype)
        for row, file in zip(rows, tree.find_ids(ids), strict=True):
            if file is None:
                bad.append(f"the file of {row['id']} is gone")
            elif crc_of(file.path) != int(row["crc"]):
                bad.append(f"{file.path} has changed")
    if bad:
        more = f" and {len(bad) - _SHOWN:,} more" if len(bad) > _SHOWN else ""
        raise StoreError(
            context.name, f"{'; '.join(bad[:_SHOWN])}{more}: restore them, or declare the tree anew"
        )


def _declaration(data: DataRoot, found: Finding) -> None:
    """Read a survey declaration of a data folder, and its table of targets."""
    declared = read_declaration(data, found.context)
    folder = data.context(found.context)
    if not folder.declaration.record().sealed:
        found.notes.append(NO_DIGESTS)
    if declared is not None and declared.table:
        require_named(folder, declared.table)
