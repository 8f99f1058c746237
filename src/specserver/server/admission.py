"""Who may do heavy work, and when: light requests never wait for it, heavy ones take turns.

A heavy request needs two things. A **seat** is room to be answered: held from before the first
piece of work until the last byte is sent or the client is gone, it bounds what answers hold in
memory. A **turn** is leave to work: a thread for as long as one batch is made, given to the next
in line while the batch drains. So a client that reads slowly holds a seat, but nobody up.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar

from anyio import CapacityLimiter, move_on_after, to_thread

from ..errors import Overloaded, TooOften
from ..settings import Settings
from .faults import RETRY_AFTER_S

Made = TypeVar("Made")

_LOOK_S: Final = 0.5
# Longer than a network stalls in passing, shorter than the wait in the queue.
_PATIENCE_S: Final = 5.0


class Seat:
    """Room for one heavy answer.

    Parameters
    ----------
    give_up
        Cuts the answer off.
    """

    def __init__(self, give_up: Callable[[], None]) -> None:
        self.give_up = give_up
        self.sending_since: float | None = None
        """Since when the reader has not taken the piece that is being sent; loop time, s."""


class Admission:
    """The seats and turns of one process."""

    def __init__(self, settings: Settings) -> None:
        self._free = CapacityLimiter(settings.heavy_answers)
        self._turns = CapacityLimiter(settings.heavy_threads)
        self._max_waiting = settings.heavy_queue
        self._wait_s = settings.heavy_wait_s
        self._most_of_one = settings.caller_heavy
        self._of_caller: Counter[str] = Counter()
        self._seats: set[Seat] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.on_change: Callable[[int, int], None] = lambda _seated, _waiting: None
        """Told how many heavy requests are answered and how many wait, at each change."""
        self.on_refusal: Callable[[], None] = lambda: None
        self.on_caller_refusal: Callable[[], None] = lambda: None

    @asynccontextmanager
    async def seat(
        self, give_up: Callable[[], None], caller: str | None = None
    ) -> AsyncIterator[Seat]:
        """Lend a seat, after a wait if need be.

        Parameters
        ----------
        give_up
            Cuts the answer off.
        caller
            Whose heavy requests are counted together; None: nobody's.

        Raises
        ------
        Overloaded
            The queue is full, or the wait was too long.
        TooOften
            The caller has as many seats, and places in the queue, as one may have.
        """
        with self._share_of(caller):
            seat = Seat(give_up)
            await self._take(seat)
            self._seats.add(seat)
            self._tell()
            try:
                yield seat
            finally:
                self._seats.discard(seat)
                self._free.release_on_behalf_of(seat)
                self._tell()

    @asynccontextmanager
    async def seat_and_turn(self, caller: str | None) -> AsyncIterator[None]:
        """Lend both to work that is done elsewhere; raise errors as `seat` does."""
        async with self.seat(lambda: None, caller), self._turns:
            yield

    @contextmanager
    def _share_of(self, caller: str | None) -> Iterator[None]:
        """Count a heavy request of a caller, who is forgotten with the last of them."""
        if caller is None or not self._most_of_one:
            yield
            return
        if self._of_caller[caller] >= self._most_of_one:
            self.on_caller_refusal()
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

    async def turn(self, work: Callable[..., Made], *given: Any) -> Made:
        """Return what a piece of work makes, in a thread, when its turn has come."""
        return await to_thread.run_sync(work, *given, limiter=self._turns)

    async def _take(self, seat: Seat) -> None:
        waiting = self._free.statistics().tasks_waiting
        if not self._free.available_tokens and waiting >= self._max_waiting:
            self._refuse()
        with move_on_after(self._wait_s) as wait:
            if not self._free.available_tokens:
                self._make_room_later()
                asyncio.get_running_loop().call_soon(self._tell)
            await self._free.acquire_on_behalf_of(seat)
        if wait.cancelled_caught:
            self._refuse()

    def _refuse(self) -> None:
        self.on_refusal()
        raise Overloaded(RETRY_AFTER_S)

    def _tell(self) -> None:
        self.on_change(len(self._seats), self._free.statistics().tasks_waiting)

    def _make_room_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._make_room)

    def _make_room(self) -> None:
        """Cut off the readers that have stood still longest, one for each request that waits."""
        self._timer = None
        waiting = self._free.statistics().tasks_waiting
        if not waiting:
            return
        now = asyncio.get_running_loop().time()
        still = [
            (seat.sending_since, seat) for seat in self._seats if seat.sending_since is not None
        ]
        for since, seat in sorted(still, key=lambda one: one[0])[:waiting]:
            if now - since > _PATIENCE_S:
                seat.give_up()
        self._make_room_later()
