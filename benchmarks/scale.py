"""Does it stay as fast with a hundred times the data? ``python -m benchmarks.scale``.

A store of two surveys grows to 1,000, 10,000 and 100,000 spectra, and a catalogue of ten million
rows lies beside it. At each size: how fast spectra go in, what they take on the disk, how long
requests take, what the server holds in memory. Then spectra are read that are not in memory, in
both formats of the store, and contexts of up to ten million rows are measured. Everything is made
for it, and removed at the end.
"""

import argparse
import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from specserver.catalog.index.build import refresh_index
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.service import SpectroscopicService
from specserver.service.tables import attach_table
from specserver.simulate import simulate_desi, simulate_sdss
from specserver.store.layout import list_segments
from specserver.surveys import find_release

from . import scale_index
from .cases_fetch import cold_trial
from .data import warm
from .documents import write_scale
from .formats import as_format_1
from .measure import take_turns
from .service import serve_data
from .table import make_rows

SIZES: Final = (1_000, 10_000, 100_000)
NROWS: Final = 10_000_000
"""Rows of the catalogue that is attached at the end, and of the largest context."""
CONTEXTS: Final = ("sdss_dr17", "desi_edr")
FAMILIES: Final = ("v5_7_0", "v5_10_0", "v5_11_0")
_MANY: Final = 1000
"""Spectra of one request."""
_ROUNDS: Final = 7
_PER_FILE: Final = 500
_MEASURED: Final = {"sdss_dr17": 400, "desi_edr": 1000}
"""Spectra that one process ingests alone, so that the rate of a core can be told."""
_CONES: Final = 20
_CONE_DEG: Final = 0.001
"""So small that it holds one object, however dense the sky becomes."""


@dataclass(slots=True)
class Size:
    """What was measured at one size."""

    nspec: int
    rate: dict[str, float] = field(default_factory=dict)
    """Spectra a second that one process reads, compresses and writes, by context."""
    bytes_each: dict[str, float] = field(default_factory=dict)
    """Bytes of a spectrum with its catalogue row, by context."""
    index_bytes_each: float = 0.0
    index_s: float = 0.0
    """Time to make the index anew."""
    many_s: dict[str, float] = field(default_factory=dict)
    """Time of a request for 1,000 random whole spectra, by context."""
    one_s: float = 0.0
    cone_s: float = 0.0
    """Time of a cone around one object."""
    server_mb: float = 0.0
    """Resident memory of all processes of the server, after these requests."""


@dataclass(frozen=True, slots=True)
class Files:
    """The files of one context, in the order in which they go in, and the spectra in each."""

    context: str
    paths: Sequence[Path]
    each: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; return the exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--most", type=int, default=SIZES[-1], help="spectra of the largest store")
    parser.add_argument("--rows", type=int, default=NROWS, help="rows of the catalogue")
    parser.add_argument("--keep", action="store_true", help="leave the data where they are")
    parser.add_argument("--json", type=Path, help="keep the result here")
    parser.add_argument(
        "--write-docs", type=Path, metavar="RESULT", help="put a kept run into the documentation"
    )
    asked = parser.parse_args(arguments)
    if asked.write_docs:
        write_scale(markdown(json.loads(asked.write_docs.read_text("utf-8"))))
        return 0
    folder = Path(mkdtemp(prefix="specserver-scale-", dir=asked.folder))
    sizes = [one for one in SIZES if one < asked.most] + [asked.most]
    try:
        result = run(folder, sizes, asked.rows)
    finally:
        if not asked.keep:
            rmtree(folder, ignore_errors=True)
    sys.stdout.write(markdown(result) + "\n")
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    return 0


