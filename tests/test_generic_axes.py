"""Wavelengths and uncertainties of a folder's own files, as their headers and HDUs state them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from specserver.errors import BadFile
from specserver.surveys.anyfile import ReadSpectrum, read_file
from specserver.surveys.declaration import FileDefaults

NPIX = 500
FLUX = np.arange(1.0, NPIX + 1.0)
LINEAR = 4000.0 + 2.5 * np.arange(NPIX)
LOG = 10.0 ** (3.6 + 1e-4 * np.arange(NPIX))
AXIS = {"CRVAL1": 4000.0, "CDELT1": 2.5, "CRPIX1": 1.0}
LOG_AXIS = {"CRVAL1": 3.6, "CDELT1": 1e-4, "CRPIX1": 1.0}


def write(path: Path, cards: Mapping[str, object], *others: tuple[str, Any, str]) -> Path:
    """Write an image of flux with a header, and images beside it: name, values, unit."""
    hdu = fits.PrimaryHDU(FLUX)
    hdu.header.update(cards)
    images = [fits.ImageHDU(np.asarray(values), name=name) for name, values, _ in others]
    for image, (_, _, unit) in zip(images, others, strict=True):
        if unit:
            image.header["BUNIT"] = unit
    fits.HDUList([hdu, *images]).writeto(path, overwrite=True)
    return path


def only(path: Path, **said: str) -> ReadSpectrum:
    """Return the one spectrum of a file."""
    (one,) = read_file(path, FileDefaults(**said))
    return one


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({**AXIS, "CUNIT1": "Angstrom"}, LINEAR),
        ({**AXIS, "CUNIT1": "Angstroms", "CTYPE1": "Wavelength"}, LINEAR),
        ({**AXIS}, LINEAR),
        ({**AXIS, "CRPIX1": 251.0}, LINEAR - 625.0),
        ({**AXIS, "WAT1_001": "wtype=linear label=Wavelength units=angstroms"}, LINEAR),
        ({"CRVAL1": 400.0, "CD1_1": 0.25, "CRPIX1": 1.0, "CUNIT1": "nm"}, LINEAR),
        ({"CRVAL1": 4e-7, "CDELT1": 2.5e-10, "CRPIX1": 1.0, "CTYPE1": "WAVE", "CUNIT1": "m"},
         LINEAR),
        ({**AXIS, "DC-FLAG": 0, "CTYPE1": "LINEAR"}, LINEAR),
        ({**LOG_AXIS, "DC-FLAG": 1, "CTYPE1": "LINEAR",
          "WAT1_001": "wtype=linear label=Wavelength units=Angstroms"}, LOG),
        ({"CRVAL1": 3.6, "CD1_1": 1e-4, "CDELT1": 1e-4, "CRPIX1": 1, "DC-FLAG": 1}, LOG),
        ({**LOG_AXIS, "LOGSCALE": True, "CUNIT1": "Angstroms"}, LOG),
        ({**LOG_AXIS, "LOGLAM": 1}, LOG),
        ({**AXIS, "LOGLAM": 0, "DC-FLAG": 0}, LINEAR),
        ({**LOG_AXIS, "WAT1_001": "wtype=log label=Wavelength units=angstroms"}, LOG),
        ({**LOG_AXIS, "CTYPE1": "LOGLAM"}, LOG),
        ({**LOG_AXIS, "CTYPE1": "WAVE-LOG", "CUNIT1": "Angstrom"}, LOG),
        ({**LOG_AXIS, "CTYPE1": "AWAV-LOG"}, LOG),
        ({"COEFF0": 3.6, "COEFF1": 1e-4}, LOG),
        ({"CRVAL1": 2.6, "CDELT1": 1e-4, "CRPIX1": 1.0, "DC-FLAG": 1, "CUNIT1": "nm"}, LOG),
    ],
)  # fmt: skip
def test_the_axis_is_read_as_the_header_states_it(
    tmp_path: Path, cards: dict[str, object], expected: npt.NDArray[np.float64]
) -> None:
    one = only(write(tmp_path / "a.fits", cards))
    assert np.allclose(one.wave, expected, rtol=1e-13, atol=0)
    assert one.flux.tobytes() == FLUX.tobytes()
    if cards == {**AXIS, "CUNIT1": "Angstrom"}:
        assert one.wave.tobytes() == expected.tobytes()


@pytest.mark.parametrize("unit", ["Angstrom", "m", ""])
def test_logarithmic_axes_of_the_standard_are_those_of_wcslib(tmp_path: Path, unit: str) -> None:
    scale = 1.0 if unit == "Angstrom" else 1e-10
    cards = {"CTYPE1": "WAVE-LOG", "CRVAL1": 4000.0 * scale, "CDELT1": 0.9 * scale, "CRPIX1": 3.0}
    one = only(write(tmp_path / "a.fits", cards | ({"CUNIT1": unit} if unit else {})))
    wcs = WCS(naxis=1)
    wcs.wcs.ctype, wcs.wcs.cunit = ["WAVE-LOG"], ["Angstrom"]
    wcs.wcs.crval, wcs.wcs.cdelt, wcs.wcs.crpix = [4000.0], [0.9], [3.0]
    (metres,) = wcs.all_pix2world(np.arange(NPIX), 0)
    assert np.allclose(one.wave, metres * 1e10, rtol=1e-12, atol=0)
    # λ = λr exp((w − λr) / λr), paper III of FITS.
    assert np.allclose(one.wave, 4000.0 * np.exp(0.9 * (np.arange(NPIX) - 2) / 4000.0), rtol=1e-12)
    assert one.medium == "vacuum"


@pytest.mark.parametrize("kind", ["FREQ", "FREQ-LSR", "Frequency", "ENER"])
def test_a_standard_type_without_unit_is_in_the_unit_of_the_standard(
    tmp_path: Path, kind: str
) -> None:
    hertz = 5.5e14 + 1e11 * np.arange(NPIX)
    scale = 6.62607015e-34 if kind == "ENER" else 1.0
    cards = {"CTYPE1": kind, "CRVAL1": 5.5e14 * scale, "CDELT1": 1e11 * scale, "CRPIX1": 1.0}
    for said in ({}, {"CUNIT1": "J" if kind == "ENER" else "Hz"}):
        one = only(write(tmp_path / "a.fits", cards | said))
        assert np.allclose(one.wave, (2.99792458e18 / hertz)[::-1], rtol=1e-12, atol=0)
        assert one.flux.tobytes() == FLUX[::-1].tobytes()
        assert abs(one.wave[-1] - 5450.772) < 1e-3


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        *(({"CTYPE1": kind, **AXIS}, f"of the type {kind} .*no wavelengths")
          for kind in ("VELO", "VRAD", "VOPT", "ZOPT", "BETA", "VELO-LSR", "TIME", "RA---TAN")),
        ({"CTYPE1": "VELO", "CUNIT1": "km/s", **AXIS}, "no wavelengths"),
        ({"CTYPE1": "WAVN", **AXIS}, "--wave-unit 1/m or 1/cm"),
        ({"CTYPE1": "WAVN-LOG", **AXIS}, "--wave-unit 1/m or 1/cm"),
        ({"CTYPE1": "FREQ", **AXIS}, "would reach from .*--wave-unit"),
        ({"CTYPE1": "ENER", **AXIS}, "would reach from .*--wave-unit"),
        ({"CTYPE1": "FREQ", "CUNIT1": "Angstrom", **AXIS}, "one of them is wrong"),
        ({"CTYPE1": "FREQ-LOG", **AXIS}, "would reach from .*--wave-unit"),
        ({"CTYPE1": "WAVE-LOG", **AXIS}, "would reach from .*--wave-unit"),
        *(({"CTYPE1": "WAVE-LOG", "CRVAL1": np.log(start), "CDELT1": 1e-4, "CRPIX1": 1.0, **unit},
           "would reach from .*--wave-unit")
          for start in (1150.0, 5000.0) for unit in ({}, {"CUNIT1": "Angstrom"})),
        ({"CTYPE1": "LN(WAVE)", "CRVAL1": np.log(5000.0), "CDELT1": 1e-4}, "--wave-unit"),
    ],
)  # fmt: skip
def test_a_type_that_makes_no_wavelengths_is_refused(
    tmp_path: Path, cards: dict[str, object], match: str
) -> None:
    with pytest.raises(BadFile, match=match):
        read_file(write(tmp_path / "a.fits", cards))


def test_the_unit_of_a_type_can_be_said(tmp_path: Path) -> None:
    cards = {"CTYPE1": "WAVN", "CRVAL1": 2e4, "CDELT1": -1.0, "CRPIX1": 1.0}
    one = only(write(tmp_path / "a.fits", cards), wave_unit="1/cm")
    assert np.allclose(one.wave, 1e8 / (2e4 - np.arange(NPIX)), rtol=1e-12)


@pytest.mark.parametrize(
    ("cards", "step"),
    [
        ({"CDELT1": 1.0, "PC1_1": 2.0}, 2.0),
        ({"CDELT1": 0.5, "PC1_1": 3.0, "PC1_2": 0.0}, 1.5),
        ({"CD1_1": 2.0, "PC1_1": 1.0, "CDELT1": 1.0}, 2.0),
        ({"CD1_1": 2.0, "PC1_1": 2.0, "CDELT1": 1.0}, 2.0),
        ({"CD1_1": 2.0, "CDELT1": 1.0}, 2.0),
    ],
)
def test_the_step_is_scaled_by_the_matrix(
    tmp_path: Path, cards: dict[str, object], step: float
) -> None:
    start = {"CRVAL1": 5000.0, "CRPIX1": 1.0, "CUNIT1": "Angstrom"}
    one = only(write(tmp_path / "a.fits", start | cards))
    assert np.array_equal(one.wave, 5000.0 + step * np.arange(NPIX))
    one = only(write(tmp_path / "b.fits", start | cards | {"CTYPE1": "WAVE-LOG"}))
    assert np.allclose(one.wave, 5000.0 * np.exp(step * np.arange(NPIX) / 5000.0), rtol=1e-12)


def test_a_matrix_that_is_not_of_one_axis_is_refused(tmp_path: Path) -> None:
    start = {"CRVAL1": 5000.0, "CRPIX1": 1.0, "CUNIT1": "Angstrom", "CDELT1": 1.0}
    with pytest.raises(BadFile, match="two steps"):
        read_file(write(tmp_path / "a.fits", start | {"CD1_1": 3.0, "PC1_1": 2.0}))
    for kind in ("LINEAR", "WAVE-LOG"):
        for name in ("PC1_2", "CD1_2"):
            hdu = fits.PrimaryHDU(FLUX[None])
            hdu.header.update(start | {"CTYPE1": kind, "CD1_1": 1.0, name: 0.1})
            hdu.writeto(tmp_path / "b.fits", overwrite=True)
            with pytest.raises(BadFile, match="along other axes"):
                read_file(tmp_path / "b.fits")


@pytest.mark.parametrize(
    ("cards", "step"),
    [
        ({"CTYPE1": "WAVE", "CUNIT1": "Angstrom"}, 1.0),
        ({"CTYPE1": "WAVE"}, 1.0),
        ({"CTYPE1": "WAVE", "PC1_1": 2.0}, 2.0),
        ({"CTYPE1": "WAVE", "PC1_2": 0.1}, None),
        ({"CTYPE1": "FREQ"}, None),
        ({"CTYPE1": "VELO"}, None),
        ({"CTYPE1": "VELO", "CUNIT1": "km/s"}, None),
    ],
)
def test_images_of_many_rows_have_the_axis_that_their_header_states(
    tmp_path: Path, cards: dict[str, object], step: float | None
) -> None:
    hdu = fits.PrimaryHDU(np.stack([FLUX, 2 * FLUX]))
    hdu.header.update({"CRVAL1": 5000.0, "CRPIX1": 1.0, "CDELT1": 1.0} | cards)
    hdu.writeto(tmp_path / "a.fits")
    if step is None:
        with pytest.raises(BadFile):
            read_file(tmp_path / "a.fits", FileDefaults(loader="wcs1d-fits"))
        return
    found = read_file(tmp_path / "a.fits", FileDefaults(loader="wcs1d-fits"))
    assert [one.flux[0] for one in found] == [1.0, 2.0]
    for one in found:
        assert np.array_equal(one.wave, 5000.0 + step * np.arange(NPIX))


def test_falling_axes_are_turned_round_with_all_vectors(tmp_path: Path) -> None:
    cards = {"CRVAL1": LINEAR[-1], "CDELT1": -2.5, "CRPIX1": 1.0, "CUNIT1": "Angstrom"}
    mask = np.zeros(NPIX, np.int16)
    mask[2] = 1
    one = only(write(tmp_path / "a.fits", cards, ("ERROR", FLUX, ""), ("MASK", mask, "")))
    assert one.wave.tobytes() == LINEAR.tobytes()
    assert one.flux.tobytes() == FLUX[::-1].tobytes()
    assert one.ivar is not None
    assert np.array_equal(one.ivar, 1 / FLUX[::-1] ** 2)
    assert np.flatnonzero(one.mask).tolist() == [NPIX - 3]


@pytest.mark.parametrize(
    ("name", "values", "unit", "expected"),
    [
        ("WAVELENGTH", LINEAR, "Angstrom", LINEAR),
        ("WAVELENGTH", LINEAR, "", LINEAR),
        ("WAVE", LINEAR / 10, "nm", LINEAR),
        ("LAMBDA", LINEAR / 1e4, "micron", LINEAR),
        ("LOGLAM", np.log10(LINEAR), "", LINEAR),
        ("LOGLAM", np.log10(LINEAR / 10), "log10(nm)", LINEAR),
        ("WAVE", LINEAR[::-1], "Angstrom", LINEAR),
    ],
)
def test_an_hdu_of_wavelengths_goes_before_the_header(
    tmp_path: Path, name: str, values: npt.NDArray[np.float64], unit: str, expected: Any
) -> None:
    falls = values[0] > values[-1]
    unit = unit.removeprefix("log10(").removesuffix(")")
    for cards in ({}, {"CRVAL1": 1.0, "CDELT1": 1.0}):
        one = only(write(tmp_path / "a.fits", cards, (name, values, unit)))
        assert np.allclose(one.wave, expected, rtol=1e-12, atol=0)
        assert one.flux.tobytes() == (FLUX[::-1] if falls else FLUX).tobytes()


def test_an_hdu_of_logarithms_is_known_by_the_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.fits", {"LOGSCALE": True, **AXIS}, ("WAVELENGTH", np.log10(LOG), ""))
    assert np.allclose(only(path).wave, LOG, rtol=1e-12)
    # LOGSCALE over wavelengths that are plainly no logarithms.
    path = write(tmp_path / "b.fits", {"LOGSCALE": True}, ("WAVELENGTH", LOG, "Angstrom"))
    assert only(path).wave.tobytes() == LOG.tobytes()


@pytest.mark.parametrize(
    ("name", "power", "unit"),
    [
        ("ERROR", 1, ""), ("ERR", 1, "mJy"), ("SIGMA", 1, ""), ("VARIANCE", 2, ""),
        ("VAR", 2, "mJy2"), ("IVAR", -2, ""), ("INVVAR", -2, "mJy-2"), ("ERROR", 1, "Jy"),
    ],
)  # fmt: skip
def test_uncertainties_beside_flux_are_what_their_names_say(
    tmp_path: Path, name: str, power: int, unit: str
) -> None:
    values = FLUX / 10
    cards = {**AXIS, "CUNIT1": "Angstrom", "BUNIT": "mJy"}
    one = only(write(tmp_path / "a.fits", cards, (name, values, unit)))
    expected = {1: 1 / values**2, 2: 1 / values, -2: values}[power]
    assert one.ivar is not None
    assert np.allclose(one.ivar, expected / (1e6 if unit == "Jy" else 1.0), rtol=1e-12)


def test_images_of_many_rows_are_as_many_spectra(tmp_path: Path) -> None:
    rows = np.stack([FLUX, 2 * FLUX])
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(rows, name="FLUX"), fits.ImageHDU(rows, name="IVAR")]
    hdus.append(fits.ImageHDU(LINEAR, name="WAVE"))
    hdus[-1].header["BUNIT"] = "Angstrom"
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    found = read_file(tmp_path / "a.fits")
    assert [one.flux.tobytes() for one in found] == [row.tobytes() for row in rows]
    assert [one.ivar.tobytes() for one in found if one.ivar is not None] == [
        row.tobytes() for row in rows
    ]


@pytest.mark.parametrize(
    ("cards", "match"),
    [
        ({}, "it states no wavelengths: there is no HDU WAVELENGTH.*CRVAL1"),
        ({"CRVAL1": 1.0, "CDELT1": 1.0, "CTYPE1": "Pixel"}, "states no wavelengths"),
        ({"CRVAL1": 1.0, "CDELT1": 1.0, "CRPIX1": 1.0}, "--wave-unit"),
        ({"CRVAL1": 400.0, "CDELT1": 0.5, "CRPIX1": 1.0}, "--wave-unit"),
        ({**LOG_AXIS}, "--wave-unit"),
        ({**AXIS, "CUNIT1": "furlong/fortnight"}, "no unit of wavelengths"),
        ({**AXIS, "DC-FLAG": 1}, "log-linear"),
    ],
)
def test_a_file_without_wavelengths_is_refused(
    tmp_path: Path, cards: dict[str, object], match: str
) -> None:
    path = write(tmp_path / "a.fits", cards, ("ERROR", FLUX, ""))
    with pytest.raises(BadFile, match=match):
        read_file(path)
    # Nor does naming the general format of specutils make 1, 2, 3 Å of it.
    with pytest.raises(BadFile, match=match):
        only(path, loader="wcs1d-fits")


def test_a_missing_unit_can_be_said(tmp_path: Path) -> None:
    cards = {"CRVAL1": 400.0, "CDELT1": 0.25, "CRPIX1": 1.0}
    assert np.allclose(only(write(tmp_path / "a.fits", cards), wave_unit="nm").wave, LINEAR)
    # What the file says goes first.
    cards["CUNIT1"] = "nm"
    assert np.allclose(only(write(tmp_path / "a.fits", cards), wave_unit="um").wave, LINEAR)


def test_vectors_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for name in ("WAVELENGTH", "ERROR", "MASK"):
        path = write(tmp_path / "a.fits", AXIS, (name, FLUX[:-1], ""))
        with pytest.raises(BadFile, match=f"HDU {name} has the shape"):
            read_file(path)
    path = write(tmp_path / "a.fits", {**AXIS, "BUNIT": "mJy"}, ("ERROR", FLUX, "s"))
    with pytest.raises(BadFile, match="uncertainties are in 's'"):
        read_file(path)


def test_multispec_files_of_iraf(tmp_path: Path) -> None:
    chebyshev = [5000.0, 600.0, 3.0]
    words = (
        'wtype=multispec spec1 = "1 1 0 4000.0 2.5 500 0. 1. 2."'
        ' spec2 = "2 2 1 3.6 0.0001 500 0. 1. 2."'
        ' spec3 = "3 3 2 4400. 2.4 500 0. 1. 2. 1. 0. 1 3 1. 500. 5000. 600. 3."'
    )
    cards = {"WCSDIM": 2, "CTYPE1": "MULTISPE", "CTYPE2": "MULTISPE", "CDELT1": 1.0, "CD1_1": 1.0,
             "CDELT2": 1.0, "WAT0_001": "system=multispec",
             "WAT1_001": "wtype=multispec label=Wavelength units=angstroms"}  # fmt: skip
    cards |= {f"WAT2_{at // 68 + 1:03d}": words[at : at + 68] for at in range(0, len(words), 68)}
    hdu = fits.PrimaryHDU(np.stack([FLUX, FLUX + 1, FLUX + 2]))
    hdu.header.update(cards)
    hdu.writeto(tmp_path / "a.fits")
    found = read_file(tmp_path / "a.fits")
    at = (2 * np.arange(1, NPIX + 1) - 501.0) / 499.0
    third = np.polynomial.chebyshev.chebval(at, chebyshev)
    for one, wave in zip(found, (LINEAR, LOG, third), strict=True):
        assert np.allclose(one.wave, wave, rtol=1e-13, atol=0)
    assert found[2].flux[0] == 3.0


def table(path: Path, **columns: Any) -> Path:
    """Write a table of some columns."""
    fits.table_to_hdu(Table(columns)).writeto(path, overwrite=True)
    return path


UNIT = u.Unit("erg / (s cm2 AA)")


def test_columns_are_what_their_names_say(tmp_path: Path) -> None:
    wave, flux = LINEAR * u.AA, FLUX * UNIT
    path = table(tmp_path / "a.fits", WAVE=wave, FLUX=flux, SKY=flux, ERR=flux / 10)
    one = only(path)
    assert one.ivar is not None
    assert np.allclose(one.ivar, 100 / FLUX**2)
    one = only(table(tmp_path / "b.fits", WAVE=wave, FLUX=flux, CONTINUUM=flux))
    assert one.ivar is None
    one = only(table(tmp_path / "c.fits", LOGLAM=np.log10(LINEAR), FLUX=FLUX, IVAR=FLUX))
    assert one.ivar is not None
    assert one.ivar.tobytes() == FLUX.tobytes()
    assert np.allclose(one.wave, LINEAR, rtol=1e-12)
    cells = Table({"WAVE": [LINEAR[::-1]] * u.AA, "FLUX": [FLUX] * UNIT, "VAR": [FLUX] * UNIT**2})
    fits.table_to_hdu(cells).writeto(tmp_path / "d.fits")
    one = only(tmp_path / "d.fits")
    assert one.wave.tobytes() == LINEAR.tobytes()
    assert one.ivar is not None
    assert np.allclose(one.ivar, 1 / FLUX[::-1])
    path = table(tmp_path / "e.fits", WAVE=LINEAR / 10, FLUX=FLUX)
    with pytest.raises(BadFile, match="column WAVE has no unit"):
        read_file(path)
    assert np.allclose(only(path, wave_unit="nm").wave, LINEAR)


def test_columns_of_other_names_are_known_by_their_units(tmp_path: Path) -> None:
    wave, flux = LINEAR * u.AA, FLUX * UNIT
    one = only(table(tmp_path / "a.fits", X=wave, ERR=flux / 10, SPECTRE=flux, SKY=flux))
    assert one.wave.tobytes() == LINEAR.tobytes()
    assert one.flux.tobytes() == FLUX.tobytes()
    assert one.ivar is not None
    assert np.allclose(one.ivar, 100 / FLUX**2)
    one = only(table(tmp_path / "b.fits", X=wave, SPECTRE=FLUX * u.ct, SKY=FLUX * u.ct))
    assert one.ivar is None


@pytest.mark.proof
def test_real_files_have_the_wavelengths_that_astropy_reads(real_spectra: Path) -> None:
    folder = real_spectra / "reports"
    for name in ("PH957_f", "PH957_e"):
        header = fits.getheader(folder / f"{name}.fits")
        wave = 10 ** (header["CRVAL1"] + header["CDELT1"] * np.arange(header["NAXIS1"]))
        one = only(folder / f"{name}.fits")
        assert np.allclose(one.wave, wave, rtol=1e-14)
        assert np.allclose(one.wave[[0, -1]], [3811.5, 10931.6], atol=0.05)
    with fits.open(folder / "spec_example_2.fits") as hdus:
        one = only(folder / "spec_example_2.fits")
        assert np.array_equal(one.wave, hdus["WAVELENGTH"].data)
        assert np.array_equal(one.flux, hdus["FLUX"].data)
        assert_inverse_variance(one, hdus["ERROR"].data, 1)
    with fits.open(folder / "stack-LRG.fits") as hdus:
        one = only(folder / "stack-LRG.fits")
        assert np.array_equal(one.wave, hdus["WAVE"].data)
        assert np.array_equal(one.flux, hdus["FLUX"].data[0])
        assert_inverse_variance(one, hdus["IVAR"].data[0], -2)
        assert one.medium == "vacuum"
    with fits.open(folder / "emlLinearSkyAirHelio.fits") as hdus:
        one = only(folder / "emlLinearSkyAirHelio.fits", medium="air")
        header = hdus[0].header
        pixels = np.arange(1, header["NAXIS1"] + 1) - header["CRPIX1"]
        assert np.allclose(one.wave, header["CRVAL1"] + header["CDELT1"] * pixels, rtol=1e-14)
        assert_inverse_variance(one, hdus["VARIANCE"].data, 2)
        assert one.medium == "air"
    with fits.open(folder / "emlLogVacuumHelioCMB.fits") as hdus:
        one = only(folder / "emlLogVacuumHelioCMB.fits")
        assert np.allclose(one.wave, 10 ** hdus["WAVELENGTH"].data, rtol=1e-14)
        assert_inverse_variance(one, hdus["VARIANCE"].data, 2)
        assert one.medium == "vacuum"
    with pytest.raises(BadFile, match="column WAVE has no unit"):
        read_file(folder / "NGC4151sic2a.fits")
    with fits.open(folder / "NGC4151sic2a.fits") as hdus:
        one = only(folder / "NGC4151sic2a.fits", wave_unit="Angstrom")
        assert np.array_equal(one.wave, hdus[1].data["WAVE"][0])
        assert_inverse_variance(one, hdus[1].data["ERROR"][0], 1)


def test_other_real_files_have_the_wavelengths_that_astropy_reads(real_spectra: Path) -> None:
    folder = real_spectra / "other"
    with fits.open(folder / "XShooter_XQ100.fits.gz") as hdus:
        one = only(folder / "XShooter_XQ100.fits.gz")
        assert np.allclose(one.wave, 10 * hdus[1].data["WAVE"][0].astype(float), rtol=1e-14)
        assert_inverse_variance(one, hdus[1].data["ERR_FLUX"][0], 1)
        assert one.medium == "vacuum"
        assert u.Unit(one.unit) == u.Unit("erg / (s cm2 nm)")
    with fits.open(folder / "med-58646-TD192102N424113K01_sp12-076.fits.gz") as hdus:
        found = read_file(folder / "med-58646-TD192102N424113K01_sp12-076.fits.gz")
        assert len(found) == len(hdus) - 1
        for one, hdu in zip(found, hdus[1:], strict=True):
            wave = 10 ** hdu.data["LOGLAM"].astype(float)
            turn = slice(None, None, -1 if wave[0] > wave[-1] else None)
            assert np.allclose(one.wave, wave[turn], rtol=1e-14)
            assert np.array_equal(one.flux, hdu.data["FLUX"][turn].astype(float))
            assert_inverse_variance(one, hdu.data["IVAR"][turn], -2)


def assert_inverse_variance(one: ReadSpectrum, stated: Any, power: int) -> None:
    """Check inverse variances against a file's errors, variances or inverse variances."""
    values = np.asarray(stated, float)
    good = np.isfinite(values) & (values > 0) & np.isfinite(one.flux)
    assert one.ivar is not None
    if power == -2:
        assert one.ivar.tobytes() == values.tobytes()
        assert (one.mask[~(np.isfinite(values) & (values >= 0))] == 1).all()
        return
    assert (one.ivar[~good] == 0).all()
    expected = {1: 1 / values[good] ** 2, 2: 1 / values[good], -2: values[good]}[power]
    assert np.allclose(one.ivar[good], expected, rtol=1e-12, atol=0)
