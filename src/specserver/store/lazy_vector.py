"""One vector of spectra of many segments as one array, read when, and where, it is sliced.

It holds what another process needs to read it: paths, rows and pixels, and no value. That process
opens the segments itself, once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from ..data.context import SegmentFolder
from ..errors import StoreError
from ..model.grid import PixelRange
from .zarr import open_segment

Index = slice | int | Sequence[int] | npt.NDArray[np.integer]
"""Index along one axis; numbers are not negative."""


@dataclass(frozen=True, slots=True, eq=False)
class LazyVector:
    """An array of shape nspec × npix; zero where a spectrum or its segment has no value."""

    folders: tuple[SegmentFolder, ...]
    """Segments, in the order of the rows."""
    starts: npt.NDArray[np.int64]
    """1D[nsegment + 1], the row here at which each segment begins; nspec."""
    rows: npt.NDArray[np.int32] | None
    """1D[nspec], row of each spectrum in its segment; None: all rows of all segments."""
    vector: str
    dtype: np.dtype[Any]
    window: PixelRange
    """Lattice pixels of the columns."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of spectra, and of pixels."""
        return int(self.starts[-1]), self.window.count

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return 2

    def __getitem__(self, index: tuple[Index, Index]) -> npt.NDArray[Any]:
        """Return values of chosen spectra at chosen pixels: all of these of each of those."""
        wanted, columns = (_places(size, at) for size, at in zip(self.shape, index, strict=True))
        if not wanted.size or not columns.size:
            values = np.zeros((wanted.size, columns.size), self.dtype)
        else:
            low, stop = int(columns.min()), int(columns.max()) + 1
            pixels = PixelRange(self.window.first + low, self.window.first + stop)
            values = self._read(wanted, pixels)
            if not np.array_equal(columns, np.arange(low, stop)):
                values = values[:, columns - low]
        return values[tuple(0 if isinstance(at, Integral) else slice(None) for at in index)]

    def _read(self, wanted: npt.NDArray[np.int64], pixels: PixelRange) -> npt.NDArray[Any]:
        """Return lattice pixels of some rows, the segments being read at the same time."""
        owner = np.searchsorted(self.starts, wanted, "right") - 1
        within = wanted - self.starts[owner] if self.rows is None else self.rows[wanted]
        pending = []
        for number in np.unique(owner).tolist():
            segment = open_segment(self.folders[number])
            mine = np.flatnonzero(owner == number)
            held = PixelRange(
                max(pixels.first, segment.window.first), min(pixels.stop, segment.window.stop)
            )
            if self.vector not in segment.vectors:
                raise StoreError(str(segment.folder), f"has no vector {self.vector}")
            if held.count:
                asked = segment.request([self.vector], within[mine], held)
                pending.append((mine, held, asked))
        if len(pending) == 1 and pending[0][1] == pixels and len(pending[0][0]) == len(wanted):
            whole: npt.NDArray[Any] = pending[0][2]()[self.vector]
            return whole
        out = np.zeros((len(wanted), pixels.count), self.dtype)
        for mine, held, asked in pending:
            columns = slice(held.first - pixels.first, held.stop - pixels.first)
            out[mine, columns] = asked()[self.vector]
        return out


def _places(size: int, index: Index) -> npt.NDArray[np.int64]:
    """Return the places that an index chooses along an axis, 1D[n]."""
    # A range costs what is chosen, not what there is.
    chosen = range(size)[index] if isinstance(index, slice) else index
    return np.atleast_1d(np.asarray(chosen, np.int64))
