"""A canvas of pixels: lines, dashes, text, upright text, and shapes with smooth edges.

A pixel is a place in the palette of a theme; coordinates are column and line, from the top left.
"""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from math import ceil, floor
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..style import Theme, theme
from .encode import encode_png
from .palette import LEVELS, Palette, palette_of

Levels = npt.NDArray[np.uint8]
"""Coverage of each pixel, 2D[height, width] uint8, 0 … 15."""
Places = npt.NDArray[np.intp]
"""Columns or lines, 1D[n]."""

_DASH_PIX: Final = 4
_DASHES_PIX: Final = 7
"""Length of a dash, and distance from one to the next."""
_STEP: Final = 256 // LEVELS


@dataclass(frozen=True, slots=True)
class Canvas:
    """A picture being drawn."""

    pixels: npt.NDArray[np.uint8]
    """2D[height, width] uint8."""
    palette: Palette
    colours: Theme
    letters: int
    """Height of letters, pixels."""

    @property
    def width(self) -> int:
        """Width, pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height, pixels."""
        return len(self.pixels)

    def png(self) -> bytes:
        """Return the picture as a PNG file."""
        return encode_png(self.pixels, self.palette.rgb)

    def fill(self, left: int, top: int, right: int, bottom: int, colour: str) -> None:
        """Fill a rectangle, its last column and line included."""
        inside = self.pixels[max(top, 0) : bottom + 1, max(left, 0) : right + 1]
        inside[:] = self.palette.number[colour]

    def bar(self, columns: Places, top: int, bottom: int, colour: str) -> None:
        """Fill columns of pixels, the last line excluded."""
        self.pixels[top:bottom, columns] = self.palette.number[colour]

    def ticks(self, columns: Places, top: int, bottom: int) -> None:
        """Draw upright lines in columns, the last line included."""
        self.pixels[top : bottom + 1, columns] = self.palette.number[self.colours.ink]

    def level_ticks(self, lines: Places, left: int, right: int) -> None:
        """Draw level lines, the last column included."""
        self.pixels[lines, left : right + 1] = self.palette.number[self.colours.ink]

    def stroke(self, start: tuple[int, int], stop: tuple[int, int], colour: str) -> None:
        """Draw a thin line from one pixel to another."""
        columns, lines = _way(stop[0] - start[0], stop[1] - start[1])
        self.pixels[start[1] + lines, start[0] + columns] = self.palette.number[colour]

    def dashes(self, column: int, top: int, bottom: int, colour: str) -> None:
        """Draw a dashed line downwards, the last line excluded."""
        number = self.palette.number[colour]
        for at in range(_DASH_PIX):
            self.pixels[top + at : bottom : _DASHES_PIX, column] = number

    def cover(self, left: int, top: int, levels: Levels, colour: str) -> None:
        """Lay a colour over pixels; parts beyond the canvas are cut off."""
        off, out = max(-left, 0), max(-top, 0)
        below = self.pixels[top + out :, left + off :][: len(levels) - out, : levels.shape[1] - off]
        shown = levels[out : out + below.shape[0], off : off + below.shape[1]]
        # A trace covers few of the pixels; flat arrays take a fifth of the time.
        covered = np.flatnonzero(shown != 0)
        flat = below.ravel()
        flat[covered] = self.palette.lay(flat[covered], shown.ravel()[covered], colour)
        below[:] = flat.reshape(below.shape)

    def text(self, at: tuple[float, float], text: str, anchor: str, colour: str = "") -> float:
        """Write text; return its width."""
        mask = text_mask(text, self.letters, anchor)
        left, top = round(at[0]) + mask.left, round(at[1]) + mask.top
        self.cover(left, top, mask.levels, colour or self.colours.ink)
        return mask.length

    def upright(self, at: tuple[float, float], text: str, colour: str) -> None:
        """Write text upwards; ``at`` is the middle of its upper end."""
        levels = upright_mask(text, self.letters)
        self.cover(round(at[0] - levels.shape[1] / 2), round(at[1]), levels, colour)


def new_canvas(size: tuple[int, int], letters: int, *, dark: bool) -> Canvas:
    """Return an empty canvas: width and height, and height of letters, pixels."""
    colours = theme(dark=dark)
    palette = palette_of(colours)
    width, height = size
    return Canvas(
        np.full((height, width), palette.number[colours.paper], np.uint8), palette, colours, letters
    )


@dataclass(frozen=True, slots=True)
class TextMask:
    """Coverage of pixels by text."""

    levels: Levels
    left: int
    """Distance from the anchor to the first column, pixels."""
    top: int
    length: float
    """Length of the text, pixels."""


# Numbers and names of lines recur in all pictures; titles do not.
@lru_cache(maxsize=2048)
def text_mask(text: str, letters: int, anchor: str) -> TextMask:
    """Return the coverage of pixels by text around an anchor of Pillow."""
    font = font_of(letters)
    box = font.getbbox(text, anchor=anchor)
    left, top = floor(box[0]), floor(box[1])
    size = max(ceil(box[2]) - left, 1), max(ceil(box[3]) - top, 1)
    image = Image.new("L", size)
    ImageDraw.Draw(image).text((-left, -top), text, 255, font, anchor)
    return TextMask(np.asarray(image) // _STEP, left, top, font.getlength(text))


@lru_cache(maxsize=1024)
def _way(right: int, down: int) -> tuple[Places, Places]:
    """Return columns and lines of the pixels of a stroke, from its start."""
    part = np.linspace(0, 1, max(abs(right), abs(down), 1) + 1)
    return np.rint(part * right).astype(np.intp), np.rint(part * down).astype(np.intp)


@lru_cache(maxsize=512)
def upright_mask(text: str, letters: int) -> Levels:
    """Return the coverage of pixels by text that runs upwards."""
    font = font_of(letters)
    size = round(font.getlength(text)) + 2, letters + 6
    image = Image.new("L", size)
    ImageDraw.Draw(image).text((0, size[1] / 2), text, 255, font, "lm")
    return np.rot90(np.asarray(image) // _STEP)


@lru_cache(maxsize=8)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans of matplotlib, which has all letters of units and lines."""
    found = find_spec("matplotlib")
    folder = Path(found.origin).parent if found and found.origin else Path()
    path = folder / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    # Without ligatures the basic layout is enough, and it is three times as fast.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
