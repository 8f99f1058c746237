"""align='resample': spectra off the lattice among those on it; flux, noise, bad pixels, masks."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy import units as u
from astropy.io import fits
from specutils import SpectrumCollection

from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadParameter, MixedLattices, TooMuch
from specserver.ingest import run_ingest
from specserver.model.grid import Grid, LogLinear
from specserver.model.survey import Vector
from specserver.ops.pixels import pixel_edges
from specserver.ops.resampling import Lattice, covered, lattice_edges
from specserver.service import SpectroscopicService, alignment
from specserver.service.alignment import Resampling
from specserver.service.limits import Limits
from specserver.service.stream import StreamRequest

GRID = LogLinear(step=1e-4)
SHIFT = np.float32(3.3e-5)


@pytest.fixture(scope="module")
def mixed(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service with three spectra on the lattice and two off it."""
    folder = tmp_path_factory.mktemp("mixed")
    chosen = sorted(mock_survey.rglob("spec-*.fits"))[:5]
    for number, original in enumerate(chosen):
        path = Path(shutil.copy(original, folder))
        if number % 2:
            with fits.open(path, memmap=False) as hdus:
                name = next(one for one in hdus[1].columns.names if one.lower() == "loglam")
                hdus[1].data[name] += SHIFT
                hdus.writeto(path, overwrite=True)
    data = tmp_path_factory.mktemp("mixed-data")
    run_ingest(open_root(data), "sdss_dr17", [folder], workers=1)
    with serve(data, folder) as running:
        yield running


def resample(record: Any, wave: Any, grid: Grid) -> tuple[int, Any]:
    """Return the first lattice pixel that a spectrum covers; flux, ivar and masks from there on."""
    edges = pixel_edges(wave)
    window = covered(grid, edges.ends)
    masks = [name for name in record.dtype.names if record.dtype[name].kind in "iu"]
    kinds = {"flux": "<f8", "ivar": "<f8"} | {name: record.dtype[name].str for name in masks}
    vectors = tuple(Vector(name, kind, "", "") for name, kind in kinds.items())
    lattice = Lattice(grid, window, vectors, is_blank=False)
    (row,) = lattice.empty(1)
    lattice.resample(row, record, edges, lattice_edges(grid, window))
    return window.first, row


def overlap_sums(edges: Any, wanted: Any, values: Any, variance: Any) -> tuple[Any, Any, Any]:
    """Width covered by good pixels, their mean and its variance: the rule, written down otherwise.

    Every stretch between two neighbouring edges of either lattice lies in one pixel of each.
    """
    cuts = np.unique(np.concatenate([edges, wanted]))
    middle, width = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    source = np.searchsorted(edges, middle) - 1
    target = np.searchsorted(wanted, middle) - 1
    npix = len(wanted) - 1
    here = (source >= 0) & (source < len(values)) & (target >= 0) & (target < npix)
    source, target, width = source[here], target[here], width[here]
    width = np.where(variance[source] < np.inf, width, 0.0)
    weight = np.bincount(target, width, npix)
    total = np.bincount(target, width * values[source], npix)
    # A source pixel and a target pixel share one stretch, so squares of widths may be summed.
    spread = np.bincount(target, width**2 * np.where(width > 0, variance[source], 0), npix)
    with np.errstate(divide="ignore", invalid="ignore"):
        return weight, total / weight, spread / weight**2


def edges_of(wave: Any) -> Any:
    middle = (wave[1:] + wave[:-1]) / 2
    return np.concatenate([[2 * wave[0] - middle[0]], middle, [2 * wave[-1] - middle[-1]]])


def linear_record(bad: Any = ()) -> tuple[Any, Any]:
    """A noisy spectrum with a line on a DESI-like lattice of 0.8 Å."""
    wave = 3600 + 0.8 * np.arange(1500)
    rng = np.random.default_rng(5)
    record = np.zeros(len(wave), [("flux", "f4"), ("ivar", "f4"), ("and_mask", "i4")])
    record["ivar"] = rng.uniform(0.5, 4.0, len(wave))
    line = 30 * np.exp(-0.5 * ((wave - 4200) / 4) ** 2)
    record["flux"] = 5 + line + rng.normal(size=len(wave)) / np.sqrt(record["ivar"])
    record["ivar"][list(bad)] = 0
    record["flux"][list(bad)] = 1e6
    return wave, record


