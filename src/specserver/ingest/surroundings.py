"""What a process on another machine must see to take part in an ingest: versions, folders, files.

It is looked at before the first part is sent there. Without this, files that a worker does not see
would each be refused, and a data folder that it does not see would be made on its own disk.
"""

import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final

from ..data.handles import Entry
from ..errors import SpecServerError
from ..surveys import find_release
from .decisions import IngestOptions

_LOOKED_AT: Final = 20
"""Files and folders that are looked at of those that an ingest was given."""


def versions() -> str:
    """Return the versions that the processes of an ingest must share."""
    return version_text(platform.python_version(), version("specserver"))


def version_text(python: object, specserver: object) -> str:
    """Return versions as a text; an error in the place of one says that there is none."""
    minor = str(python).rpartition(".")[0]
    ours = "no specserver" if isinstance(specserver, Exception) else f"specserver {specserver}"
    return f"Python {minor} and {ours}"


def version_fault(found: str, here: str) -> str:
    """Return what mends versions that differ from those of the command; empty: they do not."""
    return "" if found == here else f"has {found}; here it is {here}: install the same there"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the process that ingests sees; it can be sent to others."""

    options: IngestOptions
    token: bytes
    """Content of the lease, of which no other folder has a file of the same name."""
    samples: tuple[tuple[str, int | None], ...]
    """Paths of some files to be ingested and their sizes in bytes; -1: a folder."""

    @classmethod
    def of(cls, options: IngestOptions) -> "Surroundings":
        """Return what this process sees."""
        given = sorted(options.given)
        chosen = given[:: max(1, len(given) // _LOOKED_AT)]
        return cls(options, _lease_of(options).read(), tuple(_samples(chosen)))

    def fault(self) -> str:
        """Return what this process does not see, and what mends it; empty: it sees all."""
        try:
            return self._fault()
        except SpecServerError as error:
            # Of an object store: each machine has its own credentials, and a cache on its disk.
            return (
                f"cannot use the data folder {self.options.data} ({error.message}): give it the"
                " variables of the object store, and SPECSERVER_CACHE, a folder on its own disk"
            )

    def _fault(self) -> str:
        """Return what this process does not see."""
        options = self.options
        try:
            token = _lease_of(options).read()
        except OSError:
            token = b""
        if token != self.token:
            return (
                f"does not see the data folder {options.data}: mount it there under the same name"
            )
        if fault := _fault_of_writing(options):
            return fault
        for path, size in self.samples:
            if _size(Path(path)) != size:
                return f"does not see {path}: mount the files there under the same path"
        try:
            find_release(options.context, options.data)
        except SpecServerError as error:
            return f"does not know {options.context} ({error.message}): install the same plug-ins"
        return ""


def _lease_of(options: IngestOptions) -> Entry:
    """Return the file of the lease of an ingest."""
    return options.data.context(options.context).leases.entry(options.lease)


def _fault_of_writing(options: IngestOptions) -> str:
    """Return why this process cannot write to the data folder; empty: it can."""
    try:
        segment = options.data.context(options.context).new_segment(options.lease)
        segment.entry("token").create(b"")
        segment.delete()
    except OSError as error:
        why = error.strerror or error
        return f"cannot write to the data folder {options.data} ({why}): run it as a user who can"
    return ""


def _samples(paths: Iterable[str]) -> Iterator[tuple[str, int | None]]:
    """Yield paths and their sizes; of a folder also something that is in it."""
    for path in map(Path, paths):
        yield str(path), _size(path)
        if path.is_dir():
            # A folder without its disk mounted is there, and empty.
            for below in islice(path.iterdir(), 1):
                yield str(below), _size(below)


def _size(path: Path) -> int | None:
    """Return the size of a file, -1 for a folder; None: there is none."""
    try:
        return -1 if path.is_dir() else path.stat().st_size
    except OSError:
        return None
