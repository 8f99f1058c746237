"""What is said of files that specutils does not read, or a survey of this program reads better."""

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from commands import command
from specserver.errors import BadFile
from specserver.surveys import own_command
from specserver.surveys.anyfile import read_file
from specserver.surveys.declaration import FileDefaults, NamedVectors
from specserver.surveys.unread import what_it_holds, why_unread


def write_plate(path: Path, npix: int = 30) -> Path:
    """Write what a loader of specutils takes for a plate of SDSS, all but its first HDU missing."""
    primary = fits.PrimaryHDU(np.ones((7, npix), np.float32))
    primary.header.update(
        {"TELESCOP": "SDSS 2.5-M", "FIBERID": 0, "PLATEID": 4055, "COEFF0": 3.5, "COEFF1": 1e-4}
    )
    primary.header["BUNIT"] = "1E-17 erg/cm^2/s/Ang"
    primary.writeto(path)
    return path


def test_a_loader_that_breaks_is_named_with_what_the_file_holds(tmp_path: Path) -> None:
    path = write_plate(tmp_path / "spPlate-4055-55359.fits")
    with pytest.raises(BadFile) as caught:
        read_file(path)
    said = str(caught.value)
    for part in (
        "its loader 'SDSS spPlate' does not fit (IndexError: ", "--loader", "columns wave, flux",
        "; it holds HDU 0 PRIMARY: image of shape (7, 30)",
    ):  # fmt: skip
        assert part in said


def test_what_is_told_of_a_file_is_short_and_one_line(tmp_path: Path) -> None:
    path = tmp_path / "many.fits"
    table = fits.BinTableHDU.from_columns([fits.Column("a", "E", array=np.zeros(4))])
    images = [fits.ImageHDU(np.zeros((2, 3)), name=f"I{number}") for number in range(7)]
    fits.HDUList([fits.PrimaryHDU(), table, *images]).writeto(path)
    said = why_unread(path, KeyError(f"{path}\n" + "x" * 500), "")
    assert "\n" not in said
    assert str(path) not in said
    assert len(said) < 500
    said = what_it_holds(path)
    assert "HDU 0 PRIMARY: no data, HDU 1: table of 4 rows and 1 columns, HDU 2 I0: image" in said
    assert said.endswith("and 5 more")
    text = tmp_path / "a.txt"
    text.write_text("nothing")
    assert what_it_holds(text) == ""


def test_a_text_file_without_names_is_told_how_to_name_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.dat"
    path.write_text("4000 1 1\n4001 2 1\n")
    with pytest.raises(BadFile, match=r"--wave, --flux, --error; it holds col1, col2, col3$"):
        read_file(path)
    named = FileDefaults(vectors=NamedVectors("col2", ""))
    with pytest.raises(BadFile, match=r"an image --flux col2; for columns say --wave, too; it "):
        read_file(path, named)
    path.write_text("wave flux\n")
    with pytest.raises(BadFile, match="0 values of flux for 0 wavelengths"):
        read_file(path, FileDefaults("", "", "nm", "Jy", NamedVectors("flux", "wave")))
    given = ("ingest", "mine", path, "--data", tmp_path / "data", "--wave", "col1", "--flux")
    path.write_text("4000 1 1\n4001 2 1\n")
    told = command(*given, "col2", "--wave-unit", "nm", "--flux-unit", "zork", code=2)
    assert "astropy cannot read it; say what flux is in with --flux-unit" in told
    assert str(path) not in told


def test_files_of_one_family_are_refused_with_one_reason(tmp_path: Path) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    axis = {"CRVAL1": 4000.0, "CDELT1": 1.0, "CUNIT1": "Angstrom"}
    good = fits.PrimaryHDU(np.ones(50))
    good.header.update(axis)
    good.writeto(folder / "a.fits")
    for npix in (30, 40, 50):
        write_plate(folder / f"spPlate-{npix}.fits", npix)
    given = ("ingest", "mine", folder, "--data", tmp_path / "data", "--workers", 1)
    printed = command(*given, "--reader", "specutils", "--flux-unit", "Jy")
    assert " ".join(printed.split()).count("refused:") == 1
    assert "and 2 more: specutils cannot read it" in " ".join(printed.split())


def test_files_that_a_survey_reads_itself_are_sent_there(mock_survey: Path, tmp_path: Path) -> None:
    path = min(mock_survey.rglob("spec-*.fits"))
    assert "specserver ingest sdss_dr17" in own_command(path)
    assert own_command(write_plate(tmp_path / "spPlate-4055-55359.fits")) == ""
    # A name alone is not enough.
    false = tmp_path / path.name
    fits.PrimaryHDU(np.ones(5)).writeto(false)
    assert own_command(false) == ""
    report = tmp_path / "report.jsonl"
    given = ("--data", tmp_path / "data", "--workers", 1, "--reader", "specutils")
    printed = command("ingest", "mine", path, *given, "--report", report)
    assert " ".join(printed.split()).count(f"warning: {path.name}: it is a file of") == 1
    assert report.read_text() == ""


@pytest.mark.proof
def test_refused_files_that_a_survey_reads_itself_are_sent_there(
    real_spectra: Path, tmp_path: Path
) -> None:
    lamost = min((real_spectra / "other").glob("spec-58397-*"))
    given = ("--data", tmp_path / "data", "--workers", 1, "--reader", "specutils")
    report = tmp_path / "report.jsonl"
    printed = command("ingest", "mine", lamost, *given, "--report", report, code=1)
    assert "specserver ingest lamost_dr7" in printed
    # Behind one that can be read it is refused in the ingest itself.
    report = tmp_path / "more.jsonl"
    table = real_spectra / "other" / "XShooter_XQ100.fits.gz"
    printed = command("ingest", "mine", table, lamost, *given, "--report", report)
    (note,) = [json.loads(line) for line in report.read_text().splitlines()]
    assert (note["became"], note["path"]) == ("refused", str(lamost))
    assert "specserver ingest lamost_dr7" in note["reason"]
    assert "it holds HDU 0" in note["reason"]
    plate = real_spectra / "other" / "spPlate-4055-55359-0020.fits"
    printed = command("ingest", "other", plate, *given, code=1)
    assert "HDU 0 PRIMARY: image of shape (20, 4637)" in printed


def test_a_first_ingest_that_stores_nothing_leaves_no_folder(
    mock_survey: Path, tmp_path: Path
) -> None:
    data = tmp_path / "new" / "data"
    false = write_plate(tmp_path / "spec-0266-51602-0013.fits")
    own = (false, "--data", data, "--workers", 1, "--reader", "specutils")
    for _ in range(2):
        command("ingest", "mine", *own, code=1)
        assert not data.exists()
    assert "refused" in command("ingest", "sdss_dr17", *own[:-2])
    assert not data.exists()
    # What holds anything stays, a report among it; so does a data folder that was there.
    data.mkdir(parents=True)
    command("ingest", "mine", *own, code=1)
    assert list(data.iterdir()) == []
    (data / "mine").mkdir()
    command("ingest", "mine", *own, "--report", data / "mine" / "report.jsonl", code=1)
    assert (data / "mine" / "report.jsonl").exists()
    path = min(mock_survey.rglob("spec-*.fits"))
    command("ingest", "sdss_dr17", path, "--data", data, "--workers", 1)
    command("ingest", "sdss_dr17", false, "--data", data, "--workers", 1)
    assert (data / "sdss_dr17" / "index").is_dir()
