"""Options of a declared survey, and which of them change stored files only with ``--replace``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..surveys.declaration import COLUMNS, HATS, SPECUTILS, Declaration, FileDefaults

_ANEW: Final = "--replace, given with it, reads them again and stores changed values"


@dataclass(frozen=True, slots=True)
class SurveyOptions(FileDefaults):
    """Options for a survey that a data folder declares; files state values that are not given."""

    title: str = ""
    catalog: Path | None = None
    """Table with ra, dec, z and identifiers."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Its columns for id, file, ra, dec and z, if their names are unusual."""
    step_aa: float | None = None
    """Step of the lattice on which spectra are laid when they are to be resampled, Å."""

    is_hats: bool = False
    """The files are partitions of HATS catalogues."""

    @property
    def reader(self) -> str:
        """The reader that the options choose."""
        if self.is_hats:
            return HATS
        return SPECUTILS if self.vectors is None else COLUMNS


@dataclass(frozen=True, slots=True)
class OptionEffects:
    """Effects of the options of a command on files that are stored already."""

    anew: tuple[str, ...] = ()
    """Options with other values than when the files were stored."""
    again: bool = False
    """Whether an option changes how files are read: ``replace`` then reads stored files again."""

    own: str = ""
    """Command for files that an installed survey can read; empty: there are none."""
    example: str = ""
    """Name of one of these files."""
    declared: Declaration | None = None
    """The declaration that the options made or left; None: the survey is an installed one."""

    @property
    def reason(self) -> str:
        """Text that a report adds for a file that is not read again."""
        return f"; the new {', '.join(self.anew)} is for files still to be read" * bool(self.anew)

    def warnings(self, nfiles: int) -> list[str]:
        """Return the warnings about ``nfiles`` files that were given and not read again."""
        if not nfiles:
            return []
        return [
            f"{option} differs from before, and {nfiles:,} files given are stored already"
            f" and not read again: {_ANEW}"
            for option in self.anew
        ]


def option_effects(
    before: FileDefaults, now: FileDefaults, given: FileDefaults, *, table: bool, rows_changed: bool
) -> OptionEffects:
    """Return how the options of a command apply to stored files.

    Parameters
    ----------
    before, now : what was and is stated about files that do not state it themselves
    given : what this command states about them
    table : whether the command gives a table of targets
    rows_changed : whether this table has other values in earlier rows
    """
    pairs = (
        ("--loader", before.loader, now.loader),
        ("--wave-unit", before.wave_unit, now.wave_unit),
        ("--flux and the names with it", before.vectors, now.vectors),
        ("--catalog", False, rows_changed),
    )
    anew = tuple(option for option, old, new in pairs if old != new)
    again = given.loader or given.wave_unit or given.vectors or table
    return OptionEffects(anew, bool(again))
