"""Several writers of a context at once: none removes or loses what another one has written."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from astropy.io import fits
from typer.testing import CliRunner

from commands import command
from specserver.catalog.index import commit
from specserver.catalog.index.build import refresh_index
from specserver.catalog.index.manifest import Manifest, newest_manifest
from specserver.cli.main import app
from specserver.data.root import open_root
from specserver.errors import IngestError, StoreError
from specserver.ingest import IngestSummary, run_ingest, worker
from specserver.ingest.commit import commit_segments
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from specserver.ingest.worker import IngestOptions, ingest_part
from specserver.store.layout import commit_segment, list_segments
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
        survey, _ = find_release(CONTEXT, data)
        assert not commit_segments(folder, survey, lease, result.segments).notes
    run_ingest(data, CONTEXT, files[:6], workers=1)
    assert len(stored_ids(tmp_path / "data")) == 12
    assert faults(tmp_path / "data") == []


def test_an_ingest_within_an_ingest_stores_each_spectrum_once(
    mock_survey: Path, tmp_path: Path
) -> None:
    inner: list[IngestSummary] = []

    def ingest_too(done: int, total: int) -> None:
        if not inner:
            inner.append(run_ingest(open_root(tmp_path), CONTEXT, [mock_survey], workers=1))

    report = tmp_path / "report.jsonl"
    outer = run_ingest(
        open_root(tmp_path), CONTEXT, [mock_survey], workers=1, progress=ingest_too, report=report
    )
    assert (inner[0].stored, outer.stored, outer.segments) == (150, 0, 0)
    assert outer.already == outer.files
    reasons = Counter(json.loads(line)["reason"] for line in report.read_text("utf-8").splitlines())
    assert reasons["another ingest has stored the same values meanwhile"] == 150
    ids = stored_ids(tmp_path)
    assert len(ids) == len(set(ids)) == 150
    assert faults(tmp_path) == []


def test_four_ingests_at_once_store_the_union(files: list[Path], tmp_path: Path) -> None:
    data, start = open_root(tmp_path), threading.Barrier(4)

    def ingest(number: int) -> IngestSummary:
        start.wait()
        return run_ingest(data, CONTEXT, files[2 * number : 2 * number + 6], workers=1)

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(ingest, range(4)))
    assert sum(summary.stored for summary in done) == 12
    assert all(summary.stored + summary.already == 6 for summary in done)
    assert [summary.nconflicts for summary in done] == [0] * 4
    ids = stored_ids(tmp_path)
    assert len(ids) == len(set(ids)) == 12
    assert faults(tmp_path) == []
    assert data.context(CONTEXT).leases.children() == ["lock"]


def test_what_another_ingest_has_stored_meanwhile_is_not_written(
    files: list[Path], tmp_path: Path
) -> None:
    data = open_root(tmp_path)
    inner: list[IngestSummary] = []

    def ingest_too(done: int, total: int) -> None:
        if not inner:
            inner.append(run_ingest(data, CONTEXT, files[4:], workers=1))

    outer = run_ingest(data, CONTEXT, files[:8], workers=1, progress=ingest_too)
    assert (inner[0].stored, outer.stored, outer.already) == (8, 4, 4)
    infos = list_segments(data.context(CONTEXT))
    assert sorted((info.nspec, len(info.left_out)) for info in infos) == [(4, 0), (8, 0)]
    assert faults(tmp_path) == []


def test_who_is_slower_decides_again(
    mock_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another ingest commits between the decision of this one and its commit."""
    files = sorted(mock_survey.rglob("v5_7_0/**/spec-*.fits"))[:12]
    data, commit_manifest = open_root(tmp_path), commit.commit_manifest
    inner: list[IngestSummary] = []

    def later(*given: Any) -> Manifest:
        if not inner:
            monkeypatch.setattr(commit, "commit_manifest", commit_manifest)
            inner.append(run_ingest(data, CONTEXT, files[4:], workers=1))
        return commit_manifest(*given)

    monkeypatch.setattr(commit, "commit_manifest", later)
    outer = run_ingest(data, CONTEXT, files[:8], workers=1)
    assert (inner[0].stored, outer.stored, outer.already) == (8, 4, 4)
    assert (inner[0].other_reductions["v5_7_0"], outer.other_reductions["v5_7_0"]) == (8, 4)
    folder = data.context(CONTEXT)
    assert [len(info.left_out) for info in list_segments(folder)] == [4, 0]
    told = command("verify", "--data", tmp_path)
    assert "12 spectra and 4 that were stored before and are not used, " in told.replace("\n", " ")
    newest = newest_manifest(folder.index)
    # The two parts are joined, and nothing is left of the first decision.
    assert len(newest.superseded) == 2
    used = {part.name for part in newest.parts}
    assert {part.name for part in folder.index.parts()} == used | {*newest.superseded}
    ids = stored_ids(tmp_path)
    assert len(ids) == len(set(ids)) == 12
    folder.index.delete()
    refresh_index(folder, find_release(CONTEXT, data)[0])
    assert stored_ids(tmp_path) == ids
    assert faults(tmp_path) == []


