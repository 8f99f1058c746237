"""A spectrum as every picture shows it: PNG previews, figures of matplotlib, the viewer."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..model.lines import SpectralLine
from ..model.medium import VACUUM
from ..ops.pixels import find_gaps

Floats = npt.NDArray[np.floating[Any]]

_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_ANGSTROM: Final = frozenset({"Angstrom", "angstrom", "AA"})
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
    """Inverse variance; the spectrum has a gap where it is 0. None: uncertainties are not known."""
    model: Floats | None = None
    sky: Floats | None = None
    title: str = ""
    """Name of the spectrum, such as its identifier."""
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
    """Medium of the wavelengths. Lines are marked in vacuum, also where the medium is unknown."""
    rest: bool = False
    """Whether the wavelengths are at rest: divided by 1 + z."""

    @property
    def weights(self) -> Floats:
        """Inverse variance, 1D[npix], 0 where a pixel carries no information.

        Where a survey states no uncertainties, all good pixels have the weight 1.
        """
        good, ivar = good_pixels(self.flux, self.ivar), self.ivar
        return good.astype(np.float64) if ivar is None else np.where(good, ivar, ivar.dtype.type(0))

    @property
    def about(self) -> str:
        """Class and redshift, in a few words."""
        redshift = "" if self.z is None else f"z = {self.z:z.4f}".replace("-", "−")
        return "  ".join(word for word in (self.kind, redshift) if word)

    @property
    def unit(self) -> str:
        """Unit of flux, as labels show it (`unit_label`)."""
        return unit_label(self.flux_unit)

    @property
    def flux_label(self) -> str:
        """Name of the flux axis."""
        return f"flux density ({self.unit})" if self.unit else "flux density"

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
    wave: npt.NDArray[np.float64], vectors: Mapping[str, npt.NDArray[Any]], z: Any, **said: Any
) -> DisplaySpectrum:
    """Return a spectrum of named vectors as pictures show it.

    Parameters
    ----------
    wave : 1D[npix] float64, Å, ascending
    vectors
        1D[npix] each, by the names that surveys publish: flux, and ivar, model, sky where known.
    z : redshift as a catalogue has it: None, masked, not finite or -1 and less is not known
    **said
        The other fields of `DisplaySpectrum`.
    """
    ivar, model, sky = (vectors.get(name) for name in ("ivar", "model", "sky"))
    return DisplaySpectrum(wave, vectors["flux"], ivar, model, sky, z=_redshift(z), **said)


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
    for name in ("ivar", "model", "sky"):
        values = getattr(spectrum, name)
        if values is not None:
            filled[name] = np.insert(values, gaps, np.nan if name == "sky" else 0.0)
    return replace(spectrum, **filled)


def series_labels(spectra: Sequence[DisplaySpectrum]) -> list[str]:
    """Return a label for each spectrum: its context, where it is known, and its title."""
    contexts = [dict(spectrum.facts).get("in", "") for spectrum in spectra]
    names = [spectrum.title or f"spectrum {at + 1}" for at, spectrum in enumerate(spectra)]
    return [f"{context}  {name}".strip() for context, name in zip(contexts, names, strict=True)]


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
