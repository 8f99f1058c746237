"""The encoded cells of a batch, gathered from the segments that hold its spectra."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.grid import PixelRange, cutout
from ..model.survey import Vector
from ..ops.media import Limits
from ..store.base import Frames, HeldFrames, SpectrumStore
from ..wire.cells import CellColumn
from .reading import Group, ReadBatch
from .selection import Selection

Counts = npt.NDArray[np.int32]
Parts = list[tuple[npt.NDArray[np.int64], Frames]]
"""Cells of one vector with the rows of the batch that they are of."""


@dataclass(frozen=True, slots=True)
class CellRequest:
    """What is read of each spectrum: vectors, and the pixels of them."""

    vectors: Sequence[Vector]
    """Those that are stored, in the type in which they travel."""
    axis: str
    """The spectral axis, which is read where a spectrum has its own."""
    media: list[str]
    """Medium of each spectrum."""
    limits_aa: Limits | None
    """Limits that hold those of all spectra of a batch, Å; None: no cutout."""
    own: Sequence[Limits | None]
    """Limits of each spectrum in its own medium, by which those off the lattice are cut."""
    within: PixelRange | None
    """Pixels that travel as raw values, where the store's own frames do not serve."""

    @property
    def is_raw(self) -> bool:
        """Whether cells are raw values; else they are the store's own frames."""
        return self.limits_aa is not None or self.within is not None

    def read(self, group: Group) -> Callable[[], Any] | None:
        """Begin to read what is needed of a segment."""
        segment = group.segment
        names = own_names(segment, [one.name for one in self.vectors], self.axis)
        if not self.is_raw:
            return segment.request_cells(names, group.rows)
        if not segment.on_lattice:
            return segment.request(names, group.rows, segment.window)
        pixels = _inside(segment, self.limits_aa, self.within)
        return segment.request(names, group.rows, pixels) if pixels.count else dict

    def as_sent(self, name: str, block: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values of a vector, 2D[n, npix], in the type in which they travel.

        Parameters
        ----------
        block : 2D[n, npix], as they are stored
        """
        dtype = next((one.dtype for one in self.vectors if one.name == name), block.dtype)
        return np.ascontiguousarray(block, dtype)


def gather_cells(
    selection: Selection,
    batch: ReadBatch[CellRequest, Any],
    count: Counts,
) -> tuple[Counts, Counts, Counts, dict[str, CellColumn]]:
    """Return the cells of a batch: the store's own frames, or raw values of a cutout; docs/wire.md.

    Parameters
    ----------
    count : 1D[n] int, valid pixels, after the cutout for those on the lattice

    Returns
    -------
    start, width, count : 1D[n] int, the lattice pixel of the first value of a spectrum's cells,
        the values in each of its cells, and its valid pixels
    cells
        By vector; the axis only where a spectrum of the selection has its own.
    """
    asked, nspec = batch.about, len(batch.take)
    names = [one.name for one in asked.vectors]
    if not selection.on_lattice.all():
        names.append(asked.axis)
    count = count.copy()
    start, width = np.zeros(nspec, np.int32), np.zeros(nspec, np.int32)
    parts: dict[str, Parts] = {name: [] for name in names}
    for group, result in batch.groups:
        segment, where = group.segment, group.where
        if not asked.is_raw:
            start[where], width[where] = segment.start, segment.npix
            cells: dict[str, Frames] = result()
        elif segment.on_lattice:
            pixels = _inside(segment, asked.limits_aa, asked.within)
            start[where], width[where] = pixels.first, pixels.count
            cells = {
                name: HeldFrames([line.data for line in asked.as_sent(name, block)])
                for name, block in result().items()
            }
        else:
            values = {name: asked.as_sent(name, block) for name, block in result().items()}
            cells, count[where] = _cut_own(
                segment,
                asked.axis,
                values,
                count[where],
                [asked.own[one] for one in where.tolist()],
            )
            width[where] = count[where]
        for name, frames in cells.items():
            parts[name].append((where, frames))
    return start, width, count, {name: _joined(one, nspec) for name, one in parts.items()}


def _inside(
    segment: SpectrumStore, limits_aa: tuple[float, float] | None, within: PixelRange | None
) -> PixelRange:
    """Return the pixels of a segment between two wavelengths, Å, and in a run."""
    pixels = segment.window if within is None else segment.window.common(within)
    return pixels if limits_aa is None else pixels.common(cutout(segment.grid, *limits_aa))


def _cut_own(
    segment: SpectrumStore,
    axis: str,
    values: dict[str, npt.NDArray[Any]],
    count: npt.NDArray[np.int32],
    limits: Sequence[tuple[float, float] | None],
) -> tuple[dict[str, Frames], npt.NDArray[np.int32]]:
    """Return the cells of spectra that have their own wavelengths, and the values in each."""
    cuts = [
        own_cut(segment, line[:npix], limits_aa)
        for line, npix, limits_aa in zip(values[axis], count.tolist(), limits, strict=True)
    ]
    cells: dict[str, Frames] = {
        name: HeldFrames([line[cut].data for line, cut in zip(lines, cuts, strict=True)])
        for name, lines in values.items()
    }
    return cells, np.array([cut.stop - cut.start for cut in cuts], np.int32)


def _joined(parts: Parts, nspec: int) -> CellColumn:
    """Lay cells end to end, in the order of the batch."""
    sizes, present = np.zeros(nspec, np.int64), np.zeros(nspec, np.bool_)
    for where, frames in parts:
        sizes[where], present[where] = frames.sizes, True
    offsets = np.zeros(nspec + 1, np.int64)
    np.cumsum(sizes, out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    for where, frames in parts:
        frames.copy_to(data.data, offsets[where].tolist())
    return CellColumn(data, offsets, present)


def own_names(segment: SpectrumStore, stored: Sequence[str], axis: str) -> list[str]:
    """Return the arrays to read of a segment: with the axis where its spectra have their own."""
    return [*stored] if segment.on_lattice else [*stored, axis]


def own_cut(
    segment: SpectrumStore, axis: npt.NDArray[Any], limits_aa: tuple[float, float] | None
) -> slice:
    """Return the run of values of a spectrum's own axis between two wavelengths, Å.

    Parameters
    ----------
    axis : 1D[npix], as the survey publishes it
    limits_aa : in the medium of the spectrum (`media.own_limits`); None: no cutout
    """
    if limits_aa is None:
        return slice(0, len(axis))
    wave = segment.grid.wave_of(axis)
    inside = np.flatnonzero((wave >= limits_aa[0]) & (wave <= limits_aa[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)
