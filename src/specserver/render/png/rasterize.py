"""A spectrum in a frame as pixels: the coverage of each by a line through the values.

Each fine column of pixels shows the range of the values in it.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from ...ops.pixels import Edges, pixel_edges
from ..display import Floats
from ..style import flux_power
from .canvas import Levels
from .palette import LEVELS

_FINE: Final = 3
"""Columns drawn for each column of pixels."""
_FULL: Final = (LEVELS - 1) // _FINE
"""Coverage that a fine column adds to a pixel."""
_LINE_PIX: Final = 1.1


@dataclass(frozen=True, slots=True)
class View:
    """The inside of a frame: its edges in pixels, and the wavelengths, Å, and fluxes at these."""

    left: int
    top: int
    width: int
    height: int
    waves: tuple[float, float]
    fluxes: tuple[float, float]

    @property
    def power(self) -> int:
        """Power of ten by which the numbers of the flux axis are divided."""
        return flux_power(self.fluxes)

    @property
    def right(self) -> int:
        """Column of the right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """Line of the lower edge."""
        return self.top + self.height

    def column(self, wave: Floats) -> Floats:
        """Return columns from the left edge of wavelengths, Å."""
        low, high = self.waves
        return (wave - low) * (self.width / (high - low))

    def line(self, flux: Floats) -> Floats:
        """Return lines from the upper edge of fluxes."""
        low, high = self.fluxes
        return (high - flux) * (self.height / (high - low))


@dataclass(frozen=True, slots=True)
class Steps:
    """The values of a spectrum that each fine column of a frame shows."""

    ends: npt.NDArray[np.intp]
    """1D[2 · ncolumn]: for each column its first value, then the one after its last."""
    columns: npt.NDArray[np.intp]
    """1D[ncolumn], the fine columns that show any."""


def find_steps(view: View, wave: npt.NDArray[np.float64]) -> Steps:
    """Return the steps of a spectrum with these wavelengths, 1D[npix] Å ascending."""
    npix = len(wave)
    if not npix:
        return Steps(np.empty(0, np.intp), np.empty(0, np.intp))
    edges = pixel_edges(wave) if npix > 1 else Edges.without_gaps(wave[0] + np.array([-1.0, 1.0]))
    # The column of each pixel edge is found, not the pixels of each column: pixels are many.
    at = Edges(view.column(edges.wave).astype(np.float64) * _FINE, edges.place)
    columns = np.arange(view.width * _FINE)
    start, stop = at.runs(columns, columns + 1)
    inside = stop > start
    columns, start, stop = columns[inside], start[inside], stop[inside]
    # The second of two neighbouring columns draws the step between them; a gap has no step.
    beside = np.flatnonzero(np.diff(columns) == 1)
    start[beside + 1] = np.minimum(start[beside + 1], stop[beside] - 1)
    return Steps(np.stack((start, np.maximum(stop, start + 1)), axis=1).ravel(), columns)


def rasterize(view: View, steps: Steps, values: Floats) -> tuple[int, Levels]:
    """Return the coverage of a frame by a line through values: first line of pixels, and levels.

    Parameters
    ----------
    values : 1D[npix] float, in the unit of the flux axis; NaN makes a gap
    """
    low, high = _ranges(view, steps, values)
    drawn = np.flatnonzero(low == low)  # noqa: PLR0124  NaN, where there is nothing to draw
    if not len(drawn):
        return 0, np.zeros((0, view.width), np.uint8)
    low = np.clip(low[drawn] - np.float32(_LINE_PIX / 2), 0, view.height)
    high = np.clip(high[drawn] + np.float32(_LINE_PIX / 2), 0, view.height)
    # Coverage changes at the upper and the lower edge of a range. Only the changes are stored,
    # then added up from the top. Whole numbers make each column end at zero; they overflow
    # modulo 256 on the way, which the sum undoes.
    rise, fall = low.astype(np.intp), high.astype(np.intp)
    above = np.rint((low - rise) * _FULL).astype(np.uint8)
    below = np.rint((high - fall) * _FULL).astype(np.uint8)
    first, last = int(rise.min()), min(int(fall.max()) + 1, view.height)
    column = steps.columns[drawn] // _FINE - first * view.width
    changes = np.zeros((last - first + 2) * view.width, np.uint8)
    for line, change in ((rise, _FULL - above), (rise + 1, above)):
        np.add.at(changes, line * view.width + column, change)
    for line, change in ((fall, _FULL - below), (fall + 1, below)):
        np.subtract.at(changes, line * view.width + column, change)
    levels = changes.reshape(-1, view.width)
    # Line by line: NumPy's cumulative sum takes four times as long.
    for before, after in pairwise(levels):
        np.add(after, before, out=after)
    return first, levels[: last - first]


def _ranges(view: View, steps: Steps, values: Floats) -> tuple[Floats, Floats]:
    """Return the highest and the lowest line of each column, 1D[ncolumn]; NaN where it is empty."""
    if not len(steps.columns):
        return np.empty(0, np.float32), np.empty(0, np.float32)
    # Values far outside are drawn as just outside, so no number is too large.
    lines = np.clip(view.line(values), -4.0, view.height + 4.0).astype(np.float32)
    lines = np.append(lines, np.float32(np.nan))
    low = np.fmin.reduceat(lines, steps.ends)[::2]
    high = np.fmax.reduceat(lines, steps.ends)[::2]
    # Steps are as thick as the line: one fine column more at either side, but not over a gap.
    beside = np.diff(steps.columns) == 1
    return _wider(np.fmin, low, beside), _wider(np.fmax, high, beside)


def _wider(reduce: np.ufunc, values: Floats, beside: npt.NDArray[np.bool_]) -> Floats:
    """Return the extremes of each value and its neighbours, where they are ``beside`` it."""
    wider = values.copy()
    reduce(wider[1:], values[:-1], out=wider[1:], where=beside)
    reduce(wider[:-1], values[1:], out=wider[:-1], where=beside)
    return wider
