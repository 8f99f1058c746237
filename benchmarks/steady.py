"""Does the service stay steady? ``python -m benchmarks.steady --data DIR`` starts one and sees.

Three scenes, each on a service with its normal settings:

* a crowd: many clients without pause, mixed requests; times by kind, answers that were refused,
  the memory of all processes;
* slow readers: what eight clients get done alone, and beside fifty that read 1 kB/s;
* killed clients: what handles, threads and heavy answers are left of them.
"""

import argparse
import json
import multiprocessing as mp
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil
import urllib3

from specserver.data.root import open_root
from specserver.service import SpectroscopicService

# One client of the crowd asks these in turn, from a place of its own.
KINDS: Final = ("ping", "one", "hundred", "aligned 1,000", "query", "preview", "grid 5 × 5")
SLOW_READERS: Final = 50
SLOW_BYTES_S: Final = 1_000
WORKERS: Final = 8
Times = dict[str, list[float]]
Statuses = dict[str, dict[int, int]]


@dataclass(frozen=True)
class Server:
    """A running service."""

    process: psutil.Process
    port: int
    ids: Any

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def family(self) -> list[psutil.Process]:
        return [self.process, *self.process.children(recursive=True)]

    def resident_mb(self) -> float:
        return sum(one.memory_info().rss for one in self.family()) / 1e6

    def handles(self) -> int:
        return sum(one.num_fds() for one in self.family())

    def threads(self) -> int:
        return sum(one.num_threads() for one in self.family())

    def metric(self, name: str) -> float:
        text = urllib3.request("GET", f"{self.url}/metrics", timeout=60).data.decode()
        return sum(map(float, re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)))


