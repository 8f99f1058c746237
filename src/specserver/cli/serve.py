"""The command that serves."""

import atexit
import errno
import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from ..errors import ServiceError
from .console import ERROR, Data, Database, present_folder, tell_missing_surveys

if TYPE_CHECKING:
    from fastapi import FastAPI
    from uvicorn import Config

    from ..data.root import DataRoot
    from ..settings import Settings

# Variables of the C library of Linux, for the processes that answer: freed memory is kept for the
# next batch. Returned to the system, it would cost a page fault for every 4 kB, a fifth of the time
# of a stacked image.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(64 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}
# A process that does not answer for so long hangs; on a busy machine one may take seconds.
_SILENCE_S = 30
# An idle connection is closed then. A web server in front must close it earlier: else a request
# may come just when it is closed.
_KEEP_ALIVE_S = 5
# Connections that the kernel hands over at once: fewer than the handles that are left for them.
_BACKLOG = 256
_LOOK_S = 1.0  # an object store that is away at the start is soon told of
_COUNTS = "specserver-metrics-"


def serve(
    data: Data = None,
    catalog: Database = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 6998,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that answer (default: cores, at most 8).")
    ] = None,
    stop_on_eof: Annotated[
        bool, typer.Option("--stop-on-eof", help="Stop when standard input ends; for scripts.")
    ] = False,
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Name under which the service may be asked, such as spectra.example.org or"
            " *.example.org; may be repeated (default: on loopback any, else this machine's).",
        ),
    ] = None,
    log_format: Annotated[
        Literal["text", "json"] | None,
        typer.Option(help="json: an object a line, and a line for each request (default: text)."),
    ] = None,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="From info on each request has a line (default: warning; json: info)."),
    ] = None,
) -> None:
    """Answer queries and hand out spectra until stopped with Ctrl-C, or by SIGTERM (exit code 0).

    The service is at http://HOST:PORT/spec, its interactive description at /spec/docs, its
    metrics for Prometheus at /metrics; /health/ready says whether to send requests here.

    Example: specserver serve --data /data/spec --port 6998
    """
    # The application opens it again.
    served = present_folder(data, _LOOK_S)
    import uvicorn

    from ..processes import end_with_stdin, raise_handle_limit
    from ..server.runtime.log import logging_configuration
    from ..settings import read_settings

    settings = read_settings(
        data=served.names()[0],
        catalog=catalog,
        allowed_hosts=",".join(allowed_host or ()),
        log_format=log_format,
        log_level=log_level,
    )
    if not (_is_loopback(host) or settings.allowed_hosts):
        settings = settings.model_copy(update={"allowed_hosts": _own_names(host)})
    if settings.catalog:
        from ..catalog.followed import open_database

        # Its URL is read before processes begin that need it.
        open_database(settings.catalog.get_secret_value()).close()
    raise_handle_limit()
    # A regular end. uvicorn finishes the running requests first, and raises the signal again.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    if stop_on_eof:
        end_with_stdin()
    processes = workers or min(8, os.cpu_count() or 1)
    for name, nbytes in _KEPT_MEMORY.items():
        os.environ.setdefault(name, nbytes)
    with closing(listen(host, port)) as listening, _counts_shared_by(processes):
        _announce(served, host, port)
        config = uvicorn.Config(
            partial(_create_app, settings),
            factory=True,
            host=host,
            port=port,
            workers=processes,
            http="specserver.server.runtime.connection:BoundedConnection",
            # The limits of connections do not hold for WebSockets.
            ws="none",
            log_config=logging_configuration(settings),
            access_log=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=settings.drain_timeout_s,  # type: ignore[arg-type]
            timeout_worker_healthcheck=_SILENCE_S,
            backlog=_BACKLOG,
            forwarded_allow_ips=settings.trusted_proxies,
        )
        _run(config, listening)


def _create_app(settings: "Settings") -> "FastAPI":
    """Return the application; what it needs is imported by the processes that answer alone."""
    # No object that is made here becomes garbage. To search them would take a sixth of the time of
    # the start, and 0.1 s of each later collection.
    gc.disable()
    # prometheus_client reads the folder of counts from the environment when it is imported.
    from ..server.app import create_app

    app = create_app(settings)
    gc.freeze()
    atexit.register(gc.unfreeze)  # else DuckDB reports at exit what was never freed
    gc.enable()
    return app


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; raise `ServiceError` if the port cannot be used.

    It is opened before anything is announced. The processes that answer share it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        taken = error.errno == errno.EADDRINUSE
        said = "another program listens there" if taken else f"{error.strerror or error}"
        raise ServiceError(
            f"cannot listen on port {port} of {host}: {said}; choose another with --port"
            + (", or end that program" if taken else " or --host")
        ) from error
    listening.set_inheritable(True)  # the standard library's own
    return listening


def _run(config: "Config", listening: socket.socket) -> None:
    """Serve, in this process or in several, until stopped."""
    from ..server.runtime.draining import DrainingServer

    if config.workers == 1:
        server = DrainingServer(config)
        server.run([listening])
        if not server.started:
            raise ServiceError("the service could not start; the log above says why")
        return
    from prometheus_client import CollectorRegistry

    from ..server.runtime.deaths import worker_deaths
    from ..server.runtime.supervisor import Supervisor

    deaths = worker_deaths(CollectorRegistry())
    supervisor = Supervisor(config, [listening], lambda why: deaths.labels(why).inc())
    supervisor.run()
    if supervisor.failure:
        raise ServiceError(supervisor.failure)
    if supervisor.interrupted:
        raise KeyboardInterrupt


def _announce(data: "DataRoot", host: str, port: int) -> None:
    """Print which contexts are served, from which folder, at which address."""
    from ..auth import check_private

    names, folder = sorted(data.contexts()), data.names()[0]
    if names:
        ERROR.print(f"serving {', '.join(names)} from {folder}", markup=False)
    else:
        ERROR.print(
            f"[yellow]{escape(str(folder))} holds no spectra yet:[/]"
            " specserver ingest CONTEXT PATH…"
        )
    tell_missing_surveys(data)
    for fault in check_private(data):
        ERROR.print(f"[yellow]{escape(fault)}[/]")
    if not _is_loopback(host):
        ERROR.print(
            "[yellow]others can reach it, and there is no TLS:[/] tokens and answers can be read on"
            " the way; put a web server with TLS in front and listen on 127.0.0.1"
        )
    ERROR.print(f"at http://{host}:{port}/spec   (Ctrl-C stops)")


def _is_loopback(host: str) -> bool:
    """Return whether only this machine can reach an address to listen on."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _own_names(host: str) -> tuple[str, ...]:
    """Return the names of this machine."""
    return tuple(dict.fromkeys(["localhost", host, socket.gethostname(), socket.getfqdn()]))


@contextmanager
def _counts_shared_by(processes: int) -> Iterator[None]:
    """Make the folder in which several processes count together, and remove it at the end."""
    from ..processes import is_running

    if processes == 1:
        yield
        return
    for left in Path(tempfile.gettempdir()).glob(f"{_COUNTS}*"):
        # The folder of a service that was killed; its name contains the process id.
        owner = left.name.removeprefix(_COUNTS).partition("-")[0]
        if owner.isdecimal() and not is_running(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_COUNTS}{os.getpid()}-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
