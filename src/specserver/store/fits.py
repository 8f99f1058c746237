"""The ``fits`` driver: spectra read on the fly from a tree of original files, without an ingest.

A tree is declared by one small file in the data folder (`store.trees`). Where a
file of the tree lies is computed from the identifier by the survey's `TreeLayout`; nothing of a
request but whole numbers and a reduction of the declared list enters a path.

Reading a file costs some milliseconds where a segment costs microseconds: a tree is for what is
looked at now and then, an ingest for what is worked with.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numcodecs import Blosc

from ..damage import damaged
from ..errors import BadFile, DamagedSpectrum, StoreError
from ..model.grid import Grid, PixelRange
from ..model.survey import RawSpectrum, Release, Survey, TreeLayout
from ..ops.reading import read_spectra
from .base import HeldCells, Room, Values, lay
from .trees import Fingerprints

_KEPT_SPECTRA: Final = 64
"""Files kept in memory, so that one request reads a file once: some 10 MB."""
_KEPT_PLACES: Final = 100_000
_KEPT_FOLDERS: Final = 64
"""Folders whose names are kept: one has some thousand files at most."""
_THREADS: Final = 4
"""Files read at the same time: network file systems take their time for each."""
_FOLDERS_S: Final = 60.0
"""Seconds for which the list of a tree's folders is kept."""


@dataclass(frozen=True, slots=True)
class TreeFile:
    """One spectrum of a tree."""

    path: Path
    id: int


@dataclass(frozen=True, slots=True)
class FilePlace:
    """Place of the values of a file on the survey's lattice."""

    first: int
    """0 off the lattice."""
    count: int
    on_lattice: bool


