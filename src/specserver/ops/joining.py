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
    others = [{vector.name: vector for vector in record} for record in records[1:]]
    found = []
    for vector in records[0]:
        same = [other[vector.name] for other in others if vector.name in other]
        if vector.name == axis:
            found.append(vector)
        elif len(same) == len(others):
            kinds = [np.dtype(each.dtype) for each in (vector, *same)]
            found.append(replace(vector, dtype=np.result_type(*kinds).str))
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
    if len({ids.dtype for ids in some}) == 1:
        return np.concatenate(some)
    values = [int(value) for ids in some for value in ids.tolist()]
    if min(values, default=0) >= 0:
        return np.array(values, np.uint64)
    return np.array(values, np.int64 if max(values) < 2**63 else object)
