"""Many spectra on one lattice → one: sums over spectra, a pixel of the composite each.

Both errors are standard deviations of the composite:

* by variance: propagated from the variances of the pixels that it is made of;
* by bootstrap: from the scatter of the spectra, as resampling them with replacement gives it. It is
  computed without random numbers: for a mean of ``x`` with weights ``w`` around ``m`` the variance
  over infinitely many replicas is ``sum(w**2 (x - m)**2) / sum(w)**2``, exactly if all weights are
  equal, else to first order; `medians` does likewise. It is NaN below two spectra.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter
from .media import read_medium
from .rebin import Rebinned

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class StackRequest:
    """Parameters of a composite."""

    frame: str = "rest"
    method: str = "mean"
    norm: tuple[float, float] | None = None
    """Å of the frame: each spectrum is divided by its level there."""
    sigma_clip: float | None = None
    maxiters: int = 3
    wave: tuple[float, float] | None = None
    """Å of the frame: the pixels wanted; None: all that a spectrum reaches."""
    step: float | None = None
    """Step of log10 wavelength; None: the survey's lattice, or 1e-4 where that is impossible."""
    z: Sequence[float | None] | None = None
    """One for each spectrum, or one for all; None: the catalogue's."""
    assume_medium: str | None = None
    """Medium of the wavelengths of spectra whose medium is not known."""

    def __post_init__(self) -> None:
        read_medium("assume_medium", self.assume_medium)
        if self.frame not in {"rest", "observed"}:
            raise BadParameter("frame", self.frame, "'rest' or 'observed'")
        if self.method not in {"mean", "median", "ivar"}:
            raise BadParameter("method", self.method, "'mean', 'median' or 'ivar'")
        if self.sigma_clip is not None and not 0 < self.sigma_clip < np.inf:
            allowed = "a number above 0, such as 3; None for none"
            raise BadParameter("sigma_clip", self.sigma_clip, allowed)
        if not 1 <= self.maxiters <= 100:
            raise BadParameter("maxiters", self.maxiters, "1 to 100")
        if self.step is not None and not 1e-6 <= self.step <= 0.1:
            raise BadParameter("step", self.step, "a step of log10 wavelength, 1e-6 to 0.1")
        for name, limits in (("norm", self.norm), ("wave", self.wave)):
            if limits is not None and not 0 < limits[0] < limits[1] < np.inf:
                allowed = "two vacuum wavelengths in Å, the smaller first"
                raise BadParameter(name, tuple(limits), allowed)

    @property
    def spools(self) -> bool:
        """Whether all values of a pixel are needed at a time."""
        return self.method == "median" or self.sigma_clip is not None


@dataclass(frozen=True, slots=True)
class Stacked:
    """A composite; 1D[npix] each, NaN where no spectrum counts."""

    flux: npt.NDArray[np.float64]
    error: npt.NDArray[np.float64]
    """Error by variance, unit of flux."""
    error_bootstrap: npt.NDArray[np.float64]
    """Error by bootstrap, unit of flux."""
    count: npt.NDArray[np.int64]
    """Spectra that count."""


def normalise(rows: Rebinned, first: int, stop: int, *, median: bool) -> npt.NDArray[np.bool_]:
    """Divide each spectrum, in place, by its mean or median flux in a run of pixels.

    Parameters
    ----------
    first, stop : lattice pixels
    median : take the median of the good pixels instead of their mean

    Returns
    -------
    1D[n] bool
        False where more than half of the pixels hold nothing, or the level is not positive:
        such a spectrum stays as it was.
    """
    begin = max(first - rows.left, 0)
    here = slice(begin, max(stop - rows.left, begin))
    values, there = rows.flux[:, here], rows.used[:, here]
    count = there.sum(1)
    if not values.shape[1]:
        return np.zeros(len(values), np.bool_)
    if median:
        ordered = np.sort(np.where(there, values, np.inf), axis=1)
        level = middle(ordered, np.zeros_like(count), count)
    else:
        level = values.sum(1, dtype=np.float64) / np.maximum(count, 1)
    good: npt.NDArray[np.bool_] = (2 * count >= stop - first) & (level > 0) & np.isfinite(level)
    scale = np.where(good, level, 1.0)[:, None]
    rows.flux *= (1 / scale).astype(rows.flux.dtype)
    rows.var *= (1 / scale**2).astype(rows.var.dtype)
    return good


