"""Pictures of spectra that the service draws."""

import os
from collections.abc import Mapping
from io import BytesIO
from time import perf_counter
from typing import Any, Final, Literal

import numpy as np

from ...errors import BadArguments, BadParameter, StoreError
from ...wire.headers import DAMAGED, MISSING, PAGE, LeftOut
from ..inputs.context_ids import read_some_ids
from ..messages import sum_up, warn
from ..request import RequestOptions, Values, split_names, whole_number
from ..session import HasSession
from ..spectra import ids_request
from ..storage import open_file, read_ending
from .image import PngImage

Scale = float | tuple[float, float] | Literal["common"]
_AXES: Final = ("wavelength", "redshift", "colorbar")
Missing = Literal["error", "skip"]
Out = str | os.PathLike[str] | None


def preview(
    client: HasSession,
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

    Examples
    --------
    >>> quasars = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 20")
    >>> spec.preview(quasars[0], out="quasar.png")
    'OK'
    """
    given = either("spec", spec, "id", id)
    options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
    return _picture(client, "preview", given, id_col, {"dark": dark}, options, fmt, out)


def plotGrid(
    client: HasSession,
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
        Page of the list, from 0: ``ceil(n / (nx * ny))`` pages hold n spectra. A page beyond
        the end is the last one, with a warning.
    align
        Draw all over the same wavelengths, those of the whole list.
    missing
        ``skip`` leaves out what is not found, or cannot be read.

    Returns
    -------
    PngImage, bytes or ``'OK'``
        As `preview` returns, with the same other parameters.

    Examples
    --------
    >>> quasars = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 20")
    >>> spec.plotGrid(quasars, 3, 2, page=1, out="grid.png")
    'OK'
    """
    options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
    shape = {"nx": nx, "ny": ny, "page": page}
    fields = {name: whole_number(name, value) for name, value in shape.items()}
    fields |= {"align": align, "dark": dark}
    return _picture(client, "plotGrid", id_list, id_col, fields, options, fmt, out)


def stackedImage(
    client: HasSession,
    id_list: Any,
    fmt: str = "png",
    align: bool = False,
    yflip: bool = False,
    context: str | None = None,
    profile: str | None = None,
    *,
    scale: Scale | None = None,
    thickness: int | None = None,
    inverse: bool = False,
    cmap: str = "gray",
    width: int = 0,
    height: int = 0,
    axes: bool | Values = False,
    out: Out = None,
    id_col: str | None = None,
    missing: Missing = "error",
    timeout: float | None = None,
    token: str | None = None,
    debug: bool = False,
    verbose: bool = False,
) -> Any:
    """Return an image in which each row is a spectrum, the first at the bottom.

    Each row has its own scale of brightness, from the 2nd to the 98th percentile of its flux.
    Without a size the picture has up to 1,200 columns, each the mean of as many pixels of the
    spectra, and from 40 rows of pixels for a spectrum down to one; beyond 1,000 spectra a row is
    the mean of neighbours.

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
        ``'common'``: one scale of brightness for all rows, flux between the limits of zscale. Or
        the size of the picture: pixels for one of the spectra, or a pair for width and height.
    thickness
        Rows of pixels for one spectrum.
    inverse
        Dark on light.
    cmap
        A colour map of matplotlib.
    width, height
        Size of the picture, pixels, without axes.
    axes
        True, or some of ``wavelength``, ``redshift``, ``colorbar``. Wavelengths need ``align``.

    Returns
    -------
    PngImage, bytes, 2D[nspec, npix] float32 in the survey's unit of flux, or ``'OK'``
        ``'OK'`` when a file was written, a PNG or ``.npy``.

    Examples
    --------
    >>> quasars = spec.query(constraint="class = 'QSO' and z > 2 order by z limit 20")
    >>> spec.stackedImage(quasars, fmt="numpy", align=True).shape
    (20, 4656)
    """
    options = RequestOptions(context, profile, missing, timeout, token, debug, verbose)
    common = isinstance(scale, str) and scale.strip().lower() == "common"
    xscale, yscale = (None, None) if scale is None or common else _two(scale)
    shown = [name for name in _AXES if align or name != "wavelength"] if axes is True else axes
    size = {"xscale": xscale, "yscale": yscale, "thickness": thickness}
    fields = {
        "fmt": "numpy" if _read_form(fmt) == "numpy" else "png",
        "align": bool(align),
        "yflip": bool(yflip),
        "common": common,
        "axes": ",".join(split_names(shown or None, "axes") or ()),
        "inverse": bool(inverse),
        "cmap": cmap,
        "width": whole_number("width", width),
        "height": whole_number("height", height),
        **{name: value for name, value in size.items() if value is not None},
    }
    return _picture(client, "stackedImage", id_list, id_col, fields, options, fmt, out)


def _read_form(fmt: str) -> str:
    """Return the form of a picture in one spelling."""
    return str(fmt).strip().lower()


def _picture(
    client: HasSession,
    path: str,
    given: Any,
    id_col: str | None,
    fields: Mapping[str, Any],
    options: RequestOptions,
    fmt: str,
    out: Out,
) -> Any:
    """Ask for a picture; return it, or write it to a file. With a field ``fmt`` or as numbers."""
    form, session = _read_form(fmt), client.session
    if form not in {"png", "raw"} and not (form == "numpy" and "fmt" in fields):
        more = " or numpy" if "fmt" in fields else ""
        raise BadParameter("fmt", fmt, f"png, raw (plain bytes of a PNG){more}")
    write = open_file(session, out, options.token) if out else None
    if out:
        read_ending(out, ("", ".npy" if form == "numpy" else ".png"))
    named = read_some_ids(session, given, id_col, options, path)
    began = perf_counter()
    body = {**ids_request(session, named, options, "id_list"), **fields}
    with session.ask(path, body, options) as answer:
        content: bytes = answer.read_all()
        _warn_left_out(answer.headers)
    if form != "numpy" and not content.startswith(b"\x89PNG"):
        raise StoreError(session.url(path), "the answer is no PNG")
    sum_up(options, f"{path}: {len(content) / 1e3:,.0f} kB", began)
    if write:
        write(content)
        return "OK"
    if form == "numpy":
        return np.load(BytesIO(content), allow_pickle=False)
    return content if form == "raw" else PngImage(content)


def either(name: str, value: Any, other_name: str, other: Any) -> Any:
    """Return an argument that has two names: the old client's, and its description's."""
    if (value is None) == (other is None):
        raise BadArguments(f"give {name} or {other_name}, one of the two")
    return other if value is None else value


def _warn_left_out(headers: Mapping[str, str]) -> None:
    """Warn of what a picture does not show, as its headers state."""
    if PAGE in headers:
        warn(f"the list has no such page; this is the last one, page={headers[PAGE]}")
    reasons = {
        MISSING: "identifiers have nothing to show",
        DAMAGED: "spectra cannot be read",
    }
    for name, reason in reasons.items():
        gone = LeftOut.from_header(headers.get(name, ""))
        if gone.count:
            warn(f"{gone.count} {reason} and are left out: {', '.join(gone.some)}")


def _two(scale: Any) -> tuple[float, float]:
    """Return the factors of width and height."""
    try:
        x, y = (scale, scale) if isinstance(scale, int | float) else scale
        return float(x), float(y)
    except (TypeError, ValueError) as error:
        allowed = "'common', or a factor of the size, or a pair for width and height"
        raise BadParameter("scale", scale, allowed) from error
