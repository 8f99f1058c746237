"""A survey that a data folder declares itself: files of any kind that specutils reads."""

import json
import warnings
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.nddata import InverseVariance, StdDevUncertainty, VarianceUncertainty
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st
from specutils import Spectrum, SpectrumList

from commands import command
from serving import Served, serve
from specserver.catalog.sql.expressions import Condition
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadFile, BadIdentifier, BadParameter, StoreError, UnknownContext
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from specserver.service import SpectroscopicService
from specserver.surveys import find_release, load_surveys
from specserver.surveys.anyfile import read_file
from specserver.surveys.byspecutils import ivar_of
from specserver.surveys.declaration import stem_of
from specserver.surveys.statedposition import degrees
from specserver.surveys.targets import Targets, normal_table

UNIT = u.Unit("1e-17 erg / (s cm2 AA)")
WAVE = np.linspace(4000.0, 7000.0, 1501)


def write_table(
    path: Path,
    wave: u.Quantity = WAVE * u.AA,
    *,
    flux: npt.NDArray[np.float64] | None = None,
    error: npt.NDArray[np.float64] | None = None,
    unit: u.UnitBase = UNIT,
    cards: dict[str, object] | None = None,
) -> Path:
    """Write a spectrum as a table, in a form that specutils recognises."""
    flux = 5 + np.sin(wave.value / 50) if flux is None else flux
    columns = {"wavelength": wave, "flux": flux * unit}
    if error is not None:
        columns["uncertainty"] = error * unit
    hdu = fits.table_to_hdu(Table(columns))
    primary = fits.PrimaryHDU()
    primary.header.update(cards or {})
    fits.HDUList([primary, hdu]).writeto(path, overwrite=True)
    return path


def test_values_are_those_of_the_file(tmp_path: Path) -> None:
    flux, error = 5 + np.sin(WAVE / 50), np.full(len(WAVE), 0.5)
    flux[3], error[5], error[6], error[7] = np.nan, 0.0, np.nan, -1.0
    (one,) = read_file(write_table(tmp_path / "a.fits", flux=flux, error=error))
    assert one.wave.tobytes() == WAVE.tobytes()
    assert one.flux.tobytes() == flux.tobytes()
    assert one.ivar is not None
    assert np.flatnonzero(one.ivar == 0).tolist() == [5, 6, 7]
    assert set(one.ivar[one.ivar > 0].tolist()) == {4.0}
    assert np.flatnonzero(one.mask).tolist() == [3]
    assert u.Unit(one.unit) == UNIT
    assert one.medium == "unknown"


def test_falling_wavelengths_are_turned_round_with_their_values(tmp_path: Path) -> None:
    flux, error = np.arange(len(WAVE), dtype=float), 1.0 + np.arange(len(WAVE))
    path = write_table(tmp_path / "a.fits", WAVE[::-1] * u.AA, flux=flux, error=error)
    (one,) = read_file(path)
    assert one.wave.tobytes() == WAVE.tobytes()
    assert one.flux.tobytes() == flux[::-1].tobytes()
    assert one.ivar is not None
    assert np.array_equal(one.ivar, 1 / error[::-1] ** 2)


def test_other_axes_become_wavelengths_in_angstrom(tmp_path: Path) -> None:
    for axis in (WAVE / 1e4 * u.um, (WAVE * u.AA).to(u.THz, u.spectral())):
        (one,) = read_file(write_table(tmp_path / "a.fits", axis, flux=np.ones(len(WAVE))))
        assert np.allclose(one.wave, WAVE, rtol=1e-14, atol=0)
        assert one.ivar is None


def test_air_is_noted_and_positions_are_read_from_headers(tmp_path: Path) -> None:
    cards = {"RA": "10:00:00", "DEC": "-02:30:00", "VACUUM": False, "REDSHIFT": 0.5}
    path = write_table(tmp_path / "a.fits", cards=cards)
    (one,) = read_file(path)
    assert one.medium == "air"
    assert (one.position.ra_deg, one.position.dec_deg, one.z) == (150.0, -2.5, 0.5)
    (one,) = read_file(write_table(tmp_path / "b.fits"))
    assert np.isnan([one.position.ra_deg, one.position.dec_deg, one.z]).all()


@pytest.mark.parametrize(
    ("wave", "match"),
    [
        (np.r_[WAVE[:700], WAVE[:801]] * u.AA, "strictly increasing"),
        (np.r_[np.nan, WAVE[1:]] * u.AA, "strictly increasing"),
        ((WAVE - 5000.0) * u.AA, "no numbers above 0"),
    ],
)
def test_wavelengths_that_are_none_are_refused(
    tmp_path: Path, wave: u.Quantity, match: str
) -> None:
    with pytest.raises(BadFile, match=match):
        read_file(write_table(tmp_path / "a.fits", wave, flux=np.ones(len(wave))))


