"""A table of the data centre's own database, queried where it is: nothing of it is copied."""

import time
from collections.abc import Callable, Sequence
from math import atan2, degrees, hypot
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from typing_extensions import override

from ...errors import QueryTimeout, TooMuch
from ...model.region import Cone, Polygon
from ...model.sphere import is_position, wrap_deg
from ...model.survey import Survey
from ..base import Catalogue, Place, Rows
from ..crossmatch import Matches, SkyColumns, in_their_order
from ..deadline import NEVER, Deadline
from ..healpix import pixel
from .boxes import PAD_DEG, around_each, edges, in_box, in_circle, in_stripes
from .database import Database
from .described import Columns, Described, stored_of
from .names import StoredColumn, quoted, signed
from .parameters import Parameters
from .relation import Floats, Ints, Relation
from .rows import PostgresRows

_COUNTED_S: Final = 60.0
"""Time for which the number of rows is not counted again."""
_BLOCK_BITS: Final = 16
"""Bits of the place in its page, in the number of a row that is known by its place."""
_HALF_SKY_DEG: Final = 90.0
"""Radius from which q3c is not asked."""
MAX_CANDIDATES: Final = 2**20
"""Rows that may be near some positions, and are tested together: some 150 MB."""
MAX_FOUND: Final = 10_000_000
"""Rows in one region, of which a service answers no more anyway (max_rows): some 400 MB."""


