"""The spectra of a context, as value-added tables look them up."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..catalog.base import Catalogue
from ..catalog.segment_rows import declared_type
from ..model.survey import Release, Survey
from ..store.fits import FitsTree
from .fits_tree_source import MAX_FILES
from .id_lookup import find_exact


@dataclass(frozen=True, slots=True)
class SpectrumResolver:
    """The spectra of one context (`HeldSpectra`): of its catalogue first, then of its tree."""

    survey: Survey
    release: Release
    catalog: Catalogue | None
    tree: FitsTree | None

    @property
    def version(self) -> str:
        """Text that changes when other spectra are held."""
        index = self.catalog.version if self.catalog else ""
        files = f"{self.tree.root} {self.tree.nfiles}" if self.tree else ""
        return f"{index} {files}"

    def ids(self, numbers: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[Any]:
        """Return the identifier of each tuple without its reduction, 1D[n]; 0: none is held.

        It is that of the release's own reduction, or else of the newest one held.

        Parameters
        ----------
        numbers : 1D[n] int each, the parts of the tuples
        """
        ids = np.zeros(len(numbers[0]), self.survey.id_column.dtype)
        given = np.logical_and.reduce([values > 0 for values in numbers])
        if self.catalog is not None:
            there, (_, rows) = find_exact(
                self.survey,
                [(0, self.catalog)],
                self.release.reductions,
                numbers,
                np.full(len(ids), ""),
                given,
            )
            ids[there] = self.catalog.place(rows).ids
        if self.tree is not None:
            for index in np.flatnonzero(given & (ids == 0)).tolist():
                row = [int(values[index]) for values in numbers]
                found = (
                    self.tree.find(row, reduction) for reduction in reversed(self.tree.reductions)
                )
                ids[index] = next((file.id for file in found if file), 0)
        return ids

    def best_with(self, ids: npt.NDArray[Any], columns: pa.Table) -> npt.NDArray[np.int64]:
        """Return the best row, 1D[n], of each identifier, 1D[n]: `HeldSpectra.best_with`."""
        if self.catalog is None:
            return np.full(len(ids), -1, np.int64)
        return self.catalog.best_with(ids, columns)

    def parts(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Return the parts of the tuple form of rows, 1D[n] int; null where a row is -1."""
        names = list(self.survey.id_parts)
        types = {column.name: column.dtype for column in self.survey.columns}
        if self.catalog is None:
            return pa.table(
                {name: pa.nulls(len(rows), declared_type(types[name])) for name in names}
            )
        known = np.flatnonzero(rows >= 0)
        at = np.zeros(len(rows), np.int64)
        at[known] = np.arange(len(known))
        return self.catalog.columns_of(names, rows[known]).take(pa.array(at, mask=rows < 0))

    def positions(
        self, ids: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec, 1D[n] each, of identifiers, 1D[n]: `HeldSpectra.positions`."""
        ra, dec = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        if self.catalog is not None:
            rows = self.catalog.with_ids(ids) if rows is None else rows
            held = np.flatnonzero(rows >= 0)
            ra[held], dec[held] = self.catalog.positions(rows[held])
        if self.tree is not None:
            # Each is a file to be read, so a table that is to have positions brings its own.
            lost = np.flatnonzero(np.isnan(ra))[:MAX_FILES]
            for index, file in zip(lost.tolist(), self.tree.find_ids(ids[lost]), strict=True):
                if file is not None:
                    spectrum = self.tree.read(file)
                    ra[index], dec[index] = spectrum.ra_deg, spectrum.dec_deg
        return ra, dec
