"""Edges of pixels: half way to their neighbours, but for gaps in the wavelengths."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

GAP: Final = 1.5
"""A step of more than so many times the steps around it is a gap."""
_AROUND: Final = 5
"""Steps looked at on either side."""
_FEWEST: Final = 3
"""Steps that a side must have to be asked beside the other."""

Waves = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Edges:
    """Edges of the pixels of a spectrum, in ascending order; between two of them may be a gap."""

    wave: Waves
    """1D[m + 1], Å. Without a gap these are the npix + 1 edges of as many pixels."""
    place: Waves
    """1D[m + 1], pixels that lie below each edge. It stays the same over a gap."""

    @classmethod
    def without_gaps(cls, wave: Waves) -> "Edges":
        """Return pixels end to end, of their edges, 1D[npix + 1] Å."""
        return cls(wave, np.arange(len(wave), dtype=np.float64))

    @property
    def ends(self) -> Waves:
        """Lower edge of the first pixel and upper edge of the last, 1D[2], Å."""
        return self.wave[[0, -1]]

    @property
    def width(self) -> Waves:
        """Widths of the pixels, 1D[npix], Å."""
        return self._of_pixels(np.diff(self.wave))

    @property
    def lower(self) -> Waves:
        """Lower edge of each pixel, 1D[npix], Å."""
        return self._of_pixels(self.wave[:-1])

    @property
    def upper(self) -> Waves:
        """Upper edge of each pixel, 1D[npix], Å."""
        return self._of_pixels(self.wave[1:])

    def place_of(self, wave: Waves) -> tuple[npt.NDArray[np.intp], Waves]:
        """Return for each wavelength the number of pixels below it, and its part of the next pixel.

        A wavelength beyond an end counts as that end. The part, 0 … 1, depends only on the edges of
        its pixel: it is the same bit for bit if pixels before it are cut off.

        Parameters
        ----------
        wave : 1D[n] float64, Å

        Returns
        -------
        Two arrays: the number of pixels, 1D[n] int, and the part, 1D[n] float64.
        """
        last = len(self.wave) - 1
        at = np.clip(np.searchsorted(self.wave, wave, "right") - 1, 0, max(last - 1, 0))
        low, high = self.wave[at], self.wave[np.minimum(at + 1, last)]
        width = high - low
        part = np.divide(wave - low, width, out=np.zeros(len(at)), where=width > 0)
        part = np.clip(part, 0.0, 1.0)
        begin, stop = self.place[at], self.place[np.minimum(at + 1, last)]
        # In a gap and after the last pixel there is no next pixel.
        part[stop == begin] = 0.0
        full = part == 1.0
        part[full] = 0.0
        return np.where(full, stop, begin).astype(np.intp), part

    def runs(
        self, low: npt.NDArray[Any], high: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return which pixels each stretch from ``low`` to ``high`` overlaps, 1D[n] int each.

        They are ``begin … stop - 1``; in a gap both are the same.

        Parameters
        ----------
        low, high : 1D[n] float64, Å
        """
        last = len(self.wave) - 1
        begin = np.clip(np.searchsorted(self.wave, low, "right") - 1, 0, last)
        stop = np.clip(np.searchsorted(self.wave, high, "left"), 0, last)
        if self.place[-1] < last:
            begin, stop = self.place[begin].astype(np.intp), self.place[stop].astype(np.intp)
        return begin, stop

    def at_rest(self, stretch: float) -> "Edges":
        """Return the edges with all wavelengths divided by a factor."""
        return Edges(self.wave / stretch, self.place)

    def _of_pixels(self, values: Waves) -> Waves:
        """Return those values, 1D[m], that are of pixels and not of gaps."""
        return values if self.place[-1] == len(values) else values[np.diff(self.place) > 0]


def bits_set(mask: npt.NDArray[Any], bits: int) -> npt.NDArray[np.bool_]:
    """Return where a mask has some of these bits set.

    Parameters
    ----------
    mask : 1D[npix] or 2D[nspec, npix] integer or bool
    bits
        -1 means any bit.
    """
    # A Python number with the highest bit set does not fit the type of every mask.
    wanted = np.array(bits & (2**64 - 1), np.uint64).astype(mask.dtype)
    found: npt.NDArray[np.bool_] = (mask & wanted) != 0
    return found


