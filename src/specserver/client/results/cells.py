"""Encoded cells of a batch → fields of structured arrays."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import StoreError
from ...model.medium import UNKNOWN
from ...wire import columns
from ...wire.batches import ANSWER
from ...wire.cells import CellColumn, decode_blosc
from ...wire.head import StreamHead
from ...wire.single import SingleSpectrum
from .columns import read_piece, view

Ints: TypeAlias = npt.NDArray[np.int64]


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
    """One binary column of a batch, and the field that it fills."""

    name: str
    target: npt.NDArray[Any]
    """1D, strided view of the field in the output."""
    data: memoryview
    offsets: list[int]
    present: list[bool]


@dataclass(frozen=True, slots=True)
class Axis:
    """The published axis on the lattice, and the field that it fills."""

    target: npt.NDArray[Any]
    """1D, strided view of the field in the output."""
    lattice: npt.NDArray[Any]
    """1D, published axis from lattice pixel ``first`` on."""
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


def open_cells(batch: pa.RecordBatch, name: str, target: npt.NDArray[Any]) -> FieldCells:
    """Open a binary column of a batch for reading cell by cell, without copying it.

    Parameters
    ----------
    target : 1D, strided view of the field in the output
    """
    try:
        cells = CellColumn.from_arrow(batch.column(name))
    except (KeyError, TypeError) as error:
        raise StoreError(ANSWER, f"vector {name!r} is missing in it") from error
    return FieldCells(
        name=name,
        target=target,
        data=cells.data.data,
        offsets=cells.offsets.tolist(),
        present=cells.present.tolist(),
    )


def cells_of(spectrum: SingleSpectrum, name: str, target: npt.NDArray[Any]) -> FieldCells:
    """Open the cell of a vector of a spectrum that came alone; else as `open_cells`."""
    if name not in spectrum.cells:
        raise StoreError(ANSWER, f"vector {name!r} is missing in it")
    cell = spectrum.cells[name]
    if cell is None:
        return FieldCells(name, target, memoryview(b""), [0, 0], [False])
    return FieldCells(name, target, cell, [0, len(cell)], [True])


def fill(
    rows: BatchRows, at: Sequence[int], cells: Sequence[FieldCells], axis: Axis | None, codec: str
) -> None:
    """Decode all cells of a batch into place.

    Parameters
    ----------
    rows
        The spectra of the batch.
    at
        Index in the flat output of the first valid pixel of each spectrum.
    cells
        The columns to decode; a null cell leaves its zeros as they are.
    axis
        Where to write the axis of spectra on the lattice; None where that is done or not wanted.
    codec
        ``blosc`` or ``raw``.

    Raises
    ------
    StoreError
        A cell does not hold the values it should.
    """
    decode = _decode_blosc if codec == "blosc" else _decode_raw
    widest = int(rows.width.max(initial=0))
    layers = [(field, np.empty(widest, dtype=field.target.dtype)) for field in cells]
    lines = zip(
        at,
        rows.first.tolist(),
        (rows.first - rows.start).tolist(),
        rows.width.tolist(),
        rows.count.tolist(),
        rows.on_lattice.tolist(),
        strict=True,
    )
    # A spectrum at a time: its records stay in the processor's cache while the fields are laid in.
    for row, (begin, first, skip, width, npix, on_lattice) in enumerate(lines):
        if npix == 0:
            continue
        if axis is not None and on_lattice:
            offset = first - axis.first
            axis.target[begin : begin + npix] = axis.lattice[offset : offset + npix]
        for field, room in layers:
            if field.present[row]:
                values = decode(field, row, room[:width])
                field.target[begin : begin + npix] = values[skip : skip + npix]


def _decode_blosc(cells: FieldCells, row: int, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Decompress one Blosc-1 frame into ``out``, 1D[width]."""
    frame = cells.data[cells.offsets[row] : cells.offsets[row + 1]]
    try:
        decode_blosc(frame, out)
    except ValueError as error:
        raise StoreError(ANSWER, f"damaged: {cells.name}: {error}") from error
    return out


def _decode_raw(cells: FieldCells, row: int, out: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return little-endian values, 1D[width]."""
    cell = cells.data[cells.offsets[row] : cells.offsets[row + 1]]
    if cell.nbytes != out.nbytes:
        raise StoreError(ANSWER, f"damaged: {cells.name} has {cell.nbytes} bytes, not {out.nbytes}")
    return np.frombuffer(cell, dtype=out.dtype)
