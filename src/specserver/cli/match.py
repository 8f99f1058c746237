"""The command that matches a table of positions with the spectra of a service."""

import sys
from typing import Annotated, Any

import typer

from ..errors import BadParameter
from .console import Context, Everything, Token, Url, client_of
from .fetch import print_csv

_ARCSEC_DEG = 1.0 / 3600.0


def match(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="Table of positions: FITS, VOTable, CSV, ECSV; - for CSV on stdin."
        ),
    ],
    radius: Annotated[
        float, typer.Option(metavar="ARCSEC", help="Largest separation of a match.")
    ] = 1.0,
    which: Annotated[
        str, typer.Option(help="nearest: a line for each position; all: one for each pair.")
    ] = "nearest",
    fields: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Columns of the catalogue to come along.")
    ] = None,
    ra_col: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of right ascensions.")
    ] = None,
    dec_col: Annotated[
        str | None, typer.Option(metavar="NAME", help="Column of declinations.")
    ] = None,
    context: Context = "default",
    catalog: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another catalogue of the release.")
    ] = None,
    everything: Everything = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write .csv, .ecsv, .fits, .parquet or .vot; also vos://name."
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Find the spectra near each position of a table; print row, identifier and separation.

    Columns are found by their usual names (ra, dec; RAJ2000, DEJ2000; …), and their units obeyed.

    Example: specserver match targets.fits --radius 2 --fields z,class --out matched.fits
    """
    if which not in {"nearest", "all"}:
        raise BadParameter("which", which, "nearest or all")
    found = client_of(url).match(
        _read_input() if file == "-" else file,
        radius * _ARCSEC_DEG,
        "all" if which == "all" else "nearest",
        fields,
        out,
        context,
        ra_col=ra_col,
        dec_col=dec_col,
        primary=not everything,
        catalog=catalog,
        token=token,
        verbose=out is not None,
    )
    if out is None:
        print_csv(found)


def _read_input() -> Any:
    """Return the table on standard input."""
    from astropy.table import Table

    return Table.read(sys.stdin.read(), format="ascii.csv")
