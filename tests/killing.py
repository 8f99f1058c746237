"""Writers that are killed at random moments, and a reader that checks every value meanwhile."""

import json
import random
import signal
import threading
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from forked import Forked
from old_folder import ask_all, old_answers, old_token
from specserver.cli.main import main
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.ingest import plan
from specserver.ingest.verify import verify
from specserver.model.survey import RawSpectrum, Survey
from specserver.surveys import find_release

_SEGMENT_FILES = 4
"""Files of a segment: few, so that there are many commits."""


LONGEST_S = 0.4
"""A writer is killed within so much time of its start or of one of its commits."""


class Writer:
    """A command of specserver in a process of its own."""

    def __init__(self, told: Path, *words: object) -> None:
        """Begin it; what it prints goes into a file."""
        self.words = [*map(str, words)]
        self._told = told
        # Nothing is left to import: the moments at which it is killed lie in its work.
        with told.open("wb") as file:
            self._process = Forked(self.words, stdout=file, stderr=file, main=f"{__name__}:_main")

    def has_ended(self) -> bool:
        """Return whether it has ended by itself; fail if it did so with an error."""
        code = self._process.poll()
        assert not code, f"{self.words}: {self._told.read_text()}"
        return code is not None

    def kill(self) -> bool:
        """Kill it; return False if it has ended before."""
        if self.has_ended():
            return False
        self._process.kill()
        return self._process.wait() == -signal.SIGKILL

    def finish(self) -> str:
        """Return what it prints until its end."""
        self._process.wait()
        assert self.has_ended()
        return self._told.read_text()


def _main() -> None:
    """Run a command that writes small segments."""
    plan.SEGMENT_FILES = _SEGMENT_FILES
    main()


@dataclass
class Truth:
    """What the files of a context hold: of each spectrum the digests of its versions, in order."""

    context: str
    names: tuple[str, ...]
    """Catalogue columns that tell spectra apart."""
    versions: dict[tuple[Any, ...], list[int]] = field(default_factory=dict)
    ra: dict[tuple[Any, ...], float | None] = field(default_factory=dict)
    """Right ascension of each spectrum, degrees; None: unknown."""

    @property
    def survey(self) -> Survey:
        """The survey of the context."""
        return find_release(self.context)[0]

    def add(self, paths: Iterable[Path]) -> None:
        """Add what files hold: new spectra, or newer versions of known ones."""
        for path in paths:
            for raw in self.survey.reader.read(path):
                number = int(raw.id)
                others = (str(raw.row[name]) for name in self.names[1:])
                key = (number, *others)
                self.versions.setdefault(key, []).append(zlib.crc32(record_of(raw, self.survey)))
                self.ra[key] = None if np.isnan(raw.ra_deg) else float(raw.ra_deg)


def record_of(raw: RawSpectrum, survey: Survey) -> bytes:
    """Return a spectrum of a file as the service publishes it."""
    record: npt.NDArray[Any] = np.empty(
        len(raw.axis), [(vector.name, vector.dtype) for vector in survey.record]
    )
    for vector in survey.record:
        own = vector.name == survey.grid.axis
        record[vector.name] = raw.axis if own else raw.vectors[vector.name]
    return record.tobytes()


class Reader(threading.Thread):
    """Asks a service again and again for what it has of a context, and compares each value."""

    MOST = 100
    """Spectra of one request."""
    PAUSE_S = 0.03

    def __init__(self, url: str, truths: Sequence[Truth]) -> None:
        super().__init__(daemon=True, name="reader")
        self.url, self.truths = url, truths
        self.faults: list[str] = []
        self.passes = 0
        self._seen: dict[str, dict[tuple[Any, ...], int]] = {one.context: {} for one in truths}
        """Of each context its spectra, and the newest version that was read of each."""
        self._rng = np.random.default_rng(3)
        self._ending = threading.Event()

    def run(self) -> None:
        """Read until `end`."""
        while not self._ending.wait(self.PAUSE_S):
            try:
                self.read(self.MOST)
            except Exception as error:  # noqa: BLE001  # of a thread nobody else would hear
                self.faults.append(f"{type(error).__name__}: {error}")
                return

    def end(self) -> None:
        """End the thread, and read everything once."""
        self._ending.set()
        self.join()
        self.read(10**9)

    def read(self, most: int) -> None:
        """Read all rows of the catalogues and the values of some spectra."""
        for truth in self.truths:
            self._read(truth, SpecClient(truth.context, svc_url=self.url), most)
        self.passes += 1

    def count(self, context: str) -> int:
        """Return how many spectra of a context were seen."""
        return len(self._seen[context])

    def _read(self, truth: Truth, spec: SpecClient, most: int) -> None:
        survey, seen = truth.survey, self._seen[truth.context]
        ranks = [name for name, _ in survey.best.order] if survey.best else []
        named = [*truth.names, "ra", survey.primary[0], *ranks]
        table = spec.query(fields=named, primary=False)
        columns = [table[name].tolist() for name in truth.names]
        keys = list(zip(*columns, strict=True))
        self._say(truth, "twice", len(keys) - len(set(keys)))
        self._say(truth, "lost", len(set(seen) - set(keys)))
        self._say(truth, "unknown", len(set(keys) - set(truth.versions)))
        wrong = sum(
            truth.ra.get(key) != ra for key, ra in zip(keys, table["ra"].tolist(), strict=True)
        )
        self._say(truth, "of another position", wrong)
        if survey.best:
            self._say(truth, "not best", _not_best(table, survey))
        chosen = self._rng.permutation(len(keys))[:most].tolist()
        chosen = [keys[at] for at in chosen]
        for key in keys:
            seen.setdefault(key, 0)
        for at in range(0, len(chosen), self.MOST):
            some = chosen[at : at + self.MOST]
            wanted = some if len(truth.names) > 1 else [key[0] for key in some]
            for key, one in zip(some, spec.getSpec(wanted), strict=True):
                self._compare(truth, key, zlib.crc32(one.tobytes()))

    def _compare(self, truth: Truth, key: tuple[Any, ...], digest: int) -> None:
        """Compare a spectrum with its versions; none may be older than one that was read."""
        seen = self._seen[truth.context]
        at_least = truth.versions[key][seen[key] :]
        self._say(truth, "wrong", digest not in at_least, key)
        if digest in at_least:
            seen[key] += at_least.index(digest)

    def _say(self, truth: Truth, what: str, count: int, key: object = "") -> None:
        if count:
            self.faults.append(f"{truth.context}: {count} {what} {key}")


