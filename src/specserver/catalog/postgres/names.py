"""Names and types of columns in PostgreSQL, and values on their way there and back.

PostgreSQL has no unsigned integers: those of 8, 16 and 32 bits have the next wider type, and those
of 64 bits the same bits as a signed ``bigint``, which is how SDSS writes them, too.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg import sql

from ...errors import BadParameter
from ..index.column_types import kind_of

_LONGEST: Final = 63
"""Bytes of a name in PostgreSQL; it cuts longer ones."""
_SCHEMA: Final = re.compile(rf"[a-z_][a-z0-9_]{{0,{_LONGEST - 1}}}")
_TAKEN: Final = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
"""Names that each table of PostgreSQL has for itself."""
_TYPES: Final[Mapping[pa.DataType, tuple[str, pa.DataType, int]]] = {
    pa.bool_(): ("boolean", pa.bool_(), 1),
    pa.int8(): ("smallint", pa.int16(), 7),
    pa.int16(): ("smallint", pa.int16(), 15),
    pa.int32(): ("integer", pa.int32(), 31),
    pa.int64(): ("bigint", pa.int64(), 63),
    pa.uint8(): ("smallint", pa.int16(), 8),
    pa.uint16(): ("integer", pa.int32(), 16),
    pa.uint32(): ("bigint", pa.int64(), 32),
    pa.uint64(): ("bigint", pa.int64(), 64),
    pa.float32(): ("real", pa.float32(), 0),
    pa.float64(): ("double precision", pa.float64(), 0),
    pa.string(): ('text COLLATE "C"', pa.string(), 0),
    pa.null(): ('text COLLATE "C"', pa.string(), 0),
}
"""Arrow type → type in PostgreSQL, Arrow type of its values there, bits of a whole number."""


COLLATED: Final = '({} COLLATE "C")'
"""Text of a table of others as it is compared here."""


@dataclass(frozen=True, slots=True)
class StoredColumn:
    """A column of a table in PostgreSQL."""

    name: str
    """Its name in the catalogue."""
    form: pa.DataType
    """Its Arrow type in the catalogue."""
    actual: str = ""
    """Its name in PostgreSQL, if that does not follow from the other."""
    expression: str = "{}"
    """Its value, as SQL, from its quoted name."""

    @property
    def physical(self) -> str:
        """Its name in PostgreSQL."""
        if self.actual:
            return self.actual
        return fitting(f"{self.name}_" if self.name in _TAKEN else self.name)

    @property
    def kind(self) -> str:
        """Kind of its values: int, uint, float, str or bool."""
        return kind_of(self.form)

    @property
    def type(self) -> str:
        """Its type in PostgreSQL, as SQL."""
        return _TYPES[self.form][0]

    @property
    def bits(self) -> int:
        """Magnitude of a whole number in it: its absolute value is at most ``2 ** bits``."""
        return _TYPES[self.form][2]

    @property
    def is_text_of_others(self) -> bool:
        """Whether it has text of a table of others, in its own collation, as it is."""
        return self.expression == COLLATED

    @property
    def is_wrapped(self) -> bool:
        """Whether its values are the signed form of unsigned ones."""
        return bool(self.form == pa.uint64())

    @property
    def identifier(self) -> str:
        """Its value, as SQL."""
        return self.expression.format(self.plain)

    @property
    def plain(self) -> str:
        """Its quoted name."""
        return quoted(self.physical)

    @property
    def order(self) -> str:
        """An expression, as SQL, that is in the order of its values; NaN is the greatest."""
        # The signed form of the greatest numbers is negative: the highest bit is turned over.
        return (
            f"({self.identifier} # (-9223372036854775808)::bigint)"
            if self.is_wrapped
            else self.identifier
        )


def quoted(*names: str) -> str:
    """Return the quoted name of a column, or of a table in a schema."""
    return sql.Identifier(*names).as_string(None)


def checked_schema(name: str) -> str:
    """Return the name of a schema; raise `BadParameter` if SQL would need quotes."""
    if not _SCHEMA.fullmatch(name) or name.startswith("pg_"):
        text = f"?schema={name}: a schema's name has lower-case letters, digits and underscores,"
        text += f" begins with no digit and not with pg_, and has at most {_LONGEST} letters"
        raise BadParameter.saying(text)
    return name


def fitting(name: str) -> str:
    """Return a name that PostgreSQL does not cut: the end of a longer one becomes a digest."""
    encoded = name.encode()
    if len(encoded) <= _LONGEST:
        return name
    digest = blake2b(encoded, digest_size=4).hexdigest()
    return f"{encoded[: _LONGEST - 9].decode(errors='ignore')}_{digest}"


def stored_columns(schema: pa.Schema) -> dict[str, StoredColumn]:
    """Return the columns of a schema by their names in the catalogue."""
    return {field.name: StoredColumn(field.name, field.type) for field in schema}


def to_postgres(column: Any, form: pa.DataType) -> pa.Array:
    """Return values as PostgreSQL has them, in one array.

    Parameters
    ----------
    column : Arrow values, chunked or not
    form : their type in the catalogue
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if form == pa.uint64():
        return array.cast(form).view(pa.int64())
    array = array.cast(_TYPES[form][1])
    if pa.types.is_string(array.type):
        # Text of PostgreSQL has no NUL, with which FITS fills up.
        return pc.replace_substring(array, "\0", "")
    return array


def from_postgres(table: pa.Table, columns: Sequence[StoredColumn]) -> pa.Table:
    """Return columns of an answer, in their order, with their names and types in the catalogue."""
    arrays = []
    for column, found in zip(columns, table.columns, strict=True):
        if column.is_wrapped:
            chunks = [chunk.view(pa.uint64()) for chunk in found.cast(pa.int64()).chunks]
            arrays.append(pa.chunked_array(chunks, pa.uint64()))
        elif column.form == pa.null():
            arrays.append(pa.chunked_array([pa.nulls(len(found))]))
        else:
            arrays.append(found if found.type == column.form else found.cast(column.form))
    schema = pa.schema([(column.name, column.form) for column in columns])
    return pa.table(arrays, schema=schema)


def signed(ids: Any) -> Any:
    """Return identifiers, 1D[n], as PostgreSQL has them, 1D[n] int64."""
    return ids.view(np.int64) if ids.dtype == np.uint64 else ids.astype(np.int64)
