"""Who may come in: the hosts that are asked for, and each caller's share of the service."""

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3

from serving import Served, serve
from specserver.auth import TokenBook
from specserver.client.session import Session
from specserver.data.root import open_root
from specserver.errors import TooOften, UnknownHost
from specserver.server.runtime.request_filter import (
    _MOST_CALLERS,
    Hosts,
    RateLimits,
    RequestFilter,
    caller_address,
)
from specserver.settings import Settings

BURST, HEAVY = 10, 2


@pytest.fixture(scope="module")
def strict(
    mock_data: Path, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, str, Path]]:
    """A service with small shares and names of its own, a token, and the log."""
    log = tmp_path_factory.mktemp("gate") / "log"
    token = TokenBook(open_root(mock_data)).create("ada", now=datetime.now(UTC))
    settings = {"caller_requests_per_s": 0.5, "caller_burst": BURST, "caller_heavy": HEAVY}
    names = ["--allowed-host", "spectra.example.org", "--allowed-host", "*.example.net"]
    with serve(mock_data, mock_survey, settings=settings, options=names, log=log) as running:
        yield running, token, log
    (mock_data / "tokens.json").unlink()


def ask(running: Served, path: str = "ping", **headers: str) -> urllib3.BaseHTTPResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib3.request("GET", f"{running.url}/{path}", headers=named, retries=False, timeout=30)


# --- Hosts ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("spectra.example.org", 200),
        ("SPECTRA.example.org:8080", 200),
        ("a.b.example.net", 200),
        ("127.0.0.1:1", 200),
        ("[::1]:80", 200),
        ("evil.example.com", 400),
        ("spectra.example.org.evil.com", 400),
        ("example.net", 400),
        ("evilexample.net", 400),
        ("", 400),
    ],
)
def test_only_for_own_hosts(strict: tuple[Served, str, Path], host: str, status: int) -> None:
    for path in ("ping", "docs", "nowhere", "contexts"):
        answer = ask(strict[0], path, Host=host)
        assert (answer.status == 400) == (status == 400), (path, answer.data)
        if status == 400:
            assert json.loads(answer.data)["code"] == "unknown_host"
            assert "--allowed-host" in json.loads(answer.data)["message"]


def test_no_host_is_sent_back(served: Served) -> None:
    for path in ("ping/", "contexts/", "vos/", "bulk/spectra/", "docs/", "docs", "/", "nowhere/"):
        answer = ask(served, path, Host="evil.example.com")
        assert answer.status < 300 or answer.status >= 400
        assert "location" not in answer.headers
        assert b"evil.example.com" not in answer.data


def test_names_as_they_are_given() -> None:
    def scope(*hosts: bytes) -> dict[str, Any]:
        return {"headers": [(b"host", host) for host in hosts]}

    assert Settings(allowed_hosts="a.org, *.b.org").allowed_hosts == ("a.org", "*.b.org")
    Hosts(()).check(scope(b"anything"))
    Hosts(("*",)).check(scope(b"anything"))
    for wrong in ((), (b"a.org", b"a.org"), (b"a.org.",), (b"a.org@x",)):
        with pytest.raises(UnknownHost):
            Hosts(("a.org",)).check(scope(*wrong))


