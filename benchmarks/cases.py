"""The cases: what is asked, against what, and the target; registered by name."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Final

from .bench import Bench
from .measure import Gauge, Trial

Prepare = Callable[[Bench], Trial | Gauge]

_MODULES: Final = (
    "cases_fetch",
    "cases_steady",
    "cases_catalogue",
    "cases_index",
    "cases_postgres",
    "cases_match",
    "cases_pictures",
    "cases_composite",
    "cases_ingest",
    "cases_store",
    "cases_cluster",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One question."""

    name: str
    title: str
    reference: str
    """What ours is compared with, in words; — for a value that stands for itself."""
    target: float | None
    """The largest value that is good: of the ratio, or of the value itself; None: only shown."""
    unit: str
    """``s`` for times; of a gauge, what its value is in."""
    limits: str
    """What limits it, for the documentation."""
    prepare: Prepare


_CASES: Final[dict[str, Case]] = {}


def case(
    name: str, title: str, *, reference: str, target: float | None, limits: str, unit: str = "s"
) -> Callable[[Prepare], Prepare]:
    """Register the function that prepares a case."""

    def register(prepare: Prepare) -> Prepare:
        if name in _CASES:
            raise ValueError(f"two cases are called {name}")
        _CASES[name] = Case(name, title, reference, target, unit, limits, prepare)
        return prepare

    return register


def all_cases() -> dict[str, Case]:
    """Return all cases by name, in the order in which they run."""
    for name in _MODULES:
        import_module(f"{__package__}.{name}")
    return dict(_CASES)
