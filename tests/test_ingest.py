"""The ingest: complete, exact, once, and safe against being killed at any moment."""

import errno
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from commands import command
from specserver.data.root import open_root
from specserver.errors import IngestError, StoreError, UnknownContext
from specserver.ingest import plan, run_ingest
from specserver.ingest.verify import verify
from specserver.service import SpectroscopicService
from specserver.service.stream import StreamRequest
from specserver.store.layout import list_segments
from specserver.surveys import find_release


def stored_ids(data: Path) -> list[int]:
    """Return all ids of a data folder as its catalogue gives them; none when it is empty."""
    service = SpectroscopicService(open_root(data))
    if not service.contexts():
        return []
    holding = service.archive.open_release("default")
    return sorted(
        holding.catalog.place(np.arange(holding.catalog.count(primary=False))).ids.tolist()
    )


def faults(data: Path) -> list[str]:
    return [fault for finding in verify(open_root(data)) for fault in finding.faults]


def test_all_mock_files_go_in_and_nothing_twice(mock_survey: Path, tmp_path: Path) -> None:
    first = run_ingest(open_root(tmp_path), "sdss_dr17", [mock_survey], workers=1)
    assert first.stored == 150
    assert first.refused == []
    again = run_ingest(open_root(tmp_path), "sdss_dr17", [mock_survey], workers=1)
    assert (again.stored, again.segments) == (0, 0)
    assert again.already == first.files
    assert len(stored_ids(tmp_path)) == 150
    assert faults(tmp_path) == []


@pytest.mark.proof
def test_parallel_processes_store_the_same(mock_survey: Path, tmp_path: Path) -> None:
    summary = run_ingest(open_root(tmp_path / "two"), "sdss_dr17", [mock_survey], workers=2)
    run_ingest(open_root(tmp_path / "one"), "sdss_dr17", [mock_survey], workers=1)
    assert summary.segments > 1
    assert stored_ids(tmp_path / "two") == stored_ids(tmp_path / "one")


def test_a_lite_and_a_full_file_are_one_spectrum(mock_survey: Path, tmp_path: Path) -> None:
    full = next(iter(sorted(mock_survey.rglob("full/**/spec-*.fits"))))
    lite = next(path for path in mock_survey.rglob(full.name) if "full" not in path.parts)
    summary = run_ingest(open_root(tmp_path), "sdss_dr17", [full, lite], workers=1)
    assert (summary.read, summary.stored, summary.already) == (2, 1, 1)


