"""The vectors and pixels of a selection that are read."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import UnknownField, naming
from ..model.grid import PixelRange, cutout, span
from ..model.survey import Survey, Vector
from ..ops.joining import common_record
from .media import limits_by_medium, media_of
from .selection import Selection, by_survey


def wanted_vectors(survey: Survey, names: Sequence[str] | None) -> tuple[Vector, ...]:
    """Return the vectors asked for, in record order, the axis included when it was.

    Extra ones come after the record, and only when they are named.
    """
    if names is None:
        return survey.record
    return _chosen((*survey.record, *survey.extra), names)


def vectors_of(selection: Selection, names: Sequence[str] | None) -> tuple[Vector, ...]:
    """Return the vectors asked for, as `wanted_vectors`, of a selection on one lattice.

    If there are several surveys, these are the vectors that all have.

    Raises
    ------
    MixedLattices
        Surveys that share no lattice.
    """
    with naming(selection.named):
        if selection.is_of_one_survey:
            return wanted_vectors(selection.survey, names)
        records = [survey.record for survey in selection.surveys]
        record = common_record(records, selection.grid.axis)
        return record if names is None else _chosen(record, names)


def _chosen(vectors: Sequence[Vector], names: Sequence[str]) -> tuple[Vector, ...]:
    """Return the vectors that are named, in their order."""
    known = [vector.name for vector in vectors]
    wanted = {name.strip().lower() for name in names}
    for name in names:
        if name.strip().lower() not in known:
            raise UnknownField(name, known)
    return tuple(vector for vector in vectors if vector.name in wanted)


def covered_pixels(selection: Selection, vectors: Sequence[Vector]) -> PixelRange | None:
    """Return the lattice pixels that vectors cover; None: all that a spectrum has."""
    axis = selection.grid.axis
    runs = [vector.pixels for vector in vectors if vector.name != axis]
    known = [run for run in runs if run is not None]
    if not known or len(known) < len(runs):
        return None
    return PixelRange(min(first for first, _ in known), max(stop for _, stop in known))


def raw_pixels(selection: Selection, vectors: Sequence[Vector]) -> PixelRange | None:
    """Return the pixels whose values travel raw, as the store does not hold some vector whole.

    None if its own frames serve, or if a cutout gives the pixels. A vector that the surveys of a
    selection hold in several types travels raw, in the type of ``vectors``.
    """
    mixed = not selection.is_of_one_survey and any(
        own.name == vector.name and np.dtype(own.dtype) != np.dtype(vector.dtype)
        for survey in selection.surveys
        for own in survey.record
        for vector in vectors
    )
    if not mixed and not any(vector.like for vector in vectors):
        return None
    windows = [survey.window for survey in selection.surveys]
    whole = PixelRange(
        min(window.first for window in windows), max(window.stop for window in windows)
    )
    return covered_pixels(selection, vectors) or whole


def wave_span(selection: Selection) -> tuple[float, float]:
    """Return the wavelengths, Å, of the first and last pixel of all spectra on the lattice."""
    ends: list[float] = []
    for part, _ in by_survey(selection):
        covered = part.span
        if covered.count:
            ends += part.grid.wave(covered.first, covered.count)[[0, -1]].tolist()
    return (min(ends), max(ends)) if ends else (0.0, 0.0)


def cut_pixels(
    selection: Selection,
    limits_aa: tuple[float, float] | None,
    vectors: Sequence[Vector] = (),
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return first pixel and count of each spectrum after a cutout, 1D[nspec] int each.

    Those of spectra off the lattice are unchanged.

    Parameters
    ----------
    vectors : those asked for; where all of them cover a part of the lattice only, so does the cut
    """
    first, count = selection.first, selection.count
    if limits_aa is not None:
        media = np.array(media_of(selection), object)
        for medium, limits in limits_by_medium(limits_aa, media).items():
            cut = _inside(selection, first, count, cutout(selection.grid, *limits))
            mine = media == medium
            first, count = np.where(mine, cut[0], first), np.where(mine, cut[1], count)
    covered = covered_pixels(selection, vectors)
    if covered is not None:
        first, count = _inside(selection, first, count, covered)
    return first, count


def cut_span(
    selection: Selection, first: npt.NDArray[np.int32], count: npt.NDArray[np.int32]
) -> PixelRange:
    """Return the lattice pixels that hold all runs of `cut_pixels`, 1D[nspec] int each."""
    return span(first[selection.on_lattice], count[selection.on_lattice])


def _inside(
    selection: Selection,
    first: npt.NDArray[np.int32],
    count: npt.NDArray[np.int32],
    pixels: PixelRange,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return first pixel and count inside a run of pixels, for spectra on the lattice."""
    on = selection.on_lattice
    begin = np.maximum(first, pixels.first)
    stop = np.minimum(first + count, pixels.stop)
    empty = stop <= begin
    begin = np.where(on, np.where(empty, pixels.first, begin), first)
    count = np.where(on, np.maximum(stop - begin, 0), count)
    count = np.where(on & empty, 0, count)
    return begin.astype(np.int32), count.astype(np.int32)
