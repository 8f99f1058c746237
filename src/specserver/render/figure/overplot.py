"""Several spectra over one another as a figure, each on its own wavelengths."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..display import DisplaySpectrum, noise_of, series_labels
from ..style import flux_limits, wave_limits
from .spectrum import FigureLook, draw_marks, dress, own_args, prepare, x_label


def draw_spectra(figure: Figure, several: Sequence[DisplaySpectrum], look: FigureLook) -> None:
    """Draw up to `MOST_OVER` spectra into an empty figure; pixels with ivar = 0 are gaps.

    The first gives axes their names, and lines are marked at its redshift.
    """
    colours = prepare(figure, look)
    axes = figure.subplots()
    dress(axes, colours, grid=look.grid)
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
        axes.plot(spectrum.wave, flux, label=label, **(style | own_args(look, "flux")))
    limits = [flux_limits(replace(spectrum, lines=())) for spectrum in several]
    low, high = min(ends[0] for ends in limits), max(ends[1] for ends in limits)
    waves = [wave_limits(spectrum.wave) for spectrum in several]
    axes.set_ylim(look.ylim or (low, high))
    axes.set_xlim(look.xlim or (min(ends[0] for ends in waves), max(ends[1] for ends in waves)))
    axes.set_ylabel(look.ylabel or several[0].flux_label, color=colours.ink)
    axes.set_xlabel(x_label(several[0], look), color=colours.ink)
    axes.set_title(look.title or "", fontsize=10, loc="right", color=colours.ink)
    handles, shown = axes.get_legend_handles_labels()
    axes.legend(
        handles[::-1], shown[::-1], loc="lower left", bbox_to_anchor=(0.0, 1.0), fontsize=8,
        ncols=1 if len(several) < 4 else 2, frameon=False, labelcolor=colours.ink,
        borderaxespad=0.3, handlelength=1.6,
    )  # fmt: skip
    draw_marks(figure, axes, several[0], look, (low, high))
