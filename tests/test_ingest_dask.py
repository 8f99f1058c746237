"""An ingest on a Dask cluster: equal to one in processes of its own, whatever workers suffer."""

import errno
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import psutil
import pytest
from dask.distributed import Client, LocalCluster

from commands import command
from serving import free_port
from specserver.cli import ingest as cli_ingest
from specserver.data.context import SegmentFolder
from specserver.data.leases import Lease
from specserver.data.root import open_root
from specserver.errors import IngestError
from specserver.ingest import (
    IngestSummary,
    dask_connection,
    dask_worker,
    on_dask,
    pipeline,
    plan,
    run_ingest,
    surroundings,
)
from specserver.ingest.dask_connection import connected, local_settings
from specserver.ingest.decisions import IngestOptions
from specserver.ingest.losses import Losses
from specserver.ingest.on_dask import DaskExecutor
from specserver.ingest.surroundings import Surroundings, version_text
from specserver.model.survey import FileKey
from test_ingest import faults, stored_ids

CONTEXT = "sdss_dr17"
ONE_DEATH = {"distributed.scheduler.allowed-failures": 0}
"""A task is given up with the first worker that dies on it."""
SHORT_LIFE = {"distributed.scheduler.worker-ttl": "1s"}
"""A worker that is not heard of is given up after five seconds."""
LONGEST_S = 60.0
HOOKS = str(Path(__file__).with_name("dask_hooks.py"))
WITHOUT = """
import sys
from importlib import metadata

def version(name, known=metadata.version):
    if name == "specserver":
        raise metadata.PackageNotFoundError(name)
    return known(name)

metadata.version, sys.modules["specserver"] = version, None
"""
"""Program of a process of Dask to which specserver is not installed."""
OLD = """
from importlib import metadata

def version(name, known=metadata.version):
    return "0.0" if name == "specserver" else known(name)

metadata.version = version
"""
"""Likewise, of one that has an old version."""


