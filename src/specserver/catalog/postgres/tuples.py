"""Queries by the parts of the tuple form of identifiers, as SQL."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ...model.id_tuple import Part, Span
from ..index.part_search import spans_of
from .names import StoredColumn, signed
from .parameters import Parameters


def allowed(column: StoredColumn | None, part: Part, values: Parameters, *, is_id: bool) -> str:
    """Return the condition that a part of a tuple allows the value of a column.

    Parameters
    ----------
    column : None: the table lacks it
    is_id : it has the identifiers, each of which is one: lists of them have no ranges
    """
    if column is None or part is None:
        return "false"
    if column.kind == "str":
        texts = [choice for choice in part if isinstance(choice, str)]
        return f"{column.identifier} = ANY({values.bind_all(texts, pa.string(), 'text')})"
    spans = [choice for choice in part if isinstance(choice, Span)]
    low, high = spans_of(spans, np.dtype(column.form.to_pandas_dtype()))
    if is_id or np.array_equal(low, high):
        return f"{column.identifier} = ANY({values.bind_numbers(signed(low))})"
    if len(low) == 1:
        bounds = (values.bind(int(edge[0])) for edge in (low, high))
        return f"{column.identifier} BETWEEN {' AND '.join(bounds)}"
    edges = (values.bind_numbers(signed(edge)) for edge in (low, high))
    return (
        f"EXISTS (SELECT FROM unnest({', '.join(edges)}) AS span(low, high)"
        f" WHERE {column.identifier} BETWEEN span.low AND span.high)"
    )


def linked_query(
    table: str,
    number: str,
    columns: Sequence[StoredColumn],
    last: StoredColumn,
    parts: pa.Table,
    values: Parameters,
) -> str:
    """Return the query of the rows with some identifier parts: `Catalogue.linked`.

    Parameters
    ----------
    table, number : quoted name, and the number of a row, as SQL
    columns : of the parts but the last one
    """
    given = [values.bind_numbers(parts.column("asking").to_numpy())]
    for column in columns:
        listed = parts.column(column.name)
        if column.kind == "str":
            given.append(values.bind_all(listed.to_pylist(), pa.string(), "text"))
        else:
            given.append(values.bind_all(_signed_list(listed), pa.int64(), "bigint"))
    names = [f"p{at}" for at in range(len(columns))]
    equal = " AND ".join(
        f"{column.identifier} = {name}" for column, name in zip(columns, names, strict=True)
    )
    return (
        f"SELECT asking, found.* FROM unnest({', '.join(given)}) AS asked(asking,"
        f" {', '.join(names)}) CROSS JOIN LATERAL (SELECT {number}, {last.identifier}"
        f" FROM {table} WHERE {equal} OFFSET 0) AS found"
    )


def _signed_list(column: Any) -> list[int | None]:
    """Return whole numbers as PostgreSQL has them."""
    return [None if v is None else v - 2**64 if v >= 2**63 else v for v in column.to_pylist()]


def order_of(parts: pa.Table, names: Sequence[str]) -> pa.Array:
    """Return the order of rows by their identifier parts, 1D[n]; equal ones stay as they are."""
    ranked = parts.append_column("_rank", pa.array(np.arange(len(parts))))
    return pc.sort_indices(ranked, sort_keys=[(name, "ascending") for name in (*names, "_rank")])
