"""How an index grows: contexts of more and more catalogue rows, with all columns of a survey.

Each has eight parts of one size, as ingests leave them. It is opened and asked, spectra are
ingested into it, and its parts are merged into one. Then it is removed.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import rmtree
from time import perf_counter
from typing import Any, Final

import numpy as np

from specserver.data.root import DataRoot
from specserver.service import SpectroscopicService

from .cases_index import (
    CONES,
    ask_condition,
    ask_cones,
    ask_ids,
    draw_between,
    draw_cones,
    draw_ids,
    first_query_s,
    growing,
)
from .data import CONTEXT
from .large import make_context
from .memory import usage_of

SIZES: Final = (100_000, 1_000_000, 10_000_000)
NEW: Final = 2_000
"""Spectra of an ingest."""
_NPARTS: Final = 8
"""So many parts of one size become one."""
_IDS: Final = 10_000
_ROUNDS: Final = 7


@dataclass(slots=True)
class Index:
    """What was measured of one size."""

    nrows: int
    bytes_each: float
    """Bytes of a row."""
    open_s: float
    """Time of the first query of a new process."""
    cone_s: float
    ids_s: float
    condition_s: float
    merged_cone_s: float
    merged_ids_s: float
    merged_condition_s: float
    renew_s: float
    """Time to add the rows of 2,000 spectra that are written."""
    ingest_gb: float
    """Memory of an ingest of 2,000 spectra by one process."""
    merge_s: float
    merge_gb: float
    """Memory of the merge of all rows."""


def measure(source: DataRoot, files: Sequence[Path], folder: Path, nrows: int) -> Index:
    """Make a context of so many rows, and measure it.

    Parameters
    ----------
    source : a data folder with spectra of the survey, whose rows are repeated
    files : of 2,000 spectra each: the first half is added, the other one is ingested
    folder : where the context is made; it is removed
    """
    half = len(files) // 2
    data = make_context(source, folder, nrows, _NPARTS, held=False)
    path = data.local_path()
    index = path / CONTEXT / "index"
    size = sum(one.stat().st_size for one in index.rglob("*") if one.is_file())
    opened = statistics.median(first_query_s(path) for _ in range(_ROUNDS))
    before = _ask(data)
    with growing(data) as lent:
        written = lent.write(files[:half])
        began = perf_counter()
        lent.commit(written)
        renewed = perf_counter() - began
    words = ("--data", str(path))
    ingest = usage_of(["ingest", CONTEXT, *map(str, files[half:]), "--workers", "1", *words])
    merge = usage_of(["maintain", "--grace", "0", *words])
    after = _ask(data)
    rmtree(path)
    return Index(
        nrows,
        size / nrows,
        opened,
        *before,
        *after,
        renewed,
        ingest.own_bytes / 1e9,
        merge.seconds,
        merge.own_bytes / 1e9,
    )


def _ask(data: DataRoot) -> tuple[float, float, float]:
    """Return the times of a cone, of 10,000 identifiers and of a condition."""
    service, rng = SpectroscopicService(data), np.random.default_rng(7)
    known = draw_ids(service, _IDS, rng)
    return (
        _time(partial(ask_cones, service), lambda: draw_cones(rng)) / CONES,
        _time(partial(ask_ids, service), lambda: rng.permutation(known)),
        _time(partial(ask_condition, service), lambda: draw_between(rng)),
    )


def _time(ask: Callable[[Any], object], draw: Callable[[], Any]) -> float:
    """Return the median time of some questions, s; one more goes before them."""
    times = []
    for number in range(-1, _ROUNDS):
        subject = draw()
        began = perf_counter()
        ask(subject)
        if number >= 0:
            times.append(perf_counter() - began)
    return statistics.median(times)


_ROWS: Final[Sequence[tuple[str, Callable[[Index], str]]]] = (
    ("index, bytes of a row", lambda one: f"{one.bytes_each:.0f} B"),
    ("first query of a new process", lambda one: f"{one.open_s:.2f} s"),
    (
        "cone of 0.5°, in 8 parts / in one",
        lambda one: f"{one.cone_s * 1e3:.2f} / {one.merged_cone_s * 1e3:.2f} ms",
    ),
    (
        "10,000 ids, in 8 parts / in one",
        lambda one: f"{one.ids_s * 1e3:.1f} / {one.merged_ids_s * 1e3:.1f} ms",
    ),
    (
        "condition with ORDER BY, in 8 parts / in one",
        lambda one: f"{one.condition_s * 1e3:.0f} / {one.merged_condition_s * 1e3:.0f} ms",
    ),
    ("2,000 spectra added to the index", lambda one: f"{one.renew_s:.2f} s"),
    ("memory of an ingest", lambda one: f"{one.ingest_gb:.2f} GB"),
    ("merge of all rows", lambda one: f"{one.merge_s:.1f} s"),
    ("memory of the merge", lambda one: f"{one.merge_gb:.2f} GB"),
)


def markdown(measured: Sequence[Index]) -> str:
    """Return what was measured as a table."""
    lines = [
        "| | " + " | ".join(f"{one.nrows:,} rows" for one in measured) + " |",
        "|---|" + "---|" * len(measured),
    ]
    lines += [
        f"| {title} | " + " | ".join(cell(one) for one in measured) + " |" for title, cell in _ROWS
    ]
    return "\n".join(lines)
