"""Selection of spectra by identifier: the spectra meant, and the place of each.

`select` reads the identifiers, finds the catalogue rows of each context's, leaves out damaged
spectra if that is wanted, looks up segment and row of each, and puts all in the caller's order.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from operator import itemgetter
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import (
    SKIPPED,
    BadIdentifier,
    DamagedFile,
    DamagedSpectrum,
    NotFound,
    SpecServerError,
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
from .flux_units import by_unit
from .id_lookup import find_tuples
from .limits import NO_LIMITS, Limits
from .probing import PROBED, find_damaged, is_other
from .selection import Selection, by_number, without_empty_contexts
from .source import SpectrumSource

Identifier = int | IdPattern
_FEW: Final = 100
"""Spectra that are read in some milliseconds."""
_HINTED: Final = 10
"""Identifiers not found that are looked for in other contexts."""


@dataclass(slots=True)
class _Found:
    """Catalogue rows that the identifiers of one context mean: parallel arrays, 1D[n]."""

    asked: ContextIds
    survey: Survey
    sources: tuple[SpectrumSource, ...]
    """The sources that were searched."""
    source_index: npt.NDArray[np.int16]
    """Index into ``sources``."""
    catalogue_row: npt.NDArray[np.int64]
    """Row in the source's catalogue."""
    asking: npt.NDArray[np.int64]
    """Index of the identifier."""
    sound: npt.NDArray[np.bool_]
    """True for a spectrum that is not damaged, or was not read."""
    missing: tuple[str, ...]
    """Identifiers for which nothing was found that can be read."""
    damaged: tuple[str, ...] = ()
    """Same as `Selection.damaged`."""


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
    context : of identifiers that name no context
    skip_missing : leave out what is not found, and what is damaged of a list up to `PROBED`
    vectors : those that have to be undamaged; None: all of the record

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
    found: list[_Found] = []
    nfound = 0
    read = _read(archive, given, context, limits)
    nasked = sum(len(asked.ids) for asked in read)
    for asked in read:
        found.append(_find(archive, asked, limits, nfound))
        if found[-1].missing and not skip_missing:
            raise _not_found(archive, found[-1], nasked)
        nfound += len(found[-1].catalogue_row)
    limits.check_spectra(nfound)
    if skip_missing and nfound <= PROBED:
        if nfound > _FEW:
            limits.require_heavy()
        for some in found:
            _leave_out_damaged(some, vectors)
    return _located(found)


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
    for some in text.read(given, limits.max_ids):
        some.context = archive.resolve(some.context)
        same = read.setdefault(some.context, some)
        if same is not some:
            pairs = zip(same.places + some.places, same.ids + some.ids, strict=True)
            in_order = sorted(pairs, key=itemgetter(0))
            same.places = [place for place, _ in in_order]
            same.ids = [asked for _, asked in in_order]
    return list(read.values())


def _find(archive: Archive, asked: ContextIds, limits: Limits, nfound: int) -> _Found:
    """Return the catalogue rows that the identifiers of one context mean.

    Parameters
    ----------
    nfound : spectra of other contexts that the request means as well
    """
    searched = archive.search(asked.context)
    survey, sources = searched.survey, searched.sources
    numbers = [asking for asking in asked.ids if isinstance(asking, int)]
    where, rows = _find_ids(sources, _numbers(survey, numbers))
    asking = np.arange(len(numbers))
    missing: tuple[str, ...] = ()
    if len(numbers) < len(asked.ids):
        patterns = [asking for asking in asked.ids if isinstance(asking, IdPattern)]
        nfound += int(np.count_nonzero(rows >= 0))
        pattern, source, row = find_tuples(survey, sources, patterns, limits, nfound)
        is_plain = np.array([isinstance(asking, int) for asking in asked.ids])
        asking = np.concatenate([np.flatnonzero(is_plain), np.flatnonzero(~is_plain)[pattern]])
        # Tuples are spread out in place.
        order = np.argsort(asking, kind="stable")
        asking = asking[order]
        where, rows = np.concatenate([where, source])[order], np.concatenate([rows, row])[order]
    held = rows >= 0
    if len(numbers) < len(asked.ids) or not held.all():
        where, rows, asking = where[held], rows[held], asking[held]
        answered = np.zeros(len(asked.ids), np.bool_)
        answered[asking] = True
        missing = tuple(format_id(asked.ids[at]) for at in np.flatnonzero(~answered).tolist())
    if missing and searched.refused is not None:
        # They may be in a release that cannot be opened.
        raise searched.refused
    sound = np.ones(len(rows), np.bool_)
    return _Found(asked, survey, sources, where, rows, asking, sound, missing)


def _not_found(archive: Archive, found: _Found, nasked: int) -> NotFound:
    """Return the error of identifiers that are not found; it names contexts that have them."""
    fixes = [SKIPPED] if len(found.missing) < nasked else []
    searched = archive.search(found.asked.context).releases
    lost = [int(text) for text in found.missing[:_HINTED] if text.isdecimal()]
    for name in archive.names() if lost else ():
        with suppress(SpecServerError):
            if name not in searched:
                there = archive.search(name)
                held = _find_ids(there.sources, _numbers(there.survey, lost))[1] >= 0
                if held.any():
                    first = lost[int(held.argmax())]
                    ways = f"context='{name}' or '{name}:{first}'"
                    fixes.append(f"{name} has {first}: {ways} finds it")
    return NotFound(found.missing, searched, *(fixes or ["check identifier and context"]))


