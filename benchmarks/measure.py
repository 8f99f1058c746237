"""Measurements in turns: ours, the reference, ours, the reference …, and what comes of them.

Two numbers of one machine compare only when they were taken close together, so a ratio is made of
two neighbouring measurements, and a result is the median of several ratios.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any, Final

Subject = Any
"""What one round is about, such as a list of identifiers: new for each round, the same for both."""

FEWEST_ROUNDS: Final = 5


class Unequal(Exception):
    """Ours and the reference do not give the same values: the comparison would mean nothing."""


class NotRun(Exception):
    """A case that cannot be run here, with the reason."""


@dataclass(frozen=True, slots=True)
class Trial:
    """Two things to be timed in turns."""

    draw: Callable[[], Subject]
    """Returns the subject of the next round; not timed."""
    ours: Callable[[Subject], object]
    reference: Callable[[Subject], object]
    check: Callable[[Subject], None] | None = None
    """Raises `Unequal`; called once before the first round, on a subject of its own."""
    ours_per: int = 1
    """Pieces of work in one call of ours; times are given for one."""
    reference_per: int = 1
    in_process: Callable[[Subject], object] | None = None
    """Ours without the way over the network; does as much work as ours."""
    note: str = ""
    rounds: int | None = None
    """Number of rounds, if not the usual one: fewer if a round is long, more if its times vary.
    There are never fewer than `FEWEST_ROUNDS`."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """Something that measures itself."""

    read: Callable[[], float]
    """Returns one value in the case's unit."""
    rounds: int = FEWEST_ROUNDS
    worst: bool = False
    """Whether the largest value counts instead of the median."""
    note: Callable[[], str] = str
    """Returns what else was seen."""


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle and the ends of several values."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: list[float]) -> "Spread":
        """Return the spread of values, of which there is at least one."""
        return cls(median(values), min(values), max(values))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a case gave; times in seconds, other values in the case's unit."""

    ours: Spread
    reference: Spread | None
    ratio: Spread | None
    rounds: int
    in_process: Spread | None = None
    in_process_ratio: Spread | None = None
    note: str = ""


def take_turns(trial: Trial, rounds: int) -> Outcome:
    """Time ours and the reference in turns.

    Parameters
    ----------
    rounds : at least `FEWEST_ROUNDS`; one more, which is not counted, goes before them
    """
    if trial.check is not None:
        trial.check(trial.draw())
    ours: list[float] = []
    reference: list[float] = []
    inside: list[float] = []
    rounds = max(trial.rounds or rounds, FEWEST_ROUNDS)
    for number in range(-1, rounds):
        subject = trial.draw()
        times = [
            seconds(trial.ours, subject) / trial.ours_per,
            seconds(trial.reference, subject) / trial.reference_per,
            seconds(trial.in_process, subject) / trial.ours_per if trial.in_process else 0.0,
        ]
        if number >= 0:
            for values, value in zip((ours, reference, inside), times, strict=True):
                values.append(value)
    return Outcome(
        Spread.of(ours),
        Spread.of(reference),
        _ratio(ours, reference),
        len(ours),
        Spread.of(inside) if trial.in_process else None,
        _ratio(inside, reference) if trial.in_process else None,
        trial.note,
    )


def read_gauge(gauge: Gauge, rounds: int) -> Outcome:
    """Read a gauge several times."""
    values = [gauge.read() for _ in range(min(rounds, gauge.rounds))]
    spread = Spread.of(values)
    if gauge.worst:
        spread = Spread(spread.most, spread.least, spread.most)
    return Outcome(spread, None, None, len(values), note=gauge.note())


def seconds(work: Callable[[Subject], object], subject: Subject) -> float:
    """Return how long a call takes; what it returns is freed outside of that time."""
    # A collection that falls into one of the two would be the other's garbage.
    gc.collect()
    began = perf_counter()
    result = work(subject)
    took = perf_counter() - began
    del result
    return took


def _ratio(ours: list[float], reference: list[float]) -> Spread:
    """Return the spread of the ratio of neighbours."""
    return Spread.of([one / other for one, other in zip(ours, reference, strict=True)])
