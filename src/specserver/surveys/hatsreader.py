"""Reads spectra from the partitions of HATS catalogues: each file has many, one a row."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from ..digests import hash64
from ..errors import BadFile
from ..model.id_names import is_name
from ..model.medium import MEDIUM_COLUMN, UNKNOWN
from ..model.survey import FileKey, RawSpectrum, RefusedSpectrum
from ..ops.reading import rising
from .declaration import Declaration
from .hatsalike import require_alike
from .hatsfolder import is_of_objects, is_partition, pixel_of, place_of
from .hatstable import HatsTable, table_of

_ROWS: Final = 250
"""Rows that are decoded at once: some 25 MB."""
_ID_BITS: Final = 53
"""Identifiers made of names have so many: JSON and JavaScript keep them."""
_BYTES: Final = re.compile(r"b'([^'\\]*)'")
_LAYOUT: Final = "nested spectra of a HATS catalogue"


class HatsReader:
    """Reads the partitions of a catalogue as a context declares them."""

    def __init__(self, declared: Declaration) -> None:
        self.declared = declared

    def is_named(self, path: Path) -> bool:
        """Return whether a path is that of a partition; others in its folders are no spectra."""
        return is_partition(path)

    def identify(self, path: Path) -> FileKey | None:
        """Return the pixel of a partition; None for one of a margin, an index or a join."""
        pixel = pixel_of(path)
        return FileKey(path, pixel) if pixel and is_of_objects(path) else None

    def is_companion(self, path: Path) -> bool:
        """Return whether a file is of a margin or an index, whose rows are elsewhere, too."""
        return pixel_of(path) is not None

    def read(self, path: Path) -> list[RawSpectrum]:
        """Read all spectra of a partition; those that cannot be read are left out."""
        return self.read_rows(path)[0]

    def read_rows(self, path: Path) -> tuple[list[RawSpectrum], list[RefusedSpectrum]]:
        """Read the spectra of a partition, and say which rows are refused.

        Raises
        ------
        BadFile
            It is no Parquet file, or has not the columns that the context was declared with, in
            their types and units.
        """
        table = table_of(self.declared)
        found: list[RawSpectrum] = []
        refused: list[RefusedSpectrum] = []
        names: Counter[tuple[int, str]] = Counter()
        try:
            for batch in _batches(path, self.declared, table):
                rows = _Rows(self.declared, table, path, batch)
                for at in range(batch.held.num_rows):
                    try:
                        found.append(rows.spectrum(at, names))
                    except BadFile as error:
                        refused.append(RefusedSpectrum(rows.label(at), str(error)))
        except (pa.ArrowException, OSError) as error:
            raise BadFile(f"cannot be read: {str(error).partition(chr(10))[0]}") from error
        return found, refused


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some rows of a partition."""

    held: pa.RecordBatch
    first: int
    """Row of the partition at which it begins."""


def _batches(path: Path, declared: Declaration, table: HatsTable) -> Iterator[_Batch]:
    """Yield the rows of a partition, some at a time; raise `BadFile` if they are of others."""
    with pq.ParquetFile(path) as file:
        require_alike(file.schema_arrow, declared, table)
        tops = (name.partition(".")[0] for name in table.vectors.values())
        needed = dict.fromkeys((*table.columns.values(), *filter(None, [table.identifier]), *tops))
        first = 0
        for batch in file.iter_batches(_ROWS, columns=list(needed)):
            yield _Batch(batch, first)
            first += batch.num_rows


