"""A table of the data centre's own database, queried where it is: nothing of it is copied."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import atan2, degrees, hypot
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from ...errors import BadParameter
from ...model.region import Cone, Polygon
from ...model.survey import Column, Survey
from ..base import Catalogue, Place, Rows
from .database import Database
from .names import COLLATED, StoredColumn, quoted
from .parameters import Parameters
from .relation import Floats, Ints, Relation
from .rows import PostgresRows

_COUNTED_S: Final = 60.0
"""Time for which the number of rows is not counted again."""
_BLOCK_BITS: Final = 16
"""Bits of the place in its page, in the number of a row that is known by its place."""
_PAD_DEG: Final = 1e-9
"""Boxes and circles of candidates are larger by more than rounding; each is tested exactly."""
_TYPES: Final[Mapping[str, tuple[pa.DataType, str]]] = {
    "bool": (pa.bool_(), "{}"),
    "int2": (pa.int16(), "{}"),
    "int4": (pa.int32(), "{}"),
    "int8": (pa.int64(), "{}"),
    "float4": (pa.float32(), "{}"),
    "float8": (pa.float64(), "{}"),
    "numeric": (pa.float64(), "CAST({} AS double precision)"),
    "text": (pa.string(), COLLATED),
    "varchar": (pa.string(), COLLATED),
    "bpchar": (pa.string(), '(rtrim(CAST({} AS text)) COLLATE "C")'),
    **{
        name: (pa.string(), '(CAST({} AS text) COLLATE "C")')
        for name in ("name", "uuid", "date", "time", "timestamp", "timestamptz")
    },
}
"""Type in PostgreSQL → Arrow type, and the value as SQL from the quoted name."""
_NUMERIC_ID: Final = (
    "CAST(CASE WHEN {0} >= 9223372036854775808 THEN {0} - 18446744073709551616 ELSE {0} END"
    " AS bigint)"
)
_DESCRIPTION: Final = """
SELECT a.attname, t.typname, coalesce(col_description(c.oid, a.attnum), ''),
    c.relkind::text, n.nspname, c.relname,
    coalesce((SELECT i.indnkeyatts = 1 AND i.indisunique AND i.indpred IS NULL AND i.indimmediate
        AND t.typname IN ('int2', 'int4', 'int8') FROM pg_index i
        WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum AND a.attnotnull
        ORDER BY i.indnkeyatts, i.indisunique DESC LIMIT 1), false),
    EXISTS (SELECT FROM pg_proc WHERE proname = 'q3c_radial_query'
        AND pg_function_is_visible(oid))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type t ON t.oid = a.atttypid
