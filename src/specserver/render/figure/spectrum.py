"""Spectra as a figure of matplotlib: flux, model, noise, sky, and the lines at their redshift.

Nothing here touches pyplot or ``rcParams``: a figure carries its own colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cbook import is_math_text
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import AutoMinorLocator

from ..display import (
    Bools,
    DisplaySpectrum,
    Floats,
    noise_of,
    scaled_unit,
    series_labels,
    smoothed,
    unit_label,
    usual_smoothing,
)
from ..style import (
    Mark,
    Theme,
    flux_limits,
    flux_power,
    place_marks,
    theme,
    wave_label,
    wave_limits,
    with_pixels,
)

DPI: Final = 120
_SPACE: Final = "    "
"""Between the name of a spectrum and its class."""
_LABEL_SIZE: Final = 8.0
_POINT_IN: Final = 1 / 72
_STROKE_IN: Final = 0.12
_MASKED_SHARE: Final = 0.02
"""Height of the bar of masked pixels, in that of the axes."""
_PANEL_SHARE: Final = 0.28
"""Height of a lower panel, in that of the upper one."""

Limits = tuple[float, float]
Ends = tuple[float | None, float | None]
"""Ends of an axis; None: that of the data."""
PARTS: Final = ("flux", "model", "noise", "sky", "ivar")


@dataclass(frozen=True, slots=True)
class FigureLook:
    """Options of a figure."""

    parts: tuple[str, ...] = ("flux", "model", "noise")
    """Some of `PARTS`; sky and ivar have panels of their own, as their scale is another."""
    xlim: Ends = (None, None)
    ylim: Ends = (None, None)
    title: str | None = None
    """None: a single spectrum has its own title and class, several have none."""
    xlabel: str | None = None
    ylabel: str | None = None
    grid: bool = False
    dark: bool = False
    args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Arguments of matplotlib's ``Axes.plot`` by part, by their full names."""
    figsize: tuple[float, float] | None = None
    """Width and height, inches; None: `size` chooses."""
    smooth: float | None = None
    """Standard deviation of the Gaussian that smooths, pixels; 0: none; None: `usual_smoothing`."""

    def smoothing(self, spectrum: DisplaySpectrum) -> float:
        """Return the standard deviation of the Gaussian that smooths a spectrum; 0: none."""
        return usual_smoothing(spectrum) if self.smooth is None else self.smooth

    @property
    def panels(self) -> list[str]:
        """The parts to draw in panels below the spectrum."""
        return [name for name in ("sky", "ivar") if name in self.parts]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure, inches; higher for each panel."""
        return self.figsize or (12.0, 5.0 + 1.4 * len(self.panels))


def new_axes(figure: Figure, look: FigureLook, *, panels: bool) -> list[Axes]:
    """Return the axes of an empty figure: those of the spectrum, then those of its panels."""
    figure.set_facecolor(theme(dark=look.dark).paper)
    figure.set_layout_engine("constrained")
    ratios = [1.0, *([_PANEL_SHARE] * (len(look.panels) if panels else 0))]
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    return list(grid[:, 0])


def reads_formulas(text: str) -> bool:
    """Return whether matplotlib reads all formulas of a text: it takes each line by itself."""
    try:
        for line in filter(is_math_text, text.split("\n")):
            MathTextParser("agg").parse(line)
    except ValueError:
        return False
    return True


def draw_spectrum(every: Sequence[Axes], spectrum: DisplaySpectrum, look: FigureLook) -> None:
    """Draw one spectrum into axes, and its `FigureLook.panels` into those after the first."""
    colours = theme(dark=look.dark)
    for axes in every:
        _dress(axes, colours, grid=look.grid)
    width = look.smoothing(spectrum)
    look, shown = replace(look, smooth=width), smoothed(spectrum, width)
    _draw_main(every[0], spectrum, shown, look)
    vectors: dict[str, Any] = {"sky": shown.sky, "ivar": shown.weights}
    for name, axes in zip(look.panels, every[1:], strict=False):
        style: dict[str, Any] = {
            "color": colours.sky if name == "sky" else colours.noise,
            "linewidth": 0.7,
            "drawstyle": "steps-mid",
        }
        axes.plot(shown.wave, vectors[name], **{**style, **look.args.get(name, {})})
        power = _shorten_numbers(axes)
        unit = shown.axis_unit(power)
        text = f"sky ({unit})" if unit else "sky"
        if name == "ivar":
            factors = (unit_label(scaled_unit("", power)), f"({shown.unit})⁻²" * bool(shown.unit))
            text = ", ".join(["inverse variance", " ".join(factors).strip()]).strip(", ")
        axes.set_title(
            text, fontsize=_LABEL_SIZE, loc="left", color=colours.ink, pad=3.0,
            parse_math=reads_formulas(text),
        )  # fmt: skip
    every[-1].set_xlabel(_x_label(shown, look), color=colours.ink)
    every[0].set_xlim(_ends(look.xlim, wave_limits(shown.wave)))
    _draw_marks(every[0], shown, look, flux_limits(replace(shown, lines=())))
    _name_flux(every[0], shown, look)


def draw_spectra(axes: Axes, several: Sequence[DisplaySpectrum], look: FigureLook) -> None:
    """Draw up to `MOST_OVER` spectra into axes; pixels that are masked are gaps.

    The first gives axes their names, and lines are marked at its redshift.
    """
    colours = theme(dark=look.dark)
    _dress(axes, colours, grid=look.grid)
    # All are smoothed alike, so that they can be compared: by default only if all are faint.
    widths = [min(map(look.smoothing, with_pixels(several)))] * len(several)
    shown = [smoothed(*pair) for pair in zip(several, widths, strict=True)]
    # The first lies on top, as its lines are marked.
    labels = series_labels(shown)
    for at, spectrum in reversed(list(enumerate(shown))):
        style: dict[str, Any] = {"color": colours.series[at], "linewidth": 0.8}
        style |= {"drawstyle": "steps-mid", "zorder": 2.5 - 0.01 * at}
        weights = spectrum.weights
        if "noise" in look.parts and spectrum.ivar is not None:
            axes.plot(
                spectrum.wave, noise_of(weights), **(style | {"linewidth": 0.5, "alpha": 0.5})
            )
        label = f"{labels[at]}  {spectrum.redshift}".strip()
        label += f", smoothed by σ = {widths[at]:g} pixels" if widths[at] else ""
        style |= {"label": label, **look.args.get("flux", {})}
        _draw_curve(axes, spectrum.wave, spectrum.flux, weights > 0, style)
    framed = with_pixels(shown)
    limits = [flux_limits(replace(spectrum, lines=())) for spectrum in framed]
    low, high = min(ends[0] for ends in limits), max(ends[1] for ends in limits)
    waves = [wave_limits(spectrum.wave) for spectrum in framed]
    axes.set_ylim(_ends(look.ylim, (low, high)))
    reach = min(ends[0] for ends in waves), max(ends[1] for ends in waves)
    axes.set_xlim(_ends(look.xlim, reach))
    axes.set_xlabel(_x_label(shown[0], look), color=colours.ink)
    axes.set_title(look.title or "", fontsize=10, loc="right", color=colours.ink)
    handles, names = axes.get_legend_handles_labels()
    legend = axes.legend(
        handles[::-1], names[::-1], loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=8,
        ncols=1 if len(several) < 4 else 2, frameon=False, labelcolor=colours.ink,
        borderaxespad=0.3, handlelength=1.6,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
    _draw_marks(axes, shown[0], look, (low, high))
    _name_flux(axes, shown[0], look)


def _ends(chosen: Ends, usual: Limits) -> Limits:
    """Return the ends of an axis, those that the caller chose in place of the usual ones."""
    low, high = chosen
    return usual[0] if low is None else low, usual[1] if high is None else high


def _draw_curve(
    axes: Axes, wave: Floats, values: Floats, good: Bools, style: Mapping[str, Any]
) -> None:
    """Draw good pixels as a line with gaps, and those between two gaps as points."""
    (line,) = axes.plot(wave, np.where(good, values, np.nan), **style)
    beside = np.concatenate(([False], good, [False]))
    alone = np.flatnonzero(good & ~beside[:-2] & ~beside[2:])
    if len(alone):
        axes.plot(
            wave[alone], values[alone], ls="", marker=".", ms=3.0, color=line.get_color(),
            alpha=line.get_alpha(), zorder=line.get_zorder(),
        )  # fmt: skip


def _dress(axes: Axes, colours: Theme, *, grid: bool) -> None:
    """Give axes their colours and ticks."""
    axes.set_facecolor(colours.paper)
    for spine in axes.spines.values():
        spine.set_color(colours.ink)
    axes.xaxis.set_minor_locator(AutoMinorLocator())
    axes.yaxis.set_minor_locator(AutoMinorLocator())
    axes.tick_params(
        which="both", direction="in", top=True, right=True, color=colours.ink,
        labelcolor=colours.ink,
    )  # fmt: skip
    axes.axhline(0.0, color=colours.ink, alpha=0.35, lw=0.6, zorder=0)
    if grid:
        axes.grid(visible=True, color=colours.faint, lw=0.6, zorder=0)
        axes.set_axisbelow(True)


def _x_label(spectrum: DisplaySpectrum, look: FigureLook) -> str:
    """Return the name of the wavelength axis."""
    return look.xlabel or wave_label([spectrum.medium], rest=spectrum.rest)


def _draw_main(
    axes: Axes, spectrum: DisplaySpectrum, shown: DisplaySpectrum, look: FigureLook
) -> None:
    """Draw flux, noise and model into the upper panel; behind a smoothed flux the one as it is."""
    colours = theme(dark=look.dark)
    weights = shown.weights
    good, noise = weights > 0, None if shown.ivar is None else noise_of(weights)
    flux = f"flux, smoothed by σ = {look.smooth:g} pixels" if look.smooth else "flux"
    wanted: dict[str, tuple[Floats | None, str, dict[str, Any]]] = {
        "flux": (shown.flux, flux, {"color": colours.flux, "linewidth": 0.7}),
        "noise": (noise, "1σ noise", {"color": colours.noise, "linewidth": 0.7}),
        "model": (shown.model, "model", {"color": colours.model, "linewidth": 1.0}),
    }
    if look.smooth and "flux" in look.parts:
        pale: dict[str, Any] = {
            "color": colours.flux,
            "linewidth": 0.5,
            "alpha": 0.3,
            "drawstyle": "steps-mid",
        }
        axes.plot(spectrum.wave, np.where(good, spectrum.flux, np.nan), **pale)
    for name, (values, label, style) in wanted.items():
        if name not in look.parts or values is None or not np.any(values[good]):
            continue
        step: dict[str, Any] = {"drawstyle": "steps-mid", "label": label}
        drawn = {**step, **style, **look.args.get(name, {})}
        _draw_curve(axes, shown.wave, values, good, drawn)
    _draw_masked(axes, shown, colours)
    axes.set_ylim(_ends(look.ylim, flux_limits(shown)))
    usual = f"{shown.name or shown.title}{_SPACE}{shown.about}".strip()
    heading = usual if look.title is None else look.title.strip()
    # The name of a file may have dollars; a caller's title may have a formula.
    axes.set_title(
        heading, fontsize=10, loc="left", color=colours.ink, parse_math=look.title is not None
    )
    if not good.any():
        axes.text(0.5, 0.6, "no good pixels", color=colours.ink, transform=axes.transAxes)
    if entries := len(axes.get_legend_handles_labels()[0]):
        # Above the frame: inside it the legend would cover names of lines or the spectrum.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=entries, fontsize=8, frameon=False,
            labelcolor=colours.ink, borderaxespad=0.3, handlelength=1.4, columnspacing=1.2,
        )  # fmt: skip


def _draw_masked(axes: Axes, spectrum: DisplaySpectrum, colours: Theme) -> None:
    """Draw a bar at the lower edge where pixels are masked."""
    masked, wave = spectrum.masked, spectrum.wave
    if masked is None or not masked.any() or len(wave) < 2:
        return
    step = np.gradient(wave)
    ends = np.flatnonzero(np.diff(np.concatenate(([0], masked.astype(np.int8), [0]))))
    first, last = ends[::2], ends[1::2] - 1
    left, right = wave[first] - step[first] / 2, wave[last] + step[last] / 2
    # The edge makes a single pixel wide enough to be seen.
    axes.broken_barh(
        list(zip(left, right - left, strict=True)), (0.0, _MASKED_SHARE), lw=1.0, label="masked",
        color=colours.masked, transform=axes.get_xaxis_transform(), zorder=1.5,
    )  # fmt: skip


def _name_flux(axes: Axes, spectrum: DisplaySpectrum, look: FigureLook) -> None:
    """Name the flux axis; its unit has the power of ten that its numbers lack."""
    # A label that the caller gives states no power of ten, so the tick labels stay as they are.
    label = look.ylabel or spectrum.axis_label(_shorten_numbers(axes))
    axes.set_ylabel(label, color=theme(dark=look.dark).ink, parse_math=reads_formulas(label))


def _shorten_numbers(axes: Axes) -> int:
    """Divide the numbers of the y axis by a power of ten, where they are long; return it."""
    power = flux_power(axes.get_ylim())
    if power:
        axes.yaxis.set_major_formatter(
            lambda value, _: f"{value / 10.0**power:g}".replace("-", "−")
        )
    return power


def _draw_marks(axes: Axes, spectrum: DisplaySpectrum, look: FigureLook, limits: Limits) -> None:
    """Mark the lines: emission at the top, absorption at the bottom.

    The flux axis grows so that the names are clear of ``limits``, unless the caller set ``ylim``.
    """
    figure = _lay_out(axes)
    width_in, height_in = axes.bbox.width / figure.dpi, axes.bbox.height / figure.dpi
    if not width_in * height_in:
        return
    low, high = sorted(axes.get_xlim())
    gap = 1.5 * _LABEL_SIZE * _POINT_IN * (high - low) / width_in
    absorption = tuple(line for line in spectrum.marked if line.kind == "absorption")
    emission = tuple(line for line in spectrum.marked if line.kind != "absorption")
    above = place_marks(emission, spectrum.stretch, (low, high), gap)
    below = place_marks(absorption, spectrum.stretch, (low, high), gap)
    bottom, top = _zone(below, height_in), 1.0 - _zone(above, height_in)
    low, high = limits
    room = (high - low) / (top - bottom)
    axes.set_ylim(_ends(look.ylim, (low - bottom * room, high + (1.0 - top) * room)))
    colours = theme(dark=look.dark)
    stroke = _STROKE_IN / height_in
    for marks, colour, edge, step in (
        (above, colours.emission, top, stroke),
        (below, colours.absorption, bottom, -stroke),
    ):
        for mark in marks:
            _draw_mark(axes, mark, colour, (bottom, top))
            _draw_name(axes, mark, (colour, colours.paper), (edge, edge + step))


def _lay_out(axes: Axes) -> Figure:
    """Give axes their size, which names of lines need; return their figure.

    A title that would meet the legend becomes two lines.
    """
    figure: Figure = axes.figure.canvas.figure
    figure.draw_without_rendering()
    title, legend = axes.get_title(loc="left"), axes.get_legend()
    if _SPACE in title and legend is not None:
        (text,) = (text for text in axes.findobj(Text) if text.get_text() == title)
        if text.get_window_extent().x1 > legend.get_window_extent().x0:
            text.set_text(title.replace(_SPACE, "\n", 1))
            figure.draw_without_rendering()
    return figure


def _zone(marks: list[Mark], height_in: float) -> float:
    """Return the part of the axes that names and their strokes need."""
    longest = max((len(mark.name) for mark in marks), default=0)
    if not longest:
        return 0.0
    # A letter is some 0.6 of its height wide.
    return min((longest * 0.64 * _LABEL_SIZE * _POINT_IN + _STROKE_IN + 0.04) / height_in, 0.35)


def _draw_mark(axes: Axes, mark: Mark, colour: str, span: tuple[float, float]) -> None:
    """Draw the dashes of a mark, clear of all names."""
    transform = axes.get_xaxis_transform()
    for wave in mark.waves:
        axes.plot(
            [wave, wave], span, ls=(0, (3, 4)), lw=0.7, color=colour, alpha=0.75, scalex=False,
            transform=transform, zorder=1,
        )  # fmt: skip


def _draw_name(axes: Axes, mark: Mark, colours: tuple[str, str], ends: tuple[float, float]) -> None:
    """Draw the name of a mark, with a stroke to each of its lines."""
    transform = axes.get_xaxis_transform()
    colour, paper = colours
    for wave in mark.waves:
        axes.plot(
            [wave, mark.place], ends, ls="-", lw=0.7, color=colour, scalex=False,
            transform=transform, zorder=1,
        )  # fmt: skip
    axes.text(
        mark.place, ends[1], mark.name, rotation=90, ha="center",
        va="bottom" if ends[1] > ends[0] else "top", fontsize=_LABEL_SIZE, color=colour,
        transform=transform, clip_on=True, zorder=4,
        bbox={"facecolor": paper, "edgecolor": "none", "alpha": 0.9, "pad": 0.8},
    )  # fmt: skip
