"""The client goes through the proxy that the environment names, and never to loopback."""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import urllib3

from serving import Served
from specserver.client.api import SpecClient
from specserver.client.pools import proxy_for
from specserver.errors import BadParameter, Unreachable

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@dataclass
class Proxy:
    """A proxy on loopback that knows one host name, and what it was asked."""

    address: str = ""
    seen: list[str] = field(default_factory=list)
    """Method and target of each request."""
    secrets: list[str | None] = field(default_factory=list)


@contextmanager
def run_proxy(target: str) -> Iterator[Proxy]:
    """Run a proxy that hands requests for any host to a service."""
    known = Proxy()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            known.seen.append(f"{self.command} {self.path}")
            known.secrets.append(self.headers.get("Proxy-Authorization"))
            asked = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            url = f"{target}{asked.path}" + (f"?{asked.query}" if asked.query else "")
            kept = {"content-type", "x-dl-authtoken"}
            headers = {name: value for name, value in self.headers.items() if name.lower() in kept}
            with urllib3.PoolManager() as pool:
                answer = pool.request(self.command, url, body=body or None, headers=headers)
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
            self.send_header("Content-Length", str(len(answer.data)))
            self.end_headers()
            self.wfile.write(answer.data)

        do_POST = do_GET  # noqa: N815  # the name that http.server looks for

        def do_CONNECT(self) -> None:
            known.seen.append(f"CONNECT {self.path}")
            self.send_error(403, "no tunnels here")

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        known.address = f"127.0.0.1:{server.server_address[1]}"
        try:
            yield known
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def proxy(served: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """A proxy in front of the service, which no variable names yet."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    parts = urlsplit(served.url)
    with run_proxy(f"{parts.scheme}://{parts.netloc}") as running:
        yield running


def test_the_proxy_of_the_environment_is_used(
    proxy: Proxy, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host name is known to the proxy only, so no answer could come by another way."""
    monkeypatch.setenv("HTTP_PROXY", f"http://ada:se%20cret@{proxy.address}")
    client = SpecClient(svc_url="http://spectra.invalid/spec")
    number = int(served.ids[0])
    assert client.isAlive()
    assert len(client.getSpec(number)) > 1000
    assert all("http://spectra.invalid/spec" in one for one in proxy.seen)
    wanted = f"Basic {base64.b64encode(b'ada:se cret').decode()}"
    assert set(proxy.secrets) == {wanted}


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy", "ALL_PROXY"])
def test_all_usual_names_of_the_variable(
    name: str, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, proxy.address)  # without a scheme, as curl takes it
    assert SpecClient(svc_url="http://spectra.invalid/spec").isAlive()
    assert proxy.seen


def test_https_goes_through_a_tunnel_and_a_refusal_names_the_proxy(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://ada:secret@{proxy.address}")
    client = SpecClient(svc_url="https://spectra.invalid/spec")
    with pytest.raises(Unreachable, match=f"through the proxy http://{proxy.address}") as caught:
        client.list_contexts()
    assert "secret" not in str(caught.value)
    assert proxy.seen[0] == "CONNECT spectra.invalid:443"


def test_loopback_is_reached_directly(
    proxy: Proxy, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    assert SpecClient(svc_url=served.url).isAlive()
    assert SpecClient(svc_url=served.url.replace("127.0.0.1", "localhost")).isAlive()
    assert proxy.seen == []


def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert proxy_for("http://archive.example.org/spec") == ""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy:3128")
    assert proxy_for("http://archive.example.org/spec") == "http://proxy:3128"
    assert proxy_for("https://archive.example.org/spec") == ""
    for listed in ("archive.example.org", ".example.org", "other, example.org", "*"):
        monkeypatch.setenv("NO_PROXY", listed)
        assert proxy_for("http://archive.example.org:8080/spec") == ""
    monkeypatch.setenv("NO_PROXY", "ample.org")
    assert proxy_for("http://archive.example.org/spec") == "http://proxy:3128"
    for host in ("127.0.0.1", "127.8.9.1", "[::1]", "localhost", "a.localhost"):
        assert proxy_for(f"http://{host}:6998/spec") == ""


def test_a_kind_of_proxy_that_is_not_supported_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "socks5://ada:secret@proxy:1080")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(BadParameter, match=r"socks5://proxy:1080.*http or https") as caught:
        SpecClient(svc_url="http://spectra.invalid/spec").list_contexts()
    assert "secret" not in str(caught.value)