def test_two_replacements_of_one_spectrum_are_a_conflict(files: list[Path], tmp_path: Path) -> None:
    data, copies = open_root(tmp_path / "data"), []
    for number in range(2):
        copies.append(tmp_path / str(number) / files[0].name)
        copies[-1].parent.mkdir()
        with fits.open(files[0]) as units:
            units[1].data["flux"][:] = number
            units.writeto(copies[-1])
    run_ingest(data, CONTEXT, files[:1], workers=1)
    inner: list[IngestSummary] = []

    def ingest_too(done: int, total: int) -> None:
        if not inner:
            inner.append(run_ingest(data, CONTEXT, [copies[1]], workers=1, replace=True))

    outer = run_ingest(data, CONTEXT, [copies[0]], workers=1, replace=True, progress=ingest_too)
    assert (inner[0].replaced, inner[0].stored) == (1, 1)
    assert (outer.replaced, outer.stored, outer.nconflicts) == (0, 0, 1)
    assert outer.conflicts[0].other == str(copies[1])
    assert len(stored_ids(tmp_path / "data")) == 1


def test_a_complete_segment_of_a_killed_ingest_is_committed_by_the_next(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = open_root(tmp_path)
    run_ingest(data, CONTEXT, files[:2], workers=1)
    with monkeypatch.context() as patched:
        patched.setattr(commit, "commit_manifest", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            run_ingest(data, CONTEXT, files, workers=1)
    assert len(stored_ids(tmp_path)) == 2
    summary = run_ingest(data, CONTEXT, files, workers=1)
    assert (summary.read, summary.stored, summary.already) == (0, 0, 12)
    assert len(stored_ids(tmp_path)) == 12
    assert faults(tmp_path) == []


def test_a_release_is_there_when_its_first_ingest_has_committed_something(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that a service would answer that it has no index."""
    data, seen = open_root(tmp_path), []

    def look(*_: object) -> None:
        assert data.context(CONTEXT).segments()
        seen.append(data.contexts())
        sys.exit()

    with monkeypatch.context() as patched:
        patched.setattr(commit, "commit_manifest", look)
        with pytest.raises(SystemExit):
            run_ingest(data, CONTEXT, files, workers=1)
    assert seen == [set()]
    assert data.contexts() == {CONTEXT}, "it was cut off: what it wrote whole can be committed"
    assert CliRunner().invoke(app, ["maintain", "--data", str(tmp_path)]).exit_code == 0
    assert len(stored_ids(tmp_path)) == len(files)


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
    monkeypatch.setattr(worker, "_TOGETHER", 5)
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
    return IngestOptions(open_root(data), CONTEXT, lease, frozenset(), strict=False, replace=False)


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
