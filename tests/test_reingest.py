"""Files that come again: the same bits are there already, others are a conflict or replace."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table
from typer.testing import CliRunner

from conftest import without_digests
from exposures import exposures_in_two_files
from serving import serve
from specserver.cli.main import app
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.ingest.verify import verify
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest
from specserver.simulate import simulate_desi

CONTEXT = "sdss_dr17"


@pytest.fixture
def files(mock_survey: Path, tmp_path: Path) -> Path:
    """Return a folder of a few files that may be changed."""
    folder = tmp_path / "files"
    folder.mkdir()
    chosen = {path.name: path for path in sorted(mock_survey.rglob("spec-*.fits"))}
    for path in list(chosen.values())[:6]:
        shutil.copy(path, folder)
    return folder


def change(path: Path, *, flux: float = 2.0, z: float | None = None) -> None:
    """Write other values into a file in place; neither its length nor its name changes."""
    with fits.open(path, mode="update") as units:
        units[1].data["flux"] *= flux
        if z is not None:
            units[2].data["Z"][0] = z


def stored_flux(data: Path, folder: Path, given: object = None) -> list[bytes]:
    with serve(data, folder) as running:
        return served_flux(SpecClient(CONTEXT, svc_url=running.url), given)


def served_flux(client: SpecClient, given: object = None) -> list[bytes]:
    ids = client.query(constraint="plate > 0", primary=False) if given is None else given
    return [one["flux"].tobytes() for one in client.getSpec(ids)]


def faults(data: Path) -> list[str]:
    return [fault for finding in verify(open_root(data)) for fault in finding.faults]


def flux_of(path: Path) -> bytes:
    with fits.open(path) as units:
        flux: bytes = units[1].data["flux"].astype("<f4").tobytes()
        return flux


@pytest.mark.proof
@pytest.mark.parametrize("how", ["in place", "another path"])
def test_changed_values_are_a_conflict_and_replace(files: Path, tmp_path: Path, how: str) -> None:
    data, report = tmp_path / "data", tmp_path / "report.jsonl"
    assert run_ingest(open_root(data), CONTEXT, [files], workers=1).stored == 6
    first = min(files.glob("*.fits"))
    old, changed = flux_of(first), first
    if how == "another path":
        changed = tmp_path / "other" / first.name
        changed.parent.mkdir()
        shutil.copy(first, changed)
    change(changed)
    for _ in range(2):
        summary = run_ingest(open_root(data), CONTEXT, [files, changed], workers=1, report=report)
        assert (summary.stored, summary.nconflicts, summary.replaced) == (0, 1, 0)
        assert summary.already == (6 if changed != first else 5)
    (note,) = summary.conflicts
    assert (note.path, note.other) == (str(changed), str(first))
    lines = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    (line,) = (one for one in lines if one["became"] == "conflict")
    assert (line["path"], line["other"], line["ids"]) == (str(changed), str(first), list(note.ids))
    assert "--replace" in line["reason"]
    number = int(note.ids[0])
    assert stored_flux(data, files, [number]) == [old]
    cli = CliRunner()
    command = ["ingest", CONTEXT, str(changed), "--data", str(data), "--workers", "1"]
    shown = cli.invoke(app, [*command, "--strict"])
    assert shown.exit_code == 1
    assert "conflict" in shown.output
    shown = cli.invoke(app, [*command, "--strict", "--replace", "--report", str(report)])
    assert shown.exit_code == 0, shown.output
    assert report.name in shown.output.replace("\n", "")
    assert json.loads(report.read_text("utf-8"))["became"] == "replaced"
    with serve(data, files) as running:
        client = SpecClient(CONTEXT, svc_url=running.url)
        assert served_flux(client, [number]) == [flux_of(changed)] != [old]
        assert len(served_flux(client)) == 6
        assert faults(data) == []
        told = cli.invoke(app, ["info", "--data", str(data)]).output
        assert re.search(rf"{CONTEXT}\W+2\W+6\W", told), told
        client.getSpec([number], fmt="FITS", out=tmp_path / "out")
    assert next((tmp_path / "out").rglob("*.fits")).read_bytes() == changed.read_bytes()
    again = run_ingest(open_root(data), CONTEXT, [changed], workers=1, replace=True)
    assert (again.stored, again.replaced, again.already) == (0, 0, 1)


@pytest.mark.proof
def test_verify_counts_what_readers_reach(files: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run_ingest(open_root(data), CONTEXT, [files], workers=1)
    cli = CliRunner()
    assert "6 spectra, " in cli.invoke(app, ["verify", "--data", str(data)]).output
    change(min(files.glob("*.fits")))
    run_ingest(open_root(data), CONTEXT, [files], workers=1, replace=True)
    told = cli.invoke(app, ["verify", "--data", str(data)]).output
    assert "6 spectra and 1 that were replaced and are kept, " in told.replace("\n", " ")


@pytest.mark.proof
def test_a_catalogue_row_that_changed_is_a_conflict(files: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run_ingest(open_root(data), CONTEXT, [files], workers=1)
    change(min(files.glob("*.fits")), flux=1.0, z=1.25)
    summary = run_ingest(open_root(data), CONTEXT, [files], workers=1)
    assert (summary.stored, summary.nconflicts) == (0, 1)
    assert "catalogue values" in summary.conflicts[0].reason
    assert run_ingest(open_root(data), CONTEXT, [files], workers=1, replace=True).replaced == 1
    with serve(data, files) as running:
        client = SpecClient(CONTEXT, svc_url=running.url)
        number = int(summary.conflicts[0].ids[0])
        assert client.query(constraint=f"specobjid = {number}", fields="z", primary=False) == [1.25]


def test_other_values_twice_in_one_ingest_are_a_conflict(files: Path, tmp_path: Path) -> None:
    first = min(files.glob("*.fits"))
    copy, other = tmp_path / "copy" / first.name, tmp_path / "other" / first.name
    for one in (copy, other):
        one.parent.mkdir()
        shutil.copy(first, one)
    change(other)
    summary = run_ingest(
        open_root(tmp_path / "data"), CONTEXT, [files, copy, other], workers=1, replace=True
    )
    assert (summary.stored, summary.already, summary.nconflicts) == (6, 1, 1)


@pytest.mark.proof
def test_an_exposure_in_two_files_that_two_processes_read(tmp_path: Path) -> None:
    """An exposure stands in the file of its pixel and in that of its tile, of different names."""
    folder = tmp_path / "desi"
    first, copy = exposures_in_two_files(folder, 12, per_file=6)
    with fits.open(copy) as units:
        count = len(units["FIBERMAP"].data)
    for how in ("already there", "conflict"):
        if how == "conflict":
            with fits.open(copy, mode="update") as units:
                units["B_FLUX"].data *= 2
        data, report = tmp_path / how, tmp_path / f"{how}.jsonl"
        # As many processes as files: each file is a part of its own.
        run = run_ingest(open_root(data), "desi_edr_exposures", [folder], workers=3, report=report)
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        twice = [line for line in lines if {line["path"], line["other"]} == {str(first), str(copy)}]
        assert sum(len(line["ids"]) for line in twice) == count
        assert {line["became"] for line in twice} == {how}
        assert run.nconflicts == (count if how == "conflict" else 0)
        # Files of different pixels may differ; the report says that they do.
        assert run.ndiffering == 0
        if how == "already there":
            assert all("catalogue values differ" in line["reason"] for line in twice), twice
        service = SpectroscopicService(open_root(data))
        request = QueryRequest("desi_edr_exposures", None, "", ("targetid", "expid"), None, False)
        rows = [tuple(row.values()) for row in service.query(request).to_pylist()]
        assert len(rows) == len(set(rows)) > count
        assert faults(data) == []


@pytest.mark.proof
def test_folders_of_older_versions_are_compared_by_reading(files: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run_ingest(open_root(data), CONTEXT, [files], workers=1)
    hidden = ["_digest", "_row_digest", "_beside"]
    for name in open_root(data).context(CONTEXT).segments():
        path = data / CONTEXT / name / "objects.parquet"
        pq.write_table(pq.read_table(path).drop_columns(hidden), path)
        without_digests(path.parent)
    same = tmp_path / "same"
    shutil.copytree(files, same)
    assert run_ingest(open_root(data), CONTEXT, [files, same], workers=1).already == 12
    change(min(same.glob("*.fits")))
    summary = run_ingest(open_root(data), CONTEXT, [same], workers=1)
    assert (summary.stored, summary.already, summary.nconflicts) == (0, 5, 1)
    assert run_ingest(open_root(data), CONTEXT, [same], workers=1, replace=True).replaced == 1
    assert len(stored_flux(data, files)) == 6
    assert faults(data) == []


@pytest.mark.proof
def test_a_redshift_file_that_comes_later_is_noticed(tmp_path: Path) -> None:
    simulate_desi(tmp_path / "mock", 10, seed=3, per_file=10)
    (coadd,) = (tmp_path / "mock").rglob("coadd-*.fits")
    redrock = coadd.with_name(coadd.name.replace("coadd", "redrock"))
    away = tmp_path / redrock.name
    redrock.rename(away)
    data = tmp_path / "data"
    assert run_ingest(open_root(data), "desi_dr1", [coadd], workers=1).stored == 10
    assert run_ingest(open_root(data), "desi_dr1", [coadd], workers=1).already == 1
    away.rename(redrock)
    assert run_ingest(open_root(data), "desi_dr1", [coadd], workers=1).nconflicts == 10
    assert run_ingest(open_root(data), "desi_dr1", [coadd], workers=1, replace=True).replaced == 10
    with serve(data, tmp_path) as running:
        client = SpecClient("desi_dr1", svc_url=running.url)
        found = client.query(constraint="z > -1", fields="targetid,z", primary=False)
    published = Table.read(redrock, hdu="REDSHIFTS")
    expected = dict(zip(published["TARGETID"].tolist(), published["Z"].tolist(), strict=True))
    assert dict(zip(found["targetid"].tolist(), found["z"].tolist(), strict=True)) == expected


@pytest.mark.proof
def test_the_report_lists_each_file_and_is_there_when_the_ingest_ends_early(
    files: Path, tmp_path: Path
) -> None:
    first, second, *_ = sorted(files.glob("*.fits"))
    second.write_bytes(second.read_bytes()[:60_000])
    (files / "spec-nonsense.fits").write_bytes(b"SIMPLE")
    report = tmp_path / "report.jsonl"
    data = tmp_path / "data"
    run_ingest(open_root(data), CONTEXT, [first], workers=1)
    run_ingest(open_root(data), CONTEXT, [files], workers=1, report=report)
    lines = [json.loads(line) for line in report.read_text("utf-8").splitlines()]
    became = {Path(one["path"]).name: one["became"] for one in lines}
    assert became == {
        first.name: "already there", second.name: "refused", "spec-nonsense.fits": "refused"
    }  # fmt: skip
    assert all(one["reason"] for one in lines)
    code = (
        "import sys; from pathlib import Path; from specserver.ingest import pipeline\n"
        "from specserver.data.root import open_root\n"
        "def die(*_): raise SystemExit(3)\n"
        "pipeline.commit_segments = die\n"
        "pipeline.run_ingest(open_root(sys.argv[1]), 'sdss_dr17', [Path(sys.argv[2])], workers=1,"
        " report=Path(sys.argv[3]))"
    )
    early = tmp_path / "early.jsonl"
    command = [sys.executable, "-c", code, str(tmp_path / "data2"), str(files), str(early)]
    assert subprocess.run(command, check=False).returncode == 3
    assert len(early.read_text("utf-8").splitlines()) == 2


_READER = """
import sys
from pathlib import Path
from specserver.data.root import open_root
from specserver.service import SpectroscopicService

