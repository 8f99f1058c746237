"""Ranges of an object: what is asked of the store for them, and what is read."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import obstore
import pytest
from benchmarks.s3server import BUCKET, S3Server
from hypothesis import given
from hypothesis import strategies as st

from specserver.data.remote import fetches, source
from specserver.data.remote.options import CacheOptions
from specserver.data.remote.store import ObjectStore, open_store

NBYTES = 12_000_001
CONTENT = np.random.default_rng(11).bytes(NBYTES)


@pytest.fixture
def store(s3: S3Server, tmp_path: Path) -> ObjectStore:
    """A prefix of a bucket with one object of some megabytes, and a cache of its own."""
    found = open_store(f"s3://{BUCKET}/{uuid4().hex}", CacheOptions(str(tmp_path / "cache")))
    found.replace("object", CONTENT)
    return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[int, int]]]:
    """The ranges of each call that asks the store for some."""
    calls: list[list[tuple[int, int]]] = []
    fetch = source.RemoteObject._ranges

    async def noted(self: Any, ranges: Any) -> Any:
        calls.append([*ranges])
        return await fetch(self, ranges)

    monkeypatch.setattr(source.RemoteObject, "_ranges", noted)
    return calls


def read(opened: source.RemoteObject, begin: int, end: int) -> bytes:
    room = bytearray(end - begin)
    assert opened.read_into(begin, end, [room], at_once=False) == end - begin
    return bytes(room)


ranges_of = st.lists(
    st.tuples(st.integers(0, NBYTES - 1), st.integers(1, 3 * fetches.GAP)), max_size=40
).map(lambda found: [(at, min(at + size, NBYTES)) for at, size in found])


@given(ranges_of)
def test_each_range_is_in_one_that_is_fetched_and_calls_are_small(
    ranges: list[tuple[int, int]],
) -> None:
    joined = fetches.joined_ranges(ranges)
    assert joined == sorted(joined)
    for begin, end in ranges:
        assert any(first <= begin and end <= stop for first, stop in joined)
    begins, ends = {begin for begin, _ in ranges}, {end for _, end in ranges}
    assert all(first in begins and stop in ends for first, stop in joined)
    calls = [*fetches.calls(joined)]
    assert [some for call in calls for some in call] == joined
    assert all(sum(stop - first for first, stop in call) <= fetches.CALL_BYTES for call in calls)


def test_ranges_that_are_announced_are_fetched_once_and_no_others(
    store: ObjectStore, asked: list[list[tuple[int, int]]]
) -> None:
    opened = store.open("object")
    wanted = [(at + 7, at + 30_007) for at in range(0, 11_000_000, 400_000)]
    opened.will_need(wanted[:20])
    opened.will_need(wanted)
    opened.will_need(wanted[5:])
    assert all(read(opened, *some) == CONTENT[slice(*some)] for some in reversed(wanted))
    opened.will_need(wanted)
    assert all(read(opened, *some) == CONTENT[slice(*some)] for some in wanted)
    assert len(asked) == 2
    fetched = sorted(some for call in asked for some in call)
    assert len(fetched) == len(wanted)
    for (begin, end), (first, stop) in zip(wanted, fetched, strict=True):
        assert begin - source.BLOCK < first <= begin < end <= stop < end + source.BLOCK


def test_spectra_side_by_side_are_fetched_in_calls_that_end_in_time(
    store: ObjectStore, asked: list[list[tuple[int, int]]]
) -> None:
    opened = store.open("object")
    wanted = [(at, min(at + 33_333, NBYTES)) for at in range(0, NBYTES, 33_333)]
    opened.will_need(wanted)
    assert all(read(opened, *some) == CONTENT[slice(*some)] for some in wanted)
    sizes = [sum(stop - first for first, stop in call) for call in asked]
    assert max(sizes) <= fetches.CALL_BYTES
    # Neighbours share a block.
    assert NBYTES <= sum(sizes) <= NBYTES + len(sizes) * source.BLOCK


def test_reads_across_the_borders_of_calls_fetch_nothing_twice(
    store: ObjectStore, asked: list[list[tuple[int, int]]]
) -> None:
    """Rows are announced one by one, and read some at a time, while they are coming."""
    opened = store.open("object")
    edges = [*range(0, NBYTES, 66_001), NBYTES]
    for at in range(0, len(edges), 50):
        opened.will_need(list(zip(edges[at : at + 51], edges[at + 1 : at + 51], strict=False)))
    for begin, end in zip(edges[::6], [*edges[6::6], NBYTES], strict=True):
        assert read(opened, begin, end) == CONTENT[begin:end]
    fetched = sum(stop - first for call in asked for first, stop in call)
    assert fetched <= NBYTES + len(edges) * source.BLOCK


@pytest.mark.proof
@pytest.mark.parametrize("takes_copies", [True, False])
def test_threads_and_processes_that_read_at_once_read_what_is_there(
    store: ObjectStore, takes_copies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not takes_copies:
        monkeypatch.setattr(source.RemoteObject, "_opened", lambda _: None)
    opened = [store._object("object", store._head("object")) for _ in range(2)]

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(15):
            one = opened[int(rng.integers(2))]
            begins = np.sort(rng.integers(0, NBYTES - 1, 20)).tolist()
            wanted = [(at, min(at + int(rng.integers(1, 200_000)), NBYTES)) for at in begins]
            one.will_need(wanted[: int(rng.integers(21))])
            for some in wanted:
                assert read(one, *some) == CONTENT[slice(*some)]

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(work, range(6)))


def test_where_the_disk_takes_no_copies_little_is_held(
    store: ObjectStore, asked: list[list[tuple[int, int]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source.RemoteObject, "_opened", lambda _: None)
    opened = store.open("object")
    wanted = [(at, min(at + 100_000, NBYTES)) for at in range(0, NBYTES, 100_000)]
    for _ in range(2):
        opened.will_need(wanted)
        assert sum(some.nbytes for some in opened._under_way) <= source._HELD_BYTES
        for at, some in enumerate(wanted):
            opened.will_need(wanted[at : at + 20])
            assert read(opened, *some) == CONTENT[slice(*some)]
            assert sum(some.nbytes for some in opened._under_way) <= source._HELD_BYTES
    # Each is fetched once in each round.
    fetched = sum(stop - first for call in asked for first, stop in call)
    assert fetched <= 2.2 * NBYTES


def test_ranges_are_those_of_a_small_object_to_its_end(store: ObjectStore) -> None:
    store.replace("small", CONTENT[:700])
    opened = store.open("small")
    opened.will_need([(600, 700), (650, 900), (700, 800)])
    assert opened.read(600, 1000) == CONTENT[600:700]
    assert opened.read(0, 700) == CONTENT[:700]
    assert opened.read(700, 10) == b""


def test_copies_are_found_by_another_process(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (store._object("object", store._head("object")) for _ in range(2))
    assert first.read(5000, 70_000) == CONTENT[5000:75_000]

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("it is there already")

    for name in ("get_async", "get_ranges_async"):
        monkeypatch.setattr(obstore, name, refuse)
    second.will_need([(6000, 70_000)])
    assert second.read(6000, 64_000) == CONTENT[6000:70_000]
