"""Which spectra are stored already: by identifier, and by what tells those of one apart."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

NO_KEY: Final = 0
"""Stands for the key of a spectrum that needs none."""
_SIDES: Final[tuple[Literal["left", "right"], ...]] = ("left", "right")


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

    def holds(self, number: int, key: int | None) -> bool:
        """Tell whether a spectrum is among them."""
        wanted = self.ids.dtype.type(number)
        first, stop = (int(np.searchsorted(self.ids, wanted, side)) for side in _SIDES)
        keys, sought = self.keys[first:stop], NO_KEY if key is None else key
        at = int(np.searchsorted(keys, sought))
        return at < len(keys) and int(keys[at]) == sought