WHERE c.oid = to_regclass("""


@dataclass(frozen=True, slots=True)
class Described:
    """A table as the database describes it."""

    names: tuple[str, str]
    """Schema and table."""
    kind: str
    """``pg_class.relkind``."""
    types: Mapping[str, str]
    """Column → type."""
    comments: Mapping[str, str]
    keys: tuple[str, ...]
    """Columns of whole numbers that are unique and not null."""
    has_q3c: bool


def describe(database: Database, table: str) -> Described:
    """Return what the database says of a table, ``schema.table`` as it reads names.

    Raises
    ------
    BadParameter
        There is no such table, or its name cannot be read.
    DatabaseAway, CatalogError
    """
    values = Parameters()
    query = f"{_DESCRIPTION}{values.bind(table, collated=False)}) ORDER BY a.attnum"
    found = database.arrow(query, values)
    rows = list(zip(*(column.to_pylist() for column in found.columns), strict=True))
    if not rows:
        allowed = f"a table or view of {database.shown} that its user may see, as schema.table"
        raise BadParameter("table", table, allowed)
    *_, kind, schema, relation, _, has_q3c = rows[0]
    return Described(
        (schema, relation),
        kind,
        {row[0]: row[1] for row in rows},
        {row[0]: row[2] for row in rows if row[2]},
        tuple(row[0] for row in rows if row[6]),
        has_q3c,
    )


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table that have a meaning here."""

    id: str
    position: tuple[str, str] | None
    key: str
    """Of whole numbers, by which rows are known; empty: by their places in the table."""


class ExistingTable(PostgresRows):
    """A table of others as a `Catalogue`; its order is that of identifiers and row numbers.

    Parameters
    ----------
    survey : returns that of the table, from descriptions of its columns and its names
    spectra : the catalogue of the context, which finds rows by position if it has none
    """

    def __init__(
        self,
        database: Database,
        survey: Survey,
        version: str,
        described: Described,
        columns: Columns,
        spectra: Catalogue | None,
    ) -> None:
        stored = stored_of(described, columns, survey)
        ids = stored[survey.id_column.name]
        number, numbered = _numbers(columns.key)
        relation = Relation(
            quoted(*described.names),
            stored,
            number=number,
            pixel="0::bigint",
            primary=f"({ids.plain} IS NOT NULL)",
            numbered=numbered,
            having=lambda wanted, values: _having(ids, described, wanted, values),
        )
        super().__init__(database, survey, version, relation)
        self.segments = (described.names[1],)
        self._described = described
        self._position = columns.position
        self._spectra = spectra
        self._counted: tuple[float, int, int] | None = None

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of those with an identifier, of a minute ago at most."""
        if self._counted is None or time.monotonic() > self._counted[0] + _COUNTED_S:
            query = f"SELECT count(*), count({self._id.plain}) FROM {self._relation.table}"
            found = [int(column[0].as_py()) for column in self._database.arrow(query).columns]
            self._counted = time.monotonic(), found[0], found[1]
        _, nrows, nnamed = self._counted
        return nnamed if primary else nrows

    def place(self, rows: Rows) -> Place:
        """Return identifiers of rows; they are in no segment of spectra."""
        ids = self._ids_of(rows)
        none = np.zeros(len(rows), np.int32)
        return Place(ids, none, none)

    def identifier(self, row: int) -> int:
        """Return the identifier of a row."""
        return int(self.place(np.array([row])).ids[0])

    def carried(self, rows: Rows, before: Catalogue) -> tuple[Rows, npt.NDArray[Any]]:
        """Return the rows: who changes the table tells nobody, so each use looks rows up."""
        del before
        return rows.copy(), np.empty(0, np.dtype(self.survey.id_column.dtype))

    @override
    def in_region(self, region: Cone | Polygon, deadline: Any = None) -> Rows:
        """Return the rows whose position lies in a region: their own, or that of their spectrum."""
        given = () if deadline is None else (deadline,)
        if self._position is not None:
            return super().in_region(region, *given)
        if self._spectra is None:
            return np.empty(0, np.int64)
        rows = self._spectra.in_region(region, *given)
        return self.all_with_ids(self._spectra.place(rows).ids)

    @override
    def positions(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return ra and dec of rows, degrees, 1D[n]; NaN if the table has none."""
        if self._position is None:
            return np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        return super().positions(rows)

    @override
    def _near_region(self, region: Cone | Polygon, values: Parameters) -> str:
        centre, radius_deg = region.bounds()
        x, y, z = centre.tolist()
        place = degrees(atan2(y, x)) % 360.0, degrees(atan2(z, hypot(x, y)))
        where = self._near_one(*place, radius_deg + _PAD_DEG, values)
        return self._looked_at(where, "")

    @override
    def _near(
        self, ra_deg: Floats, dec_deg: Floats, radius_deg: float, runs: Ints, values: Parameters
    ) -> str:
        del runs
        primary = f", {self._relation.primary}"
        if self._position is None:
            return self._looked_at("false", primary)
        ra, dec = self._position_sql
        reach = radius_deg + _PAD_DEG
        if not self._described.has_q3c:
            # Positions of one group are near each other.
            low, high = (
                values.bind(float(v)) for v in (dec_deg.min() - reach, dec_deg.max() + reach)
            )
            return self._looked_at(f"{dec} BETWEEN {low} AND {high}", primary)
        given = (
            values.bind_all(place.tolist(), pa.float64(), "double precision")
            for place in (ra_deg, dec_deg)
        )
        query = self._looked_at(
            f"q3c_radial_query({ra}, {dec}, asked.ra, asked.dec, {values.bind(reach)})", primary
        )
        return (
            f"SELECT DISTINCT ON (1) found.* FROM unnest({', '.join(given)}) AS asked(ra, dec)"
            f" CROSS JOIN LATERAL ({query} OFFSET 0) AS found"
        )

    def _near_one(
        self, ra_deg: float, dec_deg: float, radius_deg: float, values: Parameters
    ) -> str:
        """Return a condition that all positions within a radius of one meet."""
        if self._position is None:
            return "false"
        ra, dec = self._position_sql
        if self._described.has_q3c and radius_deg < 90.0:
            circle = (values.bind(float(value)) for value in (ra_deg, dec_deg, radius_deg))
            return f"q3c_radial_query({ra}, {dec}, {', '.join(circle)})"
        low, high = dec_deg - radius_deg, dec_deg + radius_deg
        box = f"{dec} BETWEEN {values.bind(low)} AND {values.bind(high)}"
        if low <= -90.0 or high >= 90.0:
            return box
        # The widest parallel that a circle touches is nearer to the pole than its centre.
        sine = np.sin(np.radians(radius_deg)) / np.cos(np.radians(dec_deg))
        half = float(np.degrees(np.arcsin(min(1.0, sine)))) + _PAD_DEG
        edges = [
            (values.bind(ra_deg - half + turn), values.bind(ra_deg + half + turn))
            for turn in (-360.0, 0.0, 360.0)
        ]
        spans = " OR ".join(f"{ra} BETWEEN {west} AND {east}" for west, east in edges)
        return f"{box} AND ({spans})"

    @property
    def _position_sql(self) -> tuple[str, str]:
        """The columns of the position, quoted: as their indexes have them."""
        ra, dec = (self._stored[name].plain for name in ("ra", "dec"))
        return ra, dec

    def _looked_at(self, where: str, more: str) -> str:
        """Return the query of what is looked at of the rows that meet a condition."""
        ra, dec = (
            self._stored[n].identifier if self._position else "NULL::float8" for n in ("ra", "dec")
        )
        return (
            f"SELECT {self._relation.number}, 0::bigint, {ra}, {dec}, {self._id.identifier}{more}"
            f" FROM {self._relation.table} WHERE {where}"
        )


def stored_of(described: Described, columns: Columns, survey: Survey) -> dict[str, StoredColumn]:
    """Return the columns of a table by their names here: lower case, and those with a meaning.

    Columns of types that a catalogue cannot hold are left out.
    """
    meant = {columns.id: survey.id_column.name}
    if columns.position:
        meant |= dict(zip(columns.position, ("ra", "dec"), strict=True))
    found: dict[str, StoredColumn] = {}
    for actual in sorted(described.types, key=lambda name: name not in meant):
        form, expression = _TYPES.get(described.types[actual], (None, ""))
        if form is None:
            continue
        name = meant.get(actual, actual.lower().lstrip("_") or actual)
        while name in found:
            name += "_2"
        if actual == columns.id:
            form = pa.from_numpy_dtype(np.dtype(survey.id_column.dtype))
            is_numeric = described.types[actual] == "numeric"
            expression = _NUMERIC_ID if is_numeric else "CAST({} AS bigint)"
            expression = "{}" if described.types[actual] == "int8" else expression
        found[name] = StoredColumn(name, form, actual, expression)
    return found


def described_columns(
    described: Described, stored: Mapping[str, StoredColumn]
) -> tuple[Column, ...]:
    """Return the columns as the database comments on them."""
    return tuple(
        Column(
            name,
            "U" if column.kind == "str" else np.dtype(column.form.to_pandas_dtype()).str,
            "",
            described.comments.get(column.physical, ""),
        )
        for name, column in stored.items()
    )


def _numbers(key: str) -> tuple[str, Any]:
    """Return the number of a row as SQL, and the function that asks for rows by number."""
    if key:
        name = quoted(key)
        return (
            f"CAST({name} AS bigint)",
            lambda rows, values: f"{name} = ANY({values.bind_numbers(rows)})",
        )

    def numbered(rows: Rows, values: Parameters) -> str:
        page, place = rows >> _BLOCK_BITS, rows & (2**_BLOCK_BITS - 1)
        listed = [f"({a},{b})" for a, b in zip(page.tolist(), place.tolist(), strict=True)]
        return f"ctid = ANY(CAST({values.bind_all(listed, pa.string(), 'text')} AS tid[]))"

    point = "CAST(CAST(ctid AS text) AS point)"
    number = f"((CAST(({point})[0] AS bigint) << {_BLOCK_BITS}) | CAST(({point})[1] AS bigint))"
    return number, numbered


def _having(ids: StoredColumn, described: Described, wanted: Ints, values: Parameters) -> str:
    """Return the condition that a row has one of some identifiers, in their signed form."""
    kind = described.types[ids.physical]
    if kind == "numeric":
        own = wanted.view(np.uint64) if ids.is_wrapped else wanted
        listed = [str(number) for number in own.tolist()]
        array = values.bind_all(listed, pa.string(), "text")
        return f"{ids.plain} = ANY(CAST({array} AS numeric[]))"
    return f"{ids.plain} = ANY({values.bind_numbers(wanted)})"
