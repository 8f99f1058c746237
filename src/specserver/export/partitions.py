"""The partitions of a HATS catalogue: HEALPix pixels, smaller where there are more rows.

A partition is the largest pixel that has at most a given number of rows. The margin of a partition
has the rows of other ones near its border, so that a search for neighbours reads one partition.
It is defined as `hats` defines it: with pixels so small that their width is about the threshold,
it is all rows in pixels that touch the partition. So it holds all rows within the threshold, and
some that are a little farther.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import floor, log2, pi, sqrt
from typing import Final

import hpgeom
import numpy as np
import numpy.typing as npt

from ..errors import BadParameter

INDEX_ORDER: Final = 29
"""Order of the pixels by which rows are sorted."""
HIGHEST_ORDER: Final = 10
"""A partition is not split into pixels of a higher order, which are 3.4 arcmin wide."""
_DIRECTORY: Final = 10_000
"""Pixels of a folder, as HATS and HiPS lay them."""
_SIZE_TO_WIDTH: Final = 1.6
"""Square root of a pixel's area, in its least widths: the estimate of `hats`."""
_TOGETHER: Final = 1_000_000
"""Rows whose neighbours are looked up at once: 64 MB."""
_ARCSEC: Final = 180.0 / pi * 3600.0
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Partition:
    """A pixel and its rows, which are a run of the rows sorted by order-29 pixel."""

    order: int
    pixel: int
    start: int
    stop: int

    @property
    def nrows(self) -> int:
        """Number of rows; 0: the pixel is empty."""
        return self.stop - self.start

    @property
    def path(self) -> str:
        """Path of its file below the folder ``dataset``."""
        folder = self.pixel // _DIRECTORY * _DIRECTORY
        return f"Norder={self.order}/Dir={folder}/Npix={self.pixel}.parquet"

    @property
    def bounds(self) -> tuple[int, int]:
        """Its first order-29 pixel, and the one after its last."""
        shift = 2 * (INDEX_ORDER - self.order)
        return self.pixel << shift, (self.pixel + 1) << shift


def split_sky(pixels: Ints, most: int, highest: int = HIGHEST_ORDER) -> list[Partition]:
    """Return partitions that together cover the sky, the empty ones too, in the order of the rows.

    Parameters
    ----------
    pixels : 1D[nrow] int64, order-29 nested pixels, ascending
    most : rows of a partition; one of the highest order may have more
    highest : order
    """
    found: list[Partition] = []
    # The last of the list is the next: so they come in the order of the sky.
    waiting = [(0, pixel) for pixel in reversed(range(12))]
    while waiting:
        order, pixel = waiting.pop()
        bounds = Partition(order, pixel, 0, 0).bounds
        start, stop = np.searchsorted(pixels, bounds).tolist()
        if stop - start > most and order < highest:
            waiting += [(order + 1, 4 * pixel + child) for child in (3, 2, 1, 0)]
        else:
            found.append(Partition(order, pixel, start, stop))
    return found


def margin_order(threshold_arcsec: float) -> int:
    """Return the order of the pixels that a margin consists of, as `hats` chooses it.

    Raises
    ------
    BadParameter
        The margin would be wider than pixels of order 1: some 18 degrees.
    """
    widest = sqrt(pi / 3.0) * _ARCSEC / _SIZE_TO_WIDTH
    order = min(INDEX_ORDER, floor(log2(widest / threshold_arcsec)))
    if order < 1:
        raise BadParameter("margin", threshold_arcsec, f"at most {widest / 2:.0f} arcsec")
    return order


def margins(
    pixels: Ints, partitions: Sequence[Partition], order: int
) -> Iterator[tuple[Partition, Ints]]:
    """Yield each partition that has a margin, and the rows in it, 1D[n] int64, ascending.

    Parameters
    ----------
    pixels : 1D[nrow] int64, order-29 nested pixels, ascending
    partitions : those of the whole sky (`split_sky`), of orders up to ``order``
    order : of the pixels that a margin consists of (`margin_order`)
    """
    starts = np.array([partition.bounds[0] for partition in partitions], np.int64)
    shift = 2 * (INDEX_ORDER - order)
    owners, rows = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for at in range(0, len(pixels), _TOGETHER):
        small = pixels[at : at + _TOGETHER] >> shift
        nearby = hpgeom.neighbors(2**order, small)
        # Some pixels have seven neighbours: −1 is in the place of the eighth.
        theirs = np.searchsorted(starts, np.maximum(nearby, 0) << shift, "right") - 1
        own = np.searchsorted(starts, small << shift, "right") - 1
        row, side = np.nonzero((theirs != own[:, np.newaxis]) & (nearby >= 0))
        owners.append(theirs[row, side])
        rows.append(row + at)
    # A row touches a partition with several of its neighbours.
    pairs = np.unique(np.stack([np.concatenate(owners), np.concatenate(rows)]), axis=1)
    numbers, begins = np.unique(pairs[0], return_index=True)
    for number, own in zip(numbers.tolist(), np.split(pairs[1], begins[1:]), strict=False):
        yield partitions[number], own
