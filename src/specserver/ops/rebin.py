"""Spectra → rows on the lattice of a composite: moved by pixels, or rebinned by overlap.

One rule for both. An output pixel is the mean of the good input pixels that it overlaps, weighted
by the width of the overlap; its variance is that of this mean, so by the squares of the weights.
Where good pixels cover less than half of it, it holds nothing. Flux density stays as observed.
Where wavelengths have a gap (`pixels.find_gaps`) there is no pixel.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .pixels import Edges

_LEAST_GOOD: Final = 0.5
# Rounding error, in float64, of a cover of exactly a half.
_ROUNDING: Final = 1e-9
_ROWS: Final = 16
"""Spectra worked on at a time, so that intermediate values stay in the processor's cache."""

Array = npt.NDArray[Any]


@dataclass(slots=True)
class Rebinned:
    """Some spectra on the same pixels of a lattice."""

    flux: Array
    """2D[n, npix] float, zero where a pixel holds nothing."""
    var: Array
    """2D[n, npix] float, flux**2; zero where a pixel holds nothing."""
    used: npt.NDArray[np.bool_]
    """2D[n, npix], whether a pixel holds something."""
    left: int
    """Lattice pixel of column 0."""

    def leave_out(self, which: npt.NDArray[np.bool_]) -> None:
        """Let some of the spectra, 1D[n], hold nothing."""
        if which.any():
            self.used[which] = False
            self.flux[which] = self.var[which] = 0


def shift_rows(
    flux: Array, ivar: Array, good: npt.NDArray[np.bool_], left: int, part: Array
) -> Rebinned:
    """Move spectra on a lattice towards smaller pixels, each by a part of one.

    The part ``f`` of a pixel goes to the lower one of two neighbours, ``1 - f`` to the other.
    Where it is 0 every value stays as it was.

    Parameters
    ----------
    flux, ivar : 2D[n, npix] float, any unit, flux**-2
        Given up: they are worked on in place. First and last column are no pixels.
    good : 2D[n, npix] bool
        Which pixels count; False in the first and last column.
    left : lattice pixel of column 0
    part : 1D[n] float, 0 … 1
    """
    used = np.empty((len(flux), flux.shape[1] - 1), np.bool_)
    for at in range(0, len(flux), _ROWS):
        some = slice(at, at + _ROWS)
        _shift(flux[some], ivar[some], good[some], part[some], used[some])
    return Rebinned(flux[:, :-1], ivar[:, :-1], used, left)


def _shift(
    flux: Array, ivar: Array, good: npt.NDArray[np.bool_], part: Array, used: npt.NDArray[np.bool_]
) -> None:
    """Do the work of `shift_rows` in place; ``ivar`` becomes the variance."""
    lower, upper = good[:, :-1], good[:, 1:]
    # Reciprocals of zero, and values made from them, are overwritten below.
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        var = np.divide(1, ivar, out=ivar)
        if part.any():
            column = part.astype(flux.dtype)[:, None]
            # An output pixel is made of an input pixel, which covers 1 - part of it, and of the
            # next one. Where one of them is bad the other counts alone, if it covers enough.
            used[:] = lower
            most, half = 1 - part < _LEAST_GOOD, part == _LEAST_GOOD
            used[most] = upper[most]
            used[half] |= upper[half]
            row, alone = np.divmod(np.flatnonzero((lower ^ upper) & used), used.shape[1])
            source = row, alone + upper[row, alone]
            values = flux[source], var[source]
            _mix(flux, column, 1 - column)
            _mix(var, column**2, (1 - column) ** 2)
            flux[row, alone], var[row, alone] = values
        else:
            used[:] = lower
    empty = ~used
    for array in (flux, var):
        np.copyto(array[:, :-1], 0, where=empty)


def _mix(values: Array, upper: Array, lower: Array) -> None:
    """Replace each column but the last by a sum of itself and the next one, in place."""
    beside = values[:, 1:] * upper
    here = values[:, :-1]
    here *= lower
    here += beside


