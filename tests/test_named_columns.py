"""Spectra whose columns or images the operator names: ASCII, CSV, ECSV, FITS tables and images."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from hypothesis import given
from hypothesis import strategies as st

from commands import command
from specserver.data.root import open_root
from specserver.errors import BadFile
from specserver.ingest.plan import Found, plan_parts, spectrum_files
from specserver.service import SpectroscopicService
from specserver.surveys.anyfile import ReadSpectrum, read_file
from specserver.surveys.declaration import Declaration, FileDefaults, NamedVectors
from specserver.surveys.foundspectrum import real_numbers
from specserver.surveys.generic import survey_of

WAVE = np.linspace(4000.0, 7000.0, 61)
FLUX = 5 + np.sin(WAVE / 50)
ERROR = np.linspace(0.1, 0.7, 61)
FLAM = u.Unit("1e-17 erg / (s cm2 Angstrom)")
COLUMNS = NamedVectors("f", "wl", error="df")
TEXT = {"wl": WAVE / 10, "f": FLUX, "df": ERROR, "sky": FLUX * 3}
SAID: dict[str, Any] = {"wave_unit": "nm", "flux_unit": "mJy"}

NEAR = st.integers(53, 62).flatmap(lambda bit: st.integers(2**bit - 4, 2**bit + 4))
"""Whole numbers between those that float64 holds."""


def read(path: Path, vectors: NamedVectors = COLUMNS, **said: Any) -> ReadSpectrum:
    """Return the one spectrum of a file."""
    (found,) = read_file(path, FileDefaults(vectors=vectors, **said))
    return found


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.csv", "ascii.csv"), ("a.txt", "ascii.basic"), ("a.dat", "ascii.commented_header"),
        ("a.ecsv", "ascii.ecsv"), ("a.fits", "fits"),
    ],
)  # fmt: skip
def test_columns_of_every_kind_of_table(tmp_path: Path, name: str, form: str) -> None:
    path = tmp_path / name
    Table(TEXT).write(path, format=form)
    found = read(path, **SAID)
    assert np.allclose(found.wave, WAVE, rtol=1e-14, atol=0)
    assert found.flux.tobytes() == FLUX.tobytes()
    assert found.ivar is not None
    assert np.array_equal(found.ivar, 1 / ERROR**2)
    assert found.medium == "unknown"
    # Names are found in any case, and what is not named is not taken.
    found = read(path, NamedVectors("SKY", "WL"), **SAID)
    assert np.array_equal(found.flux, FLUX * 3)
    assert found.ivar is None


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    for name, form in (("a.csv", "ascii.csv"), ("a.txt", "ascii.basic"), ("a.ecsv", "ascii.ecsv")):
        path = tmp_path / name
        Table(TEXT).write(path, format=form)
        path.write_text("\ufeff" + path.read_text("utf-8"), "utf-8")
        assert read(path, **SAID).flux.tobytes() == FLUX.tobytes()


def test_text_without_names_has_numbered_columns(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    np.savetxt(path, np.c_[WAVE, FLUX, ERROR**-2])
    found = read(
        path, NamedVectors("col2", "col1", ivar="col3"), **SAID | {"wave_unit": "Angstrom"}
    )
    assert found.wave.tobytes() == WAVE.tobytes()
    assert found.flux.tobytes() == FLUX.tobytes()
    assert found.ivar is not None
    assert found.ivar.tobytes() == (ERROR**-2).tobytes()


@pytest.mark.proof
def test_named_columns_do_without_specutils(tmp_path: Path) -> None:
    Table(TEXT).write(tmp_path / "a.csv")
    program = """
