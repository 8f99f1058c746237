"""The spectrum that a row of a value-added table means, among those with its identifier."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import CatalogError
from ...model.survey import Survey
from ...wire.numeric import as_arrow
from ..base import Rows
from ..best import best_order
from ..index.column_file import inverse
from .database import cursor, failed


class Lookup(Protocol):
    """What a catalogue needs to find the best rows among those of an identifier."""

    @property
    def survey(self) -> Survey:
        """The survey."""

    @property
    def columns(self) -> Mapping[str, str]:
        """Column name → kind."""

    def all_with_ids(self, ids: npt.NDArray[Any]) -> Rows:
        """Return all rows of some identifiers, 1D[n], in the order of the catalogue."""

    def columns_of(self, fields: Sequence[str], rows: Rows) -> pa.Table:
        """Return columns of rows, in the order of ``rows``."""


def best_rows(catalogue: Lookup, ids: npt.NDArray[Any], columns: pa.Table) -> Rows:
    """Return the best row of each identifier, 1D[n], 1D[n]: `Catalogue.best_with`."""
    survey = catalogue.survey
    by = [name for name in columns.column_names if name in catalogue.columns]
    order = [name for name, _ in survey.best.order] if survey.best else []
    wanted = [name for name in (survey.id_column.name, *by, *order) if name in catalogue.columns]
    rows = catalogue.all_with_ids(ids)
    spectra = catalogue.columns_of(list(dict.fromkeys(wanted)), rows)
    asked = columns.select(by).append_column(survey.id_column.name, as_arrow(ids))
    found = find_best(survey, asked, spectra, by)
    return np.where(found >= 0, rows[found], -1) if len(rows) else found


def find_best(
    survey: Survey, asked: pa.Table, spectra: pa.Table, by: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Return the best row of ``spectra`` that agrees with each row of ``asked``, 1D[n]; -1: none.

    Parameters
    ----------
    asked : the identifier, and the columns ``by`` which rows must agree; null agrees with all
    spectra : the identifier, the same columns, and those by which the survey finds the best

    Raises
    ------
    CatalogError
        The database cannot answer.
    """
    identifier = survey.id_column.name
    order = best_order(survey, spectra)
    rank = inverse(order)
    equal = [f'a."{identifier}" = r."{identifier}"'] + [
        f'(a."{name}" IS NULL OR lower(trim(a."{name}"::VARCHAR)) = lower(r."{name}"::VARCHAR))'
        for name in by
    ]
    parts = [
        "SELECT a._asking, min(r._rank) AS _rank FROM asked a JOIN spectra r ON",
        " AND ".join(equal), "GROUP BY a._asking",
    ]  # fmt: skip
    rows = np.full(asked.num_rows, -1, np.int64)
    try:
        with cursor() as connection:
            numbers = pa.array(np.arange(asked.num_rows))
            connection.register("asked", asked.append_column("_asking", numbers))
            ranked = spectra.select([identifier, *by]).append_column("_rank", pa.array(rank))
            connection.register("spectra", ranked)
            found = connection.execute(" ".join(parts)).fetchnumpy()
    except duckdb.Error as error:
        failed(error)
        raise CatalogError(f"the spectra of a table's rows cannot be found: {error}") from error
    rows[np.asarray(found["_asking"])] = order[np.asarray(found["_rank"])]
    return rows
