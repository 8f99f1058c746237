"""What is taken away from the cluster while clients ask it, and what they see of it."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from time import monotonic, sleep
from typing import Final

from .clients import RIGHT, Answer, Asked, is_documented
from .parts import Parts

_RECOVERY_S: Final = 90.0
"""Time in which each client must have a right answer after a part is back."""


@dataclass
class Loss:
    """A part that was away for a while."""

    what: str
    begun_s: float
    back_s: float = 0.0
    ended_s: float = 0.0
    answers: list[Answer] = field(default_factory=list)
    """To requests that were begun, or not yet answered, while it was away or soon after."""

    nlost: int = 0
    """Clients that had no right answer within a long time after it was back."""

    @property
    def outcomes(self) -> Counter[str]:
        """How often each outcome came."""
        return Counter(answer.outcome for answer in self.answers)

    @property
    def first_right_s(self) -> float:
        """Time from the loss to the first right answer to a request that was made after it."""
        return min(
            (
                answer.ended_s
                for answer in self.answers
                if answer.outcome == RIGHT and answer.begun_s >= self.begun_s
            ),
            default=float("inf"),
        ) - self.begun_s  # fmt: skip

    @property
    def all_right_s(self) -> float:
        """Time from the return of the part until each client had a right answer."""
        firsts: dict[int, float] = {}
        for answer in self.answers:
            if answer.outcome == RIGHT and answer.ended_s >= self.back_s:
                firsts.setdefault(answer.client, answer.ended_s)
        return max(firsts.values(), default=float("inf")) - self.back_s

    def faults(self, hidden: Sequence[str]) -> list[str]:
        """Return what no client should have seen.

        Parameters
        ----------
        hidden : addresses that no message may have
        """
        found = [f"{self.what}: {self.nlost} clients see no recovery"] if self.nlost else []
        for answer in self.answers:
            told = f"{self.what}: client {answer.client}: {answer.outcome} {answer.message}"
            if answer.outcome == RIGHT:
                continue
            if not is_documented(answer):
                found.append(told)
            elif any(place in answer.message for place in hidden):
                found.append(f"{told} (names a part of the cluster)")
        return found


def all_losses(parts: Parts, asked: Asked, pause_s: float, nclients: int) -> Iterator[Loss]:
    """Take one part after the other away for some seconds; yield each when all is well again."""
    node = parts.nodes[0]
    store, database = parts.store, parts.database

    @contextmanager
    def no_node() -> Iterator[None]:
        node.kill()
        yield
        node.start()
        node.await_ready()

    @contextmanager
    def no_database() -> Iterator[None]:
        database.kill()
        yield
        database.start()

    @contextmanager
    def no_store() -> Iterator[None]:
        store.stop()
        yield
        store.start()

    def lost(what: str, away: Callable[[], AbstractContextManager[None]]) -> Loss:
        loss = Loss(what, monotonic())
        with away():
            sleep(pause_s)
        loss.back_s = monotonic()
        _await_right(loss, asked, nclients)
        return loss

    yield lost("a node: kill -9", no_node)
    yield lost("PostgreSQL: immediate shutdown", no_database)
    yield lost("the object store: kill -9", no_store)
    yield lost("the object store: SIGSTOP", store.hanging)


def _await_right(loss: Loss, asked: Asked, nclients: int) -> None:
    """Wait until each client has a right answer to a request that was made after the return."""
    while True:
        answers = [answer for answer in asked.answers() if answer.ended_s >= loss.begun_s]
        well = {
            answer.client
            for answer in answers
            if answer.outcome == RIGHT and answer.begun_s >= loss.back_s
        }
        loss.answers, loss.ended_s = answers, monotonic()
        if len(well) == nclients:
            return
        if loss.ended_s > loss.back_s + _RECOVERY_S:
            loss.nlost = nclients - len(well)
            return
        sleep(0.5)
