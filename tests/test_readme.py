"""The README's session, run as a stranger would: every line, every number."""

import doctest
from pathlib import Path

import pytest

from serving import serve
from specserver.ingest import run_ingest
from specserver.simulate import simulate_sdss

README = Path(__file__).parents[1] / "README.md"


def test_the_first_session_gives_what_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The demonstration's own survey (2,000 spectra, seed 1) stands behind it."""
    simulate_sdss(tmp_path / "mock", 2000, workers=1)
    run_ingest(tmp_path / "data", "sdss_dr17", [tmp_path / "mock"], workers=2)
    with serve(tmp_path / "data", tmp_path / "mock") as running:
        monkeypatch.setenv("SPECSERVER_URL", running.url)
        failed, tried = doctest.testfile(
            str(README), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
        )
    assert tried > 15
    assert failed == 0
