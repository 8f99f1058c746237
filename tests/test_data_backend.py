"""What every back end of a data folder does: the contract that the rest builds on."""

import errno
import os
import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from benchmarks.s3server import BUCKET

from specserver.damage import ABSENT
from specserver.data.backend import Backend
from specserver.data.local import LocalFolder
from specserver.data.remote.client import Changed
from specserver.data.remote.options import CacheOptions
from specserver.data.remote.store import open_store
from specserver.files import locked


def local_folder(path: Path, _: pytest.FixtureRequest) -> Backend:
    return LocalFolder(str(path / "data"))


def object_store(path: Path, request: pytest.FixtureRequest) -> Backend:
    request.getfixturevalue("s3")
    return open_store(f"s3://{BUCKET}/{uuid4().hex}/data", CacheOptions(str(path / "cache")))


BACKENDS: dict[str, Callable[[Path, pytest.FixtureRequest], Backend]] = {
    "local folder": local_folder,
    "S3": object_store,
}


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """An empty data folder, kept in each way."""
    return BACKENDS[request.param](tmp_path, request)


def test_nothing_is_there_before_it_is_written(backend: Backend) -> None:
    assert backend.children("") == []
    assert list(backend.keys("")) == []
    assert backend.stamp("a/b") == ABSENT
    for read in (backend.read, backend.open):
        with pytest.raises(FileNotFoundError):
            read("a/b")
    backend.delete("a/b")
    backend.delete_tree("a")


def test_what_is_written_is_read_and_listed(backend: Backend) -> None:
    backend.replace("one/a", b"first")
    backend.replace("one/deep/er/b", memoryview(b"second"))
    backend.replace("top", b"")
    assert backend.read("one/a") == b"first"
    assert sorted(backend.children("")) == ["one/", "top"]
    assert sorted(backend.children("one")) == ["a", "deep/"]
    assert sorted(backend.keys("")) == ["one/a", "one/deep/er/b", "top"]
    assert sorted(backend.keys("one")) == ["one/a", "one/deep/er/b"]
    assert backend.stamp("one/a") != ABSENT
    assert backend.has_folder("one")
    assert not backend.has_folder("two")
    assert backend.children("one/a") == []


def test_a_stamp_changes_when_an_object_does(backend: Backend) -> None:
    backend.replace("a", b"first")
    first = backend.stamp("a")
    assert first == backend.stamp("a") != ABSENT
    backend.replace("a", b"other")
    assert backend.stamp("a") != first
    touched = backend.stamp("a")
    # An object store has times of whole seconds.
    time.sleep(1.1 if backend.is_far else 0)
    backend.touch("a")
    assert backend.stamp("a") != touched
    assert backend.read("a") == b"other"
    backend.delete("a")
    assert backend.stamp("a") == ABSENT
    with pytest.raises(FileNotFoundError):
        backend.touch("a")


@pytest.mark.proof
def test_of_several_writers_of_a_new_object_one_succeeds(backend: Backend) -> None:
    start = threading.Barrier(8)

    def write(number: int) -> bool:
        start.wait()
        try:
            backend.create("folder/record", f"writer {number}".encode())
        except FileExistsError:
            return False
        return True

    # SeaweedFS lets losers wait for a second or two.
    for _ in range(3 if backend.is_far else 20):
        with ThreadPoolExecutor(8) as pool:
            won = list(pool.map(write, range(8)))
        assert sum(won) == 1
        assert backend.read("folder/record") == f"writer {won.index(True)}".encode()
        assert backend.children("folder") == ["record"]
        backend.delete("folder/record")


def test_a_reader_sees_one_whole_object_or_the_other(backend: Backend) -> None:
    contents = [bytes([number]) * 200_000 for number in (1, 2)]
    backend.replace("a", contents[0])
    done = threading.Event()

    def write() -> None:
        for number in range(50):
            backend.replace("a", contents[number % 2])
        done.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(write)
        while not done.is_set():
            assert backend.read("a") in contents
    assert backend.children("") == ["a"]


def test_a_folder_that_two_delete_at_once_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = LocalFolder(str(tmp_path))
    for name in "abcd":
        backend.create(f"top/{name}", b"content")
    unlink, nvanished = os.unlink, 0

    def vanishing(path: str, *, dir_fd: int | None = None) -> None:
        """Another process deletes the file first."""
        nonlocal nvanished
        unlink(path, dir_fd=dir_fd)
        nvanished += 1
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)

    monkeypatch.setattr(os, "unlink", vanishing)
    backend.delete_tree("top")
    assert nvanished == 4
    assert not backend.has_folder("top")
    backend.delete_tree("top")


@pytest.mark.parametrize("at_once", [False, True])
def test_ranges_are_read(backend: Backend, *, at_once: bool) -> None:
    content = bytes(range(256)) * 40
    backend.replace("a", content)
    source = backend.open("a")
    assert (source.state, source.nbytes) == (backend.stamp("a"), len(content))
    assert source.read(100, 50) == content[100:150]
    assert source.read(len(content) - 10, 50) == content[-10:]
    source.will_need([(300, 400)])
    buffers = [bytearray(30), bytearray(70)]
    got = source.read_into(300, 400, buffers, at_once=at_once)
    if not at_once:
        assert got == 100
    assert b"".join(buffers)[:got] == content[300 : 300 + got]


