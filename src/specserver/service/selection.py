"""From identifiers to places: which spectra are meant, and where each of them is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import (
    BadIdentifier,
    DamagedFile,
    DamagedSpectrum,
    MixedLattices,
    NotFound,
    ServiceError,
    StoreError,
    TooMuch,
)
from ..model.grid import Grid, PixelRange, span
from ..model.idtext import IdPattern, format_id, parse_id_text
from ..model.survey import Survey
from ..store.base import SpectrumStore
from .archive import Archive
from .id_lookup import find_tuples
from .limits import NO_LIMITS, Limits
from .probing import PROBED, find_damaged, is_other
from .source import SpectrumSource

Identifier = int | IdPattern
_FEW: Final = 100
"""Spectra that are read in some milliseconds."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Spectra in the order asked for: parallel arrays, 1D[nspec]."""

    survey: Survey
    context: str
    """The context asked for, with ``default`` resolved."""
    ids: npt.NDArray[np.generic]
    sources: tuple[SpectrumSource, ...]
    """What was searched, in order: of each release its segments, then its tree."""
    source: npt.NDArray[np.int16]
    """Index into ``sources``."""
    rows: npt.NDArray[np.int64]
    """Row in the source's catalogue."""
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
    """Identifiers left out, as nothing was found for them that can be read."""
    damaged: tuple[str, ...] = ()
    """What of these is left out because it is damaged; and where an identifier stands for others
    too, which are not, the identifiers of the damaged spectra."""
    sound: npt.NDArray[np.bool_] | None = None
    """1D[number found], which of the spectra found are not damaged; None: all."""
    assume_medium: str | None = None
    """Medium assumed for spectra whose medium is not known."""

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


def part_of(selection: Selection, take: npt.NDArray[np.integer]) -> Selection:
    """Return some spectra of a selection, in another order if asked for."""
    names = ("ids", "source", "rows", "segment", "row", "first", "count", "on_lattice")
    return replace(selection, **{name: getattr(selection, name)[take] for name in names})


def require_some(selection: Selection) -> None:
    """Refuse to work with nothing.

    Raises
    ------
    DamagedSpectrum
        What there was is damaged.
    NotFound
        There was nothing.
    """
    if selection.nspec:
        return
    if selection.damaged:
        why = "all are damaged; 'specserver verify' tells more"
        raise StoreError(f"{selection.context}: {', '.join(selection.damaged[:10])}", why)
    raise NotFound(selection.missing or ["an empty list"], [selection.context])


def select(
    archive: Archive,
    given: str | Sequence[Identifier],
    context: str,
    *,
    skip_missing: bool,
    vectors: Sequence[str] | None = None,
    limits: Limits = NO_LIMITS,
) -> Selection:
    """Find the spectra that identifiers name; order and duplicates are kept.

    Parameters
    ----------
    skip_missing : leave out what is not found, and what is damaged of a list up to `PROBED`
    vectors : those of which damage matters; None: all of the record

    Raises
    ------
    BadIdentifier
        Text that is no identifier, or a number outside the survey's type.
    NotFound
        An identifier that no searched release holds, unless ``skip_missing``.
    DamagedSpectrum
        A segment or a file cannot be opened that holds one of them, unless ``skip_missing``.
    TooMuch
        More identifiers, or spectra that they mean, than the limits allow.
    """
    resolved = archive.resolve(context)
    searched = archive.searched(resolved)
    sources, refused = _sources(archive, searched)
    survey = archive.survey(resolved)
    asked: Sequence[Identifier] = (
        parse_id_text(given, survey.id_form, limit=limits.max_ids)
        if isinstance(given, str)
        else given
    )
    numbers = [one for one in asked if isinstance(one, int)]
    if len(numbers) == len(asked):
        ids = _numbers(survey, numbers)
        where, rows = _find_ids(sources, ids)
        owner = np.arange(len(ids))
    else:
        where, rows, owner = _find_mixed(survey, sources, asked, limits)
    found = rows >= 0
    answered = np.zeros(len(asked), np.bool_)
    answered[owner[found]] = True
    missing = tuple(_text(asked[index]) for index in np.flatnonzero(~answered).tolist())
    if missing and refused is not None:
        # They may be in what cannot be opened: nobody can say that they are nowhere.
        raise refused
    if missing and not skip_missing:
        raise NotFound(missing, searched)
    where, rows, owner = where[found], rows[found], owner[found]
    damaged: tuple[str, ...] = ()
    sound: npt.NDArray[np.bool_] | None = None
    if skip_missing and len(rows) <= PROBED:
        if len(rows) > _FEW:
            limits.require_heavy()
        bad = find_damaged(survey, sources, where, rows, vectors)
        if bad.any():
            lost = np.setdiff1d(owner[bad], owner[~bad])
            damaged = tuple(_text(asked[index]) for index in lost.tolist())
            missing += damaged
            partly = bad & ~np.isin(owner, lost)
            damaged += _ids_of(sources, where[partly], rows[partly])
            sound = ~bad
            where, rows = where[sound], rows[sound]
    placed = _placed(survey, resolved, sources, where, rows)
    return replace(placed, missing=missing, damaged=damaged, sound=sound)


