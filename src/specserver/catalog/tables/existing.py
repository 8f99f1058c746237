"""Value-added tables that stay in a database of the data centre: a declaration says where.

Nothing of such a table is copied. Its declaration is a file of the data folder, without a password:
the user of the service has it in PGPASSWORD or ``~/.pgpass``.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from ...data.context import TableFiles, is_table_name
from ...digests import seal
from ...errors import BadParameter, CatalogError, UnknownCatalog
from ...extras import require
from ...model.skyframe import POSITION_COLUMNS
from ...model.survey import Survey
from ..base import Catalogue
from ..database_url import without_password
from ..sql.expressions import Condition
from .joined import joined_survey
from .vac import read_vac, vac_survey

if TYPE_CHECKING:
    from ..postgres.database import Database
    from ..postgres.described import Described

_DAMAGED: Final = "damaged declaration of a table"
_WHOLE: Final = frozenset({"int2", "int4", "int8", "numeric"})
_REAL: Final = frozenset({"float4", "float8", "numeric"})


@dataclass(frozen=True, slots=True)
class Declaration:
    """A table in a database."""

    url: str
    """Of the database, without a password."""
    table: str
    """``schema.table``."""
    id: str
    """Column of the identifiers."""
    ra: str = ""
    """Columns of the position, degrees; empty: that of the spectrum."""
    dec: str = ""
    key: str = ""
    """Column of whole numbers by which rows are known; empty: their places in the table."""
    title: str = ""


def attach_existing(
    files: TableFiles,
    survey: Survey,
    url: str,
    table: str,
    *,
    id_column: str = "",
    position: tuple[str, str] | None = None,
    key: str = "",
    title: str = "",
    overwrite: bool = False,
) -> Declaration:
    """Declare a table of a database as a value-added table; a running service serves it at once.

    Parameters
    ----------
    table : ``schema.table``, as the database reads names
    id_column, position, key : its columns with a meaning; by default those with usual names

    Raises
    ------
    BadParameter
        A name that is taken or not valid; no such table; columns that it lacks or that do not fit.
    MissingPackage
        The extra ``postgres`` is not installed.
    DatabaseAway, CatalogError
        The database cannot be asked.
    """
    name = files.name
    if not is_table_name(name) or name in survey.tables:
        taken = " and ".join(survey.tables)
        allowed = f"a-z, 0-9 and _, a letter first, up to 63 of them, and not {taken}"
        raise BadParameter("NAME", name, allowed)
    if name in files.context.tables() and not (overwrite and files.declaration.exists()):
        text = f"{files.context.name} has a table {name}: take another NAME, or say --replace"
        raise BadParameter.saying(text)
    require("a table in PostgreSQL", "postgres")
    from ..postgres.database import Database  # noqa: PLC0415  # the extra may be missing
    from ..postgres.described import describe, is_unique  # noqa: PLC0415

    database = Database(url)
    try:
        described = describe(database, table)
        ra, dec = _position(described, position) or ("", "")
        known_by = _key(described, key)
        if known_by and not is_unique(database, described, known_by):
            allowed = "a column without null whose values are unique in the whole table"
            raise BadParameter("key", known_by, allowed)
        found = Declaration(
            without_password(url),
            table,
            _identifier(described, survey, id_column),
            ra,
            dec,
            known_by,
            title or f"{table}, in PostgreSQL",
        )
        # What its user may not read is told now.
        some = Condition(limit=1)
        catalogue = _opened(database, files, survey, found, described, None)
        catalogue.query([*catalogue.columns], some, None, primary=False)
    finally:
        database.close()
    with files.context.writing():
        files.declaration.replace(seal(asdict(found)))
    files.context.catalogs.inherit_access()
    return found


def read_declaration(files: TableFiles) -> Declaration:
    """Return the declaration of a table; raise `UnknownCatalog` when there is none."""
    try:
        values: dict[str, Any] = files.declaration.record(_DAMAGED).values
        return Declaration(**values)
    except FileNotFoundError as error:
        raise UnknownCatalog(str(files), files.context.tables()) from error
    except TypeError as error:
        raise files.declaration.damaged(f"{_DAMAGED} ({error})") from error


def title_of(files: TableFiles) -> str:
    """Return the title of a value-added table, wherever it is; errors as of `read_vac`."""
    if files.declaration.exists():
        return read_declaration(files).title
    return read_vac(files).title


def open_existing(files: TableFiles, survey: Survey, spectra: Catalogue | None) -> Catalogue:
    """Return the catalogue of a declared table, as the database describes it now.

    Parameters
    ----------
    survey : of the context
    spectra : the catalogue of the context, if there is one

    Raises
    ------
    DatabaseAway
        The database cannot be reached.
    CatalogError
        The table is gone, or has become one that needs ``--key``.
    """
    require("a table in PostgreSQL", "postgres")
    from ..postgres.described import describe  # noqa: PLC0415  # the extra may be missing

    declared = read_declaration(files)
    database = _database(declared.url)
    try:
        described = describe(database, declared.table)
    except BadParameter as error:
        # Visitors read this: it does not name the database.
        why = "its table in PostgreSQL is gone, or may not be seen by the user of the service"
        raise CatalogError(f"{files}: {why}") from error
    if not declared.key and not described.has_places:
        why = "rows of its table in PostgreSQL have no places any more: attach it again with --key"
        raise CatalogError(f"{files}: {why}")
    return _opened(database, files, survey, declared, described, spectra)


@lru_cache(maxsize=32)
def _database(url: str) -> "Database":
    """Return a database, whose connections all its tables share."""
    from ..postgres.database import Database  # noqa: PLC0415  # the extra may be missing

    return Database(url)


def _opened(
    database: "Database",
    files: TableFiles,
    survey: Survey,
    declared: Declaration,
    described: "Described",
    spectra: Catalogue | None,
) -> Catalogue:
    """Return the catalogue of a table that is described."""
    from ..postgres.described import (  # noqa: PLC0415  # the extra may be missing
        Columns,
        described_columns,
        stored_of,
    )
    from ..postgres.existing import ExistingTable  # noqa: PLC0415

    position = (declared.ra, declared.dec) if declared.ra else None
    columns: Columns = Columns(declared.id, position, declared.key)
    stored = stored_of(described, columns, survey)
    made = vac_survey(survey, described_columns(described, stored), stored)
    made = joined_survey(made, files.name, stored, None)
    version = f"{files.declaration.stamp()} {sorted(described.types.items())}"
    return ExistingTable(database, made, version, described, columns, spectra)


def _named(described: "Described", name: str, option: str, allowed: frozenset[str]) -> str:
    """Return the column of a name, in any case; raise `BadParameter` if it does not fit."""
    fitting = [column for column, form in described.types.items() if form in allowed]
    found = [column for column in fitting if name in {column, column.lower()}]
    if not found:
        named = f"one of its columns of fitting type: {', '.join(fitting)}"
        none = "it has no column of fitting type; cast one in a view, to bigint or float8"
        raise BadParameter(option, name, named if fitting else none)
    return found[0]


def _identifier(described: "Described", survey: Survey, name: str) -> str:
    if name:
        return _named(described, name, "id", _WHOLE)
    usual = survey.id_column.name
    spellings = (usual, *(other for other, own in survey.aliases.items() if own == usual))
    for spelling in spellings:
        for column, form in described.types.items():
            if column.lower() == spelling and form in _WHOLE:
                return column
    raise BadParameter.saying(
        f"no column {usual} of whole numbers in the table: name that of the identifiers with --id;"
        f" it has {', '.join(described.types)}"
    )


def _position(described: "Described", given: tuple[str, str] | None) -> tuple[str, str] | None:
    """Return the columns of the position; None: the table has none."""
    if given is not None:
        ra, dec = (
            _named(described, name, option, _REAL)
            for name, option in zip(given, ("ra", "dec"), strict=True)
        )
        return ra, dec
    real = {name.lower(): name for name, form in described.types.items() if form in _REAL}
    pair = next((pair for pair in POSITION_COLUMNS if real.keys() >= set(pair)), None)
    return (real[pair[0]], real[pair[1]]) if pair else None


def _key(described: "Described", name: str) -> str:
    """Return the column by which rows are known; empty: their places."""
    if name:
        return _named(described, name, "key", _WHOLE - {"numeric"})
    if described.keys:
        return described.keys[0]
    if described.has_places:
        return ""
    raise BadParameter.saying(
        "a view, or a table in partitions, with tables that inherit from it, or of another server,"
        " has no places of rows: name a column of unique whole numbers with --key"
    )
