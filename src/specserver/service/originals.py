"""FITS files of spectra: the originals, by their recorded paths, or rebuilt from the store.

Nothing but a path that the ingest recorded is ever opened, and only while the file has the size
and the time of change that were recorded with it; its bytes must be the same as well.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .. import __version__
from ..damage import damaged
from ..errors import NoOriginal
from ..formats.files import SpectrumFile
from ..formats.fits import Rebuilt, spectrum_file
from .columns import recorded
from .file_names import file_names
from .reading import batches
from .records import read_records
from .selection import Selection, by_source, part_of

_NO_FITS: Final = frozenset({".parquet", ".parq", ".pq"})
"""Endings of files that only the ingest reads: partitions of HATS catalogues."""
_OUT_OF_REACH: Final = "is out of the service's reach ({})"


@dataclass(frozen=True, slots=True)
class _Source:
    """The recorded path of an original file, and its state when it was read."""

    path: Path
    size: int
    mtime_ns: int
    crc: int | None
    """CRC-32 of its bytes; None: an older version read it."""

    def fault(self, status: os.stat_result) -> str:
        """Return the fault of the file as it is now; empty when it is the one that was read."""
        if not stat.S_ISREG(status.st_mode):
            return "is no file any more"
        if self.path.suffix in _NO_FITS:
            return "has many spectra and is no FITS file"
        if status.st_size != self.size:
            return (
                f"has changed since it was read: {self.size:,} bytes then, {status.st_size:,} now"
            )
        if status.st_mtime_ns != self.mtime_ns:
            return "has changed since it was read: its time of change is another"
        return ""


def with_originals(selection: Selection) -> Selection:
    """Return the spectra of a selection whose original files are within reach, and as they were."""
    sources = _sources(selection)
    faults = _faults(sources)
    if not faults:
        return selection
    bad = np.array([source in faults for source in sources])
    # An identifier is lost only if none of its spectra is left.
    there = set(selection.texts(np.flatnonzero(~bad)))
    lost = dict.fromkeys(selection.texts(np.flatnonzero(bad)))
    texts = tuple(text for text in lost if text not in there)
    return replace(
        part_of(selection, np.flatnonzero(~bad)),
        missing=(*selection.missing, *texts),
        damaged=(*selection.damaged, *texts),
    )


def original_files(selection: Selection) -> Iterator[SpectrumFile]:
    """Return the original files of spectra, read one by one.

    Raises
    ------
    NoOriginal
        At once, before any is read, when one is out of reach or is not the file that was read.
    """
    sources = _sources(selection)
    faults = _faults(sources)
    lost = [index for index, source in enumerate(sources) if source in faults]
    if lost:
        first = sources[lost[0]]
        # Only the name: the path would show where files lie on the server.
        why = f"{first.path.name} {faults[first]}"
        raise NoOriginal(selection.texts(np.array(lost)), why)
    names = file_names(selection)
    ids = selection.ids.tolist()
    return (
        SpectrumFile(ids[index], selection.release(index), names[index], _read(source, ids[index]))
        for index, source in enumerate(sources)
    )


def rebuilt_files(selection: Selection) -> Iterator[SpectrumFile]:
    """Yield FITS files made from the store, which say so in their headers."""
    names = file_names(selection, rebuilt=True)
    records = (
        record
        for batch in read_records(selection, lambda survey: survey.record, None)
        for record in batch
    )
    for take in batches(selection):
        for index, row in zip(take.tolist(), _rows(selection, take), strict=True):
            name = names[index]
            data = spectrum_file(_described(selection, index, row, name), next(records), row)
            yield SpectrumFile(int(selection.ids[index]), selection.release(index), name, data)


def _sources(selection: Selection) -> list[_Source]:
    """Return the record of the original file of each spectrum."""
    table = recorded(selection, ["_source", "_size", "_mtime_ns", "_crc"])
    if "_crc" not in table.column_names:
        table = table.append_column("_crc", pa.nulls(table.num_rows, pa.int64()))
    columns = (table.column(name).to_pylist() for name in ("_source", "_size", "_mtime_ns", "_crc"))
    return [_Source(Path(path), *known) for path, *known in zip(*columns, strict=True)]


def _faults(sources: Iterable[_Source]) -> dict[_Source, str]:
    """Return the faults of original files; unchanged files are left out."""
    faults = {}
    for source in dict.fromkeys(sources):
        try:
            fault = source.fault(source.path.stat())
        except OSError as error:
            fault = _OUT_OF_REACH.format(error.strerror)
        if fault:
            faults[source] = fault
    return faults


def _read(source: _Source, number: int) -> bytes:
    """Return the bytes of an original file; the one that was read, or none."""
    try:
        with source.path.open("rb") as file:
            fault = source.fault(os.fstat(file.fileno()))
            data = b"" if fault else file.read()
    except OSError as error:
        fault = _OUT_OF_REACH.format(error.strerror)
    if not fault and source.crc not in {None, crc32(data)}:
        # Data lost on the disk does not change size and time.
        damaged(source.path, "its bytes are not those that were read: restore the file")
        fault = "is damaged: its bytes are not those that were read"
    if fault:
        raise NoOriginal([number], f"{source.path.name} {fault}")
    return data


def _rows(selection: Selection, take: npt.NDArray[np.int64]) -> list[pa.Table]:
    """Return the catalogue row of each spectrum of a batch: a table of one row, nothing hidden."""
    rows: list[pa.Table] = [pa.table({})] * len(take)
    for source, where, held in by_source(selection, take):
        table = source.catalog.columns_of(list(source.catalog.columns), held)
        for line, index in enumerate(where.tolist()):
            rows[index] = table.slice(line, 1)
    return rows


def _described(selection: Selection, index: int, row: pa.Table, name: str) -> Rebuilt:
    """Return the content of the header of a rebuilt file."""
    survey, context = selection.survey_of(index), selection.release(index)
    values: dict[str, Any] = {
        column: row.column(column)[0].as_py()
        for column in (*survey.id_parts, "ra", "dec", survey.z_column)
        if column in row.column_names
    }
    reduction = str(values.get(survey.id_parts[-1], ""))
    return Rebuilt(
        cards={**(survey.cards(reduction) if survey.cards else {}), "CONTEXT": context},
        values=values,
        record=survey.record,
        columns=survey.columns,
        history=(
            f"rebuilt by specserver {__version__} from its store; not the release file",
            f"{name} of {context}: HDU1 has the values of the release file bit for bit,",
            "HDU2 the catalogue's columns under the catalogue's names; the rest is left out",
        ),
    )
