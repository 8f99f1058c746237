"""Fixtures that every test may use."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving import Served, serve
from specserver.ingest import run_ingest
from specserver.simulate import simulate_sdss


def find_real_spectra() -> Path | None:
    """Return the folder of real survey files, or None where this machine has none."""
    named = os.environ.get("SPECSERVER_TEST_SPECTRA")
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "spectra"
    return folder if (folder / "MANIFEST.csv").is_file() else None


@pytest.fixture(scope="session")
def real_spectra() -> Path:
    """The folder of real survey files; the test skips where there is none."""
    folder = find_real_spectra()
    if folder is None:
        pytest.skip("no real spectra: set SPECSERVER_TEST_SPECTRA to a folder with MANIFEST.csv")
    return folder


@pytest.fixture(scope="session")
def mock_survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of simulated files of all families, some of them full."""
    folder = tmp_path_factory.mktemp("mock")
    simulate_sdss(folder, 150, seed=11, full_fraction=0.1)
    return folder


@pytest.fixture(scope="session")
def mock_data(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the mock survey."""
    data = tmp_path_factory.mktemp("mock-data") / "data"
    run_ingest(data, "sdss_dr17", [mock_survey], workers=1)
    return data


@pytest.fixture(scope="session")
def served(mock_data: Path, mock_survey: Path) -> Iterator[Served]:
    """A running service over the mock survey."""
    with serve(mock_data, mock_survey) as running:
        yield running


@pytest.fixture(scope="session")
def real_data(real_spectra: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the real SDSS files."""
    data = tmp_path_factory.mktemp("real-data") / "data"
    run_ingest(data, "sdss_dr17", [real_spectra / "sdss"], workers=1)
    return data


@pytest.fixture(scope="session")
def real_served(real_data: Path, real_spectra: Path) -> Iterator[Served]:
    """A running service over the real SDSS files, with two processes that answer."""
    with serve(real_data, real_spectra / "sdss", workers=2) as running:
        yield running
