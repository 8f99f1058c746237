"""From identifiers to places: which spectra are meant, and where each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from ..errors import BadIdentifier, MixedLattices, NotFound
from ..model.grid import Grid, PixelRange, span
from ..model.idtext import IdPattern, format_id, parse_id_text
from ..model.survey import Survey
from ..store.base import SpectrumStore
from .archive import Archive
from .shelf import Shelf, reduction_rank

Identifier = int | IdPattern


@dataclass(frozen=True, slots=True)
class Selection:
    """Spectra in the order asked for: parallel arrays, 1D[nspec]."""

    survey: Survey
    context: str
    """The context asked for, with ``default`` resolved."""
    ids: npt.NDArray[np.generic]
    holdings: tuple[Shelf, ...]
    """What was searched, in order: of each release its segments, then its tree."""
    holding: npt.NDArray[np.int16]
    """Index into ``holdings``."""
    rows: npt.NDArray[np.int64]
    """Row in the holding's catalogue."""
    segments: tuple[SpectrumStore, ...]
    segment: npt.NDArray[np.int32]
    """Index into ``segments``."""
    row: npt.NDArray[np.int32]
    """Row in the segment's arrays."""
    first: npt.NDArray[np.int32]
    """Lattice pixel of the first value; 0 off the lattice."""
    count: npt.NDArray[np.int32]
    on_lattice: npt.NDArray[np.bool_]
    missing: tuple[str, ...] = ()
    """Identifiers left out because they were not found."""

    @property
    def nspec(self) -> int:
        """Number of spectra, duplicates counted."""
        return len(self.ids)

    @property
    def grid(self) -> Grid:
        """The survey's lattice."""
        return self.survey.grid

    @property
    def span(self) -> PixelRange:
        """Lattice pixels that hold all spectra that are on the lattice."""
        return span(self.first[self.on_lattice], self.count[self.on_lattice])

    def require_lattice(self) -> None:
        """Refuse to go on when a spectrum cannot be aligned by a shift."""
        if not self.on_lattice.all():
            raise MixedLattices(self.ids[~self.on_lattice].tolist())


def select(
    archive: Archive, given: str | Sequence[Identifier], context: str, *, skip_missing: bool
) -> Selection:
    """Find the spectra that identifiers name; order and duplicates are kept.

    Raises
    ------
    BadIdentifier
        Text that is no identifier, or a number outside the survey's type.
    NotFound
        An identifier that no searched release holds, unless ``skip_missing``.
    """
    resolved = archive.resolve(context)
    searched = archive.searched(resolved)
    holdings = tuple(shelf for name in searched for shelf in archive.shelves(name))
    survey = archive.survey(resolved)
    asked = parse_id_text(given, len(survey.id_parts)) if isinstance(given, str) else given
    if all(isinstance(one, int) for one in asked):
        ids = _numbers(survey, [one for one in asked if isinstance(one, int)])
        where, rows = _find_ids(holdings, ids)
        owner = np.arange(len(ids))
    else:
        where, rows, owner = _find_mixed(survey, holdings, asked)
    absent = np.setdiff1d(np.arange(len(asked)), owner[rows >= 0])
    missing = tuple(_text(asked[index]) for index in absent.tolist())
    if missing and not skip_missing:
        raise NotFound(missing, searched)
    found = rows >= 0
    return _placed(survey, resolved, holdings, where[found], rows[found], missing)


def _text(given: Identifier) -> str:
    """Return an identifier as text for a message."""
    return format_id(given)


def _numbers(survey: Survey, numbers: Sequence[int]) -> npt.NDArray[np.generic]:
    """Return plain identifiers in the survey's type, 1D[n]."""
    dtype = np.dtype(survey.id_column.dtype)
    limits = np.iinfo(dtype)
    normal = [survey.normal_id(number) for number in numbers]
    for number, one in zip(numbers, normal, strict=True):
        if not limits.min <= one <= limits.max:
            raise BadIdentifier(number, f"{survey.id_column.name} has 64 bits")
    return np.array(normal, dtype)


