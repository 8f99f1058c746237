"""A real nginx with the configuration of `deploy/nginx`, in front of servers on loopback."""

import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from .processes import uninterrupted
from .s3server import free_ports

SHIPPED: Final = Path(__file__).parents[1] / "deploy" / "nginx"
_MAIN: Final = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 512; }}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include specserver.conf;
}}
"""
_SITE: Final = """
listen 127.0.0.1:{port} ssl http2;
server_name localhost;
ssl_certificate {folder}/fullchain.pem;
ssl_certificate_key {folder}/privkey.pem;
access_log {folder}/access.log specserver;
"""
_PLAIN: Final = "listen 127.0.0.1:{plain};\nserver_name localhost;\n"
_START_S: Final = 20.0
_STOP_S: Final = 10.0


def system_program(name: str) -> str | None:
    """Return the path of a system's program, also of one for administrators; None: not there."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def make_certificate(folder: Path) -> None:
    """Make a certificate for this machine's loopback."""
    subprocess.run(
        [system_program("openssl") or "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"],
        check=True, capture_output=True,
    )  # fmt: skip


def configure(
    folder: Path, ports: Sequence[int], change: Callable[[str], str] = str
) -> tuple[int, int]:
    """Write the configuration of an nginx into a folder; return its ports, with TLS and without.

    Parameters
    ----------
    ports : of the servers behind it
    change : changes the text of the shipped configuration
    """
    port, plain = free_ports(2)
    make_certificate(folder)
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder))
    shipped = (SHIPPED / "specserver.conf").read_text("utf-8")
    (folder / "specserver.conf").write_text(change(shipped), "utf-8")
    own = folder / "specserver"
    own.mkdir()
    (own / "site.conf").write_text(_SITE.format(folder=folder, port=port))
    (own / "plain.conf").write_text(_PLAIN.format(plain=plain))
    write_nodes(folder, ports)
    return port, plain


def write_nodes(folder: Path, ports: Sequence[int]) -> None:
    """Write the list of servers, with the options of the shipped one."""
    shipped = (SHIPPED / "specserver" / "nodes.conf").read_text("utf-8")
    lines = re.findall(r"^server \S+( .*\n)", shipped, re.MULTILINE)
    assert len(ports) <= len(lines)
    nodes = [f"server 127.0.0.1:{port}{line}" for port, line in zip(ports, lines, strict=False)]
    (folder / "specserver" / "nodes.conf").write_text("".join(nodes))


class Nginx:
    """An nginx that runs until it is stopped.

    Parameters
    ----------
    folder : new; gets its files: ``access.log``, ``error.log``, ``fullchain.pem``
    ports : of the servers behind it
    """

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        folder.mkdir()
        self.folder = folder
        self._port, _ = configure(folder, ports)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """URL of the service behind it."""
        return f"https://localhost:{self._port}/spec"

    @property
    def certificate(self) -> Path:
        """What its clients have to trust."""
        return self.folder / "fullchain.pem"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        command = [system_program("nginx") or "nginx", "-e", str(self.folder / "error.log")]
        command += ["-c", str(self.folder / "nginx.conf")]
        with uninterrupted():
            self.process = subprocess.Popen(
                command, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, start_new_session=True
            )
        deadline = monotonic() + _START_S
        while True:
            assert self.process.poll() is None, (self.folder / "error.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
            except OSError:
                assert monotonic() < deadline, "nginx does not listen"
                sleep(0.05)
            else:
                return

    def use(self, ports: Sequence[int]) -> None:
        """Send requests to these servers from now on."""
        assert self.process is not None
        write_nodes(self.folder, ports)
        self.process.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        """End it at once."""
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None
