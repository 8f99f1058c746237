"""Which parts of a catalogue can have the rows in some pixels, or with some identifiers."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .index.part_record import COVERED_BITS
from .placed_part import PlacedPart

# So many pixels are looked up; a region of more of them is searched in all parts.
_MAX_PIXELS: Final = 2**12


class PartFilter:
    """Pixels and identifiers of all parts; safe to share between threads."""

    def __init__(self, parts: Sequence[PlacedPart]) -> None:
        self._parts = parts
        self._bits = np.packbits(np.stack([p.part.coverage for p in parts]), axis=0)
        """2D[nbyte, npix], a bit for each part: whether the pixel holds a row of it."""
        some = [number for number, placed in enumerate(parts) if placed.part.nrows]
        self._some = some
        self._first = np.array([parts[number].part.id_sorted[0] for number in some])
        self._last = np.array([parts[number].part.id_sorted[-1] for number in some])

    def in_pixels(self, runs: npt.NDArray[np.int64]) -> list[PlacedPart]:
        """Return the parts that may have rows in runs of order-29 pixels, 2D[n, 2], half-open."""
        first, last = runs[:, 0] >> COVERED_BITS, (runs[:, 1] - 1) >> COVERED_BITS
        counts = last - first + 1
        stops = np.cumsum(counts)
        if not len(stops) or stops[-1] > _MAX_PIXELS:
            return list(self._parts)
        pixels = np.arange(stops[-1]) + np.repeat(first - (stops - counts), counts)
        found = np.bitwise_or.reduce(self._bits[:, pixels], axis=1)
        numbers = np.flatnonzero(np.unpackbits(found, count=len(self._parts)))
        return [self._parts[number] for number in numbers.tolist()]

    def with_ids(self, ids: npt.NDArray[Any]) -> Iterator[tuple[PlacedPart, slice]]:
        """Yield the parts that may have some identifiers, 1D[n] ascending, and which of them."""
        starts = np.searchsorted(ids, self._first)
        stops = np.searchsorted(ids, self._last, "right")
        for at in np.flatnonzero(starts < stops).tolist():
            yield self._parts[self._some[at]], slice(int(starts[at]), int(stops[at]))
