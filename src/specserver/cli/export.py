"""Commands that write whole releases for other programs: export hats."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..client.progress import Watch
from ..errors import BadArguments
from .console import Data, Everything, present_folder, readable_bytes, tell, working
from .fetch import read_cone, read_corners
from .output import Json, print_facts, print_json

if TYPE_CHECKING:
    from ..export import HatsSummary
    from ..model.region import Cone, Polygon

export_app = typer.Typer(
    no_args_is_help=True, help="Write a release for other programs, such as LSDB."
)


@export_app.command(name="hats", no_args_is_help=True)
def export_hats(
    context: Annotated[
        str, typer.Argument(metavar="CONTEXT", help="A release, such as sdss_dr17.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; new, or empty.")],
    data: Data = None,
    where: Annotated[
        str | None,
        typer.Option("--where", metavar="SQL", help="Condition on the spectra, as of query."),
    ] = None,
    cone: Annotated[
        tuple[str, str, str] | None,
        typer.Option(
            "--cone",
            metavar="RA DEC SIZE",
            help="Only around a position: degrees.",
            callback=read_cone,
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            "--region", metavar="RA,DEC,RA,DEC,…", help="Only in a polygon of great circles."
        ),
    ] = None,
    everything: Everything = False,
    margin: Annotated[
        float,
        typer.Option(metavar="ARCSEC", min=0, help="Width of the margin catalogue; 0: none."),
    ] = 10.0,
    max_rows: Annotated[
        int, typer.Option(metavar="N", min=1, help="Most spectra of a file.")
    ] = 2000,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Leave out damaged spectra, and name them.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Threads that write (default: all cores).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be written, and write nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a release as a HATS catalogue with its spectra, for LSDB and other tools of Parquet.

    DIR becomes a HATS collection: the catalogue, with the columns of the release and a nested
    column "spectrum" (wavelength, flux, ivar, …, in the types and bits of the survey), and its
    margin. Spectra without a position are left out, and counted. DIR appears when it is whole;
    after an interruption run the command again.

    Open it with: lsdb.open_catalog("DIR"). Bring it into another data folder with:
    specserver ingest NEW_NAME DIR --reader hats

    Example: specserver export hats sdss_dr17 sdss_hats --data /data/spec

    Example: specserver export hats desi_dr1 quasars --where "spectype = 'QSO'" --margin 5
    """
    if cone is not None and region is not None:
        raise BadArguments("give --cone or --region, not both")
    opened = present_folder(data)
    working(f"looking for the spectra of {context}")
    from ..export import HatsExport, HatsOptions
    from ..service.archive import Archive

    archive = Archive(opened)
    archive.ensure_index(archive.resolve(context))
    options = HatsOptions(
        everything=everything,
        constraint=where or "",
        region=_region(cone, region),
        margin_arcsec=margin,
        max_rows=max_rows,
        skip_damaged=skip_missing,
    )
    export = HatsExport(archive, context, options)
    if dry_run:
        summary = export.plan(folder)
    else:
        with Watch("spectra") as watch:
            summary = export.write(folder, watch, workers=workers or os.cpu_count() or 1)
    if as_json:
        print_json([asdict(summary)])
    else:
        title = f"export of {summary.context} {'would write' if dry_run else 'to'} {folder}"
        print_facts(_facts(summary), title)
    if summary.no_position:
        some = _first(summary.no_position_ids, summary.no_position)
        count = summary.no_position
        tell("warning", f"{count:,} spectra have no position, and are left out: {some}")
    if summary.damaged:
        count = len(summary.damaged)
        some = _first(summary.damaged, count)
        tell("warning", f"{count:,} spectra are damaged, and left out: {some}")


def _first(names: list[str], count: int) -> str:
    """Return the first of so many names as text."""
    return ", ".join(names[:10]) + ", …" * (count > 10)


def _region(cone: tuple[str, str, str] | None, region: str | None) -> "Cone | Polygon | None":
    """Return the region that options give."""
    from ..model.region import cone as cone_of
    from ..model.region import polygon

    if cone is not None:
        # The callback of the option has made numbers of it.
        return cone_of(*map(float, cone))
    return None if region is None else polygon(read_corners(region))


def _facts(summary: "HatsSummary") -> dict[str, str]:
    """Return what was exported in words."""
    orders = ", ".join(map(str, summary.orders))
    facts = {
        "spectra": f"{summary.nspec:,}",
        "files": f"{summary.partitions:,}, HEALPix pixels of order {orders}",
        "in the margin": f"{summary.margin_rows:,} rows",
    }
    if summary.nbytes:
        facts["size"] = (
            f"{readable_bytes(summary.nbytes)},"
            f" {readable_bytes(summary.nbytes / summary.nspec)} a spectrum"
        )
        rate = summary.nspec / summary.seconds
        facts["time"] = f"{summary.seconds:.1f} s, {rate:,.0f} spectra/s"
    return facts
