"""Spectra of a release as a dataset of xarray: lazy arrays, and the catalogue as coordinates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import dask.array as da
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xarray as xr
from dask.base import tokenize

from ..errors import BadParameter, UnknownField
from ..model.grid import PixelRange, span
from ..model.medium import UNKNOWN
from ..model.survey import UNIT_COLUMN, Survey, Vector
from ..service.media import media_in, medium_fields
from ..service.open_contexts import OpenRelease
from ..store.lazy_vector import LazyVector
from ..store.zarr import ABOUT

PLACE: Final = ("_segment", "_row")
"""Hidden columns of the catalogue: the place of a spectrum."""
_OURS: Final = frozenset({"spectrum", "pixel", "wavelength", "first", "count"})


@dataclass(frozen=True, slots=True)
class Spectra:
    """Spectra in the order of the store: by segment, then by row."""

    table: pa.Table
    """Catalogue columns of the spectra."""
    segment: npt.NDArray[np.int32]
    """1D[nspec], number of the segment."""
    row: npt.NDArray[np.int32]
    """1D[nspec], row in the segment."""
    first: npt.NDArray[np.int32]
    """1D[nspec], lattice pixel of the first value; 0 off the lattice."""
    count: npt.NDArray[np.int32]
    others: int
    """Number of spectra left out: those off the lattice, or, with ``off_lattice``, those on it."""

    @classmethod
    def of(cls, source: OpenRelease, table: pa.Table, *, off_lattice: bool) -> "Spectra":
        """Return the spectra of catalogue rows that are on the lattice, or off it."""
        segment, row = (table.column(name).to_numpy() for name in PLACE)
        first, count = np.zeros(len(row), np.int32), np.zeros(len(row), np.int32)
        chosen = np.zeros(len(row), np.bool_)
        order = np.lexsort((row, segment))
        numbers, at = np.unique(segment[order], return_index=True)
        for number, mine in zip(numbers.tolist(), np.split(order, at[1:]), strict=False):
            opened = source.segment(number)
            first[mine], count[mine] = opened.first[row[mine]], opened.count[row[mine]]
            chosen[mine] = opened.on_lattice != off_lattice
        take = order[chosen[order]]
        others = len(row) - len(take)
        rest = table.drop_columns(list(PLACE)).take(pa.array(take))
        return cls(rest, segment[take], row[take], first[take], count[take], others)

    def chunks(self, most: int) -> tuple[int, ...]:
        """Return the spectra of each chunk: those of a shard, or of several with few chosen.

        The usual ``most`` is a shard, 20 to 30 MB of a vector: enough that reading it takes longer
        than scheduling it, and so little that a process holds several at once. Any number reads
        no more than it needs, for a spectrum is an inner chunk of its own.
        """
        change = np.diff(self.segment) | np.diff(self.row // most)
        bounds = np.concatenate([[0], np.flatnonzero(change) + 1, [len(self.row)]])
        sizes: list[int] = []
        for size in np.diff(bounds).tolist():
            if sizes and sizes[-1] + size <= most:
                sizes[-1] += size
            else:
                sizes.append(size)
        return tuple(sizes)


def chosen_vectors(
    survey: Survey, names: Sequence[str] | None, *, off_lattice: bool
) -> tuple[Vector, ...]:
    """Return the vectors asked for, in the survey's order; off the lattice the axis with them."""
    axis = survey.grid.axis
    record = survey.record if off_lattice else survey.vectors
    known = {vector.name: vector for vector in record}
    if names is None:
        usual = {vector.name for vector in survey.record}
        return tuple(vector for vector in record if vector.name in usual)
    wanted = {name.strip().lower() for name in names}
    for name in wanted - set(known):
        raise UnknownField(name, list(known))
    return tuple(vector for vector in record if vector.name in {*wanted, axis})


def chosen_columns(source: OpenRelease, names: Sequence[str] | None) -> list[str]:
    """Return the catalogue's names of the columns asked for, each once."""
    survey, catalog = source.survey, source.catalog
    if names is None:
        return list(catalog.columns)
    always = [survey.id_column.name, "ra", "dec", survey.z_column, survey.class_column]
    always += [UNIT_COLUMN] if survey.in_unit and UNIT_COLUMN in catalog.columns else []
    always += medium_fields(catalog.columns) if survey.medium is None else []
    return list(dict.fromkeys(catalog.spelling(name) for name in (*always, *names)))


def in_one_unit(survey: Survey, table: pa.Table) -> Survey:
    """Return the survey in the unit of flux of all rows; several units are refused."""
    if survey.in_unit is None or UNIT_COLUMN not in table.column_names:
        return survey
    stated = table.column(UNIT_COLUMN).unique().to_pylist()
    units = sorted({survey.flux_scale if unit is None else unit for unit in stated})
    if len(units) > 1:
        raise BadParameter(
            "constraint",
            f"fluxes in {', '.join(map(repr, units))}",
            f"one array has one unit: constraint=\"{UNIT_COLUMN} = '{units[0]}'\"",
        )
    return survey.in_unit(units[0]) if units else survey


