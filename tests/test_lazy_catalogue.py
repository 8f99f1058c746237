"""The catalogue beside lazy arrays: its media, its missing values, and what files keep of it."""

import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xarray as xr
from astropy.io import fits

import specserver
from commands import command
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from test_ingest_hats import FLUX, UNIT, WAVE, multimodal, write_partition

BEYOND = 2**53 + 1
"""An identifier that no float64 holds."""


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """A catalogue of others, with missing values in its columns."""
    folder = tmp_path_factory.mktemp("theirs")
    columns = multimodal(FLUX) | {
        "parent": pa.array([BEYOND, None, -BEYOND]),
        "bits": pa.array([2**64 - 2, None, BEYOND], pa.uint64()),
        "is_good": pa.array([True, None, False]),
    }
    given = "--reader", "hats", "--data", folder / "data", "--flux-unit", UNIT
    command("ingest", "theirs", write_partition(folder, columns), *given)
    return specserver.open(folder / "data").to_xarray("theirs", off_lattice=True)


# --- media -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("media", "said"),
    [
        (("air", "air"), "air"),
        (("air", "vacuum"), "as the coordinate medium says"),
        (("", "air"), "as the coordinate medium says"),
        (("", ""), "unknown"),
    ],
)
def test_the_medium_of_ones_own_files_is_stated(
    tmp_path: Path, media: tuple[str, ...], said: str
) -> None:
    for number, medium in enumerate(media):
        columns = [
            fits.Column("wave", "D", "Angstrom", array=WAVE),
            fits.Column("flux", "D", "Jy", array=WAVE / 1000),
        ]
        hdu = fits.BinTableHDU.from_columns(columns)
        if medium:
            hdu.header["AIRORVAC"] = medium
        hdu.writeto(tmp_path / f"a{number}.fits")
    data, files = tmp_path / "data", sorted(tmp_path.glob("*.fits"))
    declare(open_root(data), "own", files, SurveyOptions())
    run_ingest(open_root(data), "own", files, workers=1)
    dataset = specserver.open(data).to_xarray("own", columns=["z"], off_lattice=True)
    assert dataset.wavelength.attrs["medium"] == said
    assert sorted(dataset.medium.to_numpy()) == sorted(medium or "unknown" for medium in media)
    none = specserver.open(data).to_xarray("own", constraint="z > 90", off_lattice=True)
    assert none.wavelength.attrs["medium"] == "unknown"


def test_the_medium_of_a_catalogue_of_others_is_stated(theirs: xr.Dataset) -> None:
    assert theirs.wavelength.attrs["medium"] == "unknown"
    assert set(theirs.medium.to_numpy()) == {"unknown"}


# --- missing values, and files -----------------------------------------------------------------


def test_missing_values_are_told(theirs: xr.Dataset) -> None:
    parent, marks, good = (theirs[name] for name in ("parent", "bits", "is_good"))
    assert parent.to_numpy().tolist() == [BEYOND, parent.attrs["null_value"], -BEYOND]
    assert marks.to_numpy().tolist() == [2**64 - 2, marks.attrs["null_value"], BEYOND]
    # A mask stays a mask: as the numbers 1, -1 and 0 it would choose other rows.
    assert theirs.isel(spectrum=good.to_numpy()).parent.to_numpy().tolist() == [BEYOND]
    assert good.attrs["comment"] == "false also for 1 spectra without a value"
    assert "comment" not in theirs.is_best.attrs


@pytest.mark.proof
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("source", ["sdss", "theirs"])
def test_files_keep_the_bits_of_the_catalogue(
    source: str, zarr_format: int, tmp_path: Path, mock_data: Path, theirs: xr.Dataset
) -> None:
    """Readers follow CF, and make integers floats if an attribute says which one is missing."""
    dataset = theirs if source == "theirs" else specserver.open(mock_data).to_xarray()
    path, whole = tmp_path / "set.zarr", dataset.reset_index([*dataset.indexes])
    with warnings.catch_warnings():
        # The encoding of texts of a fixed length has no specification yet.
        warnings.simplefilter("ignore")
        whole.to_zarr(path, zarr_format=zarr_format, consolidated=False)
        found = xr.open_zarr(path, consolidated=False).load()
    assert set(found.variables) == set(whole.variables)
    for name, values in whole.variables.items():
        assert found[name].dtype == values.dtype, name
        assert found[name].attrs == values.attrs, name
        assert np.array_equal(found[name], values, equal_nan=values.dtype.kind == "f"), name
