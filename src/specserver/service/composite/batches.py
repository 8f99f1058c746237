"""Vectors of many spectra side by side, each moved by pixels of its own, a batch at a time.

For work in which the order of the spectra does not matter: spectra of one segment and of similar
shifts come together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...model.survey import Survey
from ...store.base import SpectrumStore
from ..cells import read_names
from ..reading import BATCH, Group, Result, read_batches
from ..selection import Selection

_WIDEST: Final = 512
"""Pixels that spectra of a batch may lie apart: they are laid side by side in one block."""


@dataclass(frozen=True, slots=True)
class ShiftedBatch:
    """Spectra of one segment."""

    segment: SpectrumStore
    members: npt.NDArray[np.int64]
    """1D[n], which of the selection."""
    values: dict[str, npt.NDArray[Any]]
    """Values by vector, 2D[n, npix]: each spectrum moved to smaller pixels, zero where it has none.
    First and last column are no pixels."""
    left: int
    """Lattice pixel of column 0, after the move."""


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """The spectra to read, their order, and the shift of each."""

    members: npt.NDArray[np.int64]
    """1D[n], which of the selection, in the order in which they come."""
    shift: npt.NDArray[np.int64]
    """1D[nspec], pixels by which each spectrum is moved to smaller ones."""
    batches: tuple[slice, ...]
    """Members that are read together: of one segment, and with similar shifts."""


def plan_reads(
    selection: Selection,
    members: npt.NDArray[np.int64],
    shift: npt.NDArray[np.int64],
    reach: npt.NDArray[np.int64],
    most: int,
) -> ReadPlan:
    """Return how to read some spectra, whatever the order in which they were asked for.

    Parameters
    ----------
    members : 1D[n] int, which of the selection
    shift : 1D[nspec] int, pixels by which each spectrum is to be moved to smaller ones
    reach : 1D[nspec] int, about where each lies then, pixels
    most : spectra of a batch
    """
    segment, row = selection.segment_index[members], selection.segment_row[members]
    order = np.lexsort((row, reach[members], segment))
    members = members[order]
    batches = []
    at = 0
    ends = np.flatnonzero(np.diff(selection.segment_index[members])) + 1
    for end in [*ends.tolist(), len(members)]:
        while at < end:
            near = np.searchsorted(reach[members[at:end]], reach[members[at]] + _WIDEST)
            stop = at + min(int(near), most, BATCH)
            batches.append(slice(at, stop))
            at = stop
    return ReadPlan(members, shift, tuple(batches))


def read_shifted(
    selection: Selection, plan: ReadPlan, names: Callable[[Survey], Sequence[str]]
) -> Iterator[ShiftedBatch]:
    """Yield batches of spectra; the values of one are gone when the next is asked for.

    Parameters
    ----------
    names : vectors of a survey but its axis, which comes for segments off the lattice only
    """
    blocks: dict[str, npt.NDArray[Any]] = {}

    def ask(group: Group) -> Result:
        segment, wanted = group.segment, names(selection.survey_of(group.members[0]))
        return segment.request(read_names(segment, wanted), group.rows, segment.window)

    takes = (plan.members[run] for run in plan.batches)
    for batch in read_batches(selection, takes, ask):
        for group, result in batch.groups:
            yield _lay(group.segment, group.members, result, plan.shift[group.members], blocks)


def _lay(
    segment: SpectrumStore,
    members: npt.NDArray[np.int64],
    read: Result,
    shift: npt.NDArray[np.int64],
    blocks: dict[str, npt.NDArray[Any]],
) -> ShiftedBatch:
    """Read spectra of one segment side by side, each moved by a shift of its own, 1D[n]."""
    furthest = int(shift.max())
    begin = (furthest - shift + 1).tolist()
    wide = segment.npix + max(begin) + 1
    laid = {}

    def room(name: str, dtype: np.dtype[Any]) -> list[npt.NDArray[Any]]:
        block = laid[name] = _block(blocks, name, (len(members), wide), dtype)
        rows = []
        for row, at in zip(block, begin, strict=True):
            stop = at + segment.npix
            row[:at] = row[stop:] = 0
            rows.append(row[at:stop])
        return rows

    read(room)
    return ShiftedBatch(segment, members, laid, segment.start - furthest - 1)


def _block(
    blocks: dict[str, npt.NDArray[Any]], name: str, shape: tuple[int, int], dtype: np.dtype[Any]
) -> npt.NDArray[Any]:
    """Return memory that was used before: fresh pages cost as much as the arithmetic."""
    size = shape[0] * shape[1]
    held = blocks.get(name)
    if held is None or held.size < size or held.dtype != dtype:
        held = blocks[name] = np.empty(size, dtype)
    return held[:size].reshape(shape)
