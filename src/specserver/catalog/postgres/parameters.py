"""Values that a query binds, as the driver sends them: one row of Arrow values."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...wire.numeric import as_arrow


class Parameters:
    """The bound values of one query, in the order of their placeholders."""

    def __init__(self) -> None:
        self._values: list[pa.Array] = []

    def bind(self, value: bool | float | str, *, collated: bool = True) -> str:
        """Bind a value; return its placeholder, with its type.

        Whole numbers of more than 64 bits are bound as text.

        Parameters
        ----------
        collated : text is compared by its letters' numbers, not in a column's own collation
        """
        if isinstance(value, bool):
            return self._add(pa.array([value]), "boolean")
        if isinstance(value, int):
            if -(2**63) <= value < 2**63:
                return self._add(pa.array([value], pa.int64()), "bigint")
            return f"CAST({self._add(pa.array([str(value)]), 'text')} AS numeric)"
        if isinstance(value, float):
            return self._add(pa.array([value], pa.float64()), "double precision")
        text = self._add(pa.array([value.replace("\0", "")]), "text")
        return f'({text} COLLATE "C")' if collated else text

    def bind_all(self, values: Sequence[Any], form: pa.DataType, name: str) -> str:
        """Bind values as one array; return its placeholder.

        Parameters
        ----------
        form, name : type of a value in Arrow, and in PostgreSQL
        """
        return self._add(pa.array([values], pa.list_(form)), f"{name}[]")

    def bind_numbers(self, values: npt.NDArray[np.int64]) -> str:
        """Bind whole numbers, 1D[n] int64, as one array; return its placeholder."""
        flat = as_arrow(np.ascontiguousarray(values, np.int64))
        array = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), flat)
        return self._add(array, "bigint[]")

    def batch(self) -> pa.RecordBatch | None:
        """Return the values as one row; None: there are none."""
        if not self._values:
            return None
        return pa.record_batch(self._values, names=[str(at) for at in range(len(self._values))])

    def _add(self, value: pa.Array, form: str) -> str:
        self._values.append(value)
        return f"CAST(${len(self._values)} AS {form})"
