"""Positions from coordinates, tables, pairs of arrays or files.

==========================================  ======================================================
given                                       read as
==========================================  ======================================================
SkyCoord, or coordinates in another frame   transformed to ICRS
Table, DataFrame, structured array, dict    its columns ``ra_col`` and ``dec_col``, or the first
                                            usual pair of names; or its one column of SkyCoord
tuple of two, ``(ra, dec)``                 arrays of one length, or two numbers
list or 2D array of pairs                   ``[(ra, dec), …]``
name or Path of a file                      a table, as `astropy.table.Table.read` reads it
==========================================  ======================================================

Numbers are degrees, unless the column or quantity has another unit. A masked or missing value
becomes NaN. astropy and pandas are recognised by their methods, and imported only to convert.
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ...errors import BadParameter, UnknownField
from ...model.id_tuple import shortened
from ...model.skyframe import POSITION_COLUMNS
from ...ops.fitsnulls import masked_table
from .sky_region import icrs_of, is_coordinate

Floats = npt.NDArray[np.float64]

_FORMS: Final = (
    "a SkyCoord, a table with columns ra and dec, a tuple (ra, dec) of arrays, or [(ra, dec), …],"
    " in degrees"
)


def read_positions(
    given: object, ra_col: str | None = None, dec_col: str | None = None
) -> tuple[Floats, Floats]:
    """Return right ascension and declination of positions, 1D[n] float64, ICRS deg; NaN: unknown.

    Parameters
    ----------
    given :
        See the table at the head of this module.
    ra_col, dec_col :
        Columns of a table to take, in any case.

    Raises
    ------
    BadParameter
        It is none of these, or its numbers are none.
    UnknownField
        A table without the column.
    """
    if isinstance(given, str | PathLike):
        given = _read_file(Path(given).expanduser())
    if (ra_col is None) != (dec_col is None):
        lacking, allowed = "ra_col" if ra_col is None else "dec_col", "give both, or neither"
        raise BadParameter(lacking, None, f"{allowed}: ra_col= and dec_col=", "ra_col=", "dec_col=")
    if is_coordinate(given):
        return _pair(*icrs_of(given))
    names = _column_names(given)
    if names is not None:
        return _from_columns(given, names, ra_col, dec_col)
    if isinstance(given, tuple) and len(given) == 2:
        return _pair(given[0], given[1])
    pairs = _numbers("positions", given)
    if pairs.size == 0:
        return np.empty(0), np.empty(0)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise BadParameter("positions", f"an array of shape {pairs.shape}", _FORMS)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def _read_file(path: Path) -> object:
    """Return the table of a file."""
    from astropy.io import fits
    from astropy.table import Table
    from astropy.utils.data import get_readable_fileobj

    if not path.is_file():
        raise BadParameter("positions", str(path), "there is no such file")
    kind = "ascii.csv" if path.name.lower().endswith((".csv", ".csv.gz")) else None
    try:
        if path.name.lower().removesuffix(".gz").endswith((".fits", ".fit", ".fts")):
            with fits.open(path) as hdus:
                tables = (at for at, hdu in enumerate(hdus) if hasattr(hdu, "columns"))
                return masked_table(Table, hdus, next(tables, 0))
        if kind is None:
            return Table.read(path)
        with get_readable_fileobj(str(path), encoding="utf-8-sig") as file:
            return Table.read(file.read().split("\n"), format=kind)
    except Exception as error:
        # Whatever a reader of astropy raises, of some dozen formats.
        said = " ".join(str(error).split())[:200]
        allowed = f"a table that astropy reads: FITS, VOTable, CSV, ECSV, Parquet ({said})"
        raise BadParameter("positions", str(path), allowed) from error


def _column_names(given: Any) -> list[str] | None:
    """Return the names of a table's columns; None if it is no table."""
    names = getattr(getattr(given, "dtype", None), "names", None)
    if names is None and hasattr(given, "colnames"):
        names = given.colnames
    if names is None and hasattr(given, "to_records"):
        names = [str(name) for name in given.columns]
    if names is None and isinstance(given, Mapping):
        names = [str(name) for name in given]
    return None if names is None else list(names)


def _from_columns(
    table: Any, names: Sequence[str], ra_col: str | None, dec_col: str | None
) -> tuple[Floats, Floats]:
    """Return the positions of a table."""
    if ra_col is not None and dec_col is not None:
        ra, dec = _spelling(names, ra_col), _spelling(names, dec_col)
        return _pair(table[ra], table[dec], (ra, dec))
    known = {name.strip().lower(): name for name in reversed(names)}
    for pair in POSITION_COLUMNS:
        if all(name in known for name in pair):
            ra, dec = (known[name] for name in pair)
            return _pair(table[ra], table[dec], (ra, dec))
    sky = [name for name in names if is_coordinate(table[name])]
    if len(sky) == 1:
        return _pair(*icrs_of(table[sky[0]]))
    listed = ", ".join(names)[:200]
    allowed = "name those of the positions with ra_col= and dec_col="
    raise BadParameter("columns", listed, allowed, "ra_col=", "dec_col=")


def _spelling(names: Sequence[str], wanted: str) -> str:
    """Return a column's name as it is spelt."""
    if wanted in names:
        return wanted
    found = [name for name in names if name.strip().lower() == wanted.strip().lower()]
    if not found:
        raise UnknownField(wanted, names)
    return found[0]


def _pair(ra: Any, dec: Any, names: tuple[str, str] = ("ra", "dec")) -> tuple[Floats, Floats]:
    """Return two columns of one length."""
    first, second = (
        np.atleast_1d(_degrees(name, values)) for name, values in zip(names, (ra, dec), strict=True)
    )
    if first.ndim != 1 or first.shape != second.shape:
        shapes = f"shapes {first.shape} and {second.shape}"
        raise BadParameter(", ".join(names), shapes, "two arrays of one length, a value a position")
    return first, second


def _degrees(name: str, values: Any) -> Floats:
    """Return a column or array in degrees."""
    unit = getattr(values, "unit", None)
    numbers = _numbers(name, values)
    if unit is None or not str(unit):
        return numbers
    from astropy.units import Unit, UnitsError

    try:
        factor = float(Unit(unit).to("deg"))
    except (UnitsError, ValueError, TypeError) as error:
        raise BadParameter(f"unit of {name}", str(unit), "one of an angle, or none") from error
    return numbers * factor


def _numbers(name: str, values: Any) -> Floats:
    """Return values as float64, NaN where they are masked or missing; units are left aside."""
    mask = None
    if hasattr(values, "to_numpy"):
        plain = values.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        mask = getattr(values, "mask", None)
        plain = getattr(values, "unmasked", values)
        plain = np.ma.getdata(getattr(plain, "value", plain))
    try:
        numbers = np.array(plain, dtype=np.float64)
    except (TypeError, ValueError) as error:
        shown = " ".join(repr(values).split())
        if (number := _no_number(plain)) is not None:
            allowed = "degrees as numbers; SkyCoord of astropy converts hours, minutes and seconds"
            raise BadParameter(name, shortened(number), allowed) from error
        raise BadParameter(name, shortened(shown), f"{_FORMS}; as numbers") from error
    if mask is not None and np.shape(mask) in {(), numbers.shape}:
        numbers[np.asarray(mask, dtype=np.bool_)] = np.nan
    return numbers


def _no_number(values: Any) -> str | None:
    """Return the first text in an array that is no number; None if there is none."""
    for value in np.ravel(values).tolist() if isinstance(values, np.ndarray) else ():
        try:
            float(value)
        except (TypeError, ValueError):
            return value if isinstance(value, str) else None
    return None
