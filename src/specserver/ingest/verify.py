"""The verification of a data folder: each file is compared with its digest, each link followed."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..catalog.index.build import read_rows
from ..catalog.index.checks import repeated_ids
from ..catalog.index.column_types import numbers_of
from ..catalog.index.stored_rows import StoredRows
from ..catalog.opening import check_index, count_rows, open_catalogue
from ..catalog.sql.expressions import Condition
from ..catalog.tables.vac import check_vac, read_vac
from ..data.context import ContextFolder, SegmentFolder, TableFiles
from ..data.root import DataRoot
from ..digests import NO_DIGESTS, crc_of
from ..errors import SpecServerError, StoreError
from ..model.survey import Survey
from ..store.fits import FitsTree
from ..store.layout import is_shard, list_segments, read_segment, survey_name
from ..store.trees import read_fingerprints, read_tree
from ..store.zarr import Segment
from ..surveys import find_release, missing_survey
from ..surveys.declaration import require_named
from ..surveys.generic import read_declaration
from ..texts import joined

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
    """Number of spectra that no reader reaches, because others replaced them."""
    nleft_out: int = 0
    """Number of those that no reader reaches, because they were stored before."""
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
    links: dict[str, _Links] = {}
    # The check of the index reports what cannot be read of it.
    with suppress(OSError, SpecServerError):
        links = _links(context, survey)
    damaged: set[str] = set()
    for name in names:
        segment = context.segment(name)
        nreached = len(links[name].rows) if name in links else None
        found = _finding(context.name, name, partial(_segment, segment, survey, nreached))
        if found.faults:
            damaged.add(name)
        yield found
    if names:
        sound = {name: links[name] for name in names if name in links and name not in damaged}
        yield _finding(context.name, "index", partial(_index, context, survey, sound))
    for table in context.kept_tables():
        look = partial(_table, context.table(table), survey)
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


@dataclass(frozen=True, slots=True)
class _Links:
    """The rows of an index that lead to one segment: parallel arrays."""

    ids: npt.NDArray[Any]
    """1D[n], identifier."""
    rows: npt.NDArray[np.int64]
    """1D[n], row in the segment."""


def _links(context: ContextFolder, survey: Survey) -> dict[str, _Links]:
    """Return the links of each segment that an index covers; none where there is no index."""
    if not count_rows(context.index)[1]:
        return {}
    catalogue = open_catalogue(context, survey)
    fields = [survey.id_column.name, "_segment", "_row"]
    table = catalogue.query(fields, Condition(), None, primary=False)
    ids, segments, rows = (table.column(field).to_numpy() for field in fields)
    order = np.argsort(segments, kind="stable")
    ends = np.cumsum(np.bincount(segments, minlength=len(catalogue.segments)))
    split = np.split(order, ends[:-1])
    return {
        name: _Links(ids[mine], rows[mine])
        for name, mine in zip(catalogue.segments, split, strict=True)
    }


def _segment(folder: SegmentFolder, survey: Survey, nreached: int | None, found: Finding) -> None:
    """Read all arrays of a segment, and compare its rows with its catalogue rows.

    ``nreached`` is the number of spectra that the index leads to; None: the index is not known.
    """
    folder.check_listed([folder.objects.name])
    segment = Segment(folder)
    segment.require_survey(survey)
    found.nleft_out = len(segment.info.left_out)
    nused = segment.nspec - found.nleft_out
    found.nspec = nused if nreached is None else nreached
    found.nreplaced = nused - found.nspec
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
    context: ContextFolder, survey: Survey, links: Mapping[str, _Links], found: Finding
) -> None:
    """Compare an index with its digests, and follow each of its links to the spectrum.

    Parameters
    ----------
    links : of the segments that are not damaged
    """
    if left := context.uncommitted():
        found.notes.append(
            f"{len(left)} segments of an ingest that was cut off, or goes on: the next removes them"
        )
    checked = check_index(context.index, survey)
    found.faults += checked.faults
    there = {*context.segments()}
    if lost := [name for name in checked.covers if name not in there]:
        told = f"{len(lost)} segments that it covers are not there, such as {lost[0]}"
        found.faults.append(f"{told}: restore them, or mount their disk")
    if not there.issubset(checked.covers):
        found.notes.append(f"it does not cover all segments: 'specserver maintain {context.name}'")
    index = StoredRows(context.index, survey)
    if repeated := list(islice(repeated_ids(index.parts), _SHOWN)):
        found.faults.append(f"it has several rows of one spectrum: {joined(repeated)}")
    for name, leads in links.items():
        if index.parts:
            found.faults += _lost(context.segment(name), survey, leads, index)
        stored = Segment(context.segment(name)).ids
        rows = leads.rows
        if len(np.unique(rows)) < len(rows):
            found.faults.append(f"several rows lead to one spectrum of {name}")
        if len(rows) and not 0 <= rows.min() <= rows.max() < len(stored):
            found.faults.append(f"links lead beyond the spectra of {name}")
        elif not np.array_equal(stored[rows], leads.ids):
            found.faults.append(f"links to {name} lead to other spectra")


def _lost(
    segment: SegmentFolder, survey: Survey, links: _Links, index: StoredRows
) -> Iterator[str]:
    """Yield what is wrong with the spectra of a segment that no row of the index leads to."""
    left_out = np.array(read_segment(segment).left_out, np.int64)
    rows = read_rows(segment, [survey.id_column.name, "_key", "_row"])
    own = numbers_of(rows, "_row")
    if not np.isin(left_out, own).all() or np.isin(left_out, links.rows).any():
        yield f"{segment.name} says that other rows are left out than those that are"
    rows = rows.filter(pa.array(~np.isin(own, links.rows)))
    ids = numbers_of(rows, survey.id_column.name).astype(survey.id_column.dtype)
    known = np.zeros(len(ids), np.bool_)
    for matches in index.with_keys(ids, numbers_of(rows, "_key")):
        known[matches.wanted] = True
    if not known.all():
        lost = joined(ids[~known][:_SHOWN].tolist())
        yield f"spectra of {segment.name} are in no row, and no others are in their place: {lost}"


def _table(files: TableFiles, survey: Survey, found: Finding) -> None:
    """Compare a value-added table and its index with their digests, and read the table."""
    if not check_vac(files):
        found.notes.append(NO_DIGESTS)
    info = read_vac(files)
    table = pq.read_table(files.file.local_path())
    if table.num_rows != info.nrows:
        found.faults.append(f"{table.num_rows} rows, {info.nrows} recorded")
    checked = check_index(files.index, survey)
    found.faults += checked.faults
    if not checked.covers:
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
