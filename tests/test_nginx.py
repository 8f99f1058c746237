"""Two servers behind a real nginx with the configuration that is shipped."""

import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import urllib3

from fronting import (
    SERVER_SETTINGS,
    Cluster,
    Front,
    negotiated_protocol,
    ports_of,
    program,
    run_cluster,
    run_nginx,
)
from serving import Served, free_port, serve
from specserver.auth import TokenBook
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import StoreError

SETTLED_S = 2.5
"""Longer than nginx sends nothing to a server that has failed (`fail_timeout`)."""


@pytest.fixture(scope="module")
def cluster(
    mock_data: Path, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    with run_cluster(mock_data, mock_survey, tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def mortal(mock_data: Path, mock_survey: Path, tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose servers a test may stop."""
    with run_cluster(mock_data, mock_survey, tmp_path / "cluster") as running:
        yield running


def answering(node: Served) -> float:
    """Return how many heavy answers a server has in progress."""
    text = urllib3.request("GET", node.url.replace("/spec", "/metrics")).data.decode()
    found = re.search(r"^specserver_heavy_answers (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.02)


def many(cluster: Cluster) -> dict[str, str]:
    """Return a request whose answer is longer than all buffers on its way hold."""
    return {"ids": "\n".join(map(str, np.tile(cluster.nodes[0].ids, 20).tolist()))}


# --- Streams --------------------------------------------------------------------------------------


def test_an_answer_is_passed_on_as_it_comes(cluster: Cluster) -> None:
    """What the reader has not taken is not taken from the server either."""
    with cluster.front.pool() as pool:
        answer = pool.request(
            "POST", f"{cluster.front.url}/bulk/spectra", json=many(cluster), preload_content=False
        )
        assert answer.status == 200
        pieces = answer.stream(2**16)
        begun = len(next(pieces))
        wait_until(lambda: sum(map(answering, cluster.nodes)) == 1)
        time.sleep(0.5)
        assert sum(map(answering, cluster.nodes)) == 1
        assert begun + sum(map(len, pieces)) > 10 * 2**20
    wait_until(lambda: sum(map(answering, cluster.nodes)) == 0)


def test_an_upload_is_passed_on_as_it_comes(cluster: Cluster) -> None:
    token, half = cluster.token("grace"), b"x" * 2**20
    host, port = "localhost", int(cluster.front.url.rpartition(":")[2].partition("/")[0])
    context = ssl.create_default_context(cafile=str(cluster.front.folder / "fullchain.pem"))
    head = (
        f"PUT /spec/vos/notes.bin HTTP/1.1\r\nHost: {host}\r\nX-DL-AuthToken: {token}\r\n"
        f"Content-Length: {2 * len(half)}\r\nConnection: close\r\n\r\n"
    )
    drafts = cluster.data / "spaces" / "grace" / "drafts"
    with (
        socket.create_connection(("127.0.0.1", port), 30) as plain,
        context.wrap_socket(plain, server_hostname=host) as link,
    ):
        link.sendall(head.encode() + half)
        wait_until(lambda: any(file.read_bytes()[:1] == b"x" for file in drafts.glob("*")))
        link.sendall(half)
        assert link.recv(2**16).startswith(b"HTTP/1.1 201 ")
    client = cluster.client()
    client.set_token(token)
    assert client.vos.get("notes.bin") == 2 * half


def test_files_larger_than_a_body_can_be_stored(cluster: Cluster) -> None:
    """nginx keeps bodies of questions below 64 MiB; files have a limit of their own."""
    client = cluster.client()
    client.set_token(cluster.token("mary"))
    client.vos.put("large.bin", bytes(65 * 2**20))
    assert len(client.vos.get("large.bin")) == 65 * 2**20
    client.vos.rm("large.bin")


def test_tls_and_http_2_are_offered_and_plain_http_leads_there(cluster: Cluster) -> None:
    assert negotiated_protocol(cluster.front) == "h2"
    plain = f"http://127.0.0.1:{cluster.front.plain_port}/spec/ping"
    answer = urllib3.request("GET", plain, redirect=False, headers={"Host": "localhost"})
    assert answer.status == 308
    assert answer.headers["Location"] == "https://localhost/spec/ping"


# --- Refusals -------------------------------------------------------------------------------------


def test_what_is_not_for_the_public_is_not_passed_on(cluster: Cluster) -> None:
    root = cluster.front.url.removesuffix("/spec")
    token = TokenBook(open_root(cluster.data)).create("root", is_admin=True, now=datetime.now(UTC))
    with cluster.front.pool() as pool:
        for path in ("/metrics", "/health/ready", "/health/live", "/"):
            assert pool.request("GET", root + path).status == 404
        headers = {"X-DL-AuthToken": token}
        answer = pool.request("POST", f"{cluster.front.url}/shutdown", headers=headers)
    assert (answer.status, answer.json()["code"]) == (403, "not_allowed")
    assert all(node.process.poll() is None for node in cluster.nodes)


def test_errors_of_nginx_have_the_form_of_the_servers(cluster: Cluster) -> None:
    with cluster.front.pool() as pool:
        large = pool.request("POST", f"{cluster.front.url}/bulk/spectra", body=bytes(2**26 + 1))
    assert (large.status, large.json()["code"]) == (413, "too_much")
    old = raw(cluster.front, b"GET /spec/ping HTTP/1.0\r\n\r\n")
    assert old.startswith(b"HTTP/1.1 505 ")
    assert json.loads(old.partition(b"\r\n\r\n")[2])["code"] == "old_protocol"


@pytest.mark.parametrize(
    ("request_head", "status", "code"),
    [
        (
            b"GET /spec/query?cond=" + b"1" * 2**18 + b" HTTP/1.1\r\nHost: localhost",
            414,
            "too_much",
        ),
        (b"GET /spec/ping HTTP/1.1\r\nHost: localhost\r\nX-Y: " + b"1" * 2**18, 431, "too_much"),
        (b"GET /spec/ping HTTP/1.1\r\nHost: local host", 400, "bad_request"),
        (b"GET /spec/ping HTTP/1.1", 400, "bad_request"),
        (b"GET nowhere HTTP/1.1\r\nHost: localhost", 400, "bad_request"),
        (b"\x16\x03", 400, "bad_request"),
        (b"TRACE /spec/ping HTTP/1.1\r\nHost: localhost", 405, "http_405"),
        (b"POST /spec/query HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: x", 405, "http_405"),
        (b"GET /specserver-errors/414 HTTP/1.1\r\nHost: localhost", 404, "http_404"),
    ],
)
def test_what_nginx_cannot_read_is_refused_in_the_form_of_the_servers(
    cluster: Cluster, request_head: bytes, status: int, code: str
) -> None:
    end = b"\r\nConnection: close\r\n\r\n"
    head, _, body = raw(cluster.front, request_head + end).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nContent-Type: application/json" in head
    assert json.loads(body)["code"] == code


def test_plain_http_where_tls_is_expected_is_told_in_the_form_of_the_servers(
    cluster: Cluster,
) -> None:
    url = cluster.front.url.replace("https:", "http:")
    answer = urllib3.request("GET", f"{url}/ping")
    assert (answer.status, answer.json()["code"]) == (400, "bad_request")
    assert "https://" in answer.json()["message"]


def test_a_long_url_passes_or_is_refused_by_the_servers(cluster: Cluster) -> None:
    """Their parser reads 65,535 bytes of it."""
    asked = {nbytes: f"/spec/ping?x={'1' * (nbytes - 13)}" for nbytes in (65_535, 65_536, 200_000)}
    with cluster.front.pool() as pool:
        for root in (cluster.front.url, cluster.nodes[0].url):
            url = root.removesuffix("/spec")
            assert pool.request("GET", url + asked[65_535]).status == 200
            for nbytes in (65_536, 200_000):
                answer = pool.request("GET", url + asked[nbytes])
                assert (answer.status, answer.json()["code"]) == (414, "too_much")
                assert f"{nbytes:,} bytes of a URL" in answer.json()["message"]
    assert not any("Traceback" in log.read_text() for log in cluster.logs)


def test_errors_of_the_servers_pass_unchanged(cluster: Cluster) -> None:
    with cluster.front.pool() as pool:
        through = pool.request("GET", f"{cluster.front.url}/query?cond=zz+%3E+1")
    direct = urllib3.request("GET", f"{cluster.nodes[0].url}/query?cond=zz+%3E+1")
    assert through.status == direct.status == 400
    assert through.json() == direct.json()


def raw(front: Front, request: bytes) -> bytes:
    """Return all that is answered to the bytes of a request."""
    port = int(front.url.rpartition(":")[2].partition("/")[0])
    context = ssl.create_default_context(cafile=str(front.folder / "fullchain.pem"))
    answer = b""
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as link,
    ):
        link.sendall(request)
        while piece := link.recv(2**16):
            answer += piece
    return answer


def test_the_address_of_a_caller_cannot_be_forged(cluster: Cluster) -> None:
    """It is that of the connection to nginx, whatever headers say."""
    name = "forged-1"
    port = int(cluster.front.url.rpartition(":")[2].partition("/")[0])
    pool = urllib3.HTTPSConnectionPool(
        "127.0.0.1", port, source_address=("127.0.0.9", 0),
        ca_certs=str(cluster.front.folder / "fullchain.pem"),
    )  # fmt: skip
    said = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7", "X-Request-ID": name}
    with pool:
        assert pool.request("GET", "/spec/ping", headers=said).status == 200
    lines: list[str] = []

    def logged() -> bool:
        lines[:] = [line for log in cluster.logs for line in log.read_text().splitlines()]
        lines[:] = [line for line in lines if name in line]
        return bool(lines)

    wait_until(logged)
    (line,) = map(json.loads, lines)
    assert line["client"] == "127.0.0.9"
    own = (cluster.front.folder / "access.log").read_text()
    assert re.search(rf'"request_id":"{name}","client":"127.0.0.9"', own)


# --- Limits of a caller ---------------------------------------------------------------------------


def limited(shipped: str) -> str:
    """Return the configuration with small limits, where nginx is told the address by a header."""
    for before, after in (
        ("rate=200r/s", "rate=2r/s"),
        ("burst=2000", "burst=9"),
        ("rate=1000r/s", "rate=4r/s"),
        ("burst=4000", "burst=29"),
        ("server_tokens ", "set_real_ip_from 127.0.0.1; real_ip_header X-Address; server_tokens "),
    ):
        assert shipped.count(before) == 1
        shipped = shipped.replace(before, after)
    return shipped


@pytest.mark.proof
def test_a_limit_holds_over_both_servers(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "/spec/ping"
    with run_nginx(tmp_path / "nginx", ports_of(*cluster.nodes), limited) as front:
        port = int(front.url.rpartition(":")[2].partition("/")[0])

        def statuses(count: int, *callers: dict[str, str]) -> list[int]:
            with urllib3.HTTPSConnectionPool("localhost", port, ca_certs=certificate) as pool:
                return [
                    pool.request(
                        "GET", url, headers=callers[at % len(callers)], retries=False
                    ).status
                    for at in range(count)
                ]

        certificate = str(front.folder / "fullchain.pem")
        first = statuses(30, {"X-Address": "192.0.2.1"})
        assert first[:10] == [200] * 10, "a burst"
        assert first.count(429) >= 15, "both servers together answer no more"
        assert statuses(1, {"X-Address": "192.0.2.2"}) == [200], "another caller"
        # Of IPv6 the network of 64 bits is one caller.
        near = [{"X-Address": f"2001:db8:0:1::{number}"} for number in range(1, 31)]
        assert statuses(30, *near).count(429) >= 15
        assert statuses(1, {"X-Address": "2001:db8:0:2::1"}) == [200]
        # Tokens at one address are callers of their own, but not without end.
        tokens = [f"specserver.{number:010x}.{'a' * 43}" for number in range(60)]
        given = [{"X-Address": "192.0.2.3", "X-DL-AuthToken": token} for token in tokens]
        refused = statuses(60, *given)
        # The servers say that these are no tokens.
        assert refused[:30].count(429) == 0
        assert refused[30:].count(429) >= 15
        bearer = [{"X-Address": f"192.0.2.{n}", "Authorization": f"Bearer {tokens[0]}"}
                  for n in range(10, 40)]  # fmt: skip
        assert statuses(30, *bearer).count(429) >= 15, "one token from many addresses"
        with front.pool() as pool:
            answers = [
                pool.request("GET", f"{front.url}/ping", headers={"X-Address": "192.0.2.1"})
                for _ in range(20)
            ]
        answer = next(answer for answer in answers if answer.status == 429)
        assert answer.headers["Retry-After"] == "2"
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json()["code"] == "too_often"
        # The client of users waits, and gets its answer.
        monkeypatch.setenv("SSL_CERT_FILE", certificate)
        client = SpecClient(svc_url=front.url)
        number = int(cluster.nodes[0].ids[0])
        assert all(len(client.getSpec(number)) > 1000 for _ in range(14))
        log = (front.folder / "access.log").read_text()
        assert re.search(r'"path":"/spec/bulk/spectra","status":429', log), "it was refused"


def test_tokens_hold_on_both_servers_with_the_next_request(cluster: Cluster) -> None:
    token = cluster.token("ada")
    with cluster.front.pool() as pool:
        headers = {"X-DL-AuthToken": token, "Connection": "close"}

        def statuses() -> set[int]:
            url = f"{cluster.front.url}/vos"
            return {pool.request("GET", url, headers=headers).status for _ in range(8)}

        assert statuses() == {200}
        TokenBook(open_root(cluster.data)).revoke(token)
        assert statuses() == {401}


# --- Servers that end -----------------------------------------------------------------------------


def test_a_killed_server_cuts_its_answers_off_and_no_other(mortal: Cluster) -> None:
    with mortal.front.pool() as pool:
        answer = pool.request(
            "POST", f"{mortal.front.url}/bulk/spectra", json=many(mortal), preload_content=False
        )
        pieces = answer.stream(2**16)
        next(pieces)
        wait_until(lambda: sum(map(answering, mortal.nodes)) == 1)
        (busy,) = (node for node in mortal.nodes if answering(node))
        busy.process.kill()
        with pytest.raises(urllib3.exceptions.ProtocolError):
            for _ in pieces:
                pass
        # Every kind of request is answered at once by the other one.
        for _ in range(6):
            assert pool.request("GET", f"{mortal.front.url}/ping").status == 200
            asked = {"ids": str(mortal.nodes[0].ids[0])}
            answer = pool.request("POST", f"{mortal.front.url}/bulk/spectra", json=asked)
            assert answer.status == 200
    client = mortal.client()
    ids = mortal.nodes[0].ids[:20]
    assert len(client.getSpec(ids)) == 20
    for node in mortal.nodes:
        node.process.kill()
        node.process.wait()
    with mortal.front.pool() as pool:
        answer = pool.request("POST", f"{mortal.front.url}/bulk/spectra", json=asked)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
    assert answer.json()["code"] == "overloaded"


def test_a_client_is_told_that_its_answer_is_cut_off(mortal: Cluster) -> None:
    client, ids = mortal.client(), np.tile(mortal.nodes[0].ids, 20)
    wanted = client.getSpec(ids[:5])

    def kill() -> None:
        wait_until(lambda: any(map(answering, mortal.nodes)))
        next(node for node in mortal.nodes if answering(node)).process.kill()

    with ThreadPoolExecutor(1) as other:
        killing = other.submit(kill)
        with pytest.raises(StoreError, match="cut off"):
            client.getSpec(ids)
        killing.result()
    assert all(
        np.array_equal(one, two) for one, two in zip(client.getSpec(ids[:5]), wanted, strict=True)
    )


@pytest.mark.proof
def test_no_request_fails_while_servers_are_replaced(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    """As an upgrade does it: one is stopped and started after the other."""
    program("nginx")
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())

        def start(port: int) -> ExitStack:
            own = ExitStack()
            own.enter_context(serve(mock_data, mock_survey, settings=SERVER_SETTINGS, port=port))
            return own

        nodes = [stack.enter_context(start(port)) for port in ports]
        front = stack.enter_context(run_nginx(tmp_path / "nginx", ports))
        patch.setenv("SSL_CERT_FILE", str(front.folder / "fullchain.pem"))
        client, ended = SpecClient(svc_url=front.url), threading.Event()
        ids = client.query(constraint="z > 0")

        def ask() -> int:
            asked = 0
            while not ended.is_set():
                asked += 1
                assert len(client.getSpec(ids[: 1 + asked % 40])) == 1 + asked % 40
                assert len(client.query(constraint="z > 0")) == len(ids)
                assert client.isAlive()
            return asked

        with ThreadPoolExecutor(3) as threads:
            asking = [threads.submit(ask) for _ in range(3)]
            try:
                for number, port in enumerate(ports):
                    time.sleep(SETTLED_S)
                    nodes[number].close()
                    nodes[number] = stack.enter_context(start(port))
                time.sleep(SETTLED_S)
            finally:
                ended.set()
            assert min(one.result() for one in asking) > 3
        log = (front.folder / "access.log").read_text()
        assert '"status":200' in log
        assert not re.search(r'"status":5\d\d', log)
