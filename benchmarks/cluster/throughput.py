"""What two nodes bring over one, and which processes use the processors meanwhile."""

import statistics
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Final

import psutil

from .clients import RIGHT, Asked, Questions, asking
from .parts import Parts

IDLE: Final = "nobody"
OTHERS: Final = "the system and others"
_DISTURBED: Final = 0.25
"""Part of the processors beyond which what others use is no longer that of the system alone."""
_SETTLE_S: Final = 2.5
"""Time until the processes of nginx with the old list of nodes take no new requests."""


@dataclass(frozen=True)
class Rate:
    """How many spectra came in a time."""

    nnodes: int
    spectra_per_s: float
    cores: dict[str, float]
    """Processors in use by each kind of process, on average; `OTHERS` and `IDLE` are the rest."""
    nfailed: int


def measure_rates(
    parts: Parts, questions: Questions, nclients: int, seconds: float, rounds: int
) -> list[Rate]:
    """Let clients fetch without pause from one node and from two, by turns."""
    assert parts.nginx is not None
    found = []
    ports = [node.port for node in parts.nodes]
    with asking(questions, parts.folder / "unpaced", nclients, 0.0) as asked:
        for _ in range(rounds):
            for nnodes in (1, 2):
                parts.nginx.use(ports[:nnodes])
                sleep(_SETTLE_S)
                found.append(_rate(parts, asked, nnodes, seconds))
    return found


def ratio(rates: Sequence[Rate]) -> float:
    """Return the throughput of two nodes over that of one: median of the rounds."""
    alone = [rate.spectra_per_s for rate in rates if rate.nnodes == 1]
    both = [rate.spectra_per_s for rate in rates if rate.nnodes == 2]
    return statistics.median(two / one for one, two in zip(alone, both, strict=True))


def _rate(parts: Parts, asked: Asked, nnodes: int, seconds: float) -> Rate:
    groups = parts.groups() | {"the clients": [psutil.Process(pid) for pid in asked.pids]}
    before = {kind: _used_s(group) for kind, group in groups.items()}
    machine = psutil.cpu_times()
    begun = monotonic()
    sleep(seconds)
    ended, after = monotonic(), psutil.cpu_times()
    cores = {
        kind: (_used_s(group) - before[kind]) / (ended - begun) for kind, group in groups.items()
    }
    idle_s = after.idle + after.iowait - machine.idle - machine.iowait
    cores[IDLE] = idle_s / (ended - begun)
    # The clocks of the system and of processes differ by some ticks.
    cores[OTHERS] = max(0.0, (psutil.cpu_count() or 1) - sum(cores.values()))
    answers = [each for each in asked.answers() if begun <= each.ended_s < ended]
    nspec = sum(each.nspec for each in answers if each.outcome == RIGHT)
    failed = sum(each.outcome != RIGHT for each in answers)
    return Rate(nnodes, nspec / (ended - begun), cores, failed)


def _used_s(processes: Sequence[psutil.Process]) -> float:
    """Return the time that processes have used of all processors."""
    used = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            used += times.user + times.system
    return used


def told(rates: Sequence[Rate]) -> list[str]:
    """Return sentences on rates."""
    lines = []
    for nnodes in (1, 2):
        some = [rate for rate in rates if rate.nnodes == nnodes]
        rate = statistics.median(each.spectra_per_s for each in some)
        cores = {
            kind: statistics.median(each.cores[kind] for each in some) for kind in some[0].cores
        }
        used = ", ".join(f"{kind} {value:.2f}" for kind, value in cores.items())
        lines.append(
            f"{nnodes} node{'s' * (nnodes > 1)}: {rate:,.0f} spectra a second; of"
            f" {psutil.cpu_count()} processors were used by {used}"
        )
    lines.append(f"two nodes ÷ one: {ratio(rates):.2f}")
    most, ncores = max(rate.cores.get(OTHERS, 0.0) for rate in rates), psutil.cpu_count() or 1
    if most > _DISTURBED * ncores:
        lines.append(
            f"Other programs used up to {most:.2f} of the {ncores} processors meanwhile: these"
            " speeds and their ratio are not comparable with those of another run."
        )
    return lines
