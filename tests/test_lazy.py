"""Whole releases as lazy arrays: equal to what the service answers, and read only when computed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import xarray as xr
from astropy.io import fits
from dask.distributed import Client, LocalCluster

import specserver
from commands import command
from serving import Served
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadParameter, NoCatalog, StoreError, UnknownContext, UnknownField
from specserver.ingest import run_ingest
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from specserver.lazy import DataFolder
from specserver.model.region import cone
from specserver.service import QueryRequest, SpectroscopicService
from specserver.simulate import simulate_desi
from specserver.store.zarr import Segment
from stored import flip_chunks

VECTORS = ["flux", "ivar", "and_mask", "or_mask", "wdisp", "sky", "model"]
SHIFT = np.float32(3.3e-5)


@pytest.fixture(scope="module")
def folder(mock_data: Path) -> DataFolder:
    return specserver.open(mock_data)


@pytest.fixture(scope="module")
def dataset(folder: DataFolder) -> xr.Dataset:
    return folder.to_xarray("sdss_dr17")


@pytest.fixture(scope="module")
def many(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of three segments."""
    data = tmp_path_factory.mktemp("many") / "data"
    files = sorted(mock_survey.rglob("spec-*.fits*"))
    for part in (files[:50], files[50:60], files[60:]):
        run_ingest(open_root(data), "sdss_dr17", part, workers=1)
    return data


