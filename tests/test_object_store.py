"""A data folder in an object store, from ingest to client: the answers are those of a folder."""

import contextlib
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import httpx
import numpy as np
import obstore
import pytest
from benchmarks.s3server import BUCKET, S3Server

import specserver
from pages import PAGES, blocks
from serving import serve
from specserver.auth import TokenBook, is_private, set_private
from specserver.catalog import opening
from specserver.client.api import SpecClient
from specserver.data.remote import fetches, memory, source
from specserver.data.remote.cache import NodeCache
from specserver.data.remote.client import stores
from specserver.data.remote.memory import STAMP, Memory, Question
from specserver.data.remote.options import CacheOptions
from specserver.data.remote.store import ObjectStore
from specserver.data.root import SERVER_LOOK_S, DataRoot, open_root
from specserver.data.user_storage import StorageLimits
from specserver.errors import (
    BadParameter,
    DamagedFile,
    NoSuchFile,
    QuotaExceeded,
    SpecServerError,
    StoreError,
)
from specserver.ingest import run_ingest
from specserver.ingest.maintain import maintain
from specserver.ingest.verify import verify
from specserver.model.region import cone
from specserver.service import SpectroscopicService, reading
from specserver.service.query import QueryRequest
from specserver.service.tables import attach_table
from specserver.simulate import simulate_sdss
from specserver.store import shards

CONTEXT = "sdss_dr17"
ROOMY = StorageLimits(10**6, 100, 10**6)


