"""The wire → arrays: a stream of compressed chunks into the published structured arrays.

A batch is decompressed as soon as it has come, while the service and the network prepare the next:
besides the result no more than one is in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import MixedLattices, StoreError, naming
from ...model.grid import Grid, PixelRange
from ...wire.batches import ANSWER, Readable, open_answer, read_batches
from ...wire.columns import CATALOG_PREFIX, ID, PART
from ...wire.head import PartsHead, StreamHead, from_metadata, read_spectra_head
from ...wire.numeric import view
from ...wire.single import SingleSpectrum
from .cells import (
    Axis,
    BatchRows,
    FieldCells,
    Ints,
    cells_of,
    fill,
    open_cells,
    read_rows,
    rows_of,
)
from .columns import Piece, join_pieces, read_piece


@dataclass(frozen=True, slots=True)
class Spectra:
    """A decoded stream: the spectra, and the values that describe each.

    A batch of some hundred unaligned spectra is one block of memory. Each spectrum is a view of it
    and keeps it in memory: copy a spectrum that is to be kept long.
    """

    head: StreamHead
    data: list[npt.NDArray[Any]] | npt.NDArray[Any]
    """A list of 1D[npix], or aligned 2D[nspec, npix]; structured by ``head.dtype``."""
    ids: npt.NDArray[Any]
    """1D[nspec] int, as the survey types them."""
    contexts: list[str]
    """Release that holds each spectrum."""
    first: Ints
    """1D[nspec] int64, lattice pixel of the first value of each unaligned spectrum."""
    on_lattice: npt.NDArray[np.bool_]
    """1D[nspec] bool; False where a spectrum has its own wavelengths."""
    columns: dict[str, npt.NDArray[Any]]
    """1D[nspec] each: the catalogue columns asked for."""
    media: list[str] = field(default_factory=list)
    """Medium of the wavelengths of each: ``vacuum``, ``air`` or ``unknown``."""
    places: Ints = field(default_factory=lambda: np.empty(0, np.int64))
    """1D[nspec] int64, position of each in the caller's list, if there are several parts."""

    def wave(self, index: int, record: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return wavelengths, 1D[npix] float64, Å in the medium of ``record``, ``data[index]``.

        Spectra on the lattice share them: they are read-only.
        """
        grid, span = self.head.grid, self.head.span
        if not self.on_lattice[index]:
            return grid.wave_of(record[grid.axis])
        is_aligned = isinstance(self.data, np.ndarray)
        begin = 0 if is_aligned else int(self.first[index]) - span.first
        return _lattice_wave(grid, span)[begin : begin + len(record)]


@lru_cache(maxsize=4)
def _lattice_wave(grid: Grid, pixels: PixelRange) -> npt.NDArray[np.float64]:
    """Return the wavelengths of a lattice, 1D[npix] float64, Å; they cannot be written to."""
    wave = grid.wave(pixels.first, pixels.count)
    wave.flags.writeable = False
    return wave


def decode_parts(
    source: Readable,
    *,
    values: Sequence[str] | None = None,
    align: bool = False,
    tell: Callable[[int, int], None] | None = None,
) -> list[Spectra]:
    """Decode a bulk answer while it arrives.

    Parameters
    ----------
    values
        Fields of the result, the spectral axis among them where it is wanted; None for all.
    align
        Whether to lay all spectra on their common lattice, zeros where one has no data.
    tell
        Called with the number of spectra that came, and of all.

    Returns
    -------
    list of Spectra
        One of spectra on one lattice, else one for each survey.

    Raises
    ------
    StoreError
        The answer was cut off or is damaged.
    DamagedSpectrum
        The service found one while it sent the answer.
    MixedLattices
        ``align`` with a spectrum that lies off the lattice.
    UnknownField
        A value that the record does not have.
    """
    sinks: list[_Sink] = []

    def done() -> int:
        return sum(sink.nspec for sink in sinks)

    with open_answer(source, lambda: f"after {done():,} spectra") as reader:
        head = read_spectra_head(from_metadata(reader.schema.metadata))
        sinks += [_Sink(part, align=align) for part in _parts(head, values)]
        for batch, _ in read_batches(reader):
            batch.validate(full=True)
            sinks[_part_of(batch)].accept(batch)
            if tell is not None:
                tell(done(), head.nspec)
        kinds = reader.schema
    if done() != head.nspec:
        raise StoreError(ANSWER, f"cut off: {done():,} of {head.nspec:,} spectra came; ask again")
    return [sink.spectra(kinds) for sink in sinks]


def decode_single(
    body: bytes, *, values: Sequence[str] | None = None, align: bool = False
) -> Spectra:
    """Decode the answer for a single spectrum; parameters and errors: those of `decode_parts`."""
    spectrum = SingleSpectrum.from_bytes(body, values)
    # Before room is made: numbers that are damaged may ask for much.
    rows = rows_of(spectrum)
    sink = _Sink(spectrum.head, align=align)
    sink.lay(rows, partial(cells_of, spectrum))
    return sink.spectra()


def decode_batches(
    source: Readable, *, values: Sequence[str] | None = None, align: bool = False
) -> Iterator[tuple[StreamHead | PartsHead, Spectra]]:
    """Yield the spectra of a bulk answer a batch at a time, and keep none of them.

    Parameters and errors are those of `decode_parts`. With each batch comes the head of the answer;
    an answer without spectra is one empty batch.
    """
    done = 0
    with open_answer(source, lambda: f"after {done:,} spectra") as reader:
        head = read_spectra_head(from_metadata(reader.schema.metadata))
        parts = _parts(head, values)
        if head.nspec == 0:
            yield head, _Sink(parts[0], align=align).spectra(reader.schema)
        for batch, _ in read_batches(reader):
            batch.validate(full=True)
            part = replace(parts[_part_of(batch)], nspec=batch.num_rows)
            sink = _Sink(part, align=align, alone=head.nspec == 1)
            sink.accept(batch)
            done += sink.nspec
            yield head, sink.spectra(reader.schema)
    if done != head.nspec:
        raise StoreError(ANSWER, f"cut off: {done:,} of {head.nspec:,} spectra came; ask again")


def _parts(head: StreamHead | PartsHead, values: Sequence[str] | None) -> list[StreamHead]:
    """Return the head of each part of an answer, cut to the fields wanted.

    The first says which identifiers of the whole answer are left out.
    """
    if isinstance(head, StreamHead):
        return [head.select(values)]
    first = replace(head.parts[0], missing=head.missing, damaged=head.damaged)
    parts = [first, *(replace(part, missing=(), damaged=()) for part in head.parts[1:])]
    found = []
    for part in parts:
        with naming([part.context]):
            found.append(part.select(values))
    return found


def _part_of(batch: pa.RecordBatch) -> int:
    """Return which part of the answer a batch belongs to."""
    if PART not in batch.schema.names or not batch.num_rows:
        return 0
    return int(view(batch.column(PART))[0])


class _Sink:
    """Takes batches in order, makes room for each, and keeps the columns of its spectra.

    Spectra of their own lengths: a batch is one block, a spectrum a view into it. Aligned spectra:
    one array, made once; a spectrum that is ``alone`` needs no lattice.
    """

    def __init__(self, head: StreamHead, *, align: bool, alone: bool | None = None) -> None:
        self.nspec = 0
        self._head = head
        self._align = align
        self._alone = head.nspec == 1 if alone is None else alone
        self._lattice = head.grid.axis_values(head.span.first, head.span.count)
        self._loose: list[npt.NDArray[Any]] = []
        # Every pixel is written, by a spectrum or beside it.
        self._aligned: npt.NDArray[Any] = np.empty(
            (head.nspec, head.span.count) if align else (0, 0), dtype=head.dtype
        )
        self._rows: list[BatchRows] = []
        self._columns: dict[str, list[Piece]] = {}

    def accept(self, batch: pa.RecordBatch) -> None:
        """Make room for a batch and decode it there."""
        self.lay(read_rows(batch, self._head), partial(open_cells, batch))
        for name in batch.schema.names:
            if name.startswith(CATALOG_PREFIX):
                self._columns.setdefault(name, []).append(read_piece(batch.column(name)))

    def lay(self, rows: BatchRows, open_: Callable[[str], FieldCells]) -> None:
        """Make room for some spectra and decode them there; ``open_`` returns cells of a vector."""
        if self.nspec + len(rows.ids) > self._head.nspec:
            raise StoreError(ANSWER, f"damaged: more than {self._head.nspec:,} spectra came")
        flat, at = self._place_aligned(rows) if self._align else self._place_loose(rows)
        self._rows.append(rows)
        self.nspec += len(rows.ids)
        name, first = self._head.grid.axis, self._head.span.first
        axis = Axis(name, self._lattice, first) if name in self._head.names else None
        fill(rows, flat, at, self._cells(open_, rows), axis, self._head.codec)

    def _place_loose(self, rows: BatchRows) -> tuple[npt.NDArray[Any], list[int]]:
        """Return a block for a batch, and where in it each spectrum begins."""
        stops = np.cumsum(rows.count)
        starts = (stops - rows.count).tolist()
        flat = np.empty(int(rows.count.sum()), dtype=self._head.dtype)
        self._loose += [
            flat[start:stop] for start, stop in zip(starts, stops.tolist(), strict=True)
        ]
        return flat, starts

    def _place_aligned(self, rows: BatchRows) -> tuple[npt.NDArray[Any], list[int]]:
        """Return the array, flat, and where in it each spectrum begins; write what lies beside."""
        dtype, span = self._head.dtype, self._head.span
        if not rows.on_lattice.all() and self._alone:
            self._aligned = np.empty((1, int(rows.count[0])), dtype)
            return self._aligned.reshape(-1), [0]
        if not rows.on_lattice.all():
            raise MixedLattices(rows.ids[~rows.on_lattice].tolist())
        empty = np.zeros(span.count, dtype)
        if self._head.grid.axis in self._head.names:
            empty[self._head.grid.axis] = self._lattice
        beside, mine = empty.view(np.uint8), self._aligned[self.nspec :].view(np.uint8)
        begin = np.clip(rows.first - span.first, 0, span.count)
        stops = (begin + rows.count) * dtype.itemsize
        starts = begin * dtype.itemsize
        for row, start, stop in zip(mine, starts.tolist(), stops.tolist(), strict=False):
            row[:start], row[stop:] = beside[:start], beside[stop:]
        index = self.nspec + np.arange(len(rows.ids))
        return self._aligned.reshape(-1), (index * span.count + begin).tolist()

    def spectra(self, schema: pa.Schema | None = None) -> Spectra:
        """Return the spectra of all batches; the schema of their columns, if there may be none."""
        batches = self._rows
        columns = {
            field.name.removeprefix(CATALOG_PREFIX): join_pieces(
                self._columns.get(field.name, []), field.type
            )
            for field in schema or ()
            if field.name.startswith(CATALOG_PREFIX)
        }
        return Spectra(
            head=self._head,
            data=self._aligned if self._align else self._loose,
            ids=join_pieces(
                [Piece(batch.ids, None) for batch in batches],
                pa.int64() if schema is None else schema.field(ID).type,
            ),
            contexts=[context for batch in batches for context in batch.contexts],
            first=np.concatenate([batch.first for batch in batches] or [np.empty(0, np.int64)]),
            on_lattice=np.concatenate(
                [batch.on_lattice for batch in batches] or [np.empty(0, bool)]
            ),
            columns=columns,
            media=[medium for batch in batches for medium in batch.media],
            places=np.concatenate([batch.places for batch in batches] or [np.empty(0, np.int64)]),
        )

    def _cells(self, open_: Callable[[str], FieldCells], rows: BatchRows) -> list[FieldCells]:
        """Open the columns that travel, the axis only where a spectrum brings its own."""
        axis = self._head.grid.axis
        own = not rows.on_lattice.all()
        names = [name for name in self._head.names if name != axis or own]
        cells = [open_(name) for name in names]
        for column in cells:
            if column.name == axis and not (rows.on_lattice | column.present).all():
                raise StoreError(ANSWER, "damaged: a spectrum off the lattice has no wavelengths")
        return cells
