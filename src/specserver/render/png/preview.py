"""Previews of spectra, alone and in a grid, drawn into an array of pixels.

A figure of matplotlib takes 60 ms, most of it for axes. Here lines are written into an array,
Pillow makes the letters, and a spectrum is a range of flux in each column of pixels.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from ..display import DisplaySpectrum, Floats, noise_of
from ..style import (
    Mark,
    find_ticks,
    flux_limits,
    flux_power,
    place_marks,
    wave_label,
    wave_limits,
)
from .canvas import Canvas, font_of, new_canvas, text_mask, upright_mask
from .rasterize import Steps, View, find_steps, rasterize

PREVIEW_SIZE: Final = (860, 340)
_GRID_PIX: Final = (1800, 1500)
"""Width and height of a grid whose cells reach neither limit of `_CELL_WIDTH`."""
_CELL_WIDTH: Final = (200, PREVIEW_SIZE[0])
_CELL_SHAPE: Final = 0.5
"""Height of a cell over its width; a small cell has a second line of text above it."""
_SMALL: Final = 320
_FOOT_WIDTH: Final = 540
"""Least width of a grid with its legend beside the name of the wavelength axis."""
_MASKED_PIX: Final = 7
"""Height of the bar that shows where pixels are masked."""
_TICK_PIX: Final = 5
_EDGE_PIX: Final = 10
_NAMES_WIDTH: Final = 420
"""Least width of a frame with marks of lines: a narrower one has no room for their names."""


def preview_png(spectrum: DisplaySpectrum, *, dark: bool = False) -> bytes:
    """Return a PNG of one spectrum: flux, noise, model, and the lines at its redshift."""
    canvas = new_canvas(PREVIEW_SIZE, 13, dark=dark)
    width, height = PREVIEW_SIZE
    box = (78, 28, width - 78 - 14, height - 28 - 46)
    view = View(*box, wave_limits(spectrum.wave), flux_limits(spectrum))
    _draw_cell(canvas, view, spectrum)
    about = f"    {spectrum.about}" if spectrum.about else ""
    room = _draw_legend(canvas, (view.right, view.top - 8), [spectrum]) - view.left
    room -= font_of(13).getlength(about)
    title = _fitting(spectrum.title, room, canvas.letters)
    canvas.text((view.left, view.top - 8), title + about, "ls")
    canvas.text((view.left + view.width / 2, height - 6), wave_label([spectrum.medium]), "ms")
    _label_flux(canvas, spectrum.axis_label(view.power), 0, view.top + view.height / 2)
    return canvas.png()


def grid_size(nx: int, ny: int) -> tuple[int, int]:
    """Return width and height of a grid, pixels."""
    width, height = _cell_size(nx, ny)
    letters = _letters(width)
    # A legend stands beside the name of the wavelength axis, or above it.
    foot = 2 * letters + _EDGE_PIX + (letters + 8 if nx * width < _FOOT_WIDTH else 0)
    return nx * width + 2 * letters + _EDGE_PIX, ny * height + foot


def grid_png(
    spectra: Sequence[DisplaySpectrum],
    nx: int,
    ny: int,
    *,
    dark: bool = False,
    waves: tuple[float, float] | None = None,
) -> bytes:
    """Return one PNG of previews, from left to right and then downwards.

    Parameters
    ----------
    spectra : at most ``nx * ny``; the rest of the grid stays empty
    nx, ny : columns and rows
    waves : ends of a common wavelength axis, Å; each spectrum has its own by default
    """
    width, height = _cell_size(nx, ny)
    canvas = new_canvas(grid_size(nx, ny), _letters(width), dark=dark)
    left, letters = 2 * canvas.letters, canvas.letters
    limits = [flux_limits(spectrum) for spectrum in spectra]
    powers = [flux_power(ends) for ends in limits]
    pairs = zip(spectra, powers, strict=True)
    labels = list(dict.fromkeys(spectrum.axis_label(power) for spectrum, power in pairs))
    units_differ = len(labels) > 1
    for index, spectrum in enumerate(spectra):
        at = left + index % nx * width, index // nx * height
        # Left of the frame stand the numbers of the flux axis.
        room, head = round((4.6 if units_differ else 3.2) * letters), _head_room(width)
        inside = at[0] + room, at[1] + head, width - room - 8, height - head - letters - 11
        view = View(*inside, waves or wave_limits(spectrum.wave), limits[index])
        _draw_cell(canvas, view, spectrum)
        _head_cell(canvas, view, spectrum)
        if units_differ:
            unit = spectrum.axis_unit(view.power) or "no unit"
            _label_flux(canvas, unit, at[0], view.top + view.height / 2)
    label = wave_label(spectrum.medium for spectrum in spectra)
    above = letters + 8 if nx * width < _FOOT_WIDTH else 0
    _draw_legend(canvas, (canvas.width - 8, canvas.height - 5 - above), spectra)
    canvas.text((canvas.width / 2, canvas.height - 5), label, "ms")
    if labels:
        _label_flux(canvas, "flux density" if units_differ else labels[0], 0, canvas.height / 2)
    return canvas.png()


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


def _label_flux(canvas: Canvas, label: str, left: int, middle: float) -> None:
    """Write the label of a flux axis, upwards at the left edge."""
    length = len(upright_mask(label, canvas.letters))
    canvas.upright((left + canvas.letters * 0.9, middle - length / 2), label, canvas.colours.ink)


def _draw_cell(canvas: Canvas, view: View, spectrum: DisplaySpectrum) -> None:
    """Draw a spectrum in its frame, with ticks and numbers."""
    colours = canvas.colours
    zero = round(view.line(np.zeros(1))[0])
    if 0 < zero < view.height:
        at = view.top + zero
        canvas.fill(view.left, at, view.right, at, colours.faint)
    weights = spectrum.weights
    good = weights > 0
    marks = _marks(canvas, view, spectrum) if view.width >= _NAMES_WIDTH and good.any() else []
    _draw_marks(canvas, view, marks)
    steps = find_steps(view, spectrum.wave)
    if spectrum.ivar is not None:
        _draw_trace(canvas, view, steps, noise_of(weights), colours.noise)
    _draw_trace(canvas, view, steps, np.where(good, spectrum.flux, np.nan), colours.flux)
    if spectrum.model is not None and np.any(spectrum.model[good]):
        _draw_trace(canvas, view, steps, np.where(good, spectrum.model, np.nan), colours.model)
    _name_marks(canvas, view, marks)
    _draw_masked(canvas, view, spectrum)
    if not good.any():
        middle = view.left + view.width / 2, view.top + view.height / 3
        canvas.text(middle, "no good pixels", "mm")
    _draw_frame(canvas, view)


def _draw_masked(canvas: Canvas, view: View, spectrum: DisplaySpectrum) -> None:
    """Draw a bar at the lower edge where pixels are masked."""
    if spectrum.masked is None:
        return
    columns = view.column(spectrum.wave[spectrum.masked]).astype(np.intp)
    columns = view.left + columns[(columns >= 0) & (columns < view.width)]
    # Two columns wide, so that a single pixel is seen.
    for column in (columns, columns + 1):
        canvas.bar(column, view.bottom - _MASKED_PIX, view.bottom, canvas.colours.masked)


def _draw_trace(canvas: Canvas, view: View, steps: Steps, values: Floats, colour: str) -> None:
    """Draw values over wavelength; NaN makes a gap."""
    first, levels = rasterize(view, steps, values)
    canvas.cover(view.left, view.top + first, levels, colour)


def _marks(canvas: Canvas, view: View, spectrum: DisplaySpectrum) -> list[Mark]:
    """Return the marks of lines at the redshift, their names apart from each other."""
    if not spectrum.marked:
        return []
    gap = (canvas.letters + 2) * (view.waves[1] - view.waves[0]) / view.width
    return place_marks(spectrum.marked, spectrum.stretch, view.waves, gap)


def _draw_marks(canvas: Canvas, view: View, marks: Sequence[Mark]) -> None:
    """Draw dashes at the lines, below the names."""
    top = _marks_top(canvas, view, marks)
    for mark in marks:
        for wave in mark.waves:
            column = round(view.left + _at(view, wave))
            canvas.dashes(column, top, view.bottom, _mark_colour(canvas, mark))


def _name_marks(canvas: Canvas, view: View, marks: Sequence[Mark]) -> None:
    """Write the names of the lines over the spectrum, with strokes where one stands aside."""
    top = _marks_top(canvas, view, marks)
    for mark in marks:
        if not mark.name:
            continue
        colour = _mark_colour(canvas, mark)
        name = round(view.left + _at(view, mark.place))
        for wave in mark.waves:
            canvas.stroke((round(view.left + _at(view, wave)), top), (name, top - 8), colour)
        height, width = upright_mask(mark.name, canvas.letters).shape
        left, above = name - width // 2 + 2, top - 9 - height
        canvas.fill(left, above, left + width - 5, top - 9, canvas.colours.paper)
        canvas.upright((name, above), mark.name, colour)


def _mark_colour(canvas: Canvas, mark: Mark) -> str:
    """Return the colour of a mark."""
    colours = {"emission": canvas.colours.emission, "absorption": canvas.colours.absorption}
    return colours.get(mark.kind, canvas.colours.ink)


def _marks_top(canvas: Canvas, view: View, marks: Sequence[Mark]) -> int:
    """Return the line below which the dashes are, and above which the names."""
    lengths = [len(upright_mask(mark.name, canvas.letters)) for mark in marks if mark.name]
    return view.top + max(lengths, default=0) + 14


def _at(view: View, wave: float) -> float:
    """Return the column of a wavelength."""
    low, high = view.waves
    return (wave - low) * view.width / (high - low)


def _draw_frame(canvas: Canvas, view: View) -> None:
    """Draw the frame, ticks inwards on all sides, and the numbers."""
    ink, letters = canvas.colours.ink, canvas.letters
    left, top, right, bottom = view.left, view.top, view.right, view.bottom
    for at in (top, bottom):
        canvas.fill(left, at, right, at, ink)
    for at in (left, right):
        canvas.fill(at, top, at, bottom, ink)
    tick = _TICK_PIX if view.width >= 300 else 3
    ticks = find_ticks(*view.waves, view.width / (5.0 * letters))
    for values, length in ((ticks.minor, tick // 2 + 1), (ticks.major, tick + 1)):
        columns = left + np.rint(view.column(np.array(values))).astype(np.intp)
        canvas.ticks(columns, bottom - length, bottom)
        canvas.ticks(columns, top, top + length)
    places = left + view.column(np.array(ticks.major))
    for place, label in zip(places.tolist(), ticks.labels, strict=True):
        half = text_mask(label, letters, "ma").length / 2
        # A number beyond the corner moves inside.
        canvas.text((min(place, right + 6 - half), bottom + 4), label, "ma")
    unit = 10.0**view.power
    low, high = view.fluxes
    ticks = find_ticks(low / unit, high / unit, view.height / (2.6 * letters))
    for values, length in ((ticks.minor, tick // 2 + 1), (ticks.major, tick + 1)):
        lines = top + np.rint(view.line(np.array(values) * unit)).astype(np.intp)
        canvas.level_ticks(lines, left, left + length)
        canvas.level_ticks(lines, right - length, right)
    places = top + view.line(np.array(ticks.major) * unit)
    for place, label in zip(places.tolist(), ticks.labels, strict=True):
        canvas.text((left - 5, place), label, "rm")


def _draw_legend(canvas: Canvas, end: tuple[int, int], spectra: Sequence[DisplaySpectrum]) -> float:
    """Draw the legend of what spectra show, up to its lower right end; return its left end."""
    colours, (right, bottom) = canvas.colours, end
    entries = {
        "masked": (colours.masked, any(np.any(each.masked) for each in spectra)),
        "model": (colours.model, any(np.any(each.model) for each in spectra)),
        "1σ noise": (colours.noise, any(each.ivar is not None for each in spectra)),
        "flux": (colours.flux, True),
    }
    at = float(right)
    for name, (colour, shown) in entries.items():
        if not shown:
            continue
        at -= canvas.text((at, bottom), name, "rs") + 5
        line = bottom - round(0.36 * canvas.letters)
        thick = 1 if name == "masked" else 0
        canvas.fill(round(at) - 18, line - 1 - thick, round(at), line + thick, colour)
        at -= 18 + 14
    return at


def _head_cell(canvas: Canvas, view: View, spectrum: DisplaySpectrum) -> None:
    """Write title, class and redshift above a cell, in one line or in two."""
    lines, room = [spectrum.about, spectrum.title], float(view.width)
    if view.width >= _NAMES_WIDTH // 2:
        room -= canvas.text((view.left + view.width, view.top - 5), lines.pop(0), "rs")
        room -= canvas.letters
    for number, line in enumerate(lines):
        shown = _fitting(line, room, canvas.letters)
        canvas.text((view.left, view.top - 5 - number * (canvas.letters + 3)), shown, "ls")


def _fitting(text: str, width: float, letters: int) -> str:
    """Return the words of a title that fit into a width in pixels.

    Words in the middle are left out first: the first, a name, may be cut, and the last, a release,
    stays as long as there is room.
    """
    length = font_of(letters).getlength
    words = text.split(" ")
    while len(words) > 2 and length(" ".join(words)) > width:
        del words[-2]
    name, *release = words
    text, kept = " ".join(words), len(name)
    while kept and length(text) > width:
        kept -= 1
        text = " ".join([f"{name[:kept]}…", *release])
    if kept:
        return text
    return _fitting(name, width, letters) if release else ""
