"""Duplicates: spectra that two processes of one ingest stored from files of different parts."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from ..data.context import SegmentFolder
from ..model.survey import Survey
from .decisions import GIVE_ONE, kept_row
from .report import Note
from .row_differences import compare, stored_row
from .stored_ids import numbers_of

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
    keys = numbers_of(table, "_key")
    rows, numbers = numbers_of(table, "_row"), numbers_of(table, "_segment")
    order = np.lexsort((rows, numbers, keys, ids))
    same = (ids[order][1:] == ids[order][:-1]) & (keys[order][1:] == keys[order][:-1])
    row_digests = numbers_of(table, "_row_digest")
    digests, sources = numbers_of(table, "_digest"), table.column("_source")
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
