"""What spectra are looked for on: a release's segments with their catalogue, or its tree."""

import re
from collections.abc import Mapping
from typing import Protocol

from ..catalog.base import SpectrumFinder
from ..model.survey import Release, Survey
from ..store.base import SpectrumStore


class SpectrumSource(Protocol):
    """Spectra of one release, kept in one way."""

    @property
    def survey(self) -> Survey:
        """The survey."""

    @property
    def release(self) -> Release:
        """The release."""

    @property
    def catalog(self) -> SpectrumFinder:
        """What finds its spectra."""

    def segment(self, number: int) -> SpectrumStore:
        """Return a store by the number that `SpectrumFinder.place` gave."""


def reduction_rank(own: Mapping[str, int], reduction: str) -> tuple[bool, int, list[int]]:
    """Return what sorts reductions: a release's own come last, then newer after older ones.

    Parameters
    ----------
    own : the release's reductions and their place among them
    """
    version = [int(part) for part in re.findall(r"\d+", reduction)]
    return reduction in own, own.get(reduction, -1), version
