"""Wavelengths from air to vacuum and back, as numbers in Å or as quantities with a unit."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import BadParameter
from ..model.lines import air_to_vacuum, vacuum_to_air
from ..tracebacks import short


@short
def airtovac(wave: Any) -> Any:
    """Return vacuum wavelengths, after Ciddor (1996).

    Below 2000 Å published wavelengths are in vacuum by the custom of the field: those come back
    unchanged, whether they are numbers or quantities. So a number below 2000 is one of Å, never of
    nm: give these their unit.

    Parameters
    ----------
    wave : scalar or array of any shape, in air
        Numbers are Å; an astropy Quantity, or a column with a unit, any unit of length.

    Returns
    -------
    float64 of the same shape, Å; a Quantity in the unit given where there is one

    Raises
    ------
    BadParameter
        A unit that is none of length.

    Examples
    --------
    >>> float(spec.airtovac(6562.8).round(3))
    6564.613
    """
    return _converted(wave, air_to_vacuum)


@short
def vactoair(wave: Any) -> Any:
    """Return wavelengths in standard air, after Ciddor (1996).

    What would lie below 2000 Å in air comes back unchanged, as of `airtovac`, which has the same
    parameters, results and errors.

    Examples
    --------
    >>> float(spec.vactoair(6564.613).round(1))
    6562.8
    """
    return _converted(wave, vacuum_to_air)


def _converted(wave: Any, convert: Callable[[Any], Any]) -> Any:
    """Return wavelengths converted in Å, and in the unit that they have."""
    # Plain numbers need no astropy.
    if getattr(wave, "unit", None) is None:
        return convert(wave)
    from astropy import units as u

    given = u.Quantity(wave, subok=False)
    try:
        angstrom = given.to_value(u.AA)
    except u.UnitConversionError as error:
        raise BadParameter("wave", f"a unit of {given.unit}", "Å, nm, µm: one of length") from error
    converted = convert(angstrom)
    # A value that does not change is not converted to another unit and back, which would round it.
    same = converted == angstrom
    return u.Quantity(
        np.where(same, given.value, (converted * u.AA).to_value(given.unit)), given.unit
    )
