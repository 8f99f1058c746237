"""Questions to the catalogue of one context, answered by PostgreSQL.

A row's number is that of its segment and its row there, so it means the same for ever.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from typing_extensions import override

from ...model.region import Cone, Polygon
from ...model.survey import Survey
from ..base import Catalogue, Place, Rows
from ..healpix import cover
from .database import Database
from .names import quoted
from .parameters import Parameters
from .region_rows import LOOKED_AT
from .relation import Floats, Ints, Relation
from .rows import PostgresRows
from .schema import NUMBER, PRIMARY, SERIAL
from .seen import block_of
from .state import ContextState

_ROW_BITS: Final = 32
_PIXEL: Final = "_hpx"
_PIXELS: Final = 12 * 4.0**29
_DENSEST: Final = 8
"""How much more spectra than on average are in a small part of the sky."""


class PostgresCatalogue(PostgresRows):
    """One context in a database: the `Catalogue` of its table.

    It answers from the rows that the table has at the moment; `version` is that of its beginning.

    Parameters
    ----------
    survey : with the columns of this catalogue
    state : of the table
    """

    def __init__(self, database: Database, survey: Survey, state: ContextState) -> None:
        identifier = state.columns[survey.id_column.name].identifier
        relation = Relation(
            quoted(database.schema, state.relation),
            state.columns,
            number=NUMBER,
            pixel=_PIXEL,
            primary=PRIMARY,
            numbered=lambda rows, values: f"{NUMBER} = ANY({values.bind_numbers(rows)})",
            having=lambda ids, values: f"{identifier} = ANY({values.bind_numbers(ids)})",
            serial=lambda values: (
                f"SELECT serial FROM {quoted(database.schema, 'context')}"
                f" WHERE name = {values.bind(state.context)}"
            ),
        )
        super().__init__(database, survey, state.rows, relation)
        self.segments = tuple(state.segments)
        self.serial = state.serial
        """Count of changes of the table when this was opened."""
        self.seen: int | None = state.serial
        """Count of changes that an answer told last."""
        self._state = state

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones."""
        return self._state.nprimary if primary else self._state.nrows

    @property
    @override
    def _size(self) -> int:
        return self._state.nrows

    @override
    def _saw(self, serial: int | None) -> None:
        if serial is None or serial == self.seen:
            return
        # The database may be another one, in which segments have other numbers.
        self._last.named = np.empty(0, np.int64), np.empty(0, np.int64)
        self.segments = self._segments_now()
        self.seen = serial

    @override
    def _near_region(
        self, region: Cone | Polygon, values: Parameters, fields: Sequence[str]
    ) -> tuple[str, Sequence[str]]:
        # If the query fails, the rows that were found before belong to other runs.
        self._last.rows = _no_rows
        self._last.runs = cover(region)
        names = [_PIXEL, "ra", "dec", self._id.identifier]
        is_small = not block_of(self._expected(), LOOKED_AT + 1 + len(fields))
        fetched = fields if is_small else ()
        if fetched:
            names += [PRIMARY, *(self._stored[field].identifier for field in fetched)]
        return self._in_runs(self._last.runs, values, ", ".join(names)), fetched

    @override
    def _expected(self) -> float:
        # A survey covers a part of the sky.
        share = float(np.sum(self._last.runs[:, 1] - self._last.runs[:, 0])) / _PIXELS
        return _DENSEST * share * self._size

    @override
    def _among(self, rows: Rows, values: Parameters) -> tuple[str, str]:
        if not self._is_last(rows):
            return super()._among(rows, values)
        # Rows of a region lie together in the table, and in the index on pixels, which have just
        # been read; those on numbers are all over its index, which must not be chosen.
        source = self._in_runs(self._last.runs, values, "*", number="")
        return f"({source}) AS near", f"({NUMBER} + 0) = ANY({values.bind_numbers(rows)})"

    @override
    def _near(
        self, ra_deg: Floats, dec_deg: Floats, radius_deg: float, runs: Ints, values: Parameters
    ) -> str:
        names = f"{_PIXEL}, ra, dec, {self._id.identifier}, {PRIMARY}"
        return self._in_runs(runs, values, names)

    def _in_runs(
        self, runs: Ints, values: Parameters, columns: str, number: str = f"{NUMBER}, "
    ) -> str:
        """Return the query of the rows in runs of order-29 pixels, 2D[n, 2], half-open."""
        low, high = (values.bind_numbers(edge) for edge in (runs[:, 0], runs[:, 1]))
        # Each run is a search in the index on _hpx: as a plain join it takes ten times as long.
        return (
            f"SELECT found.* FROM unnest({low}, {high}) AS run(low, high) CROSS JOIN LATERAL"
            f" (SELECT {number}{columns} FROM {self._relation.table}"
            f" WHERE {_PIXEL} >= run.low AND {_PIXEL} < run.high OFFSET 0) AS found"
        )

    def place(self, rows: Rows) -> Place:
        """Return identifier, segment number and segment row of rows."""
        ids = self._ids_of(rows)
        self._know(rows)
        segment, row = rows >> _ROW_BITS, rows & (2**_ROW_BITS - 1)
        return Place(ids, segment.astype(np.int32), row.astype(np.int32))

    def _know(self, rows: Rows) -> None:
        """Read the names of segments again if rows are of newer ones."""
        if len(rows) and int(rows.max() >> _ROW_BITS) >= len(self.segments):
            self.segments = self._segments_now()

    def _segments_now(self) -> tuple[str, ...]:
        """Return the names of segments by their numbers, from the database."""
        values = Parameters()
        query = (
            f"SELECT name FROM {quoted(self._database.schema, 'segment')}"
            f" WHERE context = {values.bind(self._context)} ORDER BY number"
        )
        return tuple(self._database.arrow(query, values).column(0).to_pylist())

    @property
    def _context(self) -> str:
        return self._state.context

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self.place(np.array([row])).ids[0])

    def carried(self, rows: Rows, before: Catalogue) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the rows themselves, and identifiers whose rows have changed: `Catalogue`.

        If the table was made anew, rows have other numbers: all are looked up again.
        """
        assert isinstance(before, PostgresCatalogue)
        values = Parameters()
        known = tuple(before._state.segments)  # noqa: SLF001  # of the same class
        is_same = tuple(self._state.segments)[: len(known)] == known
        since = values.bind(before.serial if is_same else -1)
        table = self._relation.table
        query = (
            f"SELECT NULL::bigint AS id, EXISTS (SELECT FROM {table} WHERE {SERIAL} <= {since})"
            f" UNION ALL SELECT {self._id.identifier}, NULL FROM {table} WHERE {SERIAL} > {since}"
            f" UNION ALL SELECT id, NULL FROM {quoted(self._database.schema, 'gone')}"
            f" WHERE context = {values.bind(self._context)} AND serial > {since}"
        )
        ids, has_older = self._database.arrow(query, values).columns
        changed = ids.cast(pa.int64()).drop_null().to_numpy()
        kept = rows.copy() if pc.any(has_older).as_py() else np.full(len(rows), -1, np.int64)
        return kept, np.unique(self._unsigned(changed))


def _no_rows() -> None:
    """Return that there are no rows: a weak reference to nothing."""
