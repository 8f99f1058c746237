"""An ingest on a Dask cluster: its workers read the parts, and this process commits them.

A worker writes segments straight into the data folder, under the lease of this ingest, and sends
back what became of the files. What is the same for all parts is sent to each worker once, as a
plug-in, which workers that join later get too. Dask reads a part again elsewhere if its worker is
lost. The first reading may go on meanwhile, if the worker was only cut off: what it writes has
names of its own, is never committed, and is removed at the end or by the next ingest.
"""

import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import count as count_from
from math import inf
from queue import SimpleQueue
from typing import Any, Final, Self

from distributed import Client, Future, wait
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError
from distributed.scheduler import KilledWorker

from ..errors import IngestError
from .dask_connection import connected
from .dask_worker import IngestOnWorker, fault_of, name_of, work
from .decisions import IngestOptions
from .executors import Count, Ended, Part, Parts
from .losses import Losses
from .surroundings import Surroundings, version_fault, version_text, versions
from .worker import PartResult

_WORKER_S: Final = 60.0
"""Time for the first worker to be there: an adaptive cluster starts it when it is needed."""
_RESULT_S: Final = 20.0
"""Time for a result, some 40 kB, to come from its worker."""
_GONE_S: Final = 600.0
"""Time without any worker after which the ingest ends."""
_POLL_S: Final = 0.2
_LOOK_S: Final = 5.0
"""Time between looks at the number of workers, and at the lease."""
_ALL: Final = "all"
"""Topic of Dask on which a scheduler tells of all workers."""
_SHOWN: Final = 3
"""Workers that a message names."""
_LOST: Final = (
    "the connection to the Dask scheduler is lost; what is committed is safe: run the same command"
    " again"
)


@contextmanager
def dask_executor(
    address: str, progress: Callable[[str], None] = lambda _: None
) -> Iterator["DaskExecutor"]:
    """Connect to a Dask cluster, or start one of processes on this machine, until the end.

    Parameters
    ----------
    address
        Of a scheduler, such as ``tcp://host:8786``; or ``local``, or ``local:4`` for four
        processes. The configuration of Dask applies, its TLS certificates too.
    progress
        Called with what is waited for.

    Raises
    ------
    BadParameter
        It is no address.
    IngestError
        No scheduler answers there, or it has no workers.
    """
    with connected(address, progress) as client:
        yield DaskExecutor(client)


@contextmanager
def _asking(client: Client) -> Iterator[None]:
    """Raise `IngestError` if the scheduler is gone, while no more than this client is called."""
    if client.status != "running":
        # Most calls would wait for a connection, for half a minute.
        raise IngestError(_LOST)
    try:
        yield
    except (CancelledError, ClosedClientError, OSError, RuntimeError) as error:
        raise IngestError(_LOST) from error