service = SpectroscopicService(open_root(sys.argv[1]))
ids = [int(one) for one in sys.argv[2].split(",")]
seen = set()
print("ready", flush=True)
while True:
    last = Path(sys.argv[3]).exists()
    selection = service.resolve(ids, "sdss_dr17")
    records = list(service.read(selection, ["flux", "ivar"]))
    table = selection.sources[0].catalog.columns_of(["z"], selection.catalogue_row)
    for record, z in zip(records, table.column("z").to_pylist(), strict=True):
        values = {*record["flux"].tolist(), *record["ivar"].tolist(), float(z)}
        assert values in ({1.0}, {2.0}), values
        seen |= values
    if last:
        break
print(sorted(seen), flush=True)
"""


@pytest.mark.proof
def test_a_reader_sees_the_old_or_the_new_while_files_are_replaced(
    files: Path, tmp_path: Path
) -> None:
    def mark(value: float) -> None:
        for path in files.glob("*.fits"):
            with fits.open(path, mode="update") as units:
                units[1].data["flux"][:] = value
                units[1].data["ivar"][:] = value
                units[2].data["Z"][0] = value

    mark(1.0)
    data, end = tmp_path / "data", tmp_path / "end"
    run_ingest(open_root(data), CONTEXT, [files], workers=1)
    held = SpectroscopicService(open_root(data)).query(QueryRequest(CONTEXT, primary=False))
    ids = held.column(0).to_pylist()
    command = [sys.executable, "-c", _READER, str(data), ",".join(map(str, ids)), str(end)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout is not None
            assert reader.stdout.readline() == "ready\n"
            mark(2.0)
            assert run_ingest(
                open_root(data), CONTEXT, [files], workers=1, replace=True
            ).replaced == len(ids)
            end.touch()
            shown, _ = reader.communicate(timeout=60)
        finally:
            reader.kill()
    assert reader.returncode == 0
    assert "2.0" in shown
    assert faults(data) == []


@pytest.mark.proof
def test_a_kill_between_commits_of_a_replacement_loses_nothing(files: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    run_ingest(open_root(data), CONTEXT, [files], workers=1)
    for path in files.glob("*.fits"):
        change(path)
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from specserver.data.root import open_root\n"
        "from specserver.ingest import pipeline, plan\n"
        "plan.SEGMENT_FILES = 1\n"
        "commit, done = pipeline.commit_segments, []\n"
        "def twice(*given):\n"
        "    if len(done) == 2: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    done.append(given); return commit(*given)\n"
        "pipeline.commit_segments = twice\n"
        "pipeline.run_ingest(open_root(sys.argv[1]), 'sdss_dr17', [Path(sys.argv[2])], workers=1,"
        " replace=True)"
    )
    command = [sys.executable, "-c", code, str(data), str(files)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    new = {flux_of(path) for path in files.glob("*.fits")}
    between = stored_flux(data, files)
    assert len(between) == 6
    assert sum(one in new for one in between) == 2
    summary = run_ingest(open_root(data), CONTEXT, [files], workers=1, replace=True)
    assert (summary.replaced, summary.already) == (4, 2)
    assert set(stored_flux(data, files)) == new
    assert faults(data) == []
