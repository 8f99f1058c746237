"""The catalogue columns of a HATS catalogue: single values, under names that are allowed here."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from ..model.medium import MEDIUM_COLUMN
from ..model.nested import PIXEL_COLUMN
from .hatstypes import dtype_of, meaning_of, unit_of

_PLACES: Final = frozenset({PIXEL_COLUMN, "_hipscat_index", "Norder", "Dir", "Npix"})
"""Columns that say where a row is in the catalogue."""
OURS: Final = frozenset({"part", "is_best", "id", "name", MEDIUM_COLUMN})
"""Names that mean in our exports what they mean here."""
_RESERVED: Final = OURS | {"filename", "in_air", "file"}
"""Names here that a column of another meaning must not have."""


@dataclass(frozen=True, slots=True)
class CatalogueColumns:
    """Columns by their names here."""

    files: dict[str, str] = field(default_factory=dict)
    """The column of the file."""
    dtypes: dict[str, str] = field(default_factory=dict)
    """NumPy dtype text; ``U`` for text."""
    units: dict[str, str] = field(default_factory=dict)
    """Unit, where there is one."""
    meanings: dict[str, str] = field(default_factory=dict)

    def name_of(self, column: str, otherwise: str) -> str:
        """Return the name here of a column of the file."""
        return next((name for name, own in self.files.items() if own == column), otherwise)


def catalogue_columns(
    schema: pa.Schema, used: Mapping[str, str], keep: Collection[str] = ()
) -> CatalogueColumns:
    """Return the columns of single values.

    Parameters
    ----------
    used : names here of columns of a known meaning, and their names in the file
    keep : names that have the same meaning in the file as here
    """
    columns = CatalogueColumns(dict(used))
    names = {source: name for name, source in used.items()}
    for part in schema:
        dtype = dtype_of(part.type)
        if part.name in _PLACES or not dtype:
            continue
        name = names.get(part.name)
        if name is None:
            name = plain_name(part.name, (_RESERVED - {*keep}) | columns.files.keys())
            columns.files[name] = part.name
        columns.dtypes[name] = "<f8" if name in {"ra", "dec"} else dtype
        if unit := unit_of(part):
            columns.units[name] = unit
        if meaning := meaning_of(part):
            columns.meanings[name] = meaning
    return columns


def plain_name(name: str, taken: Collection[str]) -> str:
    """Return a name of a column as those here are written, and not one of those taken."""
    plain = re.sub(r"\W+", "_", name.lower(), flags=re.ASCII).strip("_") or "column"
    plain = f"c_{plain}" if plain[0].isdigit() else plain
    while plain in taken:
        plain = f"table_{plain}"
    return plain
