"""The 256 colours of a drawing, and the result of one colour over another.

One byte a pixel instead of three makes drawing and packing three times as fast. Lines on a plain
background need the colours of the theme, and steps between two that meet, which smooth the edges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from ..style import Theme

LEVELS: Final = 16
"""Levels of coverage of a pixel by a colour: 0 is none, 15 is all of it."""
_COLOURS: Final = 256
_FULL: Final = LEVELS - 1
_Colours = npt.NDArray[np.float32]
"""Red, green, blue, 0 … 255, along the last axis."""


@dataclass(frozen=True, slots=True)
class Palette:
    """The palette of a theme."""

    rgb: npt.NDArray[np.uint8]
    """2D[256, 3] uint8: red, green, blue."""
    number: Mapping[str, int]
    """Place in the palette of each colour of the theme."""
    _over: Mapping[str, npt.NDArray[np.uint8]]

    def lay(
        self, below: npt.NDArray[np.uint8], levels: npt.NDArray[np.uint8], colour: str
    ) -> npt.NDArray[np.uint8]:
        """Return pixels with a colour laid over them, all arrays of one shape, uint8.

        Pixels are places in the palette; ``levels`` is their coverage by the colour, 0 … 15.
        """
        # One look-up in a flat table takes half the time of one in two dimensions.
        return self._over[colour].take(levels * np.intp(_COLOURS) + below)


@lru_cache(maxsize=2)
def palette_of(colours: Theme) -> Palette:
    """Return the palette of a theme, which contains each colour of the theme exactly."""
    traces = (colours.noise, colours.flux, colours.model)
    marks = (colours.emission, colours.absorption)
    plain = (colours.paper, colours.faint, colours.masked, colours.ink)
    every = list(dict.fromkeys((*plain, *traces, *marks)))
    rgb = {colour: np.array([*bytes.fromhex(colour[1:])], np.float32) for colour in every}
    paper = [rgb[colours.paper]]
    steps = range(1, _FULL)
    mixed = [*rgb.values()]
    for colour in (colours.ink, *traces, *marks):
        mixed += _mixed(rgb[colour], paper, steps)
    # Crossings of two traces, and of a trace and a mark.
    for above, below in ((1, 0), (2, 0), (2, 1)):
        mixed += _mixed(rgb[traces[above]], [rgb[traces[below]]], steps)
    for mark in marks:
        mixed += _mixed(rgb[colours.flux], [rgb[mark]], steps[::2])
    # The edge of the model over the edges of the flux: three colours in one pixel.
    edges = _mixed(rgb[colours.flux], paper, steps[1::2])
    mixed += _mixed(rgb[colours.model], edges, steps[1::2])
    palette = np.zeros((_COLOURS, 3), np.float32)
    palette[: len(mixed)] = mixed
    palette[len(mixed) :] = paper[0]
    over = {colour: _over(palette, shade).ravel() for colour, shade in rgb.items()}
    number = {colour: place for place, colour in enumerate(every)}
    return Palette(np.rint(palette).astype(np.uint8), number, over)


def _mixed(above: _Colours, below: Sequence[_Colours], steps: range) -> list[_Colours]:
    """Return mixtures of a colour with each of the others."""
    return [lower + (above - lower) * np.float32(step / _FULL) for lower in below for step in steps]


def _over(palette: _Colours, colour: _Colours) -> npt.NDArray[np.uint8]:
    """Return places of the nearest mixtures of a colour and the palette, 2D[16, 256] uint8."""
    share = (np.arange(LEVELS, dtype=np.float32) / _FULL)[:, None, None]
    wanted = (palette + (colour - palette) * share).reshape(-1, 3)
    # The distance is |a|² − 2ab + |b|²; |a|² is the same for all.
    distance = (palette**2).sum(axis=1) - 2 * wanted @ palette.T
    nearest: npt.NDArray[np.uint8] = distance.argmin(axis=1).astype(np.uint8)
    return nearest.reshape(LEVELS, _COLOURS)
