"""Processes that die are told of, counted and replaced, but not for ever."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import urllib3

from serving import Served, serve
from specserver.server.runtime.deaths import CAUSES, death_of

# The service, for which a process that has started hangs if it does not answer for a second.
IMPATIENT = """
import sys
from specserver.cli import main, serve
serve._SILENCE_S = 1
sys.argv[1:] = sys.argv[4:]  # those after `python -m specserver`
main()
"""


def workers_of(running: Served) -> list[psutil.Process]:
    """Return the processes that answer."""
    found = []
    for child in psutil.Process(running.process.pid).children(recursive=True):
        try:
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def pids_of(running: Served) -> set[int]:
    """Return the processes that answer, of a service whose processes are forked."""
    found = set()
    for child in psutil.Process(running.process.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie is one, too
            # The tracker of multiprocessing does not answer.
            if "resource_tracker" not in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


def blocks_interrupts(process: psutil.Process) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    return bool(blocked >> (signal.SIGINT - 1) & 1)


def wait_until(met: Callable[[], bool], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not met():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def deaths(running: Served) -> dict[str, float]:
    """Return the count of each cause that is shown."""
    text = urllib3.request("GET", running.url.replace("/spec", "/metrics"), timeout=30).data
    shown = r'^specserver_worker_deaths_total{cause="(.+)"} (\S+)$'
    found = re.findall(shown, text.decode(), re.MULTILINE)
    assert len(dict(found)) == len(found)
    return {cause: float(count) for cause, count in found}


def is_ready(running: Served) -> bool:
    url = running.url.replace("/spec", "/health/ready")
    return urllib3.request("GET", url, retries=False, timeout=30).status == 200


@pytest.mark.proof
def test_a_worker_that_takes_long_to_start_is_left_to_it(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    """On a busy machine modules and indexes are read for longer than a hung one is waited for."""
    log = tmp_path / "log"
    impatient = (sys.executable, "-c", IMPATIENT)
    with serve(mock_data, mock_survey, workers=2, log=log, before=impatient) as running:
        before = {one.pid for one in workers_of(running)}
        slow = workers_of(running)[0]
        slow.suspend()
        time.sleep(3)
        slow.resume()
        wait_until(lambda: urllib3.request("GET", f"{running.url}/ping").status == 200)
        assert {one.pid for one in workers_of(running)} == before
    assert "ERROR" not in log.read_text()


@pytest.mark.proof
def test_a_worker_that_dies_is_told_of_and_replaced(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve(mock_data, mock_survey, workers=2, log=log) as running:
        # Prometheus sees the first death of a cause only if a 0 was shown before.
        assert deaths(running) == dict.fromkeys(CAUSES, 0)
        killed, ended = workers_of(running)
        killed.kill()
        wait_until(lambda: "takes the place" in log.read_text())
        ended.send_signal(signal.SIGSEGV)
        wait_until(lambda: log.read_text().count("takes the place") == 2)
        wait_until(lambda: len(workers_of(running)) == 2)
        assert urllib3.request("GET", f"{running.url}/ping", timeout=30).status == 200
        assert deaths(running) == dict.fromkeys(CAUSES, 0) | {"SIGKILL": 1, "SIGSEGV": 1}
    lines = [line for line in log.read_text().splitlines() if "ERROR" in line]
    assert f"worker {killed.pid} was killed by SIGKILL: out of memory?" in lines[0]
    assert any(f"worker {ended.pid} was killed by SIGSEGV" in line for line in lines)
    assert len(lines) == 4


def test_one_process_shows_the_causes_too(served: Served) -> None:
    assert deaths(served) == dict.fromkeys(CAUSES, 0)


@pytest.mark.proof
def test_a_restart_replaces_each_process_without_a_pause(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    """And those that are new are stopped as those before them: they drain."""
    log, settings = tmp_path / "log", {"drain_delay_s": 2}
    started = serve(mock_data, mock_survey, workers=2, log=log, settings=settings, spawned=False)
    with started as running:
        before = pids_of(running)
        assert len(before) == 2
        running.process.send_signal(signal.SIGHUP)

        def is_replaced() -> bool:
            assert urllib3.request("GET", f"{running.url}/ping", timeout=30).status == 200
            now = pids_of(running)
            return len(now) == 2 and not now & before

        wait_until(is_replaced, 60)
        assert log.read_text().count("takes the place") == 2
        assert log.read_text().count("answering for 2 s more") == 2, "the old ones drained"
        assert not any(deaths(running).values())
        running.process.send_signal(signal.SIGTTIN)
        wait_until(lambda: len(pids_of(running)) == 3)
        wait_until(lambda: is_ready(running))
        running.process.send_signal(signal.SIGTTOU)
        wait_until(lambda: len(pids_of(running)) == 2)
        running.process.terminate()
        wait_until(lambda: not is_ready(running))
        assert urllib3.request("GET", f"{running.url}/ping", timeout=30).status == 200
        assert running.process.wait(20) == 0
    assert "ERROR" not in log.read_text()


@pytest.mark.proof
def test_a_service_that_is_restarting_its_processes_can_be_stopped(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    """At once, also while the first one finishes its answers."""
    log, settings = tmp_path / "log", {"drain_delay_s": 3}
    started = serve(mock_data, mock_survey, workers=2, log=log, settings=settings, spawned=False)
    with started as running:
        running.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "takes the place" in log.read_text(), 60)
        running.process.terminate()
        assert running.process.wait(20) == 0
    assert log.read_text().count("takes the place") == 1
    assert "ERROR" not in log.read_text()


@pytest.mark.proof
def test_workers_that_die_again_and_again_end_the_service(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve(mock_data, mock_survey, workers=2, log=log) as running:
        deadline = time.monotonic() + 60
        while running.process.poll() is None:
            assert time.monotonic() < deadline, "it goes on for ever"
            for worker in workers_of(running):
                worker.kill()
            time.sleep(0.1)
        assert running.process.returncode == 1
    text = log.read_text()
    assert "specserver: workers died at once 5 times, the last one was killed by SIGKILL" in text
    assert "Traceback" not in text


@pytest.mark.proof
def test_a_service_that_is_stopped_tells_of_no_death(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve(mock_data, mock_survey, workers=2, log=log) as running:
        assert [blocks_interrupts(worker) for worker in workers_of(running)] == [True, True]
        for process in [*workers_of(running), running.process]:
            # As a terminal sends Ctrl-C, to all of them.
            process.send_signal(signal.SIGINT)
        try:
            running.process.wait(20)
        except subprocess.TimeoutExpired:
            pytest.fail("it does not stop")
    assert running.process.returncode == 130
    said = log.read_text().splitlines()
    # No death, no traceback of a worker, no warning of semaphores: after the address one line.
    assert said[-1] == "specserver: stopped"
    assert "at http://" in said[-2]


@pytest.mark.parametrize(
    ("exitcode", "cause", "told"),
    [
        (None, "hung", "did not answer"),
        (7, "exit", "ended with exit code 7"),
        (-11, "SIGSEGV", "was killed by SIGSEGV"),
        (-1, "signal", "was killed by SIGHUP"),
        (-50, "signal", "was killed by signal 50"),
    ],
)
def test_causes_of_death(exitcode: int | None, cause: str, told: str) -> None:
    assert death_of(exitcode) == (cause, told)
    assert cause in CAUSES
