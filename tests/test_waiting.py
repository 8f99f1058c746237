"""Small requests are answered on the event loop, and never wait there for disk or lock."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI

from specserver.auth import set_private
from specserver.data import waiting
from specserver.data.backend import Backend
from specserver.data.handles import Entry, Folder
from specserver.data.local import OpenFile
from specserver.data.root import DataRoot, open_root
from specserver.data.waiting import (
    FRESH_S,
    WouldWait,
    before_waiting,
    holding,
    look,
    may_wait,
    no_waiting,
)
from specserver.ingest import run_ingest
from specserver.server import direct
from specserver.server.app import create_app
from specserver.service import SpectroscopicService
from specserver.service.fits_tree_source import add_tree
from specserver.settings import Settings
from specserver.simulate import simulate_sdss
from specserver.wire.media_types import JSON
from test_direct import answer, ask

CONTEXT = "sdss_dr17"
FEW = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few spectra."""
    top = tmp_path_factory.mktemp("waiting")
    simulate_sdss(top / "files", FEW, 5, full_fraction=0.0, workers=1)
    run_ingest(open_root(top / "data"), CONTEXT, [top / "files"], workers=1)
    return top / "data"


@pytest.fixture(scope="module")
def ids(folder: Path) -> list[int]:
    """All identifiers."""
    return sorted(held(open_root(folder)))


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The endpoints that were called in a thread."""
    called: list[str] = []
    run = direct.to_thread.run_sync

    async def counted(work: Any, *given: Any, **options: Any) -> Any:
        if isinstance(work, partial):
            called.append(work.func.__name__)
        return await run(work, *given, **options)

    monkeypatch.setattr(direct.to_thread, "run_sync", counted)
    return called


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """Time that stands still for what was seen, and passes by calls of this."""
    passed = [0.0]
    monkeypatch.setattr(waiting, "monotonic", lambda: passed[0])

    def let_pass(seconds: float) -> None:
        passed[0] += seconds

    waiting._seen.clear()
    yield let_pass
    waiting._seen.clear()


def held(data: DataRoot) -> list[int]:
    """Return the identifiers of a context."""
    catalog = SpectroscopicService(data).archive.table(CONTEXT, None, primary=False).catalog
    return [int(number) for number in catalog.place(np.arange(catalog.count(primary=False))).ids]


def fetch(app: FastAPI, number: int) -> tuple[int, bytes]:
    """Ask for a spectrum."""
    return ask(app, "/spec/bulk/spectra", json.dumps({"ids": str(number)}).encode())


def cone(app: FastAPI, radius_deg: float) -> tuple[int, bytes]:
    """Ask for all rows in a cone around the first spectrum."""
    body = {"cone": [180.0, 0.0, radius_deg], "primary": False}
    return ask(app, "/spec/bulk/query", json.dumps(body).encode())


def test_what_was_seen_is_taken_for_a_moment(clock: Callable[[float], None]) -> None:
    """Work that must not wait takes what was seen last, unless that was too long ago."""
    values = iter([1, 2])
    with no_waiting(), pytest.raises(WouldWait):
        look("it", lambda: next(values))
    assert look("it", lambda: next(values)) == 1
    with no_waiting():
        assert look("it", lambda: next(values)) == 1
    clock(FRESH_S + 0.01)
    with no_waiting():
        with pytest.raises(WouldWait):
            look("it", lambda: next(values))
        assert look("it", lambda: next(values), 1.0) == 1
    assert look("it", lambda: next(values)) == 2


def test_what_was_seen_is_bounded(
    clock: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is remembered does not grow for ever."""
    del clock
    monkeypatch.setattr(waiting, "_MOST_SEEN", 10)
    for number in range(100):
        look(number, lambda: None)
        assert len(waiting._seen) <= 10


def test_no_lock_is_waited_for() -> None:
    """A lock that another holds is not waited for; one that is free is taken, and given back."""
    lock = threading.Lock()
    with no_waiting():
        with holding(lock):
            assert lock.locked()
            with pytest.raises(WouldWait), holding(lock):
                pass
        assert not lock.locked()


