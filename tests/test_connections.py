"""Connections that hold on to what they were lent: each is bounded, ended, counted and logged."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import urllib3

from serving import Served, serve
from specserver.auth import TokenBook
from specserver.client.session import Session
from specserver.data.root import open_root
from specserver.errors import Overloaded, UnknownContext
from specserver.server.runtime.connections import FREE_BYTES, Connections
from specserver.settings import Settings

STALL_S, WHOLE_S = 1.0, 3.0
MEMORY = 8 * 2**20
PATH = "bulk/spectra"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "stderr"


@pytest.fixture(scope="module")
def narrow(mock_data: Path, mock_survey: Path, log: Path) -> Iterator[Served]:
    """A service that waits for bodies only briefly, and has little memory for them."""
    settings = {
        "body_stall_timeout_s": STALL_S,
        "body_timeout_s": WHOLE_S,
        "body_memory_bytes": MEMORY,
    }
    with serve(mock_data, mock_survey, settings=settings, log=log) as running:
        yield running


def address(running: Served) -> tuple[str, int]:
    host, port = running.url.split("/")[2].split(":")
    return host, int(port)


def begun(running: Served, path: str, length: int, sent: int, method: str = "POST") -> Any:
    """Return a connection that has sent a part of a body."""
    link = socket.create_connection(address(running), timeout=30)
    head = f"{method} /spec/{path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    link.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
    with suppress(BrokenPipeError, ConnectionResetError):
        link.sendall(b" " * sent)
    return link


def answer_of(link: socket.socket) -> tuple[int, dict[str, str], dict[str, Any]]:
    """Return status, headers and JSON of an answer; the connection may go on."""
    file = link.makefile("rb")
    status = int(file.readline().split()[1])
    lines = iter(lambda: file.readline().strip().decode(), "")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return status, headers, json.loads(file.read(int(headers["content-length"])))


def metric(running: Served, text: str) -> float:
    told = urllib3.request("GET", running.url.replace("/spec", "/metrics"), timeout=30).data
    found = [line.split()[1] for line in told.decode().splitlines() if line.startswith(text)]
    return sum(map(float, found))


def faults(running: Served, kind: str) -> float:
    return metric(running, f'specserver_connection_faults_total{{kind="{kind}"}}')


def wait_until(met: Callable[[], bool], limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not met():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


# --- Bodies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [PATH, "bulk/match", "getSpec", "preview", "bulk/query"])
def test_a_body_that_stalls_is_told_so_and_ended(narrow: Served, path: str) -> None:
    with closing(begun(narrow, path, 100_000, 1000)) as link:
        status, headers, told = answer_of(link)
        assert (status, told["code"]) == (408, "body_too_slow")
        assert "body_stall_timeout_s" in told["message"]
        assert headers["connection"] == "close"
        assert link.recv(10) == b""


def test_a_file_for_virtual_storage_that_stalls_is_not_kept(
    narrow: Served, mock_data: Path
) -> None:
    token = TokenBook(open_root(mock_data)).create("eve", now=datetime.now(UTC))
    with closing(socket.create_connection(address(narrow), timeout=30)) as link:
        head = f"PUT /spec/vos/a.txt HTTP/1.1\r\nHost: x\r\nX-DL-AuthToken: {token}\r\n"
        link.sendall(f"{head}Content-Length: 1000\r\n\r\n".encode() + b" " * 500)
        assert answer_of(link)[2]["code"] == "body_too_slow"
    space = mock_data / "spaces" / "eve"
    wait_until(lambda: [*space.glob("drafts/*"), *space.glob("files/*")] == [])
    (mock_data / "tokens.json").unlink()


@pytest.mark.proof
def test_a_body_that_trickles_is_ended_as_well(narrow: Served, log: Path) -> None:
    with closing(begun(narrow, PATH, 100_000, 10)) as link:
        link.settimeout(0.3)
        began, got = time.monotonic(), b""
        while not got and time.monotonic() < began + 4 * WHOLE_S:
            with suppress(TimeoutError):
                got = link.recv(10_000)
            if not got:
                link.sendall(b" ")
    assert b" 408 " in got
    assert b"body_timeout_s" in got
    assert faults(narrow, "body_timeout") >= 1
    assert "body timeout: 127.0.0.1" in log.read_text()


@pytest.mark.proof
def test_a_body_that_nobody_wants_is_ended_too(narrow: Served) -> None:
    """It is answered at once; what still comes of it must not keep the connection."""
    with closing(begun(narrow, "nowhere", 10**6, 1)) as link:
        began, over = time.monotonic(), False
        assert b" 404 " in link.recv(1000)
        link.settimeout(0.3)
        while not over and time.monotonic() < began + 4 * WHOLE_S:
            try:
                link.sendall(b" ")
                over = link.recv(100) == b""
            except TimeoutError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                over = True
        assert over


def test_stalled_uploads_hold_no_more_memory_than_they_are_given(narrow: Served) -> None:
    """40 of 30 MB held 1.2 GB, for ever."""
    process = psutil.Process(narrow.process.pid)
    before = process.memory_info().rss
    with ExitStack() as links:
        held = [
            links.enter_context(closing(begun(narrow, PATH, 3_000_000, 2_900_000)))
            for _ in range(20)
        ]
        grown = process.memory_info().rss - before
        refused = 0
        with urllib3.PoolManager(retries=False) as pool:
            # A light request is still received.
            body = {"ids": str(narrow.ids[0])}
            assert pool.request("POST", f"{narrow.url}/{PATH}", json=body).status == 200
        for link in held:
            status, headers, told = answer_of(link)
            assert (status, told["code"]) in {(503, "overloaded"), (408, "body_too_slow")}
            if status == 503:
                refused += 1
                assert int(headers["retry-after"]) > 0
    assert refused >= 20 - MEMORY // (2_900_000 - FREE_BYTES) - 1
    assert grown < 4 * MEMORY
    assert faults(narrow, "body_memory") >= refused
    # What they held is given back.
    body = {"ids": "\n".join([str(narrow.ids[0])] * 100_000)}
    answer = urllib3.request("POST", f"{narrow.url}/{PATH}", json=body, preload_content=False)
    assert answer.status == 200
    answer.close()


@pytest.mark.proof
def test_the_client_comes_again_when_there_was_no_memory_for_its_list(narrow: Served) -> None:
    with ExitStack() as links:
        for _ in range(2):
            links.enter_context(closing(begun(narrow, PATH, 3_000_000, 2_900_000)))
        before = faults(narrow, "body_memory")
        body = {"ids": "\n".join([str(narrow.ids[0])] * 200_000), "context": "nowhere"}
        # The answer to a list that was received.
        with pytest.raises(UnknownContext), Session().send("POST", f"{narrow.url}/{PATH}", body):
            pass
    assert faults(narrow, "body_memory") > before


def test_an_upload_that_is_broken_off_is_one_line(narrow: Served, log: Path) -> None:
    before = faults(narrow, "upload_broken_off")
    paths = [PATH, "bulk/match", "getSpec", "stackedImage", "bulk/stack", "bulk/query", "listSpan"]
    for path in paths:
        begun(narrow, path, 300_000, 200_000).close()
    wait_until(lambda: faults(narrow, "upload_broken_off") >= before + len(paths))
    text = log.read_text()
    assert "Traceback" not in text
    assert text.count("upload broken off: 127.0.0.1 went away") in {1, 2}


# --- Connections ----------------------------------------------------------------------------------


@pytest.mark.proof
def test_silent_connections_do_not_use_up_the_handles(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    """More of them than handles ended the service for everybody."""
    narrow = ("prlimit", "--nofile=1024:1024")
    log = tmp_path / "log"
    with (
        serve(mock_data, mock_survey, log=log, before=narrow) as running,
        ExitStack() as links,
    ):
        one = {"ids": str(running.ids[0])}
        for number in range(1500):
            links.enter_context(closing(socket.create_connection(address(running), timeout=30)))
            if number % 100 == 99:
                answer = urllib3.request("POST", f"{running.url}/{PATH}", json=one, timeout=10)
                assert answer.status == 200
        assert faults(running, "ended_for_another") > 500
        assert psutil.Process(running.process.pid).num_fds() < 1024
    text = log.read_text()
    assert text.count("ended for another: ") in range(1, 9)
    assert "Too many open files" not in text


def test_who_asks_for_another_protocol_is_counted_as_well(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    head = b"GET /spec/ping HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    head += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    log = tmp_path / "log"
    with serve(mock_data, mock_survey, settings={"max_connections": 16}, log=log) as running:
        for _ in range(40):
            with socket.create_connection(address(running), timeout=30) as link:
                link.sendall(head)
                assert link.recv(15) == b"HTTP/1.1 200 OK"
        assert faults(running, "refused_connection") == 0
    assert "pgrade" not in log.read_text()


@pytest.mark.proof
def test_the_limit_on_handles_is_raised_at_start(mock_data: Path, mock_survey: Path) -> None:
    with serve(mock_data, mock_survey, before=("prlimit", "--nofile=256:4000")) as running:
        assert psutil.Process(running.process.pid).rlimit(psutil.RLIMIT_NOFILE) == (4000, 4000)


class Link:
    """A connection that only says how it is."""

    def __init__(self, stalled_s: float = 0.0) -> None:
        self.ended, self._stalled_s = False, stalled_s

    def end(self) -> None:
        self.ended = True

    def stalled_s(self) -> float:
        return self._stalled_s


def test_who_is_ended_for_another() -> None:
    told: list[str] = []
    all_ = Connections(Settings(max_connections=16), told.append)
    links = [Link() for _ in range(16)]
    assert all(map(all_.admit, links))
    # The one that has been idle longest …
    all_.busy(links[0])
    assert all_.admit(Link())
    assert [link.ended for link in links] == [False, True] + [False] * 14
    # … also where it became so again.
    all_.idle(links[0])
    assert all_.admit(Link())
    assert links[2].ended
    assert not links[0].ended
    # Where all are busy, the one whose body has stalled longest …
    busy = [Link(stalled_s) for stalled_s in [0, 7, 6, *[0] * 13]]
    all_ = Connections(Settings(max_connections=16), told.append)
    for link in busy:
        all_.admit(link)
        all_.busy(link)
    assert all_.admit(Link())
    assert [link.ended for link in busy].index(True) == 1
    # … and where none has, the new one is refused.
    all_ = Connections(Settings(max_connections=16), told.append)
    for link in [Link(1.0) for _ in range(16)]:
        all_.admit(link)
        all_.busy(link)
    assert not all_.admit(Link())
    assert told == ["ended_for_another"] * 3 + ["refused_connection"]


def test_memory_for_bodies_is_given_and_taken_back() -> None:
    all_ = Connections(Settings(body_memory_bytes=2**20))
    all_.take(2**20)
    with pytest.raises(Overloaded):
        all_.take(1)
    all_.give_back(10)
    all_.take(10)
