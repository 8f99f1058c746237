"""Spectra as a figure of matplotlib: flux, model, noise, sky, and the lines at their redshift.

Nothing here touches pyplot or ``rcParams``: a figure carries its own colours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator

from ..display import DisplaySpectrum, Floats, noise_of, series_labels
from ..style import (
    Mark,
    Theme,
    flux_limits,
    place_marks,
    theme,
    wave_label,
    wave_limits,
)

DPI: Final = 120
_LABEL_SIZE: Final = 8.0
_POINT_IN: Final = 1 / 72
_STROKE_IN: Final = 0.12
_PANEL_SHARE: Final = 0.28
"""Height of a lower panel, in that of the upper one."""

Limits = tuple[float, float]
PARTS: Final = ("flux", "model", "noise", "sky", "ivar")


@dataclass(frozen=True, slots=True)
class FigureLook:
    """Options of a figure."""

    parts: tuple[str, ...] = ("flux", "model", "noise")
    """Some of `PARTS`; sky and ivar have panels of their own, as their scale is another."""
    xlim: Limits | None = None
    ylim: Limits | None = None
    title: str | None = None
    """None: a single spectrum has its own title and class, several have none."""
    xlabel: str | None = None
    ylabel: str | None = None
    grid: bool = False
    dark: bool = False
    args: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Arguments of matplotlib's ``Axes.plot`` by part."""
    figsize: tuple[float, float] | None = None
    """Width and height, inches; None: `size` chooses."""

    @property
    def panels(self) -> list[str]:
        """The parts to draw in panels below the spectrum."""
        return [name for name in ("sky", "ivar") if name in self.parts]

    @property
    def size(self) -> tuple[float, float]:
        """Width and height of the figure, inches; higher for each panel."""
        return self.figsize or (12.0, 5.0 + 1.4 * len(self.panels))


def draw_spectrum(figure: Figure, spectrum: DisplaySpectrum, look: FigureLook) -> None:
    """Draw one spectrum into an empty figure; pixels with ivar = 0 are gaps."""
    colours = _prepare(figure, look)
    vectors = {"sky": spectrum.sky, "ivar": spectrum.weights}
    below = [(name, values) for name in look.panels if (values := vectors[name]) is not None]
    ratios = [1.0, *([_PANEL_SHARE] * len(below))]
    grid = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    every: list[Axes] = list(grid[:, 0])
    for axes in every:
        _dress(axes, colours, grid=look.grid)
    _draw_main(every[0], spectrum, look, colours)
    for (name, values), axes in zip(below, every[1:], strict=True):
        style: dict[str, Any] = {
            "color": colours.sky if name == "sky" else colours.noise,
            "lw": 0.7,
        }
        axes.plot(spectrum.wave, values, drawstyle="steps-mid", **(style | _own_args(look, name)))
        text = "sky" if name == "sky" else "inverse variance"
        if unit := spectrum.unit:
            text = f"sky ({unit})" if name == "sky" else f"inverse variance, ({unit})⁻²"
        axes.set_title(text, fontsize=_LABEL_SIZE, loc="left", color=colours.ink, pad=3.0)
    every[-1].set_xlabel(_x_label(spectrum, look), color=colours.ink)
    every[0].set_xlim(look.xlim or wave_limits(spectrum.wave))
    _draw_marks(figure, every[0], spectrum, look, flux_limits(replace(spectrum, lines=())))


def draw_spectra(figure: Figure, several: Sequence[DisplaySpectrum], look: FigureLook) -> None:
    """Draw up to `MOST_OVER` spectra into an empty figure; pixels with ivar = 0 are gaps.

    The first gives axes their names, and lines are marked at its redshift.
    """
    colours = _prepare(figure, look)
    axes = figure.subplots()
    _dress(axes, colours, grid=look.grid)
    # The first lies on top, as its lines are marked.
    labels = series_labels(several)
    for at, spectrum in reversed(list(enumerate(several))):
        style: dict[str, Any] = {"color": colours.series[at], "lw": 0.8}
        style |= {"drawstyle": "steps-mid", "zorder": 2.5 - 0.01 * at}
        weights = spectrum.weights
        if "noise" in look.parts and spectrum.ivar is not None:
            axes.plot(spectrum.wave, noise_of(weights), **(style | {"lw": 0.5, "alpha": 0.5}))
        flux = np.where(weights > 0, spectrum.flux, np.nan)
        label = labels[at]
        if spectrum.z is not None:
            label = f"{label}  z = {spectrum.z:.4f}".replace("-", "−")
        axes.plot(spectrum.wave, flux, label=label, **(style | _own_args(look, "flux")))
    limits = [flux_limits(replace(spectrum, lines=())) for spectrum in several]
    low, high = min(ends[0] for ends in limits), max(ends[1] for ends in limits)
    waves = [wave_limits(spectrum.wave) for spectrum in several]
    axes.set_ylim(look.ylim or (low, high))
    axes.set_xlim(look.xlim or (min(ends[0] for ends in waves), max(ends[1] for ends in waves)))
    axes.set_ylabel(look.ylabel or several[0].flux_label, color=colours.ink)
    axes.set_xlabel(_x_label(several[0], look), color=colours.ink)
    axes.set_title(look.title or "", fontsize=10, loc="right", color=colours.ink)
    handles, shown = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], shown[::-1], loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=8,
        ncols=1 if len(several) < 4 else 2, frameon=False, labelcolor=colours.ink,
        borderaxespad=0.3, handlelength=1.6,
    )  # fmt: skip
    _draw_marks(figure, axes, several[0], look, (low, high))


