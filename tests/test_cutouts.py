"""A cutout has the pixels of the whole, bit for bit: resampled, in any medium, off the lattice."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st
from specutils import SpectrumCollection

from commands import command
from conftest import CONTEXTS, TwoSurveys
from serving import Served, serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import MixedLattices
from specserver.ingest import run_ingest
from specserver.model.grid import Grid, Linear, LogLinear, LogWave, PixelRange, cutout
from specserver.model.lines import air_to_vacuum, vacuum_to_air
from specserver.model.survey import Vector
from specserver.ops.media import change_of
from specserver.ops.pixels import Edges, pixel_edges
from specserver.ops.rebin import rebin
from specserver.ops.resampling import Lattice, changed, covered, lattice_edges, own_edges

UNIT = u.Unit("1e-17 erg / (s cm2 AA)")
SHIFT = np.float32(3.3e-5)
REAL: dict[str, tuple[str, ...]] = {
    "reports/emlLogVacuumHelioCMB.fits": (),
    "reports/spec_example_2.fits": (),
    "reports/NGC4151sic2a.fits": ("--wave-unit", "Angstrom"),
    "other/MRK209_cos_x1dsum.fits": (),
    "other/XShooter_XQ100.fits.gz": (),
    "other/gp121903_osiris.fits": ("--flux-unit", "erg / (Angstrom s cm2)"),
    "other/hlsp_ceers_jwst_nirspec_nirspec10-001027_comb-mgrat_v0.7_x1d-masked.fits": (),
}
"""Files of the tree of real spectra, and what their ingest has to be told."""


def axes() -> st.SearchStrategy[Any]:
    """Rising wavelengths: even, logarithmic or uneven steps, pixels left out."""

    def made(kind: str, npix: int, step: float, seed: int, start: float) -> Any:
        rng = np.random.default_rng(seed)
        if kind == "log":
            wave = start * (1 + step / start) ** np.arange(npix)
        elif kind == "uneven":
            wave = start + np.cumsum(step * rng.uniform(0.3, 3.0, npix))
        else:
            wave = start + step * np.arange(npix)
        if kind == "gaps":
            wave = wave[np.sort(rng.permutation(npix)[: max(3, npix * 3 // 4)])]
        return wave

    return st.builds(
        made,
        st.sampled_from(["even", "log", "uneven", "gaps"]),
        st.integers(3, 120),
        st.sampled_from([0.11, 0.7, 1.0, 1.9, 7.3]),
        st.integers(0, 99),
        st.sampled_from([1990.0, 6400.0, 6450.3]),
    )


def grids() -> st.SearchStrategy[Grid]:
    kinds: list[Grid] = [
        Linear(0.0, 1.0),
        Linear(3600.0, 0.8),
        Linear(17.3, 13.0),
        LogLinear(1e-4, "wavelength", "<f8"),
        LogWave(3.5441, 1e-4),
    ]
    return st.sampled_from(kinds)


cuts = st.tuples(st.floats(1985.0, 7200.0), st.floats(0.5, 400.0))


def values_of(npix: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    record = np.zeros(npix, [("flux", "f4"), ("wavelength", "f8"), ("ivar", "f4"), ("mask", "i4")])
    record["flux"], record["ivar"] = rng.normal(5, 2, npix), rng.uniform(-0.3, 3, npix)
    record["ivar"] = np.maximum(record["ivar"], 0)
    record["mask"] = rng.integers(0, 1 << 20, npix)
    return record


RECORD = tuple(
    Vector(name, kind, "", "")
    for name, kind in (("flux", "<f4"), ("wavelength", "<f8"), ("ivar", "<f4"), ("mask", "<i4"))
)


@pytest.mark.proof
@settings(max_examples=300)
@given(st.data(), axes(), grids(), cuts)
def test_cut_then_resampled_is_resampled_then_cut(
    data: st.DataObject, wave: Any, grid: Grid, cut: tuple[float, float]
) -> None:
    """Of all lattices, media and axes."""
    grid = replace(grid, axis="wavelength")
    media = st.sampled_from(["air", "vacuum"])
    change = change_of(data.draw(media), data.draw(media))
    on_lattice = change is None and data.draw(st.booleans())
    first = round(grid.position(float(wave[0])))
    if on_lattice:
        wave = grid.wave(first, len(wave))
    record = values_of(len(wave), len(wave))
    record["wavelength"] = wave
    edges = changed(own_edges(wave), change)
    held = PixelRange(first, first + len(wave)) if on_lattice else covered(grid, edges.ends)

    def laid(window: PixelRange) -> Any:
        lattice = Lattice(grid, window, RECORD, is_blank=False)
        block = lattice.empty(1)
        if on_lattice:
            lattice.lay(block[0], first, record)
        else:
            lattice.resample(block[0], record, edges, lattice_edges(grid, window))
        return block

    inside = cutout(grid, cut[0], cut[0] + cut[1])
    span = PixelRange(max(inside.first, held.first), min(inside.stop, held.stop))
    if span.count > 0:
        same = laid(held)[:, span.first - held.first : span.stop - held.first]
        assert laid(span).tobytes() == same.tobytes()
    wider = PixelRange(held.first - 5, held.stop + 5)
    assert not laid(wider)["ivar"][:, [*range(5), *range(-5, 0)]].any()


@given(axes(), grids(), st.integers(0, 40), st.integers(0, 40))
def test_an_output_pixel_is_made_of_its_own_pixels(
    wave: Any, grid: Grid, before: int, behind: int
) -> None:
    """Whatever pixels are cut off before and behind them, and where the output begins."""
    edges = pixel_edges(wave)
    if len(edges.wave) != len(wave) + 1:
        return
    record = values_of(len(wave), 1)
    first = round(grid.position(float(wave[0]))) - 1
    wanted = grid.wave(first, round(grid.position(float(wave[-1]))) - first + 3)
    flux, variance = rebin(record["flux"], record["ivar"], record["ivar"] > 0, edges, wanted)
    stop = len(wave) - behind
    if before + 1 >= stop:
        return
    some = Edges.without_gaps(edges.wave[before : stop + 1])
    cut = record[before:stop]
    low = int(np.searchsorted(wanted, some.ends[0], "left"))
    high = int(np.searchsorted(wanted, some.ends[1], "right"))
    if high - low < 2:
        return
    part = rebin(cut["flux"], cut["ivar"], cut["ivar"] > 0, some, wanted[low:high])
    assert part[0].tobytes() == flux[low : high - 1].tobytes()
    assert part[1].tobytes() == variance[low : high - 1].tobytes()


# --- Through the front door ----------------------------------------------------------------------


def write(path: Path, wave: Any, seed: int, medium: str | None, *, error: bool = True) -> None:
    rng = np.random.default_rng(seed)
    columns = {"wavelength": wave * u.AA, "flux": rng.normal(5, 1, len(wave)) * UNIT}
    if error:
        columns["uncertainty"] = rng.uniform(0.1, 1, len(wave)) * UNIT
    primary = fits.PrimaryHDU()
    if medium is not None:
        primary.header["AIRORVAC"] = medium
    fits.HDUList([primary, fits.table_to_hdu(Table(columns))]).writeto(path)


def uneven(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return 6300.0 + np.cumsum(rng.uniform(0.9, 4.0, 180))


@pytest.fixture(scope="module")
def own(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Spectra on wavelengths of their own, with and without errors, among them SDSS off and on."""
    top = tmp_path_factory.mktemp("cutouts")
    data = top / "data"
    gap = np.concatenate([uneven(5)[:70], uneven(5)[90:]])
    log = 10 ** (3.79 + 2.7e-4 * np.arange(300))
    axes = [uneven(1), gap, log, log[::-1], 6000.0 + 2.3 * np.arange(400)]
    for context, media in (("own", ["vac"] * 5), ("silent", [None] * 5), ("plain", ["air"] * 5)):
        (top / context).mkdir()
        for number, (wave, medium) in enumerate(zip(axes, media, strict=True), 1):
            path = top / context / f"{number}.fits"
            write(path, wave, number, medium, error=context != "plain")
        rows = "\n".join(f"{number},10.0,{number}.0,0.0" for number in range(1, 6))
        (top / f"{context}.csv").write_text(f"id,ra,dec,z\n{rows}\n")
        command(
            "ingest", context, top / context, "--data", data, "--workers", 1,
            "--reader", "specutils", "--catalog", top / f"{context}.csv",
        )  # fmt: skip
    (top / "sdss").mkdir()
    for number, original in enumerate(sorted(mock_survey.rglob("spec-*.fits"))[:4]):
        path = Path(shutil.copy(original, top / "sdss"))
        if number % 2:
            with fits.open(path, memmap=False) as hdus:
                name = next(one for one in hdus[1].columns.names if one.lower() == "loglam")
                hdus[1].data[name] += SHIFT
                hdus.writeto(path, overwrite=True)
    run_ingest(open_root(data), "sdss_dr17", [top / "sdss"], workers=1)
    with serve(data, top) as running:
        yield running


