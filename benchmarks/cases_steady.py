"""Large answers, many clients, and what others notice of them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from time import perf_counter, sleep
from typing import Final

import numpy as np
import psutil

from .bench import Bench, Ids
from .cases import case
from .measure import FEWEST_ROUNDS, Gauge, Trial, Unequal, seconds
from .peers import aligned_load, client_peak, fetch_at_once, some_peers
from .service import Running
from .table import CATALOG

_CLIENTS: Final = 8
_EACH: Final = 100
_PING_EVERY_S: Final = 0.02
_SAMPLE_S: Final = 0.02
_TRIES: Final = 200
"""Connections made at most until each worker process has one."""
_MB: Final = 1e6


@case(
    "large_rate",
    "{most:,} spectra, per spectrum",
    reference="the same for {many:,}",
    target=1.1,
    limits="memory of the client: 148 kB of memory that is new to the process for each spectrum",
)
def large_rate(bench: Bench) -> Trial:
    most, many = bench.scale.most, bench.scale.many
    return Trial(
        lambda: bench.draw(most),
        bench.client.getSpec,
        lambda ids: bench.client.getSpec(ids[:many]),
        ours_per=most,
        reference_per=many,
        rounds=FEWEST_ROUNDS,
    )


@case(
    "large_server_memory",
    "{most:,} spectra: growth of the server's memory",
    reference="—",
    target=150.0,
    unit="MB",
    limits="batches: one being read, one being sent",
)
def large_server_memory(bench: Bench) -> Gauge:
    bench.client.getSpec(bench.draw(bench.scale.many))

    def read() -> float:
        ids = bench.draw(bench.scale.most)
        before = bench.server.resident_bytes
        with _highest(bench.server) as sizes:
            bench.client.getSpec(ids)
        return (max(sizes) - before) / _MB

    return Gauge(read, rounds=3, worst=True)


@case(
    "large_client_peak",
    "{most:,} spectra: peak of the client's memory, as a multiple of the result",
    reference="—",
    target=1.4,
    unit="×",
    limits="the result itself, and two batches beside it",
)
def large_client_peak(bench: Bench) -> Gauge:
    def read() -> float:
        return client_peak(bench.server.url, bench.draw(bench.scale.most))

    return Gauge(read, rounds=3, worst=True)


@case(
    "million_rows",
    "query of {million:,} rows × 5 columns of {nrows:,}, to a Table",
    reference="—",
    target=2.0,
    limits="the bytes of the answer: they are gathered, sent, and laid in columns",
)
def million_rows(bench: Bench) -> Gauge:
    query_many(bench, 1000)

    def read() -> float:
        return seconds(lambda _: query_many(bench, bench.scale.million), None)

    return Gauge(read)


@case(
    "million_memory",
    "the same: growth of the server's memory",
    reference="—",
    target=300.0,
    unit="MB",
    limits="batches of the answer, some of which wait to be sent",
)
def million_memory(bench: Bench) -> Gauge:
    query_many(bench, 1000)

    def read() -> float:
        before = bench.server.resident_bytes
        with _highest(bench.server) as sizes:
            query_many(bench, bench.scale.million)
        return (max(sizes) - before) / _MB

    return Gauge(read, rounds=3, worst=True)


def query_many(bench: Bench, nrows: int) -> None:
    """Query five columns of so many rows of the catalogue."""
    _ = bench.table
    fields = ["specobjid", "ra", "dec", "z", "class"]
    found = bench.client.query(constraint=f"z > -1 limit {nrows}", fields=fields, catalog=CATALOG)
    if len(found) != nrows:
        raise Unequal(f"{len(found)} rows of {nrows}")


@case(
    "eight_clients",
    "8 clients × 100 at once, total",
    reference="one client, 800",
    target=1.2,
    limits="the cores that clients and server share",
)
def eight_clients(bench: Bench) -> Trial:
    url = bench.server.url
    peers = bench.case_stack.enter_context(some_peers(url, _CLIENTS))
    alone = bench.case_stack.enter_context(some_peers(url, 1))

    def draw() -> Ids:
        return bench.draw(_CLIENTS * _EACH)

    return Trial(draw, lambda ids: fetch_at_once(peers, ids), lambda ids: fetch_at_once(alone, ids))


@case(
    "ping_worst",
    "worst /ping while aligned requests of {many:,} run without pause",
    reference="—",
    target=50.0,
    unit="ms",
    limits="the interpreter's lock, which a worker's other threads hold, and free cores",
)
def ping_worst(bench: Bench) -> Gauge:
    return _watch_pings(bench, "bulk")


@case(
    "ping_classic",
    "the same, by the documented endpoint /getSpec",
    reference="—",
    target=None,
    unit="ms",
    limits="as above; here the server decompresses and aligns",
)
def ping_classic(bench: Bench) -> Gauge:
    return _watch_pings(bench, "classic")


@case(
    "ping_idle",
    "worst /ping while nothing else runs",
    reference="—",
    target=None,
    unit="ms",
    limits="the machine's own pauses",
)
def ping_idle(bench: Bench) -> Gauge:
    return _watch_pings(bench, "")


def _watch_pings(bench: Bench, load: str) -> Gauge:
    """Return a gauge of the slowest answer to a ping.

    Parameters
    ----------
    load : how spectra are fetched meanwhile: ``bulk``, ``classic``, or empty for nothing
    """
    said: list[str] = []

    def read() -> float:
        connections = _one_to_each_worker(bench)
        if not load:
            times, done = _ping(connections, bench.scale.watch_s), 0
        else:
            ids = bench.draw(bench.scale.many)
            with aligned_load(bench.server.url, ids, classic=load == "classic") as counter:
                while counter.value == 0:
                    sleep(_SAMPLE_S)
                before = counter.value
                times = _ping(connections, bench.scale.watch_s)
                done = counter.value - before
        for connection in connections:
            connection.close()
        middle, late = np.percentile(times, [50, 99]).tolist()
        requests = f" while {done} requests were answered" if load else ""
        seen = f"{len(times)} pings to all {len(connections)} workers{requests}"
        said[:] = [f"{seen}: median {middle:.1f} ms, 99 % within {late:.1f} ms"]
        return float(max(times))

    return Gauge(read, rounds=1, worst=True, note=lambda: said[0])


def _ping(connections: list[HTTPConnection], seconds: float) -> list[float]:
    """Ping each worker in turn for so long; return the times, milliseconds."""
    times = []
    end = perf_counter() + seconds
    number = 0
    while perf_counter() < end:
        began = perf_counter()
        _ping_once(connections[number % len(connections)])
        took = perf_counter() - began
        times.append(took * 1e3)
        number += 1
        sleep(max(0.0, _PING_EVERY_S - took))
    return times


def _ping_once(connection: HTTPConnection) -> None:
    """Ask for /ping, and read the answer."""
    connection.request("GET", "/spec/ping")
    connection.getresponse().read()


def _one_to_each_worker(bench: Bench) -> list[HTTPConnection]:
    """Return kept connections of which each ends at another worker process.

    A new connection goes to a worker that is idle; a user's may be one that is not.
    """
    host, port = bench.server.url.split("/")[2].split(":")
    wanted = {worker.pid for worker in bench.server.workers}
    found: dict[int, HTTPConnection] = {}
    for _ in range(_TRIES):
        connection = HTTPConnection(host, int(port))
        _ping_once(connection)
        owner = _worker_of(bench.server, connection.sock.getsockname()[1])
        if owner in wanted and owner not in found:
            found[owner] = connection
        else:
            connection.close()
        if set(found) == wanted:
            break
    return list(found.values())


def _worker_of(server: Running, client_port: int) -> int:
    """Return the process that holds the other end of a connection."""
    for worker in server.workers:
        for one in psutil.Process(worker.pid).net_connections("tcp"):
            # Of a socket that listens there is no other end.
            if one.raddr[1:] == (client_port,):
                return int(worker.pid)
    return 0


@contextmanager
def _highest(server: Running) -> Iterator[list[int]]:
    """Watch a server's resident memory; the list has what was seen."""
    stop = threading.Event()
    sizes = [server.resident_bytes]

    def watch() -> None:
        while not stop.wait(_SAMPLE_S):
            sizes.append(server.resident_bytes)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield sizes
    finally:
        stop.set()
        thread.join()
        sizes.append(server.resident_bytes)
