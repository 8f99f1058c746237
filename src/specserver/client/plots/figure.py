"""Figures of matplotlib, shown or saved, by the keywords of `SpecClient.plot`."""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module
from io import BytesIO
from math import isfinite
from numbers import Real
from typing import Any, Final, cast

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cbook import normalize_kwargs
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...errors import BadParameter
from ...model.lines import (
    ABSORPTION_LINES,
    BALMER_ABSORPTION,
    EMISSION_LINES,
    SpectralLine,
    vacuum_to_air,
)
from ...render.display import DisplaySpectrum, with_gaps
from ...render.figure.spectrum import (
    DPI,
    PARTS,
    Ends,
    FigureLook,
    draw_spectra,
    draw_spectrum,
    new_axes,
    reads_formulas,
)
from ..messages import warn
from ..request import Values, split_names
from ..storage import read_ending

_GREEK: Final = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "zeta": "ζ",
}  # fmt: skip
_SHORT: Final = {"ha": "hα", "hb": "hβ", "hg": "hγ", "hd": "hδ", "he": "hε", "lya": "lyα"}
_WAVE: Final = re.compile(r"\b([0-9]{4,5})\b")
_NEAR_AA: Final = 6.0
"""Tolerance of a wavelength in the name of a line: it is cut to whole Å, in air or vacuum."""
_MOST_SMOOTH: Final = 1000
_LARGEST_IN: Final = 100
_SILENT: Final = frozenset({"agg", "cairo", "pdf", "pgf", "ps", "svg", "template"})
"""Backends of matplotlib without a screen, which warn when asked to show a figure."""


class SpectrumFigure(Figure):
    """A figure that a notebook shows where it is drawn, and not again as the value of that cell."""

    shown_in: int | None = None
    """Number of the cell that has shown it."""

    def _ipython_display_(self) -> None:
        """Show the figure, except in the cell that has shown it."""
        if self.shown_in is None or self.shown_in != _cell():
            pictures = {"image/png": _content(self, "png"), "text/plain": repr(self)}
            import_module("IPython.display").display(pictures, raw=True)


def drawable(
    spectra: Sequence[DisplaySpectrum], look: FigureLook, rest_frame: bool | None
) -> tuple[list[DisplaySpectrum], FigureLook]:
    """Return spectra with no more than is drawn of them, in their frame, and their look."""
    unknown = {"noise", "ivar"} if all(spectrum.ivar is None for spectrum in spectra) else set()
    unknown |= {"sky"} if all(spectrum.sky is None for spectrum in spectra) else set()
    look = replace(look, parts=tuple(part for part in look.parts if part not in unknown))
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
    draw_into(new_axes(figure, look, panels=len(spectra) == 1), spectra, look)


def draw_into(every: Sequence[Axes], spectra: Sequence[DisplaySpectrum], look: FigureLook) -> None:
    """Draw a spectrum into axes, those of its panels after the first; or several into one."""
    if len(spectra) == 1:
        draw_spectrum(every, spectra[0], look)
    else:
        draw_spectra(every[0], spectra, look)


def show(spectra: Sequence[DisplaySpectrum], look: FigureLook) -> Figure:
    """Show a figure in the notebook or in a window; it becomes pyplot's current figure."""
    from matplotlib import pyplot as plt

    figure = cast("SpectrumFigure", plt.figure(figsize=look.size, FigureClass=SpectrumFigure))
    draw(figure, spectra, look)
    if plt.get_backend().lower() not in _SILENT:
        plt.show()
        figure.shown_in = _cell()
    return figure


def file_kind(name: str | os.PathLike[str]) -> str:
    """Return the format of a figure's file by the ending of its name; PNG without one.

    Raises
    ------
    BadParameter
        A format that matplotlib does not write.
    """
    kinds = sorted(FigureCanvasAgg.get_supported_filetypes())
    return read_ending(name, ("", *(f".{kind}" for kind in kinds)))[1:] or "png"


def save(
    spectra: Sequence[DisplaySpectrum], look: FigureLook, name: str, ax: Axes | None = None
) -> bytes:
    """Return the content of a file with the figure, in the format of the name's ending.

    Parameters
    ----------
    ax
        Draw into these axes, and save their figure.

    Raises
    ------
    BadParameter
        A format that matplotlib does not write.
    """
    kind = file_kind(name)
    figure = Figure(figsize=look.size, dpi=DPI) if ax is None else ax.figure.canvas.figure
    if ax is None:
        draw(figure, spectra, look)
    else:
        draw_into([ax], spectra, look)
    return _content(figure, kind)


def _content(figure: Figure, kind: str) -> bytes:
    """Return the content of a file with a figure, in one of matplotlib's formats."""
    out = BytesIO()
    figure.savefig(out, format=kind)
    return out.getvalue()


def _cell() -> int | None:
    """Return the number of the cell that a notebook executes; None outside of one."""
    shell = import_module("IPython").get_ipython() if "IPython" in sys.modules else None
    number: int | None = getattr(shell, "execution_count", None)
    return number


def require_axes(ax: object) -> None:
    """Refuse what is no axes to draw into."""
    if not isinstance(ax, Axes | None):
        raise BadParameter("ax", ax, "axes of matplotlib: figure, ax = plt.subplots()")