@pytest.fixture(scope="module")
def mixed(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A data folder with three spectra on the lattice and two off it, and the files of these."""
    files = tmp_path_factory.mktemp("mixed")
    shifted = []
    for number, original in enumerate(sorted(mock_survey.rglob("spec-*.fits"))[:5]):
        path = Path(shutil.copy(original, files))
        if number % 2:
            with fits.open(path, memmap=False) as hdus:
                name = next(one for one in hdus[1].columns.names if one.lower() == "loglam")
                hdus[1].data[name] += SHIFT
                hdus.writeto(path, overwrite=True)
            shifted.append(path)
    data = tmp_path_factory.mktemp("mixed-data")
    run_ingest(open_root(data), "sdss_dr17", [files], workers=1)
    return data, shifted


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of spectra that are made of three arms."""
    folder = tmp_path_factory.mktemp("arms")
    simulate_desi(folder / "mock", 40, seed=3)
    run_ingest(open_root(folder / "data"), "desi_dr1", [folder / "mock"], workers=1)
    return folder / "data"


def same(one: Any, other: Any) -> bool:
    """Whether arrays are equal bit for bit, NaN included."""
    one, other = np.ascontiguousarray(one), np.ascontiguousarray(other)
    return (
        one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()
    )


# --- values ------------------------------------------------------------------------------------


def aligned(data: Path, ids: Any) -> tuple[Any, Any]:
    """Return the window and the records of aligned spectra, as the service reads them."""
    service = SpectroscopicService(open_root(data))
    window, _, blocks = service.read_aligned(service.resolve(ids.tolist(), "sdss_dr17"))
    return window, np.concatenate(list(blocks))


@pytest.mark.proof
@pytest.mark.parametrize("source", ["mock_data", "many", "real_data"])
def test_values_are_those_of_aligned_answers(source: str, request: pytest.FixtureRequest) -> None:
    data = request.getfixturevalue(source)
    dataset = specserver.open(data).to_xarray("sdss_dr17")
    window, records = aligned(data, dataset.specobjid.to_numpy())
    assert list(dataset.data_vars) == VECTORS
    assert dataset.attrs["first_pixel"] == window.first
    assert dataset.sizes == {"spectrum": len(records), "pixel": window.count}
    for name in VECTORS:
        assert same(dataset[name].to_numpy(), records[name])


@pytest.mark.parametrize("vectors", [None, ["flux_b", "ivar_b"], ["flux", "mask_r"]])
def test_parts_of_spectra_are_those_of_aligned_answers(
    arms: Path, vectors: list[str] | None
) -> None:
    """Vectors that cover a part of the lattice; identifiers of which some name several spectra."""
    dataset = specserver.open(arms).to_xarray("desi_dr1", vectors)
    ids, times = np.unique(dataset.targetid, return_counts=True)
    assert 0 < (times > 1).sum() < len(ids)
    assert "targetid" not in dataset.indexes
    some = dataset.isel(spectrum=np.isin(dataset.targetid, ids[times == 1]))
    service = SpectroscopicService(open_root(arms))
    selection = service.resolve(some.targetid.to_numpy().tolist(), "desi_dr1")
    window, _, blocks = service.read_aligned(selection, vectors)
    records = np.concatenate(list(blocks))
    assert dataset.sizes["pixel"] == window.count
    assert same(some.wavelength.to_numpy(), selection.grid.wave(window.first, window.count))
    for name in vectors or ["flux", "ivar", "mask"]:
        assert same(some[name].to_numpy(), records[name])


def test_values_are_those_of_get_spec(served: Served, dataset: xr.Dataset) -> None:
    some = dataset.isel(spectrum=[140, 3, 17, 18])
    ids = some.specobjid.to_numpy()
    records = SpecClient(svc_url=served.url).getSpec(ids, align=True)
    wave = 10.0 ** records["loglam"][0].astype(np.float64)
    at = int(np.abs(dataset.wavelength.to_numpy() - wave[0]).argmin())
    cut = some.isel(pixel=slice(at, at + len(wave)))
    assert np.allclose(cut.wavelength, wave, rtol=1e-6)
    for name in VECTORS:
        assert same(cut[name].to_numpy(), records[name])


def test_the_catalogue_is_beside_the_spectra(many: Path) -> None:
    dataset = specserver.open(many).to_xarray()
    service = SpectroscopicService(open_root(many))
    names = list(service.archive.open_release("default").catalog.columns)
    table = service.query(QueryRequest(fields=tuple(names), primary=False))
    place = {number: row for row, number in enumerate(table["specobjid"].to_pylist())}
    rows = [place[number] for number in dataset.specobjid.to_numpy().tolist()]
    assert set(names) < set(dataset.coords)
    for name in names:
        blank = "" if table[name].type == "string" else np.nan
        blank = dataset[name].attrs.get("null_value", blank)
        values = table[name].to_pylist()
        expected = np.array([blank if values[row] is None else values[row] for row in rows])
        np.testing.assert_array_equal(dataset[name].to_numpy(), expected, name)
    bits = dataset.eboss_target1
    assert bits.dtype == np.int64
    assert (bits == bits.attrs["null_value"]).any()


def test_rows_are_in_the_order_of_the_store(many: Path) -> None:
    dataset = specserver.open(many).to_xarray()
    stored = [
        xr.open_zarr(path, consolidated=False)["id"].to_numpy()
        for path in sorted(many.glob("sdss_dr17/seg-*/cube.zarr"))
    ]
    assert len(stored) == 3
    assert same(dataset.specobjid.to_numpy(), np.concatenate(stored))


# --- form --------------------------------------------------------------------------------------


def test_it_says_of_what_its_values_are(dataset: xr.Dataset) -> None:
    for name in {*dataset.coords, *dataset.data_vars}:
        assert "" not in {dataset[name].attrs.get("units"), dataset[name].attrs.get("long_name")}
    assert dataset.flux.attrs["units"] == "1e-17 erg / (s cm2 Angstrom)"
    assert dataset.wavelength.attrs["units"] == "Angstrom"
    assert dataset.wavelength.attrs["medium"] == "vacuum"
    assert dataset.ra.attrs["units"] == dataset.dec.attrs["units"] == "deg"
    assert dataset.specobjid.dtype == np.uint64
    assert dataset["class"].dtype.kind == "U"
    assert dataset.attrs["context"] == "sdss_dr17"
    assert dataset.attrs["release"] == "SDSS Data Release 17"
    assert "vacuum" in dataset.attrs["frame"]
    assert dataset.attrs["flux_unit"] == dataset.flux.attrs["units"]
    pixels = np.arange(dataset.sizes["pixel"]) + dataset.attrs["first_pixel"]
    assert same(dataset.wavelength.to_numpy(), np.power(10.0, pixels * 1e-4))


def test_spectra_are_chosen_by_coordinate(dataset: xr.Dataset) -> None:
    number = int(dataset.specobjid[7])
    assert same(dataset.sel(specobjid=number).flux.to_numpy(), dataset.flux[7].to_numpy())
    cut = dataset.sel(wavelength=slice(6500, 6600))
    assert 6500 <= cut.wavelength.min() < cut.wavelength.max() <= 6600
    quasars = dataset.isel(spectrum=(dataset["class"] == "QSO").to_numpy())
    assert 0 < quasars.sizes["spectrum"] < dataset.sizes["spectrum"]
    assert set(quasars["class"].to_numpy()) == {"QSO"}
    bright = dataset.flux[dataset.sn_median > dataset.sn_median.median()]
    assert bright.shape[0] < dataset.sizes["spectrum"]
    assert np.isfinite(bright.mean("spectrum").to_numpy()).all()


def test_any_slice_is_that_of_the_whole(many: Path) -> None:
    flux = specserver.open(many).to_xarray(vectors=["flux"]).flux
    whole = flux.to_numpy()
    mask = np.arange(len(whole)) % 7 == 3
    for index in (
        np.s_[5],
        np.s_[-1, 100:200],
        np.s_[::-3, ::-50],
        np.s_[48:62, 7],
        np.s_[10:10],
        np.s_[:, 30:30],
        np.s_[[70, 2, 2, 51]],
        np.s_[[3, 55], 10:20:3],
        np.s_[mask, 4],
    ):
        assert same(flux[index].to_numpy(), whole[index])


def test_vectors_and_columns_are_chosen_by_name(folder: DataFolder) -> None:
    dataset = folder.to_xarray(vectors=["ivar", "FLUX"], columns=["snmedian"])
    assert list(dataset.data_vars) == ["flux", "ivar"]
    names = {"specobjid", "ra", "dec", "z", "class", "sn_median"}
    assert set(dataset.coords) == names | {"wavelength", "first", "count"}
    with pytest.raises(UnknownField, match="flux"):
        folder.to_xarray(vectors=["fluxes"])
    with pytest.raises(UnknownField, match="sn_median"):
        folder.to_xarray(columns=["sn_medain"])


def test_names_may_be_a_text(folder: DataFolder) -> None:
    listed = folder.to_xarray(vectors=["flux", "ivar"], columns=["plate", "mjd"])
    assert folder.to_xarray("sdss_dr17", "flux,ivar", columns="plate, mjd").identical(listed)
    assert list(folder.to_xarray("sdss_dr17", "flux").data_vars) == ["flux"]
    with pytest.raises(BadParameter, match="names as 'a,b', or in a list"):
        folder.to_xarray(vectors=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [(0, 95), 5, (1, 2, 3, 4)])
def test_a_cone_has_three_numbers(folder: DataFolder, wrong: Any) -> None:
    for ask in (folder.to_xarray, folder.stack):
        with pytest.raises(BadParameter, match=r"cone=\(ra, dec, radius\) in degrees"):
            ask(cone=wrong)


def test_contexts(folder: DataFolder, tmp_path: Path, mock_survey: Path) -> None:
    assert folder.contexts() == ["sdss_dr17"]
    with pytest.raises(UnknownContext, match=r"known here: sdss_dr17$"):
        folder.to_xarray("sdss_dr12")
    assert repr(folder) == f"<DataFolder {folder._path}: sdss_dr17 (150 spectra)>"
    html = folder._repr_html_()
    assert f"{folder._path}<table>" in html
    assert html.endswith("<td>150</td></tr></table>")
    empty = specserver.open(str(tmp_path))
    assert empty.contexts() == []
    assert repr(empty) == f"<DataFolder {tmp_path}: nothing>"
    command("tree", "add", "sdss_dr17", mock_survey, "--data", tmp_path)
    with pytest.raises(NoCatalog, match="original files"):
        specserver.open(tmp_path).to_xarray()


# --- lazy --------------------------------------------------------------------------------------


@pytest.fixture
def damaged(mock_data: Path, tmp_path: Path) -> Path:
    """A data folder whose fluxes cannot be read."""
    data = Path(shutil.copytree(mock_data, tmp_path / "data"))
    context = open_root(data).context("sdss_dr17")
    for segment in map(Segment, map(context.segment, context.segments())):
        flip_chunks(segment, "flux", range(segment.nspec))
    return data


def test_no_value_is_read_before_it_is_asked_for(damaged: Path) -> None:
    dataset = specserver.open(damaged).to_xarray()
    mean = dataset.flux.mean("spectrum")
    assert dask.is_dask_collection(mean)
    assert float(dataset.ivar.max()) > 0
    with pytest.raises(StoreError, match="float32"):
        mean.compute()


def test_a_chunk_is_a_shard(many: Path) -> None:
    """… or several that together have no more spectra."""
    folder = specserver.open(many)
    whole = folder.to_xarray(vectors=["flux"])
    assert whole.flux.chunks == ((150,), (whole.sizes["pixel"],))
    sizes = [
        xr.open_zarr(path, consolidated=False).sizes["spectrum"]
        for path in sorted(many.glob("sdss_dr17/seg-*/cube.zarr"))
    ]
    assert folder.to_xarray(chunk=100).flux.chunks[0] == (sizes[0] + sizes[1], sizes[2])
    small = folder.to_xarray(chunk=40, vectors=["flux"])
    assert small.flux.chunks[0] == (40, sizes[0] - 40 + sizes[1], 40, 40, sizes[2] - 80)
    assert same(small.flux.to_numpy(), whole.flux.to_numpy())
    few = folder.to_xarray(chunk=40, constraint="class = 'QSO'").flux
    assert max(few.chunks[0]) <= 40
    with pytest.raises(BadParameter, match="chunk"):
        folder.to_xarray(chunk=0)


@pytest.mark.proof
def test_a_cluster_of_processes_reads_for_itself(many: Path) -> None:
    spectra = specserver.open(many).to_xarray(vectors=["flux", "ivar"], constraint="z > 0.1")
    weighted = (spectra.flux * spectra.ivar).sum("spectrum") / spectra.ivar.sum("spectrum")
    # What is sent to the processes holds no values.
    assert len(dask.base.collections_to_expr([weighted]).__dask_graph__()) < 100
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
        ) as cluster,
        Client(cluster) as client,
    ):
        assert os.getpid() not in client.run(os.getpid).values()
        elsewhere = weighted.compute()
    here = weighted.compute(scheduler="synchronous")
    assert same(elsewhere.to_numpy(), here.to_numpy())


