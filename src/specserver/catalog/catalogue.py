"""Questions to the catalogue of one context, answered from one generation of its index.

Geometry and identifiers are searched in sorted, memory-mapped columns; conditions on other
columns are answered by DuckDB, among the rows that geometry left. Values of the rows found come
from memory-mapped columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..data.context import GenerationFolder
from ..errors import TooMuch
from ..model.id_tuple import IdPattern
from ..model.region import Cone, Polygon
from ..model.survey import Survey
from .base import Catalogue, Place, Rows
from .crossmatch import SkyColumns
from .deadline import NEVER, Deadline
from .duckdb.best import find_best
from .duckdb.statements import ObjectsReader
from .field_names import FieldNames
from .healpix import cover
from .index.build import load_sidecars
from .index.column_file import MappedColumns
from .index.generations import IndexInfo, check_generation
from .part_search import PartSearch, spans_of
from .sql.expressions import Condition
from .tables.joined import JoinedColumns

# Runs of candidates nearer than this are read as one run: testing the rows between takes no longer
# than beginning another run.
_GAP_ROWS: Final = 64
# Candidates tested between two checks of the deadline: some 50 ms and 20 MB.
_BLOCK_ROWS: Final = 2**18


class MappedCatalogue:
    """One generation of an index, open for reading: the `Catalogue` of a data folder.

    Parameters
    ----------
    survey : with the columns of this catalogue
    info : what the generation covers
    spectra : the catalogue of the context, to which the rows of a value-added table are joined
    """

    def __init__(
        self,
        survey: Survey,
        generation: GenerationFolder,
        info: IndexInfo,
        spectra: Catalogue | None = None,
    ) -> None:
        self.survey = survey
        self.info = info
        self.version = info.name
        self.segments = info.segments
        self.columns = {
            name: kind for name, kind in info.columns.items() if not name.startswith("_")
        }
        check_generation(generation, info)
        self._columns = load_sidecars(generation, info.nrows, survey.id_column.dtype)
        self._mapped = MappedColumns(generation, info.nrows)
        self._parts = PartSearch(self._mapped, survey.id_parts, info.nrows)
        self._joined: JoinedColumns | None = None
        self.spectrum_columns: Mapping[str, str] = {}
        self._take = self._mapped.take
        if spectra is not None:
            self._joined = JoinedColumns(self._mapped, self._columns["id"], spectra)
            self.spectrum_columns = self._joined.of_spectra
            self._take = self._joined.take
        self._objects = ObjectsReader(
            generation.database, info.columns, self.spectrum_columns, self._take
        )

    @property
    def is_damaged(self) -> bool:
        """Whether the database was found damaged since it was opened."""
        return self._objects.is_damaged

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""
        name = field.strip().strip('"').lower()
        name = self.survey.aliases.get(name, name)
        if name not in self.columns and name not in self.spectrum_columns:
            columns = (*self.columns, *self.spectrum_columns)
            raise FieldNames(columns, self.survey.aliases, self.survey.columns).unknown(field)
        return name

    def in_region(self, region: Cone | Polygon, deadline: Deadline = NEVER) -> Rows:
        """Return the rows whose position lies in a region, ascending."""
        ra, dec = self._columns["ra"], self._columns["dec"]
        found = []
        for rows in _blocks(np.searchsorted(self._columns["hpx"], cover(region))):
            deadline.check()
            found.append(rows[region.contains(ra[rows], dec[rows], deadline.check)])
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none."""
        known, rank = self._columns["id_sorted"], self._columns["id_rank"]
        if not len(known):
            return np.full(len(ids), -1, np.int64)
        # Searches in order share the processor's cache: a third of the time.
        order = np.argsort(ids)
        at = np.minimum(np.searchsorted(known, ids[order]), len(known) - 1)
        rows = np.empty(len(ids), np.int64)
        rows[order] = np.where(known[at] == ids[order], rank[at], -1)
        return rows

    def all_with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return all rows of some identifiers, ascending: a value-added table may repeat one."""
        known, rank = self._columns["id_sorted"], self._columns["id_rank"]
        wanted = np.unique(ids)
        starts = np.searchsorted(known, wanted)
        here = starts < len(known)
        starts, wanted = starts[here], wanted[here]
        starts, wanted = starts[known[starts] == wanted], wanted[known[starts] == wanted]
        nexts = np.minimum(starts + 1, len(known) - 1)
        if not np.any((known[nexts] == wanted) & (nexts > starts)):
            return np.sort(rank[starts])
        counts = np.searchsorted(known, wanted, "right") - starts
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.sort(rank[np.repeat(starts, counts) + within])

    def place(self, rows: Rows) -> Place:
        """Return identifier, segment number and segment row of rows."""
        columns = self._columns
        return Place(columns["id"][rows], columns["segment"][rows], columns["row"][rows])

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self._columns["id"][row])

    def query(
        self,
        fields: Sequence[str],
        condition: Condition,
        rows: Rows | None,
        *,
        primary: bool,
        deadline: Deadline = NEVER,
        max_rows: int | None = None,
    ) -> pa.Table:
        """Return columns of the rows that meet a condition, as `Catalogue.query` says."""
        joined = self._joined
        if joined and not joined.of_spectra.keys().isdisjoint({*fields, *condition.columns}):
            rows = joined.with_spectrum(rows)
        if condition.where is None and not condition.order:
            found = self._plain(rows, primary=primary)[: condition.limit]
        elif rows is None:
            best = self.survey.primary if primary else None
            found = self._objects.meeting(condition, None, best, deadline)
        else:
            found = self._plain(rows, primary=primary)
            if len(found):
                found = self._objects.meeting(condition, found, None, deadline)
        deadline.check()
        if max_rows is not None and len(found) > max_rows:
            raise TooMuch("rows", len(found), max_rows, "max_rows")
        table = self._take(fields, found)
        deadline.check()
        return table

    def holds(self, column: str) -> bool:
        """Return whether there is a column, hidden or not: older versions wrote fewer."""
        return column in self.info.columns

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept."""
        return self._take(fields, rows)

    def matching(self, pattern: IdPattern, deadline: Deadline = NEVER) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple with wildcards names, and their identifier parts."""
        parts = pattern.parts
        if pattern.form.leads_with_id and parts[0] is not None:
            dtype = np.dtype(self.survey.id_column.dtype)
            # Each is one identifier: lists of them have no ranges.
            wanted, _ = spans_of(parts[0], dtype)
            rows = self._having(self.all_with_ids(wanted), pattern.told)
            parts = (None, *parts[1:])
        else:
            rows = self._parts.candidates(parts)
        return self._parts.matching(rows, parts, deadline)

    def _having(self, rows: Rows, wanted: Sequence[tuple[str, str]]) -> Rows:
        """Return the rows that have some values, compared as text, in the columns named."""
        if not wanted or not len(rows):
            return rows
        good = np.ones(len(rows), np.bool_)
        held = [(name, value) for name, value in wanted if self.holds(name)]
        table = self._mapped.take(list(dict.fromkeys(name for name, _ in held)), rows)
        for name, value in held:
            stated = table.column(name).to_pylist()
            good &= np.array([cell is not None and str(cell) == value for cell in stated])
        return rows[good]

    @property
    def sky(self) -> SkyColumns:
        """Positions and identifiers of all rows."""
        names = ("hpx", "ra", "dec", "id", "primary")
        return SkyColumns(*(self._columns[name] for name in names))

    def positions(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec of rows, degrees, 1D[n]."""
        return self._columns["ra"][rows], self._columns["dec"][rows]

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking``, ``row`` and ``reduction`` of the rows with some identifier parts."""
        *names, last = self.survey.id_parts
        return self._objects.linked(parts, names, last)

    def best_with(self, ids: npt.NDArray[Any], columns: pa.Table) -> Rows:
        """Return the best row of each identifier among those that agree with it, 1D[n]."""
        survey = self.survey
        by = [name for name in columns.column_names if name in self.columns]
        order = [name for name, _ in survey.best.order] if survey.best else []
        wanted = [name for name in (survey.id_column.name, *by, *order) if name in self.columns]
        rows = self.all_with_ids(ids)
        spectra = self.columns_of(list(dict.fromkeys(wanted)), rows)
        asked = columns.select(by).append_column(survey.id_column.name, pa.array(ids))
        found = find_best(survey, asked, spectra, by)
        return np.where(found >= 0, rows[found], -1) if len(rows) else found

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones."""
        return int(self._columns["primary"].sum()) if primary else self.info.nrows

    def close(self) -> None:
        """Detach the database; memory-mapped columns go with the object."""
        self._objects.close()

    def _plain(self, rows: Rows | None, *, primary: bool) -> Rows:
        """Return the rows of a query without a condition, ascending: no database is used."""
        best = self._columns["primary"]
        if rows is None:
            return np.flatnonzero(best) if primary else np.arange(self.info.nrows)
        return rows[best[rows]] if primary else rows


def _blocks(runs: npt.NDArray[np.intp]) -> Iterator[Rows]:
    """Yield the rows of ascending runs, 2D[nrun, 2] half-open, in blocks."""
    starts, stops = runs[runs[:, 0] < runs[:, 1]].T
    apart = np.flatnonzero(starts[1:] - stops[:-1] > _GAP_ROWS)
    first = starts[np.concatenate([[0], apart + 1])] if len(starts) else starts
    last = stops[np.concatenate([apart, [-1]])] if len(starts) else stops
    waiting: list[Rows] = []
    nrows = 0
    for start, stop in zip(first.tolist(), last.tolist(), strict=True):
        for at in range(start, stop, _BLOCK_ROWS):
            waiting.append(np.arange(at, min(at + _BLOCK_ROWS, stop)))
            nrows += len(waiting[-1])
            if nrows >= _BLOCK_ROWS:
                yield np.concatenate(waiting)
                waiting, nrows = [], 0
    if waiting:
        yield np.concatenate(waiting)