class _Rows:
    """Rows of a partition with their catalogue values and their lists as arrays."""

    def __init__(self, declared: Declaration, table: HatsTable, path: Path, batch: _Batch) -> None:
        self._declared = declared
        self._table = table
        self._place = place_of(path)
        self._first = batch.first
        held = batch.held
        self._values = {
            name: _plain_values(held.column(source), table.dtypes[name])
            for name, source in table.columns.items()
        }
        self._ids = _identifiers(held, table.identifier)
        self._names = [self._values[name] for name in table.spectra.name_columns]
        self._lists = {
            vector.name: _Lists.of(held, table.vectors[vector.name])
            for vector in table.spectra.record
            if vector.name in table.vectors
        }
        if not table.is_exact:
            from .hatsvalues import stored_values  # noqa: PLC0415  # slow to import

            self._stored = partial(stored_values, table)

    def label(self, at: int) -> str:
        """Return what a report calls a row."""
        if self._ids is not None and self._ids[at] is not None:
            return str(self._ids[at])
        return f"row {self._first + at + 1}"

    def spectrum(self, at: int, names: Counter[tuple[int, str]]) -> RawSpectrum:
        """Return the spectrum of a row; raise `BadFile` if it has none that can be stored.

        Parameters
        ----------
        names : identifiers and names of the rows before, counted
        """
        number, name = self._name(at, names)
        vectors = {vector: lists.of_row(at) for vector, lists in self._lists.items()}
        sizes = {len(values) for values in vectors.values()}
        if len(sizes) != 1 or sizes == {0}:
            many = "no pixels" if sizes == {0} else "lists of several lengths"
            raise BadFile(f"its spectrum has {many}")
        if not self._table.is_exact:
            vectors = self._stored(vectors)
        grid = self._table.spectra.grid
        axis = vectors.pop(grid.axis)
        row = {column: values[at] for column, values in self._values.items()}
        medium = row.get(MEDIUM_COLUMN) or self._table.spectra.medium
        part = row.get("part") or names[number, ""]
        row |= {
            "id": number,
            "name": name,
            "part": part,
            MEDIUM_COLUMN: medium or self._declared.medium or UNKNOWN,
        }
        ra, dec = (float("nan") if row[c] is None else float(row[c]) for c in ("ra", "dec"))
        return rising(
            RawSpectrum(
                number, ra, dec, self._declared.context, axis, vectors, row,
                key=hash64(name), layout=_LAYOUT,
            )
        )  # fmt: skip

    def _name(self, at: int, names: Counter[tuple[int, str]]) -> tuple[int, str]:
        """Return the identifier and the name of a row, and count them."""
        given = None if self._ids is None else self._ids[at]
        if self._ids is not None and given is None:
            raise BadFile("it has no identifier")
        said = [str(values[at]).strip() for values in self._names if values[at] is not None]
        base = str(given) if given is not None else f"{self._place}-{self._first + at + 1}"
        name = "-".join(said) or base
        number = given if isinstance(given, int) else _number_of(name)
        if given is not None and not self._table.is_exact:
            # Partitions that other processes read may have spectra of the same object.
            name = f"{name}-{self._place}"
        names[number, ""] += 1
        names[number, name] += 1
        if (times := names[number, name]) > 1:
            if self._table.is_exact:
                raise BadFile(f"another row of the file has the name {name}, too")
            name = f"{name}-{times}"
        if not is_name(name):
            raise BadFile("its name has an end of a line, or more than 255 characters")
        return number, name


@dataclass(frozen=True, slots=True)
class _Lists:
    """The lists of a vector: those of all rows in one array."""

    flat: npt.NDArray[Any]
    begins: npt.NDArray[np.integer]
    """1D[nrow + 1], where the list of each row begins in ``flat``."""
    gone: npt.NDArray[np.bool_] | None
    """1D like ``flat``: there is no value; None: all are there."""

    @classmethod
    def of(cls, batch: pa.RecordBatch, path: str) -> "_Lists":
        """Return the lists of a column, or of a part of its structs."""
        top, _, inner = path.partition(".")
        column = batch.column(top)
        if pa.types.is_struct(column.type):
            column = column.flatten()[column.type.get_field_index(inner)]
        if pa.types.is_fixed_size_list(column.type):
            column = column.cast(pa.list_(column.type.value_type))
        counts = column.value_lengths().fill_null(0).to_numpy()
        values = column.flatten()
        if pa.types.is_struct(values.type):
            values = values.flatten()[values.type.get_field_index(inner)]
        gone = None
        if values.null_count:
            gone = values.is_null().to_numpy(zero_copy_only=False)
            values = values.fill_null(pa.scalar(0).cast(values.type))
        flat = values.to_numpy(zero_copy_only=False)
        return cls(flat, np.concatenate([[0], np.cumsum(counts)]), gone)

    def of_row(self, at: int) -> npt.NDArray[Any]:
        """Return the values of a row, 1D[npix]; NaN where there is none."""
        some = slice(int(self.begins[at]), int(self.begins[at + 1]))
        values = self.flat[some]
        if self.gone is None or not self.gone[some].any():
            return values
        if values.dtype.kind != "f":
            raise BadFile("a list of whole numbers has no value at some pixels")
        return np.where(self.gone[some], np.array(np.nan, values.dtype), values)


def _plain_values(column: pa.Array, dtype: str) -> list[Any]:
    """Return the values of a catalogue column; None where there is none."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if dtype == "<f8" and not pa.types.is_float64(column.type):
        column = column.cast(pa.float64())
    values: list[Any] = column.to_pylist()
    return values


def _identifiers(batch: pa.RecordBatch, name: str) -> list[Any] | None:
    """Return the identifiers of rows: whole numbers, or text; None: they have none."""
    if not name:
        return None
    column = batch.column(name)
    if pa.types.is_integer(column.type):
        return list(column.to_pylist())
    texts = _plain_values(column, "U")
    return [None if text is None else _whole(text.strip()) for text in texts]


def _whole(text: str) -> int | str | None:
    """Return a text of digits as a number, if 63 bits hold it; empty: None.

    Python's text of bytes, which catalogues made of HDF5 files have, is the text in it.
    """
    bare = _BYTES.fullmatch(text)
    text = bare[1].strip() if bare else text
    is_number = text.isascii() and text.isdecimal() and int(text) < 2**63
    return int(text) if is_number else text or None


def _number_of(name: str) -> int:
    """Return the identifier of a name."""
    return int(hash64(name) % 2**_ID_BITS)
