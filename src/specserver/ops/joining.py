"""Spectra of several surveys in one array: their common record, and values of one type."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.survey import Vector

Array = npt.NDArray[Any]


def common_record(records: Sequence[Sequence[Vector]], axis: str) -> tuple[Vector, ...]:
    """Return the axis of the first record, and its vectors that all have under one name.

    Parameters
    ----------
    records : a record for each survey
    axis : name of the first survey's spectral axis
    """
    others = [{one.name: one for one in record} for record in records[1:]]
    found = []
    for one in records[0]:
        same = [other[one.name] for other in others if one.name in other]
        if one.name == axis:
            found.append(one)
        elif len(same) == len(others):
            kinds = [np.dtype(each.dtype) for each in (one, *same)]
            found.append(replace(one, dtype=np.result_type(*kinds).str))
    return tuple(found)


def join_ids(parts: Iterable[Array]) -> Array:
    """Return identifiers of several surveys as one array with all digits.

    Signed and unsigned ones have no 64-bit type in common; NumPy would make floats of them.

    Parameters
    ----------
    parts : 1D[n] int each

    Returns
    -------
    1D[sum of n]
        uint64 or int64, or object where neither holds all.
    """
    some = list(parts)
    if len({one.dtype for one in some}) == 1:
        return np.concatenate(some)
    values = [int(value) for one in some for value in one.tolist()]
    if min(values, default=0) >= 0:
        return np.array(values, np.uint64)
    return np.array(values, np.int64 if max(values) < 2**63 else object)