def test_threads_may_wait_beside() -> None:
    """Only the work within is bound, and only until it ends."""
    with no_waiting():
        with pytest.raises(WouldWait):
            before_waiting()
        told: list[bool] = []
        thread = threading.Thread(target=lambda: told.append(may_wait()))
        thread.start()
        thread.join()
    assert told == [True]
    assert may_wait()


@pytest.mark.parametrize("kind", [Entry, Folder])
def test_no_handle_waits(kind: type[Entry | Folder], clock: Callable[[float], None]) -> None:
    """No method of a handle reaches the back end while work must not wait."""
    del clock

    class Never:
        """A back end that may not be asked."""

        def __getattr__(self, name: str) -> Any:
            """Return a method that only tells names."""

            def call(*_: Any, **__: Any) -> str:
                assert name == "name_of", f"{name} was asked"
                return "name"

            return call

    backend: Backend = Never()  # type: ignore[assignment]  # it only tells names
    given = {"create": [b""], "replace": [b""], "allocate": [b"", 0], "record": [], "entry": ["a"],
             "below": ["a"], "digests": [["a"]], "check": [{"a": "b"}],
             "set_access": [], "damaged": ["it is"]}  # fmt: skip
    methods = [name for name in dir(kind) if not name.startswith("_")]
    waited = set()
    for name in methods:
        method = getattr(kind(backend, "a"), name)
        if not callable(method):
            continue
        options = {"private": True} if name == "set_access" else {}
        with no_waiting():
            try:
                method(*given.get(name, []), **options)
            except WouldWait:
                waited.add(name)
    assert {"exists", "local_path"} <= waited
    assert waited >= ({"stamp", "read", "open"} if kind is Entry else {"children", "files"})


@pytest.mark.usefixtures("clock")
def test_a_small_request_takes_no_thread(folder: Path, ids: list[int], hops: list[str]) -> None:
    """A spectrum and a cone are answered on the loop once all is open, with the same bytes."""
    app = create_app(Settings(data=folder))
    for small in (lambda: fetch(app, ids[0]), lambda: cone(app, 0.5)):
        first = small()
        assert first[0] == 200
        assert small() == first  # what the first one opened has been looked at now
        hops.clear()
        assert small() == first
        assert hops == []


@pytest.mark.usefixtures("clock")
def test_a_large_request_takes_a_thread(folder: Path, ids: list[int], hops: list[str]) -> None:
    """What may take long never runs on the loop."""
    app = create_app(Settings(data=folder))
    bodies = {
        "spectra": [
            {"ids": f"{ids[0]},{ids[1]}"},
            {"ids": str(ids[0]), "columns": ["z"]},
            {"ids": str(ids[0]), "resample": True},
            {"ids": str(ids[0]), "missing": "skip"},
        ],
        "query": [
            {"cone": [180, 0, 0.6]},
            {"cone": [180, 0, 0.1], "constraint": "z > 0"},
            {"cone": [180, 0, 0.1], "context": [CONTEXT]},
            {"constraint": "z > 0 limit 1"},
        ],
    }
    for endpoint, some in bodies.items():
        for body in some:
            for _ in range(2):
                hops.clear()
                status, _body = ask(app, f"/spec/bulk/{endpoint}", json.dumps(body).encode())
                assert status == 200
                assert hops == [f"bulk_{endpoint}"], body


