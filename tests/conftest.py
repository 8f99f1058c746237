"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest


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
