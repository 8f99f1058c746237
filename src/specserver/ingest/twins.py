"""Spectra that two processes of one ingest stored, as their files were in parts of their own."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from ..model.survey import Survey
from .known import NO_KEY
from .report import Note

_OTHER = "another file of this ingest gives other values of this spectrum; give only one of them"
_SAME = "another file of this ingest gives the same values"


def find_twins(table: pa.Table, survey: Survey) -> Iterator[Note]:
    """Yield a note for each spectrum that the segments of an ingest hold once more than once.

    The index shows the one that comes first, by segment and row; the note is about the other.

    Parameters
    ----------
    table : rows of these segments, as `catalog.objects.read_sources` returns them
    """
    identifier = survey.id_column.name
    ids = table.column(identifier).to_numpy()
    keys = _numbers(table, "_key", NO_KEY)
    order = np.lexsort((_numbers(table, "_row", 0), _numbers(table, "_segment", 0), keys, ids))
    same = (ids[order][1:] == ids[order][:-1]) & (keys[order][1:] == keys[order][:-1])
    digests, sources = _numbers(table, "_digest", 0), table.column("_source")
    first = 0
    for at in range(1, len(order)) if same.any() else ():
        if not same[at - 1]:
            first = at
            continue
        kept, other = int(order[first]), int(order[at])
        alike = digests[kept] == digests[other]
        yield Note(
            sources[other].as_py(),
            "already there" if alike else "conflict",
            _SAME if alike else _OTHER,
            (str(ids[other]),),
            sources[kept].as_py(),
        )


def _numbers(table: pa.Table, name: str, absent: int) -> Any:
    """Return a column of integers, 1D[n] int64; ``absent`` where there is none."""
    if name not in table.column_names:
        return np.full(table.num_rows, absent, np.int64)
    return table.column(name).fill_null(absent).to_numpy().astype(np.int64)