def test_what_specutils_does_not_read_is_refused_with_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(b"nothing")
    with pytest.raises(BadFile, match="specutils"):
        read_file(path)
    fits.PrimaryHDU(np.zeros((3, 4, 5))).writeto(path, overwrite=True)
    with pytest.raises(BadFile, match=r"specutils|cube|wavelength"):
        read_file(path)


SIGMAS = st.one_of(st.floats(1e-100, 1e100), st.sampled_from([0.0, np.nan, np.inf, -1.0]))


@given(st.lists(SIGMAS, min_size=1, max_size=20), st.sampled_from([1, 2, -2]))
def test_every_kind_of_uncertainty_gives_the_inverse_variance(
    values: list[float], power: int
) -> None:
    kinds = {1: StdDevUncertainty, 2: VarianceUncertainty, -2: InverseVariance}
    given_ = np.array(values)
    one = Spectrum(
        flux=np.ones(len(values)) * u.Jy,
        spectral_axis=(4000.0 + np.arange(len(values))) * u.AA,
        uncertainty=kinds[power](given_, unit=u.mJy**power),
    )
    ivar = ivar_of(one)
    assert ivar is not None
    if power == -2:
        # What a file states is published as it is; the mask says what is of no use.
        assert np.allclose(ivar, 1e6 * given_, rtol=1e-9, atol=0, equal_nan=True)
        return
    known = np.isfinite(given_) & (given_ > 0)
    assert (ivar[~known] == 0).all()
    assert np.isfinite(ivar).all()
    good = given_[known]
    expected = {1: 1e6 / good**2, 2: 1e6 / good}[power]
    assert np.allclose(ivar[known], expected, rtol=1e-9)


@pytest.mark.proof
def test_real_files_are_read_as_specutils_reads_them(real_spectra: Path) -> None:
    names = ("MRK209*", "apVisit*", "g1639*", "gp1219*", "hlsp_ceers*", "spSpec*")
    for name in names:
        (path,) = (real_spectra / "other").glob(name)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = SpectrumList.read(str(path))
        found = read_file(path)
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            turn = slice(None, None, -1) if name == "apVisit*" else slice(None)
            assert np.array_equal(one.flux, other.flux.value[turn].astype(float), equal_nan=True)
            wave = other.spectral_axis.to_value(u.AA)[turn]
            if name == "spSpec*":  # specutils 2.4 reads its axis a pixel off
                header = fits.getheader(path)
                wave = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(len(wave)))
            assert np.allclose(one.wave, wave, rtol=1e-15)
            assert (one.ivar is None) == (other.uncertainty is None)
            assert one.mask[~np.isfinite(one.flux)].all()
            if one.ivar is not None:
                stated = ivar_of(other)
                assert stated is not None
                assert np.array_equal(one.ivar, stated[turn])


def test_sexagesimal_text_and_numbers_are_degrees() -> None:
    assert degrees("10:00:00", hours=True) == 150.0
    assert degrees("-02 30 00") == -2.5
    assert degrees("150.5", hours=True) == degrees(np.float64(150.5)) == 150.5
    assert np.isnan([degrees(None), degrees("unknown"), degrees(value=True)]).all()


def test_stems() -> None:
    assert stem_of(Path("a/b.c.fits.gz")) == "b.c"
    assert stem_of(Path("spectrum.txt")) == "spectrum"
    assert stem_of(Path("M31.nucleus")) == "M31.nucleus"


def targets(table: pa.Table, **chosen: str) -> Targets:
    return Targets(normal_table(table, chosen).table)


def test_rows_are_found_by_file_name_then_by_identifier() -> None:
    found = targets(
        pa.table(
            {
                "ID": [7, 12, 30],
                "Filename": ["x/one.fits", "two", None],
                "RA": [10.0, 11.0, 12.0],
                "DEC": [1.0, 2.0, None],
            }
        )
    )
    assert found.find("one.fits", "one", 0).id == 7
    assert found.find("two.fits.gz", "two", 0).ra == 11.0
    assert found.find("spec_0030_b.fits", "spec_0030_b", 0).dec is None
    assert found.find("one.fits", "one", 2).name == "one-2"
    with pytest.raises(BadFile, match="no row"):
        found.find("spec_31.fits", "spec_31", 0)
    with pytest.raises(BadFile, match="2 rows"):
        found.find("7_12.fits", "7_12", 0)


