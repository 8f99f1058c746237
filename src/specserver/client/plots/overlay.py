"""Several spectra over one another: number and parts; redshift, scale and offset of each."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ...errors import BadParameter
from ...render.style import MOST_OVER
from ..inputs.held_tables import is_spectrum

if TYPE_CHECKING:
    from ...render.display import DisplaySpectrum

_MEDIAN: Final = "median"
_SHARED: Final = ("flux", "noise")


def read_several(
    look: Callable[[Any, Callable[[int], None]], list["DisplaySpectrum"]], given: Any
) -> list["DisplaySpectrum"]:
    """Return the spectra of a caller: held, named by identifiers, or both in one list.

    Parameters
    ----------
    look
        Returns the spectra of one input; it calls its second argument with their number first.

    Raises
    ------
    BadParameter
        There are none, or more than the eye can distinguish.
    """
    mixed = isinstance(given, list | tuple) and any(map(is_spectrum, given))
    members = [[member] for member in given] if mixed else [given]
    spectra = [spectrum for member in members for spectrum in look(member, _require)]
    _require(len(spectra))
    return spectra


def _require(nspec: int) -> None:
    """Refuse no spectra, and more than the eye can distinguish."""
    if nspec == 0:
        allowed = f"plot draws one, or up to {MOST_OVER}: identifiers in any form, or spectra"
        raise BadParameter("spec", "no spectra", allowed)
    if nspec > MOST_OVER:
        allowed = (
            f"plot draws one, or up to {MOST_OVER} over one another; see plotGrid and prospect"
        )
        raise BadParameter("spec", f"{nspec:,} spectra", allowed, "plotGrid")


def shared_parts(parts: Sequence[str], chosen: Mapping[str, bool | None]) -> tuple[str, ...]:
    """Return the parts to draw of several spectra; parameters: those of `read_parts`.

    Raises
    ------
    BadParameter
        A part that is drawn for a single spectrum only.
    """
    refused = [name for name, said in chosen.items() if said]
    refused += [name for name in parts if name in {"sky", "ivar"} and name not in refused]
    if refused:
        allowed = "several spectra show flux and noise; plot one alone for the rest"
        raise BadParameter("values", ", ".join(refused), allowed)
    return tuple(name for name in parts if name in _SHARED)


def spread_out(
    spectra: Sequence["DisplaySpectrum"], scale: Any, offset: float | Iterable[float]
) -> list["DisplaySpectrum"]:
    """Return spectra with their fluxes multiplied, then moved up.

    Parameters
    ----------
    scale
        A factor for all, one each, ``median`` for the inverse of each one's, or None.
    offset
        Flux by which each lies above the one before, or what is added to each.

    Raises
    ------
    BadParameter
        Neither numbers nor ``median``, not as many as spectra; units that differ.
    """
    if is_median(scale):
        factors = [_inverse_median(spectrum) for spectrum in spectra]
    else:
        factors = _each("scale", 1.0 if scale is None else scale, len(spectra))
    moved = _each("offset", offset, len(spectra))
    if np.ndim(offset) == 0 and len(spectra) > 1:  # type: ignore[arg-type]  # or a sequence
        moved = [at * step for at, step in enumerate(moved)]
    unit = "" if is_median(scale) else spectra[0].flux_unit
    if len({spectrum.unit for spectrum in spectra}) > 1 and scale is None:
        factors = [_in_unit(spectrum, unit) for spectrum in spectra]
    if not any(moved) and set(factors) == {1.0}:
        return list(spectra)
    return [
        _laid(spectrum, factor, up, unit)
        for spectrum, factor, up in zip(spectra, factors, moved, strict=True)
    ]


def with_redshifts(
    spectra: Sequence["DisplaySpectrum"], z: float | Iterable[float]
) -> list["DisplaySpectrum"]:
    """Return the spectra with other redshifts: one for all, or one each.

    Raises
    ------
    BadParameter
        A redshift that is none, or not as many as spectra.
    """
    values = _each("z", z, len(spectra))
    if min(values) <= -1:
        raise BadParameter("z", z, "redshifts are greater than -1")
    return [replace(spectrum, z=value) for spectrum, value in zip(spectra, values, strict=True)]


def is_median(scale: object) -> bool:
    """Return whether fluxes are divided by their medians."""
    return isinstance(scale, str) and scale.strip().lower() == _MEDIAN


def _laid(spectrum: "DisplaySpectrum", factor: float, up: float, unit: str) -> "DisplaySpectrum":
    """Return a spectrum with its flux multiplied, then moved up."""
    return replace(
        spectrum,
        flux=spectrum.flux * factor + up,
        ivar=None if spectrum.ivar is None else spectrum.ivar / factor**2,
        model=None if spectrum.model is None else spectrum.model * factor + up,
        flux_unit=unit,
    )


def _inverse_median(spectrum: "DisplaySpectrum") -> float:
    """Return the factor that makes the median of a spectrum's good pixels 1 or -1."""
    good = spectrum.weights > 0
    level = abs(float(np.median(spectrum.flux[good]))) if good.any() else 0.0
    return 1.0 / level if level > 0 else 1.0


def _in_unit(spectrum: "DisplaySpectrum", unit: str) -> float:
    """Return the factor from a spectrum's unit of flux to another."""
    from astropy import units as u

    try:
        return float(u.Unit(spectrum.flux_unit).to(u.Unit(unit)))
    except (ValueError, u.UnitsError) as error:
        allowed = (
            "the units do not compare: plot with scale='median', or a factor each, lays them"
            " together; prospect without overplot shows one at a time"
        )
        units = f"flux in {unit or 'no unit'} and in {spectrum.flux_unit or 'no unit'}"
        raise BadParameter("spec", units, allowed) from error


def _each(name: str, given: Any, nspec: int) -> list[float]:
    """Return a number for each spectrum."""
    try:
        values = [float(value) for value in np.atleast_1d(np.asarray(given, np.float64))]
    except (TypeError, ValueError) as error:
        what = "a number, or one for each spectrum"
        what += ", or 'median'" if name == "scale" else ""
        raise BadParameter(name, given, what) from error
    values = values * nspec if len(values) == 1 else values
    if len(values) != nspec or not all(map(isfinite, values)) or (name == "scale" and 0 in values):
        what = "a number other than 0" if name == "scale" else "a number"
        raise BadParameter(name, given, f"{what}, or one for each of {nspec:,} spectra")
    return values
