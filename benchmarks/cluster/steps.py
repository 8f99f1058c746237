"""The steps of a run, one after the other."""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from specserver.cli.demo import SECOND_CONTEXT, add_second, simulate_first
from specserver.data.root import open_root
from specserver.ingest import run_ingest

from ..cache import Cache, source_digest
from ..data import make_files
from .archive import faults_of_counts, faults_of_values, ingest, read_questions
from .clients import RIGHT, Answer, Questions, asking, is_documented
from .losses import Loss, all_losses
from .parts import ADDRESS, Failed, Parts, run_parts, start_nodes
from .throughput import Rate, measure_rates

CONTEXT: Final = "sdss_dr16"
"""Of the many spectra; the README's session has those of `make demo`, in other contexts."""
_DEMO: Final = {
    "sdss_dr17": "mock",
    SECOND_CONTEXT: "second",
    f"{SECOND_CONTEXT}_exposures": "second",
}
"""Context of the README's session → folder of its files."""
_SEED: Final = 13
_NCONDITIONS: Final = 40
_SHOWN: Final = 12
_BEGINNING: Final = 90
"""Letters in which messages of one kind are alike."""
_NUMBER: Final = re.compile(r"[0-9][0-9a-f.-]*")
_LONG_S: Final = 900.0
_QUIET_S: Final = 3.0
"""Time for which clients ask before the first part is lost."""


@dataclass(frozen=True)
class Size:
    """How much, and for how long."""

    nspec: int
    nclients: int
    pace_s: float
    """Time between two requests of a client."""
    pause_s: float
    """Time for which a part is away."""
    kill_after_s: float
    """Time after which a Dask worker that reads is killed."""
    checked: int
    """Spectra whose values are compared with those of their files."""
    measure_s: float
    rounds: int
    """Measurements of the throughput with one node and with two."""
    with_readme: bool


USUAL: Final = Size(20_000, 16, 1.0, 8.0, 8.0, 2000, 15.0, 3, with_readme=True)
QUICK: Final = Size(300, 8, 0.5, 1.5, 0.3, 100, 2.0, 0, with_readme=False)