def middle(
    ordered: Array, low: npt.NDArray[np.int64], high: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the median of a run of each row, 1D[n] float64; any value where the run is empty.

    Parameters
    ----------
    ordered : 2D[n, npix] float, each row in ascending order
    low, high : 1D[n] int, the run is ``low`` … ``high - 1``
    """
    last = ordered.shape[1] - 1
    rows = np.arange(len(ordered))
    below = ordered[rows, np.clip((low + high - 1) // 2, 0, last)].astype(np.float64)
    above = ordered[rows, np.clip((low + high) // 2, 0, last)].astype(np.float64)
    median: npt.NDArray[np.float64] = (below + above) / 2
    return median


@dataclass(slots=True)
class _Moments:
    """Sums over spectra of weights w and of distances d from a level; 1D[npix] float64 each."""

    weight: Array
    """Sum of w."""
    mean: Array
    """Weighted mean flux."""
    level: Array
    weight2: Array
    """Sum of w²."""
    cross: Array
    """Sum of w² d."""
    square: Array
    """Sum of w² d²."""

    def __getitem__(self, pixels: slice) -> "_Moments":
        """Return views of some pixels."""
        return _Moments(*(getattr(self, name)[pixels] for name in self.__slots__))

    def merge(self, other: "_Moments") -> None:
        """Add other spectra, and take distances from the mean of all; so nothing cancels out."""
        weight = self.weight + other.weight
        share = np.divide(other.weight, weight, out=np.zeros_like(weight), where=weight > 0)
        mean = self.mean + (other.mean - self.mean) * share
        weight2, cross, square = np.zeros((3, len(mean)))
        for part in (self, other):
            off = mean - part.level
            weight2 = weight2 + part.weight2
            square = square + part.square - 2 * off * part.cross + off**2 * part.weight2
            cross = cross + part.cross - off * part.weight2
        every = (weight, mean, mean, weight2, cross, square)
        for name, values in zip(self.__slots__, every, strict=True):
            getattr(self, name)[:] = values


class Sums:
    """All that a mean over any number of spectra needs; float32 within a batch, float64 over all.

    Parameters
    ----------
    first, npix : lattice pixels of the composite
    weighted : weigh each pixel by its inverse variance, else all the same
    """

    def __init__(self, first: int, npix: int, *, weighted: bool) -> None:
        self.first = first
        """Lattice pixel of the first value of the result."""
        self._weighted = weighted
        self._dtype: np.dtype[Any] | None = None
        self.count = np.zeros(npix, np.int64)
        """1D[npix], spectra that count."""
        self.var = np.zeros(npix)
        """1D[npix], sum of their variances, unless they are weighted."""
        self.moments = _Moments(*np.zeros((6, npix)))

    def add(self, rows: Rebinned) -> None:
        """Add fewer than 256 spectra; this may overwrite their values."""
        begin = rows.left - self.first
        low, high = max(begin, 0), min(begin + rows.flux.shape[1], len(self.count))
        # Columns beyond the composite hold nothing.
        columns = slice(low - begin, max(high, low) - begin)
        flux, var, used = (array[:, columns] for array in (rows.flux, rows.var, rows.used))
        if not flux.size:
            return
        if self._dtype is None:
            self._dtype = _safe_dtype(flux)
        here = slice(low, high)
        count = np.add.reduce(used.view(np.uint8), axis=0, dtype=np.uint8)
        self.count[here] += count
        if self._weighted:
            added = _weighted_moments(flux, var, used, self._dtype)
        else:
            self.var[here] += var.sum(0, dtype=self._dtype)
            added = _plain_moments(flux, used, count.astype(np.float64), self._dtype)
        self.moments[here].merge(added)

    def merge(self, other: "Sums") -> None:
        """Add the spectra of others, which may reach other pixels of the lattice.

        The sums are those of adding all spectra here, but for the rounding of float64.
        """
        if not len(other.count):
            return
        first, stop = other.first, other.first + len(other.count)
        if len(self.count):
            first = min(first, self.first)
            stop = max(stop, self.first + len(self.count))
        self._widen(first, stop - first)
        here = slice(other.first - first, other.first - first + len(other.count))
        self.count[here] += other.count
        self.var[here] += other.var
        self.moments[here].merge(other.moments)

    def _widen(self, first: int, npix: int) -> None:
        """Reach more pixels, in which nothing is added yet."""
        if (first, npix) == (self.first, len(self.count)):
            return
        wide = Sums(first, npix, weighted=self._weighted)
        here = slice(self.first - first, self.first - first + len(self.count))
        if len(self.count):
            wide.count[here], wide.var[here] = self.count, self.var
            wide.moments[here].merge(self.moments)
        self.first, self.count, self.var = wide.first, wide.count, wide.var
        self.moments = wide.moments

    def result(self) -> Stacked:
        """Return the mean of all that was added."""
        some, several = self.count > 0, self.count > 1
        held = self.moments
        with np.errstate(divide="ignore", invalid="ignore"):
            variance = 1 / held.weight if self._weighted else self.var / held.weight**2
            bootstrap = np.sqrt(np.maximum(held.square, 0)) / held.weight
        return Stacked(
            np.where(some, held.mean, np.nan),
            np.where(some, np.sqrt(variance), np.nan),
            np.where(several, bootstrap, np.nan),
            self.count,
        )


def _plain_moments(
    flux: Array, used: npt.NDArray[np.bool_], count: Array, dtype: np.dtype[Any]
) -> _Moments:
    """Return the moments of some spectra, 2D[n, npix], of weight 1."""
    level = (flux.sum(0, dtype=dtype) / np.maximum(count, 1)).astype(dtype)
    off = np.subtract(flux, level, out=_room(flux, dtype))
    off *= used
    rest = off.sum(0)
    mean = level + rest / np.maximum(count, 1)
    return _Moments(count, mean, level.astype(np.float64), count, rest, _dot(off, off))


def _weighted_moments(
    flux: Array, var: Array, used: npt.NDArray[np.bool_], dtype: np.dtype[Any]
) -> _Moments:
    """Return the moments of some spectra, 2D[n, npix], weighted by inverse variance."""
    with np.errstate(divide="ignore"):
        weight = np.divide(1, var, out=_room(var, dtype))
    np.copyto(weight, 0, where=~used)
    total = weight.sum(0)
    divisor = np.where(total > 0, total, 1)
    level = _dot(weight, flux.astype(dtype, copy=False)) / divisor
    # Where nothing is used the weight is 0.
    off = np.subtract(flux, level, out=_room(flux, dtype))
    off *= weight
    mean = level.astype(np.float64) + off.sum(0) / divisor
    return _Moments(total, mean, level, _dot(weight, weight), _dot(weight, off), _dot(off, off))


def _room(values: Array, dtype: np.dtype[Any]) -> Array:
    """Return an array to write to: the same where its type will do."""
    return values if values.dtype == dtype else np.empty(values.shape, dtype)


def _safe_dtype(flux: Array) -> np.dtype[Any]:
    """Return the type in which squares of fluxes and of their weights neither vanish nor overflow.

    Units such as 1e-17 erg s-1 cm-2 Å-1 are made so that float32 will do; bare erg would not.
    """
    typical = float(np.abs(flux).max())
    return flux.dtype if 1e-6 < typical < 1e9 else np.dtype(np.float64)


def _dot(left: Array, right: Array) -> Array:
    """Return sums over rows of products, 1D[npix]."""
    product: Array = np.einsum("ij,ij->j", left, right)
    return product
