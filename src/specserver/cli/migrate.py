"""The command that rewrites segments of an older format: migrate."""

import sys
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ..client.progress import Watch
from ..errors import UnknownContext
from .console import ERROR, OUT, Data, present_folder, readable_bytes
from .output import Json, print_facts, print_json

if TYPE_CHECKING:
    from ..store.migration import MigrationPlan


def migrate(
    contexts: Annotated[
        list[str], typer.Argument(metavar="CONTEXT…", help="Releases, such as sdss_dr17.")
    ],
    data: Data = None,
    grace: Annotated[
        float,
        typer.Option(
            metavar="SECONDS", min=0.0, help="Time for which old arrays stay for their readers."
        ),
    ] = 60.0,
    as_json: Json = False,
) -> None:
    """Rewrite spectra that an older version stored in the format of this one.

    They may be served meanwhile: identifiers, rows and values stay the same, bit for bit. Whole
    spectra are read faster then. May be interrupted at any time, even by kill -9: run it again,
    and it goes on where it was. Servers must be of this version before it begins, and no ingest
    of an older version may be at work. Exits with 1 when a segment is damaged: it stays as it is.

    Example: specserver migrate sdss_dr17 --data /data/spec
    """
    folder = present_folder(data)
    from ..store.migration import migrate as rewrite

    held = folder.contexts()
    for name in contexts:
        if name not in held:
            raise UnknownContext(name, sorted(held), f"spectra are stored in {folder} of")
    nfaults = 0
    for name in contexts:
        context = folder.context(name)
        with Watch("spectra") as watch:
            begin = partial(_tell_plan, name, grace, context.nfree())
            summary = rewrite(
                context, grace_s=grace, begin=begin, progress=watch, waiting=_tell_wait
            )
        nfaults += len(summary.faults)
        if as_json:
            print_json([asdict(summary)])
            continue
        facts = {
            "rewritten": f"{summary.nspec:,} spectra in {summary.segments:,} segments,"
            f" {readable_bytes(summary.nbytes)}",
            "old arrays deleted": readable_bytes(summary.freed),
            "of this format before": f"{summary.already:,} segments",
            "time": f"{summary.seconds:.1f} s",
        }
        print_facts(facts, f"migration of {name}")
        for fault in summary.faults:
            OUT.print(f"[bold red]fault:[/] {name}/{escape(fault)}")
    if nfaults:
        raise typer.Exit(1)


def _tell_plan(name: str, grace: float, nfree: int, plan: "MigrationPlan") -> None:
    """Print how much is to be rewritten in a context, and the space that it takes."""
    # A bucket has no end.
    free = "" if nfree == sys.maxsize else f" {readable_bytes(nfree)} are free"
    ERROR.print(
        f"{name}: {plan.nspec:,} spectra to rewrite, {readable_bytes(plan.nbytes)}. Old arrays"
        f" stay for {grace:.0f} s, so it takes up to {readable_bytes(plan.most)} of space for"
        f" some time; if less is free, it waits, and needs {readable_bytes(plan.needed)}."
        f"{free}",
        markup=False,
    )


def _tell_wait(seconds: float) -> None:
    """Print that the migration waits."""
    if seconds > 1:
        ERROR.print(f"waiting {seconds:.0f} s for readers of old arrays, before these are deleted")
