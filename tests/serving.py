"""A real service for tests: started on loopback, ended by its own process, or with this one."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import urllib3

from forked import COMMAND, FORKING, Forked
from specserver.data.root import open_root
from specserver.errors import NoCatalog
from specserver.service import SpectroscopicService


@dataclass(frozen=True)
class Served:
    """A running service and what it serves."""

    url: str
    folder: Path
    """Original FITS files."""
    data: Path
    ids: npt.NDArray[np.uint64]
    """All identifiers, in catalogue order."""
    process: subprocess.Popen[bytes] | Forked


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(
    data: Path | str,
    folder: Path,
    *,
    workers: int = 1,
    settings: Mapping[str, object] | None = None,
    options: Sequence[str] = (),
    log: Path | None = None,
    before: Sequence[str] = (),
    spawned: bool = True,
    port: int = 0,
) -> Iterator[Served]:
    """Serve a data folder, at a path or an address, in a process of its own.

    ``settings`` are by name; ``options`` go to the command; ``log`` is a file for standard error;
    ``before`` is what the command is an argument of, such as ``prlimit``; ``spawned`` is whether
    several processes are started as they are in operation, which takes some 5 s of a core;
    ``port`` is one that is free, 0: any.
    """
    port = port or free_port()
    words = ["serve", "--stop-on-eof", "--data", str(data), "--port", str(port)]
    words += ["--workers", str(workers), *options]
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    environment |= {f"SPECSERVER_{k.upper()}": str(v) for k, v in (settings or {}).items()}
    process: subprocess.Popen[bytes] | Forked
    with log.open("wb") if log else nullcontext() as stderr:
        if not before and (workers == 1 or not spawned):
            main = COMMAND if workers == 1 else FORKING
            process = Forked(words, env=environment, stderr=stderr, main=main)
        else:
            process = subprocess.Popen(
                [*before, sys.executable, "-m", "specserver", *words],
                stdin=subprocess.PIPE, env=environment, stderr=stderr,
            )  # fmt: skip
    url = f"http://127.0.0.1:{port}/spec"
    try:
        _await(process, url)
        yield Served(url, folder, Path(data), _ids(data), process)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdin:
            process.stdin.close()


def _ids(data: Path | str) -> npt.NDArray[np.uint64]:
    """Return the identifiers of the default catalogue; none when there is only a tree of files."""
    try:
        holding = SpectroscopicService(open_root(data)).archive.open_release("default")
    except NoCatalog:
        return np.empty(0, np.uint64)
    return np.array(holding.catalog.place(np.arange(holding.catalog.count(primary=False))).ids)


def _await(process: subprocess.Popen[bytes] | Forked, url: str) -> None:
    """Wait until the service answers."""
    deadline = time.monotonic() + 60
    with urllib3.PoolManager() as pool:
        while time.monotonic() < deadline:
            assert process.poll() is None, "the service did not start"
            try:
                if pool.request("GET", f"{url}/ping", retries=False, timeout=2).status == 200:
                    return
            except urllib3.exceptions.HTTPError:
                time.sleep(0.05)
    raise AssertionError("the service does not answer")
