"""Which spectra are stored already: by identifier, and by what tells those of one apart."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

NO_KEY = 0
"""Stands for the key of a spectrum that needs none."""


@dataclass(frozen=True, slots=True)
class Known:
    """Spectra that are stored, sorted by identifier, then by key; 1D[n] each."""

    ids: npt.NDArray[Any]
    keys: npt.NDArray[np.int64]

    @classmethod
    def of(cls, ids: npt.NDArray[Any], keys: npt.NDArray[np.int64]) -> "Known":
        """Return spectra given in any order."""
        order = np.lexsort((keys, ids))
        return cls(ids[order], keys[order])

    @classmethod
    def none(cls, dtype: str) -> "Known":
        """Return nothing, with identifiers of a type."""
        return cls(np.empty(0, dtype), np.empty(0, np.int64))

    def holds(self, number: int, key: int | None) -> bool:
        """Tell whether a spectrum is among them."""
        first, stop = self._run(number)
        keys = self.keys[first:stop]
        at = int(np.searchsorted(keys, NO_KEY if key is None else key))
        return at < len(keys) and int(keys[at]) == (NO_KEY if key is None else key)

    def _run(self, number: int) -> Sequence[int]:
        """Return where the spectra of an identifier begin and end."""
        wanted = self.ids.dtype.type(number)
        return [int(np.searchsorted(self.ids, wanted, side)) for side in ("left", "right")]
