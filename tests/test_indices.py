"""Line indices against a direct computation, spectrum by spectrum and pixel by pixel."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserver.errors import BadParameter
from specserver.model.lines import vacuum_to_air
from specserver.ops.indices import INDICES, LineIndex, line_index

WAVE = np.power(10.0, np.arange(35500, 39700) * 1e-4)
OVERLAPPING = LineIndex("bands that overlap", (4990, 5010), (5020, 5055), (5005, 5030))
SIMPLE = [
    OVERLAPPING,
    LineIndex("width", (4990, 5000), (5030, 5040), (5010, 5020)),
    LineIndex("magnitude", (4990, 5000), (5030, 5040), (5010, 5020), "magnitude"),
    LineIndex("break", (4990, 5000), (5030, 5040), None, "break"),
]


# --- the direct computation --------------------------------------------------------------------


def parts(edges: Any, ivar: Any, band: Any) -> list[tuple[int, float, float]]:
    """Return pixel, Å inside the band and middle of these, of the pixels that have information."""
    found = []
    for pixel in range(len(ivar)):
        low, high = max(edges[pixel], band[0]), min(edges[pixel + 1], band[1])
        if high > low and ivar[pixel] > 0:
            found.append((pixel, high - low, (low + high) / 2))
    return found


def directly(wave: Any, flux: Any, ivar: Any, z: float, index: LineIndex) -> float:
    """Return an index of one spectrum, computed as it is written down in the literature."""
    rest = [one / (1 + z) for one in wave]
    middles = [(one + other) / 2 for one, other in zip(rest[1:], rest[:-1], strict=True)]
    edges = [2 * rest[0] - middles[0], *middles, 2 * rest[-1] - middles[-1]]
    bands = [index.blue, index.red] + ([index.feature] if index.feature else [])
    if any(band[0] < edges[0] or band[1] > edges[-1] for band in bands):
        return math.nan
    inside = [parts(edges, ivar, band) for band in bands]
    for band, chosen in zip(bands, inside, strict=True):
        if sum(width for _, width, _ in chosen) < 0.9 * (band[1] - band[0]):
            return math.nan
    if index.feature is None:
        means = []
        for chosen in inside:
            total = sum(
                width * flux[pixel] * ((edges[pixel] + edges[pixel + 1]) / 2) ** 2
                for pixel, width, _ in chosen
            )
            means.append(total / sum(width for _, width, _ in chosen))
        return means[1] / means[0] if means[0] > 0 else math.nan
    points = []
    for chosen in inside[:2]:
        width = sum(one for _, one, _ in chosen)
        level = sum(one * flux[pixel] for pixel, one, _ in chosen) / width
        points.append((sum(one * middle for _, one, middle in chosen) / width, level))
    (blue, low), (red, high) = points
    if low <= 0 or high <= 0:
        return math.nan
    ratio = sum(
        one * flux[pixel] / (low + (high - low) * (middle - blue) / (red - blue))
        for pixel, one, middle in inside[2]
    ) / sum(one for _, one, _ in inside[2])
    if index.kind == "magnitude":
        return -2.5 * math.log10(ratio) if ratio > 0 else math.nan
    return (index.feature[1] - index.feature[0]) * (1 - ratio)


def test_a_magnitude_that_is_no_number_has_no_error() -> None:
    """Of a feature below zero the error was given, with a minus sign."""
    (index,) = (index for index in SIMPLE if index.kind == "magnitude")
    wave = np.arange(4900.0, 5100.0)
    inside = (wave > index.feature[0] - 2) & (wave < index.feature[1] + 2)
    flux = np.stack([np.where(inside, level, 5.0) for level in (-1.0, 0.0, 1.0)])
    value, error = line_index(wave, flux, np.ones_like(flux), np.zeros(3), index)
    assert np.isnan(value).tolist() == np.isnan(error).tolist() == [True, True, False]
    assert error[2] > 0


@st.composite
def spectra(draw: st.DrawFn) -> tuple[Any, Any, Any, Any]:
    """A wavelength axis, and some spectra on it with holes, near the bands of `SIMPLE`."""
    nspec = draw(st.integers(1, 4))
    step = draw(st.floats(0.3, 6.0))
    start = draw(st.floats(4900.0, 5000.0))
    wave = start + step * np.arange(draw(st.integers(2, 200))) ** draw(st.sampled_from([1.0, 1.03]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    flux = rng.normal(5.0, draw(st.floats(0.0, 4.0)), (nspec, wave.size)).astype(np.float32)
    ivar = rng.uniform(0.1, 9.0, flux.shape).astype(np.float32)
    ivar[rng.random(flux.shape) < draw(st.sampled_from([0.0, 0.02, 0.3]))] = 0.0
    flux[(ivar == 0.0) & (rng.random(flux.shape) < 0.5)] = np.nan
    z = rng.uniform(-0.01, 0.02, nspec)
    return wave, flux, ivar, z


@given(spectra(), st.sampled_from(SIMPLE))
def test_many_at_once_are_each_as_computed_directly(case: Any, index: LineIndex) -> None:
    wave, flux, ivar, z = case
    value, error = line_index(wave, flux, ivar, z, index)
    assert value.shape == error.shape == z.shape
    # A value that is no more than rounding away from the limit of what is measured may be either.
    expected = [
        directly(wave, *one, index) for one in zip(flux.astype(float), ivar, z, strict=True)
    ]
    assert value == pytest.approx(np.array(expected), rel=1e-6, abs=1e-6, nan_ok=True)
    assert np.array_equal(np.isnan(value), np.isnan(error))
    assert (error[~np.isnan(error)] >= 0).all()


@given(spectra(), st.sampled_from(SIMPLE))
def test_errors_follow_each_pixel(case: Any, index: LineIndex) -> None:
    """The variance is the sum, over pixels, of the squared change by one standard deviation."""
    wave, flux, ivar, z = case
    flux = np.abs(flux.astype(np.float64)) + 1.0
    value, error = line_index(wave, flux[0], ivar[0], z[0], index)
    if np.isnan(value):
        return
    good = np.flatnonzero(ivar[0])
    step = 1e-4
    changed = np.repeat(flux[:1], len(good), axis=0)
    changed[np.arange(len(good)), good] += step
    moved, _ = line_index(wave, changed, np.repeat(ivar[:1], len(good), axis=0), z[0], index)
    slopes = (moved - value) / step
    assert error == pytest.approx(math.sqrt(np.sum(slopes**2 / ivar[0][good])), rel=1e-2, abs=1e-6)


# --- what an astronomer expects ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["Hdelta_F", "H_beta", "Mg_b"])
def test_a_line_of_known_width_is_measured(name: str) -> None:
    """2 Å on a sloping continuum, at three redshifts; emission is negative."""
    index = INDICES[name]
    assert index.feature
    centre = sum(index.feature) / 2
    for z in (0.0, 0.1, 0.5):
        rest = WAVE / (1 + z)
        profile = np.exp(-0.5 * ((rest - centre) / 2.5) ** 2) / (2.5 * math.sqrt(2 * math.pi))
        for width in (2.0, -20.0):
            flux = (10 + 0.003 * (rest - 4500)) * (1 - width * profile)
            value, _ = line_index(WAVE, flux, np.ones_like(flux), z, index)
            assert value == pytest.approx(width, rel=0.01)


def test_a_step_is_a_break() -> None:
    """Twice the F_ν redwards of 3975 Å."""
    rest = WAVE / 1.2
    flux = np.where(rest > 3975.0, 2.0, 1.0) / rest**2
    for name in ("D4000", "D4000_n"):
        value, error = line_index(WAVE, flux, np.ones_like(flux), 0.2, INDICES[name])
        assert value == pytest.approx(2.0, rel=1e-6)
        assert error > 0


def test_bands_are_kept_in_vacuum() -> None:
    assert vacuum_to_air(np.array(INDICES["Mg_b"].feature)) == pytest.approx([5160.125, 5192.625])
    assert vacuum_to_air(np.array(INDICES["D4000_n"].red)) == pytest.approx([4000.0, 4100.0])
    for name, index in INDICES.items():
        assert index.name == name
        assert (index.unit == "") == (index.feature is None)


def test_holes_do_not_move_a_featureless_spectrum() -> None:
    """Missing pixels on one side of a band would tilt a continuum anchored at its middle."""
    flux = 10 + 0.01 * (WAVE - 4000)
    ivar = np.ones_like(flux)
    inside = np.flatnonzero((WAVE > 4043) & (WAVE < 4080))
    ivar[inside[:3]] = 0.0
    broken = np.where(ivar > 0, flux, -1e30)
    value, _ = line_index(WAVE, broken, ivar, 0.0, INDICES["Hdelta_A"])
    assert abs(value) < 1e-4


def test_what_cannot_be_measured_is_nan() -> None:
    flux = np.ones((6, WAVE.size))
    ivar = np.ones_like(flux)
    ivar[3, (WAVE > 4100) & (WAVE < 4110)] = 0.0
    flux[4] *= -1.0
    z = np.array([0.0, 3.0, np.nan, 0.0, 0.0, -1.5])
    value, error = line_index(WAVE, flux, ivar, z, INDICES["Hdelta_A"])
    assert np.isnan(value).tolist() == [False, True, True, True, True, True]
    assert np.isnan(error).tolist() == np.isnan(value).tolist()
    value, _ = line_index(WAVE, flux, ivar, z, INDICES["Hdelta_A"], min_good=0.5)
    assert np.isnan(value).tolist() == [False, True, True, False, True, True]


def test_shapes_follow_the_flux() -> None:
    flux = np.ones((2, 3, WAVE.size), np.float32)
    value, error = line_index(WAVE, flux, flux, 0.1, INDICES["Mg_2"])
    assert value.shape == error.shape == (2, 3)
    one, _ = line_index(WAVE, flux[0, 0], flux[0, 0], 0.1, INDICES["Mg_2"])
    assert isinstance(float(one), float)
    none, _ = line_index(WAVE, flux[:0], flux[:0], np.zeros((0, 3)), INDICES["Mg_2"])
    assert none.shape == (0, 3)
    narrow, _ = line_index(WAVE[:1], flux[..., :1], flux[..., :1], 0.1, INDICES["Mg_2"])
    assert np.isnan(narrow).all()


def test_an_index_is_possible_or_does_not_exist() -> None:
    with pytest.raises(BadParameter, match="lower limit"):
        LineIndex("x", (5000, 4990), (5030, 5040), (5010, 5020))
    with pytest.raises(BadParameter, match="break"):
        LineIndex("x", (4990, 5000), (5030, 5040))
    with pytest.raises(BadParameter, match="bluewards"):
        LineIndex("x", (5030, 5040), (4990, 5000), (5010, 5020))
