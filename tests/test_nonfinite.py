"""Flux and ivar that are no finite numbers, or negative: as they are in arrays, used nowhere."""

import shutil
import warnings
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from matplotlib import pyplot as plt
from PIL import Image

from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.model.grid import LogLinear
from specserver.ops.indices import INDICES, line_index
from specserver.render.display import DisplaySpectrum
from specserver.render.style import flux_limits
from test_resample import resample

BAD = slice(2000, 2040)
FLUX = np.array([np.nan, np.inf, -np.inf, 1.0, 1.0, 1.0, 1.0, np.nan] * 5, "f4")
IVAR = np.array([1.0, 1.0, 1.0, np.nan, np.inf, -np.inf, -1.0, np.inf] * 5, "f4")


@pytest.fixture(scope="module")
def odd(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Two spectra with all kinds of such values, on the lattice and off it, and one without."""
    folder = tmp_path_factory.mktemp("odd")
    for number, original in enumerate(sorted(mock_survey.rglob("spec-*.fits"))[:3]):
        path = Path(shutil.copy(original, folder))
        with fits.open(path, memmap=False) as hdus:
            names = {one.lower(): one for one in hdus[1].columns.names}
            if number:
                hdus[1].data[names["flux"]][BAD] = FLUX
                hdus[1].data[names["ivar"]][BAD] = IVAR
            if number == 2:
                hdus[1].data[names["loglam"]] += np.float32(3.3e-5)
            hdus.writeto(path, overwrite=True)
    data = tmp_path_factory.mktemp("odd-data")
    run_ingest(open_root(data), "sdss_dr17", [folder], workers=1)
    with serve(data, folder) as running:
        yield running


@pytest.fixture(scope="module")
def spec(odd: Served) -> SpecClient:
    return SpecClient(svc_url=odd.url)


@pytest.fixture(scope="module")
def ids(spec: SpecClient) -> list[int]:
    """One that is whole, one on the lattice with odd values, one off it."""
    found = [int(one) for one in spec.query(constraint="specobjid > 0", primary=False)]
    records = {one: spec.getSpec(one) for one in found}
    whole = [one for one, record in records.items() if np.isfinite(record["ivar"]).all()]
    others = [one for one in found if one not in whole]
    steps = {one: float(records[one]["loglam"][0]) * 1e4 % 1 for one in others}
    return whole + sorted(others, key=lambda one: min(steps[one], 1 - steps[one]))


def test_arrays_have_every_bit(spec: SpecClient, ids: list[int]) -> None:
    for one in ids[1:]:
        record = spec.getSpec(one)
        assert record["flux"][BAD].tobytes() == FLUX.tobytes()
        assert record["ivar"][BAD].tobytes() == IVAR.tobytes()
    # Put side by side by whole pixels they are still as published.
    aligned = spec.getSpec(ids[:2], align=True)
    assert np.isnan(aligned["flux"][1]).any()


def test_resampled_they_have_no_weight(spec: SpecClient, ids: list[int]) -> None:
    cube = spec.getSpec(ids, align="resample")
    assert np.isfinite(cube["flux"]).all()
    assert np.isfinite(cube["ivar"]).all()
    assert (cube["ivar"] >= 0).all()
    for row, one in zip(cube[1:], ids[1:], strict=True):
        record = spec.getSpec(one)
        low, high = record["loglam"][BAD][[1, -2]].astype(float)
        inside = (row["loglam"] >= low) & (row["loglam"] <= high)
        assert inside.sum() >= 36
        assert not row["ivar"][inside].any()
        beside = (row["loglam"] > high + 3e-4) & (row["loglam"] < high + 6e-3)
        assert row["ivar"][beside].all() == record["ivar"][BAD.stop + 2 : BAD.stop + 50].all()
    # What is whole stays as it was.
    good = cube["ivar"][0] > 0
    record = spec.getSpec(ids[0])
    assert np.array_equal(cube["flux"][0][good], record["flux"][record["ivar"] > 0])


@pytest.mark.parametrize("method", ["mean", "median", "ivar"])
@pytest.mark.parametrize("clip", [None, 3.0])
def test_composites_leave_them_out(
    spec: SpecClient, ids: list[int], method: Any, clip: float | None
) -> None:
    wave = 10.0 ** spec.getSpec(ids[1])["loglam"][BAD].astype(float)
    made = spec.stack(ids[1:2], frame="observed", method=method, sigma_clip=clip)
    here = np.searchsorted(made.wavelength, wave + 0.01) - 1
    assert not made.count[here].any()
    assert np.isfinite(made.flux[made.count > 0]).all()
    assert np.isfinite(made.error[made.count > 0]).all()
    whole = spec.stack(ids, z=0.1, method=method, sigma_clip=clip)
    assert (whole.count <= 3).all()
    assert np.isfinite(whole.flux[whole.count > 0]).all()
    assert np.isfinite(whole.error[whole.count > 0]).all()


def test_line_indices_leave_them_out(spec: SpecClient, ids: list[int]) -> None:
    index = INDICES["H_beta"]
    wave = 10.0 ** (np.arange(35800, 39000) * 1e-4)
    flux, ivar = np.ones(len(wave)), np.ones(len(wave))
    at = np.searchsorted(wave, 4860.0)
    for name, value in (("flux", np.nan), ("ivar", np.nan), ("ivar", np.inf), ("ivar", -1.0)):
        values = {"flux": flux.copy(), "ivar": ivar.copy()}
        values[name][at] = value
        expected = line_index(wave, flux, np.where(np.arange(len(wave)) == at, 0, ivar), 0.0, index)
        assert line_index(wave, values["flux"], values["ivar"], 0.0, index) == expected


def test_pictures_are_those_of_bad_pixels(spec: SpecClient, ids: list[int]) -> None:
    for one in ids:
        assert spec.preview(one, fmt="raw")[:4] == b"\x89PNG"
    assert spec.plotGrid(ids, 2, 2, fmt="raw")[:4] == b"\x89PNG"
    assert np.isnan(spec.stackedImage(ids, fmt="numpy")).any()
    picture = np.asarray(
        Image.open(BytesIO(spec.stackedImage(ids[1:2], fmt="raw", scale=1))).convert("L")
    )
    # What is no number is black, and so is infinite flux; brightness is that of the rest.
    shown = picture[0, BAD].reshape(5, 8)
    assert not shown[:, [0, 1, 2, 7]].any()
    assert len(np.unique(picture)) > 50
    # With several spectra in a row of the picture.
    small = spec.stackedImage(ids[1:] * 3, fmt="raw", height=2, width=500)
    assert len(np.unique(np.asarray(Image.open(BytesIO(small)).convert("L")))) > 20


@pytest.mark.proof
def test_figures_and_pages_are_those_of_bad_pixels(
    spec: SpecClient, ids: list[int], tmp_path: Path
) -> None:
    plt.switch_backend("agg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec.plot(ids[1], rest_frame=False, values="flux,model,noise,sky,ivar")
        (line,) = [one for one in plt.gcf().axes[0].lines if one.get_label() == "flux"]
        assert np.isnan(line.get_ydata()[BAD]).all()
        assert np.isfinite(plt.gcf().axes[0].get_ylim()).all()
        spec.plot(ids[1:], scale="median", rest_frame=False)
        assert np.isfinite(plt.gcf().axes[0].get_ylim()).all()
        plt.close("all")
        spec.prospect(ids, out=tmp_path / "page.html")
    assert (tmp_path / "page.html").stat().st_size > 1e5


def test_limits_are_those_of_what_is_known() -> None:
    flux, ivar = np.ones(100, "f4"), np.ones(100, "f4")
    flux[:40], ivar[:40] = FLUX, IVAR
    model = np.full(100, np.nan)
    model[50:] = 1.5
    spectrum = DisplaySpectrum(np.arange(100.0), flux, ivar, model)
    low, high = flux_limits(spectrum)
    assert -0.2 < low < 0
    assert 1.5 < high < 1.8
    weights = spectrum.weights
    assert weights.dtype == np.float32
    assert not weights[:40].any()
    assert weights[40:].all()
    assert not DisplaySpectrum(np.arange(100.0), flux).weights[:3].any()


def test_resample_of_one() -> None:
    record = np.zeros(40, [("flux", "f4"), ("ivar", "f4")])
    record["flux"], record["ivar"] = FLUX, IVAR
    _, fields = resample(record, 4000 + 0.3 * np.arange(40.0), LogLinear(1e-4))
    assert not fields["flux"].any()
    assert not fields["ivar"].any()
