"""Types of columns that several files or parts have: the one type that holds the values of all."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def kind_of(form: pa.DataType) -> str:
    """Return the kind of a type: int, uint, float, str or bool."""
    if pa.types.is_boolean(form):
        return "bool"
    if pa.types.is_floating(form):
        return "float"
    if pa.types.is_integer(form):
        return "uint" if pa.types.is_unsigned_integer(form) else "int"
    return "str"


def common_schema(schemas: Iterable[pa.Schema]) -> pa.Schema:
    """Return all columns of some schemas, in the order in which they first occur.

    Numbers become the narrowest type that holds those of all, or else text.
    """
    forms: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            other = forms.get(field.name)
            form = _plain(field.type)
            forms[field.name] = form if other is None or other == form else _common(other, form)
    return pa.schema(list(forms.items()))


def conformed(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a table with the columns of a schema; those that it lacks are null."""
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def put_column(table: pa.Table, name: str, values: Any) -> pa.Table:
    """Return the table with a column set, in its old place where it had one."""
    at = table.schema.get_field_index(name)
    if at < 0:
        return table.append_column(name, values)
    return table.set_column(at, table.schema.field(at).with_type(values.type), values)


def numbers_of(table: pa.Table, name: str) -> npt.NDArray[Any]:
    """Return a column of integers, 1D[nrow]; 0 where it is null or there is none."""
    if name not in table.column_names:
        return np.zeros(table.num_rows, np.int64)
    values: npt.NDArray[Any] = table.column(name).fill_null(0).to_numpy()
    return values


def repeat_one_before(
    order: npt.NDArray[np.intp], *arrays: npt.NDArray[Any]
) -> npt.NDArray[np.bool_]:
    """Return which rows of arrays, 1D[nrow] each, equal the one before them in an order."""
    repeated = np.ones(len(order), np.bool_)
    repeated[:1] = False
    for values in arrays:
        repeated[1:] &= values[order[1:]] == values[order[:-1]]
    return repeated


def _plain(form: pa.DataType) -> pa.DataType:
    """Return the type in which values of a type are kept: a number, a truth value or text."""
    number = pa.types.is_integer(form) or pa.types.is_float32(form) or pa.types.is_float64(form)
    return form if number or pa.types.is_boolean(form) or pa.types.is_null(form) else pa.string()


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    """Return the type that holds the values of two different types."""
    if pa.types.is_null(first) or pa.types.is_null(second):
        return second if pa.types.is_null(first) else first
    kinds = {kind_of(first), kind_of(second)}
    if "str" in kinds:
        return pa.string()
    wide = np.result_type(first.to_pandas_dtype(), second.to_pandas_dtype())
    # There is no integer for both signed and unsigned ones of 64 bits, and a float loses digits.
    lossy = wide.kind == "f" and "float" not in kinds
    return pa.string() if lossy else pa.from_numpy_dtype(wide)
