"""A spectrum from another file with the same vectors and other catalogue values."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from commands import command
from exposures import exposures_in_two_files
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.ingest.verify import verify
from specserver.model.survey import RawSpectrum
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest
from specserver.simulate import simulate_desi
from specserver.surveys import find_release
from test_generic import WAVE, write_table
from test_lamost import write_lamost


def lines_of(report: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in report.read_text("utf-8").splitlines()]


def stored_z(data: Path, context: str) -> list[float]:
    """Return the redshifts that readers see, sorted."""
    request = QueryRequest(context, None, "", ("z",), None, False)
    found = SpectroscopicService(open_root(data)).query(request).to_pylist()
    return sorted(row["z"] for row in found)


def faults(data: Path) -> list[str]:
    return [fault for finding in verify(open_root(data)) for fault in finding.faults]


def sdss(folder: Path, mock: Path) -> Path:
    path = folder / min(mock.rglob("spec-*.fits"), key=lambda one: one.name).name
    shutil.copy(next(mock.rglob(path.name)), path)
    with fits.open(path, mode="update") as units:
        units[2].data["Z"][0] = 0.125
    return path


def sdss_z(path: Path) -> None:
    with fits.open(path, mode="update") as units:
        units[2].data["Z"][0] = 0.5


def desi(folder: Path, _: Path) -> Path:
    simulate_desi(folder / "made", 1, seed=3, per_file=10)
    (path,) = (folder / "made").rglob("coadd-*.fits")
    desi_z(path, 0.125)
    return path


def desi_z(path: Path, z: float = 0.5) -> None:
    beside = path.with_name(path.name.replace("coadd", "redrock"))
    with fits.open(beside, mode="update") as units:
        units["REDSHIFTS"].data["Z"][:] = z


def lamost(folder: Path, _: Path) -> Path:
    return write_lamost(folder, Z=0.125)


def lamost_z(path: Path) -> None:
    write_lamost(path.parent, Z=0.5)


MAKERS: dict[str, tuple[Callable[[Path, Path], Path], Callable[[Path], None]]] = {
    "sdss_dr17": (sdss, sdss_z),
    "desi_dr1": (desi, desi_z),
    "lamost_dr7": (lamost, lamost_z),
}


@pytest.fixture(params=MAKERS)
def redelivered(
    request: pytest.FixtureRequest, mock_survey: Path, tmp_path: Path
) -> tuple[str, Path, Path]:
    """Return a context, a file with redshift 0.125, and its copy in another folder with 0.5."""
    make, change = MAKERS[request.param]
    first = tmp_path / "first"
    first.mkdir()
    path = make(first, mock_survey)
    shutil.copytree(first, tmp_path / "second")
    again = tmp_path / "second" / path.relative_to(first)
    change(again)
    return request.param, path, again


@pytest.mark.proof
def test_other_catalogue_values_from_another_path_are_told_and_replace(
    redelivered: tuple[str, Path, Path], tmp_path: Path
) -> None:
    context, path, again = redelivered
    data, report = tmp_path / "data", tmp_path / "report.jsonl"
    run_ingest(open_root(data), context, [path], workers=1)
    given = ("ingest", context, again, "--data", data, "--workers", 1)
    printed = command(*given, "--report", report)
    assert "row differs    1" in printed
    assert "already there  1" in printed
    (line,) = lines_of(report)
    assert line["became"] == "already there"
    assert line["columns"] == ["z"]
    assert line["other"] == str(path)
    assert line["reason"] == (
        f"the vectors are the same, 1 catalogue value differs; what {path} gives is kept;"
        " --replace stores these (z 0.125 → 0.5)"
    )
    assert "z 0.125 → 0.5" in printed
    command(*given, "--strict", code=1)
    assert stored_z(data, context) == [0.125]
    printed = command(*given, "--strict", "--replace", "--report", report)
    assert "replaced       1" in printed
    (line,) = lines_of(report)
    assert (line["became"], line["columns"]) == ("replaced", ["z"])
    assert "z 0.125 → 0.5" in str(line["reason"])
    assert stored_z(data, context) == [0.5]
    assert faults(data) == []
    # The other order is reported as well, and equal rows are reported as equal.
    assert run_ingest(open_root(data), context, [path], workers=1).ndiffering == 1
    third = tmp_path / "third"
    shutil.copytree(tmp_path / "second", third)
    same = run_ingest(open_root(data), context, [third], workers=1, replace=True, report=report)
    assert (same.already, same.replaced, same.ndiffering) == (1, 0, 0)
    assert "the same values are stored" in {one["reason"] for one in lines_of(report)}


@pytest.mark.parametrize("workers", [1, 2])
def test_two_files_of_one_ingest_with_other_catalogue_values_are_told(
    redelivered: tuple[str, Path, Path], tmp_path: Path, workers: int
) -> None:
    context, path, again = redelivered
    data, report = tmp_path / "data", tmp_path / "report.jsonl"
    both = [path, again]
    for _ in range(3):
        # Neither file has precedence: each run would replace one by the other.
        run = run_ingest(
            open_root(data), context, both, workers=workers, replace=True, report=report
        )
        assert (run.ndiffering, run.replaced, run.nconflicts) == (1, 0, 0)
        (line,) = (one for one in lines_of(report) if one["columns"])
        assert line["columns"] == ["z"]
        assert "z 0.125 → 0.5" in str(line["reason"])
        assert "give only the one you mean" in str(line["reason"])
    assert stored_z(data, context) == [0.125]


@pytest.mark.proof
@pytest.mark.parametrize("workers", [1, 2])
def test_files_of_different_things_may_differ_and_it_is_told(tmp_path: Path, workers: int) -> None:
    """An exposure stands in the file of its pixel and in that of its tile, each with redshifts."""
    data, report = tmp_path / "data", tmp_path / "report.jsonl"
    first, copy = exposures_in_two_files(tmp_path / "desi", 1, per_file=4)
    with fits.open(copy, mode="update") as units:
        units["FIBERMAP"].data["EXPTIME"] = 7.0
    context, files = "desi_edr_exposures", [first, copy]
    run = run_ingest(open_root(data), context, files, workers=workers, report=report)
    assert (run.ndiffering, run.nconflicts) == (0, 0)
    lines = lines_of(report)
    assert {line["became"] for line in lines} == {"already there"}
    for line in lines:
        assert {line["path"], line["other"]} == {str(first), str(copy)}
        assert "catalogue values differ" in str(line["reason"])
        assert "their names say that they are of different things" in str(line["reason"])
        assert "exptime" in str(line["reason"])


@pytest.mark.proof
def test_what_only_one_file_has_is_no_difference_and_replace_stores_it(tmp_path: Path) -> None:
    simulate_desi(tmp_path / "bare", 10, seed=3, per_file=10)
    (coadd,) = (tmp_path / "bare").rglob("coadd-*.fits")
    shutil.copytree(tmp_path / "bare", tmp_path / "full")
    coadd.with_name(coadd.name.replace("coadd", "redrock")).unlink()
    data, report = tmp_path / "data", tmp_path / "report.jsonl"
    run_ingest(open_root(data), "desi_dr1", [tmp_path / "bare"], workers=1)
    given = ("ingest", "desi_dr1", tmp_path / "full", "--data", data, "--workers", 1, "--strict")
    assert "row differs    0" in command(*given, "--report", report)
    (reason,) = (one["reason"] for one in lines_of(report) if one["became"] == "already there")
    assert "the same values are stored, besides those that only one file has: z, " in str(reason)
    assert "replaced       10" in command(*given, "--replace")
    assert None not in stored_z(data, "desi_dr1")
    # The file with less gives nothing new.
    run = run_ingest(open_root(data), "desi_dr1", [tmp_path / "bare"], workers=1, replace=True)
    assert (run.already, run.replaced, run.ndiffering) == (10, 0, 0)


def test_a_table_of_targets_for_a_file_in_another_folder(tmp_path: Path) -> None:
    data, report = tmp_path / "data", tmp_path / "report.jsonl"
    for name, z in (("first", 0.125), ("second", 0.5)):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "spec_001.fits", error=np.full(len(WAVE), 0.25))
        table = tmp_path / name / "targets.csv"
        table.write_text(f"id,ra,dec,z,note\n1,10.0,1.0,{z},{name}\n")
    for name, options in (("first", ()), ("second", ()), ("second", ("--replace",))):
        folder = tmp_path / name
        printed = command(
            "ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils",
            "--catalog", folder / "targets.csv", "--report", report, *options,
        )  # fmt: skip
        if options:
            assert "replaced       1" in printed
        elif name == "second":
            assert "row differs    1" in printed
            (line,) = (one for one in lines_of(report) if one["columns"])
            assert line["columns"] == ["z", "note"]
            assert "z 0.125 → 0.5, note 'first' → 'second'" in str(line["reason"])
            assert stored_z(data, "mine") == [0.125]
    assert stored_z(data, "mine") == [0.5]


@pytest.mark.proof
def test_full_and_lite_files_of_surveys_do_not_differ(real_spectra: Path, tmp_path: Path) -> None:
    for context, folder in (("sdss_dr17", "sdss"), ("desi_dr1", "desi"), ("lamost_dr7", "other")):
        run = run_ingest(open_root(tmp_path / "data"), context, [real_spectra / folder], workers=1)
        assert run.ndiffering == 0, run.differing


def test_a_value_differs_where_it_would_be_stored_otherwise() -> None:
    from specserver.ingest.row_differences import compare, row_of

    survey, _ = find_release("sdss_dr17")

    def of(**row: object) -> RawSpectrum:
        return RawSpectrum(1, 12.5, np.nan, "26", np.arange(3.0), {}, row)

    kept = row_of(of(z=np.float32(0.1), a=np.float32(np.nan), b="x", c=None, e=np.int64(3)))
    given = row_of(of(z=np.float64(0.1), a=np.float64(np.nan), b="x", d=4, e=np.float64(3)))
    found = compare(survey, given, kept)
    assert (found.columns, found.besides, found.anew) == ((), ("d",), True)
    found = compare(survey, row_of(of(z=np.float32(0.1), b="y", e=4)), kept)
    assert found.columns == ("b", "e")
    assert found.shown == "b 'x' → 'y', e 3 → 4"
    assert found.besides == ("a",)
    assert row_of(of())["ra"] == 12.5
    assert "dec" not in row_of(of())
