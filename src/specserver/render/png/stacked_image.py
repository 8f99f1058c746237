"""Many spectra as one picture: a row for each, with flux as brightness."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps

from ...errors import BadParameter, TooMuch
from .encode import encode_png

_SAMPLE: Final = 100_000
"""Pixels in the sample for the limits."""
_RANKS: Final = 2_000
"""Pixels taken from the sample, evenly by rank: fewer give unsteady limits."""
_ROWS: Final = 32
_LEVELS: Final = 256
Extent = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class ImageLook:
    """Options of a stacked image."""

    yflip: bool = False
    """The first spectrum at the top; else at the bottom."""
    scale: tuple[float, float] = (1.0, 1.0)
    """Pixels of the picture for one of the spectrum, and for one spectrum times thickness."""
    thickness: int = 1
    """Rows of pixels for one spectrum."""
    inverse: bool = False
    cmap: str = "gray"
    """A colour map of matplotlib."""
    width: int = 0
    """Pixels; 0: computed from the spectra, scale and thickness."""
    height: int = 0

    def __post_init__(self) -> None:
        for name, value in (("xscale", self.scale[0]), ("yscale", self.scale[1])):
            if not 0.0 < value < np.inf:
                raise BadParameter(name, value, "a factor above 0")
        if self.thickness < 1:
            raise BadParameter("thickness", self.thickness, "1 or more rows of pixels a spectrum")
        for name, value in (("width", self.width), ("height", self.height)):
            if value < 0:
                raise BadParameter(name, value, "pixels; 0 for the size of the data")

    def size(self, nspec: int, npix: int, limit: int) -> tuple[int, int]:
        """Return height and width of the picture of so many spectra.

        Raises `TooMuch` if scale, thickness or size ask for more than the limit. A long list alone
        is no error: a row is the mean of several spectra then.
        """
        width = self.width or max(1, round(npix * self.scale[0]))
        height = self.height or max(1, round(nspec * self.thickness * self.scale[1]))
        if width * height <= limit:
            return height, width
        plain = (*self.scale, self.thickness, self.height) == (1.0, 1.0, 1, 0)
        if not plain or width > limit:
            raise TooMuch("pixels of a picture", width * height, limit, "max_image_pixels")
        return max(1, limit // width), width


class Stack:
    """Adds spectra up into the rows of a picture, in memory of the picture's size.

    Parameters
    ----------
    nspec, npix : spectra, and pixels of a row
    size : height and width of the picture
    extent : two 1D[nspec] int
        First pixel of each spectrum in its row, and the one after its last; by default
        the whole row.
    """

    def __init__(
        self, nspec: int, npix: int, size: tuple[int, int], extent: Extent | None = None
    ) -> None:
        self.size = size
        self.extent = extent or (np.zeros(nspec, np.int64), np.full(nspec, npix))
        nrow, ncol = min(nspec, size[0]), min(npix, size[1])
        self.whole = (nrow, ncol) == (nspec, npix)
        self.mean = np.zeros((nrow, ncol), np.float32)
        self.weight = np.zeros((0 if self.whole else nrow, ncol), np.float32)
        # First pixel of each run that becomes one pixel, and the row of each spectrum.
        self.starts = np.arange(ncol) * npix // ncol
        self.row_of = np.arange(nspec) * nrow // nspec
        self.is_narrow = ncol < npix

    def add(self, at: int, flux: npt.NDArray[Any]) -> None:
        """Add spectra.

        Parameters
        ----------
        at : number of the first of them
        flux : 2D[n, npix] float
            0 outside each spectrum.
        """
        if self.whole:
            rows = self.mean[at : at + len(flux)]
            rows[:] = flux
            self._mark_outside(at, rows, np.nan)
            return
        good = np.isfinite(flux)
        values = flux if good.all() else np.where(good, flux, np.float32(0))
        self._mark_outside(at, good, value=False)
        into = self.row_of[at : at + len(flux)]
        first = np.flatnonzero(np.diff(into, prepend=-1))
        self.mean[into[first]] += self._reduced(values, first)
        self.weight[into[first]] += self._reduced(good.astype(np.float32), first)

    def _mark_outside(self, at: int, rows: npt.NDArray[Any], value: float) -> None:
        """Set the pixels outside each spectrum, from spectrum ``at`` on."""
        left, stop = (ends[at : at + len(rows)].tolist() for ends in self.extent)
        for row, begin, end in zip(rows, left, stop, strict=True):
            row[:begin] = row[end:] = value

    def _reduced(
        self, values: npt.NDArray[Any], first: npt.NDArray[np.intp]
    ) -> npt.NDArray[np.float32]:
        """Return sums over the spectra and the pixels that become one row and one pixel."""
        ends = [*first[1:].tolist(), len(values)]
        # Separate sums: reduceat along the first axis takes six times as long.
        sums = [values[a:b].sum(axis=0) for a, b in zip(first.tolist(), ends, strict=True)]
        rows = np.array(sums, np.float32)
        return np.add.reduceat(rows, self.starts, axis=1) if self.is_narrow else rows

    def png(self, look: ImageLook) -> bytes:
        """Return the picture; brightness between the limits of zscale, clipped."""
        mean = self.mean
        if not self.whole:
            np.divide(mean, self.weight, out=mean, where=self.weight > 0)
            mean[self.weight == 0] = np.nan
        low, high = _limits(mean)
        levels = np.empty(mean.shape, np.uint8)
        factor = np.float32((_LEVELS - 1) / (high - low))
        # A few rows at a time stay in the processor's cache. Limits as rows take a third of the
        # time of limits as numbers.
        room = np.empty((_ROWS, mean.shape[1]), np.float32)
        bottom = np.zeros(mean.shape[1], np.float32)
        top = np.full(mean.shape[1], _LEVELS - 1, np.float32)
        for at in range(0, len(mean), _ROWS):
            some = mean[at : at + _ROWS]
            scaled = np.subtract(some, np.float32(low), out=room[: len(some)])
            scaled *= factor
            # Values that are not finite become 0; all others are clipped, never wrapped.
            np.minimum(np.fmax(scaled, bottom, out=scaled), top, out=scaled)
            np.copyto(scaled, np.float32(0), where=~np.isfinite(some))
            levels[at : at + _ROWS] = scaled
        height, width = self.size
        if (height, width) != levels.shape:
            rows = np.arange(height) * len(levels) // height
            levels = levels[rows][:, np.arange(width) * levels.shape[1] // width]
        return encode_png(levels if look.yflip else levels[::-1], colour_map(look))


def _limits(values: npt.NDArray[np.float32]) -> tuple[float, float]:
    """Return IRAF's zscale limits of a sample of the spectra's pixels."""
    step = max(1, values.size // _SAMPLE)
    # A step that shares a factor with the width would sample few columns.
    while step > 1 and np.gcd(step, values.shape[1]) > 1:
        step += 1
    sample = values.ravel()[::step]
    sample = sample[np.isfinite(sample)]
    if not len(sample):
        return 0.0, 1.0
    sample.sort()
    ranks = np.linspace(0, len(sample) - 1, min(_RANKS, len(sample))).astype(np.int64)
    from astropy.visualization import ZScaleInterval  # noqa: PLC0415  # slow to import

    limits = ZScaleInterval(n_samples=_RANKS).get_limits(sample[ranks])
    low, high = float(limits[0]), float(limits[1])
    return (low, high) if high > low else (low, low + 1.0)


def colour_map(look: ImageLook) -> npt.NDArray[np.uint8]:
    """Return the colours of a map, 2D[256, 3] uint8; raise `BadParameter` if it is unknown."""
    if look.cmap not in colormaps:
        some = "gray, viridis, magma, cividis and the others of matplotlib"
        raise BadParameter("cmap", look.cmap, some)
    colours = colormaps[look.cmap](np.linspace(0.0, 1.0, _LEVELS), bytes=True)[:, :3]
    return np.ascontiguousarray(colours[::-1] if look.inverse else colours)
