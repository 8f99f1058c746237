"""Spectra as a stream of batches with a head (docs/wire.md): one lattice, or a part a survey."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats.arrow import CellBatch, SpectrumStream
from ..model.grid import PixelRange
from ..model.survey import Vector
from ..ops.media import Limits
from ..wire.cells import CellColumn
from ..wire.columns import NAME
from ..wire.head import PartsHead, StreamHead
from .alignment import Resampling, require_alignable
from .columns import join_tables
from .file_names import file_names
from .limits import while_wanted
from .media import shared_medium
from .selection import Selection, by_survey
from .spectra import (
    batch_columns,
    cut_pixels,
    cut_span,
    raw_pixels,
    read_cells,
    vectors_of,
)


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What is sent of each spectrum, and on which wavelengths."""

    vectors: Sequence[str] | None = None
    """None: all of the record."""
    cutout: Limits | None = None
    """Vacuum Å; if resampled, Å in ``medium``."""
    cut_own: bool = True
    """Whether spectra off the lattice are cut as well."""
    columns: Sequence[str] = ()
    """Catalogue columns."""
    align: bool = False
    """Refuse spectra that share no lattice."""
    resample: bool = False
    """Lay all spectra on the lattice of the first survey."""
    medium: str | None = None
    """Medium of that lattice; None: vacuum, if that of the spectra is known."""


def open_stream(
    selection: Selection, asked: StreamRequest, go_on: Callable[[], None]
) -> SpectrumStream:
    """Return spectra as a stream; what a caller can be blamed for is raised at once.

    Raises
    ------
    MixedLattices
        Spectra to be aligned share no lattice.
    UnknownField
        A vector or a column that there is not.
    BadParameter
        Media or units that do not go together, or columns whose types do not.
    """
    # A name depends on the names of all others, so all names are made before the first batch.
    names = file_names(selection) if NAME in asked.columns else None
    if asked.resample:
        stream = _resampled(selection, asked, names)
    elif asked.align or selection.is_of_one_survey:
        # A single spectrum needs no common lattice.
        if asked.align and (selection.nspec > 1 or len(selection.contexts) > 1):
            require_alignable(selection)
        stream = _of_one_lattice(selection, asked, names)
    else:
        stream = _of_parts(selection, asked, names)
    stream.batches = while_wanted(stream.batches, go_on)
    return stream


def _of_one_lattice(
    selection: Selection, asked: StreamRequest, names: Sequence[str] | None
) -> SpectrumStream:
    """Return the stream of spectra whose surveys share a lattice, in the caller's order."""
    vectors, axis = vectors_of(selection, asked.vectors), selection.grid.axis
    cut, within = cut_pixels(selection, asked.cutout, vectors), raw_pixels(selection, vectors)
    record = vectors
    if asked.vectors is not None:
        record = vectors_of(selection, [axis, *asked.vectors])
    medium = shared_medium(selection)
    head = _joint_head(
        selection,
        record,
        cut_span(selection, *cut),
        codec="raw" if asked.cutout or within else "blosc",
        npix=int(cut[1].sum(dtype=np.int64)),
        medium=medium or "",
    )
    stored = [one for one in vectors if one.name != axis]
    cells = (*(one.name for one in stored), *(() if selection.on_lattice.all() else (axis,)))
    batches = read_cells(
        selection, stored, cut, within, asked.cutout, asked.columns,
        cut_own=asked.cut_own, names=names,
    )  # fmt: skip
    return SpectrumStream(head, selection.ids.dtype.str, cells, medium is None, batches)


