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
_PLAIN_LABEL: Final = "wavelength (Å)"
_ASIDE: Final = 0.005
"""Part of the pixels at either end of the range of flux that may lie beyond the limits."""
_WILD: Final = 2
"""Least number of them: wild pixels do not set the limits."""
_FEW_PIX: Final = 40
"""In a spectrum of fewer pixels, as in a cutout of a line, wild pixels are told by `_ALONE`."""
_FEWEST_PIX: Final = 10
_ALONE: Final = 10.0
"""Most that one pixel stands above the next, in the range of all others from zero. A line that is
a pixel wide stands less above it, and no spectrograph has narrower ones."""
_BESIDE: Final = np.array([-2, -1, 1, 2])
"""Pixels beside the top of a peak, which tell how high it is."""
_HEIGHTS: Final = np.array(
    [
        [0, 1 / 3, 1, -1 / 3],
        [-1 / 3, 1, 1 / 3, 0],
        [1 / 6, 0, 4 / 3, -1 / 2],
        [-1 / 2, 4 / 3, 0, 1 / 6],
    ]
)
"""Factors of their logarithms in that of the height, each time without one of them: a parabola."""
_MORE: Final = 1.25
"""Most by which noise lifts the top of a peak above that height."""
_AROUND_PIX: Final = 65
"""Pixels around a peak: their median is its base, and their scatter a lower limit of its noise."""
_SCATTER: Final = 1.65
"""Median of the absolute second differences of noise, in its standard deviation."""
_NOISY: Final = 3.0
"""Pixels with more than so many times the median noise, as at the ends of a detector, count for
the limits only where their flux is significant."""
_SIGNIFICANT: Final = 5.0
_TINY: Final = 1e-300
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
    every = set(media)
    label = _UNKNOWN_LABEL if UNKNOWN in every else _WAVE_LABEL if all(every) else _PLAIN_LABEL
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
    shown = flux[sure]
    last = len(shown) - 1
    if len(shown) < _FEW_PIX:
        low, high = _ends_of_few(shown)
    else:
        aside = max(_WILD, round(_ASIDE * last))
        # The values at these ranks: interpolation between two would take five times as long.
        low, high = np.partition(shown, (aside, last - aside))[[aside, last - aside]].tolist()
        known = None if spectrum.ivar is None else ivar
        high = _peak(flux, known, sure, high)
    if spectrum.model is not None:
        model = spectrum.model[good][sure]
        high = max(high, float(np.max(model, where=np.isfinite(model), initial=high)))
    low = min(0.0, low)
    room = (high - low) or abs(low) or 1.0
    above = _LABEL_ROOM if spectrum.marked else 0.06
    return low - 0.05 * room, low + room * (1.0 + above)


def _ends_of_few(flux: Floats) -> tuple[float, float]:
    """Return the range of few pixels, without a highest or a lowest that stands alone."""
    ranked = [float(value) for value in np.sort(flux)]
    if len(ranked) < _FEWEST_PIX:
        return ranked[0], ranked[-1]
    _, lower, *_, upper, _ = ranked
    most = _ALONE * (max(upper, 0.0) - min(lower, 0.0)) or inf
    low = ranked[0] if lower - ranked[0] <= most else lower
    return low, ranked[-1] if ranked[-1] - upper <= most else upper


def flux_power(limits: tuple[float, float]) -> int:
    """Return the power of ten by which the numbers of a flux axis are divided; 0 for most."""
    most = max(map(abs, limits))
    power = floor(log10(most)) if 0 < most < inf else 0
    return 0 if power in _POWERS else power


def _peak(flux: Floats, ivar: Floats | None, sure: npt.NDArray[np.bool_], high: float) -> float:
    """Return the height of the highest peak above ``high``; ``high`` if there is none.

    A pixel counts up to the height of a Gaussian through its neighbours. As one of these may be
    wild, too, it is the least height that any three of the four nearest give.
    """
    at = np.flatnonzero(sure[2:-2] & (flux[2:-2] > high)) + 2
    if not len(at):
        return high
    size = min(_AROUND_PIX, len(flux))
    around = flux[np.clip(at - size // 2, 0, len(flux) - size)[:, None] + np.arange(size)]
    beside = at[:, None] + _BESIDE
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        base = np.partition(around, size // 2, axis=1)[:, size // 2]
        jumps = np.abs(around[:, 2:] - 2 * around[:, 1:-1] + around[:, :-2])
        noise = np.partition(jumps, size // 2, axis=1)[:, size // 2] / _SCATTER
        noise = np.maximum(noise, _TINY)[:, None]
        if ivar is not None:
            noise = np.maximum(noise, 1.0 / np.sqrt(ivar[beside]))
        above = np.where(sure[beside], flux[beside] - base[:, None], 0.0)
        heights = np.log(np.maximum(above, noise)) @ _HEIGHTS.T
        tops = np.minimum(flux[at], base + _MORE * np.exp(heights.min(axis=1)))
    return max(high, float(tops.max()))


def with_pixels(spectra: Sequence[DisplaySpectrum]) -> Sequence[DisplaySpectrum]:
    """Return the spectra with good pixels, which set common axes; all where none has any."""
    return [spectrum for spectrum in spectra if spectrum.weights.any()] or spectra


def wave_limits(wave: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the ends of the wavelength axis, also for one pixel or none."""
    known = wave[np.isfinite(wave)]
    if not len(known):
        return 3600.0, 10400.0
    low, high = float(known.min()), float(known.max())
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
