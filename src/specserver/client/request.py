"""Options of a call: how a request is made, and the form in which spectra are returned."""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import inf, isfinite
from numbers import Integral, Real
from typing import Any, Final, Literal

from ..errors import BadParameter
from ..extras import require
from ..model.lines import air_to_vacuum
from ..model.medium import AIR
from ..ops.media import read_medium

Values = str | Iterable[str] | None
Cutout = str | tuple[float, float] | list[float] | None

# Spellings of a format that users type, in lower case, to its name in the client.
_FORMATS: Final = {
    "numpy": "numpy",
    "pandas": "pandas",
    "tables": "table",
    "table": "table",
    "spectrum1d": "spectrum",
    "spectrum": "spectrum",
    "spectrumcollection": "collection",
    "spectrum1dcollection": "collection",
    "spectrumlist": "list",
    "spectrum1dlist": "list",
    "fits": "fits",
}
_ALLOWED: Final = (
    "numpy, pandas, Table, Spectrum1D, SpectrumCollection, SpectrumList, FITS (in any case)"
)
_RESAMPLE: Final = "resample"
_ALL: Final = "all"
# The axis is computed here and never travels; both names, as the survey is not known yet.
_AXES: Final = ("loglam", "wavelength")
_NUMBER: Final = r"\s*([0-9]+\.?[0-9]*|\.[0-9]+)\s*"
_RANGE: Final = re.compile(rf"{_NUMBER}-{_NUMBER}(?:a|å|aa|angstrom)?\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """Options that every method which contacts the service has."""

    context: str | None = None
    profile: str | None = None
    missing: Literal["error", "skip"] = "error"
    timeout_s: float | None = None
    token: str | None = None
    debug: bool = False
    verbose: bool = False

    def __post_init__(self) -> None:
        context = "one context here; others are named with the identifiers, as 'context:id'"
        for name, given in (("context", self.context), ("profile", self.profile)):
            if not isinstance(given, str | None):
                raise BadParameter(name, given, context if name == "context" else "a name")
        if self.timeout_s is not None:
            positive_s(self.timeout_s)
        if self.missing not in {"error", "skip"}:
            raise BadParameter("missing", self.missing, "error or skip")


USUAL: Final = RequestOptions()
"""Options of a call that names none."""


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """The form in which spectra are returned."""

    fmt: str
    """``numpy``, ``pandas``, ``table``, ``spectrum``, ``collection``, ``list`` or ``fits``."""
    values: list[str] | None
    """Fields of the result; None for all."""
    vectors: list[str] | None
    """Vectors to ask for: the fields without the axis."""
    cutout_aa: tuple[float, float] | None
    align: bool
    resample: bool = False
    """Lay spectra that lie off the lattice on it, too."""
    medium: str | None = None
    """Medium of the wavelengths; None: as published, and vacuum for resampled spectra."""
    assume_medium: str | None = None
    """Medium assumed for spectra whose medium is not known."""

    @property
    def vacuum_cutout_aa(self) -> tuple[float, float] | None:
        """The limits as the service takes them, vacuum Å; a caller gives them in ``medium``."""
        if self.cutout_aa is None or self.medium != AIR:
            return self.cutout_aa
        low, high = (float(air_to_vacuum(end)) for end in self.cutout_aa)
        return low, high

    @property
    def is_spectrum(self) -> bool:
        """Whether the result is of specutils, which keep the redshift."""
        return self.fmt in {"spectrum", "collection", "list"}


def read_wanted(
    fmt: str,
    values: Values,
    cutout: Cutout,
    align: bool | str | None,
    medium: str | None = None,
    assume_medium: str | None = None,
) -> ResultOptions:
    """Check the parameters that say in which form spectra are wanted.

    A cutout implies ``align``, as the description of the service has it, unless ``align`` is False.

    Raises
    ------
    BadParameter
        A value that the parameter cannot take.
    """
    name = str(fmt).strip().lower()
    if name not in _FORMATS:
        raise BadParameter("fmt", fmt, _ALLOWED)
    kind = _FORMATS[name]
    resampled = isinstance(align, str) and align.strip().lower() == _RESAMPLE
    if not resampled and align not in {True, False, None}:
        raise BadParameter("align", align, "True, False or 'resample'")
    names = [name.lower() for name in split_names(values, "values")]
    wanted = None if not names or names == [_ALL] else names
    limits = read_cutout("cutout", cutout)
    if kind == "fits" and (align or limits is not None or wanted is not None):
        allowed = "a FITS file comes whole: no align, no cutout, no values"
        raise BadParameter("fmt", fmt, allowed)
    vectors = None if wanted is None else [vector for vector in wanted if vector not in _AXES]
    result = ResultOptions(
        fmt=kind,
        values=wanted,
        vectors=vectors,
        cutout_aa=limits,
        align=(limits is not None if align is None else bool(align)) or kind == "collection",
        resample=resampled,
        medium=read_medium("medium", medium),
        assume_medium=read_medium("assume_medium", assume_medium),
    )
    if kind == "fits" and result.medium is not None:
        allowed = "a FITS file comes as it is: its wavelengths are in the medium of the survey"
        raise BadParameter("medium", medium, allowed)
    if result.is_spectrum:
        require(f"fmt={fmt!r}", "notebook", "specutils")
    # A Spectrum has its axis whether or not it was named among the values.
    return replace(result, values=None) if result.is_spectrum else result


def positive_s(timeout_s: object) -> float:
    """Return a time limit that is one."""
    if not isinstance(timeout_s, Real) or not 0 < float(timeout_s) < inf:
        raise BadParameter("timeout", timeout_s, "seconds, more than 0; None for the usual limit")
    return float(timeout_s)


def whole_number(name: str, value: Any) -> int:
    """Return a parameter that is a whole number; raise `BadParameter` for another value."""
    with suppress(TypeError, ValueError, OverflowError):
        if isinstance(value, Integral) or int(value) == float(value):
            return int(value)
    raise BadParameter(name, value, "a whole number")


def some_number(name: str, value: Any) -> float | None:
    """Return a parameter that is a number, or None; raise `BadParameter` for another value."""
    with suppress(TypeError, ValueError):
        return None if value is None else float(value)
    raise BadParameter(name, value, "a number")


def split_names(names: object, parameter: str) -> list[str]:
    """Return names that a parameter has as ``'a,b'`` or as a list, each once and in order."""
    if names is None:
        return []
    if not isinstance(names, Iterable):
        raise BadParameter(parameter, names, "names as 'a,b', or in a list")
    listed = names.split(",") if isinstance(names, str) else [str(name) for name in names]
    return list(dict.fromkeys(name.strip() for name in listed if name.strip()))


def read_cutout(name: str, cutout: Cutout) -> tuple[float, float] | None:
    """Return two wavelengths, Å, the smaller first.

    Raises
    ------
    BadParameter
        The parameter of this name is not two wavelengths.
    """
    if cutout is None or (isinstance(cutout, str) and not cutout.strip()):
        return None
    allowed = "two vacuum wavelengths in Å, the smaller first: '6500-7200' or (6500, 7200)"
    if isinstance(cutout, str):
        match = _RANGE.fullmatch(cutout)
        ends: list[Any] = list(match.groups()) if match else []
    else:
        try:
            ends = list(cutout)
        except TypeError:
            ends = []
    try:
        low, high = (_angstrom(end) for end in ends)
    except (TypeError, ValueError) as error:
        raise BadParameter(name, cutout, allowed) from error
    if not (0.0 < low < high and isfinite(high)):
        raise BadParameter(name, cutout, allowed)
    return low, high


def _angstrom(end: Any) -> float:
    """Return one end of a cutout in Å, from a number or a quantity."""
    return float(end.to_value("Angstrom") if hasattr(end, "to_value") else end)


def read_contexts(given: object) -> list[str] | None:
    """Return the contexts of a list, or of text with commas; None where it is a single one.

    Raises
    ------
    BadParameter
        A list that holds none.
    """
    if given is None or (isinstance(given, str) and "," not in given):
        return None
    names = split_names(given, "context")
    if not names:
        raise BadParameter("context", given, "name one context, or several in a list")
    return names


def catalog_context(catalog: str | None, context: str) -> str:
    """Return the context of a catalogue: its name may begin with one; ``context`` if it does not.

    Examples
    --------
    >>> catalog_context("desi_dr1.specobjall", "default"), catalog_context("specobjall", "default")
    ('desi_dr1', 'default')
    """
    return str(catalog or "").strip().lower().rpartition(".")[0] or context
