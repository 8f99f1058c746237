"""From tuples to catalogue rows: exact ones all at once, those with ranges and wildcards by search.

Where the identifier can be computed from the tuple, an exact one is found as an identifier is.
Where it leaves the reduction open and the release's own reductions have no such spectrum, one join
finds all that are held under another.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..catalog.duckdb import Rows
from ..catalog.rowids import pack_rows
from ..model.idtext import IdPattern
from ..model.survey import Survey
from .shelf import Finder, Shelf, reduction_rank

Release: TypeAlias = Sequence[tuple[int, Shelf]]
"""The shelves of one release, with their numbers among all that are searched."""
Found: TypeAlias = list[tuple[int, int]]
"""Number of the shelf and row of each spectrum."""

_NO_PART: Final = 2**31
"""Numbers from here on are no part of any tuple, and name no spectrum."""


def find_tuples(
    survey: Survey, shelves: Sequence[Shelf], patterns: Sequence[IdPattern]
) -> list[Found]:
    """Return the spectra of each tuple, all of the first release that has any."""
    packs = survey.pack is not None and survey.pack_arrays is not None
    exact = [index for index, one in enumerate(patterns) if packs and one.is_exact]
    others = sorted(set(range(len(patterns))).difference(exact))
    found: list[Found] = [[] for _ in patterns]
    for release in _releases(shelves):
        if waiting := [index for index in exact if not found[index]]:
            asked = _Exact(survey, [patterns[index] for index in waiting])
            for index, place in asked.find(release).items():
                found[waiting[index]] = [place]
        for index in others:
            found[index] = found[index] or _searched(survey, release, patterns[index])
    return found


def _releases(shelves: Sequence[Shelf]) -> Iterator[Release]:
    """Yield the shelves of each release."""
    for _, members in groupby(enumerate(shelves), lambda one: one[1].release.context):
        yield list(members)


class _Exact:
    """Exact tuples as columns, looked for in one release."""

    def __init__(self, survey: Survey, patterns: Sequence[IdPattern]) -> None:
        self.survey = survey
        listed = [[one or 0 for one in pattern.numbers] for pattern in patterns]
        rows = [row if max(row) < _NO_PART else [0] * len(row) for row in listed]
        self.numbers: list[npt.NDArray[np.int64]] = list(np.array(rows, np.int64).T)
        self.possible = np.array(listed, object).max(axis=1) < _NO_PART
        last = [pattern.parts[-1] for pattern in patterns]
        self.runs = np.array([str(one[0]) if one else "" for one in last])
        self.where = np.zeros(len(patterns), np.int64)
        self.rows = np.full(len(patterns), -1, np.int64)

    def find(self, release: Release) -> dict[int, tuple[int, int]]:
        """Return index → shelf and row of those that are there."""
        for number, shelf in release:
            self._look(number, shelf, self.runs != "", self.runs)
            for reduction in reversed(shelf.release.reductions):
                runs = np.full(len(self.rows), reduction)
                self._look(number, shelf, self.runs == "", runs)
        self._look_for_others(release)
        there = np.flatnonzero(self.rows >= 0)
        places = zip(self.where[there].tolist(), self.rows[there].tolist(), strict=True)
        return dict(zip(there.tolist(), places, strict=True))

    def _look(
        self, number: int, shelf: Shelf, chosen: npt.NDArray[np.bool_], runs: npt.NDArray[Any]
    ) -> None:
        """Look on a shelf for those chosen that have not been found, under some reductions."""
        open_ = np.flatnonzero((self.rows < 0) & chosen & self.possible)
        ids = pack_rows(self.survey, [values[open_] for values in self.numbers], runs[open_])
        # Numbers beyond the identifier's bits make none: not found, like any other.
        open_, ids = open_[ids != 0], ids[ids != 0]
        if len(open_):
            self.rows[open_] = shelf.catalog.with_ids(ids)
            self.where[open_] = number

    def _look_for_others(self, release: Release) -> None:
        """Find those of open reduction under any: the best by `reduction_rank`."""
        open_ = np.flatnonzero((self.rows < 0) & (self.runs == "") & self.possible)
        if not len(open_):
            return
        names = self.survey.id_parts[:-1]
        parts = {name: values[open_] for name, values in zip(names, self.numbers, strict=True)}
        asked = pa.table({"asking": open_, **parts})
        own = {name: rank for rank, name in enumerate(release[0][1].release.reductions)}
        best: dict[int, tuple[bool, int, list[int]]] = {}
        for number, shelf in release:
            linked = shelf.catalog.linked(asked)
            columns = (linked.column(name).to_pylist() for name in linked.column_names)
            for index, row, reduction in zip(*columns, strict=True):
                rank = reduction_rank(own, reduction)
                # Where segments and tree have the same, that of the segments, which come first.
                if index not in best or rank > best[index]:
                    best[index] = rank
                    self.where[index], self.rows[index] = number, row


def _searched(survey: Survey, release: Release, pattern: IdPattern) -> Found:
    """Return what a tuple names in a release, in the order of their parts.

    Where the tuple leaves the reduction open, only the best of each spectrum; where segments and
    tree have the same, that of the segments. Where no part is a reduction, all that it names, but
    the best of them where it leaves open only what tells spectra of one identifier apart.
    """
    if not survey.has_reduction:
        found = []
        for number, shelf in release:
            rows = shelf.catalog.matching(pattern)[0]
            rows = best_of(survey, shelf.catalog, rows) if pattern.is_exact else rows
            found += [(number, int(row)) for row in rows]
        return found[:1] if pattern.is_exact else found
    own = {name: rank for rank, name in enumerate(release[0][1].release.reductions)}
    best: dict[tuple[object, ...], tuple[tuple[bool, int, list[int]], tuple[int, int]]] = {}
    for number, holding in release:
        rows, parts = holding.catalog.matching(pattern)
        values = [parts.column(name).to_pylist() for name in survey.id_parts]
        for row, key in zip(rows.tolist(), zip(*values, strict=True), strict=True):
            rank = reduction_rank(own, key[-1])
            spectrum = key if pattern.parts[-1] is not None else key[:-1]
            known = best.get(spectrum)
            if known is None or rank > known[0]:
                best[spectrum] = (rank, (number, row))
    keys = sorted(best) if len(release) > 1 else list(best)
    return [best[key][1] for key in keys]


def best_of(survey: Survey, catalog: Finder, rows: Rows) -> Rows:
    """Return the best of some rows by the survey's own order, 1D[1]; none of none."""
    if len(rows) < 2 or survey.best is None:
        return rows[:1]
    named = [one for one in survey.best.order if one[0] in catalog.columns]
    table = catalog.columns_of(list(dict.fromkeys(name for name, _ in named)), rows)
    values = {name: table.column(name).to_pylist() for name in table.column_names}

    def place(at: int) -> list[tuple[bool, float]]:
        key = []
        for name, first in named:
            value = values[name][at]
            known = value is not None and value == value  # noqa: PLR0124  # NaN is nothing known
            rank = (-value if first == "desc" else float(value != first)) if known else 0.0
            key.append((not known, rank))
        return key

    return rows[[min(range(len(rows)), key=place)]]
