"""The spectrum that a row of a value-added table means, among those with its identifier.

Other columns of the row, such as the survey and the pixel, select it; without them it is the best.
"""

from collections.abc import Sequence
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ...model.survey import Survey
from ..index.column_types import put_column
from ..segment_rows import declared_type

_ELSEWHERE: Final = "not-here"
"""Last part of a spectrum that the context does not hold, though it holds others of its
identifier."""


class HeldSpectra(Protocol):
    """The spectra of a context, as value-added tables link to them."""

    @property
    def survey(self) -> Survey:
        """The survey."""

    @property
    def version(self) -> str:
        """Text that changes when other spectra are held."""

    def ids(self, numbers: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[Any]:
        """Return the identifier of each tuple without its reduction, 1D[n]; 0: none is held."""

    def best_with(self, ids: npt.NDArray[Any], columns: pa.Table) -> npt.NDArray[np.int64]:
        """Return the best row of each identifier among those that agree, 1D[n]; -1: none.

        Parameters
        ----------
        columns : those of `Survey.told_by` that the table has, n rows
        """

    def parts(self, rows: npt.NDArray[np.int64]) -> pa.Table:
        """Return the parts of the tuple form of rows; null where a row is -1."""

    def positions(
        self, ids: npt.NDArray[Any], rows: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return ra and dec of identifiers, degrees, 1D[n]; NaN where none is held.

        Parameters
        ----------
        rows : what `best_with` returned, if it was asked
        """


def with_parts(table: pa.Table, survey: Survey, ids: npt.NDArray[Any]) -> pa.Table:
    """Return the table with all parts of the tuple form; missing ones come from identifiers."""
    if survey.unpack is None:
        return table
    known = ids != 0
    parts = survey.unpack(ids[known])
    types = {column.name: column.dtype for column in survey.columns}
    for name in survey.id_parts:
        values = np.zeros(len(ids), parts[name].dtype)
        values[known] = parts[name]
        kind = declared_type(types[name])
        values = values.astype(object) if types[name] == "U" else values
        part = pa.array(values, kind, mask=~known)
        if name in table.column_names:
            # A row without a spectrum keeps the values of the table.
            part = pc.coalesce(part, table.column(name).cast(kind))
        table = put_column(table, name, part)
    return table


def with_spectra(
    table: pa.Table, held: HeldSpectra, ids: npt.NDArray[Any]
) -> tuple[pa.Table, npt.NDArray[np.int64]]:
    """Return the table with the parts of the spectra that its rows mean, and their rows."""
    survey = held.survey
    columns = table.select([name for name in survey.told_by if name in table.column_names])
    rows = held.best_with(ids, columns)
    parts = held.parts(rows)
    # A row that means a spectrum that is not held must not lead to another one.
    lost = (rows < 0) & (held.best_with(ids, columns.select([])) >= 0)
    for name in survey.id_parts[1:]:
        part = parts.column(name)
        if survey.last_open and name == survey.id_parts[-1]:
            part = pc.if_else(pa.array(lost), _ELSEWHERE, part)
        if name in table.column_names:
            own = table.column(name)
            own = pc.utf8_trim_whitespace(own) if pa.types.is_string(own.type) else own
            part = pc.coalesce(part, own.cast(part.type))
        table = put_column(table, name, part)
    return table, rows
