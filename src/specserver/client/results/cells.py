"""Encoded cells of a batch → fields of structured arrays."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import StoreError
from ...model.medium import UNKNOWN
from ...wire import columns
from ...wire.batches import ANSWER
from ...wire.cells import CellColumn, unpack_blosc
from ...wire.head import StreamHead
from ...wire.numeric import view
from ...wire.single import SingleSpectrum
from .columns import read_piece

Ints: TypeAlias = npt.NDArray[np.int64]
_THREADS: Final = min(4, os.cpu_count() or 1)
"""Threads that decode a batch; with more they wait for Python's lock, which they hold for a fifth
of the time."""
_FRAMES: Final = 200
"""Cells for each thread, at least: decoding them takes ten times as long as beginning it."""


@dataclass(frozen=True, slots=True)
class BatchRows:
    """The columns of a batch that describe its spectra, and where in their cells the values lie."""

    ids: npt.NDArray[Any]
    """1D[n] int, as the survey types them."""
    contexts: list[str]
    start: Ints
    """1D[n] int64, lattice pixel of the first value of the cells."""
    width: Ints
    """1D[n] int64, values in each cell."""
    first: Ints
    """1D[n] int64, first valid lattice pixel."""
    count: Ints
    """1D[n] int64, valid pixels."""
    on_lattice: npt.NDArray[np.bool_]
    """1D[n] bool"""
    media: list[str]
    """Medium of the wavelengths of each."""
    places: Ints
    """1D[n] int64, position of each in the caller's list; empty where that is their order."""


@dataclass(frozen=True, slots=True)
class FieldCells:
    """One binary column of a batch."""

    name: str
    data: memoryview
    offsets: list[int]
    present: list[bool]


@dataclass(frozen=True, slots=True)
class Axis:
    """The published axis on the lattice."""

    name: str
    lattice: npt.NDArray[Any]
    """1D[npix], published axis from lattice pixel ``first`` on."""
    first: int


def read_rows(batch: pa.RecordBatch, head: StreamHead) -> BatchRows:
    """Read the columns of a batch that say where values lie; check that they can.

    Raises
    ------
    StoreError
        A spectrum claims pixels that its cells do not have, or outside the announced span.
    """
    start, width, first, count = (
        view(batch.column(name)).astype(np.int64) for name in columns.PIXELS
    )
    return _checked(
        BatchRows(
            ids=read_piece(batch.column(columns.ID)).values,
            contexts=batch.column(columns.CONTEXT).to_pylist(),
            start=start,
            width=width,
            first=first,
            count=count,
            on_lattice=view(batch.column(columns.ON_LATTICE)),
            media=_media(batch, head),
            places=_places(batch),
        ),
        head,
    )


def rows_of(spectrum: SingleSpectrum) -> BatchRows:
    """Return what `read_rows` reads of a batch, of a spectrum that came alone; errors alike."""
    pixels = (spectrum.start, spectrum.width, spectrum.first, spectrum.count)
    start, width, first, count = np.array(pixels, np.int64).reshape(4, 1)
    return _checked(
        BatchRows(
            ids=np.array([spectrum.id]),
            contexts=[spectrum.release],
            start=start,
            width=width,
            first=first,
            count=count,
            on_lattice=np.array([spectrum.on_lattice]),
            media=[spectrum.medium or UNKNOWN],
            places=np.empty(0, np.int64),
        ),
        spectrum.head,
    )


def _checked(rows: BatchRows, head: StreamHead) -> BatchRows:
    """Return rows whose values lie in their cells and the span; raise `StoreError` for others."""
    skip, stop = rows.first - rows.start, rows.first + rows.count
    inside = (rows.count >= 0) & (skip >= 0) & (skip + rows.count <= rows.width)
    spanned = (rows.first >= head.span.first) & (stop <= head.span.stop)
    if not (inside & (spanned | ~rows.on_lattice) | (rows.count == 0)).all():
        raise StoreError(ANSWER, "damaged: a spectrum lies outside its cells or the span")
    return rows


def _places(batch: pa.RecordBatch) -> Ints:
    """Return the position of each spectrum in the caller's list, where the batch states it."""
    if columns.PLACE not in batch.schema.names:
        return np.empty(0, np.int64)
    return view(batch.column(columns.PLACE)).astype(np.int64)


def _media(batch: pa.RecordBatch, head: StreamHead) -> list[str]:
    """Return the medium of each spectrum: that of all, or what it states."""
    if head.medium or columns.MEDIUM not in batch.schema.names:
        return [head.medium or UNKNOWN] * batch.num_rows
    return [str(medium or UNKNOWN) for medium in batch.column(columns.MEDIUM).to_pylist()]


def open_cells(batch: pa.RecordBatch, name: str) -> FieldCells:
    """Open a binary column of a batch for reading cell by cell, without copying it."""
    try:
        cells = CellColumn.from_arrow(batch.column(name))
    except (KeyError, TypeError) as error:
        raise StoreError(ANSWER, f"vector {name!r} is missing in it") from error
    return FieldCells(
        name=name,
        data=cells.data.data,
        offsets=cells.offsets.tolist(),
        present=cells.present.tolist(),
    )


def cells_of(spectrum: SingleSpectrum, name: str) -> FieldCells:
    """Open the cell of a vector of a spectrum that came alone; else as `open_cells`."""
    if name not in spectrum.cells:
        raise StoreError(ANSWER, f"vector {name!r} is missing in it")
    cell = spectrum.cells[name]
    if cell is None:
        return FieldCells(name, memoryview(b""), [0, 0], [False])
    return FieldCells(name, cell, [0, len(cell)], [True])


