"""The spectra of the benchmarks: simulated files, the store made of them, and one .npy each."""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from specserver.data.root import open_root
from specserver.ingest import run_ingest
from specserver.simulate import simulate_sdss
from specserver.surveys.sdss import SDSS

from .cache import Cache, source_digest

CONTEXT: Final = "sdss_dr17"
# Reductions with the wide BOSS spectrographs: about 4,600 pixels a spectrum.
FAMILIES: Final = ("v5_7_0", "v5_10_0", "v5_11_0")
SEED: Final = 7
_NPY_PER_JOB: Final = 200


@dataclass(frozen=True, slots=True)
class Scale:
    """How much data, and how long to look."""

    name: str
    nspec: int
    """Spectra in the store."""
    nrows: int
    """Rows of the catalogue."""
    many: int
    """Spectra of one request."""
    most: int
    """Spectra of one large request."""
    stack: int
    """Spectra of the largest image."""
    resolve: int
    """Identifiers looked up at once."""
    files: int
    """Files read from the disk by an ingest."""
    listed: int
    """Spectra of one list of Spectrum objects."""
    grid: int
    """Rows and columns of a grid of previews."""
    rounds: int
    """Measurements of each kind."""
    watch_s: float
    """Seconds for which the answers to /ping are watched."""
    large: int
    """Rows of the largest context."""
    million: int
    """Rows of one answer."""
    new: int
    """Spectra that are added to an index at once."""


FULL: Final = Scale(
    "full",
    20_000,
    5_000_000,
    1000,
    10_000,
    20_000,
    10_000,
    200,
    100,
    10,
    7,
    12.0,
    10_000_000,
    1_000_000,
    2_000,
)
QUICK: Final = Scale(
    "quick", 2000, 500_000, 500, 2000, 2000, 10_000, 20, 30, 5, 5, 4.0, 200_000, 200_000, 200
)


@dataclass(frozen=True, slots=True)
class Library:
    """The same spectra in three forms; parallel arrays, 1D[nspec]."""

    data: Path
    """Data folder of the service."""
    ids: npt.NDArray[np.uint64]
    npy: npt.NDArray[np.str_]
    """Path of each spectrum as a structured array."""
    fits: npt.NDArray[np.str_]
    """Path of each spectrum's original file."""

    def of(self, ids: npt.NDArray[np.uint64], paths: npt.NDArray[np.str_]) -> list[str]:
        """Return the paths of identifiers, which are held in ascending order."""
        found: list[str] = paths[np.searchsorted(self.ids, ids)].tolist()
        return found

    @property
    def positions(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Right ascension and declination of the spectra, degrees."""
        saved = np.load(Path(str(self.npy[0])).parent / "index.npz")
        return saved["ra"], saved["dec"]


def make_library(cache: Cache, scale: Scale) -> tuple[Library, str]:
    """Return the spectra, made where they are not there yet, and a digest of what made them."""
    workers = _workers(scale.nspec)
    files, digest = make_files(cache, scale.nspec, scale.name)
    read_by = source_digest("surveys", "ops", "model/grid.py")
    npy, _ = cache.part(
        f"{scale.name}-npy",
        {"files": digest, "reader": read_by},
        lambda path: _write_npy(files, path, workers),
    )
    written_by = source_digest("ingest", "store", "catalog/segment_rows.py", "catalog/index")
    data, made = cache.part(
        f"{scale.name}-data",
        {"files": digest, "reader": read_by, "writer": written_by, "context": CONTEXT},
        lambda path: run_ingest(open_root(path), CONTEXT, [files], workers=workers),
    )
    saved = np.load(npy / "index.npz")
    ids = saved["ids"]
    npys = np.array([str(npy / f"{one}.npy") for one in ids.tolist()])
    fits = np.array([str(files / one) for one in saved["files"].tolist()])
    return Library(data, ids, npys, fits), made


def make_files(cache: Cache, nspec: int, name: str = "") -> tuple[Path, str]:
    """Return a folder of simulated files, made if it is not there yet, and a digest of its stamp.

    Parameters
    ----------
    name : of the scale whose files they are; empty: the one that has so many
    """
    named = {scale.nspec: scale.name for scale in (FULL, QUICK)}
    simulated = {
        "nspec": nspec,
        "seed": SEED,
        "families": FAMILIES,
        "simulator": source_digest("simulate"),
    }
    return cache.part(
        f"{name or named.get(nspec, nspec)}-files",
        simulated,
        lambda path: simulate_sdss(
            path, nspec, SEED, families=FAMILIES, full_fraction=0.0, workers=_workers(nspec)
        ),
    )


def _workers(nspec: int) -> int:
    """Return the number of processes: one more pays from some hundred spectra on."""
    return min(os.cpu_count() or 1, 1 + nspec // _NPY_PER_JOB)


def _write_npy(files: Path, folder: Path, workers: int) -> None:
    """Write each spectrum of a folder as a structured array, as ``fmt='numpy'`` returns it."""
    paths = sorted(files.rglob("spec-*.fits"))
    jobs = [paths[at : at + _NPY_PER_JOB] for at in range(0, len(paths), _NPY_PER_JOB)]
    write = partial(_write_some, folder=folder)
    if workers == 1:
        written = [write(job) for job in jobs]
    else:
        with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
            written = list(pool.map(write, jobs))
    rows = [row for some in written for row in some]
    ids = np.array([row[0] for row in rows], np.uint64)
    order = np.argsort(ids)
    np.savez(
        folder / "index.npz",
        ids=ids[order],
        ra=np.array([row[1] for row in rows])[order],
        dec=np.array([row[2] for row in rows])[order],
        files=np.array([str(path.relative_to(files)) for path in paths])[order],
    )


def _write_some(paths: Sequence[Path], folder: Path) -> list[tuple[int, float, float]]:
    """Write some spectra; return identifier and position of each."""
    dtype = np.dtype([(vector.name, vector.dtype) for vector in SDSS.record])
    rows = []
    for path in paths:
        (raw,) = SDSS.reader.read(path)
        record: npt.NDArray[Any] = np.empty(len(raw.axis), dtype)
        for vector in SDSS.record:
            own = vector.name == SDSS.grid.axis
            record[vector.name] = raw.axis if own else raw.vectors[vector.name]
        np.save(folder / f"{raw.id}.npy", record)
        rows.append((int(raw.id), float(raw.ra_deg), float(raw.dec_deg)))
    return rows


def warm(paths: Iterable[Path]) -> None:
    """Read files once, so that the page cache holds them; folders among them are passed over."""
    for path in paths:
        if path.is_file():
            path.read_bytes()
