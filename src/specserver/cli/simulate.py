"""Commands that write mock surveys: simulate sdss, simulate desi."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from .console import progress_bar, readable_bytes, require_server

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
) -> None:
    """Write a mock SDSS/BOSS/eBOSS survey: all file families, believable spectra.

    Example: specserver simulate sdss mock --nspec 2000
    """
    from ..simulate import simulate_sdss as simulate

    with progress_bar("files", "simulate", nspec) as (advance, _):
        summary = simulate(folder, nspec, seed, progress=advance, workers=os.cpu_count() or 1)
    sys.stdout.write(f"{summary.nspec:,} spectra, {readable_bytes(summary.nbytes)} in {folder}\n")


@simulate_app.command(name="desi", no_args_is_help=True)
def simulate_desi(
    folder: Folder,
    nspec: Annotated[int, typer.Option(min=1, help="Number of targets.")],
    seed: Seed = 1,
    exposures: Annotated[
        bool, typer.Option("--exposures", help="Write each exposure too: spectra-*.fits.")
    ] = False,
) -> None:
    """Write a mock DESI: healpix coadds with their redshift files, believable spectra.

    Example: specserver simulate desi mock --nspec 2000
    """
    require_server()
    from ..simulate import simulate_desi as simulate

    with progress_bar("spectra", "simulate", nspec) as (advance, _):
        summary = simulate(
            folder,
            nspec,
            seed,
            exposures=exposures,
            progress=advance,
            workers=os.cpu_count() or 1,
        )
    sys.stdout.write(f"{summary.nspec:,} spectra, {readable_bytes(summary.nbytes)} in {folder}\n")
