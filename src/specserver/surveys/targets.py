"""A table of targets: identifier, ra, dec, z and other values of each spectrum.

The user's table is converted to one form, kept as Parquet, and looked up by file name, or by
an identifier in the file's name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy import units as u

from ..data.context import ContextFolder
from ..errors import BadFile, BadParameter
from ..model.skyframe import POSITION_COLUMNS, Frame
from ..model.survey import Column
from .declaration import CORE, require_named, stem_of
from .statedposition import degrees, to_icrs

FILE: Final = "_file"
"""Column of a kept table with the name of the file; never shown."""
OBJECT: Final = "_name"
"""Column of a kept table with the name of each spectrum, where identifiers are numbers; never
shown. Where it is missing, names are those of files, or the identifiers."""
_USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "id": ("id", "objid", "obj_id", "object_id", "specid", "spec_id", "source_id", "targetid",
           "name", "object", "target"),
    "file": ("file", "filename", "file_name", "path", "spectrum", "specfile", "spec_file"),
    "ra": tuple(ra for ra, _ in POSITION_COLUMNS),
    "dec": tuple(dec for _, dec in POSITION_COLUMNS),
    "z": ("z", "redshift", "z_spec", "zspec", "zbest", "z_best"),
}  # fmt: skip
_FILE_COLUMN: Final = Column("file", "U", "", "name of its file")
# The database's name for the file of a row, and an older core column.
_RESERVED: Final = ("filename", "in_air")
_WORD = re.compile(r"[^A-Za-z0-9]+")
_PIECE = re.compile(r"_+")


@dataclass(frozen=True, slots=True)
class Target:
    """The target of a spectrum; None: not known."""

    id: int
    name: str
    ra: float | None = None
    dec: float | None = None
    z: float | None = None
    row: Mapping[str, Any] = field(default_factory=dict)
    """Values of other columns."""


@dataclass(frozen=True, slots=True)
class NormalTable:
    """A table of targets in the form of the stored copy."""

    table: Any
    """Arrow table."""
    columns: tuple[Column, ...]
    """Columns besides the core ones."""
    used: Mapping[str, str]
    """Columns of the user's table that are taken for id, file, ra, dec, z, name."""


def normal_table(
    table: Any,
    chosen: Mapping[str, str],
    left_out: Sequence[str] = (),
    frame: Frame | None = None,
    *,
    named: bool | None = None,
) -> NormalTable:
    """Convert a user's table to the form of the stored copy.

    Parameters
    ----------
    table : Arrow table with single values, as `catalog.tables.tablefile` reads it
    chosen : column names given for id, file, ra, dec, z; those missing are found by usual names
    left_out : columns of the user's table that hold no single values, so that they are not in it
    frame : system of its positions; None: ICRS
    named : whether stored spectra have the names in its column ``name``; None: none are stored

    Raises
    ------
    BadParameter
        A chosen column does not exist, no column identifies files, or names are missing.
    """
    _require_readable(chosen, left_out)
    used = {what: name for what in _USUAL if (name := _column(table, what, chosen)) is not None}
    if not {"id", "file"} & used.keys():
        raise BadParameter(
            "catalog",
            ", ".join(table.column_names[:20]),
            "it needs a column with the identifier or the file name of each spectrum: say which"
            " with --id-column or --file-column",
        )
    ids, names = _identifiers(table, used)
    columns: list[Column] = []
    arrays: dict[str, Any] = {
        "id": pa.array(ids, pa.int64()),
        "name": pa.array(names, pa.string()),
        "ra": _angles(table, used.get("ra"), hours=True),
        "dec": _angles(table, used.get("dec"), hours=False),
        "z": _floats(table, used.get("z")),
        FILE: pa.array(_texts(table, used.get("file")), pa.string()),
    }
    if named is not False and (name := _names(table, used, ids, names)):
        arrays[OBJECT] = table.column(name).combine_chunks().cast(pa.string())
        used["name"] = name
        columns.append(_FILE_COLUMN)
    elif named:
        raise BadParameter(
            "catalog",
            ", ".join(table.column_names[:20]),
            "stored spectra have the names in its column 'name': it needs one, with no name twice"
            " for an identifier",
        )
    arrays |= _in_icrs(arrays["ra"], arrays["dec"], _frame(used, frame))
    for source in table.schema:
        if source.name in used.values():
            continue
        held = {column.name for column in (*CORE, *columns)}
        taken = {*arrays, *_RESERVED, *held} - {"class"}
        column = _described(source, taken)
        if column is not None:
            array = table.column(source.name).combine_chunks()
            is_text = column.dtype == "U" or column.name == "class"
            arrays[column.name] = array.cast(pa.string()) if is_text else array
            if column.name != "class":
                columns.append(column)
    return NormalTable(pa.table(arrays), tuple(columns), used)