@pytest.fixture
def spec(own: Served) -> SpecClient:
    return SpecClient(svc_url=own.url)


def assert_part_of(cut: Any, whole: Any) -> None:
    """A cutout has pixels, and all of them are those of the whole, bit for bit."""
    axis = "loglam" if "loglam" in whole.dtype.names else "wavelength"
    inside = np.isin(whole[axis][0], cut[axis][0])
    assert cut.shape[1] == inside.sum() > 3
    assert cut.tobytes() == whole[:, inside].tobytes()


@pytest.mark.parametrize("context", ["own", "silent", "plain"])
@pytest.mark.parametrize("limits", ["6500-6510", (6399.7, 6720.2)])
def test_a_resampled_cutout_is_part_of_the_whole(
    spec: SpecClient, context: str, limits: Any
) -> None:
    asked: dict[str, Any] = {"context": context, "align": "resample"}
    for ids in ([1, 2, 3, 4, 5], [2], 4):
        whole, cut = spec.getSpec(ids, **asked), spec.getSpec(ids, cutout=limits, **asked)
        assert_part_of(np.atleast_2d(cut), np.atleast_2d(whole))
        # Every pixel within the spectra has data.
        good = cut["ivar"] > 0 if "ivar" in cut.dtype.names else np.isfinite(cut["flux"])
        assert good.all() or (ids != 4 and not good[1 if len(ids) > 1 else 0].all())
    for medium in ("air", "vacuum"):
        more = asked | {"medium": medium, "assume_medium": "air"}
        whole = spec.getSpec([1, 3], **more)
        assert_part_of(spec.getSpec([1, 3], cutout=limits, **more), whole)
    few = spec.getSpec([1, 3], cutout=limits, values="flux", **asked)
    assert (
        few.tobytes()
        == spec.getSpec([1, 3], cutout=limits, **asked)[["flux"]].astype(few.dtype).tobytes()
    )


