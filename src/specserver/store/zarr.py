"""The arrays of a segment: a Zarr v3 group, one array a vector, through TensorStore.

================ =============== ======================================================
array            shape, dtype    content
================ =============== ======================================================
<vector>         nspec × npix    one for each vector of the survey, on its lattice
id               nspec           identifiers
first, count     nspec int32     lattice pixel of the first value, and number of values
wavelength       npix float64    vacuum Å of the columns (segments on the lattice)
<axis>           nspec × npix    the published axis (segments off the lattice only)
================ =============== ======================================================

A shard holds some thousand spectra, an inner chunk one: Blosc lz4 with bit shuffle, then crc32c.
Values outside ``first … first + count - 1`` are zero, and so is ivar there: no information.
Off the lattice, ``first`` is 0 and every spectrum keeps its own axis.

A vector with the attributes ``like`` and ``own`` (such as one arm of a spectrum that several arms
make) holds the pixels ``own`` only, and is zero elsewhere: there, within its ``pixels``, it is the
same as the vector that it is like, bit for bit, and `Segment.request` puts both together.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorstore as ts

from ..damage import Identity
from ..data.context import SegmentFolder
from ..data.handles import Folder
from ..errors import BadParameter, DamagedFile, DamagedSpectrum
from ..model.grid import Grid, PixelRange, grid_from_dict
from ..model.survey import Survey, Vector
from .layout import check_segment, is_shard
from .shards import SHARD, ShardFrames, by_shard, shard_frames, unreadable_rows

GROUP: Final = "zarr.json"
"""The metadata of a Zarr group or array."""
_CACHE_BYTES: Final = 256 * 2**20
_OPEN_SEGMENTS: Final = 4096


def shared_vectors(vectors: Sequence[Vector]) -> dict[str, dict[str, Any]]:
    """Return as JSON the vectors that are stored where they may differ from another, and where."""
    told = {
        vector.name: {"like": vector.like, "own": vector.own, "pixels": vector.pixels}
        for vector in vectors
        if vector.like
    }
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(told))
    return plain


def own_pixels(runs: Sequence[Sequence[int]], start: int, npix: int) -> npt.NDArray[np.bool_]:
    """Return which of some pixels a vector has of its own, 1D[npix]."""
    own = np.zeros(npix, np.bool_)
    for first, stop in runs:
        own[max(0, first - start) : max(0, stop - start)] = True
    return own


class Segment:
    """A committed segment, open for reading; safe to share between threads."""

    def __init__(self, folder: SegmentFolder) -> None:
        self.folder = folder
        self.arrays = folder.arrays
        self.info = check_segment(folder)
        self._written = {
            f"{folder.key}/{name}": int(digest.split()[0])
            for name, digest in self.info.digests.items()
            if is_shard(name)
        }
        self._opened: dict[str, Any] = {}
        try:
            group: Mapping[str, Any] = json.loads(self.arrays.entry(GROUP).read())["attributes"]
            self.on_lattice: bool = bool(group["on_lattice"])
            self.grid: Grid = grid_from_dict(group["grid"])
            self.vectors: tuple[str, ...] = tuple(group["vectors"])
            self._like: Mapping[str, Any] = group.get("like", {})
            self.start: int = group["first_pixel"]
        except (OSError, ValueError, LookupError, TypeError, AttributeError, BadParameter) as error:
            raise self._damaged(GROUP, f"damaged: restore the file ({error})") from error
        self._vectors = {name: self.arrays.below(name) for name in self.vectors}
        self.ids = self._read_1d("id")
        self.first = self._read_1d("first")
        self.count = self._read_1d("count")
        self.npix = int(self._array(self.vectors[0]).shape[1])
        self._require_consistent()

    def _damaged(self, name: str, reason: str) -> DamagedFile:
        """Return the error for one of the files."""
        return self.arrays.entry(name).damaged(reason)

    def _require_consistent(self) -> None:
        """Check that the parts of the segment agree: older versions recorded no digests."""
        lengths = {len(self.ids), len(self.first), len(self.count), self.info.nspec}
        if len(lengths) > 1 or not self.nspec:
            raise self._damaged("id", f"{self.info.nspec} spectra were committed, not {self.nspec}")
        first, stop = self.first.astype(np.int64), self.first.astype(np.int64) + self.count
        inside = (self.start <= first) & (first <= stop) & (stop <= self.start + self.npix)
        if not inside.all():
            raise self._damaged("first", f"row {np.argmin(inside)} has pixels outside the arrays")
        if self.on_lattice:
            wave = self.grid.wave(self.start, self.npix)
            # Not bit for bit: powers differ in the last bits from one processor to another.
            if not np.allclose(self._read_1d("wavelength"), wave, rtol=1e-12, atol=0.0):
                reason = "its lattice is not that of the wavelengths beside it: restore the file"
                raise self._damaged(GROUP, reason)

    def require_survey(self, survey: Survey) -> None:
        """Raise `DamagedFile` if the lattice or the vectors are not the survey's."""
        same = self.grid == survey.grid and self._like == shared_vectors(survey.vectors)
        if not self.on_lattice:
            # The lattice of a survey whose spectra have axes of their own may be declared anew.
            axes = [(grid.kind, grid.axis, grid.axis_dtype) for grid in (self.grid, survey.grid)]
            same = axes[0] == axes[1]
        if not same:
            raise self._damaged(GROUP, f"its lattice is not that of {survey.name}")

    @property
    def nspec(self) -> int:
        """Number of spectra."""
        return len(self.ids)

    def request_cells(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> Callable[[], dict[str, ShardFrames]]:
        """Find whole rows in their shards; their Blosc frames are read as they are laid in place.

        Parameters
        ----------
        vectors : none of those that are like another: their frames are not the whole of them
        rows : 1D[n] int, row of the segment
        """
        frames = self._frames(vectors, rows)
        return lambda: frames

    def request(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer], pixels: PixelRange
    ) -> Callable[[], dict[str, npt.NDArray[Any]]]:
        """Begin to read values; the call returned waits and gives them, 2D[nrow, npix] each.

        ``pixels`` are lattice pixels inside `window`.
        """
        cut = slice(pixels.first - self.start, pixels.stop - self.start)
        shared = [self._like[name]["like"] for name in vectors if name in self._like]
        pending = self._frames(list(dict.fromkeys((*vectors, *shared))), rows)

        def gather() -> dict[str, npt.NDArray[Any]]:
            values = {name: self._decoded(name, frames, cut) for name, frames in pending.items()}
            return {name: self._whole(name, values, pixels) for name in vectors}

        return gather

    def _frames(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> dict[str, ShardFrames]:
        """Return the frames of some rows of each vector, yet to be read."""
        wanted = by_shard(rows, self._named)
        return {name: shard_frames(self._vectors[name], wanted, self._written) for name in vectors}

    def unreadable(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """Read rows of some vectors; return which rows are damaged in any of them, 1D[n] bool."""
        shared = [self._like[name]["like"] for name in vectors if name in self._like]
        wanted, bad = by_shard(rows), np.zeros(len(rows), np.bool_)
        for name in {*vectors, *shared}.intersection(self.vectors):
            bad |= unreadable_rows(self.arrays.below(name), wanted, self._written)
        return bad

    def _named(self, rows: npt.NDArray[np.int64], error: DamagedFile) -> DamagedFile:
        """Return the error for damaged rows, 1D[n], which names their spectra."""
        return DamagedSpectrum(self.info.context, np.unique(self.ids[rows]).tolist(), error)

    def _whole(
        self, name: str, values: Mapping[str, npt.NDArray[Any]], pixels: PixelRange
    ) -> npt.NDArray[Any]:
        """Return a vector with what it shares with another one put in."""
        about = self._like.get(name)
        if about is None:
            return values[name]
        first, stop = about["pixels"] or (pixels.first, pixels.stop)
        own = own_pixels(about["own"], pixels.first, pixels.count)
        taken = ~own
        taken[: max(0, first - pixels.first)] = taken[max(0, stop - pixels.first) :] = False
        return np.where(taken, values[about["like"]], values[name])

    def _decoded(self, name: str, frames: ShardFrames, cut: slice) -> npt.NDArray[Any]:
        """Return the values of some rows, 2D[nrow, npix]."""
        # TensorStore takes twice as long for single rows.
        shape = (len(frames.sizes), cut.stop - cut.start)
        values: npt.NDArray[Any] = np.empty(shape, self._array(name).dtype.numpy_dtype)
        frames.decode(values, self.npix, cut)
        return values

    @property
    def window(self) -> PixelRange:
        """Lattice pixels that the arrays cover."""
        return PixelRange(self.start, self.start + self.npix)

    def verify(self) -> int:
        """Read every array against its checksums; return the bytes decoded.

        A `DamagedFile` names the array and the first spectra that cannot be read.
        """
        nbytes = 0
        for name in self.vectors:
            array = self._array(name)
            for at in range(0, self.nspec, SHARD):
                stop = min(at + SHARD, self.nspec)
                try:
                    nbytes += array[at:stop].read().result().nbytes
                except ValueError as error:
                    shard = f"{name}/c/{at // SHARD}/0"
                    raise self._damaged(shard, f"rows {at} … {stop - 1}: {error}") from error
        return nbytes

    def _read_1d(self, name: str) -> npt.NDArray[Any]:
        """Return a whole 1-D array."""
        try:
            values: npt.NDArray[Any] = self._array(name).read().result()
        except ValueError as error:
            raise self._damaged(f"{name}/c/0", str(error)) from error
        return values

    def _array(self, name: str) -> Any:
        """Return an open TensorStore array; it stays open with the segment."""
        if name not in self._opened:
            self._opened[name] = _open_array(self.arrays.below(name))
        return self._opened[name]


_context = lru_cache(maxsize=1)(
    lambda: ts.Context({"cache_pool": {"total_bytes_limit": _CACHE_BYTES}})
)


def _open_array(array: Folder) -> Any:
    """Open an array for reading."""
    spec = {
        "driver": "zarr3",
        "kvstore": array.kvstore(),
        # Chunks are read once and handed on: caching them would only hold memory.
        "recheck_cached_data": False,
    }
    try:
        return ts.open(spec, read=True, context=_context()).result()
    except ValueError as error:
        raise array.entry(GROUP).damaged(str(error)) from error


def open_segment(folder: SegmentFolder) -> Segment:
    """Return a segment open for reading; the same object while its commit record is the same."""
    return _open_segment(folder, folder.record.state())


@lru_cache(maxsize=_OPEN_SEGMENTS)
def _open_segment(folder: SegmentFolder, state: Identity) -> Segment:
    """Return a segment as it is at a time."""
    del state
    return Segment(folder)