def test_text_identifiers_are_names_and_rows_are_numbered() -> None:
    found = targets(pa.table({"object": ["NGC 1", "M31"], "redshift": ["0.5", "0.6"]}))
    one = found.find("spec-M31_b.fits", "spec-M31_b", 0)
    assert (one.id, one.name, one.z) == (2, "M31", 0.6)
    with pytest.raises(BadParameter, match="different in each row"):
        targets(pa.table({"object": ["M31", "M31"]}))
    with pytest.raises(BadParameter, match="--id-column"):
        targets(pa.table({"magnitude": [1.0]}))
    with pytest.raises(BadParameter, match="magnitude"):
        targets(pa.table({"magnitude": [1.0]}), id="nothing")


@pytest.mark.proof
def test_names_of_a_table_are_those_of_its_spectra(tmp_path: Path) -> None:
    """The name of the file stood there, and that of the object in a column `table_name`."""
    folder = tmp_path / "spectra"
    folder.mkdir()
    for name in ("a", "b", "c"):
        write_table(folder / f"{name}.fits", error=np.full(len(WAVE), 0.1))
    rows = ["id,Name,file,mag", "17,Barnard's Star,a.fits,9", "18,M31,b.fits,4", "18,,c.fits,5"]
    table = tmp_path / "t.csv"
    table.write_text("\n".join(rows))
    ingest(folder, *OWN, "--catalog", table)
    with serve(tmp_path / "data", folder) as running:
        client = SpecClient("mine", svc_url=running.url)
        found = client.query(constraint="mag > 0", fields="id,name,file", primary=False)
        shown = sorted(zip(*(found[name].tolist() for name in ("id", "name", "file")), strict=True))
        names = [(17, "Barnard's Star", "a.fits"), (18, "M31", "b.fits"), (18, "c", "c.fits")]
        assert shown == names
        (row,) = client.query(constraint="name='M31'", fields="tuple", primary=False)
        assert tuple(row) == (18, "M31")
        assert client.getSpec("Barnard's Star", fmt="Spectrum1D").meta["id"] == 17
        assert client.getSpec((18, "M31"), fmt="Spectrum1D").meta["id"] == 18
        # The table may grow, but not lose the names that spectra are stored under.
        table.write_text("\n".join([*rows, "19,M32,d.fits,8"]))
        write_table(folder / "d.fits", error=np.full(len(WAVE), 0.1))
        ingest(folder, *OWN, "--catalog", table)
        assert client.query(constraint="name = 'M32' and file = 'd.fits'").tolist() == [19]
    for other in ([*rows[:3], "18,M31,c.fits,5"], ["id,file,mag", "17,a.fits,9"]):
        table.write_text("\n".join(other))
        assert "names in its column 'name'" in ingest(folder, *OWN, "--catalog", table, code=2)


def test_names_that_no_list_holds_are_refused(tmp_path: Path) -> None:
    """A name with an end of a line made every list that held it unreadable."""
    folder = tmp_path / "spectra"
    folder.mkdir()
    names = {"a": "M 31", "b": "NGC\n1", "c": "x" * 256}
    for name in names:
        write_table(folder / f"{name}.fits", error=np.full(len(WAVE), 0.1))
    listed = {"id": [1, 2, 3], "name": list(names.values()), "file": list(names)}
    Table(listed).write(tmp_path / "t.ecsv")
    told = ingest(folder, *OWN, "--catalog", tmp_path / "t.ecsv")
    assert r"its name 'NGC\n1' has an end of a line, or more than 255 characters" in told
    catalog = (
        SpectroscopicService(open_root(tmp_path / "data")).archive.open_release("mine").catalog
    )
    assert catalog.columns_of(["name"], np.arange(1)).to_pylist() == [{"name": "M 31"}]
    assert catalog.count(primary=False) == 1


def test_names_that_tell_no_rows_apart_stay_a_column_of_the_table() -> None:
    rows = {"id": [1, 1], "name": ["M31", "M31"], "file": ["a.fits", "b.fits"]}
    made = normal_table(pa.table(rows), {})
    assert [column.name for column in made.columns] == ["table_name"]
    one = Targets(made.table).find("b.fits", "b", 0)
    assert (one.name, one.row) == ("b", {"table_name": "M31"})
    # Spectra that are stored under the names of their files keep them.
    made = normal_table(pa.table(rows | {"id": [1, 2]}), {}, named=False)
    assert Targets(made.table).find("b.fits", "b", 0).name == "b"


