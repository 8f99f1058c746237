"""The memory that a command needs at most."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep
from typing import Final

import psutil

_SAMPLE_S: Final = 0.01


@dataclass(frozen=True, slots=True)
class Usage:
    """What a command took, with all processes that it started."""

    seconds: float
    own_bytes: int
    """Most memory at a time that only writing to a swap file could free."""
    resident_bytes: int
    """Most resident memory at a time: the pages of mapped files too, which the system may drop."""


def usage_of(words: Sequence[str]) -> Usage:
    """Run a command of specserver to its end."""
    began = perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "specserver", *words], stdout=subprocess.DEVNULL
    )
    watched = psutil.Process(process.pid)
    own = resident = 0
    while process.poll() is None:
        sizes = [_status(one.pid) for one in (watched, *_children(watched))]
        own = max(own, sum(size[0] for size in sizes))
        resident = max(resident, sum(size[1] for size in sizes))
        sleep(_SAMPLE_S)
    if process.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {process.returncode}")
    return Usage(perf_counter() - began, own, resident)


def _children(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes that a process started, directly or not."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _status(pid: int) -> tuple[int, int]:
    """Return the memory of a process: its own, and all that is resident; zeros if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    except OSError:
        return 0, 0
    pairs = (line.split(":", 1) for line in lines if line.startswith("Rss"))
    sizes = {name: int(value.split()[0]) * 1024 for name, value in pairs}
    own = sizes.get("RssAnon", 0) + sizes.get("RssShmem", 0)
    return own, own + sizes.get("RssFile", 0)
