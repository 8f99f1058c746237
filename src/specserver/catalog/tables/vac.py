"""Value-added tables of a context: a Parquet file each, with an index like the context's own.

A row stands for a spectrum: its identifier is in the table, or is made of plate, mjd, fiber and
run2d; where run2d is missing it is that of the spectrum held. A row whose spectrum is not known
has a null identifier: it is found by position and condition, and left out of lists of identifiers.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ...damage import Identity
from ...data.context import TableFiles, is_table_name
from ...digests import digest_of_bytes, seal
from ...errors import BadParameter, UnknownCatalog
from ...model.skyframe import POSITION_COLUMNS
from ...model.survey import Column, Survey
from ..healpix import pixel
from ..index.anew import NewPart, make_anew
from ..index.build import write_sorted
from ..index.column_types import common_schema, conformed, put_column
from ..index.manifest import Manifest
from ..index.part_record import PartRecord
from .links import HeldSpectra, with_parts, with_spectra
from .table_ids import read_ids, valid_names
from .tablefile import read_table

_KEY: Final = b"specserver"
_LINKED: Final = "_linked"
_DAMAGED: Final = "damaged"


@dataclass(frozen=True, slots=True)
class VacInfo:
    """The record of a value-added table."""

    name: str
    title: str
    file: str
    """Name of the file that it came from."""
    nrows: int
    ids: str
    """Source of the identifiers: ``column``, ``tuple``, or ``spectra`` held (no run2d)."""
    position: tuple[str, str] | None
    """Columns that hold the position; None: that of the spectrum."""
    left_out: tuple[str, ...]
    notes: tuple[str, ...]


def has_vac(files: TableFiles) -> bool:
    """Return whether a table exists; its name may be any text."""
    if not is_table_name(files.name):
        return False
    return files.file.exists() or files.declaration.exists()


def add_vac(
    files: TableFiles,
    survey: Survey,
    file: Path,
    *,
    title: str = "",
    id_column: str | None = None,
    hdu: int | None = None,
    overwrite: bool = False,
) -> VacInfo:
    """Read a table file and attach it under a name; a running service serves it at once.

    Raises
    ------
    BadParameter
        A name that is reserved, taken or not valid; a file without identifiers.
    BadFile
        A file that cannot be read.
    """
    name = files.name
    if not is_table_name(name) or name in survey.tables:
        taken = " and ".join(survey.tables)
        allowed = f"a-z, 0-9 and _, a letter first, up to 63 of them, and not {taken}"
        raise BadParameter("NAME", name, allowed)
    if files.declaration.exists() or (files.file.exists() and not overwrite):
        text = f"{files.context.name} has a table {name}: take another NAME, or say --replace"
        raise BadParameter.saying(text)
    found = read_table(file, hdu=hdu)
    table = found.table.rename_columns(valid_names(found.table.column_names))
    table, ids, notes = read_ids(survey, table, id_column)
    position = _position(table)
    says_other = position is not None and not ("2000" in position[0] or "icrs" in position[0])
    if found.frame is not None and says_other:
        text = f"{file} states positions in {found.frame.label}: bring them into ICRS first"
        raise BadParameter.saying(text)
    info = VacInfo(
        name,
        title or f"from {file.name}",
        file.name,
        table.num_rows,
        ids,
        position,
        found.left_out,
        notes,
    )
    _write_table(files, table.replace_schema_metadata({_KEY: json.dumps(asdict(info))}))
    return info


def read_vac(files: TableFiles) -> VacInfo:
    """Return the record of a table."""
    _check_once(files, files.file.state())
    try:
        schema = pq.read_schema(files.file.local_path())
        values: Mapping[str, Any] = json.loads(schema.metadata[_KEY])
        info = VacInfo(**values)
    except FileNotFoundError as error:
        raise UnknownCatalog(str(files), files.context.tables()) from error
    except (OSError, ValueError, TypeError, KeyError, pa.ArrowException) as error:
        raise files.file.damaged(f"{_DAMAGED} ({error})") from error
    position = info.position
    return replace(info, position=(position[0], position[1]) if position else None)


def check_vac(table: TableFiles) -> bool:
    """Compare a table with its digest; return whether it has one.

    Raises
    ------
    DamagedFile
        The table, or the record of its digest, is not as it was written.
    """
    try:
        stated = table.record.record(_DAMAGED).values.get("of", [])
    except FileNotFoundError:
        return False
    if table.file.digest() not in stated:
        raise table.file.damaged(_DAMAGED)
    return True


def remove_vac(files: TableFiles) -> None:
    """Detach a table; raise `UnknownCatalog` when there is none of that name."""
    if files.name not in files.context.tables():
        raise UnknownCatalog(str(files), files.context.tables())
    files.declaration.delete()
    files.file.delete()
    files.record.delete()
    # Files that a server writes there meanwhile are removed with the next table of that name.
    with suppress(OSError):
        files.index.delete()


def vac_survey(survey: Survey, columns: Sequence[Column], names: Iterable[str]) -> Survey:
    """Return a survey whose catalogue is a table.

    Parameters
    ----------
    columns : its columns as far as they are described
    names : all its columns
    """
    there = set(names)
    aliases = {
        other: name
        for other, name in survey.aliases.items()
        if name in there and other not in there
    }
    described = {column.name: column for column in survey.columns}
    described |= {column.name: column for column in columns}
    kept = tuple(column for name, column in described.items() if name in there)
    return replace(survey, columns=kept, aliases=aliases, primary=(_LINKED, 1), best=None)


def vac_columns(files: TableFiles) -> tuple[Column, ...]:
    """Return the columns of a table as its file describes them."""
    schema = pq.read_schema(files.file.local_path())
    columns = []
    for field in schema:
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        dtype = "U" if field.type == pa.string() else np.dtype(field.type.to_pandas_dtype()).str
        columns.append(Column(field.name, dtype, about.get("unit", ""), about.get("meaning", "")))
    return tuple(columns)


def is_current_vac(files: TableFiles, held: HeldSpectra, covers: tuple[str, ...]) -> bool:
    """Return whether an index that covers something is of the table and the spectra held now."""
    return covers == _covers(files, read_vac(files), held)


def refresh_vac(files: TableFiles, held: HeldSpectra, *, bad: str = "") -> bool:
    """Make the index of a table, unless there is one of the table and of the spectra held now.

    Returns whether it was made.

    Parameters
    ----------
    bad : `Catalogue.version` of one that is known to be damaged

    Raises
    ------
    DamagedFile
        The table is not as it was written.
    CatalogError
        It cannot be made: a full disk, a folder that cannot be written to.
    """
    info = read_vac(files)
    covers = _covers(files, info, held)

    def is_current(manifest: Manifest) -> bool:
        return manifest.covers == covers and manifest.rows != bad

    make = partial(_build, files, info, held)
    return make_anew(files.index, files.context.leases, is_current, make, covers)


def _position(table: pa.Table) -> tuple[str, str] | None:
    """Return the columns of numbers that hold a position, or None."""
    numbers = {
        field.name
        for field in table.schema
        if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    }
    return next((pair for pair in POSITION_COLUMNS if numbers.issuperset(pair)), None)


def _covers(files: TableFiles, info: VacInfo, held: HeldSpectra) -> tuple[str, ...]:
    """Return names of the contents that the index of a table is made from."""
    _, size, changed_ns = files.file.stamp()
    own = f"{files.file.name} {size} {changed_ns}"
    depends = info.ids == "spectra" or info.position is None or bool(held.survey.told_by)
    return (own, held.version) if depends else (own,)


def _build(
    files: TableFiles, info: VacInfo, held: HeldSpectra, new_part: NewPart
) -> Iterator[PartRecord]:
    """Write the rows of a table as a part."""
    survey = held.survey
    table = pq.read_table(files.file.local_path())
    identifier = survey.id_column.name
    ids = table.column(identifier).fill_null(0).to_numpy().copy()
    numbers = survey.id_parts[:-1]
    if info.ids == "spectra":
        open_ = np.flatnonzero(ids == 0)
        asked = table.select(numbers).take(pa.array(open_))
        ids[open_] = held.ids([asked.column(name).fill_null(0).to_numpy() for name in numbers])
    table = put_column(table, identifier, pa.array(ids, mask=ids == 0))
    table = with_parts(table, survey, ids)
    best_rows = None
    if survey.told_by:
        table, best_rows = with_spectra(table, held, ids)
    ra, dec = _positions(table, info, held, ids, best_rows)
    for name, values in (("ra", ra), ("dec", dec)):
        table = put_column(table, name, pa.array(values, mask=np.isnan(values)))
    table = put_column(table, "_hpx", pa.array(pixel(ra, dec)))
    table = put_column(table, "_row", pa.array(np.arange(len(ids), dtype=np.int32)))
    table = put_column(table, _LINKED, pa.array((ids != 0).astype(np.uint8)))
    table = put_column(table, "_segment", pa.array(np.zeros(len(ids), np.int32)))
    table = conformed(table, common_schema([table.schema]))
    as_catalogue = vac_survey(survey, (), table.column_names)
    yield write_sorted(new_part(), as_catalogue, table, [files.name])


def _positions(
    table: pa.Table,
    info: VacInfo,
    held: HeldSpectra,
    ids: npt.NDArray[Any],
    rows: npt.NDArray[np.int64] | None,
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the position of each row: the table's own, or else that of its spectrum, or NaN."""
    if info.position is None:
        return held.positions(ids, rows)
    ra, dec = (
        table.column(name).cast(pa.float64()).fill_null(np.nan).to_numpy().copy()
        for name in info.position
    )
    with np.errstate(invalid="ignore"):
        good = (ra >= -180.0) & (ra <= 360.0) & (np.abs(dec) <= 90.0)
    ra = np.where(good, ra % 360.0, np.nan)
    dec = np.where(good, dec, np.nan)
    if not good.all():
        lost = np.flatnonzero(~good)
        ra[lost], dec[lost] = held.positions(ids[lost], None if rows is None else rows[lost])
    return ra, dec


@lru_cache(maxsize=256)
def _check_once(table: TableFiles, state: Identity) -> None:
    """Compare a table with its digest, once for each state of the file."""
    del state
    if table.file.exists():
        check_vac(table)


def _write_table(files: TableFiles, table: pa.Table) -> None:
    """Write a table so that it is there whole or not at all."""
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    content = memoryview(buffer.getvalue())
    with files.context.writing():
        # Written first, with the digest of the table that it replaces: a table has its digest.
        stated = [digest_of_bytes(content), *([files.file.digest()] if files.file.exists() else [])]
        files.record.replace(seal({"of": stated}))
        files.file.replace(content)
    files.context.catalogs.inherit_access()
