"""Files that are stored already: they are looked up in the index, and not read again."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..catalog.index.part_record import NO_BESIDE, file_states
from ..catalog.index.stored_rows import Matches, StoredRows
from ..model.medium import MEDIUM_COLUMN, UNKNOWN
from ..model.survey import Survey
from ..surveys.generic import AnyFileReader
from .option_effects import OptionEffects
from .plan import beside_digest
from .report import Note


class StoredFiles:
    """Looks files up among those that are stored.

    Parameters
    ----------
    effects : of the options of this ingest
    replace : whether files whose values may have changed are read again
    """

    def __init__(
        self, stored: StoredRows, survey: Survey, effects: OptionEffects, *, replace: bool
    ) -> None:
        self._stored = stored
        self._survey = survey
        self._reason = effects.reason
        self._replace = replace
        self._is_read = replace and effects.again
        reader = survey.reader
        self._medium = reader.declared.medium if isinstance(reader, AnyFileReader) else ""

    def notes(self, paths: Sequence[Path]) -> dict[Path, Note]:
        """Return a note about each of some files that is stored, and unchanged since."""
        if self._is_read:
            return {}
        self._stored.renew()
        texts = [str(path) for path in paths]
        found = list(self._stored.of_files(texts))
        same = self._unchanged(paths, _newest(found))
        conflicts = self._conflicts([matches for matches, _ in found], texts)
        notes = {}
        for at in same:
            if at not in conflicts:
                why = f"stored, and unchanged since{self._reason}"
                notes[paths[at]] = Note(texts[at], "already there", why)
            elif not self._replace:
                notes[paths[at]] = conflicts[at]
        return notes

    def _unchanged(self, paths: Sequence[Path], states: Mapping[int, int]) -> list[int]:
        """Return which files, by their indexes, have the states in which they were stored."""
        found = []
        for at in states:
            with suppress(OSError):
                status = paths[at].stat()
                beside = beside_digest(self._survey, paths[at])
                found.append((at, status.st_size, status.st_mtime_ns, beside))
        files, size, mtime_ns, besides = np.array(found, np.int64).reshape(-1, 4).T
        stored = np.array([states[at] for at in files.tolist()], np.int64)
        same = file_states(size, mtime_ns, besides) == stored
        # An older version did not record the files beside.
        same |= file_states(size, mtime_ns, np.full_like(besides, NO_BESIDE)) == stored
        unchanged: list[int] = files[same].tolist()
        return unchanged

    def _conflicts(self, found: Sequence[Matches], texts: Sequence[str]) -> dict[int, Note]:
        """Return a note for each file whose medium is unknown in the store and stated now."""
        ids: dict[int, list[str]] = {}
        for matches in found if self._medium else ():
            columns = matches.part.part.columns
            if MEDIUM_COLUMN not in matches.part.part.schema.names:
                continue
            names = [MEDIUM_COLUMN, self._survey.id_column.name]
            media, numbers = columns.take(names, matches.rows).to_pydict().values()
            for at, medium, number in zip(matches.wanted.tolist(), media, numbers, strict=True):
                if medium == UNKNOWN:
                    ids.setdefault(at, []).append(str(number))
        reason = (
            f"stored with medium {UNKNOWN}, --medium says {self._medium}; --replace reads the file"
            " again and stores it so"
        )
        return {
            at: Note(texts[at], "conflict", reason, tuple(some), texts[at])
            for at, some in ids.items()
        }


def _newest(found: Sequence[tuple[Matches, npt.NDArray[np.int64]]]) -> dict[int, int]:
    """Return the state of each file, by its index: that of its row which was stored last."""
    states: dict[int, int] = {}
    for matches, some in found:
        segments = matches.part.part.segment[matches.rows]
        order = np.lexsort((segments, matches.wanted))
        # Parts and their segments are in the order in which they were committed.
        states.update(zip(matches.wanted[order].tolist(), some[order].tolist(), strict=True))
    return states