def fill(
    rows: BatchRows,
    out: npt.NDArray[Any],
    at: Sequence[int],
    cells: Sequence[FieldCells],
    axis: Axis | None,
    codec: str,
) -> None:
    """Decode all cells of a batch into place.

    Parameters
    ----------
    rows
        The spectra of the batch.
    out : 1D structured, contiguous
        Every valid pixel of a spectrum is written; other pixels stay as they are.
    at
        Index in ``out`` of the first valid pixel of each spectrum.
    cells
        The columns to decode; a null cell is all zeros. With ``axis`` they are all fields.
    axis
        Axis of spectra on the lattice, where it is wanted.
    codec
        ``blosc`` or ``raw``.

    Raises
    ------
    StoreError
        A cell does not hold the values it should.
    """
    decode = _decode_blosc if codec == "blosc" else _decode_raw
    lines = list(
        zip(
            range(len(at)),
            at,
            rows.first.tolist(),
            (rows.first - rows.start).tolist(),
            rows.width.tolist(),
            rows.count.tolist(),
            rows.on_lattice.tolist(),
            strict=True,
        )
    )
    lay = partial(_lay, out, int(rows.width.max(initial=0)), cells, axis, decode)
    threads = min(_THREADS, len(lines) * len(cells) // _FRAMES)
    if threads < 2:
        lay(lines)
        return
    # They hardly wait for each other: they decompress and copy without Python's lock. Those of a
    # batch end with it, so that a process may fork.
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(lay, (lines[number::threads] for number in range(threads))):
            pass


def _lay(
    out: npt.NDArray[Any],
    widest: int,
    cells: Sequence[FieldCells],
    axis: Axis | None,
    decode: Callable[[FieldCells, int, int], bytes | memoryview],
    lines: Sequence[tuple[int, int, int, int, int, int, bool]],
) -> None:
    """Decode the cells of some spectra into place.

    Parameters
    ----------
    out : 1D structured, contiguous
    widest
        Values of the widest cell.
    lines
        Of each spectrum its row, where it goes, and the numbers of `BatchRows`.
    """
    fields, runs = _planes(out, widest)
    layers = [
        (field, fields[field.name].data.cast("B"), fields[field.name].itemsize) for field in cells
    ]
    lattice = None if axis is None else fields[axis.name].view(out.dtype[axis.name])
    # A spectrum at a time: its fields stay in the processor's cache until its records are laid.
    for row, begin, first, skip, width, npix, on_lattice in lines:
        if npix == 0:
            continue
        for field, room, size in layers:
            nbytes = width * size
            room[:nbytes] = decode(field, row, nbytes) if field.present[row] else bytes(nbytes)
        if axis is not None and lattice is not None and on_lattice:
            offset = first - axis.first
            lattice[skip : skip + npix] = axis.lattice[offset : offset + npix]
        for place, plane in runs:
            place[begin : begin + npix] = plane[:, skip : skip + npix].T


def _planes(
    out: npt.NDArray[Any], widest: int
) -> tuple[dict[str, npt.NDArray[Any]], list[tuple[npt.NDArray[Any], npt.NDArray[Any]]]]:
    """Return room for the fields of a spectrum, and where in the records they go.

    Fields beside each other that have the same size are laid into the records together: that is
    a third faster than one after the other.

    Parameters
    ----------
    out : 1D[n] structured, contiguous

    Returns
    -------
    dict of 1D[widest] unsigned
        Room for each field, by name.
    list of (2D[n, nfield], 2D[nfield, widest]) unsigned
        Fields of the records, and the room for them.
    """
    fields: dict[str, npt.NDArray[Any]] = {}
    runs = []
    for offset, size, names in _runs(out.dtype):
        plane = np.empty((len(names), widest), f"u{size}")
        fields.update(zip(names, plane, strict=True))
        shape, strides = (len(out), len(names)), (out.itemsize, size)
        runs.append((np.ndarray(shape, plane.dtype, out.view(np.uint8), offset, strides), plane))
    return fields, runs


@lru_cache
def _runs(dtype: np.dtype[Any]) -> list[tuple[int, int, list[str]]]:
    """Return offset, bytes of a field, and names of fields beside each other of one size."""
    runs: list[tuple[int, int, list[str]]] = []
    for name, (kind, offset, *_) in (dtype.fields or {}).items():
        size = kind.itemsize
        if runs and runs[-1][1] == size and runs[-1][0] + size * len(runs[-1][2]) == offset:
            runs[-1][2].append(name)
        else:
            runs.append((offset, size, [name]))
    return runs


def _decode_blosc(cells: FieldCells, row: int, nbytes: int) -> bytes:
    """Decompress one Blosc-1 frame."""
    frame = cells.data[cells.offsets[row] : cells.offsets[row + 1]]
    try:
        return unpack_blosc(frame, nbytes)
    except ValueError as error:
        raise StoreError(ANSWER, f"damaged: {cells.name}: {error}") from error


def _decode_raw(cells: FieldCells, row: int, nbytes: int) -> memoryview:
    """Return little-endian values."""
    cell = cells.data[cells.offsets[row] : cells.offsets[row + 1]]
    if cell.nbytes != nbytes:
        raise StoreError(ANSWER, f"damaged: {cells.name} has {cell.nbytes} bytes, not {nbytes}")
    return cell
