"""The decision on each spectrum of a part: store it, keep the stored one, replace it, or refuse."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow.parquet as pq

from ..catalog.index.commit import LeftOut
from ..catalog.index.stored_rows import NO_DIGEST, NO_KEY, StoredRows, StoredSpectrum
from ..catalog.segment_rows import Digests
from ..data.context import ContextFolder
from ..data.root import DataRoot
from ..model.survey import RawSpectrum, Release, Survey
from ..store.zarr import Segment
from ..surveys import find_release
from .report import Became, Note
from .row_differences import Difference, PartRows, Place, Row, compare, row_of, stored_row
from .spectrum_digests import Places, row_digest, stored_digest, vectors_digest

_VALUES: Final = "other values are stored of this spectrum; --replace stores these in their place"
_ROW: Final = "its catalogue values have changed since it was stored; --replace stores these"
_STORE_THESE: Final = "--replace stores these"
_GIVE_ONE: Final = "both files are given; give only the one you mean"
_VALUES_WERE: Final = "other values were stored"
_ROW_WAS: Final = "other catalogue values were stored"
_TWICE: Final = "the files of this ingest give other values of this spectrum; give only one of them"
_OTHER: Final = (
    "another file of this ingest gives other values of this spectrum; give only one of them"
)
_SAME: Final = "another file of this ingest gives the same values"
_OTHER_INGEST: Final = (
    "another ingest has stored other values of this spectrum meanwhile; --replace stores these in"
    " their place"
)
_SAME_INGEST: Final = "another ingest has stored the same values meanwhile"


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision of the ingest on a spectrum."""

    became: Became | None
    """None: the spectrum is stored without a note."""
    reason: str = ""
    other: str | None = None
    """The file of the stored spectrum."""
    foreign: bool = False
    """The reduction is not one of the release."""
    columns: tuple[str, ...] = ()
    """Catalogue columns whose values differ where the vectors are equal."""
    shown: str = field(default="", compare=False)
    """The first of these columns with both values."""

    def note(self, path: str, ids: Sequence[str]) -> Note:
        """Return a note about spectra of a file; the values shown are those of the first one."""
        assert self.became
        of = f"{ids[0]}: " if len(ids) > 1 else ""
        shown = f" ({of}{self.shown})" * bool(self.shown)
        return Note(
            path, self.became, f"{self.reason}{shown}", tuple(ids), self.other, self.columns
        )


@dataclass(frozen=True, slots=True)
class IngestOptions:
    """Options and stored spectra that all parts of an ingest share."""

    data: DataRoot
    context: str
    lease: str
    """Name of the lease of the ingest."""
    given: frozenset[str]
    """Absolute paths of the files and folders that the ingest was given."""
    strict: bool
    """Refuse spectra whose reduction is not the release's."""
    replace: bool
    """Store spectra again if their values differ from the stored ones."""


