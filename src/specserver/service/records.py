"""Spectra as records of the published table, a batch at a time."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import naming
from ..model.grid import PixelRange, cutout
from ..model.survey import Survey, Vector
from .cells import own_cut, read_names
from .media import all_limits, limits_by_medium, media_of
from .reading import Group, Result, batches, read_batches
from .selection import Selection, by_survey
from .spectra import cut_pixels

_ROWS: Final = 256
"""Spectra of a batch of rows: 5 MB of one vector; the work for each batch is a tenth of all."""


def read_records(
    selection: Selection,
    wanted: Callable[[Survey], Sequence[Vector]],
    limits_aa: tuple[float, float] | None,
) -> Iterator[list[npt.NDArray[Any]]]:
    """Yield batches of records, 1D[npix] structured each, in the order of its survey.

    Parameters
    ----------
    wanted : the vectors of a survey's spectra
    limits_aa : vacuum Å of a cutout
    """
    media = media_of(selection) if limits_aa else []
    limits = limits_by_medium(limits_aa, media) if limits_aa else {}
    dtypes: list[np.dtype[Any]] = []
    dtype_of = np.zeros(selection.nspec, np.int16)
    first, count = np.zeros((2, selection.nspec), np.int32)
    for number, (part, places) in enumerate(by_survey(selection)):
        with naming(part.named):
            vectors = wanted(part.survey)
        dtypes.append(record_dtype(vectors))
        dtype_of[places] = number
        first[places], count[places] = cut_pixels(part, limits_aa, vectors)

    def ask(group: Group) -> Result:
        dtype, segment = dtypes[dtype_of[group.members[0]]], group.segment
        return segment.request(read_names(segment, dtype.names), group.rows, segment.window)

    for batch in read_batches(selection, batches(selection), ask):
        take = batch.take
        records: list[npt.NDArray[Any]] = [np.empty(0)] * len(take)
        for group, result in batch.groups:
            dtype, segment = dtypes[dtype_of[group.members[0]]], group.segment
            blocks, axis, lattice = result(), segment.grid.axis, {}
            if segment.on_lattice:
                lattice[axis] = segment.grid.axis_values(segment.start, segment.npix)
            for line, index in enumerate(group.where.tolist()):
                values = lattice | {name: block[line] for name, block in blocks.items()}
                begin, npix = int(first[take[index]]) - segment.start, int(count[take[index]])
                pixels = slice(begin, begin + npix)
                if not segment.on_lattice and limits_aa is not None:
                    own = limits[media[take[index]]]
                    pixels = own_cut(segment, values[axis][:npix], own)
                record = records[index] = np.empty(pixels.stop - pixels.start, dtype)
                for name in dtype.names or ():
                    record[name] = values[name][pixels]
        yield records


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
    axis = selection.grid.axis
    inside = window
    if limits_aa is not None:
        # Aligned spectra are of one medium.
        held = all_limits(limits_aa, media_of(selection))
        inside = window.common(cutout(selection.grid, *held))

    def ask(group: Group) -> Result | None:
        pixels = inside.common(group.segment.window)
        names = read_names(group.segment, dtype.names)
        return group.segment.request(names, group.rows, pixels) if pixels.count else None

    for batch in read_batches(selection, batches(selection), ask):
        block = np.zeros((len(batch.take), window.count), dtype)
        if axis in (dtype.names or ()):
            block[axis] = selection.grid.axis_values(window.first, window.count)
        for group, result in batch.groups:
            pixels = inside.common(group.segment.window)
            begin = pixels.first - window.first
            for name, values in result().items():
                # Outside of its own pixels a stored spectrum is zero.
                block[name][group.where, begin : begin + pixels.count] = values
        yield block


def read_rows(
    selection: Selection, vector: Vector, npix: int, left: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[Any]]:
    """Yield values of one vector of some spectra at a time, 2D[n, npix], zero where there is none.

    Parameters
    ----------
    npix
        Pixels of a row.
    left : 1D[nspec] int
        Pixel of the row at which each spectrum begins.
    """

    def ask(group: Group) -> Result:
        return group.segment.request([vector.name], group.rows, group.segment.window)

    for batch in read_batches(selection, batches(selection, _ROWS), ask):
        out = np.zeros((len(batch.take), npix), vector.dtype)
        for group, result in batch.groups:
            skips = selection.first[group.members] - group.segment.start
            columns = (group.where, skips, left[group.members], selection.count[group.members])
            lines = zip(
                *(column.tolist() for column in columns), result()[vector.name], strict=True
            )
            for index, skip, start, count, values in lines:
                out[index, start : start + count] = values[skip : skip + count]
        yield out


def record_dtype(vectors: Sequence[Vector]) -> np.dtype[Any]:
    """Return the type of the records of some vectors."""
    return np.dtype([(vector.name, vector.dtype) for vector in vectors])
