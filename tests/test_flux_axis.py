"""The flux axis of pictures shows every line, and no wild pixel sets it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from specserver.client.plots.figure import draw
from specserver.model.lines import SpectralLine
from specserver.render.display import DisplaySpectrum
from specserver.render.figure.spectrum import FigureLook
from specserver.render.style import flux_limits

NPIX = 1500
SIZES = st.floats(-1e30, 1e30).filter(lambda size: abs(size) > 20)
PLACES = st.integers(0, NPIX - 1)


def made(peak: float = 0.0, width: float = 1.2, centre: float = 700.3, *, known: bool = True):
    """Return a spectrum of 5 ± 1 with a line, of `peak` times the noise, `width` pixels wide."""
    pixels = np.arange(NPIX)
    noise = np.random.default_rng(1).normal(size=NPIX)
    flux = 5 + noise + peak * np.exp(-0.5 * ((pixels - centre) / width) ** 2)
    return DisplaySpectrum(4000.0 + pixels, flux, np.ones(NPIX) if known else None)


def spoiled(spectrum: DisplaySpectrum, wild: dict[int, float]) -> DisplaySpectrum:
    flux = spectrum.flux.copy()
    flux[list(wild)] = list(wild.values())
    return DisplaySpectrum(spectrum.wave, flux, spectrum.ivar)


@given(
    wild=st.dictionaries(PLACES, SIZES, min_size=1, max_size=2),
    peak=st.sampled_from([0.0, 40.0, 3000.0]),
    known=st.booleans(),
)
def test_one_wild_pixel_or_two_do_not_set_the_flux_axis(wild, peak, known):
    spectrum = made(peak, known=known)
    low, high = flux_limits(spectrum)
    spoiled_low, spoiled_high = flux_limits(spoiled(spectrum, wild))
    # On the line itself a wild pixel counts for a little more than the line.
    on_line = peak and any(abs(at - 700.3) < 5 for at in wild)
    assert spoiled_high - high < (0.5 if on_line else 0.1) * (high - low)
    assert low - spoiled_low < (0.1 + 0.5 * bool(on_line)) * (high - low)


@given(npix=st.integers(10, 39), data=st.data(), size=SIZES, known=st.booleans())
def test_one_wild_pixel_does_not_hide_the_others_of_a_cutout(npix, data, size, known):
    flux = 5 + np.random.default_rng(1).normal(size=npix)
    spectrum = DisplaySpectrum(np.arange(npix) + 4e3, flux, np.ones(npix) if known else None)
    wild = spoiled(spectrum, {data.draw(st.integers(0, npix - 1)): size})
    low, high = flux_limits(wild)
    assert high - low < 25 * np.ptp([0.0, *flux])


@given(
    npix=st.integers(5, 39), place=st.floats(0, 1), fwhm=st.floats(1.2, 60),
    level=st.sampled_from([0.0, 5.0, 300.0]), peak=st.floats(-1e6, 1e6), noise=st.floats(0, 1),
)  # fmt: skip
def test_a_cutout_shows_all_of_its_line(npix, place, fwhm, level, peak, noise):
    pixels = np.arange(npix)
    flux = level + peak * np.exp(-4 * np.log(2) * ((pixels - place * (npix - 1)) / fwhm) ** 2)
    flux += noise * np.random.default_rng(1).normal(size=npix)
    low, high = flux_limits(DisplaySpectrum(pixels + 4e3, flux, np.ones(npix)))
    assert low < flux.min()
    assert flux.max() < high


def test_two_wild_pixels_side_by_side_do_not_set_the_flux_axis():
    low, high = flux_limits(made())
    for at in (0, 1, 700, NPIX - 2):
        ends = flux_limits(spoiled(made(), {at: 1e5, at + 1: 1e5}))
        assert ends == pytest.approx((low, high), abs=0.5)


@given(
    width=st.floats(0.85, 30), centre=st.floats(3, NPIX - 4), known=st.booleans(),
    bright=st.floats(4, 1e4),
)  # fmt: skip
def test_a_line_of_five_significant_pixels_is_whole_within_the_frame(width, centre, known, bright):
    # The fifth of its pixels is `bright` times five times the noise.
    peak = 5 * bright / np.exp(-0.5 * (2.5 / width) ** 2)
    spectrum = made(peak, width, centre, known=known)
    # Noise on a broad line may reach beyond: the pixels around its top are those of the line, too.
    part = 1.0 if width < 3 else 0.9
    assert flux_limits(spectrum)[1] > part * spectrum.flux.max()


def test_a_line_is_whole_among_several_spectra():
    spectrum, figure = made(3000.0), Figure((10.0, 4.5))
    draw(figure, [made(), spectrum], FigureLook())
    assert figure.axes[0].get_ylim()[1] > spectrum.flux.max()


def test_names_of_lines_stand_above_the_peaks():
    line = SpectralLine("[O II]", 4700.3, "emission")
    spectrum, figure = replace(made(3000.0), z=0.0, lines=(line,)), Figure((10.0, 4.5))
    draw(figure, [spectrum, made()], FigureLook())
    (name,) = (text for text in figure.axes[0].texts if text.get_text() == "[O II]")
    _, top = figure.axes[0].transData.transform((4700.0, spectrum.flux.max()))
    assert name.get_window_extent().y0 > top
