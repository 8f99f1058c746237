"""A release as a HATS collection: a catalogue with nested spectra, and its margin.

Several threads write a file each: libraries that decompress and compress spectra let others work.
In memory are 32 bytes of each spectrum, a group of rows a thread (some 200 MB with its copies), the
sample, and footers of files, up to 100 MB.
"""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from .. import __version__
from ..catalog.deadline import NEVER
from ..errors import BadParameter, IngestError, NotFound
from ..files import disk_error, sync
from ..model.nested import PIXEL_COLUMN
from ..model.properties import properties_text
from ..model.region import Cone, Polygon
from ..model.survey import UNIT_COLUMN, Survey
from ..service.archive import Archive
from ..service.open_contexts import OpenRelease
from ..service.query import narrow
from ..store.migration import Progress
from .catalogue import CatalogueWriter
from .draft import draft_of, require_empty, require_outside
from .partitions import (
    HIGHEST_ORDER,
    INDEX_ORDER,
    Ints,
    Partition,
    margin_order,
    margins,
    split_sky,
)
from .rows import Places, TableReader

GROUP_ROWS: Final = 250
"""Spectra of a group of rows: some 25 MB decoded. Readers read whole groups."""
_PLACE: Final = ("_hpx", "_segment", "_row")
"""Hidden columns of the catalogue: pixel of the position, and place of the spectrum."""
_SHOWN: Final = 10
"""Spectra without a position that are named."""
_VERSION: Final = {"hats_version": "v1.0", "hats_release_date": "2025-08-22"}
"""The version of HATS, and when it was published."""


@dataclass(frozen=True, slots=True)
class HatsOptions:
    """What is exported of a release, and how it is divided."""

    everything: bool = False
    """All spectra, and not only the best one of each object."""
    constraint: str = ""
    """SQL condition that spectra meet, as in ``query``."""
    region: Cone | Polygon | None = None
    margin_arcsec: float = 10.0
    """Width of the margin; 0: none."""
    max_rows: int = 2000
    """Spectra of a partition."""
    skip_damaged: bool = False
    """Leave damaged spectra out, instead of raising an error."""


@dataclass(slots=True)
class HatsSummary:
    """What was exported, or would be."""

    context: str
    folder: Path
    nspec: int = 0
    partitions: int = 0
    """Files of the catalogue."""
    orders: tuple[int, ...] = ()
    """Orders of their pixels."""
    margin_rows: int = 0
    no_position: int = 0
    """Spectra without a position, which no such catalogue can hold."""
    no_position_ids: list[str] = field(default_factory=list)
    """Identifiers of the first ten of them."""
    damaged: list[str] = field(default_factory=list)
    """Identifiers of damaged spectra, which are left out."""
    nbytes: int = 0
    seconds: float = 0.0


