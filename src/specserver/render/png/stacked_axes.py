"""Axes around a stacked image: wavelengths below, redshifts at the left, a colour bar."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..style import LIGHT, find_ticks, flux_power
from .canvas import Canvas, font_of, upright_mask
from .palette import LEVELS, Palette
from .stacked_image import ImageLook, colour_map

_LETTERS: Final = 12
_EDGE_PIX: Final = 12
_TICK_PIX: Final = 6
_BAR_PIX: Final = 14
_NUMBERS_PIX: Final = 52
"""Room for the numbers of redshifts, and for those of the bar."""
_COLOURS: Final = 256
_INKS: Final = _COLOURS - LEVELS
"""Place of the first of the steps from paper to ink."""
_MAP: Final = _INKS - 1
"""Colours of the map, then the colour of pixels without a value."""
_BLANK_COLOUR: Final = (224, 224, 224)
BLANK: Final = 255
"""Level of pixels without a value; the greatest brightness is the level below."""


@dataclass(frozen=True, slots=True)
class StackAxes:
    """What the axes of a stacked image show; None and empty: nothing."""

    wave: npt.NDArray[np.float64] | None = None
    """Å, 1D[npix], ascending: wavelength of each pixel of the rows."""
    wave_label: str = ""
    z: npt.NDArray[np.float64] | None = None
    """Redshifts, 1D[nspec]; NaN where not known."""
    bar_label: str = ""
    """Name of the values that colours stand for."""
    limits: tuple[float, float] = (0.0, 1.0)
    """Values of the first and the last colour."""


def framed_png(levels: npt.NDArray[np.uint8], look: ImageLook, shown: StackAxes) -> bytes:
    """Return the picture of a stack with axes, of its brightness, 2D[height, width] uint8.

    Pixels at `BLANK` are grey.
    """
    height, width = levels.shape
    left = _EDGE_PIX if shown.z is None else _NUMBERS_PIX + 2 * _TICK_PIX
    right = _EDGE_PIX + (_NUMBERS_PIX + _BAR_PIX + 3 * _EDGE_PIX if shown.bar_label else 0)
    top = _EDGE_PIX + (0 if shown.z is None else _LETTERS + 4)
    bottom = _EDGE_PIX + (0 if shown.wave is None else 2 * _LETTERS + _EDGE_PIX)
    canvas = _canvas((left + width + right, top + height + bottom), look)
    _put(canvas, levels, left, top)
    if shown.wave is not None:
        _draw_wave(canvas, shown, (left, top + height, width))
    if shown.z is not None:
        _draw_redshifts(canvas, shown.z, (left, top, height), yflip=look.yflip)
    if shown.bar_label:
        at = left + width + 2 * _EDGE_PIX
        ramp = np.linspace(BLANK - 1, 0, height).astype(np.uint8)
        _put(canvas, np.repeat(ramp[:, None], _BAR_PIX, axis=1), at, top)
        _draw_bar(canvas, shown.bar_label, shown.limits, (at + _BAR_PIX, top, height))
    return canvas.png()


def _canvas(size: tuple[int, int], look: ImageLook) -> Canvas:
    """Return an empty canvas of width and height, whose palette has the map and steps to ink."""
    shades = np.linspace(255.0, int(LIGHT.ink[1:3], 16), LEVELS)
    colours = colour_map(look)[np.arange(_MAP) * (_COLOURS - 1) // (_MAP - 1)]
    inks = np.rint(shades)[:, None].repeat(3, axis=1)
    rgb = np.concatenate((colours, [_BLANK_COLOUR], inks)).astype(np.uint8)
    # Text lies on paper: each coverage has its place.
    below = np.arange(_COLOURS)
    over = np.stack([below, *(np.full(_COLOURS, _INKS + level) for level in range(1, LEVELS))])
    palette = Palette(
        rgb,
        {LIGHT.paper: _INKS, LIGHT.ink: _COLOURS - 1},
        {LIGHT.ink: over.astype(np.uint8).ravel()},
    )
    return Canvas(np.full(size[::-1], _INKS, np.uint8), palette, LIGHT, _LETTERS)


def _put(canvas: Canvas, levels: npt.NDArray[np.uint8], left: int, top: int) -> None:
    """Lay brightness into the canvas, within a frame."""
    height, width = levels.shape
    canvas.fill(left - 1, top - 1, left + width, top + height, LIGHT.ink)
    places = np.arange(_COLOURS) * (_MAP - 1) // (BLANK - 1)
    places[BLANK] = _MAP
    canvas.pixels[top : top + height, left : left + width] = places.astype(np.uint8)[levels]


def _draw_wave(canvas: Canvas, shown: StackAxes, place: tuple[int, int, int]) -> None:
    """Draw the wavelength axis of a picture; ``place``: its left end, line and width, pixels."""
    left, line, width = place
    wave = shown.wave if shown.wave is not None else np.empty(0)
    ticks = find_ticks(float(wave[0]), float(wave[-1]), width / (5.0 * _LETTERS))
    pixels = np.arange(len(wave)) + 0.5
    for values, length in ((ticks.minor, _TICK_PIX // 2), (ticks.major, _TICK_PIX)):
        columns = left + np.interp(values, wave, pixels) * (width / len(wave))
        canvas.ticks(columns.astype(np.intp), line, line + length)
    for value, label in zip(ticks.major, ticks.labels, strict=True):
        column = left + float(np.interp(value, wave, pixels)) * width / len(wave)
        canvas.text((column, line + _TICK_PIX + 3), label, "ma")
    canvas.text((left + width / 2, canvas.height - 6), shown.wave_label, "ms")


def _draw_redshifts(
    canvas: Canvas, z: npt.NDArray[np.float64], place: tuple[int, int, int], *, yflip: bool
) -> None:
    """Write redshifts of some rows beside a picture; ``place``: its left end, top and height."""
    left, top, height = place
    count = int(min(len(z), max(2, height // (2 * _LETTERS))))
    some = np.unique(np.rint(np.linspace(0, len(z) - 1, count)).astype(np.intp))
    lines = (some + 0.5) / len(z) * height
    lines = top + (lines if yflip else height - lines)
    canvas.level_ticks(lines.astype(np.intp), left - _TICK_PIX, left - 1)
    for line, value in zip(lines.tolist(), z[some].tolist(), strict=True):
        text = f"{value:.3f}".replace("-", "−") if np.isfinite(value) else "–"
        canvas.text((left - _TICK_PIX - 4, line), text, "rm")
    canvas.text((left - _TICK_PIX - 4, top - 9), "z", "rs")


def _draw_bar(
    canvas: Canvas, label: str, limits: tuple[float, float], place: tuple[int, int, int]
) -> None:
    """Write the numbers of a colour bar; ``place``: its right end, top and height, pixels."""
    right, top, height = place
    low, high = (limit / 10.0 ** flux_power(limits) for limit in limits)
    ticks = find_ticks(low, high, height / (3.0 * _LETTERS))
    lines = top + (high - np.array(ticks.major)) * ((height - 1) / (high - low))
    canvas.level_ticks(np.rint(lines).astype(np.intp), right, right + _TICK_PIX - 1)
    for line, text in zip(lines.tolist(), ticks.labels, strict=True):
        canvas.text((right + _TICK_PIX + 3, line), text, "lm")
    # A low picture has room for the unit only.
    if font_of(_LETTERS).getlength(label) > canvas.height and label.endswith(")"):
        label = label[label.index("(") + 1 : -1]
    length = len(upright_mask(label, _LETTERS))
    middle = min(max(top + height / 2, length / 2), canvas.height - length / 2)
    canvas.upright((canvas.width - _LETTERS, middle - length / 2), label, LIGHT.ink)