def test_files_that_cannot_be_used_are_told_and_passed_over(
    mock_survey: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    good, cut = sorted(mock_survey.rglob("spec-*.fits"))[:2]
    shutil.copy(good, folder)
    (folder / cut.name).write_bytes(cut.read_bytes()[:60_000])
    (folder / "spec-58397-EG014118N254444M01_sp03-031.fits").write_bytes(b"SIMPLE")
    (folder / "notes.txt").write_text("not a spectrum")
    summary = run_ingest(open_root(tmp_path / "data"), "sdss_dr17", [folder], workers=1)
    assert summary.stored == 1
    reasons = {Path(path).name: reason for path, reason in summary.refused}
    assert set(reasons) == {cut.name, "spec-58397-EG014118N254444M01_sp03-031.fits"}
    assert "cut off" in reasons[cut.name] or "no END" in reasons[cut.name]


def test_a_pipe_among_the_files_is_refused(tmp_path: Path) -> None:
    """It was waited for, for ever."""
    os.mkfifo(tmp_path / "spec-0267-51608-0001.fits")
    summary = run_ingest(open_root(tmp_path / "data"), "sdss_dr17", [tmp_path], workers=1)
    assert [why for _, why in summary.refused] == ["it is no regular file"]


def test_a_folder_that_cannot_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "files" / "closed"
    closed.mkdir(parents=True)
    scandir = os.scandir

    def refusing(path: str) -> Any:
        if str(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    told = command(
        "ingest", "sdss_dr17", closed.parent, "--data", tmp_path / "data", "--strict", code=1
    )
    assert f"{closed}: it cannot be listed: Permission denied" in told


@pytest.mark.proof
def test_other_reductions_are_stored_with_a_warning_or_refused(
    mock_survey: Path, tmp_path: Path
) -> None:
    loose = run_ingest(open_root(tmp_path / "loose"), "sdss_dr16", [mock_survey], workers=1)
    assert loose.other_reductions["v5_7_0"] > 0
    assert "v5_13_0" not in loose.other_reductions
    assert loose.stored == 150
    strict = run_ingest(
        open_root(tmp_path / "strict"), "sdss_dr16", [mock_survey], workers=1, strict=True
    )
    assert strict.stored == 150 - sum(loose.other_reductions.values())
    assert all("sdss_dr16" in reason for _, reason in strict.refused)


def test_a_spectrum_off_the_lattice_keeps_its_wavelengths(
    mock_survey: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "off"
    folder.mkdir()
    one, two = sorted(mock_survey.rglob("spec-*.fits"))[:2]
    shutil.copy(one, folder)
    path = Path(shutil.copy(two, folder))
    with fits.open(path, memmap=False) as hdus:
        name = next(name for name in hdus[1].columns.names if name.lower() == "loglam")
        hdus[1].data[name] += np.float32(3.3e-5)
        expected = np.asarray(hdus[1].data[name]).astype("f4")
        hdus.writeto(path, overwrite=True)
    summary = run_ingest(open_root(tmp_path / "data"), "sdss_dr17", [folder], workers=1)
    assert (summary.stored, summary.segments) == (2, 2)
    service = SpectroscopicService(open_root(tmp_path / "data"))
    selection = service.resolve("\n".join(map(str, stored_ids(tmp_path / "data"))), "default")
    assert sorted(selection.on_lattice.tolist()) == [False, True]
    spectra = list(service.read(selection))
    off = spectra[int(np.flatnonzero(~selection.on_lattice)[0])]
    assert off["loglam"].tobytes() == expected.tobytes()
    assert faults(tmp_path / "data") == []


def test_a_changed_byte_is_found(mock_survey: Path, tmp_path: Path) -> None:
    run_ingest(
        open_root(tmp_path), "sdss_dr17", sorted(mock_survey.rglob("spec-*.fits"))[:5], workers=1
    )
    shard = next(tmp_path.rglob("float32/c/0/0/0"))
    content = bytearray(shard.read_bytes())
    content[100] ^= 1  # of a flux: they are the first of each spectrum
    shard.write_bytes(content)
    assert any("float32" in fault for fault in faults(tmp_path))
    service = SpectroscopicService(open_root(tmp_path))
    every = "\n".join(map(str, stored_ids(tmp_path)))
    with pytest.raises(StoreError, match="float32"):
        list(service.stream(service.resolve(every, "default"), StreamRequest(["flux"])).batches)


def test_a_lost_index_is_made_again(mock_survey: Path, tmp_path: Path) -> None:
    run_ingest(
        open_root(tmp_path), "sdss_dr17", sorted(mock_survey.rglob("spec-*.fits"))[:5], workers=1
    )
    ids = stored_ids(tmp_path)
    shutil.rmtree(tmp_path / "sdss_dr17" / "index")
    SpectroscopicService(open_root(tmp_path)).archive.ensure_indexes()
    assert stored_ids(tmp_path) == ids


def test_wrong_calls_are_errors_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UnknownContext, match="sdss_dr17"):
        run_ingest(open_root(tmp_path), "sdss_dr99", [tmp_path])
    with pytest.raises(IngestError, match="no such file"):
        run_ingest(open_root(tmp_path), "sdss_dr17", [tmp_path / "nowhere"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.proof
def test_files_are_read_before_all_are_found(
    mock_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "_WINDOW", 40)
    totals: list[int] = []
    listed: list[Path] = []
    files = plan.find_files([mock_survey], lambda path: not listed.append(path))
    first = next(
        plan.plan_parts(find_release("sdss_dr17")[0], files, lambda _: {}, 1, plan.Found())
    )
    assert 0 < len(first) <= 40 <= len(listed) < 100
    summary = run_ingest(
        open_root(tmp_path / "data"),
        "sdss_dr17",
        [mock_survey, next(mock_survey.rglob("spec-*.fits"))],
        workers=1,
        progress=lambda _, total: totals.append(total),
    )
    assert totals[0] < totals[-1] == summary.files == summary.read
    assert summary.stored == len(stored_ids(tmp_path / "data")) == 150
    again = run_ingest(open_root(tmp_path / "data"), "sdss_dr17", [mock_survey], workers=1)
    assert (again.stored, again.already) == (0, again.files)


@pytest.mark.proof
def test_workers_end_when_their_parent_is_killed(mock_survey: Path, tmp_path: Path) -> None:
    """Orphaned readers would hold memory for ever."""
    script = tmp_path / "ingest.py"
    script.write_text(
        "import sys; from pathlib import Path; from specserver.ingest import plan, run_ingest\n"
        "from specserver.data.root import open_root\n"
        "plan.SEGMENT_FILES = 20\n"
        "if __name__ == '__main__':\n"
        "    run_ingest(open_root(sys.argv[1]), 'sdss_dr17', [Path(sys.argv[2])], workers=2)\n"
    )
    data = tmp_path / "data"
    process = subprocess.Popen([sys.executable, str(script), str(data), str(mock_survey)])
    deadline = time.monotonic() + 60
    children: list[int] = []
    while len(children) < 2 and time.monotonic() < deadline and process.poll() is None:
        children = _children(process.pid)
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert children
    while any(Path(f"/proc/{pid}/cmdline").exists() and _alive(pid) for pid in children):
        assert time.monotonic() < deadline, "a worker outlived its parent"
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text().split()] if listed.exists() else []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_damaged_commit_record_is_told(mock_survey: Path, tmp_path: Path) -> None:
    run_ingest(
        open_root(tmp_path), "sdss_dr17", sorted(mock_survey.rglob("spec-*.fits"))[:2], workers=1
    )
    marker = next(tmp_path.rglob("segment.json"))
    assert json.loads(marker.read_text())["nspec"] == 2
    marker.write_text("{")
    with pytest.raises(StoreError, match="commit record"):
        list_segments(open_root(tmp_path).context("sdss_dr17"))
