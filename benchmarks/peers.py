"""Other people: processes with a client each, started once, that do what they are told."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from time import perf_counter
from typing import Any, Final
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt
import urllib3

from specserver.client.api import SpecClient

from .data import CONTEXT
from .service import ROOT

_READY_S: Final = 60.0
_PIECE: Final = 2**20
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


class Peer:
    """A process with a client."""

    def __init__(self, process: Any, pipe: Connection) -> None:
        self._process = process
        self._pipe = pipe

    def begin(self, ids: npt.NDArray[np.uint64]) -> None:
        """Have it fetch spectra."""
        self._pipe.send(ids)

    def await_end(self) -> int:
        """Return, when it has them, how many came."""
        return int(self._pipe.recv())

    def stop(self) -> None:
        """End it."""
        self._pipe.send(None)
        self._process.join(_READY_S)


@contextmanager
def some_peers(url: str, number: int) -> Iterator[list[Peer]]:
    """Lend so many processes, each with a client of the service that has fetched once."""
    spawning = get_context("spawn")
    peers = []
    try:
        for _ in range(number):
            here, there = spawning.Pipe()
            process = spawning.Process(target=_fetch_as_told, args=(url, there), daemon=True)
            process.start()
            peers.append(Peer(process, here))
        yield peers
    finally:
        for peer in peers:
            peer.stop()


def fetch_at_once(peers: Sequence[Peer], ids: npt.NDArray[np.uint64]) -> None:
    """Have each peer fetch its share of the spectra, all at the same time."""
    shares = np.array_split(ids, len(peers))
    for peer, share in zip(peers, shares, strict=True):
        peer.begin(share)
    came = [peer.await_end() for peer in peers]
    if came != [len(share) for share in shares]:
        raise RuntimeError(f"of {len(ids)} spectra came {sum(came)}")


@contextmanager
def aligned_load(url: str, ids: npt.NDArray[np.uint64], *, classic: bool = False) -> Iterator[Any]:
    """Fetch aligned spectra without pause, in another process, until the context ends.

    Lends a shared counter of the requests done.

    Parameters
    ----------
    classic : by the documented endpoint, as the predecessor's client does
    """
    spawning = get_context("spawn")
    stop, done = spawning.Event(), spawning.Value("q", 0)
    process = spawning.Process(
        target=_fetch_without_pause, args=(url, ids, classic, stop, done), daemon=True
    )
    process.start()
    try:
        yield done
    finally:
        stop.set()
        process.join(_READY_S)
        process.kill()


def client_peak(url: str, ids: npt.NDArray[np.uint64]) -> float:
    """Return the memory that a fresh client needs at most, as a multiple of the result."""
    command = [sys.executable, "-m", f"{__package__}.peers", url]
    listed = "\n".join(map(str, ids.tolist()))
    found = subprocess.run(
        command, input=listed, capture_output=True, text=True, check=True, cwd=ROOT
    )
    said = json.loads(found.stdout)
    return float((said["peak"] - said["before"]) / said["nbytes"])


def _fetch_as_told(url: str, pipe: Connection) -> None:
    """Fetch what comes through the pipe until nothing comes."""
    client = SpecClient(CONTEXT, svc_url=url)
    while (ids := pipe.recv()) is not None:
        pipe.send(len(client.getSpec(ids)))


def _fetch_without_pause(
    url: str, ids: npt.NDArray[np.uint64], classic: bool, stop: Any, done: Any
) -> None:
    """Fetch the same spectra again and again."""
    client = SpecClient(CONTEXT, svc_url=url)
    pool = urllib3.PoolManager()
    listed = ",".join(map(str, ids.tolist()))
    form = urlencode({"id_list": listed, "align": "True", "context": CONTEXT})
    while not stop.is_set():
        if classic:
            _drain(
                pool.request(
                    "POST", f"{url}/getSpec", body=form, headers=_FORM, preload_content=False
                )
            )
        else:
            client.getSpec(ids, align=True)
        with done.get_lock():
            done.value += 1


def _drain(answer: urllib3.BaseHTTPResponse) -> None:
    """Read an answer to its end."""
    for _ in answer.stream(_PIECE):
        pass
    answer.release_conn()
    if answer.status != 200:
        raise RuntimeError(f"answered with status {answer.status}")


def _status_bytes(key: str) -> int:
    """Return a size from this process's own status.

    Not `resource.getrusage`: its peak is inherited of the process that started this one.
    """
    lines = Path("/proc/self/status").read_text("utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


def main() -> None:
    """Fetch the spectra named on standard input; print the memory before, at most, and kept."""
    ids = [int(line) for line in sys.stdin]
    client = SpecClient(CONTEXT, svc_url=sys.argv[1])
    client.getSpec(ids[:2])
    before = _status_bytes("VmRSS")
    began = perf_counter()
    spectra = client.getSpec(ids)
    took = perf_counter() - began
    nbytes = sum(one.nbytes for one in spectra)
    said = {"before": before, "peak": _status_bytes("VmHWM"), "nbytes": nbytes, "seconds": took}
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