class HatsExport:
    """The plan of an export; `write` carries it out.

    Raises
    ------
    UnknownContext, NoCatalog, BadConstraint
        There is no such release, or none with a catalogue; or the condition is refused.
    BadParameter
        The margin is too wide.
    NotFound
        No spectrum with a position is to be exported.
    """

    def __init__(self, archive: Archive, context: str, options: HatsOptions) -> None:
        self._options, self._data = options, archive.data
        self._source = archive.open_release(context)
        self.context = self._source.release.context
        self._places, unplaced, survey = _find(self._source, options)
        self.no_position = len(unplaced)
        self._unplaced = [str(number) for number in unplaced[:_SHOWN].tolist()]
        self._reader = TableReader(self._source, survey, skip_damaged=options.skip_damaged)
        self._reader.hold(self._places)
        self._survey = survey
        highest, self._order = HIGHEST_ORDER, 0
        if options.margin_arcsec > 0:
            self._order = margin_order(options.margin_arcsec)
            # A partition is wider than the pixels of its margin.
            highest = min(highest, self._order - 1)
        self._sky = split_sky(self._places.pixels, options.max_rows, highest)

    def plan(self, folder: Path) -> HatsSummary:
        """Return what `write` would write; raise `BadParameter` where the folder is not empty.

        It is also raised for a folder in the data folder.
        """
        require_empty(folder)
        require_outside(folder, self._data)
        held = [partition for partition in self._sky if partition.nrows]
        return HatsSummary(
            context=self.context,
            folder=folder,
            nspec=len(self._places.ids),
            partitions=len(held),
            orders=tuple(sorted({partition.order for partition in held})),
            margin_rows=sum(len(rows) for _, rows in self._margins()),
            no_position=self.no_position,
            no_position_ids=self._unplaced,
        )

    def write(
        self, folder: Path, progress: Progress | None = None, *, workers: int = 1
    ) -> HatsSummary:
        """Write the collection into a folder, which appears when it is whole.

        Parameters
        ----------
        workers : threads that write
        progress : called with the numbers of rows that are written, and of all

        Raises
        ------
        BadParameter
            The folder is not empty, or in the data folder.
        IngestError
            Another export into it is at work, or the disk refuses it.
        DamagedSpectrum
            A spectrum is damaged, unless such are left out.
        """
        begun = time.monotonic()
        summary = self.plan(folder)
        total = summary.nspec + summary.margin_rows
        state = _State(self._reader, self._places, progress, total, workers)
        with _writing(folder), draft_of(folder) as draft:
            name = self.context
            main = CatalogueWriter(draft / name, self._reader.schema)
            rows = (
                (partition, np.arange(partition.start, partition.stop))
                for partition in self._sky
                if partition.nrows
            )
            state.write(main, rows)
            if not main.nrows:
                raise _nothing(self.context, "all of them are damaged")
            kind = "source" if self._options.everything else "object"
            main.finish("HATS catalogue", self._properties(name, kind), sample=True)
            margin = self._write_margin(draft, state)
            _write_collection(draft, name, margin, self._survey.title)
        summary.nspec, summary.nbytes = main.nrows, main.nbytes
        summary.partitions = len(main.partitions)
        summary.orders = tuple(sorted({partition.order for partition in main.partitions}))
        summary.damaged = list(state.damaged)
        summary.seconds = time.monotonic() - begun
        return summary

    def _margins(self) -> Iterator[tuple[Partition, Ints]]:
        """Yield the partitions that have a margin, and its rows."""
        if self._order:
            yield from margins(self._places.pixels, self._sky, self._order)

    def _write_margin(self, draft: Path, state: "_State") -> str:
        """Write the margin of the catalogue; return its name. Empty: none is wanted."""
        if not self._order:
            return ""
        width = self._options.margin_arcsec
        name = f"{self.context}_{width:g}arcs"
        writer = CatalogueWriter(draft / name, self._reader.schema)
        state.write(writer, self._margins())
        more = {"hats_primary_table_url": self.context, "hats_margin_threshold": f"{width:g}"}
        properties = self._properties(name, "margin") | more
        writer.finish("HATS margin", properties, sample=False)
        return name

    def _properties(self, name: str, kind: str) -> dict[str, Any]:
        """Return the properties of a catalogue."""
        return {
            "obs_collection": name,
            "dataproduct_type": kind,
            "hats_col_ra": "ra",
            "hats_col_dec": "dec",
            "hats_col_healpix": PIXEL_COLUMN,
            "hats_col_healpix_order": INDEX_ORDER,
            "hats_npix_suffix": ".parquet",
            "obs_title": f"{self._source.release.title}: spectra of {self._survey.title}",
            **_made(),
        }


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Raise errors of the disk as `IngestError`."""
    try:
        yield
    except OSError as error:
        reason = disk_error(error).partition("\n")[0]
        raise IngestError(f"{folder} cannot be written: {reason}; nothing is left of it") from error


def _made() -> dict[str, str]:
    """Return the properties that say who made a catalogue, and when."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%MUTC")
    return {"hats_builder": f"specserver {__version__}", "hats_creation_date": now, **_VERSION}