class Decisions:
    """Decides about the spectra of a part, one after the other."""

    def __init__(self, survey: Survey, release: Release, options: IngestOptions) -> None:
        self.folder = options.data.context(options.context)
        self.survey = survey
        self.reductions = release.reductions
        self.options = options
        self.places = Places(survey)
        self.rows = PartRows(survey)
        self.seen: dict[Place, tuple[Digests, str]] = {}
        self._stored = _stored_rows(options.data, options.context, options.lease)
        self._stored.renew()
        self._known: dict[Place, StoredSpectrum] = {}

    def look_up(self, spectra: Sequence[RawSpectrum]) -> None:
        """Look up which of some spectra are stored; `decide` is called for each of them next."""
        self._known = self._find(spectra)

    def _find(self, spectra: Sequence[RawSpectrum]) -> dict[Place, StoredSpectrum]:
        """Return those of some spectra that are stored."""
        ids = np.array([spectrum.id for spectrum in spectra], self.survey.id_column.dtype)
        keys = [NO_KEY if spectrum.key is None else spectrum.key for spectrum in spectra]
        found = self._stored.find(ids, np.array(keys, np.int64))
        return {_place(spectra[at]): stored for at, stored in found.items()}

    def decide(self, spectrum: RawSpectrum, path: str) -> tuple[Decision, Digests | None]:
        """Return the decision on a spectrum, and its digests if it is to be stored."""
        # The reduction is empty if the survey's files state none.
        foreign = bool(spectrum.reduction) and spectrum.reduction not in self.reductions
        if foreign and self.options.strict:
            reason = f"reduction {spectrum.reduction} is not of {self.folder.name}"
            return Decision("refused", reason), None
        first = self.places.of(spectrum.axis)
        digests = Digests(vectors_digest(self.survey, spectrum, first), row_digest(spectrum))
        place = _place(spectrum)
        if place in self.seen:
            taken, other = self.seen[place]
            kept = partial(self.rows.of, place)
            return self._against_this_ingest(spectrum, digests, path, (taken, other, kept)), None
        stored = self._known.get(place)
        if stored is None:
            self.seen[place] = digests, path
            return Decision(None, foreign=foreign), digests
        segment = self.folder.segment(stored.segment)
        if segment.lease == self.options.lease:
            taken = Digests(stored.digest, stored.row_digest)
            kept = partial(stored_row, segment, stored.row)
            other = stored.source
            return self._against_this_ingest(spectrum, digests, path, (taken, other, kept)), None
        return self._against(stored, spectrum, digests, path)

    def decide_again(
        self, waiting: Sequence[tuple[RawSpectrum, Digests, str]]
    ) -> Iterator[Decision | None]:
        """Yield the decision on each spectrum that was stored since `decide`; None: it was not.

        Parameters
        ----------
        waiting : spectra that are to be stored, their digests and the paths of their files
        """
        self._stored.renew()
        stored = self._find([spectrum for spectrum, _, _ in waiting])
        for spectrum, digests, path in waiting:
            by = stored.get(_place(spectrum))
            if by is None or by.version < digests.version:
                yield None
                continue
            del self.seen[_place(spectrum)]
            segment = self.folder.segment(by.segment)
            rows = partial(row_of, spectrum), partial(stored_row, segment, by.row)
            own = segment.lease == self.options.lease
            yield _against_faster(self.survey, path, digests, by, rows, own=own)

    def _against_this_ingest(
        self,
        spectrum: RawSpectrum,
        digests: Digests,
        path: str,
        taken: tuple[Digests, str, Callable[[], Row]],
    ) -> Decision:
        """Return the decision on a spectrum that this ingest has stored or is about to store.

        Parameters
        ----------
        taken : digests of the other one, its file, and the function that returns its row
        """
        stored, other, kept = taken
        row_same = stored.row == digests.row
        if stored.vectors != digests.vectors or not (row_same or other != path):
            return Decision("conflict", _TWICE, other)
        if row_same:
            return Decision("already there", "the same values", other)
        found = compare(self.survey, row_of(spectrum), kept())
        return _kept_row(self.survey, found, path, other, _GIVE_ONE)

    def label(self, spectrum: RawSpectrum) -> str:
        """Return the name of a spectrum in a report: its identifier, and its key if it has one."""
        form = self.survey.id_form
        told = spectrum.row.get(form.parts[-1]) if form.leads_with_id else None
        return f"{spectrum.id}" if told is None else f"({spectrum.id}, {told})"

    def _against(
        self, stored: StoredSpectrum, spectrum: RawSpectrum, digests: Digests, path: str
    ) -> tuple[Decision, Digests | None]:
        """Return the decision on a spectrum whose identifier and key are stored already."""
        segment = self.folder.segment(stored.segment)
        held = stored.digest
        if held == NO_DIGEST:
            held = stored_digest(self.survey, _segment(segment), stored.row)
        other = stored.source
        became: Became = "replaced" if self.options.replace else "conflict"
        decision = Decision(became, _VALUES_WERE if self.options.replace else _VALUES, other)
        if held == digests.vectors:
            unheld = stored.row_digest == NO_DIGEST and other == path
            if unheld or stored.row_digest == digests.row:
                return Decision("already there", "the same values are stored", other), None
            found = compare(self.survey, row_of(spectrum), stored_row(segment, stored.row))
            if other != path:
                # Archives deliver one spectrum in several files, and their rows may differ.
                if not self.options.replace or not found.anew:
                    return _kept_row(self.survey, found, path, other, _STORE_THESE), None
                if self._is_given(other):
                    return _kept_row(self.survey, found, path, other, _GIVE_ONE), None
            reason = _ROW_WAS if self.options.replace else _ROW
            decision = Decision(became, reason, other, columns=found.columns, shown=found.shown)
        if not self.options.replace:
            return decision, None
        anew = Digests(digests.vectors, digests.row, stored.version + 1)
        self.seen[_place(spectrum)] = anew, path
        return decision, anew

    def _is_given(self, path: str) -> bool:
        """Return whether this ingest was also given the stored file; then neither comes first."""
        file = Path(path)
        return (
            any(str(above) in self.options.given for above in (file, *file.parents))
            and file.exists()
        )


