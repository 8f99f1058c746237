"""Warnings that point to the caller's code, and lines at the terminal."""

import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Final

from ..errors import SpecServerWarning
from .request import RequestOptions

_SHOWN_CHARS: Final = 200


def shortened_body(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as shown to people: a long list of identifiers only begun."""
    return {
        name: value[:_SHOWN_CHARS] + "…"
        if isinstance(value, str) and len(value) > _SHOWN_CHARS
        else value
        for name, value in body.items()
    }


def sum_up(options: RequestOptions, came: str, began: float) -> None:
    """Print what came and how long it took, if the caller asked for it."""
    if options.verbose:
        say(f"{came} in {perf_counter() - began:.2f} s")


def warn_left_out(missing: Sequence[str], damaged: Sequence[str], asked: int) -> None:
    """Warn of identifiers that were not found, and of spectra that are damaged."""
    known = set(damaged)
    if gone := [name for name in missing if name not in known]:
        count = f"{len(gone):,} of {asked:,} identifiers"
        warn(f"{count} were not found and are left out: {some_of(gone)}")
    if damaged:
        warn(f"{len(damaged):,} spectra cannot be read and are left out: {some_of(damaged)}")


def some_of(values: Sequence[object]) -> str:
    """Return the first of some values as text."""
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")


def warn(text: str, *settings: str) -> None:
    """Warn with a text that points to code outside of this package.

    ``settings`` are the parameters that it names, as those of `SpecServerError`.
    """
    package = __name__.partition(".")[0] + "."
    depth, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(package):
        depth += 1
        frame = frame.f_back
    warning = SpecServerWarning(text)
    warning.settings = settings
    warnings.warn(warning, stacklevel=depth + 1)


def say(text: str) -> None:
    """Print a line at the terminal."""
    sys.stderr.write(f"specserver: {text}\n")
