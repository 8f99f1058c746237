"""The encoded cells of a batch, gathered from the segments that hold its spectra."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..model.grid import PixelRange, cutout
from ..ops.media import Limits
from ..store.base import Frames, HeldFrames, SpectrumStore
from ..wire.cells import CellColumn
from .selection import Selection

BATCH: Final = 128
"""Spectra read at once: some 20 MB decoded, the memory that one request holds."""
Parts = list[tuple[npt.NDArray[np.int64], Frames]]
"""Cells of one vector with the rows of the batch that they are of."""


@dataclass(frozen=True, slots=True)
class BatchCells:
    """Where the values of a batch lie on the lattice, and their cells; docs/wire.md."""

    start: npt.NDArray[np.int32]
    """1D[nspec], lattice pixel of the first value of a spectrum's cells."""
    width: npt.NDArray[np.int32]
    """1D[nspec], values in each of its cells."""
    count: npt.NDArray[np.int32]
    """1D[nspec], its valid pixels."""
    columns: dict[str, CellColumn]
    """By vector; the axis only where a spectrum of the selection has its own."""


def gather_cells(
    selection: Selection,
    take: npt.NDArray[np.int64],
    stored: Sequence[str],
    count: npt.NDArray[np.int32],
    cut: tuple[Limits | None, Sequence[Limits | None]],
    within: PixelRange | None = None,
) -> BatchCells:
    """Return the cells of some spectra: the store's own frames, or raw values of a cutout.

    Parameters
    ----------
    take : 1D[n] int, which spectra of the selection
    count : 1D[n] int, their valid pixels, after the cutout for those on the lattice
    cut : limits, Å, that hold those of all spectra; limits of each spectrum in its own medium
    within : raw values of these pixels, for vectors that the store does not hold whole
    """
    held, own = cut
    raw = held is not None or within is not None
    axis = selection.grid.axis
    names = [*stored] if selection.on_lattice.all() else [*stored, axis]
    count = count.copy()
    start, width = np.zeros(len(take), np.int32), np.zeros(len(take), np.int32)
    parts: dict[str, Parts] = {name: [] for name in names}
    pending = [
        (
            segment,
            where,
            _request(segment, own_names(segment, stored, axis), rows, held, within),
        )
        for segment, where, rows in by_segment(selection, take)
    ]
    for segment, where, result in pending:
        if not raw:
            start[where], width[where] = segment.start, segment.npix
            cells: dict[str, Frames] = result()
        elif segment.on_lattice:
            pixels = _inside(segment, held, within)
            start[where], width[where] = pixels.first, pixels.count
            cells = {
                name: HeldFrames([line.data for line in block]) for name, block in result().items()
            }
        else:
            cells, count[where] = _cut_own(
                segment, axis, result(), count[where], [own[one] for one in where.tolist()]
            )
            width[where] = count[where]
        for name, frames in cells.items():
            parts[name].append((where, frames))
    return BatchCells(
        start, width, count, {name: _joined(one, len(take)) for name, one in parts.items()}
    )


def _request(
    segment: SpectrumStore,
    names: Sequence[str],
    rows: npt.NDArray[np.int32],
    limits_aa: tuple[float, float] | None,
    within: PixelRange | None,
) -> Any:
    """Begin to read what is needed of a segment."""
    if limits_aa is None and within is None:
        return segment.request_cells(names, rows)
    if not segment.on_lattice:
        return segment.request(names, rows, segment.window)
    pixels = _inside(segment, limits_aa, within)
    return segment.request(names, rows, pixels) if pixels.count else dict


def _inside(
    segment: SpectrumStore, limits_aa: tuple[float, float] | None, within: PixelRange | None
) -> PixelRange:
    """Return the pixels of a segment between two wavelengths, Å, and in a run."""
    first, stop = segment.window.first, segment.window.stop
    cut = None if limits_aa is None else cutout(segment.grid, *limits_aa)
    for wanted in (cut, within):
        if wanted is not None:
            first, stop = max(first, wanted.first), min(stop, wanted.stop)
    return PixelRange(first, max(first, stop))


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
        name: HeldFrames([line[cut].data for line, cut in zip(block, cuts, strict=True)])
        for name, block in values.items()
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

    The limits are in the medium of the spectrum (`media.own_limits`).
    """
    if limits_aa is None:
        return slice(0, len(axis))
    wave = axis.astype(np.float64)
    if segment.grid.kind == "log10":
        wave = np.power(10.0, wave)
    inside = np.flatnonzero((wave >= limits_aa[0]) & (wave <= limits_aa[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def batches(selection: Selection) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the numbers of the spectra of a selection, a batch at a time."""
    for at in range(0, selection.nspec, BATCH):
        yield np.arange(at, min(at + BATCH, selection.nspec))


def by_segment(
    selection: Selection, take: npt.NDArray[np.int64]
) -> Iterator[tuple[SpectrumStore, npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    """Yield each segment with the indices into ``take`` that it holds, and its rows."""
    numbers = selection.segment[take]
    for number in np.unique(numbers).tolist():
        where = np.flatnonzero(numbers == number)
        yield selection.segments[number], where, selection.row[take][where]
