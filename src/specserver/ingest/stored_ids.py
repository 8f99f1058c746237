"""The identifiers of stored spectra, with the key that distinguishes those of one identifier."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

NO_KEY: Final = 0
"""The key of a spectrum whose identifier is its own."""
NO_DIGEST: Final = 0
"""The digest of a spectrum that an older version stored without one."""
_SIDES: Final[tuple[Literal["left", "right"], ...]] = ("left", "right")
_COLUMNS: Final = ("_key", "_digest", "_row_digest", "_version", "_row", "_segment")


def numbers_of(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    """Return a column of integers, 1D[n] int64; missing values are 0."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, np.int64)
    values: npt.NDArray[np.int64] = table.column(name).fill_null(0).to_numpy().astype(np.int64)
    return values


@dataclass(frozen=True, slots=True)
class StoredSpectrum:
    """A spectrum that is stored."""

    digest: int
    row_digest: int
    version: int
    """Number of times that it has been replaced."""
    row: int
    segment: str


@dataclass(frozen=True, slots=True)
class StoredIds:
    """Identifiers and keys of stored spectra, sorted by both; 1D[n] each."""

    ids: npt.NDArray[Any]
    columns: dict[str, npt.NDArray[np.int64]]
    segments: tuple[str, ...]

    @classmethod
    def of(
        cls, table: pa.Table, identifier: str, dtype: str, segments: tuple[str, ...]
    ) -> tuple["StoredIds", npt.NDArray[np.int64]]:
        """Return the spectra of catalogue rows that were not replaced, and their row numbers."""
        ids = table.column(identifier).to_numpy().astype(dtype)
        columns = {name: numbers_of(table, name) for name in _COLUMNS}
        order = np.lexsort((-columns["_version"], columns["_key"], ids))
        key, number = columns["_key"][order], ids[order]
        first = np.ones(len(order), bool)
        first[1:] = (number[1:] != number[:-1]) | (key[1:] != key[:-1])
        order = order[first]
        found = cls(ids[order], {name: values[order] for name, values in columns.items()}, segments)
        return found, order

    def find(self, number: int, key: int | None) -> StoredSpectrum | None:
        """Return the stored spectrum of an identifier and key, or None."""
        if not len(self.ids):
            return None
        wanted = self.ids.dtype.type(number)
        first, stop = (int(np.searchsorted(self.ids, wanted, side)) for side in _SIDES)
        keys, sought = self.columns["_key"][first:stop], NO_KEY if key is None else key
        at = int(np.searchsorted(keys, sought))
        if at >= len(keys) or int(keys[at]) != sought:
            return None
        _, digest, row_digest, version, row, segment = (
            int(self.columns[name][first + at]) for name in _COLUMNS
        )
        return StoredSpectrum(digest, row_digest, version, row, self.segments[segment])