def test_an_open_object_stays_the_same_when_another_takes_its_place(backend: Backend) -> None:
    backend.replace("a", b"first")
    source = backend.open("a")
    backend.replace("a", b"other")
    # An object store has one version of an object: what was not read is an error then.
    for _ in range(2):
        with suppress(Changed, FileNotFoundError) if backend.is_far else nullcontext():
            assert source.read(0, 5) == b"first"
        assert source.state != backend.stamp("a")
        backend.delete("a")


def test_what_is_deleted_is_gone(backend: Backend) -> None:
    for key in ("one/a", "one/b/c", "two/a"):
        backend.replace(key, b"x")
    backend.delete("one/a")
    assert sorted(backend.keys("")) == ["one/b/c", "two/a"]
    backend.delete_tree("one")
    assert list(backend.keys("")) == ["two/a"]
    assert not backend.has_folder("one")


def test_one_holds_a_lock_at_a_time(backend: Backend) -> None:
    def wait() -> bool:
        with backend.lock("folder/lock") as mine:
            return mine

    with ThreadPoolExecutor(1) as pool:
        with backend.lock("folder/lock") as mine:
            assert mine
            with backend.lock("folder/lock", wait=False) as other:
                assert not other
            waiting = pool.submit(wait)
            time.sleep(0.05)
            assert not waiting.done()
        assert waiting.result(10)
    with backend.lock("folder/lock", wait=False) as again:
        assert again


def test_who_waits_for_a_lock_that_is_deleted_makes_it_again(backend: Backend) -> None:
    inside, most = 0, 0

    def hold(_: int) -> None:
        nonlocal inside, most
        with backend.lock("folder/lock"):
            inside += 1
            most = max(most, inside)
            time.sleep(0.001)
            inside -= 1
            backend.delete("folder/lock")
            with suppress(OSError):
                backend.delete("folder")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(40)))
    assert most == 1


@pytest.mark.parametrize("kind", ["a file", "a link to nothing", "a file system of the kernel"])
def test_a_lock_where_no_folder_can_be_made_is_an_error(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "folder"
    if kind == "a file":
        folder.touch()
    elif kind == "a link to nothing":
        folder.symlink_to(tmp_path / "nowhere" / "else")
    else:
        folder = Path("/proc/nothing")
    with pytest.raises(OSError, match=r"exists|No such|Not a"), locked(folder / "lock"):
        pass


@pytest.mark.parametrize("key", ["..", "../a", "a/../../b", "a/.."])
def test_no_key_leads_out(backend: Backend, key: str) -> None:
    with pytest.raises(ValueError, match="is no key"):
        backend.read(key)
    with pytest.raises(ValueError, match="is no key"):
        backend.replace(key, b"")


def test_it_is_the_same_in_another_process(backend: Backend) -> None:
    backend.replace("a", b"x")
    other = pickle.loads(pickle.dumps(backend))
    assert other == backend
    assert hash(other) == hash(backend)
    assert other.read("a") == b"x"


def test_libraries_find_the_files(backend: Backend) -> None:
    backend.replace("a/b", b"bytes")
    assert backend.local_path("a/b").read_bytes() == b"bytes"
    backend.make_folder("new/one")
    backend.new_path("new/one/file").write_bytes(b"theirs")
    path = backend.allocate("new/two", b"head", 96)
    assert path.read_bytes() == b"head" + bytes(96)
    with pytest.raises(FileExistsError):
        backend.allocate("new/two", b"head", 96)
    assert backend.local_path("new/two").read_bytes() == b"head" + bytes(96)
    assert b"".join(map(bytes, backend.blocks("new/two"))) == b"head" + bytes(96)
    backend.sync("new")
    assert backend.read("new/one/file") == b"theirs"
    assert backend.read("new/two") == b"head" + bytes(96)
    for key in ("new/one/file", "new/two"):
        assert backend.local_path(key).read_bytes() == backend.read(key)
        assert b"".join(map(bytes, backend.blocks(key))) == backend.read(key)


def test_many_are_asked_for_at_once(backend: Backend) -> None:
    keys = [f"a/{number}" for number in range(300)]
    for key in keys[::3]:
        backend.replace(key, key.encode())
    expected = [key.encode() if key in {*keys[::3]} else None for key in keys]
    assert backend.read_many(keys) == expected
    found = backend.stamps(keys)
    assert [stamp == ABSENT for stamp in found] == [content is None for content in expected]
    assert [stamp[1] for stamp in found] == [len(content or b"") for content in expected]
    backend.will_open(keys, 2)
    for key in keys[:9:3]:
        assert backend.open(key).read(0, 100) == key.encode()