@pytest.mark.usefixtures("clock")
def test_bytes_on_a_disk_are_read_in_a_thread(
    folder: Path, ids: list[int], hops: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spectrum whose bytes are not in memory is read in a thread."""
    app = create_app(Settings(data=folder))
    first = fetch(app, ids[0])
    read_into = OpenFile.read_into
    threads: list[str] = []

    def cold(self: OpenFile, offset: int, buffers: Any, *, at_once: bool) -> int:
        if at_once:
            return 0
        threads.append(threading.current_thread().name)
        return read_into(self, offset, buffers, at_once=False)

    monkeypatch.setattr(OpenFile, "read_into", cold)
    hops.clear()
    assert fetch(app, ids[0]) == first
    assert hops == ["bulk_spectra"]
    assert threads
    assert threading.main_thread().name not in threads


@pytest.mark.usefixtures("clock")
def test_files_of_a_tree_are_read_in_a_thread(
    folder: Path, ids: list[int], hops: list[str], tmp_path: Path
) -> None:
    """A tree of original files is looked through in a thread, however often it was."""
    reductions = ["26", "103", "104", "v5_7_0", "v5_10_0", "v5_11_0"]
    data = open_root(tmp_path)
    add_tree(data, CONTEXT, folder.parent / "files", reductions=reductions)
    app = create_app(Settings(data=tmp_path))
    answers = []
    for _ in range(3):
        hops.clear()
        answers.append(fetch(app, ids[0]))
        assert hops == ["bulk_spectra"]
    assert answers[0][0] == 200
    assert answers[0] == answers[1] == answers[2]


@pytest.mark.usefixtures("clock")
def test_a_lock_of_another_thread_delays_no_ping(folder: Path, ids: list[int]) -> None:
    """While a context is being opened, a small request waits in a thread, and a ping does not."""
    app = create_app(Settings(data=folder))
    first = fetch(app, ids[0])
    lock = app.state.service.archive._opened._loading[CONTEXT]

    async def scenario() -> None:
        body = json.dumps({"ids": str(ids[0])}).encode()
        with lock:
            waits = asyncio.create_task(answer(app, "/spec/bulk/spectra", body, JSON))
            for _ in range(20):
                assert (await answer(app, "/spec/ping", method="GET"))[0] == 200
            assert not waits.done()
        assert await waits == first

    asyncio.run(scenario())


@pytest.mark.usefixtures("clock")
def test_after_a_slow_answer_threads_are_used(
    folder: Path, ids: list[int], hops: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an answer took long on the loop, the next ones are made in threads for a while."""
    app = create_app(Settings(data=folder))
    first = fetch(app, ids[0])
    assert fetch(app, ids[0]) == first
    monkeypatch.setattr(direct, "_LONG_S", -1.0)
    monkeypatch.setattr(direct, "_THREADS_S", 60.0)
    hops.clear()
    assert fetch(app, ids[0]) == first
    assert hops == []
    assert fetch(app, ids[0]) == first
    assert hops == ["bulk_spectra"]


@pytest.mark.usefixtures("clock")
def test_a_new_spectrum_is_found_at_once(tmp_path: Path) -> None:
    """An identifier that was not there a moment ago is found as soon as its ingest has ended."""
    simulate_sdss(tmp_path / "first", 3, 1, full_fraction=0.0, workers=1)
    simulate_sdss(tmp_path / "second", 3, 2, full_fraction=0.0, workers=1)
    data = open_root(tmp_path / "data")
    run_ingest(data, CONTEXT, [tmp_path / "first"], workers=1)
    old = set(held(data))
    run_ingest(open_root(tmp_path / "copy"), CONTEXT, [tmp_path / "second"], workers=1)
    new = min(set(held(open_root(tmp_path / "copy"))) - old)
    app = create_app(Settings(data=tmp_path / "data"))
    for _ in range(3):
        assert fetch(app, min(old))[0] == 200
        assert fetch(app, new)[0] == 404
    run_ingest(data, CONTEXT, [tmp_path / "second"], workers=1)
    assert fetch(app, new)[0] == 200


def test_a_context_that_becomes_private_is_hidden_in_a_moment(
    folder: Path, ids: list[int], clock: Callable[[float], None]
) -> None:
    """What was seen of the rights is taken for a moment, and no longer."""
    app = create_app(Settings(data=folder))
    assert fetch(app, ids[0])[0] == 200
    set_private(open_root(folder), CONTEXT, private=True)
    try:
        clock(FRESH_S + 0.01)
        assert fetch(app, ids[0])[0] == 404
    finally:
        set_private(open_root(folder), CONTEXT, private=False)
