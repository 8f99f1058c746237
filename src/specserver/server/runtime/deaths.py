"""The causes by which processes die, as words for the metrics and as sentences for the log."""

import signal
from typing import Final

from prometheus_client import CollectorRegistry, Counter

_SIGNALS: Final = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS")
_OTHER_SIGNAL: Final = "signal"
CAUSES: Final = (*_SIGNALS, _OTHER_SIGNAL, "exit", "hung")
"""All causes that are counted."""


def worker_deaths(registry: CollectorRegistry) -> Counter:
    """Return the count of processes that died, by cause."""
    return Counter(
        "specserver_worker_deaths_total",
        "Processes that died and were replaced.",
        ("cause",),
        registry=registry,
    )


def show_no_deaths(registry: CollectorRegistry) -> None:
    """Show a count of 0 for each cause.

    Prometheus sees the increase of a series, and not that a series begins: the first death of a
    cause would raise no alert if its series began with it.
    """
    deaths = worker_deaths(registry)
    for cause in CAUSES:
        deaths.labels(cause)


def death_of(exitcode: int | None) -> tuple[str, str]:
    """Return the cause of a death, one of `CAUSES`, and a sentence; None: it did not answer."""
    if exitcode is None:
        return "hung", "did not answer"
    if exitcode >= 0:
        return "exit", f"ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = ": out of memory? (see the kernel's log, dmesg)" if name == "SIGKILL" else ""
    return name if name in _SIGNALS else _OTHER_SIGNAL, f"was killed by {name}{hint}"