def _ids_of(
    sources: Sequence[SpectrumSource], where: npt.NDArray[np.int16], rows: npt.NDArray[np.int64]
) -> tuple[str, ...]:
    """Return the identifiers of some rows, each once."""
    pairs = zip(where.tolist(), rows.tolist(), strict=True)
    found = (sources[number].catalog.identifier(row) for number, row in pairs)
    return tuple(dict.fromkeys(map(str, found)))


def _sources(
    archive: Archive, searched: Sequence[str]
) -> tuple[tuple[SpectrumSource, ...], ServiceError | None]:
    """Return what is searched, and why an older release cannot be, if one cannot."""
    found: list[SpectrumSource] = []
    refused: ServiceError | None = None
    for name in searched:
        try:
            found += archive.sources(name)
        except ServiceError as error:
            if name == searched[0]:
                raise
            refused = refused or error
    return tuple(found), refused


def _text(given: Identifier) -> str:
    """Return an identifier as text for a message."""
    return format_id(given)


def _numbers(survey: Survey, numbers: Sequence[int]) -> npt.NDArray[np.generic]:
    """Return plain identifiers in the survey's type, 1D[n]."""
    dtype = np.dtype(survey.id_column.dtype)
    limits = np.iinfo(dtype)
    if numbers and limits.min <= min(numbers) and max(numbers) <= limits.max:
        return np.array(numbers, dtype)
    normal = [survey.normal_id(number) for number in numbers]
    for number, one in zip(numbers, normal, strict=True):
        if not limits.min <= one <= limits.max:
            raise BadIdentifier(number, f"{survey.id_column.name} has 64 bits")
    return np.array(normal, dtype)


def _find_ids(
    sources: Sequence[SpectrumSource], ids: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Return source and catalogue row of each identifier; row -1 where there is none."""
    where = np.zeros(len(ids), np.int16)
    rows = np.full(len(ids), -1, np.int64)
    for number, source in enumerate(sources):
        open_ = np.flatnonzero(rows < 0)
        if not len(open_):
            break
        rows[open_] = source.catalog.with_ids(ids[open_])
        where[open_] = number
    return where, rows


def _find_mixed(
    survey: Survey, sources: Sequence[SpectrumSource], asked: Sequence[Identifier], limits: Limits
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return source, row and index of the asking identifier, tuples spread out in place."""
    plain = [index for index, one in enumerate(asked) if isinstance(one, int)]
    numbers = [one for one in asked if isinstance(one, int)]
    where, rows = _find_ids(sources, _numbers(survey, numbers))
    tuples = [index for index, one in enumerate(asked) if isinstance(one, IdPattern)]
    patterns = [one for one in asked if isinstance(one, IdPattern)]
    found = find_tuples(survey, sources, patterns, limits)
    owner = np.array(tuples, np.int64)[found.pattern]
    asking = np.concatenate([np.array(plain, np.int64), owner])
    if limits.max_ids is not None and len(asking) > limits.max_ids:
        raise TooMuch("spectra", len(asking), limits.max_ids, "max_ids")
    order = np.argsort(asking, kind="stable")
    all_where = np.concatenate([where, found.where])
    return all_where[order], np.concatenate([rows, found.rows])[order], asking[order]


def _placed(
    survey: Survey,
    context: str,
    sources: tuple[SpectrumSource, ...],
    where: npt.NDArray[np.int16],
    rows: npt.NDArray[np.int64],
) -> Selection:
    """Return the selection of catalogue rows, with the place of each spectrum."""
    nspec = len(rows)
    ids = np.zeros(nspec, survey.id_column.dtype)
    segment, row = np.zeros(nspec, np.int32), np.zeros(nspec, np.int32)
    first, count = np.zeros(nspec, np.int32), np.zeros(nspec, np.int32)
    on_lattice = np.ones(nspec, np.bool_)
    segments: list[SpectrumStore] = []
    for number, source in enumerate(sources):
        mine = np.flatnonzero(where == number)
        place = source.catalog.place(rows[mine])
        ids[mine], row[mine] = place.ids, place.row
        for name in np.unique(place.segment).tolist():
            members = mine[place.segment == name]
            try:
                opened = source.segment(name)
            except DamagedFile as error:
                lost = np.unique(ids[members]).tolist()
                raise DamagedSpectrum(source.release.context, lost, error) from error
            _require_ids(opened, row[members], ids[members], source.release.context)
            segment[members] = len(segments)
            first[members] = opened.first[row[members]]
            count[members] = opened.count[row[members]]
            on_lattice[members] = opened.on_lattice
            segments.append(opened)
    return Selection(
        survey, context, ids, sources, where, rows, tuple(segments), segment, row, first, count,
        on_lattice,
    )  # fmt: skip


def _require_ids(
    store: SpectrumStore,
    rows: npt.NDArray[np.int32],
    ids: npt.NDArray[np.generic],
    context: str,
) -> None:
    """Refuse rows whose spectra are not those of the identifiers, 1D[n] each."""
    wrong = ids[is_other(store.ids, rows, ids)]
    if len(wrong):
        raise StoreError(
            context, f"the index leads to another spectrum than {wrong[0]}; 'specserver verify'"
            " tells more, and an index that is deleted is made again"
        )  # fmt: skip
