"""The interface of a store of spectra, which both drivers have."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..model.grid import Grid, PixelRange


class Frames(Protocol):
    """Encoded cells of some rows of one vector, ready to be laid in place."""

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """1D[nrow], bytes of each."""

    def copy_to(self, out: memoryview, at: Sequence[int]) -> None:
        """Write the cell of row ``i`` to ``out[at[i]:]``."""


class HeldFrames:
    """Cells that are in memory already, each a contiguous buffer."""

    def __init__(self, held: Sequence[bytes | memoryview]) -> None:
        self._held = [memoryview(cell).cast("B") for cell in held]
        self.sizes = np.fromiter((len(cell) for cell in self._held), np.int64, len(held))

    def copy_to(self, out: memoryview, at: Sequence[int]) -> None:
        """Write cell ``i`` to ``out[at[i]:]``."""
        for cell, begin in zip(self._held, at, strict=True):
            out[begin : begin + len(cell)] = cell


class SpectrumStore(Protocol):
    """Spectra that are read by row; all on the survey's lattice, or each on an axis of its own."""

    ids: npt.NDArray[Any]
    """1D[nspec], identifiers."""
    on_lattice: bool
    """Whether row values are lattice pixels; otherwise the axis is one of the vectors."""
    grid: Grid
    """The survey's lattice."""
    start: int
    """Lattice pixel of the first value of every row; 0 off the lattice."""
    npix: int
    """Values in every row."""
    first: npt.NDArray[np.int32]
    """1D[nspec], pixel of the first value of each spectrum."""
    count: npt.NDArray[np.int32]
    """1D[nspec], number of values of each spectrum."""

    @property
    def window(self) -> PixelRange:
        """Pixels that the rows cover."""

    def unreadable(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """Read rows of some vectors; return which rows are damaged in any of them, 1D[n] bool."""

    def request_cells(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> Callable[[], Mapping[str, Frames]]:
        """Begin to read whole rows; the call returned waits and gives their Blosc-1 frames."""

    def request(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer], pixels: PixelRange
    ) -> Callable[[], dict[str, npt.NDArray[Any]]]:
        """Begin to read values; the call returned waits and gives them, 2D[nrow, npix] each."""