class _ManyCandidates(Exception):
    """More rows than may be tested together may be near some positions."""


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
            primary=_has_identifier(ids),
            numbered=numbered,
            having=lambda wanted, values: _having(ids, described, wanted, values),
        )
        super().__init__(database, survey, version, relation)
        self.segments = (described.names[1],)
        self._max_found = MAX_FOUND
        self._described = described
        self._position = columns.position
        self._spectra = spectra
        self._counted: tuple[float, int, int] | None = None

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of those with an identifier, of a minute ago at most."""
        if self._counted is None or time.monotonic() > self._counted[0] + _COUNTED_S:
            named = f"count(*) FILTER (WHERE {self._relation.primary})"
            query = f"SELECT count(*), {named} FROM {self._relation.table}"
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
    def in_region(
        self, region: Cone | Polygon, deadline: Deadline = NEVER, fields: Sequence[str] = ()
    ) -> Rows:
        """Return the rows whose position lies in a region: their own, or that of their spectrum."""
        if self._position is not None:
            return super().in_region(region, deadline, fields)
        if self._spectra is None:
            return np.empty(0, np.int64)
        number, own, _ = self._of_spectra(self._spectra.in_region(region, deadline))
        # Of several spectra of one identifier the best one has the position.
        inside = region.contains(*self._held_positions(own), deadline.check)
        return number[inside][np.lexsort((number[inside], own[inside]))]

    @override
    def positions(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return ra and dec of rows, degrees, 1D[n]: their own, or those of their spectra."""
        if self._position is not None:
            return super().positions(rows)
        return self._held_positions(self._ids_of(rows))

    @override
    def nearby(
        self,
        ra_deg: Floats,
        dec_deg: Floats,
        radius_deg: float,
        *,
        nearest: bool,
        primary: bool,
        max_pairs: int | None = None,
        deadline: Deadline = NEVER,
        go_on: Callable[[], None] = lambda: None,
    ) -> Matches:
        """Return the rows within a radius of each position: `Catalogue.nearby`.

        Where too many rows may be near, half of the positions is asked for, and so on.
        """
        words: dict[str, Any] = {"nearest": nearest, "primary": primary}
        words |= {"deadline": deadline, "go_on": go_on}
        try:
            return super().nearby(ra_deg, dec_deg, radius_deg, max_pairs=max_pairs, **words)
        except _ManyCandidates as error:
            if len(ra_deg) == 1:
                what = "rows that may be near one position"
                raise TooMuch(what, None, MAX_CANDIDATES) from error
        half, left, found = len(ra_deg) // 2, max_pairs, list[Matches]()
        for first, some in ((0, slice(half)), (half, slice(half, None))):
            pairs = self.nearby(ra_deg[some], dec_deg[some], radius_deg, max_pairs=left, **words)
            if left is not None and not nearest:
                left -= len(pairs)
            found.append(Matches(pairs.position + first, pairs.row, pairs.separation_deg))
        return in_their_order(found)

    @override
    def _sky(
        self, ra_deg: Floats, dec_deg: Floats, radius_deg: float, runs: Ints, deadline: Deadline
    ) -> tuple[Rows, SkyColumns]:
        if self._position is None:
            return self._sky_of_spectra(ra_deg, dec_deg, radius_deg, deadline)
        number, sky = super()._sky(ra_deg, dec_deg, radius_deg, runs, deadline)
        if len(number) > MAX_CANDIDATES:
            raise _ManyCandidates
        # A row near several positions is found several times.
        number, once = np.unique(number, return_index=True)
        return _along_the_sky(number, sky.ids[once], sky.ra[once], sky.dec[once], sky.primary[once])

    def _sky_of_spectra(
        self, ra_deg: Floats, dec_deg: Floats, radius_deg: float, deadline: Deadline
    ) -> tuple[Rows, SkyColumns]:
        """Return the rows of the spectra that are near positions, and where those are."""
        near = np.empty(0, np.int64)
        if self._spectra is not None:
            try:
                near = self._spectra.nearby(
                    ra_deg, dec_deg, radius_deg,
                    nearest=False, primary=False, max_pairs=MAX_CANDIDATES, deadline=deadline,
                ).row  # fmt: skip
            except QueryTimeout:
                raise
            except TooMuch as error:
                raise _ManyCandidates from error
        number, own, primary = self._of_spectra(np.unique(near))
        return _along_the_sky(number, own, *self._held_positions(own), primary)

    def _of_spectra(self, rows: Rows) -> tuple[Rows, npt.NDArray[Any], npt.NDArray[np.bool_]]:
        """Return number, identifier and `Relation.primary` of the rows of some spectra."""
        assert self._spectra is not None or not len(rows)
        ids = np.empty(0, np.int64) if self._spectra is None else self._spectra.place(rows).ids
        number, _, known, primary = self._having(np.unique(signed(ids)))
        return number, self._unsigned(known), primary

    def _held_positions(self, ids: npt.NDArray[Any]) -> tuple[Floats, Floats]:
        """Return ra and dec of the best spectrum of identifiers, degrees, 1D[n]; NaN: none."""
        ra, dec = np.full(len(ids), np.nan), np.full(len(ids), np.nan)
        if self._spectra is not None and len(ids):
            rows = self._spectra.with_ids(ids)
            held = np.flatnonzero(rows >= 0)
            ra[held], dec[held] = self._spectra.positions(rows[held])
        return ra, dec

    @override
    def _near_region(
        self, region: Cone | Polygon, values: Parameters, fields: Sequence[str]
    ) -> tuple[str, Sequence[str]]:
        del fields  # how many rows to expect is not known
        centre, radius_deg = region.bounds()
        x, y, z = centre.tolist()
        place = degrees(atan2(y, x)) % 360.0, degrees(atan2(z, hypot(x, y)))
        if self._described.has_q3c and radius_deg < _HALF_SKY_DEG:
            circle = (values.bind(value) for value in (*place, radius_deg + PAD_DEG))
            where = in_circle(*self._position_sql, tuple(circle))
        else:
            box = edges(np.array(place[:1]), np.array(place[1:]), radius_deg)
            where = in_box(*self._position_sql, tuple(values.bind(float(e[0])) for e in box))
        return f"SELECT {self._looked_at} FROM {self._relation.table} WHERE {where}", ()

    @override
    def _near(
        self, ra_deg: Floats, dec_deg: Floats, radius_deg: float, runs: Ints, values: Parameters
    ) -> str:
        del runs
        described = self._described
        columns = f"{self._looked_at}, {self._relation.primary}"
        table, circles = self._relation.table, (ra_deg, dec_deg, radius_deg)
        own = self._position_sql
        if described.has_q3c or described.indexed.intersection(self._position or ()):
            has_q3c = described.has_q3c
            query = around_each(columns, table, own, circles, values, has_q3c=has_q3c)
        else:
            query = in_stripes(columns, table, own, circles, values)
        return f"{query} LIMIT {values.bind(MAX_CANDIDATES + 1)}"

    @property
    def _position_sql(self) -> tuple[str, str]:
        """The columns of the position, quoted: as their indexes have them."""
        ra, dec = (self._stored[name].plain for name in ("ra", "dec"))
        return ra, dec

    @property
    def _looked_at(self) -> str:
        """What is looked at of each row: `PostgresRows.in_region`."""
        ra, dec = (self._stored[name].identifier for name in ("ra", "dec"))
        relation = self._relation
        return f"{relation.number}, {relation.pixel}, {ra}, {dec}, {self._id.identifier}"


def _along_the_sky(
    number: Rows,
    own: npt.NDArray[Any],
    ra: Floats,
    dec: Floats,
    primary: npt.NDArray[np.bool_],
) -> tuple[Rows, SkyColumns]:
    """Return rows that have a position, 1D[n], along the HEALPix curve, and where they are."""
    known = np.flatnonzero(is_position(ra, dec))
    hpx = pixel(wrap_deg(ra[known]), dec[known])
    along = np.lexsort((number[known], own[known], hpx))
    order = known[along]
    return number[order], SkyColumns(hpx[along], ra[order], dec[order], own[order], primary[order])


def _has_identifier(ids: StoredColumn) -> str:
    """Return the condition that a row has an identifier: 0 is none, as everywhere."""
    return f"({ids.plain} IS NOT NULL AND {ids.plain} <> 0)"


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