@contextmanager
def serve(data: Path) -> Iterator[Server]:
    """Serve a data folder with the normal settings."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "specserver", "serve", "--stop-on-eof", "--data", str(data)]
    process = subprocess.Popen([*command, "--port", str(port)], stdin=subprocess.PIPE)
    catalogue = SpectroscopicService(open_root(data)).archive.open_release("default").catalog
    ids = np.array(catalogue.place(np.arange(catalogue.count(primary=False))).ids)
    try:
        for _ in range(300):
            with suppress(urllib3.exceptions.HTTPError):
                urllib3.request("GET", f"http://127.0.0.1:{port}/spec/ping", retries=False)
                break
            time.sleep(0.2)
        yield Server(psutil.Process(process.pid), port, ids)
    finally:
        process.terminate()
        process.wait(60)


def request_of(kind: str, ids: Any) -> tuple[str, str, Any]:
    """Return method, path and body of a request of a kind, for spectra drawn at random."""

    def some(nspec: int) -> str:
        return "\n".join(map(str, np.random.choice(ids, nspec).tolist()))  # noqa: NPY002

    bodies: dict[str, Callable[[], tuple[str, str, Any]]] = {
        "ping": lambda: ("GET", "ping", None),
        "one": lambda: ("POST", "bulk/spectra", {"ids": some(1)}),
        "hundred": lambda: ("POST", "bulk/spectra", {"ids": some(100)}),
        "aligned 1,000": lambda: ("POST", "bulk/spectra", {"ids": some(1000), "align": True}),
        "query": lambda: (
            "POST",
            "bulk/query",
            {"fields": ["ra", "dec", "z"], "constraint": "z between 0.1 and 0.2 limit 1000"},
        ),
        "preview": lambda: ("POST", "preview", {"id_list": some(1)}),
        "grid 5 × 5": lambda: ("POST", "plotGrid", {"id_list": some(25), "nx": 5}),
    }
    return bodies[kind]()


def ask(pool: urllib3.PoolManager, server_url: str, kind: str, ids: Any) -> int:
    """Make one request, read its answer and forget it; return its status."""
    method, path, body = request_of(kind, ids)
    answer = pool.request(
        method, f"{server_url}/spec/{path}", json=body, preload_content=False, timeout=120
    )
    for _ in answer.stream(2**20):
        pass
    answer.release_conn()
    return answer.status


def clients(
    url: str, ids: Any, number: int, seconds: float, kinds: tuple[str, ...]
) -> tuple[Times, Statuses]:
    """Ask without pause, so many clients in threads; return times of good answers, and statuses."""
    times: Times = defaultdict(list)
    statuses: Statuses = defaultdict(lambda: defaultdict(int))
    end = time.monotonic() + seconds

    def work(first: int) -> None:
        with urllib3.PoolManager(retries=False) as pool:
            turn = first
            while time.monotonic() < end:
                kind, turn = kinds[turn % len(kinds)], turn + 1
                began = time.perf_counter()
                status = ask(pool, url, kind, ids)
                if status == 200:
                    times[kind].append(time.perf_counter() - began)
                else:
                    # As politely as our own client.
                    time.sleep(random.uniform(2.0, 3.0))
                statuses[kind][status] += 1

    with ThreadPoolExecutor(number) as threads:
        for done in [threads.submit(work, first) for first in range(number)]:
            done.result()
    return dict(times), {kind: dict(one) for kind, one in statuses.items()}


def crowd(server: Server, number: int, seconds: float) -> dict[str, Any]:
    """Let many clients, in four processes, ask mixed requests."""
    before, highest, stop = server.resident_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            highest[0] = max(highest[0], server.resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    given = (server.url, server.ids, number // 4, seconds, KINDS)
    with mp.get_context("spawn").Pool(4) as pool:
        parts = pool.starmap(clients, [given] * 4)
    stop.set()
    watcher.join()
    result: dict[str, Any] = {"clients": number, "seconds": seconds, "kinds": {}}
    for kind in KINDS:
        took = sorted(one for times, _ in parts for one in times.get(kind, ()))
        counts: dict[int, int] = defaultdict(int)
        for _, statuses in parts:
            for status, count in statuses.get(kind, {}).items():
                counts[status] += count
        quantiles = np.quantile(took, [0.5, 0.95, 0.99]).tolist() if took else [float("nan")] * 3
        result["kinds"][kind] = {"p50_s": quantiles[0], "p95_s": quantiles[1],
                                 "p99_s": quantiles[2], "statuses": dict(counts)}  # fmt: skip
    result["resident_mb"] = {"before": before, "highest": highest[0]}
    return result


def read_slowly(port: int, ids_held: Any) -> None:
    """Ask for 3,000 spectra and read 1 kB/s, in many threads; begin anew when cut off."""
    with ThreadPoolExecutor(SLOW_READERS) as threads:
        for _ in range(SLOW_READERS):
            threads.submit(_read_slowly, port, ids_held)


def _read_slowly(port: int, ids_held: Any) -> None:
    while True:
        with closing(socket.socket()) as link, suppress(OSError):
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            link.connect(("127.0.0.1", port))
            ids = np.random.choice(ids_held, 3000).tolist()  # noqa: NPY002
            body = json.dumps({"ids": "\n".join(map(str, ids))}).encode()
            head = "POST /spec/bulk/spectra HTTP/1.1\r\nHost: x\r\nContent-Type: application/json"
            link.sendall(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
            link.settimeout(30)
            while link.recv(SLOW_BYTES_S):
                time.sleep(1.0)


def slow_readers(server: Server, seconds: float, rounds: int = 5) -> dict[str, Any]:
    """Compare what eight clients get done alone and beside slow readers, by turns."""
    done: dict[str, list[float]] = {"alone": [], "beside": []}
    kinds = ("hundred",)
    clients(server.url, server.ids, WORKERS, seconds, kinds)
    memory = 0.0
    for _ in range(rounds):
        times, _ = clients(server.url, server.ids, WORKERS, seconds, kinds)
        done["alone"].append(len(times["hundred"]) / seconds)
        slow = mp.get_context("spawn").Process(target=read_slowly, args=(server.port, server.ids))
        slow.start()
        deadline = time.monotonic() + 60
        while server.metric("specserver_heavy_answers") < SLOW_READERS:
            assert time.monotonic() < deadline, "the slow readers are not served"
            time.sleep(0.5)
        time.sleep(2.0)  # until the last of them has its first batch
        times, _ = clients(server.url, server.ids, WORKERS, seconds, kinds)
        memory = max(memory, server.resident_mb())
        slow.kill()
        slow.join()
        done["beside"].append(len(times.get("hundred", ())) / seconds)
        time.sleep(1.0)
    ratios = [b / a for a, b in zip(done["alone"], done["beside"], strict=True)]
    return {"requests_per_s": done, "ratio": statistics.median(ratios), "resident_mb": memory}


KILLED: Final = """
import sys, time, urllib3
answer = urllib3.request("POST", sys.argv[1], body=sys.stdin.buffer.read(), preload_content=False,
                         headers={"Content-Type": "application/json"}, timeout=60)
