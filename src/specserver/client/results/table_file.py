"""Catalogue rows as the bytes of a file, of the kind that its name ends in; and back.

Every number is read back as it was: identifiers have 64 bits, signed or not.

============  ============================================================================
``.csv``      a header, then a line a row; what is missing is empty, float32 has its own digits
``.ecsv``     with types and units (astropy)
``.fits``     a binary table; unsigned integers by TZERO, or as wider signed ones where some are
              missing (TNULL) and all fit
``.parquet``  with types and units as astropy keeps them: null integers become floats in most
              readers, so what is missing is 0 and marked in a column ``<name>.mask``
``.vot``      a VOTable, also ``.xml``. It has no unsigned integers: they become signed ones that
              hold all of them, else decimal text; the column's description says which (BINARY2)
============  ============================================================================
"""

import warnings
from io import BytesIO, StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import BadIdentifier, BadParameter
from .columns import Columns
from .query_results import write_csv

if TYPE_CHECKING:
    from astropy.table import Table

_FORMATS: Final = {
    ".csv": "",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".parquet": "parquet",
    ".vot": "votable",
    ".xml": "votable",
}
TABLES: Final = tuple(_FORMATS)
"""Endings of files that are tables."""

_MAGIC: Final = {b"SIMPLE  =": "fits", b"PAR1": "parquet", b"# %ECSV": "ascii.ecsv"}
_BY_ASTROPY: Final = b"table_meta_yaml"
"""Key in the metadata of a Parquet file that marks missing values in columns of their own."""
_HEAD_BYTES: Final = 2000
"""Bytes of a VOTable within which its first element begins."""


def table_bytes(columns: Columns, ending: str) -> bytes:
    """Return rows as the content of a file.

    Parameters
    ----------
    columns
        1D[nrow] each; masked where values are missing.
    ending
        One of `TABLES`.

    Raises
    ------
    BadParameter
        Columns that a file of this kind cannot hold.
    """
    if ending == ".csv":
        text = StringIO()
        write_csv(columns, text)
        return text.getvalue().encode()
    table = _table(columns, ending)
    try:
        with warnings.catch_warnings():
            # Units that the format does not know are kept as text.
            warnings.simplefilter("ignore")
            if ending == ".parquet":
                return _parquet(table)
            # The writer of TABLEDATA in astropy 8.0 writes a byte beyond its memory at times.
            options = {"tabledata_format": "binary2"} if _FORMATS[ending] == "votable" else {}
            return encoded(table, _FORMATS[ending], **options)
    except (TypeError, ValueError, KeyError, NotImplementedError) as error:
        said = " ".join(str(error).split())[:200]
        allowed = f"these columns fit no such file ({said}); .csv and .ecsv take all"
        raise BadParameter("out", ending, allowed) from error


def encoded(made: Any, form: str, **options: Any) -> bytes:
    """Return what a writer of astropy makes of a Table or a Spectrum, ``form`` its name."""
    if form.startswith("ascii."):
        text = StringIO()
        made.write(text, format=form)
        return text.getvalue().encode()
    out = BytesIO()
    made.write(out, format=form, **options)
    return out.getvalue()


def npy_bytes(array: npt.NDArray[Any]) -> bytes:
    """Return an array as the content of a ``.npy`` file."""
    out = BytesIO()
    np.save(out, array, allow_pickle=False)
    return out.getvalue()


def columns_of(table: Any) -> Columns:
    """Return the columns of an astropy Table, a DataFrame or a structured array.

    Raises
    ------
    BadParameter
        It is none of these; of lists NumPy would make floats.
    """
    from astropy.table import Table

    if isinstance(table, Table):
        made = table
    elif hasattr(table, "iloc") and hasattr(table, "columns"):
        made = Table.from_pandas(table)
    elif isinstance(table, np.ndarray) and table.dtype.names:
        made = Table(table)
    else:
        allowed = "an astropy Table, a DataFrame or a structured array"
        raise BadParameter("table", type(table).__name__, allowed)
    values = {name: np.ma.asarray(made[name]) for name in made.colnames}
    plain = {
        name: value if np.ma.getmaskarray(value).any() else np.asarray(value)
        for name, value in values.items()
    }
    units = {name: str(made[name].unit) for name in made.colnames if made[name].unit}
    return Columns(plain, units)


