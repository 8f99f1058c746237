"""The decision on each spectrum of a part: store it, keep the stored one, replace it, or refuse."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..catalog.segment_rows import Digests
from ..data.context import SegmentFolder
from ..data.root import DataRoot
from ..model.survey import RawSpectrum, Release, Survey
from ..store.zarr import Segment
from .report import Became, Note
from .row_differences import Difference, PartRows, compare, row_of, stored_row
from .spectrum_digests import Places, row_digest, stored_digest, vectors_digest
from .stored_ids import NO_DIGEST, StoredIds, StoredSpectrum, numbers_of

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
    known: StoredIds
    """Spectra already stored."""
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
        self.seen: dict[tuple[int, int | None], tuple[Digests, str]] = {}

    def decide(self, spectrum: RawSpectrum, path: str) -> tuple[Decision, Digests | None]:
        """Return the decision on a spectrum, and its digests if it is to be stored."""
        # The reduction is empty if the survey's files state none.
        foreign = bool(spectrum.reduction) and spectrum.reduction not in self.reductions
        if foreign and self.options.strict:
            reason = f"reduction {spectrum.reduction} is not of {self.folder.name}"
            return Decision("refused", reason), None
        first = self.places.of(spectrum.axis)
        digests = Digests(vectors_digest(self.survey, spectrum, first), row_digest(spectrum))
        place = spectrum.id, spectrum.key
        if place in self.seen:
            taken, other = self.seen[place]
            row_same = taken.row == digests.row
            if taken.vectors != digests.vectors or not (row_same or other != path):
                return Decision("conflict", _TWICE, other), None
            if row_same:
                return Decision("already there", "the same values", other), None
            found = compare(self.survey, row_of(spectrum), self.rows.of(place))
            return _kept_row(self.survey, found, path, other, _GIVE_ONE), None
        stored = self.options.known.find(*place)
        if stored is None:
            self.seen[place] = digests, path
            return Decision(None, foreign=foreign), digests
        return self._against(stored, spectrum, digests, path)

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
        other = _sources(segment)[stored.row]
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
        self.seen[spectrum.id, spectrum.key] = anew, path
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


@lru_cache(maxsize=4)
def _sources(folder: SegmentFolder) -> list[str]:
    """Return the source file of each spectrum of a segment, by row."""
    rows = pq.read_table(folder.objects.local_path(), columns=["_source"])
    files: list[str] = rows.column(0).to_pylist()
    return files


def find_duplicates(
    table: pa.Table, survey: Survey, segments: Sequence[SegmentFolder]
) -> Iterator[Note]:
    """Yield a note for each duplicate among the segments of an ingest.

    The index shows the first spectrum, by segment and row; the note is about the other.

    Parameters
    ----------
    table : rows of these segments, as `catalog.segment_rows.read_sources` returns them
    segments : the table's ``_segment`` is an index into them
    """
    identifier = survey.id_column.name
    ids = table.column(identifier).to_numpy()
    keys = numbers_of(table, "_key")
    rows, numbers = numbers_of(table, "_row"), numbers_of(table, "_segment")
    order = np.lexsort((rows, numbers, keys, ids))
    same = (ids[order][1:] == ids[order][:-1]) & (keys[order][1:] == keys[order][:-1])
    row_digests = numbers_of(table, "_row_digest")
    digests, sources = numbers_of(table, "_digest"), table.column("_source")
    first = 0
    for at in range(1, len(order)) if same.any() else ():
        if not same[at - 1]:
            first = at
            continue
        kept, other = int(order[first]), int(order[at])
        path, by, named = sources[other].as_py(), sources[kept].as_py(), (str(ids[other]),)
        if digests[kept] != digests[other]:
            yield Note(path, "conflict", _OTHER, named, by)
        elif row_digests[kept] == row_digests[other]:
            yield Note(path, "already there", _SAME, named, by)
        else:
            given = stored_row(segments[numbers[other]], int(rows[other]))
            first_row = stored_row(segments[numbers[kept]], int(rows[kept]))
            found = compare(survey, given, first_row)
            yield _kept_row(survey, found, path, by, _GIVE_ONE).note(path, named)
