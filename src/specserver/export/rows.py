"""Rows of a release as Arrow tables: catalogue columns, and spectra as a column of structs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import DamagedFile, DamagedSpectrum, StoreError
from ..model.medium import MEDIUM_COLUMN
from ..model.nested import (
    DESCRIPTION,
    MEANING,
    PIXEL_COLUMN,
    UNIT,
    WAVELENGTH,
    NestedSpectra,
)
from ..model.survey import Column, Survey, Vector
from ..service.cells import read_names
from ..service.open_contexts import OpenRelease
from ..service.probing import is_other
from ..service.selection import by_number
from ..store.base import SpectrumStore

SPECTRUM: Final = "spectrum"
"""Name of the column of spectra, unless the catalogue has a column of that name."""
_WAVE: Final = Vector(WAVELENGTH, "<f8", "Angstrom", "wavelength")
_MEDIUM: Final = b"medium"
_FRAME: Final = b"frame"
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Places:
    """Spectra and where they are stored: parallel arrays, 1D[n], in the order of the sky."""

    ids: npt.NDArray[Any]
    pixels: Ints
    """Order-29 nested pixels."""
    segments: npt.NDArray[np.int32]
    """Number of the segment in the catalogue."""
    rows: npt.NDArray[np.int32]
    """Row of the segment."""

    def take(self, which: Any) -> "Places":
        """Return some of the spectra, by their indices or a slice."""
        return Places(self.ids[which], self.pixels[which], self.segments[which], self.rows[which])


class TableReader:
    """Reads rows of a release as tables of one schema; safe to share between threads.

    Parameters
    ----------
    survey : of the release, in the unit of flux of the spectra
    skip_damaged : leave damaged spectra out, instead of raising an error
    """

    def __init__(self, source: OpenRelease, survey: Survey, *, skip_damaged: bool) -> None:
        self._source = source
        self._survey = survey
        self._skip = skip_damaged
        names = list(source.catalog.columns)
        nothing = source.catalog.columns_of(names, np.empty(0, np.int64))
        axis = survey.grid.axis
        # Where the published axis is another quantity, such as its logarithm, it stays beside it.
        extra = () if axis == WAVELENGTH else (_WAVE,)
        self._vectors = (*extra, *survey.record)
        taken = [*names, PIXEL_COLUMN]
        self.column = next(name for name in (SPECTRUM, "spectra", "_spectrum") if name not in taken)
        self.schema = self._schema(nothing.schema)

    def _schema(self, catalogue: pa.Schema) -> pa.Schema:
        """Return the schema of the tables, with units and meanings."""
        survey = self._survey
        known = {column.name: column for column in survey.columns}
        pixel = Column(PIXEL_COLUMN, "<i8", "", "HEALPix pixel of order 29, nested")
        fields = [_described(pa.field(PIXEL_COLUMN, pa.int64(), nullable=False), pixel)]
        fields += [
            _described(field.remove_metadata(), known.get(field.name)) for field in catalogue
        ]
        medium = survey.medium or f"as column {MEDIUM_COLUMN} states"
        lists = []
        for vector in self._vectors:
            field = pa.field(vector.name, pa.list_(_type(vector)))
            about = _about(vector.unit, vector.meaning)
            if vector.name in {WAVELENGTH, survey.grid.axis}:
                about |= {_MEDIUM: medium.encode(), _FRAME: survey.frame.encode()}
            lists.append(field.with_metadata(about))
        meaning = _about("", "the spectrum: lists with a value for each pixel")
        fields.append(pa.field(self.column, pa.struct(lists), metadata=meaning))
        described = NestedSpectra.of_survey(survey, self.column).to_json()
        return pa.schema(fields, metadata={DESCRIPTION: described.encode()})

    def hold(self, places: Places) -> None:
        """Open all files of the catalogue that reading needs.

        They stay readable here if ``maintain`` deletes them before they are read.
        """
        # The spectra of a segment are in one part of the index.
        _, one_of_each = np.unique(places.segments, return_index=True)
        self._catalogue(places.take(one_of_each))

    def read(self, places: Places) -> tuple[pa.Table, list[str]]:
        """Return spectra as a table, and the identifiers of damaged ones that are left out.

        Raises
        ------
        DamagedSpectrum
            A spectrum is damaged, unless such are to be left out.
        StoreError
            The index leads to another spectrum.
        """
        lost = np.zeros(len(places.ids), np.bool_)
        groups = []
        for number, where in by_number(places.segments):
            group = self._open(number, places.take(where), lost, where)
            if group is not None:
                groups.append(group)
        kept = np.flatnonzero(~lost)
        gone = [str(number) for number in places.ids[lost].tolist()]
        # Positions among the rows that are kept.
        at = np.cumsum(~lost) - 1
        groups = [replace(group, where=at[group.where]) for group in groups]
        places = places.take(kept) if len(kept) < len(lost) else places
        columns = {PIXEL_COLUMN: pa.array(places.pixels)}
        columns |= self._catalogue(places)
        columns[self.column] = self._spectra(groups, len(kept))
        return pa.table([columns[name] for name in self.schema.names], self.schema), gone

    def _open(
        self, number: int, places: Places, lost: npt.NDArray[np.bool_], where: Ints
    ) -> "_Group | None":
        """Return the spectra of one segment, read; mark those that are damaged as ``lost``."""
        context = self._source.release.context
        try:
            segment = self._source.segment(number)
        except DamagedFile as error:
            if not self._skip:
                raise DamagedSpectrum(context, np.unique(places.ids).tolist(), error) from error
            lost[where] = True
            return None
        wrong = places.ids[is_other(segment.ids, places.rows, places.ids)]
        if len(wrong):
            why = f"the index leads to another spectrum than {wrong[0]}; 'specserver verify' lists"
            raise StoreError(context, f"{why} such links")
        names = read_names(segment, [vector.name for vector in self._survey.record])
        try:
            values = segment.request(names, places.rows, segment.window)()
        except DamagedFile:
            if not self._skip:
                raise
            bad = segment.unreadable(names, places.rows)
            lost[where[bad]] = True
            where, rows = where[~bad], places.rows[~bad]
            if not len(rows):
                return None
            values = segment.request(names, rows, segment.window)()
            return _Group(segment, where, rows, values)
        return _Group(segment, where, places.rows, values)

    def _catalogue(self, places: Places) -> dict[str, pa.ChunkedArray]:
        """Return the catalogue columns of spectra by name."""
        catalog = self._source.catalog
        rows = catalog.all_with_ids(np.unique(places.ids))
        found = catalog.place(rows)
        # Several spectra may share an identifier: their places tell them apart.
        held = found.segment.astype(np.int64) << 32 | found.row
        wanted = places.segments.astype(np.int64) << 32 | places.rows
        order = np.argsort(held)
        mine = rows[order[np.searchsorted(held[order], wanted)]]
        names = list(catalog.columns)
        table = catalog.columns_of(names, mine)
        return dict(zip(names, table.columns, strict=True))

    def _spectra(self, groups: Sequence["_Group"], nspec: int) -> pa.StructArray:
        """Return the column of spectra."""
        counts = np.zeros(nspec, np.int64)
        for group in groups:
            counts[group.where] = group.segment.count[group.rows]
        begins = np.concatenate([[0], np.cumsum(counts)])
        offsets = pa.array(begins.astype(np.int32))
        lists = []
        for vector in self._vectors:
            flat = np.empty(begins[-1], vector.dtype)
            for group in groups:
                for where, values in group.lines(vector.name):
                    flat[begins[where] : begins[where + 1]] = values
            lists.append(pa.ListArray.from_arrays(offsets, pa.array(flat, _type(vector))))
        return pa.StructArray.from_arrays(lists, fields=list(self.schema.field(self.column).type))


@dataclass(frozen=True, slots=True)
class _Group:
    """Spectra of one segment, read."""

    segment: SpectrumStore
    where: Ints
    """1D[n], their positions among the rows of the table."""
    rows: npt.NDArray[np.int32]
    """1D[n], row of the segment."""
    values: Mapping[str, npt.NDArray[Any]]
    """Vectors as 2D[n, npix]."""

    def lines(self, name: str) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """Yield the values of a vector, 1D[npix] of each spectrum, and its position."""
        segment = self.segment
        block, shared = self._block(name)
        first = (segment.first[self.rows] - segment.start).tolist()
        counts = segment.count[self.rows].tolist()
        for line, (where, begin, count) in enumerate(
            zip(self.where.tolist(), first, counts, strict=True)
        ):
            yield where, block[0 if shared else line][begin : begin + count]

    def _block(self, name: str) -> tuple[npt.NDArray[Any], bool]:
        """Return a vector as 2D[n, npix], or 2D[1, npix] if all spectra share it."""
        segment, axis = self.segment, self.segment.grid.axis
        if name in self.values:
            return self.values[name], False
        if not segment.on_lattice:
            return segment.grid.wave_of(self.values[axis]), False
        make = segment.grid.axis_values if name == axis else segment.grid.wave
        return make(segment.start, segment.npix)[np.newaxis], True


def _type(vector: Vector) -> pa.DataType:
    """Return the Arrow type of the values of a vector."""
    return pa.from_numpy_dtype(np.dtype(vector.dtype))


def _described(field: pa.Field, column: Column | None) -> pa.Field:
    """Return a field with the unit and the meaning of its column."""
    about = _about(column.unit, column.meaning) if column else {}
    return field.with_metadata(about) if about else field


def _about(unit: str, meaning: str) -> dict[bytes, bytes]:
    """Return a unit and a meaning as metadata; empty ones are left out."""
    return {key: text.encode() for key, text in ((UNIT, unit), (MEANING, meaning)) if text}