def read_table(data: bytes, name: str) -> Any:
    """Return the table of a FITS or Parquet file, a VOTable or an ECSV table; else None.

    It is of astropy, or of pyarrow.

    Raises
    ------
    BadIdentifier
        The file is damaged, or holds no table.
    """
    kind = _kind(data)
    if not kind:
        return None
    try:
        if kind == "parquet":
            import pyarrow as pa
            from pyarrow import parquet

            found = parquet.read_table(pa.BufferReader(data))
            if _BY_ASTROPY not in (found.schema.metadata or {}):
                return found
        from astropy.table import Table

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = data.decode() if kind == "ascii.ecsv" else BytesIO(data)
            return Table.read(source, format=kind)
    except Exception as error:
        # Whatever the reader of a format raises for bytes that are damaged.
        said = " ".join(str(error).split())[:200]
        raise BadIdentifier(name, f"the table in the file cannot be read ({said})") from error


def _kind(data: bytes) -> str:
    """Return astropy's name of the format of a table, or nothing."""
    if b"<VOTABLE" in data[:_HEAD_BYTES].upper():
        return "votable"
    return next((kind for magic, kind in _MAGIC.items() if data.startswith(magic)), "")


def _table(columns: Columns, ending: str) -> "Table":
    """Return a Table whose columns the format can hold without loss."""
    from astropy import units as u
    from astropy.table import MaskedColumn, Table

    table = Table()
    for name, given in columns.values.items():
        values, description = _fitting(given, _FORMATS[ending])
        unit = u.Unit(columns.units[name], parse_strict="silent") if name in columns.units else None
        if ending == ".fits" and not isinstance(unit, u.UnitBase):
            # A logarithmic unit cannot be saved in FITS.
            unit = None
        if isinstance(values, np.ma.MaskedArray):
            blank = _blank(values) if ending == ".fits" else None
            # Readers that know of no mask see 0: no survey counts from 0.
            held = values.filled(values.dtype.type())
            gone = np.ma.getmaskarray(values)
            table[name] = MaskedColumn(held, mask=gone, unit=unit, fill_value=blank)
        else:
            table[name] = values
            table[name].unit = unit
        table[name].description = description or None
    return table


def _fitting(given: npt.NDArray[Any], form: str) -> tuple[npt.NDArray[Any], str]:
    """Return values in a type that the format has, and a description of the change."""
    kind: np.dtype[Any] = given.dtype
    if kind.kind == "O" and form != "ascii.ecsv":
        return _as_text(given), "as text"
    # The standard has TNULL before TZERO is added, astropy after it: so no TZERO with a TNULL.
    holes = form == "fits" and isinstance(given, np.ma.MaskedArray)
    if holes and kind.kind == "b":
        return given.astype(np.int16), "1: true, 0: false"
    if kind.kind not in "iu" or not (holes or form == "votable"):
        return given, ""
    return _signed(given, form)


def _signed(given: npt.NDArray[Any], form: str) -> tuple[npt.NDArray[Any], str]:
    """Return integers of any type as signed ones, and a description of the change."""
    kind = given.dtype
    if kind.itemsize < 4:
        return given.astype(np.int32), ""
    if kind.kind == "i":
        return given, ""
    if kind.itemsize == 4:
        return given.astype(np.int64), "uint32, as int64"
    values = np.ma.compressed(given)
    if int(values.max(initial=0)) < 2**63:
        return given.astype(np.int64), "uint64, all of it below 2^63, as int64"
    if form == "fits":
        return given, ""
    return _as_text(given), "uint64, as decimal text: VOTable has no unsigned 64-bit integers"


def _as_text(given: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values as text, empty where one is missing."""
    return np.array(["" if value is None else str(value) for value in given.tolist()], dtype=str)


def _blank(values: Any) -> Any:
    """Return a number that stands for a missing one, and that is none of the values."""
    kind = values.dtype
    if kind.kind not in "iu":
        return None
    step = 1 if kind.kind == "i" else -1
    blank = int(np.iinfo(kind).min) if step > 0 else 2**63 - 1
    held = set(np.ma.compressed(values).tolist())
    # In unsigned columns, readers by the standard take this value as missing, astropy the other.
    while blank in held or (step < 0 and blank + 2**63 in held):
        blank += step
    return blank


def _parquet(table: "Table") -> bytes:
    """Return a Table as a Parquet file; astropy writes it to a path only."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.parquet"
        table.write(path, format="parquet")
        return path.read_bytes()
