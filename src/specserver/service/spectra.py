"""From places to spectra, a batch at a time: compressed cells, or records."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import UnknownField
from ..model.grid import PixelRange, cutout
from ..model.survey import Survey, Vector
from ..ops.record import fill_records
from ..store.base import SpectrumStore
from .names import NAME, file_names
from .selection import Selection

BATCH: Final = 256
"""Spectra read at once: some 35 MB decoded, the memory that one request holds."""
REDSHIFT: Final = "@redshift"
"""Column name that stands for the survey's redshift."""


@dataclass(frozen=True, slots=True)
class CellBatch:
    """Encoded spectra of one batch; the columns of docs/wire.md."""

    ids: npt.NDArray[Any]
    contexts: list[str]
    start: npt.NDArray[np.int32]
    width: npt.NDArray[np.int32]
    first: npt.NDArray[np.int32]
    count: npt.NDArray[np.int32]
    on_lattice: npt.NDArray[np.bool_]
    cells: dict[str, list[bytes | memoryview | None]]
    columns: pa.Table | None


def wanted_vectors(survey: Survey, names: Sequence[str] | None) -> tuple[Vector, ...]:
    """Return the vectors asked for, in record order, the axis included when it was."""
    if names is None:
        return survey.record
    known = [vector.name for vector in survey.record]
    wanted = {name.strip().lower() for name in names}
    for name in names:
        if name.strip().lower() not in known:
            raise UnknownField(name, known)
    return tuple(vector for vector in survey.record if vector.name in wanted)


