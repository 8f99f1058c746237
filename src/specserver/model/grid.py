"""Wavelength lattices: pixel index ↔ wavelength, and integer shifts between spectra.

A survey reduces all its spectra onto one lattice. So a pixel is an integer, alignment is an integer
shift, a cutout is a slice, and both leave flux values unchanged.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import ceil, floor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter

# Rounding must not lose a pixel at the limits of a cutout: float64 log10 and division are
# exact to about 1e-12 pixels here.
_EDGE = 1e-9
# Pixel numbers are int32 on the wire and in the store.
_FAR = 2.0**30
# No spectrum reaches these wavelengths.
_MAX_WAVE_AA = 1e30


@dataclass(frozen=True, slots=True)
class Grid:
    """An endless wavelength lattice, addressed by integer pixel index; wavelength is vacuum Å.

    Pixels are equidistant on a scale, start + step · index, which is λ/Å or log10(λ/Å). The
    published spectral axis is the wavelength, or log10(λ/Å).
    """

    start: float
    step: float
    axis: str = "wavelength"
    """Name of the published spectral axis."""
    axis_dtype: str = "<f8"
    """NumPy dtype text of the published spectral axis."""
    kind: ClassVar[str]
    has_log_scale: ClassVar[bool] = False
    has_log_axis: ClassVar[bool] = False

    def _scale(self, pixel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the scale, 1D[n] or 2D[m, n] float64, at fractional pixel indices."""
        return self.start + self.step * pixel

    def axis_values(self, first: int, count: int) -> npt.NDArray[Any]:
        """Return the axis as the survey publishes it, 1D[count], for pixels from ``first`` on.

        It is rounded once, from float64 to the published type.
        """
        pixel = np.arange(first, first + count, dtype=np.float64)
        values = self._scale(pixel) if self.has_log_axis else self.wave_at(pixel)
        return values.astype(self.axis_dtype)

    def wave(self, first: int, count: int) -> npt.NDArray[np.float64]:
        """Return vacuum wavelengths, 1D[count] float64, Å."""
        return self.wave_at(np.arange(first, first + count, dtype=np.float64))

    @classmethod
    def wave_of(cls, axis: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return wavelengths, 1D[npix] float64, Å, of a published axis, 1D[npix]."""
        values = axis.astype(np.float64)
        return np.power(10.0, values) if cls.has_log_axis else values

    @classmethod
    def axis_of(cls, wave: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return the published axis, 1D[npix] float64, of wavelengths, 1D[npix] Å."""
        return np.log10(wave) if cls.has_log_axis else wave

    def wave_at(self, pixel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return wavelengths, 1D[n] or 2D[m, n] float64, vacuum Å, of fractional pixel indices."""
        scale = self._scale(pixel)
        return np.power(10.0, scale) if self.has_log_scale else scale

    def pixel_at(self, wave: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return fractional pixel indices, 1D[n] or 2D[m, n] float64, of vacuum wavelengths, Å."""
        scale = np.log10(wave) if self.has_log_scale else wave
        return (scale - self.start) / self.step

    def position(self, wave_aa: float) -> float:
        """Return the fractional pixel index of a vacuum wavelength in Å."""
        return float(self.pixel_at(np.array(wave_aa)))

    def to_dict(self) -> dict[str, str | float]:
        """Return the lattice as plain values, for metadata."""
        given = {member.name: getattr(self, member.name) for member in fields(self) if member.init}
        return {"kind": self.kind} | given


@dataclass(frozen=True, slots=True)
class LogLinear(Grid):
    """log10(λ/Å) = step · index; published as log10 of the vacuum wavelength."""

    start: float = field(default=0.0, init=False, repr=False)
    axis: str = "loglam"
    axis_dtype: str = "<f4"
    kind: ClassVar[str] = "log10"
    has_log_scale: ClassVar[bool] = True
    has_log_axis: ClassVar[bool] = True


@dataclass(frozen=True, slots=True)
class Linear(Grid):
    """λ = start + step · index, in vacuum Å."""

    kind: ClassVar[str] = "linear"


@dataclass(frozen=True, slots=True)
class LogWave(Grid):
    """log10(λ/Å) = start + step · index; published as the vacuum wavelength itself."""

    axis_dtype: str = "<f4"
    kind: ClassVar[str] = "log10 wavelength"
    has_log_scale: ClassVar[bool] = True


def grid_from_dict(values: Mapping[str, Any]) -> Grid:
    """Rebuild a lattice from the plain values of its metadata, or raise `BadParameter`."""
    known = {lattice.kind: lattice for lattice in (LogLinear, Linear, LogWave)}
    try:
        cls = known[values["kind"]]
    except KeyError:
        raise BadParameter("grid kind", values.get("kind"), f"one of {', '.join(known)}") from None
    try:
        grid: Grid = cls(**{name: value for name, value in values.items() if name != "kind"})
    except TypeError as error:
        raise BadParameter("grid", dict(values), f"not a lattice: {error}") from None
    return grid


@dataclass(frozen=True, slots=True)
class PixelRange:
    """A half-open run of lattice pixels, ``first`` … ``stop - 1``."""

    first: int
    stop: int

    @property
    def count(self) -> int:
        """Number of pixels; never negative."""
        return max(0, self.stop - self.first)

    def common(self, other: "PixelRange") -> "PixelRange":
        """Return the pixels that two runs share."""
        first = max(self.first, other.first)
        return PixelRange(first, max(first, min(self.stop, other.stop)))


def locate(grid: Grid, axis: npt.NDArray[Any]) -> int | None:
    """Return the pixel index of ``axis[0]`` when the axis lies on the lattice bit for bit.

    None when any value differs in any bit; such a spectrum keeps its own wavelengths and is never
    rounded onto the lattice.

    Parameters
    ----------
    axis : 1D[npix] float, as published (log10 Å or Å)
    """
    if axis.size == 0 or not np.isfinite(axis[0]):
        return None
    # A file that holds Å instead of log10 Å overflows the power.
    with np.errstate(over="ignore"):
        wave_aa = float(grid.wave_of(axis[:1])[0])
    if not 0.0 < wave_aa < _MAX_WAVE_AA:
        return None
    first = round(grid.position(wave_aa))
    expected = grid.axis_values(first, axis.size)
    same = expected.dtype == axis.dtype.newbyteorder("=") and np.array_equal(expected, axis)
    return first if same else None


def cutout(grid: Grid, wave_min_aa: float, wave_max_aa: float) -> PixelRange:
    """Return the pixels whose centres lie in ``[wave_min_aa, wave_max_aa]``, vacuum Å.

    Raises `BadParameter` if these are not two positive wavelengths in increasing order.
    """
    if not 0.0 < wave_min_aa < wave_max_aa < np.inf:
        raise BadParameter(
            "cutout",
            f"{wave_min_aa}-{wave_max_aa}",
            "give two vacuum wavelengths in Å, the smaller first, as in '6500-7200'",
        )
    low, high = grid.position(wave_min_aa) - _EDGE, grid.position(wave_max_aa) + _EDGE
    first, stop = ceil(max(min(low, _FAR), -_FAR)), floor(max(min(high, _FAR), -_FAR)) + 1
    return PixelRange(first, stop)


def span(first: npt.NDArray[np.integer], count: npt.NDArray[np.integer]) -> PixelRange:
    """Return the smallest run that holds all spectra, by first pixel and count, 1D[nspec] each."""
    some = np.asarray(count) > 0
    if not some.any():
        return PixelRange(0, 0)
    starts = np.asarray(first, dtype=np.int64)[some]
    stops = starts + np.asarray(count, dtype=np.int64)[some]
    return PixelRange(int(starts.min()), int(stops.max()))