# --- some of the spectra -----------------------------------------------------------------------


def queried(data: Path, **given: Any) -> list[int]:
    """Return the identifiers that a query gives, ascending."""
    table = SpectroscopicService(open_root(data)).query(QueryRequest(**given))
    return sorted(table["specobjid"].to_pylist())


def test_conditions_and_regions_choose_rows(many: Path) -> None:
    folder = specserver.open(many)
    whole = folder.to_xarray()
    ra, dec = float(whole.ra[0]), float(whole.dec[0])
    for given, asked in (
        ({"constraint": "z between 0.2 and 1"}, {"constraint": "z between 0.2 and 1"}),
        ({"constraint": "snmedian > 3 order by z limit 9"},) * 2,
        ({"cone": (ra, dec, 3.0)}, {"region": cone(ra, dec, 3.0)}),
        ({"constraint": f"q3c_radial_query(ra, dec, {ra}, {dec}, 3.0) and z > 0.1"},) * 2,
        ({"primary": True}, {"primary": True}),
    ):
        dataset = folder.to_xarray(**given)
        expected = queried(many, **{"primary": False, **asked})
        assert 0 < len(expected) < 150
        assert sorted(dataset.specobjid.to_numpy().tolist()) == expected
        rows = whole.sel(specobjid=dataset.specobjid.to_numpy())
        first = dataset.attrs["first_pixel"] - whole.attrs["first_pixel"]
        cut = rows.isel(pixel=slice(first, first + dataset.sizes["pixel"]))
        assert same(dataset.ivar.to_numpy(), cut.ivar.to_numpy())
    with pytest.raises(BadParameter, match="position only once"):
        folder.to_xarray(constraint="q3c_radial_query(ra, dec, 1, 2, 3)", cone=(1, 2, 3))


