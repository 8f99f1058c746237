"""The record of an index part, and the names and types of its arrays."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...data.context import PartFolder
from ...data.handles import Entry
from ...digests import seal
from .column_file import DAMAGED_INDEX

_FORMAT: Final = 4
"""The same number as that of a manifest. Formats up to 3 are generations."""
ARRAYS: Final[Mapping[str, tuple[str, str]]] = {
    "hpx": ("_hpx", "<i8"),
    "ra": ("ra", "<f8"),
    "dec": ("dec", "<f8"),
    "segment": ("_segment", "<i4"),
    "row": ("_row", "<i4"),
}
"""Array of a part with the values of a column → the column, and the type of the array."""
COVERAGE_ORDER: Final = 6
"""HEALPix order of the pixels of `PartFolder.coverage`, one bit each."""
COVERED_BITS: Final = 2 * (29 - COVERAGE_ORDER)
"""Bits by which order-29 pixels are finer than those."""
_MIX: Final = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
"""Constants of the generator SplitMix64."""
NO_BESIDE: Final = -(2**63)
"""Digest of the files beside a file where an older version did not record it."""


@dataclass(frozen=True, slots=True)
class PartRecord:
    """The record of a part."""

    name: str
    nrows: int
    segments: tuple[str, ...]
    """Names of the segments by the numbers in its array ``segment``; of a table, its own name."""
    columns: Mapping[str, str]
    """Column → Arrow type."""
    core: tuple[str, ...]
    """The columns in `PartFolder.core`; all others are in `PartFolder.rest`."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """File → digest (`specserver.digests`)."""
    format: int = _FORMAT

    @property
    def schema(self) -> pa.Schema:
        """All columns."""
        return _schema(tuple(self.columns.items()))

    def files(self, folder: PartFolder) -> dict[Entry, list[str]]:
        """Return the Arrow files of the part in a folder, and the names of the columns of each."""
        rest = [name for name in self.columns if name not in self.core]
        return {folder.core: list(self.core), folder.rest: rest}

    @property
    def nbytes(self) -> int:
        """Bytes of all its files but the record."""
        return sum(int(digest.split()[0]) for digest in self.digests.values())


@lru_cache(maxsize=64)
def _schema(columns: tuple[tuple[str, str], ...]) -> pa.Schema:
    """Return the schema of columns and their types; the parts of an index mostly share one."""
    return pa.schema([(name, pa.type_for_alias(form)) for name, form in columns])


def read_part(folder: PartFolder) -> PartRecord:
    """Return the record of a part; raise `DamagedFile` if it is damaged or there is none."""
    try:
        values: dict[str, Any] = folder.record.record(DAMAGED_INDEX, _FORMAT).values
        texts = {name: tuple(values[name]) for name in ("segments", "core")}
        return PartRecord(**{**values, **texts})
    except (FileNotFoundError, TypeError, KeyError) as error:
        raise folder.record.damaged(f"{DAMAGED_INDEX} ({error})") from error


def record_part(folder: PartFolder, record: PartRecord) -> PartRecord:
    """Flush a part's files, and write its record with their digests: the part is complete then."""
    folder.inherit_access()
    folder.sync()
    made = replace(record, digests=folder.digests(folder.files()))
    folder.record.create(seal(asdict(made)))
    return made


def covered_pixels(hpx: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the pixels of `COVERAGE_ORDER` that order-29 pixels, 1D[n], are in, 1D[n]."""
    return hpx[hpx >= 0] >> COVERED_BITS


def coverage_of(hpx: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which pixels of `COVERAGE_ORDER` hold one of some order-29 pixels, 1D[npix]."""
    covered = np.zeros(12 * 4**COVERAGE_ORDER, np.bool_)
    covered[covered_pixels(hpx)] = True
    return covered


def file_states(
    size: npt.NDArray[np.int64], mtime_ns: npt.NDArray[np.int64], beside: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return a hash of the state of files, 1D[n] int64, which is in a part's ``file_state``.

    Parameters
    ----------
    size, mtime_ns : 1D[n] int64, bytes, and time of last change
    beside : 1D[n] int64, digest of the files read along with each; `NO_BESIDE`: not recorded
    """
    step, first, second = map(np.uint64, _MIX)
    mixed = np.zeros(len(size), np.uint64)
    for values in (size, mtime_ns, beside):
        mixed = (mixed ^ values.astype(np.int64).view(np.uint64)) + step
        mixed = (mixed ^ (mixed >> np.uint64(30))) * first
        mixed = (mixed ^ (mixed >> np.uint64(27))) * second
        mixed ^= mixed >> np.uint64(31)
    return mixed.view(np.int64)
