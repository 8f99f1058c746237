"""Columns of FITS tables with their undefined cells: those that hold TNULL.

astropy.io.fits gives their numbers as any others, and `astropy.table.Table.read` looks for TNULL
among numbers after TSCAL and TZERO; the standard defines it before them (FITS 4.0, §7.3.2).
"""

from math import prod
from typing import Any

import numpy as np

from ..errors import BadFile


def table_column(hdu: Any, name: str) -> Any:
    """Return a column of a table that astropy opened, masked where cells are undefined.

    Raises
    ------
    BadFile
        It has TSCAL or TZERO, and integers that astropy then cannot read or loses.
    """
    column = hdu.columns[name]
    null = column.null
    try:
        values = hdu.data[name]
    except (NameError, TypeError) as error:
        # astropy 8.0 fails at integers of 64 bits with TZERO, and at a TZERO of 32768.0.
        raise BadFile(
            f"column {name} has TSCAL or TZERO that astropy does not read; write it as numbers that"
            " are not scaled"
        ) from error
    if values.dtype.kind == "O":
        if column.bscale not in {None, "", 1} or column.bzero not in {None, "", 0}:
            raise BadFile(
                f"column {name} has arrays of any length, which TSCAL or TZERO scale: astropy does"
                " not read them; write it as numbers that are not scaled"
            )
        cells = np.empty(len(values), object)
        for row, cell in enumerate(values):
            cells[row] = cell if null is None else np.ma.MaskedArray(cell, mask=cell == null)
        return cells
    if null is None:
        return values
    stored = hdu.data.view(np.ndarray)[name]
    gone = np.char.strip(stored) == null.encode() if isinstance(null, str) else stored == null
    flat = gone.reshape(len(gone), prod(gone.shape[1:]))[:, : prod(values.shape[1:])]
    return np.ma.MaskedArray(values, mask=flat.reshape(values.shape))


def masked_table(kind: Any, hdus: Any, hdu: int) -> Any:
    """Return a table of an opened file, masked where it is undefined.

    ``kind`` is `astropy.table.Table`, which this package does not import.
    """
    columns = getattr(hdus[hdu], "columns", ())
    undefined = {
        column.name: np.ma.getmaskarray(table_column(hdus[hdu], column.name))
        for column in columns
        if column.null is not None and hdus[hdu].data[column.name].dtype.kind != "O"
    }
    for column in columns:
        # Table.read fails if variable-length arrays, or integers as text, have TNULL.
        column.null = None
    table = kind(kind.read(hdus, hdu=hdu), masked=True)
    for name, gone in undefined.items():
        table[name].mask |= gone
    return table
