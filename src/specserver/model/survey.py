"""The contract of a survey plug-in: its lattice, record, columns, releases and reader."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from string import Formatter
from typing import Any, Final, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from .grid import Grid, PixelRange, locate
from .ids import IdForm
from .medium import VACUUM, Medium

UNIT_COLUMN: Final = "flux_unit"
"""Catalogue column (text, as astropy reads it) of surveys whose spectra differ in their unit."""


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
    """First lattice pixel of the vector, and the one after its last; None: all pixels."""
    like: str = ""
    """Name of a vector that is equal by construction outside `own`; only the pixels of `own` are
    stored. Empty: the whole vector is stored."""
    own: tuple[tuple[int, int], ...] = ()
    """Half-open runs of lattice pixels where it may differ from the vector `like`."""


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
class FurtherFit:
    """Columns of a fit of class and redshift that the survey states beside the best one."""

    name: str
    """What distinguishes it, in a few words."""
    kind: tuple[str, ...]
    """Columns of class and subclass; all are empty where there is no such fit."""
    z: str


@dataclass(frozen=True, slots=True)
class Release:
    """A public data release of a survey; users call it a context."""

    context: str
    title: str
    reductions: tuple[str, ...]
    """Reduction versions that belong to the release, the most recent last."""


@dataclass(frozen=True, slots=True)
class FileKey:
    """The meaning of a file's name. Files of one ``group`` may hold the same spectrum."""

    path: Path
    group: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Remark:
    """A warning about a spectrum that is stored, for the operator."""

    kind: str
    """Text common to all spectra with this warning; an ingest prints it once, with a count."""
    detail: str = ""
    """Text for this spectrum only."""

    @property
    def text(self) -> str:
        """Kind and detail, for a report."""
        return f"{self.kind} ({self.detail})" if self.detail else self.kind


@dataclass(frozen=True, slots=True)
class RawSpectrum:
    """One spectrum as read from a file."""

    id: int
    ra_deg: float
    dec_deg: float
    """ICRS position of the object; NaN if the file states none."""
    reduction: str
    axis: npt.NDArray[Any]
    """1D[npix], the spectral axis as published."""
    vectors: Mapping[str, npt.NDArray[Any]]
    """Vectors by the names of `Survey.vectors`, bit for bit as published. 1D[npix] each; a vector
    with `pixels` has their number of values."""
    row: Mapping[str, Any]
    """Catalogue values by lower-case column name: NumPy scalars and str; None or absent: unknown.
    """
    key: int | None = None
    """Signed 64-bit number that distinguishes spectra with the same `id`, such as a digest of the
    place of observation; None if the id is unique. One spectrum is stored for each id and key."""
    is_pointing: bool = False
    """The position is that of the telescope, or its system is not known."""
    remarks: tuple[Remark, ...] = ()
    """Warnings to report when the spectrum is stored."""
    layout: str = ""
    """How its file was read, in words that spectra of like files share; empty: as the survey's."""


@dataclass(frozen=True, slots=True)
class TreeLayout:
    """Templates of the path of a spectrum's original file in an archive, tried in their order.

    Fields of the templates are ``release`` (``dr17``) and the parts of the tuple form of an
    identifier: numbers, and text for the last one (``run2d``).
    """

    folders: tuple[str, ...]
    """Folder of the files with one first part; the name of the folder contains no other part."""
    names: tuple[str, ...]
    """Name of the file in such a folder."""


@dataclass(frozen=True, slots=True)
class Best:
    """Rule for the best spectrum of each object in a context.

    It depends on all spectra of the context, so the column `Survey.primary` is computed when the
    index is made.
    """

    group: str
    """Column with one value for all spectra of an object."""
    order: tuple[tuple[str, int | str], ...]
    """Column, and the value that comes first, or ``desc`` for the greatest; unknown comes last."""


