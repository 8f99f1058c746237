"""Values of many spectra, written spectrum by spectrum and read pixel by pixel: on the disk.

A median needs all values of a pixel at a time. The file is a row of tiles; each has a run of pixels
and the spectra that reach them, so that it is written in pieces and read as a whole. It has no name
and is gone when it is closed, however the process ends.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from ...errors import StoreError, TooMuch
from ...model.grid import PixelRange
from ...ops.rebin import Rebinned

_TILE_BYTES: Final = 8 * 2**20
"""Values and variances of a tile, which is held in memory; more where one pixel has more."""
_WIDEST: Final = 256
"""Pixels of a tile: a few spectra make no tile of all pixels, which most do not reach."""


@dataclass(frozen=True, slots=True)
class StackLimits:
    """Limits of one composite."""

    max_pixels: int
    max_bytes: int
    """Bytes on the disk."""
    folder: Path | None = None
    """Folder of the file; None: the system's folder for temporary files."""


class ScratchFile:
    """Fluxes and variances of spectra, whose extents are known before.

    Parameters
    ----------
    left, stop : 1D[nspec] int, first pixel of each spectrum and the one after its last, in the
        order in which they are written
    wanted : pixels that are to be read
    dtype : of the values

    Raises
    ------
    TooMuch
        The file would be larger than allowed.
    """

    def __init__(
        self,
        left: npt.NDArray[np.int64],
        stop: npt.NDArray[np.int64],
        wanted: PixelRange,
        dtype: np.dtype[Any],
        limits: StackLimits,
    ) -> None:
        self._left, self._stop = left, stop
        self._first, self._npix = wanted.first, wanted.count
        self._dtype = dtype
        fitting = _TILE_BYTES // (2 * dtype.itemsize * max(len(left), 1))
        self._wide = min(max(fitting, 1), _WIDEST)
        self._starts = self._first + np.arange(0, self._npix, self._wide)
        # Those that begin before a tile ends, but for those that end before it begins.
        ends = np.minimum(self._starts + self._wide, wanted.stop)
        begun = np.searchsorted(np.sort(left), ends)
        gone = np.searchsorted(np.sort(stop), self._starts, "right")
        self._rows = (begun - gone).astype(np.int64)
        sizes = 2 * dtype.itemsize * self._wide * self._rows
        self._offsets = np.concatenate(([0], np.cumsum(sizes)))
        self.nbytes = int(self._offsets[-1])
        if self.nbytes > limits.max_bytes:
            what = "bytes of disk for a median or clipped composite (give wave=, or method='mean'"
            what += " or 'ivar' without sigma_clip, which need none)"
            raise TooMuch(what, self.nbytes, limits.max_bytes, "stack_disk_bytes")
        self._written = np.zeros(len(self._starts), np.int64)
        self._done = 0
        try:
            # It is closed by the context of this object.
            self._file = TemporaryFile(  # noqa: SIM115
                dir=limits.folder, prefix="specserver-stack-", buffering=0
            )
        except OSError as error:
            raise self._failed(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _reach(self, start: int, some: slice = slice(None)) -> npt.NDArray[np.bool_]:
        """Return which spectra have pixels of a tile."""
        stop = min(start + self._wide, self._first + self._npix)
        reached: npt.NDArray[np.bool_] = (self._left[some] < stop) & (self._stop[some] > start)
        return reached

    def write(self, rows: Rebinned) -> None:
        """Add the next spectra."""
        mine = slice(self._done, self._done + len(rows.flux))
        self._done += len(rows.flux)
        right = rows.left + rows.flux.shape[1]
        tiles = np.flatnonzero((self._starts < right) & (self._starts + self._wide > rows.left))
        for tile in tiles.tolist():
            start = int(self._starts[tile])
            low, high = max(start, rows.left), min(start + self._wide, right)
            reached = self._reach(start, mine)
            laid = np.zeros((2, int(reached.sum()), self._wide), self._dtype)
            there, here = slice(low - rows.left, high - rows.left), slice(low - start, high - start)
            laid[0, :, here] = rows.flux[reached, there]
            laid[1, :, here] = rows.var[reached, there]
            self._put(tile, laid)

    def _put(self, tile: int, values: npt.NDArray[Any]) -> None:
        """Append spectra to a tile, 2D[n, wide] fluxes and variances."""
        plane = self._dtype.itemsize * self._wide
        for number, part in enumerate(values):
            row = number * self._rows[tile] + self._written[tile]
            view, offset = memoryview(part.tobytes()), int(self._offsets[tile] + plane * row)
            try:
                while view:
                    done = os.pwrite(self._file.fileno(), view, offset)
                    view, offset = view[done:], offset + done
            except OSError as error:
                raise self._failed(error) from error
        self._written[tile] += values.shape[1]

    def read(self) -> Iterator[tuple[npt.NDArray[Any], npt.NDArray[Any]]]:
        """Yield fluxes and variances of each tile, 2D[nspec, wide], or raise `StoreError`."""
        for tile, start in enumerate(self._starts.tolist()):
            held = np.zeros((2, int(self._rows[tile]), self._wide), self._dtype)
            try:
                # Values that were never written lie behind the end of the file, and are zero.
                os.preadv(self._file.fileno(), [held.data], int(self._offsets[tile]))
            except OSError as error:
                raise self._failed(error) from error
            wide = min(self._wide, self._first + self._npix - start)
            yield held[0, :, :wide], held[1, :, :wide]

    def _failed(self, error: OSError) -> StoreError:
        """Return the error of a failed access to the disk."""
        where = "the folder for temporary files (the server's setting stack_disk_folder)"
        return StoreError(where, f"{error.strerror}; {self.nbytes:,} bytes are needed")
