"""The command that matches a table of positions with the spectra of a service."""

import sys
from typing import Annotated, Any

import typer

from ..errors import BadArguments, BadParameter
from ..wire.columns import ROW
from .console import Catalog, Context, Everything, Token, Url, client_of
from .named import ids_text
from .output import Json, print_table

_ARCSEC_DEG = 1.0 / 3600.0
_MAX_ARCSEC = 3600.0


def match(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Table of positions: FITS, VOTable, CSV, ECSV. - reads CSV, TSV, JSON lines, or"
            " a line 'RA DEC' each from standard input.",
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
    catalog: Catalog = None,
    everything: Everything = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Write .csv, .ecsv, .fits, .parquet or .vot; also vos://name."
        ),
    ] = None,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Find the spectra near each position of a table; print row, identifier and separation.

    Columns are found by their usual names (ra, dec; RAJ2000, DEJ2000; …), and their units obeyed.

    Example: specserver match targets.fits --radius 2 --fields z,class --out matched.fits
    """
    if which not in {"nearest", "all"}:
        raise BadParameter("which", which, "nearest or all")
    if not 0.0 < radius <= _MAX_ARCSEC:
        allowed = f"arcsec, more than 0 and up to {_MAX_ARCSEC:g}"
        raise BadParameter("radius", radius, allowed)
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
        # A number of up to a million rows needs no 64 bits, which JSON would have as text.
        found[ROW] = found[ROW].astype("int32")
        print_table(found, as_json=as_json)


def _read_input() -> Any:
    """Return the table on standard input; numbers without names of columns are ra and dec."""
    from astropy.io.ascii import InconsistentTableError
    from astropy.table import Table

    lines = [line for line in ids_text(sys.stdin.read()).splitlines() if line.strip()]
    if not lines:
        raise BadArguments("standard input is empty: give a table with columns ra and dec")
    first = lines[0].strip()
    mark = next((mark for mark in ",\t" if mark in first), " ")
    form = {",": "ascii.csv", "\t": "ascii.tab"}.get(mark, "ascii.basic")
    if first.startswith("# %ECSV"):
        form = "ascii.ecsv"
    if _is_number(first.partition(mark)[0]):
        lines.insert(0, f"ra{mark}dec")
    try:
        return Table.read(lines, format=form)
    except (InconsistentTableError, ValueError) as error:
        raise BadArguments(
            "standard input is no table: give one with columns ra and dec, or a line 'RA DEC' each"
        ) from error


def _is_number(text: str) -> bool:
    """Return whether text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
