"""Spectra on different wavelengths → one lattice, flux conserved, variance propagated.

Spectra that lie on that lattice already are shifted by whole pixels, every bit as it was. The
others are resampled (`specserver.ops.rebin`), after these rules:

* An output pixel is the mean of the good input pixels (``ivar > 0``) that it overlaps, weighted
  by the width of the overlap; its variance is that of this mean. A bad pixel so contributes
  nothing, and takes no neighbour with it.
* Where good pixels cover less than half of an output pixel, flux and ivar are zero, as they are
  outside a spectrum, in pixels that it covers in part only too; where a survey states no
  uncertainties, flux is NaN there instead, as nothing else would tell it from a zero.
* A gap in the wavelengths (`specserver.ops.pixels.find_gaps`) holds no pixel.
* Pixels whose flux or ivar is no finite number, or whose ivar is negative, are bad likewise:
  their ivar is 0, on the lattice too.
* Bits of a mask are set where any input pixel has them that the output pixel overlaps.
* Wavelengths in air become those in vacuum first (Ciddor 1996), or the other way round where air
  is wanted; flux density per Å stays as it is. Spectra whose medium is not known are laid on no
  others.
* Neighbours that share an input pixel are correlated; ``ivar`` does not tell.
* Vectors in pixels and those derived from other resolutions (wdisp, sky, model) are left out.
* Of several surveys the lattice is that of the first, and the masks are those that all have under
  one name.
* A cutout has the pixels of the whole, bit for bit: nothing that an output pixel is made of is cut
  off before (`limits_beyond`).
"""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil, floor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter
from ...model.grid import Grid, PixelRange, cutout, span
from ...model.survey import Vector
from ...ops.maskbits import any_bits
from ...ops.media import Change, assumed, change_of, common_medium
from ...ops.pixels import Edges, pixel_edges
from ...ops.rebin import rebin
from ...wire.head import StreamHead
from ..progress import Watch
from ..request import ResultOptions
from .decode import Spectra
from .joined import common_record, joined

VECTORS: Final = ("flux", "ivar")
"""What resampling needs, whether or not it is asked for."""

_ROUNDING: Final = 1e-9
"""Part of a pixel that the rounding of its edges may take away."""

_MEDIA: Final = 5e-4
"""Upper bound of the relative difference between wavelengths in air and in vacuum."""

_PIXELS: Final = 3
"""Number of pixels beyond each end of a cutout that contribute to its pixels."""

_FAR_AA: Final = 1e12
"""Upper bound of wavelengths: no spectrum has a pixel beyond it."""

Array = npt.NDArray[Any]


def resample_spectra(parts: Sequence[Spectra], wanted: ResultOptions, watch: Watch) -> Spectra:
    """Lay spectra on the lattice of the first survey, over the span of all of them.

    Parameters
    ----------
    parts
        Unaligned spectra with the axis, flux and ivar, a part a survey.
    wanted
        Its values are the fields of the result; None for all that can be resampled: axis, flux,
        ivar and masks. Its medium is that of the lattice: vacuum where none is said. Its cutout
        is of the lattice, too.

    Returns
    -------
    Spectra
        Aligned: 2D[nspec, npix] structured, part after part.

    Raises
    ------
    BadParameter
        The medium of some spectra is not known.
    """
    record = resampled_record([part.head for part in parts], wanted.values)
    media = assumed([one for part in parts for one in part.media], wanted.assume_medium)
    names = [one for part in parts for one in part.ids.tolist()]
    medium = common_medium(media, wanted.medium, names)
    changes = [change_of(one, medium) for one in media]
    grid = parts[0].head.grid
    cut = None if wanted.cutout_aa is None else cutout(grid, *wanted.cutout_aa)
    window = _window(parts, changes, cut)
    dtype = np.dtype([(vector.name, vector.dtype) for vector in record])
    data = np.zeros((sum(len(part.data) for part in parts), window.count), dtype)
    moved = [vector.name for vector in record if vector.name != grid.axis]
    if grid.axis in (dtype.names or ()):
        data[grid.axis] = grid.axis_values(window.first, window.count)
    # Where no ivar says so, a zero would look like a measured one.
    blank = "flux" in moved and any("ivar" not in part.head.names for part in parts)
    if blank:
        data["flux"] = np.nan
    pixels = _edges(grid, window)
    done = 0
    for part in parts:
        own = _on_lattice(part)
        # All spectra on one lattice share its edges.
        same = part.head.grid == grid
        lattice = None if same and not any(changes) else _edges(part.head.grid, own)
        for index, one in enumerate(part.data):
            change = changes[done]
            as_it_is = same and change is None and part.on_lattice[index]
            if as_it_is:
                _lay(data[done], int(part.first[index]) - window.first, _moved(one, moved))
            elif len(one):
                edges = _edges_of(part, index, lattice, own.first)
                at, fields = _resampled(one, _changed(edges, change), pixels)
                if blank:
                    fields["flux"] = np.where(fields["ivar"] > 0, fields["flux"], np.nan)
                _lay(data[done], at, {name: fields[name] for name in moved})
            done += 1
            watch(done, len(data))
    return joined(parts, record, window, data, medium)


