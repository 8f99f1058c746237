"""The SDSS reader on files of all families, and on files that are not what they seem."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from specserver.errors import BadFile
from specserver.model.grid import locate
from specserver.surveys.sdss import SDSS

READER = SDSS.reader


def check_against_astropy(path: Path) -> None:
    """Assert that vectors, id, position, z and class of a file are those that astropy reads."""
    (one,) = READER.read(path)
    with fits.open(path, memmap=False) as hdus:
        coadd, objects = hdus[1].data, hdus[2].data
        for name in ("flux", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model"):
            expected = np.asarray(coadd[name])
            native = expected.astype(expected.dtype.newbyteorder("="))
            assert one.vectors[name].dtype == native.dtype
            assert one.vectors[name].tobytes() == native.tobytes()
        assert one.axis.tobytes() == np.asarray(coadd["loglam"]).astype("f4").tobytes()
        assert one.id == int(str(objects["SPECOBJID"][0]).strip()) % 2**64
        assert one.row["z"] == objects["Z"][0]
        assert one.row["zerr"] == objects["Z_ERR"][0]
        assert one.row["class"] == str(objects["CLASS"][0]).strip()
        assert one.row["subclass"] == str(objects["SUBCLASS"][0]).strip()
        assert one.row["zwarning"] == objects["ZWARNING"][0]
        assert one.row["sn_median"] == objects["SN_MEDIAN_ALL"][0]
        assert abs(one.dec_deg - objects["PLUG_DEC"][0]) < 30 / 3600
        scalar = [c.name for c in hdus[2].columns if np.asarray(objects[c.name]).ndim == 1]
        missing = {name.lower() for name in scalar} - set(one.row)
        assert missing <= {"z_err", "z_err_noqso", "sn_median_all"}
    core = {column.name for column in SDSS.columns}
    assert core <= set(one.row)


@pytest.mark.proof
def test_real_files_of_all_families(real_spectra: Path) -> None:
    for path in sorted((real_spectra / "sdss").rglob("*.fits")):
        check_against_astropy(path)


@pytest.mark.proof
def test_mock_files_of_all_families(mock_survey: Path) -> None:
    paths = sorted(mock_survey.rglob("spec-*.fits"))
    for path in paths[::5]:
        check_against_astropy(path)


def test_trimmed_files_without_extnames_are_read(real_spectra: Path) -> None:
    for path in (real_spectra / "other" / "sdss-trimmed").glob("spec-*.fits"):
        (one,) = READER.read(path)
        assert len(one.axis) == 710
        assert locate(SDSS.grid, one.axis) is not None


@pytest.mark.parametrize(
    "name",
    [
        "spec-58397-EG014118N254444M01_sp03-031.fits",
        "spec-57287-KP193637N444141V03_sp10-161.fits.gz",
        "spec-015000-59146-4375786564.fits",
        "spec-0266-51602-013.fits",
        "spec-266-51602-0013.fits",
        "spec-0266-51602-0013.fits.bak",
        "spSpec-52999-1307-323.fit",
        "spec-0266-51602-0013-extra.fits",
    ],
)
def test_other_names_are_not_ours(name: str) -> None:
    assert READER.identify(Path(name)) is None


def test_names_of_four_and_five_digit_plates() -> None:
    key = READER.identify(Path("a/spec-10656-58163-0366.fits.gz"))
    assert key is not None
    assert key.group == (10656, 58163, 366)
    assert READER.identify(Path("spec-0266-51602-0013.fits")) is not None


@pytest.fixture
def one_file(mock_survey: Path, tmp_path: Path) -> Path:
    """A copy of a mock file that a test may spoil."""
    path = min(mock_survey.rglob("spec-*.fits"))
    return Path(shutil.copy(path, tmp_path))


def test_gzipped_files_read_the_same(one_file: Path) -> None:
    packed = one_file.with_name(one_file.name + ".gz")
    packed.write_bytes(gzip.compress(one_file.read_bytes()))
    (plain,), (zipped,) = READER.read(one_file), READER.read(packed)
    assert plain.id == zipped.id
    assert plain.vectors["flux"].tobytes() == zipped.vectors["flux"].tobytes()


def test_a_damaged_gzip_is_refused(one_file: Path) -> None:
    packed = one_file.with_name(one_file.name + ".gz")
    packed.write_bytes(gzip.compress(one_file.read_bytes())[:5000])
    with pytest.raises(BadFile, match="cannot be read"):
        READER.read(packed)


def test_a_file_under_another_name_is_refused(one_file: Path) -> None:
    other = one_file.rename(one_file.with_name("spec-0999-51602-0013.fits"))
    with pytest.raises(BadFile, match="name"):
        READER.read(other)


def rewrite(path: Path, change: object) -> None:
    """Write a file again through astropy with a change to its HDUs."""
    with fits.open(path, memmap=False) as hdus:
        change(hdus)  # type: ignore[operator]
        hdus.writeto(path, overwrite=True)


def test_a_wrong_specobjid_is_refused(one_file: Path) -> None:
    def change(hdus: fits.HDUList) -> None:
        name = "SPECOBJID"
        column = hdus[2].data[name]
        column[0] = column.dtype.type(12345) if column.dtype.kind != "U" else "12345"

    rewrite(one_file, change)
    with pytest.raises(BadFile, match="SPECOBJID"):
        READER.read(one_file)


def test_another_flux_unit_is_refused(one_file: Path) -> None:
    rewrite(one_file, lambda hdus: hdus[0].header.set("BUNIT", "Jy"))
    with pytest.raises(BadFile, match="Jy"):
        READER.read(one_file)


def test_a_missing_column_is_named(one_file: Path) -> None:
    def change(hdus: fits.HDUList) -> None:
        name = next(name for name in hdus[1].columns.names if name.lower() == "ivar")
        columns = [column for column in hdus[1].columns if column.name != name]
        hdus[1] = fits.BinTableHDU.from_columns(columns)

    rewrite(one_file, change)
    with pytest.raises(BadFile, match="ivar"):
        READER.read(one_file)


def test_a_spectrum_off_the_lattice_is_known_as_such(one_file: Path) -> None:
    (one,) = READER.read(one_file)
    assert locate(SDSS.grid, one.axis) is not None
    shifted = one.axis.copy()
    shifted[17] = np.nextafter(shifted[17], np.float32(9))
    assert locate(SDSS.grid, shifted) is None


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (-9999.0, -9999.0)])
def test_a_missing_photometric_match_leaves_the_fibres_position(
    mock_survey: Path, tmp_path: Path, ra: float, dec: float
) -> None:
    path = next(path for path in sorted(mock_survey.rglob("spec-*.fits")) if "/v5_" in str(path))
    path = Path(shutil.copy(path, tmp_path))

    def change(hdus: fits.HDUList) -> None:
        hdus[2].data["RA"][0] = ra
        hdus[2].data["DEC"][0] = dec

    rewrite(path, change)
    (one,) = READER.read(path)
    assert (one.ra_deg, one.dec_deg) == (one.row["plug_ra"], one.row["plug_dec"])
