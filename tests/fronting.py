"""A real nginx for tests, with the configuration of `deploy/nginx`, in front of servers."""

import os
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
import urllib3
from benchmarks.nginx import configure, system_program

from serving import Served, serve
from specserver.auth import TokenBook
from specserver.client.api import SpecClient
from specserver.data.root import open_root

SERVER_SETTINGS = {"log_format": "json", "drain_delay_s": 1}


@dataclass(frozen=True)
class Front:
    """A running nginx."""

    url: str
    """Of the service, by https."""
    plain_port: int
    folder: Path
    """Its files: `access.log`, `error.log`, `fullchain.pem`."""
    process: subprocess.Popen[bytes]

    def pool(self) -> urllib3.PoolManager:
        """Return connections that trust its certificate."""
        return urllib3.PoolManager(ca_certs=str(self.folder / "fullchain.pem"), retries=False)


def program(name: str) -> str:
    """Return the path of a system's program; the test skips where it cannot be installed."""
    found = system_program(name)
    if found is None:
        if os.geteuid() == 0:
            pytest.fail(f"no {name}: run scripts/install-system-packages")
        pytest.skip(f"no {name}; as root: scripts/install-system-packages")
    return found


@contextmanager
def run_nginx(
    folder: Path, ports: Sequence[int], change: Callable[[str], str] = str
) -> Iterator[Front]:
    """Run an nginx in front of servers; parameters as of `configure`."""
    binary = program("nginx")
    program("openssl")
    folder.mkdir()
    port, plain = configure(folder, ports, change)
    command = [binary, "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    front = Front(f"https://localhost:{port}/spec", plain, folder, process)
    try:
        _await(front)
        yield front
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(frozen=True)
class Cluster:
    """Two servers of one data folder, and the nginx in front."""

    front: Front
    nodes: tuple[Served, Served]
    logs: tuple[Path, Path]

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.nodes[0].data

    def client(self) -> SpecClient:
        """Return a client of the service."""
        return SpecClient(svc_url=self.front.url)

    def token(self, user: str) -> str:
        """Return a new token of a user."""
        return TokenBook(open_root(self.data)).create(user, now=datetime.now(UTC))


@contextmanager
def run_cluster(data: Path, survey: Path, folder: Path) -> Iterator[Cluster]:
    """Run two servers, and an nginx in front of them whose certificate this process trusts."""
    program("nginx")
    folder.mkdir(parents=True, exist_ok=True)
    logs = (folder / "one.log", folder / "two.log")
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(serve(data, survey, settings=SERVER_SETTINGS, log=log))
            for log in logs
        )
        front = stack.enter_context(run_nginx(folder / "nginx", ports_of(one, two)))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("SSL_CERT_FILE", str(front.folder / "fullchain.pem"))
        yield Cluster(front, (one, two), logs)


def ports_of(*nodes: Served) -> list[int]:
    """Return the ports of servers."""
    return [int(node.url.rpartition(":")[2].partition("/")[0]) for node in nodes]


def negotiated_protocol(front: Front) -> str | None:
    """Return the protocol that nginx chooses from all that browsers offer."""
    context = ssl.create_default_context(cafile=str(front.folder / "fullchain.pem"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    port = int(front.url.rpartition(":")[2].partition("/")[0])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        return secure.selected_alpn_protocol()


def _await(front: Front) -> None:
    """Wait until it answers."""
    deadline = time.monotonic() + 20
    with front.pool() as pool:
        while time.monotonic() < deadline:
            assert front.process.poll() is None, (front.folder / "error.log").read_text()
            try:
                pool.request("GET", f"{front.url}/nowhere", timeout=2)
            except urllib3.exceptions.HTTPError:
                time.sleep(0.05)
            else:
                return
    raise AssertionError("nginx does not answer")