def _of_parts(
    selection: Selection, asked: StreamRequest, names: Sequence[str] | None
) -> SpectrumStream:
    """Return the stream of spectra of several surveys, each as if asked for alone."""
    parts = by_survey(selection)
    streams = [
        _of_one_lattice(part, asked, None if names is None else [names[at] for at in places])
        for part, places in parts
    ]
    heads = [one.head for one in streams if isinstance(one.head, StreamHead)]
    head = PartsHead(selection.nspec, tuple(heads), selection.missing, selection.damaged)
    cells = dict.fromkeys(name for one in streams for name in one.cells)
    types = None
    if asked.columns:
        some = [
            batch_columns(part, asked.columns, np.arange(min(part.nspec, 1)), [""])
            for part, _ in parts
        ]
        types = join_tables(some, "columns").schema

    has_media = any(one.has_media for one in streams)

    def batches() -> Iterator[CellBatch]:
        for number, (stream, (part, places)) in enumerate(zip(streams, parts, strict=True)):
            done = 0
            for batch in stream.batches:
                mine = places[done : done + len(batch.ids)]
                done += len(mine)
                yield replace(
                    batch,
                    ids=batch.ids.astype(selection.ids.dtype),
                    part=number,
                    places=mine,
                    media=(batch.media or [str(part.survey.medium)] * len(mine))
                    if has_media
                    else None,
                    columns=batch.columns and batch.columns.cast(types),
                )

    return SpectrumStream(head, selection.ids.dtype.str, tuple(cells), has_media, batches())


def _resampled(
    selection: Selection, asked: StreamRequest, names: Sequence[str] | None
) -> SpectrumStream:
    """Return the stream of spectra laid on the lattice of the first survey."""
    axis = selection.survey.grid.axis
    values = None if asked.vectors is None else [*asked.vectors, axis]
    plan = Resampling.of(selection, values, asked.cutout, asked.medium)
    lattice = plan.lattice
    head = _joint_head(
        selection,
        lattice.record,
        lattice.window,
        codec="raw",
        npix=selection.nspec * lattice.window.count,
        medium=plan.medium,
    )

    def batches() -> Iterator[CellBatch]:
        done = 0
        for block in plan.read():
            take = np.arange(done, done + len(block))
            done += len(block)
            first = np.full(len(take), lattice.window.first, np.int32)
            count = np.full(len(take), lattice.window.count, np.int32)
            yield CellBatch(
                ids=selection.ids[take],
                contexts=selection.releases(take),
                start=first,
                width=count,
                first=first,
                count=count,
                on_lattice=np.ones(len(take), np.bool_),
                cells={name: _raw_cells(block[name]) for name in lattice.moved},
                columns=batch_columns(selection, asked.columns, take, names)
                if asked.columns
                else None,
                media=None,
            )

    return SpectrumStream(head, selection.ids.dtype.str, tuple(lattice.moved), False, batches())


def _raw_cells(values: npt.NDArray[Any]) -> CellColumn:
    """Return values, 2D[n, npix], as raw cells."""
    whole = np.ascontiguousarray(values)
    offsets = np.arange(len(whole) + 1, dtype=np.int64) * (whole.shape[1] * whole.itemsize)
    return CellColumn(whole.reshape(-1).view(np.uint8), offsets, np.ones(len(whole), np.bool_))


def _joint_head(
    selection: Selection,
    record: tuple[Vector, ...],
    span: PixelRange,
    *,
    codec: str,
    npix: int,
    medium: str,
) -> StreamHead:
    """Return the head of spectra on one lattice; where surveys differ, what the first says."""
    survey = selection.survey
    marks = {(one.mask_vector, one.bad_bits) for one in selection.surveys}
    # Bits of different meaning are kept, and say nothing of pixels that are bad.
    mask_vector, bad_bits = marks.pop() if len(marks) == 1 else ("", 0)
    return StreamHead(
        context=", ".join(selection.contexts),
        survey=", ".join(dict.fromkeys(one.name for one in selection.surveys)),
        grid=survey.grid,
        record=record,
        codec=codec,
        nspec=selection.nspec,
        npix=npix,
        span=span,
        missing=selection.missing,
        damaged=selection.damaged,
        flux_unit=survey.flux_scale,
        frame=survey.frame,
        medium=medium,
        mask_vector=mask_vector,
        bad_bits=bad_bits,
        id_column=survey.id_column.name,
    )