answer.read(100_000)
time.sleep(1000)
"""


def killed_clients(server: Server, number: int = 20) -> dict[str, Any]:
    """Kill clients in the middle of their answers."""
    clients(server.url, server.ids, 8, 2.0, ("aligned 1,000",))
    time.sleep(2.0)
    before = {"handles": server.handles(), "threads": server.threads()}
    with ExitStack() as stack:
        started = []
        for _ in range(number):
            command = [sys.executable, "-c", KILLED, f"{server.url}/spec/bulk/spectra"]
            one = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE))
            ids = np.random.choice(server.ids, 10_000).tolist()  # noqa: NPY002
            assert one.stdin is not None
            one.stdin.write(json.dumps({"ids": "\n".join(map(str, ids))}).encode())
            one.stdin.close()
            started.append(one)
        deadline = time.monotonic() + 60
        while server.metric("specserver_heavy_answers") < number and time.monotonic() < deadline:
            time.sleep(0.2)
        answered = server.metric("specserver_heavy_answers")
        for one in started:
            one.kill()
    time.sleep(2.0)
    after = {"handles": server.handles(), "threads": server.threads()}
    left = server.metric("specserver_heavy_answers")
    return {"killed": number, "were_answered": answered, "still_answered": left,
            "before": before, "after": after}  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """Print a result for people."""
    if "crowd" in result:
        one = result["crowd"]
        print(f"{one['clients']} clients for {one['seconds']:g} s, mixed requests")
        print(
            "| request | p50 | p95 | p99 | answered | 503 | other |\n|---|---|---|---|---|---|---|"
        )
        for kind, about in one["kinds"].items():
            counts = dict(about["statuses"])
            good, busy = counts.pop(200, 0), counts.pop(503, 0)
            times = " | ".join(f"{about[f'{q}_s'] * 1e3:,.0f} ms" for q in ("p50", "p95", "p99"))
            print(f"| {kind} | {times} | {good:,} | {busy:,} | {sum(counts.values())} |")
        memory = one["resident_mb"]
        print(f"memory of all processes: {memory['before']:,.0f} MB → {memory['highest']:,.0f} MB")
    if "slow" in result:
        one = result["slow"]
        print(f"beside {SLOW_READERS} readers of 1 kB/s {WORKERS} clients get {one['ratio']:.2f} of"
              f" what they get alone; memory {one['resident_mb']:,.0f} MB")  # fmt: skip
    if "killed" in result:
        print("killed clients:", json.dumps(result["killed"]))


def main() -> None:
    """Run the scenes asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="an ingested data folder")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--scenes", default="crowd,slow,killed")
    parser.add_argument("--json", type=Path, help="keep the result here")
    asked = parser.parse_args()
    result: dict[str, Any] = {}
    with serve(asked.data) as server:
        scenes = asked.scenes.split(",")
        if "crowd" in scenes:
            result["crowd"] = crowd(server, asked.clients, asked.seconds)
        if "slow" in scenes:
            result["slow"] = slow_readers(server, max(2.0, asked.seconds / 10))
        if "killed" in scenes:
            result["killed"] = killed_clients(server)
    show(result)
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1), "utf-8")


if __name__ == "__main__":
    main()
