"""The command that combines spectra into one: stack."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from ..errors import BadParameter
from ..model.spacename import in_space
from .console import OUT, SkipMissing, Token, Url, client_of
from .fetch import Contexts


def stack(
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="File to write: .ecsv, .csv, .fits, .npy, .png, .pdf."),
    ],
    ids: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="File of identifiers, or vos://name."),
    ] = None,
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
    skip_missing: SkipMissing = False,
    url: Url = None,
    token: Token = None,
) -> None:
    """Combine any number of spectra into one, on the server.

    Example: specserver stack --where "class = 'QSO'" --norm 2900-3100 --method median --out qso.png
    """
    if (ids is None) == (where is None):
        raise BadParameter("ids", ids, "give --ids FILE or --where SQL")
    client = client_of(url)
    if where is not None:
        wanted = client.query(constraint=where, context=context, token=token)
        if not len(wanted):
            raise BadParameter("where", where, "it finds no spectrum")
    elif "," in context:
        allowed = "with --ids one release; its file says others, as in C:ID"
        raise BadParameter("--context", context, allowed)
    else:
        wanted = ids if ids is not None and in_space(ids) else Path(ids or "")
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
    made.save(out)
    OUT.print(f"{made!r}: {out}", markup=False)
