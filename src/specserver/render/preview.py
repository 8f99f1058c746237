"""Previews of spectra, alone and in a grid, drawn straight into pixels.

A figure of matplotlib takes 150 ms or more, most of it for axes. Here the frame and the text are
Pillow's, and a spectrum is a range of flux in each column of pixels, its edges antialiased.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from .png import encode_png
from .sheet import Sheet, dash_mask, font_of, new_sheet, upright_mask
from .style import (
    WAVE_LABEL,
    Floats,
    Mark,
    Plotted,
    find_ticks,
    flux_limits,
    noise_of,
    place_marks,
    wave_limits,
)

PREVIEW_SIZE: Final = (860, 340)
_GRID_PIX: Final = (1800, 1500)
"""Width and height that a grid has when its cells are neither large nor small."""
_CELL_WIDTH: Final = (200, PREVIEW_SIZE[0])
_CELL_SHAPE: Final = 0.5
"""Height of a cell over its width; a small one has a second line above it besides."""
_SMALL: Final = 320
_FINE: Final = 3
"""Columns drawn for each column of pixels."""
_FULL: Final = 85
"""What a fine column adds to a pixel that it covers: three make 255."""
_LINE_PIX: Final = 1.1
_TICK_PIX: Final = 5
_EDGE_PIX: Final = 10
_NAMES_WIDTH: Final = 420
"""Width of a frame from which on lines are marked: without their names they are clutter."""


@dataclass(frozen=True, slots=True)
class _View:
    """The inside of a frame, pixels, and what its edges stand for, Å and flux."""

    left: int
    top: int
    width: int
    height: int
    waves: tuple[float, float]
    fluxes: tuple[float, float]

    def column(self, wave: Floats) -> Floats:
        low, high = self.waves
        return (wave - low) * (self.width / (high - low))

    def line(self, flux: Floats) -> Floats:
        low, high = self.fluxes
        return (high - flux) * (self.height / (high - low))


def preview_png(spectrum: Plotted, *, dark: bool = False) -> bytes:
    """Return a PNG of one spectrum: flux, noise, model, and the lines at its redshift."""
    sheet = new_sheet(PREVIEW_SIZE, 13, dark=dark)
    width, height = PREVIEW_SIZE
    box = (78, 28, width - 78 - 14, height - 28 - 46)
    view = _View(*box, wave_limits(spectrum.wave), flux_limits(spectrum))
    _draw_cell(sheet, view, spectrum)
    title = spectrum.title + (f"    {spectrum.about}" if spectrum.about else "")
    sheet.text((view.left, view.top - 8), title, "ls")
    _draw_legend(sheet, view, spectrum)
    sheet.text((view.left + view.width / 2, height - 6), WAVE_LABEL, "ms")
    _label_flux(sheet, spectrum.flux_unit, view.top + view.height / 2)
    return encode_png(np.asarray(sheet.image))


def grid_size(nx: int, ny: int) -> tuple[int, int]:
    """Return width and height of a grid, pixels."""
    width, height = _cell_size(nx, ny)
    letters = _letters(width)
    return nx * width + 2 * letters + _EDGE_PIX, ny * height + 2 * letters + _EDGE_PIX


def grid_png(
    spectra: Sequence[Plotted],
    nx: int,
    ny: int,
    *,
    dark: bool = False,
    waves: tuple[float, float] | None = None,
) -> bytes:
    """Return one PNG of previews, from left to right and then downwards.

    Parameters
    ----------
    spectra
        At most ``nx * ny``; where they end, the grid stays empty.
    nx, ny
        Columns and rows.
    waves
        Ends of a common wavelength axis, Å; each spectrum has its own by default.
    """
    width, height = _cell_size(nx, ny)
    sheet = new_sheet(grid_size(nx, ny), _letters(width), dark=dark)
    left, letters = 2 * sheet.letters, sheet.letters
    for index, spectrum in enumerate(spectra):
        at = left + index % nx * width, index // nx * height
        room, head = _number_room(letters), _head_room(width)
        inside = at[0] + room, at[1] + head, width - room - 8, height - head - letters - 11
        view = _View(*inside, waves or wave_limits(spectrum.wave), flux_limits(spectrum))
        _draw_cell(sheet, view, spectrum)
        _head_cell(sheet, view, spectrum)
    sheet.text((sheet.image.width / 2, sheet.image.height - 5), WAVE_LABEL, "ms")
    if spectra:
        _label_flux(sheet, spectra[0].flux_unit, sheet.image.height / 2)
    return encode_png(np.asarray(sheet.image))


def _cell_size(nx: int, ny: int) -> tuple[int, int]:
    """Return width and height of a cell, pixels."""
    wide = min(_GRID_PIX[0] / nx, _GRID_PIX[1] / ny / _CELL_SHAPE)
    width = round(min(max(wide, _CELL_WIDTH[0]), _CELL_WIDTH[1]))
    return width, round(width * _CELL_SHAPE) + _head_room(width) - _head_room(_SMALL)


def _letters(width: int) -> int:
    """Return the height of letters in a cell of that width, pixels."""
    return 13 if width >= 640 else 11 if width >= 320 else 9


def _head_room(width: int) -> int:
    """Return the room above the frame of a cell, pixels."""
    return (1 if width >= _SMALL else 2) * (_letters(width) + 4) + 4


def _number_room(letters: int) -> int:
    """Return the room left of a cell for the numbers of its flux axis, pixels."""
    return round(3.2 * letters)


def _label_flux(sheet: Sheet, unit: str, middle: float) -> None:
    """Write the label of the flux axis, upwards at the left edge."""
    label = f"flux density ({unit})"
    length = font_of(sheet.letters).getlength(label)
    sheet.upright((sheet.letters * 0.9, middle - length / 2), label, sheet.colours.ink)


def _draw_cell(sheet: Sheet, view: _View, spectrum: Plotted) -> None:
    """Draw a spectrum in its frame, with ticks and numbers."""
    colours = sheet.colours
    zero = round(view.line(np.zeros(1))[0])
    if 0 < zero < view.height:
        at = view.top + zero
        sheet.draw.line((view.left, at, view.left + view.width, at), colours.faint)
    good = spectrum.ivar > 0
    marks = _marks(sheet, view, spectrum) if view.width >= _NAMES_WIDTH and good.any() else []
    _draw_marks(sheet, view, marks)
    _trace(sheet, view, spectrum.wave, noise_of(spectrum.ivar), colours.noise)
    _trace(sheet, view, spectrum.wave, np.where(good, spectrum.flux, np.nan), colours.flux)
    if spectrum.model is not None and np.any(spectrum.model[good]):
        _trace(sheet, view, spectrum.wave, np.where(good, spectrum.model, np.nan), colours.model)
    _name_marks(sheet, view, marks)
    if not good.any():
        middle = view.left + view.width / 2, view.top + view.height / 3
        sheet.text(middle, "no good pixels", "mm")
    _draw_frame(sheet, view)


def _trace(
    sheet: Sheet, view: _View, wave: npt.NDArray[np.float64], values: Floats, colour: str
) -> None:
    """Draw values over wavelength as steps; NaN makes a gap.

    Parameters
    ----------
    wave : 1D[npix] float64, Å
    values : 1D[npix] float, in the unit of the flux axis
    """
    low, high = _ranges(view, wave, values)
    drawn = np.flatnonzero(~np.isnan(low))
    if not len(drawn):
        return
    low, high = low[drawn] - _LINE_PIX / 2, high[drawn] + _LINE_PIX / 2
    low, high = np.clip(low, 0, view.height), np.clip(high, 0, view.height)
    # How much of a pixel a range covers rises over its upper edge and falls over its lower one:
    # only these changes are noted, and added up from the top. In whole numbers, so that each
    # column ends at zero again and no sum goes beyond 255.
    column, rise, fall = drawn // _FINE, low.astype(np.int64), high.astype(np.int64)
    places = np.concatenate((rise, rise + 1, fall, fall + 1)) * view.width + np.tile(column, 4)
    above, below = np.rint((low - rise) * _FULL), np.rint((high - fall) * _FULL)
    change = np.concatenate((_FULL - above, above, below - _FULL, -below))
    first, last = int(rise.min()), min(int(fall.max()) + 1, view.height)
    changes = np.bincount(places - first * view.width, change, (last + 2 - first) * view.width)
    # Modulo 256 on the way, which the sum undoes.
    some = changes.reshape(-1, view.width)[: last - first].astype(np.int16).astype(np.uint8)
    layer = Image.fromarray(np.add.accumulate(some, axis=0, dtype=np.uint8))
    sheet.image.paste(colour, (view.left, view.top + first), layer)


def _ranges(view: _View, wave: npt.NDArray[np.float64], values: Floats) -> tuple[Floats, Floats]:
    """Return the topmost and lowest line that values reach in each fine column; NaN for none."""
    ncol = view.width * _FINE
    edges = np.empty(len(wave) + 1)
    if len(wave) == 1:
        edges[:] = wave[0] - 1.0, wave[0] + 1.0
    elif len(wave):
        edges[1:-1] = (wave[1:] + wave[:-1]) / 2
        edges[0], edges[-1] = 1.5 * wave[0] - 0.5 * wave[1], 1.5 * wave[-1] - 0.5 * wave[-2]
    else:
        return np.full(ncol, np.nan), np.full(ncol, np.nan)
    at = view.column(edges) * _FINE
    columns = np.arange(ncol)
    start = np.searchsorted(at, columns, "right") - 1
    stop = np.searchsorted(at, columns + 1, "left")
    outside = (stop <= 0) | (start >= len(wave))
    start, stop = np.clip(start, 0, len(wave) - 1), np.clip(stop, 1, len(wave))
    # Where a step falls between two columns, the second one draws it.
    start[1:] = np.minimum(start[1:], stop[:-1] - 1)
    # Far outside is as good as just outside, and no number is too large to draw.
    lines = np.clip(view.line(values), -4.0, view.height + 4.0).astype(np.float32)
    lines = np.append(lines, np.float32(np.nan))
    pairs = np.stack((start, np.maximum(stop, start + 1)), axis=1).ravel()
    low, high = np.fmin.reduceat(lines, pairs)[::2], np.fmax.reduceat(lines, pairs)[::2]
    low[outside] = high[outside] = np.nan
    # A step as wide as the line is thick: a fine column more at either side.
    for reduce, one in ((np.fmin, low), (np.fmax, high)):
        wider = one.copy()
        reduce(wider[1:], one[:-1], out=wider[1:])
        reduce(wider[:-1], one[1:], out=wider[:-1])
        one[:] = wider
    return low, high


def _marks(sheet: Sheet, view: _View, spectrum: Plotted) -> list[Mark]:
    """Return the marks of lines at the redshift, their names apart from each other."""
    if spectrum.z is None or not spectrum.lines:
        return []
    gap = (sheet.letters + 2) * (view.waves[1] - view.waves[0]) / view.width
    return place_marks(spectrum.lines, 1.0 + spectrum.z, view.waves, gap)


def _draw_marks(sheet: Sheet, view: _View, marks: Sequence[Mark]) -> None:
    """Draw dashes at the lines, below the names."""
    top = _marks_top(sheet, view, marks)
    dashes = dash_mask(view.height + view.top - top)
    for mark in marks:
        for wave in mark.waves:
            column = round(view.left + _at(view, wave))
            sheet.image.paste(_mark_colour(sheet, mark), (column, top), dashes)


def _name_marks(sheet: Sheet, view: _View, marks: Sequence[Mark]) -> None:
    """Write the names of the lines over the spectrum, with strokes where one stands aside."""
    top = _marks_top(sheet, view, marks)
    for mark in marks:
        if not mark.name:
            continue
        colour = _mark_colour(sheet, mark)
        name = round(view.left + _at(view, mark.place))
        for wave in mark.waves:
            sheet.draw.line((round(view.left + _at(view, wave)), top, name, top - 8), colour)
        mask = upright_mask(mark.name, sheet.letters)
        corner = name - mask.width // 2 + 2, top - 9 - mask.height
        paper = (*corner, corner[0] + mask.width - 5, top - 9)
        sheet.draw.rectangle(paper, sheet.colours.paper)
        sheet.upright((name, corner[1]), mark.name, colour)


def _mark_colour(sheet: Sheet, mark: Mark) -> str:
    """Return the colour of a mark."""
    colours = {"emission": sheet.colours.emission, "absorption": sheet.colours.absorption}
    return colours.get(mark.kind, sheet.colours.ink)


def _marks_top(sheet: Sheet, view: _View, marks: Sequence[Mark]) -> int:
    """Return the line below which the dashes are, and above which the names."""
    lengths = [upright_mask(mark.name, sheet.letters).height for mark in marks if mark.name]
    return view.top + max(lengths, default=0) + 14


def _at(view: _View, wave: float) -> float:
    """Return the column of a wavelength."""
    low, high = view.waves
    return (wave - low) * view.width / (high - low)


def _draw_frame(sheet: Sheet, view: _View) -> None:
    """Draw the frame, ticks inwards on all sides, and the numbers."""
    ink, letters = sheet.colours.ink, sheet.letters
    left, top, right, bottom = view.left, view.top, view.left + view.width, view.top + view.height
    sheet.draw.rectangle((left, top, right, bottom), outline=ink)
    tick = _TICK_PIX if view.width >= 300 else 3
    ticks = find_ticks(*view.waves, view.width / (5.0 * letters))
    for values, length in ((ticks.minor, tick // 2 + 1), (ticks.major, tick + 1)):
        for at in (left + view.column(np.array(values))).round().astype(int).tolist():
            sheet.draw.line((at, bottom, at, bottom - length), ink)
            sheet.draw.line((at, top, at, top + length), ink)
    places = left + view.column(np.array(ticks.major))
    for place, label in zip(places.tolist(), ticks.labels, strict=True):
        half = font_of(letters).getlength(label) / 2
        # A number that would stand beyond the corner moves inside.
        sheet.text((min(place, right + 6 - half), bottom + 4), label, "ma")
    ticks = find_ticks(*view.fluxes, view.height / (2.6 * letters))
    for values, length in ((ticks.minor, tick // 2 + 1), (ticks.major, tick + 1)):
        for at in (top + view.line(np.array(values))).round().astype(int).tolist():
            sheet.draw.line((left, at, left + length, at), ink)
            sheet.draw.line((right, at, right - length, at), ink)
    places = top + view.line(np.array(ticks.major))
    for place, label in zip(places.tolist(), ticks.labels, strict=True):
        sheet.text((left - 5, place), label, "rm")


def _draw_legend(sheet: Sheet, view: _View, spectrum: Plotted) -> None:
    """Draw the legend above the right end of the frame."""
    colours = sheet.colours
    entries = [("1σ noise", colours.noise), ("flux", colours.flux)]
    if spectrum.model is not None and np.any(spectrum.model):
        entries.insert(0, ("model", colours.model))
    at = float(view.left + view.width)
    for name, colour in entries:
        at -= sheet.text((at, view.top - 8), name, "rs") + 5
        line = view.top - 8 - round(0.36 * sheet.letters)
        sheet.draw.line((at - 18, line, at, line), colour, 2)
        at -= 18 + 14


def _head_cell(sheet: Sheet, view: _View, spectrum: Plotted) -> None:
    """Write the name of a cell and what is known of it above it, in one line or in two."""
    font = font_of(sheet.letters)
    lines = [spectrum.about, spectrum.title]
    if view.width >= _NAMES_WIDTH // 2:
        sheet.text((view.left + view.width, view.top - 5), lines.pop(0), "rs")
    for number, line in enumerate(lines):
        shown = line
        # Identifier first, details later: what does not fit goes from the end.
        while shown and font.getlength(shown) > view.width:
            shown = shown.rpartition(" ")[0]
        sheet.text((view.left, view.top - 5 - number * (sheet.letters + 3)), shown, "ls")
