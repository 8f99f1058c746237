"""Duplicates: spectra that two processes of one ingest stored from files of different parts."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from ..data.context import SegmentFolder
from ..model.survey import Survey
from .decisions import GIVE_ONE, kept_row
from .report import Note
from .row_differences import compare, stored_row
from .stored_ids import NO_KEY

_OTHER = "another file of this ingest gives other values of this spectrum; give only one of them"
_SAME = "another file of this ingest gives the same values"


def find_duplicates(
    table: pa.Table, survey: Survey, segments: Sequence[SegmentFolder]
) -> Iterator[Note]:
    """Yield a note for each duplicate among the segments of an ingest.

    The index shows the first spectrum, by segment and row; the note is about the other.

    Parameters
    ----------
    table : rows of these segments, as `catalog.objects.read_sources` returns them
    segments : the table's ``_segment`` is an index into them
    """
    identifier = survey.id_column.name
    ids = table.column(identifier).to_numpy()
    keys = _numbers(table, "_key", NO_KEY)
    rows, numbers = _numbers(table, "_row", 0), _numbers(table, "_segment", 0)
    order = np.lexsort((rows, numbers, keys, ids))
    same = (ids[order][1:] == ids[order][:-1]) & (keys[order][1:] == keys[order][:-1])
    row_digests = _numbers(table, "_row_digest", 0)
    digests, sources = _numbers(table, "_digest", 0), table.column("_source")
    first = 0
    for at in range(1, len(order)) if same.any() else ():
        if not same[at - 1]:
            first = at
            continue
        kept, other = int(order[first]), int(order[at])
        path, by, named = sources[other].as_py(), sources[kept].as_py(), (str(ids[other]),)
        if digests[kept] != digests[other]:
            yield Note(path, "conflict", _OTHER, named, by)
        elif row_digests[kept] == row_digests[other]:
            yield Note(path, "already there", _SAME, named, by)
        else:
            given, first_row = (
                stored_row(segments[numbers[one]], int(rows[one])) for one in (other, kept)
            )
            found = compare(survey, given, first_row)
            yield kept_row(survey, found, path, by, GIVE_ONE).note(path, named)


def _numbers(table: pa.Table, name: str, absent: int) -> Any:
    """Return a column of integers, 1D[n] int64; ``absent`` where there is none."""
    if name not in table.column_names:
        return np.full(table.num_rows, absent, np.int64)
    return table.column(name).fill_null(absent).to_numpy().astype(np.int64)
