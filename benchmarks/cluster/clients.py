"""Clients in processes of their own, which check each answer and note what they saw."""

import json
import signal
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import urllib3

from specserver.client.api import SpecClient
from specserver.errors import Overloaded, SpecServerError, StoreError
from specserver.processes import end_with_parent

RIGHT: Final = "right"
WRONG: Final = "wrong"
SOME: Final = 20
"""Spectra of one request."""
MANY: Final = 100
"""Spectra of one request when it is counted how many come."""
_READY_S: Final = 120.0
_END_S: Final = 180.0


class Answer(NamedTuple):
    """One request and its outcome."""

    client: int
    kind: str
    begun_s: float
    """By the clock `monotonic`, which all processes of the machine share."""
    ended_s: float
    outcome: str
    """`RIGHT`, `WRONG`, or the class of the error."""
    message: str
    nspec: int


@dataclass(frozen=True)
class Questions:
    """What clients ask, and what is right."""

    url: str
    context: str
    ids: npt.NDArray[np.uint64]
    digests: dict[int, str]
    """Of the values of each of these spectra, as they are in its file."""
    conditions: dict[str, str]
    """Condition → digest of the identifiers that the index in the data folder gives."""


def digest_of(array: npt.NDArray[Any]) -> str:
    """Return a digest of values: equal for arrays that are equal bit for bit."""
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    return sha256(native.tobytes()).hexdigest()


def is_documented(answer: Answer) -> bool:
    """Return whether an outcome is one that the guide announces for parts that are lost.

    That is 503 with ``Retry-After``, and an answer that breaks off.
    """
    return answer.outcome in {"Overloaded", "Unavailable", "DatabaseAway", "cut off"}


@contextmanager
def asking(questions: Questions, folder: Path, number: int, pace_s: float) -> Iterator["Asked"]:
    """Let clients ask until the context ends.

    Parameters
    ----------
    folder : for what they note; made
    pace_s : time between the beginnings of two requests of a client; 0: each fetches `MANY`
        spectra at a time without pause
    """
    folder.mkdir()
    # What all clients import is imported once, in the process that they are forked of.
    forking = get_context("forkserver")
    forking.set_forkserver_preload([__name__])
    stop, ready = forking.Event(), forking.Barrier(number + 1)
    processes = [
        forking.Process(
            target=_ask, args=(questions, folder, each, pace_s, stop, ready), daemon=True
        )
        for each in range(number)
    ]
    try:
        for process in processes:
            process.start()
        ready.wait(_READY_S)
        yield Asked(folder, [process.pid or 0 for process in processes])
        stop.set()
        for process in processes:
            process.join(_END_S)
            assert process.exitcode == 0, f"a client ended with {process.exitcode}"
    finally:
        for process in processes:
            process.kill()
            process.join()


@dataclass(frozen=True)
class Asked:
    """What clients have noted so far."""

    folder: Path
    pids: Sequence[int]

    def answers(self) -> list[Answer]:
        """Return all answers so far, in the order of their ends."""
        found = []
        for file in self.folder.glob("*.jsonl"):
            whole, _, _ = file.read_text("utf-8").rpartition("\n")
            found += [Answer(*json.loads(line)) for line in whole.splitlines()]
        return sorted(found, key=lambda answer: answer.ended_s)


class _Client:
    """A user of the Python client, or, of each eighth, a program that speaks HTTP itself."""

    def __init__(self, questions: Questions, number: int) -> None:
        self._given = questions
        self._client = SpecClient(questions.context, svc_url=questions.url)
        self._pool = urllib3.PoolManager(
            retries=False, ssl_context=ssl.create_default_context(), timeout=120
        )
        self._rng = np.random.default_rng(number)
        self._is_bare = number % 8 == 7
        self._turn = number

    def ask(self) -> tuple[str, str, int]:
        """Ask the next question; return its kind, `RIGHT` or `WRONG`, and the spectra that came."""
        self._turn += 1
        if self._is_bare:
            return "query by HTTP", self._bare(), 0
        if self._turn % 3:
            ids = self._rng.choice(self._given.ids, min(SOME, len(self._given.ids)), replace=False)
            spectra = self._client.getSpec(ids)
            wanted = [self._given.digests[each] for each in ids.tolist()]
            return "spectra", _judged([digest_of(each) for each in spectra], wanted), len(spectra)
        condition = self._condition()
        found = self._client.query(constraint=condition, primary=False)
        return "query", _judged(digest_of(np.sort(found)), self._given.conditions[condition]), 0

    def fetch_many(self) -> tuple[str, str, int]:
        """Fetch many spectra, unchecked but for their number."""
        ids = self._rng.choice(self._given.ids, min(MANY, len(self._given.ids)), replace=False)
        spectra = self._client.getSpec(ids)
        return "many spectra", _judged(len(spectra), len(ids)), len(spectra)

    def _bare(self) -> str:
        """Query without the client, which would ask again after a 503."""
        condition = self._condition()
        body = {"context": self._given.context, "constraint": condition, "primary": False}
        answer = self._pool.request(
            "POST", f"{self._given.url}/bulk/query", json=body, headers={"Accept": "text/csv"}
        )
        if answer.status == 200:
            numbers = [int(line) for line in answer.data.decode().split() if line.isdigit()]
            got = digest_of(np.sort(np.array(numbers, np.uint64)))
            return _judged(got, self._given.conditions[condition])
        if answer.status == 503 and "Retry-After" in answer.headers:
            said = answer.json()
            raise SpecServerError.from_wire(said["code"], said["message"])
        raise AssertionError(f"status {answer.status}: {answer.data[:300]!r}")

    def _condition(self) -> str:
        return str(self._rng.choice(list(self._given.conditions)))


def _judged(got: object, wanted: object) -> str:
    return RIGHT if got == wanted else WRONG


def _ask(
    questions: Questions, folder: Path, number: int, pace_s: float, stop: Any, ready: Any
) -> None:
    """Ask at a constant pace until told to stop; note each answer as a line."""
    # Ctrl-C is for the process that has started this one; this one ends with it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    client = _Client(questions, number)
    ready.wait(_READY_S)
    due = monotonic() + pace_s * number / 16
    with (folder / f"{number}.jsonl").open("w", encoding="utf-8") as notes:
        while not stop.wait(max(0.0, due - monotonic())):
            begun = monotonic()
            kind, outcome, message, nspec = _outcome(client, paced=pace_s > 0)
            answer = Answer(number, kind, begun, monotonic(), outcome, message, nspec)
            notes.write(f"{json.dumps(answer)}\n")
            notes.flush()
            due = max(due + pace_s, begun)


def _outcome(client: _Client, *, paced: bool) -> tuple[str, str, str, int]:
    """Ask once; return the kind of request, its outcome, a message, and the spectra that came."""
    try:
        kind, outcome, nspec = client.ask() if paced else client.fetch_many()
    except StoreError as error:
        cut = type(error) is StoreError and "cut off" in error.message
        return "", "cut off" if cut else type(error).__name__, error.message, 0
    except Overloaded as error:
        return "", type(error).__name__, error.message, 0
    except urllib3.exceptions.ProtocolError as error:
        return "", "cut off", str(error), 0
    except Exception as error:  # noqa: BLE001  # whatever a client sees is noted
        return "", type(error).__name__, str(error), 0
    return kind, outcome, "", nspec