@dataclass(frozen=True)
class Stored:
    """A data folder in a bucket, and the one on a disk that has the same."""

    url: str
    data: DataRoot
    local: DataRoot


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CacheOptions]:
    """The cache of this node."""
    options = CacheOptions(str(tmp_path_factory.mktemp("node") / "cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECSERVER_CACHE", options.folder)
        yield options


@pytest.fixture(scope="module")
def stored(s3: S3Server, cache: CacheOptions, mock_survey: Path, mock_data: Path) -> Stored:
    """The mock survey in a bucket."""
    url = f"s3://{BUCKET}/{uuid4().hex}"
    data = open_root(url, cache)
    summary = run_ingest(data, CONTEXT, [mock_survey], workers=1)
    assert summary.stored == 150
    return Stored(url, data, open_root(mock_data))


@pytest.fixture
def fresh(s3: S3Server, cache: CacheOptions) -> DataRoot:
    """A data folder that does not exist yet."""
    return open_root(f"s3://{BUCKET}/{uuid4().hex}", cache)


def every(service: SpectroscopicService) -> list[int]:
    """Return all identifiers of the context, ascending."""
    request = QueryRequest(CONTEXT, fields=("specobjid",), primary=False)
    return sorted(service.query(request).column(0).to_pylist())


def vectors(data: DataRoot, ids: list[int]) -> list[tuple[Any, ...]]:
    """Return all that is read of some spectra, as bytes."""
    service = SpectroscopicService(data)
    found = service.read(service.resolve(ids, CONTEXT))
    return [(one.dtype.descr, one.tobytes()) for one in found]


def of_another_node(data: DataRoot, folder: Path) -> DataRoot:
    """Return a data folder as another node opens it, with a cache of its own."""
    assert isinstance(data.backend, ObjectStore)
    return open_root(data.backend.url, CacheOptions(str(folder)))


def test_spectra_and_rows_are_those_of_a_folder(stored: Stored) -> None:
    here, there = SpectroscopicService(stored.data), SpectroscopicService(stored.local)
    ids = every(there)
    assert every(here) == ids
    assert vectors(stored.data, ids) == vectors(stored.local, ids)
    first = there.query(QueryRequest(CONTEXT, fields=("ra", "dec"), primary=False)).to_pylist()[0]
    for request in (
        QueryRequest(CONTEXT, primary=False),
        QueryRequest(CONTEXT, fields=("specobjid", "z"), constraint="z > 0.3 order by z limit 20"),
        QueryRequest(CONTEXT, region=cone(first["ra"], first["dec"], 2.0)),
    ):
        assert here.query(request).equals(there.query(request))


def test_a_new_node_reads_what_another_has_written(stored: Stored, tmp_path: Path) -> None:
    other = of_another_node(stored.data, tmp_path)
    ids = every(SpectroscopicService(stored.local))
    assert vectors(other, ids[::3]) == vectors(stored.local, ids[::3])
    assert every(SpectroscopicService(other)) == ids


def test_spectra_of_several_batches_are_asked_of_a_shard_together(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    fetch = source.RemoteObject._ranges

    async def noted(self: Any, ranges: Any) -> Any:
        asked.append(self._path)
        return await fetch(self, ranges)

    monkeypatch.setattr(source.RemoteObject, "_ranges", noted)
    monkeypatch.setattr(fetches, "CALL_BYTES", 2**30)
    ids = every(SpectroscopicService(stored.local))
    assert vectors(of_another_node(stored.data, tmp_path), ids) == vectors(stored.local, ids)
    assert len(ids) > reading.BATCH
    # Once for its index.
    assert max(map(asked.count, asked)) == 2


def test_all_is_sound_and_said_to_be(stored: Stored) -> None:
    findings = [*verify(stored.data)]
    assert sum(found.nspec for found in findings) == 150
    assert [found.faults for found in findings if found.faults] == []


def test_whole_surveys_are_opened(stored: Stored) -> None:
    dask = pytest.importorskip("dask")
    far = specserver.open(stored.url).to_xarray(CONTEXT)
    near = specserver.open(stored.local.names()[0]).to_xarray(CONTEXT)
    order_far, order_near = np.argsort(far.specobjid.values), np.argsort(near.specobjid.values)
    # A cluster that another test has left would not know the keys of the store.
    with dask.config.set(scheduler="threads"):
        for name in ("flux", "ivar"):
            mine, theirs = far[name].values[order_far], near[name].values[order_near]
            assert mine.tobytes() == theirs.tobytes()


def test_what_is_stored_is_not_stored_again(stored: Stored, mock_survey: Path) -> None:
    again = run_ingest(stored.data, CONTEXT, [mock_survey], workers=1)
    assert (again.stored, again.already) == (0, again.files)


@pytest.mark.proof
def test_parts_are_merged_and_old_ones_deleted(fresh: DataRoot, tmp_path: Path) -> None:
    local = open_root(tmp_path / "local")
    for number in range(4):
        simulate_sdss(tmp_path / str(number), 4, seed=number)
        for data in (fresh, local):
            run_ingest(data, CONTEXT, [tmp_path / str(number)], workers=1)
    before = vectors(fresh, every(SpectroscopicService(fresh)))
    assert len(before) == 16
    for data in (fresh, local):
        maintain(data, CONTEXT, grace_s=0)
    # SeaweedFS lists a folder for a while after it has become empty.
    indexes = (data.context(CONTEXT).index for data in (fresh, local))
    parts = [[part for part in index.parts() if part.exists()] for index in indexes]
    assert len(parts[0]) == len(parts[1])
    assert vectors(fresh, every(SpectroscopicService(fresh))) == before
    assert all(not found.faults for found in verify(fresh))


def test_tables_are_joined(stored: Stored, tmp_path: Path) -> None:
    ids = every(SpectroscopicService(stored.local))[:20]
    table = tmp_path / "lines.csv"
    table.write_text("specobjid,width\n" + "".join(f"{i},{n}\n" for n, i in enumerate(ids)))
    service = SpectroscopicService(stored.data)
    attach_table(service.archive, CONTEXT, "lines", table, title="Lines")
    request = QueryRequest(
        CONTEXT, catalog="lines", fields=("specobjid", "width", "specobj.z"), primary=False
    )
    found = SpectroscopicService(stored.data).query(request).to_pylist()
    assert {row["specobjid"]: row["width"] for row in found} == dict(
        zip(ids, range(20), strict=True)
    )
    assert all(row["specobj.z"] is not None for row in found)


@pytest.mark.proof
def test_damage_in_the_bucket_is_an_error_and_damage_of_a_copy_is_not(
    fresh: DataRoot, tmp_path: Path
) -> None:
    simulate_sdss(tmp_path / "mock", 5, seed=3)
    run_ingest(fresh, CONTEXT, [tmp_path / "mock"], workers=1)
    ids = every(SpectroscopicService(fresh))
    sound = vectors(fresh, ids)
    backend = fresh.backend
    assert isinstance(backend, ObjectStore)
    ranges = Path(backend.cache.folder) / "ranges"
    for copy in ranges.iterdir():
        content = bytearray(copy.read_bytes())
        content[: len(content) // 2] = bytes(len(content) // 2)
        copy.write_bytes(content)
    assert vectors(fresh, ids) == sound
    shard = next(key for key in backend.keys("") if "/float32/c/" in key)
    content = bytearray(backend.read(shard))
    content[50] ^= 1
    backend.replace(shard, content)
    other = of_another_node(fresh, tmp_path / "cache")
    # As a process that begins now.
    shards._looks.clear()
    shards._open_shard.cache_clear()
    with pytest.raises(DamagedFile, match="checksum"):
        vectors(other, ids)
    assert [found for found in verify(other) if found.faults]


def test_damaged_copies_of_the_index_are_fetched_again(
    stored: Stored, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = every(SpectroscopicService(stored.local))
    for number, damage in enumerate((lambda b: b[: len(b) // 2], lambda b: bytes(len(b)))):
        other = of_another_node(stored.data, tmp_path / str(number))
        assert every(SpectroscopicService(other)) == expected
        vectors(other, expected[:3])
        for copy in (tmp_path / str(number) / "files").iterdir():
            copy.write_bytes(damage(copy.read_bytes()))
        service = SpectroscopicService(other)
        assert every(service) == expected
        assert vectors(other, expected[:3]) == vectors(stored.local, expected[:3])
        assert other.damaged_files() == []
    assert "made again" not in caplog.text


def test_a_copy_that_turns_out_damaged_is_not_read_any_more(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of a large part, which is compared with its digests while it is in use."""
    monkeypatch.setattr(opening, "_CHECKED_BYTES", 0)
    expected = every(SpectroscopicService(stored.local))
    other = of_another_node(stored.data, tmp_path)
    assert every(SpectroscopicService(other)) == expected
    opening.finish_checks()
    for copy in (tmp_path / "files").iterdir():
        content = bytearray(copy.read_bytes())
        content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)
        copy.write_bytes(content)
    service = SpectroscopicService(other)
    with contextlib.suppress(SpecServerError):
        every(service)
    for _ in range(40):
        opening.finish_checks()
        with contextlib.suppress(SpecServerError):
            if every(service) == expected:
                break
    assert every(service) == expected
    assert vectors(other, expected[:3]) == vectors(stored.local, expected[:3])


def test_threads_that_read_the_same_damaged_copy_give_it_up_each(fresh: DataRoot) -> None:
    fresh.backend.create("a", bytes(9000))
    opened = fresh.backend.open("a")
    with ThreadPoolExecutor(20) as pool:
        begun = threading.Barrier(20)

        def give_up(_: int) -> bool:
            begun.wait(20)
            return opened.discard_copies()

        assert all(pool.map(give_up, range(20)))
    # What one thread gives up time and again is as the store has it.
    assert [opened.discard_copies() for _ in range(4)] == [True, True, True, False]


def test_an_object_replaced_just_after_it_was_opened_is_seen_to_be(
    fresh: DataRoot, tmp_path: Path
) -> None:
    fresh.backend.create("a", bytes(9000))
    other = open_root(str(fresh), CacheOptions(str(tmp_path)), look_s=SERVER_LOOK_S)
    entry = other.entry("a")
    held = entry.open()
    assert entry.stamp() == held.state
    # As another process does.
    obstore.put(stores(str(fresh)).quick, "a", bytes(8000))
    assert entry.stamp_now() != held.state
    assert entry.stamp() != held.state


def test_what_was_deleted_is_no_unfinished_segment(fresh: DataRoot) -> None:
    """The store goes on listing its folder for minutes."""
    context = fresh.context(CONTEXT)
    segment = context.new_segment("0a1b2c3d")
    entry = segment.entry("a")
    entry.create(b"x")
    assert context.uncommitted() == [segment]
    entry.delete()
    assert not context.uncommitted()


def test_a_shard_whose_index_is_damaged_is_an_error(fresh: DataRoot, tmp_path: Path) -> None:
    simulate_sdss(tmp_path / "mock", 3, seed=4)
    run_ingest(fresh, CONTEXT, [tmp_path / "mock"], workers=1)
    ids = every(SpectroscopicService(fresh))
    shard = next(key for key in fresh.backend.keys("") if "/float32/c/" in key)
    content = bytearray(fresh.backend.read(shard))
    content[-50] ^= 1
    fresh.backend.replace(shard, content)
    with pytest.raises(DamagedFile, match="index is damaged"):
        vectors(of_another_node(fresh, tmp_path / "cache"), ids)


def test_shards_that_are_used_again_are_opened_once(stored: Stored, tmp_path: Path) -> None:
    ids = every(SpectroscopicService(stored.local))[:10]
    other = of_another_node(stored.data, tmp_path)
    vectors(other, ids)
    held = len([*Path("/proc/self/fd").iterdir()])
    for _ in range(5):
        # As half a minute later.
        other.backend._memory._known.clear()
        vectors(other, ids)
    assert len([*Path("/proc/self/fd").iterdir()]) <= held + 1


def test_a_file_larger_than_the_cache_can_be_read(stored: Stored, tmp_path: Path) -> None:
    other = open_root(stored.url, CacheOptions(str(tmp_path), 50_000))
    expected = every(SpectroscopicService(stored.local))
    for _ in range(3):
        assert every(SpectroscopicService(other)) == expected
    assert vectors(other, expected[:5]) == vectors(stored.local, expected[:5])


@pytest.mark.proof
def test_copies_stay_within_the_limit_and_answers_are_right(stored: Stored, tmp_path: Path) -> None:
    ids = every(SpectroscopicService(stored.local))
    small = open_root(stored.url, CacheOptions(str(tmp_path), 3_000_000))
    for at in range(0, 150, 10):
        assert vectors(small, ids[at : at + 10]) == vectors(stored.local, ids[at : at + 10])
    kept = sum(512 * path.stat().st_blocks for path in (tmp_path / "ranges").iterdir())
    assert kept < 4_000_000


def test_a_cache_too_small_for_the_index_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = NodeCache(CacheOptions(str(tmp_path), 10))

    def fetch(path: Path) -> None:
        path.write_bytes(bytes(9000))

    for name in "abcde":
        cache.whole(name, fetch)
    deadline = time.monotonic() + 20
    while "too small" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert caplog.text.count("too small for the index") == 1


def test_a_full_disk_keeps_no_copies_and_answers_all_the_same(
    stored: Stored, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    ids = every(SpectroscopicService(stored.local))[:40]
    other = of_another_node(stored.data, tmp_path)
    vectors(other, ids[-1:])
    monkeypatch.setattr(source.os, "pwrite", full)
    assert vectors(other, ids) == vectors(stored.local, ids)
    monkeypatch.undo()
    third = of_another_node(stored.data, tmp_path / "third")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(StoreError, match="SPECSERVER_CACHE"):
        every(SpectroscopicService(third))


@pytest.mark.proof
def test_a_killed_ingest_loses_nothing_and_the_next_one_need_not_wait(
    fresh: DataRoot, mock_survey: Path
) -> None:
    assert isinstance(fresh.backend, ObjectStore)
    words = ["ingest", CONTEXT, str(mock_survey), "--data", fresh.backend.url, "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-m", "specserver", *words])
    deadline = time.monotonic() + 60
    while not any("seg-" in key for key in fresh.backend.keys("")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    begun = time.monotonic()
    summary = run_ingest(fresh, CONTEXT, [mock_survey], workers=1)
    assert time.monotonic() - begun < 40
    assert len(every(SpectroscopicService(fresh))) == 150
    assert summary.stored + summary.already == summary.files
    assert all(not found.faults for found in verify(fresh))


@pytest.mark.proof
def test_ingests_on_two_nodes_store_each_spectrum_once(
    fresh: DataRoot, mock_survey: Path, tmp_path: Path
) -> None:
    assert isinstance(fresh.backend, ObjectStore)
    words = ["ingest", CONTEXT, str(mock_survey), "--data", fresh.backend.url, "--workers", "1"]
    nodes = [
        subprocess.Popen(
            [sys.executable, "-m", "specserver", *words],
            env={**os.environ, "SPECSERVER_CACHE": str(tmp_path / f"node {number}")},
        )
        for number in range(2)
    ]
    assert [node.wait(200) for node in nodes] == [0, 0]
    assert len(every(SpectroscopicService(fresh))) == 150
    assert all(not found.faults for found in verify(fresh))


def test_tokens_and_private_contexts_are_shared(stored: Stored, tmp_path: Path) -> None:
    other = of_another_node(stored.data, tmp_path)
    now = datetime.now(UTC)
    token = TokenBook(stored.data).create("ada", now=now)
    assert TokenBook(other).caller(token, now).user == "ada"
    number = TokenBook(other).records()[0].id
    TokenBook(other).revoke(number)
    with pytest.raises(specserver.errors.NotAuthenticated):
        TokenBook(stored.data).caller(token, now)
    set_private(other, CONTEXT, private=True)
    assert is_private(stored.data, CONTEXT)
    set_private(stored.data, CONTEXT, private=False)
    assert not is_private(other, CONTEXT)


def test_users_files(fresh: DataRoot, tmp_path: Path) -> None:
    space, other = (data.user_storage("ada", ROOMY) for data in (fresh, fresh))

    def put(name: str, content: bytes) -> None:
        draft = space.draft(name, len(content))
        draft.write(content)
        draft.commit()

    assert space.entries() == []
    put("ids.txt", b"1\n2\n")
    put("a/b/c.npy", bytes(20_000))
    put("ids.txt", b"1\n")
    assert [(one.name, one.is_folder, one.nbytes) for one in other.entries()] == [
        ("a", True, 0),
        ("ids.txt", False, 2),
    ]
    assert [one.name for one in other.entries("a")] == ["b"]
    file, state = other.open("a/b/c.npy")
    with file:
        assert (file.read(), state[1]) == (bytes(20_000), 20_000)
    used = space.usage()
    assert (used.nbytes, used.nentries) == (20_002, 4)
    # Nothing of ours has such a name.
    put("ids.txt.held", b"3\n")
    assert [one.name for one in other.entries()] == ["a", "ids.txt", "ids.txt.held"]
    space.remove("ids.txt.held")
    assert [one.name for one in space.entries()] == ["a", "ids.txt"]
    space.make_folder("empty")
    assert other.entries("empty") == []
    for name in ("a/b", "empty/../x", ".hidden"):
        with pytest.raises(BadParameter):
            space.draft(name, 1)
    with pytest.raises(BadParameter, match="not a folder"):
        space.draft("ids.txt/x", 1)
    with pytest.raises(BadParameter, match="not empty"):
        space.remove("a")
    space.remove("a", recursive=True)
    space.remove("empty")
    assert [one.name for one in space.entries()] == ["ids.txt"]
    for call in (space.open, space.entries, space.remove):
        with pytest.raises(NoSuchFile):
            call("a")
    with pytest.raises(QuotaExceeded):
        fresh.user_storage("ada", replace(ROOMY, nbytes=5)).draft("more", 4)
    assert fresh.user_storage("bob", ROOMY).entries() == []
    assert fresh.contexts() == set()


@pytest.mark.proof
def test_the_page_gives_what_it_shows(
    s3: S3Server, mock_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its commands run as a reader's do, in processes of their own."""
    page = next(page for page in PAGES if page.name == "object-store.md")
    folder = tmp_path / "sdss"
    folder.mkdir()
    for file in sorted(mock_survey.rglob("spec-*.fits"))[:4]:
        (folder / file.name).hardlink_to(file)
    monkeypatch.setenv("SPECSERVER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    before = "set -e; pip() { true; }\n"
    said = ""
    for language, _, text, _ in blocks(page):
        given = text.replace("/data/sdss/spectra", str(folder))
        given = re.sub("(specserver serve.*)", r"\1 --help", given)
        if language in {"sh", "python"}:
            program = {
                "sh": ["bash", "-c", before + given],
                "python": [sys.executable, "-c", given],
            }
            done = subprocess.run(program[language], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            said += done.stdout
    assert "4 spectra" in said
    assert float(said.split()[-1]) > 0


def test_a_forked_process_is_told_why_it_cannot_read(stored: Stored) -> None:
    stored.data.context(CONTEXT).segments()
    said = multiprocessing.get_context("fork").SimpleQueue()

    def ask() -> None:
        try:
            stored.data.context(CONTEXT).segments()
        except StoreError as error:
            said.put(error.message)

    process = multiprocessing.get_context("fork").Process(target=ask)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of forking beside threads
        process.start()
    process.join(30)
    assert process.exitcode == 0
    assert "spawn" in said.get()


@pytest.mark.proof
def test_a_service_answers_from_a_bucket_and_again_after_the_store_was_away(
    stored: Stored, s3: S3Server, mock_survey: Path, tmp_path: Path
) -> None:
    ids = every(SpectroscopicService(stored.local))
    with (
        serve(
            stored.url,
            mock_survey,
            workers=2,
            settings={"cache": tmp_path / "cache"},
            log=tmp_path / "log",
        ) as running,
        httpx.Client(base_url=running.url, timeout=60) as http,
    ):
        client = SpecClient(svc_url=running.url)
        asked = np.array(ids[:60], "u8")
        before = client.getSpec(asked, context=CONTEXT)
        with s3.hanging():
            time.sleep(SERVER_LOOK_S + 0.5)
            answer = http.get("/contexts")
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.json()["code"] == "unavailable"
            # The operator finds the address in the log; visitors are not told it.
            for hidden in ("s3://", s3.endpoint, BUCKET, "127.0.0.1"):
                assert hidden not in answer.text
            # Probes of the process itself do not wait for the store.
            assert http.get("/ping").status_code == 200
        assert re.search(rf"WARNING.* {re.escape(s3.endpoint)}/", (tmp_path / "log").read_text())
        after = client.getSpec(asked, context=CONTEXT)
        assert all(
            mine.tobytes() == first.tobytes() for mine, first in zip(after, before, strict=True)
        )
        s3.stop()
        with ThreadPoolExecutor(1) as pool:
            # The client asks again until the store is back.
            waiting = pool.submit(client.getSpec, np.array(ids[60:], "u8"), context=CONTEXT)
            time.sleep(2)
            s3.start()
            assert len(waiting.result(120)) == len(ids) - 60


def test_what_requests_want_each_time_is_asked_for_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(memory, "time", SimpleNamespace(monotonic=lambda: now))
    known, rounds = Memory(), list[list[str]]()

    def ask(questions: Sequence[Question]) -> list[str]:
        rounds.append(sorted(key for _, key in questions))
        return [key for _, key in questions]

    def request(*keys: str) -> list[list[str]]:
        rounds.clear()
        for key in keys:
            assert known.answers([(STAMP, key)], 1.0, ask) == [key]
        return [*rounds]

    assert request("a", "b", "once") == [["a"], ["b"], ["once"]]
    for number in range(200):
        now += 10.0
        asked = request("a", "b")
        # A question that no other request has is dropped.
        assert asked == [["a", "b", "once"] if number < 4 else ["a", "b"]]
    now += 601.0
    assert request("a", "b") == [["a"], ["b"]]


def test_requests_that_follow_each_other_do_not_wait_for_the_store(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(memory, "time", SimpleNamespace(monotonic=lambda: now))
    known, waits, ahead = Memory(), list[list[str]](), list[tuple[list[str], Future[list[Any]]]]()

    def ask(questions: Sequence[Question]) -> list[float]:
        waits.append(sorted(key for _, key in questions))
        return [now for _ in questions]

    def begin(questions: Sequence[Question]) -> Future[list[Any]]:
        ahead.append((sorted(key for _, key in questions), Future()))
        return ahead[-1][1]

    def request(age_s: float = 2.0) -> list[float]:
        waits.clear()
        found = [known.answers([(STAMP, key)], age_s, ask, begin)[0] for key in ("a", "b")]
        assert all(now - it < age_s or it == now for it in found)
        return found

    request()
    assert waits == [["a"], ["b"]]
    for at in (1000.5, 1001.1, 1001.9):
        now = at
        assert request() == [1000.0, 1000.0]
        assert not waits
    # One asks while the others are answered.
    assert [asked for asked, _ in ahead] == [["a", "b"]]
    ahead[0][1].set_result([1001.1, 1001.1])
    assert request() == [1001.1, 1001.1]
    now = 1002.2
    request()
    ahead[1][1].set_exception(OSError("it is away"))
    now = 1003.0
    request()
    # An error of one answer, too, leaves the one that was known.
    ahead[2][1].set_result([OSError("it is away"), 1003.0])
    assert request() == [1001.1, 1003.0]
    assert not waits
    now = 1003.2
    request()
    assert waits == [["a"]]
    # What writers ask is asked at once.
    with known.strict():
        request()
    assert waits == [["a"], ["b"]]
    known.forget("a")
    ahead[-1][1].set_result([0.0, 0.0])
    now += 0.1
    assert request()[0] == now


def test_what_cannot_be_asked_ahead_is_asked_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(memory, "time", SimpleNamespace(monotonic=lambda: now))
    known, begin = Memory(), Mock(side_effect=[RuntimeError, Future()])
    asked = [(STAMP, "a")], 2.0, lambda _: ["known"], begin
    assert known.answers(*asked) == ["known"]
    now = 1001.5
    with pytest.raises(RuntimeError):
        known.answers(*asked)
    assert known.answers(*asked) == known.answers(*asked) == ["known"]
    assert begin.call_count == 2
