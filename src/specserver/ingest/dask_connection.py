"""The connection of an ingest to a Dask cluster, or to one of processes of this machine."""

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster
from distributed.system import MEMORY_LIMIT
from typing_extensions import override

from ..errors import BadParameter, IngestError
from ..processes import leaving_interrupts_to_this_process

_LOCAL: Final = re.compile(r"local(?::([1-9][0-9]{0,3}))?")
_ADDRESS: Final = re.compile(r"(?:tcp|tls|ucxx?|wss?)://\S+")
_ANSWER_S: Final = 15.0
"""Time for a scheduler to answer."""
_LOCAL_SETTINGS: Final = {
    # A process that dies is started again. If there is none 15 s after a death, Dask never starts
    # one again; but a busy machine takes longer to start it, or the next one dies just then.
    "distributed.deploy.lost-worker-timeout": "1 day",
    # The profiler of Dask records what each thread does, a hundred times a second. It takes a tenth
    # of the time of an ingest, and without a dashboard nobody sees the profile.
    "distributed.worker.profile.enabled": False,
    # Usually 20, 100 and 500 ms. Together they take a twentieth of the processors.
    "distributed.admin.tick.interval": "1s",
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.admin.system-monitor.interval": "5s",
}
_ENVIRONMENT: Final = "distributed.nanny.pre-spawn-environ"
_TRIMMED: Final = "MALLOC_TRIM_THRESHOLD_"
"""With this variable, glibc returns free memory to the system at once, and soon asks for it again.
That takes a tenth of the time of an ingest. The processes need no more memory without it."""


@contextmanager
def connected(address: str, progress: Callable[[str], None]) -> Iterator[Client]:
    """Connect to a Dask cluster, or start one, until the end; as `on_dask.dask_executor`."""
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if local := _LOCAL.fullmatch(address):
            nworkers = int(local[1] or CPU_COUNT)
            progress(f"starting {nworkers} processes of Dask")
            cluster = stack.enter_context(_local_cluster(nworkers))
            client = stack.enter_context(Client(cluster, set_as_default=False))
        elif _ADDRESS.fullmatch(address):
            progress(f"asking the Dask scheduler at {address}")
            client = stack.enter_context(_client(address))
        else:
            allowed = "write tcp://host:8786 (or tls://…), or local, or local:N for N processes"
            raise BadParameter("dask", address, allowed)
        yield client


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the tracebacks of Dask's client off the terminal: our errors say what has happened.

    Workers and the scheduler log what they see, as ever.
    """
    logger = logging.getLogger("distributed.client")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def local_settings() -> dict[str, Any]:
    """Return the settings of Dask for a cluster of processes on this machine."""
    given = dask.config.get(_ENVIRONMENT) or {}
    kept = {name: value for name, value in given.items() if name != _TRIMMED}
    return {**_LOCAL_SETTINGS, _ENVIRONMENT: kept}


@contextmanager
def _local_cluster(nworkers: int) -> Iterator[LocalCluster]:
    """Start processes of one thread each, which only this machine can reach."""
    with dask.config.set(local_settings()):
        # The threads and processes that it starts inherit the mask: Ctrl-C is for this process.
        with leaving_interrupts_to_this_process():
            cluster = _started(nworkers)
        with cluster:
            yield cluster


def _started(nworkers: int) -> LocalCluster:
    """Start the processes; raise `IngestError` if one dies before all are there."""
    try:
        return LocalCluster(
            n_workers=nworkers,
            threads_per_worker=1,
            memory_limit=MEMORY_LIMIT // nworkers,
            host="127.0.0.1",
            # There is no dashboard. The scheduler starts an HTTP server, on a free port.
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},
            # The ingest reports dead workers at its end; Dask would log them between the bars.
            silence_logs=logging.CRITICAL,
        )
    except (RuntimeError, TimeoutError) as error:
        raise IngestError(
            f"a process of Dask died while it was started ({error}; out of memory?): run the same"
            " command again, perhaps with fewer processes (--dask local:N)"
        ) from error


class _Client(Client):
    """A client that ends at once if it is interrupted while it connects."""

    @override
    def start(self, **given: Any) -> None:
        try:
            super().start(**given)  # type: ignore[no-untyped-call]
        except KeyboardInterrupt:
            # What is not closed is closed when it is collected, which waits for half a minute.
            self.status = "closed"
            raise


def _client(address: str) -> Client:
    """Return a client of a scheduler."""
    try:
        client: Client = _Client(  # type: ignore[no-untyped-call]
            address, timeout=_ANSWER_S, set_as_default=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise IngestError(
            f"no Dask scheduler answers at {address} ({error}): start one with 'dask scheduler',"
            f" and workers with 'dask worker {address}'; or say --dask local"
        ) from error
    return client
