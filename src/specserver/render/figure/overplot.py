"""Several spectra over one another as a figure of matplotlib, each on its own wavelengths."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..series import series_colours
from ..style import Plotted, flux_limits, theme, wave_limits
from .spectrum import FigureLook, draw_marks, dress, flux_label, own_args, x_label


def draw_spectra(figure: Figure, several: Sequence[Plotted], look: FigureLook) -> None:
    """Draw up to `series.MOST` spectra into an empty figure; pixels with ivar = 0 are gaps.

    Parameters
    ----------
    several
        ``title`` and redshift are the label of each; lines are marked at the redshift of the first.
    """
    colours = theme(dark=look.dark)
    figure.set_facecolor(colours.paper)
    figure.set_layout_engine("constrained")
    axes = figure.subplots()
    dress(axes, colours, grid=look.grid)
    # The first lies on top, as it is the one of which lines are marked.
    for at, one in reversed(list(enumerate(several))):
        style: dict[str, Any] = {"color": series_colours(dark=look.dark)[at], "lw": 0.8}
        style |= {"drawstyle": "steps-mid", "zorder": 2.5 - 0.01 * at}
        good = one.ivar > 0
        noise = one.noise if "noise" in look.parts else None
        if noise is not None:
            axes.plot(one.wave, noise, **(style | {"lw": 0.5, "alpha": 0.5}))
        flux = np.where(good, one.flux, np.nan)
        label = one.title if one.z is None else f"{one.title}  z = {one.z:.4f}".replace("-", "−")
        axes.plot(one.wave, flux, label=label, **(style | own_args(look, "flux")))
    limits = [flux_limits(replace(one, lines=())) for one in several]
    low, high = min(one[0] for one in limits), max(one[1] for one in limits)
    waves = [wave_limits(one.wave) for one in several]
    axes.set_ylim(look.ylim or (low, high))
    axes.set_xlim(look.xlim or (min(one[0] for one in waves), max(one[1] for one in waves)))
    axes.set_ylabel(flux_label(several[0], look), color=colours.ink)
    axes.set_xlabel(x_label(look), color=colours.ink)
    axes.set_title(look.title, fontsize=10, loc="right", color=colours.ink)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], labels[::-1], loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=8,
        ncols=1 if len(several) < 4 else 2, frameon=False, labelcolor=colours.ink,
        borderaxespad=0.3, handlelength=1.6,
    )  # fmt: skip
    figure.draw_without_rendering()
    width_in, height_in = figure.get_size_inches() * axes.get_position().size
    draw_marks(axes, several[0], look, (float(width_in), float(height_in)), (low, high))
