"""Addresses of object stores, and requests that cannot be made: right, or an error at once."""

import asyncio
import atexit
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
from benchmarks.s3server import BUCKET, S3Server

from specserver.data.remote import client
from specserver.data.root import open_root
from specserver.errors import BadParameter


@pytest.fixture
def url(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a data folder that does not exist yet."""
    monkeypatch.setenv("SPECSERVER_CACHE", str(tmp_path / "node"))
    return f"s3://{BUCKET}/{uuid4().hex}"


_LATE = """
import atexit
def late():
    try:
        backend.read("big")
    except StoreError as error:
        print(error)
atexit.register(late)
from specserver.data.root import open_root
from specserver.errors import StoreError
backend = open_root({url!r}).backend
print(len(backend.read("big")))
"""
_DESTRUCTOR = """
import gc
from specserver.data.remote.client import LOOP
from specserver.data.root import open_root
from specserver.errors import StoreError
backend = open_root({url!r}).backend
class Ring:
    def __del__(self):
        try:
            backend.read("big")
        except StoreError as error:
            print(error)
ring = Ring()
ring.me = ring
del ring
backend.read("big")
async def collect():
    gc.collect()
LOOP.run(collect())
print(len(backend.read("big")))
"""


@pytest.mark.proof
@pytest.mark.parametrize(
    ("program", "said"), [(_LATE, "this process is ending"), (_DESTRUCTOR, "in __del__")]
)
def test_a_request_that_nobody_could_answer_is_an_error_at_once(
    url: str, program: str, said: str
) -> None:
    open_root(url).backend.replace("big", bytes(300))
    words = [sys.executable, "-c", program.format(url=url)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "300\n" in done.stdout
    assert said in done.stdout


def test_ctrl_c_while_the_loop_is_started_leaves_none_that_never_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    async def work() -> int:
        return 3

    made: list[asyncio.AbstractEventLoop] = []
    new = asyncio.new_event_loop

    def noted() -> asyncio.AbstractEventLoop:
        made.append(new())
        return made[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", noted)
    monkeypatch.setattr(atexit, "register", lambda *_: None)
    loop = client.Loop()
    waste = work()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            loop.run(waste)
    waste.close()
    assert loop.run(work(), 20.0) == 3
    for some in made:
        some.call_soon_threadsafe(some.stop)
        while some.is_running():
            time.sleep(0.01)
        some.close()


def test_addresses_that_differ_are_other_data_folders(url: str) -> None:
    tails = ["", "#1", "#2", "?1", " b", "%20b", "+b", "%2e", "%23", "é", "~", "&x=y", "s"]
    some = {tail: open_root(f"{url}{tail}").backend for tail in tails}
    for tail, backend in some.items():
        backend.replace("folder/a", tail.encode())
    for tail, backend in some.items():
        assert backend.read("folder/a") == tail.encode()
        assert list(backend.keys("")) == ["folder/a"]
    bucket = open_root(f"s3://{BUCKET}").backend
    names = {f"{url.rpartition('/')[2]}{tail}/" for tail in tails}
    assert names <= set(bucket.children(""))


@pytest.mark.parametrize(
    "address",
    [
        *("s3://", "s3:///x", "s3://a//b", "s3://a/../b", "s3://a/./b", "s3://a/b/.."),
        *("s3://a:80/b", "s3://a?b", "s3://a#b", "s3://me:se/cret@bucket/x", "s3://me:secret@a"),
    ],
)
def test_an_address_of_two_meanings_is_refused(address: str) -> None:
    with pytest.raises(BadParameter, match="data=") as raised:
        open_root(address)
    assert "secret" not in str(raised.value)
