"""The part of a Dask worker in an ingest (`on_dask`): it reads files and writes segments."""

import time
from typing import Any, Final

from distributed import Worker, WorkerPlugin, get_worker
from distributed.protocol.serialize import deserialize, serialize
from typing_extensions import override

from ..data.leases import Lease
from ..errors import IngestError, SpecServerError
from .decisions import IngestOptions
from .executors import Part
from .surroundings import Surroundings, version_fault, versions
from .worker import PartResult, ingest_part

_LOOK_S: Final = 5.0
"""Time between looks at the lease."""


class IngestOnWorker(WorkerPlugin):
    """What a worker needs to know of an ingest.

    It holds the surroundings as Dask sends them: a worker of another version, or without a package
    that they need, joins, and the ingest ends with an error that says so.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        self._versions = versions()
        header, frames = serialize(surroundings)
        self._sent = header, [bytes(frame) for frame in frames]
        self._options: IngestOptions | None = None
        self._worker: Any = None
        self._fault: str | None = None

    @override
    def setup(self, worker: Any) -> None:
        """Begin to take part."""
        self._worker = worker

    def fault(self) -> str:
        """Return what this worker does not see; empty: it sees all."""
        if self._fault is None:
            self._fault = version_fault(versions(), self._versions) or self._other_fault()
        return self._fault

    def _other_fault(self) -> str:
        """Return what else this worker does not see; it has the versions of the command."""
        try:
            surroundings: Surroundings = deserialize(*self._sent)
        except (ImportError, AttributeError) as error:
            return f"lacks a package ({error}): install there what is installed here"
        except SpecServerError as error:
            return f"cannot take part ({error.message})"
        self._options = surroundings.options
        return surroundings.fault()

    def read(self, number: int, part: Part) -> PartResult:
        """Read a part, and tell how many files are done."""
        fault, options = self.fault(), self._options
        if fault or options is None:
            # It has joined after the ingest began.
            raise IngestError(f"the Dask worker {self._worker.address} {fault}")
        name = name_of(options)
        lease = Lease(options.data.context(options.context).leases.entry(options.lease))
        done, looked_s = 0, time.monotonic()

        def tell(more: int) -> None:
            nonlocal done, looked_s
            done += more
            self._worker.log_event(name, (number, done))
            if time.monotonic() - looked_s > _LOOK_S:
                looked_s = time.monotonic()
                lease.require()

        result = ingest_part(options, part, tell)
        try:
            lease.require()
        except IngestError:
            for segment, _ in result.segments:
                segment.delete()
            raise
        return result


def name_of(options: IngestOptions) -> str:
    """Return the name of an ingest on its cluster."""
    return f"specserver-{options.lease}"


def fault_of(name: str, dask_worker: Worker) -> str:
    """Return what a worker does not see of an ingest; Dask gives the worker by this name."""
    return _taking_part(dask_worker, name).fault()


def work(name: str, number: int, part: Part) -> PartResult:
    """Do one part on this worker."""
    return _taking_part(get_worker(), name).read(number, part)


def _taking_part(worker: Worker, name: str) -> IngestOnWorker:
    """Return what a worker knows of an ingest."""
    plugin = worker.plugins.get(name)
    if not isinstance(plugin, IngestOnWorker):
        raise IngestError(f"the Dask worker {worker.address} could not begin; see its log")
    return plugin
