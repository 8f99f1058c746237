"""The cluster of `make cluster`, with few spectra: its parts are killed, and its clients look."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from benchmarks.cluster.clients import Answer, is_documented
from benchmarks.cluster.losses import Loss
from benchmarks.cluster.parts import Missing, require_programs
from benchmarks.cluster.steps import _logged
from benchmarks.cluster.throughput import OTHERS, Rate, ratio, told
from benchmarks.postgres_cluster import NoPostgres

pytestmark = pytest.mark.proof

ROOT = Path(__file__).parents[1]
LOSSES = ("a node", "PostgreSQL", "the object store: kill -9", "the object store: SIGSTOP")


@pytest.fixture(scope="module")
def programs() -> None:
    try:
        require_programs()
    except (Missing, NoPostgres) as reason:
        pytest.skip(str(reason))


@pytest.fixture
def started(programs: None, tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The quick form, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.cluster", "--quick", "--folder", str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def left_of(folder: Path) -> list[str]:
    """Return the commands of processes that have to do with a folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(folder) in words and process.info["pid"] != os.getpid():
            found.append(words)
    return found


def test_parts_are_killed_and_clients_see_nothing_wrong(
    started: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    said, _ = started.communicate(timeout=240)
    assert started.returncode == 0, said
    for loss in LOSSES:
        assert f"| {loss}" in said, said
    assert "killed worker-" in said
    assert "300 spectra ingested" in said
    assert "No client saw a wrong value" in said
    assert f"To remove it: rm -r {tmp_path}" in said
    assert left_of(tmp_path) == []
    assert not [*tmp_path.glob("cluster-*")]


def test_all_parts_end_when_it_is_interrupted(
    started: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    assert started.stdout
    for line in started.stdout:
        if "started in" in line:
            break
    assert left_of(tmp_path)
    started.send_signal(signal.SIGINT)
    started.communicate(timeout=60)
    assert started.returncode
    assert left_of(tmp_path) == []
    assert not [*tmp_path.glob("cluster-*")]


def answer(outcome: str, begun_s: float, ended_s: float, *, client: int = 0) -> Answer:
    return Answer(client, "", begun_s, ended_s, outcome, f"{outcome} at 127.0.0.1:7", 1)


def test_what_clients_saw_is_counted() -> None:
    loss = Loss("a part", 10.0, 15.0)
    loss.answers = [
        answer("right", 9.5, 10.5),
        answer("Overloaded", 10.6, 12.0),
        answer("right", 12.1, 13.0, client=1),
        answer("cut off", 13.0, 14.0),
        answer("right", 14.0, 15.5),
        answer("right", 16.0, 17.0, client=1),
    ]
    assert loss.outcomes == {"right": 4, "Overloaded": 1, "cut off": 1}
    assert (loss.first_right_s, loss.all_right_s) == (3.0, 2.0)
    assert loss.faults([]) == []
    # A right answer has no message that could name a part.
    assert len(loss.faults(["127.0.0.1:7"])) == 2
    loss.answers += [answer("wrong", 17.0, 18.0), answer("ServiceError", 17.0, 18.0)]
    assert len(loss.faults([])) == 2


def test_errors_that_are_documented_are_those_of_parts_that_are_lost() -> None:
    good = {"Overloaded", "Unavailable", "DatabaseAway", "cut off"}
    for outcome in (*good, "NotFound", "ServiceError", "StoreError", "wrong", "Unreachable"):
        assert is_documented(answer(outcome, 0, 1)) == (outcome in good)


def test_two_nodes_are_compared_with_one_in_each_round() -> None:
    rates = [Rate(1 + at % 2, rate, {}, 0) for at, rate in enumerate((10, 15, 20, 30, 10, 18))]
    assert ratio(rates) == 1.5
    rates = [Rate(1, 1000.0, {"nginx": 0.25}, 0), Rate(2, 1500.0, {"nginx": 0.5}, 0)]
    said = told(rates)
    assert said[0].startswith("1 node: 1,000 spectra a second;")
    assert said[1].endswith("nginx 0.50")
    assert said[2:] == ["two nodes ÷ one: 1.50"]
    rates = [Rate(nnodes, 1000.0, {OTHERS: 0.9 * (os.cpu_count() or 1)}, 0) for nnodes in (1, 2)]
    assert "are not comparable" in told(rates)[-1]


def test_lines_of_the_log_are_whole_and_those_of_a_kind_together(tmp_path: Path) -> None:
    log = tmp_path / "log"
    place = "s3://spectra/archive/sdss_dr16/seg-000001-3f/segment.json"
    said = [("WARNING", f"{place} did not come in {n}.5 s: " + "x" * 90) for n in (7, 8)]
    said += [("INFO", "GET /spec"), ("ERROR", "the database is away")]
    log.write_text("".join(json.dumps({"level": a, "message": b}) + "\n" for a, b in said))
    parts: Any = SimpleNamespace(nodes=[SimpleNamespace(log=log)])
    assert _logged(parts) == [
        [f"{level} {text}" for level, text in said[:2]],
        ["ERROR the database is away"],
    ]
