"""Processes that die are told of, counted and replaced, but not for ever."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import urllib3

from serving import Served, serve
from specserver.server.runtime.supervisor import _death_of

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


def blocks_interrupts(process: psutil.Process) -> bool:
    status = Path(f"/proc/{process.pid}/status").read_text()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    return bool(blocked >> (signal.SIGINT - 1) & 1)


def wait_until(met: Callable[[], bool], limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not met():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def deaths(running: Served, cause: str) -> float:
    text = urllib3.request("GET", running.url.replace("/spec", "/metrics"), timeout=30).data
    wanted = f'specserver_worker_deaths_total{{cause="{cause}"}} '
    lines = [line for line in text.decode().splitlines() if line.startswith(wanted)]
    return sum(float(line.split()[1]) for line in lines)


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


def test_a_worker_that_dies_is_told_of_and_replaced(
    mock_data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with serve(mock_data, mock_survey, workers=2, log=log) as running:
        killed, ended = workers_of(running)
        killed.kill()
        wait_until(lambda: "takes the place" in log.read_text())
        ended.send_signal(signal.SIGSEGV)
        wait_until(lambda: log.read_text().count("takes the place") == 2)
        wait_until(lambda: len(workers_of(running)) == 2)
        assert urllib3.request("GET", f"{running.url}/ping", timeout=30).status == 200
        assert (deaths(running, "SIGKILL"), deaths(running, "SIGSEGV")) == (1, 1)
    lines = [line for line in log.read_text().splitlines() if "ERROR" in line]
    assert f"worker {killed.pid} was killed by SIGKILL: out of memory?" in lines[0]
    assert any(f"worker {ended.pid} was killed by SIGSEGV" in line for line in lines)
    assert len(lines) == 4


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
        (-50, "SIGRTMIN+16", "was killed by signal 50"),
    ],
)
def test_causes_of_death(exitcode: int | None, cause: str, told: str) -> None:
    assert _death_of(exitcode)[1] == told
