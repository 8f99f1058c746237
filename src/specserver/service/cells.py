"""The encoded cells of a batch, gathered from the segments that hold its spectra."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.grid import PixelRange, cutout
from ..model.survey import Vector
from ..ops.media import Limits
from ..store.base import Cells, HeldCells, SpectrumStore
from ..wire.cells import CellColumn
from .media import all_limits, limits_by_medium
from .reading import Group, ReadBatch
from .selection import Selection

Counts = npt.NDArray[np.int32]
Parts = list[tuple[npt.NDArray[np.int64], Cells]]
"""Cells with the rows of the batch that they are of."""


class CellReader:
    """Reads the cells of spectra: the store's own frames, or raw values of a cutout; docs/wire.md.

    Parameters
    ----------
    selection : on one lattice
    vectors : those that are stored, so without the axis, in the type in which they travel
    media : medium of each spectrum
    limits_aa : cutout, vacuum Å
    within : pixels that travel as raw values, where the store's own frames do not serve
    cut_own : whether spectra off the lattice are cut as well
    """

    def __init__(
        self,
        selection: Selection,
        vectors: Sequence[Vector],
        media: Sequence[str],
        limits_aa: Limits | None,
        within: PixelRange | None,
        *,
        cut_own: bool,
    ) -> None:
        self._dtypes = {vector.name: vector.dtype for vector in vectors}
        self._axis = selection.grid.axis
        self._media = media
        self._limits = None if limits_aa is None else all_limits(limits_aa, media)
        self._own = limits_by_medium(limits_aa, media) if limits_aa and cut_own else {}
        self._within = within
        self._is_raw = limits_aa is not None or within is not None
        own_axis = () if selection.on_lattice.all() else (self._axis,)
        self.names = (*self._dtypes, *own_axis)
        """Vectors that have cells; the axis only where a spectrum of the selection has its own."""

    def ask(self, group: Group) -> Callable[[], Any] | None:
        """Begin to read the vectors and pixels that are needed of a segment."""
        segment = group.segment
        names = read_names(segment, self._dtypes)
        if not self._is_raw:
            return segment.request_cells(names, group.rows)
        if not segment.on_lattice:
            return segment.request(names, group.rows, segment.window)
        pixels = self._pixels(segment)
        return segment.request(names, group.rows, pixels) if pixels.count else dict

    def gather(
        self, batch: ReadBatch, count: Counts
    ) -> tuple[Counts, Counts, Counts, dict[str, CellColumn]]:
        """Return the cells of a batch.

        Parameters
        ----------
        count : 1D[n] int, valid pixels, after the cutout for those on the lattice

        Returns
        -------
        start, width, count : 1D[n] int, the lattice pixel of the first value of a spectrum's cells,
            the values in each of its cells, and its valid pixels
        cells
            By vector, those of `names`.
        """
        nspec = len(batch.take)
        count = count.copy()
        start, width = np.zeros(nspec, np.int32), np.zeros(nspec, np.int32)
        parts: Parts = []
        for group, result in batch.groups:
            segment, where = group.segment, group.where
            found = result()
            if not self._is_raw:
                start[where], width[where] = segment.start, segment.npix
                cells: Cells = found
            elif segment.on_lattice:
                pixels = self._pixels(segment)
                start[where], width[where] = pixels.first, pixels.count
                cells = _held(self._as_sent(found), [slice(None)] * len(where))
            else:
                values = self._as_sent(found)
                lines = zip(values[self._axis], count[where].tolist(), group.members, strict=True)
                cuts = [
                    own_cut(segment, line[:npix], self._own.get(self._media[member]))
                    for line, npix, member in lines
                ]
                cells = _held(values, cuts)
                count[where] = width[where] = [cut.stop - cut.start for cut in cuts]
            parts.append((where, cells))
        return start, width, count, _joined(parts, self.names, nspec)

    def _pixels(self, segment: SpectrumStore) -> PixelRange:
        """Return the pixels of a segment that are sent as raw values."""
        pixels = segment.window if self._within is None else segment.window.common(self._within)
        return (
            pixels if self._limits is None else pixels.common(cutout(segment.grid, *self._limits))
        )

    def _as_sent(self, values: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
        """Return values by vector, 2D[n, npix] each, in the types in which they travel."""
        return {
            name: np.ascontiguousarray(block, self._dtypes.get(name, block.dtype))
            for name, block in values.items()
        }


def _held(values: dict[str, npt.NDArray[Any]], cuts: Sequence[slice]) -> HeldCells:
    """Return a run of the values of each spectrum, 2D[n, npix] by vector, as its cells."""
    return HeldCells(
        {
            name: [line[cut].data for line, cut in zip(lines, cuts, strict=True)]
            for name, lines in values.items()
        }
    )


def _joined(parts: Parts, names: Sequence[str], nspec: int) -> dict[str, CellColumn]:
    """Lay the cells of each vector end to end, in the order of the batch."""
    # All vectors at a time: of a few spectra, what NumPy does takes less time than to ask it.
    sizes = np.zeros((len(names), nspec), np.int64)
    present = np.zeros(sizes.shape, np.bool_)
    for where, cells in parts:
        known, none = cells.sizes, np.zeros(len(where), np.int64)
        if names:
            sizes[:, where] = [known.get(name, none) for name in names]
            present[:, where] = [[name in known] for name in names]
    offsets = np.zeros((len(names), nspec + 1), np.int64)
    np.cumsum(sizes, axis=1, out=offsets[:, 1:])
    columns = {
        name: CellColumn(np.empty(nbytes, np.uint8), begins, there)
        for name, nbytes, begins, there in zip(
            names, offsets[:, -1].tolist(), offsets, present, strict=True
        )
    }
    for where, cells in parts:
        begins = offsets[:, where].tolist()
        cells.copy_to(
            {
                name: (columns[name].data, at)
                for name, at in zip(names, begins, strict=True)
                if name in cells.sizes
            }
        )
    return columns


def read_names(segment: SpectrumStore, vectors: Iterable[str] | None) -> list[str]:
    """Return the arrays to read of a segment: the axis only where its spectra have their own."""
    axis = segment.grid.axis
    stored = [name for name in vectors or () if name != axis]
    return stored if segment.on_lattice else [*stored, axis]


def own_cut(
    segment: SpectrumStore, axis: npt.NDArray[Any], limits_aa: tuple[float, float] | None
) -> slice:
    """Return the run of values of a spectrum's own axis between two wavelengths, Å.

    Parameters
    ----------
    axis : 1D[npix], as the survey publishes it
    limits_aa : in the medium of the spectrum; None: no cutout
    """
    if limits_aa is None:
        return slice(0, len(axis))
    wave = segment.grid.wave_of(axis)
    inside = np.flatnonzero((wave >= limits_aa[0]) & (wave <= limits_aa[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
