"""A proxy before the S3 server of the tests that answers as bad, busy or late servers do."""

import http.client
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from typing_extensions import override

_DROPPED = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Faults:
    """What the proxy does to requests."""

    busy: int = 0
    """So many requests are answered with 503 before they reach the server."""
    lost: int = 0
    """So many puts reach the server, and their answers are lost."""
    short: int = 0
    """So many ranges are answered with half of the bytes that the answer states."""
    refused: bool = False
    """Requests are answered with 403, as if the keys had expired."""
    delay_s: float = 0.0
    no_conditions: bool = False
    """A put whose condition is not met is answered as if it were done."""
    no_suffix: bool = False
    """A range from the end is answered with other bytes."""
    old_lists: bool = False
    """Lists are answered as they were before."""
    lists: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    nrequest: int = 0

    def take(self, name: str) -> bool:
        """Return whether a fault is due, and count it."""
        with self.lock:
            left: int = getattr(self, name)
            setattr(self, name, max(left - 1, 0))
            return left > 0


class _Proxy(BaseHTTPRequestHandler):
    """Hands a request on."""

    protocol_version = "HTTP/1.1"
    faults: Faults
    server_at: str

    def handle_any(self) -> None:
        faults = self.faults
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults.nrequest += 1
        time.sleep(faults.delay_s)
        if faults.take("busy"):
            return self._answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
        if faults.refused:
            return self._answer(403, [], b"<Error><Code>ExpiredToken</Code></Error>")
        headers = dict(self.headers.items())
        is_list = self.command == "GET" and "list-type" in self.path
        if is_list and faults.old_lists and self.path in faults.lists:
            return self._answer(*faults.lists[self.path])
        link = http.client.HTTPConnection(self.server_at, timeout=60)
        try:
            link.request(self.command, self.path, body, headers)
            answer = link.getresponse()
            content = answer.read()
        finally:
            link.close()
        kept = [(k, v) for k, v in answer.getheaders() if k.lower() not in _DROPPED]
        if self.command == "HEAD":
            kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
        if is_list and not faults.old_lists:
            faults.lists[self.path] = answer.status, kept, content
        status = answer.status
        if faults.no_conditions and self.command == "PUT" and status == 412:
            status, content = 200, b""
            kept = [("ETag", '"0123456789abcdef0123456789abcdef"')]
        if faults.no_suffix and headers.get("range", "").startswith("bytes=-"):
            content = content[::-1]
        if status == 206 and faults.take("short"):
            content = content[: len(content) // 2]
        if self.command == "PUT" and answer.status == 200 and faults.take("lost"):
            self.close_connection = True
            return None
        return self._answer(status, kept, content)

    do_GET = do_PUT = do_HEAD = do_DELETE = do_POST = handle_any  # noqa: N815  # names of http.server

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    @override
    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def faulty_store(endpoint: str) -> Iterator[tuple[str, Faults]]:
    """Run a proxy before a server; yield its URL, and the faults, which can be changed."""
    faults = Faults()
    about = {"faults": faults, "server_at": urlsplit(endpoint).netloc}
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), about)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", faults
        finally:
            server.shutdown()
            thread.join()
