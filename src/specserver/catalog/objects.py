"""The catalogue rows of a segment: `objects.parquet`, one row a spectrum, in the segment's order.

Columns are the survey's scalar columns under their one spelling, and those below.

========== ======= ===================================================================
column     type    content
========== ======= ===================================================================
_hpx       int64   HEALPix order-29 nested pixel of (ra, dec)
_row       int32   row in the segment's arrays
_source    text    path of the original file
_size      int64   its size in bytes
_mtime_ns  int64   its time of last change
========== ======= ===================================================================
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..model.survey import RawSpectrum, Survey
from .healpix import pixel

HIDDEN = ("_hpx", "_row", "_source", "_size", "_mtime_ns")
"""Columns for the house's own use, never shown to a caller."""


@dataclass(frozen=True, slots=True)
class Source:
    """The original file of a spectrum, as it was when read."""

    path: str
    size: int
    mtime_ns: int


def sky_order(spectra: Sequence[RawSpectrum]) -> list[int]:
    """Return the order in which spectra stand in a segment: along the HEALPix curve, then by id."""
    ra = np.array([one.ra_deg for one in spectra])
    dec = np.array([one.dec_deg for one in spectra])
    ids = np.array([one.id for one in spectra])
    order: list[int] = np.lexsort((ids, pixel(ra, dec))).tolist()
    return order


def write_objects(
    path: Path, survey: Survey, spectra: Sequence[RawSpectrum], sources: Sequence[Source]
) -> None:
    """Write the rows of a segment's spectra, given in the segment's order."""
    columns: dict[str, pa.Array] = {}
    core = {column.name: column.dtype for column in survey.columns}
    names = dict.fromkeys(core) | {name: None for one in spectra for name in one.row}
    for name in names:
        values = [one.row.get(name) for one in spectra]
        columns[name] = pa.array(_plain(values), _arrow_type(values, core.get(name)))
    ra = np.array([one.ra_deg for one in spectra])
    dec = np.array([one.dec_deg for one in spectra])
    columns["_hpx"] = pa.array(pixel(ra, dec), pa.int64())
    columns["_row"] = pa.array(np.arange(len(spectra)), pa.int32())
    columns["_source"] = pa.array([source.path for source in sources], pa.string())
    columns["_size"] = pa.array([source.size for source in sources], pa.int64())
    columns["_mtime_ns"] = pa.array([source.mtime_ns for source in sources], pa.int64())
    # Parquet has no unsigned 8-bit storage of its own, but records the type; zstd suits text.
    pq.write_table(pa.table(columns), path, compression="zstd")


def _plain(values: Sequence[Any]) -> list[Any]:
    """Return NumPy scalars as Python values, which pyarrow converts exactly."""
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _arrow_type(values: Sequence[Any], dtype: str | None) -> pa.DataType:
    """Return the Arrow type of a column: as declared, or wide enough for all values met."""
    if dtype is not None:
        return pa.string() if dtype == "U" else pa.from_numpy_dtype(np.dtype(dtype))
    kinds = {type(value) for value in values if value is not None}
    if any(not issubclass(kind, np.number | np.bool_) for kind in kinds):
        return pa.string()
    return pa.from_numpy_dtype(np.result_type(*(np.dtype(kind) for kind in kinds)))


def read_sources(paths: Mapping[str, Path], id_column: str) -> pa.Table:
    """Return id and source columns of the objects files of segments."""
    names = [id_column, "_source", "_size", "_mtime_ns"]
    tables = [pq.read_table(path, columns=names) for path in paths.values()]
    return pa.concat_tables(tables) if tables else pa.table({name: [] for name in names})
