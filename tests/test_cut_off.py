"""An answer that breaks off is seen by every client: ours, the command line, and HTTP/1.0."""

import io
import json
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import psutil
import pytest
import urllib3

from commands import command
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.errors import StoreError

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


class Relay:
    """Stands between a client and a service, and cuts the answers of one endpoint off."""

    def __init__(self, running: Served) -> None:
        host, port = running.url.split("/")[2].split(":")
        self._upstream = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/spec"
        self._path, self._left = b"", 10**12
        self.nbytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, path: str, nbytes: int) -> None:
        """Let so many bytes of the answers of an endpoint pass."""
        self._path, self._left, self.nbytes = f"/spec/{path}".encode(), nbytes, 0

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        far = socket.create_connection(self._upstream)
        counted = threading.Event()

        def up() -> None:
            with suppress(OSError):
                while data := near.recv(2**16):
                    if data[:5] in {b"POST ", b"GET /"}:
                        known = data.split(b" ", 2)[1].split(b"?")[0] == self._path
                        (counted.set if known else counted.clear)()
                    far.sendall(data)
            with suppress(OSError):
                far.shutdown(socket.SHUT_RDWR)

        threading.Thread(target=up, daemon=True).start()
        with closing(near), closing(far), suppress(OSError):
            while data := far.recv(2**16):
                left = len(data)
                if counted.is_set():
                    # Counted before they are sent: the client may ask again before `sendall` ends.
                    left, self._left = self._left, self._left - len(data)
                    self.nbytes += len(data)
                near.sendall(data[: max(left, 0)])
                if left < len(data):
                    break
            with suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)
                far.shutdown(socket.SHUT_RDWR)


@pytest.fixture(scope="module")
def relay(served: Served) -> Iterator[Relay]:
    with closing(Relay(served)) as relay:
        yield relay


