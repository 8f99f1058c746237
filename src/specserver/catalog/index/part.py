"""One immutable index part, open for reading."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import hpgeom
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.context import GenerationFolder, PartFolder
from ...data.handles import Entry
from ...model.survey import Survey
from .column_file import MappedColumns, load_mapped, open_arrow
from .generations import IndexInfo
from .part_record import ARRAYS, COVERAGE_ORDER, PartRecord, read_part
from .part_search import PartSearch

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SortedHashes:
    """Hashes of values of rows, ascending, and the rows: parallel arrays."""

    hashes: Ints
    """1D[nrow], `digests.hash64` of the values as text; 0: null."""
    rows: npt.NDArray[np.int32]
    """1D[nrow], row of the part."""


class IndexPart:
    """The rows of one part; safe to share between threads. A file is mapped when it is first used.

    Parameters
    ----------
    folder : of the part, or of a generation
    files : Arrow files of all rows, and the names of the columns of each
    survey : with the columns of this catalogue

    All attributes and methods raise `DamagedFile` where a file cannot be read, or is not of the
    length and type that the record says.
    """

    def __init__(
        self,
        folder: PartFolder | GenerationFolder,
        record: PartRecord,
        files: Mapping[Entry, Sequence[str]],
        survey: Survey,
    ) -> None:
        self.folder = folder
        self.record = record
        self.nrows = record.nrows
        self.schema = record.schema
        """All columns, hidden ones too."""
        self._types = dict(zip(self.schema.names, self.schema.types, strict=True))
        self.columns = MappedColumns(files, self.nrows)
        self.is_checked = False
        """Whether its files were compared with their digests since it was opened."""
        self._column = folder.column
        self._id_parts = survey.id_parts
        self._id_type = survey.id_column.dtype

    def has(self, field: pa.Field) -> bool:
        """Return whether it has a column of the name and type of a field."""
        return bool(self._types.get(field.name) == field.type)

    def check(self, go_on: Callable[[], None] = lambda: None) -> None:
        """Compare its files with their digests; raise `DamagedFile` if one differs.

        ``go_on`` is called between blocks of them; it may raise an error to end the work.
        """
        self.folder.check(self.record.digests, go_on)
        self.is_checked = True

    def _load(self, name: str, dtype: str) -> npt.NDArray[Any]:
        return load_mapped(self._column(name), dtype, self.nrows)

    @cached_property
    def hpx(self) -> Ints:
        """1D[nrow], order-29 pixel, ascending; -1: the position is not known."""
        return self._load("hpx", ARRAYS["hpx"][1])

    @cached_property
    def ra(self) -> npt.NDArray[np.float64]:
        """1D[nrow], deg; NaN: unknown."""
        return self._load("ra", ARRAYS["ra"][1])

    @cached_property
    def dec(self) -> npt.NDArray[np.float64]:
        """1D[nrow], deg; NaN: unknown."""
        return self._load("dec", ARRAYS["dec"][1])

    @cached_property
    def segment(self) -> npt.NDArray[np.int32]:
        """1D[nrow], index into `PartRecord.segments`."""
        return self._load("segment", ARRAYS["segment"][1])

    @cached_property
    def row(self) -> npt.NDArray[np.int32]:
        """1D[nrow], row in the segment."""
        return self._load("row", ARRAYS["row"][1])

    @cached_property
    def primary(self) -> npt.NDArray[np.bool_]:
        """1D[nrow], whether it was the best of its object when the part was written."""
        return self._load("primary", "?")

    @cached_property
    def ids(self) -> npt.NDArray[Any]:
        """1D[nrow], identifier; 0: none."""
        return self._load("id", self._id_type)

    @cached_property
    def id_sorted(self) -> npt.NDArray[Any]:
        """1D[nrow], identifiers, ascending."""
        return self._load("id_sorted", self._id_type)

    @cached_property
    def id_rank(self) -> npt.NDArray[Any]:
        """1D[nrow], row of each entry of `id_sorted`; the best row of an identifier comes first."""
        # Those of generations have 64 bits.
        return self._load("id_rank", "<i4" if isinstance(self.folder, PartFolder) else "<i8")

    @cached_property
    def search(self) -> PartSearch:
        """Its rows by the parts of their identifiers."""
        return PartSearch(self.columns, self._id_parts, self.nrows)

    @cached_property
    def files(self) -> tuple[SortedHashes, Ints]:
        """Hashes of the original files of the rows, and `file_states` of each, 1D[nrow]."""
        hashes = SortedHashes(self._load("file_sorted", "<i8"), self._load("file_rank", "<i4"))
        return hashes, self._load("file_state", "<i8")

    @cached_property
    def groups(self) -> SortedHashes:
        """Hashes of the objects of the rows, where the object is not the identifier."""
        return SortedHashes(self._load("group_sorted", "<i8"), self._load("group_rank", "<i4"))

    def row_hashes(self) -> dict[str, Ints]:
        """Return the hashes that it has in the order of its rows, as `write_part` takes them."""
        found: dict[str, Ints] = {}
        for name in self._sorted_hashes():
            rows = self._load(f"{name}_rank", "<i4")
            arrays = {name: f"{name}_sorted"} | ({"state": "file_state"} if name == "file" else {})
            for made, values in arrays.items():
                found[made] = np.empty(self.nrows, np.int64)
                found[made][rows] = self._load(values, "<i8")
        return found

    def sorted_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that are ascending, 1D[nrow] each, by their names."""
        names = (f"{name}_sorted" for name in self._sorted_hashes())
        hashes = {name: self._load(name, "<i8") for name in names}
        return {"hpx": self.hpx, "id_sorted": self.id_sorted, **hashes}

    def _sorted_hashes(self) -> list[str]:
        """Return the names of the values by whose hashes its rows are sorted."""
        listed = self.record.digests
        return [name for name in ("file", "group") if self._column(f"{name}_sorted").name in listed]

    @property
    def coverage(self) -> npt.NDArray[np.uint8]:
        """1D[npix / 8], which pixels of `COVERAGE_ORDER` hold a row, packed bits.

        Generations do not say it.
        """
        nbyte = 12 * 4**COVERAGE_ORDER // 8
        if not isinstance(self.folder, PartFolder):
            return np.full(nbyte, 255, np.uint8)
        return load_mapped(self.folder.coverage, "u1", nbyte)

    @cached_property
    def near(self) -> npt.NDArray[np.bool_]:
        """1D[npix], which pixels of `COVERAGE_ORDER` hold a row or are next to one that does."""
        near = np.unpackbits(self.coverage).view(np.bool_)
        around = hpgeom.neighbors(2**COVERAGE_ORDER, near.nonzero()[0])
        near[around[around >= 0]] = True
        return near


