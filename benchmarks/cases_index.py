"""The index: of many parts against one of the same rows, and its renewal."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import pyarrow as pa

from specserver.data.context import SegmentFolder
from specserver.data.leases import Lease
from specserver.data.root import DataRoot, open_root
from specserver.ingest.commit import commit_segments
from specserver.ingest.decisions import IngestOptions
from specserver.ingest.worker import ingest_part
from specserver.model.region import cone
from specserver.service import QueryRequest, SpectroscopicService
from specserver.store.layout import SegmentInfo
from specserver.surveys.sdss import SDSS

from .bench import Bench, Ids
from .cases import case
from .data import CONTEXT
from .measure import FEWEST_ROUNDS, Gauge, Trial, Unequal, seconds
from .service import ROOT

NPARTS: Final = 30
"""About as many as the rule of merging leaves of a hundred million rows."""
CONE_DEG: Final = 0.5
CONES: Final = 20
"""Cones of one measurement."""
FIELDS: Final = ("specobjid", "ra", "dec", "z")
Asked = Callable[[SpectroscopicService, Any], list[pa.Table]]


def ask_cones(service: SpectroscopicService, centres: Any) -> list[pa.Table]:
    """Ask for cones around positions, 2D[n, 2] degrees."""
    asked = (
        QueryRequest(CONTEXT, cone(ra, dec, CONE_DEG), primary=False)
        for ra, dec in centres.tolist()
    )
    return [service.query(request) for request in asked]


def ask_ids(service: SpectroscopicService, ids: Any) -> list[pa.Table]:
    """Look up identifiers, 1D[n], and the places of their spectra."""
    catalog = service.archive.table(CONTEXT, None, primary=False).catalog
    place = catalog.place(catalog.with_ids(ids))
    return [pa.table({"id": place.ids, "row": place.row})]


def ask_condition(service: SpectroscopicService, between: Any) -> list[pa.Table]:
    """Ask for the thousand quasars of the lowest redshifts in a range."""
    text = "z between {} and {} and class = 'QSO' order by z limit 1000".format(*between)
    return [service.query(QueryRequest(CONTEXT, None, text, FIELDS, primary=False))]


def draw_cones(rng: np.random.Generator) -> Any:
    """Return positions all over the sky, 2D[n, 2] degrees."""
    dec = np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, CONES)))
    return np.stack([rng.uniform(0.0, 360.0, CONES), dec], axis=1)


def draw_ids(service: SpectroscopicService, number: int, rng: np.random.Generator) -> Ids:
    """Return so many different identifiers that a context holds, in random order."""
    catalog = service.archive.table(CONTEXT, None, primary=False).catalog
    ids = np.asarray(catalog.place(np.arange(catalog.count(primary=False))).ids)
    chosen: Ids = rng.choice(ids, number, replace=False)
    return chosen


def draw_between(rng: np.random.Generator) -> tuple[float, float]:
    """Return a range of redshifts."""
    low = round(float(rng.uniform(0.3, 0.5)), 4)
    return low, round(low + 0.4, 4)


def _against_one_part(
    bench: Bench,
    ask: Asked,
    draw: Callable[[], Any],
    per: int = 1,
    *,
    by_field: bool = False,
    ordered: bool = True,
) -> Trial:
    """Return the trial of a question to many parts and to one.

    Parameters
    ----------
    by_field : as `make_context` takes it
    ordered : answers have one order, whatever the number of parts
    """
    many, one = bench.large(NPARTS, by_field=by_field), bench.large(1)

    def check(subject: Any) -> None:
        for ours, theirs in zip(ask(many, subject), ask(one, subject), strict=True):
            same = ours.equals(theirs) if ordered else ours["z"].equals(theirs["z"])
            if not same:
                raise Unequal(f"{len(ours)} rows against {len(theirs)}, or others")

    return Trial(draw, partial(ask, many), partial(ask, one), check, per, per)


@case(
    "parts_cone",
    f"cone of 0.5° on {{large:,}} rows in {NPARTS} index parts of whole fields, in process",
    reference="the same in one part",
    target=1.3,
    limits="a search in the sorted pixels of each part that has rows there",
)
def parts_cone(bench: Bench) -> Trial:
    draw = partial(draw_cones, bench.rng)
    return _against_one_part(bench, ask_cones, draw, CONES, by_field=True)


@case(
    "parts_cone_mixed",
    "the same, where each part has rows of the whole sky",
    reference="the same in one part",
    target=None,
    limits="as above, and all parts have rows there: memory that is not in the processor's caches",
)
def parts_cone_mixed(bench: Bench) -> Trial:
    return _against_one_part(bench, ask_cones, partial(draw_cones, bench.rng), CONES)


@case(
    "parts_ids",
    f"{{resolve:,}} ids of {{large:,}} rows in {NPARTS} index parts, in process",
    reference="the same in one part",
    target=2.0,
    limits="a search in the sorted identifiers of each part",
)
def parts_ids(bench: Bench) -> Trial:
    known = draw_ids(bench.large(1), min(10 * bench.scale.resolve, bench.scale.large), bench.rng)

    def draw() -> Ids:
        chosen: Ids = bench.rng.choice(known, bench.scale.resolve, replace=False)
        return chosen

    return _against_one_part(bench, ask_ids, draw)


@case(
    "parts_condition",
    f"condition with ORDER BY on {{large:,}} rows in {NPARTS} index parts, in process",
    reference="the same in one part",
    target=1.5,
    limits="a scan of three columns by DuckDB, on all cores",
)
def parts_condition(bench: Bench) -> Trial:
    # Rows of equal z may come in any order, and the last of them be left out.
    return _against_one_part(bench, ask_condition, lambda: draw_between(bench.rng), ordered=False)


_FIRST_QUERY: Final = """
import sys
from time import perf_counter
from specserver.data.root import open_root
from specserver.data.context import SegmentFolder
from specserver.data.leases import Lease
from specserver.data.root import DataRoot, open_root
from specserver.ingest.commit import commit_segments
from specserver.ingest.decisions import IngestOptions
from specserver.ingest.worker import ingest_part
from specserver.model.region import cone
from specserver.service import QueryRequest, SpectroscopicService
from specserver.surveys import load_surveys
load_surveys()  # a service has them before it listens
began = perf_counter()
service = SpectroscopicService(open_root(sys.argv[1]))
service.query(QueryRequest(sys.argv[2], cone(180.0, 30.0, 0.5)))
print(perf_counter() - began)
"""


def first_query_s(data: object) -> float:
    """Return how long the first cone takes in a new process, which opens the context."""
    command = [sys.executable, "-c", _FIRST_QUERY, str(data), CONTEXT]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return float(told.stdout)


@case(
    "opening",
    f"first query of a new process on {{large:,}} rows in {NPARTS} index parts",
    reference="—",
    target=0.5,
    limits="reading the records of the parts and mapping their files",
)
def opening(bench: Bench) -> Gauge:
    data = bench.large(NPARTS).archive.data.local_path()
    return Gauge(lambda: first_query_s(data))


@dataclass(frozen=True, slots=True)
class Growing:
    """A context that segments are added to; they are written beforehand."""

    data: DataRoot
    lease: Lease

    def write(self, paths: Sequence[Path]) -> list[tuple[SegmentFolder, SegmentInfo]]:
        """Write the segments of files, without committing them."""
        options = IngestOptions(self.data, CONTEXT, self.lease.name, frozenset(), False, False)
        keys = [key for path in paths if (key := SDSS.reader.identify(path))]
        return ingest_part(options, keys, lambda _: None).segments

    def commit(self, segments: Sequence[tuple[SegmentFolder, SegmentInfo]]) -> None:
        """Add segments that are written to the index."""
        done = commit_segments(self.data.context(CONTEXT), SDSS, self.lease, segments)
        if done.notes or len(done.segments) != len(segments):
            raise Unequal(f"not all was new: {done.notes[:3]}")


@contextmanager
def growing(data: DataRoot) -> Iterator[Growing]:
    """Add to a context for a while."""
    with data.context(CONTEXT).writing() as lease:
        yield Growing(data, lease)


@contextmanager
def _copy_of(data: DataRoot, folder: Path) -> Iterator[Growing]:
    """Add to a copy, whose files are shared by hard links, of a context."""
    with TemporaryDirectory(dir=folder, prefix="growing-") as name:
        copytree(data.local_path(), Path(name) / "data", copy_function=os.link)
        with growing(open_root(Path(name) / "data")) as lent:
            yield lent


def _renewal(bench: Bench, nrows: int) -> tuple[Growing, Callable[[], list[Path]]]:
    """Return a context of so many rows, and a function that returns other files at each call."""
    lent = bench.case_stack.enter_context(_copy_of(bench.growing(nrows), bench.cache.folder))
    files = bench.rng.permutation(bench.library.fits).tolist()
    counted = iter(range(0, len(files), bench.scale.new))

    def draw() -> list[Path]:
        at = next(counted)
        return [Path(path) for path in files[at : at + bench.scale.new]]

    return lent, draw


_FEW_ROWS: Final = 50
"""How many times fewer rows the small index of `renewal` has."""


@case(
    "renewal",
    "renewal of the index after {new:,} new rows in {nrows:,}",
    reference=f"the same with {_FEW_ROWS} times fewer rows",
    target=1.2,
    limits="reading the new rows and writing their part; flushing files to the disk",
)
def renewal(bench: Bench) -> Trial:
    large, draw = _renewal(bench, bench.scale.nrows)
    small, _ = _renewal(bench, bench.scale.nrows // _FEW_ROWS)

    def written() -> tuple[Any, Any]:
        paths = draw()
        return large.write(paths), small.write(paths)

    return Trial(
        written,
        lambda subject: large.commit(subject[0]),
        lambda subject: small.commit(subject[1]),
        rounds=FEWEST_ROUNDS,
    )


@case(
    "renewal_s",
    "the same, its time",
    reference="—",
    target=1.0,
    limits="as above",
)
def renewal_s(bench: Bench) -> Gauge:
    large, draw = _renewal(bench, bench.scale.nrows)
    return Gauge(lambda: seconds(large.commit, large.write(draw())))
