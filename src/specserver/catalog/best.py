"""The best spectrum of each object, by the rule of the survey (`Survey.best`)."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..model.survey import Survey


def best_keys(survey: Survey, rows: pa.Table) -> list[npt.NDArray[np.float64]]:
    """Return sort keys of rows, 1D[nrow] each, the most significant first; less is better.

    Columns of the rule that the rows lack are left out. Null and NaN are worse than any value.
    """
    keys = []
    for name, first in survey.best.order if survey.best else ():
        if name not in rows.column_names:
            continue
        column = rows.column(name)
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
        if first == "desc":
            values = pc.negate(column.cast(pa.float64()))
        else:
            values = pc.not_equal(column, pa.scalar(first)).cast(pa.float64())
        keys.append(values.fill_null(np.inf).to_numpy())
    return keys


def is_best(
    survey: Survey,
    rows: pa.Table,
    places: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
) -> npt.NDArray[np.bool_]:
    """Return which rows are the best of their objects by the rule of the survey, 1D[nrow].

    Parameters
    ----------
    survey : has a rule
    places : segment and row, 1D[nrow] each; the first is the best among equals
    """
    assert survey.best
    segment, row = places
    objects = rows.column(survey.best.group).combine_chunks().dictionary_encode()
    groups = objects.indices.fill_null(-1).to_numpy()
    sorts: list[npt.NDArray[np.generic]] = [row, segment, *best_keys(survey, rows)[::-1], groups]
    order = np.lexsort(sorts)
    first = np.ones(len(order), np.bool_)
    first[1:] = groups[order][1:] != groups[order][:-1]
    best = np.zeros(len(order), np.bool_)
    best[order[first]] = True
    return best


def best_order(survey: Survey, rows: pa.Table) -> npt.NDArray[np.int64]:
    """Return the numbers of rows, the best first, 1D[nrow]; equals stay in their order."""
    keys = best_keys(survey, rows)
    return np.lexsort(keys[::-1]) if keys else np.arange(rows.num_rows)
