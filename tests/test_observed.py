"""What operators see: metrics of all processes together, and a log line for each request."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import urllib3

from serving import Served, serve
from specserver import __version__


@pytest.fixture(scope="module")
def watched(
    mock_data: Path, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Path]]:
    """A service of two processes that logs JSON, and the folder for its temporary files."""
    folder = tmp_path_factory.mktemp("watched")
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TMPDIR", str(folder))
            patch.setenv("SPECSERVER_LOG_FORMAT", "json")
            running = stack.enter_context(serve(mock_data, mock_survey, workers=2))
        yield running, folder


def metrics(running: Served) -> str:
    answer = urllib3.request("GET", running.url.replace("/spec", "/metrics"))
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return answer.data.decode()


def value(text: str, series: str) -> float:
    found = re.search(rf"^{re.escape(series)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_all_processes_are_counted_together(watched: tuple[Served, Path]) -> None:
    running, folder = watched
    bulk = '{endpoint="/spec/bulk/spectra",method="POST",status="200"}'
    before = metrics(running)

    def ask(_: int) -> int:
        body = {"ids": "\n".join(map(str, running.ids[:5].tolist()))}
        with urllib3.PoolManager() as pool:
            answer = pool.request("POST", f"{running.url}/bulk/spectra", json=body)
            return len(answer.data)

    with ThreadPoolExecutor(8) as pool:
        nbytes = sum(pool.map(ask, range(40)))
    for path in ("nowhere/at/all", "vos/a%20file", "vos/another"):
        urllib3.request("GET", f"{running.url}/{path}")
    after = metrics(running)

    def grown(series: str) -> float:
        return value(after, series) - value(before, series)

    spectra = '{endpoint="/spec/bulk/spectra"}'
    assert grown(f"specserver_requests_total{bulk}") == 40
    assert grown(f"specserver_spectra_total{spectra}") == 200
    assert grown(f"specserver_sent_bytes_total{spectra}") == nbytes
    seconds = '_count{endpoint="/spec/bulk/spectra",method="POST"}'
    assert grown(f"specserver_request_seconds{seconds}") == 40
    assert grown(f"specserver_first_byte_seconds{seconds}") == 40
    vos = '{endpoint="/spec/vos/{name:path}",method="GET",status="401"}'
    assert grown(f"specserver_requests_total{vos}") == 2
    assert value(after, 'specserver_requests_total{endpoint="none",method="GET",status="404"}') == 1
    assert "nowhere" not in after
    assert value(after, f'specserver_info{{version="{__version__}"}}') == 1
    memory = re.findall(
        r'^specserver_resident_memory_bytes{process="\d+"} (\S+)$', after, re.MULTILINE
    )
    files = re.findall(r'^specserver_open_files{process="\d+"} (\S+)$', after, re.MULTILINE)
    assert len(memory) == len(files) == 2
    assert all(float(one) > 1e7 for one in memory)
    assert all(float(one) > 3 for one in files)
    assert len(list(folder.glob("specserver-metrics-*"))) == 1


def test_a_request_keeps_a_sane_name_and_gets_one_else(watched: tuple[Served, Path]) -> None:
    url = f"{watched[0].url}/ping"
    named = urllib3.request("GET", url, headers={"X-Request-ID": "proxy-1.a:b"})
    assert named.headers["X-Request-ID"] == "proxy-1.a:b"
    for bad in ("", "two words", "x" * 65, '"', "é"):
        made = urllib3.request("GET", url, headers={"X-Request-ID": bad.encode()})
        assert re.fullmatch("[0-9a-f]{16}", made.headers["X-Request-ID"])


def test_each_request_has_a_line_of_json(
    mock_data: Path, mock_survey: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECSERVER_LOG_FORMAT", "json")
        with serve(mock_data, mock_survey) as running:
            ids = {"ids": "\n".join(map(str, running.ids[:3].tolist()))}
            name = {"X-Request-ID": "mine"}
            urllib3.request("POST", f"{running.url}/bulk/spectra", json=ids, headers=name)
            urllib3.request("GET", f"{running.url}/no%0Aforged", headers={"X-Request-ID": "other"})
    told = capfd.readouterr().err.splitlines()
    lines = [json.loads(line) for line in told if line.startswith("{")]
    (mine,) = (line for line in lines if line.get("request_id") == "mine")
    assert mine["level"] == "INFO"
    assert (mine["method"], mine["route"]) == ("POST", "/spec/bulk/spectra")
    assert (mine["status"], mine["spectra"], mine["complete"]) == (200, 3, True)
    assert mine["bytes"] > 1000
    assert 0 < mine["first_byte_s"] <= mine["seconds"]
    (other,) = (line for line in lines if line.get("request_id") == "other")
    assert (other["path"], other["route"], other["status"]) == ("/spec/no\nforged", "none", 404)


@pytest.mark.proof
@pytest.mark.parametrize(("level", "seen"), [("warning", False), ("info", True)])
def test_text_has_a_line_for_each_request_from_info_on(
    mock_data: Path, mock_survey: Path, capfd: pytest.CaptureFixture[str], level: str, seen: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECSERVER_LOG_LEVEL", level)
        with serve(mock_data, mock_survey) as running:
            headers = {"X-Request-ID": "mine"}
            urllib3.request("GET", f"{running.url}/ping", headers=headers)
    said = capfd.readouterr().err
    told = [line for line in said.splitlines() if "[mine]" in line]
    assert bool(told) == seen, said
    assert all('route="/spec/ping" status=200' in line for line in told)


@pytest.mark.proof
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_the_folder_of_counts_goes_with_its_service(
    mock_data: Path, mock_survey: Path, tmp_path: Path, end: signal.Signals
) -> None:
    finished = subprocess.Popen(["true"])
    finished.wait()
    left = tmp_path / f"specserver-metrics-{finished.pid}-killed"
    left.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        with serve(mock_data, mock_survey, workers=2, spawned=False) as running:
            (kept,) = tmp_path.glob("specserver-metrics-*")
            assert kept != left
            running.process.send_signal(end)
            running.process.wait(30)
    assert list(tmp_path.glob("specserver-metrics-*")) == []
