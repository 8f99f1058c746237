"""A data folder that version 0.1.0 wrote: it opens, verifies and answers as it did."""

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from killing import faults, migrate_with_kills
from old_folder import ask_all, ask_sdss, old_answers, old_token, unpack_old_folder
from serving import Served, serve

BEHIND, BARE = "sdss_dr16", "sdss_dr15"
"""Copies of the first survey's context: its index lacks a segment; it has no index."""


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of the old folder and of the copies."""
    data = unpack_old_folder(tmp_path_factory.mktemp("old"))
    for name in (BEHIND, BARE):
        shutil.copytree(data / "sdss_dr17", data / name)
    current = data / BEHIND / "index" / "CURRENT"
    (former,) = {path.name for path in current.parent.glob("gen-*")} - {current.read_text()}
    current.write_text(former)
    shutil.rmtree(data / BARE / "index")
    with serve(data, data) as running:
        yield running


def test_an_old_folder_is_served_as_it_was(old: Served) -> None:
    assert ask_all(old.url, old_token(), "sdss_dr17") == old_answers()


@pytest.mark.parametrize("context", [BEHIND, BARE])
def test_an_old_folder_without_a_whole_index_is_served_as_it_was(old: Served, context: str) -> None:
    assert ask_sdss(old.url, context) == _sdss_answers()


def _sdss_answers() -> dict[str, str]:
    return {name: told for name, told in old_answers().items() if name.startswith("sdss: ")}


def test_an_old_folder_is_verified(old: Served) -> None:
    assert faults(old.data) == []


@pytest.mark.proof
def test_an_old_folder_is_migrated_while_it_is_served(old: Served) -> None:
    """Of the migrations one is killed; with `make kills` many are."""
    contexts = ("sdss_dr17", "desi_edr")
    assert migrate_with_kills(old.url, old.data, contexts, random.Random(7), 1) == 1


@pytest.mark.proof
def test_a_process_ends_after_the_index_that_it_makes_again(tmp_path: Path) -> None:
    data = unpack_old_folder(tmp_path)
    words = [sys.executable, "-m", "specserver", "info", "--data", str(data)]
    told = [subprocess.run(words, capture_output=True, text=True, check=False) for _ in range(2)]
    assert [done.returncode for done in told] == [0, 0]
    assert not any("nanobind" in done.stderr for done in told)
    assert "desi_edr.widths: its index was made again" in told[0].stderr
    assert "made again" not in told[1].stderr