class FitsTree:
    """A tree of one release's original files; safe to share between threads.

    Parameters
    ----------
    reductions : the only ones that are served
    nfiles : spectra found when the tree was declared
    follow_links : whether links may lead out of the folder
    fingerprints : what the files were like when the tree was declared
    """

    def __init__(
        self,
        root: Path,
        survey: Survey,
        release: Release,
        reductions: Sequence[str],
        *,
        nfiles: int = 0,
        follow_links: bool = False,
        fingerprints: Fingerprints | None = None,
    ) -> None:
        if survey.tree is None or survey.pack is None or survey.unpack is None:
            raise StoreError(str(root), f"{survey.name} cannot be served from a tree of its files")
        self.root = root
        self.survey = survey
        self.release = release
        self.reductions = tuple(reductions)
        self.nfiles = nfiles
        self._layout: TreeLayout = survey.tree
        self._pack, self._unpack = survey.pack, survey.unpack
        self._follow_links = follow_links
        self._fingerprints = fingerprints
        self._real_root = root.resolve()
        self._folders: dict[str, tuple[float, list[tuple[Path, str]]]] = {}
        self._read = lru_cache(_KEPT_SPECTRA)(self._read_file)
        self._measure = lru_cache(_KEPT_PLACES)(self._measure_file)
        self._by_numbers = lru_cache(_KEPT_FOLDERS)(self._list_folder)

    def find(self, numbers: Sequence[int], reduction: str) -> TreeFile | None:
        """Return the file of a complete tuple, or None when the tree has none."""
        if reduction not in self.reductions:
            return None
        fields = dict(zip(self.survey.id_parts, numbers, strict=False))
        for parent, leaf in self._parents(reduction):
            folder = parent / leaf.format(**fields)
            for name in self._layout.names:
                path = folder / name.format(**fields)
                if path.is_file() and self._is_inside(path):
                    return TreeFile(path, self._pack(tuple(numbers), reduction))
            unusual = self._unusual(folder, tuple(numbers))
            if unusual is not None and self._is_inside(unusual):
                return TreeFile(unusual, self._pack(tuple(numbers), reduction))
        return None

    def _unusual(self, folder: Path, numbers: tuple[int, ...]) -> Path | None:
        """Return the file of a folder whose name, spelt otherwise than the layout's, is meant."""
        try:
            changed = folder.stat().st_mtime_ns
        except OSError:
            return None
        path = self._by_numbers(folder, changed).get(numbers)
        return path if path is not None and path.is_file() else None

    def _list_folder(self, folder: Path, mtime_ns: int) -> dict[tuple[int, ...], Path]:
        """Return the files of a folder by what their names say, as it is since a time."""
        del mtime_ns
        keys = (self.survey.reader.identify(folder / name) for name in reversed(_listed(folder)))
        return {key.group: key.path for key in keys if key is not None}

    def find_ids(self, ids: npt.NDArray[Any]) -> list[TreeFile | None]:
        """Return the file of each identifier, 1D[n]; None where the tree has none."""
        parts = self._unpack(ids)
        columns = [parts[name].tolist() for name in self.survey.id_parts]
        found = []
        for number, (*numbers, reduction) in zip(
            ids.tolist(), zip(*columns, strict=True), strict=True
        ):
            file = self.find(numbers, str(reduction))
            # An identifier may have bits beyond its tuple: then it is another spectrum's.
            found.append(file if file is not None and file.id == number else None)
        return found

    def search(
        self, wanted: Callable[[int, int], bool], reductions: Sequence[str] | None
    ) -> Iterator[tuple[tuple[int, ...], str]]:
        """Yield the tuples of the files that there are, each once.

        Parameters
        ----------
        wanted : returns whether a number is wanted as the part at an index
        reductions : the only ones to look for, or None for all of the tree
        """
        chosen = self.reductions if reductions is None else reductions
        for reduction in (known for known in self.reductions if known in chosen):
            seen = set()
            for parent, leaf in self._parents(reduction):
                for folder in _groups(parent, leaf, self.survey.id_parts[0], wanted):
                    for name in _listed(folder):
                        key = self.survey.reader.identify(folder / name)
                        if key is None or key.group in seen:
                            continue
                        if all(wanted(index, part) for index, part in enumerate(key.group)):
                            seen.add(key.group)
                            yield key.group, reduction

    def measure(self, files: Sequence[TreeFile]) -> list[FilePlace]:
        """Return where the values of files lie, reading those not seen before.

        A `DamagedSpectrum` names all whose files cannot be read.
        """

        def measured(file: TreeFile) -> FilePlace | StoreError:
            try:
                return self._measure(file, *_version(file.path))
            except StoreError as error:
                return error

        places: list[FilePlace] = []
        faults: dict[int, StoreError] = {}
        for file, place in zip(files, _pool().map(measured, files), strict=True):
            if isinstance(place, StoreError):
                faults[file.id] = place
            else:
                places.append(place)
        if faults:
            first = next(iter(faults.values()))
            raise DamagedSpectrum(self.release.context, list(faults), first) from first
        return places

    def read(self, file: TreeFile) -> RawSpectrum:
        """Return the spectrum of a file.

        Raises `DamagedSpectrum` if it cannot be read or is not the one that its place says.
        """
        with self._naming(file):
            return self._read(file, *_version(file.path))

    def about(self, file: TreeFile) -> dict[str, str | int]:
        """Return the hidden columns of a file: path, size, time of change; errors as in `read`."""
        with self._naming(file):
            size, mtime_ns = _version(file.path)
            self._read(file, size, mtime_ns)
        about: dict[str, str | int] = {
            "_source": str(file.path),
            "_size": size,
            "_mtime_ns": mtime_ns,
        }
        row = None if self._fingerprints is None else self._fingerprints.of(file.id, size, mtime_ns)
        return about if row is None else {**about, "_crc": int(row["crc"])}

    @contextmanager
    def _naming(self, file: TreeFile) -> Iterator[None]:
        """Make errors of reading a file name its spectrum."""
        try:
            yield
        except StoreError as error:
            raise DamagedSpectrum(self.release.context, [file.id], error) from error

    def folders(self) -> dict[str, list[Path]]:
        """Return the folders of spectra that the tree has of each of its reductions."""
        return {
            reduction: [parent for parent, _ in self._parents(reduction)]
            for reduction in self.reductions
        }

    def _parents(self, reduction: str) -> list[tuple[Path, str]]:
        """Return the folders of a reduction that exist, with the template of what is in them."""
        until, known = self._folders.get(reduction, (0.0, []))
        if not known or time.monotonic() > until:
            fields = {
                "release": self.release.context.rpartition("_")[2],
                self.survey.id_parts[-1]: reduction,
            }
            known = []
            for template in self._layout.folders:
                head, _, leaf = template.rpartition("/")
                parent = self.root / head.format(**fields)
                if parent.is_dir():
                    known.append((parent, leaf))
            if not known and not self.root.is_dir():
                # Not the same as files that are not there: the disk may be away for a while.
                raise StoreError(str(self.root), "the tree of original files is out of reach")
            self._folders[reduction] = (time.monotonic() + _FOLDERS_S, known)
        return known

    def _is_inside(self, path: Path) -> bool:
        """Return whether a file lies in the tree also when links are followed."""
        return self._follow_links or path.resolve().is_relative_to(self._real_root)

    def _read_file(self, file: TreeFile, size: int, mtime_ns: int) -> RawSpectrum:
        """Read a file of a size and time of change, which stand for its content in the cache."""
        if self._fingerprints is not None:
            self._fingerprints.check(file.id, file.path, size, mtime_ns)
        try:
            found = read_spectra(self.survey.reader, file.path)
        except (BadFile, OSError) as error:
            raise damaged(file.path, str(error)) from error
        for spectrum in found:
            if spectrum.id == file.id:
                return spectrum
        held = ", ".join(str(spectrum.id) for spectrum in found)
        raise damaged(file.path, f"holds {held}, its place in the tree says {file.id}")

    def _measure_file(self, file: TreeFile, size: int, mtime_ns: int) -> FilePlace:
        """Return where the values of a file lie."""
        axis = self._read(file, size, mtime_ns).axis
        first = self.survey.lattice_start(axis)
        return FilePlace(first or 0, len(axis), first is not None)


