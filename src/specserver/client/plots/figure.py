"""Figures of matplotlib, shown or saved, by the keywords of `SpecClient.plot`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from math import isfinite
from pathlib import Path
from typing import Any, Final

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ...errors import BadParameter
from ...model.lines import (
    ABSORPTION_LINES,
    BALMER_ABSORPTION,
    EMISSION_LINES,
    SpectralLine,
    vacuum_to_air,
)
from ...render.display import DisplaySpectrum, with_gaps
from ...render.figure.spectrum import DPI, PARTS, FigureLook, Limits, draw_spectra, draw_spectrum
from ..messages import warn
from ..request import Values, split_names

_GREEK: Final = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ",
}  # fmt: skip
_SHORT: Final = {"ha": "hα", "hb": "hβ", "hg": "hγ", "hd": "hδ", "he": "hε", "lya": "lyα"}
_WAVE: Final = re.compile(r"\b([0-9]{4,5})\b")
_NEAR_AA: Final = 6.0
"""Tolerance of a wavelength in the name of a line: it is cut to whole Å, in air or vacuum."""
_SILENT: Final = frozenset({"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"})
"""Backends of matplotlib without a screen, which warn when asked to show a figure."""


def drawable(
    spectra: Sequence[DisplaySpectrum], look: FigureLook, rest_frame: bool | None
) -> tuple[list[DisplaySpectrum], FigureLook]:
    """Return spectra with no more than is drawn of them, in their frame, and their look."""
    if all(spectrum.ivar is None for spectrum in spectra):
        parts = tuple(part for part in look.parts if part not in {"noise", "ivar"})
        look = replace(look, parts=parts)
    shown = [with_gaps(spectrum) for spectrum in spectra]
    if "model" not in look.parts:
        shown = [replace(spectrum, model=None) for spectrum in shown]
    known = all(spectrum.z is not None for spectrum in spectra)
    if rest_frame and not known:
        warn("no redshift is known, so the wavelengths stay as observed: give z=")
    if known and rest_frame in {None, True}:
        shown = [spectrum.at_rest() for spectrum in shown]
    return shown, look


def draw(figure: Figure, spectra: Sequence[DisplaySpectrum], look: FigureLook) -> None:
    """Draw a spectrum, or several over one another, into an empty figure."""
    if len(spectra) == 1:
        draw_spectrum(figure, spectra[0], look)
    else:
        draw_spectra(figure, spectra, look)


def show(spectra: Sequence[DisplaySpectrum], look: FigureLook) -> None:
    """Show a figure in the notebook or in a window; it becomes pyplot's current figure."""
    from matplotlib import pyplot as plt

    draw(plt.figure(figsize=look.size), spectra, look)
    if plt.get_backend().lower() not in _SILENT:
        plt.show()


def save(spectra: Sequence[DisplaySpectrum], look: FigureLook, name: str) -> bytes:
    """Return the content of a file with the figure, in the format of the name's ending.

    Raises
    ------
    BadParameter
        A format that matplotlib does not write.
    """
    figure = Figure(figsize=look.size, dpi=DPI)
    canvas = FigureCanvasAgg(figure)
    kind = Path(name).suffix.lower().removeprefix(".") or "png"
    if kind not in canvas.get_supported_filetypes():
        allowed = f"a name that ends in {', '.join(sorted(canvas.get_supported_filetypes()))}"
        raise BadParameter("out", name, allowed)
    draw(figure, spectra, look)
    out = BytesIO()
    figure.savefig(out, format=kind)
    return out.getvalue()


def read_limits(name: str, given: Any) -> Limits | None:
    """Return the ends of an axis; old notebooks also write them as text."""
    if given is None:
        return None
    try:
        ends = given.strip(" []()").split(",") if isinstance(given, str) else list(given)
        low, high = (float(end) for end in ends)
    except (TypeError, ValueError) as error:
        raise BadParameter(name, given, "two numbers") from error
    if not (isfinite(low) and isfinite(high) and low != high):
        raise BadParameter(name, given, "two different numbers")
    return low, high


def read_parts(values: Values, chosen: Mapping[str, bool | None]) -> tuple[str, ...]:
    """Return the parts to draw, of `PARTS`; those with a keyword of their own are ``chosen``."""
    names = [name.lower() for name in split_names(values, "values")] or ["flux", "model"]
    if "all" in names:
        names = list(PARTS)
    for name in names:
        if name not in PARTS:
            raise BadParameter("values", name, f"of {', '.join(PARTS)}")
    for name, wanted in chosen.items():
        if wanted is not None:
            names = [part for part in names if part != name] + ([name] if wanted else [])
    return tuple(dict.fromkeys(names))


def read_lines(
    mark_lines: str | bool | None,
    em_lines: Values,
    abs_lines: Values,
    lines: Mapping[str, float] | None,
) -> tuple[SpectralLine, ...]:
    """Return the lines to mark."""
    kinds = _kinds(mark_lines)
    marked: list[SpectralLine] = []
    if "emission" in kinds:
        marked += _named("em_lines", em_lines, EMISSION_LINES, EMISSION_LINES)
    if "absorption" in kinds:
        known = ABSORPTION_LINES + BALMER_ABSORPTION
        marked += _named("abs_lines", abs_lines, known, ABSORPTION_LINES)
    for name, wave in (lines or {}).items():
        try:
            marked.append(SpectralLine(str(name), float(wave), "emission"))
        except (TypeError, ValueError) as error:
            allowed = "vacuum wavelengths at rest, Å, by name: {'Hα': 6564.61}"
            raise BadParameter("lines", {name: wave}, allowed) from error
    return tuple(marked)


def _kinds(given: str | bool | None) -> tuple[str, ...]:
    """Return the kinds of lines to mark."""
    word = "all" if given is True else str(given or "none").strip().lower()
    if word in {"none", "no", "false", ""}:
        return ()
    if word in {"all", "both"}:
        return ("emission", "absorption")
    for kind, short in (("emission", "em"), ("absorption", "abs")):
        if kind.startswith(word) or word.startswith(short):
            return (kind,)
    raise BadParameter("mark_lines", given, "em, abs, all, both, or None for no lines")


def _named(
    keyword: str,
    names: Values,
    known: tuple[SpectralLine, ...],
    usual: tuple[SpectralLine, ...],
) -> list[SpectralLine]:
    """Return the lines that a caller named; by default the usual ones."""
    if names is None:
        return list(usual)
    found: list[SpectralLine] = []
    for name in split_names(names, keyword):
        wave = _WAVE.search(name)
        same = [line for line in known if _key(line.name) == _key(_WAVE.sub("", name))]
        if wave:
            near = [line for line in same or known if _is_at(line, float(wave[1]))]
            same = near or same
        if not same:
            listed = ", ".join(dict.fromkeys(line.name for line in known))
            raise BadParameter(keyword, name, f"known lines are {listed}")
        found += same
    return list(dict.fromkeys(found))


def _is_at(line: SpectralLine, wave_aa: float) -> bool:
    """Return whether a line has a wavelength, in air or in vacuum."""
    in_air = float(vacuum_to_air(line.wave_aa))
    return min(abs(line.wave_aa - wave_aa), abs(in_air - wave_aa)) < _NEAR_AA


def _key(name: str) -> str:
    """Return the name of a line in one spelling for all usual ones."""
    word = re.sub(r"[\s_\-\[\]()]", "", name.lower())
    for spelled, letter in _GREEK.items():
        word = word.replace(spelled, letter)
    return _SHORT.get(word, word)
