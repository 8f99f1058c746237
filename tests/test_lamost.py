"""LAMOST low-resolution files, real and made: read bit for bit, stored, served without a unit."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits

from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadFile
from specserver.ingest import run_ingest
from specserver.model.grid import locate
from specserver.surveys import find_release
from specserver.surveys.lamost import LAMOST
from specserver.surveys.sdss import SDSS

READER = LAMOST.reader
NAME = "spec-58397-EG014118N254444M01_sp03-031.fits"
VECTORS = ("flux", "ivar", "wavelength", "andmask", "ormask")


def write_lamost(folder: Path, fiber: int = 31, coeff0: float = 3.5682, **cards: object) -> Path:
    """Write a file in the survey's layout; the flux has a bad pixel and a mask bit."""
    npix = 3909
    image = np.zeros((5, npix), np.float32)
    image[0] = 1000 + 50 * np.sin(np.arange(npix) / 40) + fiber
    image[1] = 0.01
    image[2] = 10 ** (float(np.float32(coeff0)) + 1e-4 * np.arange(npix))
    image[1, 100] = 0
    image[3, 100] = 2**25
    image[4, 100:102] = 2**25 + 2**16
    name = f"spec-58397-EG014118N254444M01_sp03-{fiber:03d}.fits"
    header = {
        "OBSID": 677503000 + fiber, "DATA_V": "LAMOST DR7", "LMJD": 58397, "MJD": 58396,
        "PLANID": "EG014118N254444M01", "RA": 24.0 + fiber / 100, "DEC": 25.4, "SPID": 3,
        "DESIG": f"LAMOST J0137{fiber:02d}", "FIBERID": fiber, "VACUUM": True, "CLASS": "STAR",
        "SUBCLASS": "G3", "Z": -6.4e-06, "Z_ERR": 1.4e-05, "SNRG": 50.0 + fiber, "SNRU": 23.25,
        "MAG1": 16.85, "MAG7": 99.0, "FIBERMAS": 0,
    }  # fmt: skip
    header |= cards
    hdu = fits.PrimaryHDU(image)
    hdu.header.update({key: value for key, value in header.items() if value is not None})
    path = folder / name
    hdu.writeto(path, overwrite=True)
    return path


def check_against_astropy(path: Path) -> None:
    (one,) = READER.read(path)
    with fits.open(path, memmap=False) as hdus:
        header, image = hdus[0].header, hdus[0].data
        read = {**one.vectors, "wavelength": one.axis}
        for row, name in zip(image, VECTORS, strict=True):
            if name.endswith("mask"):
                assert read[name].dtype == np.int32
                assert np.array_equal(read[name], row)
            else:
                assert read[name].tobytes() == row.astype("<f4").tobytes()
        assert one.id == header["OBSID"]
        assert (one.ra_deg, one.dec_deg) == (header["RA"], header["DEC"])
        assert one.row["z"] == header["Z"]
        assert one.row["zerr"] == header["Z_ERR"]
        assert one.row["class"] == header["CLASS"]
        assert one.row["subclass"] == header["SUBCLASS"]
        assert one.row["snrg"] == np.float32(header["SNRG"])
        assert one.reduction == "dr7"
    declared = {column.name for column in LAMOST.columns} - {"is_best"}
    assert set(one.row) == declared


def test_a_position_of_another_equinox_is_refused(tmp_path: Path) -> None:
    READER.read(write_lamost(tmp_path, RADECSYS="FK5", EQUINOX=2000.0))
    with pytest.raises(BadFile, match="FK4 B1950"):
        READER.read(write_lamost(tmp_path, EQUINOX=1950.0))


def real_files(real_spectra: Path) -> list[Path]:
    return sorted((real_spectra / "other").glob("spec-*_sp*.fits*"))


def test_real_files_are_read_bit_for_bit(real_spectra: Path) -> None:
    paths = real_files(real_spectra)
    assert paths
    for path in paths:
        check_against_astropy(path)


def test_made_files_are_read_bit_for_bit(tmp_path: Path) -> None:
    check_against_astropy(write_lamost(tmp_path))


