"""Wavelengths from one medium into another, and which medium spectra can be brought together in."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter
from ..model.lines import air_to_vacuum, vacuum_to_air
from ..model.medium import AIR, UNKNOWN, VACUUM

Limits = tuple[float, float]
Waves = npt.NDArray[np.float64]
Change = Callable[[Any], Any]
"""Wavelengths in Å into another medium."""

HOW = (
    "say what the wavelengths are in, at ingest (specserver ingest … --medium air) or in this call"
    " (assume_medium='air' or 'vacuum')"
)


def read_medium(name: str, given: object) -> str | None:
    """Return a medium that a caller named; None where none was.

    Raises
    ------
    BadParameter
        It is neither vacuum nor air.
    """
    if given is None or given == "":
        return None
    word = str(given).strip().lower()
    if word not in {VACUUM, AIR}:
        raise BadParameter(name, given, "'vacuum' or 'air'")
    return word


def assumed(media: Sequence[str], assume: str | None) -> list[str]:
    """Return media; those that are not known become the medium that a caller assumes."""
    return [assume if medium == UNKNOWN and assume else medium for medium in media]


def common_medium(media: Iterable[str], wanted: str | None, names: Sequence[object]) -> str:
    """Return the medium in which spectra are brought together.

    It is the one wanted, else vacuum; unknown if no medium is known and none is wanted.

    Parameters
    ----------
    media
        The medium of each spectrum.
    names
        A name of each spectrum, for the message.

    Raises
    ------
    BadParameter
        The medium of some is not known, so they cannot be combined with others or converted.
    """
    every = list(media)
    unknown = [name for medium, name in zip(every, names, strict=True) if medium == UNKNOWN]
    if not unknown:
        return wanted or VACUUM
    if len(unknown) == len(every) and wanted is None:
        return UNKNOWN
    listed = ", ".join(str(name) for name in unknown[:5]) + (", …" if len(unknown) > 5 else "")
    count = f"{len(unknown):,} of {len(every):,} spectra"
    why = f"whether the wavelengths of {count} ({listed}) are in vacuum or in air is not known"
    parameter = "medium" if wanted else "assume_medium"
    raise BadParameter(parameter, wanted, f"{why}; {HOW}", "assume_medium='air' or 'vacuum'")


def change_of(medium: str, target: str) -> Change | None:
    """Return the conversion of wavelengths from one medium into another; None: nothing changes.

    Wavelengths in an unknown medium stay as they are. So does flux density per Å: it would change
    by the derivative of the wavelengths, three parts in ten thousand.
    """
    if medium == target or UNKNOWN in {medium, target}:
        return None
    return air_to_vacuum if target == VACUUM else _into_air


def _into_air(wave: npt.ArrayLike) -> Any:
    """Return wavelengths in air, in order also where they begin to be in air, at 2000 Å."""
    return np.maximum.accumulate(np.atleast_1d(vacuum_to_air(wave)))


def limits_in(limits_aa: Limits, medium: str) -> Limits:
    """Return limits in vacuum Å in the medium of a spectrum; not known, they are as they stand."""
    if medium != AIR:
        return limits_aa
    low, high = vacuum_to_air(np.array(limits_aa)).tolist()
    return low, high
