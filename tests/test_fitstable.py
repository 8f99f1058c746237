"""Our one-pass table reader against astropy.io.fits, value by value."""

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from specserver.errors import BadFile
from specserver.ops.fitstable import read_tables


def same_as_astropy(path: Path) -> None:
    """Assert that all columns of HDU1 and HDU2 equal astropy's, type and bits."""
    _, tables = read_tables(path.read_bytes(), 2)
    with fits.open(path, memmap=False) as hdus:
        for table, hdu in zip(tables, hdus[1:3], strict=True):
            assert list(table.layout.dtype.names) == hdu.columns.names
            for name in hdu.columns.names:
                expected = np.asarray(hdu.data[name])
                values = table.column(name)
                if values.dtype.kind == "S":
                    texts = np.char.rstrip(np.char.decode(values, "ascii"))
                    assert texts.tolist() == np.char.rstrip(expected).tolist(), name
                    continue
                native = expected.astype(expected.dtype.newbyteorder("="))
                assert values.dtype == native.dtype, name
                assert values.tobytes() == native.tobytes(), name


@pytest.mark.proof
def test_mock_files_read_as_astropy_reads_them(mock_survey: Path) -> None:
    paths = sorted(mock_survey.rglob("*.fits"))
    assert len(paths) >= 150
    for path in paths[::7]:
        same_as_astropy(path)


@pytest.mark.proof
def test_real_files_read_as_astropy_reads_them(real_spectra: Path) -> None:
    paths = sorted((real_spectra / "sdss").rglob("*.fits"))
    assert len(paths) == 93
    for path in paths:
        same_as_astropy(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a FITS file"),
        (b"\x89PNG" * 1000, "not a FITS file"),
        (b"SIMPLE  =                    T" + b" " * 50, "no END"),
    ],
)
def test_bytes_that_are_no_fits_are_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(BadFile, match=reason):
        read_tables(data, 2)


def test_a_file_cut_off_anywhere_is_refused(mock_survey: Path) -> None:
    data = next(mock_survey.rglob("spec-*.fits")).read_bytes()
    _, tables = read_tables(data, 2)
    size = sum(table.layout.size for table in tables)
    for stop in range(0, size, 7919):
        with pytest.raises(BadFile):
            read_tables(data[:stop], 2)


def test_an_image_extension_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "image.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((3, 3)))]).writeto(path)
    with pytest.raises(BadFile, match="binary table"):
        read_tables(path.read_bytes(), 1)


def test_all_column_types_and_a_heap_are_stepped_over(tmp_path: Path) -> None:
    path = tmp_path / "all.fits"
    columns = [
        fits.Column("flag", "L", array=[True, False]),
        fits.Column("bits", "11X", array=np.ones((2, 11), bool)),
        fits.Column("byte", "B", array=[1, 255]),
        fits.Column("short", "I", array=[-5, 7]),
        fits.Column("ushort", "I", bzero=2**15, array=np.array([1, 65535], "u2")),
        fits.Column("ulong", "K", bzero=2**63, array=np.array([1, 2**64 - 1], "u8")),
        fits.Column("vector", "3E", array=np.arange(6.0).reshape(2, 3)),
        fits.Column("text", "5A", array=["ab", "it's"]),
        fits.Column("heap", "PD()", array=np.array([np.arange(3.0), np.arange(9.0)], object)),
        fits.Column("complex", "C", array=[1 + 2j, 3j]),
    ]
    first = fits.BinTableHDU.from_columns(columns)
    second = fits.BinTableHDU.from_columns([fits.Column("after", "D", array=[np.pi])])
    fits.HDUList([fits.PrimaryHDU(np.zeros((7, 5), "i2")), first, second]).writeto(path)
    _, (one, two) = read_tables(path.read_bytes(), 2)
    assert one.column("ushort").tolist() == [1, 65535]
    assert one.column("ulong").tolist() == [1, 2**64 - 1]
    assert one.column("vector").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert one.column("text").tolist() == [b"ab", b"it's"]
    assert two.column("after").tolist() == [np.pi]
