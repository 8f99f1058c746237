"""Under load: heavy requests share threads, light ones never wait, limits hold, nothing is left."""

import asyncio
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import numpy as np
import psutil
import pytest
import urllib3

from serving import Served, serve
from specserver.client.pools import RETRY
from specserver.errors import Overloaded
from specserver.server.runtime.concurrency import ConcurrencyLimits
from specserver.server.runtime.metrics import Metrics
from specserver.server.runtime.request_log import RequestLog
from specserver.settings import Settings

SEATS, QUEUE, WAIT_S, SEND_S = 2, 2, 1.5, 6.0
LIMITS = {
    "MAX_IDS": "100000",
    "MAX_ROWS": "50",
    "MAX_BODY_BYTES": "4000000",
    "MAX_HEADER_BYTES": "16384",
    "MAX_POLYGON_CORNERS": "10",
    "MAX_IMAGE_PIXELS": "100000",
    "HEAD_TIMEOUT_S": "2",
    "SEND_TIMEOUT_S": str(SEND_S),
    "HEAVY_ANSWERS": str(SEATS),
    "HEAVY_QUEUE": str(QUEUE),
    "HEAVY_WAIT_S": str(WAIT_S),
}


@pytest.fixture(scope="module")
def narrow(mock_data: Path, mock_survey: Path) -> Iterator[Served]:
    """A service with narrow limits, in one process."""
    with ExitStack() as stack:
        # The settings are those of this service alone, and not of others that start meanwhile.
        with pytest.MonkeyPatch.context() as patch:
            for name, value in LIMITS.items():
                patch.setenv(f"SPECSERVER_{name}", value)
            running = stack.enter_context(serve(mock_data, mock_survey))
        yield running


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(retries=False, timeout=60) as pool:
        yield pool


def many(running: Served, times: int) -> str:
    return "\n".join(map(str, np.tile(running.ids, times).tolist()))


def address(running: Served) -> tuple[str, int]:
    host, port = running.url.split("/")[2].split(":")
    return host, int(port)


def slow_reader(running: Served, ids: str) -> socket.socket:
    """Ask for spectra, and read nothing."""
    link = socket.socket()
    link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    link.connect(address(running))
    body = json.dumps({"ids": ids}).encode()
    head = "POST /spec/bulk/spectra HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return link


def metric(running: Served, name: str, **labels: str) -> float:
    """Return the sum of a metric over the labels that are not given."""
    text = urllib3.request("GET", running.url.replace("/spec", "/metrics"), timeout=30).data
    found = re.findall(rf"^{name}(?:{{(.*)}})? (\S+)$", text.decode(), re.MULTILINE)
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(float(value) for given, value in found if all(one in given for one in wanted))


def wait_until(met: Any, limit_s: float = 20.0) -> None:
    deadline = time.monotonic() + limit_s
    while not met():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


# --- Limits ---------------------------------------------------------------------------------------

CORNERS = [[ra, 0.0] for ra in range(6)] + [[ra, 1.0] for ra in range(5, -1, -1)]