def _leave_out_damaged(found: _Found, vectors: Sequence[str] | None) -> None:
    """Read the spectra of catalogue rows, and leave out those that are damaged."""
    bad = find_damaged(
        found.survey, found.sources, found.source_index, found.catalogue_row, vectors
    )
    if bad.any():
        found.sound = ~bad
        lost = np.setdiff1d(found.asking[bad], found.asking[~bad])
        texts = tuple(format_id(found.asked.ids[at]) for at in lost.tolist())
        partly = bad & ~np.isin(found.asking, lost)
        places = zip(
            found.source_index[partly].tolist(), found.catalogue_row[partly].tolist(), strict=True
        )
        others = (found.sources[number].catalog.identifier(row) for number, row in places)
        found.missing += texts
        found.damaged = texts + tuple(dict.fromkeys(map(str, others)))


def _numbers(survey: Survey, numbers: Sequence[int]) -> npt.NDArray[np.generic]:
    """Return plain identifiers in the survey's type, 1D[n]."""
    dtype = np.dtype(survey.id_column.dtype)
    limits = np.iinfo(dtype)
    if numbers and limits.min <= min(numbers) and max(numbers) <= limits.max:
        return np.array(numbers, dtype)
    normal = [survey.normal_id(number) for number in numbers]
    for number, value in zip(numbers, normal, strict=True):
        if not limits.min <= value <= limits.max:
            ends = f"{limits.min} to {limits.max}"
            raise BadIdentifier(number, f"{survey.id_column.name} is a number from {ends}")
    return np.array(normal, dtype)


def _find_ids(
    sources: Sequence[SpectrumSource], ids: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64]]:
    """Return source and catalogue row of each identifier; row -1 where there is none."""
    where = np.zeros(len(ids), np.int16)
    if not sources:
        return where, np.full(len(ids), -1, np.int64)
    rows = sources[0].catalog.with_ids(ids)
    for number, source in enumerate(sources[1:], 1):
        open_ = np.flatnonzero(rows < 0)
        if not len(open_):
            break
        rows[open_] = source.catalog.with_ids(ids[open_])
        where[open_] = number
    return where, rows


def _located(found: Sequence[_Found]) -> Selection:
    """Return the sound spectra of all contexts in the caller's order, with segment and row."""
    sources = tuple(source for some in found for source in some.sources)
    begins = accumulate([len(some.sources) for some in found], initial=0)
    numbers = [some.source_index + begin for some, begin in zip(found, begins, strict=False)]
    where = np.concatenate(numbers, dtype=np.int16)
    rows = np.concatenate([some.catalogue_row for some in found])
    counts = [len(some.catalogue_row) for some in found]
    context_index = np.repeat(np.arange(len(found), dtype=np.int16), counts)
    sound = np.concatenate([some.sound for some in found])
    are_sound = bool(sound.all())
    if len(found) > 1 or not are_sound:
        places = [np.array(some.asked.places, np.int64)[some.asking] for some in found]
        order = np.argsort(np.concatenate(places), kind="stable")
        sound = sound[order]
        order = order[sound]
        where, rows, context_index = where[order], rows[order], context_index[order]
    segment_index, segment_row, first, count = np.zeros((4, len(rows)), np.int32)
    on_lattice = np.ones(len(rows), np.bool_)
    segments: list[SpectrumStore] = []
    members, ids = [], [np.empty(0, source.survey.id_column.dtype) for source in sources]
    for number, mine in by_number(where):
        source = sources[number]
        place = source.catalog.place(rows[mine])
        members.append(mine)
        ids[number] = place.ids.astype(source.survey.id_column.dtype, copy=False)
        for name, here in by_number(place.segment):
            some, at = mine[here], place.row[here]
            opened = _open_segment(source, name, at, place.ids[here])
            segment_index[some], segment_row[some] = len(segments), at
            on_lattice[some] = opened.on_lattice
            first[some], count[some] = opened.first[at], opened.count[at]
            segments.append(opened)
    joined = join_ids(ids)
    if len(members) > 1:
        joined = joined[np.argsort(np.concatenate(members))]
    whole = Selection(
        contexts=tuple(some.asked.context for some in found),
        surveys=tuple(some.survey for some in found),
        context_index=context_index,
        ids=joined,
        sources=sources,
        source_index=where,
        catalogue_row=rows,
        segments=tuple(segments),
        segment_index=segment_index,
        segment_row=segment_row,
        first=first,
        count=count,
        on_lattice=on_lattice,
        missing=_texts(found, "missing"),
        damaged=_texts(found, "damaged"),
        sound=None if are_sound else sound,
        is_of_several=len(found) > 1,
    )
    return by_unit(without_empty_contexts(whole))


def _texts(found: Sequence[_Found], name: str) -> tuple[str, ...]:
    """Return identifiers of all contexts; where there are several, with the context before each."""
    return tuple(
        f"{some.asked.context}:{text}" if len(found) > 1 else text
        for some in found
        for text in getattr(some, name)
    )


def _open_segment(
    source: SpectrumSource,
    number: int,
    rows: npt.NDArray[np.int32],
    ids: npt.NDArray[np.generic],
) -> SpectrumStore:
    """Return a segment, having checked that its rows hold the identifiers, 1D[n] each."""
    context = source.release.context
    try:
        segment = source.segment(number)
    except DamagedFile as error:
        raise DamagedSpectrum(context, np.unique(ids).tolist(), error) from error
    wrong = ids[is_other(segment.ids, rows, ids)]
    if len(wrong):
        raise StoreError(
            context, f"the index leads to another spectrum than {wrong[0]}; 'specserver verify'"
            " lists such links, and an index that is deleted is made again"
        )  # fmt: skip
    return segment