def _prepare(figure: Figure, look: FigureLook) -> Theme:
    """Give an empty figure its background and layout; return its colours."""
    colours = theme(dark=look.dark)
    figure.set_facecolor(colours.paper)
    figure.set_layout_engine("constrained")
    return colours


def _own_args(look: FigureLook, part: str) -> dict[str, Any]:
    """Return the caller's arguments for a part, by short names: matplotlib refuses both."""
    short = {"linewidth": "lw", "linestyle": "ls", "c": "color"}
    return {short.get(name, name): value for name, value in look.args.get(part, {}).items()}


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


def _draw_main(axes: Axes, spectrum: DisplaySpectrum, look: FigureLook, colours: Theme) -> None:
    """Draw flux, noise and model into the upper panel."""
    weights = spectrum.weights
    good, noise = weights > 0, None if spectrum.ivar is None else noise_of(weights)
    wanted: dict[str, tuple[Floats | None, str, dict[str, Any]]] = {
        "flux": (spectrum.flux, "flux", {"color": colours.flux, "lw": 0.7}),
        "noise": (noise, "1σ noise", {"color": colours.noise, "lw": 0.7}),
        "model": (spectrum.model, "model", {"color": colours.model, "lw": 1.0}),
    }
    drawn = 0
    for name, (values, label, style) in wanted.items():
        if name not in look.parts or values is None or not np.any(values[good]):
            continue
        shown = np.where(good, values, np.nan)
        step: dict[str, Any] = {"drawstyle": "steps-mid", "label": label}
        axes.plot(spectrum.wave, shown, **(step | style | _own_args(look, name)))
        drawn += 1
    axes.set_ylim(look.ylim or flux_limits(spectrum))
    axes.set_ylabel(look.ylabel or spectrum.flux_label, color=colours.ink)
    own = f"{spectrum.title}    {spectrum.about}".strip()
    heading = own if look.title is None else look.title.strip()
    axes.set_title(heading, fontsize=10, loc="left", color=colours.ink)
    if not good.any():
        axes.text(0.5, 0.6, "no good pixels", color=colours.ink, transform=axes.transAxes)
    if drawn:
        # Above the frame: inside it the legend would cover names of lines or the spectrum.
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=drawn, fontsize=8, frameon=False,
            labelcolor=colours.ink, borderaxespad=0.3, handlelength=1.4, columnspacing=1.2,
        )  # fmt: skip


def _draw_marks(
    figure: Figure, axes: Axes, spectrum: DisplaySpectrum, look: FigureLook, limits: Limits
) -> None:
    """Mark the lines: emission at the top, absorption at the bottom.

    The flux axis grows so that the names are clear of ``limits``, unless the caller set ``ylim``.
    """
    # Names of lines need the size of the axes, which is known after the layout.
    figure.draw_without_rendering()
    width_in, height_in = (figure.get_size_inches() * axes.get_position().size).tolist()
    low, high = sorted(axes.get_xlim())
    gap = 1.5 * _LABEL_SIZE * _POINT_IN * (high - low) / width_in
    absorption = tuple(line for line in spectrum.marked if line.kind == "absorption")
    emission = tuple(line for line in spectrum.marked if line.kind != "absorption")
    above = place_marks(emission, spectrum.stretch, (low, high), gap)
    below = place_marks(absorption, spectrum.stretch, (low, high), gap)
    bottom, top = _zone(below, height_in), 1.0 - _zone(above, height_in)
    if look.ylim is None:
        low, high = limits
        room = (high - low) / (top - bottom)
        axes.set_ylim(low - bottom * room, high + (1.0 - top) * room)
    colours = theme(dark=look.dark)
    stroke = _STROKE_IN / height_in
    for marks, colour, edge, step in (
        (above, colours.emission, top, stroke),
        (below, colours.absorption, bottom, -stroke),
    ):
        for mark in marks:
            _draw_mark(axes, mark, colour, (bottom, top))
            if mark.name:
                _draw_name(axes, mark, (colour, colours.paper), (edge, edge + step))


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
        bbox={"facecolor": paper, "edgecolor": "none", "alpha": 0.75, "pad": 0.8},
    )  # fmt: skip
