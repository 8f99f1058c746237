"""Tables, rows and columns of NumPy, pandas, astropy and pyarrow.

Classes of other packages are recognised by name, so that importing this module loads none.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import BadIdentifier
from ..results.query_results import SHARED

_FOREIGN: Final = {
    ("pandas", "DataFrame"): "DataFrame", ("pandas", "Series"): "Series",
    ("pandas", "Index"): "Index", ("astropy", "Table"): "Table", ("astropy", "Row"): "Row",
    ("pyarrow", "Table"): "ArrowTable", ("pyarrow", "RecordBatch"): "ArrowTable",
    ("pyarrow", "ChunkedArray"): "ArrowArray", ("pyarrow", "Array"): "ArrowArray",
    ("specutils", "Spectrum"): "Spectrum", ("specutils", "Spectrum1D"): "Spectrum",
    ("specutils", "SpectrumCollection"): "SpectrumCollection",
}  # fmt: skip


def foreign_kind(given: object) -> str:
    """Return which class of another package the object is of, or nothing."""
    for cls in type(given).__mro__:
        kind = _FOREIGN.get((cls.__module__.partition(".")[0], cls.__name__))
        if kind is not None:
            return kind
    return ""


def unmasked(values: Any) -> npt.NDArray[Any]:
    """Return a column as plain array; a masked value in it is an error."""
    if np.ma.is_masked(values):
        raise BadIdentifier("--", "the value is missing; leave such rows out")
    return np.asarray(values)


def table_of(given: Any) -> tuple[list[str], Callable[[int], Any]] | None:
    """Return a table's column names, and a function that gives a column by its place; or None."""
    kind = foreign_kind(given)
    if kind == "DataFrame":
        if None not in given.index.names and given.columns.intersection(given.index.names).empty:
            given = given.reset_index()
        return [str(name) for name in given.columns], lambda at: plain_column(given.iloc[:, at])
    if kind == "ArrowTable":
        return list(given.column_names), lambda at: plain_column(given.column(at))
    if kind == "Table":
        return list(given.colnames), lambda at: given[given.colnames[at]]
    if isinstance(given, np.ndarray) and given.dtype.names is not None:
        names, flat = given.dtype.names, given.reshape(-1)
        return list(names), lambda at: flat[names[at]]
    return None


def plain_column(column: Any) -> npt.NDArray[Any]:
    """Return a column of pandas or pyarrow, as objects where one of them is missing.

    Never as floats: these lose the last digits of identifiers.
    """
    if hasattr(column, "to_pylist"):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
    elif isinstance(column.dtype, np.dtype) or not column.isna().any():
        values = column.to_numpy()
    else:
        values = column.to_numpy(dtype=object, na_value=None)
    return values


def row_of(given: Any) -> tuple[list[str], list[Any]] | None:
    """Return names and values of a row of a table; None if it is no row, or has no names."""
    if isinstance(given, np.void):
        return None if given.dtype.names is None else (list(given.dtype.names), list(given.item()))
    kind = foreign_kind(given)
    if kind == "Row":
        return list(given.colnames), list(given)
    # The labels of a column are numbers.
    if kind == "Series" and given.index.dtype.kind not in "iu":
        return [str(label) for label in given.index], given.tolist()
    return None


def is_spectrum(value: object) -> bool:
    """Return whether an object holds fluxes rather than identifiers."""
    if isinstance(value, np.ndarray) and value.dtype.names is not None:
        return _has_flux(value.dtype.names)
    kind = foreign_kind(value)
    if kind in {"DataFrame", "Table"}:
        return _has_flux(getattr(value, "columns", ()))
    return kind in {"Spectrum", "SpectrumCollection"}


def _has_flux(names: Iterable[object]) -> bool:
    return "flux" in {str(name).lower() for name in names}


def is_shared(given: Any) -> bool:
    """Return whether a column of a query has identifiers that mean another row than theirs."""
    meta = getattr(given, "meta", None)
    return isinstance(given, np.ndarray) and isinstance(meta, Mapping) and SHARED in meta