@dataclass
class Report:
    """What a run has found."""

    losses: list[Loss] = field(default_factory=list)
    rates: list[Rate] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What should not be; empty: all is well."""
    statuses: Counter[int] = field(default_factory=Counter)
    """Status of each answer of nginx while parts were lost."""


class Run:
    """A run of the cluster.

    Parameters
    ----------
    cache : keeps the simulated files
    folder : for everything else; exists, and is empty
    say : takes a sentence on each step
    """

    def __init__(self, cache: Cache, folder: Path, size: Size, say: Callable[[str], None]) -> None:
        self._cache, self._folder, self._size, self._say = cache, folder, size, say
        self.report = Report()

    def run(self) -> Report:
        """Do all; everything that it starts has ended when it returns or raises."""
        size, say = self._size, self._say
        files, _ = make_files(self._cache, size.nspec)
        demo = self._demo() if size.with_readme else None
        begun = monotonic()
        with run_parts(self._folder) as parts:
            say(f"S3 server, PostgreSQL, Dask scheduler started in {monotonic() - begun:.1f} s")
            self._fill(parts, files, demo)
            with self._step("two nodes and nginx started"):
                start_nodes(parts)
            questions = self._questions(parts, files)
            self._check(parts, questions)
            if demo:
                self._read_me(parts, demo)
            self._lose(parts, questions)
            if size.rounds:
                with self._step("throughput measured"):
                    self.report.rates = measure_rates(
                        parts, questions, size.nclients, size.measure_s, size.rounds
                    )
            begun = monotonic()
        say(f"all parts stopped in {monotonic() - begun:.1f} s")
        return self.report

    @contextmanager
    def _step(self, what: str) -> Iterator[None]:
        begun = monotonic()
        yield
        self._say(f"{what} in {monotonic() - begun:.1f} s")

    def _demo(self) -> Path:
        """Return a folder with what `make demo` makes."""
        stamp = {"demo": source_digest("cli/demo.py", "simulate", "surveys", "ingest", "store")}
        return self._cache.part("cluster-demo", stamp, _make_demo)[0]

    def _fill(self, parts: Parts, files: Path, demo: Path | None) -> None:
        """Ingest the files; kill a worker of Dask in the middle."""
        for context, name in (_DEMO if demo else {}).items():
            assert demo is not None
            with self._step(f"{context} of the README's session ingested"):
                ingest(parts, context, demo / name, None)
        done = ingest(parts, CONTEXT, files, self._size.kill_after_s, self._say)
        nspec, told = self._size.nspec, done.summary
        self._say(
            f"{told['stored']:,} spectra ingested in {done.seconds:.1f} s, through Dask, into the"
            f" object store and PostgreSQL: {told['stored'] / done.seconds:.0f} a second"
        )
        if not done.killed:
            self._fault("the ingest ended before a worker could be killed")
        odd = {name: told[name] for name in ("already_there", "in_conflict", "refused")}
        if told["stored"] != nspec or any(odd.values()):
            self._fault(f"of {nspec} spectra {told['stored']} were stored; {odd}")

    def _questions(self, parts: Parts, files: Path) -> Questions:
        with self._step(f"{min(self._size.checked, self._size.nspec):,} files read"):
            return read_questions(
                parts.url, CONTEXT, files, self._size.checked, _NCONDITIONS, _SEED
            )

    def _check(self, parts: Parts, questions: Questions) -> None:
        """Compare what the cluster has with the files."""
        with self._step("every spectrum is there once: counted"):
            self.report.faults += faults_of_counts(questions, self._size.nspec)
        with self._step(f"values of {len(questions.ids):,} spectra compared with their files"):
            if nwrong := faults_of_values(questions):
                self._fault(f"{nwrong} spectra have other values than their files")
        with self._step("specserver verify: every file of the object store read"):
            self._run(parts, ["specserver", "verify", "--data", ADDRESS])

    def _read_me(self, parts: Parts, demo: Path) -> None:
        """Run the README's session through nginx."""
        with self._step("the README's session run through nginx, with TLS"):
            made = str(self._folder / "made")
            self._run(parts, [f"{__package__}.session", parts.url, str(demo), made])

    def _lose(self, parts: Parts, questions: Questions) -> None:
        """Kill one part after the other while clients ask."""
        assert parts.nginx is not None
        size, log = self._size, parts.nginx.folder / "access.log"
        before = len(log.read_bytes())
        with asking(questions, self._folder / "paced", size.nclients, size.pace_s) as asked:
            self._say(f"{size.nclients} clients ask, each every {size.pace_s:g} s")
            sleep(_QUIET_S)
            calm = Loss("nothing", monotonic() - _QUIET_S)
            calm.answers = asked.answers()
            self.report.losses.append(calm)
            for loss in all_losses(parts, asked, size.pause_s, size.nclients):
                self._say(f"{loss.what}, for {loss.back_s - loss.begun_s:.1f} s")
                self.report.losses.append(loss)
            nodes = parts.nodes[1:]
            others = [*nodes, parts.scheduler, *parts.workers.values()]
            if not all(part.is_running for part in others):
                self._fault("a part has ended that was not killed")
        for loss in self.report.losses:
            self.report.faults += loss.faults(parts.hidden)
        every = asked.answers()
        known = {each for loss in self.report.losses for each in loss.answers}
        for answer in every:
            if answer not in known and not _is_good(answer):
                self._fault(f"between losses: {answer.outcome} {answer.message}")
        lines = [json.loads(line) for line in log.read_bytes()[before:].splitlines()]
        self.report.statuses = Counter(line["status"] for line in lines)
        self._require_nodes(parts, [line["node"] for line in lines[-200:]])
        for lines in _logged(parts)[:_SHOWN]:
            times = f"{len(lines)} lines such as" if len(lines) > 1 else "one line:"
            self._say(f"the nodes logged {times} {lines[0]}")

    def _require_nodes(self, parts: Parts, last: list[str]) -> None:
        """Check that both nodes answered at the end, also the one that was started again."""
        for node in parts.nodes:
            if not any(each.endswith(f":{node.port}") for each in last):
                self._fault(f"no request at the end was answered by the node at port {node.port}")

    def _run(self, parts: Parts, command: list[str]) -> None:
        try:
            parts.begin(command).result(_LONG_S)
        except Failed as failed:
            self._fault(f"{' '.join(command[:2])}: {failed}")

    def _fault(self, what: str) -> None:
        self._say(f"FAULT: {what}")
        self.report.faults.append(what)


def _is_good(answer: Answer) -> bool:
    return answer.outcome == RIGHT or is_documented(answer)


def _logged(parts: Parts) -> list[list[str]]:
    """Return the nodes' warnings and errors; those that differ in numbers only are together."""
    found: dict[str, list[str]] = {}
    for node in parts.nodes:
        for line in node.log.read_text("utf-8", "replace").splitlines():
            said = json.loads(line) if line.startswith("{") else {}
            if said.get("level", "INFO") not in {"INFO", "DEBUG"}:
                text = said["message"].partition("\n")[0]
                alike = _NUMBER.sub("#", text)[:_BEGINNING]
                found.setdefault(alike, []).append(f"{said['level']} {text}")
    return sorted(found.values(), key=len, reverse=True)


def _make_demo(folder: Path) -> None:
    """Make what `make demo` makes: two surveys, of which the second sees objects of the first."""
    simulate_first(folder / "mock")
    data = open_root(folder / "data")
    run_ingest(data, "sdss_dr17", [folder / "mock"])
    add_second(data, folder / "second")