def _require_readable(chosen: Mapping[str, str], left_out: Sequence[str]) -> None:
    """Refuse a table whose column of a position or name could not be read, so that none is lost."""
    for what, usual in _USUAL.items():
        wanted = (chosen[what].lower(),) if chosen.get(what) else usual
        for name in left_out:
            if name.lower() in wanted:
                raise BadParameter(
                    f"{what}-column",
                    name,
                    "it holds arrays or times of day, not numbers or text; in a CSV write"
                    " right ascensions with a fraction (10:00:00.0) or in degrees",
                )


def _column(table: Any, what: str, chosen: Mapping[str, str]) -> str | None:
    """Return the column of the user's table for a meaning, or None."""
    lowered = {name.lower(): str(name) for name in reversed(table.column_names)}
    if name := chosen.get(what):
        if name.lower() not in lowered:
            raise BadParameter(f"{what}-column", name, f"one of {', '.join(table.column_names)}")
        return name if name in table.column_names else lowered[name.lower()]
    return next((lowered[name] for name in _USUAL[what] if name in lowered), None)


def _identifiers(table: Any, used: Mapping[str, str]) -> tuple[Sequence[int], Sequence[str | None]]:
    """Return integers that identify rows, and names if the table's identifiers are text."""
    count = table.num_rows
    if "id" not in used:
        return range(1, count + 1), [None] * count
    column = table.column(used["id"])
    if column.null_count:
        raise BadParameter("id-column", used["id"], "a column without gaps")
    if pa.types.is_integer(column.type):
        try:
            return column.cast(pa.int64()).to_pylist(), [None] * count
        except pa.ArrowInvalid as error:
            raise BadParameter("id-column", used["id"], "whole numbers of 63 bits") from error
    if not pa.types.is_string(column.type):
        raise BadParameter("id-column", used["id"], f"whole numbers or text, not {column.type}")
    names = column.to_pylist()
    if len(set(names)) < count:
        raise BadParameter("id-column", used["id"], "text that is different in each row")
    return range(1, count + 1), names


def _names(
    table: Any, used: Mapping[str, str], ids: Sequence[int], texts: Sequence[str | None]
) -> str | None:
    """Return the column ``name`` of a table with numbers for identifiers, if it tells rows apart.

    An identifier and a name are one spectrum, so that a name must not be there twice.
    """
    own = (name for name in table.column_names if name not in used.values())
    name = next((name for name in own if name.lower() == "name"), None)
    if name is None or any(texts) or not pa.types.is_string(table.column(name).type):
        return None
    pairs = [pair for pair in zip(ids, table.column(name).to_pylist(), strict=True) if pair[1]]
    return name if pairs and len(set(pairs)) == len(pairs) else None


def _floats(table: Any, name: str | None) -> Any:
    """Return a column as float64; nulls if it is missing."""
    if name is None:
        return pa.nulls(table.num_rows, pa.float64())
    try:
        return table.column(name).combine_chunks().cast(pa.float64())
    except pa.ArrowInvalid as error:
        raise BadParameter("z-column", name, "a column of numbers") from error


def _angles(table: Any, name: str | None, *, hours: bool) -> Any:
    """Return a column of angles as float64, degrees; text may be sexagesimal."""
    if name is None:
        return pa.nulls(table.num_rows, pa.float64())
    values = table.column(name).to_pylist()
    unit = (table.schema.field(name).metadata or {}).get(b"unit", b"").decode()
    scale = {"rad": 180.0 / np.pi, "hourangle": 15.0, "h": 15.0}.get(unit, 1.0)
    found = [None if value is None else degrees(value, hours=hours) for value in values]
    high, low = (360.0, 0.0) if hours else (90.0, -90.0)
    return pa.array(
        [
            None if value is None or not low <= value * scale <= high else value * scale
            for value in found
        ],
        pa.float64(),
    )


def _frame(used: Mapping[str, str], stated: Frame | None) -> Frame | None:
    """Return the system of a table's positions: from the name of their column, or as stated."""
    name = used.get("ra", "").lower()
    if "1950" in name:
        return Frame("FK4", 1950.0)
    return None if "2000" in name or "icrs" in name else stated


def _in_icrs(ra: Any, dec: Any, frame: Frame | None) -> dict[str, Any]:
    """Return columns of positions in ICRS; an unknown system is refused."""
    if frame is None or not len(ra):
        return {}
    if not frame.is_known:
        raise BadParameter(
            "catalog", frame.system, "positions in ICRS, FK5 or FK4; bring them into ICRS first"
        )
    values = [column.to_numpy(zero_copy_only=False) for column in (ra, dec)]
    known = np.isfinite(values[0]) & np.isfinite(values[1])
    moved = [np.where(known, value, 0.0) for value in values]
    turned = to_icrs(moved[0], moved[1], frame)
    return {
        name: pa.array(angles, pa.float64(), mask=~known)
        for name, angles in zip(("ra", "dec"), turned, strict=True)
    }