def needed(wanted: ResultOptions, heads: Sequence[StreamHead]) -> ResultOptions:
    """Return the request to send, so that its answer can be resampled as wanted.

    Vectors that resampling needs are added. A cutout is made wider by some pixels of the lattice;
    spectra with wavelengths of their own are requested whole.

    Parameters
    ----------
    heads
        Stream heads of the surveys; the first is the one whose lattice is used.
    """
    vectors, limits = wanted.vectors, wanted.vacuum_cutout_aa
    if vectors is not None:
        # Not every survey states uncertainties.
        known = {name for head in heads for name in head.names}
        vectors = list(dict.fromkeys([*vectors, *(one for one in VECTORS if one in known)]))
    if limits is not None:
        limits = limits_beyond(limits, *(head.grid for head in heads))
    # The limits are in vacuum from here on; wavelengths are converted when all spectra have come.
    return replace(wanted, vectors=vectors, cutout_aa=limits, medium=None, cut_own=limits is None)


def limits_beyond(limits_aa: tuple[float, float], *grids: Grid) -> tuple[float, float]:
    """Return wider limits: they include all pixels that contribute to a resampled cutout.

    Parameters
    ----------
    limits_aa : limits of the cutout, Å in any medium
    grids : lattices of the result and of the spectra
    """
    low, high = limits_aa[0] * (1 - _MEDIA), limits_aa[1] * (1 + _MEDIA)
    for grid in grids:
        if low < _FAR_AA:
            pixel = floor(grid.position(low)) - _PIXELS
            # A linear lattice has pixels at negative wavelengths.
            low = max(float(grid.wave(pixel, 1)[0]), low * _ROUNDING)
        if high < _FAR_AA:
            high = float(grid.wave(ceil(grid.position(high)) + _PIXELS, 1)[0])
    return low, min(high, max(_FAR_AA, limits_aa[1]))


def _lay(row: Array, at: int, fields: dict[str, Array]) -> None:
    """Write fields, 1D[n] each, into a row from a pixel on; values beyond the row are left out."""
    for name, values in fields.items():
        skip, stop = max(-at, 0), min(len(values), len(row) - at)
        if skip < stop:
            row[name][at + skip : at + stop] = values[skip:stop]


def _changed(edges: Edges, change: Change | None) -> Edges:
    """Return edges in another medium."""
    return edges if change is None else Edges(change(edges.wave), edges.place)


