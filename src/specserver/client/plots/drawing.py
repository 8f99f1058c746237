"""Spectra drawn here: as a figure, or on a page to look through."""

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from ...errors import BadArguments
from ...extras import require
from ..inputs.context_ids import read_ids
from ..request import RequestOptions, Values
from ..session import HasSession, Session
from ..storage import file_name, open_file, read_ending
from .pictures import Missing, Out, either

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ...render.display import DisplaySpectrum


class FigureStyle(TypedDict, total=False):
    """Keywords of `plot` that set how the figure looks."""

    em_lines: Values
    """Names of the emission lines to mark, such as ``'Hα'`` or ``'Halpha'``."""
    abs_lines: Values
    """Names of the absorption lines to mark."""
    lines: Mapping[str, float] | None
    """More lines to mark: vacuum wavelength at rest, Å, by name."""
    xlim: Iterable[float | None] | None
    """Ends of the wavelength axis, Å; None: that of the data."""
    ylim: Iterable[float | None] | None
    """Ends of the flux axis; None: that of the data."""
    title: str | None
    xlabel: str | None
    ylabel: str | None
    grid: bool
    """Draw a grid, as is usual."""
    dark: bool
    """Light on dark."""
    figsize: tuple[float, float] | None
    """Width and height, inches; by default 12 × 5, and taller with panels below."""
    spec_args: Mapping[str, Any] | None
    """Arguments of matplotlib's ``plot`` for the flux; the others for other curves."""
    model_args: Mapping[str, Any] | None
    ivar_args: Mapping[str, Any] | None
    sky_args: Mapping[str, Any] | None


def plot(
    client: HasSession,
    spec: Any = None,
    context: str | None = None,
    profile: str | None = None,
    out: Out = None,
    *,
    data: Any = None,
    ax: "Axes | None" = None,
    rest_frame: bool | None = None,
    z: float | Iterable[float] | None = None,
    values: Values = "flux,model",
    sky: bool | None = None,
    model: bool | None = None,
    smooth: float | None = None,
    mark_lines: str | bool | None = "class",
    scale: str | float | Iterable[float] | None = None,
    offset: float | Iterable[float] = 0.0,
    assume_medium: Literal["vacuum", "air"] | None = None,
    missing: Missing = "error",
    timeout: float | None = None,
    token: str | None = None,
    debug: bool = False,
    verbose: bool = False,
    **style: Unpack[FigureStyle],
) -> "Figure | Axes | None":
    """Plot a spectrum, or up to eight over one another: show them, or save them.

    Parameters
    ----------
    spec, data
        An identifier in any form, or a spectrum: structured array, DataFrame, Table, Spectrum;
        or a list of these, of any contexts. Several are drawn each on its own wavelengths,
        flux and noise only, and lines are marked at the redshift of the first.
    out
        A file to write instead of showing, here or ``vos://name``; PNG, PDF, SVG by its ending.
    ax
        Axes of matplotlib to draw into; the figure is the caller's, and nothing is shown.
    rest_frame
        Divide the wavelengths by 1 + z; flux density stays as observed. By default where the
        redshift is known, and of several where all are.
    z
        Redshift, or one each; by default that of the catalogue, or of the object.
    values
        What is drawn, of flux, model, noise, sky, ivar; sky and ivar below.
    sky, model
        True adds them to ``values``, False takes them away.
    smooth
        Standard deviation, in pixels, of a Gaussian that smooths flux, model and sky, weighted by
        the inverse variance; the flux as it is stays behind, pale. By default 3 where the median
        S/N of a pixel is below 3, of several that of each; else 0: none.
    mark_lines
        ``class``: emission lines of galaxies and quasars, absorption lines of galaxies and of the
        type of a star; ``em``, ``abs``, ``all`` or ``both``, or a word that begins so, whatever
        the class; None for none.
    scale
        A factor for the fluxes, or one each; ``'median'`` divides each by its median.
    offset
        Flux added: of several each lies so much above the one before, or one each.
    assume_medium
        Medium of spectra whose medium is not known. Those in air are drawn in vacuum; a
        spectrum whose medium is not known is drawn over no others.
    missing
        ``skip`` leaves out what is not found, or cannot be read.
    **style
        ``title``, ``xlabel``, ``ylabel``; ``xlim``, ``ylim``: ends of the axes; ``em_lines``,
        ``abs_lines``: names of the lines to mark, such as ``'Hα'`` or ``'Halpha'``, in place of
        those of the class; ``lines``: more lines, vacuum wavelength at rest by name; ``grid``;
        ``dark``: light on dark; ``figsize``: width and height, inches; ``spec_args``,
        ``model_args``, ``ivar_args``, ``sky_args``: arguments of matplotlib's ``plot`` for each of
        the curves.

    Returns
    -------
    matplotlib Figure, Axes or None
        The figure; with ``ax`` these axes; None when a file was written. Masked pixels are gaps,
        with a bar at the lower edge.

    Raises
    ------
    BadParameter
        A value that is not possible; more spectra than the eye can tell apart.

    Examples
    --------
    >>> quasar = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 1")[0]
    >>> _ = spec.plot(quasar, out="quasar.png")
    """
    require("plot()", "notebook", "matplotlib")
    from .figure import (
        draw_into,
        drawable,
        file_kind,
        read_lines,
        read_look,
        require_axes,
        save,
        show,
    )
    from .overlay import is_median, read_several, shared_parts, spread_out, with_redshifts
    from .spectra import in_vacuum

    if unknown := sorted(set(style) - FigureStyle.__annotations__.keys()):
        raise BadArguments(f"plot() got an unexpected keyword argument {unknown[0]!r}")
    require_axes(ax)
    options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
    write = open_file(client.session, out, token) if out else None
    if out:
        file_kind(out)

    look_at = partial(_look, client.session, options, None)
    spectra = read_several(look_at, either("spec", spec, "data", data))
    spectra = in_vacuum(spectra, assume_medium, together=True)
    if z is not None:
        spectra = with_redshifts(spectra, z)
    chosen = {"sky": sky, "model": model}
    if is_median(scale):
        style = {"ylabel": "flux density / median", **style}
    look = read_look(style, values, chosen, smooth, is_framed=ax is not None)
    if len(spectra) > 1:
        look = replace(look, parts=shared_parts(look.parts, chosen))
    named = style.get("em_lines"), style.get("abs_lines"), style.get("lines")
    spectra = [
        replace(spectrum, lines=read_lines(spectrum.lines, mark_lines, *named))
        for spectrum in spread_out(spectra, scale, offset)
    ]
    spectra, look = drawable(spectra, look, rest_frame)
    if write and out:
        write(save(spectra, look, file_name(out), ax))
        return None
    if ax is None:
        return show(spectra, look)
    draw_into([ax], spectra, look)
    return ax


