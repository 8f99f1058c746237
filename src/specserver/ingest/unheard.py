"""What is said anew of files that are stored already, and does not come to them of itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from ..model.medium import MEDIUM_COLUMN, UNKNOWN
from ..model.survey import Survey
from ..surveys.anyfile import Said
from .report import Note

_ANEW: Final = "--replace, given with it, reads them again and stores what is other"


@dataclass(frozen=True, slots=True)
class Heard:
    """What an operator says of files, and whether it comes to those that are stored."""

    anew: tuple[str, ...] = ()
    """Options that say other things than when files were stored."""
    again: bool = False
    """Whether an option says how files are read, so that ``replace`` reads stored ones again."""

    own: str = ""
    """How to ingest files that an installed survey has a reader for; empty: there are none."""
    example: str = ""
    """Name of one of these files."""

    @property
    def reason(self) -> str:
        """What a report adds of a file that is not read again."""
        return f"; {', '.join(self.anew)} said now is for files still to be read" * bool(self.anew)

    def warnings(self, nfiles: int) -> list[str]:
        """Return what to say of so many files that were given and not read again."""
        if not nfiles:
            return []
        return [
            f"{option} says other things than before, and {nfiles:,} files given are stored already"
            f" and not read again: {_ANEW}"
            for option in self.anew
        ]


def heard(before: Said, now: Said, given: Said, *, table: bool, rows_changed: bool) -> Heard:
    """Return which options come to stored files.

    Parameters
    ----------
    before, now : what was and is said of files that do not say it themselves
    given : what this command says of that
    table : whether it gives a table of targets
    rows_changed : whether that gives rows that were there other values
    """
    pairs = (
        ("--loader", before.loader, now.loader),
        ("--wave-unit", before.wave_unit, now.wave_unit),
        ("--catalog", False, rows_changed),
    )
    anew = tuple(option for option, old, new in pairs if old != new)
    return Heard(anew, bool(given.loader or given.wave_unit or table))


def unlike(table: pa.Table, survey: Survey) -> Mapping[str, Note]:
    """Return the files of spectra that are stored with another medium than is said now.

    Parameters
    ----------
    table : the rows of spectra that are stored, as `read_sources` returns them
    """
    said = getattr(survey.reader, "said", None)
    if not isinstance(said, Said) or not said.medium or MEDIUM_COLUMN not in table.column_names:
        return {}
    found = table.filter(pc.equal(table.column(MEDIUM_COLUMN), UNKNOWN))
    reason = (
        f"stored with medium {UNKNOWN}, --medium says {said.medium}; --replace reads the file again"
        " and stores it so"
    )
    ids: dict[str, list[str]] = {}
    columns = (found.column(name).to_pylist() for name in ("_source", survey.id_column.name))
    for path, number in zip(*columns, strict=True):
        ids.setdefault(path, []).append(str(number))
    return {path: Note(path, "conflict", reason, tuple(some), path) for path, some in ids.items()}
