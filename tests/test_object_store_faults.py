"""Object stores that are busy, late, or lack something: a right answer, or an error."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from benchmarks.s3server import BUCKET, S3Server, free_ports

from faultystore import Faults, faulty_store
from specserver.data.remote import locks
from specserver.data.remote.client import stores
from specserver.data.remote.memory import STAMP, Memory
from specserver.data.remote.options import CacheOptions
from specserver.data.root import DataRoot, open_root
from specserver.errors import BadParameter, StoreError, Unavailable
from specserver.ingest import run_ingest
from specserver.ingest.verify import verify
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest
from specserver.simulate import simulate_sdss

pytestmark = pytest.mark.proof

CONTEXT = "sdss_dr17"


@dataclass
class Faulty:
    """A data folder in a bucket behind a proxy with faults."""

    url: str
    faults: Faults
    folder: Path

    def opened(self, *, look_s: float = 0.0, node: str = "node") -> DataRoot:
        return open_root(self.url, CacheOptions(str(self.folder / node)), look_s=look_s)


@pytest.fixture
def faulty(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Faulty]:
    with faulty_store(s3.endpoint) as (endpoint, faults):
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("SPECSERVER_CACHE", str(tmp_path / "node"))
        yield Faulty(f"s3://{BUCKET}/{uuid4().hex}", faults, tmp_path)
    stores.cache_clear()  # with their connections


@pytest.fixture(scope="module")
def mock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mock")
    simulate_sdss(folder, 12, seed=5)
    return folder


def ids(data: DataRoot) -> list[int]:
    request = QueryRequest(CONTEXT, fields=("specobjid",), primary=False)
    return sorted(SpectroscopicService(data).query(request).column(0).to_pylist())


def spectra(data: DataRoot, some: list[int]) -> list[bytes]:
    service = SpectroscopicService(data)
    return [one.tobytes() for one in service.read(service.resolve(some, CONTEXT))]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("no_conditions", "ignores the header If-None-Match"), ("no_suffix", "answers a range")],
)
def test_a_store_that_lacks_what_is_needed_is_refused(
    faulty: Faulty, fault: str, said: str
) -> None:
    setattr(faulty.faults, fault, True)
    for ask in (faulty.opened().prepare, faulty.opened().require):
        with pytest.raises(StoreError, match=said):
            ask()
    words = ["ingest", CONTEXT, ".", "--data", faulty.url]
    done = subprocess.run(
        [sys.executable, "-m", "specserver", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert said in done.stderr.replace("\n", " ")
    assert "SeaweedFS" in done.stderr
    assert not [*faulty.opened().backend.keys("")]


def test_a_busy_store_is_asked_again(faulty: Faulty, mock: Path) -> None:
    data = faulty.opened()
    faulty.faults.busy = 5
    data.prepare()
    faulty.faults.busy = 30
    assert run_ingest(data, CONTEXT, [mock], workers=1).stored == 12
    assert faulty.faults.busy == 0
    faulty.faults.busy = 4
    assert len(spectra(faulty.opened(node="other"), ids(data))) == 12
    assert all(not found.faults for found in verify(data))


def test_a_store_that_stays_busy_is_an_error_and_then_an_answer(faulty: Faulty, mock: Path) -> None:
    data = faulty.opened()
    run_ingest(data, CONTEXT, [mock], workers=1)
    held = ids(data)
    served = faulty.opened(look_s=1.0, node="other")
    faulty.faults.busy = 10**6
    begun = time.monotonic()
    with pytest.raises(Unavailable, match="try again in 5 s"):
        spectra(served, held)
    assert time.monotonic() - begun < 30
    faulty.faults.busy = 0
    assert spectra(served, held) == spectra(data, held)


def test_keys_that_have_expired_are_no_damage(faulty: Faulty, mock: Path) -> None:
    data = faulty.opened()
    run_ingest(data, CONTEXT, [mock], workers=1)
    held = ids(data)
    served = faulty.opened(look_s=1.0, node="other")
    assert ids(served) == held
    faulty.faults.refused = True
    with pytest.raises(Unavailable, match="credentials"):
        spectra(served, held)
    with pytest.raises(Unavailable, match="credentials"):
        ids(faulty.opened(node="third"))
    with pytest.raises(StoreError, match="AWS_ACCESS_KEY_ID"):
        faulty.opened(node="fourth").backend.probe(writing=True)
    faulty.faults.refused = False
    assert spectra(served, held) == spectra(data, held)
    assert served.damaged_files() == []


def test_an_answer_that_comes_late_replaces_no_newer_one() -> None:
    memory, question = Memory(), (STAMP, "a")
    begun, later = threading.Event(), threading.Event()

    def slow(_: object) -> list[str]:
        begun.set()
        later.wait(10)
        return ["old"]

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(memory.answers, [question], 1.0, slow)
        begun.wait(10)
        assert memory.answers([question], 1.0, lambda _: ["new"]) == ["new"]
        later.set()
        assert waiting.result(10) == ["old"]
        assert memory.answers([question], 60.0, lambda _: ["newest"]) == ["new"]
        begun.clear()
        later.clear()
        memory.forget("a")
        waiting = pool.submit(memory.answers, [question], 1.0, slow)
        begun.wait(10)
        memory.forget("a")
        later.set()
        waiting.result(10)
    assert memory.answers([question], 60.0, lambda _: ["newest"]) == ["newest"]


def test_a_process_that_ends_while_it_reads_ends_quietly(faulty: Faulty) -> None:
    backend = faulty.opened().backend
    backend.replace("big", bytes(3_000_000))
    program = f"""
