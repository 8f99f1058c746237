"""Several writers of a context at once: none removes or loses what another one has written."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from specserver.data.root import open_root
from specserver.errors import IngestError, StoreError
from specserver.ingest import pipeline, run_ingest, worker
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from specserver.ingest.worker import IngestOptions, ingest_part
from specserver.store.layout import commit_segment
from specserver.surveys import find_release
from specserver.surveys.declaration import NamedVectors
from test_ingest import faults, stored_ids

CONTEXT = "sdss_dr17"


@pytest.fixture
def files(mock_survey: Path) -> list[Path]:
    return sorted(mock_survey.rglob("spec-*.fits"))[:12]


def test_a_lease_is_over_when_its_writer_has_ended(tmp_path: Path) -> None:
    folder = open_root(tmp_path).context("one")
    with folder.leases.hold() as own:
        with folder.leases.hold() as other, folder.leases.others(own) as found:
            assert found == {other.name}
            other.require()
        with folder.leases.others(own) as found:
            assert found == set()
        with pytest.raises(IngestError, match="run the same command again"):
            other.require()
        own.require()
    assert not own.entry.exists()


_HOLDER = """
import sys, time
from specserver.data.root import open_root
with open_root(sys.argv[1]).context("one").leases.hold() as lease:
    print(lease.name, flush=True)
    time.sleep(60)
"""


def test_a_lease_ends_with_a_killed_process(tmp_path: Path) -> None:
    leases = open_root(tmp_path).context("one").leases
    command = [sys.executable, "-c", _HOLDER, str(tmp_path)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder,
        leases.hold() as own,
    ):
        assert holder.stdout is not None
        name = holder.stdout.readline().strip()
        with leases.others(own) as found:
            assert found == {name}
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with leases.others(own) as found:
            assert found == set()


def test_a_lease_of_another_host_is_over_a_quarter_of_an_hour_after_its_renewal(
    tmp_path: Path,
) -> None:
    leases = open_root(tmp_path).context("one").leases
    path = tmp_path / "one" / "leases" / "0a1b2c3d"
    with leases.hold() as own:
        path.write_text('{"host": "another"}')
        for age_s, live in ((0, {path.name}), (800, {path.name}), (1000, set())):
            then = path.parent.stat().st_mtime - age_s
            os.utime(path, (then, then))
            with leases.others(own) as found:
                assert found == live


def test_a_forked_process_leaves_the_lease_to_its_parent(tmp_path: Path) -> None:
    folder = open_root(tmp_path).context("one")
    with folder.leases.hold() as own:
        forked = multiprocessing.get_context("fork").Process(target=sys.exit)
        forked.start()
        forked.join()
        own.require()


def test_a_writer_loses_nothing_while_an_ingest_begins_and_ends(
    files: list[Path], tmp_path: Path
) -> None:
    """A task of another scheduler writes a part; an ingest of other files runs meanwhile."""
    data = open_root(tmp_path / "data")
    folder = data.context(CONTEXT)
    with folder.writing() as lease:
        reader = find_release(CONTEXT, data)[0].reader
        part = [key for path in files[:6] if (key := reader.identify(path))]
        result = ingest_part(options_of(tmp_path / "data", lease.name), part, lambda _: None)
        summary = run_ingest(data, CONTEXT, files[6:], workers=1)
        assert (summary.stored, summary.removed) == (6, 0)
        for segment, info in result.segments:
            commit_segment(segment, info)
    run_ingest(data, CONTEXT, files[:6], workers=1)
    assert len(stored_ids(tmp_path / "data")) == 12
    assert faults(tmp_path / "data") == []


def test_an_ingest_within_an_ingest_stores_each_spectrum_once(
    mock_survey: Path, tmp_path: Path
) -> None:
    inner = []

    def ingest_too(done: int, total: int) -> None:
        if not inner:
            inner.append(done)
            run_ingest(open_root(tmp_path), CONTEXT, [mock_survey], workers=1)

    run_ingest(open_root(tmp_path), CONTEXT, [mock_survey], workers=1, progress=ingest_too)
    ids = stored_ids(tmp_path)
    assert inner
    assert len(ids) == len(set(ids)) == 150
    assert not [fault for fault in faults(tmp_path) if "links" in fault]


def test_what_a_writer_left_is_removed_when_its_lease_is_over(
    files: list[Path], tmp_path: Path
) -> None:
    data = open_root(tmp_path)
    folder = data.context(CONTEXT)
    with folder.writing() as lease:
        left = folder.new_segment(lease.name)
        assert run_ingest(data, CONTEXT, files[:1], workers=1).removed == 0
        assert left.exists()
    assert run_ingest(data, CONTEXT, files[:1], workers=1).removed == 1
    assert not left.exists()


@pytest.mark.parametrize("damage", ["removed", "cut off"])
def test_a_segment_that_is_not_whole_is_not_committed(
    files: list[Path], tmp_path: Path, damage: str
) -> None:
    part = [key for path in files if (key := find_release(CONTEXT)[0].reader.identify(path))]
    result = ingest_part(options_of(tmp_path, "0a1b2c3d"), part, lambda _: None)
    ((segment, info),) = result.segments
    if damage == "removed":
        shutil.rmtree(segment.local_path())
    else:
        os.truncate(segment.objects.local_path(), 100)
    with pytest.raises(StoreError, match="missing or cut off"):
        commit_segment(segment, info)
    assert not segment.is_committed()


def test_a_part_whose_files_are_removed_is_read_again(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "_SEGMENT_SPECTRA", 5)
    folder, removed = open_root(tmp_path).context(CONTEXT), []

    def remove(done: int, total: int) -> None:
        if not removed:
            removed.extend(folder.uncommitted())
            removed[0].delete()

    summary = run_ingest(open_root(tmp_path), CONTEXT, files, workers=1, progress=remove)
    assert removed
    assert (summary.read, summary.stored, summary.already) == (12, 12, 0)
    assert len(stored_ids(tmp_path)) == 12
    assert faults(tmp_path) == []


def options_of(data: Path, lease: str) -> IngestOptions:
    root = open_root(data)
    known, _ = pipeline._stored(root.context(CONTEXT), find_release(CONTEXT)[0])
    return IngestOptions(root, CONTEXT, lease, known, frozenset(), strict=False, replace=False)


def test_a_declaration_that_an_ingest_goes_by_does_not_change(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("wl,f\n4000,1\n4001,2\n")
    data, paths = open_root(tmp_path / "data"), [tmp_path / "one.csv"]
    options = SurveyOptions(
        flux_unit="Jy", vectors=NamedVectors(wave="wl", flux="f"), wave_unit="Angstrom"
    )
    declare(data, "mine", paths, options)
    with data.context("mine").writing():
        declare(data, "mine", paths, options)
        with pytest.raises(IngestError, match="an ingest into mine is at work"):
            declare(data, "mine", paths, SurveyOptions(title="another"))
    effects = declare(data, "mine", paths, options)
    declare(data, "mine", paths, SurveyOptions(title="another"))
    with pytest.raises(IngestError, match="run this one again"):
        run_ingest(data, "mine", paths, effects=effects)