def test_columns_of_a_table_keep_their_types_under_free_names() -> None:
    table = pa.table(
        {
            "id": [1, 2],
            "Part": pa.array([3, 4], pa.int16()),
            "S/N (g)": [1.5, None],
            "good": [True, False],
            "class": ["GALAXY", None],
            "filename": ["a", "b"],
            "2mass": ["x", "y"],
        }
    )
    made = normal_table(table, {})
    assert [(one.name, one.dtype) for one in made.columns] == [
        ("table_part", "<i2"), ("s_n_g", "<f8"), ("good", "?"), ("c_2mass", "U"),
    ]  # fmt: skip
    row = Targets(made.table).find("a.fits", "a", 0).row
    assert row == {
        "table_part": 3, "s_n_g": 1.5, "good": True, "class": "GALAXY", "c_2mass": "x"
    }  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of four spectra and a table of three of them."""
    made = tmp_path / "spectra"
    made.mkdir()
    for number in (1, 2, 3, 4):
        write_table(made / f"spec_{number:03d}.fits", error=np.full(len(WAVE), 0.1 * number))
    lines = ["id,ra,dec,z,class,mag", "1,10.0,1.0,0.1,GALAXY,20.5", "2,10.1,1.0,0.2,QSO,"]
    (made / "targets.csv").write_text("\n".join([*lines, "3,,,0.3,STAR,18.0"]) + "\n")
    return made


def ingest(folder: Path, *options: object, code: int = 0, context: str = "mine") -> str:
    data = folder.parent / "data"
    return command(
        "ingest", context, folder, "--data", data, "--workers", 1, *options, code=code
    )  # fmt: skip


OWN = ("--reader", "specutils")


@pytest.mark.proof
def test_an_ingest_declares_the_survey_and_goes_on_from_there(folder: Path) -> None:
    table = folder / "targets.csv"
    printed = ingest(folder, *OWN, "--catalog", table, "--title", "My survey")
    assert "no row of the table" in printed
    data = folder.parent / "data"
    service = SpectroscopicService(open_root(data))
    (info,) = [one for one in service.contexts() if one.name == "mine"]
    assert (info.title, info.nspec) == ("My survey", 3)
    table.write_text(table.read_text() + "4,10.2,1.0,0.4,GALAXY,21.0\n")
    assert "1 spectra in 1 segments" in ingest(folder, *OWN, "--catalog", table)
    assert service.archive.open_release("mine").catalog.count(primary=False) == 4
    assert len(list((data / "mine").glob("targets-*.parquet"))) == 1
    # Without the option the declaration stands.
    assert "already there" in ingest(folder)
    assert "no fault" in command("verify", "--data", data)


def test_no_uncertainty_is_refused(folder: Path) -> None:
    write_table(folder / "spec_006.fits")
    printed = ingest(folder, *OWN)
    assert "states no uncertainty" in printed
    assert "4 spectra" in printed


def cut(path: Path) -> None:
    """Cut a file short, as an interrupted transfer does."""
    path.write_bytes(path.read_bytes()[:-9000])


def lines_of(report: Path) -> list[dict[str, object]]:
    """Return the lines of a report."""
    return [json.loads(line) for line in report.read_text().splitlines()]


def test_a_first_ingest_of_refused_files_alone_writes_its_report(folder: Path) -> None:
    files = sorted(folder.glob("*.fits"))
    for path in files:
        cut(path)
    report = folder.parent / "r.jsonl"
    printed = ingest(folder, *OWN, "--report", report, code=1)
    assert "no file can be read:" in printed
    lines = lines_of(report)
    assert [one["path"] for one in lines[:4]] == [str(path) for path in files]
    assert {one["became"] for one in lines} == {"refused"}
    assert all(one["reason"] for one in lines)
    # Of many files the first twenty are read, and the others are in the report all the same.
    for number in range(30):
        (folder / f"t_{number:02d}.fits").write_bytes(b"")
    ingest(folder, *OWN, "--report", report, code=1)
    became = [one["became"] for one in lines_of(report)]
    assert became.count("refused") == 20
    assert became.count("passed over") == len(became) - 20 > 10


def test_a_bad_first_file_does_not_end_the_ingest_of_the_others(folder: Path) -> None:
    files = sorted(folder.glob("*.fits"))
    cut(files[0])
    hdus = fits.HDUList([fits.PrimaryHDU(np.ones(len(WAVE)))])
    hdus[0].header.update({"CRVAL1": 4000.0, "CDELT1": 2.0, "BUNIT": "DU/PIXEL"})
    hdus.writeto(files[1], overwrite=True)
    report = folder.parent / "r.jsonl"
    printed = ingest(folder, *OWN, "--report", report)
    assert "2 spectra" in printed
    refused = [one["path"] for one in lines_of(report) if one["became"] == "refused"]
    assert set(refused) >= {str(files[0]), str(files[1])}


@pytest.mark.proof
def test_wrong_declarations_are_refused(folder: Path) -> None:
    assert "release of Sloan" in ingest(folder, *OWN, context="sdss_dr17", code=2)
    assert "small letters" in ingest(folder, *OWN, context="My-Survey", code=2)
    assert "small letters" in ingest(folder, *OWN, context="default", code=2)
    assert "--reader specutils" in ingest(folder, "--step", "2", context="sdss_dr17", code=2)
    assert "plug-in" in ingest(folder, "--reader", "iraf", code=2)
    assert "step" in ingest(folder, *OWN, "--step", "-1", code=2)
    assert "flux-unit" in ingest(folder, *OWN, "--flux-unit", "furlong", code=2)
    for unit, kind in (("parsec", "length"), ("km/s", "speed/velocity"), ("arcsec", "angle")):
        told = ingest(folder, *OWN, "--flux-unit", unit, code=2)
        assert f"it is a unit of {kind}, not of flux, such as" in told
    for unit in ("parsec", "km", "s"):
        told = ingest(folder, *OWN, "--wave-unit", unit, code=2)
        assert f"--wave-unit {unit} is not possible: a unit of wavelengths" in told
    assert "unknown context 'mine'" in ingest(folder, code=2)
    (folder / "empty").mkdir()
    assert "read: there is none whose name ends" in ingest(folder / "empty", *OWN, code=1)
    told = ingest(folder / "gone", *OWN, code=1)
    assert told == f"specserver: no such file or folder: {folder / 'gone'}\n"


def test_a_flux_per_ampere_is_asked_about(tmp_path: Path) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    hdu = fits.PrimaryHDU(np.ones(len(WAVE)))
    hdu.header.update(
        {
            "BUNIT": "erg/cm2/s/A", "CTYPE1": "WAVE", "CUNIT1": "Angstrom",
            "CRVAL1": 4000.0, "CDELT1": 2.0, "CRPIX1": 1.0,
        }
    )  # fmt: skip
    hdu.writeto(folder / "one.fits")
    printed = ingest(folder, *OWN, code=2)
    assert "per ampere" in printed
    ingest(folder, *OWN, "--flux-unit", "erg / (s cm2 Angstrom)")
    survey, _ = find_release("mine", open_root(tmp_path / "data"))
    assert u.Unit(survey.flux_scale) == u.Unit("erg / (s cm2 Angstrom)")


def test_what_spectra_are_stored_with_stays(folder: Path) -> None:
    table = folder / "targets.csv"
    table.write_text("name,ra,dec\n001,10,1\n002,11,1\n")
    ingest(folder, *OWN, "--catalog", table, "--id-column", "name")
    printed = ingest(folder, *OWN, "--step", "2", code=2)
    assert "another context" in printed
    lines = "object,ra,dec\nspec_002,11,1\nspec_001,10,1\n"
    moved = folder / "moved.csv"
    moved.write_text(lines)
    data = folder.parent / "data"
    wishes = SurveyOptions(catalog=moved)
    declare(open_root(data), "other", [folder], wishes)
    ingest(folder, context="other")
    moved.write_text("object,ra,dec\nspec_001,10,1\nspec_002,11,1\n")
    with pytest.raises(BadParameter, match="another identifier"):
        declare(open_root(data), "other", [folder], wishes)


@pytest.mark.proof
def test_what_is_said_of_stored_files_does_not_go_unheard(folder: Path) -> None:
    """Stored files are not read again, so changed options apply to other files only."""
    table, report = folder / "targets.csv", folder.parent / "report"
    ingest(folder, *OWN, "--catalog", table)
    service = SpectroscopicService(open_root(folder.parent / "data"))

    def z() -> list[float]:
        catalog = service.archive.open_release("mine").catalog
        rows = catalog.query(["id", "z"], Condition(), None, primary=False).to_pylist()
        return [row["z"] for row in sorted(rows, key=lambda row: row["id"])]

    table.write_text(table.read_text() + "4,10.2,1.0,0.4,GALAXY,21.0\n")
    # A table with more rows changes nothing for stored spectra.
    assert "--catalog" not in ingest(folder, *OWN, "--catalog", table)
    assert z() == [0.1, 0.2, 0.3, 0.4]
    table.write_text(table.read_text().replace(",0.2,", ",0.25,"))
    printed = ingest(folder, *OWN, "--catalog", table, "--report", report)
    assert "--catalog differs from before" in printed
    assert "4 files given are stored already" in printed
    assert "--replace" in printed
    assert "--catalog" in str(lines_of(report)[0]["reason"])
    assert z() == [0.1, 0.2, 0.3, 0.4]
    assert "replaced       1" in ingest(folder, *OWN, "--catalog", table, "--replace")
    assert z() == [0.1, 0.25, 0.3, 0.4]
    for option, value in (("--wave-unit", "nm"), ("--loader", "tabular-fits")):
        printed = ingest(folder, *OWN, option, value)
        assert f"{option} differs from before" in printed
        printed = ingest(folder, *OWN, option, value)
        assert "differs from before" not in printed
        printed = ingest(folder, *OWN, option, value, "--replace")
        assert "read           4" in printed
    # Identifiers made of names do not change.
    ingest(folder, *OWN, context="other")
    assert "without a table" in ingest(folder, *OWN, "--catalog", table, context="other", code=2)


def test_a_damaged_declaration_says_so_and_stops_nothing_else(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = folder.parent / "data"
    ingest(folder, *OWN)
    ingest(folder, *OWN, context="other")
    path = data / "mine" / "survey.json"
    good = json.loads(path.read_text())
    # As an older version, or an editor, writes it.
    del good["digest"]
    for change, reason in (
        ({"format": 2}, "newer"),
        ({"context": "other"}, "declares 'other'"),
        ({"table": "../../secret"}, "no name of a table"),
        ({"step_aa": 0}, "step"),
        ({"flux_unit": 5}, "texts"),
        ({"surplus": 1}, "surplus"),
        ({"columns": [{"name": "id", "dtype": "<i8"}]}, "twice"),
    ):
        path.write_text(json.dumps({**good, **change}))
        with pytest.raises(StoreError, match=reason):
            find_release("mine", open_root(data))
        assert [one for one in load_surveys(open_root(data)) if "mine" in one] == []
        assert "other" in SpectroscopicService(open_root(data)).archive.names()
    assert "damaged" in caplog.text
    path.write_text(json.dumps(good))
    assert SpectroscopicService(open_root(data)).archive.names() == ["mine", "other"]


def test_a_context_name_leads_out_of_no_folder(folder: Path) -> None:
    ingest(folder, *OWN)
    data = folder.parent / "data"
    for name in ("../data/mine", "mine/../mine", "", "."):
        with pytest.raises(UnknownContext):
            find_release(name, open_root(data))
    with pytest.raises(UnknownContext):
        find_release("mine")


@pytest.fixture(scope="module")
def served_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over a declared survey: a table with names, one file with two spectra."""
    folder = tmp_path_factory.mktemp("own") / "spectra"
    folder.mkdir()
    write_table(folder / "a.fits", error=np.full(len(WAVE), 0.1))
    shifted = (WAVE + 0.37) * u.AA
    write_table(folder / "b.fits", shifted, error=np.full(len(WAVE), 0.2))
    lines = ["object,file,raj2000,dej2000,redshift,mag", "M31,a.fits,10:00:00.0,+02:00:00,0.1,4.5"]
    (folder / "t.csv").write_text("\n".join([*lines, "NGC-1,b.fits,10:00:01.5,+02:00:00,0.2,"]))
    ingest(folder, *OWN, "--catalog", folder / "t.csv", "--step", 2)
    with serve(folder.parent / "data", folder) as running:
        yield running


