"""From identifiers to places: which spectra are meant, and where each of them is.

`select` reads the identifiers, finds the catalogue rows of each context's, leaves out damaged
spectra if that is wanted, looks up segment and row of each, and puts all in the caller's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import (
    BadIdentifier,
    DamagedFile,
    DamagedSpectrum,
    NotFound,
    StoreError,
    UnknownContext,
)
from ..model.id_contexts import ContextIds, ContextText
from ..model.id_tuple import IdPattern, format_id
from ..model.ids import IdForm
from ..model.survey import Survey
from ..ops.joining import join_ids
from ..store.base import SpectrumStore
from .archive import Archive
from .id_lookup import find_tuples
from .limits import NO_LIMITS, Limits
from .probing import PROBED, find_damaged, is_other
from .selection import Selection
from .source import SpectrumSource

Identifier = int | IdPattern
_FEW: Final = 100
"""Spectra that are read in some milliseconds."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Catalogue rows that the identifiers of one context mean: parallel arrays, 1D[n]."""

    survey: Survey
    sources: tuple[SpectrumSource, ...]
    """What was searched."""
    source: npt.NDArray[np.int16]
    """Index into ``sources``."""
    rows: npt.NDArray[np.int64]
    """Row in the source's catalogue."""
    asking: npt.NDArray[np.int64]
    """Index of the identifier."""
    missing: tuple[str, ...]
    """Identifiers for which nothing was found."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """The spectra of one context, and where they belong in the caller's list."""

    selection: Selection
    sound: npt.NDArray[np.bool_]
    """1D[number found], which are not damaged."""
    places: npt.NDArray[np.int64]
    """1D[number found], position of the identifier that means each."""


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
    given : text may say which context an identifier is of (`model.id_contexts`)
    context : of the identifiers that say none
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
    UnknownContext
        There is no such context.
    """
    asked = _read(archive, given, context, limits)
    found = [_find(archive, one, limits, skip_missing=skip_missing) for one in asked]
    nfound = sum(len(one.rows) for one in found)
    limits.check_spectra(nfound)
    probes = skip_missing and nfound <= PROBED
    if probes and nfound > _FEW:
        limits.require_heavy()
    placed = [
        _place(ids, some, vectors, probes=probes) for ids, some in zip(asked, found, strict=True)
    ]
    return placed[0].selection if len(placed) == 1 else _merge(placed)


def _read(
    archive: Archive, given: str | Sequence[Identifier], context: str, limits: Limits
) -> list[ContextIds]:
    """Return the identifiers of each context, with ``default`` resolved."""
    if not isinstance(given, str):
        places = list(range(len(given)))
        return [ContextIds(archive.resolve(context), list(given), places)]

    def is_context(name: str) -> bool:
        try:
            archive.resolve(name)
        except UnknownContext:
            return False
        return True

    def form_of(name: str) -> IdForm:
        return archive.survey(name).id_form

    text = ContextText(archive.resolve(context), form_of, is_context)
    read: dict[str, ContextIds] = {}
    for one in text.read(given, limits.max_ids):
        one.context = archive.resolve(one.context)
        same = read.setdefault(one.context, one)
        if same is not one:
            same.ids += one.ids
            same.places += one.places
    return list(read.values())


def _find(archive: Archive, asked: ContextIds, limits: Limits, *, skip_missing: bool) -> _Found:
    """Return the catalogue rows that the identifiers of one context mean."""
    searched = archive.search(asked.context)
    survey, sources = searched.survey, searched.sources
    numbers = [one for one in asked.ids if isinstance(one, int)]
    if len(numbers) == len(asked.ids):
        ids = _numbers(survey, numbers)
        where, rows = _find_ids(sources, ids)
        asking = np.arange(len(ids))
    else:
        where, rows, asking = _find_mixed(survey, sources, asked.ids, limits)
    held = rows >= 0
    answered = np.zeros(len(asked.ids), np.bool_)
    answered[asking[held]] = True
    missing = tuple(format_id(asked.ids[at]) for at in np.flatnonzero(~answered).tolist())
    if missing and searched.refused is not None:
        # They may be in a release that cannot be opened.
        raise searched.refused
    if missing and not skip_missing:
        raise NotFound(missing, searched.releases)
    return _Found(survey, sources, where[held], rows[held], asking[held], missing)


def _place(
    asked: ContextIds, found: _Found, vectors: Sequence[str] | None, *, probes: bool
) -> _Placed:
    """Return the spectra of catalogue rows; if ``probes``, damaged ones are left out."""
    sound = np.ones(len(found.rows), np.bool_)
    missing, damaged = found.missing, tuple[str, ...]()
    if probes:
        bad = find_damaged(found.survey, found.sources, found.source, found.rows, vectors)
        if bad.any():
            sound = ~bad
            lost = np.setdiff1d(found.asking[bad], found.asking[sound])
            damaged = tuple(format_id(asked.ids[at]) for at in lost.tolist())
            missing += damaged
            partly = bad & ~np.isin(found.asking, lost)
            damaged += _ids_of(found.sources, found.source[partly], found.rows[partly])
    selection = _located(asked.context, found, sound, missing, damaged)
    return _Placed(selection, sound, np.array(asked.places, np.int64)[found.asking])


def _merge(placed: Sequence[_Placed]) -> Selection:
    """Return the spectra of several contexts as one selection, in the caller's order."""
    parts = [one.selection for one in placed]
    places = np.concatenate([one.places for one in placed])
    sound = np.concatenate([one.sound for one in placed])
    order = np.argsort(places[sound], kind="stable")
    begins = list(accumulate([len(one.sources) for one in parts], initial=0))
    starts = list(accumulate([len(one.segments) for one in parts], initial=0))

    def all_of(name: str, added: Sequence[int] | None = None) -> npt.NDArray[Any]:
        arrays = [getattr(one, name) for one in parts]
        if added is not None:
            arrays = [
                (one + more).astype(one.dtype) for one, more in zip(arrays, added, strict=False)
            ]
        return np.concatenate(arrays)[order]

    def named(name: str) -> tuple[str, ...]:
        return tuple(f"{part.contexts[0]}:{one}" for part in parts for one in getattr(part, name))

    return Selection(
        contexts=tuple(part.contexts[0] for part in parts),
        surveys=tuple(part.survey for part in parts),
        context=all_of("context", range(len(parts))),
        ids=join_ids([part.ids for part in parts])[order],
        sources=tuple(source for part in parts for source in part.sources),
        source=all_of("source", begins),
        rows=all_of("rows"),
        segments=tuple(segment for part in parts for segment in part.segments),
        segment=all_of("segment", starts),
        row=all_of("row"),
        first=all_of("first"),
        count=all_of("count"),
        on_lattice=all_of("on_lattice"),
        missing=named("missing"),
        damaged=named("damaged"),
        sound=None if sound.all() else sound[np.argsort(places, kind="stable")],
    )


def _ids_of(
    sources: Sequence[SpectrumSource], where: npt.NDArray[np.int16], rows: npt.NDArray[np.int64]
) -> tuple[str, ...]:
    """Return the identifiers of some rows, each once."""
    pairs = zip(where.tolist(), rows.tolist(), strict=True)
    found = (sources[number].catalog.identifier(row) for number, row in pairs)
    return tuple(dict.fromkeys(map(str, found)))


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
    order = np.argsort(asking, kind="stable")
    all_where = np.concatenate([where, found.where])
    return all_where[order], np.concatenate([rows, found.rows])[order], asking[order]


def _located(
    context: str,
    found: _Found,
    sound: npt.NDArray[np.bool_],
    missing: tuple[str, ...],
    damaged: tuple[str, ...],
) -> Selection:
    """Return the selection of the sound rows of one context, with segment and row of each."""
    survey, sources = found.survey, found.sources
    where, rows = found.source[sound], found.rows[sound]
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
        (context,), (survey,), np.zeros(nspec, np.int16), ids, sources, where, rows,
        tuple(segments), segment, row, first, count, on_lattice, missing, damaged,
        None if sound.all() else sound,
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
