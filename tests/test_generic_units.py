"""Units of flux of a folder's own files: read as real headers spell them, or asked about."""

from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from commands import command
from specserver.data.root import open_root
from specserver.service import SpectroscopicService
from specserver.surveys import find_release
from specserver.surveys.anyfile import read_file
from specserver.surveys.statedunit import flux_unit, wave_unit

AXIS = {"CRVAL1": 4000.0, "CDELT1": 2.0, "CRPIX1": 1.0, "CUNIT1": "Angstrom"}
FLAM = u.erg / u.s / u.cm**2 / u.AA


def write(path: Path, unit: str | None) -> Path:
    """Write a spectrum whose flux is in a unit as a header spells it; None: it does not say."""
    hdu = fits.PrimaryHDU(np.arange(1.0, 101.0))
    hdu.header.update(AXIS | ({} if unit is None else {"BUNIT": unit}))
    fits.HDUList([hdu, fits.ImageHDU(np.full(100, 2.0), name="ERROR")]).writeto(
        path, overwrite=True
    )
    return path


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("1E-17 erg/cm^2/s/Ang", 1e-17 * FLAM),
        ("10^-17 erg/s/cm^2/Ang", 1e-17 * FLAM),
        ("10-17 erg/s/cm2/Ang", 1e-17 * FLAM),
        ("1 x 10^-17 erg/s/cm2/Ang", 1e-17 * FLAM),
        ("10**-17 erg/(s cm2 Angstrom)", 1e-17 * FLAM),
        ("10^(-20)*erg/s/cm^2/Angstrom", 1e-20 * FLAM),
        ("Flux (10^-17 erg/s/cm^2/Ang)", 1e-17 * FLAM),
        ("1.0E-16 ERG/CM2/S/ANGSTROM", 1e-16 * FLAM),
        ("ergs/sec/cm**2/Angstroms", FLAM),
        ("erg /s /cm**2 /angstrom", FLAM),
        ("erg s**(-1) cm**(-2) nm**(-1)", u.erg / u.s / u.cm**2 / u.nm),
        ("W/m2/micron", u.W / u.m**2 / u.um),
        ("Jy", u.Jy), ("mJy", u.mJy), ("MJy/sr", u.MJy / u.sr), ("microJansky", u.uJy),
        ("COUNTS", u.ct), ("Counts/s", u.ct / u.s), ("ADU", u.adu), ("electrons", u.electron),
        ("", u.dimensionless_unscaled), ("dimensionless_unit", u.dimensionless_unscaled),
    ],
)  # fmt: skip
def test_units_are_read_as_archives_spell_them(tmp_path: Path, text: str, unit: u.Unit) -> None:
    assert flux_unit(text) == u.Unit(unit)
    (one,) = read_file(write(tmp_path / "a.fits", text or None))
    assert u.Unit(one.unit) == u.Unit(unit)
    assert one.ivar is not None
    assert set(one.ivar.tolist()) == {0.25}


@pytest.mark.parametrize("text", ["DU/PIXEL", "FLAM", "furlongs", "erg/"])
def test_a_unit_that_cannot_be_read_is_none(text: str) -> None:
    assert flux_unit(text) is None


@pytest.mark.parametrize("text", ["Angstroms", "ANGSTROM", "Ang", "A", "AA", "[Angstrom]"])
def test_units_of_wavelengths(text: str) -> None:
    assert wave_unit(text) == u.AA


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("DU/PIXEL", "what astropy cannot read; say what flux is in with --flux-unit"),
        (
            "erg/cm2/s/A",
            "a flux per ampere; if it means Ångström, say --flux-unit 'erg / (Angstrom s cm2)'",
        ),
        (
            "1.0E-17 erg/cm/s/Ang",
            "a flux per cm; if it means cm², say --flux-unit '1e-17 erg / (Angstrom s cm2)'",
        ),
    ],
)
def test_odd_units_are_asked_about_and_the_option_helps(
    tmp_path: Path, text: str, hint: str
) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    path = write(folder / "a.fits", text)
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils")
    printed = " ".join(command(*given, code=2).split())
    assert hint in printed
    assert path.name in printed
    printed = command(*given, "--flux-unit", "1E-17 erg/cm^2/s/Ang")
    assert "1 spectra in 1 segments" in printed
    survey, _ = find_release("mine", open_root(data))
    assert u.Unit(survey.flux_scale) == 1e-17 * FLAM
    # Files of the same spelling follow in the unit given, those of another one in their own.
    write(folder / "b.fits", text)
    write(folder / "c.fits", "Jy")
    command("ingest", "mine", folder, "--data", data, "--workers", 1)
    catalog = SpectroscopicService(open_root(data)).archive.open_release("mine").catalog
    rows = catalog.columns_of(["name", "flux_unit"], np.arange(catalog.count(primary=False)))
    units = {row["name"]: u.Unit(row["flux_unit"]) for row in rows.to_pylist()}
    assert units == {"a": 1e-17 * FLAM, "b": 1e-17 * FLAM, "c": u.Jy}


def test_a_missing_unit_can_be_said(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    write(folder / "a.fits", None)
    command(
        "ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils",
        "--flux-unit", "mJy",
    )  # fmt: skip
    survey, _ = find_release("mine", open_root(data))
    assert u.Unit(survey.flux_scale) == u.mJy


def test_the_option_helps_tables_with_odd_units_too(tmp_path: Path) -> None:
    folder, data = tmp_path / "spectra", tmp_path / "data"
    folder.mkdir()
    table = Table({"WAVE": 4000.0 + np.arange(50.0), "FLUX": np.ones(50), "ERR": np.ones(50)})
    hdu = fits.table_to_hdu(table)
    hdu.header.update({"TUNIT1": "Angstroms", "TUNIT2": "DU/PIXEL", "TUNIT3": "DU/PIXEL"})
    hdu.writeto(folder / "a.fits")
    given = ("ingest", "mine", folder, "--data", data, "--workers", 1, "--reader", "specutils")
    assert "DU/PIXEL" in command(*given, code=2)
    command(*given, "--flux-unit", "ct / pix")
    survey, _ = find_release("mine", open_root(data))
    assert u.Unit(survey.flux_scale) == u.ct / u.pix
    assert [vector.name for vector in survey.vectors] == ["flux", "ivar", "mask"]