import time
from specserver.service import SpectroscopicService
from specserver.data.root import open_root
source = open_root({faulty.url!r}).backend.open("big")
source.will_need([(at, at + 5000) for at in range(0, 3_000_000, 80_000)])
time.sleep(0.15)
"""
    faulty.faults.delay_s = 0.2

    def ended() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
        )
        return done.returncode, done.stderr

    # On a machine that stands still for seconds a request may be given up after all.
    assert (0, "") in [ended() for _ in range(3)]


def test_ctrl_c_ends_an_ingest_whose_store_hangs(faulty: Faulty, mock: Path) -> None:
    words = [sys.executable, "-m", "specserver", "ingest", CONTEXT, str(mock), "--data", faulty.url]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as ingest:
        while faulty.faults.nrequest < 30 and ingest.poll() is None:
            time.sleep(0.02)
        faulty.faults.delay_s = 60.0
        time.sleep(1.0)
        asked = time.monotonic()
        ingest.send_signal(signal.SIGINT)
        said, _ = ingest.communicate(timeout=60)
    assert ingest.returncode == 130, said
    assert time.monotonic() - asked < 30
    assert b"Traceback" not in said
    # What it held is taken over, and the next one does the whole work.
    faulty.faults.delay_s = 0.0
    run_ingest(faulty.opened(), CONTEXT, [mock], workers=1)
    assert len(ids(faulty.opened())) > 0


def test_answers_that_are_lost_commit_once(faulty: Faulty, mock: Path) -> None:
    """A put that is sent again meets its own object, which is no other writer's."""
    data = faulty.opened()
    for key in ("a", "b", "c"):
        faulty.faults.lost = 1
        data.backend.create(key, b"mine")
        assert faulty.faults.lost == 0
    with pytest.raises(FileExistsError):
        data.backend.create("a", b"another's")
    faulty.faults.lost = 60
    assert run_ingest(data, CONTEXT, [mock], workers=1).stored == 12
    assert len(ids(data)) == 12
    assert all(not found.faults for found in verify(data))


