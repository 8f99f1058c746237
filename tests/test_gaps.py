"""Gaps in the wavelengths of a spectrum: nothing is made up in them, wherever pixels are laid."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt

from commands import command
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.model.grid import Linear, LogLinear
from specserver.ops.indices import LineIndex, line_index
from specserver.ops.pixels import find_gaps, pixel_edges
from specserver.render.display import DisplaySpectrum, with_gaps
from specserver.render.png.preview import preview_png
from specserver.render.png.rasterize import View, find_steps
from specserver.render.viewer.document import _store, viewer_html
from specserver.render.viewer.parts import Look
from test_resample import resample

GRID = LogLinear(step=1e-4)
REAL = "apVisit-r13-5095-55844-128.fits"


def record_of(wave: Any, seed: int = 1) -> Any:
    rng = np.random.default_rng(seed)
    record = np.zeros(len(wave), [("flux", "f4"), ("ivar", "f4"), ("mask", "i4")])
    record["flux"], record["ivar"] = rng.uniform(1, 9, len(wave)), rng.uniform(0.5, 2, len(wave))
    record["mask"] = 4
    return record


# --- The rule ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wave", "gaps"),
    [
        ([1, 2, 3, 4, 9, 10, 11, 12], [3]),
        ([1, 2, 3, 4, 6, 7, 8, 9], [3]),  # one pixel is missing
        ([1, 11, 12, 13, 14, 15], [0]),
        ([1, 2, 3, 4, 5, 15], [4]),
        ([1, 11, 12, 13, 14, 24], [0, 4]),
        ([1, 2, 3, 4, 14, 24, 25, 26, 27], [3, 4]),  # a pixel alone between two
        ([1, 2, 3, 4, 14, 24, 34, 35, 36, 37, 38], [3, 4, 5]),
        ([1, 11, 21, 31, 32, 33, 34, 35, 36], [0, 1, 2]),
        ([1, 2], []),
        ([1, 20], []),
        ([1, 2, 3, 4, 5, 7, 9, 11, 13, 15, 17], []),  # wider pixels from 5 on
        ([1, 3, 5, 7, 9, 11, 13, 14, 15, 16, 17], []),
    ],
)
def test_a_step_longer_than_those_around_it_is_a_gap(wave: list[float], gaps: list[int]) -> None:
    assert find_gaps(np.array(wave, float)).tolist() == gaps


@pytest.mark.parametrize("ratio", [1.0001, 1.01, 1.08])
def test_steps_that_change_slowly_are_no_gaps(ratio: float) -> None:
    wave = 1000 + np.cumsum(ratio ** np.arange(60.0))
    for one in (wave, 5000 - wave[::-1] + wave[-1]):
        assert not len(find_gaps(one))
        middle = (one[1:] + one[:-1]) / 2
        assert np.array_equal(pixel_edges(one).wave[1:-1], middle)


def test_a_pixel_beside_a_gap_is_as_wide_as_its_other_side_tells() -> None:
    edges = pixel_edges(np.array([1.0, 2, 3, 4, 24, 26, 28, 30, 32, 34]))
    assert edges.lower.tolist() == [0.5, 1.5, 2.5, 3.5, 23, 25, 27, 29, 31, 33]
    assert edges.upper.tolist() == [1.5, 2.5, 3.5, 4.5, 25, 27, 29, 31, 33, 35]
    assert edges.width.tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2, 2]
    low, high = np.array([4.0, 5.0, 4.0]), np.array([10.0, 10.0, 24.0])
    begin, stop = edges.runs(low, high)
    assert [*zip(begin.tolist(), stop.tolist(), strict=True)] == [(3, 4), (4, 4), (3, 5)]


waves = st.tuples(
    st.integers(2, 60), st.sets(st.integers(0, 59), max_size=30), st.sampled_from([0.7, 1.3, 2.1])
)


@given(waves, st.sampled_from([0.4, 1.0, 2.3]), st.booleans())
def test_flux_is_conserved_and_none_is_made(wave_: Any, step: float, log: bool) -> None:
    """Any pixels left out of a lattice: the flux under each output pixel is that of the input."""
    npix, out, own = wave_
    kept = np.setdiff1d(np.arange(npix), list(out))
    if len(kept) < 2:
        return
    wave = 4000.0 + own * kept
    record = record_of(wave)
    grid = LogLinear(step / 1e4) if log else Linear(3990.1, step)
    first, fields = resample(record, wave, grid)
    centres = grid.wave(first - 1, len(fields["flux"]) + 2)
    wanted = (centres[1:] + centres[:-1]) / 2
    edges = pixel_edges(wave)
    assert (edges.width > 0).all()
    assert (edges.upper[:-1] <= edges.lower[1:] + 1e-9).all()
    low = np.maximum(edges.lower[:, None], wanted[:-1])
    over = np.maximum(np.minimum(edges.upper[:, None], wanted[1:]) - low, 0)
    cover, lit = over.sum(0), fields["ivar"] > 0
    assert (cover[lit] >= 0.499 * np.diff(wanted)[lit]).all()
    assert not fields["flux"][~lit].any()
    assert not fields["mask"][cover == 0].any()
    flux = (record["flux"][:, None] * over).sum(0)
    assert np.allclose(fields["flux"][lit] * cover[lit], flux[lit], rtol=1e-6)
    # A pixel that is missing in the middle of others makes a hole as wide as itself.
    lone = np.setdiff1d(np.arange(kept[0], kept[-1]), kept)
    middle = [
        one for one in lone if np.isin(one + np.array([-4, -3, -2, -1, 1, 2, 3, 4]), kept).all()
    ]
    for one in middle:
        assert not (
            cover[
                (wanted[:-1] > 4000 + own * (one - 0.49)) & (wanted[1:] < 4000 + own * (one + 0.49))
            ]
        ).any()


# --- Line indices, pictures ----------------------------------------------------------------------


def test_a_band_over_a_gap_cannot_be_measured() -> None:
    index = LineIndex("width", (4990, 5000), (5030, 5040), (5010, 5020))
    wave = np.arange(4980.0, 5050.0, 0.5)
    flux = 1 - 0.5 * ((wave > 5010) & (wave < 5020))
    whole, _ = line_index(wave, flux, np.ones(len(wave)), 0.0, index)
    assert whole == pytest.approx(5, abs=0.6)
    kept = (wave <= 5011) | (wave >= 5019)
    value, error = line_index(wave[kept], flux[kept], np.ones(kept.sum()), 0.0, index)
    assert np.isnan(value)
    assert np.isnan(error)
    # A gap between the bands is no matter.
    kept = (wave <= 5001) | (wave >= 5009)
    value, _ = line_index(wave[kept], flux[kept], np.ones(kept.sum()), 0.0, index)
    assert value == pytest.approx(whole, abs=1e-9)


def test_no_line_is_drawn_over_a_gap() -> None:
    wave = np.concatenate([np.arange(4000.0, 4400.0), np.arange(4600.0, 5000.0)])
    view = View(0, 0, 500, 100, (4000.0, 5000.0), (0.0, 1.0))
    columns = find_steps(view, wave).columns / 1500 * 1000 + 4000
    assert not ((columns > 4401) & (columns < 4599)).any()
    assert (columns < 4401).sum() > 590
    one = DisplaySpectrum(wave, np.ones(800), np.ones(800))
    assert preview_png(one)[:4] == b"\x89PNG"
    filled = with_gaps(
        DisplaySpectrum(wave, np.ones(800), np.ones(800), np.ones(800), np.ones(800))
    )
    (hole,) = np.flatnonzero(np.isnan(filled.flux)).tolist()
    assert (filled.wave[hole], filled.ivar[hole], len(filled.wave)) == (4499.5, 0, 801)
    # The viewer draws nothing where ivar is 0.
    store, _ = _store([with_gaps(DisplaySpectrum(wave, np.ones(800)))], own_axis=True)
    assert np.flatnonzero(store.data["ivar"] == 0).tolist() == [400]
    assert viewer_html([DisplaySpectrum(wave, np.ones(800))], Look()).startswith("<!DOCTYPE html>")


# --- From files to arrays ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holed(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with two spectra, of one of which 500 pixels were taken out."""
    folder = tmp_path_factory.mktemp("holed")
    for number, original in enumerate(sorted(mock_survey.rglob("spec-*.fits"))[:2]):
        path = Path(shutil.copy(original, folder))
        if number:
            with fits.open(path, memmap=False) as hdus:
                hdus[1].data = np.delete(hdus[1].data, slice(1000, 1500))
                hdus.writeto(path, overwrite=True)
    data = tmp_path_factory.mktemp("holed-data")
    run_ingest(open_root(data), "sdss_dr17", [folder], workers=1)
    with serve(data, folder) as running:
        yield running


