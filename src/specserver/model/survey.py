"""What a survey plug-in must say: its lattice, record, columns, releases and reader."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .grid import Grid, PixelRange
from .ids import IdForm
from .medium import VACUUM, Medium


@dataclass(frozen=True, slots=True)
class Vector:
    """One array of a spectrum, a value a pixel."""

    name: str
    dtype: str
    """NumPy dtype text, little-endian."""
    unit: str
    """Unit as astropy reads it; empty for a pure number or a bit mask."""
    meaning: str
    pixels: tuple[int, int] | None = None
    """First lattice pixel that it covers, and the one after the last; None: all of a spectrum's."""
    like: str = ""
    """Vector whose values it has wherever both are the same by construction: only the pixels of
    `own` are stored. Empty: it is stored whole."""
    own: tuple[tuple[int, int], ...] = ()
    """Runs of lattice pixels, half-open, where it may differ from the vector that it is like."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the catalogue."""

    name: str
    dtype: str
    """NumPy dtype text; ``U`` for text."""
    unit: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """A catalogue value that is shown beside a picture of a spectrum."""

    label: str
    """Its name in the picture; those of class and subclass are ``class`` and ``subclass``."""
    column: str
    form: str = "g"
    """Format of a number with a fraction, as Python writes it."""

    def text(self, value: Any) -> str:
        """Return a value as it is shown; empty where it is missing or not finite."""
        if value is None or value is np.ma.masked:
            return ""
        if isinstance(value, float | np.floating):
            return format(float(value), self.form) if isfinite(value) else ""
        return str(value).strip()


@dataclass(frozen=True, slots=True)
class Release:
    """A public data release of a survey; what users call a context."""

    context: str
    title: str
    reductions: tuple[str, ...]
    """Reduction versions that belong to the release, the most recent last."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """What a file's name says of it; files with the same ``group`` may hold the same spectrum."""

    path: Path
    group: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning about a spectrum that is stored, for the operator."""

    kind: str
    """Text that all spectra with this warning share: an ingest prints it once, with a count."""
    detail: str = ""
    """What applies to this spectrum only."""

    @property
    def text(self) -> str:
        """Kind and detail, for a report."""
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class RawSpectrum:
    """One spectrum as read from a file, before it is placed in the store."""

    id: int
    ra_deg: float
    dec_deg: float
    """ICRS position of the object; NaN where the file does not say."""
    reduction: str
    axis: npt.NDArray[Any]
    """1D[npix], the spectral axis as published."""
    vectors: Mapping[str, npt.NDArray[Any]]
    """By the names of `Survey.vectors`, bit for bit as published: 1D[npix] each, or as long as
    the vector's own `pixels` are."""
    row: Mapping[str, Any]
    """Catalogue values by lower-case column name: NumPy scalars and str; None or absent: unknown.
    """
    key: int | None = None
    """Signed 64-bit number that tells spectra with the same `id` apart, such as a digest of where
    each was taken; None where the id alone does. A spectrum is stored once for each id and key."""
    is_pointing: bool = False
    """The position is only that of the telescope, or in a system that is not known."""
    remarks: tuple[Remark, ...] = ()
    """Warnings that an ingest reports when the spectrum is stored."""


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Where an archive keeps the original file of a spectrum: templates, tried in their order.

    Fields of the templates are ``release`` (``dr17``), the name of the last part of the tuple form
    of an identifier (``run2d``), and its other parts, which are numbers.
    """

    folders: tuple[str, ...]
    """Folder of the files that share the first part; its last name holds that part alone."""
    names: tuple[str, ...]
    """Name of the file in such a folder."""


@dataclass(frozen=True, slots=True)
class Best:
    """How the best spectrum of each object is found among all of a context.

    The catalogue's column `Survey.primary` is then computed when the index is made, as it depends
    on what else is there.
    """

    group: str
    """Column that is the same for all spectra of an object."""
    order: tuple[tuple[str, int | str], ...]
    """Column, and the value that comes first, or ``desc`` for the greatest; unknown comes last."""


class Reader(Protocol):
    """How to recognise and read a survey's files."""

    def identify(self, path: Path) -> FileKey | None:
        """Return what the name says, or None when it is not a name of this survey."""

    def is_companion(self, path: Path) -> bool:
        """Tell whether a file is read along with others, so that it is passed over by itself."""

    def read(self, path: Path) -> list[RawSpectrum]:
        """Read all spectra of a file; raise `BadFile` with the reason when there is none.

        All of them lie on the lattice of the survey, or none does.
        """


@runtime_checkable
class BytesReader(Reader, Protocol):
    """A reader that also takes the bytes of a file, so that an ingest reads each file once."""

    def read_from_bytes(self, path: Path, data: bytes) -> list[RawSpectrum]:
        """Read the spectra from the decompressed bytes of a whole file; errors as of `read`."""


