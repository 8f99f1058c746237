"""What the wavelengths of a folder's own files are in: as the file or the operator says."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from commands import command
from conftest import without_digests
from specserver.catalog.sql.expressions import Condition
from specserver.data.root import open_root
from specserver.errors import BadFile
from specserver.service import SpectroscopicService
from specserver.surveys import find_release
from specserver.surveys.anyfile import read_file
from specserver.surveys.declaration import FileDefaults

WAVE = np.linspace(4000.0, 7000.0, 301)
UNIT = u.Unit("erg / (s cm2 AA)")


def write(
    path: Path,
    cards: Mapping[str, object] | None = None,
    table_cards: Mapping[str, object] | None = None,
    names: tuple[str, ...] = ("WAVE",),
) -> Path:
    """Write a table of flux over columns of wavelengths, the first of which is the axis."""
    columns = {name: (WAVE + at) * u.AA for at, name in enumerate(names)}
    hdu = fits.table_to_hdu(Table({**columns, "FLUX": np.ones(len(WAVE)) * UNIT}))
    hdu.header.update(table_cards or {})
    primary = fits.PrimaryHDU()
    primary.header.update(cards or {})
    fits.HDUList([primary, hdu]).writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(
    ("cards", "medium"),
    [
        ({"AIRORVAC": "air"}, "air"),
        ({"AIRORVAC": "vac     "}, "vacuum"),
        ({"VACUUM": True}, "vacuum"),
        ({"VACUUM": False}, "air"),
        ({"VACUUM": "yes"}, "vacuum"),
        ({"CTYPE1": "AWAV"}, "air"),
        ({"CTYPE1": "AWAV-LOG"}, "air"),
        ({"CTYPE1": "WAVE"}, "vacuum"),
        ({"CTYPE1": "WAVE-LOG"}, "vacuum"),
        ({"CTYPE1": "AIR WAVELENGTH"}, "air"),
        ({"CTYPE1": "Wavelength"}, "unknown"),
        ({"CTYPE1": "LINEAR"}, "unknown"),
        ({"WAT1_001": 'wtype=linear label="Wavelength (air)" units=angstroms'}, "air"),
        ({"WAT1_001": "wtype=linear label=Vacuum_wavelength units=angstroms"}, "vacuum"),
        ({"WAT1_001": "wtype=linear label=Wavelength units=Angstroms"}, "unknown"),
        ({"WCSNAME": "wavelengths in vacuum"}, "vacuum"),
        ({"METADATA": '{"airvac": "vac", "observer": "air"}'}, "vacuum"),
        ({"AIRMASS": 1.2, "AIRPRESS": "okay", "OBJECT": "air"}, "unknown"),
        ({"WCSNAME": "converted from air to vacuum"}, "unknown"),
        ({}, "unknown"),
    ],
)
def test_the_header_says_what_wavelengths_are_in(
    tmp_path: Path, cards: dict[str, object], medium: str
) -> None:
    (one,) = read_file(write(tmp_path / "a.fits", cards))
    assert one.medium == medium
    assert one.wave.tobytes() == WAVE.tobytes()
    # It counts wherever in the file it stands.
    (one,) = read_file(write(tmp_path / "b.fits", None, cards))
    assert one.medium == medium


@pytest.mark.parametrize(
    ("names", "cards", "medium"),
    [
        (("WAVE_AIR",), {}, "air"),
        (("vacuum_wavelength",), {}, "vacuum"),
        (("AWAV",), {}, "air"),
        (("wavelength", "wavelength_air"), {}, "unknown"),
        (("wavelength_vac", "wavelength_air"), {}, "vacuum"),
        (("WAVE",), {"TUCD1": "em.wl;obs.atmos"}, "air"),
        (("WAVE",), {"TUCD1": "em.wl"}, "unknown"),
        (("WAVE",), {"TUCD1": "em.wl", "VOCLASS": "SPECTRUM V2.0"}, "vacuum"),
        (("WAVE",), {"TUCD2": "phot.flux.density;em.wl", "VOCLASS": "SPECTRUM V2.0"}, "unknown"),
    ],
)
def test_the_column_of_wavelengths_says_what_they_are_in(
    tmp_path: Path, names: tuple[str, ...], cards: dict[str, object], medium: str
) -> None:
    (one,) = read_file(write(tmp_path / "a.fits", None, cards, names))
    assert one.medium == medium


def test_text_tables_say_it_in_their_columns_and_meta_data(tmp_path: Path) -> None:
    flux = np.ones(len(WAVE)) * UNIT
    path = tmp_path / "a.ecsv"
    Table({"wave_air": WAVE * u.AA, "flux": flux}).write(path, format="ascii.ecsv")
    assert read_file(path)[0].medium == "air"
    table = Table({"wave": WAVE * u.AA, "flux": flux}, meta={"airorvac": "vacuum"})
    table.write(path, format="ascii.ecsv", overwrite=True)
    assert read_file(path)[0].medium == "vacuum"


def test_a_file_that_says_both_is_refused_until_the_operator_decides(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", {"VACUUM": True}, {"CTYPE1": "AWAV"})
    with pytest.raises(BadFile, match=r"in air \(CTYPE1\) and in vacuum \(VACUUM\): say --medium"):
        read_file(path)
    assert read_file(path, FileDefaults(medium="air"))[0].medium == "air"


def test_the_option_counts_where_the_file_does_not_say(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    write(folder / "silent.fits")
    write(folder / "air.fits", {"AIRORVAC": "air"})
    write(folder / "vacuum.fits", {"VACUUM": True})
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils")
    assert "air or vacuum" in command(*given, "--medium", "water", code=2)
    printed = command(*given, "--medium", "air")
    assert "in vacuum (VACUUM), --medium says air" in printed
    assert media(data) == {"air": "air", "silent": "air"}
    assert json.loads((data / "mine" / "survey.json").read_text())["medium"] == "air"
    survey, _ = find_release("mine", open_root(data))
    assert survey.medium is None
    assert "another context" in command(*given, "--medium", "vacuum", code=2)
    # FileDefaults once, it holds for the files that come later.
    write(folder / "later.fits")
    command("ingest", "mine", folder, "--data", data, "--workers", 1)
    assert media(data) == {"air": "air", "silent": "air", "later": "air"}


def test_what_nobody_says_is_unknown(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    write(folder / "silent.fits")
    write(folder / "vacuum.fits", {"VACUUM": True})
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils")
    command(*given)
    assert media(data) == {"silent": "unknown", "vacuum": "vacuum"}
    write(folder / "later.fits")
    command(*given, "--medium", "air")
    assert media(data) == {"silent": "unknown", "vacuum": "vacuum", "later": "air"}


@pytest.mark.proof
def test_an_option_that_does_not_reach_what_is_stored_says_so(tmp_path: Path) -> None:
    folder, data, report = tmp_path / "spectra", tmp_path / "data", tmp_path / "report"
    folder.mkdir()
    for name in ("silent", "mute"):
        write(folder / f"{name}.fits")
    write(folder / "air.fits", {"AIRORVAC": "air"})
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1, "--report", report)
    own = ("--reader", "specutils")
    command(*given, *own)
    elsewhere = write(tmp_path / "elsewhere.fits")
    command(*given[:2], elsewhere, *given[3:])
    # Files that are not given are not reported.
    printed = command(*given, *own, "--medium", "air", "--strict", code=1)
    assert "in conflict    2" in printed
    assert "already there  1" in printed
    assert "stored with medium unknown, --medium says air; --replace" in printed
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    became = {Path(one["path"]).stem: (one["became"], len(one["ids"])) for one in lines}
    assert became == {
        "silent": ("conflict", 1),
        "mute": ("conflict", 1),
        "air": ("already there", 0),
    }
    # The option is kept, and so are the spectra that it does not apply to.
    assert "in conflict    2" in command(*given)
    assert media(data) == {
        "silent": "unknown",
        "mute": "unknown",
        "air": "air",
        "elsewhere": "unknown",
    }
    printed = command(*given, "--replace")
    assert "replaced       2" in printed
    assert "in conflict    0" in printed
    assert media(data) == {"silent": "air", "mute": "air", "air": "air", "elsewhere": "unknown"}
    printed = command(*given, "--medium", "air", *own, "--strict")
    assert "in conflict    0" in printed
    assert "read           0" in printed


def test_folders_of_before_are_read_and_go_on(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    write(folder / "one.fits", {"VACUUM": False})
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1)
    command(*given, "--reader", "specutils")
    path = data / "mine" / "survey.json"
    declared = json.loads(path.read_text())
    # Older versions wrote no digests.
    del declared["medium"], declared["digest"]
    # A table of targets had a column of that name.
    declared["columns"] = [{"name": "medium", "dtype": "U", "unit": "", "meaning": ""}]
    path.write_text(json.dumps(declared))
    (rows,) = (data / "mine").glob("*/objects.parquet")
    without_digests(rows.parent)
    table = pq.read_table(rows)
    at = table.column_names.index("medium")
    pq.write_table(table.set_column(at, "in_air", pa.array([True])), rows)
    for old in sorted((data / "mine" / "index").rglob("*"), reverse=True):
        old.rmdir() if old.is_dir() else old.unlink()
    archive = SpectroscopicService(open_root(data)).archive
    archive.ensure_indexes()
    assert archive.open_release("mine").catalog.count(primary=False) == 1
    write(folder / "two.fits", {"VACUUM": False})
    command(*given)
    assert media(data) == {"one": None, "two": "air"}


def media(data: Path) -> dict[str, str | None]:
    """Return the medium of each spectrum of the context `mine` by its name."""
    catalog = SpectroscopicService(open_root(data)).archive.open_release("mine").catalog
    rows = catalog.query(["name", "medium"], Condition(), None, primary=False)
    names, found = (rows.column(name).to_pylist() for name in ("name", "medium"))
    return dict(zip(names, found, strict=True))
