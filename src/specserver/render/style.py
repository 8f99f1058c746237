"""Common to all pictures of spectra: colours, limits, ticks, marks of lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, log10
from typing import Final

import numpy as np
import numpy.typing as npt

from ..model.lines import SpectralLine
from ..model.medium import UNKNOWN
from .display import DisplaySpectrum, Floats

_UNKNOWN_LABEL: Final = "wavelength (Å), in vacuum or in air: not known"
_WAVE_LABEL: Final = "vacuum wavelength (Å)"
# Robust limits: a few hot pixels must not flatten the spectrum.
_LIMITS_PERCENT: Final = (0.5, 99.5)
_PEAK_PIX: Final = 5
"""Pixels over which a peak is averaged: the width of an unresolved line."""
_PEAK_SIGMA: Final = 3.0
_NOISY: Final = 3.0
"""Pixels with more than so many times the median noise, as at the ends of a detector, count for
the limits only where their flux is significant."""
_SIGNIFICANT: Final = 5.0
_LABEL_ROOM: Final = 0.28
"""Part of the flux axis kept free above the spectrum for the names of lines."""
_REACH: Final = 1.5
"""Most that a name stands aside of its line, in distances between two names."""
_POWERS: Final = range(-3, 5)
"""Powers of ten of the largest number of a flux axis that is written out."""
_STEPS: Final = (1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours of a picture, which people with any colour vision can distinguish."""

    paper: str
    ink: str
    """Frame, ticks and text."""
    faint: str
    """Zero line and grid."""
    flux: str
    model: str
    noise: str
    sky: str
    masked: str
    emission: str
    absorption: str
    series: tuple[str, ...]
    """Colours of several spectra: the first is that of a single one; none has another use."""


# After Okabe & Ito (2008), lines and noise a little darker on white, lighter on black.
LIGHT: Final = Theme(
    paper="#FFFFFF",
    ink="#222222",
    faint="#D9D9D9",
    flux="#404040",
    model="#D55E00",
    noise="#0072B2",
    sky="#8C6D1F",
    masked="#D4A017",
    emission="#00835F",
    absorption="#AA4499",
    series=(
        "#404040", "#CC2936", "#3B4CC0", "#E69F00", "#7B2D8E", "#4FB3D9", "#8B5A2B", "#E377A2",
    ),
)  # fmt: skip
DARK: Final = Theme(
    paper="#14161A",
    ink="#E4E4E4",
    faint="#363A42",
    flux="#C8C8C8",
    model="#FF9E3D",
    noise="#56B4E9",
    sky="#D9C36A",
    masked="#E8C547",
    emission="#34D6A4",
    absorption="#F0A3CF",
    series=(
        "#C8C8C8", "#FF6B6B", "#7EA6FF", "#F5C542", "#C39BF5", "#8FE0FF", "#C98F6B", "#FF9EC0",
    ),
)  # fmt: skip
MOST_OVER: Final = len(LIGHT.series)
"""Most spectra over one another: the eye cannot keep more colours apart."""


def theme(*, dark: bool) -> Theme:
    """Return the colours on a dark or a light background."""
    return DARK if dark else LIGHT


def wave_label(media: Iterable[str], *, rest: bool = False) -> str:
    """Return the name of the wavelength axis of spectra in some media."""
    label = _UNKNOWN_LABEL if UNKNOWN in set(media) else _WAVE_LABEL
    return f"rest-frame {label}" if rest else label


