"""A mean over millions of spectra in parts, which other processes sum up.

A part has a handle of each of its segments, and of each spectrum a row and a redshift, so it is
small to send; who sums it up reads the segments where they are. Segments are not divided, so that
the batches of a part are those of the whole. The sums of parts are joined in float64: they are
those of the whole but for its rounding.
"""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...data.context import SegmentFolder
from ...data.root import DataRoot
from ...errors import BadParameter
from ...model.grid import Grid, PixelRange
from ...model.medium import Medium
from ...ops.composite import Stacked, StackRequest, Sums
from ...store.zarr import open_segment
from ...surveys import find_release
from ..selection import Selection
from .scratch import StackLimits
from .stacking import LeftOut, Stacking, nothing_left, over_wanted, pixels_between

_LIMITS: Final = StackLimits(2**22, 0)
"""Of the caller's own process: some 30 MB a vector."""


@dataclass(frozen=True, slots=True)
class StackPart:
    """Some spectra of a composite."""

    data: DataRoot
    context: str
    medium: Medium
    """Medium of the wavelengths of all its spectra."""
    asked: StackRequest
    """How all are combined; redshifts are here."""
    begin: int
    """Number of its first spectrum among all."""
    folders: tuple[SegmentFolder, ...]
    """Its segments."""
    counts: tuple[int, ...]
    """Spectra of each segment."""
    rows: npt.NDArray[np.int32]
    """1D[n], row of each spectrum in its segment."""
    z: npt.NDArray[np.float64] | None
    """1D[n], redshift of each; None: they stay in the observed frame."""


@dataclass(slots=True)
class PartSums:
    """The sums of a part, or of several."""

    sums: Sums
    nused: int
    """Spectra that count."""
    left_out: LeftOut
    """Reason → numbers of spectra among all."""
    weighted: bool
    """Whether the spectra have uncertainties."""
    reached: PixelRange
    """Lattice pixels that hold all of them."""


def divide(whole: StackPart, most: int) -> Iterator[StackPart]:
    """Yield parts of so many spectra at most, but for a segment of more, which stays whole."""
    at = first = 0
    begin = stop = 0
    for number, count in enumerate(whole.counts):
        if stop > begin and stop + count - begin > most:
            yield _part(whole, slice(first, number), slice(begin, stop))
            first, begin = number, stop
        stop += count
        at = number + 1
    if stop > begin:
        yield _part(whole, slice(first, at), slice(begin, stop))


def _part(whole: StackPart, segments: slice, spectra: slice) -> StackPart:
    """Return the spectra of some segments."""
    return replace(
        whole,
        begin=whole.begin + spectra.start,
        folders=whole.folders[segments],
        counts=whole.counts[segments],
        rows=whole.rows[spectra],
        z=None if whole.z is None else whole.z[spectra],
    )


def sum_up(part: StackPart) -> PartSums:
    """Read the spectra of a part, and return their sums.

    Raises
    ------
    StoreError
        A segment cannot be read.
    """
    asked = part.asked if part.z is None else replace(part.asked, z=part.z.tolist())
    stacking = Stacking(_selection(part), asked, _LIMITS)
    sums, nused, left_out = stacking.sum_up()
    every = {reason: part.begin + which for reason, which in left_out.items()}
    return PartSums(sums, nused, every, stacking.weighted, stacking.reached)


def _selection(part: StackPart) -> Selection:
    """Return the spectra of a part as a selection without a catalogue."""
    survey, _ = find_release(part.context, part.data)
    segments = tuple(map(open_segment, part.folders))
    nspec = len(part.rows)
    index = np.repeat(np.arange(len(segments), dtype=np.int32), part.counts)
    first, count = np.zeros((2, nspec), np.int32)
    for number, segment in enumerate(segments):
        mine = index == number
        first[mine], count[mine] = segment.first[part.rows[mine]], segment.count[part.rows[mine]]
    on_lattice = np.array([segment.on_lattice for segment in segments], np.bool_)[index]
    nothing = np.zeros(nspec, np.int64)
    return Selection(
        contexts=(part.context,),
        surveys=(replace(survey, medium=part.medium),),
        context_index=nothing.astype(np.int16),
        ids=nothing,
        sources=(),
        source_index=nothing.astype(np.int16),
        catalogue_row=nothing,
        segments=segments,
        segment_index=index,
        segment_row=part.rows,
        first=first,
        count=count,
        on_lattice=on_lattice,
    )


def join_sums(parts: Sequence[PartSums]) -> PartSums:
    """Return the sums of several parts, in their order."""
    # Dask may hand on the same ones again.
    whole, others = deepcopy(parts[0]), parts[1:]
    for part in others:
        whole.sums.merge(part.sums)
        whole.nused += part.nused
        whole.weighted &= part.weighted
        ends = (whole.reached, part.reached)
        whole.reached = PixelRange(min(of.first for of in ends), max(of.stop for of in ends))
        for reason, which in part.left_out.items():
            known = whole.left_out.get(reason)
            whole.left_out[reason] = which if known is None else np.concatenate([known, which])
    return whole


def finish(made: PartSums, grid: Grid, asked: StackRequest, nspec: int) -> tuple[Any, Stacked]:
    """Return the wavelengths of a composite, 1D[npix] float64 Å, and its values.

    Parameters
    ----------
    grid : lattice of the composite
    nspec : spectra that were asked for

    Raises
    ------
    BadParameter
        No spectrum is left, or none has a good pixel where it was asked for.
    """
    if not made.nused:
        raise nothing_left(asked, nspec, {name: len(some) for name, some in made.left_out.items()})
    stacked = made.sums.result()
    wanted = None if asked.wave is None else pixels_between("wave", grid, asked.wave)
    pixels, stacked = over_wanted(stacked, made.sums.first, wanted, grid, asked, made.reached)
    if not made.weighted:
        stacked = replace(stacked, error=np.full(pixels.count, np.nan))
    return grid.wave(pixels.first, pixels.count), stacked


def require_sums(asked: StackRequest) -> None:
    """Refuse what needs all values of a pixel at a time, so that no sums can stand for them."""
    if asked.method == "median":
        allowed = "'mean' or 'ivar'; the service's stack has medians, by way of a file on its disk"
        raise BadParameter("method", asked.method, allowed)
    if asked.sigma_clip is not None:
        allowed = "None; the service's stack leaves values out, by way of a file on its disk"
        raise BadParameter("sigma_clip", asked.sigma_clip, allowed)
