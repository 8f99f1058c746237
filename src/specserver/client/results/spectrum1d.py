"""The Spectrum of results, which is also an instance of Spectrum1D, its old name.

Importing this module imports specutils.
"""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import specutils
from astropy import units as u
from astropy.nddata import InverseVariance

_Named = getattr(specutils, "Spectrum1D", specutils.Spectrum)
"""The old name, where specutils still has it."""
_KM_S: Final = u.km / u.s
_VELOCITY: Final = u.doppler_redshift()[0][2]
"""Astropy's function for the radial velocity, km/s, of a redshift."""


class Spectrum(_Named):  # type: ignore[misc,valid-type]
    """A Spectrum of specutils."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        # That of Spectrum1D warns that its name is old.
        specutils.Spectrum.__init__(self, *args, **keywords)


class _Uncertainty(InverseVariance):  # type: ignore[misc]
    """An InverseVariance that computes the unit of ivar once for all fluxes of a unit.

    Astropy computes it for each: a quarter of the time of a Spectrum.
    """

    @staticmethod
    @lru_cache
    def _data_unit_to_uncertainty_unit(value: u.UnitBase) -> u.UnitBase:
        return 1 / value**2


def make_spectrum(
    flux: u.Quantity,
    ivar: npt.NDArray[Any] | None,
    wave: npt.NDArray[np.float64],
    redshift: float | None,
    **more: Any,
) -> Spectrum:
    """Return the Spectrum that the constructor makes of the same values.

    It is made in a quarter of the time, as the lookup table that specutils makes of an axis, its
    WCS, waits until it is used: few are.

    Parameters
    ----------
    flux, ivar : 1D[npix] or 2D[nspec, npix] float
        Taken over, not copied.
    wave : 1D[npix] float64, Å
        Values that nobody changes. Spectra may share them; the axis is a copy.
    redshift
        Redshift that the axis states; None if it is not known.
    more
        Further arguments of the constructor.
    """
    # Given as a redshift it would take twice as long.
    velocity = None if redshift is None else u.Quantity(_VELOCITY(redshift), _KM_S)
    uncertainty = None
    if ivar is not None:
        unit = _Uncertainty._data_unit_to_uncertainty_unit(flux.unit)  # noqa: SLF001  # ours
        uncertainty = _Uncertainty(ivar, copy=False, unit=unit)
    made = Spectrum(
        flux=flux,
        uncertainty=uncertainty,
        spectral_axis=specutils.SpectralAxis(wave, u.AA, radial_velocity=velocity),
        spectral_axis_index=flux.ndim - 1,
        wcs=_DeferredWCS(wave, redshift, flux.shape),
        **more,
    )
    if uncertainty is not None:
        uncertainty.__class__ = InverseVariance
    return made


def _made_wcs(wave: npt.NDArray[np.float64], redshift: float | None, shape: tuple[int, ...]) -> Any:
    """Return the WCS that specutils makes of an axis, 1D[npix] float64, Å."""
    made = specutils.Spectrum(
        flux=u.Quantity(np.broadcast_to(0.0, shape), copy=False),
        spectral_axis=u.Quantity(wave, u.AA, copy=False),
        spectral_axis_index=len(shape) - 1,
        redshift=redshift,
        mask=None,
    )
    return made.wcs


_EXAMPLE: Final = _made_wcs(np.array([1.0, 2.0]), None, (2,))
_ATTRIBUTES: Final = frozenset(vars(_EXAMPLE))
"""Attributes that specutils gives its WCS."""


class _DeferredWCS(type(_EXAMPLE)):  # type: ignore[misc]
    """A WCS of specutils that is made when one of its attributes is first used.

    From then on it is an instance of specutils' own class, and nothing else.
    """

    def __init__(self, *recipe: Any) -> None:
        # Not that of the class, which makes the attributes.
        self._recipe = recipe

    @property
    def world_n_dim(self) -> int:
        """Number of dimensions: the one thing that the constructor of a Spectrum asks."""
        return len(self._recipe[-1])

    def __getattr__(self, name: str) -> Any:
        """Make the WCS if one of its attributes is missing."""
        recipe = self.__dict__.get("_recipe")
        if name in _ATTRIBUTES and recipe is not None:
            self.__dict__.update(vars(_made_wcs(*recipe)))
            self.__class__ = type(_EXAMPLE)
            self.__dict__.pop("_recipe", None)
        return object.__getattribute__(self, name)
