"""Wavelength lattices."""

import csv
import math

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import assume, given
from hypothesis import strategies as st

from specserver.errors import BadParameter
from specserver.model.grid import (
    Linear,
    LogLinear,
    LogWave,
    PixelRange,
    cutout,
    grid_from_dict,
    locate,
    span,
)

LOG = LogLinear(1e-4)
LINEAR = Linear(3600.0, 0.8)
LOG_WAVE = LogWave(3.5682, 1e-4)
GRIDS = [LOG, LINEAR, LOG_WAVE]

# Pixels of all optical spectra on both lattices, and around them.
PIXELS = {
    LOG: st.integers(30000, 45000),
    LINEAR: st.integers(-4000, 20000),
    LOG_WAVE: st.integers(-5000, 10000),
}
on_grids = pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: grid.kind)


@on_grids
@given(data=st.data())
def test_position_is_the_inverse_of_wave(grid, data):
    first = data.draw(PIXELS[grid])
    assert grid.position(float(grid.wave(first, 1)[0])) == pytest.approx(first, abs=1e-9)


@on_grids
@given(data=st.data())
def test_between_pixels_positions_are_the_inverse_of_wavelengths(grid, data):
    pixel = np.array([data.draw(PIXELS[grid]) + data.draw(st.floats(-0.5, 0.5)) for _ in range(3)])
    assert grid.pixel_at(grid.wave_at(pixel)) == pytest.approx(pixel, abs=1e-9)
    first = int(pixel[0])
    assert grid.wave_at(np.array([first + 0.0]))[0] == grid.wave(first, 1)[0]


@on_grids
@given(data=st.data())
def test_a_slice_of_the_lattice_is_the_lattice(grid, data):
    first, count = data.draw(PIXELS[grid]), data.draw(st.integers(0, 50))
    skip = data.draw(st.integers(0, count))
    whole, part = grid.axis_values(first, count), grid.axis_values(first + skip, count - skip)
    assert part.tobytes() == whole[skip:].tobytes()
    assert grid.wave(first, count)[skip:].tolist() == grid.wave(first + skip, count - skip).tolist()


@on_grids
@given(data=st.data())
def test_locate_finds_every_run_of_the_lattice(grid, data):
    first, count = data.draw(PIXELS[grid]), data.draw(st.integers(1, 50))
    assert locate(grid, grid.axis_values(first, count)) == first


@on_grids
@given(data=st.data())
def test_locate_refuses_one_changed_bit(grid, data):
    first, count = data.draw(PIXELS[grid]), data.draw(st.integers(1, 20))
    axis = grid.axis_values(first, count)
    where = data.draw(st.integers(0, count - 1))
    axis[where] = np.nextafter(axis[where], axis.dtype.type(np.inf))
    assert locate(grid, axis) is None


@on_grids
def test_locate_refuses_what_is_no_axis(grid):
    good = grid.axis_values(36000, 10)
    kept = good.dtype
    other = "f8" if kept == "f4" else "f4"
    for bad in (good[:0], good[::-1], good[::2], np.repeat(good, 2), good.astype(other)):
        assert locate(grid, bad) is None
    for value in (np.nan, np.inf, -np.inf, -5.0):
        assert locate(grid, np.full(3, value, kept)) is None
    good[5] = np.nan
    assert locate(grid, good) is None


def test_locate_refuses_wavelengths_on_a_logarithmic_lattice():
    """A file may hold Å where log10 Å belongs; it is then off the lattice, not a crash."""
    assert locate(LOG, np.linspace(3600, 9800, 10, dtype="f4")) is None


def test_published_values():
    assert LOG.axis_values(35508, 2).tolist() == np.array([3.5508, 3.5509], "f4").tolist()
    assert LOG.wave(40000, 1).tolist() == [10000.0]
    assert LINEAR.axis_values(0, 3).tolist() == [3600.0, 3600.8, 3601.6]
    assert (LOG.axis, LINEAR.axis) == ("loglam", "wavelength")


