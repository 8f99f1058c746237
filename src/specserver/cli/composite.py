"""The command that combines spectra into one: stack."""

from typing import Annotated, Any, Literal

import typer

from ..errors import BadArguments, BadParameter
from .console import ERROR, OUT, Contexts, Everything, SkipMissing, Token, Url, client_of
from .named import Ids, IdsFile, read_named
from .output import STDOUT, Json, file_or_stdout, print_json


def stack(
    out: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="File to write: .ecsv, .csv, .fits, .npy, .png, .pdf; - for CSV on stdout.",
        ),
    ],
    ids: Ids = None,
    ids_file: IdsFile = None,
    where: Annotated[
        str | None,
        typer.Option(metavar="SQL", help="Condition that selects the spectra; LIMIT may follow."),
    ] = None,
    frame: Annotated[
        Literal["rest", "observed"], typer.Option(help="Frame of its wavelengths.")
    ] = "rest",
    method: Annotated[
        Literal["mean", "median", "ivar"], typer.Option(help="ivar: weighted by inverse variance.")
    ] = "mean",
    norm: Annotated[
        str | None,
        typer.Option(metavar="A-B", help="Divide each by its level there, as in 5100-5200 Å."),
    ] = None,
    sigma_clip: Annotated[
        float | None, typer.Option(metavar="N", help="Leave out values N σ off the median.")
    ] = None,
    wave: Annotated[
        str | None, typer.Option(metavar="A-B", help="Ends of the composite, Å.")
    ] = None,
    assume_medium: Annotated[
        Literal["vacuum", "air"] | None,
        typer.Option(help="Medium of wavelengths whose medium is not known."),
    ] = None,
    context: Contexts = "default",
    everything: Everything = False,
    skip_missing: SkipMissing = False,
    as_json: Json = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Combine any number of spectra into one, on the server.

    Example: specserver stack --where "class = 'QSO'" --norm 2900-3100 --method median --out qso.png

    Example: specserver query --cone 180 0 2 | specserver stack - --out field.ecsv
    """
    if bool(ids or ids_file) == (where is not None):
        raise BadArguments("give identifiers, --ids FILE or --where SQL")
    if everything and where is None:
        raise BadArguments("--all goes with --where: of identifiers all are combined")
    if out != STDOUT:
        from ..client.composite_spectrum import composite_file

        composite_file(out)
    wanted: Any
    if where is not None:
        client = client_of(url)
        primary = False if everything else None
        wanted = client.query(constraint=where, context=context, primary=primary, token=token)
        if not len(wanted):
            raise BadParameter("where", where, "it finds no spectrum")
    elif "," in context:
        allowed = "with identifiers one release; they say others, as in C:ID"
        raise BadParameter("context", context, allowed)
    else:
        client, wanted, _ = read_named(
            url, ids, ids_file, context, skip_missing=skip_missing, token=token
        )
    made = client.stack(
        wanted,
        frame,
        method,
        norm,
        sigma_clip,
        None if "," in context else context,
        wave=wave,
        assume_medium=assume_medium,
        missing="skip" if skip_missing else "error",
        token=token,
        verbose=True,
    )
    with file_or_stdout(out, ".csv") as target:
        made.save(target)
    if as_json and out != STDOUT:
        print_json([{"out": out, "nspec": made.nspec, "skipped": made.meta["skipped"]}])
    else:
        (ERROR if out == STDOUT else OUT).print(f"{made!r}: {out}", markup=False)
