"""A data folder in an object store, and a Dask cluster: each worker has a cache of its own."""

import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import dask
import numpy as np
import pytest
from benchmarks.s3server import BUCKET, S3Server
from dask.distributed import Client

import specserver
from specserver.data.remote import options
from specserver.data.remote.options import CacheOptions
from specserver.data.remote.store import ObjectStore
from specserver.data.root import open_root
from specserver.errors import IngestError
from specserver.ingest import run_ingest
from specserver.ingest.dask_worker import IngestOnWorker
from specserver.ingest.decisions import IngestOptions
from specserver.ingest.on_dask import DaskExecutor
from specserver.ingest.surroundings import Surroundings
from test_ingest_dask import cluster_of

CONTEXT = "sdss_dr17"


@pytest.fixture
def url(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of a data folder that does not exist yet."""
    monkeypatch.setenv("SPECSERVER_CACHE", str(tmp_path / "command"))
    return f"s3://{BUCKET}/{uuid4().hex}"


@contextmanager
def worker_with(cache: Path) -> Iterator[Client]:
    """Start a cluster of one process, whose environment names its cache."""
    with cluster_of(1, processes=True, env={"SPECSERVER_CACHE": str(cache)}) as client:
        yield client


def test_a_cache_that_is_given_stays_in_its_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ObjectStore("s3://bucket/folder", 0.5, CacheOptions(str(tmp_path / "given"), 7))
    sent = pickle.dumps(store)
    assert pickle.loads(sent) == store
    monkeypatch.setenv("SPECSERVER_CACHE", str(tmp_path / "usual"))
    monkeypatch.setenv("SPECSERVER_CACHE_BYTES", "9")
    code = (
        "import pickle, sys; store = pickle.load(sys.stdin.buffer);"
        " print(store.url, store.look_s, store.cache.folder, store.cache.nbytes)"
    )
    done = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)
    assert done.stdout.decode().split() == [store.url, "0.5", str(tmp_path / "usual"), "9"]


@pytest.mark.proof
def test_an_ingest_uses_the_cache_of_its_workers(
    url: str, tmp_path: Path, mock_survey: Path
) -> None:
    files = sorted(mock_survey.rglob("spec-*.fits"))[:6]
    with worker_with(tmp_path / "worker") as client:
        done = run_ingest(open_root(url), CONTEXT, files, executor=DaskExecutor(client))
    assert (done.stored, done.nrefused) == (6, 0)
    assert (tmp_path / "worker" / "files").is_dir()


@pytest.mark.proof
def test_arrays_and_composites_use_the_cache_of_the_workers(
    url: str, tmp_path: Path, mock_survey: Path
) -> None:
    files = sorted(mock_survey.rglob("spec-*.fits"))[:6]
    run_ingest(open_root(url), CONTEXT, files, workers=1)
    folder = specserver.open(url)
    flux = folder.to_xarray(CONTEXT, ["flux"]).flux
    with dask.config.set(scheduler="threads"):
        here, mean = flux.to_numpy(), folder.stack(CONTEXT, frame="observed")
    for name in ("arrays", "composite"):
        with worker_with(tmp_path / name) as client, dask.config.set(scheduler=client):
            if name == "arrays":
                assert flux.to_numpy().tobytes() == here.tobytes()
            else:
                found = folder.stack(CONTEXT, frame="observed")
                np.testing.assert_array_equal(found.flux, mean.flux)
        assert (tmp_path / name / "ranges").is_dir()


@pytest.mark.proof
def test_a_worker_that_cannot_keep_copies_is_named(
    url: str, tmp_path: Path, mock_survey: Path
) -> None:
    (tmp_path / "file").touch()
    files = sorted(mock_survey.rglob("spec-*.fits"))[:2]
    with worker_with(tmp_path / "file" / "cache") as client, pytest.raises(IngestError) as raised:
        run_ingest(open_root(url), CONTEXT, files, executor=DaskExecutor(client))
    told = raised.value.message
    assert f"cannot use the data folder {url} (" in told
    assert f"{tmp_path / 'file' / 'cache'}: copies of objects cannot be kept here" in told
    assert "give it the variables of the object store, and SPECSERVER_CACHE" in told
    assert "StoreError" not in told


def test_a_cache_that_is_misspelt_at_the_worker_is_named(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = IngestOptions(open_root(url), CONTEXT, "0a1b2c3d", frozenset(), False, False)
    sent = pickle.dumps(IngestOnWorker(Surroundings(given, b"", ())))
    monkeypatch.setattr(options, "_THIS", "another process")
    monkeypatch.setenv("SPECSERVER_CACHE_BYTES", "20 GB")
    assert "SPECSERVER_CACHE_BYTES" in pickle.loads(sent).fault()
