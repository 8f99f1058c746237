"""A spectrum as every picture shows it: PNG previews, figures of matplotlib, the viewer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..model.lines import SpectralLine
from ..model.medium import VACUUM
from ..ops.pixels import find_gaps

Floats = npt.NDArray[np.floating[Any]]
Bools = npt.NDArray[np.bool_]

_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ANGSTROM: Final = frozenset({"Angstrom", "angstrom", "AA"})
_FAINT: Final = 3.0
"""Median S/N of a pixel below which a figure smooths a spectrum, unless the caller says how."""
_FAINT_SIGMA_PIX: Final = 3.0
_GAUSSIAN_REACH: Final = 4.0
"""Length of either side of a kernel, standard deviations."""
_ORDER: Final = "s cm Å"
_FACTOR: Final = re.compile(r"([A-Za-zÅ]+)(?:\^|\*\*)?(-?[0-9]+)?\Z")
_SCALE: Final = re.compile(r"1e([+-]?[0-9]+)\Z")


@dataclass(frozen=True, slots=True)
class Fit:
    """Class and redshift that a fit gave."""

    name: str
    kind: str
    z: float | None

    @property
    def about(self) -> str:
        """Class and redshift, in a few words."""
        redshift = "redshift not known" if self.z is None else f"z = {self.z:.5f}"
        return f"{self.kind}  {redshift}".strip()


@dataclass(frozen=True, slots=True)
class DisplaySpectrum:
    """A spectrum to be drawn. Vectors are 1D[npix]; flux is per Å as observed."""

    wave: npt.NDArray[np.float64]
    """Å in ``medium``, ascending."""
    flux: Floats
    ivar: Floats | None = None
    """Inverse variance; 0: no information. None: uncertainties are not known."""
    model: Floats | None = None
    sky: Floats | None = None
    masked: Bools | None = None
    """Pixels that carry no information, or that the survey masks. A picture has a gap there, and
    a bar at its lower edge. None: none."""
    title: str = ""
    """Identifier of the spectrum."""
    name: str = ""
    """Name of the spectrum as its survey writes it; empty: its title."""
    kind: str = ""
    """Class of the object, and subclass, as the title line shows them."""
    fits: tuple[Fit, ...] = ()
    """Further fits of the survey, whose templates are not known; the best is class and ``z``."""
    facts: tuple[tuple[str, str], ...] = ()
    """Facts that the viewer shows beside the title: name and value, as text."""
    z: float | None = None
    """Redshift at which lines are marked; None: not known."""
    lines: tuple[SpectralLine, ...] = ()
    """Lines to mark, where the redshift is known or the wavelengths are at rest."""
    flux_unit: str = ""
    """Unit of flux, as astropy reads it."""
    medium: str = VACUUM
    """Medium of the wavelengths; empty: nothing is said of it. Lines are marked in vacuum, also
    where the medium is unknown."""
    rest: bool = False
    """Whether the wavelengths are at rest: divided by 1 + z."""

    @property
    def weights(self) -> Floats:
        """Inverse variance, 1D[npix], 0 where a pixel carries no information.

        Where a survey states no uncertainties, all good pixels have the weight 1.
        """
        good, ivar = good_pixels(self.flux, self.ivar), self.ivar
        if self.masked is not None:
            good &= ~self.masked
        return good.astype(np.float64) if ivar is None else np.where(good, ivar, ivar.dtype.type(0))

    @property
    def about(self) -> str:
        """Class and redshift, in a few words."""
        return "  ".join(word for word in (self.kind, self.redshift) if word)

    @property
    def redshift(self) -> str:
        """Redshift as text; empty where it is not known."""
        return "" if self.z is None else f"z = {self.z:z.4f}".replace("-", "−")

    @property
    def unit(self) -> str:
        """Unit of flux, as labels show it (`unit_label`)."""
        return unit_label(self.flux_unit)

    @property
    def flux_label(self) -> str:
        """Name of the flux axis."""
        return self.axis_label(0)

    def axis_label(self, power: int) -> str:
        """Return the name of a flux axis whose numbers are fluxes divided by 10 ** power."""
        unit = self.axis_unit(power)
        return f"flux density ({unit})" if unit else "flux density"

    def axis_unit(self, power: int) -> str:
        """Return the unit of such a flux axis, as labels show it."""
        return unit_label(scaled_unit(self.flux_unit, power))

    @property
    def marked(self) -> tuple[SpectralLine, ...]:
        """The lines that have a place on the wavelength axis."""
        return self.lines if self.rest or self.z is not None else ()

    @property
    def stretch(self) -> float:
        """Factor from the wavelength of a line to its place on the wavelength axis."""
        return 1.0 if self.rest else 1.0 + (self.z or 0.0)

    def at_rest(self) -> "DisplaySpectrum":
        """Return the spectrum over wavelengths at rest; an unknown redshift counts as 0."""
        # Only the axis moves: flux density stays as observed, it is not multiplied by 1 + z.
        return replace(self, wave=self.wave / (1.0 + (self.z or 0.0)), rest=True)


def display_spectrum(
    wave: npt.NDArray[np.float64],
    vectors: Mapping[str, npt.NDArray[Any]],
    z: Any,
    bad: Bools | None = None,
    **said: Any,
) -> DisplaySpectrum:
    """Return a spectrum of named vectors as pictures show it.

    Parameters
    ----------
    wave : 1D[npix] float64, Å, ascending
    vectors
        1D[npix] each, by the names that surveys publish: flux, and ivar, model, sky where known.
    z : redshift as a catalogue has it: None, masked, not finite or -1 and less is not known
    bad : 1D[npix] bool, pixels that the survey masks; those without a wavelength are bad, too
    **said
        The other fields of `DisplaySpectrum`.
    """
    ivar, model, sky = (vectors.get(name) for name in ("ivar", "model", "sky"))
    flux = vectors["flux"]
    masked = ~(good_pixels(flux, ivar) & np.isfinite(wave))
    if bad is not None:
        masked |= bad
    return DisplaySpectrum(wave, flux, ivar, model, sky, masked, z=_redshift(z), **said)


def _redshift(value: Any) -> float | None:
    """Return a redshift; None where it is not known. -1 and less marks a failed fit."""
    if value is None or value is np.ma.masked:
        return None
    z = float(value)
    return z if isfinite(z) and z > -1 else None


def good_pixels(flux: Floats, ivar: Floats | None) -> npt.NDArray[np.bool_]:
    """Return which pixels carry information: finite ones with an ivar above 0 and finite.

    Parameters
    ----------
    flux, ivar : 1D[npix] or 2D[nspec, npix]; without ivar all finite fluxes count
    """
    good: npt.NDArray[np.bool_] = np.isfinite(flux)
    if ivar is not None:
        good &= (ivar > 0) & np.isfinite(ivar)
    return good


def noise_of(ivar: Floats) -> Floats:
    """Return 1σ noise, 1D[npix] in the unit of flux, NaN where ivar is 0."""
    noise = np.full(len(ivar), np.nan)
    good = ivar > 0
    noise[good] = 1.0 / np.sqrt(ivar[good])
    return noise


def with_gaps(spectrum: DisplaySpectrum) -> DisplaySpectrum:
    """Return a spectrum with a bad pixel in each gap of its wavelengths, so that no line spans it.

    Vectors that have no gap stay the same arrays.
    """
    gaps = find_gaps(spectrum.wave) + 1
    if not len(gaps):
        return spectrum
    wave = spectrum.wave
    filled: dict[str, Any] = {
        "wave": np.insert(wave, gaps, (wave[gaps - 1] + wave[gaps]) / 2),
        "flux": np.insert(np.asarray(spectrum.flux, np.float64), gaps, np.nan),
    }
    for name in ("ivar", "masked", "model", "sky"):
        values = getattr(spectrum, name)
        if values is not None:
            filled[name] = np.insert(values, gaps, np.nan if name == "sky" else 0.0)
    return replace(spectrum, **filled)


def usual_smoothing(spectrum: DisplaySpectrum) -> float:
    """Return σ, pixels, of the Gaussian that makes a faint spectrum readable; 0 for others."""
    if spectrum.ivar is None:
        return 0.0
    weights = spectrum.weights
    good = weights > 0
    is_faint = good.any() and np.median(spectrum.flux[good] * np.sqrt(weights[good])) < _FAINT
    return _FAINT_SIGMA_PIX if is_faint else 0.0


def smoothed(spectrum: DisplaySpectrum, sigma_pix: float) -> DisplaySpectrum:
    """Return a spectrum smoothed as the viewer does it: no pixel that is masked counts.

    Each pixel is the mean of its neighbours, weighted by a Gaussian times the inverse variance,
    and its uncertainty that of this mean. Masked pixels stay masked.

    Parameters
    ----------
    sigma_pix : standard deviation of the Gaussian, pixels; 0 changes nothing
    """
    if not sigma_pix:
        return spectrum
    reach = ceil(_GAUSSIAN_REACH * sigma_pix)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma_pix) ** 2)
    weights = spectrum.weights.astype(np.float64)
    good = weights > 0

    def spread(values: Floats, kernel: Floats) -> Floats:
        whole: Floats = np.convolve(values, kernel)
        return whole[reach : reach + len(values)]

    def mean(values: Floats) -> Floats:
        known = np.where(good & np.isfinite(values), values, 0.0) * weights
        gaps: Floats = np.full(len(norm), np.nan)
        return np.divide(spread(known, kernel), norm, out=gaps, where=good)

    norm, variance = spread(weights, kernel), spread(weights, kernel**2)
    ivar = np.divide(norm**2, variance, out=np.zeros(len(norm)), where=good)
    return replace(
        spectrum,
        flux=mean(spectrum.flux),
        ivar=None if spectrum.ivar is None else ivar,
        model=None if spectrum.model is None else mean(spectrum.model),
        sky=None if spectrum.sky is None else mean(spectrum.sky),
    )


def series_labels(spectra: Sequence[DisplaySpectrum]) -> list[str]:
    """Return a label for each spectrum: its context, where it is known, and its title."""
    contexts = [dict(spectrum.facts).get("in", "") for spectrum in spectra]
    names = [
        spectrum.name or spectrum.title or f"spectrum {at + 1}"
        for at, spectrum in enumerate(spectra)
    ]
    return [f"{context}  {name}".strip() for context, name in zip(contexts, names, strict=True)]


def scaled_unit(unit: str, power: int) -> str:
    """Return a unit, as astropy reads it, times 10 ** power.

    >>> scaled_unit("1e-17 erg / (s cm2)", -3), scaled_unit("Jy", 0)
    ('1e-20 erg / (s cm2)', 'Jy')
    """
    scale = _SCALE.match(unit.partition(" ")[0])
    if not power:
        return unit
    own, rest = (int(scale[1]), unit.partition(" ")[2]) if scale else (0, unit)
    return f"1e{own + power} {rest}".strip() if own + power else rest


@lru_cache(maxsize=64)
def unit_label(unit: str) -> str:
    """Return a unit, as astropy reads it, with superscripts instead of a fraction.

    >>> unit_label("1e-17 erg / (s cm2 Angstrom)")
    '10⁻¹⁷ erg s⁻¹ cm⁻² Å⁻¹'
    """
    above, _, below = unit.partition("/")
    scales, factors = "", []
    for sign, part in ((1, above), (-1, below)):
        for factor in part.replace("(", " ").replace(")", " ").replace("*", " ").split():
            scale, named = _SCALE.match(factor), _FACTOR.match(factor)
            if scale:
                scales += "10" + str(sign * int(scale[1])).translate(_SUPERSCRIPT) + " "
            elif named:
                name = "Å" if named[1] in _ANGSTROM else named[1]
                factors.append((name, sign * int(named[2] or 1)))
            else:
                return unit
    # The custom of the field: erg s⁻¹ cm⁻² Å⁻¹.
    factors.sort(key=lambda factor: (factor[1] < 0, _ORDER.find(factor[0]) % 99))
    return scales + " ".join(
        name + ("" if power == 1 else str(power).translate(_SUPERSCRIPT)) for name, power in factors
    )