@on_grids
def test_plain_values_rebuild_the_lattice(grid):
    assert grid_from_dict(grid.to_dict()) == grid


@pytest.mark.parametrize("values", [{}, {"kind": "cubic", "step": 1.0}])
def test_unknown_lattices_are_refused(values):
    with pytest.raises(BadParameter, match="log10, linear"):
        grid_from_dict(values)


@on_grids
@given(data=st.data())
def test_cutout_holds_the_pixels_within(grid, data):
    low = data.draw(st.floats(1500, 15000))
    high = data.draw(st.floats(1500, 15000))
    assume(low < high)
    found = cutout(grid, low, high)
    wave = grid.wave(found.first - 1, found.count + 2)
    inside = (wave >= low) & (wave <= high)
    near_edge = np.isclose(wave, low, rtol=1e-12) | np.isclose(wave, high, rtol=1e-12)
    expected = np.arange(wave.size) - 1
    expected = (expected >= 0) & (expected < found.count)
    assert np.array_equal(inside | near_edge, expected | near_edge)


@on_grids
@given(data=st.data())
def test_cutout_keeps_pixels_that_the_caller_names(grid, data):
    first, count = data.draw(PIXELS[grid]), data.draw(st.integers(2, 5000))
    wave = grid.wave(first, count)
    assume(wave[0] > 0)
    assert cutout(grid, float(wave[0]), float(wave[-1])) == PixelRange(first, first + count)


@pytest.mark.parametrize(
    ("low", "high"),
    [(7200, 6500), (5000, 5000), (0, 5000), (-1, 5000), (math.nan, 1), (1, math.inf)],
)
def test_refused_cutouts(low, high):
    with pytest.raises(BadParameter, match="6500-7200"):
        cutout(LOG, low, high)


def test_cutout_between_two_pixels_is_empty():
    assert cutout(LINEAR, 3600.1, 3600.2).count == 0
    assert PixelRange(5, 3).count == 0


@given(st.lists(st.tuples(st.integers(0, 40000), st.integers(0, 5000)), max_size=10))
def test_span_covers_all_spectra_and_no_more(listed):
    first = np.array([one for one, _ in listed], dtype="i4")
    count = np.array([one for _, one in listed], dtype="i4")
    found = span(first, count)
    pixels = [(one, one + npix) for one, npix in listed if npix]
    expected = PixelRange(min(p[0] for p in pixels), max(p[1] for p in pixels)) if pixels else None
    assert found == (expected or PixelRange(0, 0))


def test_real_spectra_lie_on_the_lattice_bit_for_bit(real_spectra):
    with (real_spectra / "MANIFEST.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"].startswith("sdss/")]
    firsts = []
    for row in rows:
        with fits.open(real_spectra / row["path"]) as hdus:
            names = {name.lower(): name for name in hdus[1].columns.names}
            loglam = hdus[1].data[names["loglam"]].astype("<f4")
        first = locate(LOG, loglam)
        assert first is not None, row["path"]
        assert loglam.tobytes() == LOG.axis_values(first, loglam.size).tobytes()
        firsts.append((first, loglam.size))
    found = span(*np.array(firsts).T)
    assert (len(firsts) > 80, found.first, found.stop) == (True, 35508, 40170)


def test_real_linear_arms_lie_on_one_lattice(real_spectra):
    name = "coadd-5-169-thru20210419.fits"
    with fits.open(real_spectra / "desi" / name) as hdus:
        arms = {arm: hdus[f"{arm}_WAVELENGTH"].data.astype("f8") for arm in "BRZ"}
    for arm, start in (("B", 0), ("R", 2700), ("Z", 4900)):
        expected = LINEAR.wave(start, arms[arm].size)
        assert arms[arm] == pytest.approx(expected, abs=1e-6)
