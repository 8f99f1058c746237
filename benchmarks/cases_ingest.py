"""The ingest: against reading the same tables with astropy; on Dask, against its own processes."""

import warnings
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import numpy as np

from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.ingest.on_dask import dask_executor

from .bench import Bench
from .cases import case
from .data import CONTEXT, warm
from .measure import FEWEST_ROUNDS, Gauge, Trial, Unequal, seconds

_WORKERS: Final = 2
_ROUNDS: Final = 4
"""Two in each order. Each ingests all spectra twice, which takes a minute."""


@case(
    "ingest",
    "ingest, one process, per spectrum",
    reference="Table.read of HDU1 and HDU2 of the same files",
    target=0.25,
    limits="reading and compressing: seven vectors of 4,600 values each, 230 columns",
)
def ingest(bench: Bench) -> Trial:
    from astropy.table import Table  # noqa: PLC0415  # slow to import

    number = bench.scale.files
    folder = Path(
        bench.case_stack.enter_context(TemporaryDirectory(dir=bench.cache.folder, prefix="ingest-"))
    )
    count = iter(range(10**6))

    def draw() -> list[Path]:
        paths = [Path(one) for one in bench.library.of(bench.draw(number), bench.library.fits)]
        for path in paths:
            path.read_bytes()
        return paths

    def ours(paths: list[Path]) -> Any:
        return run_ingest(open_root(folder / str(next(count))), CONTEXT, paths, workers=1)

    def theirs(paths: list[Path]) -> None:
        with warnings.catch_warnings():
            # Printing what astropy thinks of the units would be timed, too.
            warnings.simplefilter("ignore")
            for path in paths:
                Table.read(path, hdu=1)
                Table.read(path, hdu=2)

    def check(paths: list[Path]) -> None:
        summary = ours(paths)
        if summary.stored != number or not np.isfinite(summary.seconds):
            raise Unequal(f"{summary.stored} of {number} spectra stored")

    return Trial(draw, ours, theirs, check, number, number, rounds=FEWEST_ROUNDS)


@case(
    "ingest_dask",
    f"ingest of {{nspec:,}} spectra on a new Dask cluster ÷ processes of its own, {_WORKERS} each",
    reference="—",
    target=1.15,
    unit="×",
    limits="starting the cluster, some seconds, which are counted: of few spectra they are most",
)
def ingest_dask(bench: Bench) -> Gauge:
    folder = Path(
        bench.case_stack.enter_context(TemporaryDirectory(dir=bench.cache.folder, prefix="dask-"))
    )
    files = [Path(path) for path in bench.library.fits.tolist()]
    warm(files)
    starts_s: list[float] = []

    def ingest_into(name: str, **how: Any) -> None:
        with TemporaryDirectory(dir=folder, prefix=name) as data:
            summary = run_ingest(open_root(data), CONTEXT, files, **how)
            if summary.stored != len(files):
                raise Unequal(f"{summary.stored} of {len(files)} spectra stored")

    def on_dask(_: None) -> None:
        # Dask, too, is started for this ingest alone.
        began = perf_counter()
        with dask_executor(f"local:{_WORKERS}") as executor:
            starts_s.append(perf_counter() - began)
            ingest_into("dask-", executor=executor)

    def own(_: None) -> None:
        ingest_into("own-", workers=_WORKERS)

    works = [on_dask, own]

    def read() -> float:
        # The system still writes files of the first ingest to the disk during the second.
        works.reverse()
        times = {work: seconds(work, None) for work in works}
        return times[on_dask] / times[own]

    return Gauge(read, _ROUNDS, note=lambda: f"start of the cluster: {median(starts_s):.1f} s")
