"""Composite spectra: any number of spectra read batch by batch, laid on one lattice, combined.

Means are sums, so that memory does not grow with the number of spectra. A median, and clipping, go
by way of a file (`scratch`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter
from ...model.grid import Grid, Linear, LogLinear, PixelRange, cutout
from ...ops.composite import Stacked, StackRequest, Sums, normalise
from ...ops.medians import Clip, combine_values
from ...wire.columns import REDSHIFT
from ..alignment import require_one_unit
from ..columns import read_columns
from ..limits import check_pixels
from ..selection import Selection, part_of, require_some
from .batches import read_shifted
from .rebinning import LOG_STEP, Placing
from .scratch import ScratchFile, StackLimits

FURTHEST: Final = 1100.0
"""Redshift of the cosmic background: there is no spectrum of what lies beyond."""
_ONE_UNIT: Final = "fluxes of one unit, or norm= which divides each spectrum by its level"
_MOST_NAMED: Final = 1000
"""Spectra left out that are named for each reason; all are counted."""

LeftOut: TypeAlias = dict[str, npt.NDArray[np.int64]]
"""Reason → 1D[n], which of the selection are left out."""
NO_REDSHIFT: Final = "no redshift"
NO_LEVEL: Final = "no flux to normalise by"
NO_PIXEL: Final = "no good pixel"


@dataclass(frozen=True, slots=True)
class Composite:
    """The result."""

    wave: npt.NDArray[np.float64]
    """1D[npix], vacuum Å of the frame."""
    stacked: Stacked
    nspec: int
    """Spectra that count."""
    unit: str
    """Unit of flux, as astropy reads it; empty where the spectra were normalised."""
    skipped: dict[str, tuple[int, list[str]]]
    """Spectra left out, by reason: their number, and the first thousand identifiers, as text;
    with their contexts if several are asked for."""


class Stacking:
    """Makes a composite: iterate over it, then take the result.

    Parameters
    ----------
    selection : the spectra to combine
    asked : how
    limits : of its pixels, and of the use of the disk
    go_on : called before each batch, raises if the caller has disconnected

    Raises
    ------
    BadParameter
        Redshifts that are not one for each spectrum, or limits without a pixel.
    NotFound
        There is no spectrum.
    TooMuch
        It has more pixels, or needs more of the disk, than it may.
    """

    def __init__(
        self,
        selection: Selection,
        asked: StackRequest,
        limits: StackLimits,
        go_on: Callable[[], None] = lambda: None,
    ) -> None:
        require_some(selection)
        self._selection, self._asked, self._go_on = selection, asked, go_on
        self.nspec = selection.nspec
        """Number of spectra to read."""
        self._left_out: dict[str, list[npt.NDArray[np.int64]]] = {}
        members = np.arange(selection.nspec)
        redshift = np.zeros(selection.nspec)
        if asked.frame == "rest":
            redshift = _redshifts(selection, asked.z)
            known = (redshift > -1) & (redshift <= FURTHEST)
            self._leave_out(NO_REDSHIFT, members[~known])
            members = members[known]
            if not len(members):
                raise self._nothing()
        counting = part_of(selection, members)
        grid = target_grid(counting.survey.grid, asked)
        self._unit = "" if asked.norm is not None else counting.survey.flux_scale
        if asked.norm is None:
            require_one_unit(counting, _ONE_UNIT, "norm=")
        placing = Placing(
            selection, members, grid, redshift,
            moved=asked.frame == "rest", assume=asked.assume_medium,
        )  # fmt: skip
        self._leave_out(NO_PIXEL, placing.absent)
        self._placing = placing
        self.medium = placing.medium
        """Medium of the composite's wavelengths: vacuum, or unknown where none is known."""
        self.weighted = placing.weighted
        """Whether the spectra have uncertainties; else all good pixels have the same weight."""
        # Spectra without uncertainties have no weights.
        is_plain = asked.method == "ivar" and not self.weighted
        self._method = "mean" if is_plain else asked.method
        self._plan = placing.plan()
        self._grid = grid
        self._norm = None if asked.norm is None else pixels_between("norm", grid, asked.norm)
        self._wanted = None if asked.wave is None else pixels_between("wave", grid, asked.wave)
        self._made = self._reached(limits)
        self._used = 0
        self._done = selection.nspec - len(self._plan.members)
        self._stacked: Stacked | None = None
        self._scratch = self._open_scratch(limits) if asked.spools else None

    def __iter__(self) -> Iterator[int]:
        """Yield how many spectra are done, batch after batch."""
        if self._scratch is not None:
            with self._scratch as scratch:
                yield from self._fill(scratch)
                yield from self._combine(scratch)
            return
        sums = self._new_sums()
        yield from self._fill(sums)
        self._stacked = sums.result()

    def _new_sums(self) -> Sums:
        return Sums(self._made.first, self._made.count, weighted=self._method == "ivar")

    def sum_up(self) -> tuple[Sums, int, LeftOut]:
        """Return the sums of all spectra, how many count, and by reason which do not, 1D[n] each.

        It is for a part of a composite, instead of the iteration.
        """
        sums = self._new_sums()
        for _ in self._fill(sums):
            pass
        joined = {reason: np.sort(np.concatenate(runs)) for reason, runs in self._left_out.items()}
        return sums, self._used, joined

    @property
    def reached(self) -> PixelRange:
        """Lattice pixels that hold all spectra."""
        return self._placing.span

    @property
    def npix(self) -> int:
        """Pixels of the composite, at most."""
        return (self._wanted or self._placing.span).count

    @property
    def result(self) -> Composite:
        """The composite, after the iteration has ended; raises if no spectrum counts in it."""
        if self._stacked is None:
            raise RuntimeError("the spectra have not been gone through yet")
        if not self._used:
            raise self._nothing()
        span = self._placing.span
        wanted, stacked = over_wanted(
            self._stacked, self._made.first, self._wanted, self._grid, self._asked, span
        )
        skipped = {}
        for reason, runs in self._left_out.items():
            which = np.sort(np.concatenate(runs))
            skipped[reason] = len(which), self._selection.texts(which[:_MOST_NAMED])
        wave = self._grid.wave(wanted.first, wanted.count)
        if not self.weighted:
            stacked = replace(stacked, error=np.full(wanted.count, np.nan))
        return Composite(wave, stacked, self._used, self._unit, skipped)

    def _fill(self, sink: Sums | ScratchFile) -> Iterator[int]:
        """Read all spectra, lay them on the lattice, normalise them, and hand them on."""
        names = self._placing.vectors
        for batch in read_shifted(self._selection, self._plan, names):
            members, rows = batch.members, self._placing.place(batch)
            kept: npt.NDArray[np.bool_] = np.any(rows.used, axis=1)
            self._leave_out(NO_PIXEL, members[~kept])
            if self._norm is not None:
                median = self._asked.method == "median"
                level = normalise(rows, self._norm.first, self._norm.stop, median=median)
                self._leave_out(NO_LEVEL, members[kept & ~level])
                kept &= level
                rows.leave_out(~kept)
            if isinstance(sink, Sums):
                sink.add(rows)
            else:
                sink.write(rows)
            self._used += int(kept.sum())
            self._done += len(kept)
            yield self._done
            self._go_on()

    def _combine(self, scratch: ScratchFile) -> Iterator[int]:
        """Combine the values of each pixel, tile by tile."""
        asked = self._asked
        clip = None if asked.sigma_clip is None else Clip(asked.sigma_clip, asked.maxiters)
        nothing = np.empty(0)
        parts = [Stacked(nothing, nothing, nothing, np.empty(0, np.int64))]
        for flux, var in scratch.read():
            parts.append(combine_values(flux, var, self._method, clip))
            yield self._done
            self._go_on()
        columns = ([getattr(part, name) for part in parts] for name in Stacked.__slots__)
        self._stacked = Stacked(*map(np.concatenate, columns))

    def _reached(self, limits: StackLimits) -> PixelRange:
        """Return the pixels wanted that some spectrum reaches; refuse too many."""
        check_pixels(self.npix, limits.max_pixels, "a larger step= or nearer limits wave=")
        span, wanted = self._placing.span, self._wanted
        return span if wanted is None else span.common(wanted)

    def _open_scratch(self, limits: StackLimits) -> ScratchFile:
        """Return the file for all values that are wanted."""
        left, stop = self._placing.extents(self._plan.members)
        return ScratchFile(left, stop, self._made, self._placing.dtype, limits)

    def _nothing(self) -> BadParameter:
        """Return the error for a request that leaves no spectrum."""
        counts = {reason: sum(map(len, runs)) for reason, runs in self._left_out.items()}
        return nothing_left(self._asked, self.nspec, counts)

    def _leave_out(self, reason: str, which: npt.NDArray[np.int64]) -> None:
        if len(which):
            self._left_out.setdefault(reason, []).append(which)


