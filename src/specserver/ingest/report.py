"""The report of an ingest: the outcome of each file, written as JSON lines as it happens.

A line is an object: ``path``; ``became`` (``refused``, ``conflict``, ``replaced``, ``already
there``, ``passed over``, or ``stored`` with a remark); ``reason``; ``ids``, as text because they
exceed 2^53; ``other``, the file of the stored spectrum, or null; and ``columns``, the catalogue
columns whose values differ where the vectors are equal.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, Literal, TextIO

from ..errors import IngestError
from ..surveys import own_command

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


@dataclass
class Tally:
    """The notes of an ingest that call for attention: all are counted, the first thousand kept."""

    refused: list[tuple[str, str]] = field(default_factory=list)
    """Path and reason of refused files."""
    nrefused: int = 0
    conflicts: list[Note] = field(default_factory=list)
    """Conflicts: spectra whose stored values differ from those of a file."""
    nconflicts: int = 0
    """All such spectra."""
    differing: list[Note] = field(default_factory=list)
    """Spectra whose stored catalogue values differ from those of a file."""
    ndiffering: int = 0
    """All such spectra."""

    def count(self, note: Note) -> None:
        """Count a note."""
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


@dataclass(frozen=True, slots=True)
class Report:
    """Writes the notes of an ingest to a file, if there is one, and counts them in a tally."""

    tally: Tally
    file: TextIO | None = None

    def add(self, notes: Iterable[Note]) -> None:
        """Add notes; they are in the file when this returns."""
        for note in notes:
            self.tally.count(note)
            if self.file is not None:
                self.file.write(json.dumps(asdict(note)) + "\n")
        if self.file is not None:
            self.file.flush()

    def refuse(self, error: OSError) -> None:
        """Add a note about a folder that cannot be listed."""
        why = f"it cannot be listed: {error.strerror}"
        self.add([Note(str(error.filename), "refused", why)])


@contextmanager
def open_report(path: Path | None, tally: Tally) -> Iterator[Report]:
    """Open a report; it is written to a file if a path is given."""
    if path is None:
        yield Report(tally)
        return
    try:
        file = path.open("w", encoding="utf-8")
    except OSError as error:
        raise IngestError(f"the report {path} cannot be written: {error.strerror}") from error
    with file:
        yield Report(tally, file)


def refusal(path: Path, error: Exception) -> str:
    """Return why a generic file is refused, and which installed survey can read it."""
    own = own_command(path)
    return f"{own}; {error}" if own else str(error)
