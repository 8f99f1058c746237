"""The verification of a data folder: every chunk's checksum, every link between its parts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ..catalog.duckdb import Catalog
from ..catalog.index import current_index
from ..errors import SpecServerError
from ..store.layout import (
    list_contexts,
    list_segments,
    require_folder,
    segment_names,
    survey_name,
)
from ..store.zarr import Segment
from ..surveys import find_release, missing_survey


@dataclass(frozen=True, slots=True)
class Finding:
    """What the verification found of one segment or index."""

    context: str
    what: str
    nspec: int
    nbytes: int
    faults: tuple[str, ...]
    """Empty when all is well."""


def verify(data: Path) -> Iterator[Finding]:
    """Check all committed segments and indexes of a data folder, one finding each."""
    for context in list_contexts(require_folder(data)):
        name = survey_name(data, context)
        if fault := missing_survey(context, name, data):
            nspec = sum(info.nspec for info in list_segments(data, context))
            yield Finding(context, "survey", nspec, 0, (fault,))
            continue
        identifier = find_release(context, data)[0].id_column.name
        for info in list_segments(data, context):
            yield _verify_segment(data / context / info.name, context, info.nspec, identifier)
        yield _verify_index(data, context)


def _verify_segment(path: Path, context: str, nspec: int, identifier: str) -> Finding:
    """Read all arrays of a segment, and hold its rows against its catalogue rows."""
    faults: list[str] = []
    nbytes = 0
    try:
        segment = Segment(path)
        nbytes = segment.verify()
        rows = pq.read_table(path / "objects.parquet", columns=[identifier, "_row"])
        ids = rows.column(identifier).to_numpy()
        if len(ids) != segment.nspec or segment.nspec != nspec:
            faults.append(f"{len(ids)} catalogue rows, {segment.nspec} spectra, {nspec} committed")
        elif not np.array_equal(ids, segment.ids[rows.column("_row").to_numpy()]):
            faults.append("catalogue rows and spectra are not of the same ids")
    except (SpecServerError, OSError, ValueError, KeyError) as error:
        faults.append(str(error))
    return Finding(context, path.name, nspec, nbytes, tuple(faults))


def _verify_index(data: Path, context: str) -> Finding:
    """Follow every link of the index to its spectrum."""
    survey, _ = find_release(context, data)
    faults: list[str] = []
    nrows = 0
    try:
        info = current_index(data, context)
        names = tuple(segment_names(data, context))
        if info is None or info.segments != names:
            faults.append("does not cover all segments; it is renewed by the next use")
        if info is not None:
            nrows = info.nrows
            catalog = Catalog(data, survey, context, info)
            place = catalog.place(np.arange(info.nrows))
            for number, name in enumerate(info.segments):
                mine = place.segment == number
                stored = Segment(data / context / name).ids
                if not np.array_equal(stored[place.row[mine]], place.ids[mine]):
                    faults.append(f"links to {name} lead to other spectra")
            catalog.close()
    except (SpecServerError, OSError, IndexError) as error:
        faults.append(str(error))
    return Finding(context, "index", nrows, 0, tuple(faults))
