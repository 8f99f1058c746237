"""Files that are stored already: they are looked up in the index, and not read again."""

from collections.abc import Sequence
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
        states = _newest(found)
        same = [at for at, state in states.items() if self._is_same(paths[at], state)]
        conflicts = self._conflicts([matches for matches, _ in found], texts)
        notes = {}
        for at in same:
            if at not in conflicts:
                why = f"stored, and unchanged since{self._reason}"
                notes[paths[at]] = Note(texts[at], "already there", why)
            elif not self._replace:
                notes[paths[at]] = conflicts[at]
        return notes

    def _is_same(self, path: Path, state: int) -> bool:
        """Return whether a file has the state in which it was stored."""
        try:
            status = path.stat()
            # An older version did not record the files beside.
            besides = np.array([beside_digest(self._survey, path), NO_BESIDE])
        except OSError:
            return False
        size, mtime_ns = (np.full(2, value) for value in (status.st_size, status.st_mtime_ns))
        return state in file_states(size, mtime_ns, besides)

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
