"""The spectra of a composite, laid on its lattice."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import UnknownField, naming
from ...model.grid import Grid, PixelRange, span
from ...model.survey import Survey
from ...ops.media import assumed, change_of
from ...ops.pixels import Edges, pixel_edges
from ...ops.rebin import Rebinned, mark_good, rebin_rows, shift_rows
from ...ops.resampling import changed
from ..media import media_of, medium_together
from ..reading import read_axes
from ..selection import Selection, part_of
from .batches import ReadPlan, ShiftedBatch, plan_reads

LOG_STEP: Final = 1e-4
"""Step of log10 wavelength at rest for surveys on a linear lattice: 69 km/s."""
_BATCH_PIXELS: Final = 2**21
"""Pixels of a batch on the lattice of the composite: 128 spectra of 16,000."""

Array = npt.NDArray[Any]


class Placing:
    """Lays spectra of a selection on the lattice of a composite.

    Parameters
    ----------
    members : 1D[n] int, which of the selection
    grid : the lattice of the composite
    redshift : 1D[nspec] float64, above -1 for all members
    moved : whether the spectra are moved to rest
    assume : medium of spectra whose medium is not known; None: they are not combined with others

    Raises
    ------
    BadParameter
        The medium of some is not known.
    """

    def __init__(
        self,
        selection: Selection,
        members: npt.NDArray[np.int64],
        grid: Grid,
        redshift: npt.NDArray[np.float64],
        *,
        moved: bool,
        assume: str | None = None,
    ) -> None:
        self._selection, self._grid = selection, grid
        self._stretch = 1.0 + redshift if moved else np.ones(selection.nspec)
        counting = part_of(selection, members)
        records = [{vector.name: vector for vector in own.record} for own in counting.surveys]
        for context, vectors in zip(counting.contexts, records, strict=True):
            if "flux" not in vectors:
                with naming([context]):
                    raise UnknownField("flux", list(vectors))
        self.weighted = all("ivar" in vectors for vectors in records)
        """Whether all state uncertainties; otherwise all good pixels have the same weight."""
        names = ["flux", "ivar"] if self.weighted else ["flux"]
        kinds = [np.dtype(vectors[name].dtype) for vectors in records for name in names]
        self.dtype: np.dtype[Any] = np.result_type(*kinds, np.float32)
        """Type of flux and ivar on the lattice."""
        media = assumed(media_of(selection), assume)
        chosen = [media[member] for member in members.tolist()]
        self.medium: str = medium_together(selection, chosen, None, members)
        """Medium of the composite's wavelengths."""
        self._changes = [change_of(medium, self.medium) for medium in media]
        same = np.array([survey.grid == grid for survey in selection.surveys])
        self._shifted = (
            selection.on_lattice & same[selection.context_index] & (not any(self._changes))
        )
        self._part = np.zeros(selection.nspec)
        self._whole = np.zeros(selection.nspec, np.int64)
        mine = members[self._shifted[members]]
        # No composite at rest is on a linear lattice.
        shift = np.log10(self._stretch[mine]) / grid.step
        self._whole[mine] = np.floor(shift).astype(np.int64)
        self._part[mine] = shift - np.floor(shift)
        self._begin, self._stop = np.zeros((2, selection.nspec), np.int64)
        there = selection.count[members] > np.where(self._shifted[members], 0, 1)
        self.absent = members[~there]
        """Members without pixels."""
        self.members = members[there]
        """Members with pixels."""
        self._measure()
        begin, stop = self.extents(self.members)
        self.span: PixelRange = span(begin, stop - begin)
        """Lattice pixels that hold all members."""

    def extents(
        self, members: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return the first pixel of some members, and the one after the last, 1D[n] int each.

        Parameters
        ----------
        members : 1D[n] int, which of the selection
        """
        return self._begin[members], self._stop[members]

    def vectors(self, survey: Survey) -> list[str]:
        """Return the vectors that are read of a survey's spectra, its axis left out."""
        mask = survey.mask_vector if survey.bad_bits else ""
        return [vector.name for vector in survey.record if vector.name in {"flux", "ivar", mask}]

    def plan(self) -> ReadPlan:
        """Return how the members are read."""
        begin, stop = self.extents(self.members)
        most = max(1, _BATCH_PIXELS // int((stop - begin).max(initial=1)))
        return plan_reads(self._selection, self.members, self._whole, self._begin, most)

    def place(self, batch: ShiftedBatch) -> Rebinned:
        """Lay a batch on the lattice; this may overwrite the values of the batch."""
        members = batch.members
        first = self._selection.first[members] - self._whole[members]
        # Columns that some spectrum has, and on either side one that is no pixel.
        low = int(first.min()) - batch.left - 1
        high = int((first + self._selection.count[members]).max()) - batch.left + 1
        flux = batch.values["flux"][:, low:high]
        if "ivar" in batch.values:
            ivar = batch.values["ivar"][:, low:high]
        else:
            ivar = _ones_within(flux, first - batch.left - low, self._selection.count[members])
        good = mark_good(flux, ivar)
        if not self.weighted:
            ivar[:] = 1
        survey = self._selection.survey_of(int(members[0]))
        if survey.bad_bits:
            flags = batch.values[survey.mask_vector][:, low:high]
            good &= (flags & survey.bad_bits) == 0
        good[:, 0] = good[:, -1] = False
        if self._shifted[members[0]]:
            if flux.dtype != self.dtype or ivar.dtype != self.dtype:
                flux, ivar = flux.astype(self.dtype), ivar.astype(self.dtype)
            # The part of a pixel goes one pixel further down than the whole ones.
            return shift_rows(flux, ivar, good, batch.left + low, self._part[members])
        spectra = zip(flux[:, 1:-1], ivar[:, 1:-1], good[:, 1:-1], strict=True)
        edges = self._edges(batch, batch.left + low + 1, high - low - 2)
        lines = (
            (f[:npix], i[:npix], g[:npix], e)
            for (f, i, g), (npix, e) in zip(spectra, edges, strict=True)
        )
        begin, stop = self.extents(members)
        reached = span(begin, stop - begin)
        wanted = _lattice_edges(self._grid, reached.first, reached.count)
        rows = rebin_rows(lines, wanted, self.dtype)
        rows.left += reached.first
        return rows

    def _edges(self, batch: ShiftedBatch, first: int, npix: int) -> Iterator[tuple[int, Edges]]:
        """Yield of each spectrum how many pixels it has, and their edges in the composite's frame.

        On the lattice these are ``npix`` from pixel ``first`` on.
        """
        stretch = self._stretch[batch.members]
        if batch.segment.on_lattice:
            grid = batch.segment.grid
            edges = Edges.without_gaps(_lattice_edges(grid, first, npix))
            for member, factor in zip(batch.members.tolist(), stretch.tolist(), strict=True):
                yield npix, changed(edges, self._changes[member]).at_rest(factor)
            return
        axes = batch.values[batch.segment.grid.axis][:, 1:-1]
        counts = self._selection.count[batch.members].tolist()
        lines = zip(batch.members.tolist(), axes, counts, stretch.tolist(), strict=True)
        for member, axis, count, factor in lines:
            edges = pixel_edges(batch.segment.grid.wave_of(axis[:count]))
            yield count, changed(edges, self._changes[member]).at_rest(factor)

    def _measure(self) -> None:
        """Find the pixels that each member reaches."""
        members, chosen = self.members, self._selection
        moved = members[self._shifted[members]]
        begin = chosen.first[moved] - self._whole[moved]
        self._begin[moved] = begin - (self._part[moved] > 0)
        self._stop[moved] = begin + chosen.count[moved]
        others = members[~self._shifted[members]]
        ends = np.zeros((2, len(others)))
        on = chosen.on_lattice[others]
        for number, survey in enumerate(chosen.surveys):
            mine = on & (chosen.context_index[others] == number)
            first = chosen.first[others[mine]]
            ends[0, mine] = survey.grid.wave_at(first - 0.5)
            ends[1, mine] = survey.grid.wave_at(first + chosen.count[others[mine]] - 0.5)
        ends[:, ~on] = self._own_ends(others[~on])
        for index, member in enumerate(others.tolist()):
            change = self._changes[member]
            if change is not None:
                ends[:, index] = change(ends[:, index])
        place = self._grid.pixel_at(ends / self._stretch[others])
        self._begin[others] = np.floor(place[0] + 0.5).astype(np.int64)
        self._stop[others] = np.ceil(place[1] + 0.5).astype(np.int64)

    def _own_ends(self, members: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Read the axes of members off the lattice; return first and last edge, 2D[2, n], Å."""
        ends = np.zeros((2, len(members)))
        for place, wave in read_axes(self._selection, members):
            ends[:, place] = pixel_edges(wave).ends
        return ends


def _ones_within(
    flux: Array, begin: npt.NDArray[np.integer], count: npt.NDArray[np.integer]
) -> Array:
    """Return weights of 1 for the pixels that each spectrum has, 2D as flux, else 0."""
    column = np.arange(flux.shape[1])
    inside = (column >= begin[:, None]) & (column < (begin + count)[:, None])
    return inside.astype(flux.dtype)


def _lattice_edges(grid: Grid, first: int, count: int) -> npt.NDArray[np.float64]:
    """Return the edges of lattice pixels, 1D[count + 1] float64, Å."""
    return grid.wave_at(np.arange(first, first + count + 1, dtype=np.float64) - 0.5)
