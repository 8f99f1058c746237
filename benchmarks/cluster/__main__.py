"""A cluster on this machine that loses its parts: ``python -m benchmarks.cluster``.

An S3 server, PostgreSQL, a Dask cluster of two workers, two servers and nginx are started; spectra
are ingested through them, and clients fetch and query while one part after the other is killed.
At the end it says what the clients saw. Everything that was started is stopped.
"""

import argparse
import shlex
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

from specserver.cli.console import readable_bytes

from ..cache import open_cache
from ..postgres_cluster import NoPostgres
from .clients import RIGHT
from .losses import Loss
from .parts import Missing
from .steps import QUICK, USUAL, Report, Run
from .throughput import told

DATA: Final = Path(__file__).parents[1] / "data-cache"
_SHOWN: Final = 20
"""Faults that are printed."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it as the arguments say; return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.cluster", description=__doc__)
    parser.add_argument("--spectra", type=int, metavar="N", help="how many are ingested [20000]")
    parser.add_argument("--folder", type=Path, default=DATA, help="for files, some GB")
    parser.add_argument("--quick", action="store_true", help="300 spectra and short pauses")
    asked = parser.parse_args(arguments)
    # What was started is stopped in an orderly way, whoever ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    size = QUICK if asked.quick else USUAL
    size = replace(size, nspec=asked.spectra or size.nspec)
    begun = monotonic()

    def say(text: str) -> None:
        print(f"[{monotonic() - begun:6.1f} s] {text}", flush=True)

    data = asked.folder.absolute()
    try:
        with open_cache(data) as cache, TemporaryDirectory(prefix="cluster-", dir=data) as folder:
            report = Run(cache, Path(folder), size, say).run()
    except (Missing, NoPostgres) as reason:
        print(f"not run: {reason}", file=sys.stderr)
        return 2
    show(report)
    print(f"\n{kept(data)}")
    return int(bool(report.faults))


def kept(folder: Path) -> str:
    """Return what a run leaves in a folder, and how to remove it."""
    nbytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    return (
        f"Kept for the next run: {readable_bytes(nbytes)} of simulated files and other data of"
        f" benchmarks in {folder}. To remove it: rm -r {shlex.quote(str(folder))}"
    )


def show(report: Report) -> None:
    """Print what clients saw."""
    columns = ["lost", "for", "requests", "right", "errors", "first right answer after"]
    print(f"\n| {' | '.join([*columns, 'all clients right, after its return'])} |")
    print("|---|---|---|---|---|---|---|")
    for loss in report.losses:
        print(_row(loss))
    statuses = ", ".join(f"{count:,} × {status}" for status, count in report.statuses.most_common())
    print(f"\nnginx answered meanwhile: {statuses}")
    if report.rates:
        print("\n".join(told(report.rates)))
    for fault in report.faults[:_SHOWN]:
        print(f"FAULT: {fault}")
    if report.faults:
        print(f"{len(report.faults)} faults")
    else:
        print(
            "No client saw a wrong value, and nothing was lost. Every error was a documented one."
        )


def _row(loss: Loss) -> str:
    """Return a line of the table."""
    outcomes = loss.outcomes
    right = outcomes.pop(RIGHT, 0)
    errors = ", ".join(f"{count} {name}" for name, count in outcomes.most_common()) or "none"
    cells = [f"{len(loss.answers)}", f"{right}", errors]
    times = [loss.back_s - loss.begun_s, loss.first_right_s, loss.all_right_s]
    away, first, every = (f"{time:.1f} s" if loss.back_s else "–" for time in times)
    cells = [loss.what, away, *cells, first, every]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
