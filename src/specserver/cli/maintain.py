"""The command that keeps a data folder in order: maintain."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ..client.progress import Watch
from ..errors import SpecServerError, UnknownContext
from .console import (
    OUT,
    Data,
    Database,
    present_folder,
    readable_bytes,
    tell,
    tell_missing_surveys,
    working,
)
from .database import follow
from .output import Json, print_json

if TYPE_CHECKING:
    from ..ingest.maintain import Maintenance


def maintain(
    contexts: Annotated[
        list[str] | None,
        typer.Argument(metavar="CONTEXT", help="Releases (default: all of the data folder)."),
    ] = None,
    data: Data = None,
    catalog: Database = None,
    grace: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            min=0,
            help="Keep files that a merge has replaced for so long: readers may still open them.",
        ),
    ] = 900,
    as_json: Json = False,
) -> None:
    """Keep indexes small in number of parts, and delete what nobody needs any more.

    An ingest adds parts to the index of its release, and joins small ones itself. This joins the
    larger ones too, makes indexes that are missing or out of date, commits what a killed ingest
    had written whole, and deletes what killed commands left behind, also of releases of which
    nothing is stored yet. Services and ingests may run meanwhile. Run it once a day, and after a
    large ingest.

    Example: specserver maintain --data /data/spec

    Example: specserver maintain sdss_dr17 desi_dr1 --grace 60
    """
    folder = present_folder(data)
    working("looking at the indexes")
    from ..ingest.maintain import is_abandoned
    from ..ingest.maintain import maintain as maintain_context
    from ..service.archive import Archive

    archive = Archive(folder)
    known = archive.names()
    known += [some.name for some in folder.folders() if is_abandoned(some)]
    for name in contexts or ():
        if name not in known:
            raise UnknownContext(name, known, f"{folder} has")
    faults = 0
    for context in contexts or known:
        try:
            with Watch("rows") as watch:
                done = maintain_context(
                    folder,
                    context,
                    grace_s=grace,
                    renew_tables=partial(archive.ensure_index, context, whole=True),
                    progress=watch,
                )
            if done.parts:
                follow(catalog, folder, [context])
        except SpecServerError as error:
            faults += 1
            OUT.print(f"[bold red]fault:[/] {context}: {escape(error.message)}")
            continue
        if as_json:
            print_json([asdict(done)])
        else:
            _print(done)
    if contexts is None:
        tell_missing_surveys(folder)
    if faults:
        raise typer.Exit(1)


def _print(done: "Maintenance") -> None:
    """Print what was done in a context."""
    if done.busy:
        tell("note", f"{done.context}: another process maintains it; nothing was done here")
        return
    facts = [f"{done.parts} part{'s' if done.parts != 1 else ''} of the index"]
    if not done.parts:
        facts = ["nothing is stored"]
    if done.anew:
        facts.append(f"made anew: the index of {', '.join(done.anew)}")
    if done.merges:
        facts.append(f"{done.merged} parts joined into {done.merges} ({done.rows:,} rows)")
    if done.committed:
        facts.append(f"{done.committed} segments of a killed ingest committed")
    if done.removed:
        facts.append(f"{done.removed} unfinished segments deleted")
    if done.files:
        facts.append(f"{done.files} old files ({readable_bytes(done.nbytes)}) deleted")
    OUT.print(f"{done.context}: {'; '.join(facts)}; {done.seconds:.1f} s")
