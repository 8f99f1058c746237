"""Spectra as a stream of batches with a head (docs/wire.md): one lattice, or a part a survey."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..formats.arrow import CellBatch, SpectrumStream
from ..model.grid import PixelRange
from ..model.survey import Vector
from ..ops.media import Limits
from ..wire.cells import CellColumn
from ..wire.columns import FACTS, FITS, NAME
from ..wire.head import PartsHead, StreamHead
from .alignment import Resampling, require_alignable
from .cells import CellReader
from .columns import facts_of, fits_of, join_tables, read_columns
from .file_names import file_names
from .limits import check_pixels, while_wanted
from .media import media_of, shared_medium
from .reading import FIRST_SENT, batches, read_batches
from .selection import Selection, by_survey
from .spectra import cut_pixels, cut_span, raw_pixels, vectors_of

Names = npt.NDArray[np.object_]
"""Name of the file of each spectrum, 1D[nspec]; empty where it is not asked for."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A request for spectra: vectors, columns and wavelengths."""

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
    selection: Selection,
    asked: StreamRequest,
    go_on: Callable[[], None],
    max_pixels: int | None = None,
) -> SpectrumStream:
    """Return spectra as a stream; errors of the request are raised at once.

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
    texts = file_names(selection) if NAME in asked.columns else [""] * selection.nspec
    names = np.array(texts, object)
    if asked.resample:
        stream = _resampled(selection, asked, names, max_pixels)
    elif asked.align or selection.is_of_one_survey:
        # A single spectrum needs no common lattice.
        if asked.align and selection.nspec > 1:
            require_alignable(selection)
        stream = _of_one_lattice(selection, asked, names)
    else:
        stream = _of_parts(selection, asked, names)
    stream.batches = while_wanted(stream.batches, go_on)
    return stream


def _of_one_lattice(selection: Selection, asked: StreamRequest, names: Names) -> SpectrumStream:
    """Return the stream of spectra whose surveys share a lattice, in the caller's order."""
    vectors, axis = vectors_of(selection, asked.vectors), selection.grid.axis
    first, count = cut_pixels(selection, asked.cutout, vectors)
    within = raw_pixels(selection, vectors)
    record = vectors
    if asked.vectors is not None:
        record = vectors_of(selection, [axis, *asked.vectors])
    shared, media = shared_medium(selection), media_of(selection)
    head = _joint_head(
        selection,
        record,
        cut_span(selection, first, count),
        codec="raw" if asked.cutout or within else "blosc",
        npix=int(count.sum(dtype=np.int64)),
        medium=shared or "",
    )
    stored = [vector for vector in vectors if vector.name != axis]
    reader = CellReader(selection, stored, media, asked.cutout, within, cut_own=asked.cut_own)

    def read() -> Iterator[CellBatch]:
        takes = batches(selection, first=FIRST_SENT)
        for batch in read_batches(selection, takes, reader.ask):
            take = batch.take
            start, width, valid, cells = reader.gather(batch, count[take])
            yield CellBatch(
                ids=selection.ids[take],
                contexts=selection.releases(take),
                start=start,
                width=width,
                first=first[take],
                count=valid,
                on_lattice=selection.on_lattice[take],
                cells=cells,
                columns=_columns(selection, asked.columns, take, names),
                media=None if shared else [media[at] for at in take.tolist()],
            )

    return SpectrumStream(head, selection.ids.dtype.str, reader.names, shared is None, read())


def _of_parts(selection: Selection, asked: StreamRequest, names: Names) -> SpectrumStream:
    """Return the stream of spectra of several surveys, each as if asked for alone."""
    parts = by_survey(selection)
    streams = [_of_one_lattice(part, asked, names[places]) for part, places in parts]
    heads = [stream.head for stream in streams if isinstance(stream.head, StreamHead)]
    head = PartsHead(selection.nspec, tuple(heads), selection.missing, selection.damaged)
    cells = dict.fromkeys(name for stream in streams for name in stream.cells)
    types = None
    if asked.columns:
        # One row of each, as the types of some columns are those of values.
        few = [_columns(part, asked.columns, np.arange(1), names)
               for part, _ in parts]  # fmt: skip
        types = join_tables(few, "columns").schema
    has_media = any(stream.has_media for stream in streams)

    def read() -> Iterator[CellBatch]:
        for number, (stream, (part, places)) in enumerate(zip(streams, parts, strict=True)):
            done = 0
            for batch in stream.batches:
                mine = places[done : done + len(batch.ids)]
                done += len(mine)
                media = batch.media or [str(part.survey.medium)] * len(mine)
                yield replace(
                    batch,
                    ids=batch.ids.astype(selection.ids.dtype),
                    part=number,
                    places=mine,
                    media=media if has_media else None,
                    columns=batch.columns and batch.columns.cast(types),
                )

    return SpectrumStream(head, selection.ids.dtype.str, tuple(cells), has_media, read())


def _resampled(
    selection: Selection, asked: StreamRequest, names: Names, max_pixels: int | None
) -> SpectrumStream:
    """Return the stream of spectra laid on the lattice of the first survey."""
    axis = selection.survey.grid.axis
    values = None if asked.vectors is None else [*asked.vectors, axis]
    plan = Resampling.of(selection, values, asked.cutout, asked.medium)
    lattice = plan.lattice
    check_pixels(lattice.window.count, max_pixels, "nearer limits cutout=")
    head = _joint_head(
        selection,
        lattice.record,
        lattice.window,
        codec="raw",
        npix=selection.nspec * lattice.window.count,
        medium=plan.medium,
    )

    def read() -> Iterator[CellBatch]:
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
                columns=_columns(selection, asked.columns, take, names),
                media=None,
            )

    return SpectrumStream(head, selection.ids.dtype.str, tuple(lattice.moved), False, read())


def _columns(
    selection: Selection, columns: Sequence[str], take: npt.NDArray[np.int64], names: Names
) -> pa.Table | None:
    """Return catalogue columns of some spectra, 1D[n] int, file names and facts among them."""
    if not columns:
        return None
    found: dict[str, Any] = {}
    if NAME in columns:
        found[NAME] = pa.array(names[take], pa.string())
    if FACTS in columns:
        found[FACTS] = facts_of(selection, take)
    if FITS in columns:
        found[FITS] = fits_of(selection, take)
    if stored := [column for column in columns if column not in {NAME, FACTS, FITS}]:
        table = read_columns(selection, stored, take)
        found |= dict(zip(table.column_names, table.columns, strict=True))
    return pa.table({column: found[column] for column in columns})


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
    """Return the head of spectra on one lattice; where surveys differ, the first counts."""
    survey = selection.survey
    # Bits of different meaning are kept, but mark no bad pixels.
    mask_vector, bad_bits = selection.bad_pixels
    frames = dict.fromkeys((each.frame, each.name) for each in selection.surveys)
    if len({frame for frame, _ in frames}) == 1:
        frame = survey.frame
    else:
        frame = " / ".join(f"{frame} ({name})" for frame, name in frames)
    surveys = {source.release.context: source.survey.name for source in selection.sources}
    return StreamHead(
        context=selection.context_names,
        survey=selection.survey_names,
        grid=survey.grid,
        record=record,
        codec=codec,
        nspec=selection.nspec,
        npix=npix,
        span=span,
        missing=selection.missing,
        damaged=selection.damaged,
        flux_unit=survey.flux_scale,
        surveys={} if selection.is_of_one_survey else surveys,
        frame=frame,
        medium=medium,
        mask_vector=mask_vector,
        bad_bits=bad_bits,
        id_column=survey.id_column.name,
    )
