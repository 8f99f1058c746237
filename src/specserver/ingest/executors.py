"""What reads the parts of an ingest: processes of its own here, a Dask cluster in `on_dask`."""

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol, TypeAlias

from ..errors import IngestError
from ..model.survey import FileKey
from ..processes import end_with_parent, leaving_interrupts_to_this_process
from .decisions import IngestOptions
from .worker import PartResult, ingest_part

_POLL_S: Final = 0.2
Part: TypeAlias = tuple[FileKey, ...]
"""Files that one worker reads, one after the other."""
Ended: TypeAlias = list[tuple[Part, PartResult]]
Count: TypeAlias = Callable[[int], None]
"""Called with the number of files that were read since the last call."""


class Parts:
    """The parts that are still to be read: those to be read again, then those of the plan."""

    def __init__(self, planned: Iterator[Part]) -> None:
        self._planned = planned
        self._again: deque[Part] = deque()

    def following(self) -> Part | None:
        """Take a part; None: there is none at this moment."""
        return self._again.popleft() if self._again else next(self._planned, None)

    def add(self, *parts: Part) -> None:
        """Add parts that are to be read once more."""
        self._again.extend(parts)

    def are_several(self) -> bool:
        """Return whether there is more than one part."""
        self._again.extend(islice(self._planned, max(0, 2 - len(self._again))))
        return len(self._again) > 1


class Executor(Protocol):
    """Reads the parts of an ingest."""

    @property
    def width(self) -> int:
        """Parts that it reads at the same time."""

    def results(self, options: IngestOptions, parts: Parts, count: Count) -> Iterator[Ended]:
        """Yield parts and their results as soon as they are there.

        The caller adds parts that are to be read once more; they are asked for before the end.
        """


@dataclass(frozen=True, slots=True)
class OwnProcesses:
    """Processes of this ingest; one part, or one worker, is read in this process."""

    width: int

    @classmethod
    def of(cls, workers: int | None) -> "OwnProcesses":
        """Return so many processes; None: one for each core."""
        return cls(workers or os.cpu_count() or 1)

    def results(self, options: IngestOptions, parts: Parts, count: Count) -> Iterator[Ended]:
        """Yield parts and their results as soon as they are there.

        Raises
        ------
        IngestError
            A process died.
        """
        if self.width == 1 or not parts.are_several():
            while (part := parts.following()) is not None:
                yield [(part, ingest_part(options, part, count))]
            return
        # spawn: a forked child would lack TensorStore's threads.
        spawning = multiprocessing.get_context("spawn")
        told = spawning.SimpleQueue()
        with ProcessPoolExecutor(self.width, spawning, _begin, (told, options)) as pool:
            at_work: dict[Future[PartResult], Part] = {}
            try:
                while True:
                    # Submitted when a worker can take them: a long queue of parts is large.
                    while len(at_work) < 2 * self.width and (part := parts.following()) is not None:
                        with leaving_interrupts_to_this_process():
                            at_work[pool.submit(_work, part)] = part
                    if not at_work:
                        break
                    ended, _ = wait(at_work, _POLL_S, FIRST_COMPLETED)
                    while not told.empty():
                        count(told.get())
                    yield [(at_work.pop(future), future.result()) for future in ended]
            except BrokenProcessPool as error:
                raise IngestError(
                    "a reading process died (out of memory?); what is committed is safe:"
                    " run the same command again, perhaps with fewer --workers"
                ) from error
            finally:
                pool.shutdown(cancel_futures=True)
        while not told.empty():
            count(told.get())


_WORKER: list[Any] = []
"""Arguments of this worker process: the queue for progress, and the options."""


def _begin(told: Any, options: IngestOptions) -> None:
    """Prepare a worker process."""
    end_with_parent()
    _WORKER[:] = [told, options]


def _work(part: Sequence[FileKey]) -> PartResult:
    """Do one part in a worker process."""
    told, options = _WORKER
    return ingest_part(options, part, told.put)
