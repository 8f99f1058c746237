"""A spectrum as a figure: flux, model, noise, and the lines at its redshift."""

from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..model.lines import SpectralLine

# Okabe & Ito (2008): told apart by people with any kind of colour vision.
FLUX_COLOUR: Final = "#333333"
MODEL_COLOUR: Final = "#D55E00"
NOISE_COLOUR: Final = "#0072B2"
LINE_COLOUR: Final = "#009E73"
# Robust limits: a few hot pixels must not flatten the spectrum.
_LIMITS_PERCENT: Final = (0.5, 99.5)
_MIN_LABEL_GAP: Final = 0.022
"""Least distance of two line labels, as a fraction of the axis: the height of their letters."""


@dataclass(frozen=True, slots=True)
class Plotted:
    """What is drawn of a spectrum; all 1D[npix] over vacuum wavelengths in Å."""

    wave: npt.NDArray[np.float64]
    flux: npt.NDArray[np.floating[Any]]
    ivar: npt.NDArray[np.floating[Any]]
    model: npt.NDArray[np.floating[Any]] | None
    title: str
    flux_unit: str
    """Unit of flux for the axis, in matplotlib's mathtext."""
    z: float | None = None
    lines: tuple[SpectralLine, ...] = ()


def spectrum_png(spectrum: Plotted, *, width_in: float = 10.0, height_in: float = 4.5) -> bytes:
    """Return a PNG of one spectrum at 120 dots an inch."""
    figure = Figure(figsize=(width_in, height_in), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    draw_spectrum(figure.subplots(), spectrum)
    out = BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def draw_spectrum(axes: Axes, spectrum: Plotted) -> None:
    """Draw one spectrum; pixels with ivar = 0 are gaps."""
    good = spectrum.ivar > 0
    flux = np.where(good, spectrum.flux, np.nan)
    noise = np.full(len(flux), np.nan)
    noise[good] = 1.0 / np.sqrt(spectrum.ivar[good])
    axes.plot(spectrum.wave, flux, color=FLUX_COLOUR, lw=0.6, label="flux", drawstyle="steps-mid")
    axes.plot(spectrum.wave, noise, color=NOISE_COLOUR, lw=0.6, label="1σ noise", alpha=0.8)
    if spectrum.model is not None and np.any(spectrum.model):
        model = np.where(good, spectrum.model, np.nan)
        axes.plot(spectrum.wave, model, color=MODEL_COLOUR, lw=1.0, label="model")
    low, high = _limits(flux, spectrum.model)
    axes.set_ylim(low, high)
    if len(spectrum.wave):
        axes.set_xlim(float(spectrum.wave[0]), float(spectrum.wave[-1]))
    axes.axhline(0.0, color="#999999", lw=0.5, zorder=0)
    axes.set_xlabel("vacuum wavelength (Å)")
    axes.set_ylabel(f"flux density ({spectrum.flux_unit})")
    axes.set_title(spectrum.title, fontsize=10, loc="left")
    axes.minorticks_on()
    axes.tick_params(which="both", direction="in", top=True, right=True)
    if spectrum.z is not None:
        _mark_lines(axes, spectrum.lines, spectrum.z)
    axes.legend(loc="upper right", fontsize=8, frameon=False, ncols=3)


def _limits(
    flux: npt.NDArray[np.floating[Any]], model: npt.NDArray[np.floating[Any]] | None
) -> tuple[float, float]:
    """Return limits of the flux axis that show the spectrum and not its worst pixels."""
    finite = flux[np.isfinite(flux)]
    if not len(finite):
        return -1.0, 1.0
    low, high = np.percentile(finite, _LIMITS_PERCENT)
    if model is not None and np.any(model):
        high = max(high, float(np.max(model)))
    low = min(0.0, float(low))
    room = (float(high) - low) or 1.0
    # A fifth above the brightest for the labels of lines and the legend.
    return low - 0.05 * room, float(high) + 0.22 * room


def _mark_lines(axes: Axes, lines: tuple[SpectralLine, ...], z: float) -> None:
    """Mark lines at a redshift; labels that would overlap give way to the one before."""
    left, right = axes.get_xlim()
    last = -np.inf
    for line in sorted(lines, key=lambda one: one.wave_aa):
        at = line.wave_aa * (1.0 + z)
        if not left < at < right:
            continue
        axes.axvline(at, color=LINE_COLOUR, lw=0.6, ls=(0, (4, 3)), alpha=0.7, zorder=1)
        place = (at - left) / (right - left)
        if place - last < _MIN_LABEL_GAP or place < _MIN_LABEL_GAP:
            continue
        last = place
        axes.text(
            place - 0.003,
            0.93,
            line.name,
            rotation=90,
            ha="right",
            va="top",
            fontsize=7,
            color=LINE_COLOUR,
            transform=axes.transAxes,
        )
