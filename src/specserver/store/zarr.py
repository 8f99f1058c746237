"""The arrays of a segment: a Zarr v3 group, one array a vector.

================ ========================= ==================================================
array            shape, dtype              content
================ ========================= ==================================================
<dtype>          nspec × nvector × npix    all vectors of one data type, on the lattice
vector_<dtype>   nvector text              their names
id               nspec                     identifiers
first, count     nspec int32               lattice pixel of the first value, number of values
wavelength       npix float64              vacuum Å of the columns (segments on the lattice)
================ ========================= ==================================================

Segments off the lattice have the published axis as a vector; then ``first`` is 0.
A shard holds a thousand spectra, an inner chunk one vector of one: Blosc lz4 with bit shuffle, then
crc32c. Vectors of the record come first, so those of a spectrum are one range of the file.
Values outside ``first … first + count - 1`` are zero, and so is ivar there: no information.

That is format 2. In format 1 each vector has an array of its name, ``nspec × npix``: it is read as
an array of one vector, so only the paths differ.

A vector with the attributes ``like`` and ``own`` (such as one arm of a spectrum that several arms
make) holds the pixels ``own`` only, and is zero elsewhere: there, within its ``pixels``, it is the
same as the vector that it is like, bit for bit, and `Segment.request` puts both together.
"""

import json
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import tensorstore as ts
from typing_extensions import override

from ..damage import Identity
from ..data.context import SegmentFolder
from ..data.handles import Folder
from ..errors import BadParameter, DamagedFile, DamagedSpectrum
from ..model.grid import Grid, PixelRange, grid_from_dict
from ..model.survey import Survey, Vector
from .base import Room, Values, lay
from .frames import StoredCells, begin_cells, by_shard, find_cells
from .layout import FORMAT_VERSION, SegmentInfo, check_segment, is_shard
from .shards import SHARD, FrameArray

GROUP: Final = "zarr.json"
"""The metadata of a Zarr group or array."""
ABOUT: Final[Mapping[str, Mapping[str, str]]] = {
    "id": {"long_name": "identifier of the spectrum"},
    "first": {
        "long_name": "lattice pixel of the spectrum's first value",
        "description": "its place in these arrays is first - first_pixel, an attribute of all",
        "units": "pix",
    },
    "count": {"long_name": "number of pixels that the spectrum has", "units": "pix"},
}
"""Attributes of the arrays with one value for each spectrum."""
_CHUNK: Final = "c/0"
"""The one chunk of a 1-D array."""
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


_shared = lru_cache(maxsize=64)(shared_vectors)
"""The same for a tuple; each request asks whether an open segment is of its survey."""


def own_pixels(runs: Sequence[Sequence[int]], start: int, npix: int) -> npt.NDArray[np.bool_]:
    """Return which of some pixels a vector has of its own, 1D[npix]."""
    own = np.zeros(npix, np.bool_)
    for first, stop in runs:
        own[max(0, first - start) : max(0, stop - start)] = True
    return own