def open_part(folder: PartFolder, survey: Survey) -> IndexPart:
    """Return a part, open; errors as of `IndexPart`. Its digests are not compared."""
    record = read_part(folder)
    return IndexPart(folder, record, record.files(folder), survey)


def open_generation(folder: GenerationFolder, info: IndexInfo, survey: Survey) -> IndexPart:
    """Return a generation, which an older version wrote, as a part; errors as of `IndexPart`."""
    types = {field.name: str(field.type) for field in open_arrow(folder.columns).schema}
    record = PartRecord(
        info.name, info.nrows, info.segments, types, tuple(types), digests=info.digests
    )
    return IndexPart(folder, record, {folder.columns: [*types]}, survey)


def find_all(
    known: npt.NDArray[Any], wanted: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return which of some values are among known ones, and where: each place of each, 1D[n].

    Parameters
    ----------
    known : 1D, ascending; a value may be there several times
    wanted : 1D; if they are ascending, they are searched faster
    """
    first = np.searchsorted(known, wanted)
    which = np.flatnonzero(first < len(known))
    which = which[known[first[which]] == wanted[which]]
    first, some = first[which], wanted[which]
    nexts = np.minimum(first + 1, len(known) - 1)
    # Mostly each is there once, and is not searched again.
    if not np.any((known[nexts] == some) & (nexts > first)):
        return which, first
    counts = np.searchsorted(known, some, "right") - first
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(which, counts), np.repeat(first, counts) + within
