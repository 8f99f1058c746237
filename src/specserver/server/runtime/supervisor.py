"""Starts the workers, and replaces one that dies unless they die again and again."""

import logging
import signal
import sys
import time
from collections import deque
from collections.abc import Callable
from socket import socket
from typing import Final

from prometheus_client import CollectorRegistry, Counter
from typing_extensions import override
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from ...processes import leaving_interrupts_to_this_process
from .draining import DrainingServer

_LOG = logging.getLogger("specserver")
# A worker that dies sooner has answered hardly anything: the next one will probably die too.
_AT_ONCE_S: Final = 10.0
_WINDOW_S: Final = 120.0
_MOST_AT_ONCE: Final = 5
_A_MOMENT_S: Final = 0.2
# A process that starts reads its modules and opens indexes before it answers, on a busy machine
# for many seconds. Killing it then would only delay the start.
_START_S: Final = 120.0


class _Worker(Process):
    """A process that answers; the supervisor ends it, also when Ctrl-C reaches both."""

    @override
    @property
    def server(self) -> DrainingServer:
        """What answers in this process."""
        if self._server is None:
            self._server = DrainingServer(self.config)
        assert isinstance(self._server, DrainingServer)
        return self._server

    @override
    def start(self) -> None:
        with leaving_interrupts_to_this_process():
            super().start()


class Supervisor(Multiprocess):
    """Replaces processes that die, until they die at once again and again.

    Parameters
    ----------
    count : called with the cause of each death
    """

    def __init__(self, config: Config, sockets: list[socket], count: Callable[[str], None]) -> None:
        super().__init__(config, sockets)
        self.failure = ""
        """Why the service ended by itself."""
        self.interrupted = False
        """Whether Ctrl-C ended it."""
        self._count = count
        self._born: dict[int | None, float] = {}
        self._at_once: deque[float] = deque()

    @override
    def init_processes(self) -> None:
        """Start the processes."""
        # They end by a signal. The semaphores of libraries that they leave behind are then
        # removed by the resource tracker of multiprocessing, which would warn of each.
        sys.warnoptions.append("ignore:resource_tracker:UserWarning")
        for _ in range(self.processes_num):
            self.processes.append(_Worker(self.config, self.sockets))
            self.processes[-1].start()

    @override
    def handle_int(self) -> None:
        """End the service."""
        self.interrupted = True
        self.should_exit.set()

    @override
    def join_all(self) -> None:
        """Wait until all processes have ended; hand further signals on, which end their wait."""
        for process in self.processes:
            while process.process.is_alive():
                if self.signal_queue:
                    self.signal_queue.clear()
                    for other in self.processes:
                        other.process.terminate()
                process.process.join(_A_MOMENT_S)
        super().join_all()

    @override
    def keep_subprocess_alive(self) -> None:
        """Look at each process, and replace those that have died."""
        for place, process in enumerate(self.processes):
            if self.should_exit.is_set() or self.signal_queue:
                return
            born = self._born.setdefault(process.pid, time.monotonic())
            if not self._is_well(process, time.monotonic() - born):
                # All workers are being stopped.
                if self.signal_queue:
                    return
                del self._born[process.pid]
                self._replace(place, process, time.monotonic() - born)

    def _is_well(self, process: Process, lived_s: float) -> bool:
        """Return whether a process runs and, unless it may still be starting, answers."""
        if lived_s < _START_S:
            return process.process.is_alive()
        return process.is_alive(timeout=self.config.timeout_worker_healthcheck)

    def _replace(self, place: int, process: Process, lived_s: float) -> None:
        """Log the death, and start another process or end the service."""
        # The exit code of a process that has just died may not be known yet.
        process.process.join(_A_MOMENT_S)
        cause, told = _death_of(process.exitcode)
        if process.exitcode is None:
            told += f" for {self.config.timeout_worker_healthcheck} s and was killed"
        process.kill()
        process.join()
        self._count(cause)
        _LOG.error("worker %d %s", process.pid, told)
        if process.exitcode == STARTUP_FAILURE:
            self._end(f"a worker {told}: it cannot start; the log above says why")
            return
        if self._is_hopeless(lived_s):
            self._end(
                f"workers died at once {_MOST_AT_ONCE} times, the last one {told}: the service ends"
                " instead of starting them for ever; with --workers 1 the error is seen directly"
            )
            return
        another = _Worker(self.config, self.sockets)
        another.start()
        self.processes[place] = another
        _LOG.error("worker %d takes the place of worker %d", another.pid, process.pid)

    def _is_hopeless(self, lived_s: float) -> bool:
        """Return whether too many workers have died soon after their start."""
        now = time.monotonic()
        if lived_s < _AT_ONCE_S:
            self._at_once.append(now)
        while self._at_once and now - self._at_once[0] > _WINDOW_S:
            self._at_once.popleft()
        return len(self._at_once) >= _MOST_AT_ONCE

    def _end(self, why: str) -> None:
        self.failure = why
        self.should_exit.set()


def worker_deaths() -> Counter:
    """Return the count of processes that died, for the one that replaces them."""
    return Counter(
        "specserver_worker_deaths_total",
        "Processes that died and were replaced.",
        ("cause",),
        registry=CollectorRegistry(),
    )


def _death_of(exitcode: int | None) -> tuple[str, str]:
    """Return the cause of a death in one word, and in a sentence."""
    if exitcode is None:
        return "hung", "did not answer"
    if exitcode >= 0:
        return "exit", f"ended with exit code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = ": out of memory? (see the kernel's log, dmesg)" if name == "SIGKILL" else ""
    return name, f"was killed by {name}{hint}"
