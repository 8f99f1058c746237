"""Commands that write mock surveys: simulate sdss, simulate desi."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..client.progress import Watch
from .console import readable_bytes, require_server
from .output import Json, print_json

if TYPE_CHECKING:
    from ..simulate import Summary

simulate_app = typer.Typer(
    no_args_is_help=True, help="Write a mock survey in a survey's own file format."
)
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to.")]
Seed = Annotated[int, typer.Option(help="The same seed writes the same bytes.")]


@simulate_app.command(name="sdss", no_args_is_help=True)
def simulate_sdss(
    folder: Folder,
    nspec: Annotated[int, typer.Option(min=1, help="Number of spectra.")],
    seed: Seed = 1,
    as_json: Json = False,
) -> None:
    """Write a mock SDSS/BOSS/eBOSS survey: all file families, believable spectra.

    The files are of the reductions 26 and v5_13_2, which are those of DR17, and of four earlier
    ones of BOSS. An ingest into sdss_dr17 stores these, too, and warns of them; --strict refuses
    them.

    Example: specserver simulate sdss mock --nspec 2000
    """
    from ..simulate import simulate_sdss as simulate

    with Watch("files") as watch:
        summary = simulate(folder, nspec, seed, progress=watch, workers=os.cpu_count() or 1)
    _print(folder, summary, as_json=as_json)


@simulate_app.command(name="desi", no_args_is_help=True)
def simulate_desi(
    folder: Folder,
    nspec: Annotated[int, typer.Option(min=1, help="Number of targets.")],
    seed: Seed = 1,
    exposures: Annotated[
        bool, typer.Option("--exposures", help="Write each exposure too: spectra-*.fits.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a mock DESI: healpix coadds with their redshift files, believable spectra.

    Example: specserver simulate desi mock --nspec 2000
    """
    require_server()
    from ..simulate import simulate_desi as simulate

    with Watch("spectra") as watch:
        summary = simulate(
            folder,
            nspec,
            seed,
            exposures=exposures,
            progress=watch,
            workers=os.cpu_count() or 1,
        )
    _print(folder, summary, as_json=as_json)


def _print(folder: Path, summary: "Summary", *, as_json: bool) -> None:
    """Print how much was written."""
    if as_json:
        print_json([{"folder": str(folder), "nspec": summary.nspec, "nbytes": summary.nbytes}])
    else:
        size = readable_bytes(summary.nbytes)
        sys.stdout.write(f"{summary.nspec:,} spectra, {size} in {folder}\n")
