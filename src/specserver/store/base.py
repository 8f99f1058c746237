"""The interface of a store of spectra, which both drivers have."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ..model.grid import Grid, PixelRange

Place: TypeAlias = tuple[npt.NDArray[np.uint8], Sequence[int]]
"""Where cells are written: 1D[nbytes], and the byte at which the cell of each row begins."""
Rows: TypeAlias = Sequence[npt.NDArray[Any]]
"""Values of some rows: 1D[npix] each, contiguous."""
Room: TypeAlias = Callable[[str, np.dtype[Any]], Rows]
"""Returns where the values of a vector are written, which have that dtype: nrow rows."""


class Cells(Protocol):
    """Encoded cells of some rows of some vectors, ready to be laid in place."""

    @property
    def sizes(self) -> Mapping[str, npt.NDArray[np.int64]]:
        """1D[nrow] by vector, bytes of each."""

    def copy_to(self, places: Mapping[str, Place]) -> None:
        """Write the cell of row ``i`` of each vector to ``out[at[i]:]`` of its place."""


class HeldCells:
    """Cells that are in memory already, by vector: each a contiguous buffer."""

    def __init__(self, held: Mapping[str, Sequence[bytes | memoryview]]) -> None:
        self._held = {
            name: [memoryview(cell).cast("B") for cell in cells] for name, cells in held.items()
        }
        self.sizes = {
            name: np.fromiter(map(len, cells), np.int64, len(cells))
            for name, cells in self._held.items()
        }

    def copy_to(self, places: Mapping[str, Place]) -> None:
        """Write cell ``i`` of each vector to ``out[at[i]:]`` of its place."""
        for name, cells in self._held.items():
            out, at = places[name]
            room = out.data
            for cell, begin in zip(cells, at, strict=True):
                room[begin : begin + len(cell)] = cell


class Values(Protocol):
    """Values of some rows of some vectors, which are being read."""

    def __call__(self, room: Room | None = None) -> Mapping[str, Any]:
        """Wait for the values, and return them by vector, 2D[nrow, npix] each.

        If ``room`` is given, they are written into the rows that it returns, and these are
        returned.
        """


def lay(values: Mapping[str, npt.NDArray[Any]], room: Room | None) -> Mapping[str, Any]:
    """Return values by vector, 2D[nrow, npix] each, as `Values` does: copied if there is room."""
    if room is None:
        return values
    laid = {}
    for name, lines in values.items():
        laid[name] = room(name, lines.dtype)
        for row, line in zip(laid[name], lines, strict=True):
            row[:] = line
    return laid


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
    def announcing(self) -> "SpectrumStore | None":
        """The same store, whose requests only start to fetch their bytes, and return no values.

        None: it is on this machine, so there is nothing to fetch.
        """

    @property
    def window(self) -> PixelRange:
        """Pixels that the rows cover."""

    def unreadable(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """Read rows of some vectors; return which rows are damaged in any of them, 1D[n] bool."""

    def request_cells(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> Callable[[], Cells]:
        """Begin to read whole rows; the call returned waits and gives their Blosc-1 frames."""

    def request(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer], pixels: PixelRange
    ) -> Values:
        """Begin to read values; the call returned waits and gives them, 2D[nrow, npix] each."""
