"""Spectra of one context or several that a request names, and the place of each."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ..errors import MixedLattices, NotFound, StoreError
from ..model.grid import Grid, PixelRange, span
from ..model.survey import Survey
from ..store.base import SpectrumStore
from ..texts import joined
from .source import SpectrumSource


@dataclass(frozen=True, slots=True)
class Selection:
    """Spectra in the order asked for: parallel arrays, 1D[nspec]."""

    contexts: tuple[str, ...]
    """The contexts that have spectra here, with ``default`` resolved, in the order of first
    mention; of an empty selection the first one asked for. A context whose spectra differ in their
    unit of flux is here once for each unit."""
    surveys: tuple[Survey, ...]
    """The survey of each of these, in that unit."""
    context_index: npt.NDArray[np.int16]
    """Index into ``contexts``."""
    ids: npt.NDArray[np.generic]
    """Integers; objects where no 64-bit type holds those of all surveys."""
    sources: tuple[SpectrumSource, ...]
    """The sources searched: for each release, in order, the segments, then the tree."""
    source_index: npt.NDArray[np.int16]
    """Index into ``sources``."""
    catalogue_row: npt.NDArray[np.int64]
    """Row in the source's catalogue."""
    segments: tuple[SpectrumStore, ...]
    segment_index: npt.NDArray[np.int32]
    """Index into ``segments``."""
    segment_row: npt.NDArray[np.int32]
    """Row in the segment's arrays."""
    first: npt.NDArray[np.int32]
    """Lattice pixel of the first value; 0 off the lattice."""
    count: npt.NDArray[np.int32]
    on_lattice: npt.NDArray[np.bool_]
    missing: tuple[str, ...] = ()
    """Identifiers left out, as nothing was found for them that can be read. Where several contexts
    are asked for, the context stands before each: ``context:id``."""
    damaged: tuple[str, ...] = ()
    """Those left out because they are damaged; for an identifier that also has other spectra, the
    identifiers of the damaged ones."""
    sound: npt.NDArray[np.bool_] | None = None
    """1D[number found], which of the spectra found are not damaged; None: all."""
    is_of_several: bool = False
    """Whether several contexts are asked for, so that texts name them."""
    assume_medium: str | None = None
    """Medium assumed for spectra whose medium is not known."""

    @property
    def nspec(self) -> int:
        """Number of spectra, duplicates counted."""
        return len(self.ids)

    @property
    def survey(self) -> Survey:
        """The survey; of several the first, whose lattice and record come first."""
        return self.surveys[0]

    @property
    def context_names(self) -> str:
        """The contexts with commas, as heads of answers state them."""
        return ", ".join(dict.fromkeys(self.contexts))

    @property
    def survey_names(self) -> str:
        """The surveys with commas, each once, as heads of answers state them."""
        return ", ".join(dict.fromkeys(survey.name for survey in self.surveys))

    @property
    def is_of_one_survey(self) -> bool:
        """Whether all contexts are of one survey, and all fluxes in one unit."""
        return len(self.surveys) == 1 or len({survey.kind for survey in self.surveys}) == 1

    @property
    def grid(self) -> Grid:
        """The lattice that all surveys share.

        Raises
        ------
        MixedLattices
            They share none.
        """
        grid = self.surveys[0].grid
        if len(self.surveys) > 1 and any(survey.grid != grid for survey in self.surveys):
            firsts = [
                np.flatnonzero(self.context_index == at)[:1] for at in range(len(self.contexts))
            ]
            raise MixedLattices(self.texts(np.concatenate(firsts)))
        return grid

    @property
    def bad_pixels(self) -> tuple[str, int]:
        """Vector and bits that mark bad pixels; empty and 0 where surveys differ in them."""
        marks = {(survey.mask_vector, survey.bad_bits) for survey in self.surveys}
        return marks.pop() if len(marks) == 1 else ("", 0)

    @property
    def span(self) -> PixelRange:
        """Lattice pixels that hold all spectra that are on the lattice."""
        return span(self.first[self.on_lattice], self.count[self.on_lattice])

    def texts(self, which: npt.NDArray[np.integer]) -> list[str]:
        """Return identifiers, 1D[n] int, as text; with their contexts if several are asked for."""
        ids = [str(self.ids[at]) for at in which.tolist()]
        if not self.is_of_several:
            return ids
        names = [self.contexts[at] for at in self.context_index[which].tolist()]
        return [f"{name}:{text}" for name, text in zip(names, ids, strict=True)]

    @property
    def named(self) -> tuple[str, ...]:
        """The contexts that errors are to name: all if several are asked for, else none."""
        return tuple(dict.fromkeys(self.contexts)) if self.is_of_several else ()

    def releases(self, which: npt.NDArray[np.integer]) -> list[str]:
        """Return the release that holds each of some spectra, 1D[n] int."""
        names = [source.release.context for source in self.sources]
        return [names[at] for at in self.source_index[which].tolist()]

    def release(self, index: int) -> str:
        """Return the release that holds a spectrum."""
        return str(self.sources[self.source_index[index]].release.context)

    def survey_of(self, index: int) -> Survey:
        """Return the survey of a spectrum."""
        return self.surveys[int(self.context_index[index])]

    def require_lattice(self) -> None:
        """Refuse to go on when a spectrum cannot be aligned by a shift."""
        _ = self.grid
        if not self.on_lattice.all():
            raise MixedLattices(self.texts(np.flatnonzero(~self.on_lattice)))