def run(folder: Path, sizes: Sequence[int], nrows: int) -> dict[str, Any]:
    """Grow a store through some sizes; return what was measured."""
    workers = os.cpu_count() or 1
    half = sizes[-1] // 2
    began = perf_counter()
    simulate_sdss(folder / "sdss", half, 7, families=FAMILIES, workers=workers)
    simulate_desi(folder / "desi", half, 7, per_file=_PER_FILE, workers=workers)
    _say(f"simulated {2 * half:,} spectra in {perf_counter() - began:.0f} s")
    everything = [
        Files("sdss_dr17", sorted((folder / "sdss").rglob("spec-*.fits")), 1),
        Files("desi_edr", sorted((folder / "desi").rglob("coadd-*.fits")), _PER_FILE),
    ]
    data = folder / "data"
    done = dict.fromkeys(CONTEXTS, 0)
    measured = []
    for nspec in sizes:
        size = Size(nspec)
        for files in everything:
            done[files.context] = _grow(data, files, done[files.context], nspec // 2, size)
        _measure(data, size)
        measured.append(asdict(size))
        _say(f"{nspec:,} spectra: {measured[-1]}")
    rmtree(folder / "desi")
    # The space is needed: only files that are ingested once more stay.
    kept = everything[0].paths[-2 * scale_index.NEW :]
    for path in {*everything[0].paths}.difference(kept):
        path.unlink()
    cold = _cold(data, folder / "format-1")
    _say(f"spectra that are not in memory: {cold}")
    large = []
    for rows in (*(one for one in scale_index.SIZES if one < nrows), nrows):
        large.append(scale_index.measure(open_root(data), kept, folder / "rows", rows))
        _say(str(large[-1]))
    return {
        "sizes": measured,
        "cold": cold,
        "rows": [asdict(one) for one in large],
        "catalogue": _catalogue(data, nrows),
        "cores": workers,
    }


def _cold(data: Path, folder: Path) -> dict[str, float]:
    """Read a thousand spectra whose files are not in memory, in both formats of the store."""
    context = CONTEXTS[0]
    old = SpectroscopicService(as_format_1(open_root(data), folder, context))
    ids, rng = _objects(data, context)[0], np.random.default_rng(9)
    many = min(_MANY, len(ids))
    trial = cold_trial(
        SpectroscopicService(open_root(data)), old, lambda: rng.choice(ids, many, replace=False)
    )
    outcome = take_turns(trial, _ROUNDS)
    rmtree(folder)
    assert outcome.ratio is not None
    assert outcome.reference is not None
    return {
        "nspec": len(ids),
        "many": many,
        "format_2_s": outcome.ours.median,
        "format_1_s": outcome.reference.median,
        "ratio": outcome.ratio.median,
    }


def _grow(data: Path, files: Files, begin: int, nspec: int, size: Size) -> int:
    """Ingest files up to so many spectra, the last of them with one process; return where it is."""
    stop = max(begin + 1, -(-nspec // files.each))
    alone = max(1, min(_MEASURED[files.context] // files.each, (stop - begin) // 2))
    if stop - alone > begin:
        run_ingest(open_root(data), files.context, files.paths[begin : stop - alone])
    summary = run_ingest(
        open_root(data), files.context, files.paths[stop - alone : stop], workers=1
    )
    size.rate[files.context] = summary.stored / summary.seconds
    return stop


def _measure(data: Path, size: Size) -> None:
    """Measure a store as it is."""
    nspec, index_bytes = 0, 0
    for context in CONTEXTS:
        segments = list_segments(open_root(data).context(context))
        held = sum(one.nspec for one in segments)
        size.bytes_each[context] = sum(one.nbytes for one in segments) / held
        nspec += held
        index = data / context / "index"
        rmtree(index)
        began = perf_counter()
        refresh_index(open_root(data).context(context), find_release(context)[0])
        size.index_s += perf_counter() - began
        index_bytes += sum(one.stat().st_size for one in index.rglob("*") if one.is_file())
    size.index_bytes_each = index_bytes / nspec
    warm(data.glob("*/seg-*/**/*"))
    rng = np.random.default_rng(3)
    with serve_data(data) as server:
        for context in CONTEXTS:
            ids, ra, dec = _objects(data, context)
            client = SpecClient(context, svc_url=server.url)
            size.many_s[context] = _time(partial(_fetch_many, client, ids, rng))
        size.one_s = _time(lambda: client.getSpec(int(rng.choice(ids))), 10 * _ROUNDS)
        places = rng.choice(len(ids), _CONES)
        known = np.isfinite(ra[places])
        pairs = list(zip(ra[places][known].tolist(), dec[places][known].tolist(), strict=True))
        size.cone_s = _time(lambda: [client.query(a, d, _CONE_DEG) for a, d in pairs]) / max(
            1, len(pairs)
        )
        size.server_mb = server.resident_bytes / 1e6


def _fetch_many(client: SpecClient, ids: npt.NDArray[Any], rng: np.random.Generator) -> Any:
    """Fetch a thousand random spectra; from a small store some of them twice."""
    return client.getSpec(rng.choice(ids, _MANY, replace=len(ids) < _MANY))


def _objects(
    data: Path, context: str
) -> tuple[npt.NDArray[Any], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return identifiers and positions of the spectra of a context, 1D[nspec] each."""
    catalog = SpectroscopicService(open_root(data)).archive.open_release(context).catalog
    rows = np.arange(catalog.count(primary=False))
    ra, dec = catalog.positions(rows)
    return np.array(catalog.place(rows).ids), ra, dec


def _catalogue(data: Path, nrows: int) -> dict[str, float]:
    """Attach a catalogue of many rows, and ask it."""
    context = CONTEXTS[0]
    ids, ra, dec = _objects(data, context)

    class Held:
        """What the rows of the table are made from."""

        positions = (ra, dec)

    Held.ids = ids  # type: ignore[attr-defined]  # a table's own form of what a library is
    rows = make_rows(Held, nrows)  # type: ignore[arg-type]
    file = data.parent / "big.parquet"
    pq.write_table(pa.table(rows), file)
    began = perf_counter()
    attach_table(SpectroscopicService(open_root(data)).archive, context, "big", file)
    attached = perf_counter() - began
    rng = np.random.default_rng(5)
    with serve_data(data) as server:
        client = SpecClient(context, svc_url=server.url)
        name = f"{context}.big"

        def cone() -> Any:
            return client.query(rng.uniform(0, 360), rng.uniform(-60, 60), 0.5, catalog=name)

        def sorted_by_z() -> Any:
            return client.query(
                constraint="class = 'STAR' and z > 0.1 order by z limit 1000",
                catalog=name, fields="z",
            )  # fmt: skip

        return {
            "nrows": nrows,
            "attach_s": attached,
            "cone_s": _time(cone, 5 * _ROUNDS),
            "condition_s": _time(sorted_by_z),
            "server_mb": server.resident_bytes / 1e6,
        }


def _time(work: Callable[[], object], rounds: int = _ROUNDS) -> float:
    """Return the median time of some calls, s; two more go before them."""
    times = []
    for number in range(-2, rounds):
        began = perf_counter()
        made = work()
        if number >= 0:
            times.append(perf_counter() - began)
        del made
    return statistics.median(times)


def markdown(result: dict[str, Any]) -> str:
    """Return what was measured as a table."""
    sizes = result["sizes"]
    lines = [
        "| | " + " | ".join(f"{one['nspec']:,} spectra" for one in sizes) + " |",
        "|---|" + "---|" * len(sizes),
    ]

    def row(title: str, cell: Callable[[dict[str, Any]], str]) -> None:
        lines.append(f"| {title} | " + " | ".join(cell(one) for one in sizes) + " |")

    def each(title: str, name: str, shown: Callable[[float], str]) -> None:
        for context in CONTEXTS:
            row(f"{context}: {title}", lambda one, c=context: shown(one[name][c]))  # type: ignore[misc]

    each("spectra ingested a second, by one core", "rate", lambda value: f"{value:.0f}")
    each("bytes of a spectrum", "bytes_each", lambda value: f"{value / 1e3:.1f} kB")
    row("index, bytes of a spectrum", lambda one: f"{one['index_bytes_each']:.0f} B")
    row("index made anew", lambda one: f"{one['index_s']:.2f} s")
    each("1,000 random spectra", "many_s", lambda value: f"{value * 1e3:.0f} ms")
    row("one spectrum", lambda one: f"{one['one_s'] * 1e3:.2f} ms")
    row("a cone around one object", lambda one: f"{one['cone_s'] * 1e3:.2f} ms")
    row("memory of the server", lambda one: f"{one['server_mb']:.0f} MB")
    cold, big = result["cold"], result["catalogue"]
    rows = [scale_index.Index(**one) for one in result["rows"]]
    said = (
        f"A value-added table of {big['nrows']:,} rows was attached in {big['attach_s']:.1f} s."
        f" A cone of 0.5° on it took {big['cone_s'] * 1e3:.2f} ms, a condition with ORDER BY"
        f" {big['condition_s'] * 1e3:.0f} ms, and the server used {big['server_mb']:.0f} MB of"
        " memory."
    )
    also = (
        f"{cold['many']:,} random spectra of {cold['nspec']:,} whose files are not in memory took"
        f" {cold['format_2_s'] * 1e3:.0f} ms, in format 1 of the store"
        f" {cold['format_1_s'] * 1e3:.0f} ms: the ratio is {cold['ratio']:.2f}."
    )
    return "\n".join([*lines, "", also, "", scale_index.markdown(rows), "", said])


def _say(text: str) -> None:
    """Tell how far it is."""
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
