"""Cells of one's own tables without a value: TNULL of FITS, empty cells and words of text files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import command
from serving import serve
from specserver.catalog.tables.tablefile import read_table
from specserver.client.api import SpecClient
from specserver.client.inputs.positions import read_positions
from specserver.errors import BadFile
from specserver.ops.fitsnulls import table_column
from specserver.surveys.anyfile import ReadSpectrum, read_file
from specserver.surveys.declaration import FileDefaults, NamedVectors

NPIX = 40
WAVE = 4000.0 + np.arange(NPIX)
SAID: dict[str, Any] = {"wave_unit": "Angstrom", "flux_unit": "Jy"}
NULL = -99


def read(path: Path, spread: str = "ivar", **said: Any) -> ReadSpectrum:
    """Return the one spectrum of a file whose columns are named."""
    named = NamedVectors("flux", "wave", **{spread: "spread"})
    (found,) = read_file(path, FileDefaults(vectors=named, **SAID | said))
    return found


def whole(gone: int, kind: str = "i2") -> np.ndarray:
    """Return whole numbers of which one is undefined."""
    return np.where(np.arange(NPIX) == gone, NULL, np.arange(NPIX) + 1).astype(kind)


def write(path: Path, columns: list[fits.Column], kind: type = fits.BinTableHDU, **cards: Any):
    """Write a FITS table, with cards put beside its values as stored."""
    hdu = kind.from_columns(columns)
    hdu.header.update(cards)
    hdu.writeto(path, overwrite=True)
    return path


def column(name: str, code: str, values: np.ndarray, layout: str, null: Any = None) -> fits.Column:
    """Return a column of pixels, or of one vector in a cell."""
    if layout == "pixels":
        return fits.Column(name, code, array=values, null=null)
    if layout == "vector":
        return fits.Column(name, f"{NPIX}{code}", array=values[None], null=null)
    held = np.empty(1, object)
    held[0] = values
    return fits.Column(name, f"P{code}()", array=held, null=null)


@pytest.mark.parametrize("layout", ["pixels", "vector", "any length"])
@pytest.mark.parametrize("spread", ["ivar", "error"])
def test_undefined_numbers_of_fits_are_no_values(tmp_path: Path, layout: str, spread: str) -> None:
    columns = [
        ("wave", "D", WAVE, None), ("flux", "I", whole(10), NULL), ("spread", "J", whole(20), NULL),
        ("mask", "I", np.where(np.arange(NPIX) == 30, 1, whole(25) * 0), 0),
    ]  # fmt: skip
    made = [column(name, kind, values, layout, null) for name, kind, values, null in columns]
    found = read(write(tmp_path / "a.fits", made), spread)
    expected = np.where(np.arange(NPIX) == 10, np.nan, np.arange(NPIX) + 1.0)
    assert np.array_equal(found.flux, expected, equal_nan=True)
    stated = np.arange(NPIX) + 1.0
    ivar = stated if spread == "ivar" else 1 / stated**2
    lost = np.nan if spread == "ivar" else 0.0
    assert found.ivar is not None
    assert np.array_equal(found.ivar, np.where(np.arange(NPIX) == 20, lost, ivar), equal_nan=True)
    # An error that is not known is no reason to mask, nor is an undefined flag.
    assert np.flatnonzero(found.mask).tolist() == ([10, 20, 30] if spread == "ivar" else [10, 30])


@settings(max_examples=40)
@given(
    st.lists(st.integers(-9, 9), min_size=1, max_size=20),
    st.sampled_from(["B", "I", "J", "K"]),
    st.sampled_from([(1, 0), (0.1, 3.0), (2.0, -9), (1, 2**15), (1, 2**31)]),
)
def test_tnull_is_of_the_stored_numbers(
    tmp_path_factory: pytest.TempPathFactory,
    stored: list[int],
    code: str,
    scale: tuple[float, float],
) -> None:
    kind = {"B": "u1", "I": "i2", "J": "i4", "K": "i8"}[code]
    values = np.array([abs(value) if code == "B" else value for value in stored], kind)
    path = tmp_path_factory.mktemp("t") / "a.fits"
    write(path, [column("n", code, values, "pixels", 3)], TSCAL1=scale[0], TZERO1=scale[1])
    if code == "K" and scale[1]:
        # astropy fails at them.
        with (
            fits.open(path) as hdus,
            pytest.raises(BadFile, match="TZERO that astropy does not read"),
        ):
            table_column(hdus[1], "n")
        with pytest.raises(BadFile, match="not a readable table"):
            read_table(path)
        return
    with fits.open(path) as hdus:
        found = table_column(hdus[1], "n")
        assert np.array_equal(np.ma.getmaskarray(found), values == 3)
        plain = np.ma.compressed(found).astype(np.float64)
    kept = values[values != 3].astype(np.float64)
    assert np.array_equal(plain, kept * scale[0] + scale[1])
    listed = read_table(path).table.column("n").to_pylist()
    assert [value is None for value in listed] == (values == 3).tolist()


def test_scaled_flux_is_undefined_where_the_stored_number_is(tmp_path: Path) -> None:
    columns = [
        fits.Column("wave", "D", array=WAVE), fits.Column("flux", "I", array=whole(10), null=NULL),
        fits.Column("spread", "D", array=np.ones(NPIX)),
    ]  # fmt: skip
    path = write(tmp_path / "a.fits", columns, TSCAL2=0.1, TZERO2=3.0)
    found = read(path)
    assert np.flatnonzero(np.isnan(found.flux)).tolist() == [10]
    assert np.flatnonzero(found.mask).tolist() == [10]
    with fits.open(path) as hdus:
        stated = hdus[1].data["flux"]
    assert np.array_equal(np.delete(found.flux, 10), np.delete(stated, 10))


def test_undefined_wavelengths_are_refused(tmp_path: Path) -> None:
    others = [
        fits.Column("flux", "D", array=WAVE), fits.Column("spread", "D", array=np.ones(NPIX))
    ]  # fmt: skip
    wave = fits.Column("wave", "I", array=whole(10) + 4000, null=NULL + 4000)
    with pytest.raises(BadFile, match="column wave has none at pixel 11"):
        read(write(tmp_path / "a.fits", [wave, *others]))
    (tmp_path / "a.csv").write_text("wave,flux,spread\n4000,1,1\n,1,1\n4002,1,1\n")
    with pytest.raises(BadFile, match="column wave has none at pixel 2"):
        read(tmp_path / "a.csv")


def test_scaled_arrays_of_any_length_are_refused(tmp_path: Path) -> None:
    """Astropy reads the first as whole numbers and does not scale the others."""
    made = [
        column(name, code, values, "any length")
        for name, code, values in (
            ("wave", "D", WAVE), ("flux", "I", whole(-1)), ("spread", "D", WAVE)
        )
    ]  # fmt: skip
    path = write(tmp_path / "a.fits", made)
    assert np.array_equal(read(path).flux, np.arange(NPIX) + 1.0)
    write(path, made, TSCAL2=0.5)
    with pytest.raises(BadFile, match="column flux has arrays of any length, which TSCAL"):
        read(path)


EMPTY = {5: "", 7: "nan", 9: "--", 11: "N/A", 13: "null", 15: "5e-324"}


@pytest.mark.parametrize("gone", [{5: ""}, {5: "", 7: "nan"}, {9: "--"}, {15: "5e-324"}, EMPTY])
def test_text_without_a_number_is_no_value(tmp_path: Path, gone: dict[int, str]) -> None:
    rows = [f"{wave},{gone.get(at, '1.1')},{at + 1}" for at, wave in enumerate(WAVE)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["wave,flux,spread", *rows]))
    found = read(path)
    lost = sorted(set(gone) - {15})
    assert np.flatnonzero(np.isnan(found.flux)).tolist() == lost
    assert np.flatnonzero(found.mask).tolist() == lost
    kept = [5e-324 if at in gone else 1.1 for at in range(NPIX) if at not in lost]
    assert found.flux[~np.isnan(found.flux)].tolist() == kept


@pytest.mark.parametrize("text", ["1.5 (bad)", "1_5", str(2**60 + 1), "1" * 23, "1" * 400])
def test_text_that_is_no_number_is_refused_with_its_row(tmp_path: Path, text: str) -> None:
    rows = [f"{wave},{text if at == 6 else '--'},1" for at, wave in enumerate(WAVE)]
    (tmp_path / "a.csv").write_text("\n".join(["wave,flux,spread", *rows]))
    with pytest.raises(BadFile) as raised:
        read(tmp_path / "a.csv")
    assert f"column flux has '{text}' in row 7" in str(raised.value)


@pytest.mark.proof
def test_masked_columns_of_ecsv_are_served_without_values(tmp_path: Path) -> None:
    folder = tmp_path / "spectra"
    folder.mkdir()
    table = Table({"wave": WAVE, "flux": WAVE / 2, "ivar": np.ones(NPIX)}, masked=True)
    table["flux"].unit, table["wave"].unit = "Jy", "Angstrom"
    table["flux"].mask[5] = table["ivar"].mask[6] = True
    table.write(folder / "a.ecsv")
    columns = [
        fits.Column("id", "J", array=[7, 8]), fits.Column("file", "A1", array=["a", "b"]),
        fits.Column("z", "I", array=[NULL, 5], null=NULL), fits.Column("ra", "E", array=[1, 2]),
        fits.Column("dec", "I", array=[NULL, 5], null=NULL),
    ]  # fmt: skip
    targets = write(tmp_path / "targets.fits", columns, TSCAL3=0.1, TZERO3=3.0, TZERO5=2.0)
    table.write(folder / "b.ecsv")
    data = tmp_path / "data"
    given_ = ("ingest", "mine", folder, "--data", data, "--workers", 1)
    command(*given_, "--reader", "specutils", "--catalog", targets)
    with serve(data, folder) as running:
        client = SpecClient("mine", svc_url=running.url)
        found = client.getSpec("a")
        rows = client.query(constraint="z IS NULL", fields="id,dec", fmt="pandas")
        assert rows["id"].tolist() == [7]
        assert rows["dec"].isna().all()
    assert np.flatnonzero(np.isnan(found["flux"])).tolist() == [5]
    assert np.flatnonzero(np.isnan(found["ivar"])).tolist() == [6]
    assert np.flatnonzero(found["mask"]).tolist() == [5, 6]
    assert np.array_equal(np.delete(found["flux"], 5), np.delete(WAVE / 2, 5))


def test_undefined_cells_of_catalogues_and_positions_are_missing(tmp_path: Path) -> None:
    stored = np.array([1, NULL, 3], "i2")
    plain = {"ra": 5.0 + np.arange(3), "id": np.array([7, NULL, 9]), "n": stored}
    columns = [
        fits.Column("ra", "D", array=plain["ra"]),
        fits.Column("dec", "I", array=stored, null=NULL),
        fits.Column("id", "K", array=plain["id"], null=NULL),
    ]
    binary = write(tmp_path / "a.fits", columns, TSCAL2=0.1, TZERO2=3.0)
    written = [
        fits.Column("ra", "F8.1", array=plain["ra"]),
        fits.Column("dec", "I4", array=stored, null=str(NULL)),
        fits.Column("id", "I4", array=plain["id"], null=str(NULL)),
    ]
    text = write(tmp_path / "b.fits", written, fits.TableHDU)
    for path in (binary, text):
        table = read_table(path).table
        assert [value is None for value in table.column("dec").to_pylist()] == [False, True, False]
        assert table.column("id").to_pylist() == [7, None, 9]
        ra, dec = read_positions(path)
        assert np.array_equal(ra, plain["ra"])
        assert np.isnan(dec).tolist() == [False, True, False]