def part_of(selection: Selection, take: npt.NDArray[np.integer]) -> Selection:
    """Return some spectra of a selection, 1D[n] int, in another order if asked for."""
    names = (
        "context_index", "ids", "source_index", "catalogue_row", "segment_index", "segment_row",
        "first", "count", "on_lattice",
    )  # fmt: skip
    part = replace(selection, **{name: getattr(selection, name)[take] for name in names})
    return without_empty_contexts(part)


def without_empty_contexts(selection: Selection) -> Selection:
    """Return a selection of only the contexts that have spectra: others must not limit the rest."""
    if len(selection.contexts) == 1:
        return selection
    counts = np.bincount(selection.context_index, minlength=len(selection.contexts))
    if counts.all():
        return selection
    kept = np.flatnonzero(counts).tolist() or [0]
    part = replace(
        selection,
        contexts=tuple(selection.contexts[at] for at in kept),
        surveys=tuple(selection.surveys[at] for at in kept),
        context_index=np.searchsorted(kept, selection.context_index).astype(np.int16),
    )
    dtype = part.survey.id_column.dtype
    return replace(part, ids=part.ids.astype(dtype)) if part.is_of_one_survey else part


def by_survey(selection: Selection) -> list[tuple[Selection, npt.NDArray[np.int64]]]:
    """Return the spectra of each survey and unit of flux, and their positions in the selection.

    Positions are 1D[n]. Surveys come in the order of first mention; only the whole names those left
    out.
    """
    return _parts(selection, [survey.kind for survey in selection.surveys])


def by_context(selection: Selection) -> list[tuple[Selection, npt.NDArray[np.int64]]]:
    """Return the spectra of each context asked for, and their positions in the selection, 1D[n]."""
    return _parts(selection, selection.contexts)


def _parts(
    selection: Selection, keys: Sequence[object]
) -> list[tuple[Selection, npt.NDArray[np.int64]]]:
    """Return the spectra of the contexts that share a key; there is a key for each context."""
    if len(set(keys)) == 1:
        return [(selection, np.arange(selection.nspec))]
    parts = []
    for key in dict.fromkeys(keys):
        mine = [at for at, other in enumerate(keys) if other == key]
        places = np.flatnonzero(np.isin(selection.context_index, mine))
        parts.append((replace(part_of(selection, places), missing=(), damaged=()), places))
    return parts


def by_source(
    selection: Selection, take: npt.NDArray[np.integer]
) -> Iterator[tuple[SpectrumSource, npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Yield the sources of some spectra: each with indices into ``take`` and its rows, 1D[m] int.

    Parameters
    ----------
    take : 1D[n] int, which of the selection
    """
    for number, where in by_number(selection.source_index[take]):
        yield selection.sources[number], where, selection.catalogue_row[take[where]]


def by_number(
    numbers: npt.NDArray[np.integer],
) -> Iterator[tuple[int, npt.NDArray[np.int64]]]:
    """Yield each of the numbers that there are, ascending, and where it stands, 1D[m].

    Parameters
    ----------
    numbers : 1D[n] int
    """
    # Mostly there is one: to look that up in a set takes a few spectra a tenth of `np.unique`.
    found = sorted(set(numbers.tolist()))
    if len(found) == 1:
        yield found[0], np.arange(len(numbers))
        return
    for number in found:
        yield number, np.flatnonzero(numbers == number)


def require_some(selection: Selection) -> None:
    """Refuse an empty selection.

    Raises
    ------
    StoreError
        All spectra are damaged.
    NotFound
        There is no spectrum.
    """
    if selection.nspec:
        return
    # The identifiers of several contexts say theirs.
    contexts = () if selection.is_of_several else selection.contexts
    if selection.damaged:
        why = "all are damaged; 'specserver verify' lists the damage"
        raise StoreError(": ".join([*contexts, joined(selection.damaged, 10)]), why)
    if selection.missing:
        fix = "so missing='skip' leaves nothing: check the identifiers and their context"
        raise NotFound(selection.missing, contexts, fix)
    raise NotFound(["an empty list"], contexts, "name one spectrum or more")