class DaskExecutor:
    """Reads the parts of an ingest on a Dask cluster; `dask_executor` makes it.

    Parameters
    ----------
    client
        Of the cluster, with its own workers.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self.nlost = 0
        """Workers that were lost while they read parts of an ingest."""
        with _asking(client):
            self._address: str = client.scheduler_info(n_workers=0)["address"]
        self._require_workers()

    @property
    def width(self) -> int:
        """Parts that it reads at the same time: the threads of its workers."""
        with _asking(self._client):
            return sum(self._client.nthreads().values())

    def _require_workers(self) -> None:
        """Wait for a worker, and compare the versions of all with those here."""
        client = self._client
        with _asking(client):
            # A task, as an adaptive cluster starts no worker without one.
            first = client.submit(platform.python_version, pure=False)
        try:
            first.result(timeout=_WORKER_S)
        except TimeoutError as error:
            raise IngestError(
                f"the Dask cluster has no worker that answers within {_WORKER_S:.0f} s: start"
                f" some with 'dask worker {self._address}'"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise IngestError(_LOST) from error
        with _asking(client):
            there = {f"scheduler {self._address}": self._version_of_scheduler(), **self._versions()}
        here = versions()
        _refuse({who: version_fault(found, here) for who, found in there.items()})

    def _version_of_scheduler(self) -> str:
        """Return the versions of the scheduler, which unpacks the tasks that it is sent."""
        python = self._client.run_on_scheduler(platform.python_version)
        try:
            return version_text(python, self._client.run_on_scheduler(version, "specserver"))
        except ImportError as error:
            return version_text(python, error)

    def _versions(self) -> dict[str, str]:
        """Return the versions of each worker, also of one without this package."""
        pythons = self._client.run(platform.python_version, on_error="return")
        ours = self._client.run(version, "specserver", on_error="return")
        return {
            f"worker {worker}": version_text(python, ours.get(worker, "no answer"))
            for worker, python in pythons.items()
        }

    def results(self, options: IngestOptions, parts: Parts, count: Count) -> Iterator[Ended]:
        """Yield parts and their results as soon as they are there.

        Raises
        ------
        IngestError
            A worker does not see the data folder or the files, the workers die whatever they read,
            or the connection to the scheduler is lost.
        """
        with _Run(self._client, options, count) as run:
            yield from run.results(parts)
        self.nlost += len(run.lost)


class _Run:
    """One ingest on a cluster."""

    def __init__(self, client: Client, options: IngestOptions, count: Count) -> None:
        self._client, self._count = client, count
        self._name = name_of(options)
        self._surroundings = Surroundings.of(options)
        self._losses = Losses()
        self._at_work: dict[Future[PartResult], tuple[int, Part]] = {}
        self._events: SimpleQueue[tuple[int, int]] = SimpleQueue()
        self._told: dict[int, int] = {}
        """Number of a part at work → its files that are counted already."""
        self._numbers = count_from(0)
        self._alone = False
        """Whether a suspect is read, and nothing else."""
        self._room = 0
        self._looked_s = -inf
        self.lost: set[str] = set()
        """Addresses of workers that were lost while they had parts of it."""
        self._is_lost = False
        """Whether the scheduler is gone."""
        self._seen_s = inf
        """When the cluster had a worker last."""

    def __enter__(self) -> Self:
        client = self._client
        try:
            with self._asking():
                client.subscribe_topic(self._name, lambda event: self._events.put(event[1]))
                client.subscribe_topic(_ALL, self._note_loss)
                # It stays with the scheduler if this process is killed: others cannot tell whether
                # the ingest, whose data folder they may not see, has ended.
                client.register_plugin(IngestOnWorker(self._surroundings), name=self._name)
                faults = client.run(fault_of, self._name, on_error="return")
            _refuse({f"worker {worker}": _told(fault) for worker, fault in faults.items()})
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        """Forget what is at work; workers see that the lease is gone."""
        if self._is_lost:
            return  # each call would wait for a connection, for half a minute
        # The scheduler of a plug-in that it does not have raises `ValueError`.
        with suppress(IngestError, ValueError), self._asking():
            self._client.cancel(list(self._at_work), force=True)
            self._client.unsubscribe_topic(self._name)
            self._client.unsubscribe_topic(_ALL)
            self._client.unregister_worker_plugin(self._name)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """Raise `IngestError` if the scheduler is gone, and note it."""
        try:
            with _asking(self._client):
                yield
        except IngestError:
            self._is_lost = True
            raise

    def results(self, parts: Parts) -> Iterator[Ended]:
        """Yield parts and their results as soon as they are there."""
        while True:
            try:
                self._submit(parts)
                if not self._at_work:
                    return
                ended = self._ended()
                self._count_told()
                done: Ended = []
                for future in ended:
                    done += self._result(future, parts)
            except (CancelledError, CommClosedError) as error:
                self._is_lost = True
                raise IngestError(_LOST) from error
            yield done

    def _note_loss(self, event: tuple[float, Any]) -> None:
        """Note a worker that has gone without being asked to, if it had parts of this ingest."""
        told = event[1]
        if not isinstance(told, dict) or told.get("action") != "remove-worker":
            return
        mine = f"ingest_part-{self._name}-"
        if not told["expected"] and any(
            str(key).startswith(mine) for key in told["processing-tasks"]
        ):
            self.lost.add(told["worker"])

    def _submit(self, parts: Parts) -> None:
        """Send as many parts as the workers can soon take; a suspect when nothing else is left."""
        now = time.monotonic()
        if now - self._looked_s > _LOOK_S:
            self._looked_s = now
            with self._asking():
                nthreads = sum(self._client.nthreads().values())
            self._room = 2 * max(1, nthreads)
            self._seen_s = now if nthreads else min(self._seen_s, now)
            if now - self._seen_s > _GONE_S:
                raise IngestError(
                    f"the Dask cluster has had no worker for {_GONE_S:.0f} s; what is committed is"
                    " safe: start workers, and run the same command again"
                )
        while not self._alone and len(self._at_work) < self._room:
            part = parts.following()
            if part is None:
                break
            self._send(part)
        if not self._at_work and (suspect := self._losses.suspect()):
            self._alone = True
            self._send(suspect)

    def _send(self, part: Part) -> None:
        number = next(self._numbers)
        self._told[number] = 0
        key = f"ingest_part-{self._name}-{number}"
        with self._asking():
            future = self._client.submit(work, self._name, number, part, key=key, pure=False)
        self._at_work[future] = number, part

    def _ended(self) -> set[Future[PartResult]]:
        """Return what has ended; wait a little if nothing has."""
        try:
            with self._client.as_current():
                found: set[Future[PartResult]] = wait(
                    list(self._at_work), timeout=_POLL_S, return_when="FIRST_COMPLETED"
                ).done
        except TimeoutError:
            return set()
        return found

    def _result(self, future: Future[PartResult], parts: Parts) -> Ended:
        """Return the part of a future and its result; nothing if it is to be read again."""
        number, part = self._at_work.pop(future)
        alone, self._alone = self._alone, False
        try:
            result: PartResult = future.result(timeout=_RESULT_S)
        except TimeoutError:
            # It was lost with its worker just before. Dask computes it again, but sometimes it
            # does not tell when it is done.
            with self._asking():
                future.cancel(force=True)
            parts.add(part)
            self._count(-self._told.pop(number))
            return []
        except KilledWorker as error:
            if alone:
                result = self._losses.refuse(part, error.allowed_failures + 1)
            else:
                parts.add(*self._losses.pieces(part))
                self._count(-self._told.pop(number))
                return []
        else:
            self._losses.none()
        self._count(len(part) - self._told.pop(number))
        return [(part, result)]

    def _count_told(self) -> None:
        """Count the files that workers have told of: a second reading counts from its start."""
        while not self._events.empty():
            number, done = self._events.get()
            if done > self._told.get(number, done):
                self._count(done - self._told[number])
                self._told[number] = done


def _refuse(faults: dict[str, str]) -> None:
    """Raise an error that names processes and what is wrong with each, if there is something."""
    told = [f"the Dask {who} {fault}" for who, fault in sorted(faults.items()) if fault]
    if not told:
        return
    more = [f"and {len(told) - _SHOWN} more workers"] if len(told) > _SHOWN else []
    raise IngestError("; ".join(told[:_SHOWN] + more))


def _told(fault: object) -> str:
    return f"failed ({fault!r})" if isinstance(fault, Exception) else str(fault)
