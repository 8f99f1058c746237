"""The report of an ingest: the outcome of each file, written as JSON lines as it happens.

A line is an object: ``path``; ``became`` (``refused``, ``conflict``, ``replaced``, ``already
there``, ``passed over``, or ``stored`` with a remark); ``reason``; ``ids``, as text because they
exceed 2^53; ``other``, the file of the stored spectrum, or null; and ``columns``, the catalogue
columns whose values differ where the vectors are equal.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TextIO

from ..errors import IngestError
from ..surveys import own_command
from ..surveys.anyfile import IT_HOLDS

KEPT: Final = 1000
"""Notes of a kind that are kept for the summary."""
Became = Literal["refused", "conflict", "replaced", "already there", "passed over", "stored"]


@dataclass(frozen=True, slots=True)
class Note:
    """The outcome of a file, or of some spectra in it, and the reason."""

    path: str
    became: Became
    reason: str
    ids: tuple[str, ...] = ()
    other: str | None = None
    columns: tuple[str, ...] = ()
    """Catalogue columns whose values in the file differ from the stored ones."""


class Report:
    """The notes of an ingest."""

    def __init__(self, file: TextIO | None = None) -> None:
        self._file = file
        self.refused: list[tuple[str, str]] = []
        self.conflicts: list[Note] = []
        self.differing: list[Note] = []
        self.nrefused = 0
        self.nconflicts = 0
        self.ndiffering = 0

    def add(self, notes: Iterable[Note]) -> None:
        """Add notes; they are in the file when this returns."""
        for note in notes:
            if self._file is not None:
                self._file.write(json.dumps(asdict(note)) + "\n")
            if note.became == "refused":
                self.nrefused += 1
                if len(self.refused) < KEPT:
                    self.refused.append((note.path, note.reason))
            elif note.became == "conflict":
                self.nconflicts += len(note.ids)
                if len(self.conflicts) < KEPT:
                    self.conflicts.append(note)
            elif note.became == "already there" and note.columns:
                self.ndiffering += len(note.ids)
                if len(self.differing) < KEPT:
                    self.differing.append(note)
        if self._file is not None:
            self._file.flush()


@contextmanager
def open_report(path: Path | None) -> Iterator[Report]:
    """Open a report; it is written to a file if a path is given."""
    if path is None:
        yield Report()
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise IngestError(f"the report {path} cannot be written: {error.strerror}") from error
    with file:
        yield Report(file)


def refusal(path: Path, error: Exception) -> str:
    """Return why a generic file is refused, and which installed survey can read it."""
    own = own_command(path)
    return f"{own}; {error}" if own else str(error)


def shared_reason(reason: str) -> str:
    """Return the part of a reason that files of one family share."""
    return reason.partition(IT_HOLDS)[0]