@pytest.fixture
def client(served_own: Served) -> SpecClient:
    return SpecClient("mine", svc_url=served_own.url)


def test_spectra_are_found_and_fetched(client: SpecClient) -> None:
    assert client.list_contexts("mine", fmt="json")["nspec"] == 2
    assert sorted(client.query(150.0, 2.0, 0.1).tolist()) == [1, 2]
    assert client.query(constraint="mag < 5").tolist() == [1]
    assert client.query(constraint="name = 'NGC-1'").tolist() == [2]
    one = client.getSpec(2)
    assert one["wavelength"].tobytes() == (WAVE + 0.37).tobytes()
    assert one["flux"].tobytes() == (5 + np.sin((WAVE + 0.37) / 50)).tobytes()
    assert np.allclose(one["ivar"], 25.0)


@pytest.mark.proof
def test_inverse_variances_are_published_as_stated_and_masked_where_unusable(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    flux, ivar = 5 + np.sin(WAVE / 50), np.full(len(WAVE), 4.0)
    ivar[2:8] = -1.0, np.nan, np.inf, -np.inf, 0.0, -0.0
    flux[9] = np.nan
    columns = {"wavelength": WAVE * u.AA, "flux": flux * UNIT, "ivar": ivar * UNIT**-2}
    fits.table_to_hdu(Table(columns)).writeto(folder / "table.fits")
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(flux[::-1], name="FLUX")]
    hdus[1].header["BUNIT"] = UNIT.to_string("fits")
    for name, values in (("IVAR", ivar), ("WAVELENGTH", WAVE)):
        hdus.append(fits.ImageHDU(values[::-1], name=name))
    fits.HDUList(hdus).writeto(folder / "images.fits")
    ingest(folder, *OWN)
    with serve(tmp_path / "data", folder) as running:
        client = SpecClient("mine", svc_url=running.url)
        ids = client.query(constraint="name != ''")
        assert len(ids) == 2
        for number in ids.tolist():
            one = client.getSpec(number)
            assert one["flux"].tobytes() == flux.tobytes()
            assert one["ivar"].tobytes() == ivar.tobytes()
            assert np.flatnonzero(one["mask"]).tolist() == [2, 3, 4, 5, 9]
            spectrum = client.getSpec(number, fmt="Spectrum1D")
            assert np.flatnonzero(spectrum.mask).tolist() == [*range(2, 8), 9]
            weight = spectrum.uncertainty.array
            assert (weight[spectrum.mask] == 0).all()
            assert (weight[~spectrum.mask] == 4.0).all()
            laid = client.getSpec([number], align="resample")
            assert np.isfinite(laid["ivar"]).all()
            assert (laid["ivar"] >= 0).all()
            assert np.isfinite(laid["flux"]).all()


