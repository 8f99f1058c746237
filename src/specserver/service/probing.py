"""Damaged spectra of a list: left out of it, or named."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import StoreError
from ..model.survey import Survey
from .selection import by_number
from .source import SpectrumSource

PROBED: Final = 20_000
"""Longest list from which damaged spectra are left out: all are read once more for that, in half a
second. In a longer list a damaged spectrum is an error that names it."""


def find_damaged(
    survey: Survey,
    sources: Sequence[SpectrumSource],
    where: npt.NDArray[np.int16],
    rows: npt.NDArray[np.int64],
    vectors: Sequence[str] | None,
) -> npt.NDArray[np.bool_]:
    """Return which spectra cannot be read, 1D[n].

    Parameters
    ----------
    where : 1D[n] int, index into ``sources`` of each
    rows : 1D[n] int, row in the source's catalogue
    vectors : names of those that will be read; None: all of the record
    """
    bad = np.zeros(len(rows), np.bool_)
    record = [vector.name for vector in survey.record]
    names = record if vectors is None else [vector.strip().lower() for vector in vectors]
    names.append(survey.grid.axis)
    for number, mine in by_number(where):
        bad[mine] = _damaged(sources[number], rows[mine], names)
    return bad


def _damaged(
    source: SpectrumSource, rows: npt.NDArray[np.int64], vectors: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Return which rows of one source cannot be read, 1D[n]."""
    try:
        place = source.catalog.place(rows)
    except StoreError:
        # Finding the place of a file of a tree reads it: one by one, the damaged files show.
        if len(rows) == 1:
            return np.ones(1, np.bool_)
        alone = (rows[at : at + 1] for at in range(len(rows)))
        return np.concatenate([_damaged(source, row, vectors) for row in alone])
    bad = np.zeros(len(rows), np.bool_)
    for name, mine in by_number(place.segment):
        try:
            store = source.segment(name)
        except StoreError:
            bad[mine] = True
            continue
        bad[mine] = is_other(store.ids, place.row[mine], place.ids[mine])
        sound = mine[~bad[mine]]
        bad[sound] = store.unreadable(vectors, place.row[sound])
    return bad


def is_other(
    held: npt.NDArray[np.generic],
    rows: npt.NDArray[np.integer],
    ids: npt.NDArray[np.generic],
) -> npt.NDArray[np.bool_]:
    """Return which rows of a store are not the spectra of the identifiers, 1D[n].

    Parameters
    ----------
    held : 1D[nspec], identifiers of the store
    rows, ids : 1D[n] each
    """
    other: npt.NDArray[np.bool_] = held.take(rows, mode="clip") != ids
    return other | (rows < 0) | (rows >= len(held))
