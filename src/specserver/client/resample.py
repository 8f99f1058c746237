"""Spectra on different wavelengths → one lattice, flux conserved, variance propagated.

Spectra that lie on the survey's lattice already are shifted by whole pixels, every bit as it was.
The others are resampled by specutils' `FluxConservingResampler`, after these rules:

* An output pixel is the mean of the good input pixels (``ivar > 0``) that it overlaps, weighted
  by the width of the overlap; its variance is that of this mean. A bad pixel so contributes
  nothing, and takes no neighbour with it.
* Where good pixels cover less than half of an output pixel, flux and ivar are zero, as they are
  outside a spectrum, in pixels that it covers in part only too.
* Bits of a mask are set where any input pixel has them that the output pixel overlaps.
* Neighbours that share an input pixel are correlated; ``ivar`` does not tell.
* Vectors in pixels and those derived from other resolutions (wdisp, sky, model) are left out.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, floor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter
from ..model.grid import Grid, PixelRange
from .convert import axis_wave
from .decode import Spectra
from .progress import Watch

VECTORS: Final = ("flux", "ivar")
"""What resampling needs, whether or not it is asked for."""

_LEAST_GOOD: Final = 0.5
Array = npt.NDArray[Any]


def resample_spectra(spectra: Spectra, values: list[str] | None, watch: Watch) -> Spectra:
    """Lay spectra on the lattice of their survey, over the span of all of them.

    Parameters
    ----------
    spectra
        Unaligned spectra with the axis, flux and ivar.
    values
        Fields of the result; None for all that can be resampled: axis, flux, ivar and masks.

    Returns
    -------
    Spectra
        Aligned: 2D[nspec, npix] structured.
    """
    head = spectra.head
    axis = head.grid.axis
    can = [
        one
        for one in head.record
        if one.name in {axis, *VECTORS} or np.dtype(one.dtype).kind in "iu"
    ]
    if refused := [one for one in values or () if one not in {vector.name for vector in can}]:
        allowed = f"resampled spectra have {axis}, {', '.join(VECTORS)} and masks"
        raise BadParameter("values", ", ".join(refused), allowed)
    head = replace(head, record=tuple(one for one in can if values is None or one.name in values))
    window = _window(spectra)
    data = np.zeros((len(spectra.data), window.count), head.dtype)
    if axis in head.names:
        data[axis] = head.grid.axis_values(window.first, window.count)
    moved = [name for name in head.names if name != axis]
    for index, record in enumerate(spectra.data):
        if spectra.on_lattice[index]:
            at = int(spectra.first[index]) - window.first
            for name in moved:
                data[name][index, at : at + len(record)] = record[name]
        elif len(record) > 1:
            at, fields = resample(record, axis_wave({axis: record[axis]}), head.grid)
            at -= window.first
            for name in moved:
                data[name][index, at : at + len(fields["flux"])] = fields[name]
        watch(index + 1, len(spectra.data))
    return replace(spectra, head=replace(head, span=window), data=data)


def _window(spectra: Spectra) -> PixelRange:
    """Return the lattice pixels that hold all spectra."""
    runs = []
    grid = spectra.head.grid
    for index, record in enumerate(spectra.data):
        if len(record) and spectra.on_lattice[index]:
            first = int(spectra.first[index])
            runs.append((first, first + len(record)))
        elif len(record) > 1:
            runs.append(_covered(grid, axis_wave({grid.axis: record[grid.axis]})))
    if not runs:
        return PixelRange(0, 0)
    return PixelRange(min(first for first, _ in runs), max(stop for _, stop in runs))


def _covered(grid: Grid, wave: Array) -> tuple[int, int]:
    """Return first pixel and stop of the lattice over wavelengths, Å, with a pixel to spare."""
    return floor(grid.position(float(wave[0]))), ceil(grid.position(float(wave[-1]))) + 1


def resample(record: Array, wave: Array, grid: Grid) -> tuple[int, Mapping[str, Array]]:
    """Resample one spectrum onto the pixels of a lattice that it covers.

    Parameters
    ----------
    record : 1D[npix] structured, with flux and ivar
    wave : 1D[npix] float64, vacuum Å, ascending
    grid
        The lattice.

    Returns
    -------
    int, mapping
        First lattice pixel, and flux, ivar (float64) and masks, 1D[n] each.
    """
    first, stop = _covered(grid, wave)
    target = grid.wave(first, stop - first)
    good = (record["ivar"] > 0) & np.isfinite(record["flux"])
    flux = np.where(good, record["flux"], 0.0).astype(np.float64)
    variance = np.zeros(len(flux))
    np.divide(1.0, record["ivar"].astype(np.float64), out=variance, where=good)
    mean, spread = _conserved(flux, variance, wave, target)
    share = np.ones(len(target))
    if not good.all():
        share, _ = _conserved(good.astype(np.float64), variance, wave, target)
    edges, wanted = _edges(wave), _edges(target)
    # specutils stretches the first input pixel over an output pixel that begins before it.
    inside = (wanted[:-1] >= edges[0]) & (wanted[1:] <= edges[-1])
    usable = inside & np.isfinite(mean) & (share >= _LEAST_GOOD)
    fields = {"flux": np.zeros(len(target)), "ivar": np.zeros(len(target))}
    np.divide(mean, share, out=fields["flux"], where=usable)
    np.multiply(spread, share**2, out=fields["ivar"], where=usable)
    for name in record.dtype.names or ():
        if record.dtype[name].kind in "iu":
            fields[name] = _any_bits(record[name], wave, target)
    return first, fields


def _conserved(values: Array, variance: Array, wave: Array, target: Array) -> tuple[Array, Array]:
    """Return means over the target's pixels, and inverse variances; NaN beyond the wavelengths."""
    from astropy import units as u
    from astropy.nddata import VarianceUncertainty
    from specutils import Spectrum
    from specutils.manipulation import FluxConservingResampler

    given = Spectrum(
        flux=values * u.dimensionless_unscaled,
        spectral_axis=wave * u.AA,
        uncertainty=VarianceUncertainty(variance),
    )
    # It takes the reciprocal of the variance, which is zero where no good pixel contributes.
    with np.errstate(divide="ignore"):
        made = FluxConservingResampler("nan_fill")(given, target * u.AA)
    return np.asarray(made.flux.value), np.asarray(made.uncertainty.array)


def _any_bits(mask: Array, wave: Array, target: Array) -> Array:
    """Return the bits that any overlapping pixel has, 1D[n]; the pixels of one wavelength none."""
    edges, wanted = _edges(wave), _edges(target)
    low = np.clip(np.searchsorted(edges, wanted[:-1], "right") - 1, 0, len(mask))
    high = np.clip(np.searchsorted(edges, wanted[1:], "left"), 0, len(mask))
    padded = np.append(mask, mask.dtype.type(0))
    runs = np.stack([low, high], axis=1).ravel()
    joined: Array = np.bitwise_or.reduceat(padded, runs)[::2]
    return np.where(high > low, joined, 0).astype(mask.dtype)


def _edges(wave: Array) -> Array:
    """Return the edges of pixels, half way between their centres, as specutils has them."""
    middle = (wave[1:] + wave[:-1]) / 2
    low, high = 2 * wave[0] - middle[0], 2 * wave[-1] - middle[-1]
    return np.concatenate([[low], middle, [high]])
