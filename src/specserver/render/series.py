"""Colours and labels that distinguish several spectra in one picture."""

from collections.abc import Sequence
from typing import Final

from .display import DisplaySpectrum

MOST: Final = 8
"""Most spectra over one another: the eye cannot keep more colours apart."""

# The first is the colour of a single spectrum; none is that of models, noise or marks of lines.
_LIGHT: Final = (
    "#404040", "#CC2936", "#3B4CC0", "#E69F00", "#7B2D8E", "#4FB3D9", "#8B5A2B", "#E377A2",
)  # fmt: skip
_DARK: Final = (
    "#C8C8C8", "#FF6B6B", "#7EA6FF", "#F5C542", "#C39BF5", "#8FE0FF", "#C98F6B", "#FF9EC0",
)  # fmt: skip


def series_colours(*, dark: bool) -> tuple[str, ...]:
    """Return the colours of up to `MOST` spectra, on black or on white."""
    return _DARK if dark else _LIGHT


def series_labels(spectra: Sequence[DisplaySpectrum]) -> list[str]:
    """Return a label for each spectrum: its context, where it is known, and its title."""
    contexts = [dict(one.facts).get("in", "") for one in spectra]
    names = [one.title or f"spectrum {at + 1}" for at, one in enumerate(spectra)]
    return [f"{context}  {name}".strip() for context, name in zip(contexts, names, strict=True)]
