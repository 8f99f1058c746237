"""A sheet of pixels to draw on: text, text upwards, dashes."""

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .style import Theme, theme


@dataclass(frozen=True, slots=True)
class Sheet:
    """A picture being drawn."""

    image: Image.Image
    draw: ImageDraw.ImageDraw
    colours: Theme
    letters: int
    """Height of letters, pixels."""

    def text(self, at: tuple[float, float], text: str, anchor: str, colour: str = "") -> float:
        """Write text; return its width."""
        font = font_of(self.letters)
        self.draw.text(at, text, colour or self.colours.ink, font, anchor)
        return font.getlength(text)

    def upright(self, at: tuple[float, float], text: str, colour: str) -> None:
        """Write text upwards, ending at a point at the middle of its top."""
        mask = upright_mask(text, self.letters)
        self.image.paste(colour, (round(at[0] - mask.width / 2), round(at[1])), mask)


@lru_cache(maxsize=512)
def upright_mask(text: str, letters: int) -> Image.Image:
    """Return text that runs upwards, as a mask."""
    font = font_of(letters)
    size = round(font.getlength(text)) + 2, letters + 6
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).text((0, size[1] / 2), text, 255, font, "lm")
    return mask.transpose(Image.Transpose.ROTATE_90)


@lru_cache(maxsize=64)
def dash_mask(length: int) -> Image.Image:
    """Return dashes downwards, as a mask."""
    pattern = np.zeros((length, 1), np.uint8)
    pattern[np.arange(length) % 7 < 4] = 255
    return Image.fromarray(pattern)


def new_sheet(size: tuple[int, int], letters: int, *, dark: bool) -> Sheet:
    """Return an empty sheet: width and height, and height of letters, pixels."""
    colours = theme(dark=dark)
    image = Image.new("RGB", size, colours.paper)
    return Sheet(image, ImageDraw.Draw(image), colours, letters)


@lru_cache(maxsize=8)
def font_of(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which has all letters of units and lines and comes with matplotlib."""
    found = find_spec("matplotlib")
    folder = Path(found.origin).parent if found and found.origin else Path()
    path = folder / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    # The basic layout is enough without ligatures, and three times as fast.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