class Reader(Protocol):
    """Recognises and reads a survey's files."""

    def identify(self, path: Path) -> FileKey | None:
        """Return the meaning of a file's name; None if the file is not one of this survey."""

    def is_companion(self, path: Path) -> bool:
        """Return whether a file is read along with others, and not by itself."""

    def read(self, path: Path) -> list[RawSpectrum]:
        """Read all spectra of a file; raise `BadFile` with the reason if there is none.

        Either all of them lie on the lattice of the survey, or none.
        """


@dataclass(frozen=True, slots=True)
class RefusedSpectrum:
    """A spectrum that is left out, while others of its file are read."""

    label: str
    """Its identifier, or its place in the file."""
    reason: str


@runtime_checkable
class RowsReader(Reader, Protocol):
    """A reader of files with many spectra, which it may refuse one by one."""

    def read_rows(self, path: Path) -> tuple[list[RawSpectrum], list[RefusedSpectrum]]:
        """Read the spectra of a file; return also those refused. Errors are those of `read`."""


@runtime_checkable
class BytesReader(Reader, Protocol):
    """A reader of the bytes of a file, so that an ingest reads each file once."""

    def read_from_bytes(self, path: Path, data: bytes) -> list[RawSpectrum]:
        """Read the spectra from the decompressed bytes of a whole file; errors as of `read`."""


