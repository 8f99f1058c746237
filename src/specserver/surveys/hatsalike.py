"""Refuses files of HATS catalogues whose columns mean something else than a context's first file.

A context has one declaration, made of its first file: one unit and one type of each vector and of
each column. Nothing is converted, so a file with others has to go into another context.
"""

from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any, Final

import numpy as np
import pyarrow as pa

from ..errors import BadFile
from ..model.nested import NestedSpectra
from ..model.survey import Vector
from .declaration import Declaration
from .hatstable import HatsTable, description_of, named_here
from .hatstypes import dtype_of, list_of, unit_of, unit_text

_OWN: Final = "ingest it into a context of its own"
_FIRST: Final = f"as in the first catalogue of this context; {_OWN}"
_POSITION: Final = frozenset({"ra", "dec"})
_TITLE: Final = "title"


def require_alike(schema: pa.Schema, declared: Declaration, table: HatsTable) -> None:
    """Raise `BadFile` if a file has other columns, types or units than the declaration says."""
    tops = dict.fromkeys(name.partition(".")[0] for name in table.vectors.values())
    needed = dict.fromkeys((*table.columns.values(), *filter(None, [table.identifier]), *tops))
    lacking = [name for name in needed if name not in schema.names]
    if lacking:
        raise BadFile(
            f"it has no column {', '.join(lacking)}, which the first catalogue of this context"
            f" has; {_OWN}"
        )
    if table.is_exact:
        _require_description(schema, table)
    _require_lists(schema, declared, table)
    _require_identifier(schema, table)
    _require_columns(schema, table)


def _require_description(schema: pa.Schema, table: HatsTable) -> None:
    """Refuse a file that describes its spectra otherwise."""
    found = description_of(schema)
    if found is None:
        raise BadFile(
            "it does not describe its spectra, as exports of specserver do and the first catalogue"
            f" of this context; {_OWN}"
        )
    now, before = _told(named_here(found, table.columns)), _told(table.spectra)
    for what, value in now.items():
        if value != before[what]:
            raise BadFile(f"its {what} is {value}, and not {before[what]} {_FIRST}")


def _told(spectra: NestedSpectra) -> dict[str, str]:
    """Return what a description says, but for titles and meanings, as text."""
    told = {
        part.name.replace("_", " "): repr(getattr(spectra, part.name))
        for part in fields(NestedSpectra)
        if part.name != _TITLE
    }
    vectors = (f"{v.name} of type {np.dtype(v.dtype)} in {v.unit!r}" for v in spectra.record)
    told["record"] = "; ".join(vectors)
    if not spectra.window.count:
        # No spectrum is on the lattice: its step is one for resampling.
        told["grid"] = type(spectra.grid).__name__
    return told


def _require_lists(schema: pa.Schema, declared: Declaration, table: HatsTable) -> None:
    """Refuse a file whose lists are not there, or are of other types or units."""
    if not (table.is_exact or "mask" in table.vectors):
        _require_no_mask(schema, table)
    for vector in table.spectra.record:
        path = table.vectors.get(vector.name)
        if path is None:
            continue  # it is made here
        field = list_of(schema, path)
        if field is None:
            raise BadFile(f"it has no list of numbers {path} {_FIRST}")
        if not _is_of_type(field.type, vector, table):
            kind = np.dtype(vector.dtype)
            raise BadFile(
                f"its list {path} is of type {field.type}, and is not stored as {kind} {_FIRST}"
            )
        # The description of an export states the units, and is compared.
        if not table.is_exact:
            _require_unit(field, path, vector, declared, table)


def _require_no_mask(schema: pa.Schema, table: HatsTable) -> None:
    """Refuse a file with masks, which would be left out, as the first file has none."""
    from .hatscolumns import candidates, mask_of  # noqa: PLC0415  # slow to import

    top = table.vectors["flux"].rpartition(".")[0]
    beside = (mask_of(lists, prefix) for prefix, lists in candidates(schema)
              if prefix.rstrip(".") == top)  # fmt: skip
    if mask := next(filter(None, beside), None):
        raise BadFile(
            f"it has a list {mask}, which the first catalogue of this context has not; {_OWN}"
        )