class FitsBlock:
    """Some files of a tree as rows of a store; all on the lattice, or all off it."""

    announcing = None

    def __init__(
        self, tree: FitsTree, files: Sequence[TreeFile], places: Sequence[FilePlace]
    ) -> None:
        self._tree = tree
        self._files = list(files)
        self.ids = np.array([file.id for file in files], tree.survey.id_column.dtype)
        self.grid: Grid = tree.survey.grid
        self.on_lattice = places[0].on_lattice
        self.first = np.array([place.first for place in places], np.int32)
        self.count = np.array([place.count for place in places], np.int32)
        window = tree.survey.window
        self.window = window if self.on_lattice else PixelRange(0, int(self.count.max()))
        self.start = self.window.first
        self.npix = self.window.count
        self._dtypes = {vector.name: vector.dtype for vector in tree.survey.record}

    def unreadable(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> npt.NDArray[np.bool_]:
        """Return that no row is damaged, 1D[n]: a file was read when it was given its place."""
        del vectors
        return np.zeros(len(rows), np.bool_)

    def request_cells(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer]
    ) -> Callable[[], HeldCells]:
        """Begin to read and compress whole rows, as a segment has them stored."""
        codec = Blosc(cname="lz4", clevel=5, shuffle=Blosc.BITSHUFFLE)

        def frames(row: int) -> list[bytes]:
            values = self._values(row, vectors, self.window)
            return [bytes(codec.encode(values[name])) for name in vectors]

        pending = [_pool().submit(frames, int(row)) for row in rows]
        return lambda: HeldCells(
            {
                name: [future.result()[index] for future in pending]
                for index, name in enumerate(vectors)
            }
        )

    def request(
        self, vectors: Sequence[str], rows: npt.NDArray[np.integer], pixels: PixelRange
    ) -> Values:
        """Begin to read values; the call returned waits and gives them, 2D[nrow, npix] each."""
        pending = [_pool().submit(self._values, int(row), vectors, pixels) for row in rows]

        def gather(room: Room | None = None) -> Mapping[str, Any]:
            lines = [future.result() for future in pending]
            return lay({name: np.array([line[name] for line in lines]) for name in vectors}, room)

        return gather

    def _values(
        self, row: int, vectors: Sequence[str], pixels: PixelRange
    ) -> dict[str, npt.NDArray[Any]]:
        """Return vectors of one row on some pixels, zero where it has no value."""
        file = self._files[row]
        spectrum = self._tree.read(file)
        if len(spectrum.axis) != self.count[row]:
            raise StoreError(str(file.path), "it changed while it was being read; ask again")
        begin = int(self.first[row])
        low, high = max(begin, pixels.first), min(begin + len(spectrum.axis), pixels.stop)
        out = {}
        for name in vectors:
            values = spectrum.axis if name == self.grid.axis else spectrum.vectors[name]
            out[name] = np.zeros(pixels.count, self._dtypes[name])
            if high > low:
                out[name][low - pixels.first : high - pixels.first] = values[
                    low - begin : high - begin
                ]
        return out


@cache
def _pool() -> ThreadPoolExecutor:
    """Return the threads that read files for all requests of this process."""
    return ThreadPoolExecutor(_THREADS, "specserver-fits")


def _version(path: Path) -> tuple[int, int]:
    """Return size and time of last change of a file."""
    try:
        status = path.stat()
    except OSError as error:
        raise StoreError(str(path), f"cannot be read ({error.strerror})") from error
    return status.st_size, status.st_mtime_ns


def _listed(folder: Path) -> list[str]:
    """Return the names in a folder, in order; none when it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries)
    except OSError:
        return []


def _groups(
    parent: Path, leaf: str, part: str, wanted: Callable[[int, int], bool]
) -> Iterator[Path]:
    """Yield the folders of a parent whose name holds a wanted first part."""
    for name in _listed(parent):
        if name.isdecimal() and leaf.format(**{part: int(name)}) == name and wanted(0, int(name)):
            yield parent / name
