"""The best of the spectra with one identifier, and the one that a row of a table means."""

from collections.abc import Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...errors import CatalogError
from ...model.survey import Survey


def best_first(survey: Survey, names: Sequence[str]) -> tuple[list[str], list[int | str]]:
    """Return terms that order rows ``r`` with columns ``names``, the best first, and parameters."""
    order: list[str] = []
    params: list[int | str] = []
    for column, first in survey.best.order if survey.best else ():
        if column not in names:
            continue
        # NaN is an unknown value; the database would sort it before all numbers.
        value = f'CASE WHEN r."{column}"::VARCHAR <> \'nan\' THEN r."{column}" END'
        if first != "desc":
            value = f'(r."{column}" = ?)'
            params.append(first)
        order.append(f"{value} DESC NULLS LAST")
    return order, params


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
    order, params = best_first(survey, spectra.column_names)
    equal = [f'a."{identifier}" = r."{identifier}"'] + [
        f'(a."{name}" IS NULL OR lower(trim(a."{name}"::VARCHAR)) = lower(r."{name}"::VARCHAR))'
        for name in by
    ]
    parts = [
        "SELECT _asking, _row FROM (SELECT a._asking, r._row, row_number() OVER (",
        "PARTITION BY a._asking ORDER BY", ", ".join([*order, "r._row"]), ") AS _nth",
        "FROM asked a JOIN spectra r ON", " AND ".join(equal), ") WHERE _nth = 1",
    ]  # fmt: skip
    rows = np.full(asked.num_rows, -1, np.int64)
    try:
        with duckdb.connect() as connection:
            connection.register("asked", asked.append_column("_asking", _numbers(asked)))
            connection.register("spectra", spectra.append_column("_row", _numbers(spectra)))
            found = connection.execute(" ".join(parts), params).fetchnumpy()
    except duckdb.Error as error:
        raise CatalogError(f"the spectra of a table's rows cannot be found: {error}") from error
    rows[np.asarray(found["_asking"])] = np.asarray(found["_row"])
    return rows


def _numbers(table: pa.Table) -> pa.Array:
    """Return the numbers of the rows of a table, 1D[nrow] int64."""
    return pa.array(np.arange(table.num_rows, dtype=np.int64))