def _is_of_type(kind: pa.DataType, vector: Vector, table: HatsTable) -> bool:
    """Return whether values of a list are stored in the type of a vector, and mean the same."""
    if table.is_exact:
        return bool(kind == pa.from_numpy_dtype(np.dtype(vector.dtype)))
    from .hatscolumns import bad_bits_of, stored_vector  # noqa: PLC0415  # slow to import

    if vector.name == "mask" and bad_bits_of(kind) != table.spectra.bad_bits:
        return False
    plain = Vector(vector.name, dtype_of(kind), "", "")
    return stored_vector(plain, table.power, ("", "")).dtype == vector.dtype


def _require_unit(
    field: pa.Field, path: str, vector: Vector, declared: Declaration, table: HatsTable
) -> None:
    """Refuse a list that is in another unit than that of the first file."""
    from .namedcolumns import is_log_wave  # noqa: PLC0415  # slow to import
    from .statedunit import flux_unit, wave_unit  # noqa: PLC0415

    parse: Callable[[str], Any] = flux_unit
    now, before = unit_of(field), vector.unit
    if vector.name == "wavelength":
        is_log = is_log_wave(path.rpartition(".")[2])
        before = table.wave_unit.removeprefix("log" * is_log)
        now, parse = now or declared.wave_unit, wave_unit
    elif vector.name == "ivar":
        before = table.ivar_unit
    elif vector.name == "flux":
        before = declared.stated_unit
        # The operator says in what flux is, whatever files state.
        given = declared.given_unit
        if given is not None and (not now or _is_same(now, given, parse)):
            return
    if not _is_same(now, before, parse):
        raise BadFile(
            f"its list {path} is in {now or 'no unit'!r}, and not in {before or 'no unit'!r}"
            f" {_FIRST}"
        )


def _is_same(now: str, before: str, parse: Callable[[str], Any]) -> bool:
    """Return whether two texts of units are of one unit; no unit is only the same as none."""
    if now == before or not (now and before):
        return now == before
    unit = parse(now)
    return unit is not None and unit == parse(before)


def _require_identifier(schema: pa.Schema, table: HatsTable) -> None:
    """Refuse a file whose identifiers are of another type."""
    if not table.identifier:
        return
    kind = schema.field(table.identifier).type
    stored = table.dtypes["id"]
    if pa.types.is_integer(kind):
        good = pa.types.is_uint64(kind) == (stored == "<u8")
    else:
        good = stored == "<i8" and dtype_of(kind) == "U"
    if not (good or pa.types.is_null(kind)):
        raise BadFile(
            f"its column {table.identifier} is of type {kind}, and gives no identifiers {stored}"
            f" {_FIRST}"
        )


def _require_columns(schema: pa.Schema, table: HatsTable) -> None:
    """Refuse a file whose columns of single values are of other types or units."""
    for name, source, field in _columns(schema, table):
        kind, wanted = field.type, table.dtypes.get(name, "")
        if pa.types.is_null(kind):
            continue  # there is no value in the whole file
        dtype = dtype_of(kind)
        # Positions of any number type become float64.
        good = dtype not in {"", "?"} if name in _POSITION else dtype == wanted
        if not good:
            raise BadFile(
                f"its column {source} is of type {kind}, and not {np.dtype(wanted)} {_FIRST}"
            )
        before = table.units.get(name, "")
        if unit_text(field) == before:
            continue
        now = unit_of(field)
        if name in _POSITION:
            # HATS knows no other unit of them.
            now, before = now or "deg", before or "deg"
        if now != before:
            raise BadFile(
                f"its column {source} is in {now or 'no unit'!r}, and not in"
                f" {before or 'no unit'!r} {_FIRST}"
            )


def _columns(schema: pa.Schema, table: HatsTable) -> Iterator[tuple[str, str, pa.Field]]:
    """Yield names here, names in the file, and fields; but for identifiers, compared before."""
    for name, source in table.columns.items():
        if name != "id":
            yield name, source, schema.field(source)
