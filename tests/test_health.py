"""Whether a server is alive and ready, how it ends, and two versions of it on one folder."""

import asyncio
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from httpx import ASGITransport, AsyncClient, Response

from commands import command
from conftest import CONTEXTS, TwoSurveys
from fronting import ports_of, program, run_nginx
from serving import Served, serve
from specserver import __version__
from specserver.client.api import SpecClient
from specserver.data.root import DataRoot, open_root
from specserver.digests import OWN, seal
from specserver.errors import NewerFormat
from specserver.server.app import create_app
from specserver.server.runtime import health as looked
from specserver.service import SpectroscopicService
from specserver.settings import Settings

NEWER_FORMAT = 99
# The service of a newer version, which reads a newer format of the index.
NEWER = f"""
import sys
from specserver.catalog.index import manifest
from specserver.cli import main
manifest._FORMAT = {NEWER_FORMAT}
sys.argv[1:] = sys.argv[4:]  # those after `python -m specserver`
main()
"""


def health(running: Served, which: str) -> urllib3.BaseHTTPResponse:
    url = running.url.replace("/spec", f"/health/{which}")
    return urllib3.request("GET", url, retries=False, timeout=30)


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not met():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def asked_in_process(data: Path) -> Response:
    """Return the answer of an application that has not been started."""

    async def ask() -> Response:
        transport = ASGITransport(create_app(Settings(data=data)))
        async with AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return await client.get("/health/ready")

    return asyncio.run(ask())


@pytest.fixture
def own_data(mock_data: Path, tmp_path: Path) -> Path:
    """A copy of the mock survey's data folder."""
    return Path(shutil.copytree(mock_data, tmp_path / "data"))


# --- Ready or not ---------------------------------------------------------------------------------


def test_a_server_says_that_it_is_alive_and_ready(served: Served) -> None:
    live, ready = health(served, "live"), health(served, "ready")
    assert live.json() == {"status": "live", "version": __version__}
    assert ready.json() == {"status": "ready", "version": __version__, "contexts": 1}
    counted = urllib3.request("GET", served.url.replace("/spec", "/metrics")).data.decode()
    assert (
        'specserver_requests_total{endpoint="/health/ready",method="GET",status="200"}' in counted
    )