@dataclass(frozen=True, slots=True)
class Survey:
    """Everything the rest of the house needs to know of a survey."""

    name: str
    title: str
    grid: Grid
    window: PixelRange
    """Lattice pixels that the store's arrays cover."""
    record: tuple[Vector, ...]
    """The published table of a spectrum in its order, the spectral axis included."""
    id_column: Column
    """The identifier: unsigned 64 bit, or signed where the survey has negative ids."""
    id_parts: tuple[str, ...]
    """Columns of the tuple form of an identifier: numbers, then text (`id_texts`)."""
    columns: tuple[Column, ...]
    """Core columns: present, under these names, in every context of the survey."""
    aliases: Mapping[str, str]
    """Other spellings in use for columns, to the one spelling here."""
    primary: tuple[str, int]
    """Column and value that mark the best spectrum of an object."""
    z_column: str
    class_column: str
    flux_scale: str
    """Unit of flux as astropy reads it."""
    mask_vector: str
    """Vector whose ``bad_bits`` mark pixels not to be used, besides ivar = 0."""
    bad_bits: int
    frame: str
    releases: tuple[Release, ...]
    """Oldest first."""
    reader: Reader
    tables: Mapping[str, str] = field(default_factory=dict)
    """Catalogue of the best spectra and catalogue of all, and what they hold, in this order."""
    pack: Callable[[tuple[int, ...], str], int] | None = None
    """Identifier of a complete tuple of `id_parts`, where it can be computed."""
    pack_arrays: (
        Callable[[Sequence[npt.NDArray[Any]], npt.NDArray[Any]], npt.NDArray[Any]] | None
    ) = None
    """Likewise of many tuples: 1D[n] each of the numbers, and 1D[n] of the text."""
    unpack: Callable[[npt.NDArray[Any]], Mapping[str, npt.NDArray[Any]]] | None = None
    """The `id_parts` of identifiers, 1D[n] each, where they can be computed."""
    tree: TreeLayout | None = None
    """The archive's layout, where spectra can be served straight from its files."""
    cards: Callable[[str], Mapping[str, str]] | None = None
    """Header cards by which readers know the survey's FITS files, for a reduction."""
    is_default: bool = False
    """The context ``default`` is the newest release of such a survey."""
    extra: tuple[Vector, ...] = ()
    """Vectors that are stored besides the record, and come only when asked for by name."""
    id_texts: int = 1
    """How many of the `id_parts`, at the end, are text."""
    has_reduction: bool = True
    """The last of the `id_parts` is the reduction: a tuple that leaves it open means the best."""
    best: Best | None = None
    """How `primary` is computed; None: it is a column of the files."""
    part_files: int = 2000
    """Files that one process reads before what it wrote of them is committed."""
    many_per_file: bool = False
    """A file holds many spectra, so a spectrum is named by the file and its identifier."""
    last_open: bool = False
    """The last of the `id_parts` is text that with the identifier names one spectrum, and a tuple
    that leaves it open means the best of those that the others name."""
    told_by: tuple[str, ...] = ()
    """Columns besides the identifier by which a row of a value-added table says which of the
    spectra of an identifier it means."""
    facts: tuple[Fact, ...] = ()
    """Values to show beside a picture of a spectrum, in their order; by default its redshift."""
    medium: Medium | None = VACUUM
    """Medium of the wavelengths of all its spectra; None: each spectrum states its own in the
    catalogue column `medium.MEDIUM_COLUMN`."""

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """What the store holds: the record without the spectral axis, and what is extra."""
        record = tuple(vector for vector in self.record if vector.name != self.grid.axis)
        return record + self.extra

    @property
    def dtype(self) -> np.dtype[Any]:
        """Structured dtype of one pixel of the published table."""
        return np.dtype([(vector.name, vector.dtype) for vector in self.record])

    @property
    def id_form(self) -> IdForm:
        """What identifiers of the survey look like."""
        leads = self.id_parts[0] == self.id_column.name
        return IdForm(
            self.id_column.name,
            self.id_parts,
            self.id_texts,
            self.has_reduction,
            self.last_open,
            self.told_by or (self.id_parts[1:] if leads else ()),
        )

    def release(self, context: str) -> Release | None:
        """Return the release of that context name, or None."""
        return next((one for one in self.releases if one.context == context), None)

    def normal_id(self, number: int) -> int:
        """Return an identifier in the range of the id type; signed forms wrap to unsigned ones."""
        if np.dtype(self.id_column.dtype).kind == "u" and number < 0:
            return number + 2**64
        return number
