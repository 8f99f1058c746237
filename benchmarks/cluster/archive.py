"""The spectra of the cluster: files, their ingest with a worker that dies, and what is right."""

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from distributed import Client

from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest
from specserver.surveys.sdss import SDSS

from ..processes import uninterrupted
from .clients import Questions, digest_of
from .parts import ADDRESS, Parts, Program

_INGEST_S: Final = 1800.0
_WORK_S: Final = 120.0
_PER_JOB: Final = 50


@dataclass(frozen=True)
class Ingested:
    """What an ingest printed, and which worker died in it."""

    summary: dict[str, Any]
    seconds: float
    killed: str
    """Name of the worker; empty: none."""


def ingest(
    parts: Parts,
    context: str,
    files: Path,
    kill_after_s: float | None,
    say: Callable[[str], None] = lambda _: None,
) -> Ingested:
    """Ingest files through Dask into the object store, with the catalogue in PostgreSQL.

    Parameters
    ----------
    kill_after_s : time after which a worker that reads files is killed, and another one started;
        None: none is
    """
    begun = monotonic()
    command = ["specserver", "ingest", context, str(files), "--json", "--data", ADDRESS]
    command += ["--catalog", parts.database.url, "--dask", parts.scheduler_address]
    running = parts.begin(command)
    killed = "" if kill_after_s is None else _kill_worker(parts, running, kill_after_s)
    if killed:
        say(f"killed {killed} (kill -9) after {monotonic() - begun:.1f} s of the ingest")
        parts.start_worker("worker-3")
        say("started worker-3")
    printed = running.result(_INGEST_S)
    return Ingested(json.loads(printed), monotonic() - begun, killed)


def _kill_worker(parts: Parts, running: Program, after_s: float) -> str:
    """Kill a worker that has read files for some time; return its name, '' if all are idle."""
    with ExitStack() as stack:
        # A client that is interrupted while it connects waits for a minute when it is collected.
        with uninterrupted():
            client = stack.enter_context(Client(parts.scheduler_address, set_as_default=False))
        deadline = monotonic() + _WORK_S
        while not (busy := _busy(client)):
            if not running.is_running or monotonic() > deadline:
                return ""
            sleep(0.02)
        sleep(after_s)
        busy = _busy(client) or busy
    name = busy[0]
    parts.workers.pop(name).kill()
    return name


def _busy(client: Client) -> list[str]:
    """Return the names of workers that read a part."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [
        str(workers[address]["name"])
        for address, tasks in client.processing().items()
        if address in workers and any(str(task).startswith("ingest_part") for task in tasks)
    ]


def read_questions(
    url: str, context: str, files: Path, most: int, nconditions: int, seed: int
) -> Questions:
    """Return what clients may ask, with the right answers, of files and of the data folder's index.

    Parameters
    ----------
    most : spectra that are read from their files
    """
    rng = np.random.default_rng(seed)
    paths = sorted(files.rglob("spec-*.fits"))
    chosen = rng.choice(len(paths), min(most, len(paths)), replace=False)
    some = [paths[each] for each in sorted(chosen.tolist())]
    jobs = [some[at : at + _PER_JOB] for at in range(0, len(some), _PER_JOB)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        digests = dict(pair for pairs in pool.map(_digests, jobs) for pair in pairs)
    lows = rng.uniform(0.01, 1.0, nconditions).round(4).tolist()
    conditions = [f"z between {low} and {low + 0.01:.4f}" for low in lows]
    conditions += [f"class = '{each}' and z < 0.02" for each in ("GALAXY", "STAR", "QSO")]
    service = SpectroscopicService(open_root(ADDRESS))
    held = {each: digest_of(_ids_of(service, context, each)) for each in conditions}
    ids = np.array(sorted(digests), np.uint64)
    return Questions(url, context, ids, digests, held)


def _ids_of(service: SpectroscopicService, context: str, constraint: str) -> npt.NDArray[np.uint64]:
    """Return the identifiers that the index finds, sorted."""
    asked = QueryRequest(context, constraint=constraint, fields=("specobjid",), primary=False)
    found = service.query(asked).column(0).to_numpy(zero_copy_only=False)
    return np.sort(np.asarray(found, np.uint64))


def _digests(paths: Sequence[Path]) -> list[tuple[int, str]]:
    """Return identifiers and digests of the spectra of some files, read by the survey's reader."""
    dtype = np.dtype([(vector.name, vector.dtype) for vector in SDSS.record])
    found = []
    for path in paths:
        (raw,) = SDSS.reader.read(path)
        record: npt.NDArray[Any] = np.empty(len(raw.axis), dtype)
        for vector in SDSS.record:
            own = vector.name == SDSS.grid.axis
            record[vector.name] = raw.axis if own else raw.vectors[vector.name]
        found.append((int(raw.id), digest_of(record)))
    return found


def faults_of_counts(questions: Questions, nspec: int) -> list[str]:
    """Return what is wrong with the identifiers that the database has; empty: each is there once.

    Parameters
    ----------
    nspec : number of files
    """
    client = SpecClient(questions.context, svc_url=questions.url)
    ids = client.query(primary=False, constraint="z > -1e9")
    found = []
    if len(ids) != nspec:
        found.append(f"{nspec} files, but {len(ids)} spectra")
    if len(np.unique(ids)) != len(ids):
        found.append(f"{len(ids) - len(np.unique(ids))} spectra are there more than once")
    lost = np.setdiff1d(questions.ids, ids)
    if len(lost):
        found.append(f"{len(lost)} spectra are not there")
    service = SpectroscopicService(open_root(ADDRESS))
    if not np.array_equal(np.sort(ids), _ids_of(service, questions.context, "z > -1e9")):
        found.append("the database and the index in the data folder have other spectra")
    return found


def faults_of_values(questions: Questions) -> int:
    """Return how many of the spectra that were read differ from their files, fetched anew."""
    client = SpecClient(questions.context, svc_url=questions.url)
    nwrong = 0
    for some in np.array_split(questions.ids, max(1, len(questions.ids) // 200)):
        for number, spectrum in zip(some.tolist(), client.getSpec(some), strict=True):
            nwrong += digest_of(spectrum) != questions.digests[number]
    return nwrong
