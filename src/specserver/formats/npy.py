"""Arrays in NumPy's own format, version 1.0, which every NumPy since 2007 reads without pickles."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from ..wire.media_types import OCTETS
from .registry import writes

_PIECE_BYTES: Final = 2**20
"""Least size of a piece: handing over each spectrum by itself would cost more than reading it."""


@dataclass(frozen=True, slots=True)
class BlockedArray:
    """One array, made a block of rows at a time."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    blocks: Iterable[npt.NDArray[Any]]
    """2D[n, npix] each; together ``shape``."""

    @property
    def nbytes(self) -> int:
        """Size of the file."""
        return len(_header(self.dtype, self.shape)) + int(np.prod(self.shape)) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class ArraySequence:
    """Arrays of any shapes, made one at a time; a file of each follows that of the one before."""

    arrays: Iterable[npt.NDArray[Any]]


@writes(BlockedArray, OCTETS)
def write_array(array: BlockedArray) -> Iterator[bytes]:
    """Yield a ``.npy`` file."""
    header = _header(array.dtype, array.shape)
    return _joined(chain((header,), (row.tobytes() for block in array.blocks for row in block)))


@writes(ArraySequence, OCTETS)
def write_arrays(sequence: ArraySequence) -> Iterator[bytes]:
    """Yield ``.npy`` files, to be read by repeated ``numpy.load`` from the stream."""
    return _joined(_header(array.dtype, array.shape) + array.tobytes() for array in sequence.arrays)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    header = BytesIO()
    described = {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    npy.write_array_header_1_0(header, described)
    return header.getvalue()


def _joined(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield parts together in longer pieces."""
    held, nbytes = [], 0
    for part in parts:
        held.append(part)
        nbytes += len(part)
        if nbytes >= _PIECE_BYTES:
            yield b"".join(held)
            held, nbytes = [], 0
    yield b"".join(held)
