"""The command that checks a data folder: verify."""

import logging
from dataclasses import asdict

import typer
from rich.markup import escape

from .console import OUT, Data, present_folder, readable_bytes, tell
from .output import Json, print_json


def verify(data: Data = None, as_json: Json = False) -> None:
    """Read all that there is against its checksums, and follow every link.

    Arrays, catalogues, indexes, attached tables, declarations, and the files of trees.
    Exits with 1 when anything is wrong.

    Example: specserver verify --data /data/spec
    """
    folder = present_folder(data)
    from ..ingest.verify import verify as check

    # This command prints all damage itself; logging it as well would repeat it.
    logging.getLogger("specserver").addHandler(logging.NullHandler())
    faults = 0
    nspec = nbytes = nreplaced = nleft_out = 0
    for finding in check(folder):
        # Where the plug-in of a survey is missing, nothing was verified.
        if finding.what != "survey":
            nspec += finding.nspec
            nreplaced += finding.nreplaced
            nleft_out += finding.nleft_out
            nbytes += finding.nbytes
        faults += len(finding.faults)
        if as_json:
            print_json([asdict(finding)])
            continue
        for note in finding.notes:
            tell("note", f"{finding.context}/{finding.what}: {note}")
        for fault in finding.faults:
            OUT.print(f"[bold red]fault:[/] {finding.context}/{finding.what}: {escape(fault)}")
    if not as_json:
        kept = f" and {nreplaced:,} that were replaced and are kept" if nreplaced else ""
        kept += f" and {nleft_out:,} that were stored before and are not used" if nleft_out else ""
        _sum_up(str(folder), nspec, kept, nbytes, faults)
    if faults:
        raise typer.Exit(1)


def _sum_up(folder: str, nspec: int, kept: str, nbytes: int, faults: int) -> None:
    """Print how much was verified, and the number of faults."""
    if not nspec and not faults:
        OUT.print(f"{folder} holds no spectra", markup=False)
        return
    found = f"{faults} fault{'s' if faults > 1 else ''}"
    state = f"[bold red]{found}[/]" if faults else "[green]no fault[/]"
    OUT.print(f"{nspec:,} spectra{kept}, {readable_bytes(nbytes)} of values verified: {state}")