def _texts(table: Any, name: str | None) -> Sequence[str | None]:
    """Return a column as text; None if it is missing."""
    if name is None:
        return [None] * table.num_rows
    return [None if value is None else str(value) for value in table.column(name).to_pylist()]


def _described(source: Any, taken: set[str]) -> Column | None:
    """Return a column of the user's table as a catalogue column with an unused name."""
    name = re.sub(r"\W+", "_", source.name.lower(), flags=re.ASCII).strip("_") or "column"
    name = f"c_{name}" if name[0].isdigit() else name
    while name in taken:
        name = f"table_{name}"
    about = {key.decode(): text.decode() for key, text in (source.metadata or {}).items()}
    if pa.types.is_boolean(source.type):
        dtype = "?"
    elif pa.types.is_integer(source.type) or pa.types.is_floating(source.type):
        dtype = np.dtype(source.type.to_pandas_dtype()).newbyteorder("<").str.replace("|", "")
    elif pa.types.is_null(source.type):
        return None
    else:
        dtype = "U"
    return Column(name, dtype, _unit(about.get("unit", "")), about.get("meaning", ""))


def _unit(text: str) -> str:
    """Return a unit that astropy reads; empty for another spelling."""
    try:
        return str(u.Unit(text).to_string())
    except (ValueError, TypeError):
        return ""


class Targets:
    """An open table of targets."""

    def __init__(self, table: Any) -> None:
        self._columns = {name: table.column(name).to_pylist() for name in table.column_names}
        files = [Path(name).name if name else None for name in self._columns[FILE]]
        self._by_file = _rows_by(files)
        self._by_stem = _rows_by([stem_of(Path(file)) if file else None for file in files])
        ids = zip(self._columns["id"], self._columns["name"], strict=True)
        self._by_id = _rows_by([name or str(number) for number, name in ids])

    def find(self, file: str, stem: str, part: int) -> Target:
        """Return the target of a spectrum of a file; raise `BadFile` where it has not one row.

        ``stem`` is the name of the file without its endings, ``part`` the number of the spectrum
        in the file; 0 when it is the only one.
        """
        row = self._row(file, stem, part)
        values = {name: values[row] for name, values in self._columns.items() if name != FILE}
        known = {name: values.pop(name) for name in ("id", "name", "ra", "dec", "z")}
        if OBJECT in values:
            known["name"], values[_FILE_COLUMN.name] = values.pop(OBJECT), file
        name = known["name"] or stem
        known["name"] = f"{name}-{part}" if part else name
        return Target(**known, row=values)

    def _row(self, file: str, stem: str, part: int) -> int:
        """Return the row of a spectrum by its file's name, or by an identifier in the name."""
        own = [f"{stem}-{part}"] if part else []
        for lookup, keys in (
            (self._by_file, [file]),
            (self._by_stem, [*own, stem]),
            (self._by_id, [*own, stem]),
        ):
            for key in keys:
                if key in lookup:
                    return _only(lookup[key])
        pieces = {*_WORD.split(stem), *_PIECE.split(stem)}
        # Numbers in names are often padded with zeros.
        pieces |= {str(int(piece)) for piece in pieces if piece.isascii() and piece.isdigit()}
        found = {row for piece in pieces for row in self._by_id.get(piece, ())}
        if not found:
            raise BadFile("no row of the table is of it, neither by file name nor by identifier")
        return _only(sorted(found))


def _rows_by(keys: Sequence[str | None]) -> dict[str, list[int]]:
    """Return the rows of each key; rows without a key are left out."""
    found: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        if key:
            found.setdefault(key, []).append(row)
    return found


def _only(rows: Sequence[int]) -> int:
    """Return the only row."""
    if len(rows) > 1:
        raise BadFile(
            f"{len(rows)} rows of the table are of it by its name; give the table a column with the"
            " name of each file (--file-column)"
        )
    return rows[0]


@lru_cache(maxsize=4)
def open_targets(folder: ContextFolder, name: str) -> Targets:
    """Return a kept table, open for look-ups; each process reads it once.

    Its name is made of its bytes.
    """
    try:
        require_named(folder, name)
        return Targets(pq.read_table(folder.entry(name).local_path()))
    except (OSError, KeyError, ValueError) as error:
        told = f"the table of targets {folder.entry(name)} is damaged"
        raise BadFile(f"{told}; ingest with --catalog again ({error})") from error