def test_there_may_be_none(folder: DataFolder) -> None:
    dataset = folder.to_xarray(constraint="z > 1000")
    assert dataset.sizes == {"spectrum": 0, "pixel": 0}
    assert dataset.flux.to_numpy().shape == (0, 0)


# --- off the lattice ---------------------------------------------------------------------------


def test_spectra_off_the_lattice_are_told_of(mixed: tuple[Path, list[Path]]) -> None:
    data, _ = mixed
    with pytest.warns(UserWarning, match="2 of 5 spectra are off the lattice") as told:
        dataset = specserver.open(data).to_xarray()
    assert {record.filename for record in told} == {__file__}
    assert dataset.sizes["spectrum"] == 3
    assert dataset.attrs["left_out"] == 2
    _, records = aligned(data, dataset.specobjid.to_numpy())
    assert same(dataset.flux.to_numpy(), records["flux"])


def test_spectra_off_the_lattice_bring_their_axes(mixed: tuple[Path, list[Path]]) -> None:
    data, files = mixed
    dataset = specserver.open(data).to_xarray(vectors=["flux"], off_lattice=True)
    assert dataset.sizes["spectrum"] == dataset.attrs["left_out"] - 1 == 2
    for path in files:
        with fits.open(path) as hdus:
            number = int(hdus[2].data["SPECOBJID"][0])
            table = {name.lower(): hdus[1].data[name] for name in hdus[1].columns.names}
        one = dataset.sel(specobjid=number)
        count = int(one["count"])
        assert count == len(table["flux"])
        assert same(one.flux[:count].to_numpy(), table["flux"].astype("f4"))
        assert same(one.loglam[:count].to_numpy(), table["loglam"].astype("f4"))
        wave = 10.0 ** table["loglam"].astype(np.float64)
        assert np.allclose(one.wavelength[:count], wave, rtol=1e-12)
        assert np.isnan(one.wavelength[count:]).all()


