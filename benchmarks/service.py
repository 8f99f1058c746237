"""Processes that answer over HTTP: the service with its normal settings, and a static body."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import psutil
import urllib3

from .static_body import BODY_VARIABLE

ROOT: Final = Path(__file__).parents[1]
_START_S: Final = 60.0
_STOP_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server."""

    url: str
    process: psutil.Process
    """The one that was started; its children answer."""

    @property
    def workers(self) -> list[psutil.Process]:
        """The processes that answer requests."""
        # multiprocessing's resource tracker is a child too, and answers nothing.
        listening = [
            one
            for one in self.process.children(recursive=True)
            if "multiprocessing.resource_tracker" not in " ".join(one.cmdline())
        ]
        return listening or [self.process]

    @property
    def resident_bytes(self) -> int:
        """Resident memory of all its processes; pages that they share count for each."""
        return sum(one.memory_info().rss for one in {self.process, *self.workers})


@contextmanager
def serve_data(data: Path) -> Iterator[Running]:
    """Serve a data folder as a user would: with the command, and none of its settings changed."""
    command = [sys.executable, "-m", "specserver", "serve", "--stop-on-eof", "--data", str(data)]
    with _started(command, {}, "/spec") as running:
        yield running


@contextmanager
def serve_body(body: Path) -> Iterator[Running]:
    """Serve the bytes of a file, by the same HTTP server with as many workers."""
    command = [sys.executable, "-m", f"{__package__}.static_body"]
    with _started(command, {BODY_VARIABLE: str(body)}, "/body") as running:
        yield running


@contextmanager
def _started(command: Sequence[str], settings: Mapping[str, str], path: str) -> Iterator[Running]:
    """Start a server on a free port of the loopback; end it by its own process id."""
    port = _free_port()
    ours = {name: value for name, value in os.environ.items() if not name.startswith("SPECSERVER_")}
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        stdin=subprocess.PIPE,
        env=ours | dict(settings),
        cwd=ROOT,
    )
    url = f"http://127.0.0.1:{port}{path}"
    try:
        _await(process, f"http://127.0.0.1:{port}{path}/ping")
        yield Running(url, psutil.Process(process.pid))
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()


def _await(process: subprocess.Popen[bytes], url: str) -> None:
    """Wait until a server answers."""
    deadline = monotonic() + _START_S
    with urllib3.PoolManager() as pool:
        while monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"a server ended with {process.returncode} before it answered")
            try:
                if pool.request("GET", url, retries=False, timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                sleep(0.1)
    raise RuntimeError(f"no server answered within {_START_S:g} s")


def _free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
