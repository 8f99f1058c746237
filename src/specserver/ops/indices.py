"""Line indices and breaks of many spectra at once, with their errors.

An index compares the mean flux in a feature's band with a pseudo-continuum, the straight line
through the means of a band on either side (Worthey et al. 1994, ApJS 94, 687); a break compares
the mean F_ν of two bands. Bands are published in air and kept in vacuum here, as spectra are.
Spectra are measured at the resolution that they have: the Lick/IDS system itself is one of 8 to
11 Å, to which a comparison with its calibrated values wants them smoothed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter
from ..model.lines import air_to_vacuum
from .pixels import pixel_edges

Band = tuple[float, float]
"""Lower and upper limit, Å."""
Kind = Literal["width", "magnitude", "break"]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LineIndex:
    """The definition of an index; bands are vacuum Å at rest."""

    name: str
    blue: Band
    """Continuum on the blue side."""
    red: Band
    feature: Band | None = None
    """Band of the line; None for a break, which has none."""
    kind: Kind = "width"
    """An equivalent width in Å, positive in absorption; a magnitude; or red over blue mean F_ν."""

    def __post_init__(self) -> None:
        bands = [band for band in (self.blue, self.feature, self.red) if band is not None]
        if any(not 0.0 < low < high for low, high in bands):
            raise BadParameter("bands", bands, "the lower limit of a band comes first, in Å")
        if (self.feature is None) != (self.kind == "break"):
            raise BadParameter("kind", self.kind, "'break' without a feature, and only then")
        if self.blue[0] >= self.red[0]:
            raise BadParameter("bands", bands, "the blue band lies bluewards of the red one")

    @classmethod
    def from_air(
        cls, name: str, blue: Band, red: Band, feature: Band | None = None, kind: Kind = "width"
    ) -> "LineIndex":
        """Return an index whose bands are given in air, as the literature has them."""
        line = None if feature is None else _vacuum(feature)
        return cls(name, _vacuum(blue), _vacuum(red), line, kind)

    @property
    def unit(self) -> str:
        """Unit of its values as astropy reads it."""
        return {"width": "Angstrom", "magnitude": "mag", "break": ""}[self.kind]

    @property
    def span(self) -> Band:
        """Wavelengths at rest that a spectrum must reach, vacuum Å."""
        bands = [band for band in (self.blue, self.feature, self.red) if band is not None]
        return min(low for low, _ in bands), max(high for _, high in bands)


def _vacuum(band: Band) -> Band:
    """Return a band in vacuum."""
    low, high = air_to_vacuum(np.array(band)).tolist()
    return low, high


# Hδ, Hγ: Worthey & Ottaviani (1997, ApJS 111, 377), wide (A) and narrow (F) definitions.
# The others: Trager et al. (1998, ApJS 116, 1). Name, blue, feature, red; Å in air.
_WIDTHS: Final = (
    ("Hdelta_A", (4041.600, 4079.750), (4083.500, 4122.250), (4128.500, 4161.000)),
    ("Hdelta_F", (4057.250, 4088.500), (4091.000, 4112.250), (4114.750, 4137.250)),
    ("Hgamma_A", (4283.500, 4319.750), (4319.750, 4363.500), (4367.250, 4419.750)),
    ("Hgamma_F", (4283.500, 4319.750), (4331.250, 4352.250), (4354.750, 4384.750)),
    ("H_beta", (4827.875, 4847.875), (4847.875, 4876.625), (4876.625, 4891.625)),
    ("Mg_b", (5142.625, 5161.375), (5160.125, 5192.625), (5191.375, 5206.375)),
    ("Fe5270", (5233.150, 5248.150), (5245.650, 5285.650), (5285.650, 5318.150)),
    ("Fe5335", (5304.625, 5315.875), (5312.125, 5352.125), (5353.375, 5363.375)),
)
_MAGNITUDES: Final = (
    ("Mg_1", (4895.125, 4957.625), (5069.125, 5134.125), (5301.125, 5366.125)),
    ("Mg_2", (4895.125, 4957.625), (5154.125, 5196.625), (5301.125, 5366.125)),
)
# Bruzual (1983, ApJ 273, 105); narrow: Balogh et al. (1999, ApJ 527, 54).
_BREAKS: Final = (
    ("D4000", (3750.0, 3950.0), (4050.0, 4250.0)),
    ("D4000_n", (3850.0, 3950.0), (4000.0, 4100.0)),
)

INDICES: Final[Mapping[str, LineIndex]] = MappingProxyType(
    {
        index.name: index
        for index in (
            *(LineIndex.from_air(name, blue, red, line) for name, blue, line, red in _WIDTHS),
            *(
                LineIndex.from_air(name, blue, red, line, "magnitude")
                for name, blue, line, red in _MAGNITUDES
            ),
            *(LineIndex.from_air(name, blue, red, None, "break") for name, blue, red in _BREAKS),
        )
    }
)
"""The indices in common use, by name."""


def line_index(
    wave: npt.ArrayLike,
    flux: npt.ArrayLike,
    ivar: npt.ArrayLike,
    z: npt.ArrayLike,
    index: LineIndex,
    *,
    min_good: float = 0.9,
) -> tuple[Any, Any]:
    """Measure an index at rest, in any number of spectra on one wavelength axis.

    A pixel that a band's limit divides counts by its part inside. Pixels without information
    (ivar = 0) are left out, so that a band's mean is that of its other pixels.

    Parameters
    ----------
    wave : 1D[npix] float, vacuum Å, ascending
        Observed wavelength of the pixels' centres; a pixel ends half way to the next, but for
        gaps (`specserver.ops.pixels.find_gaps`), which are in no pixel.
    flux : [..., npix] float
        Flux density per Å, in any unit.
    ivar : [..., npix] float
        Inverse variance of flux; 0 means no information. Pixels are taken as independent.
    z : [...] float
        Redshift of each spectrum.
    index
        One of `INDICES`, or your own.
    min_good
        Part of each band's width that must have information.

    Returns
    -------
    value, error : [...] float64
        In `LineIndex.unit`; an equivalent width is at rest, positive in absorption. NaN where
        the spectrum does not reach, too little of a band is good, or a continuum is not positive.
    """
    flux, ivar = np.asarray(flux), np.asarray(ivar)
    shape = flux.shape[:-1]
    stretch = 1.0 + np.broadcast_to(np.asarray(z, np.float64), shape).ravel()
    rows = (-1, flux.shape[-1])
    pixels = _cut(np.asarray(wave), flux.reshape(rows), ivar.reshape(rows), stretch, index.span)
    value, error = np.full(stretch.size, np.nan), np.full(stretch.size, np.nan)
    if pixels is not None:
        measure = _break if index.feature is None else _line
        # Values that cannot be measured become NaN by a division by zero.
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value[pixels.rows], error[pixels.rows] = measure(pixels, index, min_good)
    return value.reshape(shape)[()], error.reshape(shape)[()]


@dataclass(frozen=True, slots=True)
class _Pixels:
    """The pixels around an index, of the spectra that reach so far; 2D[n, width] each."""

    rows: npt.NDArray[np.int64]
    """1D[n], which spectra these are."""
    left: Values
    """Lower edge of each pixel, vacuum Å at rest."""
    right: Values
    flux: Values
    """0 where there is no information."""
    variance: Values
    good: npt.NDArray[np.bool_]

    def band(self, limits: Band) -> tuple[Values, Values, Values]:
        """Return the Å of each pixel that count in a band, their middle, and the part of it."""
        low, high = np.maximum(self.left, limits[0]), np.minimum(self.right, limits[1])
        weight = np.where(self.good, np.maximum(high - low, 0.0), 0.0)
        part = weight.sum(axis=1, keepdims=True) / (limits[1] - limits[0])
        return weight, (low + high) / 2.0, part


def _cut(
    wave: npt.NDArray[Any],
    flux: npt.NDArray[Any],
    ivar: npt.NDArray[Any],
    stretch: Values,
    span: Band,
) -> _Pixels | None:
    """Return the pixels that cover a span at rest; None when no spectrum reaches so far."""
    npix = wave.size
    if npix < 2:
        return None
    edges = pixel_edges(wave.astype(np.float64))
    first, last = edges.ends
    reach = (span[0] * stretch >= first) & (span[1] * stretch <= last)
    rows = np.flatnonzero(reach & np.isfinite(stretch) & (stretch > 0.0))
    if not rows.size:
        return None
    shift = stretch[rows, None]
    begin, stop = edges.runs(span[0] * shift, span[1] * shift)
    # Each gets the width of the widest; pixels beyond a span lie in no band.
    columns = begin + np.arange(int((stop - begin).max()))
    inside = columns < npix
    columns = np.minimum(columns, npix - 1)
    values, weights = (array[rows[:, None], columns].astype(np.float64) for array in (flux, ivar))
    good = inside & (weights > 0.0) & np.isfinite(weights) & np.isfinite(values)
    return _Pixels(
        rows,
        edges.lower[columns] / shift,
        edges.upper[columns] / shift,
        np.where(good, values, 0.0),
        np.where(good, 1.0 / np.where(good, weights, 1.0), 0.0),
        good,
    )


def _line(pixels: _Pixels, index: LineIndex, min_good: float) -> tuple[Values, Values]:
    """Return an equivalent width or magnitude and its error, 1D[n] each."""
    assert index.feature is not None
    blue, blue_mean, blue_wave, blue_part = _mean(pixels, index.blue)
    red, red_mean, red_wave, red_part = _mean(pixels, index.red)
    weight, middle, part = pixels.band(index.feature)
    weight = weight / _sum(weight)
    along = (middle - blue_wave) / (red_wave - blue_wave)
    continuum = blue_mean + (red_mean - blue_mean) * along
    ratio = _sum(weight * pixels.flux / continuum)
    # How the ratio follows each pixel's flux: as a part of the feature, and of either continuum.
    # Bands of some indices overlap, so the three are summed before they are squared.
    slope = weight * pixels.flux / continuum**2
    follows = weight / continuum - _sum(slope * (1.0 - along)) * blue - _sum(slope * along) * red
    spread = np.sqrt(_sum(follows**2 * pixels.variance))
    if index.kind == "magnitude":
        value, error = -2.5 * np.log10(ratio), 2.5 / np.log(10.0) * spread / ratio
    else:
        width = index.feature[1] - index.feature[0]
        value, error = width * (1.0 - ratio), width * spread
    enough = np.minimum(np.minimum(blue_part, red_part), part) >= min_good
    # The magnitude of a feature that is not positive is no number, and so has no error.
    known = enough & (blue_mean > 0.0) & (red_mean > 0.0) & np.isfinite(value)
    return np.where(known, value, np.nan)[:, 0], np.where(known, error, np.nan)[:, 0]


def _break(pixels: _Pixels, index: LineIndex, min_good: float) -> tuple[Values, Values]:
    """Return the ratio of the mean F_ν of two bands, red to blue, and its error; 1D[n] each."""
    # F_ν = λ² F_λ / c, and c goes out of the ratio.
    scale = ((pixels.left + pixels.right) / 2.0) ** 2
    (blue, _, blue_part), (red, _, red_part) = (
        pixels.band(band) for band in (index.blue, index.red)
    )
    blue, red = scale * blue / _sum(blue), scale * red / _sum(red)
    below, above = _sum(blue * pixels.flux), _sum(red * pixels.flux)
    ratio = above / below
    error = np.sqrt(_sum((red - ratio * blue) ** 2 * pixels.variance)) / below
    known = (np.minimum(blue_part, red_part) >= min_good) & (below > 0.0)
    return np.where(known, ratio, np.nan)[:, 0], np.where(known, error, np.nan)[:, 0]


def _mean(pixels: _Pixels, band: Band) -> tuple[Values, Values, Values, Values]:
    """Return the share of each pixel in a band's mean, the mean, its wavelength, and the part.

    The wavelength is that of the pixels that count, so that the mean of a sloping continuum lies
    on it whichever of them are missing.
    """
    weight, middle, part = pixels.band(band)
    share = weight / _sum(weight)
    return share, _sum(share * pixels.flux), _sum(share * middle), part


def _sum(values: Values) -> Values:
    """Return sums over pixels, 2D[n, 1]."""
    total: Values = values.sum(axis=1, keepdims=True)
    return total