def test_spectra_of_ones_own_files_bring_their_wavelengths_and_masks(tmp_path: Path) -> None:
    waves = [np.linspace(4000.3, 7000.1, 50), np.linspace(5000.7, 9000.2, 40)]
    for number, wave in enumerate(waves):
        marks = np.arange(len(wave)) == 7 + number
        columns = [
            fits.Column("wave", "D", "Angstrom", array=wave),
            fits.Column("flux", "D", "Jy", array=wave / 1000),
            fits.Column("dq", "I", array=marks.astype(np.int16)),
        ]
        fits.BinTableHDU.from_columns(columns).writeto(tmp_path / f"a{number}.fits")
    data, files = tmp_path / "data", sorted(tmp_path.glob("*.fits"))
    declare(open_root(data), "mine", files, SurveyOptions())
    run_ingest(open_root(data), "mine", files, workers=1)
    dataset = specserver.open(data).to_xarray("mine", off_lattice=True)
    assert dataset.sizes["spectrum"] == 2
    for name, rows in dataset.transpose("spectrum", "pixel").to_dataframe().groupby("name"):
        wave = waves[int(name[1])]
        assert same(rows.wavelength.to_numpy()[: len(wave)], wave)
        assert same(rows.flux.to_numpy()[: len(wave)], wave / 1000)
        assert np.flatnonzero(rows["mask"].to_numpy()).tolist() == [7 + int(name[1])]


# --- the package and its page ------------------------------------------------------------------


def test_importing_the_package_stays_light() -> None:
    code = "import sys, specserver; specserver.open; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "dask", "distributed", "xarray", "tensorstore", "duckdb", "pandas"}
    assert not heavy & {name.partition(".")[0] for name in done.stdout.split()}


def test_what_is_missing_is_named() -> None:
    code = "import sys, specserver; sys.modules['dask'] = None; specserver.open('x')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "pip install '.[dask]'" in done.stderr
