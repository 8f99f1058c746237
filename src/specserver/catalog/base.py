"""The interface of a catalogue: the protocols that all other packages use.

A catalogue is a table of spectra. Its rows have numbers, which mean the same as long as it is open,
and say nothing of their order: the order of the catalogue is that of the sky, by HEALPix pixel and
identifier. Column names are lower case, in one spelling; those that begin with ``_`` are hidden
from users.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ..errors import StoreError
from ..model.id_tuple import IdPattern
from ..model.region import Cone, Polygon
from ..model.survey import Survey
from .crossmatch import Matches
from .deadline import NEVER, Deadline
from .sql.expressions import Condition

Rows = npt.NDArray[np.int64]
"""Numbers of rows of a catalogue, 1D[n] int64."""


@dataclass(frozen=True, slots=True)
class Place:
    """Places of spectra: parallel arrays, one entry a spectrum."""

    ids: npt.NDArray[Any]
    """1D[n], identifier, in the survey's type; 0: the row has none."""
    segment: npt.NDArray[np.int32]
    """1D[n], number of the segment, or of another store of spectra."""
    row: npt.NDArray[np.int32]
    """1D[n], row in that segment."""


class SpectrumFinder(Protocol):
    """Finds spectra by identifier and returns their columns: a catalogue, or a tree of files.

    Methods with a deadline raise `QueryTimeout` once it has passed.
    """

    @property
    def columns(self) -> Mapping[str, str]:
        """Column name → kind: int, uint, float, str or bool; hidden columns left out."""

    def spelling(self, field: str) -> str:
        """Return the one spelling of a column name; raise `UnknownField` for none."""

    def holds(self, column: str) -> bool:
        """Return whether there is a column, hidden or not: older versions wrote fewer."""

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``, duplicates kept.

        Parameters
        ----------
        fields : names in their one spelling, hidden ones too, each once
        """

    def with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return the row of each identifier, 1D[n] int64; -1 where there is none.

        Among several rows with one identifier it is the best one.
        """

    def matching(self, pattern: IdPattern, deadline: Deadline = NEVER) -> tuple[Rows, pa.Table]:
        """Return the rows that a tuple with wildcards names, and their parts, in their order."""

    def linked(self, parts: pa.Table) -> pa.Table:
        """Return ``asking``, ``row`` and ``reduction`` of each row with some identifier parts.

        There is one for each pair of a row of ``parts`` and a row here that has its parts, in any
        order.

        Parameters
        ----------
        parts : ``asking``, int64, and the parts of the identifier but the last, the reduction
        """

    def place(self, rows: Rows) -> Place:
        """Return where the spectra of rows are, in the order of ``rows``."""

    def identifier(self, row: int) -> int:
        """Return the identifier of a row, whether or not its spectrum can be read."""


class Catalogue(SpectrumFinder, Protocol):
    """The rows of one context, or of one value-added table; safe to share between threads.

    A value-added table is joined with the catalogue of its context: `spectrum_columns` may stand
    where a method takes its own columns. All methods raise `DamagedFile` if a file that they read
    is damaged.
    """

    @property
    def spectrum_columns(self) -> Mapping[str, str]:
        """Of a table: column of the spectra that its rows mean → kind; otherwise empty.

        A name begins with that of the context's catalogue and a dot: ``specobj.z``. A row means at
        most one spectrum. `query` finds only rows whose spectrum is held if it uses such a column;
        in `columns_of` it is null in the others.
        """

    @property
    def survey(self) -> Survey:
        """The survey, with the columns of this catalogue."""

    @property
    def version(self) -> str:
        """Name of the state of the catalogue; it changes when the rows change."""

    @property
    def segments(self) -> tuple[str, ...]:
        """Names of the segments by the numbers in `Place.segment`."""

    @property
    def damage(self) -> StoreError | None:
        """The damage that was found since it was opened, if any."""

    def count(self, *, primary: bool) -> int:
        """Return the number of rows, or of primary ones: the best of each object."""

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
        """Return columns of the rows that meet a condition, in its order or that of the catalogue.

        In either direction of its order NaN and null come last, as equals.

        Parameters
        ----------
        fields : names in their one spelling, hidden ones too, each once
        condition : its region is ignored; ``rows`` are the rows in it
        rows : the only rows searched, in the order of the catalogue; None: all
        primary : only the best row of each object
        max_rows : refuse to answer more

        Raises
        ------
        TooMuch
            There are more rows, or the condition takes more memory than it may.
        CatalogError
            The condition cannot be answered.
        """

    def in_region(
        self, region: Cone | Polygon, deadline: Deadline = NEVER, fields: Sequence[str] = ()
    ) -> Rows:
        """Return the rows whose position lies in a region, in the order of the catalogue.

        Parameters
        ----------
        fields : columns that the caller reads next, with `query`: a database may send them, too
        """

    def all_with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return all rows of some identifiers, each once, in the order of the catalogue."""

    def best_with(self, ids: npt.NDArray[Any], columns: pa.Table) -> Rows:
        """Return the best row of each identifier among those that agree with it, 1D[n]; -1: none.

        Parameters
        ----------
        columns : n rows; they agree where text, without case and outer blanks, is equal
            Null allows anything; columns that the catalogue lacks are ignored.
        """

    def carried(self, rows: Rows, before: "Catalogue") -> tuple[Rows, npt.NDArray[Any]]:
        """Return the new numbers of rows of an earlier version, and identifiers to look up again.

        The numbers, 1D[n], are right, except for rows with one of these identifiers, 1D[nid]
        ascending. A number of -1 stays -1.

        Parameters
        ----------
        before : an earlier version of the same catalogue
        """

    def positions(self, rows: Rows) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec of rows, deg, 1D[n] float64; NaN where unknown."""

    def nearby(
        self,
        ra_deg: npt.NDArray[np.float64],
        dec_deg: npt.NDArray[np.float64],
        radius_deg: float,
        *,
        nearest: bool,
        primary: bool,
        max_pairs: int | None = None,
        deadline: Deadline = NEVER,
        go_on: Callable[[], None] = lambda: None,
    ) -> Matches:
        """Return the rows within a radius of each position, or the nearest one of them.

        Parameters and errors are those of `catalog.crossmatch.find_nearby`.

        Parameters
        ----------
        ra_deg, dec_deg : 1D[n] float64, deg, ICRS
        """

    def close(self) -> None:
        """Close open files; the catalogue cannot be used afterwards."""