def flux_limits(spectrum: DisplaySpectrum) -> tuple[float, float]:
    """Return limits of the flux axis that show the spectrum and not its worst pixels."""
    weights = spectrum.weights
    good = weights > 0
    flux, ivar = spectrum.flux[good].astype(np.float64), weights[good].astype(np.float64)
    if not len(flux):
        return -1.0, 1.0
    typical = np.partition(ivar, len(ivar) // 2)[len(ivar) // 2]
    sure = (ivar * _NOISY**2 >= typical) | (flux * flux * ivar > _SIGNIFICANT**2)
    flux, ivar = flux[sure], ivar[sure]
    # The values at these ranks: interpolation between two would take five times as long.
    ranks = [round(percent / 100 * (len(flux) - 1)) for percent in _LIMITS_PERCENT]
    low, high = np.partition(flux, ranks)[ranks]
    high = max(high, _peak(flux, ivar))
    if spectrum.model is not None:
        model = spectrum.model[good][sure]
        high = max(high, float(np.max(model, where=np.isfinite(model), initial=high)))
    low = min(0.0, float(low))
    room = (float(high) - low) or abs(low) or 1.0
    above = _LABEL_ROOM if spectrum.marked else 0.06
    return low - 0.05 * room, low + room * (1.0 + above)


def flux_power(limits: tuple[float, float]) -> int:
    """Return the power of ten by which the numbers of a flux axis are divided; 0 for most."""
    most = max(map(abs, limits))
    power = floor(log10(most)) if 0 < most < inf else 0
    return 0 if power in _POWERS else power


def _peak(flux: Floats, ivar: Floats) -> float:
    """Return a lower limit of the highest peak of a few pixels, 3σ below their mean."""
    if len(flux) < _PEAK_PIX:
        return float(flux.max())
    window = np.ones(_PEAK_PIX)
    weight = np.convolve(ivar, window, "valid")
    mean = np.convolve(flux * ivar, window, "valid") / weight
    return float(np.max(mean - _PEAK_SIGMA / np.sqrt(weight)))


def wave_limits(wave: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the wavelength axis, also for one pixel or none."""
    if not len(wave):
        return 3600.0, 10400.0
    low, high = float(wave[0]), float(wave[-1])
    return (low, high) if high > low else (low - 1.0, high + 1.0)


@dataclass(frozen=True, slots=True)
class Ticks:
    """Ticks of an axis."""

    major: list[float]
    minor: list[float]
    labels: list[str]


def find_ticks(low: float, high: float, wanted: float) -> Ticks:
    """Return ticks at round numbers: about ``wanted``, at most one and a half times as many."""
    if not (isfinite(low) and isfinite(high) and high > low):
        return Ticks([], [], [])
    rough = (high - low) / max(wanted, 1.0)
    decade = 10.0 ** floor(log10(rough))
    step = decade * next(factor for factor in _STEPS if factor * decade >= rough * 0.999)
    part = 4 if round(step / decade) == 2 else 5
    major = [number * step for number in range(ceil(low / step), floor(high / step) + 1)]
    fine = step / part
    minor = [number * fine for number in range(ceil(low / fine), floor(high / fine) + 1)]
    digits = max(0, -floor(log10(step) + 1e-9))
    big = max(abs(low), abs(high)) >= 1e6 or digits > 4
    # Adding zero makes minus zero plain zero.
    labels = [f"{value + 0.0:.3g}" if big else f"{value + 0.0:.{digits}f}" for value in major]
    return Ticks(major, minor, [label.replace("-", "−") for label in labels])


@dataclass(frozen=True, slots=True)
class Mark:
    """The mark of one line, or of several neighbours with one name."""

    name: str
    waves: tuple[float, ...]
    place: float
    """Place of its name on the wavelength axis."""
    kind: str


def place_marks(
    lines: tuple[SpectralLine, ...], shift: float, ends: tuple[float, float], gap: float
) -> list[Mark]:
    """Return the marks of the lines within the axis, no two names closer than ``gap``.

    Neighbouring lines with one name share it. Other names move aside as little as possible, and at
    most by `_REACH` times the gap: where more lines crowd, the least prominent have no mark.

    Parameters
    ----------
    shift : factor from the lines' wavelengths to those of the axis
    ends : ends of the axis, Å
    gap : least distance between two names, Å
    """
    low, high = ends
    if not gap < high - low:
        return []
    groups: list[tuple[SpectralLine, list[float]]] = []
    for line in sorted(lines, key=lambda item: item.wave_aa):
        at = line.wave_aa * shift
        if not low < at < high:
            continue
        last = groups[-1] if groups else None
        if last and last[0].name == line.name and at - last[1][-1] < 2.5 * gap:
            last[1].append(at)
        else:
            groups.append((line, [at]))
    # More than half a gap at either end: names stay clear of the frame.
    edge = 0.8 * gap
    while groups:
        centres = [sum(waves) / len(waves) for _, waves in groups]
        places = _spread(centres, gap, low + edge, high - edge)
        moved = [abs(place - centre) for place, centre in zip(places, centres, strict=True)]
        if max(moved) <= _REACH * gap:
            break
        gone = {
            max(crowd, key=lambda index: groups[index][0].rank)
            for crowd in _crowds(places, gap)
            if max(moved[index] for index in crowd) > _REACH * gap
        }
        groups = [group for index, group in enumerate(groups) if index not in gone]
    return [
        Mark(line.name, tuple(waves), place, line.kind)
        for (line, waves), place in zip(groups, places if groups else [], strict=True)
    ]


def _crowds(places: list[float], gap: float) -> list[list[int]]:
    """Return the indices of the names that touch each other, crowd by crowd."""
    crowds: list[list[int]] = []
    for index, place in enumerate(places):
        if crowds and place - places[index - 1] < 1.01 * gap:
            crowds[-1].append(index)
        else:
            crowds.append([index])
    return crowds


def _spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return the places within limits and at least ``gap`` apart that are nearest to ``places``."""
    # With i·gap subtracted, least squares with a minimum distance is isotonic regression.
    blocks: list[tuple[float, int]] = []
    for index, place in enumerate(places):
        mean, size = place - index * gap, 1
        while blocks and blocks[-1][0] > mean:
            before, many = blocks.pop()
            mean = (mean * size + before * many) / (size + many)
            size += many
        blocks.append((mean, size))
    flat = [mean for mean, size in blocks for _ in range(size)]
    last = high - (len(flat) - 1) * gap
    return [min(max(mean, low), max(last, low)) + index * gap for index, mean in enumerate(flat)]
