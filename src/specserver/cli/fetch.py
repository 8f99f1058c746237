"""Commands that fetch from a service: query, get."""

import sys
from typing import Annotated, Any, Final

import typer

from ..errors import BadArguments, BadParameter
from .console import (
    ERROR,
    Catalog,
    Context,
    Contexts,
    Everything,
    SkipMissing,
    Token,
    Url,
    client_of,
)
from .named import Ids, IdsFile, read_named
from .output import STDOUT, Json, file_or_stdout, json_id, print_json, print_records, print_table

_SHOWN: Final = 20
# Endings of files, and the formats of getSpec that make them; others are taken as getSpec does.
_FORMATS: Final = {"npy": "numpy", "csv": "pandas", "ecsv": "table"}


def read_cone(words: tuple[str, str, str] | None) -> tuple[float, ...] | None:
    """Return the numbers of a cone; an option that follows too few of them is taken for one."""
    if words is None:
        return None
    numbers = []
    for name, word in zip(("RA", "DEC", "SIZE"), words, strict=True):
        try:
            numbers.append(float(word))
        except ValueError:
            allowed = f"RA DEC SIZE are three numbers of degrees; {word!r} stands for {name}"
            raise BadParameter("cone", " ".join(words), allowed) from None
    return tuple(numbers)


def query(
    cone: Annotated[
        # Text, so that an error can say which word is no number.
        tuple[str, str, str] | None,
        typer.Option(
            "--cone",
            metavar="RA DEC SIZE",
            help="Position and radius, degrees.",
            callback=read_cone,
        ),
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
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Most rows; as LIMIT in --where.")
    ] = None,
    context: Contexts = "default",
    catalog: Catalog = None,
    everything: Everything = False,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="File to write: .txt, .csv, .ecsv, .fits, .parquet, .vot; also vos://name.",
        ),
    ] = None,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Find spectra by position and condition; print identifiers, or columns as CSV.

    Example: specserver query --cone 180 0 2 --where "class = 'QSO' and z between 2 and 2.2"
    """
    from ..client.request import catalog_context, split_names
    from ..client.results.query_results import TUPLE

    if cone is not None and region is not None:
        raise BadArguments("give --cone or --region, not both")
    if cone is None and region is None and where is None and limit is None:
        raise BadArguments("give --cone, --region, --where or --limit")
    asked: dict[str, Any] = {"context": context, "primary": False if everything else None}
    asked |= {"catalog": catalog, "limit": limit}
    if cone is not None:
        asked |= dict(zip(("ra", "dec", "size"), cone, strict=True))
    if region is not None:
        asked["region"] = read_corners(region)
    if where is not None:
        asked["constraint"] = where
    if fields is not None:
        asked["fields"] = fields
        if as_json and split_names(fields, "fields") not in ([], [TUPLE]):
            # One column has its name in JSON, too.
            asked["fmt"] = "table"
    asked["out"] = out
    client = client_of(url)
    found = client.query(**asked, token=token)
    if out is not None:
        return
    if as_json and not hasattr(found, "colnames") and "," not in context:
        # The release behind a name such as default.
        named = catalog_context(catalog, context)
        context = client.list_contexts(named, fmt="json")["resolved"]
    _print_found(found, context, as_json=as_json)


def read_corners(text: str) -> list[float]:
    """Return the numbers of a comma-separated list."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise BadParameter("region", text, "RA,DEC,RA,DEC,… in degrees") from None


def _print_found(found: Any, context: str, *, as_json: bool) -> None:
    """Print a query's result: one identifier or tuple a line, or CSV with a header."""
    if hasattr(found, "colnames"):
        print_table(found, as_json=as_json)
        return
    from ..client.results.query_results import cells, line_of

    values = cells(found) if hasattr(found, "tolist") else found
    if as_json:
        print_json(_json_of(value, context) for value in values)
    else:
        sys.stdout.writelines(f"{line_of(value)}\n" for value in values)


def _json_of(value: Any, context: str) -> dict[str, Any]:
    """Return what a query found without fields, with the context that it belongs to."""
    from ..client.results.query_results import is_pair

    if is_pair(value):
        context, value = value
    return {"context": context, "id": json_id(value)}


def get(
    ids: Ids = None,
    ids_file: IdsFile = None,
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
        typer.Option(
            metavar="DIR|FILE",
            help="Folder to write to, also vos://…: a file a spectrum. Of one spectrum, or of"
            " aligned ones as .npy, also the file; - for stdout.",
        ),
    ] = None,
    rebuilt: Annotated[
        bool, typer.Option("--rebuilt", help="FITS from the store in place of the original file.")
    ] = False,
    context: Context = "default",
    skip_missing: SkipMissing = False,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Fetch spectra; write one file each, or print what came.

    Example: specserver get '(266,51602,14)' --values flux,ivar --out spectra

    Example: specserver query --where "class = 'QSO'" | specserver get - --align --out qso.npy
    """
    from ..client.request import RequestOptions, read_wanted

    aligned = "resample" if resample else align
    kind = _FORMATS.get(fmt.lower(), fmt)
    wanted = read_wanted(kind, values, cutout, aligned, medium, assume_medium)
    client, named, options = read_named(
        url, ids, ids_file, context, skip_missing=skip_missing, token=token
    )
    if out is not None:
        from ..client.writing import ending_of, is_array_file

        ending = ending_of(wanted.fmt)
        if out == STDOUT and not (
            named.single or is_array_file(f"out{ending}", wanted, single=False)
        ):
            allowed = "one spectrum, or aligned ones as npy, on standard output; name a folder"
            raise BadParameter("out", out, allowed)
        with file_or_stdout(out, ending) as target:
            client.getSpec(
                named,
                kind,
                target,
                aligned,
                cutout,
                values=values,
                medium=medium,  # type: ignore[arg-type]  # checked there
                assume_medium=assume_medium,  # type: ignore[arg-type]  # checked there
                fits="rebuilt" if rebuilt else "original",
                verbose=True,
                **options,
            )
        return
    wanted = read_wanted("numpy", values, cutout, aligned, medium, assume_medium)
    _print_spectra(client.fetch_named(named, wanted, RequestOptions(**options)), as_json=as_json)


def _print_spectra(spectra: list[tuple[str, int, Any]], *, as_json: bool) -> None:
    """Print a line for each spectrum; on a terminal only for the first ones."""
    records = [
        {
            "context": context,
            "id": str(number),
            "pixels": len(spectrum),
            "fields": list(spectrum.dtype.names or ()),
        }
        for context, number, spectrum in spectra
    ]
    some = records[:_SHOWN] if sys.stdout.isatty() and not as_json else records
    print_records(some, ("context", "id", "pixels", "fields"), as_json=as_json)
    if len(some) < len(records):
        ERROR.print(f"… and {len(records) - len(some):,} more")
    ERROR.print("--out DIR writes them to files")
