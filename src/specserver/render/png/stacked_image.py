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
_USUAL_WIDTH: Final = 1200
"""Columns of a picture without a size, at most: each is the mean of as many pixels."""
_USUAL_HEIGHT: Final = 480
"""Rows of pixels of a picture without a size, if it has few spectra; each has as many."""
_THICKEST: Final = 40
_USUAL_ROWS: Final = 1000
"""Most spectra that get a row each if no size is given; of more spectra, several share a row."""
_ROW_SAMPLE: Final = 300
"""Pixels of a row in the sample for its own limits."""
_ROW_PERCENT: Final = (2.0, 98.0)
"""Percentiles of a spectrum's fluxes that become black and white."""
AXES: Final = ("wavelength", "redshift", "colorbar")
Floats32 = npt.NDArray[np.float32]
Extent = tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class ImageLook:
    """Options of a stacked image."""

    yflip: bool = False
    """The first spectrum at the top; else at the bottom."""
    scale: tuple[float | None, float | None] = (None, None)
    """Pixels of the picture for one of the spectrum, and for one spectrum times thickness."""
    thickness: int | None = None
    """Rows of pixels for one spectrum."""
    inverse: bool = False
    cmap: str = "gray"
    """A colour map of matplotlib."""
    width: int = 0
    """Pixels; 0: computed from the spectra, scale and thickness."""
    height: int = 0
    common: bool = False
    """All rows have one scale of brightness; else each has its own."""
    axes: tuple[str, ...] = ()
    """Some of `AXES`, drawn around the picture."""

    def __post_init__(self) -> None:
        for name, value in zip(("xscale", "yscale"), self.scale, strict=True):
            if value is not None and not 0.0 < value < np.inf:
                raise BadParameter(name, value, "a factor above 0")
        if self.thickness is not None and self.thickness < 1:
            raise BadParameter("thickness", self.thickness, "1 or more rows of pixels a spectrum")
        for name, size in (("width", self.width), ("height", self.height)):
            if size < 0:
                raise BadParameter(name, size, "pixels; 0 for the size of the data")
        for name in self.axes:
            if name not in AXES:
                raise BadParameter("axes", name, f"of {', '.join(AXES)}")

    @property
    def is_sized(self) -> bool:
        """Whether the caller asked for some size."""
        return bool(any(self.scale) or self.thickness or self.width or self.height)

    def size(self, nspec: int, npix: int, limit: int) -> tuple[int, int]:
        """Return height and width of the picture of so many spectra.

        Raises `TooMuch` if scale, thickness or size ask for more than the limit. A long list alone
        is no error: a row is the mean of several spectra then.
        """
        xscale, yscale = self.scale
        # A whole number of pixels in each column: their sum takes a tenth of the time.
        usual = -(-npix // -(-npix // _USUAL_WIDTH))
        width = self.width or (max(1, round(npix * xscale)) if xscale else usual)
        if self.height:
            height = self.height
        elif self.thickness or yscale:
            height = max(1, round(nspec * (self.thickness or 1) * (yscale or 1.0)))
        else:
            thickness = min(max(_USUAL_HEIGHT // nspec, 1), _THICKEST)
            height = min(nspec * thickness, _USUAL_ROWS)
        if width * height <= limit:
            return height, width
        if self.is_sized:
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
        self,
        nspec: int,
        npix: int,
        size: tuple[int, int],
        extent: Extent | None = None,
        *,
        common: bool = True,
    ) -> None:
        self.size = size
        self.extent = extent or (np.zeros(nspec, np.int64), np.full(nspec, npix))
        self.common = common
        nrow, ncol = min(nspec, size[0]), min(npix, size[1])
        self.limits = (0.0, 1.0)
        """Values that become black and white."""
        self.mean = np.zeros((nrow, ncol), np.float32)
        self.weight = np.zeros((nrow, ncol), np.float32)
        # Columns of equal width reach beyond the last pixel by less than one of them.
        equal = -(-npix // ncol) * ncol
        self.npix = equal if equal - npix < equal // ncol else npix
        """Pixels of rows that are added fastest: zeros may follow the spectra."""
        # First pixel of each run that becomes one pixel, and the row of each spectrum.
        self.starts = np.arange(ncol) * self.npix // ncol
        self.row_of = np.arange(nspec) * nrow // nspec

    def add(self, at: int, flux: npt.NDArray[Any]) -> None:
        """Add spectra.

        Parameters
        ----------
        at : number of the first of them
        flux : 2D[n, npix] float
            0 outside each spectrum.
        """
        good = np.isfinite(flux)
        values = flux if good.all() else np.where(good, flux, flux.dtype.type(0))
        left, stop = (ends[at : at + len(flux), None].astype(np.int32) for ends in self.extent)
        starts = self.starts.astype(np.int32)
        ends = np.append(starts[1:], np.int32(self.npix))
        # Pixels of each spectrum in each column.
        inside = np.minimum(stop, ends) - np.maximum(left, starts)
        weight = np.maximum(inside, 0, out=inside).astype(np.float32)
        if values is not flux:
            weight -= self._summed(~good)
        sums = self._summed(values)
        # A fibre without light has flux 0 in each pixel, and no value.
        weight[~sums.any(axis=1)] = 0
        if not self.common:
            sums = _normalised(sums, weight) * weight
        into = self.row_of[at : at + len(flux)]
        if len(self.mean) == len(self.row_of):
            self.mean[into], self.weight[into] = sums, weight
            return
        first = np.flatnonzero(np.diff(into, prepend=-1))
        self.mean[into[first]] += np.add.reduceat(sums, first, axis=0)
        self.weight[into[first]] += np.add.reduceat(weight, first, axis=0)

    def _summed(self, values: npt.NDArray[Any]) -> Floats32:
        """Return sums over the pixels that become one, 2D[n, ncol]."""
        ncol = len(self.starts)
        if values.shape[1] == ncol:
            return values.astype(np.float32)
        if values.shape[1] % ncol == 0:
            # Ten times as fast as reduceat.
            width = values.shape[1] // ncol
            sums = values.reshape(len(values), ncol, width) @ np.ones(width, np.float32)
        else:
            sums = np.add.reduceat(values, self.starts, axis=1, dtype=np.float32)
        return np.asarray(sums, np.float32)

    def png(self, look: ImageLook) -> bytes:
        """Return the picture without axes."""
        return encode_png(self.levels(look), colour_map(look))

    def levels(
        self, look: ImageLook, most: int = _LEVELS - 1, blank: int = 0
    ) -> npt.NDArray[np.uint8]:
        """Return brightness between `limits`, clipped, 2D[height, width] uint8; to be called once.

        The limits of a common scale are those of zscale.

        Parameters
        ----------
        most, blank
            Level of the greatest brightness, and of pixels without a value.
        """
        mean = self.mean
        np.divide(mean, self.weight, out=mean, where=self.weight > 0)
        mean[self.weight == 0] = np.nan
        if self.common:
            self.limits = _limits(mean)
        low, high = self.limits
        levels = np.empty(mean.shape, np.uint8)
        factor = np.float32(most / (high - low))
        # A few rows at a time stay in the processor's cache. Limits as rows take a third of the
        # time of limits as numbers.
        room = np.empty((_ROWS, mean.shape[1]), np.float32)
        bottom = np.zeros(mean.shape[1], np.float32)
        top = np.full(mean.shape[1], most, np.float32)
        for at in range(0, len(mean), _ROWS):
            some = mean[at : at + _ROWS]
            scaled = np.subtract(some, np.float32(low), out=room[: len(some)])
            scaled *= factor
            # Values that are not finite become blank; all others are clipped, never wrapped.
            np.minimum(np.fmax(scaled, bottom, out=scaled), top, out=scaled)
            np.copyto(scaled, np.float32(blank), where=~np.isfinite(some))
            levels[at : at + _ROWS] = scaled
        height, width = self.size
        if (height, width) != levels.shape:
            rows = np.arange(height) * len(levels) // height
            levels = levels[rows][:, np.arange(width) * levels.shape[1] // width]
        return levels if look.yflip else levels[::-1]


def _normalised(sums: Floats32, weight: Floats32) -> Floats32:
    """Return fluxes on the own scale of each row: 0 and 1 are its `_ROW_PERCENT`.

    Parameters
    ----------
    sums, weight : 2D[n, ncol], sums of fluxes and the number of them; 0: none
    """
    mean = np.divide(sums, weight, out=np.full_like(sums, np.nan), where=weight > 0)
    sample = np.sort(mean[:, :: max(1, mean.shape[1] // _ROW_SAMPLE)], axis=1)
    last = np.maximum(np.isfinite(sample).sum(axis=1) - 1, 0)
    rows = np.arange(len(sample))
    low, high = (
        np.nan_to_num(sample[rows, np.rint(last * percent / 100).astype(np.intp)])[:, None]
        for percent in _ROW_PERCENT
    )
    span = np.where(high > low, high - low, np.float32(1))
    mean -= low
    mean /= span
    mean[weight == 0] = 0
    return mean


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