class Segment:
    """A committed segment, open for reading; safe to share between threads.

    Parameters
    ----------
    info : the commit record that it will have; None: it has one
    """

    def __init__(self, folder: SegmentFolder, info: SegmentInfo | None = None) -> None:
        self.folder = folder
        self._state = folder.record.state()
        self.info = info or check_segment(folder)
        self.arrays = folder.arrays(self.info.format_version)
        self._written = {
            f"{folder.key}/{name}": int(digest.split()[0])
            for name, digest in self.info.digests.items()
            if is_shard(name)
        }
        try:
            group: Mapping[str, Any] = json.loads(self.arrays.entry(GROUP).read())["attributes"]
            self.on_lattice: bool = bool(group["on_lattice"])
            self.grid: Grid = grid_from_dict(group["grid"])
            self.vectors: tuple[str, ...] = tuple(group["vectors"])
            self._like: Mapping[str, Any] = group.get("like", {})
            self.start: int = group["first_pixel"]
            of_one_vector = {name: (name,) for name in self.vectors}
            held: Mapping[str, Sequence[str]] = group.get("arrays", of_one_vector)
            self._frame_arrays = tuple(
                FrameArray(self.arrays.below(name), tuple(names), 3 if "arrays" in group else 2)
                for name, names in held.items()
            )
            self._array_of = {name: at for at in self._frame_arrays for name in at.vectors}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, BadParameter) as error:
            raise self._damaged(GROUP, f"damaged ({error})") from error
        lines = ["id", "first", "count", *(["wavelength"] if self.on_lattice else [])]
        small = _SmallFiles(self.arrays, lines, [at.folder.name for at in self._frame_arrays])
        self.ids, self.first, self.count = (small.line(name) for name in lines[:3])
        opened = {array: small.opened(array.folder.name) for array in self._frame_arrays}
        self.npix = int(opened[self._frame_arrays[0]].shape[-1])
        self._dtypes: Mapping[str, np.dtype[Any]] = {
            name: opened[array].dtype.numpy_dtype for name, array in self._array_of.items()
        }
        self._require_consistent(small)

    def _damaged(self, name: str, reason: str) -> DamagedFile:
        """Return the error for one of the files."""
        return self.arrays.entry(name).damaged(reason)

    def _require_consistent(self, small: "_SmallFiles") -> None:
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
            if not np.allclose(small.line("wavelength"), wave, rtol=1e-12, atol=0.0):
                reason = "its lattice is not that of the wavelengths beside it"
                raise self._damaged(GROUP, reason)

    def require_survey(self, survey: Survey) -> None:
        """Raise `DamagedFile` if the lattice or the vectors are not the survey's."""
        same = self.grid == survey.grid and self._like == _shared(survey.vectors)
        if not self.on_lattice:
            # The lattice of a survey whose spectra have axes of their own may be declared anew.
            axes = [(grid.kind, grid.axis, grid.axis_dtype) for grid in (self.grid, survey.grid)]
            same = axes[0] == axes[1]
        if not same:
            raise self._damaged(GROUP, f"its lattice is not that of {survey.name}")

    @property
    def announcing(self) -> "Segment | None":
        """The same segment, whose requests only start to fetch their bytes; None: it is local."""
        return _AnnouncingSegment(self) if self.folder.backend.is_far else None

    @property
    def nspec(self) -> int:
        """Number of spectra."""
        return len(self.ids)

    def request_cells(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> Callable[[], StoredCells]:
        """Find whole rows in their shards; their Blosc frames are read as they are laid in place.

        Parameters
        ----------
        vectors : none of those that are like another: their frames are not the whole of them
        rows : 1D[n] int, row of the segment
        """
        cells = self._now()._cells(vectors, rows)  # noqa: SLF001  # of its own class
        return lambda: cells

    def request(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer], pixels: PixelRange
    ) -> Values:
        """Begin to read values; the call returned waits and gives them, 2D[nrow, npix] each.

        ``pixels`` are lattice pixels inside `window`.
        """
        if (now := self._now()) is not self:
            return now.request(vectors, rows, pixels)
        cut = slice(pixels.first - self.start, pixels.stop - self.start)
        read = dict.fromkeys(self._with_shared(vectors))
        cells = self._cells(read, rows)

        def gather(room: Room | None = None) -> Mapping[str, Any]:
            # TensorStore takes twice as long for single rows.
            shape = (len(rows), cut.stop - cut.start)
            direct = None if self._like.keys() & read.keys() else room
            make: Callable[..., Any] = direct or (lambda _, dtype: np.empty(shape, dtype))
            values = {name: make(name, self._dtypes[name]) for name in read}
            cells.decode(values, self.npix, cut)
            if direct:
                return values
            return lay({name: self._whole(name, values, pixels) for name in vectors}, room)

        return gather

    def unreadable(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """Read rows of some vectors; return which rows are damaged in any of them, 1D[n] bool."""
        try:
            cells = self._now()._cells(self._with_shared(vectors), rows)  # noqa: SLF001  # as above
            return cells.unreadable()
        except DamagedFile:
            # A whole shard, perhaps one of several; or rows that it does not have.
            if len(rows) == 1:
                return np.ones(1, np.bool_)
            return np.concatenate(
                [self.unreadable(vectors, rows[at : at + 1]) for at in range(len(rows))]
            )

    def _with_shared(self, vectors: Iterable[str]) -> list[str]:
        """Return vectors and those that they are like."""
        return [*vectors, *(self._like[name]["like"] for name in vectors if name in self._like)]

    def _cells(self, vectors: Iterable[str], rows: npt.NDArray[np.integer]) -> StoredCells:
        """Return the frames of some rows of vectors, yet to be read."""
        names = {*vectors}
        again = partial(self._cells, names, rows)
        return find_cells(self._held(names), by_shard(rows, self._named), self._written, again)

    def _held(self, names: Container[str]) -> list[tuple[FrameArray, tuple[str, ...]]]:
        """Return the arrays that hold some vectors, and which of these each holds."""
        return [
            (array, found)
            for array in self._frame_arrays
            if (found := tuple(name for name in array.vectors if name in names))
        ]

    def _now(self) -> "Segment":
        """Return the segment in the format of its record, which a migration replaces."""
        newest = self.info.format_version == FORMAT_VERSION
        return (
            self
            if newest or self._state == self.folder.record.state()
            else open_segment(self.folder)
        )

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

    @property
    def window(self) -> PixelRange:
        """Lattice pixels that the arrays cover."""
        return PixelRange(self.start, self.start + self.npix)

    def verify(self) -> int:
        """Read every array against its checksums; return the bytes decoded.

        A `DamagedFile` names the array and the first spectra that cannot be read.
        """
        nbytes = 0
        for held in self._frame_arrays:
            small = _SmallFiles(self.arrays, (), [held.folder.name])
            array = small.opened(held.folder.name)
            for at in range(0, self.nspec, SHARD):
                stop = min(at + SHARD, self.nspec)
                name = f"{held.folder.name}/{held.shard(at // SHARD)}"
                try:
                    with small.having(name):
                        nbytes += array[at:stop].read().result().nbytes
                except ValueError as error:
                    reason = f"not all of rows {at} … {stop - 1} can be read"
                    raise self._damaged(name, reason) from error
        return nbytes


class _AnnouncingSegment(Segment):
    """A segment whose requests start to fetch their bytes, and return no values."""

    def __init__(self, segment: Segment) -> None:
        self.__dict__.update(segment.__dict__)

    @override
    def _now(self) -> Segment:
        now = super()._now()
        return now if now is self else _AnnouncingSegment(now)

    @override
    def _cells(self, vectors: Iterable[str], rows: npt.NDArray[np.integer]) -> StoredCells:
        names = {*vectors}
        again = partial(self._cells, names, rows)
        return begin_cells(self._held(names), by_shard(rows, self._named), again)


class _SmallFiles:
    """Arrays of a group that TensorStore decodes in memory: their files are read at once.

    Parameters
    ----------
    lines : 1-D arrays, which have one chunk
    others : arrays of which only the metadata is read
    """

    def __init__(self, group: Folder, lines: Sequence[str], others: Sequence[str]) -> None:
        self._group = group
        self._context = ts.Context()
        # Chunks are read once and handed on: caching them would only hold memory.
        self._kept = ts.KvStore.open({"driver": "memory"}, context=self._context).result()
        names = [f"{name}/{GROUP}" for name in (*lines, *others)]
        names += [f"{name}/{_CHUNK}" for name in lines]
        try:
            contents = group.read_many(names)
        except OSError:
            # One after the other, to learn which it is.
            contents = [self._read(name) for name in names]
        for name, content in zip(names, contents, strict=True):
            # TensorStore writes no chunk of which all values are the fill value.
            if content is not None:
                self._kept[name] = content

    def _read(self, name: str) -> bytes:
        """Return the bytes of a file of the group."""
        entry = self._group.entry(name)
        try:
            return entry.read()
        except OSError as error:
            raise entry.damaged(f"cannot be read ({error.strerror})") from error

    def opened(self, name: str) -> Any:
        """Return an array as TensorStore opens it."""
        spec = {"driver": "zarr3", "kvstore": {"driver": "memory", "path": f"{name}/"}}
        try:
            return ts.open(spec, read=True, context=self._context).result()
        except ValueError as error:
            raise self._group.entry(f"{name}/{GROUP}").damaged("cannot be read") from error

    def line(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a 1-D array."""
        array = self.opened(name)
        entry = self._group.entry(f"{name}/{_CHUNK}")
        if array.chunk_layout.read_chunk.shape != array.shape and array.size:
            raise entry.damaged("has not all values")
        try:
            values: npt.NDArray[Any] = array.read().result()
        except ValueError as error:
            raise entry.damaged("cannot be read") from error
        return values

    @contextmanager
    def having(self, name: str) -> Iterator[None]:
        """Hold the bytes of another file, so that it can be decoded."""
        self._kept[name] = self._read(name)
        try:
            yield
        finally:
            del self._kept[name]


def open_segment(folder: SegmentFolder) -> Segment:
    """Return a segment open for reading; the same object while its commit record is the same."""
    return _open_segment(folder, folder.record.state())


@lru_cache(maxsize=_OPEN_SEGMENTS)
def _open_segment(folder: SegmentFolder, state: Identity) -> Segment:
    """Return a segment as it is at a time."""
    del state
    return Segment(folder)
