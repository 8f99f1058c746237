"""What spectra are looked for on: a release's segments with their catalogue, or its tree."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy.typing as npt
import pyarrow as pa

from ..catalog.catalogue import Place, Rows
from ..catalog.deadline import Deadline
from ..model.idtext import IdPattern
from ..model.survey import Release, Survey
from ..store.base import SpectrumStore


class Finder(Protocol):
    """Finds spectra by identifier, and tells what is known of them."""

    @property
    def columns(self) -> dict[str, str]:
        """Column name → kind, hidden columns left out."""

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none."""

    def matching(self, pattern: IdPattern, deadline: Deadline) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple names, with their identifier parts, in their order."""

    def place(self, rows: Rows) -> Place:
        """Return identifier, store number and row in that store."""

    def identifier(self, row: int) -> int:
        """Return the identifier of a row, whether or not its spectrum can be read."""

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""

    def holds(self, column: str) -> bool:
        """Return whether there is a column, hidden or not: older versions wrote fewer."""

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept."""

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking``, ``row`` and ``reduction`` of the spectra that tuples name.

        Parameters
        ----------
        parts : ``asking``, and the columns of the tuple form of an identifier but the last
        """

    def sources(self, rows: Rows) -> list[str]:
        """Return the paths of the original files of rows."""


class SpectrumSource(Protocol):
    """Spectra of one release, kept in one way."""

    @property
    def survey(self) -> Survey:
        """The survey."""

    @property
    def release(self) -> Release:
        """The release."""

    @property
    def catalog(self) -> Finder:
        """What finds its spectra."""

    def segment(self, number: int) -> SpectrumStore:
        """Return a store by the number that `Finder.place` gave."""


def reduction_rank(own: Mapping[str, int], reduction: str) -> tuple[bool, int, list[int]]:
    """Return what sorts reductions: a release's own come last, then newer after older ones.

    Parameters
    ----------
    own : the release's reductions and their place among them
    """
    version = [int(part) for part in re.findall(r"\d+", reduction)]
    return reduction in own, own.get(reduction, -1), version