def _kept_row(survey: Survey, found: Difference, path: str, other: str, advice: str) -> Decision:
    """Return the decision on a spectrum that is already stored from another file.

    Files of different groups, such as a tile and a pixel, have redshifts of their own. Their
    difference is in the reason, but its columns are not counted.
    """
    keys = [survey.reader.identify(Path(file)) for file in (path, other)]
    alike = len({key and key.group for key in keys}) == 1
    columns = found.columns if alike else ()
    reason = found.reason(
        other, advice if alike else f"{advice}; their names say that they are of different things"
    )
    return Decision("already there", reason, other, columns=columns, shown=found.shown)


_segment = lru_cache(maxsize=4)(Segment)


def _place(spectrum: RawSpectrum) -> Place:
    """Return identifier and key of a spectrum."""
    return spectrum.id, spectrum.key


@lru_cache(maxsize=1)
def _stored_rows(data: DataRoot, context: str, lease: str) -> StoredRows:
    """Return the stored spectra of a context; its survey does not change during a lease."""
    del lease
    return StoredRows(data.context(context).index, find_release(context, data)[0])


def note_left_out(context: ContextFolder, survey: Survey, left: LeftOut) -> Note:
    """Return a note about a new spectrum that another one was faster to be stored than."""
    segment, by = left.segment, left.by
    names = ["_source", "_digest", "_row_digest", survey.id_column.name]
    told = pq.read_table(segment.objects.local_path(), columns=names).slice(left.row, 1)
    path, vectors, values, number = (told.column(name)[0].as_py() for name in names)
    other = context.segment(by.segment)
    rows = partial(stored_row, segment, left.row), partial(stored_row, other, by.row)
    own = other.lease == segment.lease
    decision = _against_faster(survey, path, Digests(vectors, values), by, rows, own=own)
    return decision.note(path, (str(number),))


def _against_faster(
    survey: Survey,
    path: str,
    digests: Digests,
    by: StoredSpectrum,
    rows: tuple[Callable[[], Row], Callable[[], Row]],
    *,
    own: bool,
) -> Decision:
    """Return the decision on a new spectrum that another one was faster to be stored than.

    Parameters
    ----------
    rows : return its catalogue row and that of the other one
    own : this ingest has stored the other one
    """
    if digests.vectors != by.digest:
        return Decision("conflict", _OTHER if own else _OTHER_INGEST, by.source)
    if digests.row == by.row_digest:
        return Decision("already there", _SAME if own else _SAME_INGEST, by.source)
    found = compare(survey, rows[0](), rows[1]())
    return _kept_row(survey, found, path, by.source, _GIVE_ONE if own else _STORE_THESE)
