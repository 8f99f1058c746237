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


def sum_up(options: RequestOptions, nspec: int, nbytes: int, began: float) -> None:
    """Tell how much came and how long it took, if the caller asked for it."""
    if options.verbose:
        say(f"{nspec:,} spectra, {nbytes / 1e6:.1f} MB in {perf_counter() - began:.2f} s")


def warn_left_out(missing: Sequence[str], damaged: Sequence[str], asked: int) -> None:
    """Warn of identifiers that were left out, and of spectra that were as they are damaged."""
    told = []
    if gone := [one for one in missing if one not in set(damaged)]:
        count = f"{len(gone):,} of {asked:,} identifiers"
        told.append(f"{count} were not found and are left out: {_some(gone)}")
    if damaged:
        told.append(f"{len(damaged):,} spectra cannot be read and are left out: {_some(damaged)}")
    for text in told:
        warnings.warn(text, UserWarning, stacklevel=caller_depth())


def _some(texts: Sequence[str]) -> str:
    """Return the first of some texts."""
    return ", ".join(texts[:5]) + (", …" if len(texts) > 5 else "")


def warn_shared() -> None:
    """Warn of a column of identifiers that alone do not mean the rows of their table."""
    warnings.warn(
        "some rows of this column are not the best spectrum of their identifier, and by itself it"
        " means the best: give the table, its rows, or what query answers with fields='tuple'",
        UserWarning,
        stacklevel=caller_depth(),
    )


def warn_gaps(rows: Sequence[int]) -> None:
    """Warn of rows, counted from 0, that have no identifier and were left out."""
    some = ", ".join(map(str, rows[:5])) + (", …" if len(rows) > 5 else "")
    warnings.warn(
        f"{len(rows):,} rows have no identifier and are left out: {some}",
        UserWarning,
        stacklevel=caller_depth(),
    )


def caller_depth() -> int:
    """Return the ``stacklevel`` at which a warning points to code outside of this package."""
    package = __name__.partition(".")[0] + "."
    depth, frame = 0, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(package):
        depth += 1
        frame = frame.f_back
    return depth


def say(text: str) -> None:
    """Tell the person at the terminal."""
    sys.stderr.write(f"specserver: {text}\n")