def resampled_record(heads: Sequence[StreamHead], values: list[str] | None) -> tuple[Vector, ...]:
    """Return the vectors of resampled spectra: axis, flux, ivar, and the masks that all have.

    Raises
    ------
    BadParameter
        A value that is none of these.
    """
    axis = heads[0].grid.axis
    can = [
        one
        for one in common_record(heads)
        if one.name in {axis, *VECTORS} or np.dtype(one.dtype).kind in "iu"
    ]
    known = {one.name for one in can}
    if refused := [one for one in values or () if one not in known]:
        masks = "masks" if len(heads) == 1 else "masks that all have under one name"
        allowed = f"resampled spectra have {axis}, {', '.join(VECTORS)} and {masks}"
        raise BadParameter("values", ", ".join(refused), allowed)
    return tuple(one for one in can if values is None or one.name in values)


def _moved(record: Array, names: Sequence[str]) -> dict[str, Array]:
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


def _window(
    parts: Sequence[Spectra], changes: Sequence[Change | None], cut: PixelRange | None
) -> PixelRange:
    """Return the pixels of the first part's lattice that hold all spectra, changed or not.

    If there is a cut, the pixels that hold the parts of the spectra inside it.
    """
    grid = parts[0].head.grid
    runs = []
    done = 0
    for part in parts:
        own, mine = _on_lattice(part), changes[done : done + len(part.data)]
        done += len(mine)
        if own.count and part.head.grid == grid and None in mine:
            runs.append(own)
        if own.count and (part.head.grid != grid or any(mine)):
            ends = _edges(part.head.grid, own)[[0, -1]]
            runs += [_covered(grid, ends if one is None else one(ends)) for one in set(mine)]
        for record, on_lattice, one in zip(part.data, part.on_lattice.tolist(), mine, strict=True):
            if not on_lattice and len(record):
                edges = _own_edges(part.head.grid, record)
                runs.append(_covered(grid, _changed(edges, one).ends))
    if cut is not None:
        runs = [PixelRange(max(one.first, cut.first), min(one.stop, cut.stop)) for one in runs]
        runs = [one for one in runs if one.count]
    if not runs:
        return PixelRange(0, 0)
    return PixelRange(min(one.first for one in runs), max(one.stop for one in runs))


def _on_lattice(part: Spectra) -> PixelRange:
    """Return the pixels of their own lattice that hold the spectra on it."""
    counts = np.array([len(record) for record in part.data], np.int64)
    return span(part.first[part.on_lattice], counts[part.on_lattice])


def _covered(grid: Grid, ends: Array) -> PixelRange:
    """Return the lattice pixels between two wavelengths, Å, that are covered in part at least."""
    first, last = grid.position(float(ends[0])), grid.position(float(ends[1]))
    return PixelRange(floor(first), ceil(last) + 1)


def _edges(grid: Grid, pixels: PixelRange) -> Array:
    """Return the edges of lattice pixels, half way between their centres, Å, 1D[npix + 1]."""
    wave = grid.wave(pixels.first - 1, pixels.count + 2)
    edges: Array = (wave[1:] + wave[:-1]) / 2
    return edges


def _edges_of(part: Spectra, index: int, lattice: Array | None, first: int) -> Edges:
    """Return the pixel edges of a spectrum; ``lattice`` has edges from pixel ``first`` on."""
    if lattice is None or not part.on_lattice[index]:
        return _own_edges(part.head.grid, part.data[index])
    begin = int(part.first[index]) - first
    return Edges.without_gaps(lattice[begin : begin + len(part.data[index]) + 1])


def _own_edges(grid: Grid, record: Array) -> Edges:
    """Return the edges of the pixels of a spectrum that lies off the lattice."""
    wave = grid.wave_of(record[grid.axis])
    if len(wave) > 1:
        return pixel_edges(wave)
    # A pixel of unknown width holds nothing that could be shared out.
    return Edges.without_gaps(np.concatenate([wave, wave]))


def resample(record: Array, wave: Array, grid: Grid) -> tuple[int, dict[str, Array]]:
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
    edges = pixel_edges(wave)
    pixels = _covered(grid, edges.ends)
    at, fields = _resampled(record, edges, _edges(grid, pixels))
    return pixels.first + at, fields


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
    # Where a survey states no uncertainties, all pixels count alike, and none come out.
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
