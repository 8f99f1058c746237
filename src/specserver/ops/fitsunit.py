"""Columns and images of an opened FITS file, by the names of its units.

``units`` is the object that ``astropy.io.fits`` opens.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadFile


def unit_named(units: Any, name: str) -> Any:
    """Return the unit with that EXTNAME.

    Raises
    ------
    BadFile
        There is none.
    """
    if name not in units:
        raise BadFile(f"there is no HDU {name}")
    return units[name]


def whole_groups(units: Any, prefixes: Collection[str], needed: Collection[str]) -> list[str]:
    """Return the prefixes for which there are units ``PREFIX_NAME``, matched without case.

    Parameters
    ----------
    needed : names that each group has; it also has those that another group has

    Raises
    ------
    BadFile
        A group is incomplete.
    """
    names = {unit.name.casefold() for unit in units}
    groups = {
        prefix: {
            name[len(prefix) + 1 :] for name in names if name.startswith(f"{prefix}_".casefold())
        }
        for prefix in prefixes
    }
    wanted = {name.casefold() for name in needed}.union(*groups.values())
    for prefix, group in groups.items():
        if group and (missing := sorted(wanted - group)):
            listed = ", ".join(f"{prefix}_{name}".upper() for name in missing)
            raise BadFile(f"there is no HDU {listed}: such a group is there as a whole, or not")
    return [prefix for prefix, group in groups.items() if group]


def image(unit: Any, shape: tuple[int, ...], kinds: Collection[str]) -> npt.NDArray[Any]:
    """Return an image in native byte order, such as 2D[nspec, npix].

    Raises
    ------
    BadFile
        It is of another shape, or of none of the NumPy types.
    """
    values = np.asarray(unit.data)
    if values.shape != shape or values.dtype.name not in kinds:
        wanted = " or ".join(kinds)
        found = f"{values.shape} {values.dtype.name}"
        raise BadFile(f"{unit.name} is {found}, expected {shape} {wanted}")
    return values.astype(values.dtype.newbyteorder("="))


def scalar_columns(unit: Any, renamed: Mapping[str, str]) -> dict[str, Sequence[Any]]:
    """Return the scalar columns of a table by lower-case name: a NumPy scalar or text a row.

    Parameters
    ----------
    renamed : other names, by lower-case name, of columns that are to be called otherwise
    """
    columns: dict[str, Sequence[Any]] = {}
    for written in unit.columns.names:
        values = np.asarray(unit.data[written])
        if values.ndim != 1:
            continue
        if values.dtype.kind in "SU":
            listed: list[Any] = np.char.strip(values).astype("U").tolist()
        else:
            listed = list(values.astype(values.dtype.newbyteorder("=")))
        columns[renamed.get(written.lower(), written.lower())] = listed
    return columns


def occurrences(values: Sequence[Any]) -> list[int]:
    """Return for each value how many times it occurs up to there, itself included."""
    seen: Counter[Any] = Counter()
    counts = []
    for value in values:
        seen[value] += 1
        counts.append(seen[value])
    return counts


def joined_on(
    columns: Mapping[str, Sequence[Any]], on: str, wanted: Sequence[Any]
) -> dict[str, Sequence[Any]]:
    """Return columns in the order of wanted values of one of them.

    A value's one row stands for all that want it; where it has several, they go in their order.
    Rows with other values are left out; None stands where a wanted value has no row.
    """
    mine = columns[on]
    if mine == wanted:
        return dict(columns)
    row_of: dict[Any, list[int]] = {}
    for row, value in enumerate(mine):
        row_of.setdefault(value, []).append(row)
    rows: list[int | None] = []
    for value, nth in zip(wanted, occurrences(wanted), strict=True):
        mine_of = row_of.get(value, [])
        at = 0 if len(mine_of) == 1 else nth - 1
        rows.append(mine_of[at] if at < len(mine_of) else None)
    taken: dict[str, Sequence[Any]] = {
        name: [None if row is None else values[row] for row in rows]
        for name, values in columns.items()
    }
    return taken | {on: wanted}