def test_so_it_is_of_several_contexts(spec: SpecClient, own: Served) -> None:
    sdss = [("sdss_dr17", number) for number in own.ids.tolist()[:4]]
    mixed = [("own", 1), *sdss, ("own", 2), ("own", 4)]
    for ids in (mixed, mixed[1:], sdss):
        whole = spec.getSpec(ids, align="resample")
        for limits in ((6500, 6510), (6390.1, 6680.9)):
            assert_part_of(spec.getSpec(ids, align="resample", cutout=limits), whole)
        whole = spec.getSpec(ids, align="resample", medium="air")
        cut = spec.getSpec(ids, align="resample", medium="air", cutout=(6500, 6510))
        assert_part_of(cut, whole)


def test_so_it_is_of_two_surveys(two_surveys: TwoSurveys) -> None:
    spec = SpecClient(svc_url=two_surveys.served.url)
    ids = [(context, one[at]) for one in two_surveys.pairs for at, context in enumerate(CONTEXTS)]
    for some in (ids, ids[::-1]):
        for medium in (None, "air"):
            how: dict[str, Any] = {"align": "resample", "medium": medium}
            whole = spec.getSpec(some, **how)
            assert_part_of(spec.getSpec(some, cutout="6500-6510", **how), whole)
            assert_part_of(spec.getSpec(some, cutout="5000-7000", **how), whole)