def nothing_left(asked: StackRequest, nspec: int, counts: Mapping[str, int]) -> BadParameter:
    """Return the error for a request that leaves no spectrum: the reason, and the fix.

    Parameters
    ----------
    nspec : spectra that were asked for
    counts : spectra left out by reason
    """
    what, given, fix = {
        NO_REDSHIFT: (
            "frame",
            asked.frame,
            "frame='observed' (--frame observed) combines them as they are, z= gives redshifts",
        ),
        NO_LEVEL: (
            "norm",
            asked.norm,
            "take wavelengths of the frame that they cover and where flux is positive, or none",
        ),
        NO_PIXEL: ("ids", f"{nspec:,} spectra", "take spectra that have good pixels"),
    }[max(counts, key=counts.__getitem__)]
    why = ", ".join(f"{count:,} with {reason}" for reason, count in counts.items())
    return BadParameter(what, given, f"no spectrum is left to combine, {why}: {fix}")


def over_wanted(
    stacked: Stacked,
    first: int,
    wanted: PixelRange | None,
    grid: Grid,
    asked: StackRequest,
    reached: PixelRange,
) -> tuple[PixelRange, Stacked]:
    """Return the pixels of a composite and its values there: those wanted, else those with values.

    Parameters
    ----------
    first : lattice pixel of its first value
    wanted : pixels that were asked for; None: no limits were
    reached : pixels that some spectrum reaches

    Raises
    ------
    BadParameter
        No spectrum has a good pixel where it was asked for.
    """
    if wanted is None:
        some = first + np.flatnonzero(stacked.count)
        lit = PixelRange(int(some[0]), int(some[-1]) + 1) if len(some) else PixelRange(0, 0)
        return lit, _over(stacked, first, lit)
    stacked = _over(stacked, first, wanted)
    if not stacked.count.any():
        ends = grid.wave_at(np.array([reached.first, reached.stop - 1], np.float64))
        raise BadParameter(
            "wave",
            asked.wave,
            "no spectrum has a good pixel there; together they reach from"
            f" {ends[0]:.0f} to {ends[1]:.0f} Å of the {asked.frame} frame",
        )
    return wanted, stacked


