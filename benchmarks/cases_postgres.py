"""The catalogue in PostgreSQL against the index in the data folder, on the same rows."""

from collections.abc import Callable
from time import perf_counter
from typing import Any

from specserver.service import SpectroscopicService

from .bench import Bench
from .cases import Prepare, case
from .cases_index import (
    CONES,
    Asked,
    ask_condition,
    ask_cones,
    ask_ids,
    draw_between,
    draw_cones,
    draw_ids,
)
from .measure import Gauge, Unequal

_LIMITS = "the driver's and the server's work for each question, 0.7 ms; then its index"
_ROUNDS = 11
_BEFORE = 15


def _gauge(ask: Asked, draw: Callable[[Bench, SpectroscopicService], Any], per: int) -> Prepare:
    """Return what prepares the gauge of a question: its time in PostgreSQL, in ms.

    Parameters
    ----------
    per : questions in one call
    """

    def prepare(bench: Bench) -> Gauge:
        theirs, ours = bench.in_postgres, bench.placed
        ratios: list[float] = []
        # As in a service that has run for a while, the memory of the database's process is mapped.
        subjects = [draw(bench, ours) for _ in range(_BEFORE)]
        for subject in subjects:
            for one, other in zip(ask(theirs, subject), ask(ours, subject), strict=True):
                if not one.equals(other):
                    raise Unequal(f"{len(one)} rows against {len(other)}, or others")

        def read() -> float:
            subject = draw(bench, ours)
            times = []
            for service in (theirs, ours):
                began = perf_counter()
                ask(service, subject)
                times.append((perf_counter() - began) * 1e3 / per)
            ratios.append(times[0] / times[1])
            return times[0]

        def note() -> str:
            return f"{sorted(ratios)[len(ratios) // 2]:.2g} × the index in the data folder"

        return Gauge(read, _ROUNDS, note=note)

    return prepare


def _ids(bench: Bench, ours: SpectroscopicService) -> Any:
    return draw_ids(ours, bench.scale.resolve, bench.rng)


case(
    "postgres_cone",
    "cone of 0.5° on {nrows:,} rows in PostgreSQL, in process",
    reference="—",
    target=5.0,
    limits=_LIMITS,
    unit="ms",
)(_gauge(ask_cones, lambda bench, _: draw_cones(bench.rng), CONES))
case(
    "postgres_ids",
    "{resolve:,} ids of {nrows:,}, and the places of their spectra, in PostgreSQL, in process",
    reference="—",
    target=80.0,
    limits="two searches in an index for each identifier, 3 µs each where it is in memory",
    unit="ms",
)(_gauge(ask_ids, _ids, 1))
case(
    "postgres_conditions",
    "z between … and class = 'QSO' order by z limit 1000 on {nrows:,} rows in PostgreSQL",
    reference="—",
    target=10.0,
    limits="1,000 rows in the order of an index on class and z",
    unit="ms",
)(_gauge(ask_condition, lambda bench, _: draw_between(bench.rng), 1))
