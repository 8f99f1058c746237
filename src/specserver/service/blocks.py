"""One vector of many spectra as the rows of an array, a batch at a time while the next is read."""

from collections.abc import Callable, Iterator
from itertools import chain, pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..model.survey import Vector
from .cells import by_segment
from .selection import Selection

_BATCH: Final = 256
"""Spectra read at once: 5 MB of one vector; the work for each batch is a tenth of all."""
Part = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], Callable[[], dict[str, Any]]]
"""Of what one segment holds: which of the batch, where in its rows they begin, and their values."""


def read_rows(
    selection: Selection, vector: Vector, npix: int, left: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[Any]]:
    """Yield values of some spectra at a time, 2D[n, npix], zero where there is none.

    Parameters
    ----------
    npix
        Pixels of a row.
    left : 1D[nspec] int
        Pixel of the row at which each spectrum begins.
    """
    takes = (
        np.arange(at, min(at + _BATCH, selection.nspec)) for at in range(0, selection.nspec, _BATCH)
    )
    asked = ((take, _request(selection, take, vector.name)) for take in takes)
    # By pairs, so that each batch is asked for before the one ahead of it is worked on.
    for now, _ in pairwise(chain(asked, (None,))):
        if now is not None:
            take, parts = now
            out = np.zeros((len(take), npix), vector.dtype)
            for where, begin, result in parts:
                members = take[where]
                columns = (where, begin, left[members], selection.count[members])
                lines = zip(*(one.tolist() for one in columns), result()[vector.name], strict=True)
                for index, skip, start, count, values in lines:
                    out[index, start : start + count] = values[skip : skip + count]
            yield out


def _request(selection: Selection, take: npt.NDArray[np.int64], name: str) -> list[Part]:
    """Begin to read whole rows of some spectra."""
    return [
        (
            where,
            selection.first[take[where]] - segment.start,
            segment.request([name], rows, segment.window),
        )
        for segment, where, rows in by_segment(selection, take)
    ]
