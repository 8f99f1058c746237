"""Wavelengths of spectra that have an axis of their own."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .reading import BATCH, Group, read_batches
from .selection import Selection


def read_axes(
    selection: Selection, members: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Yield the wavelengths, 1D[npix] Å, of spectra off the lattice, and which of ``members``.

    Parameters
    ----------
    members : 1D[n] int, which of the selection
    """

    def ask(group: Group, _: npt.NDArray[np.int64]) -> Callable[[], dict[str, Any]]:
        return group.segment.request([group.segment.grid.axis], group.rows, group.segment.window)

    order = np.argsort(selection.segment[members], kind="stable")
    runs = (order[at : at + BATCH] for at in range(0, len(order), BATCH))
    for batch in read_batches(selection, ((members[run], run) for run in runs), ask):
        for group, result in batch.groups:
            grid = group.segment.grid
            counts = selection.count[group.members].tolist()
            places = batch.about[group.where].tolist()
            for place, line, count in zip(places, result()[grid.axis], counts, strict=True):
                yield place, grid.wave_of(line[:count])