def test_wavelengths_are_those_of_the_first_coefficient_rounded_to_float32(
    real_spectra: Path,
) -> None:
    for path in real_files(real_spectra):
        (one,) = READER.read(path)
        start = float(np.float32(fits.getheader(path)["COEFF0"]))
        wave = 10 ** (start + 1e-4 * np.arange(len(one.axis)))
        assert np.array_equal(wave.astype(np.float32), one.axis)


def test_the_usual_first_wavelength_is_on_the_lattice_and_others_are_not(tmp_path: Path) -> None:
    (usual,) = READER.read(write_lamost(tmp_path))
    assert locate(LAMOST.grid, usual.axis) == 0
    (other,) = READER.read(write_lamost(tmp_path, coeff0=3.5683))
    assert locate(LAMOST.grid, other.axis) is None


def test_real_files_are_on_the_lattice(real_spectra: Path) -> None:
    for path in real_files(real_spectra):
        (one,) = READER.read(path)
        assert locate(LAMOST.grid, one.axis) == 0


def test_names_are_strict() -> None:
    key = READER.identify(Path("a") / NAME)
    assert key is not None
    assert key.group == (58397, 3, 31)
    assert READER.identify(Path(NAME + ".gz")) is not None
    assert READER.identify(Path("spec-55859-F5902_sp01-001.fits")) is not None
    assert READER.identify(Path("spec-56000-M31_011N40_B1_sp16-250.fits.gz")) is not None
    for name in (
        "spec-0266-51602-0013.fits",
        "spec-58397-EG014118N254444M01_sp3-031.fits",
        "spec-58397-EG014118N254444M01_sp03-31.fits",
        "spec-58397-EG014118N254444M01_sp03-031.fits.bak",
        "xspec-58397-EG014118N254444M01_sp03-031.fits",
    ):
        assert READER.identify(Path(name)) is None
    assert SDSS.reader.identify(Path(NAME)) is None


def test_medium_resolution_is_refused_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "med-58646-TD192102N424113K01_sp12-076.fits.gz"
    assert READER.identify(path) is not None
    with pytest.raises(BadFile, match="medium-resolution"):
        READER.read_from_bytes(path, b"")


