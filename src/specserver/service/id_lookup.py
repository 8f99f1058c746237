"""Catalogue rows of tuples: exact ones all at once, those with ranges and wildcards by search.

An exact tuple from which the identifier can be computed is found by that identifier. All others
are searched one by one, within the deadline and the limit of spectra.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..catalog.base import Rows, SpectrumFinder
from ..catalog.tables.table_ids import pack_rows
from ..model.id_tuple import IdPattern
from ..model.survey import Survey
from .limits import Limits
from .source import SpectrumSource

Release: TypeAlias = Sequence[tuple[int, SpectrumSource]]
"""The sources of one release, with their numbers among all that are searched."""
Ints: TypeAlias = npt.NDArray[np.int64]

_NO_PART: Final = 2**31
"""Numbers from here on are no part of any tuple, and name no spectrum."""


_FEW_SEARCHES: Final = 64
"""Searches for one spectrum each that take a light request some 10 ms."""


def find_tuples(
    survey: Survey,
    sources: Sequence[SpectrumSource],
    patterns: Sequence[IdPattern],
    limits: Limits,
    nfound: int = 0,
) -> tuple[Ints, npt.NDArray[np.int16], Ints]:
    """Return the spectra of each tuple, all of the first release that has any.

    Parameters
    ----------
    nfound : spectra that the request means besides, which count for the limits

    Returns
    -------
    1D[n] int each
        Index of the tuple, number of the source, and row there; those of one tuple in the order of
        their parts.

    Raises
    ------
    TooMuch
        More spectra than the limits allow.
    QueryTimeout
        The deadline of the limits passed.
    """
    packs = survey.pack is not None and survey.pack_arrays is not None
    exact = [index for index, pattern in enumerate(patterns) if packs and pattern.is_exact]
    others = sorted(set(range(len(patterns))).difference(exact))
    if len(others) > _FEW_SEARCHES or not all(_names_one(patterns[index]) for index in others):
        limits.require_heavy()
    open_ = np.ones(len(patterns), np.bool_)
    owner, places = [np.empty(0, np.int64)], [np.empty((2, 0), np.int64)]
    for release in _releases(sources):
        if waiting := [index for index in exact if open_[index]]:
            there, place = find_exact(
                survey,
                [(number, source.catalog) for number, source in release],
                release[0][1].release.reductions,
                *_as_columns([patterns[index] for index in waiting]),
            )
            owner.append(np.array(waiting, np.int64)[there])
            places.append(place)
            open_[owner[-1]] = False
        searched: dict[IdPattern, Ints] = {}
        for index in (other for other in others if open_[other]):
            pattern = patterns[index]
            if pattern not in searched:
                limits.deadline.check()
                searched[pattern] = _searched(survey, release, pattern, limits)
            place = searched[pattern]
            nfound += place.shape[1]
            limits.check_spectra(nfound, are_all=False)
            owner.append(np.full(place.shape[1], index))
            places.append(place)
            open_[index] = place.shape[1] == 0
    where, rows = np.concatenate(places, axis=1)
    return np.concatenate(owner), where.astype(np.int16), rows


def _names_one(pattern: IdPattern) -> bool:
    """Return whether a tuple names one spectrum, or those of one identifier."""
    first = pattern.parts[0]
    alone = pattern.form.leads_with_id and first is not None and len(first) == 1
    return alone or pattern.is_exact


def _releases(sources: Sequence[SpectrumSource]) -> Iterator[Release]:
    """Yield the sources of each release."""
    for _, members in groupby(enumerate(sources), lambda source: source[1].release.context):
        yield list(members)


def find_exact(
    survey: Survey,
    finders: Sequence[tuple[int, SpectrumFinder]],
    reductions: Sequence[str],
    numbers: Sequence[Ints],
    runs: npt.NDArray[np.str_],
    possible: npt.NDArray[np.bool_],
) -> tuple[Ints, Ints]:
    """Find tuples without ranges and wildcards in one release.

    Where the reduction is left open, it is one of the release's own. Where these have no such
    spectrum, one join finds all that are held under another, and `_reduction_rank` the best.

    Parameters
    ----------
    finders : number and finder of each source of the release
    reductions : the release's own
    numbers : 1D[n] int each, the parts but the reduction
    runs : 1D[n] str, the reduction; empty where it is left open
    possible : 1D[n] bool, False where the parts name no spectrum

    Returns
    -------
    1D[m] int
        The index of those that are there.
    2D[2, m] int
        Number of the source, and row there.
    """
    where, rows = np.zeros(len(runs), np.int64), np.full(len(runs), -1, np.int64)
    is_open = runs == ""
    for number, finder in finders:
        # First the tuples that state their reduction.
        for reduction in ("", *reversed(reductions)):
            waiting = np.flatnonzero((rows < 0) & possible & (is_open == bool(reduction)))
            asked = np.full(len(waiting), reduction) if reduction else runs[waiting]
            ids = pack_rows(survey, [values[waiting] for values in numbers], asked)
            # Numbers beyond the identifier's bits make none: not found, like any other.
            waiting, ids = waiting[ids != 0], ids[ids != 0]
            if len(waiting):
                rows[waiting], where[waiting] = finder.with_ids(ids), number
    waiting = np.flatnonzero((rows < 0) & possible & is_open)
    names = survey.id_parts[:-1]
    parts = {name: values[waiting] for name, values in zip(names, numbers, strict=True)}
    own = {name: rank for rank, name in enumerate(reductions)}
    best: dict[int, tuple[bool, int, list[int]]] = {}
    for number, finder in finders if len(waiting) else ():
        linked = finder.linked(pa.table({"asking": waiting, **parts}))
        columns = (linked.column(name).to_pylist() for name in ("asking", "row", "reduction"))
        for index, row, reduction in zip(*columns, strict=True):
            rank = _reduction_rank(own, reduction)
            # If segments and tree have the same one, that of the segments is kept: they come first.
            if index not in best or rank > best[index]:
                best[index] = rank
                where[index], rows[index] = number, row
    there = np.flatnonzero(rows >= 0)
    return there, np.stack([where[there], rows[there]])


def _as_columns(
    patterns: Sequence[IdPattern],
) -> tuple[list[Ints], npt.NDArray[np.str_], npt.NDArray[np.bool_]]:
    """Return exact tuples as `find_exact` takes them: ``numbers``, ``runs`` and ``possible``."""
    listed = [[number or 0 for number in pattern.numbers] for pattern in patterns]
    possible = np.array(listed, object).max(axis=1) < _NO_PART
    rows = [row if max(row) < _NO_PART else [0] * len(row) for row in listed]
    last = [pattern.parts[-1] for pattern in patterns]
    runs = np.array([str(texts[0]) if texts else "" for texts in last])
    return list(np.array(rows, np.int64).T), runs, possible


def _searched(survey: Survey, release: Release, pattern: IdPattern, limits: Limits) -> Ints:
    """Return source and row, 2D[2, n], of the spectra of a tuple in a release, by its parts.

    If the tuple leaves the reduction open, these are the best of each spectrum; where segments and
    tree have the same, that of the segments. In surveys without reductions these are all spectra
    of the tuple, or the best one if the tuple leaves open only the parts after the identifier.
    """
    found, parts = [], []
    for number, source in release:
        rows, table = source.catalog.matching(pattern, limits.deadline)
        if not survey.has_reduction and pattern.is_exact:
            rows = best_of(survey, source.catalog, rows)
        found.append(np.stack([np.full(len(rows), number), rows]))
        parts.append(table)
    places = np.concatenate(found, axis=1)
    if not survey.has_reduction:
        return places[:, :1] if pattern.is_exact else places
    if not places.shape[1]:
        return places
    *names, last = survey.id_parts
    whole = ([table.column(name).fill_null(-1).to_numpy() for table in parts] for name in names)
    keys = [np.concatenate([part.astype(np.int64) for part in column]) for column in whole]
    texts = [text for table in parts for text in table.column(last).to_pylist()]
    distinct = sorted(set(texts))
    reductions = release[0][1].release.reductions
    ranks = _ranks(distinct, {reduction: at for at, reduction in enumerate(reductions)})
    code = {text: at for at, text in enumerate(distinct)}
    run = np.array([code[text] for text in texts])
    if pattern.parts[-1] is not None:
        keys.append(run)
    # The first of equal ones is kept: a stable sort keeps their order.
    order = np.lexsort((-ranks[run], *reversed(keys)))
    first = np.zeros(len(order), np.bool_)
    first[0] = True
    for key in keys:
        first[1:] |= key[order][1:] != key[order][:-1]
    return places[:, order[first]]


def _reduction_rank(own: Mapping[str, int], reduction: str) -> tuple[bool, int, list[int]]:
    """Return a sort key of a reduction: a release's own come last, and newer after older ones.

    Parameters
    ----------
    own : the release's reductions and their place among them
    """
    version = [int(part) for part in re.findall(r"\d+", reduction)]
    return reduction in own, own.get(reduction, -1), version


def _ranks(reductions: Sequence[str], own: Mapping[str, int]) -> Ints:
    """Return numbers that order reductions as `_reduction_rank` does, 1D[n]."""
    ranks = [_reduction_rank(own, reduction) for reduction in reductions]
    place = {str(rank): at for at, rank in enumerate(sorted(ranks))}
    return np.array([place[str(rank)] for rank in ranks], np.int64)


def best_of(survey: Survey, catalog: SpectrumFinder, rows: Rows) -> Rows:
    """Return the best of ``rows``, 1D[n], by the survey's own order: 1D[1], or 1D[0] if n is 0."""
    if len(rows) < 2 or survey.best is None:
        return rows[:1]
    named = [criterion for criterion in survey.best.order if criterion[0] in catalog.columns]
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