def test_lists_that_are_old_hide_no_commit(faulty: Faulty, mock: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    simulate_sdss(more, 5, seed=6)
    data, other = faulty.opened(), faulty.opened(node="other")
    run_ingest(data, CONTEXT, [mock], workers=1)
    assert len(ids(other)) == 12
    faulty.faults.old_lists = True
    assert run_ingest(other, CONTEXT, [more], workers=1).stored == 5
    for node in (data, other):
        assert len(ids(node)) == 17
    faulty.faults.old_lists = False
    assert len(spectra(data, ids(data))) == 17
    assert all(not found.faults for found in verify(data))


def test_clocks_that_differ_free_no_lock(faulty: Faulty, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clocks of nodes are an hour apart; a lock is over when it is not renewed for a while."""
    here, there = (faulty.opened(node=node).backend for node in ("here", "there"))
    monkeypatch.setattr(locks, "LASTS_S", 3.0)
    monkeypatch.setattr(locks, "_RENEW_S", 0.5)
    real = time.time

    def wait() -> bool:
        with there.lock("lock") as mine:
            return mine

    with ThreadPoolExecutor(1) as pool:
        with here.lock("lock") as mine:
            assert mine
            monkeypatch.setattr(time, "time", lambda: real() + 3600)
            time.sleep(4)
            with there.lock("lock", wait=False) as theirs:
                assert not theirs
            waiting = pool.submit(wait)
            time.sleep(4)
            assert not waiting.done()
            # The node that holds it is lost: it renews the lock no more.
            monkeypatch.setattr(locks.RemoteLock, "_write", lambda *_: True)
            time.sleep(1)
            monkeypatch.undo()
            monkeypatch.setattr(locks, "LASTS_S", 3.0)
            monkeypatch.setattr(locks.RemoteLock, "_renew", lambda *_: None)
        assert waiting.result(30)


def test_a_store_that_never_answered_is_an_error_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (port,) = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    begun = time.monotonic()
    data = open_root(f"s3://{BUCKET}/{uuid4().hex}", CacheOptions(str(tmp_path)))
    with pytest.raises(Unavailable, match=r"AWS_ENDPOINT_URL its address\?"):
        data.prepare()
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("endpoint", ["127.0.0.1:8333", "ftp://127.0.0.1"])
def test_an_endpoint_without_its_scheme_is_refused(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(BadParameter, match="http:// or https://"):
        open_root(f"s3://{BUCKET}/{uuid4().hex}", CacheOptions(str(tmp_path)))


def test_what_is_no_address_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for misspelt in ("ftp://host/folder", "s3:/bucket/folder", "s3:bucket"):
        with pytest.raises(BadParameter, match=r"s3://bucket/prefix"):
            open_root(misspelt, CacheOptions(str(tmp_path)))
    monkeypatch.setenv("SPECSERVER_CACHE_BYTES", "20 GB")
    with pytest.raises(BadParameter, match="SPECSERVER_CACHE_BYTES"):
        open_root("s3://bucket/folder")


def test_a_cache_that_cannot_be_made_is_an_error_that_says_so(
    faulty: Faulty, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    data = open_root(faulty.url, CacheOptions(str(tmp_path / "file" / "cache")))
    with pytest.raises(StoreError, match="SPECSERVER_CACHE"):
        data.require()
    data.backend.replace("a", b"x")
    with pytest.raises(StoreError, match="SPECSERVER_CACHE"):
        data.backend.local_path("a")


def test_an_answer_that_is_cut_short_is_no_copy(faulty: Faulty) -> None:
    """Ranges lacked bytes, and in a copy of a file of the index zeros stood for them."""
    content = np.random.default_rng(4).bytes(1_000_003)
    backend = faulty.opened().backend
    backend.replace("big", content)
    ranges = [(0, 4096), (200_000, 204_096), (900_000, 1_000_003)]

    def read_ranges() -> list[bytes]:
        source = backend.open("big")
        source.will_need(ranges)
        return [source.read(begin, end - begin) for begin, end in ranges]

    wanted = [content[begin:end] for begin, end in ranges]
    for ask, answer in [
        (lambda: backend.local_path("big").read_bytes(), content),
        (read_ranges, wanted),
    ]:
        faulty.faults.short = 1
        with pytest.raises(Unavailable, match="cut them short"):
            ask()
        assert ask() == answer


def test_random_ranges_are_the_bytes_of_the_object(faulty: Faulty) -> None:
    rng = np.random.default_rng(3)
    content = rng.bytes(1_000_003)
    backend = faulty.opened().backend
    backend.replace("big", content)
    faulty.faults.nrequest = 0
    source = backend.open("big")
    for _ in range(20):
        starts = np.sort(rng.integers(0, len(content), 30))
        ranges = [
            (int(at), min(int(at) + int(n), len(content)))
            for at, n in zip(starts, rng.integers(1, 20_000, 30), strict=True)
        ]
        source.will_need(ranges)
        for begin, end in ranges:
            room = bytearray(end - begin)
            half = memoryview(room)[: len(room) // 2], memoryview(room)[len(room) // 2 :]
            assert source.read_into(begin, end, half, at_once=False) == end - begin
            assert bytes(room) == content[begin:end]
    assert faulty.faults.nrequest < 200
    for begin in (0, 5000, 999_999):
        assert source.read(begin, 100) == content[begin : begin + 100]
