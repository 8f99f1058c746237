"""The catalogue rows of a segment: a Parquet file, one row a spectrum, in the segment's order.

Columns are the survey's scalar columns under their one spelling, and those below.

========== ======= ===================================================================
column     type    content
========== ======= ===================================================================
_hpx       int64   HEALPix order-29 nested pixel of (ra, dec)
_row       int32   row in the segment's arrays
_source    text    path of the original file
_size      int64   its size in bytes
_mtime_ns  int64   its time of last change
_crc       int64   CRC-32 of its bytes
_key       int64   distinguishes spectra of one id; only if they can share one
_digest    int64   digest of its vectors, see `ingest.spectrum_digests`
_row_dig…  int64   `_row_digest`: digest of its catalogue values
_beside    int64   digest of what was read along with the file; 0: nothing
_version   int64   how often the spectrum has been replaced; only in segments that replace some
========== ======= ===================================================================

Among rows of one id and key, the one of the highest version counts; it replaced the others.

``ra`` and ``dec`` are null, and ``_hpx`` is −1, where the position is not known: no region holds
such a spectrum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..data.handles import Entry
from ..model.survey import RawSpectrum, Survey
from .healpix import pixel


@dataclass(frozen=True, slots=True)
class Source:
    """The original file of a spectrum at the time of reading."""

    path: str
    size: int
    mtime_ns: int
    crc: int
    """CRC-32 of its bytes."""
    beside: int = 0
    """Digest of the state of files that were read along with it; 0: there are none."""


@dataclass(frozen=True, slots=True)
class Digests:
    """Digests that distinguish a changed spectrum from the stored one."""

    vectors: int
    row: int
    version: int = 0


def sky_order(spectra: Sequence[RawSpectrum]) -> list[int]:
    """Return the order in which spectra stand in a segment: along the HEALPix curve, then by id."""
    ids = np.array([spectrum.id for spectrum in spectra])
    order: list[int] = np.lexsort((ids, pixel(*_positions(spectra)))).tolist()
    return order


def _positions(
    spectra: Sequence[RawSpectrum],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return ra and dec of spectra, deg, 1D[n] each; NaN where the file states none."""
    ra = np.array([spectrum.ra_deg for spectrum in spectra], np.float64)
    dec = np.array([spectrum.dec_deg for spectrum in spectra], np.float64)
    return ra, dec


def write_objects(
    file: Entry,
    survey: Survey,
    spectra: Sequence[RawSpectrum],
    sources: Sequence[Source],
    digests: Sequence[Digests],
) -> None:
    """Write the rows of a segment's spectra, given in the segment's order."""
    columns: dict[str, pa.Array] = {}
    core = {column.name: column.dtype for column in survey.columns}
    given = _given([spectrum.row for spectrum in spectra])
    for name in dict.fromkeys((*core, *given)):
        values = given.get(name) or [None] * len(spectra)
        columns[name] = _column(values, core.get(name))
    # from_pandas makes NaN null; in SQL, NaN would be greater than all numbers.
    ra, dec = _positions(spectra)
    columns["ra"], columns["dec"] = pa.array(ra, from_pandas=True), pa.array(dec, from_pandas=True)
    columns["_hpx"] = pa.array(pixel(ra, dec))
    columns["_row"] = pa.array(np.arange(len(spectra)), pa.int32())
    columns["_source"] = pa.array([source.path for source in sources], pa.string())
    columns["_size"] = pa.array([source.size for source in sources], pa.int64())
    columns["_mtime_ns"] = pa.array([source.mtime_ns for source in sources], pa.int64())
    columns["_crc"] = pa.array([source.crc for source in sources], pa.int64())
    columns["_digest"] = pa.array([digest.vectors for digest in digests], pa.int64())
    columns["_row_digest"] = pa.array([digest.row for digest in digests], pa.int64())
    columns["_beside"] = pa.array([source.beside for source in sources], pa.int64())
    if any(digest.version for digest in digests):
        columns["_version"] = pa.array([digest.version for digest in digests], pa.int64())
    if any(spectrum.key is not None for spectrum in spectra):
        columns["_key"] = pa.array([spectrum.key for spectrum in spectra], pa.int64())
    # Parquet has no unsigned 8-bit storage of its own, but records the type; zstd suits text.
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), content, compression="zstd")
    file.create(memoryview(content.getvalue()))


def _given(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return the values of rows by column; columns are in the order of their first occurrence."""
    columns: dict[str, list[Any]] = {}
    families: dict[tuple[str, ...], list[int]] = {}
    for at, row in enumerate(rows):
        families.setdefault(tuple(row), []).append(at)
    for names, members in families.items():
        # Rows with the same names are transposed together: a look-up per name and row is slower.
        turned = zip(*(rows[at].values() for at in members), strict=True)
        for name, values in zip(names, turned, strict=True):
            column = columns.setdefault(name, [None] * len(rows))
            for at, value in zip(members, values, strict=True):
                column[at] = value
    return columns


def _column(values: Sequence[Any], dtype: str | None) -> pa.Array:
    """Return values as a column of the declared type, or of a type wide enough for all values."""
    form = _arrow_type(values, dtype)
    kinds = set(map(type, values))
    kind = kinds.pop() if len(kinds) == 1 else str
    # Numbers that already have the type of the column are converted as one array.
    if issubclass(kind, np.number) and pa.from_numpy_dtype(np.dtype(kind)) == form:
        return pa.array(np.array(values, kind))
    return pa.array(list(map(plain_value, values)), form)


def plain_value(value: Any) -> Any:
    """Return a NumPy scalar as a Python value, which pyarrow converts exactly; others unchanged."""
    return value.item() if isinstance(value, np.generic) else value


def declared_type(dtype: str) -> pa.DataType:
    """Return the Arrow type of a column of a survey by its `Column.dtype`."""
    return pa.string() if dtype == "U" else pa.from_numpy_dtype(np.dtype(dtype))


def _arrow_type(values: Sequence[Any], dtype: str | None) -> pa.DataType:
    """Return the Arrow type of a column: as declared, or wide enough for all values met."""
    if dtype is not None:
        return declared_type(dtype)
    kinds = set(map(type, values)) - {type(None)}
    if any(not issubclass(kind, np.number | np.bool_) for kind in kinds):
        return pa.string()
    return pa.from_numpy_dtype(np.result_type(*(np.dtype(kind) for kind in kinds)))
