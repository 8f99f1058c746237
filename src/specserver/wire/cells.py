"""Encoded values of one vector of one spectrum: a Blosc-1 frame, or raw little-endian values."""

import struct
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numcodecs import blosc

_BLOSC_HEADER = struct.Struct("<4xI4xI")
"""Header of a Blosc-1 frame: uncompressed and compressed size, bytes 4 and 12."""


@dataclass(frozen=True, slots=True)
class CellColumn:
    """Cells of one vector, end to end."""

    data: npt.NDArray[np.uint8]
    """1D[nbytes] uint8"""
    offsets: npt.NDArray[np.int64]
    """1D[nspec + 1] int64, where each cell begins, and the end of the last."""
    present: npt.NDArray[np.bool_]
    """1D[nspec] bool, False where a spectrum has no cell: its values are zero, or its axis the
    lattice."""

    def to_arrow(self) -> pa.Array:
        """Return the cells as a large_binary array, without copying them."""
        bits = None
        if not self.present.all():
            bits = pa.py_buffer(np.packbits(self.present, bitorder="little"))
        buffers = [bits, pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_binary(), len(self.present), buffers)

    @classmethod
    def from_arrow(cls, column: pa.Array) -> Self:
        """Read a large_binary array, without copying its cells.

        Raises
        ------
        TypeError
            An array of another type.
        """
        if not pa.types.is_large_binary(column.type):
            raise TypeError(f"a column of {column.type}, not large_binary")
        _, offsets, data = column.buffers()
        begin, end = column.offset, column.offset + len(column) + 1
        return cls(
            data=np.frombuffer(b"" if data is None else data, np.uint8),
            offsets=np.frombuffer(offsets, np.int64)[begin:end]
            if len(column)
            else np.zeros(1, int),
            present=np.array(column.is_valid().to_pylist(), np.bool_),
        )


def unpack_blosc(frame: "bytes | memoryview", nbytes: int) -> bytes:
    """Return what a frame holds; to decompress into an array takes half as long again.

    Parameters
    ----------
    frame : the whole frame
    nbytes : bytes that it must hold

    Raises
    ------
    ValueError
        The frame is damaged, or of another size.
    """
    # The Blosc library trusts the sizes in the header, so they are checked before.
    try:
        sizes = _BLOSC_HEADER.unpack_from(frame)
    except struct.error as error:
        raise ValueError(f"it cannot be unpacked ({error})") from error
    if sizes != (nbytes, len(frame)):
        raise ValueError(f"it is not of the size it should be: {sizes[0]} bytes, not {nbytes}")
    try:
        values: bytes = blosc.decompress(frame)
    except RuntimeError as error:
        raise ValueError(f"it cannot be unpacked ({error})") from error
    return values