def _write_collection(folder: Path, name: str, margin: str, title: str) -> None:
    """Write the file that names the catalogues of a collection."""
    values = {
        "obs_collection": name,
        "hats_primary_table_url": name,
        "all_margins": margin or None,
        "default_margin": margin or None,
        "obs_title": title,
        **_made(),
    }
    path = folder / "collection.properties"
    path.write_bytes(properties_text("HATS collection", values))
    sync(path)


@dataclass(slots=True)
class _State:
    """Rows that are read for an export, and how far it is."""

    reader: TableReader
    places: Places
    progress: Progress | None
    total: int
    workers: int
    damaged: dict[str, None] = field(default_factory=dict)
    """Identifiers of damaged spectra, in the order in which they are found."""
    done: int = 0
    stopped: bool = False
    lock: Lock = field(default_factory=Lock)

    def write(self, writer: CatalogueWriter, parts: Iterable[tuple[Partition, Ints]]) -> None:
        """Write partitions, of which the rows are 1D[n] int64, several at a time."""
        waiting: deque[Future[None]] = deque()
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                for partition, rows in parts:
                    waiting.append(pool.submit(writer.write, partition, self._tables(rows)))
                    if len(waiting) > self.workers:
                        waiting.popleft().result()
                while waiting:
                    waiting.popleft().result()
            except BaseException:
                # The others end with the group that they are at.
                self.stopped = True
                pool.shutdown(cancel_futures=True)
                raise

    def _tables(self, rows: Ints) -> Iterator[pa.Table]:
        """Yield some of the rows, 1D[n] int64, a table a group."""
        for at in range(0, len(rows), GROUP_ROWS):
            if self.stopped:
                return
            some = rows[at : at + GROUP_ROWS]
            table, gone = self.reader.read(self.places.take(some))
            yield table
            with self.lock:
                self.damaged.update(dict.fromkeys(gone))
                self.done += len(some)
                if self.progress is not None:
                    self.progress(self.done, self.total)


def _find(source: OpenRelease, options: HatsOptions) -> tuple[Places, npt.NDArray[Any], Survey]:
    """Return the spectra to export, the identifiers of others without position, and the survey."""
    survey, catalog = source.survey, source.catalog
    condition, rows = narrow(source, options.constraint, options.region, NEVER)
    has_units = survey.in_unit is not None and UNIT_COLUMN in catalog.columns
    names = [survey.id_column.name, *_PLACE, *([UNIT_COLUMN] if has_units else [])]
    table = catalog.query(names, condition, rows, primary=not options.everything)
    ids, pixels, segments, at = (table.column(name).to_numpy() for name in names[:4])
    known = pixels >= 0
    if not known.any():
        why = "none has a position" if len(known) else "none meets these conditions"
        raise _nothing(source.release.context, why)
    if has_units:
        survey = _in_unit(survey, set(table.column(UNIT_COLUMN).unique().to_pylist()))
    order = np.lexsort((ids, pixels))
    order = order[known[order]]
    places = Places(ids, pixels, segments, at).take(order)
    return places, np.sort(ids[~known]), survey


def _in_unit(survey: Survey, stated: set[str | None]) -> Survey:
    """Return a survey in the unit of flux of all rows.

    Raises
    ------
    BadParameter
        They differ in it.
    """
    units = sorted({survey.flux_scale if unit is None else unit for unit in stated})
    if len(units) > 1:
        chosen = f"constraint={f'{UNIT_COLUMN} = {units[0]!r}'!r}"
        raise BadParameter(
            "constraint",
            f"fluxes in {', '.join(map(repr, units))}",
            f"a column of spectra has one unit: {chosen}",
            chosen,
        )
    return survey.in_unit(units[0]) if units and survey.in_unit else survey


def _nothing(context: str, why: str) -> NotFound:
    """Return the error that there is nothing to export."""
    return NotFound(["an export"], [context], f"{why}; nothing was written")