def pixel_edges(wave: Waves) -> Edges:
    """Return the edges of pixels, half way between their centres.

    A pixel beside a gap (`find_gaps`) ends half a usual step of its other side from its centre.

    Parameters
    ----------
    wave : 1D[npix] float64, Å, ascending, two values or more
    """
    middle = (wave[1:] + wave[:-1]) / 2
    gaps, below, above = _gaps(np.diff(wave))
    if not len(gaps):
        ends = 2 * wave[0] - middle[0], 2 * wave[-1] - middle[-1]
        return Edges.without_gaps(np.concatenate([ends[:1], middle, ends[1:]]))
    # Where each pixel ends, and where the next one begins: the same but for gaps.
    upper, lower = middle.copy(), middle
    upper[gaps], lower[gaps] = wave[gaps] + below / 2, wave[gaps + 1] - above / 2
    ends = 2 * wave[0] - upper[0], 2 * wave[-1] - lower[-1]
    edges = np.concatenate([ends[:1], lower, ends[1:]])
    place = np.arange(len(edges), dtype=np.float64)
    # The upper edge of the pixel below a gap comes before the lower one of the pixel above it.
    return Edges(np.insert(edges, gaps + 1, upper[gaps]), np.insert(place, gaps + 1, gaps + 1.0))


def find_gaps(wave: Waves) -> npt.NDArray[np.intp]:
    """Return between which pixels there is a gap: behind those with these numbers, 1D[n].

    A step from one wavelength to the next is a gap where it is more than `GAP` times the steps
    before it, and more than `GAP` times those after it. Of the five steps on either side the second
    smallest counts, so that neither gaps near each other nor one odd step misleads; of three, the
    smallest. Where a side has fewer, at the ends of a spectrum, only the median of the other one
    counts. So one pixel that is missing makes a gap; steps that change slowly make none, nor does a
    change to wider ones, nor can a spectrum of two pixels have any.

    Parameters
    ----------
    wave : 1D[npix] float64, Å, ascending
    """
    return _gaps(np.diff(wave))[0]


def _gaps(steps: Waves) -> tuple[npt.NDArray[np.intp], Waves, Waves]:
    """Return which steps are gaps, and for each the usual step before and after it."""
    later, earlier = steps[1:], steps[:-1]
    # Almost all spectra: no step is much longer than one of its neighbours.
    if not ((later > GAP * earlier) | (earlier > GAP * later)).any():
        return np.zeros(0, np.intp), np.zeros(0), np.zeros(0)
    none = np.full(_AROUND, np.inf)
    padded = np.concatenate([none, steps, none])
    least = np.min([padded[at : at + len(steps)] for at in range(2 * _AROUND + 1)], axis=0)
    gaps = np.flatnonzero(steps > GAP * least)
    windows = np.lib.stride_tricks.sliding_window_view(padded, _AROUND)
    few_before, few_after = gaps < _FEWEST, len(steps) - 1 - gaps < _FEWEST
    before = _usual(windows[gaps], alone=few_after)
    after = _usual(windows[gaps + _AROUND + 1], alone=few_before)
    before = np.where((few_before & ~few_after) | np.isinf(before), after, before)
    after = np.where((few_after & ~few_before) | np.isinf(after), before, after)
    some = steps[gaps] > GAP * np.maximum(before, after)
    gaps, before, after = gaps[some], before[some], after[some]
    # The step beside a gap is the width of the pixel between, unless it is a gap, too.
    for usual, beside in ((before, gaps - 1), (after, gaps + 1)):
        known = (beside >= 0) & (beside < len(steps)) & ~np.isin(beside, gaps)
        usual[known] = steps[beside[known]]
    some = steps[gaps] > GAP * np.maximum(before, after)
    gaps, before, after = gaps[some], before[some], after[some]
    # Pixels on either side of a gap do not overlap.
    return gaps, np.minimum(before, steps[gaps]), np.minimum(after, steps[gaps])


def _usual(windows: Waves, *, alone: npt.NDArray[np.bool_]) -> Waves:
    """Return the usual one of the steps of each window, 2D[n, 5], infinite where there is none."""
    ordered = np.sort(windows, axis=1)
    count = np.isfinite(ordered).sum(axis=1)
    rank = np.maximum(count - 1, 0) // np.where(alone, 2, 3)
    usual: Waves = ordered[np.arange(len(ordered)), rank]
    return usual