def test_against_an_independent_computation() -> None:
    bad = [100, 101, 400, 700, 701, 702, 703]
    wave, record = linear_record(bad)
    first, fields = resample(record, wave, GRID)
    wanted = edges_of(GRID.wave(first, len(fields["flux"])))
    edges = edges_of(wave)
    with np.errstate(divide="ignore"):
        variance = 1.0 / record["ivar"].astype(float)
    weight, mean, spread = overlap_sums(edges, wanted, record["flux"].astype(float), variance)
    covered = weight / np.diff(wanted) >= 0.5
    covered &= (wanted[:-1] >= edges[0]) & (wanted[1:] <= edges[-1])
    assert np.allclose(fields["flux"][covered], mean[covered], rtol=1e-9)
    assert np.allclose(fields["ivar"][covered], 1 / spread[covered], rtol=1e-9)
    assert not fields["flux"][~covered].any()
    assert not fields["ivar"][~covered].any()
    assert covered.sum() > 1200
    assert fields["flux"].max() < 100  # nothing of the bad pixels' 1e6


def test_flux_and_signal_to_noise_are_conserved() -> None:
    wave, record = linear_record()
    first, fields = resample(record, wave, GRID)
    target = GRID.wave(first, len(fields["flux"]))
    edges, wanted = edges_of(wave), edges_of(target)
    # Between two edges of the new lattice: the integral of the old pixels, cut at those edges.
    low, high = wanted[5], wanted[-6]
    inside = np.clip(edges, low, high)
    before = np.sum(record["flux"].astype(float) * np.diff(inside))
    after = np.sum((fields["flux"] * np.diff(wanted))[5:-5])
    assert after == pytest.approx(before, rel=1e-9)
    # Where new pixels are wider than old ones, the mean over many of them is as well known as
    # before, but for correlations (in the worst case, pixels of equal width, 2/3 of the variance).
    variance = (1 / fields["ivar"][5:-5] * np.diff(wanted)[5:-5] ** 2).sum()
    original = (1 / record["ivar"].astype(float) * np.diff(inside) ** 2).sum()
    assert 0.6 < variance / original <= 1.0


def test_a_bad_pixel_takes_no_neighbour_with_it() -> None:
    wave, clean = linear_record()
    _, record = linear_record([600])
    first, whole = resample(clean, wave, GRID)
    _, holed = resample(record, wave, GRID)
    changed = np.flatnonzero(whole["flux"] != holed["flux"])
    centres = GRID.wave(first, len(whole["flux"]))[changed]
    assert (np.abs(centres - wave[600]) < 1.3).all()
    assert 1 <= len(changed) <= 4
    lost = np.flatnonzero((holed["ivar"] == 0) & (whole["ivar"] > 0))
    assert len(lost) <= 1
    assert np.isfinite(holed["flux"]).all()
    assert np.isfinite(holed["ivar"]).all()


def test_a_spectrum_on_the_lattice_is_its_own_resampling() -> None:
    record = np.zeros(400, [("flux", "f4"), ("ivar", "f4"), ("and_mask", "i4")])
    rng = np.random.default_rng(3)
    record["flux"], record["ivar"] = rng.normal(size=400), rng.uniform(0, 2, 400)
    record["ivar"][::7] = 0
    record["and_mask"] = rng.integers(0, 1 << 20, 400)
    first, fields = resample(record, GRID.wave(36000, 400), GRID)
    at = 36000 - first
    inner = slice(at + 1, at + 399)  # rounding decides whether the outermost are covered whole
    good = (record["ivar"] > 0)[1:399]
    assert np.allclose(fields["flux"][inner][good], record["flux"][1:399][good], rtol=1e-5)
    assert np.allclose(fields["ivar"][inner][good], record["ivar"][1:399][good], rtol=1e-5)
    assert not fields["ivar"][inner][~good].any()


def test_masks_collect_the_bits_of_all_pixels_below() -> None:
    wave, record = linear_record()
    record["and_mask"][500], record["and_mask"][501] = 1 << 3, 1 << 20
    first, fields = resample(record, wave, GRID)
    wanted, edges = edges_of(GRID.wave(first, len(fields["flux"]))), edges_of(wave)
    for bit, pixel in ((3, 500), (20, 501)):
        has = (fields["and_mask"] & (1 << bit)) != 0
        touches = (wanted[1:] > edges[pixel]) & (wanted[:-1] < edges[pixel + 1])
        assert np.array_equal(has, touches)


def test_mixed_lattices_become_one_array(mixed: Served) -> None:
    spec = SpecClient(svc_url=mixed.url)
    ids = mixed.ids.tolist()
    loose = spec.getSpec(ids)
    with pytest.raises(MixedLattices, match="resample"):
        spec.getSpec(ids, align=True)
    made = spec.getSpec(ids, align="resample")
    assert made.dtype.names == ("flux", "loglam", "ivar", "and_mask", "or_mask")
    assert made.ndim == 2
    assert (made["loglam"] == made["loglam"][0]).all()
    assert (np.diff(made["loglam"][0]) > 0).all()
    off = 0
    for row, one in zip(made, loose, strict=True):
        on_lattice = one["loglam"][0] in made["loglam"][0]
        off += not on_lattice
        if on_lattice:
            start = int(np.flatnonzero(row["loglam"] == one["loglam"][0])[0])
            inside = slice(start, start + len(one))
            for name in made.dtype.names:
                assert row[name][inside].tobytes() == one[name].tobytes()
            assert not np.delete(row["ivar"], np.arange(start, start + len(one))).any()
        else:
            assert_resampled(row, one)
    assert off == 2