@pytest.mark.proof
def test_errors_and_inverse_variances_are_kept_where_flux_is_no_number(tmp_path: Path) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    flux, sigma = np.full(len(WAVE), 5.0), np.linspace(0.1, 0.7, len(WAVE))
    columns = {"wl": WAVE, "f": flux, "df": sigma, "w": 1 / sigma**2}
    bad = [9, 10, 30]
    for name in "abc":
        Table(columns).write(folder / f"{name}.csv")
    # What is no number has no effect where the others have weight.
    flux[bad] = np.nan, np.inf, -np.inf
    Table(columns).write(folder / "b.csv", overwrite=True)
    said = ("--wave", "wl", "--flux", "f", "--wave-unit", "AA", "--flux-unit", "mJy")
    ingest(folder, *said, "--error", "df", "--medium", "vacuum", context="errors")
    ingest(folder, *said, "--ivar", "w", "--medium", "vacuum", context="inverse")
    with serve(tmp_path / "data", folder) as running:
        for context in ("errors", "inverse"):
            client = SpecClient(context, svc_url=running.url)
            b = client.getSpec("b")
            assert b["flux"].tobytes() == flux.tobytes()
            assert np.array_equal(b["ivar"], 1 / sigma**2)
            assert np.flatnonzero(b["mask"]).tolist() == bad
            laid = client.getSpec(["a", "b"], align="resample")
            assert np.isfinite(laid["flux"]).all()
            assert np.flatnonzero(laid["mask"][1]).size
            for method in ("mean", "median", "ivar"):
                found = client.stack(["a", "b", "c"], frame="observed", method=method)
                assert np.allclose(found.flux, 5.0, rtol=1e-12)
                assert np.isfinite(found.ivar).all()
                assert set(found.count.tolist()) == {2, 3}
            spectrum = client.getSpec("b", fmt="Spectrum1D")
            assert np.flatnonzero(spectrum.mask).tolist() == bad
            assert (spectrum.uncertainty.array[bad] == 0).all()
            low, high = client.plot("b").axes[0].get_ylim()
            assert -1 < low < 5 < high < 10


