"""Files that are stored already: they are not read again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from ..model.survey import Survey
from .option_effects import OptionEffects, media_conflicts
from .plan import beside_digest
from .report import Note


class StoredFiles:
    """Looks files up among those that are stored.

    Parameters
    ----------
    table : rows of the stored spectra, as `catalog.segment_rows.read_sources` returns them
    effects : of the options of this ingest
    replace : whether files whose values may have changed are read again
    """

    def __init__(
        self, table: pa.Table, survey: Survey, effects: OptionEffects, *, replace: bool
    ) -> None:
        self._survey = survey
        self._reason = effects.reason
        states = (
            table.column(name).to_pylist()
            if name in table.column_names
            else [None] * table.num_rows
            for name in ("_source", "_size", "_mtime_ns", "_beside")
        )
        self._files = {
            path: (size, mtime, other) for path, size, mtime, other in zip(*states, strict=True)
        }
        self._conflicts: Mapping[str, Note] = media_conflicts(table, survey)
        if replace:
            again = self._files if effects.again else self._conflicts
            self._files = {path: at for path, at in self._files.items() if path not in again}

    def notes(self, paths: Sequence[Path]) -> dict[Path, Note]:
        """Return a note about each of some files that is stored, and unchanged since."""
        return {
            path: self._conflicts.get(str(path))
            or Note(str(path), "already there", f"stored, and unchanged since{self._reason}")
            for path in paths
            if self._is_unchanged(path)
        }

    def _is_unchanged(self, path: Path) -> bool:
        """Return whether a file is the one that was stored."""
        known = self._files.get(str(path))
        if known is None:
            return False
        try:
            status = path.stat()
            size, mtime_ns, beside = known
            if (size, mtime_ns) != (status.st_size, status.st_mtime_ns):
                return False
            # An older version did not record the files beside.
            return beside is None or beside == beside_digest(self._survey, path)
        except OSError:
            return False
