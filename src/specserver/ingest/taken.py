"""What becomes of each spectrum of a part: stored, already there, replaced, or in conflict."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from ..catalog.objects import Digests
from ..model.survey import RawSpectrum, Survey
from ..store.zarr import Segment
from .digest import Places, row_digest, stored_digest, vectors_digest
from .known import NO_DIGEST, Known, Stored
from .report import Became

_VALUES: Final = "other values are stored of this spectrum; --replace stores these in their place"
_ROW: Final = "its catalogue values have changed since it was stored; --replace stores these"
_TWICE: Final = "the files of this ingest give other values of this spectrum; give only one of them"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a spectrum."""

    became: Became | None
    """None: it is stored, and there is nothing to say of it."""
    reason: str = ""
    other: str | None = None
    """The file that it is stored from, or in conflict with."""
    foreign: bool = False
    """It is of a reduction that is not the release's."""


class Taken:
    """Which spectra of a part have been taken, and which are to be."""

    def __init__(
        self,
        folder: Path,
        survey: Survey,
        known: Known,
        reductions: tuple[str, ...],
        strict: bool,
        replace: bool,
    ) -> None:
        self.folder = folder
        self.survey = survey
        self.known = known
        self.reductions = reductions
        self.strict = strict
        self.replace = replace
        self.places = Places(survey)
        self.seen: dict[tuple[int, int | None], tuple[Digests, str]] = {}

    def judge(self, one: RawSpectrum, path: str) -> tuple[Verdict, Digests | None]:
        """Return what becomes of a spectrum, and its digests where it is to be stored."""
        # A survey whose files do not state their reduction leaves it empty.
        foreign = bool(one.reduction) and one.reduction not in self.reductions
        if foreign and self.strict:
            reason = f"reduction {one.reduction} is not of {self.folder.name}"
            return Verdict("refused", reason), None
        first = self.places.of(one.axis)
        digests = Digests(vectors_digest(self.survey, one, first), row_digest(one))
        place = one.id, one.key
        if place in self.seen:
            taken, other = self.seen[place]
            same = taken.vectors == digests.vectors and (other != path or taken.row == digests.row)
            if same:
                return Verdict("already there", "the same values", other), None
            return Verdict("conflict", _TWICE, other), None
        stored = self.known.find(*place)
        if stored is None:
            self.seen[place] = digests, path
            return Verdict(None, foreign=foreign), digests
        return self._against(stored, place, digests, path)

    def label(self, one: RawSpectrum) -> str:
        """Return what names a spectrum in a report: its identifier, and what tells it apart."""
        form = self.survey.id_form
        told = one.row.get(form.parts[-1]) if form.leads_with_id else None
        return f"{one.id}" if told is None else f"({one.id}, {told})"

    def _against(
        self, stored: Stored, place: tuple[int, int | None], digests: Digests, path: str
    ) -> tuple[Verdict, Digests | None]:
        """Return what becomes of a spectrum of which there is one in the store."""
        segment = self.folder / stored.segment
        held = stored.digest
        if held == NO_DIGEST:
            held = stored_digest(self.survey, _segment(segment), stored.row)
        other = _sources(segment)[stored.row]
        # Another file may tell other things of the same values, as of where they were taken.
        row_same = stored.row_digest in {NO_DIGEST, digests.row} or other != path
        if held == digests.vectors and row_same:
            return Verdict("already there", "the same values are stored", other), None
        if not self.replace:
            reason = _ROW if held == digests.vectors else _VALUES
            return Verdict("conflict", reason, other), None
        anew = Digests(digests.vectors, digests.row, stored.version + 1)
        self.seen[place] = anew, path
        return Verdict("replaced", "other values were stored", other), anew


@lru_cache(maxsize=4)
def _segment(path: Path) -> Segment:
    """Return an open segment."""
    return Segment(path)


@lru_cache(maxsize=4)
def _sources(path: Path) -> dict[int, str]:
    """Return the files of the spectra of a segment by their rows."""
    table = pq.read_table(path / "objects.parquet", columns=["_row", "_source"])
    rows, sources = (table.column(name).to_pylist() for name in ("_row", "_source"))
    return dict(zip(rows, sources, strict=True))