def mark_good(flux: Array, ivar: Array) -> npt.NDArray[np.bool_]:
    """Return which pixels are good: finite ones with ``ivar`` above zero.

    Parameters
    ----------
    flux, ivar : 2D[n, npix] float, any unit, flux**-2

    Returns
    -------
    2D[n, npix] bool
    """
    good = np.empty(flux.shape, np.bool_)
    for at in range(0, len(flux), _ROWS):
        some = slice(at, at + _ROWS)
        here = np.greater(ivar[some], 0, out=good[some])
        here &= np.isfinite(ivar[some])
        here &= np.isfinite(flux[some])
    return good


def rebin_rows(
    spectra: Iterable[tuple[Array, Array, npt.NDArray[np.bool_], Edges]],
    wanted: npt.NDArray[np.float64],
    dtype: npt.DTypeLike,
) -> Rebinned:
    """Rebin spectra of any wavelengths onto one lattice.

    Parameters
    ----------
    spectra : of each flux and ivar, 1D[npix] float, good, 1D[npix] bool, and the edges of its
        pixels
    wanted : 1D[m + 1] float64, Å, ascending
        Edges of the lattice's pixels, those from pixel 0 on.
    """
    made: list[tuple[int, Array, Array]] = []
    for flux, ivar, good, edges in spectra:
        low, high = np.searchsorted(wanted, edges.ends)
        low, high = max(int(low) - 1, 0), min(int(high), len(wanted) - 1)
        made.append((low, *rebin(flux, ivar, good, edges, wanted[low : high + 1])))
    left = min((low for low, _, _ in made), default=0)
    stop = max((low + len(flux) for low, flux, _ in made), default=left)
    out = np.zeros((2, len(made), stop - left), dtype)
    for index, (low, flux, var) in enumerate(made):
        here = slice(low - left, low - left + len(flux))
        out[0, index, here], out[1, index, here] = flux, var
    return Rebinned(out[0], out[1], out[1] > 0, left)


def rebin(
    flux: Array,
    ivar: Array,
    good: npt.NDArray[np.bool_],
    edges: Edges,
    wanted: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Rebin one spectrum; return flux and variance, zero where a pixel holds nothing.

    Parameters
    ----------
    flux, ivar : 1D[npix] float, any unit, flux**-2
    good : 1D[npix] bool, which pixels count
    edges : edges of its pixels
    wanted : 1D[m + 1] float64, Å, ascending, edges of the output pixels

    Returns
    -------
    1D[m] float64, 1D[m] float64
    """
    npix, wide = len(flux), len(wanted) - 1
    if not npix or wide < 1:
        return np.zeros(max(wide, 0)), np.zeros(max(wide, 0))
    width = np.where(good, edges.width, 0.0)
    values = np.zeros((3, npix + 2))
    values[0, :npix] = width
    np.multiply(flux, width, out=values[1, :npix], where=good)
    np.divide(width * width, ivar, out=values[2, :npix], where=good)
    at, part = edges.place_of(wanted)
    begin, stop = at[:-1], at[1:]
    inner = np.stack([np.minimum(begin + 1, stop), stop], axis=1).ravel()
    # Between equal bounds reduceat returns the value there instead of an empty sum.
    whole = np.add.reduceat(values, inner, axis=1)[:, ::2]
    whole[:, begin + 1 >= stop] = 0.0
    lower = np.where(begin == stop, part[1:] - part[:-1], 1.0 - part[:-1])
    upper = np.where(begin == stop, 0.0, part[1:])
    cover, total = whole[:2] + lower * values[:2, begin] + upper * values[:2, stop]
    spread = whole[2] + lower**2 * values[2, begin] + upper**2 * values[2, stop]
    usable = cover >= (_LEAST_GOOD - _ROUNDING) * np.diff(wanted)
    out = np.zeros((2, wide))
    np.divide(total, cover, out=out[0], where=usable)
    np.divide(spread, cover**2, out=out[1], where=usable)
    return out[0], out[1]
