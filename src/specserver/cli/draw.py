"""Commands that draw spectra: plot, preview, grid, prospect."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer

from .console import ERROR, Context, SkipMissing, Token, Url
from .named import Ids, IdsFile, name_of, read_named
from .output import STDOUT, Json, file_or_stdout, print_json

Show = Annotated[bool, typer.Option("--show", help="Open the file when it is written.")]
Title = Annotated[str | None, typer.Option(metavar="TEXT", help="A line of text above.")]
Dark = Annotated[bool, typer.Option("--dark", help="Light on dark.")]
Redshift = Annotated[
    float | None, typer.Option("--z", metavar="Z", help="Redshift, in place of the catalogue's.")
]
Picture = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="FILE",
        help="File to write, also vos://name; - for stdout (default: named after the spectrum).",
        show_default=False,
    ),
]
_PNG: Final = ".png"


def plot(
    ids: Ids = None,
    ids_file: IdsFile = None,
    out: Picture = None,
    title: Title = None,
    z: Redshift = None,
    observed: Annotated[
        bool, typer.Option("--observed", help="Observed wavelengths (default: rest frame).")
    ] = False,
    scale: Annotated[
        Literal["median"] | None,
        typer.Option(help="median: divide each spectrum by its median, to compare shapes."),
    ] = None,
    dark: Dark = False,
    show: Show = False,
    context: Context = "default",
    skip_missing: SkipMissing = False,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Plot a spectrum, or up to eight over one another, as a figure; print the file's name.

    The ending of --out chooses PNG, PDF or SVG.

    Example: specserver plot '(266,51602,14)' --out spectrum.pdf
    """
    client, named, options = read_named(
        url, ids, ids_file, context, skip_missing=skip_missing, token=token
    )
    _draw(
        lambda target: client.plot(
            named,
            out=target,
            title=title,
            z=z,
            rest_frame=False if observed else None,
            scale=scale,
            dark=dark,
            **options,
        ),
        out or f"plot-{name_of(named)}{_PNG}",
        as_json=as_json,
        show=show,
    )


def preview(
    ids: Ids = None,
    ids_file: IdsFile = None,
    out: Picture = None,
    dark: Dark = False,
    show: Show = False,
    context: Context = "default",
    skip_missing: SkipMissing = False,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write the service's preview of a spectrum, or of several below one another, as PNG.

    Prints the file's name.

    Example: specserver preview '(266,51602,14)' --show
    """
    client, named, options = read_named(
        url, ids, ids_file, context, skip_missing=skip_missing, token=token
    )
    _draw(
        lambda target: client.preview(named, out=target, dark=dark, **options),
        out or f"preview-{name_of(named)}{_PNG}",
        as_json=as_json,
        show=show,
    )


def grid(
    ids: Ids = None,
    ids_file: IdsFile = None,
    nx: Annotated[int, typer.Option(min=1, help="Columns.")] = 4,
    ny: Annotated[int, typer.Option(min=1, help="Rows.")] = 3,
    page: Annotated[int, typer.Option(min=0, help="Page of the list, from 0.")] = 0,
    align: Annotated[
        bool, typer.Option("--align", help="Draw all over the same wavelengths.")
    ] = False,
    out: Picture = None,
    dark: Dark = False,
    show: Show = False,
    context: Context = "default",
    skip_missing: SkipMissing = False,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write a page of previews side by side as PNG; print the file's name.

    Example: specserver grid --ids quasars.csv --nx 3 --ny 2 --page 1

    Example: specserver query --where "class = 'QSO'" | specserver grid -
    """
    client, named, options = read_named(
        url, ids, ids_file, context, skip_missing=skip_missing, token=token
    )
    which = f"-page-{page}" if page else ""
    _draw(
        lambda target: client.plotGrid(
            named,
            nx,
            ny,
            page,
            out=target,
            align=align,
            dark=dark,
            **options,
        ),
        out or f"grid-{name_of(named)}{which}{_PNG}",
        as_json=as_json,
        show=show,
    )


def prospect(
    ids: Ids = None,
    ids_file: IdsFile = None,
    out: Picture = None,
    title: Title = None,
    z: Redshift = None,
    overplot: Annotated[
        bool, typer.Option("--overplot", help="Show up to eight spectra over one another.")
    ] = False,
    inspect: Annotated[
        bool, typer.Option("--inspect", help="Open the panel of visual inspection.")
    ] = False,
    inspection: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Open it with results that the page saved, CSV or ECSV."),
    ] = None,
    dark: Dark = False,
    show: Show = False,
    context: Context = "default",
    skip_missing: SkipMissing = False,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Write an interactive page of up to 2,000 spectra, which needs no network; print its name.

    Example: specserver prospect --ids quasars.csv --inspect --show

    Example: specserver query --where "zwarning > 0" | specserver prospect - --show
    """
    client, named, options = read_named(
        url, ids, ids_file, context, skip_missing=skip_missing, token=token
    )
    _draw(
        lambda target: client.prospect(
            named,
            out=target,
            z=z,
            title=title,
            dark=dark,
            overplot=overplot,
            inspection=inspection or inspect,
            **options,
        ),
        out or f"prospect-{name_of(named)}.html",
        as_json=as_json,
        show=show,
    )


def _draw(draw: Callable[[str], Any], out: str, *, as_json: bool, show: bool) -> None:
    """Draw into a file, print its name, and open it where that is wanted."""
    with file_or_stdout(out, _PNG) as target:
        draw(target)
    if out == STDOUT:
        return
    if as_json:
        print_json([{"out": out}])
    else:
        sys.stdout.write(f"{out}\n")
    if show and typer.launch(out):
        ERROR.print(f"nothing on this machine opens {out}", markup=False)
