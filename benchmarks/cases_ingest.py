"""The ingest, against reading the same tables with astropy."""

import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from specserver.data.root import open_root
from specserver.ingest import run_ingest

from .bench import Bench
from .cases import case
from .data import CONTEXT
from .measure import FEWEST_ROUNDS, Trial, Unequal


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
