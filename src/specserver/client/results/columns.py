"""Arrow columns → NumPy arrays, and tables of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...wire.batches import Readable, open_answer
from ...wire.columns import OTHERS, UNIT
from ...wire.numeric import view

if TYPE_CHECKING:
    from astropy.table import Table


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of a catalogue, a column an array."""

    values: Mapping[str, npt.NDArray[Any]]
    """1D[nrow] each, by column name, in the order of the answer."""
    units: Mapping[str, str]
    """Units as astropy reads them, where the service states one."""
    nothers: int = 0
    """Number of rows that are not primary, if the service counted them: those left out, or, if all
    rows were asked for, those whose identifier means another, primary spectrum."""
    others: Mapping[str, int] = field(default_factory=dict)
    """That number by context, if there are several contexts."""
    shared: str = ""
    """Name of the column of identifiers, if some identifiers mean another row than theirs."""

    def table(self) -> "Table":
        """Return an astropy Table; a unit that astropy does not know is kept as text."""
        from astropy.table import Table
        from astropy.units import Unit

        units = {name: Unit(text, parse_strict="silent") for name, text in self.units.items()}
        return Table(dict(self.values), units=units, copy=False)


def read_columns(source: Readable | bytes) -> Columns:
    """Read an Arrow stream of catalogue rows, a file or all its bytes, to its end.

    Raises
    ------
    StoreError
        The stream is damaged or was cut off.
    """
    with open_answer(source) as reader:
        table = reader.read_all()
    units = {
        field.name: field.metadata[UNIT].decode()
        for field in table.schema
        if field.metadata and field.metadata.get(UNIT)
    }
    columns = {
        field.name: join_pieces(
            [read_piece(chunk) for chunk in table.column(field.name).chunks], field.type
        )
        for field in table.schema
    }
    others = json.loads((table.schema.metadata or {}).get(OTHERS, b"0"))
    if isinstance(others, dict):
        return Columns(columns, units, others=others)
    return Columns(columns, units, int(others))


@dataclass(frozen=True, slots=True)
class Piece:
    """Values of a column, of one batch or of all."""

    values: npt.NDArray[Any]
    """1D[n], a copy; a missing float is NaN, a missing text is empty."""
    missing: npt.NDArray[np.bool_] | None
    """1D[n], True where a value of another type is missing; None if none is."""


def read_piece(column: pa.Array) -> Piece:
    """Copy a column of a batch.

    pyarrow's own conversions import pandas at their first use, which takes longer than most
    answers do; so fixed-width columns are read from their buffers.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        texts = [text or "" for text in column.to_pylist()]
        return Piece(np.array(texts, dtype=str) if texts else np.empty(0, dtype="U1"), None)
    if pa.types.is_decimal(kind):
        # Identifiers that no type of 64 bits holds together.
        values = np.empty(len(column), dtype=object)
        values[:] = [None if number is None else int(number) for number in column.to_pylist()]
        return Piece(values, None)
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return Piece(values, None)
    values = view(column).copy()
    missing = view(column.is_null()) if column.null_count else None
    if missing is not None and pa.types.is_floating(kind):
        values[missing] = np.nan
        missing = None
    return Piece(values, missing)


def join_pieces(pieces: Sequence[Piece], kind: pa.DataType) -> npt.NDArray[Any]:
    """Join the pieces of a column of some type.

    Returns
    -------
    1D[n]
        A masked array when values without a natural blank are missing.
    """
    some = list(pieces) or [read_piece(pa.nulls(0, kind))]
    values = np.concatenate([piece.values for piece in some])
    if all(piece.missing is None for piece in some):
        return values
    missing = [
        np.zeros(len(piece.values), dtype=bool) if piece.missing is None else piece.missing
        for piece in some
    ]
    return np.ma.MaskedArray(values, mask=np.concatenate(missing))