def prospect(
    client: HasSession,
    data: Any,
    context: str | None = None,
    profile: str | None = None,
    out: str | os.PathLike[str] | None = None,
    *,
    z: float | list[float] | None = None,
    title: str | None = None,
    width: int | None = None,
    height: int | None = None,
    dark: bool = False,
    overplot: bool = False,
    inspection: Any = None,
    show: bool = True,
    assume_medium: Literal["vacuum", "air"] | None = None,
    id_col: str | None = None,
    missing: Literal["error", "skip"] = "error",
    timeout: float | None = None,
    token: str | None = None,
    debug: bool = False,
    verbose: bool = False,
) -> Any:
    """Look at spectra interactively: zoom, smooth, and try redshifts.

    Parameters
    ----------
    data
        Identifiers in any form and of any contexts, or spectra: structured arrays,
        DataFrames, Tables, Spectrum objects, or a list of these. A page holds up to 2,000,
        each on its own wavelengths.
    out
        File to write, ``page.html`` or ``vos://page.html``: needs no network to be opened.
    z
        Redshift where lines are marked first, or one each; None takes those known.
    title
        A line of text above all.
    width, height
        Pixels; None fills the window.
    dark
        Begin on black.
    overplot
        Show up to eight spectra over one another, the selected one in front.
    inspection
        True opens the panel of visual inspection; a file that the page saved (CSV or ECSV), or a
        table as `read_inspection` returns it, opens it with these results.
    show
        Without ``out``: open it, in the notebook or in a browser; False returns the page.
    assume_medium
        Medium of spectra whose medium is not known. Those in air are drawn in vacuum; a
        spectrum whose medium is not known is drawn as it is, and over no others.
    id_col, missing, timeout
        As in `getSpec`.

    Returns
    -------
    None, ``'OK'`` or ViewerPage
        ``'OK'`` when a file was written; the page when it is neither written nor shown.

    Examples
    --------
    >>> quasars = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 3")
    >>> spec.prospect(quasars, out="quasars.html")
    'OK'
    """
    require("prospect()", "notebook", "bokeh")
    from ...render.viewer.parts import Look
    from .overlay import spread_out, with_redshifts
    from .page import make_page, require_count
    from .spectra import in_vacuum

    options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
    write = open_file(client.session, out, token) if out else None
    if out:
        read_ending(out, ("", ".html", ".htm"))
    earlier = None if inspection is None or inspection is False else _earlier(inspection)
    spectra = _look(client.session, options, id_col, data, require_count)
    spectra = in_vacuum(spectra, assume_medium, together=overplot)
    if z is not None:
        spectra = with_redshifts(spectra, z)
    if overplot:
        # On one axis there is one unit.
        spectra = spread_out(spectra, None, 0.0)
    page = make_page(spectra, Look(title or "", width, height, dark, overplot, earlier))
    if write:
        write(page.html.encode())
        return "OK"
    if show:
        page.show()
        return None
    return page


def _earlier(inspection: Any) -> tuple[Mapping[str, str], ...]:
    """Return the rows of earlier results; none of True."""
    from ..inspection import inspected

    return () if inspection is True else tuple(inspected(inspection))


def _look(
    session: Session,
    options: RequestOptions,
    id_col: str | None,
    given: Any,
    require: Callable[[int], None],
) -> "list[DisplaySpectrum]":
    """Return the spectra that a caller holds or names, to be shown.

    ``require`` refuses a number of them, before any is fetched.
    """
    from .spectra import fetch_shown, read_spectra

    held = read_spectra(given)
    if held is not None:
        return held
    named = read_ids(session, given, id_col, options)
    require(len(named.ids))
    return fetch_shown(session, named, options)
