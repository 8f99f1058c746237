"""Numbers between NumPy and Arrow, both ways, without pandas: pyarrow's own conversions import it.

The import takes longer than most answers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def as_arrow(values: npt.NDArray[Any]) -> pa.Array:
    """Return an Arrow array of numbers, 1D[n] int or float; it shares contiguous memory."""
    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def view(column: pa.Array) -> npt.NDArray[Any]:
    """Return the values of a column of numbers or booleans; any value where one is missing.

    Returns
    -------
    1D[n]
        A view of the column's memory, but of booleans, which Arrow packs into bits.
    """
    bits, begin, count = pa.types.is_boolean(column.type), column.offset, len(column)
    buffer = column.buffers()[1]
    if buffer is None:
        return np.zeros(count, dtype=bool if bits else _dtype(column.type))
    if bits:
        packed = np.frombuffer(buffer, dtype=np.uint8)
        flags = np.unpackbits(packed, count=begin + count, bitorder="little")
        return flags[begin:].view(np.bool_)
    return np.frombuffer(buffer, dtype=_dtype(column.type), count=begin + count)[begin:]


def _dtype(kind: pa.DataType) -> np.dtype[Any]:
    """Return the NumPy type of an Arrow type of numbers."""
    floats = {"halffloat": "float16", "float": "float32", "double": "float64"}
    return np.dtype(floats.get(str(kind), str(kind)))