@pytest.mark.proof
def test_a_server_whose_data_are_gone_is_alive_but_not_ready(
    own_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve(own_data, mock_survey, log=log) as running:
        assert health(running, "ready").status == 200
        away = own_data.rename(tmp_path / "away")
        wait_until(lambda: health(running, "ready").status == 503)
        answer = health(running, "ready")
        assert answer.headers["Retry-After"] == "2"
        assert "there is no such data folder" in answer.json()["message"]
        assert str(tmp_path) not in answer.json()["message"]
        assert health(running, "live").status == 200
        away.rename(own_data)
        wait_until(lambda: health(running, "ready").status == 200)
    lines = [line for line in log.read_text().splitlines() if "ready" in line]
    assert len(lines) == 2, "each change has one line"
    assert "not ready: " in lines[0]
    assert "ready again" in lines[1]


@pytest.mark.proof
def test_a_data_folder_that_hangs_is_told_in_time(
    own_data: Path, mock_survey: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of a network file system whose server is away."""
    import asyncio

    from httpx import ASGITransport, AsyncClient

    from specserver.server.app import create_app
    from specserver.settings import Settings

    monkeypatch.setattr(looked, "_WAIT_S", 0.2)
    hangs, looks = threading.Event(), []

    def require(folder: DataRoot) -> DataRoot:
        looks.append(folder)
        hangs.wait(20)
        return folder

    monkeypatch.setattr(DataRoot, "require", require)

    async def ask() -> list[int]:
        app = create_app(Settings(data=own_data))
        async with AsyncClient(transport=ASGITransport(app), base_url="http://127.0.0.1") as client:
            late = [(await client.get("/health/ready")).status_code for _ in range(8)]
            assert (await client.get("/health/live")).status_code == 200
            hangs.set()
            return [*late, (await client.get("/health/ready")).status_code]

    assert asyncio.run(ask()) == [503] * 8 + [200]
    assert len(looks) == 1, "no second look while one hangs"


def test_a_folder_without_spectra_is_ready(tmp_path: Path) -> None:
    """Else a new service could never be put behind its web server."""
    (tmp_path / "empty").mkdir()
    assert asked_in_process(tmp_path / "empty").json()["contexts"] == 0


# --- The end --------------------------------------------------------------------------------------


@pytest.mark.proof
@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_is_stopped_answers_for_a_while(
    workers: int, mock_data: Path, mock_survey: Path
) -> None:
    settings = {"drain_delay_s": 2}
    with ExitStack() as stack:
        started = serve(mock_data, mock_survey, settings=settings, workers=workers, spawned=False)
        running = stack.enter_context(started)
        port = ports_of(running)[0]
        pool = stack.enter_context(urllib3.HTTPConnectionPool("127.0.0.1", port))
        assert "Connection" not in pool.request("GET", "/spec/ping").headers
        running.process.terminate()
        wait_until(lambda: health(running, "ready").status == 503)
        assert "stopped" in health(running, "ready").json()["message"]
        answer = pool.request("GET", "/spec/ping")
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"
        client = SpecClient(svc_url=running.url)
        assert len(client.getSpec(running.ids[:30])) == 30
        assert running.process.wait(20) == 0


@pytest.mark.proof
@pytest.mark.parametrize("workers", [1, 2])
def test_a_second_signal_ends_the_wait(workers: int, mock_data: Path, mock_survey: Path) -> None:
    settings = {"drain_delay_s": 600}
    with serve(
        mock_data, mock_survey, settings=settings, workers=workers, spawned=False
    ) as running:
        running.process.terminate()
        wait_until(lambda: health(running, "ready").status == 503)
        running.process.terminate()
        assert running.process.wait(20) == 0


def streaming(running: Served) -> tuple[urllib3.BaseHTTPResponse, Iterator[bytes]]:
    """Return a long answer that has begun, and its pieces."""
    asked = {"ids": "\n".join(map(str, np.tile(running.ids, 20).tolist()))}
    answer = urllib3.request(
        "POST", f"{running.url}/bulk/spectra", json=asked, preload_content=False
    )
    pieces = answer.stream(2**16)
    next(pieces)
    return answer, pieces


@pytest.mark.proof
def test_answers_in_progress_are_finished(mock_data: Path, mock_survey: Path) -> None:
    with serve(mock_data, mock_survey) as running:
        _, pieces = streaming(running)
        running.process.terminate()
        time.sleep(0.5)
        assert sum(map(len, pieces)) > 10 * 2**20
        assert running.process.wait(20) == 0


@pytest.mark.proof
def test_an_answer_that_takes_too_long_breaks_off(mock_data: Path, mock_survey: Path) -> None:
    with serve(mock_data, mock_survey, settings={"drain_timeout_s": 0.5}) as running:
        _, pieces = streaming(running)
        running.process.terminate()
        assert running.process.wait(20) == 0
        with pytest.raises(urllib3.exceptions.ProtocolError):
            for _ in pieces:
                pass


# --- Two versions ---------------------------------------------------------------------------------


def write_newer(data: Path, context: str) -> Path:
    """Make the newest manifest of a context one of a newer version; return its file."""
    index = open_root(data).context(context).index
    entry = index.manifest(index.versions()[-1])
    values: dict[str, Any] = json.loads(entry.read())
    del values[OWN]
    entry.replace(seal(values | {"format": NEWER_FORMAT}))
    return entry.local_path()


@pytest.mark.proof
def test_a_newer_index_is_refused_and_left_as_it_is(
    two_surveys: TwoSurveys, tmp_path: Path
) -> None:
    data = Path(shutil.copytree(two_surveys.served.data, tmp_path / "data"))
    with serve(data, tmp_path) as running:
        client = SpecClient(svc_url=running.url)
        number = int(running.ids[0])
        assert len(client.getSpec(number)) > 1000
        manifest = write_newer(data, CONTEXTS[0])
        before = sorted((str(path), path.stat().st_mtime_ns) for path in data.rglob("*.json"))
        body = {"ids": str(number), "context": CONTEXTS[0]}
        answer = urllib3.request("POST", f"{running.url}/bulk/spectra", json=body, retries=False)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        assert answer.json()["code"] == NewerFormat.code == "newer_format"
        assert f"format {NEWER_FORMAT} is newer" in answer.json()["message"]
        assert "install the newer specserver" in answer.json()["message"]
        other = {"ids": str(two_surveys.pairs[0][1]), "context": CONTEXTS[1]}
        answer = urllib3.request("POST", f"{running.url}/bulk/spectra", json=other)
        assert answer.status == 200, "other contexts go on"
        wait_until(lambda: health(running, "ready").status == 503)
    # Neither the service nor a command of the older version writes an index of its own.
    assert "newer" in command("maintain", CONTEXTS[0], "--data", data, code=1)
    SpectroscopicService(open_root(data)).archive.ensure_indexes()
    assert asked_in_process(data).status_code == 503
    after = sorted((str(path), path.stat().st_mtime_ns) for path in data.rglob("*.json"))
    assert after == before
    assert json.loads(manifest.read_bytes())["format"] == NEWER_FORMAT


@pytest.mark.proof
def test_two_versions_behind_one_proxy_answer_right_or_say_why_not(
    own_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    program("nginx")
    newer = (sys.executable, "-c", NEWER)
    with (
        serve(own_data, mock_survey) as old,
        serve(own_data, mock_survey, before=newer) as new,
        run_nginx(tmp_path / "nginx", ports_of(old, new)) as front,
    ):
        write_newer(own_data, CONTEXTS[0])
        body = {"ids": str(old.ids[0])}
        with front.pool() as pool:
            answers = [
                pool.request("POST", f"{front.url}/bulk/spectra", json=body) for _ in range(12)
            ]
        whole = urllib3.request("POST", f"{new.url}/bulk/spectra", json=body)
        assert whole.status == 200
        for answer in answers:
            if answer.status == 200:
                assert answer.data == whole.data
            else:
                assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
                assert answer.json()["code"] == "newer_format"
        assert {answer.status for answer in answers} == {200, 503}
        assert (health(old, "ready").status, health(new, "ready").status) == (503, 200)