@dataclass(frozen=True, slots=True)
class Survey:
    """A survey: its lattice, record, identifiers, columns, releases and reader."""

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
    """Core columns: every context of the survey has them under these names."""
    aliases: Mapping[str, str]
    """Other spellings of column names, and the spelling here."""
    primary: tuple[str, int]
    """Column and value of the best spectrum of an object."""
    z_column: str
    class_column: str
    flux_scale: str
    """Unit of flux as astropy reads it; where spectra differ, of those whose row states none."""
    mask_vector: str
    """Vector whose ``bad_bits`` mark bad pixels, besides ivar = 0."""
    bad_bits: int
    frame: str
    releases: tuple[Release, ...]
    """Oldest first."""
    reader: Reader
    tables: Mapping[str, str] = field(default_factory=dict)
    """Names of the catalogues of the best spectra and of all, in this order, with descriptions."""
    pack: Callable[[tuple[int, ...], str], int] | None = None
    """Computes the identifier of a complete tuple of `id_parts`; None: it cannot be computed."""
    pack_arrays: (
        Callable[[Sequence[npt.NDArray[Any]], npt.NDArray[Any]], npt.NDArray[Any]] | None
    ) = None
    """Same as `pack` for many tuples: 1D[n] for each number, and 1D[n] for the text."""
    unpack: Callable[[npt.NDArray[Any]], Mapping[str, npt.NDArray[Any]]] | None = None
    """Computes the `id_parts` of identifiers, 1D[n] each; None: they cannot be computed."""
    tree: TreeLayout | None = None
    """Layout of the archive, if spectra can be served from its files."""
    cards: Callable[[str], Mapping[str, str]] | None = None
    """Header cards of a reduction by which other programs recognise the survey's FITS files."""
    is_default: bool = False
    """The newest release of the survey is the context ``default``."""
    extra: tuple[Vector, ...] = ()
    """Vectors stored besides the record, which are sent only if a request names them."""
    id_texts: int = 1
    """Number of `id_parts` that are text; they are the last ones."""
    has_reduction: bool = True
    """The last of the `id_parts` is the reduction; a tuple without it means the best spectrum."""
    best: Best | None = None
    """Rule that computes `primary`; None: it is a column of the files."""
    part_files: int = 2000
    """Files that one process reads between two commits."""
    many_per_file: bool = False
    """A file holds many spectra, so saved spectra are named by file and identifier."""
    last_open: bool = False
    """The last of the `id_parts` is text that together with the identifier names one spectrum. A
    tuple without it means the best of the spectra that the other parts name."""
    told_by: tuple[str, ...] = ()
    """Columns of a value-added table that select one of the spectra with an identifier."""
    name_form: str = ""
    """Name of a spectrum in pictures, as the survey's users write it: text with columns in braces,
    such as ``{plate}-{mjd}-{fiberid}``. Empty: its `id_parts`."""
    facts: tuple[Fact, ...] = ()
    """Values to show beside a picture of a spectrum, in their order; by default its redshift."""
    fits: tuple[FurtherFit, ...] = ()
    """Fits that the viewer offers beside the best one, whose templates the files do not hold."""
    z_warning: tuple[str, int] | None = None
    """Column of warning bits of class and redshift, 0: none; and those bits of it that mark a fibre
    on the sky, which has neither."""
    in_unit: Callable[[str], "Survey"] | None = None
    """Returns the survey of the spectra with another unit of flux, which the catalogue column
    `UNIT_COLUMN` states; None: all have the unit `flux_scale`."""
    medium: Medium | None = VACUUM
    """Medium of the wavelengths of all spectra; None: the catalogue column
    `medium.MEDIUM_COLUMN` states that of each."""

    indexed: tuple[tuple[str, ...], ...] = ()
    """Groups of columns that conditions name together, such as class and redshift: a database has
    an index on each, in this order, for releases that have these columns."""

    @property
    def vectors(self) -> tuple[Vector, ...]:
        """Vectors in the store: the record without the spectral axis, and the extra ones."""
        record = tuple(vector for vector in self.record if vector.name != self.grid.axis)
        return record + self.extra

    @property
    def kind(self) -> tuple[str, str]:
        """Name, and unit of flux: spectra that differ in either do not share a record."""
        return self.name, self.flux_scale

    @property
    def dtype(self) -> np.dtype[Any]:
        """Structured dtype of one pixel of the published table."""
        return np.dtype([(vector.name, vector.dtype) for vector in self.record])

    @property
    def name_columns(self) -> tuple[str, ...]:
        """Columns that the name of a spectrum in pictures consists of."""
        fields = (field for _, field, _, _ in Formatter().parse(self._name_form))
        return tuple(dict.fromkeys(field for field in fields if field))

    def is_sky(self, row: Mapping[str, Any]) -> bool:
        """Return whether a row with the column of `z_warning` is of a fibre on the sky."""
        column, bits = self.z_warning or ("", 0)
        return bool((row.get(column) or 0) & bits)

    def name_of(self, row: Mapping[str, Any]) -> str:
        """Return the name of a spectrum in pictures, from a row that has its `name_columns`."""
        said = {name: "" if row[name] is None else row[name] for name in self.name_columns}
        return self._name_form.format_map(said).strip()

    @property
    def _name_form(self) -> str:
        form = self.id_form
        parts = [f"{{{name}}}" for name in form.parts]
        return self.name_form or " ".join(("-".join(parts[: form.numbers]), *parts[form.numbers :]))

    @property
    def id_form(self) -> IdForm:
        """Form of the survey's identifiers."""
        leads = self.id_parts[0] == self.id_column.name
        return IdForm(
            self.id_column.name,
            self.id_parts,
            self.id_texts,
            self.has_reduction,
            self.last_open,
            self.told_by or (self.id_parts[1:] if leads else ()),
        )

    def lattice_start(self, axis: npt.NDArray[Any]) -> int | None:
        """Return the lattice pixel of the first value of an axis, 1D[npix]; None: off the lattice.

        An axis that reaches beyond the survey's window is off the lattice.
        """
        first = locate(self.grid, axis)
        if first is None or first < self.window.first or first + len(axis) > self.window.stop:
            return None
        return first

    def release(self, context: str) -> Release | None:
        """Return the release with a context name, or None."""
        return next((release for release in self.releases if release.context == context), None)

    def normal_id(self, number: int) -> int:
        """Return an identifier in the range of its type; unsigned ones may be given as signed."""
        if np.dtype(self.id_column.dtype).kind == "u" and number < 0:
            return number + 2**64
        return number
