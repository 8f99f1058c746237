"""Positions of a folder's own files and of tables: the object's, in ICRS; else with a warning."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import FK4, FK5, SkyCoord
from astropy.io import fits
from astropy.io.votable import from_table
from astropy.io.votable.tree import CooSys
from astropy.table import Table

from commands import command
from specserver.catalog.tables.tablefile import read_table
from specserver.data.root import open_root
from specserver.errors import BadParameter
from specserver.service import SpectroscopicService
from specserver.surveys.anyfile import ReadSpectrum, read_file
from specserver.surveys.fileparts import FilePart
from specserver.surveys.namedposition import far_from_name, named_position
from specserver.surveys.targets import Targets, normal_table

AXIS = {"CRVAL1": 4000.0, "CDELT1": 2.0, "CRPIX1": 1.0, "CUNIT1": "Angstrom"}
B1950 = SkyCoord("01:00:33.40 +13:00:10.0", unit=(u.hourangle, u.deg), frame=FK4(equinox="B1950"))


def write(path: Path, cards: dict[str, Any]) -> Path:
    """Write a spectrum with a header."""
    hdu = fits.PrimaryHDU(np.ones(100))
    hdu.header.update(AXIS | cards)
    hdu.writeto(path, overwrite=True)
    return path


def only(path: Path, cards: dict[str, Any]) -> ReadSpectrum:
    """Return the one spectrum of a file with such a header."""
    (one,) = read_file(write(path, cards))
    return one


@pytest.mark.parametrize(
    ("cards", "position"),
    [
        ({"RAOBJ": 149.5, "DECOBJ": 11.0, "RA": 150.0, "DEC": 10.0}, (149.5, 11.0)),
        ({"RA": 150.0, "DEC": 10.0, "OBJRA": 149.5, "OBJDEC": 11.0}, (149.5, 11.0)),
        ({"PLUG_RA": 149.5, "PLUG_DEC": 11.0, "RADEG": 1.0, "DECDEG": 1.0}, (149.5, 11.0)),
        ({"RA_TARG": 149.5, "DEC_TARG": 11.0, "RA": 150.0, "DEC": 10.0}, (149.5, 11.0)),
        ({"RA": "10:00:00", "DEC": "-02:30:00"}, (150.0, -2.5)),
        ({"RA": "10h00m00s", "DEC": "-02d30m00s"}, (150.0, -2.5)),
        ({"RA": (10.0, "[h] right ascension"), "DEC": (-2.5, "[deg]")}, (150.0, -2.5)),
        ({"RA": (np.pi / 2, "[rad]"), "DEC": (0.5, "[rad]")}, (90.0, np.degrees(0.5))),
        ({"RA": 150.0, "DEC": 10.0, "EQUINOX": 2000.0, "RADECSYS": "FK5"}, (150.0, 10.0)),
        ({"RA": 150.0, "DEC": 10.0, "RADESYS": "ICRS", "EQUINOX": 2000.0}, (150.0, 10.0)),
        ({"RA": 150.0, "DEC": 10.0, "EPOCH": 2015.96}, (150.0, 10.0)),
        ({"RA": 150.0, "DEC": 10.0, "EQUINOX": 2000.0, "EPOCH": 1950.0}, (150.0, 10.0)),
    ],
)
def test_the_objects_position_comes_first(
    tmp_path: Path, cards: dict[str, Any], position: tuple[float, float]
) -> None:
    one = only(tmp_path / "a.fits", cards)
    assert np.allclose((one.position.ra_deg, one.position.dec_deg), position, rtol=1e-13)
    assert not one.position.is_pointing


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        ({"EQUINOX": 1950.0}, FK4(equinox="B1950")),
        ({"EQUINOX": "B1950.0"}, FK4(equinox="B1950")),
        ({"EPOCH": 1950.0}, FK4(equinox="B1950")),
        ({"RADECSYS": "FK4"}, FK4(equinox="B1950")),
        ({"RADESYS": "FK4", "EQUINOX": 1975.0}, FK4(equinox="B1975")),
        ({"RADESYS": "FK5", "EQUINOX": 1975.0}, FK5(equinox="J1975")),
        ({"EQUINOX": 2015.5}, FK5(equinox="J2015.5")),
    ],
)
def test_positions_of_other_systems_are_brought_into_icrs(
    tmp_path: Path, cards: dict[str, Any], frame: Any
) -> None:
    one = only(tmp_path / "a.fits", {"RA": "01:00:33.40", "DEC": "+13:00:10.0", **cards})
    right = SkyCoord(B1950.ra, B1950.dec, frame=frame).icrs
    assert (
        right.separation(SkyCoord(one.position.ra_deg, one.position.dec_deg, unit="deg")).arcsec
        < 1e-6
    )
    assert not one.position.is_pointing


@pytest.mark.parametrize(
    "cards",
    [
        {"RA": (150.0, "1st row - Right ascension of telescope boresigh"), "DEC": 10.0},
        {"RADEG": 150.0, "DECDEG": 10.0, "PLATEID": 266},
        {"MEANRA": 150.0, "MEANDEC": 10.0},
        {"TELRA": "10:00:00", "TELDEC": "10:00:00"},
        {"RA": 150.0, "DEC": 10.0, "RADESYS": "GAPPT"},
    ],
)
def test_a_pointing_is_said_to_be_one(tmp_path: Path, cards: dict[str, Any]) -> None:
    one = only(tmp_path / "a.fits", cards)
    assert (one.position.ra_deg, one.position.dec_deg) == (150.0, 10.0)
    assert one.position.is_pointing


def test_the_row_of_the_object_in_another_hdu_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", {"MEANRA": 35.5, "MEANDEC": -28.7})
    fibres = Table({"NAME": ["x"], "RA": [0.61809563], "DEC": [-0.50455655]})
    with fits.open(path) as hdus:
        hdus.append(fits.BinTableHDU(fibres, name="FIBRES"))
        hdus.writeto(tmp_path / "b.fits")
    (one,) = read_file(tmp_path / "b.fits")
    assert np.allclose(
        (one.position.ra_deg, one.position.dec_deg), np.degrees([0.61809563, -0.50455655])
    )
    assert not one.position.is_pointing


def test_an_ingest_warns_of_pointings_once(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    for number in range(3):
        write(folder / f"p{number}.fits", {"TELRA": 10.0 + number, "TELDEC": 1.0})
    write(folder / "object.fits", {"RA": "01:00:33.40", "DEC": "+13:00:10.0", "EQUINOX": 1950.0})
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils")
    printed = command(*given)
    assert " ".join(printed.split()).count("3 spectra are stored at the pointing") == 1
    catalog = SpectroscopicService(open_root(data)).archive.open_release("mine").catalog
    rows = catalog.columns_of(["name", "ra", "dec"], np.arange(4)).to_pylist()
    (place,) = [(one["ra"], one["dec"]) for one in rows if one["name"] == "object"]
    assert np.allclose(place, (15.7972, 13.2711), atol=5e-5)
    # With a table of targets there is nothing to warn of.
    lines = [f"p{number}.fits,{10.5 + number},1.5" for number in range(3)]
    (tmp_path / "t.csv").write_text("\n".join(["file,ra,dec", *lines]) + "\n")
    (folder / "object.fits").unlink()
    printed = command("ingest", "other", *given[2:], "--catalog", tmp_path / "t.csv")
    assert "pointing" not in printed


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("SDSS_J121903.98+152608.5", (184.766583, 15.435694)),
        ("SDSSJ121903.98+152608.5 b", (184.766583, 15.435694)),
        ("2M01183798+8403419", (19.65825, 84.061639)),
        ("LAMOST J013730.44-252537.7", (24.376833, -25.427139)),
        ("J121903-002608", (184.7625, -0.435556)),
    ],
)
def test_names_hold_positions(name: str, place: tuple[float, float]) -> None:
    found = named_position([FilePart("", {}), FilePart("", {"OBJECT": name})])
    assert found is not None
    assert np.allclose((found.ra_deg, found.dec_deg), place, atol=1e-6)
    assert far_from_name(found, *place) == ()
    assert far_from_name(found, place[0], place[1] + 0.9 / 60) == ()
    (remark,) = far_from_name(found, place[0], place[1] + 1.1 / 60)
    assert "1.1′" in remark.detail
    assert name in remark.detail
    assert far_from_name(found, np.nan, np.nan) == ()


@pytest.mark.parametrize(
    "name",
    ["BR J2349-3712", "B121903.98+152608.5", "121903+152608", "J256103.9+152608", "NGC 1068", ""],
)
def test_other_names_hold_none(name: str) -> None:
    assert named_position([FilePart("", {"OBJECT": name})]) is None


def test_an_ingest_warns_of_positions_far_from_the_name(tmp_path: Path) -> None:
    folder, data, report = tmp_path / "spectra", tmp_path / "data", tmp_path / "report.jsonl"
    folder.mkdir()
    far = {"RA": 184.823317, "DEC": 15.398786, "OBJECT": "SDSS_J121903.98+152608.5"}
    write(folder / "far.fits", far)
    write(folder / "near.fits", {**far, "RA": 184.7666, "DEC": 15.4357})
    given = (folder, "--data", data, "--workers", 1, "--reader", "specutils")
    printed = " ".join(command("ingest", "mine", *given, "--report", report).split())
    assert printed.count("the name of the object holds a position over 1′") == 1
    assert "1 spectra, stored all the same" in printed
    (note,) = [json.loads(line) for line in report.read_text().splitlines()]
    assert (note["became"], Path(note["path"]).name) == ("stored", "far.fits")
    assert "SDSS_J121903.98+152608.5" in note["reason"]
    catalog = SpectroscopicService(open_root(data)).archive.open_release("mine").catalog
    rows = catalog.columns_of(["name", "ra", "dec"], np.arange(2)).to_pylist()
    assert {one["name"]: one["ra"] for one in rows} == {"far": 184.823317, "near": 184.7666}
    # A table of targets may put it right.
    (tmp_path / "t.csv").write_text("file,ra,dec\nfar,184.7666,15.4357\nnear,184.7666,15.4357\n")
    printed = command("ingest", "other", *given, "--catalog", tmp_path / "t.csv")
    assert "the name of the object" not in printed


def test_tables_of_targets_are_brought_into_icrs(tmp_path: Path) -> None:
    table = Table({"id": [1, 2], "ra": [B1950.ra.deg, 0.0], "dec": [B1950.dec.deg, 0.0]})
    paths = [tmp_path / name for name in ("a.fits", "a.ecsv", "a.vot")]
    hdu = fits.table_to_hdu(table)
    hdu.header["EQUINOX"] = 1950.0
    hdu.writeto(paths[0])
    table.meta["equinox"] = 1950.0
    table.write(paths[1], format="ascii.ecsv")
    file = from_table(table)
    file.resources[0].coordinate_systems.append(
        CooSys(ID="B1950", system="eq_FK4", equinox="B1950")
    )
    file.to_xml(str(paths[2]))
    for path in paths:
        read = read_table(path)
        target = Targets(normal_table(read.table, {}, read.left_out, read.frame).table)
        one = target.find("1.fits", "1", 0)
        assert np.allclose((one.ra, one.dec), (15.7972, 13.2711), atol=5e-5), path
    table.meta.clear()
    table.rename_columns(["ra", "dec"], ["RAB1950", "DEB1950"])
    table.write(tmp_path / "b.ecsv", format="ascii.ecsv")
    read = read_table(tmp_path / "b.ecsv")
    chosen = {"ra": "RAB1950", "dec": "DEB1950"}
    one = Targets(normal_table(read.table, chosen).table).find("1.fits", "1", 0)
    assert np.allclose((one.ra, one.dec), (15.7972, 13.2711), atol=5e-5)


def test_tables_of_unknown_systems_are_refused(tmp_path: Path) -> None:
    hdu = fits.table_to_hdu(Table({"id": [1], "ra": [1.0], "dec": [1.0]}))
    hdu.header["RADESYS"] = "GAPPT"
    hdu.writeto(tmp_path / "a.fits")
    read = read_table(tmp_path / "a.fits")
    with pytest.raises(BadParameter, match="ICRS"):
        normal_table(read.table, {}, read.left_out, read.frame)


def test_a_value_added_table_of_another_equinox_is_refused(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    write(folder / "one.fits", {"RA": 10.0, "DEC": 1.0})
    command(
        "ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils"
    )  # fmt: skip
    for name, code in (("ra", 2), ("raj2000", 0)):
        columns = {"id": [1], name: [1.0], name.replace("ra", "de" + "c" * (name == "ra")): [1.0]}
        hdu = fits.table_to_hdu(Table(columns))
        hdu.header["EQUINOX"] = 1950.0
        hdu.writeto(tmp_path / f"{name}.fits")
        printed = command(
            "catalog", "add", "mine", name, tmp_path / f"{name}.fits", "--data", data, code=code
        )
        assert ("FK4 B1950" in printed) == (code == 2)


def test_real_files_are_where_their_objects_are(real_spectra: Path) -> None:
    for name, position in (
        ("reports/PH957_f.fits", (15.7972, 13.2711)),
        ("other/spSpec-52999-1307-323.fit", (149.46417, 10.976277)),
        ("reports/emlLinearSkyAirHelio.fits", (35.41427, -28.90896)),
        ("other/gp121903_osiris.fits", (184.82332, 15.398786)),
    ):
        one = read_file(real_spectra / name)[0]
        assert np.allclose((one.position.ra_deg, one.position.dec_deg), position, atol=5e-5), name
        assert not one.position.is_pointing
