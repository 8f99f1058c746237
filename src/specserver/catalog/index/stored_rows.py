"""The rows of the newest version of an index, as writers look them up."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...data.context import IndexFolder
from ...digests import hash64
from ...model.survey import Survey
from ..base import Rows
from .manifest import Manifest, newest_manifest
from .marks import MARK, marks_of
from .part import IndexPart, SortedHashes, find_all, open_part

NO_DIGEST: Final = 0
"""The digest of a spectrum that an older version stored without one."""
NO_KEY: Final = 0
"""The key of a spectrum whose identifier is its own."""


@dataclass(frozen=True, slots=True)
class StoredSpectrum:
    """A spectrum that is stored."""

    digest: int
    row_digest: int
    version: int
    """Number of times that it has been replaced."""
    segment: str
    row: int
    """Row in the segment."""
    source: str
    """Path of its original file."""


@dataclass(frozen=True, slots=True)
class Matches:
    """Rows of one part that are alive and match what was looked up: parallel arrays."""

    part: "MarkedPart"
    wanted: npt.NDArray[np.intp]
    """1D[n], index of what each matches."""
    rows: Rows
    """1D[n], its row in the part."""

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def where(self, kept: npt.NDArray[np.bool_]) -> "Matches":
        """Return some of them."""
        return Matches(self.part, self.wanted[kept], self.rows[kept])


@dataclass(frozen=True, slots=True)
class MarkedPart:
    """A part of a version, and what its marks say."""

    number: int
    """Its place among the parts of the version."""
    part: IndexPart
    marks: npt.NDArray[Any]
    """1D[n] `MARK`."""
    first_segment: int
    """Number of segments of the parts before it."""

    def states(self, rows: Rows) -> npt.NDArray[Any]:
        """Return the state of rows, 1D[n] `MARK`."""
        states = np.empty(len(rows), MARK)
        states["row"], states["alive"] = rows, True
        states["primary"] = self.part.primary[rows]
        if len(self.marks):
            at = np.minimum(np.searchsorted(self.marks["row"], rows), len(self.marks) - 1)
            marked = self.marks["row"][at] == rows
            states[marked] = self.marks[at[marked]]
        return states

    def values(self, name: str, rows: Rows, absent: Any) -> npt.NDArray[Any]:
        """Return a column of numbers, 1D[n]; ``absent`` where it is null or there is none."""
        if name not in self.part.schema.names:
            return np.full(len(rows), absent)
        column = self.part.columns.take([name], rows).column(0)
        values: npt.NDArray[Any] = column.fill_null(absent).to_numpy()
        return values

    def matches(
        self, found: SortedHashes, wanted: npt.NDArray[Any]
    ) -> tuple[Matches, npt.NDArray[np.intp]]:
        """Return the rows with some of the values by which rows are sorted, dead ones too.

        The second array is the place of each in the order of the values. Ascending ``wanted`` are
        searched faster.
        """
        which, at = find_all(found.hashes, wanted)
        return Matches(self, which, found.rows[at].astype(np.int64)), at

    def alive(self, found: Matches) -> npt.NDArray[np.bool_]:
        """Return which of some matches are alive."""
        alive: npt.NDArray[np.bool_] = self.states(found.rows)["alive"]
        return alive


class StoredRows:
    """The rows of an index, of the version that was the newest when `renew` was called last.

    Parameters
    ----------
    index : of a context
    survey : with its columns

    Raises
    ------
    DamagedFile
        A file of the index is damaged.
    """

    def __init__(self, index: IndexFolder, survey: Survey) -> None:
        self._index = index
        self._survey = survey
        self.manifest = Manifest()
        self.parts: list[MarkedPart] = []
        self.renew()

    def renew(self) -> None:
        """Look at the newest version; parts that are open already stay open."""
        newest = newest_manifest(self._index, self.manifest)
        if newest is self.manifest:
            return
        known = {marked.part.record.name: marked.part for marked in self.parts}
        parts: list[MarkedPart] = []
        nsegments = 0
        for number, entry in enumerate(newest.parts):
            part = known.get(entry.name) or open_part(self._index.part(entry.name), self._survey)
            parts.append(MarkedPart(number, part, marks_of(self._index, entry), nsegments))
            nsegments += len(part.record.segments)
        self.manifest, self.parts = newest, parts

    @property
    def segments(self) -> set[str]:
        """Names of the segments of all parts."""
        return {name for marked in self.parts for name in marked.part.record.segments}

    def with_ids(self, ids: npt.NDArray[Any]) -> Iterator[Matches]:
        """Yield the rows of each part with some identifiers, 1D[n]."""
        if not len(ids):
            return
        order = np.argsort(ids)
        ids = ids[order]
        first, last = ids[0], ids[-1]
        for marked in self.parts:
            known = marked.part.id_sorted
            if len(known) and known[0] <= last and known[-1] >= first:
                found, _ = marked.matches(SortedHashes(known, marked.part.id_rank), ids)
                found = found.where(marked.alive(found))
                if len(found):
                    yield Matches(marked, order[found.wanted], found.rows)

    def with_keys(self, ids: npt.NDArray[Any], keys: npt.NDArray[np.int64]) -> Iterator[Matches]:
        """Yield the rows of each part with some identifiers and keys, 1D[n] each."""
        for found in self.with_ids(ids):
            stored = found.part.values("_key", found.rows, NO_KEY)
            same = stored == keys[found.wanted]
            if same.any():
                yield found.where(same)

    def of_objects(self, hashes: npt.NDArray[np.int64]) -> Iterator[Matches]:
        """Yield the rows of each part whose object, `Best.group`, has some hashes, 1D[n]."""
        group = self._survey.best.group if self._survey.best else ""
        for marked in self.parts:
            if group in marked.part.schema.names:
                found, _ = marked.matches(marked.part.groups, hashes)
                found = found.where(marked.alive(found))
                if len(found):
                    yield found

    def of_files(self, paths: Sequence[str]) -> Iterator[tuple[Matches, npt.NDArray[np.int64]]]:
        """Yield the rows of each part from some original files, and `file_states` of these."""
        hashes = np.array([hash64(path) for path in paths], np.int64)
        for marked in self.parts:
            files, states = marked.part.files
            found, at = marked.matches(files, hashes)
            alive = marked.alive(found)
            if alive.any():
                yield found.where(alive), states[at[alive]]

    def find(self, ids: npt.NDArray[Any], keys: npt.NDArray[np.int64]) -> dict[int, StoredSpectrum]:
        """Return the stored spectra of some identifiers and keys, 1D[n] each, by their index."""
        found: dict[int, StoredSpectrum] = {}
        for matches in self.with_keys(ids, keys):
            found.update(zip(matches.wanted.tolist(), spectra(matches), strict=True))
        return found


def spectra(found: Matches) -> list[StoredSpectrum]:
    """Return the stored spectra of some rows."""
    marked, rows = found.part, found.rows
    names = marked.part.record.segments
    numbers = (marked.values(name, rows, 0) for name in ("_digest", "_row_digest", "_version"))
    sources = marked.part.columns.take(["_source"], rows).column(0)
    columns = (
        *(values.tolist() for values in numbers),
        [names[number] for number in marked.part.segment[rows].tolist()],
        marked.part.row[rows].tolist(),
        sources.to_pylist(),
    )
    return [StoredSpectrum(*values) for values in zip(*columns, strict=True)]
