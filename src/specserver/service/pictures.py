"""Pictures of spectra: one, many in a grid, many as the rows of an image."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ..errors import BadParameter, TooMuch
from ..model.lines import SKY_FIBRE, lines_of
from ..model.medium import UNKNOWN, VACUUM
from ..model.survey import Vector
from ..ops.media import change_of
from ..ops.pixels import bits_set
from ..render.display import DisplaySpectrum, display_spectrum, scaled_unit, unit_label
from ..render.png.preview import grid_png, grid_size, preview_png
from ..render.png.stacked_axes import BLANK, StackAxes, framed_png
from ..render.png.stacked_image import ImageLook, Stack, colour_map
from ..render.style import flux_power, wave_label
from ..wire.columns import REDSHIFT
from .alignment import require_one_unit
from .columns import read_columns
from .limits import while_wanted
from .media import media_of, require_one_medium
from .records import read_records, read_rows
from .selection import Selection, by_survey, part_of, require_some
from .spectra import wanted_vectors, wave_span

# Names as surveys publish them; a spectrum without one of the vectors is drawn without it.
_FLUX: Final = "flux"
_DRAWN: Final = (_FLUX, "ivar", "model")
_ONE_UNIT: Final = "fluxes of one unit in one image: draw each unit by itself, or use plotGrid"


@dataclass(frozen=True, slots=True)
class FluxRows:
    """Fluxes of many spectra, a row each, that are read in blocks."""

    shape: tuple[int, int]
    """Spectra, and pixels of a row."""
    dtype: np.dtype[Any]
    blocks: Iterator[npt.NDArray[Any]]
    """2D[n, npix] each, some rows after the other."""


@dataclass(frozen=True, slots=True)
class GridPage:
    """The page of a list that a grid shows."""

    nx: int
    """Columns."""
    ny: int
    """Rows."""
    page: int = 0

    def __post_init__(self) -> None:
        for name, value in (("nx", self.nx), ("ny", self.ny)):
            if value < 1:
                raise BadParameter(name, value, "1 or more plots in each direction")
        if self.page < 0:
            raise BadParameter("page", self.page, "0 for the first page")

    def within(self, nspec: int) -> "GridPage":
        """Return the page, or the last one of a list of ``nspec`` that has no such page."""
        last = max(-(-nspec // (self.nx * self.ny)), 1) - 1
        return replace(self, page=min(self.page, last))

    def of(self, nspec: int) -> npt.NDArray[np.int64]:
        """Return the indices of the spectra on the page, 1D[n] int; ``nspec`` are in the list."""
        size = self.nx * self.ny
        return np.arange(self.page * size, min(nspec, (self.page + 1) * size))


def preview(selection: Selection, go_on: Callable[[], None], *, dark: bool) -> bytes:
    """Return a PNG of the one spectrum of a selection."""
    require_some(selection)
    (spectrum,) = _plotted(selection, go_on)
    return preview_png(spectrum, dark=dark)


def plot_grid(
    selection: Selection,
    page: GridPage,
    go_on: Callable[[], None],
    *,
    align: bool,
    dark: bool,
    max_pixels: int,
) -> bytes:
    """Return a PNG of one page of a list.

    Parameters
    ----------
    align
        Draw all spectra over the same wavelengths, those of the whole list.
    max_pixels
        Limit of the picture's size.

    Raises
    ------
    TooMuch
        The picture would have more pixels.
    MixedLattices
        ``align`` with spectra that share no lattice.
    """
    require_some(selection)
    shown = part_of(selection, page.of(selection.nspec))
    width, height = grid_size(page.nx, page.ny)
    if width * height > max_pixels:
        raise TooMuch("pixels of a picture", width * height, max_pixels, "max_image_pixels")
    waves = None
    if align:
        selection.require_lattice()
        waves = wave_span(selection)
    return grid_png(_plotted(shown, go_on), page.nx, page.ny, dark=dark, waves=waves)


def stacked_png(
    selection: Selection,
    look: ImageLook,
    go_on: Callable[[], None],
    *,
    align: bool,
    max_pixels: int,
) -> bytes:
    """Return a PNG with a spectrum in each row, the first at the bottom.

    ``align`` puts them on their common lattice; else each begins at the left edge, and there is no
    wavelength axis.
    """
    require_some(selection)
    colour_map(look)
    if "wavelength" in look.axes and not align:
        raise BadParameter(
            "axes", "wavelength", "align=True: else a column is no wavelength", "align=True"
        )
    npix, left = _extent(selection, align=align)
    size = look.size(selection.nspec, npix, max_pixels)
    extent = left, left + selection.count
    stack = Stack(selection.nspec, npix, size, extent, common=look.common)
    at = 0
    rows = read_rows(selection, flux_of(selection), stack.npix, left)
    for block in while_wanted(rows, go_on):
        stack.add(at, block)
        at += len(block)
    if not look.axes:
        return stack.png(look)
    levels = stack.levels(look, BLANK - 1, BLANK)
    return framed_png(levels, look, _axes_of(selection, stack, look))


def _axes_of(selection: Selection, stack: Stack, look: ImageLook) -> StackAxes:
    """Return what the axes of a stacked image show."""
    wave, label, z, bar = None, "", None, ""
    if "wavelength" in look.axes:
        wave = selection.grid.wave(selection.span.first, stack.npix)
        label = wave_label(media_of(selection))
    if "redshift" in look.axes:
        column = read_columns(selection, [REDSHIFT], np.arange(selection.nspec)).column(0)
        z = column.to_numpy().astype(np.float64)
    if "colorbar" in look.axes:
        power = flux_power(stack.limits)
        unit = unit_label(scaled_unit(selection.surveys[0].flux_scale, power))
        bar = "relative flux" if not look.common else f"flux density ({unit})" if unit else "flux"
    return StackAxes(wave, label, z, bar, stack.limits)


def stacked_flux(
    selection: Selection, go_on: Callable[[], None], *, align: bool, yflip: bool
) -> FluxRows:
    """Return fluxes as an array, a row a spectrum, read in blocks.

    Row 0 is the first spectrum, unless ``yflip``; zero where a spectrum has no pixels.
    """
    require_some(selection)
    if yflip:
        selection = part_of(selection, np.arange(selection.nspec)[::-1])
    npix, left = _extent(selection, align=align)
    vector = flux_of(selection)
    blocks = while_wanted(read_rows(selection, vector, npix, left), go_on)
    return FluxRows((selection.nspec, npix), np.dtype(vector.dtype), blocks)


def flux_of(selection: Selection) -> Vector:
    """Return the vector that is drawn."""
    vectors = [wanted_vectors(survey, [_FLUX])[0] for survey in selection.surveys]
    return replace(vectors[0], dtype=np.result_type(*[vector.dtype for vector in vectors]).str)


def _extent(selection: Selection, *, align: bool) -> tuple[int, npt.NDArray[np.int64]]:
    """Return pixels of a row, and the pixel at which each spectrum begins, 1D[nspec].

    Raises
    ------
    BadParameter
        Units of flux differ; or media, of spectra that are to be aligned.
    MixedLattices
        Spectra that are to be aligned share no lattice.
    """
    require_one_unit(selection, _ONE_UNIT)
    if not align:
        return max(int(selection.count.max()), 1), np.zeros(selection.nspec, np.int64)
    selection.require_lattice()
    require_one_medium(selection)
    span = selection.span
    return max(span.count, 1), selection.first.astype(np.int64) - span.first


def _plotted(selection: Selection, go_on: Callable[[], None]) -> list[DisplaySpectrum]:
    """Return the drawing data of each spectrum of a selection."""
    parts = by_survey(selection)
    drawn = [list(_plotted_of_one(part, go_on)) for part, _ in parts]
    order = np.argsort(np.concatenate([places for _, places in parts]))
    whole = list(chain.from_iterable(drawn))
    return [whole[at] for at in order.tolist()]


def _plotted_of_one(selection: Selection, go_on: Callable[[], None]) -> Iterator[DisplaySpectrum]:
    """Yield the drawing data of each spectrum of one survey."""
    survey = selection.survey
    known = {column.name for column in survey.columns}
    warning, _ = survey.z_warning or ("", 0)
    subclass = next((fact.column for fact in survey.facts if fact.label == "subclass"), "")
    wanted = (*survey.name_columns, survey.class_column, subclass, survey.z_column, warning)
    asked = [column for column in wanted if column in known]
    table = read_columns(selection, list(dict.fromkeys(asked)), np.arange(selection.nspec))
    axis = survey.grid.axis
    mask = survey.mask_vector if survey.bad_bits else ""
    names = [vector.name for vector in survey.record if vector.name in (*_DRAWN, axis, mask)]
    batches = read_records(selection, lambda own: wanted_vectors(own, names), None)
    records = chain.from_iterable(while_wanted(batches, go_on))
    media = media_of(selection)
    for index, (record, row) in enumerate(zip(records, table.to_pylist(), strict=True)):
        doubt = row.get(warning) or 0
        is_sky = survey.is_sky(row)
        kind = SKY_FIBRE if is_sky else str(row.get(survey.class_column) or "").strip().upper()
        yield display_spectrum(
            _wave(selection, index, record, media[index]),
            {name: record[name] for name in names},
            None if is_sky else row.get(survey.z_column),
            bits_set(record[mask], survey.bad_bits) if mask in names else None,
            title=f"{survey.name_of(row)} {selection.release(index)}".strip(),
            # A question mark: the pipeline itself doubts class and redshift.
            kind=kind + ("?" if doubt and not is_sky else ""),
            lines=lines_of(kind, str(row.get(subclass) or "")),
            flux_unit=survey.flux_scale,
            medium=UNKNOWN if media[index] == UNKNOWN else VACUUM,
        )


def _wave(
    selection: Selection, index: int, record: npt.NDArray[Any], medium: str
) -> npt.NDArray[np.float64]:
    """Return vacuum wavelengths of a spectrum, 1D[npix], Å; as they are where nothing is known.

    They are those of the lattice where it is on it.
    """
    grid, change = selection.grid, change_of(medium, VACUUM)
    if selection.on_lattice[index]:
        wave = grid.wave(int(selection.first[index]), len(record))
    else:
        wave = grid.wave_of(record[grid.axis])
    return wave if change is None else change(wave)
