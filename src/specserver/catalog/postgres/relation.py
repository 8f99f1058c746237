"""A table as a catalogue sees it, and the values of its answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..base import Rows
from .names import StoredColumn
from .parameters import Parameters

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Relation:
    """A table, and what its rows are known by, as SQL."""

    table: str
    """Its quoted name, with the schema."""
    columns: Mapping[str, StoredColumn]
    """By their names in the catalogue."""
    number: str
    """Number of a row."""
    pixel: str
    """HEALPix pixel of a row, or 0."""
    primary: str
    """Whether a row is the best of its object."""
    numbered: Callable[[Rows, Parameters], str]
    """Returns the condition that a row has one of some numbers."""
    having: Callable[[Ints, Parameters], str]
    """Returns the condition that a row has one of some identifiers, in their signed form."""
    serial: Callable[[Parameters], str] = lambda _: ""
    """Returns the query of the count of changes; empty: nobody counts them."""


def plain_array(column: Any) -> npt.NDArray[Any]:
    """Return values without null, 1D[n]: NaN for a number with a fraction, 0 for a whole one."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if array.null_count:
        array = array.fill_null(np.nan if pa.types.is_floating(array.type) else 0)
    values: npt.NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values