def _not_best(table: Any, survey: Survey) -> int:
    """Return of how many objects not one spectrum, or not the best one, is the primary one."""
    name, good = survey.primary
    best = survey.best
    assert best is not None
    ranks = [
        np.asarray(table[column]) != order
        if not isinstance(order, str)
        else -np.asarray(table[column], float)
        for column, order in best.order
    ]
    groups: dict[Any, list[tuple[tuple[Any, ...], bool]]] = {}
    for at, group in enumerate(table[best.group].tolist()):
        rank = tuple(values[at] for values in ranks)
        groups.setdefault(group, []).append((rank, table[name][at] == good))
    return sum(
        sum(primary for _, primary in rows) != 1
        or min(rank for rank, _ in rows) != next(rank for rank, primary in rows if primary)
        for rows in groups.values()
    )


def faults(data: Path) -> list[str]:
    """Return what `verify` finds wrong."""
    return [fault for found in verify(open_root(data)) for fault in found.faults]


def left_over(data: Path) -> list[str]:
    """Return the files and folders that nothing refers to."""
    left = [str(path) for path in data.glob("*/seg-*") if not (path / "segment.json").exists()]
    left += map(str, data.glob("*/leases/[0-9a-f]*"))
    left += map(str, data.rglob("*.draft"))
    for index in (*data.glob("*/index"), *data.glob("*/catalogs/*.index")):
        newest = max(index.glob("manifest/*.json"))
        parts = json.loads(newest.read_bytes())["parts"]
        used = {part[name] for part in parts for name in ("name", "marks")}
        found = {*index.glob("part-*"), *index.glob("marks-*"), *index.glob("gen-*")}
        left += [str(path) for path in found if path.name not in used]
    return left


class Asking(threading.Thread):
    """Asks a service of the old folder all questions again and again."""

    def __init__(self, url: str) -> None:
        super().__init__(daemon=True, name="asking")
        self.url = url
        self.faults: list[str] = []
        self._ending = threading.Event()

    def run(self) -> None:
        """Ask until `end`."""
        while not self._ending.wait(Reader.PAUSE_S) and not self.faults:
            self._ask()

    def end(self) -> None:
        """End the thread, and ask once more."""
        self._ending.set()
        self.join()
        self._ask()

    def _ask(self) -> None:
        try:
            told = ask_all(self.url, old_token(), "sdss_dr17")
        except Exception as error:  # noqa: BLE001  # of a thread nobody else would hear
            self.faults.append(f"{type(error).__name__}: {error}")
            return
        wanted = old_answers()
        self.faults += [name for name in wanted if told[name] != wanted[name]]


def migrate_with_kills(
    url: str, data: Path, contexts: Sequence[str], rng: random.Random, nkills: int
) -> int:
    """Migrate contexts of an old folder while it is asked; return how many were killed.

    Parameters
    ----------
    nkills : number of those to be killed at most
    """
    asking, killed = Asking(url), 0
    asking.start()
    for context in contexts:
        while not asking.faults:
            words = ("migrate", context, "--data", data, "--grace", 0.2)
            writer = Writer(data.parent / "told", *words)
            time.sleep(rng.uniform(0.0, LONGEST_S))
            if killed == nkills or not writer.kill():
                writer.finish()
                break
            killed += 1
            assert faults(data) == []
    asking.end()
    assert asking.faults == []
    assert faults(data) == []
    for context in contexts:
        assert not list((data / context).glob("seg-*/spectra.zarr"))
    return killed
