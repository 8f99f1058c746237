"""Pictures of spectra: drawn by the service, or here with matplotlib."""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Final, Literal

from ..errors import BadParameter, StoreError
from ..model.idtext import format_id
from ..model.spacename import PREFIX, split_file_name
from .multi_context import Across
from .plots.image import PngImage
from .request import RequestOptions, Values
from .storage import in_space
from .transfer import Ids, caller_depth, say

Scale = float | tuple[float, float]
Missing = Literal["error", "skip"]
Out = str | os.PathLike[str] | None

_PICTURE_FORMATS: Final = ("png", "raw")


class Pictures(Across):
    """A connection that shows spectra."""

    def preview(
        self,
        spec: Any = None,
        context: str | None = None,
        profile: str | None = None,
        *,
        id: Any = None,  # noqa: A002  its name in the description of the service
        fmt: str = "png",
        out: Out = None,
        dark: bool = False,
        id_col: str | None = None,
        missing: Missing = "error",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Return a preview of one spectrum: flux, noise, model, and the lines at its redshift.

        Parameters
        ----------
        spec, id
            An identifier in any form; for several there is one preview below the other.
        fmt
            ``png``, or ``raw`` for plain bytes.
        out
            A file to write, here or ``vos://name``.
        dark
            Light on dark.
        missing
            ``skip`` leaves out what is not found, or cannot be read.

        Returns
        -------
        PngImage, bytes or ``'OK'``
            Bytes of a PNG that show themselves in a notebook; ``'OK'`` when a file was written.
        """
        given = _either("spec", spec, "id", id)
        call = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        ids, _, call = self._of_one(given, id_col, call, "preview")
        return self._picture("preview", ids, {"dark": dark}, call, fmt=fmt, out=out)

    def plotGrid(
        self,
        id_list: Any,
        nx: int,
        ny: int,
        page: int = 0,
        context: str | None = None,
        profile: str | None = None,
        *,
        fmt: str = "png",
        out: Out = None,
        align: bool = False,
        dark: bool = False,
        id_col: str | None = None,
        missing: Missing = "error",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Return previews side by side as one picture.

        Parameters
        ----------
        id_list
            Identifiers in any form.
        nx, ny
            Columns and rows.
        page
            Which page of the list, from 0: ``ceil(n / (nx * ny))`` pages hold n spectra.
        align
            Draw all over the same wavelengths, those of the whole list.
        missing
            ``skip`` leaves out what is not found, or cannot be read.

        Returns
        -------
        PngImage, bytes or ``'OK'``
            As `preview` returns, with the same other parameters.
        """
        call = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        ids, _, call = self._of_one(id_list, id_col, call, "plotGrid")
        fields = {"nx": int(nx), "ny": int(ny), "page": int(page), "align": align, "dark": dark}
        return self._picture("plotGrid", ids, fields, call, fmt=fmt, out=out)

    getGridPlot = plotGrid  # noqa: N815  its other documented name

    def stackedImage(
        self,
        id_list: Any,
        fmt: str = "png",
        align: bool = False,
        yflip: bool = False,
        context: str | None = None,
        profile: str | None = None,
        *,
        scale: Scale = 1.0,
        thickness: int = 1,
        inverse: bool = False,
        cmap: str = "gray",
        width: int = 0,
        height: int = 0,
        out: Out = None,
        id_col: str | None = None,
        missing: Missing = "error",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> Any:
        """Return an image in which each row is a spectrum, the first at the bottom.

        Brightness is flux between the limits of zscale, the same for all rows, clipped. A list
        too long for the largest picture of the service makes rows that are means of neighbours.

        Parameters
        ----------
        id_list
            Identifiers in any form, in the order wanted.
        fmt
            ``png``; ``raw`` for plain bytes of a PNG; ``numpy`` for fluxes, a row a spectrum.
        align
            Put the spectra on their common wavelength lattice; else each begins at the left edge.
        yflip
            The first spectrum at the top; of an array, the last row.
        scale
            Factor of the picture's size, or one for the width and one for the height.
        thickness
            Rows of pixels for one spectrum.
        inverse
            Dark on light.
        cmap
            A colour map of matplotlib.
        width, height
            Size of the picture, pixels; 0 for what comes of the data.

        Returns
        -------
        PngImage, bytes, 2D[nspec, npix] float32 in the survey's unit of flux, or ``'OK'``
            ``'OK'`` when a file was written, a PNG or ``.npy``.
        """
        form = str(fmt).strip().lower()
        if form not in {*_PICTURE_FORMATS, "numpy"}:
            raise BadParameter("fmt", fmt, "png, raw (plain bytes of a PNG) or numpy")
        call = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        ids, _, call = self._of_one(id_list, id_col, call, "stackedImage")
        xscale, yscale = _two(scale)
        fields = {
            "fmt": "numpy" if form == "numpy" else "png",
            "align": bool(align),
            "yflip": bool(yflip),
            "xscale": xscale,
            "yscale": yscale,
            "thickness": int(thickness),
            "inverse": bool(inverse),
            "cmap": cmap,
            "width": int(width),
            "height": int(height),
        }
        if form != "numpy" or out:
            return self._picture("stackedImage", ids, fields, call, fmt=form, out=out)
        from numpy.lib.format import read_array

        began = perf_counter()
        with self._posted("stackedImage", self._request(ids, fields, call), call) as answer:
            flux = read_array(answer, allow_pickle=False)
            _warn_left_out(answer.headers)
        _sum_up("stackedImage", flux.nbytes, began, call)
        return flux

    def plot(
        self,
        spec: Any = None,
        context: str | None = None,
        profile: str | None = None,
        out: Out = None,
        *,
        data: Any = None,
        rest_frame: bool | None = None,
        z: float | Iterable[float] | None = None,
        xlim: Iterable[float] | None = None,
        ylim: Iterable[float] | None = None,
        title: str | None = None,
        xlabel: str | None = None,
        ylabel: str | None = None,
        values: Values = "flux,model",
        sky: bool | None = None,
        model: bool | None = None,
        lines: Mapping[str, float] | None = None,
        mark_lines: str | bool | None = "all",
        em_lines: Values = None,
        abs_lines: Values = None,
        grid: bool = True,
        dark: bool = False,
        figsize: tuple[float, float] | None = None,
        scale: str | float | Iterable[float] | None = None,
        offset: float | Iterable[float] = 0.0,
        assume_medium: Literal["vacuum", "air"] | None = None,
        spec_args: Mapping[str, Any] | None = None,
        model_args: Mapping[str, Any] | None = None,
        ivar_args: Mapping[str, Any] | None = None,
        sky_args: Mapping[str, Any] | None = None,
        missing: Missing = "error",
        timeout: float | None = None,
        token: str | None = None,
        debug: bool = False,
        verbose: bool = False,
    ) -> None:
        """Plot a spectrum, or up to eight over one another: show them, or save them.

        Parameters
        ----------
        spec, data
            An identifier in any form, or a spectrum: structured array, DataFrame, Table, Spectrum;
            or a list of these, of any contexts. Several are drawn each on its own wavelengths,
            flux and noise only, and lines are marked at the redshift of the first.
        out
            A file to write instead of showing, here or ``vos://name``; PNG, PDF, SVG by its ending.
        rest_frame
            Divide the wavelengths by 1 + z; flux density stays as observed. By default where the
            redshift is known, and of several where all are.
        z
            Redshift, or one each; by default that of the catalogue, or of the object.
        xlim, ylim
            Ends of the axes.
        values
            What is drawn, of flux, model, noise, sky, ivar; sky and ivar below.
        sky, model
            True adds them to ``values``, False takes them away.
        lines
            More lines to mark: vacuum wavelength at rest, Å, by name.
        mark_lines
            ``em``, ``abs``, ``all`` or ``both``, or a word that begins so; None for none.
        em_lines, abs_lines
            Names of the lines to mark, such as ``'Hα'`` or ``'Halpha'``; by default all.
        grid
            Draw a grid.
        dark
            Light on dark.
        figsize
            Width and height, inches; by default 12 × 5, and taller with panels below.
        scale
            A factor for the fluxes, or one each; ``'median'`` divides each by its median.
        offset
            Flux added: of several each lies so much above the one before, or one each.
        assume_medium
            What the wavelengths are in of spectra of which it is not known. Those in air are drawn
            in vacuum; what is not known is drawn over no others.
        spec_args, model_args, ivar_args, sky_args
            Arguments of matplotlib's ``plot`` for each of the curves.
        missing
            ``skip`` leaves out what is not found, or cannot be read.
        """
        from .plots.figure import PlotWanted, draw, save, show
        from .plots.overlay import read_several
        from .plots.spectra import in_vacuum

        wanted = PlotWanted(
            rest_frame, z, xlim, ylim, title, xlabel, ylabel, values, sky, model, lines,
            mark_lines, em_lines, abs_lines, grid, dark, figsize,
            {"flux": spec_args, "model": model_args, "ivar": ivar_args, "sky": sky_args},
            scale, offset,
        )  # fmt: skip
        call = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
        write = self._writer(out, call)

        def look(given: Any, require: Callable[[int], None]) -> Any:
            return self._look(given, None, call, require)

        several = read_several(look, _either("spec", spec, "data", data))
        drawing = draw(wanted, in_vacuum(several, assume_medium, together=True))
        if write and out:
            write(save(drawing, os.fspath(out)))
        else:
            show(drawing)

    def _picture(
        self,
        path: str,
        ids: Ids,
        fields: Mapping[str, Any],
        call: RequestOptions,
        *,
        fmt: str,
        out: Out,
    ) -> Any:
        """Ask for a picture; return it, or write it to a file."""
        form = str(fmt).strip().lower()
        if form not in {*_PICTURE_FORMATS, fields.get("fmt")}:
            raise BadParameter("fmt", fmt, "png, or raw for plain bytes")
        write, began = self._writer(out, call), perf_counter()
        with self._posted(path, self._request(ids, fields, call), call) as answer:
            content: bytes = answer.read_all()
            _warn_left_out(answer.headers)
        if form != "numpy" and not content.startswith(b"\x89PNG"):
            raise StoreError(self._url(path), "the answer is no PNG")
        _sum_up(path, len(content), began, call)
        if write:
            write(content)
            return "OK"
        return content if form == "raw" else PngImage(content)

    def _request(self, ids: Ids, fields: Mapping[str, Any], call: RequestOptions) -> dict[str, Any]:
        """Return the request for a picture."""
        where = self._where(call.context, call.profile)
        # An empty text would be no field at all; this is a list without identifiers.
        text = "\n".join(format_id(one) for one in ids) or "[]"
        return {**where, "id_list": text, "missing": call.missing, **fields}

    def _writer(self, out: Out, call: RequestOptions) -> Callable[[bytes], object] | None:
        """Return what writes the file ``out``, here or in virtual storage; None when it is none.

        Raises
        ------
        BadParameter
            No file can have that name. Said before anything is fetched or drawn.
        """
        if out is None or not os.fspath(out):
            return None
        if in_space(out):
            *folders, name = split_file_name(os.fspath(out).strip())
            space = self._space(PREFIX + "/".join(folders), call.token)
            return partial(space.put, name)
        from .results.save import OneFile

        return partial(OneFile(Path(out).expanduser()).put, "")


def _either(name: str, value: Any, other_name: str, other: Any) -> Any:
    """Return an argument that has two names: the old client's, and its description's."""
    if (value is None) == (other is None):
        raise TypeError(f"give {name} or {other_name}, one of the two")
    return other if value is None else value


def _warn_left_out(headers: Mapping[str, str]) -> None:
    """Warn of what a picture does not show, as its headers tell: a number, and some of them."""
    reasons = {
        "X-Missing": "identifiers have nothing to show",
        "X-Damaged": "spectra cannot be read",
    }
    for name, reason in reasons.items():
        count, _, some = headers.get(name, "").partition(" ")
        if count:
            text = f"{count} {reason} and are left out: {some.replace(' ', ', ')}"
            warnings.warn(text, UserWarning, stacklevel=caller_depth())


def _sum_up(path: str, nbytes: int, began: float, call: RequestOptions) -> None:
    """Tell what came, when the caller asked to be told."""
    if call.verbose:
        say(f"{path}: {nbytes / 1e3:,.0f} kB in {perf_counter() - began:.2f} s")


def _two(scale: Scale) -> tuple[float, float]:
    """Return the factors of width and height."""
    try:
        x, y = (scale, scale) if isinstance(scale, int | float) else scale
        return float(x), float(y)
    except (TypeError, ValueError) as error:
        raise BadParameter("scale", scale, "a factor, or a pair for width and height") from error
