"""Whether a spectrum is the one that is stored: digests of its values and of its catalogue row.

Both are of the bytes: two spectra of one digest are published with the same bits. Segments of
older versions have no digests; their spectra are read.
"""

from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from ..model.grid import PixelRange, locate
from ..model.survey import RawSpectrum, Survey
from ..store.zarr import Segment


def place_of(survey: Survey, axis: npt.NDArray[Any]) -> int | None:
    """Return the lattice pixel of the first value of an axis; None: it lies off the lattice."""
    first = locate(survey.grid, axis)
    if first is None:
        return None
    inside = survey.window.first <= first and first + len(axis) <= survey.window.stop
    return first if inside else None


def vectors_digest(survey: Survey, one: RawSpectrum) -> int:
    """Return the digest of the axis and of all vectors of a spectrum, a signed 64-bit number."""
    first = place_of(survey, one.axis)
    made = blake2b(digest_size=8)
    made.update(f"{first} {len(one.axis)} ".encode())
    if first is None:
        made.update(np.ascontiguousarray(one.axis).data)
    for vector in survey.vectors:
        made.update(np.ascontiguousarray(one.vectors[vector.name], vector.dtype).data)
    return int.from_bytes(made.digest(), "little", signed=True)


def row_digest(one: RawSpectrum) -> int:
    """Return the digest of the catalogue values of a spectrum, a signed 64-bit number."""
    values = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in one.row.items()
        if value is not None
    }
    text = repr((sorted(values.items()), one.ra_deg, one.dec_deg, one.reduction))
    made = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8)
    return int.from_bytes(made.digest(), "little", signed=True)


def stored_digest(survey: Survey, segment: Segment, row: int) -> int:
    """Return the digest of the vectors of a stored spectrum, having read it."""
    at = np.array([row])
    first, count = int(segment.first[row]), int(segment.count[row])
    own = PixelRange(first, first + count) if segment.on_lattice else PixelRange(0, count)
    vectors = {}
    for vector in survey.vectors:
        cut = PixelRange(*vector.pixels) if vector.pixels else own
        vectors[vector.name] = segment.request([vector.name], at, cut)()[vector.name][0]
    axis = survey.grid.axis_values(first, count) if segment.on_lattice else None
    if axis is None:
        axis = segment.request([survey.grid.axis], at, own)()[survey.grid.axis][0]
    return vectors_digest(survey, RawSpectrum(0, 0.0, 0.0, "", axis, vectors, {}))