def test_a_cutout_on_a_lattice_travels_alone(own: Served) -> None:
    ids = "\n".join(map(str, own.ids[:4]))

    def sent(**more: Any) -> int:
        body = {"ids": ids, "context": "sdss_dr17", "resample": True} | more
        answer = urllib3.request("POST", f"{own.url}/bulk/spectra", json=body)
        assert answer.status == 200, answer.data
        return len(answer.data)

    assert sent(cutout=[6500, 6510]) < sent() / 10


@pytest.mark.proof
def test_real_files(real_spectra: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    contexts = [f"real{number}" for number in range(len(REAL))]
    for context, (name, said) in zip(contexts, REAL.items(), strict=True):
        folder = tmp_path / context
        folder.mkdir()
        shutil.copy(real_spectra / name, folder)
        how = ("--data", data, "--workers", 1, "--reader", "specutils", *said)
        command("ingest", context, folder, *how)
    with serve(data, tmp_path) as running:
        client = SpecClient(svc_url=running.url)
        for context in contexts:
            one = client.query(constraint="id > 0 limit 1", context=context, primary=False)[0]
            own = client.getSpec(one, context=context)["wavelength"]
            asked: dict[str, Any] = {"context": context, "align": "resample"}
            whole = client.getSpec([one], **asked)
            for at in (len(own) // 3, len(own) // 2):
                for width in (5.0, 50.0):
                    limits = (own[at] - width, own[at] + width)
                    assert_part_of(client.getSpec([one], cutout=limits, **asked), whole)


# --- Not aligned, and alone ----------------------------------------------------------------------


def test_cuts_of_spectra_off_the_lattice(spec: SpecClient, tmp_path: Path) -> None:
    ids, limits = [1, 2, 3], (6500.0, 6560.0)
    whole = spec.getSpec(ids, context="own")
    stored = [
        one[(one["wavelength"] >= limits[0]) & (one["wavelength"] <= limits[1])] for one in whole
    ]
    cuts = spec.getSpec(ids, context="own", cutout=limits, align=False)
    assert [one.tobytes() for one in cuts] == [one.tobytes() for one in stored]
    with pytest.raises(MixedLattices, match="align=False"):
        spec.getSpec(ids, context="own", cutout=limits)
    # A single spectrum needs no common lattice, in a list or by itself.
    made = spec.getSpec([1], context="own", cutout=limits)
    assert made.shape == (1, len(stored[0]))
    assert made.tobytes() == spec.getSpec(1, context="own", cutout=limits).tobytes()
    assert made.tobytes() == stored[0].tobytes()
    assert spec.getSpec([1], context="own", cutout=limits, values="flux").dtype.names == ("flux",)
    for fmt in ("Spectrum1D", "SpectrumCollection"):
        one = spec.getSpec([1], fmt, context="own", cutout=limits)
        assert np.allclose(np.ravel(one.spectral_axis.to_value(u.AA)), stored[0]["wavelength"])
        assert np.array_equal(one.flux.value[0], stored[0]["flux"])
    assert isinstance(spec.getSpec([2], "SpectrumCollection", context="own"), SpectrumCollection)
    for fmt in ("pandas", "Table", "SpectrumList"):
        (one,) = spec.getSpec([1], fmt, context="own", cutout=limits)
    assert np.allclose(one.spectral_axis.to_value(u.AA), stored[0]["wavelength"])
    air = vacuum_to_air(whole[0]["wavelength"])
    inside = (air >= limits[0]) & (air <= limits[1])
    made = spec.getSpec([1], context="own", cutout=limits, medium="air")
    assert made.shape == (1, inside.sum())
    assert made["wavelength"][0].tobytes() == air[inside].tobytes()
    assert spec.getSpec([1], context="own", cutout=limits, out=tmp_path / "one") == "OK"
    (path,) = (tmp_path / "one").iterdir()
    assert np.load(path).tobytes() == stored[0].tobytes()
    both = [("own", 1), ("silent", 1)]
    with pytest.raises(MixedLattices, match="align=False"):
        spec.getSpec(both, cutout=limits)
    assert len(spec.getSpec(both, cutout=limits, align=False)) == 2


def test_the_command_cuts(own: Served, tmp_path: Path) -> None:
    told: list[Any] = ["--context", "own", "--cutout", "6500-6560", "--url", own.url]
    command("get", "1", *told, "--out", tmp_path / "one")
    command("get", "1", "2", "3", *told, "--no-align", "--out", tmp_path / "all")
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert len(names) == 3
    first = (tmp_path / "all" / names[0]).read_bytes()
    assert (tmp_path / "one" / names[0]).read_bytes() == first


def test_limits_are_in_what_a_spectrum_is_taken_for(spec: SpecClient) -> None:
    low, high = 6500.2, 6600.2
    whole = spec.getSpec(5, context="silent")["wavelength"]
    vacuum = air_to_vacuum(whole)
    asked: dict[str, Any] = {"context": "silent", "cutout": (low, high), "assume_medium": "air"}
    inside = (vacuum >= low) & (vacuum <= high)
    assert spec.getSpec(5, **asked)["wavelength"].tobytes() == whole[inside].tobytes()
    cut = spec.getSpec(5, medium="vacuum", **asked)["wavelength"]
    assert cut.tobytes() == vacuum[inside].tobytes()
    (listed,) = spec.getSpec([5], medium="vacuum", align=False, **asked)
    assert listed["wavelength"].tobytes() == cut.tobytes()
    asked["cutout"] = (low, high)
    cut = spec.getSpec(5, medium="air", **asked)["wavelength"]
    assert cut.tobytes() == whole[(whole >= low) & (whole <= high)].tobytes()


@pytest.mark.parametrize("frame", ["observed", "rest"])
@pytest.mark.parametrize("norm", [None, (6620, 6660)])
@pytest.mark.parametrize("method", ["mean", "median", "ivar"])
def test_composites_within_limits_are_part_of_the_whole(
    spec: SpecClient, frame: Any, norm: Any, method: Any
) -> None:
    how: dict[str, Any] = {"context": "own", "frame": frame, "norm": norm, "method": method}
    how["z"] = [0.01, 0.0, 0.002, 0.0, 0.03]
    whole = spec.stack([1, 2, 3, 4, 5], **how)
    cut = spec.stack([1, 2, 3, 4, 5], wave=(6500, 6600), **how)
    inside = np.isin(whole.wavelength, cut.wavelength)
    assert inside.sum() == len(cut.wavelength) > 20
    for name in ("flux", "ivar", "count"):
        assert getattr(cut, name).tobytes() == getattr(whole, name)[inside].tobytes()


@pytest.mark.parametrize("limits", [(1, 1e300), (1e-300, 1e308)])
def test_limits_that_hold_everything_cut_nothing(spec: SpecClient, limits: Any) -> None:
    for ids, how in (([1, 2], {"align": False}), ([1, 2], {"align": "resample"})):
        whole = spec.getSpec(ids, context="own", **how)
        cut = spec.getSpec(ids, context="own", cutout=limits, **how)
        assert [one.tobytes() for one in cut] == [one.tobytes() for one in whole]
