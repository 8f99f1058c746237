"""The declaration of a data folder's own survey, and what is known of files that are not read yet.

Nothing here needs astropy or specutils, which take seconds to import: `anyfile` reads.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from ..data.context import ContextFolder
from ..model.medium import MEDIUM_COLUMN
from ..model.survey import UNIT_COLUMN, Column

FORMAT: Final = 1
SPECUTILS: Final = "specutils"
"""Reader that finds the vectors of a file by their usual names, or has specutils read it."""
COLUMNS: Final = "columns"
"""Reader of the columns or images that the operator names."""
HATS: Final = "hats"
"""Reader of HATS catalogues with nested spectra."""
_PACKED: Final = (".gz", ".fz", ".bz2")
_ENDINGS: Final = frozenset(
    {
        ".fits", ".fit", ".fts", ".ecsv", ".csv", ".txt", ".dat", ".ascii", ".asc", ".asdf",
        ".hdf5", ".h5", ".npz",
    }
)  # fmt: skip
IT_HOLDS: Final = "; it holds "
"""Separates the part of a reason that files of one family share from the part about one file."""
CORE: Final = (
    Column("id", "<i8", "", "identifier: the table's, or made of the file's name"),
    Column("name", "U", "", "name of the spectrum: the table's, or of its file"),
    Column("ra", "<f8", "deg", "right ascension"),
    Column("dec", "<f8", "deg", "declination"),
    Column("z", "<f8", "", "redshift"),
    Column("class", "U", "", "class of the object"),
    Column("part", "<i4", "", "number of the spectrum in its file, from 1"),
    Column(MEDIUM_COLUMN, "U", "", "medium of its wavelengths: vacuum, air or unknown"),
    Column(UNIT_COLUMN, "U", "", "unit of its flux as astropy reads it; empty: a pure number"),
    Column("is_best", "u1", "", "1: the first spectrum of the id"),
)


@dataclass(frozen=True, slots=True)
class NamedVectors:
    """The columns, or images, that hold the vectors of a spectrum, as the operator names them."""

    flux: str
    wave: str = ""
    """Empty: the header of the image of flux states the wavelengths."""
    error: str = ""
    """Standard deviations; empty: there are none."""
    ivar: str = ""
    """Inverse variances; empty: there are none."""

    @property
    def named(self) -> dict[str, str]:
        """The names that are given, by vector."""
        return {vector: name for vector, name in asdict(self).items() if name}


@dataclass(frozen=True, slots=True)
class FileDefaults:
    """What the operator states about files, where they do not state it themselves."""

    loader: str = ""
    """Name of the files' format in specutils; empty: specutils identifies it."""
    medium: str = ""
    """Medium of wavelengths: air or vacuum; empty: not known."""
    wave_unit: str = ""
    """Unit of wavelengths; empty: not known."""
    flux_unit: str | None = None
    """Unit of flux; empty: a pure number; None: not known."""
    vectors: NamedVectors | None = None
    """Where the vectors are; None: they are found by their usual names."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """A data folder's declaration of a survey of its own."""

    context: str
    title: str
    flux_unit: str
    """Unit of flux of the first file as astropy reads it; empty: a pure number."""
    stated_unit: str
    """Unit that the first file states; the operator may have given another."""
    ivar_unit: str
    """Unit of flux to the power of −2."""
    has_ivar: bool
    """Whether the files state uncertainties."""
    step_aa: float
    """Step of the lattice on which spectra are laid when they are to be resampled, Å."""
    loader: str = ""
    """Name of the files' format in specutils; empty: specutils identifies each file."""
    table: str = ""
    """Name of the copy of the table of targets; empty: none."""
    columns: tuple[Column, ...] = ()
    """Columns of that table besides the core columns."""
    many_per_file: bool = False
    """Whether the first file held several spectra."""
    medium: str = ""
    """Medium of wavelengths where a file states none: air or vacuum; empty: not known."""
    wave_unit: str = ""
    """Unit of wavelengths where a file states none; empty: not known."""
    given_unit: str | None = None
    """Unit of flux where a file states none; empty: a pure number; None: not known."""
    vectors: NamedVectors | None = None
    """Where the vectors are; None: they are found by their usual names."""
    reader: str = SPECUTILS
    nested: str = ""
    """What the columns of a HATS catalogue mean: JSON of a `hatstable.HatsTable`."""
    format: int = FORMAT

    @property
    def defaults(self) -> FileDefaults:
        """What the operator states about files, where they do not state it themselves."""
        units = self.wave_unit, self.given_unit
        return FileDefaults(self.loader, self.medium, *units, self.vectors)

    @property
    def has_units(self) -> bool:
        """Whether each row states its unit of flux.

        A table of targets of an older version may have a column of that name.
        """
        return all(column.name != UNIT_COLUMN for column in self.columns)

    @property
    def core(self) -> tuple[Column, ...]:
        """The columns that every row has."""
        return tuple(column for column in CORE if self.has_units or column.name != UNIT_COLUMN)


def _unpacked(name: str) -> str:
    """Return a name without the ending of a compressed file, in any case."""
    return next((name[: -len(ending)] for ending in _PACKED if name.lower().endswith(ending)), name)


def stem_of(path: Path) -> str:
    """Return a file's name without the endings of its format and compression."""
    name = _unpacked(path.name)
    ending = Path(name).suffix
    return name.removesuffix(ending) if ending.lower() in _ENDINGS else name


def is_spectrum_name(path: Path) -> bool:
    """Return whether a file's name has an ending of a spectrum's file."""
    name = _unpacked(path.name)
    return Path(name).suffix.lower() in _ENDINGS and not name.startswith(".")


def ending_of(path: Path) -> str:
    """Return the ending of a file's format in lower case, without that of its compression."""
    name = _unpacked(path.name)
    return Path(name).suffix.lower()


def require_named(folder: ContextFolder, name: str) -> None:
    """Raise `ValueError` if the bytes of a kept table do not match its name."""
    if folder.target_table(folder.entry(name).read()).name != name:
        raise ValueError("its bytes are not those that were written")