def make_dataset(
    source: OpenRelease,
    survey: Survey,
    spectra: Spectra,
    vectors: tuple[Vector, ...],
    chunks: tuple[int, ...],
    *,
    off_lattice: bool,
) -> xr.Dataset:
    """Return the dataset of some spectra."""
    window = _window(spectra, vectors)
    arrays = {
        vector.name: xr.Variable(
            ("spectrum", "pixel"),
            lazy_rows(_stored(source, spectra, vector, window), chunks),
            _about(vector.unit, vector.meaning),
        )
        for vector in vectors
    }
    coords = _catalogue(survey, spectra.table, {*arrays, *_OURS})
    coords["first"] = xr.Variable("spectrum", spectra.first, ABOUT["first"])
    coords["count"] = xr.Variable("spectrum", spectra.count, ABOUT["count"])
    medium = survey.medium or _medium_of(spectra.table)
    about = {"units": "Angstrom", "medium": medium, "long_name": "wavelength"}
    if off_lattice:
        axis = arrays[survey.grid.axis].data
        wave = da.map_blocks(survey.grid.wave_of, axis, dtype=np.float64)  # type: ignore[no-untyped-call]  # Dask states no types
        own = da.where(axis > 0.0, wave, np.nan)
        coords["wavelength"] = xr.Variable(("spectrum", "pixel"), own, about)
        # If the axis of a survey is the wavelength, the coordinate replaces the variable.
        arrays.pop("wavelength", None)
    else:
        wave = survey.grid.wave(window.first, window.count)
        coords["wavelength"] = xr.Variable("pixel", wave, about)
    attributes = {
        "survey": survey.title,
        "context": source.release.context,
        "release": source.release.title,
        "flux_unit": survey.flux_scale,
        "frame": survey.frame,
        "first_pixel": window.first,
        "left_out": spectra.others,
    }
    dataset = xr.Dataset(arrays, xr.Coordinates(coords, indexes={}), attributes)
    identifier = survey.id_column.name
    if len(np.unique(dataset[identifier])) == dataset.sizes["spectrum"]:
        dataset = dataset.set_xindex(identifier)
    return dataset if off_lattice else dataset.set_xindex("wavelength")


def _medium_of(table: pa.Table) -> str:
    """Return the medium of all rows of the catalogue, or where that of each is stated."""
    media, fields = set(media_in(table)), medium_fields(table.column_names)
    if len(media) < 2 or not fields:
        return next(iter(media), UNKNOWN)
    return f"as the coordinate {fields[0]} says"


def _window(spectra: Spectra, vectors: tuple[Vector, ...]) -> PixelRange:
    """Return the pixels that hold all spectra, as far as the vectors cover them."""
    window = span(spectra.first, spectra.count)
    covers = [vector.pixels or (window.first, window.stop) for vector in vectors]
    if not covers:
        return window
    first = max(window.first, min(first for first, _ in covers))
    return PixelRange(first, max(first, min(window.stop, max(stop for _, stop in covers))))


def _stored(
    source: OpenRelease, spectra: Spectra, vector: Vector, window: PixelRange
) -> LazyVector:
    """Return the places of one vector of some spectra."""
    numbers, counts = np.unique(spectra.segment, return_counts=True)
    held = sum(source.segment(number).nspec for number in numbers.tolist())
    names = source.catalog.segments
    return LazyVector(
        folders=tuple(source.folder.segment(names[number]) for number in numbers.tolist()),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        # Numbers of a hundred million spectra are large to send.
        rows=None if held == len(spectra.row) else spectra.row,
        vector=vector.name,
        dtype=np.dtype(vector.dtype),
        window=window,
    )


def lazy_rows(stored: LazyVector, chunks: tuple[int, ...]) -> da.Array:
    """Return stored rows as a Dask array, a chunk all pixels of so many spectra each."""
    # A segment never changes, so its name identifies its values.
    token = tokenize([str(folder) for folder in stored.folders], stored.rows, stored.window, chunks)
    lazy: da.Array = da.from_array(  # type: ignore[no-untyped-call]  # Dask states no types
        stored,
        chunks=(chunks, (stored.window.count,)),
        name=f"{stored.vector}-{token}",
        asarray=False,
        meta=np.empty((0, 0), stored.dtype),
    )
    return lazy


def _catalogue(survey: Survey, table: pa.Table, taken: set[str]) -> dict[str, xr.Variable]:
    """Return columns of the catalogue as coordinates; ``catalog_<name>`` where a name is taken."""
    known = {column.name: column for column in survey.columns}
    found = {}
    for name in table.column_names:
        about: dict[str, Any] = {}
        if name in known:
            about = _about(known[name].unit, known[name].meaning)
        values = _values(table.column(name), about)
        found[f"catalog_{name}" if name in taken else name] = xr.Variable("spectrum", values, about)
    return found


def _about(unit: str, meaning: str) -> dict[str, Any]:
    """Return the attributes of a variable; a unit or a meaning that is not known is left out."""
    stated = {"units": unit, "long_name": meaning}
    return {name: text for name, text in stated.items() if text}


def _values(column: pa.ChunkedArray, about: dict[str, Any]) -> npt.NDArray[Any]:
    """Return a column as an array, 1D[nspec]; what stands for missing values goes to ``about``.

    Integers stay integers, as identifiers and bit masks do not survive being made floats. So
    ``about`` names their missing value by none of the attributes of CF (``missing_value``,
    ``_FillValue``), for which xarray makes them floats when it reads a file. Booleans stay
    booleans: as numbers they would choose rows 0 and 1 where they are used as a mask.
    """
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return np.array(column.fill_null("").to_pylist(), dtype=np.str_)
    if column.null_count and pa.types.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        about["null_value"] = limits.min or limits.max
        column = column.fill_null(about["null_value"])
    elif column.null_count and pa.types.is_boolean(kind):
        # As a text: files of netCDF take no boolean attributes.
        about["comment"] = f"false also for {column.null_count} spectra without a value"
        column = column.fill_null(False)
    values: npt.NDArray[Any] = column.to_numpy()
    return values
