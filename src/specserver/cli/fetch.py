"""Commands that fetch from a service: query, get."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from ..errors import BadParameter
from ..model.spacename import in_space
from .console import ERROR, OUT, Context, Everything, SkipMissing, Token, Url, client_of

if TYPE_CHECKING:
    from ..client.api import SpecClient

_SHOWN = 20
Contexts = Annotated[
    str,
    typer.Option("--context", metavar="C[,C…]", help="Release to ask, or several: sdss_dr17,…"),
]
# Endings of files, and the formats of getSpec that make them; others are taken as getSpec does.
_FORMATS = {"npy": "numpy", "csv": "pandas", "ecsv": "table"}


def query(
    cone: Annotated[
        tuple[float, float, float] | None,
        typer.Option("--cone", metavar="RA DEC SIZE", help="Position and radius, degrees."),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", metavar="RA,DEC,RA,DEC,…", help="Polygon of great circles, degrees."
        ),
    ] = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="SQL", help="Condition; ORDER BY and LIMIT may follow."),
    ] = None,
    fields: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Columns, or 'tuple' (default: the identifier)."),
    ] = None,
    context: Contexts = "default",
    everything: Everything = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File to write: .txt, .csv, .ecsv, .fits, .parquet, .vot; also vos://name.",
        ),
    ] = None,
    url: Url = None,
    token: Token = None,
) -> None:
    """Find spectra by position and condition; print identifiers, or columns as CSV.

    Example: specserver query --cone 180 0 2 --where "class = 'QSO' and z between 2 and 2.2"
    """
    if cone is not None and region is not None:
        raise BadParameter("region", region, "give a cone or a region, not both")
    if cone is None and region is None and where is None:
        raise BadParameter("where", where, "give --cone, --region or --where")
    asked: dict[str, Any] = {"context": context, "primary": False if everything else None}
    if cone is not None:
        asked |= {"ra": cone[0], "dec": cone[1], "size": cone[2]}
    if region is not None:
        asked["region"] = _numbers(region)
    if where is not None:
        asked["constraint"] = where
    if fields is not None:
        asked["fields"] = fields
    asked["out"] = out
    found = client_of(url).query(**asked, token=token)
    if out is None:
        _print_found(found)


def _numbers(text: str) -> list[float]:
    """Return the numbers of a comma-separated list."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadParameter("region", text, "RA,DEC,RA,DEC,… in degrees") from None


def _print_found(found: Any) -> None:
    """Print a query's result: one identifier or tuple a line, or CSV with a header."""
    if hasattr(found, "colnames"):
        print_csv(found)
        return
    from ..client.results.query_results import cells

    values = cells(found) if hasattr(found, "tolist") else found
    for value in values:
        sys.stdout.write(f"{_line(value)}\n")


def print_csv(table: Any) -> None:
    """Print a Table as CSV, every number with the digits of its own type."""
    from ..client.results.query_results import write_csv
    from ..client.results.table_file import columns_of

    write_csv(columns_of(table), sys.stdout)


def _line(value: Any) -> str:
    """Return an identifier, a tuple, or a pair of context and either, as ``get`` reads it."""
    if not isinstance(value, tuple):
        return str(value)
    if len(value) == 2 and isinstance(value[0], str):
        context, rest = value
        return f"{context}:({_line(rest)})" if isinstance(rest, tuple) else f"{context}:{rest}"
    return ",".join(map(str, value))


def _read_text(name: str, client: "SpecClient", token: str | None) -> str:
    """Return the text of a file, of virtual storage, or of standard input."""
    if name == "-":
        return sys.stdin.read()
    if in_space(name):
        return client.vos.read_text(name, token=token)
    return Path(name).read_text("utf-8-sig")


def get(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID…",
            help="Numbers, or tuples such as '(266,51602,1-100)'; C:ID of another context.",
        ),
    ] = None,
    ids_file: Annotated[
        str | None,
        typer.Option("--ids", metavar="FILE", help="File of identifiers, - for stdin, or vos://…"),
    ] = None,
    fmt: Annotated[
        str, typer.Option(help="With --out: npy, csv, ecsv (Table), fits (original), Spectrum1D.")
    ] = "npy",
    values: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Vectors to fetch (default: all).")
    ] = None,
    align: Annotated[
        bool | None,
        typer.Option(
            "--align/--no-align",
            help="Shift onto one wavelength lattice, zeros outside. Implied by --cutout.",
        ),
    ] = None,
    cutout: Annotated[
        str | None, typer.Option(metavar="A-B", help="Vacuum wavelengths in Å, as in 6500-7200.")
    ] = None,
    medium: Annotated[
        str | None,
        typer.Option(metavar="M", help="Wavelengths in vacuum or air (default: as published)."),
    ] = None,
    assume_medium: Annotated[
        str | None,
        typer.Option(metavar="M", help="Medium of wavelengths whose medium is not known."),
    ] = None,
    resample: Annotated[
        bool,
        typer.Option("--resample", help="Like --align, for other lattices too; conserves flux."),
    ] = False,
    out: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Folder to write to, also vos://…: a file a spectrum."),
    ] = None,
    rebuilt: Annotated[
        bool, typer.Option("--rebuilt", help="FITS from the store in place of the original file.")
    ] = False,
    context: Context = "default",
    skip_missing: SkipMissing = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Fetch spectra; write one file each, or print what came.

    Example: specserver get '(266,51602,13)' --values flux,ivar --out spectra
    """
    client = client_of(url)
    text: str | Path = "\n".join(ids or [])
    if ids_file is not None and ids_file != "-" and not text:
        # The client reads tables of every kind.
        text = ids_file if in_space(ids_file) else Path(ids_file)
    elif ids_file is not None:
        text = f"{text}\n{_read_text(ids_file, client, token)}"
    if not str(text).strip():
        raise BadParameter("ids", text, "name at least one spectrum, or a file with --ids")
    missing: Literal["error", "skip"] = "skip" if skip_missing else "error"
    aligned = "resample" if resample else align
    named = client.read_named(text, context, missing=missing, token=token)
    if not named.ids:
        allowed = "one identifier or more, a line each, or a table with a row each"
        raise BadParameter("ids", f"{ids_file or text} names no spectrum", allowed)
    if out is not None:
        client.getSpec(
            named,
            _FORMATS.get(fmt.lower(), fmt),
            out,
            aligned,
            cutout,
            context,
            values=values,
            medium=medium,  # type: ignore[arg-type]  # checked there
            assume_medium=assume_medium,  # type: ignore[arg-type]  # checked there
            missing=missing,
            fits="rebuilt" if rebuilt else "original",
            token=token,
            verbose=True,
        )
        return
    from ..client.request import RequestOptions, read_wanted

    wanted = read_wanted("numpy", values, cutout, aligned, medium, assume_medium)
    options = RequestOptions(context, missing=missing, token=token)
    _print_spectra(client.fetch_named(named, wanted, options))


def _print_spectra(spectra: list[tuple[str, int, Any]]) -> None:
    """Print a line for each of the first spectra."""
    several = len({context for context, _, _ in spectra}) > 1
    table = Table(*(["context"] if several else []), "id", "pixels", "fields")
    for context, number, spectrum in spectra[:_SHOWN]:
        facts = (str(number), f"{len(spectrum):,}", ", ".join(spectrum.dtype.names or ()))
        table.add_row(*((context, *facts) if several else facts))
    OUT.print(table)
    if len(spectra) > _SHOWN:
        OUT.print(f"… and {len(spectra) - _SHOWN:,} more")
    ERROR.print("--out DIR writes them to files")
