"""Spectra as records of the published table, a batch at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.grid import PixelRange, cutout
from ..model.survey import Vector
from ..ops.record import fill_records
from ..store.base import SpectrumStore
from .cells import batches, by_segment, own_cut, own_names
from .media import all_limits, media_of, own_limits
from .selection import Selection
from .spectra import cut_pixels, stored_names


def read_records(
    selection: Selection, vectors: Sequence[Vector], limits_aa: tuple[float, float] | None
) -> Iterator[list[npt.NDArray[Any]]]:
    """Yield batches of records: one 1-D structured array a spectrum, in the survey's order."""
    dtype = record_dtype(vectors)
    names, axis = stored_names(selection, vectors), selection.grid.axis
    first, count = cut_pixels(selection, limits_aa, vectors)
    for take in batches(selection):
        batch: list[npt.NDArray[Any]] = [np.empty(0, dtype)] * len(take)
        limits = own_limits(limits_aa, media_of(selection, take)) if limits_aa else []
        groups = [
            (one, where, one.request(own_names(one, names, axis), rows, one.window))
            for one, where, rows in by_segment(selection, take)
        ]
        for segment, where, result in groups:
            blocks = result()
            lattice = _lattice(segment, axis) if segment.on_lattice else {}
            for line, index in enumerate(where.tolist()):
                values = lattice | {name: block[line] for name, block in blocks.items()}
                begin, npix = int(first[take[index]]) - segment.start, int(count[take[index]])
                pixels = slice(begin, begin + npix)
                if not segment.on_lattice and limits_aa is not None:
                    pixels = own_cut(segment, values[axis][:npix], limits[index])
                batch[index] = fill_records(dtype, values, pixels)
        yield batch


def read_blocks(
    selection: Selection,
    vectors: Sequence[Vector],
    limits_aa: tuple[float, float] | None,
    window: PixelRange,
) -> Iterator[npt.NDArray[Any]]:
    """Yield batches of spectra on one window of the lattice, 2D[n, window] structured.

    All spectra lie on the lattice. Where one has no data all is zero (ivar 0: no information);
    the axis goes on.
    """
    dtype = record_dtype(vectors)
    names, axis = stored_names(selection, vectors), selection.grid.axis
    inside = window
    if limits_aa is not None:
        # Aligned spectra are of one medium.
        held = all_limits(limits_aa, media_of(selection))
        inside = _common(window, cutout(selection.grid, *held))
    for take in batches(selection):
        block = np.zeros((len(take), window.count), dtype)
        if axis in (dtype.names or ()):
            block[axis] = selection.grid.axis_values(window.first, window.count)
        pending = []
        for segment, where, rows in by_segment(selection, take):
            pixels = _common(inside, segment.window)
            if pixels.count:
                pending.append((where, pixels, segment.request(names, rows, pixels)))
        for where, pixels, result in pending:
            begin = pixels.first - window.first
            for name, values in result().items():
                # Outside of its own pixels a stored spectrum is zero.
                block[name][where, begin : begin + pixels.count] = values
        yield block


def record_dtype(vectors: Sequence[Vector]) -> np.dtype[Any]:
    """Return the type of the records of some vectors."""
    return np.dtype([(vector.name, vector.dtype) for vector in vectors])


def _lattice(segment: SpectrumStore, axis: str) -> dict[str, npt.NDArray[Any]]:
    """Return the published axis of a segment's columns, 1D[npix]."""
    return {axis: segment.grid.axis_values(segment.start, segment.npix)}


def _common(one: PixelRange, other: PixelRange) -> PixelRange:
    """Return the pixels that two runs share."""
    first = max(one.first, other.first)
    return PixelRange(first, max(first, min(one.stop, other.stop)))