def assert_resampled(row: Any, one: Any) -> None:
    """Hold a row against the independent computation on the client's own axis."""
    wave = 10 ** one["loglam"].astype(float)
    target = 10 ** (np.round(row["loglam"].astype(float) * 1e4) * 1e-4)
    edges, wanted = edges_of(wave), edges_of(target)
    with np.errstate(divide="ignore"):
        variance = 1.0 / one["ivar"].astype(float)
    weight, mean, spread = overlap_sums(edges, wanted, one["flux"].astype(float), variance)
    usable = row["ivar"] > 0
    assert usable.sum() > 0.8 * len(one)
    assert np.allclose(row["flux"][usable], mean[usable], rtol=1e-5, atol=1e-6)
    assert np.allclose(row["ivar"][usable], 1 / spread[usable], rtol=1e-5)
    assert (weight / np.diff(wanted))[usable].min() >= 0.5 - 1e-9


def test_resampled_in_every_format(mixed: Served, tmp_path: Path) -> None:
    spec = SpecClient(svc_url=mixed.url)
    ids = mixed.ids.tolist()
    few: Any = {"align": "resample", "cutout": (5000, 5200)}
    whole = spec.getSpec(ids, values="flux,loglam", align="RESAMPLE", cutout=(5000, 5200))
    assert whole.dtype.names == ("flux", "loglam")
    made = spec.getSpec(ids, fmt="SpectrumCollection", **few)
    assert isinstance(made, SpectrumCollection)
    assert np.array_equal(made.flux.value, whole["flux"])
    assert np.array_equal(made.mask, made.uncertainty.array == 0)
    flat = spec.getSpec(ids, fmt="Spectrum1D", **few)
    assert np.array_equal(flat.flux.value, whole["flux"])
    assert flat.flux.unit == u.Unit("1e-17 erg / (s cm2 Angstrom)")
    frames = spec.getSpec(ids, fmt="pandas", **few)
    assert [len(one) for one in frames] == [whole.shape[1]] * 5
    one = spec.getSpec(ids[1], fmt="Spectrum1D", **few)
    assert one.flux.ndim == 1
    assert one.meta["id"] == ids[1]
    assert spec.getSpec(ids, out=tmp_path, values="flux,loglam", **few) == "OK"
    saved = [np.load(path) for path in tmp_path.iterdir()]
    assert sorted(one.tobytes() for one in saved) == sorted(one.tobytes() for one in whole)


def test_resampled_cutout(mixed: Served) -> None:
    spec = SpecClient(svc_url=mixed.url)
    made = spec.getSpec(mixed.ids, align="resample", cutout="5000-5100")
    wave = 10 ** made["loglam"][0].astype(float)
    assert wave[0] == pytest.approx(5000, abs=2.5)
    assert wave[-1] == pytest.approx(5100, abs=2.5)
    assert ((made["ivar"] > 0).sum(axis=1) > 50).all()


def test_the_pixels_of_a_resampled_spectrum_are_limited(
    mock_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = SpectroscopicService(open_root(mock_data), limits=Limits(max_pixels=3000))
    ids = service.archive.open_release("default").catalog.place(np.arange(5)).ids.tolist()
    selection = service.resolve(ids, "default")
    with pytest.raises(TooMuch, match=r"nearer limits cutout=.*max_lattice_pixels"):
        service.stream(selection, StreamRequest(resample=True))
    service.stream(selection, StreamRequest(resample=True, cutout=(5000.0, 6000.0)))
    # Blocks of any size hold the same.
    plan = Resampling.of(selection, None, None, "air")
    whole = np.concatenate(list(plan.read()))
    monkeypatch.setattr(alignment, "_BLOCK_PIXELS", 3 * whole.shape[1])
    blocks = list(plan.read())
    assert [len(block) for block in blocks] == [3, 2]
    assert np.concatenate(blocks).tobytes() == whole.tobytes()


def test_what_cannot_be_resampled_is_refused(mixed: Served) -> None:
    spec = SpecClient(svc_url=mixed.url)
    with pytest.raises(BadParameter, match=r"wdisp.*loglam, flux, ivar and masks"):
        spec.getSpec(mixed.ids, align="resample", values="flux,wdisp")
    with pytest.raises(BadParameter, match="resample"):
        spec.getSpec(mixed.ids, align="rebin")