@pytest.mark.parametrize(
    ("path", "body", "limit", "setting"),
    [
        ("bulk/spectra", {"ids": "IDS"}, "100,000", "max_ids"),
        ("bulk/files", {"ids": "IDS"}, "100,000", "max_ids"),
        ("plotGrid", {"id_list": "IDS", "nx": 2}, "100,000", "max_ids"),
        ("bulk/query", {"polygon": CORNERS}, "10", "max_polygon_corners"),
        ("bulk/query", {}, "50", "max_rows"),
        ("bulk/query", {"fields": ["z", "ra"], "constraint": "z > -1"}, "50", "max_rows"),
        ("stackedImage", {"id_list": "FEW", "width": 1000, "height": 1000}, "100,000",
         "max_image_pixels"),
        ("bulk/spectra", {"ids": "1" * 5_000_000}, "4,000,000", "max_body_bytes"),
    ],
)  # fmt: skip
def test_what_is_too_much_is_refused_with_limit_and_setting(
    narrow: Served, pool: urllib3.PoolManager, path: str, body: Any, limit: str, setting: str
) -> None:
    lists = {"IDS": many(narrow, 100_001 // len(narrow.ids) + 1), "FEW": str(narrow.ids[0])}
    body = {k: lists.get(v, v) if isinstance(v, str) else v for k, v in body.items()}
    answer = pool.request("POST", f"{narrow.url}/{path}", json=body)
    told = json.loads(answer.data)
    assert (answer.status, told["code"]) == (413, "too_much")
    assert f"the limit is {limit} " in told["message"]
    assert setting in told["message"]


def test_rows_within_the_limit_are_answered(narrow: Served, pool: urllib3.PoolManager) -> None:
    fields = {"fields": ["z"], "constraint": "z > -1 limit 50"}
    assert pool.request("POST", f"{narrow.url}/bulk/query", json=fields).status == 200


def test_headers_beyond_the_limit_are_refused(narrow: Served) -> None:
    with socket.create_connection(address(narrow), timeout=30) as link:
        link.sendall(b"GET /spec/ping HTTP/1.1\r\nHost: x\r\n")
        for number in range(16):
            link.sendall(b"X-%d: %s\r\n" % (number, b"y" * 1010))
            time.sleep(0.01)
        link.sendall(b"X-more: %s" % (b"y" * 500))
        answer = link.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 431 ")
    told = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert told["code"] == "too_much"
    assert "16,384" in told["message"]
    assert "max_header_bytes" in told["message"]


@pytest.mark.proof
@pytest.mark.parametrize("begin", [b"", b"GET /spec/ping HTTP/1.1\r\nHost:"])
def test_a_connection_that_asks_nothing_is_ended(narrow: Served, begin: bytes) -> None:
    with socket.create_connection(address(narrow), timeout=30) as link:
        link.sendall(begin)
        began = time.monotonic()
        with suppress(ConnectionResetError):
            assert link.recv(100) == b""
        assert 1.0 < time.monotonic() - began < 20


def test_an_answer_that_does_not_begin_in_time_is_told_so() -> None:
    async def hanging(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def ask() -> httpx.Response:
        watched = RequestLog(hanging, Metrics(), 0.2, lambda: False)
        transport = httpx.ASGITransport(watched)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            return await client.get("/")

    answer = asyncio.run(ask())
    assert (answer.status_code, answer.json()["code"]) == (504, "too_slow")
    assert "first_byte_timeout_s" in answer.json()["message"]
    assert "retry-after" not in answer.headers


# --- ConcurrencyLimits ---------------------------------------------------------------------------


@pytest.mark.proof
def test_heavy_requests_are_bounded_and_light_ones_do_not_wait(
    narrow: Served, pool: urllib3.PoolManager
) -> None:
    ids, few = many(narrow, 20), "\n".join(map(str, narrow.ids[:20].tolist()))
    one = {"ids": str(narrow.ids[0])}
    readers = [slow_reader(narrow, ids) for _ in range(SEATS)]
    wait_until(lambda: metric(narrow, "specserver_heavy_answers") == SEATS)

    def ask(_: int) -> tuple[int, float, str | None]:
        began = time.monotonic()
        answer = pool.request("POST", f"{narrow.url}/bulk/spectra", json={"ids": few})
        return answer.status, time.monotonic() - began, answer.headers.get("Retry-After")

    with ThreadPoolExecutor(8) as threads:
        asked = threads.map(ask, range(QUEUE + 3))
        wait_until(lambda: metric(narrow, "specserver_heavy_waiting") == QUEUE)
        for _ in range(20):
            assert pool.request("GET", f"{narrow.url}/ping").status == 200
            answer = pool.request("POST", f"{narrow.url}/bulk/spectra", json=one)
            assert answer.status == 200
        statuses, waits, headers = zip(*asked, strict=True)
    assert statuses == (503,) * (QUEUE + 3)
    assert all(header is not None and int(header) > 0 for header in headers)
    assert sum(wait > WAIT_S * 0.9 for wait in waits) == QUEUE
    assert metric(narrow, "specserver_refused_total") == QUEUE + 3
    for reader in readers:
        reader.close()
    wait_until(lambda: metric(narrow, "specserver_heavy_answers") == 0)
    assert ask(0)[0] == 200


@pytest.mark.proof
def test_a_reader_that_stands_still_is_cut_off(narrow: Served) -> None:
    before = metric(narrow, "specserver_answers_broken_off_total")
    with closing(slow_reader(narrow, many(narrow, 20))) as link:
        wait_until(lambda: metric(narrow, "specserver_heavy_answers") == 1)
        wait_until(lambda: metric(narrow, "specserver_heavy_answers") == 0, SEND_S + 20)
        link.settimeout(10)
        got = b""
        with suppress(ConnectionResetError):
            while piece := link.recv(2**20):
                got += piece
        assert got.startswith(b"HTTP/1.1 200 ")
        assert not got.endswith(b"0\r\n\r\n")  # the mark by which a whole answer is known
    assert metric(narrow, "specserver_answers_broken_off_total") == before + 1


def test_who_waits_takes_the_place_of_who_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> list[str]:
        told: list[str] = []
        limits = ConcurrencyLimits(Settings(heavy_answers=2, heavy_wait_s=5), Metrics())
        ended = asyncio.Event()

        def give_up() -> None:
            told.append("still")
            ended.set()

        async def stand_still() -> None:
            async with limits.answer_slot(give_up) as slot:
                slot.sending_since = asyncio.get_running_loop().time() - 10
                await ended.wait()

        async def work() -> None:
            async with limits.answer_slot(lambda: told.append("working")) as slot:
                slot.sending_since = asyncio.get_running_loop().time()
                await ended.wait()

        seated = [asyncio.create_task(stand_still()), asyncio.create_task(work())]
        await asyncio.sleep(0)
        async with asyncio.timeout(4), limits.answer_slot(lambda: told.append("last")):
            told.append("seated")
        await asyncio.gather(*seated)
        return told

    assert asyncio.run(scene()) == ["still", "seated"]


def test_a_place_in_the_queue_is_given_back_by_who_leaves_it() -> None:
    async def scene() -> None:
        limits = ConcurrencyLimits(
            Settings(heavy_answers=1, heavy_queue=1, heavy_wait_s=30), Metrics()
        )

        async def sit() -> None:
            async with limits.answer_slot(lambda: None):
                await asyncio.sleep(60)

        seated, waiting = asyncio.create_task(sit()), asyncio.create_task(sit())
        await asyncio.sleep(0.05)
        with pytest.raises(Overloaded, match="try again"):
            async with limits.answer_slot(lambda: None):
                pass
        waiting.cancel()
        await asyncio.sleep(0.05)
        waiting = asyncio.create_task(sit())
        await asyncio.sleep(0.05)
        seated.cancel()
        await asyncio.sleep(0.05)
        waiting.cancel()
        await asyncio.gather(seated, waiting, return_exceptions=True)
        async with asyncio.timeout(1), limits.answer_slot(lambda: None):
            pass

    asyncio.run(scene())


def test_the_client_comes_again_a_little_later_than_told() -> None:
    told = urllib3.HTTPResponse(status=503, headers={"Retry-After": "2"})
    waits = [RETRY.get_retry_after(told) for _ in range(50)]
    assert all(wait is not None and 2.0 <= wait <= 3.0 for wait in waits)
    assert len(set(waits)) > 10
    assert RETRY.get_retry_after(urllib3.HTTPResponse(status=503)) is None


# --- Clients that go away -------------------------------------------------------------------------

KILLED = """
import sys, time, urllib3
url, kind = sys.argv[1:]
body = sys.stdin.buffer.read()
answer = urllib3.request("POST", url, body=body, headers={"Content-Type": kind},
                         preload_content=False, timeout=60)
answer.read(1000)
time.sleep(1000)
"""
JSON, FORM = "application/json", "application/x-www-form-urlencoded"


def body_of(path: str, ids: str) -> tuple[bytes, str]:
    """Return the body of a request for spectra, and its kind."""
    if path == "getSpec":
        return urlencode({"id_list": ids}).encode(), FORM
    more = {"fits": "rebuilt"} if path == "bulk/files" else {}
    return json.dumps({"ids" if "bulk" in path else "id_list": ids} | more).encode(), JSON


@pytest.mark.proof
@pytest.mark.parametrize("path", ["bulk/spectra", "bulk/files", "stackedImage", "getSpec"])
def test_clients_killed_in_the_middle_leave_nothing_behind(
    served: Served, pool: urllib3.PoolManager, path: str
) -> None:
    process = psutil.Process(served.process.pid)
    few = "\n".join(map(str, served.ids[:20].tolist()))  # a tenth of a second for each rebuilt file
    body, kind = body_of(path, few)
    headers = {"Content-Type": kind}
    assert pool.request("POST", f"{served.url}/{path}", body=body, headers=headers).status == 200
    pool.clear()
    wait_until(lambda: metric(served, "specserver_heavy_answers") == 0)
    time.sleep(0.2)
    threads, handles = process.num_threads(), process.num_fds()
    body, kind = body_of(path, many(served, 100))
    clients = []
    for _ in range(4):
        command = [sys.executable, "-c", KILLED, f"{served.url}/{path}", kind]
        client = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert client.stdin is not None
        client.stdin.write(body)
        client.stdin.close()
        clients.append(client)
    wait_until(lambda: metric(served, "specserver_heavy_answers") == 4)
    time.sleep(0.5)
    for client in clients:
        client.send_signal(signal.SIGKILL)
        client.wait()
    wait_until(lambda: metric(served, "specserver_heavy_answers") == 0)
    wait_until(lambda: process.num_fds() <= handles)
    assert process.num_threads() <= threads + 4  # threads that wait for work are kept for some time
    used = sum(process.cpu_times()[:2])
    time.sleep(1.0)
    assert sum(process.cpu_times()[:2]) - used < 0.3
    assert metric(served, "specserver_heavy_waiting") == 0


@contextmanager
def in_this_process(settings: Settings) -> Iterator[tuple[int, asyncio.AbstractEventLoop]]:
    """Serve in a thread; yield the port and the event loop."""
    import uvicorn

    from specserver.server.app import create_app
    from specserver.server.runtime.connection import BoundedConnection

    config = uvicorn.Config(
        create_app(settings), port=0, http=BoundedConnection, log_config=None, access_log=False
    )
    server = uvicorn.Server(config)
    loops: list[asyncio.AbstractEventLoop] = []

    async def run() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: asyncio.run(run()))
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1], loops[0]
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def test_no_task_is_left_of_clients_that_went_away(mock_data: Path, served: Served) -> None:
    with in_this_process(Settings(data=mock_data)) as (port, loop):
        here = Served(f"http://127.0.0.1:{port}/spec", served.folder, mock_data, served.ids,
                      served.process)  # fmt: skip
        usual = len(asyncio.all_tasks(loop))
        with ExitStack() as readers:
            for _ in range(5):
                readers.enter_context(closing(slow_reader(here, many(served, 30))))
            # Of each its request, and an ear for its going away.
            wait_until(lambda: len(asyncio.all_tasks(loop)) >= usual + 10)
        wait_until(lambda: len(asyncio.all_tasks(loop)) <= usual)


def test_settings_of_an_application_are_those_of_its_connections(mock_data: Path) -> None:
    settings = Settings(data=mock_data, max_header_bytes=8192)
    with (
        in_this_process(settings) as (port, _),
        closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as link,
    ):
        link.sendall(b"GET /spec/ping HTTP/1.1\r\nHost: x\r\nX-long: " + b"y" * 9000)
        answer = link.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 431 ")
    assert b"8,192" in answer


def test_no_thread_keeps_the_interpreters_lock_for_long(
    mock_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("specserver.service.SpectroscopicService.warm_up", lambda _: None)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        with in_this_process(Settings(data=mock_data)):
            assert sys.getswitchinterval() == pytest.approx(0.001)
    finally:
        sys.setswitchinterval(usual)


# --- Under load -----------------------------------------------------------------------------------


@pytest.mark.proof
def test_mixed_requests_of_many_clients_meet_no_error_but_503(served: Served) -> None:
    own, few = many(served, 1), "\n".join(map(str, served.ids[:9].tolist()))
    requests: list[tuple[str, str, Any]] = [
        ("GET", "ping", None),
        ("POST", "bulk/spectra", {"ids": str(served.ids[0])}),
        ("POST", "bulk/spectra", {"ids": own}),
        ("POST", "bulk/query", {"cone": [180, 0, 5], "fields": ["z"], "constraint": "z > 0"}),
        ("POST", "preview", {"id_list": str(served.ids[1])}),
        ("POST", "plotGrid", {"id_list": few, "nx": 3}),
    ]
    statuses: set[int] = set()

    def work(first: int) -> None:
        with urllib3.PoolManager(retries=False, timeout=60) as pool:
            for number in range(first, first + 3):
                method, path, body = requests[number % len(requests)]
                answer = pool.request(method, f"{served.url}/{path}", json=body)
                statuses.add(answer.status)

    with ThreadPoolExecutor(24) as threads:
        list(threads.map(work, range(24)))
    assert 200 in statuses
    assert statuses <= {200, 503}
    wait_until(lambda: metric(served, "specserver_heavy_answers") == 0)
