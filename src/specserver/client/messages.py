"""What the client tells people: warnings that point to their code, and lines at the terminal."""

import inspect
import sys
import warnings
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import Any, Final

from .request import RequestOptions

_SHOWN_CHARS: Final = 200


def shortened(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request as shown to people: a long list of identifiers only begun."""
    return {
        name: value[:_SHOWN_CHARS] + "…"
        if isinstance(value, str) and len(value) > _SHOWN_CHARS
        else value
        for name, value in body.items()
    }


def sum_up(options: RequestOptions, came: str, began: float) -> None:
    """Tell what came and how long it took, if the caller asked for it."""
    if options.verbose:
        say(f"{came} in {perf_counter() - began:.2f} s")


def warn_left_out(missing: Sequence[str], damaged: Sequence[str], asked: int) -> None:
    """Warn of identifiers that were left out, and of spectra that were as they are damaged."""
    told = []
    if gone := [one for one in missing if one not in set(damaged)]:
        count = f"{len(gone):,} of {asked:,} identifiers"
        told.append(f"{count} were not found and are left out: {_some(gone)}")
    if damaged:
        told.append(f"{len(damaged):,} spectra cannot be read and are left out: {_some(damaged)}")
    for text in told:
        warn(text)


def _some(values: Sequence[object]) -> str:
    """Return the first of some values as text."""
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")


def warn_shared() -> None:
    """Warn of a column of identifiers that alone do not mean the rows of their table."""
    warn(
        "some rows of this column are not the best spectrum of their identifier, and by itself it"
        " means the best: give the table, its rows, or what query answers with fields='tuple'"
    )


def warn_gaps(rows: Sequence[int]) -> None:
    """Warn of rows, counted from 0, that have no identifier and were left out."""
    warn(f"{len(rows):,} rows have no identifier and are left out: {_some(rows)}")


def warn(text: str) -> None:
    """Warn with a text that points to code outside of this package."""
    package = __name__.partition(".")[0] + "."
    depth, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(package):
        depth += 1
        frame = frame.f_back
    warnings.warn(text, UserWarning, stacklevel=depth + 1)


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"specserver: {text}\n")