def test_who_is_reached_by_others_is_warned(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve(mock_data, mock_survey, options=["--host", "0.0.0.0"], log=log) as running:
        assert ask(running, Host=socket.gethostname()).status == 200
        assert ask(running, Host="localhost").status == 200
        assert ask(running, Host="evil.example.com").status == 400
    assert re.search(r"there is no TLS.*web server with TLS", log.read_text())


# --- rate limits ----------------------------------------------------------------------------------


def test_a_caller_has_a_share_and_no_more(strict: tuple[Served, str, Path]) -> None:
    running, token, _ = strict
    statuses = [ask(running, X_Forwarded_For="198.51.100.7").status for _ in range(BURST + 5)]
    assert statuses[:BURST] == [200] * BURST
    assert statuses[-1] == 429
    answer = ask(running, X_Forwarded_For="198.51.100.7")
    assert (answer.status, json.loads(answer.data)["code"]) == (429, "too_often")
    assert "caller_requests_per_s" in json.loads(answer.data)["message"]
    assert 1 <= int(answer.headers["Retry-After"]) <= 2
    # Others have theirs: another address, this machine, and who has a token at that address.
    assert ask(running, X_Forwarded_For="198.51.100.8").status == 200
    assert all(ask(running).status == 200 for _ in range(3 * BURST))
    shown = {"X_Forwarded_For": "198.51.100.7", "X_DL_AuthToken": token}
    statuses = [ask(running, **shown).status for _ in range(BURST + 5)]
    assert statuses[:BURST] == [200] * BURST
    assert statuses[-1] == 429
    # A user is one caller at all addresses.
    assert ask(running, X_Forwarded_For="198.51.100.9", X_DL_AuthToken=token).status == 429


def test_tokens_that_are_tried_take_from_the_address(strict: tuple[Served, str, Path]) -> None:
    running = strict[0]
    statuses = [
        ask(running, X_Forwarded_For="203.0.113.1", Authorization=f"Bearer specserver.{n:010x}.x")
        .status
        for n in range(BURST + 5)
    ]  # fmt: skip
    assert statuses[-1] == 429


def test_what_a_proxy_hands_on_is_kept_short() -> None:
    async def answered(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope["state"]["whose"])

    asked: list[str] = []
    gate = RequestFilter(answered, Settings(), TokenBook(open_root(Path("nowhere"))))
    scope = {"type": "http", "headers": [], "client": ("x" * 100_000, 1)}
    asyncio.run(gate(scope, None, None))  # type: ignore[arg-type]
    assert asked == ["x" * 64]


def test_only_proxies_that_are_trusted_say_who_asks(mock_data: Path, mock_survey: Path) -> None:
    settings = {"trusted_proxies": "192.0.2.1", "caller_burst": 1, "caller_requests_per_s": 0.1}
    with serve(mock_data, mock_survey, settings=settings) as running:
        # Still this machine.
        assert all(ask(running, X_Forwarded_For="198.51.100.7").status == 200 for _ in range(5))


def test_heavy_requests_of_one_caller_are_bounded(strict: tuple[Served, str, Path]) -> None:
    running = strict[0]
    ids = "\n".join(map(str, running.ids.tolist() * 100))
    body = json.dumps({"ids": ids}).encode()
    host, port = running.url.split("/")[2].split(":")

    def begin(address: str) -> Any:
        link = socket.create_connection((host, int(port)), timeout=30)
        head = "POST /spec/bulk/spectra HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        head += f"Content-Type: application/json\r\nX-Forwarded-For: {address}\r\n"
        link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return link, link.recv(15)

    links, answers = zip(*[begin("198.51.100.20") for _ in range(HEAVY + 1)], strict=True)
    try:
        assert answers == (b"HTTP/1.1 200 OK",) * HEAVY + (b"HTTP/1.1 429 To",)
        other, answer = begin("198.51.100.21")
        other.close()
        assert answer == b"HTTP/1.1 200 OK"
    finally:
        for link in links:
            link.close()


@pytest.mark.proof
def test_the_client_waits_and_comes_again(strict: tuple[Served, str, Path]) -> None:
    running = strict[0]
    session, headers = Session(), {"X-Forwarded-For": "198.51.100.30"}
    for _ in range(BURST + 1):
        assert session.get_text(f"{running.url}/ping", headers=headers).startswith("Hello")


def test_shares_grow_back_and_callers_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("specserver.server.runtime.request_filter.monotonic", lambda: now[0])
    shares = RateLimits(2.0, 4)
    for _ in range(4):
        shares.take("a")
    with pytest.raises(TooOften) as told:
        shares.take("a")
    assert told.value.retry_after_s == 1
    now[0] += 0.5
    shares.take("a")
    with pytest.raises(TooOften):
        shares.take("a")
    for number in range(_MOST_CALLERS + 500):
        shares.take(f"caller {number}")
    assert len(shares) == _MOST_CALLERS
    free = RateLimits(0, 1)
    for _ in range(100):
        free.take("a")


@pytest.mark.parametrize(
    ("host", "caller"),
    [
        ("127.0.0.1", None),
        ("127.8.0.1", None),
        ("::1", None),
        ("::ffff:127.0.0.1", None),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2::5", caller_address("2001:db8:1:2:ffff::")),
        ("unix", "unix"),
    ],
)
def test_what_stands_for_a_caller(host: str, caller: str | None) -> None:
    assert caller_address(host) == caller
    assert caller_address("2001:db8:1:2::") != caller_address("2001:db8:1:3::")