import sys
from pathlib import Path
from specserver.surveys.anyfile import read_file
from specserver.surveys.declaration import FileDefaults, NamedVectors
read_file(Path(sys.argv[1]), FileDefaults("", "", "nm", "mJy", NamedVectors("f", "wl")))
assert not {"specutils", "pandas"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a.csv")], check=True)


def test_a_few_files_are_read_without_other_processes(tmp_path: Path) -> None:
    """Each process would import for seconds what reads files."""
    for number in range(20):
        (tmp_path / f"{number}.csv").touch()
    data = open_root(tmp_path / "data")
    declared = Declaration("mine", "mine", "", "", "", has_ivar=False, step_aa=1.0)
    survey = survey_of(declared, data.context("mine"))
    files = spectrum_files([tmp_path])
    parts = plan_parts(survey, files, lambda _: {}, 8, Found())
    assert [len(part) for part in parts] == [20]


def test_stated_units_come_first_and_unstated_ones_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.ecsv"
    columns = {"wl": WAVE / 1e4 * u.um, "f": FLUX * FLAM, "df": ERROR}
    Table(columns | {"df": ERROR * FLAM}).write(path)
    found = read(path, **SAID)
    assert np.allclose(found.wave, WAVE, rtol=1e-14, atol=0)
    assert u.Unit(found.unit) == FLAM
    Table(TEXT).write(tmp_path / "b.ecsv")
    with pytest.raises(BadFile, match=r"column wl has no unit: say --wave-unit Angstrom, nm"):
        read(tmp_path / "b.ecsv", flux_unit="mJy")
    with pytest.raises(BadFile, match=r"column f has no unit: say --flux-unit '1e-17 erg"):
        read(tmp_path / "b.ecsv", wave_unit="nm")
    assert read(tmp_path / "b.ecsv", wave_unit="nm", flux_unit="").unit == ""


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | NEAR, min_size=1), st.sampled_from("iu"))
def test_whole_numbers_are_read_exactly_or_refused(values: list[int], kind: str) -> None:
    column = np.array([value % 2**64 if kind == "u" else value for value in values], f"{kind}8")
    if all(int(float(value)) == int(value) for value in column.tolist()):
        assert [int(number) for number in real_numbers(column, "it")] == column.tolist()
    else:
        with pytest.raises(BadFile, match=r"int64, with values that float64 does not hold"):
            real_numbers(column, "it")


@pytest.mark.parametrize("column", ["wl", "f", "df"])
def test_a_file_whose_numbers_would_be_rounded_is_refused(tmp_path: Path, column: str) -> None:
    """Integers beyond 2^53 became their neighbours."""
    Table(TEXT | {column: 2**60 + np.arange(61)}).write(tmp_path / "a.fits")
    with pytest.raises(BadFile, match=r"float64 does not hold, such as 1152921504606846977; if"):
        read(tmp_path / "a.fits", **SAID)
    thirds = np.arange(1, 62).astype(np.longdouble) / 3
    Table(TEXT | {column: thirds}).write(tmp_path / "a.ecsv")
    if thirds.itemsize > 8:
        with pytest.raises(BadFile, match=rf"column {column}|the uncertainty"):
            read(tmp_path / "a.ecsv", **SAID)


@pytest.mark.parametrize(
    "names",
    [
        ("--wave", "wl", "--flux", "f"),
        ("--wave", "LAMBDAS", "--flux", "SPEC_COUNTS"),
        ("--flux", "SPEC_COUNTS"),
    ],
)
def test_which_of_two_units_is_taken_is_said(tmp_path: Path, names: tuple[str, ...]) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    axis = {"CRVAL1": 4000.0, "CDELT1": 50.0, "CRPIX1": 1.0, "CUNIT1": "Angstrom"}
    cards = {"SPEC_COUNTS": {"BUNIT": "mJy", **axis}, "LAMBDAS": {"BUNIT": "Angstrom"}}
    for name in "ab":
        images(folder / f"{name}.fits", **cards)
    given = ("ingest", "mine", folder, "--data", tmp_path / "data", "--workers", 1, *names)
    told = command(*given, "--wave-unit", "um", "--flux-unit", "Jy")
    assert "file states wavelengths in Angstrom, which is used: --wave-unit um is for" in told
    assert "file states flux in mJy; --flux-unit Jy is used instead" in told
    assert "wavelengths in Angstrom" in told or "wavelengths of its header" in told
    assert "flux in Jy" in told


