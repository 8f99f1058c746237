"""Spectra of specutils made by the client are in every way those that its constructor makes."""

import copy
import io
import pickle
import warnings
from collections.abc import Callable

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SpectralCoord
from astropy.nddata import InverseVariance, NDUncertainty
from astropy.wcs.wcsapi import BaseHighLevelWCS
from hypothesis import given
from hypothesis import strategies as st
from specutils import SpectralAxis, SpectralRegion, Spectrum
from specutils.analysis import equivalent_width, line_flux, snr
from specutils.manipulation import (
    FluxConservingResampler,
    LinearInterpolatedResampler,
    box_smooth,
    extract_region,
)

from specserver.client.results.convert import convert
from specserver.client.results.spectrum1d import make_spectrum
from test_client_convert import FLUX, NPIX, answer, spectrum

OTHER_AXIS = np.linspace(3640, 3660, 7) * u.AA


def written(one: Spectrum) -> bytes:
    """The spectrum as a FITS file, without the time of its writing."""
    out = io.BytesIO()
    with np.errstate(divide="ignore"):
        one.write(out, format="tabular-fits", update_header=True)
    return out.getvalue()


def changed(name: str, *args: object, **keywords: object):
    """A change in place, by a method."""

    def change(one: Spectrum) -> Spectrum:
        getattr(one, name)(*args, **keywords)
        return one

    return change


def assigned(one: Spectrum) -> Spectrum:
    """Values and attributes set one by one."""
    one.spectral_axis[3] = one.spectral_axis[3] + 0.01 * u.AA
    one.rest_value = 3650 * u.AA
    one.mask = ~one.mask
    one.meta["seen"] = True
    one.data[2] = 7
    one.wcs.bounding_box = (1, 9)
    return one


def without_wcs(one: Spectrum) -> Spectrum:
    """Another WCS in the place of the first."""
    made, one.wcs = one.wcs, None
    one.wcs = made.deepcopy()
    return one


USES = {
    "as it is": lambda one: one,
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "slice": lambda one: one[5:20],
    "pixel": lambda one: one[7],
    "slice of a slice": lambda one: one[5:20][2:9],
    "wavelengths": lambda one: one[3640 * u.AA : 3655 * u.AA],
    "region": lambda one: extract_region(one, SpectralRegion(3640 * u.AA, 3655 * u.AA)),
    "crop": lambda one: one.crop([SpectralCoord(3640 * u.AA)], [SpectralCoord(3655 * u.AA)]),
    "frequency": lambda one: one.with_spectral_axis_unit(u.GHz),
    "both units": lambda one: one.with_spectral_axis_and_flux_units(u.um, "mJy"),
    "flux unit": lambda one: one.with_flux_unit("mJy"),
    "sum": lambda one: one + one,
    "difference": lambda one: one - 2 * FLUX,
    "product": lambda one: 3 * one,
    "quotient": lambda one: one / one,
    "power": lambda one: one**2,
    "convention": lambda one: one.with_velocity_convention("optical"),
    "resampled": lambda one: FluxConservingResampler()(one, OTHER_AXIS),
    "interpolated": lambda one: LinearInterpolatedResampler()(one, OTHER_AXIS),
    "smoothed": lambda one: box_smooth(one, 3),
    "redshift set": changed("set_redshift_to", 0.7),
    "velocity set": changed("set_radial_velocity_to", 100 * u.km / u.s),
    "shifted": changed("shift_spectrum_to", redshift=0.0),
    "assigned": assigned,
    "another wcs": without_wcs,
    "constructor": Spectrum,
    "written": written,
    "str": str,
    "repr": repr,
    "wcs as text": lambda one: str(one.wcs) + repr(one.wcs),
    "class of the wcs": lambda one: [one.wcs.pixel_n_dim, type(one.wcs).__mro__],
    "edges": lambda one: one.bin_edges,
    "pixel of a wavelength": lambda one: one.wcs.world_to_pixel(one.spectral_axis[4:9]),
    "mean": lambda one: one.collapse("mean"),
    "line": lambda one: [line_flux(one), equivalent_width(one), snr(one)],
}


