"""The result of a simulation."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """What a simulation wrote."""

    nspec: int
    """Spectra; a full file beside a lite one is the same spectrum."""
    nbytes: int
    families: Mapping[str, int]
    """Spectra by run2d."""