Ids = list[int]
CALLS: dict[str, tuple[str, Callable[[SpecClient, Ids], Any]]] = {
    "getSpec": ("bulk/spectra", lambda client, ids: client.getSpec(ids)),
    "align": ("bulk/spectra", lambda client, ids: client.getSpec(ids, align=True)),
    "one": ("bulk/spectra", lambda client, ids: client.getSpec(ids[0])),
    "FITS": ("bulk/files", lambda client, ids: client.getSpec(ids, fmt="FITS")),
    "query": ("bulk/query", lambda client, _: client.query(
        constraint="z > -1", fields="specobjid,ra,dec,z")),
    "match": ("bulk/match", lambda client, _: client.match(
        (np.linspace(0, 359, 500), np.zeros(500)))),
    "stack": ("bulk/stack", lambda client, ids: client.stack(ids)),
    "preview": ("preview", lambda client, ids: client.preview(ids[0])),
    "grid": ("plotGrid", lambda client, ids: client.plotGrid(ids[:4], 2, 2)),
    "contexts": ("contexts", lambda client, _: client.list_contexts(fmt="json")),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_the_client_sees_that_an_answer_was_cut_off(
    served: Served, relay: Relay, name: str
) -> None:
    path, call = CALLS[name]
    ids = served.ids[:60].tolist()
    client = SpecClient(svc_url=relay.url)
    relay.cut(path, 10**12)
    assert call(client, ids) is not None
    whole = relay.nbytes
    # Shares of the whole; at last all but the end mark of a chunked body.
    for nbytes in (whole // 3, whole * 2 // 3, whole - 20, whole - 5):
        relay.cut(path, nbytes)
        with pytest.raises(StoreError, match="cut off"):
            call(SpecClient(svc_url=relay.url), ids)
    relay.cut("", 10**12)
    assert call(client, ids) is not None


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("bulk/query", ["query", "--where", "z > -1", "--out", "x.csv"]),
        ("bulk/spectra", ["get", "--out", "."]),
    ],
)
def test_the_command_line_ends_with_an_error_and_leaves_no_cut_file(
    served: Served, relay: Relay, path: str, words: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    ids = [str(one) for one in served.ids[:60]] if words[0] == "get" else []
    relay.cut(path, 10**12)
    command(*words[:1], *ids, *words[1:], "--url", relay.url)
    whole = {file.name: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    assert whole
    for file in tmp_path.rglob("*"):
        file.unlink()
    relay.cut(path, relay.nbytes // 2)
    told = command(*words[:1], *ids, *words[1:], "--url", relay.url, code=1)
    assert "cut off" in told
    for file in tmp_path.rglob("*"):
        assert file.read_bytes() == whole[file.name]


@pytest.mark.proof
def test_a_worker_that_is_killed_in_the_middle_is_seen(mock_data: Path, mock_survey: Path) -> None:
    with serve(mock_data, mock_survey, workers=2, spawned=False) as running:
        ids = "\n".join(map(str, np.tile(running.ids, 20).tolist()))
        for path, body, kind in [
            ("bulk/spectra", json.dumps({"ids": ids}), JSON),
            ("getSpec", urlencode({"id_list": ids}), FORM),
            ("getSpec", urlencode({"id_list": ids, "align": "true"}), FORM),
        ]:
            answer = urllib3.request(
                "POST", f"{running.url}/{path}", body=body, headers={"Content-Type": kind},
                preload_content=False, retries=5, timeout=60,
            )  # fmt: skip
            assert answer.status == 200
            answer.read(1000)
            kill_who_answers(running)
            with pytest.raises(urllib3.exceptions.ProtocolError):
                shutil.copyfileobj(answer, io.BytesIO())


def kill_who_answers(running: Served) -> None:
    """Kill the process that has a connection."""
    for child in psutil.Process(running.process.pid).children():
        with suppress(psutil.ZombieProcess, psutil.NoSuchProcess):
            if any(one.status == "ESTABLISHED" for one in child.net_connections("tcp")):
                child.kill()


# --- HTTP/1.0 -------------------------------------------------------------------------------------


def by_http_1_0(running: Served, method: str, path: str, body: bytes, kind: str) -> bytes:
    """Return all that comes, as a client of HTTP/1.0 reads it."""
    host, port = running.url.split("/")[2].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as link:
        head = f"{method} /spec/{path} HTTP/1.0\r\nContent-Type: {kind}\r\n"
        link.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return link.makefile("rb").read()


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("getSpec", {"id_list": "IDS"}),
        ("getSpec", {"id_list": "IDS", "format": "FITS"}),
        ("query?cond=" + quote("z > 0"), None),
        ("bulk/spectra", {"ids": "IDS"}),
        ("bulk/files", {"ids": "IDS"}),
        ("bulk/query", {"constraint": "z > 0"}),
        ("bulk/stack", {"ids": "IDS"}),
        ("stackedImage", {"id_list": "IDS"}),
    ],
)
def test_http_1_0_is_refused_where_the_length_is_not_known(
    served: Served, path: str, form: dict[str, str] | None
) -> None:
    ids = ",".join(map(str, served.ids[:40].tolist()))
    given = {k: ids if v == "IDS" else v for k, v in (form or {}).items()}
    kind = JSON if "bulk" in path else FORM
    body = json.dumps(given).encode() if kind == JSON else urlencode(given).encode()
    got = by_http_1_0(served, "POST" if form else "GET", path, body if form else b"", kind)
    head, _, said = got.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    if b" 505 " in head:
        told = json.loads(said)
        assert told["code"] == "old_protocol"
        assert "HTTP/1.1" in told["message"]
    else:
        assert b" 200 " in head
        assert b"content-length: %d" % len(said) in head.lower()


def test_http_1_0_is_answered_where_the_length_is_known(served: Served) -> None:
    one = urlencode({"id_list": str(served.ids[0])}).encode()
    many = ",".join(map(str, served.ids[:40].tolist()))
    aligned = urlencode({"id_list": many, "align": "true"}).encode()
    for method, path, body in [("GET", "ping", b""), ("POST", "getSpec", one),
                               ("POST", "getSpec", aligned)]:  # fmt: skip
        got = by_http_1_0(served, method, path, body, FORM)
        head, _, said = got.partition(b"\r\n\r\n")
        assert b" 200 " in head
        assert b"content-length: %d" % len(said) in head.lower()
