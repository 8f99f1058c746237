"""Starts the workers, and replaces one that dies unless they die again and again.

Signals change them while the service answers: SIGHUP replaces all, one after the other, SIGTTIN
adds one, SIGTTOU takes one away. Each that goes finishes its answers, as at the end of the service.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from socket import socket
from typing import Final

from typing_extensions import override
from uvicorn.config import STARTUP_FAILURE, Config
from uvicorn.supervisors import Multiprocess
from uvicorn.supervisors.multiprocess import Process

from ...processes import leaving_interrupts_to_this_process
from .deaths import death_of
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

    _is_asked = False

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

    def has_begun(self) -> bool:
        """Return whether it answers requests, without waiting for it."""
        try:
            # One that reads its modules does not answer yet. A second question would be answered
            # too, and taken for the answer to a later one.
            if not self._is_asked:
                self.parent_conn.send(b"ping")
                self._is_asked = True
            if not self.parent_conn.poll():
                return False
            self._is_asked = False
            return bool(self.parent_conn.recv())
        except (OSError, EOFError):
            return False


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
        self._outdated: list[Process] = []
        """Those that a restart has still to replace."""
        self._next: _Worker | None = None
        """The new process. It replaces the first of them when it answers."""
        self._next_since = 0.0
        self._leaving: list[Process] = []
        """Those that finish their answers, and have been replaced or taken away."""

    @override
    def init_processes(self) -> None:
        """Start the processes."""
        # They end by a signal. The semaphores of libraries that they leave behind are then
        # removed by the resource tracker of multiprocessing, which would warn of each.
        sys.warnoptions.append("ignore:resource_tracker:UserWarning")
        for _ in range(self.processes_num):
            self.processes.append(self._started())

    def _started(self) -> _Worker:
        worker = _Worker(self.config, self.sockets)
        worker.start()
        return worker

    @override
    def handle_int(self) -> None:
        """End the service."""
        self.interrupted = True
        self.should_exit.set()

    @override
    def restart_all(self) -> None:
        """Begin to replace all processes, one after the other."""
        self._outdated = [*self.processes]
        _LOG.warning("replacing %d workers, one after the other", len(self._outdated))

    @override
    def handle_ttin(self) -> None:
        """Add a process."""
        self.processes_num += 1
        self.processes.append(self._started())
        _LOG.warning("one worker more: %d", self.processes_num)

    @override
    def handle_ttou(self) -> None:
        """Take a process away, unless it is the only one."""
        if self.processes_num > 1:
            self.processes_num -= 1
            self._let_go(self.processes.pop())
            _LOG.warning("one worker fewer: %d", self.processes_num)

    def _let_go(self, process: Process) -> None:
        """Stop a process, without waiting for the end of its answers."""
        self._born.pop(process.pid, None)
        process.terminate()
        self._leaving.append(process)

    @override
    def terminate_all(self) -> None:
        """Stop all processes; those that are leaving have been told."""
        if self._next is not None:
            self.processes.append(self._next)
        super().terminate_all()
        self.processes += self._leaving

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
        """Look at each process, replace those that have died, and go on with a restart."""
        self._replace_the_dead()
        self._leaving = [process for process in self._leaving if process.process.is_alive()]
        if not (self.should_exit.is_set() or self._leaving):
            self._go_on_with_restart()

    def _go_on_with_restart(self) -> None:
        """Start a process, or put one that answers in the place of an outdated one.

        It never waits: signals and deaths are looked at meanwhile, also while an outdated process
        finishes its answers.
        """
        # One that has died or been taken away needs no replacement any more.
        self._outdated = [process for process in self._outdated if process in self.processes]
        if self._next is None:
            if self._outdated:
                self._next, self._next_since = self._started(), time.monotonic()
            return
        another = self._next
        is_alive = another.process.is_alive()
        if self._outdated and is_alive and another.has_begun():
            old = self._outdated.pop(0)
            self.processes[self.processes.index(old)] = another
            self._let_go(old)
            _LOG.warning("worker %d takes the place of worker %d", another.pid, old.pid)
        elif self._outdated and is_alive and time.monotonic() - self._next_since < _START_S:
            return
        else:
            another.kill()
            another.join()
            if self._outdated:
                _LOG.error("worker %d does not start: the others stay as they are", another.pid)
            self._outdated.clear()
        self._next = None

    def _replace_the_dead(self) -> None:
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
        cause, told = death_of(process.exitcode)
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
        another = self._started()
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