def hole_of(wave: Any) -> tuple[float, float]:
    """Return the ends of the widest gap."""
    at = int(np.diff(wave).argmax())
    return float(wave[at]), float(wave[at + 1])


def assert_empty(wave: Any, hole: tuple[float, float], *values: Any) -> None:
    inside = (wave > hole[0] * 1.0002) & (wave < hole[1] * 0.9998)
    assert inside.sum() > 10
    for one in values:
        assert not np.nan_to_num(one[..., inside]).any()
        assert np.nan_to_num(one[..., ~inside]).any()


def test_pixels_taken_out_stay_out(holed: Served) -> None:
    client = SpecClient(svc_url=holed.url)
    ids = client.query(constraint="specobjid > 0", primary=False)
    (cut,) = [
        one for one in ids if len(find_gaps(10.0 ** client.getSpec(one)["loglam"].astype(float)))
    ]
    hole = hole_of(10.0 ** client.getSpec(cut)["loglam"].astype(float))
    assert hole[1] / hole[0] == pytest.approx(10**0.0501, rel=1e-6)
    array = client.getSpec([cut, *[one for one in ids if one != cut]], align="resample")
    wave = 10.0 ** array["loglam"][0].astype(float)
    masks = [name for name in array.dtype.names if array.dtype[name].kind == "i"]
    assert_empty(
        wave, hole, array["flux"][0], array["ivar"][0], *[array[name][0] for name in masks[1:]]
    )
    assert array["ivar"][1][(wave > hole[0]) & (wave < hole[1])].any()
    for method in ("mean", "median", "ivar"):
        made = client.stack([cut], frame="observed", method=method)
        assert_empty(made.wavelength, hole, made.flux, made.ivar, made.count)
    rest = client.stack([cut], z=0.1)
    assert_empty(rest.wavelength, (hole[0] / 1.1, hole[1] / 1.1), rest.flux, rest.count)
    plt.switch_backend("agg")
    client.plot(cut, rest_frame=False)
    (line,) = [one for one in plt.gcf().axes[0].lines if one.get_label() == "flux"]
    plt.close("all")
    at = int(np.searchsorted(line.get_xdata(), np.mean(hole)))
    assert np.isnan(line.get_ydata()[at - 1 : at + 1]).any()


@pytest.mark.proof
def test_between_two_real_detectors_there_is_nothing(real_spectra: Path, tmp_path: Path) -> None:
    folder, data = tmp_path / "files", tmp_path / "data"
    folder.mkdir()
    shutil.copy(real_spectra / "other" / REAL, folder)
    command("ingest", "apogee", folder, "--data", data, "--workers", 1, "--reader", "specutils")
    with serve(data, folder) as running:
        client = SpecClient(svc_url=running.url)
        (one,) = client.query(constraint="id > 0", context="apogee", primary=False)
        wave = client.getSpec(one, context="apogee")["wavelength"]
        hole = hole_of(wave)
        assert (round(hole[0]), round(hole[1])) == (15810, 15857)
        array = client.getSpec([one], context="apogee", align="resample")
        assert_empty(array["wavelength"][0], hole, array["flux"][0], array["ivar"][0])
        made = client.stack([one], context="apogee", frame="observed")
        assert_empty(made.wavelength, hole, made.flux, made.ivar, made.count)
