"""Metrics for Prometheus: ``GET /metrics``, the same from each of the processes.

Each process counts into files of a folder that `serve` makes (`PROMETHEUS_MULTIPROC_DIR`); the one
that is asked adds them up. Without the folder there is one process, which counts in memory.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector
from typing_extensions import override

from ... import __version__
from ...processes import is_running
from ...service import SpectroscopicService
from ...transfers import TRANSFERS
from ...wire.media_types import TEXT
from ..openapi import answers
from .deaths import show_no_deaths

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder of counts; prometheus_client gave it its name."""
_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 100)
_REQUEST: Final = ("endpoint", "method")

router = APIRouter(tags=["operation"])


class Metrics:
    """The counts of one process."""

    def __init__(self) -> None:
        self._kept = CollectorRegistry()
        self.requests = self._counter("requests", "Requests answered.", *_REQUEST, "status")
        self.broken_off = self._counter(
            "answers_broken_off",
            "Answers that ended before their last byte: the reader went away or stalled.",
        )
        self.first_byte = self._histogram("first_byte", "Time to the first byte of an answer.")
        self.seconds = self._histogram("request", "Time to the last byte of an answer.")
        self.nbytes = self._counter("sent_bytes", "Bytes of answers.", "endpoint")
        self.nspec = self._counter("spectra", "Spectra served.", "endpoint")
        self.refused = self._counter("refused", "Heavy requests refused with 503.")
        self.caller_refused = self._counter(
            "caller_refused", "Heavy requests refused with 429: too many of one caller."
        )
        self._faults = self._counter(
            "connection_faults",
            "Connections that the server ended or refused, or that ended too early.",
            "kind",
        )
        self._heavy = self._gauge("heavy_answers", "Heavy requests being answered.")
        self.damaged = self._gauge(
            "damaged_files", "Files of the data folder found damaged: /available names them.", "max"
        )
        self.open_contexts = self._gauge(
            "open_contexts", "Contexts open for reading: the most that one process has.", "max"
        )
        self._waiting = self._gauge("heavy_waiting", "Heavy requests in the queue.")
        self._store_requests = self._counter(
            "object_store_requests", "Requests to the object store of the data.", "outcome"
        )
        self._fetched = self._counter("object_store_bytes", "Bytes fetched from the object store.")
        self._copied = self._counter(
            "cache_bytes", "Bytes read from copies of objects on this node's disk instead."
        )
        show_no_deaths(self._kept)  # their supervisor counts them

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"specserver_{name}_total", meaning, labels, registry=self._kept)

    def _histogram(self, name: str, meaning: str) -> Histogram:
        name = f"specserver_{name}_seconds"
        return Histogram(name, meaning, _REQUEST, buckets=_SECONDS, registry=self._kept)

    def _gauge(self, name: str, meaning: str, over_processes: str = "sum") -> Gauge:
        mode: Any = f"live{over_processes}"
        name = f"specserver_{name}"
        return Gauge(name, meaning, registry=self._kept, multiprocess_mode=mode)

    def connection_fault(self, kind: str) -> None:
        """Count a connection that was ended or refused."""
        self._faults.labels(kind).inc()

    def count_transfers(self) -> None:
        """Count what this process has asked of the object store, if the data are in one."""
        if (counts := TRANSFERS.take()) is None:
            return
        self._store_requests.labels("answered").inc(counts.answered)
        self._store_requests.labels("failed").inc(counts.failed)
        self._fetched.inc(counts.fetched_bytes)
        self._copied.inc(counts.copied_bytes)

    def tell_heavy(self, answered: int, waiting: int) -> None:
        """Set the numbers of heavy requests that are answered and that wait."""
        self._heavy.set(answered)
        self._waiting.set(waiting)

    def text(self) -> bytes:
        """Return all counts of all processes in Prometheus' text format."""
        shown = self._kept
        if FOLDER in os.environ:
            # The gauges of processes that have ended go; their counters stay.
            for process in _processes():
                if not is_running(process):
                    mark_process_dead(process)  # type: ignore[no-untyped-call]
            shown = CollectorRegistry()
            MultiProcessCollector(shown)  # type: ignore[no-untyped-call]
        shown_too = CollectorRegistry()
        shown_too.register(_Processes())
        return generate_latest(shown) + generate_latest(shown_too)


class _Processes(Collector):
    """The version, and memory and open files of each process, as the system knows them now."""

    @override
    def collect(self) -> Iterable[Metric]:
        """Yield what is known; memory and files where there is a ``/proc``."""
        info = GaugeMetricFamily("specserver_info", "Version.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        memory = GaugeMetricFamily(
            "specserver_resident_memory_bytes", "Resident memory.", labels=["process"]
        )
        files = GaugeMetricFamily("specserver_open_files", "Open handles.", labels=["process"])
        for process in _processes():
            about = Path("/proc") / str(process)
            try:
                pages = int((about / "statm").read_text().split()[1])
                handles = sum(1 for _ in (about / "fd").iterdir())
            except OSError:
                continue
            memory.add_metric([str(process)], pages * os.sysconf("SC_PAGE_SIZE"))
            files.add_metric([str(process)], handles)
        yield memory
        yield files


def _processes() -> list[int]:
    """Return the processes that have counted."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        return [os.getpid()]
    # Files are named <kind>_<process>.db
    return sorted({int(path.stem.rpartition("_")[2]) for path in Path(folder).glob("*.db")})


@router.get(
    "/metrics",
    summary="Return what is counted",
    response_class=Response,
    responses=answers("Prometheus' text format.", TEXT),
)
def metrics(request: Request) -> Response:
    """Return counts of requests, latencies, queues, memory and files, for monitoring tools."""
    counted: Metrics = request.app.state.metrics
    service: SpectroscopicService = request.app.state.service
    counted.damaged.set(len(service.archive.damaged()))
    counted.open_contexts.set(service.archive.nopen)
    counted.count_transfers()
    return Response(counted.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)
