"""The interface of a source of spectra: a release's segments with their catalogue, or its tree."""

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
        """The finder of its spectra."""

    def segment(self, number: int) -> SpectrumStore:
        """Return a store by the number that `SpectrumFinder.place` gave."""
