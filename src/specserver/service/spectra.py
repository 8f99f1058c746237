"""From places to spectra as they travel: compressed cells, a batch at a time."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import UnknownField
from ..model.grid import PixelRange, cutout
from ..model.survey import Survey, Vector
from ..ops.media import limits_in
from ..wire.cells import CellColumn
from ..wire.columns import NAME, REDSHIFT
from .cells import batches, gather_cells
from .file_names import file_names
from .media import all_limits, media_of, own_limits
from .selection import Selection


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
    cells: dict[str, CellColumn]
    columns: pa.Table | None
    media: list[str] | None
    """Medium of each, where the survey does not say."""


def wanted_vectors(survey: Survey, names: Sequence[str] | None) -> tuple[Vector, ...]:
    """Return the vectors asked for, in record order, the axis included when it was.

    Extra ones come after the record, and only when they are named.
    """
    if names is None:
        return survey.record
    vectors = (*survey.record, *survey.extra)
    known = [vector.name for vector in vectors]
    wanted = {name.strip().lower() for name in names}
    for name in names:
        if name.strip().lower() not in known:
            raise UnknownField(name, known)
    return tuple(vector for vector in vectors if vector.name in wanted)


def stored_names(selection: Selection, vectors: Sequence[Vector]) -> list[str]:
    """Return the names of vectors that are read: on the lattice, the axis is computed."""
    return [vector.name for vector in vectors if vector.name != selection.grid.axis]


def covered_pixels(selection: Selection, vectors: Sequence[Vector]) -> PixelRange | None:
    """Return the lattice pixels that vectors cover; None: all that a spectrum has."""
    runs = [vector.pixels for vector in vectors if vector.name != selection.grid.axis]
    known = [run for run in runs if run is not None]
    if not known or len(known) < len(runs):
        return None
    return PixelRange(min(first for first, _ in known), max(stop for _, stop in known))


def raw_pixels(selection: Selection, vectors: Sequence[Vector]) -> PixelRange | None:
    """Return the pixels whose values travel raw, as the store does not hold some vector whole.

    None where its own frames serve, or a cutout says which.
    """
    if not any(vector.like for vector in vectors):
        return None
    return covered_pixels(selection, vectors) or selection.survey.window


def wave_span(selection: Selection) -> tuple[float, float]:
    """Return the wavelengths, Å, of the first and last pixel of all spectra on the lattice."""
    covered = selection.span
    if covered.count == 0:
        return 0.0, 0.0
    low, high = selection.grid.wave(covered.first, covered.count)[[0, -1]].tolist()
    return low, high


def cut_pixels(
    selection: Selection,
    limits_aa: tuple[float, float] | None,
    vectors: Sequence[Vector] = (),
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return first pixel and count of each spectrum after a cutout; off the lattice unchanged.

    Parameters
    ----------
    vectors : those asked for; where all of them cover a part of the lattice only, so does the cut
    """
    first, count = selection.first, selection.count
    if limits_aa is not None:
        media = np.array(media_of(selection), object)
        for medium in set(media.tolist()):
            pixels = cutout(selection.grid, *limits_in(limits_aa, medium))
            cut = _inside(selection, first, count, pixels)
            mine = media == medium
            first, count = np.where(mine, cut[0], first), np.where(mine, cut[1], count)
    covered = covered_pixels(selection, vectors)
    if covered is not None:
        first, count = _inside(selection, first, count, covered)
    return first, count


def _inside(
    selection: Selection,
    first: npt.NDArray[np.int32],
    count: npt.NDArray[np.int32],
    pixels: PixelRange,
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return first pixel and count of what lies in a run of pixels, for those on the lattice."""
    on = selection.on_lattice
    begin = np.maximum(first, pixels.first)
    stop = np.minimum(first + count, pixels.stop)
    empty = stop <= begin
    begin = np.where(on, np.where(empty, pixels.first, begin), first)
    count = np.where(on, np.maximum(stop - begin, 0), count)
    count = np.where(on & empty, 0, count)
    return begin.astype(np.int32), count.astype(np.int32)


def read_cells(
    selection: Selection,
    vectors: Sequence[Vector],
    limits_aa: tuple[float, float] | None,
    columns: Sequence[str],
    *,
    cut_own: bool = True,
) -> Iterator[CellBatch]:
    """Yield batches of encoded spectra: the store's own frames, or raw values of a cutout.

    If ``cut_own`` is False, spectra off the lattice are not cut.
    """
    stored = stored_names(selection, vectors)
    first, count = cut_pixels(selection, limits_aa, vectors)
    within = raw_pixels(selection, vectors)
    # A name depends on the names of all others, so all names are made before the first batch.
    names = file_names(selection) if NAME in columns else None
    for take in batches(selection):
        media = media_of(selection, take)
        held = None if limits_aa is None else all_limits(limits_aa, media)
        cut = (held, own_limits(limits_aa if cut_own else None, media))
        gathered = gather_cells(selection, take, stored, count[take], cut, within)
        yield CellBatch(
            ids=selection.ids[take],
            contexts=[selection.sources[n].release.context for n in selection.source[take]],
            start=gathered.start,
            width=gathered.width,
            first=first[take],
            count=gathered.count,
            on_lattice=selection.on_lattice[take],
            cells=gathered.columns,
            columns=_columns(selection, columns, take, names) if columns else None,
            media=None if selection.survey.medium is not None else media,
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


def read_columns(
    selection: Selection, columns: Sequence[str], take: npt.NDArray[np.int64]
) -> pa.Table:
    """Return catalogue columns of some spectra of a selection, named as asked for, each once."""
    parts = []
    order = []
    columns = list(dict.fromkeys(columns))
    # Without a spectrum the first catalogue still says of which types its columns are.
    for number in np.unique(selection.source[take]).tolist() or [0]:
        source = selection.sources[number]
        mine = np.flatnonzero(selection.source[take] == number)
        names = [
            source.catalog.spelling(source.survey.z_column if one == REDSHIFT else one)
            for one in columns
        ]
        rows = selection.rows[take][mine]
        found = source.catalog.columns_of(list(dict.fromkeys(names)), rows)
        parts.append(pa.table([found.column(name) for name in names], names=columns))
        order.append(mine)
    back = np.argsort(np.concatenate(order))
    return pa.concat_tables(parts, promote_options="permissive").take(pa.array(back))
