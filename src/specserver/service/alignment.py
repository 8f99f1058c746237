"""Spectra of one survey or several on one lattice: conditions for a shift, and resampling."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from astropy import units as u

from ..errors import BadParameter
from ..model.grid import PixelRange, cutout
from ..model.survey import Survey, Vector
from ..ops.media import Change, Limits, change_of
from ..ops.pixels import Edges
from ..ops.resampling import (
    VECTORS,
    Lattice,
    changed,
    covered,
    lattice_edges,
    leave_out,
    own_edges,
    resampled_record,
)
from .media import media_of, medium_together, require_one_medium
from .reading import batches, read_axes
from .records import read_records
from .selection import Selection, by_survey

Array = npt.NDArray[Any]
_BLOCK_PIXELS: Final = 2**21
"""Pixels of a block of resampled spectra, 25 MB: 128 spectra of 16,000."""
_ONE_UNIT: Final = (
    "fluxes in one array have one unit; fetch them with align=False, or those of each unit alone"
)


def require_alignable(selection: Selection) -> None:
    """Refuse spectra that a shift by whole pixels does not bring together.

    Raises
    ------
    MixedLattices
        They share no lattice.
    BadParameter
        Their media or the units of their fluxes differ.
    """
    selection.require_lattice()
    require_one_unit(selection, _ONE_UNIT, "align=False")
    require_one_medium(selection)


def require_one_unit(selection: Selection, allowed: str, *settings: str) -> None:
    """Refuse fluxes of different units.

    Parameters
    ----------
    allowed : values that would be accepted
    settings : the parameters that ``allowed`` names
    """
    units = [survey.flux_scale for survey in selection.surveys]
    if len(set(units)) == 1:
        return
    known = [u.Unit(unit) for unit in units if unit]
    if len(known) < len(units) or any(unit != known[0] for unit in known):
        pairs = zip(units, selection.contexts, strict=True)
        given = ", ".join(f"{unit or 'no unit'} in {context}" for unit, context in pairs)
        text = f"the fluxes are in {given}: {allowed}"
        raise BadParameter.saying(text, *settings)


@dataclass(frozen=True, slots=True)
class Resampling:
    """The layout of the spectra of a selection on the lattice of its first survey.

    Spectra that lie on that lattice already are shifted by whole pixels, every bit as it was; the
    others are resampled (`ops.resampling`).
    """

    selection: Selection
    lattice: Lattice
    medium: str
    """Medium of the lattice."""
    changes: Sequence[Change | None]
    """Conversion of the wavelengths of each spectrum into that medium; None: not needed."""

    @classmethod
    def of(
        cls,
        selection: Selection,
        values: Sequence[str] | None,
        limits_aa: Limits | None,
        medium: str | None,
    ) -> "Resampling":
        """Return how spectra are resampled, the wavelengths of those off the lattice being read.

        Parameters
        ----------
        values : fields of the result; None: axis, flux, ivar, and the masks that all have
        limits_aa : cutout, Å in the medium of the lattice
        medium : of the lattice; None: vacuum, if that of the spectra is known

        Raises
        ------
        BadParameter
            The medium of some is not known, units differ, or a value cannot be resampled.
        """
        require_one_unit(selection, _ONE_UNIT, "align=False")
        surveys, grid = selection.surveys, selection.survey.grid
        record = resampled_record([survey.record for survey in surveys], grid.axis, values)
        media = media_of(selection)
        target = medium_together(selection, media, medium)
        changes = [change_of(own, target) for own in media]
        cut = None if limits_aa is None else cutout(grid, *limits_aa)
        window = _window(selection, changes, cut)
        stated = all(any(vector.name == "ivar" for vector in survey.record) for survey in surveys)
        return cls(selection, Lattice(grid, window, record, not stated), target, changes)

    def read(self) -> Iterator[Array]:
        """Yield batches of spectra on the lattice, 2D[n, npix] structured."""
        selection, lattice = self.selection, self.lattice
        pixels = lattice_edges(lattice.grid, lattice.window)
        edges_of = _EdgesOf(selection)
        records = read_records(selection, self._needed, None)
        most = max(1, _BLOCK_PIXELS // max(lattice.window.count, 1))
        for take, some in zip(batches(selection), records, strict=True):
            batch = list(zip(take.tolist(), some, strict=True))
            for at in range(0, len(batch), most):
                yield self._laid(batch[at : at + most], edges_of, pixels)

    def _laid(self, batch: list[tuple[int, Array]], edges_of: "_EdgesOf", pixels: Array) -> Array:
        """Return some spectra, each with its number in the selection, on the lattice."""
        selection, lattice = self.selection, self.lattice
        block = lattice.empty(len(batch))
        for row, (member, record) in zip(block, batch, strict=True):
            change, on = self.changes[member], selection.on_lattice[member]
            survey = selection.survey_of(member)
            if mask := self._unmarked(survey):
                leave_out(record, (record[mask] & survey.bad_bits) != 0)
            if on and change is None and survey.grid == lattice.grid:
                lattice.lay(row, int(selection.first[member]), record)
            elif len(record):
                edges = changed(edges_of(member, record), change)
                lattice.resample(row, record, edges, pixels)
        return block

    def _needed(self, survey: Survey) -> list[Vector]:
        """Return the vectors to read from spectra of a survey."""
        names = {*self.lattice.moved, *VECTORS, survey.grid.axis, self._unmarked(survey)}
        return [vector for vector in survey.record if vector.name in names]

    def _unmarked(self, survey: Survey) -> str:
        """Return the mask of a survey if bad pixels that it marks are not marked in the result."""
        _, marked = self.selection.bad_pixels
        return survey.mask_vector if survey.bad_bits and not marked else ""


class _EdgesOf:
    """Edges of the pixels of spectra; those of a lattice are computed once."""

    def __init__(self, selection: Selection) -> None:
        self._selection = selection
        self._lattices: dict[tuple[str, str], tuple[PixelRange, Array]] = {}
        for part, _ in by_survey(selection):
            span = part.span
            self._lattices[part.survey.kind] = span, lattice_edges(part.survey.grid, span)

    def __call__(self, member: int, record: Array) -> Edges:
        """Return the edges of the pixels of a spectrum, Å in its own medium."""
        survey = self._selection.survey_of(member)
        if not self._selection.on_lattice[member]:
            return own_edges(survey.grid.wave_of(record[survey.grid.axis]))
        span, edges = self._lattices[survey.kind]
        begin = int(self._selection.first[member]) - span.first
        return Edges.without_gaps(edges[begin : begin + len(record) + 1])


def _window(
    selection: Selection, changes: Sequence[Change | None], cut: PixelRange | None
) -> PixelRange:
    """Return the pixels of the first survey's lattice that hold all spectra, changed or not.

    If there is a cut, the pixels that hold the parts of the spectra inside it.
    """
    grid = selection.survey.grid
    runs: list[PixelRange] = []
    for part, places in by_survey(selection):
        own, mine = part.span, {changes[place] for place in places.tolist()}
        if own.count and part.survey.grid == grid and None in mine:
            runs.append(own)
        if own.count and (part.survey.grid != grid or any(mine)):
            ends = lattice_edges(part.survey.grid, own)[[0, -1]]
            runs += [covered(grid, ends if change is None else change(ends)) for change in mine]
    apart = np.flatnonzero(~selection.on_lattice & (selection.count > 0))
    for place, wave in read_axes(selection, apart):
        runs.append(covered(grid, changed(own_edges(wave), changes[apart[place]]).ends))
    if cut is not None:
        runs = [inside for run in runs if (inside := run.common(cut)).count]
    if not runs:
        return PixelRange(0, 0)
    return PixelRange(min(run.first for run in runs), max(run.stop for run in runs))