def constructed(ours: Spectrum, z: float | None) -> Spectrum:
    """The same spectrum by the constructor alone."""
    return Spectrum(
        flux=ours.flux.copy(),
        spectral_axis=u.Quantity(ours.spectral_axis.value.copy(), u.AA),
        uncertainty=InverseVariance(ours.uncertainty.array.copy()),
        mask=ours.mask.copy(),
        redshift=z,
        meta=copy.deepcopy(ours.meta),
    )


def described(what: object) -> object:  # noqa: PLR0911  # one for each kind of object
    """Everything in an object, bit for bit and whatever it is made of, to be compared."""
    if isinstance(what, Spectrum):
        names = ("data", "unit", "mask", "uncertainty", "spectral_axis", "redshift", "rest_value")
        names += ("radial_velocity", "velocity_convention", "spectral_axis_direction", "shape")
        names += ("spectral_axis_index", "meta", "wcs")
        return {name: described(getattr(what, name)) for name in names}
    if isinstance(what, NDUncertainty):
        return type(what), described(what.array), str(what.unit)
    if isinstance(what, u.Quantity):
        return type(what), described(what.value), str(what.unit)
    if isinstance(what, np.ndarray):
        return what.dtype, what.shape, what.flags.writeable, what.tobytes()
    if isinstance(what, dict):
        return {key: described(value) for key, value in what.items()}
    if isinstance(what, list | tuple):
        return [described(value) for value in what]
    if isinstance(what, BaseHighLevelWCS):
        world = described(what.pixel_to_world(np.arange(0, 5, 0.5)))
        names = sorted(getattr(what, "__dict__", ()))
        return type(what), str(what), world, str(what.bounding_box), names
    return type(what), str(what)


def result(use: Callable[[Spectrum], object], one: Spectrum) -> object:
    """What comes of a use of a spectrum, or why it fails."""
    try:
        return described(use(one))
    except (AttributeError, u.UnitsError) as error:
        return type(error), str(error)


def pair() -> list[Spectrum]:
    """Two spectra of one answer, which share their lattice."""
    return convert(answer([spectrum(1), spectrum(2)]), "spectrum")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", USES)
def test_a_spectrum_is_what_the_constructor_makes(name: str) -> None:
    use = USES[name]
    ours, other = pair()
    theirs, unchanged = constructed(ours, 0.25), constructed(other, None)
    assert result(use, ours) == result(use, theirs)
    assert described(ours) == described(theirs)
    assert described(other) == described(unchanged)


def test_a_spectrum_can_be_pickled_until_its_wcs_is_used() -> None:
    for ours, z in zip(pair(), (0.25, None), strict=True):
        assert described(pickle.loads(pickle.dumps(ours))) == described(constructed(ours, z))


def test_an_axis_changed_in_place_leaves_the_wcs_and_other_spectra() -> None:
    ours, other = pair()
    before = ours.spectral_axis.value.copy()
    ours.spectral_axis[:] = 1 * u.AA
    assert np.array_equal(other.spectral_axis.value, before)
    assert np.array_equal(ours.wcs.pixel_to_world(np.arange(NPIX)).value, before)
    assert convert(answer([spectrum(1)]), "spectrum")[0].spectral_axis.value[0] == before[0]


@pytest.mark.parametrize("npix", [0, 1, 2])
def test_spectra_of_few_pixels(npix: int) -> None:
    (ours,) = convert(answer([spectrum(1)[:npix]]), "spectrum")
    theirs = constructed(ours, 0.25)
    assert described(ours.spectral_axis) == described(theirs.spectral_axis)
    assert str(ours.wcs) == str(theirs.wcs)


@given(st.floats(-1, 1e9, exclude_min=True) | st.floats(-1e-3, 1e-3))
def test_a_redshift_is_the_velocity_that_the_constructor_computes(z: float) -> None:
    wave = np.array([3600.0, 3601.0, 3602.5])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = SpectralAxis(wave * u.AA, redshift=z)
        ours = make_spectrum(np.zeros(3) * FLUX, None, wave, z, mask=None).spectral_axis
        assert described(ours) == described(theirs)
        assert described(ours.radial_velocity) == described(theirs.radial_velocity)
