"""What the fields of a Parquet file of a HATS catalogue are: types, units, meanings and lists."""

import numpy as np
import pyarrow as pa

from ..model.nested import MEANING, UNIT


def dtype_of(kind: pa.DataType) -> str:
    """Return the NumPy dtype text of a type of single values; empty: it has none here."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_boolean(kind):
        return "?"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "U"
    if pa.types.is_float16(kind):
        return "<f4"
    if pa.types.is_integer(kind) or pa.types.is_floating(kind):
        return str(np.dtype(kind.to_pandas_dtype()).newbyteorder("<").str.replace("|", ""))
    return ""


def unit_text(part: pa.Field) -> str:
    """Return the unit that a field states, as it is written; empty: none."""
    return str((part.metadata or {}).get(UNIT, b"").decode("utf-8", "replace"))


def unit_of(part: pa.Field) -> str:
    """Return the unit that a field states, if astropy reads it; empty: none."""
    text = unit_text(part)
    if not text:
        return ""
    from astropy import units as u  # noqa: PLC0415  # slow to import

    try:
        u.Unit(text)
    except (ValueError, TypeError):
        return ""
    return text


def meaning_of(part: pa.Field) -> str:
    """Return the meaning that a field states; empty: none."""
    return str((part.metadata or {}).get(MEANING, b"").decode("utf-8", "replace"))


def is_list(kind: pa.DataType) -> bool:
    """Return whether a type is one of lists."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Return whether a type is one of numbers or flags."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    )


def list_of(schema: pa.Schema, path: str) -> pa.Field | None:
    """Return a list of numbers of a file as a field of the type of its values; None: it has none.

    Parameters
    ----------
    path : name of a column; ``struct.list`` of one in a struct, or of structs in a list
    """
    top, _, inner = path.partition(".")
    at = schema.get_field_index(top)
    if at < 0:
        return None
    field = schema.field(at)
    kind = field.type
    of_structs = bool(inner and is_list(kind))
    if inner:
        kind = kind.value_type if of_structs else kind
        at = kind.get_field_index(inner) if pa.types.is_struct(kind) else -1
        if at < 0:
            return None
        field = kind.field(at)
    if not of_structs:
        if not is_list(field.type):
            return None
        field = pa.field(field.name, field.type.value_type, metadata=field.metadata)
    return field if is_number(field.type) else None