def test_they_are_named_by_number_and_name(client: SpecClient) -> None:
    (named,) = client.query(constraint="mag < 5", fields="tuple")
    assert tuple(named) == (1, "M31")
    assert client.getSpec(tuple(named))["flux"][0] == client.getSpec(1)["flux"][0]
    (one,) = client.getSpec(("*", "NGC-1"))
    for name in ("NGC-1", "('*', 'NGC-1')", "mine:NGC-1"):
        assert client.getSpec(name).tobytes() == one.tobytes()
    assert [each.tobytes() for each in client.getSpec(["NGC-1"])] == [one.tobytes()]
    assert client.preview("NGC-1") == client.preview(2)
    assert one["wavelength"][0] == WAVE[0] + 0.37


NAMES = (
    "Barnard's star", "a,b", "a:b", "j12:34:56+10:20", "mine:b", "(1,2)", "[x]", "#hash", "nan",
    "*star", "name=x", '5" N', "4472832130942575872", "M31 (core)", "-7", "12345", "None", "A",
)  # fmt: skip
"""Names that mean something else as text, or are no plain names of files."""


@pytest.fixture(scope="module")
def oddly_named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpecClient]:
    """A client of a service whose spectra have odd names, the first vector of each its own."""
    folder = tmp_path_factory.mktemp("odd") / "spectra"
    folder.mkdir()
    for at, name in enumerate(NAMES):
        Table({"wl": WAVE, "f": np.full(len(WAVE), float(at))}).write(folder / f"{name}.csv")
    options = ("--wave", "wl", "--flux", "f", "--wave-unit", "AA", "--flux-unit", "Jy")
    ingest(folder, *options)
    with serve(folder.parent / "data", folder) as running:
        yield SpecClient("mine", svc_url=running.url)


