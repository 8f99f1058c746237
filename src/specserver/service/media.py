"""The medium of the wavelengths of spectra, and their conversion into another medium."""

from collections.abc import Container, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import RESAMPLE, BadParameter
from ..model.grid import Grid
from ..model.medium import AIR, MEDIA, MEDIUM_COLUMN, UNKNOWN
from ..ops.media import Change, Limits, assumed, change_of, common_medium, limits_in
from .selection import Selection, by_source
from .source import SpectrumSource

_IN_AIR = "in_air"
"""Column of older data folders: whether wavelengths are in air."""


def media_of(selection: Selection) -> list[str]:
    """Return the medium of each spectrum of a selection: ``vacuum``, ``air`` or ``unknown``.

    The survey states it, or the catalogue for each spectrum; if neither does, it is the one that
    the selection assumes.
    """
    return assumed(_known_media(selection), selection.assume_medium)


def shared_medium(selection: Selection) -> str | None:
    """Return the medium that all surveys of a selection state; None where they do not."""
    first, *others = selection.surveys
    return first.medium if all(other.medium == first.medium for other in others) else None


def _known_media(selection: Selection) -> list[str]:
    """Return the medium that the survey or the catalogue states for each spectrum."""
    if (shared := shared_medium(selection)) is not None:
        return [shared] * selection.nspec
    media = np.full(selection.nspec, UNKNOWN, object)
    for source, where, rows in by_source(selection, np.arange(selection.nspec)):
        stated = selection.survey_of(int(where[0])).medium
        media[where] = _stated(source, rows) if stated is None else stated
    return media.tolist()


def _stated(source: SpectrumSource, rows: npt.NDArray[np.int64]) -> list[str]:
    """Return the medium of rows as a catalogue states it."""
    fields = medium_fields(source.catalog.columns)
    return media_in(source.catalog.columns_of(fields, rows)) if fields else [UNKNOWN] * len(rows)


def medium_fields(columns: Container[str]) -> list[str]:
    """Return the column of a catalogue that states the medium of each spectrum, if there is one."""
    return [name for name in (MEDIUM_COLUMN, _IN_AIR) if name in columns][:1]


def media_in(table: pa.Table) -> list[str]:
    """Return the medium of each row of a table, which may have a column that states it."""
    if MEDIUM_COLUMN in table.column_names:
        values = table.column(MEDIUM_COLUMN).to_pylist()
        return [value if value in MEDIA else UNKNOWN for value in values]
    if _IN_AIR in table.column_names:
        return [AIR if value else UNKNOWN for value in table.column(_IN_AIR).to_pylist()]
    return [UNKNOWN] * table.num_rows


def limits_by_medium(limits_aa: Limits, media: Iterable[str]) -> dict[str, Limits]:
    """Return limits in vacuum Å as limits in each of the media that there are."""
    return {medium: limits_in(limits_aa, medium) for medium in set(media)}


def all_limits(limits_aa: Limits, media: Iterable[str]) -> Limits:
    """Return limits that hold those of spectra of several media, Å."""
    each = limits_by_medium(limits_aa, media).values() or [limits_aa]
    return min(low for low, _ in each), max(high for _, high in each)


def medium_together(
    selection: Selection,
    media: Sequence[str],
    wanted: str | None,
    take: npt.NDArray[np.int64] | None = None,
) -> str:
    """Return the medium in which spectra of a selection are brought together: `common_medium`.

    Parameters
    ----------
    media : of each of the spectra
    take : 1D[n] int, which of the selection; None: all
    """
    chosen = np.arange(selection.nspec) if take is None else take
    # Only an error has the names.
    names = selection.texts(chosen) if UNKNOWN in media else chosen.tolist()
    return common_medium(media, wanted, names)


def require_one_medium(selection: Selection) -> None:
    """Refuse spectra of several media, which no shift brings together."""
    if shared_medium(selection) is None and len(media := set(media_of(selection))) > 1:
        allowed = f"spectra of one medium; {RESAMPLE} brings them together"
        raise BadParameter("align", f"spectra in {' and '.join(sorted(media))}", allowed, RESAMPLE)


def changes_to(selection: Selection, medium: str) -> list[Change | None]:
    """Return the conversion of the wavelengths of each spectrum into a medium; None: none needed.

    Raises
    ------
    BadParameter
        The medium of some is not known.
    """
    media = media_of(selection)
    target = medium_together(selection, media, medium)
    return [change_of(own, target) for own in media]


def changed_axis(record: npt.NDArray[Any], grid: Grid, change: Change | None) -> npt.NDArray[Any]:
    """Return a record with its axis in another medium, 1D[npix] structured; the axis is float64.

    Parameters
    ----------
    record : 1D[npix] structured
    """
    names = record.dtype.names or ()
    if change is None or grid.axis not in names:
        return record
    out = record.astype(
        [(name, "<f8" if name == grid.axis else record.dtype[name]) for name in names]
    )
    out[grid.axis] = grid.axis_of(change(grid.wave_of(record[grid.axis])))
    return out