@contextmanager
def cluster_of(nworkers: int, **given: Any) -> Iterator[Client]:
    """Start a cluster, its workers being processes unless it is told otherwise."""
    usual = {
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
        "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"},
        "silence_logs": 50,
    }
    with (
        dask.config.set(local_settings()),
        LocalCluster(n_workers=nworkers, **(usual | given)) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """A cluster of two workers, which are threads of this process."""
    with cluster_of(2, processes=False, protocol="tcp://") as found:
        yield found


@pytest.fixture
def executor(client: Client) -> DaskExecutor:
    return DaskExecutor(client)


@pytest.fixture(scope="module")
def mortal() -> Iterator[DaskExecutor]:
    """A cluster of a process, which another one starts again whenever it dies."""
    with dask.config.set(ONE_DEATH), cluster_of(1, preload=[HOOKS]) as client:
        yield DaskExecutor(client)


@pytest.fixture
def files(mock_survey: Path, tmp_path: Path) -> list[Path]:
    """Some files that a test may put others beside."""
    folder = tmp_path / "files"
    folder.mkdir()
    chosen = sorted(mock_survey.rglob("spec-*.fits"))[:48]
    return [Path(shutil.copy(path, folder)) for path in chosen]


@pytest.fixture
def control(tmp_path: Path) -> Path:
    (tmp_path / "control").mkdir()
    return tmp_path / "control"


def wait_for(found: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + LONGEST_S
    while not (seen := found()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return seen


def clients_of(dask_scheduler: Any) -> list[str]:
    """Return the clients of a scheduler, and ``fire-and-forget``, which always is one."""
    return list(dask_scheduler.clients)


class Ingest(threading.Thread):
    """An ingest in a thread of its own."""

    def __init__(self, data: Path, files: list[Path], executor: DaskExecutor) -> None:
        super().__init__(daemon=True)
        self._given = open_root(data), files, executor
        self._summary: IngestSummary | None = None
        self.start()

    def run(self) -> None:
        data, files, executor = self._given
        self._summary = run_ingest(data, CONTEXT, files, executor=executor)

    def summary(self) -> IngestSummary:
        self.join(LONGEST_S)
        assert self._summary is not None
        return self._summary


def require_whole(data: Path, nspec: int) -> None:
    """Check that all is stored once, and that nothing else is there."""
    ids = stored_ids(data)
    assert len(ids) == len(set(ids)) == nspec
    assert faults(data) == []
    folder = open_root(data).context(CONTEXT)
    assert folder.uncommitted() == []
    assert folder.leases.children() == ["lock"]


# --- the same as without Dask ------------------------------------------------------------------


@pytest.mark.proof
def test_it_stores_what_an_ingest_without_dask_stores(
    mock_survey: Path, tmp_path: Path, executor: DaskExecutor
) -> None:
    def ingest(name: str, **how: Any) -> tuple[IngestSummary, list[str]]:
        report = tmp_path / f"{name}.jsonl"
        data = open_root(tmp_path / name)
        summary = run_ingest(data, CONTEXT, [mock_survey], report=report, **how)
        lines = sorted(report.read_text("utf-8").splitlines())
        return replace(summary, seconds=0, report=None, segments=0, nbytes_out=0), lines

    seen: list[tuple[int, int]] = []
    alone, told_alone = ingest("alone", workers=1)
    ours, told = ingest("ours", executor=executor, progress=lambda *at: seen.append(at))
    assert ours == alone
    assert told == told_alone
    assert stored_ids(tmp_path / "ours") == stored_ids(tmp_path / "alone")
    require_whole(tmp_path / "ours", 150)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (ours.files, ours.files)
    again = run_ingest(open_root(tmp_path / "ours"), CONTEXT, [mock_survey], executor=executor)
    assert (again.stored, again.already) == (0, again.files)


@pytest.mark.proof
def test_the_command_starts_and_ends_a_cluster(mock_survey: Path, tmp_path: Path) -> None:
    told = command(
        "ingest", CONTEXT, mock_survey, "--data", tmp_path, "--dask", "local:2", "--json"
    )
    assert json.loads(told[told.index("{") :].splitlines()[0])["stored"] == 150
    require_whole(tmp_path, 150)


@pytest.mark.proof
def test_a_worker_of_several_threads_reads_several_parts(files: list[Path], tmp_path: Path) -> None:
    with cluster_of(1, processes=False, protocol="tcp://", threads_per_worker=3) as client:
        executor = DaskExecutor(client)
        assert executor.width == 3
        summary = run_ingest(open_root(tmp_path / "data"), CONTEXT, files, executor=executor)
    assert (summary.stored, summary.segments) == (48, 3)
    require_whole(tmp_path / "data", 48)


# --- workers that are lost ---------------------------------------------------------------------


def waiting(control: Path, *known: int) -> int | None:
    """Return the process of a worker that waits before it finishes a segment, of none known."""
    found = {int(path.name[8:]) for path in control.glob("waiting-*")}
    return next(iter(found - {*known}), None)


@pytest.mark.proof
def test_the_part_of_a_killed_worker_is_read_again(
    files: list[Path], control: Path, mortal: DaskExecutor
) -> None:
    data = control.parent / "data"
    (control / "wait").touch()
    ingest = Ingest(data, files, mortal)
    process = wait_for(lambda: waiting(control))
    assert open_root(data).context(CONTEXT).uncommitted()
    os.kill(process, signal.SIGKILL)
    summary = ingest.summary()
    assert (summary.read, summary.stored, summary.nrefused) == (48, 48, 0)
    assert mortal.nlost == 1
    require_whole(data, 48)


@pytest.mark.proof
def test_a_process_that_is_slow_to_start_again_is_waited_for() -> None:
    """Dask ends what starts it again when there is none some time after a death."""
    with (
        dask.config.set({"distributed.deploy.lost-worker-timeout": "50 ms"}),
        connected("local:1", lambda _: None) as client,
    ):
        ((before, process),) = client.run(os.getpid).items()
        os.kill(process, signal.SIGKILL)
        wait_for(lambda: {*client.nthreads()} - {before})
        client.submit(time.sleep, 1.0).result(timeout=20)


def test_a_process_of_dask_gives_memory_back_as_others_do() -> None:
    """The setting of Dask makes an ingest a tenth slower."""
    with connected("local:1", lambda _: None) as client:
        (given,) = client.run(os.environ.copy).values()
    assert given["OMP_NUM_THREADS"] == "1"
    assert "MALLOC_TRIM_THRESHOLD_" not in given


def test_a_process_that_dies_before_all_are_there_is_an_error_that_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def dies(**_: object) -> None:
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(dask_connection, "LocalCluster", dies)
    with pytest.raises(IngestError, match=r"Nanny failed.*fewer"), connected("local:2", str):
        pass


@contextmanager
def workers_without_nannies(
    client: Client, number: int, preload: str = HOOKS
) -> Iterator[list[int]]:
    """Start workers that nobody starts again; yield their processes."""
    started = []
    address = client.scheduler_info()["address"]
    words = ["--no-nanny", "--nthreads=1", "--host=127.0.0.1", "--no-dashboard"]
    words += ["--preload", preload]
    try:
        started += [
            subprocess.Popen(
                [sys.executable, "-m", "dask", "worker", address, *words],
                stderr=subprocess.DEVNULL,
            )
            for _ in range(number)
        ]
        client.wait_for_workers(number, timeout=LONGEST_S)
        yield [process.pid for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.proof
def test_a_worker_that_was_only_cut_off_adds_nothing(files: list[Path], control: Path) -> None:
    """Two workers are suspended for so long that the scheduler gives them up, then go on.

    One goes on while the ingest does, the other one after its end.
    """
    data = control.parent / "data"

    def suspend(*known: int) -> int:
        (control / "wait").touch()
        found: int = wait_for(lambda: waiting(control, *known))
        os.kill(found, signal.SIGSTOP)
        return found

    with (
        dask.config.set(SHORT_LIFE),
        cluster_of(0) as client,
        workers_without_nannies(client, 3),
    ):
        ingest = Ingest(data, files, DaskExecutor(client))
        first = suspend()
        second = suspend(first)
        # Their parts come to the third one, which waits, too, before it finishes a segment.
        wait_for(lambda: len(client.nthreads()) == 1)
        (control / "wait").touch()
        third = wait_for(lambda: waiting(control, first, second))
        os.kill(first, signal.SIGCONT)
        (control / f"go-on-{first}").touch()
        wait_for((control / f"done-{first}").exists)
        (control / f"go-on-{third}").touch()
        summary = ingest.summary()
        assert (summary.read, summary.stored, summary.already) == (48, 48, 0)
        require_whole(data, 48)
        os.kill(second, signal.SIGCONT)
        (control / f"go-on-{second}").touch()
        # It ends by itself, as the scheduler does not know it any more.
        wait_for(lambda: psutil.Process(second).status() == psutil.STATUS_ZOMBIE)
        require_whole(data, 48)


@pytest.mark.proof
def test_a_file_that_kills_its_worker_is_refused(
    files: list[Path], tmp_path: Path, mortal: DaskExecutor
) -> None:
    data, bad = tmp_path / "data", files[5]
    bad.with_name(f"{bad.name}.kill").touch()
    seen: list[tuple[int, int]] = []
    summary = run_ingest(
        open_root(data),
        CONTEXT,
        files[:7],
        executor=mortal,
        progress=lambda *at: seen.append(at),
    )
    assert (summary.read, summary.stored, summary.nrefused) == (6, 6, 1)
    ((path, why),) = summary.refused
    assert path == str(bad)
    assert why.startswith("its worker died 1 times while it read this file and no other")
    assert seen[-1] == (7, 7)
    require_whole(data, 6)
    bad.with_name(f"{bad.name}.kill").unlink()
    again = run_ingest(open_root(data), CONTEXT, files[:7], executor=mortal)
    assert (again.read, again.stored) == (1, 1)


def keys_of(number: int) -> tuple[FileKey, ...]:
    return tuple(FileKey(Path(f"{at}.fits"), "group") for at in range(number))


def test_a_part_that_is_lost_is_read_again_in_pieces_and_one_file_alone() -> None:
    losses, part = Losses(), keys_of(20)
    pieces = losses.pieces(part)
    assert [len(piece) for piece in pieces] == [3] * 6 + [2]
    assert sum(pieces, ()) == part
    assert losses.suspect() is None
    assert losses.pieces(part[:1]) == []
    assert losses.suspect() == part[:1]
    assert losses.suspect() is None


def test_workers_that_die_whatever_they_read_end_the_ingest() -> None:
    losses, part = Losses(), keys_of(2)
    for _ in range(16):
        losses.pieces(part)
    losses.none()
    for _ in range(16):
        losses.refuse(part, 4)
    with pytest.raises(IngestError, match=r"more memory .* run the same command again"):
        losses.pieces(part)


def test_a_cluster_that_stays_without_workers_ends_the_ingest(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_dask, "_GONE_S", 0.3)
    monkeypatch.setattr(on_dask, "_LOOK_S", 0.1)
    with cluster_of(1, processes=False, protocol="tcp://") as client:
        executor = DaskExecutor(client)
        client.cluster.scale(0)
        wait_for(lambda: not client.nthreads())
        with pytest.raises(IngestError, match="no worker for 0 s; what is committed is safe"):
            run_ingest(open_root(tmp_path / "data"), CONTEXT, files, executor=executor)


@contextmanager
def own_scheduler(*words: str) -> Iterator[tuple["subprocess.Popen[bytes]", Client]]:
    """Start a scheduler in a process that a test may end; yield it and a client."""
    address = f"tcp://127.0.0.1:{free_port()}"
    words = ("--host", address, "--no-dashboard", "--dashboard-address", "127.0.0.1:0", *words)
    with subprocess.Popen(
        [sys.executable, "-m", "dask", "scheduler", *words], stderr=subprocess.DEVNULL
    ) as scheduler:
        try:
            with Client(address, timeout=LONGEST_S, set_as_default=False) as client:
                yield scheduler, client
        finally:
            scheduler.kill()


@pytest.mark.proof
def test_a_scheduler_that_dies_ends_the_ingest(files: list[Path], control: Path) -> None:
    data = open_root(control.parent / "data")
    with own_scheduler() as (scheduler, client), workers_without_nannies(client, 1):
        (control / "wait").touch()

        def kill_once_it_is_at_work() -> None:
            wait_for(lambda: waiting(control))
            scheduler.kill()

        threading.Thread(target=kill_once_it_is_at_work, daemon=True).start()
        with pytest.raises(IngestError, match="connection to the Dask scheduler is lost"):
            run_ingest(data, CONTEXT, files, executor=DaskExecutor(client))
    assert run_ingest(data, CONTEXT, files, workers=1).stored == 48
    require_whole(control.parent / "data", 48)


@pytest.mark.proof
def test_the_command_says_so_in_one_line(files: list[Path], control: Path) -> None:
    with own_scheduler() as (scheduler, client), workers_without_nannies(client, 1):
        (control / "wait").touch()
        address = client.scheduler_info()["address"]
        words = ["ingest", CONTEXT, *files, "--data", control.parent / "data", "--dask", address]
        with subprocess.Popen(
            [sys.executable, "-m", "specserver", *map(str, words)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            wait_for(lambda: waiting(control))
            scheduler.kill()
            _, said = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 1
    assert said.startswith("specserver: the connection to the Dask scheduler is lost")
    assert said.count("\n") == 1


@pytest.mark.proof
@pytest.mark.parametrize(
    ("status", "look_s"),
    [
        # Parts are sent.
        ("closed", LONGEST_S),
        # It is asked for its workers: the connection is known to be lost, or not yet.
        ("connecting", 0.0),
        ("running", 0.0),
    ],
)
def test_a_scheduler_that_dies_while_the_command_commits_ends_the_ingest(
    files: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    look_s: float,
) -> None:
    monkeypatch.setattr(on_dask, "_LOOK_S", look_s)
    monkeypatch.setattr(plan, "SEGMENT_FILES", 6)
    data, died = open_root(tmp_path / "data"), []

    def unreachable() -> None:
        raise OSError("Timed out trying to connect")

    with own_scheduler() as (scheduler, client), workers_without_nannies(client, 1):
        executor = DaskExecutor(client)

        def commit(*given: Any, known: Callable[..., Any] = pipeline.commit_segments) -> Any:
            done = known(*given)
            if not done.segments:
                return done
            if status == "running":
                monkeypatch.setattr(client, "nthreads", unreachable)
            else:
                client._timeout = 0.5 if status == "closed" else LONGEST_S
                scheduler.kill()
                wait_for(lambda: client.status == status)
            died.append(time.monotonic())
            return done

        monkeypatch.setattr(pipeline, "commit_segments", commit)
        with pytest.raises(IngestError, match="connection to the Dask scheduler is lost"):
            run_ingest(data, CONTEXT, files, executor=executor)
        assert time.monotonic() - died[0] < 10
        scheduler.kill()
    monkeypatch.undo()
    assert len(died) == 1
    assert run_ingest(data, CONTEXT, files, workers=1).stored < 48
    require_whole(tmp_path / "data", 48)


# --- clusters that cannot do it ----------------------------------------------------------------


def test_a_worker_that_does_not_see_a_file_is_named(
    files: list[Path], tmp_path: Path, executor: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = surroundings._size

    def size_here(path: Path) -> int | None:
        is_here = threading.current_thread() is threading.main_thread()
        return size(path) if is_here else None

    monkeypatch.setattr(surroundings, "_size", size_here)
    data = open_root(tmp_path / "data")
    with pytest.raises(IngestError) as raised:
        run_ingest(data, CONTEXT, files[:3], executor=executor)
    text = raised.value.message
    assert text.count("the Dask worker tcp://127.0.0.1:") == 2
    assert f"does not see {files[0]}: mount the files there under the same path" in text
    assert not data.exists()


@pytest.fixture
def options(tmp_path: Path) -> Iterator[IngestOptions]:
    """Options of an ingest that is at work."""
    data = open_root(tmp_path / "data")
    with data.context(CONTEXT).writing() as lease:
        yield IngestOptions(data, CONTEXT, lease.name, frozenset(), strict=False, replace=False)


def test_what_a_worker_does_not_see_is_said(options: IngestOptions, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "a.fits").write_bytes(b"123")
    here = Surroundings.of(replace(options, given=frozenset([str(files)])))
    assert here.fault() == ""
    assert options.data.context(CONTEXT).uncommitted() == []
    moved = replace(options, data=open_root(tmp_path / "other"))
    assert "does not see the data folder" in replace(here, options=moved).fault()
    assert not (tmp_path / "other").exists()
    # Another disk is mounted there, with an ingest of its own.
    assert "does not see the data folder" in replace(here, token=b"other").fault()
    (files / "a.fits").unlink()
    assert f"does not see {files / 'a.fits'}" in here.fault()
    assert f"does not see {files}" in replace(here, samples=((str(files), 3),)).fault()
    known = options.data.context("elsewhere")
    with known.writing() as lease:
        other = replace(options, context="elsewhere", lease=lease.name)
        assert "install the same plug-ins" in Surroundings.of(other).fault()


def test_a_worker_that_cannot_write_says_so(
    options: IngestOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Surroundings.of(options)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("specserver.data.context.ContextFolder.new_segment", refuse)
    assert "cannot write to the data folder" in here.fault()
    assert "Permission denied" in here.fault()


def test_few_of_many_files_are_looked_at(options: IngestOptions) -> None:
    many = frozenset(f"/nowhere/{number}.fits" for number in range(100_000))
    here = Surroundings.of(replace(options, given=many))
    assert len(here.samples) <= 21


def test_a_worker_that_joins_late_is_looked_at_too(options: IngestOptions) -> None:
    """It would refuse files that it does not see, or make a folder of its own."""
    joined = dask_worker.IngestOnWorker(replace(Surroundings.of(options), token=b"other"))
    joined._worker = SimpleNamespace(address="tcp://late:1")
    with pytest.raises(IngestError, match="the Dask worker tcp://late:1 does not see the data"):
        joined.read(0, keys_of(1))


@pytest.mark.proof
def test_a_worker_that_joins_late_with_another_version_ends_the_ingest(
    files: list[Path], control: Path
) -> None:
    old = control / "old.py"
    old.write_text(OLD)
    data = open_root(control.parent / "data")
    with (
        ThreadPoolExecutor(1) as pool,
        cluster_of(0) as client,
        workers_without_nannies(client, 2),
    ):
        (control / "wait").touch()
        executor = DaskExecutor(client)
        ingest = pool.submit(run_ingest, data, CONTEXT, files, executor=executor)
        first = wait_for(lambda: waiting(control))
        (control / "wait").touch()
        wait_for(lambda: waiting(control, first))
        os.kill(first, signal.SIGKILL)
        with (
            workers_without_nannies(client, 1, str(old)),
            pytest.raises(IngestError, match=r"has Python 3\.\d+ and specserver 0\.0; here it is"),
        ):
            ingest.result(LONGEST_S)


def test_a_worker_that_lacks_a_package_says_so(
    options: IngestOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of object stores."""
    sent = pickle.dumps(dask_worker.IngestOnWorker(Surroundings.of(options)))
    assert pickle.loads(sent).fault() == ""
    monkeypatch.setitem(sys.modules, "specserver.data.local", None)
    fault = pickle.loads(sent).fault()
    assert "specserver.data.local" in fault
    assert "install there what is installed here" in fault


@pytest.mark.proof
def test_a_scheduler_without_the_package_is_refused(tmp_path: Path) -> None:
    """It unpacks tasks, and could not."""
    (tmp_path / "without.py").write_text(WITHOUT)
    with (
        own_scheduler("--preload", str(tmp_path / "without.py")) as (_, client),
        workers_without_nannies(client, 1),
        pytest.raises(IngestError) as raised,
    ):
        DaskExecutor(client)
    assert "the Dask scheduler tcp://127.0.0.1:" in raised.value.message
    assert "and no specserver; here it is" in raised.value.message


def test_other_versions_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_dask, "versions", lambda: "Python 3.9 and specserver 0.0")
    with pytest.raises(IngestError, match=r"here it is Python 3\.9 and specserver 0\.0: install"):
        DaskExecutor(client)
    error = PackageNotFoundError("specserver")
    assert version_text("3.12.4", error) == "Python 3.12 and no specserver"


def test_a_scheduler_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mock_survey: Path
) -> None:
    monkeypatch.setattr(dask_connection, "_ANSWER_S", 0.3)
    words = ("ingest", CONTEXT, mock_survey, "--data", tmp_path / "data")
    told = command(*words, "--dask", f"tcp://127.0.0.1:{free_port()}", code=1)
    assert "no Dask scheduler answers at tcp://127.0.0.1:" in told
    assert "'dask scheduler'" in told
    assert "--dask local" in told
    told = command(*words, "--dask", "head", code=2)
    assert "write tcp://host:8786 (or tls://…), or local, or local:N" in told
    told = command(*words, "--dask", "http://127.0.0.1:8999", code=2)
    assert "write tcp://" in told
    told = command(*words, "--dask", "local", "--workers", 2, code=2)
    assert "--dask local:N" in told
    assert not (tmp_path / "data").exists()


def test_without_the_extra_the_message_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mock_survey: Path
) -> None:
    monkeypatch.setattr(cli_ingest, "require", partial(without_distributed, cli_ingest.require))
    words = ("ingest", CONTEXT, mock_survey, "--data", tmp_path / "data", "--dask", "local")
    assert "pip install '.[dask]'" in command(*words, code=1)


def without_distributed(require: Callable[..., None], what: str, extra: str, *named: str) -> None:
    """Ask for a package that is not installed in the place of distributed."""
    require(what, extra, *(f"no_{name}" if name == "distributed" else name for name in named))


def test_a_scheduler_without_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_dask, "_WORKER_S", 0.3)
    with cluster_of(0) as client, pytest.raises(IngestError, match="'dask worker tcp://127"):
        DaskExecutor(client)


# --- what is sent ------------------------------------------------------------------------------


def test_what_is_sent_with_a_part_is_small(options: IngestOptions) -> None:
    """It neither has what is stored already nor all paths that an ingest was given."""
    folder = "/sas/dr17/sdss/spectro/redux/v5_13_0/spectra/full"
    part = tuple(
        FileKey(Path(f"{folder}/{4000 + at}/spec-{4000 + at}-55555-{at:04}.fits"), str(at))
        for at in range(1000)
    )
    task = pickle.dumps((dask_worker.work, "specserver-0a1b2c3d", 7, part))
    assert len(task) < 150 * len(part)


def test_a_folder_that_is_still_written_to_is_left(
    options: IngestOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker of an ingest that was interrupted goes on for a while."""
    folder = options.data.context(CONTEXT)
    left = [folder.new_segment("0a1b2c3d") for _ in range(2)]
    delete = SegmentFolder.delete

    def delete_some(segment: SegmentFolder) -> None:
        if segment == left[0]:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        delete(segment)

    monkeypatch.setattr(SegmentFolder, "delete", delete_some)
    lease = Lease(folder.leases.entry(options.lease))
    assert folder.remove_left(lease) == 1
    assert folder.uncommitted() == left[:1]
    monkeypatch.undo()
    assert folder.remove_left(lease) == 1


# --- its end -----------------------------------------------------------------------------------


def test_an_interrupted_ingest_keeps_what_is_committed(
    files: list[Path], tmp_path: Path, executor: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(done: int, _: int) -> None:
        if done >= 24:
            raise KeyboardInterrupt

    data = open_root(tmp_path / "data")
    with pytest.raises(KeyboardInterrupt):
        run_ingest(data, CONTEXT, files, executor=executor, progress=interrupt)
    # Workers of the first one may still be writing, and see soon that its lease is gone.
    summary = run_ingest(data, CONTEXT, files, executor=executor)
    assert summary.stored + summary.already == 48
    wait_for(lambda: not data.context(CONTEXT).uncommitted())
    require_whole(tmp_path / "data", 48)


@pytest.mark.proof
def test_ctrl_c_ends_the_command_and_its_cluster(mock_survey: Path, tmp_path: Path) -> None:
    """A terminal sends it to all processes of the group."""
    words = ["ingest", CONTEXT, str(mock_survey), "--data", str(tmp_path / "data")]
    process = subprocess.Popen(
        [sys.executable, "-m", "specserver", *words, "--dask", "local:2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(lambda: list(tmp_path.glob("data/*/leases/????????")))
    children = psutil.Process(process.pid).children(recursive=True)
    assert len(children) > 1
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=LONGEST_S)
    assert process.returncode == 130
    assert "Traceback" not in told
    _, alive = psutil.wait_procs(children, timeout=LONGEST_S)
    assert alive == []
    data = open_root(tmp_path / "data")
    summary = run_ingest(data, CONTEXT, [mock_survey], workers=1)
    assert summary.stored + len(stored_ids(tmp_path / "data")) >= 150
    require_whole(tmp_path / "data", 150)


@pytest.mark.proof
def test_workers_of_a_killed_command_finish_the_part_that_they_read(
    files: list[Path], control: Path
) -> None:
    """The next ingest removes it. The lease stays, and the other parts are begun by nobody."""
    data = control.parent / "data"
    code = (
        "from specserver.ingest import plan; plan.SEGMENT_FILES = 6\n"
        "from specserver.cli.main import main; main()"
    )
    with cluster_of(0) as client, workers_without_nannies(client, 1):
        (control / "wait").touch()
        words = ["ingest", CONTEXT, *files, "--data", data]
        words += ["--dask", client.scheduler_info()["address"]]
        with subprocess.Popen(
            [sys.executable, "-c", code, *map(str, words)], stderr=subprocess.DEVNULL
        ) as process:
            worker = wait_for(lambda: waiting(control))
            process.kill()
        wait_for(lambda: len(client.run_on_scheduler(clients_of)) == 2)
        (control / f"go-on-{worker}").touch()
        wait_for((control / f"done-{worker}").exists)
        wait_for(lambda: not any(client.processing().values()))
        folder = open_root(data).context(CONTEXT)
        assert len(folder.segments()) == 0
        assert len(folder.uncommitted()) == 1
        assert len(folder.leases.children()) == 2
    summary = run_ingest(open_root(data), CONTEXT, files, workers=1)
    assert (summary.removed, summary.stored) == (1, 48)
    require_whole(data, 48)


@pytest.mark.proof
def test_an_ingest_that_waits_for_a_scheduler_ends_at_ctrl_c(
    files: list[Path], tmp_path: Path
) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        words = ["ingest", CONTEXT, *files[:1], "--data", tmp_path / "data", "--dask", address]
        process = subprocess.Popen(
            [sys.executable, "-m", "specserver", *map(str, words)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        try:
            silent.settimeout(LONGEST_S)
            accepted, _ = silent.accept()
            with accepted:
                process.send_signal(signal.SIGINT)
                told, _ = process.communicate(timeout=20)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 130
    assert "Traceback" not in told