def target_grid(grid: Grid, asked: StackRequest) -> Grid:
    """Return the lattice of the composite."""
    if asked.step is not None:
        return LogLinear(asked.step)
    if asked.frame == "rest" and isinstance(grid, Linear):
        return LogLinear(LOG_STEP)
    return grid


def pixels_between(name: str, grid: Grid, limits_aa: tuple[float, float]) -> PixelRange:
    """Return the pixels whose centres lie between two wavelengths, at least one."""
    pixels = cutout(grid, *limits_aa)
    if not pixels.count:
        raise BadParameter(name, tuple(limits_aa), "there is no pixel between these wavelengths")
    return pixels


def _redshifts(selection: Selection, given: Sequence[float | None] | None) -> Any:
    """Return the redshift of each spectrum, 1D[nspec] float64; NaN where it is not known."""
    if given is None:
        table = read_columns(selection, [REDSHIFT], np.arange(selection.nspec))
        column = table.column(0).combine_chunks().cast("float64").fill_null(np.nan)
        return column.to_numpy(zero_copy_only=False)
    values = np.array([np.nan if z is None else z for z in given], np.float64)
    if selection.sound is not None and len(values) == len(selection.sound):
        # The caller did not know which are damaged.
        values = values[selection.sound]
    if len(values) not in {1, selection.nspec}:
        allowed = f"one redshift, or one for each of the {selection.nspec:,} spectra found"
        raise BadParameter("z", f"{len(values):,} redshifts", allowed)
    if len(absurd := values[values > FURTHEST]):
        allowed = f"redshifts up to {FURTHEST:,.0f}; null or NaN where none is known"
        raise BadParameter("z", f"{absurd[0]:g}", allowed)
    return np.broadcast_to(values, (selection.nspec,))


def _over(stacked: Stacked, first: int, wanted: PixelRange) -> Stacked:
    """Return a composite, which begins at a pixel, over all the pixels that are wanted."""
    common = PixelRange(first, first + len(stacked.count)).common(wanted)
    columns = []
    for name in Stacked.__slots__:
        values = getattr(stacked, name)
        out = np.full(wanted.count, 0 if name == "count" else np.nan, values.dtype)
        out[common.first - wanted.first : common.stop - wanted.first] = values[
            common.first - first : common.stop - first
        ]
        columns.append(out)
    return Stacked(*columns)