def read_look(
    style: Mapping[str, Any],
    values: Values,
    chosen: Mapping[str, bool | None],
    smooth: object,
    *,
    is_framed: bool,
) -> FigureLook:
    """Return how a figure looks, by the keywords of `SpecClient.plot`.

    Parameters
    ----------
    style
        Keywords, of `FigureStyle`.
    values, chosen
        The parts to draw, and those with a keyword of their own (`read_parts`).
    is_framed
        The caller gives the axes.

    Raises
    ------
    BadParameter
        A value that is not possible, or not in the axes of a caller.
    """
    width = None if smooth is None else float(smooth) if isinstance(smooth, Real) else -1.0
    if width is not None and not 0.0 <= width <= _MOST_SMOOTH:
        raise BadParameter("smooth", smooth, f"0 to {_MOST_SMOOTH:,} pixels")
    size = (
        None
        if style.get("figsize") is None
        else cast("tuple[float, float]", read_limits("figsize", style["figsize"], equal=True))
    )
    if size and not all(1 <= inches <= _LARGEST_IN for inches in size):
        raise BadParameter("figsize", size, f"width and height from 1 to {_LARGEST_IN} inches")
    for name in ("title", "xlabel", "ylabel"):
        _require_text(name, style.get(name))
    styles = {"flux": "spec_args", "model": "model_args", "ivar": "ivar_args", "sky": "sky_args"}
    look = FigureLook(
        parts=read_parts(values, chosen),
        xlim=read_limits("xlim", style.get("xlim")),
        ylim=read_limits("ylim", style.get("ylim")),
        title=style.get("title"),
        xlabel=style.get("xlabel"),
        ylabel=style.get("ylabel"),
        grid=bool(style.get("grid", True)),
        dark=bool(style.get("dark", False)),
        args={part: read_args(name, style.get(name)) for part, name in styles.items()},
        figsize=size,
        smooth=width,
    )
    if is_framed:
        if look.dark or look.figsize:
            name = "dark" if look.dark else "figsize"
            raise BadParameter(name, style[name], "with ax= the figure is yours: set it there")
        if look.panels:
            allowed = "sky and ivar need panels of their own: leave out ax="
            raise BadParameter("values", ", ".join(look.panels), allowed)
    return look


def _require_text(name: str, given: object) -> None:
    """Refuse what is no text, or has a formula that matplotlib does not read."""
    if not isinstance(given, str | None):
        raise BadParameter(name, given, "text")
    if not reads_formulas(given or ""):
        allowed = r"text; between two $ stands a formula, and a dollar is \$"
        raise BadParameter(name, given, allowed)


def read_args(name: str, given: Any) -> Mapping[str, Any]:
    """Return arguments of matplotlib's ``Axes.plot``, by their full names; none by default."""
    try:
        args = normalize_kwargs(dict(given or {}), Line2D)
        if args:
            # matplotlib finds many errors only as it draws; markevery may want more than two pixels
            figure = Figure((1.0, 1.0))
            axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
            axes.plot([0.0, 1.0], [0.0, 1.0], **{**args, "markevery": None})
            axes.text(0.0, 0.0, str(axes.lines[0].get_label()))
            _content(figure, "raw")
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        allowed = f"arguments of matplotlib's plot, such as {{'color': 'red'}} ({error})"
        raise BadParameter(name, given, allowed) from error
    return args


def read_limits(name: str, given: Any, *, equal: bool = False) -> Ends:
    """Return the ends of an axis; old notebooks also write them as text.

    Unless two numbers may be ``equal``, None stands for the end of the data.
    """
    if given is None:
        return None, None
    try:
        ends = given.strip(" []()").split(",") if isinstance(given, str) else list(given)
        low, high = (None if end is None and not equal else float(end) for end in ends)
    except (TypeError, ValueError) as error:
        raise BadParameter(name, given, "two numbers") from error
    known = [end for end in (low, high) if end is not None]
    if not all(map(isfinite, known)) or (known and low == high and not equal):
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
    own: Sequence[SpectralLine],
    mark_lines: str | bool | None,
    em_lines: Values,
    abs_lines: Values,
    lines: Mapping[str, float] | None,
) -> tuple[SpectralLine, ...]:
    """Return the lines to mark; ``own`` are those of the object's class, unless some are named."""
    kinds, by_class = _kinds(mark_lines)
    emission, absorption = (
        tuple(line for line in own if line.kind == kind) for kind in ("emission", "absorption")
    )
    if not by_class:
        emission, absorption = EMISSION_LINES, absorption or ABSORPTION_LINES
    elif em_lines is not None or abs_lines is not None:
        # Lines that a caller names are all that are marked.
        emission = absorption = ()
    marked: list[SpectralLine] = []
    if "emission" in kinds:
        marked += _named("em_lines", em_lines, EMISSION_LINES, emission)
    if "absorption" in kinds:
        known = tuple(dict.fromkeys(ABSORPTION_LINES + BALMER_ABSORPTION + absorption))
        marked += _named("abs_lines", abs_lines, known, absorption)
    if not isinstance(lines or {}, Mapping):
        raise BadParameter("lines", lines, "wavelengths by name: {'Hα': 6564.61}")
    for name, wave in (lines or {}).items():
        _require_text("lines", str(name))
        try:
            marked.append(SpectralLine(str(name), float(wave), "emission"))
        except (TypeError, ValueError) as error:
            allowed = "vacuum wavelengths at rest, Å, by name: {'Hα': 6564.61}"
            raise BadParameter("lines", {name: wave}, allowed) from error
    return tuple(marked)


def _kinds(given: str | bool | None) -> tuple[tuple[str, ...], bool]:
    """Return the kinds of lines to mark, and whether only those of the object's class."""
    word = "all" if given is True else str(given or "none").strip().lower()
    if word in {"none", "no", "false", ""}:
        return (), False
    if word in {"all", "both", "class"}:
        return ("emission", "absorption"), word == "class"
    for kind, short in (("emission", "em"), ("absorption", "abs")):
        if kind.startswith(word) or word.startswith(short):
            return (kind,), False
    allowed = "class, em, abs, all, both, or None for no lines"
    raise BadParameter("mark_lines", given, allowed)


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
