"""A context of millions of catalogue rows, in as many index parts as are asked for.

Its first rows are those of real segments. The others repeat them, each with an identifier, a
position and a source file of its own, so every column has values as surveys have them. Rows are
made in HEALPix order, a batch at a time; only their identifiers and positions are all in memory,
36 bytes a row.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from specserver.catalog.healpix import pixel
from specserver.catalog.index.column_types import common_schema, conformed
from specserver.catalog.index.manifest import Manifest, PartEntry, commit_manifest, new_rows
from specserver.catalog.index.write_part import BATCH_ROWS, write_part
from specserver.data.context import ContextFolder
from specserver.data.root import DataRoot, open_root
from specserver.model.ids import pack_specobjid, unpack_specobjid
from specserver.surveys.sdss import SDSS

from .data import CONTEXT

RECIPE: Final = 1
"""Raise it when the rows become others."""
_SEED: Final = 17
_LEASE: Final = "00000000"
_FIBRES: Final = 1000
_FIRST_PLATE: Final = 3000
_OTHER_RUN: Final = "v5_13_2"
_FIELD_BITS: Final = 2 * (29 - 4)
"""Fields of `make_context` are the pixels of HEALPix order 4: 3.7°, about the size of a plate."""
_MIX: Final = 2_654_435_761
"""A large prime: neighbouring fields are of different parts."""
_PARTS: Final = {"plate": "plate", "mjd": "mjd", "fiberid": "fiber", "run2d": "run2d"}
"""Column → part of the identifier."""
_FEW: Final = frozenset({"_hpx", "_segment", "_row", "_source", "_size", "_mtime_ns", "_digest"})
"""Columns besides those that the survey declares, where few are wanted."""


@dataclass(frozen=True, slots=True)
class _Sky:
    """All rows, in HEALPix order, 1D[nrows] each."""

    number: npt.NDArray[np.int32]
    """The first ones are the rows of the segments, by their places in the table of these."""
    hpx: npt.NDArray[np.int64]
    ra: npt.NDArray[np.float64]
    dec: npt.NDArray[np.float64]
    ids: npt.NDArray[np.uint64]


def make_context(
    source: DataRoot,
    folder: Path,
    nrows: int,
    nparts: int,
    *,
    by_field: bool = False,
    few_columns: bool = False,
    held: bool = True,
    own_places: bool = False,
) -> DataRoot:
    """Make a data folder whose context has so many rows in so many parts, and return it.

    The answers do not depend on the parts.

    Parameters
    ----------
    source : a data folder with the context's segments, which the new one shares by hard links
    by_field
        Each part has all rows of some fields, scattered over the sky, as ingests of whole plates
        leave them; otherwise each has rows of the whole sky.
    few_columns : only the columns that every query needs
    held : whether the spectra of the segments are among the rows; otherwise all rows are others
    own_places : no two rows have one place, as in a real store; only the real ones can be read
    """
    data = open_root(folder)
    copytree(
        source.context(CONTEXT).local_path(),
        data.context(CONTEXT).local_path(),
        copy_function=os.link,
        ignore=ignore_patterns("index", "catalogs", "leases"),
    )
    context = data.context(CONTEXT)
    names, base = _rows_of(context)
    if few_columns:
        wanted = _FEW.union(column.name for column in SDSS.columns)
        base = base.select([name for name in base.column_names if name in wanted])
    sky = _make_sky(base, nrows, held=held)
    field = (sky.hpx >> _FIELD_BITS) * _MIX >> 16
    part_of = (field if by_field else sky.number) % nparts
    entries = tuple(
        _write(context, names, base, sky, np.flatnonzero(part_of == part), own_places=own_places)
        for part in range(nparts)
    )

    def first(base: Manifest) -> Manifest:
        return replace(base, rows=new_rows(), parts=entries)

    commit_manifest(context.index, first)
    return data


def _rows_of(context: ContextFolder) -> tuple[list[str], pa.Table]:
    """Return the names of the segments, and all their rows with the segment's number."""
    names = context.segments()
    tables = []
    for number, name in enumerate(names):
        table = pq.read_table(context.segment(name).objects.local_path())
        numbers = pa.array(np.full(len(table), number, np.int32))
        tables.append(table.append_column("_segment", numbers))
    schema = common_schema(table.schema for table in tables)
    whole = pa.concat_tables(conformed(table, schema) for table in tables)
    return names, whole.combine_chunks()


def _make_sky(base: pa.Table, nrows: int, *, held: bool) -> _Sky:
    """Return positions and identifiers of all rows."""
    rng = np.random.default_rng(_SEED)
    own = len(base) if held else 0
    other = np.arange(nrows - own)
    plate = _FIRST_PLATE + other // _FIBRES
    ids = pack_specobjid(plate, 55000 + plate % 1000, 1 + other % _FIBRES, _OTHER_RUN)
    ra = rng.uniform(0.0, 360.0, nrows)
    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, nrows)))
    ra[:own], dec[:own] = base["ra"].to_numpy()[:own], base["dec"].to_numpy()[:own]
    ids = np.concatenate([base["specobjid"].to_numpy()[:own], ids])
    hpx = pixel(ra, dec)
    order = np.lexsort((ids, hpx))
    number = order + (len(base) - own)
    return _Sky(number.astype(np.int32), hpx[order], ra[order], dec[order], ids[order])


def _write(
    context: ContextFolder,
    segments: Sequence[str],
    base: pa.Table,
    sky: _Sky,
    rows: npt.NDArray[np.intp],
    *,
    own_places: bool,
) -> PartEntry:
    """Write a part of some rows of the sky, 1D[n], ascending."""
    folder = context.index.new_part(_LEASE)
    batches = _batches(base, sky, rows, own_places=own_places)
    write_part(folder, SDSS, base.schema, batches, nrows=len(rows), segments=segments)
    return PartEntry(folder.name, len(rows))


def _batches(
    base: pa.Table, sky: _Sky, rows: npt.NDArray[np.intp], *, own_places: bool
) -> Iterator[pa.RecordBatch]:
    """Yield rows of the sky with all columns."""
    for at in range(0, len(rows), BATCH_ROWS):
        some = rows[at : at + BATCH_ROWS]
        number = sky.number[some]
        table = base.take(pa.array(number % len(base)))
        new = _own_columns(table, sky, some, number >= len(base))
        if own_places:
            others = pc.if_else(pa.array(number >= len(base)), pa.array(number), table["_row"])
            new["_row"] = others.combine_chunks()
        for name, values in new.items():
            place = table.schema.get_field_index(name)
            if place >= 0:
                form = table.schema.field(place).type
                table = table.set_column(place, table.schema.field(place), values.cast(form))
        yield from table.combine_chunks().to_batches()


def _own_columns(
    table: pa.Table, sky: _Sky, rows: npt.NDArray[np.intp], new: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Return the columns that no two rows share.

    Parameters
    ----------
    table : the repeated rows
    rows : 1D[n], rows of the sky
    new : 1D[n], whether a row is not one of a segment
    """
    ids, parts = pa.array(sky.ids[rows]), unpack_specobjid(sky.ids[rows])
    path = pc.binary_join_element_wise("/data/spec-", ids.cast(pa.string()), ".fits", "")
    source = pc.if_else(pa.array(new), path, table["_source"].combine_chunks())
    return {
        "specobjid": ids,
        "ra": pa.array(sky.ra[rows]),
        "dec": pa.array(sky.dec[rows]),
        "_hpx": pa.array(sky.hpx[rows]),
        "_source": source,
        **{name: pa.array(parts[field]) for name, field in _PARTS.items()},
    }
