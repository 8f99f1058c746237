"""Concurrency limits: light requests never wait for heavy work, and heavy requests wait in a queue.

A heavy request needs two things. An **answer slot** is held from before the first piece of work
until the last byte is sent or the client is gone; it bounds what answers hold in memory. A **work
slot** is a thread for as long as one batch is made; the next request has it while the batch is
sent. So a client that reads slowly holds an answer slot, and delays no other request.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, move_on_after, to_thread

from ...errors import Overloaded, TooOften
from ...settings import Settings
from .error_responses import RETRY_AFTER_S
from .metrics import Metrics

Made = TypeVar("Made")

_LOOK_S: Final = 0.5
# Longer than a network stalls in passing, shorter than the wait in the queue.
_PATIENCE_S: Final = 5.0


class AnswerSlot:
    """Room for one heavy answer; ``give_up`` cuts it off."""

    def __init__(self, give_up: Callable[[], None]) -> None:
        self.give_up = give_up
        self.sending_since: float | None = None
        """Loop time, s, when the current piece was handed over; None if the reader has taken it."""


class ConcurrencyLimits:
    """The answer slots and work slots of one process."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._answer_slots = CapacityLimiter(settings.heavy_answers)
        self._work_slots = CapacityLimiter(settings.heavy_threads)
        self._max_waiting = settings.heavy_queue
        self._wait_s = settings.heavy_wait_s
        self._most_of_one = settings.caller_heavy
        self._of_caller: Counter[str] = Counter()
        self._answering: set[AnswerSlot] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._metrics = metrics

    @asynccontextmanager
    async def answer_slot(
        self, give_up: Callable[[], None], caller: str | None = None
    ) -> AsyncIterator[AnswerSlot]:
        """Hold an answer slot, after a wait in the queue where none is free.

        Parameters
        ----------
        give_up : cuts the answer off
        caller : whose heavy requests are counted together; None: not counted

        Raises
        ------
        Overloaded
            The queue is full, or the wait was too long.
        TooOften
            The caller has as many answer slots, and places in the queue, as one may have.
        """
        with self._share_of(caller):
            slot = AnswerSlot(give_up)
            await self._take(slot)
            self._answering.add(slot)
            self._tell()
            try:
                yield slot
            finally:
                self._answering.discard(slot)
                self._answer_slots.release_on_behalf_of(slot)
                self._tell()

    @asynccontextmanager
    async def answer_and_work_slot(self, caller: str | None) -> AsyncIterator[None]:
        """Hold a slot of both kinds for other work; raise errors as `answer_slot` does."""
        async with self.answer_slot(lambda: None, caller), self._work_slots:
            yield

    @contextmanager
    def _share_of(self, caller: str | None) -> Iterator[None]:
        """Count a heavy request of a caller while it is answered."""
        if caller is None or not self._most_of_one:
            yield
            return
        if self._of_caller[caller] >= self._most_of_one:
            self._metrics.caller_refused.inc()
            raise TooOften(
                "heavy requests at once", self._most_of_one, "caller_heavy", RETRY_AFTER_S
            )
        self._of_caller[caller] += 1
        try:
            yield
        finally:
            self._of_caller[caller] -= 1
            if not self._of_caller[caller]:
                del self._of_caller[caller]

    async def run(self, work: Callable[..., Made], *given: Any) -> Made:
        """Return the result of a piece of work, done in a thread when a work slot is free."""
        return await to_thread.run_sync(work, *given, limiter=self._work_slots)

    async def _take(self, slot: AnswerSlot) -> None:
        waiting = self._answer_slots.statistics().tasks_waiting
        if not self._answer_slots.available_tokens and waiting >= self._max_waiting:
            self._refuse()
        with move_on_after(self._wait_s) as wait:
            if not self._answer_slots.available_tokens:
                self._make_room_later()
                asyncio.get_running_loop().call_soon(self._tell)
            await self._answer_slots.acquire_on_behalf_of(slot)
        if wait.cancelled_caught:
            self._refuse()

    def _refuse(self) -> None:
        self._metrics.refused.inc()
        raise Overloaded(RETRY_AFTER_S)

    def _tell(self) -> None:
        self._metrics.tell_heavy(
            len(self._answering), self._answer_slots.statistics().tasks_waiting
        )

    def _make_room_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._make_room)

    def _make_room(self) -> None:
        """Cut off the readers that have been stalled longest, one for each request that waits."""
        self._timer = None
        waiting = self._answer_slots.statistics().tasks_waiting
        if not waiting:
            return
        now = asyncio.get_running_loop().time()
        still = [
            (slot.sending_since, slot) for slot in self._answering if slot.sending_since is not None
        ]
        for since, slot in sorted(still, key=lambda stalled: stalled[0])[:waiting]:
            if now - since > _PATIENCE_S:
                slot.give_up()
        self._make_room_later()
