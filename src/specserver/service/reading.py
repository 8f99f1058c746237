"""Spectra of a selection, read batch by batch from the segments that hold them.

All readers of vectors use it: a batch is split by segment, and its reading begins before the one
ahead of it is worked on.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from ..errors import SpecServerError, Unavailable
from ..store.base import SpectrumStore
from ..store.shards import SHARD
from .selection import Selection, by_number

BATCH: Final = 128
"""Spectra read at once: some 20 MB decoded, the memory that one request holds."""
_FAR_AHEAD: Final = 8
"""Batches that are asked of an object store together: they wait on the disk of the node."""
_FAR_SHARDS: Final = 64
"""Most shards of such a group. Two groups are fetched at a time, and all their shards are open."""
FIRST_SENT: Final = 32
"""Spectra of the first batch of a stream: its reader decodes them while the next are read."""
Ints = npt.NDArray[np.int64]
_Begun = TypeVar("_Begun")
Result = Callable[..., Any]
"""The call that waits for a group, and returns its values by vector, or its cells."""


@dataclass(frozen=True, slots=True)
class Group:
    """Spectra of a batch that one segment holds."""

    segment: SpectrumStore
    where: Ints
    """1D[n], their positions in the batch."""
    members: Ints
    """1D[n], which of the selection."""
    rows: npt.NDArray[np.int32]
    """1D[n], row of the segment."""


@dataclass(frozen=True, slots=True)
class ReadBatch:
    """A batch that is being read."""

    take: Ints
    """1D[n], which of the selection."""
    groups: list[tuple[Group, Result]]


def batches(selection: Selection, size: int = BATCH, first: int | None = None) -> Iterator[Ints]:
    """Yield the numbers of the spectra of a selection, 1D[n], a batch at a time.

    Parameters
    ----------
    size : spectra of a batch, at most
    first : of the first batch, at most; each one after it may have twice as many as the last
    """
    at, most = 0, first or size
    while at < selection.nspec:
        yield np.arange(at, min(at + most, selection.nspec))
        at, most = at + most, min(2 * most, size)


def read_batches(
    selection: Selection, takes: Iterable[Ints], ask: Callable[[Group], Result | None]
) -> Iterator[ReadBatch]:
    """Yield batches, each asked for before the one ahead of it is worked on; several if far away.

    Parameters
    ----------
    takes
        The spectra of each batch, 1D[n] int.
    ask
        Begins to read a group; None: nothing is needed. Its errors are raised when the group is
        worked on.
    """
    if any(segment.announcing for segment in selection.segments):
        takes = _announced(selection, takes, ask)
    return _one_ahead(_asked(selection, take, ask) for take in takes)


def _one_ahead(begun: Iterable[_Begun]) -> Iterator[_Begun]:
    """Yield what is begun, each when the next one was begun as well."""
    waiting: deque[_Begun] = deque()
    for some in begun:
        waiting.append(some)
        if len(waiting) > 1:
            yield waiting.popleft()
    yield from waiting


def _announced(
    selection: Selection, takes: Iterable[Ints], ask: Callable[[Group], Result | None]
) -> Iterator[Ints]:
    """Yield batches, which are fetched in groups: each group while the one before it is read.

    One call fetches all that a group needs of an object.
    """

    def announce(group: Group) -> Result | None:
        segment = group.segment.announcing
        return ask(replace(group, segment=segment)) if segment else None

    def begun() -> Iterator[list[Ints]]:
        for some in _groups(selection, takes):
            _asked(selection, np.concatenate(some), announce)
            yield some

    return chain.from_iterable(_one_ahead(begun()))


def _groups(selection: Selection, takes: Iterable[Ints]) -> Iterator[list[Ints]]:
    """Yield batches in groups that are asked for together; one alone if it has too many shards."""
    group: list[Ints] = []
    shards: set[int] = set()
    for take in takes:
        rows = selection.segment_row[take].astype(np.int64) // SHARD
        own = set((selection.segment_index[take].astype(np.int64) << 32 | rows).tolist())
        if group and (len(group) == _FAR_AHEAD or len(shards | own) > _FAR_SHARDS):
            yield group
            group, shards = [], set()
        group.append(take)
        shards |= own
    if group:
        yield group


def _asked(selection: Selection, take: Ints, ask: Callable[[Group], Result | None]) -> ReadBatch:
    """Begin to read a batch."""
    groups = []
    for group in by_segment(selection, take):
        try:
            result = ask(group)
        except Unavailable:
            # Each further group would wait as long for a store that is away.
            raise
        except SpecServerError as error:
            result = _failing(error)
        if result is not None:
            groups.append((group, result))
    return ReadBatch(take, groups)


def _failing(error: SpecServerError) -> Callable[[], NoReturn]:
    """Return a call that raises an error."""

    def fail(*_: object) -> NoReturn:
        raise error

    return fail


def by_segment(selection: Selection, take: Ints) -> Iterator[Group]:
    """Yield some spectra of a selection, 1D[n] int, by the segments that hold them."""
    for number, where in by_number(selection.segment_index[take]):
        members = take[where]
        yield Group(selection.segments[number], where, members, selection.segment_row[members])


def read_axes(
    selection: Selection, members: npt.NDArray[np.int64]
) -> Iterator[tuple[int, npt.NDArray[np.float64]]]:
    """Yield the wavelengths, 1D[npix] Å, of spectra off the lattice, and which of ``members``.

    Parameters
    ----------
    members : 1D[n] int, which of the selection
    """

    def ask(group: Group) -> Result:
        return group.segment.request([group.segment.grid.axis], group.rows, group.segment.window)

    order = np.argsort(selection.segment_index[members], kind="stable")
    runs = [order[at : at + BATCH] for at in range(0, len(order), BATCH)]
    read = read_batches(selection, (members[run] for run in runs), ask)
    for run, batch in zip(runs, read, strict=True):
        for group, result in batch.groups:
            grid = group.segment.grid
            counts = selection.count[group.members].tolist()
            places = run[group.where].tolist()
            for place, line, count in zip(places, result()[grid.axis], counts, strict=True):
                yield place, grid.wave_of(line[:count])
