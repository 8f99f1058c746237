"""The rows of all parts in some pixels, or with some identifiers, by sorted arrays of each part."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .base import Rows
from .index.part import find_all
from .index.part_record import COVERED_BITS
from .placed_part import PlacedPart

Ints = npt.NDArray[np.int64]
# So many pixels are looked up; a region of more of them is searched in all parts.
_MAX_PIXELS: Final = 2**12
# Runs of candidates nearer than this are one run: testing the rows between takes no longer than
# beginning another run.
_GAP_ROWS: Final = 32
BLOCK_ROWS: Final = 2**18
"""Number of rows that are tested between two checks of the deadline: about 50 ms and 20 MB."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows that may be in a region: parallel arrays, one entry a row."""

    rows: Rows
    """1D[n], ascending."""
    hpx: Ints
    """1D[n], order-29 pixels."""
    ra: npt.NDArray[np.float64]
    """1D[n], deg."""
    dec: npt.NDArray[np.float64]
    """1D[n], deg."""


class PixelSearch:
    """The positions of the rows of all parts; safe to share between threads."""

    def __init__(self, parts: Sequence[PlacedPart]) -> None:
        self._every = list(range(len(parts)))
        self._first_rows = [placed.first_row for placed in parts]
        self._parts = [placed.part for placed in parts]
        self._covered = np.stack([part.coverage for part in self._parts])
        """2D[npart, npix / 8], which pixels of `COVERAGE_ORDER` hold a row, packed bits."""

    def candidates(self, runs: Ints) -> Iterator[Candidates]:
        """Yield the rows in runs of order-29 pixels, 2D[n, 2], half-open, in ascending blocks.

        Rows near them are among these.
        """
        for block in _blocks(self._runs(runs)):
            first = self._first_rows
            rows = [np.arange(first[at] + start, first[at] + stop) for at, start, stop in block]
            parts = [(self._parts[at], slice(start, stop)) for at, start, stop in block]
            yield Candidates(
                np.concatenate(rows),
                np.concatenate([part.hpx[some] for part, some in parts]),
                np.concatenate([part.ra[some] for part, some in parts]),
                np.concatenate([part.dec[some] for part, some in parts]),
            )

    def _runs(self, runs: Ints) -> Iterable[tuple[int, int, int]]:
        """Return number, first row and end of runs of rows of parts, ascending, not empty."""
        numbers, edges = self.parts(runs), runs.ravel()
        found = np.empty((len(numbers), len(edges)), np.intp)
        for at, number in enumerate(numbers):
            found[at] = self._parts[number].hpx.searchsorted(edges)
        starts, stops = found[:, ::2], found[:, 1::2]
        part, run = (starts < stops).nonzero()
        if not len(part):
            return []
        starts, stops = starts[part, run], stops[part, run]
        apart = (starts[1:] - stops[:-1] > _GAP_ROWS) | (part[1:] != part[:-1])
        begins = np.append(True, apart).nonzero()[0]
        ends = np.append(apart, True).nonzero()[0]
        joined = (np.array(numbers)[part[begins]], starts[begins], stops[ends])
        return zip(*(values.tolist() for values in joined), strict=True)

    def parts(self, runs: Ints) -> list[int]:
        """Return the numbers of the parts that may have rows in runs of pixels."""
        if len(self._every) == 1:
            return self._every
        first, last = runs[:, 0] >> COVERED_BITS, (runs[:, 1] - 1) >> COVERED_BITS
        counts = last - first + 1
        stops = counts.cumsum()
        if not len(stops) or stops[-1] > _MAX_PIXELS:
            return self._every
        pixels = np.arange(stops[-1]) + (first - (stops - counts)).repeat(counts)
        bits = self._covered[:, pixels >> 3] & (128 >> (pixels & 7)).astype(np.uint8)
        numbers: list[int] = bits.any(axis=1).nonzero()[0].tolist()
        return numbers


def _blocks(runs: Iterable[tuple[int, int, int]]) -> Iterator[list[tuple[int, int, int]]]:
    """Yield runs in blocks of at most `BLOCK_ROWS` rows; a block may end within a run."""
    block: list[tuple[int, int, int]] = []
    left = BLOCK_ROWS
    for number, first, stop in runs:
        start = first
        while stop - start >= left:
            yield [*block, (number, start, start + left)]
            start, block, left = start + left, [], BLOCK_ROWS
        if start < stop:
            block.append((number, start, stop))
            left -= stop - start
    if block:
        yield block


@dataclass(frozen=True, slots=True)
class Named:
    """Rows with some identifiers, found in one part: parallel arrays, one entry a row."""

    placed: PlacedPart
    which: npt.NDArray[np.intp]
    """1D[n], which of the identifiers it has."""
    rows: Rows
    """1D[n], row of the part."""


class IdSearch:
    """The identifiers of the rows of all parts; safe to share between threads."""

    def __init__(self, parts: Sequence[PlacedPart]) -> None:
        self._parts = [placed for placed in parts if placed.part.nrows]
        self._first = np.array([placed.part.id_sorted[0] for placed in self._parts])
        self._last = np.array([placed.part.id_sorted[-1] for placed in self._parts])

    def first(self, ids: npt.NDArray[Any]) -> Iterator[Named]:
        """Yield the rows of identifiers, 1D[n] ascending: of each part the best with each one.

        It was the best when the part was written.
        """
        for placed, some in self._within(ids):
            part, wanted = placed.part, ids[some]
            at = part.id_sorted.searchsorted(wanted)
            which = (part.id_sorted[at] == wanted).nonzero()[0]
            if len(which):
                yield Named(placed, which + some.start, part.id_rank[at[which]].astype(np.int64))

    def every(self, ids: npt.NDArray[Any]) -> Iterator[Named]:
        """Yield all rows of identifiers, 1D[n] ascending, each once."""
        for placed, some in self._within(ids):
            which, at = find_all(placed.part.id_sorted, ids[some])
            if len(which):
                rows = placed.part.id_rank[at].astype(np.int64)
                yield Named(placed, which + some.start, rows)

    def rows(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the number of each row that has one of some identifiers, part after part.

        Parameters
        ----------
        ids : 1D[n], ascending
        """
        found = [named.rows + named.placed.first_row for named in self.every(ids)]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _within(self, ids: npt.NDArray[Any]) -> Iterator[tuple[PlacedPart, slice]]:
        """Yield the parts that may have some identifiers, and which of them: none after its last.

        Identifiers in order are searched faster, as searches share the processor's cache.
        """
        starts = ids.searchsorted(self._first)
        stops = ids.searchsorted(self._last, "right")
        for at in (starts < stops).nonzero()[0].tolist():
            yield self._parts[at], slice(int(starts[at]), int(stops[at]))