def cut_pixels(
    selection: Selection, limits_aa: tuple[float, float] | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return first pixel and count of each spectrum after a cutout; off the lattice unchanged."""
    if limits_aa is None:
        return selection.first, selection.count
    pixels = cutout(selection.grid, *limits_aa)
    first = np.maximum(selection.first, pixels.first)
    stop = np.minimum(selection.first + selection.count, pixels.stop)
    on = selection.on_lattice
    empty = stop <= first
    first = np.where(on, np.where(empty, pixels.first, first), selection.first)
    count = np.where(on, np.maximum(stop - first, 0), selection.count)
    count = np.where(on & empty, 0, count)
    return first.astype(np.int32), count.astype(np.int32)


def read_cells(
    selection: Selection,
    vectors: Sequence[Vector],
    limits_aa: tuple[float, float] | None,
    columns: Sequence[str],
) -> Iterator[CellBatch]:
    """Yield batches of encoded spectra: the store's own frames, or raw values of a cutout."""
    stored = [vector.name for vector in vectors if vector.name != selection.grid.axis]
    first, count = cut_pixels(selection, limits_aa)
    # A name depends on those of all others, so it is no matter of one batch.
    names = file_names(selection) if NAME in columns else None
    for at in range(0, selection.nspec, BATCH):
        take = np.arange(at, min(at + BATCH, selection.nspec))
        place = _Cells(selection, take, stored, first, count)
        if limits_aa is None:
            place.read_frames()
        else:
            place.read_cut(limits_aa)
        yield CellBatch(
            ids=selection.ids[take],
            contexts=[selection.holdings[n].release.context for n in selection.holding[take]],
            start=place.start,
            width=place.width,
            first=place.first,
            count=place.count,
            on_lattice=selection.on_lattice[take],
            cells=place.cells,
            columns=_columns(selection, columns, take, names) if columns else None,
        )


def _columns(
    selection: Selection,
    columns: Sequence[str],
    take: npt.NDArray[np.int64],
    names: Sequence[str] | None,
) -> pa.Table:
    """Return catalogue columns of a batch, and the names of its files where they are asked for."""
    found: dict[str, Any] = {}
    if names is not None:
        found[NAME] = pa.array([names[index] for index in take.tolist()], pa.string())
    if stored := [one for one in columns if one != NAME]:
        table = read_columns(selection, stored, take)
        found |= dict(zip(table.column_names, table.columns, strict=True))
    return pa.table({one: found[one] for one in columns})


class _Cells:
    """The cells of one batch while they are being gathered from their segments."""

    def __init__(
        self,
        selection: Selection,
        take: npt.NDArray[np.int64],
        stored: Sequence[str],
        first: npt.NDArray[np.int32],
        count: npt.NDArray[np.int32],
    ) -> None:
        self.axis = selection.grid.axis
        self.stored = stored
        self.groups = list(_by_segment(selection, take))
        self.first, self.count = first[take].copy(), count[take].copy()
        self.start = np.zeros(len(take), np.int32)
        self.width = np.zeros(len(take), np.int32)
        # The axis travels only for spectra that have their own.
        names = [*stored, self.axis] if not selection.on_lattice.all() else list(stored)
        self.cells: dict[str, list[bytes | memoryview | None]] = {
            name: [None] * len(take) for name in names
        }

    def names(self, segment: SpectrumStore) -> list[str]:
        """Return the arrays to read of a segment."""
        return [*self.stored] if segment.on_lattice else [*self.stored, self.axis]

    def read_frames(self) -> None:
        """Gather whole rows as the store's own compressed frames."""
        pending = [
            (segment, where, segment.request_cells(self.names(segment), rows))
            for segment, where, rows in self.groups
        ]
        for segment, where, result in pending:
            self.start[where] = segment.start
            self.width[where] = segment.npix
            for name, frames in result().items():
                for index, frame in zip(where.tolist(), frames, strict=True):
                    self.cells[name][index] = frame

    def read_cut(self, limits_aa: tuple[float, float]) -> None:
        """Gather raw values between two wavelengths."""
        for segment, where, rows in self.groups:
            if segment.on_lattice:
                wanted = cutout(segment.grid, *limits_aa)
                pixels = PixelRange(
                    max(wanted.first, segment.window.first), min(wanted.stop, segment.window.stop)
                )
                if pixels.count == 0:
                    continue
                self.start[where] = pixels.first
                self.width[where] = pixels.count
                values = segment.request(self.names(segment), rows, pixels)()
                for name, block in values.items():
                    for index, line in zip(where.tolist(), block, strict=True):
                        self.cells[name][index] = line.tobytes()
            else:
                self._cut_own(segment, where, rows, limits_aa)

    def _cut_own(
        self,
        segment: SpectrumStore,
        where: npt.NDArray[np.int64],
        rows: npt.NDArray[np.int32],
        limits_aa: tuple[float, float],
    ) -> None:
        """Gather raw values of spectra that have their own wavelengths."""
        values = segment.request(self.names(segment), rows, segment.window)()
        for line, index in enumerate(where.tolist()):
            axis = values[self.axis][line, : self.count[index]]
            inside = own_cut(segment, axis, limits_aa)
            self.count[index] = self.width[index] = inside.stop - inside.start
            for name, block in values.items():
                self.cells[name][index] = block[line, inside].tobytes()


def own_cut(
    segment: SpectrumStore, axis: npt.NDArray[Any], limits_aa: tuple[float, float]
) -> slice:
    """Return the run of values of a spectrum's own axis between two wavelengths, vacuum Å."""
    wave = axis.astype(np.float64)
    if segment.grid.kind == "log10":
        wave = np.power(10.0, wave)
    inside = np.flatnonzero((wave >= limits_aa[0]) & (wave <= limits_aa[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)


def read_columns(
    selection: Selection, columns: Sequence[str], take: npt.NDArray[np.int64]
) -> pa.Table:
    """Return catalogue columns of some spectra of a selection, named as asked for, each once."""
    parts = []
    order = []
    columns = list(dict.fromkeys(columns))
    # Without a spectrum the first catalogue still says of which types its columns are.
    for number in np.unique(selection.holding[take]).tolist() or [0]:
        holding = selection.holdings[number]
        mine = np.flatnonzero(selection.holding[take] == number)
        names = [
            holding.catalog.spelling(holding.survey.z_column if one == REDSHIFT else one)
            for one in columns
        ]
        rows = selection.rows[take][mine]
        found = holding.catalog.columns_of(list(dict.fromkeys(names)), rows)
        parts.append(pa.table([found.column(name) for name in names], names=columns))
        order.append(mine)
    back = np.argsort(np.concatenate(order))
    return pa.concat_tables(parts, promote_options="permissive").take(pa.array(back))


def read_records(
    selection: Selection,
    vectors: Sequence[Vector],
    limits_aa: tuple[float, float] | None,
    window: PixelRange | None = None,
) -> Iterator[list[npt.NDArray[Any]]]:
    """Yield batches of records: one 1-D structured array a spectrum, in the survey's order.

    With ``window`` every array covers exactly those lattice pixels, zero where there is no data.
    """
    dtype = np.dtype([(vector.name, vector.dtype) for vector in vectors])
    stored = [vector.name for vector in vectors if vector.name != selection.grid.axis]
    first, count = cut_pixels(selection, limits_aa)
    for at in range(0, selection.nspec, BATCH):
        take = np.arange(at, min(at + BATCH, selection.nspec))
        batch: list[npt.NDArray[Any]] = [np.empty(0, dtype)] * len(take)
        groups = [
            (segment, where, _request_whole(segment, stored, selection.grid.axis, rows))
            for segment, where, rows in _by_segment(selection, take)
        ]
        for segment, where, result in groups:
            values = result()
            for line, index in enumerate(where.tolist()):
                one = {name: block[line] for name, block in values.items()}
                pixels = PixelRange(
                    int(first[at + index]), int(first[at + index] + count[at + index])
                )
                if not segment.on_lattice and limits_aa is not None:
                    own = one[selection.grid.axis][: pixels.count]
                    cut = own_cut(segment, own, limits_aa)
                    pixels = PixelRange(cut.start, cut.stop)
                batch[index] = fill_records(dtype, segment.grid, segment.start, one, pixels, window)
        yield batch


def _request_whole(segment: SpectrumStore, stored: Sequence[str], axis: str, rows: Any) -> Any:
    """Begin to read whole rows of a segment, with their own axis where they have one."""
    names = [*stored] if segment.on_lattice else [*stored, axis]
    return segment.request(names, rows, segment.window)


def _by_segment(
    selection: Selection, take: npt.NDArray[np.int64]
) -> Iterator[tuple[SpectrumStore, npt.NDArray[np.int64], npt.NDArray[np.int32]]]:
    """Yield each segment with the indices into ``take`` that it holds, and its rows."""
    numbers = selection.segment[take]
    for number in np.unique(numbers).tolist():
        where = np.flatnonzero(numbers == number)
        yield selection.segments[number], where, selection.row[take][where]
