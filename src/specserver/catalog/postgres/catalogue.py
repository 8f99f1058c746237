"""Questions to the catalogue of one context, answered by PostgreSQL.

A row's number is that of its segment and its row there, so it means the same for ever.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from ...model.region import Cone, Polygon
from ...model.survey import Survey
from ..base import Catalogue, Place, Rows
from ..healpix import cover
from .database import Database
from .names import quoted
from .parameters import Parameters
from .relation import Floats, Ints, Relation
from .rows import PostgresRows
from .schema import NUMBER, PRIMARY, SERIAL
from .state import ContextState

_ROW_BITS: Final = 32
_PIXEL: Final = "_hpx"


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
        )
        super().__init__(database, survey, state.rows, relation)
        self.segments = tuple(state.segments)
        self.serial = state.serial
        """Count of changes of the table when this was opened."""
        self._state = state

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones."""
        return self._state.nprimary if primary else self._state.nrows

    @property
    @override
    def _size(self) -> int:
        return self._state.nrows

    @override
    def _near_region(self, region: Cone | Polygon, values: Parameters) -> str:
        self._last.runs = cover(region)
        names = f"{_PIXEL}, ra, dec, {self._id.identifier}"
        return self._in_runs(self._last.runs, values, names)

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
            values = Parameters()
            query = (
                f"SELECT name FROM {quoted(self._database.schema, 'segment')}"
                f" WHERE context = {values.bind(self._context)} ORDER BY number"
            )
            self.segments = tuple(self._database.arrow(query, values).column(0).to_pylist())

    @property
    def _context(self) -> str:
        return self._state.context

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self.place(np.array([row])).ids[0])

    def carried(self, rows: Rows, before: Catalogue) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the rows themselves, and identifiers whose rows have changed: `Catalogue`."""
        assert isinstance(before, PostgresCatalogue)
        values = Parameters()
        since = values.bind(before.serial)
        query = (
            f"SELECT {self._id.identifier} FROM {self._relation.table} WHERE {SERIAL} > {since}"
            f" UNION ALL SELECT id FROM {quoted(self._database.schema, 'gone')}"
            f" WHERE context = {values.bind(self._context)} AND serial > {since}"
        )
        found = self._database.arrow(query, values).column(0).cast(pa.int64()).drop_null()
        return rows.copy(), np.unique(self._unsigned(found.to_numpy()))
