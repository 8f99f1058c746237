"""Spectra on different wavelengths → one lattice, flux conserved, variance propagated.

Spectra that lie on that lattice already are shifted by whole pixels, every bit as it was. The
others are resampled (`specserver.ops.rebin`), after these rules:

* An output pixel is the mean of the good input pixels (``ivar > 0``) that it overlaps, weighted
  by the width of the overlap; its variance is that of this mean. A bad pixel so contributes
  nothing, and takes no neighbour with it.
* Where good pixels cover less than half of an output pixel, flux and ivar are zero, as they are
  outside a spectrum, in pixels that it covers in part only too; where a survey states no
  uncertainties, flux is NaN there instead, to differ from a measured zero.
* Pixels that a survey's mask calls bad are bad likewise where the result does not carry that mask,
  as that of surveys whose masks mean different things: nothing bad is left without a mark.
* A gap in the wavelengths (`specserver.ops.pixels.find_gaps`) holds no pixel.
* Pixels whose flux or ivar is no finite number, or whose ivar is negative, are bad likewise:
  their ivar is 0, on the lattice too.
* Bits of a mask are set where any input pixel has them that the output pixel overlaps.
* Wavelengths in air become those in vacuum first (Ciddor 1996), or the other way round where air
  is wanted; flux density per Å stays as it is. Spectra whose medium is not known are laid on no
  others.
* Neighbours that share an input pixel are correlated; ``ivar`` does not include this.
* Vectors in pixels and those derived from other resolutions (wdisp, sky, model) are left out.
* Of several surveys the lattice is that of the first, and the masks are those that all have under
  one name.
* A cutout has the pixels of the whole, bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter
from ..model.grid import Grid, PixelRange
from ..model.survey import Vector
from .joining import common_record
from .media import Change
from .pixels import Edges, pixel_edges
from .rebin import rebin

VECTORS: Final = ("flux", "ivar")
"""Vectors that resampling needs, whether or not they are asked for."""

_ROUNDING: Final = 1e-9
"""Part of a pixel that the rounding of its edges may take away."""

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Lattice:
    """The lattice on which spectra are laid, and the fields that they have there."""

    grid: Grid
    window: PixelRange
    """Its pixels."""
    record: tuple[Vector, ...]
    is_blank: bool
    """Flux is NaN where nothing is measured, as there is no ivar to mark such pixels."""

    @property
    def moved(self) -> list[str]:
        """Fields that are resampled; the axis is computed."""
        return [vector.name for vector in self.record if vector.name != self.grid.axis]

    def empty(self, nspec: int) -> Array:
        """Return so many spectra without a measured pixel, 2D[nspec, npix] structured."""
        dtype = np.dtype([(vector.name, vector.dtype) for vector in self.record])
        block = np.zeros((nspec, self.window.count), dtype)
        if self.grid.axis in (dtype.names or ()):
            block[self.grid.axis] = self.grid.axis_values(self.window.first, self.window.count)
        if self.is_blank and "flux" in (dtype.names or ()):
            block["flux"] = np.nan
        return block

    def lay(self, row: Array, first: int, record: Array) -> None:
        """Lay a spectrum that is on this lattice already, as it is.

        Parameters
        ----------
        row : 1D[npix] structured, written to
        first : lattice pixel of its first value
        record : 1D[n] structured
        """
        fields = _unchanged(record, self.moved)
        if self.is_blank and "flux" in fields and "ivar" in (record.dtype.names or ()):
            good = (record["ivar"] > 0) & np.isfinite(record["ivar"])
            fields["flux"] = np.where(good, record["flux"], np.nan)
        _put(row, first - self.window.first, fields)

    def resample(self, row: Array, record: Array, edges: Edges, pixels: Array) -> None:
        """Resample a spectrum.

        Parameters
        ----------
        row : 1D[npix] structured, written to
        record : 1D[n] structured, with flux, and ivar where the survey states it
        edges : the edges of its n pixels, Å in the medium of this lattice
        pixels : 1D[npix + 1] float64, `lattice_edges` of this lattice
        """
        at, fields = _resampled(record, edges, pixels)
        if self.is_blank:
            fields["flux"] = np.where(fields["ivar"] > 0, fields["flux"], np.nan)
        _put(row, at, {name: fields[name] for name in self.moved})


def leave_out(record: Array, bad: npt.NDArray[np.bool_]) -> None:
    """Mark pixels as unknown, in place: by ``ivar`` 0, or by flux NaN if there is no ivar.

    Parameters
    ----------
    record : 1D[npix] structured
    bad : 1D[npix] bool
    """
    name, nothing = ("ivar", 0) if "ivar" in (record.dtype.names or ()) else ("flux", np.nan)
    record[name][bad] = nothing


def _put(row: Array, at: int, fields: dict[str, Array]) -> None:
    """Write fields, 1D[n] each, into a row from a pixel on; values beyond the row are left out."""
    for name, values in fields.items():
        skip, stop = max(-at, 0), min(len(values), len(row) - at)
        if skip < stop:
            row[name][at + skip : at + stop] = values[skip:stop]


def changed(edges: Edges, change: Change | None) -> Edges:
    """Return edges in another medium."""
    return edges if change is None else Edges(change(edges.wave), edges.place)


def resampled_record(
    records: Sequence[Sequence[Vector]], axis: str, values: Sequence[str] | None
) -> tuple[Vector, ...]:
    """Return the vectors of resampled spectra: axis, flux, ivar, and the masks that all have.

    Parameters
    ----------
    records : a record for each survey
    axis : name of the first survey's spectral axis
    values : names of those wanted; None: all

    Raises
    ------
    BadParameter
        A value that is none of these.
    """
    can = [
        vector
        for vector in common_record(records, axis)
        if vector.name in {axis, *VECTORS} or np.dtype(vector.dtype).kind in "iu"
    ]
    known = {vector.name for vector in can}
    if refused := [value for value in values or () if value not in known]:
        masks = "masks" if len(records) == 1 else "masks that all have under one name"
        allowed = f"resampled spectra have {axis}, {', '.join(VECTORS)} and {masks}"
        raise BadParameter("values", ", ".join(refused), allowed)
    return tuple(vector for vector in can if values is None or vector.name in values)


def _unchanged(record: Array, names: Sequence[str]) -> dict[str, Array]:
    """Return fields of a spectrum on the lattice as they are, but where they say nothing.

    Where flux or ivar is not finite, or ivar negative, ivar is 0, and so is flux that is no number.
    Without ivar flux that is no number stays so.
    """
    fields = {name: record[name] for name in names}
    flux, bad = record["flux"], ~np.isfinite(record["flux"])
    stated = "ivar" in (record.dtype.names or ())
    if stated:
        bad |= ~((record["ivar"] >= 0) & np.isfinite(record["ivar"]))
    if stated and bad.any():
        changed = {"flux": np.where(np.isfinite(flux), flux, flux.dtype.type(0))}
        changed["ivar"] = np.where(bad, flux.dtype.type(0), record["ivar"])
        fields |= {name: values for name, values in changed.items() if name in names}
    return fields


def covered(grid: Grid, ends: Array) -> PixelRange:
    """Return the lattice pixels between two wavelengths that are covered in part at least.

    Parameters
    ----------
    ends : 1D[2] float64, Å
    """
    first, last = grid.position(float(ends[0])), grid.position(float(ends[1]))
    return PixelRange(floor(first), ceil(last) + 1)


def lattice_edges(grid: Grid, pixels: PixelRange) -> Array:
    """Return the edges of lattice pixels, half way between their centres, Å, 1D[npix + 1]."""
    wave = grid.wave(pixels.first - 1, pixels.count + 2)
    edges: Array = (wave[1:] + wave[:-1]) / 2
    return edges


def own_edges(wave: Array) -> Edges:
    """Return the edges of the pixels of a spectrum with wavelengths of its own, 1D[npix] Å."""
    if len(wave) > 1:
        return pixel_edges(wave)
    # A pixel of unknown width holds nothing that could be shared out.
    return Edges.without_gaps(np.concatenate([wave, wave]))


def _resampled(record: Array, edges: Edges, wanted: Array) -> tuple[int, dict[str, Array]]:
    """Return the first output pixel under a spectrum; flux, ivar and masks from there on.

    Parameters
    ----------
    record : 1D[npix] structured
    edges : edges of its pixels
    wanted : 1D[m + 1] float64, Å, edges of all output pixels
    """
    begin, end = edges.ends
    low, high = np.searchsorted(wanted, edges.ends).tolist()
    low, high = max(low - 1, 0), max(min(high, len(wanted) - 1), 0)
    wanted = wanted[low : high + 1]
    spare = _ROUNDING * np.diff(wanted)
    inside = (wanted[:-1] >= begin - spare) & (wanted[1:] <= end + spare)
    # Where a survey states no uncertainties, all pixels have the same weight.
    stated = "ivar" in (record.dtype.names or ())
    ivar = record["ivar"] if stated else np.ones(len(record))
    # 1 / ivar is to be a number, too.
    good = (ivar > 0) & np.isfinite(ivar) & np.isfinite(record["flux"])
    flux, variance = rebin(record["flux"], ivar, good, edges, wanted)
    usable = inside & (variance > 0)
    fields: dict[str, Array] = {"flux": np.where(usable, flux, 0.0), "ivar": np.zeros(len(flux))}
    np.divide(1.0, variance, out=fields["ivar"], where=usable)
    for name in record.dtype.names or ():
        if record.dtype[name].kind in "iu":
            fields[name] = any_bits(record[name], edges, wanted)
    return low, fields


def any_bits(
    mask: npt.NDArray[Any], edges: Edges, wanted: npt.NDArray[np.float64]
) -> npt.NDArray[Any]:
    """Return the bits that any input pixel has under each output pixel, 1D[m] as ``mask``.

    Parameters
    ----------
    mask : 1D[npix] int
    edges : edges of its pixels
    wanted : 1D[m + 1] float64, Å, ascending, edges of the output pixels
    """
    spare = _ROUNDING * np.diff(wanted)
    low, high = edges.runs(wanted[:-1] + spare, wanted[1:] - spare)
    # A zero at the end, so that every bound is a place; between equal bounds reduceat returns
    # the value there instead of no bits.
    padded = np.append(mask, mask.dtype.type(0))
    joined = np.bitwise_or.reduceat(padded, np.stack([low, high], axis=1).ravel())[::2]
    return np.where(high > low, joined, 0).astype(mask.dtype)