def test_logarithms_are_named_by_column_or_unit(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    Table({"loglam": np.log10(WAVE), "x": np.log10(WAVE / 10), "f": FLUX}).write(path)
    found = read(path, NamedVectors("f", "loglam"), flux_unit="mJy")
    assert found.wave.tobytes() == (10.0 ** np.log10(WAVE)).tobytes()
    found = read(path, NamedVectors("f", "x"), flux_unit="mJy", wave_unit="log10(nm)")
    assert np.allclose(found.wave, WAVE, rtol=1e-13, atol=0)


def images(path: Path, **cards: dict[str, Any]) -> Path:
    """Write images of flux, wavelengths and weights, and a table with such columns."""
    hdus = [fits.PrimaryHDU()]
    for name, values in (("SPEC_COUNTS", FLUX), ("LAMBDAS", WAVE), ("WEIGHT", ERROR**-2)):
        hdus.append(fits.ImageHDU(values, name=name))
        hdus[-1].header.update(cards.get(name, {}))
    table = fits.table_to_hdu(Table({"wl": WAVE * u.AA, "f": FLUX * u.mJy, "df": ERROR * u.mJy}))
    table.name = "FINAL"
    fits.HDUList([*hdus, table, table.copy()]).writeto(path)
    return path


def test_images_are_named_by_name_number_and_row(tmp_path: Path) -> None:
    units = {"SPEC_COUNTS": {"BUNIT": "mJy"}, "LAMBDAS": {"BUNIT": "Angstrom"}}
    path = images(tmp_path / "a.fits", **units)
    for vectors in (
        NamedVectors("spec_counts", "LAMBDAS", ivar="WEIGHT"),
        NamedVectors("1", "2", ivar="3"),
    ):
        found = read(path, vectors)
        assert found.wave.tobytes() == WAVE.tobytes()
        assert found.flux.tobytes() == FLUX.tobytes()
        assert found.ivar is not None
        assert found.ivar.tobytes() == (ERROR**-2).tobytes()
        assert found.unit == "mJy"
    with pytest.raises(BadFile, match=r"--ivar WHAT names none; say HDU:COLUMN"):
        read(path, NamedVectors("1", "2", ivar="WHAT"))
    rows = fits.PrimaryHDU(np.array([FLUX, ERROR, WAVE]))
    rows.header["BUNIT"] = "mJy"
    rows.writeto(tmp_path / "rows.fits")
    named = NamedVectors("0[0]", "0[2]", error="0[1]")
    found = read(tmp_path / "rows.fits", named, wave_unit="Angstrom")
    assert found.wave.tobytes() == WAVE.tobytes()
    assert found.ivar is not None
    assert np.array_equal(found.ivar, 1 / ERROR**2)
    with pytest.raises(BadFile, match="no unit: say --wave-unit"):
        read(tmp_path / "rows.fits", named)
    with pytest.raises(BadFile, match=r"shape \(3, 61\); row 0 is the first"):
        read(tmp_path / "rows.fits", NamedVectors("0[3]", "0[2]"))
    with pytest.raises(BadFile, match="has 3 rows"):
        read(tmp_path / "rows.fits", NamedVectors("0"))


def test_an_image_without_wavelengths_beside_it_has_those_of_its_header(tmp_path: Path) -> None:
    hdu = fits.PrimaryHDU(FLUX)
    hdu.header.update({"CRVAL1": 400.0, "CDELT1": 5.0, "CRPIX1": 1.0, "BUNIT": "mJy"})
    hdu.writeto(tmp_path / "a.fits")
    found = read(tmp_path / "a.fits", NamedVectors("PRIMARY"), wave_unit="nm")
    assert np.allclose(found.wave, WAVE, rtol=1e-14, atol=0)
    with pytest.raises(BadFile, match="axis of HDU 0 has no unit: say --wave-unit"):
        read(tmp_path / "a.fits", NamedVectors("0"))


def test_a_table_is_named_with_its_columns(tmp_path: Path) -> None:
    path = images(tmp_path / "a.fits")
    assert len(read_file(path, FileDefaults(vectors=COLUMNS))) == 2
    for table in ("4", "5"):
        named = NamedVectors(f"{table}:f", f"{table}:wl", error=f"{table}:df")
        assert read(path, named).unit == "mJy"
    with pytest.raises(BadFile, match=r"no part of it has --flux g --wave wl; it holds the image "):
        read(path, NamedVectors("g", "wl"))
    with pytest.raises(BadFile, match=r"FINAL:wl f df"):
        read(path, NamedVectors("g", "wl"))


def test_vectors_in_cells_and_masks(tmp_path: Path) -> None:
    """An ESO phase 3 table has one row, each cell of which is a vector."""
    quality = np.zeros((1, 61), np.int16)
    quality[0, 3] = 1
    cells = {"WAVE": WAVE[None] / 10 * u.nm, "FLUX": FLUX[None] * FLAM, "F_CORR": 2 * FLUX[None]}
    cells |= {"E_CORR": ERROR[None] * FLAM, "QUAL": quality}
    cells["F_CORR"] = cells["F_CORR"] * FLAM
    Table(cells).write(tmp_path / "a.fits")
    found = read(tmp_path / "a.fits", NamedVectors("F_CORR", "WAVE", error="E_CORR"))
    assert np.array_equal(found.flux, 2 * FLUX)
    assert np.flatnonzero(found.mask).tolist() == [3]


def test_real_files_of_every_kind(real_spectra: Path) -> None:
    eso = real_spectra / "other" / "XShooter_XQ100.fits.gz"
    found = read(eso, NamedVectors("FLUX_TELL_CORR", "WAVE", error="ERR_FLUX_TELL_CORR"))
    with fits.open(eso) as hdus:
        assert found.flux.tobytes() == hdus[1].data["FLUX_TELL_CORR"][0].astype(float).tobytes()
    assert (found.medium, u.Unit(found.unit)) == ("vacuum", u.erg / u.s / u.cm**2 / u.nm)
    chips = read_file(
        real_spectra / "other" / "apVisit-r13-5095-55844-128.fits",
        FileDefaults(vectors=NamedVectors("1", "4", error="2")),
    )
    assert [len(chip.flux) for chip in chips] == [4096] * 3
    assert u.Unit(chips[0].unit) == FLAM
    stack = real_spectra / "reports" / "stack-LRG.fits"
    found = read(stack, NamedVectors("FLUX", "WAVE", ivar="IVAR"), flux_unit=str(FLAM))
    with fits.open(stack) as hdus:
        assert found.ivar is not None
        assert found.ivar.tobytes() == hdus["IVAR"].data[0].astype(float).tobytes()
    sixdf = real_spectra / "other" / "g1639001-012857.fits"
    named = NamedVectors("SPECTRUM VR[0]", "SPECTRUM VR[3]")
    found = read(sixdf, named, wave_unit="Angstrom", flux_unit="ct")
    assert len(found.flux) == 2244


@pytest.mark.proof
def test_an_ingest_takes_the_names_and_keeps_them(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    Table(TEXT).write(folder / "a.csv")
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1)
    names = ("--wave", "wl", "--flux", "f", "--error", "df")
    assert "say --wave-unit" in command(*given, *names, code=1)
    units = ("--wave-unit", "nm", "--flux-unit", "mJy")
    told = command(*given, "--wave", "w", "--flux", "f", *units, code=1)
    assert "no file can be read with --flux f --wave w:\n" in told
    printed = command(*given, *names, *units)
    assert "1 spectra: columns f, wl of wavelengths in nm, df of errors; flux in mJy" in printed
    Table(TEXT).write(folder / "b.csv")
    assert "1 spectra in 1 segments" in command(*given)
    catalog = SpectroscopicService(open_root(data)).archive.open_release("mine").catalog
    rows = catalog.columns_of(["name", "flux_unit"], np.arange(2)).to_pylist()
    assert {row["name"]: row["flux_unit"] for row in rows} == {"a": "mJy", "b": "mJy"}
    Table({"wave": WAVE, "g": FLUX, "df": ERROR}).write(folder / "c.csv")
    printed = command(*given)
    assert "no part of it has --flux f --wave wl --error df; it holds wave, g, df" in printed
    printed = command(*given, "--flux", "g", "--wave", "wave", "--error", "df")
    assert "--flux and the names with it differs from before" in printed
    assert command("verify", "--data", data).count("no fault") >= 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--wave", "wl"), "--flux NAME"),
        (("--reader", "columns"), "--flux NAME"),
        (("--flux", "f", "--error", "a", "--ivar", "b"), "either --error or --ivar"),
        (("--flux", "f", "--reader", "specutils"), "without --reader specutils"),
        (("--flux", "f", "--loader", "iraf"), "without --loader iraf"),
        (("--reader", "iraf"), "--list-readers"),
    ],
)
def test_options_that_do_not_go_together(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    assert said in command(
        "ingest", "mine", tmp_path, "--data", tmp_path / "data", *options, code=2
    )


def test_readers_are_listed() -> None:
    lines = command("ingest", "--list-readers").splitlines()
    assert any(line.split()[:3] == ["sdss", "survey", "yes"] for line in lines)
    assert any(line.split()[:3] == ["columns", "reader", "no"] for line in lines)
    records = [
        json.loads(line) for line in command("ingest", "--list-readers", "--json").splitlines()
    ]
    known = {record["name"]: record for record in records}
    assert {"desi", "lamost", "sdss", "columns", "specutils", "JWST x1d"} <= set(known)
    assert known["sdss"]["use"] == "sdss_dr17 DIR"
    assert all(record["reads"] for record in records)
    assert known["JWST c1d multi"]["reads"] == "spectra of JWST c1d multi (.fits)"
    assert known["tabular-fits"]["reads"] == "FITS tables (.fit, .fits)"
    assert "CONTEXT and PATH" in command("ingest", "--workers", "1", code=2)