@pytest.mark.proof
def test_what_the_service_prints_of_odd_names_is_read_back(
    oddly_named: SpecClient, tmp_path: Path
) -> None:
    client = oddly_named

    def order(given: Any) -> list[str]:
        return [NAMES[int(one["flux"][0])] for one in client.getSpec(given)]

    tuples = client.query(fields="tuple")
    names = [name for _, name in tuples]
    assert sorted(names) == sorted(NAMES)
    table = client.query(fields="id,name,flux_unit")
    pairs = client.query(fields="tuple", context=["mine"])
    for name in ("ids.csv", "ids.fits", "ids.ecsv"):
        client.query(fields="id,name,flux_unit", out=tmp_path / name)
    client.query(fields="tuple", out=tmp_path / "ids.txt")
    client.query(fields="tuple", context=["mine"], out=tmp_path / "pairs.txt")
    asked = ("query", "--where", "limit 99", "--fields", "tuple", "--url", client.get_svc_url())
    for context, name in (("mine", "ids.txt"), ("mine,mine", "pairs.txt")):
        printed = command(*asked, "--context", context)
        assert printed == (tmp_path / name).read_text("utf-8")
    for held in (
        tuples, repr(tuples), table, table.to_pandas(), list(table), pairs, repr(pairs),
        *sorted(tmp_path.iterdir()), [("*", name) for name in names],
    ):  # fmt: skip
        assert order(held) == names, held
    for named in tuples:
        assert order([named]) == order([("mine", named)]) == order([("*", named[1])]) == [named[1]]
        assert client.getSpec(named)["flux"][0] == NAMES.index(named[1])
    for row in table:
        assert client.getSpec(row)["flux"][0] == NAMES.index(row["name"])


@pytest.mark.parametrize("name", ["Barnard's star", "j12:34:56+10:20", "*star"])
def test_names_alone_are_text(oddly_named: SpecClient, name: str) -> None:
    assert NAMES[int(oddly_named.getSpec(name)["flux"][0])] == name


@pytest.mark.parametrize("name", ["#hash", "nan", "M31 (core)", "mine:#hash"])
def test_names_that_text_cannot_say_are_refused_with_the_tuple(
    oddly_named: SpecClient, name: str
) -> None:
    with pytest.raises(BadIdentifier, match=r"in a tuple: \('\*', 'name'\)"):
        oddly_named.getSpec(name)


def test_files_of_odd_names_are_written(oddly_named: SpecClient, tmp_path: Path) -> None:
    for fmt in ("numpy", "FITS"):
        oddly_named.getSpec(oddly_named.query(fields="id"), fmt, out=tmp_path / fmt)
        assert len(list((tmp_path / fmt).iterdir())) == len(NAMES)
    assert {path.stem for path in (tmp_path / "numpy").iterdir()} >= {"%2D7", "#hash", "a%3Ab"}


def test_tuples_of_a_list_of_contexts(client: SpecClient, tmp_path: Path) -> None:
    asked: dict[str, Any] = {"constraint": "order by id", "fields": "tuple", "context": ["mine"]}
    pairs = client.query(**asked)
    assert pairs == [("mine", (1, "M31")), ("mine", (2, "NGC-1"))]
    assert client.query(**asked, out=tmp_path / "ids.txt") == "OK"
    for held in (pairs, tmp_path / "ids.txt"):
        assert [one["wavelength"][0] for one in client.getSpec(held)] == [WAVE[0], WAVE[0] + 0.37]


def test_units_and_masks_are_carried(client: SpecClient) -> None:
    one = client.getSpec(1, fmt="Spectrum1D")
    assert one.flux.unit == UNIT
    assert one.uncertainty.unit == UNIT**-2
    assert client.getSpec(1, fmt="Table")["ivar"].unit == UNIT**-2


def test_they_are_drawn_and_resampled(client: SpecClient, tmp_path: Path) -> None:
    client.plot(1, out=str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    assert len(bytes(client.preview(2))) > 3_000
    assert "<b>NGC-1</b>" in unescape(client.prospect(2, show=False).html)
    laid = client.getSpec([1, 2], align="resample")
    assert np.array_equal(np.diff(laid["wavelength"][0]), np.full(laid.shape[1] - 1, 2.0))
    good = (laid["ivar"] > 0).all(axis=0)
    expected = 5 + np.sin(laid["wavelength"][0] / 50)
    assert good.sum() > 1400
    assert np.abs(laid["flux"][:, good] - expected[good]).max() < 0.01