def _find_ids(
    holdings: Sequence[Shelf], ids: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Return holding and catalogue row of each identifier; row -1 where there is none."""
    where = np.zeros(len(ids), np.int16)
    rows = np.full(len(ids), -1, np.int64)
    for number, holding in enumerate(holdings):
        open_ = np.flatnonzero(rows < 0)
        if not len(open_):
            break
        rows[open_] = holding.catalog.with_ids(ids[open_])
        where[open_] = number
    return where, rows


def _find_mixed(
    survey: Survey, holdings: Sequence[Shelf], asked: Sequence[Identifier]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return holding, row and index of the asking identifier, tuples spread out in place."""
    plain = [index for index, one in enumerate(asked) if isinstance(one, int)]
    numbers = [one for one in asked if isinstance(one, int)]
    where, rows = _find_ids(holdings, _numbers(survey, numbers))
    all_where, all_rows, owner = [where], [rows], [np.array(plain, np.int64)]
    for index, one in enumerate(asked):
        if isinstance(one, IdPattern):
            found = _find_pattern(survey, holdings, one)
            all_where.append(np.array([number for number, _ in found], np.int16))
            all_rows.append(np.array([row for _, row in found], np.int64))
            owner.append(np.full(len(found), index, np.int64))
    asking = np.concatenate(owner)
    order = np.argsort(asking, kind="stable")
    return np.concatenate(all_where)[order], np.concatenate(all_rows)[order], asking[order]


def _find_pattern(
    survey: Survey, holdings: Sequence[Shelf], pattern: IdPattern
) -> list[tuple[int, int]]:
    """Return holding and row of the spectra of a tuple, all of the first release that has any."""
    for _, shelves in groupby(enumerate(holdings), lambda one: one[1].release.context):
        release = list(shelves)
        for number, holding in release:
            rows = _packed(survey, holding, pattern)
            if len(rows):
                return [(number, row) for row in rows.tolist()]
        if found := _searched(survey, release, pattern):
            return found
    return []


def _packed(survey: Survey, holding: Shelf, pattern: IdPattern) -> npt.NDArray[np.int64]:
    """Return the row of an exact tuple by computing its identifier, without a search."""
    if survey.pack is None or not pattern.is_exact:
        return np.empty(0, np.int64)
    *spans, reduction = pattern.parts
    numbers = tuple(part[0].low for part in spans if part and not isinstance(part[0], str))
    runs = reversed(holding.release.reductions) if reduction is None else reduction
    try:
        ids = [survey.pack(numbers, str(run)) for run in runs]
    except BadIdentifier:
        # Numbers beyond the identifier's bits name no spectrum: not found, like any other.
        return np.empty(0, np.int64)
    rows = holding.catalog.with_ids(np.array(ids, survey.id_column.dtype))
    found = rows[rows >= 0]
    return found[:1] if reduction is None else found


def _searched(
    survey: Survey, release: Sequence[tuple[int, Shelf]], pattern: IdPattern
) -> list[tuple[int, int]]:
    """Return holding and row of what a tuple names in a release, in the order of their parts.

    Where the tuple leaves the reduction open, only the best of each spectrum; where segments and
    tree have the same, that of the segments.
    """
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


def _placed(
    survey: Survey,
    context: str,
    holdings: tuple[Shelf, ...],
    where: npt.NDArray[np.int16],
    rows: npt.NDArray[np.int64],
    missing: tuple[str, ...],
) -> Selection:
    """Return the selection of catalogue rows, with the place of each spectrum."""
    nspec = len(rows)
    ids = np.zeros(nspec, survey.id_column.dtype)
    segment, row = np.zeros(nspec, np.int32), np.zeros(nspec, np.int32)
    first, count = np.zeros(nspec, np.int32), np.zeros(nspec, np.int32)
    on_lattice = np.ones(nspec, np.bool_)
    segments: list[SpectrumStore] = []
    for number, holding in enumerate(holdings):
        mine = np.flatnonzero(where == number)
        place = holding.catalog.place(rows[mine])
        ids[mine], row[mine] = place.ids, place.row
        for name in np.unique(place.segment).tolist():
            opened = holding.segment(name)
            members = mine[place.segment == name]
            segment[members] = len(segments)
            first[members] = opened.first[row[members]]
            count[members] = opened.count[row[members]]
            on_lattice[members] = opened.on_lattice
            segments.append(opened)
    return Selection(
        survey, context, ids, holdings, where, rows, tuple(segments), segment, row, first, count,
        on_lattice, missing,
    )  # fmt: skip