def test_files_that_are_not_what_they_seem_are_refused(tmp_path: Path) -> None:
    good = write_lamost(tmp_path)
    with pytest.raises(BadFile, match="not of the name"):
        READER.read(good.rename(tmp_path / NAME.replace("031", "032")))
    with pytest.raises(BadFile, match="DEC"):
        READER.read(write_lamost(tmp_path, DEC=None))
    with pytest.raises(BadFile, match="no position"):
        READER.read(write_lamost(tmp_path, DEC=-9999.0))
    with pytest.raises(BadFile, match="vacuum"):
        READER.read(write_lamost(tmp_path, VACUUM=False))
    path = write_lamost(tmp_path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(BadFile, match="cut off"):
        READER.read(path)
    fits.PrimaryHDU(np.zeros((4, 100), np.float32)).writeto(path, overwrite=True)
    with pytest.raises(BadFile, match="five rows"):
        READER.read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(BadFile, match="not a FITS file"):
        READER.read(path)


def test_a_mask_that_is_no_whole_number_is_refused(tmp_path: Path) -> None:
    path = write_lamost(tmp_path)
    with fits.open(path, memmap=False) as hdus:
        hdus[0].data[3, 5] = 0.5
        hdus.writeto(path, overwrite=True)
    with pytest.raises(BadFile, match="mask bits"):
        READER.read(path)


def test_gzipped_files_read_the_same(tmp_path: Path) -> None:
    path = write_lamost(tmp_path)
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    (plain,), (zipped,) = READER.read(path), READER.read(packed)
    assert plain.vectors["flux"].tobytes() == zipped.vectors["flux"].tobytes()
    packed.write_bytes(packed.read_bytes()[:3000])
    with pytest.raises(BadFile, match="cannot be read"):
        READER.read(packed)


def test_the_survey_is_found_by_its_entry_point() -> None:
    survey, release = find_release("lamost_dr7")
    assert survey is LAMOST
    assert release.reductions == ("dr7",)


@pytest.fixture(scope="module")
def lamost(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service over made files, one of another first wavelength, one target observed twice."""
    folder = tmp_path_factory.mktemp("lamost")
    for fiber in (31, 32, 33):
        write_lamost(folder, fiber)
    write_lamost(folder, 34, coeff0=3.5683)
    write_lamost(folder, 35, DESIG="LAMOST J013731", SNRG=200.0)
    run_ingest(open_root(folder / "data"), "lamost_dr7", [folder], workers=1)
    with serve(folder / "data", folder) as running:
        yield running


@pytest.fixture
def client(lamost: Served) -> SpecClient:
    return SpecClient("lamost_dr7", svc_url=lamost.url)


def test_spectra_come_out_as_they_went_in(lamost: Served, client: SpecClient) -> None:
    for fiber in (31, 34):
        got = client.getSpec(677503000 + fiber)
        image = fits.getdata(lamost.folder / NAME.replace("031", f"{fiber:03d}"))
        assert got.dtype.names == ("flux", "wavelength", "ivar", "andmask", "ormask")
        for row, name in zip(image, VECTORS, strict=True):
            assert np.array_equal(got[name], row)


def test_every_form_of_identifier(client: SpecClient) -> None:
    (one,) = client.query(constraint="obsid = 677503032", fields="tuple")
    assert tuple(one) == (58397, 3, 32, "EG014118N254444M01")
    assert client.getSpec(tuple(one))["flux"][0] == client.getSpec(677503032)["flux"][0]
    assert len(client.getSpec((58397, 3, "31-33"))) == 3


def test_the_best_spectrum_of_a_target_is_computed(client: SpecClient) -> None:
    best = client.query(constraint="is_best = 1 and designation = 'LAMOST J013731'")
    assert best.tolist() == [677503035]


def test_fluxes_have_no_unit(client: SpecClient) -> None:
    table = client.getSpec(677503031, fmt="Table")
    assert table["flux"].unit is None or table["flux"].unit == u.dimensionless_unscaled
    assert table["wavelength"].unit == u.AA
    (frame,) = client.getSpec([677503031], fmt="pandas")
    assert frame["flux"].iloc[0] == np.float32(1031)


def test_a_spectrum_object_is_dimensionless(client: SpecClient) -> None:
    one = client.getSpec(677503031, fmt="Spectrum1D")
    assert one.flux.unit == u.dimensionless_unscaled
    assert one.uncertainty.unit == u.dimensionless_unscaled
    assert one.mask[100]
    assert one.mask.sum() == 1


def test_they_are_drawn_and_resampled(client: SpecClient, tmp_path: Path) -> None:
    client.plot(677503031, out=str(tmp_path / "plot.png"))
    assert (tmp_path / "plot.png").stat().st_size > 10_000
    assert len(bytes(client.preview(677503031))) > 3_000
    laid = client.getSpec([677503031, 677503034], align="resample")
    good = laid["ivar"] > 0
    assert good.sum() > 5000
    assert abs(np.median(laid["flux"][good]) - 1032) < 40


@pytest.mark.parametrize("frame", ["rest", "observed"])
@pytest.mark.parametrize("number", [677503031, 677503034])
def test_a_composite_is_of_the_whole_spectrum_moved_to_rest(
    client: SpecClient, number: int, frame: str
) -> None:
    """A spectrum on the lattice, and one off it: each keeps its range and its values."""
    spectrum = client.getSpec(number)
    made = client.stack([number], z=0.5, frame=frame)
    wave = made.wavelength * (1.5 if frame == "rest" else 1.0)
    assert wave[[0, -1]] == pytest.approx(spectrum["wavelength"][[0, -1]], rel=3e-4)
    good = made.count > 0
    inside = good & (wave > 3800) & (wave < 9000)
    expected = np.interp(wave[inside], spectrum["wavelength"], spectrum["flux"])
    assert made.flux[inside] == pytest.approx(expected, rel=2e-3)


def write_early(folder: Path, *, without: tuple[str, ...] = (), **cards: object) -> Path:
    """Write a file as DR1 to DR3 have them: continuum for wavelengths, no OBSID."""
    names = {
        "EXTEN0": "Flux Inverse Subcontinuum Andmask Ormask", "COEFF0": 3.5682, "COEFF1": 1e-4,
        "CRVAL1": 3.5682, "CD1_1": 1e-4, "CRPIX1": 1, "CTYPE1": "LINEAR", "DC-FLAG": 1,
        "WFITTYPE": "LOG-LINEAR", "HELIO": True, "SN_G": 71.41, "OBJSOURC": "PILOT",
    }  # fmt: skip
    gone = dict.fromkeys((*without, "OBSID", "DATA_V", "SNRG", "SNRU", "FIBERMAS"))
    path = write_lamost(folder, **{**names, **cards, **gone})
    with fits.open(path, memmap=False) as hdus:
        hdus[0].data[2] = 1 + 0.1 * np.cos(np.arange(3909))
        hdus.writeto(path, overwrite=True)
    return path


@pytest.mark.parametrize(
    "without", [(), ("CRVAL1", "CD1_1", "CRPIX1", "CTYPE1"), ("COEFF0", "COEFF1")], ids=str
)
def test_early_files_have_the_axis_that_the_header_states(
    without: tuple[str, ...], tmp_path: Path
) -> None:
    (one,) = READER.read(write_early(tmp_path, without=without))
    stated = 10 ** (3.5682 + 1e-4 * np.arange(3909))
    assert np.abs(one.axis / stated - 1).max() < 5e-7
    assert locate(LAMOST.grid, one.axis) == 0
    (later,) = READER.read(write_lamost(tmp_path))
    assert one.axis.tobytes() == later.axis.tobytes()
    assert one.vectors["flux"].tobytes() == later.vectors["flux"].tobytes()
    assert one.row["snrg"] == np.float32(71.41)
    assert one.row["tsource"] == "PILOT"
    assert one.reduction == ""
    assert one.id < 0
    assert READER.read(write_early(tmp_path))[0].id == one.id


@pytest.mark.parametrize(
    ("cards", "without", "reason"),
    [
        ({}, ("COEFF0", "CRVAL1"), "no row of wavelengths"),
        ({"CRVAL1": 3.6}, (), "axis is not log10"),
        ({"DC-FLAG": 0}, (), "axis is not log10"),
        ({"COEFF0": 3700.0, "CRVAL1": 3700.0}, (), "axis is not log10"),
        ({"EXTEN0": "Flux Inverse Sky Andmask Ormask"}, (), "the third row 'sky'"),
        ({"VACUUM": False}, (), "vacuum"),
    ],
)
def test_early_files_without_a_certain_axis_are_refused(
    cards: dict[str, object], without: tuple[str, ...], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BadFile, match=reason):
        READER.read(write_early(tmp_path, without=without, **cards))


def test_real_early_files(real_spectra: Path, tmp_path: Path) -> None:
    paths = sorted((real_spectra / "reports").glob("spec-55862-*.fits"))
    assert len(paths) == 2
    summary = run_ingest(open_root(tmp_path), "lamost_dr1", paths, workers=1, strict=True)
    assert (summary.stored, summary.refused) == (2, [])
    for path in paths:
        (one,) = READER.read(path)
        with fits.open(path) as hdus:
            header, image = hdus[0].header, hdus[0].data
            stated = 10 ** (header["COEFF0"] + header["COEFF1"] * np.arange(image.shape[1]))
            assert np.abs(one.axis / stated - 1).max() < 5e-7
            assert one.vectors["flux"].tobytes() == image[0].astype("<f4").tobytes()
            assert one.vectors["ivar"].tobytes() == image[1].astype("<f4").tobytes()
            assert np.array_equal(one.vectors["ormask"], image[4])
            assert one.row["snrg"] == np.float32(header["SN_G"])


def test_an_early_spectrum_is_found_by_every_form_of_identifier(tmp_path: Path) -> None:
    path = write_early(tmp_path)
    run_ingest(open_root(tmp_path / "data"), "lamost_dr1", [path], workers=1)
    with serve(tmp_path / "data", tmp_path) as running:
        client = SpecClient("lamost_dr1", svc_url=running.url)
        (number,) = client.query(constraint="dec > -90").tolist()
        assert number < 0
        one = client.getSpec(number)
        for other in (str(number), (58397, 3, 31, "EG014118N254444M01")):
            assert client.getSpec(other).tobytes() == one.tobytes()
