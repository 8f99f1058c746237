"""The scripts of the page for operators: a copy that is made during an ingest is whole."""

import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from forked import Forked, run_shell
from fronting import program
from pages import ROOT, blocks
from specserver.auth import TokenBook, is_private, set_private
from specserver.data.root import open_root
from specserver.data.user_storage import StorageLimits
from specserver.ingest import run_ingest
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest

PAGE = ROOT / "docs" / "how-to" / "operate.md"
SCRIPTS = {title: text for _, title, text, _ in blocks(PAGE) if title}
CONTEXT = "sdss_dr17"
FIRST = 60
"""Files that are ingested before the first copy."""
ROOMY = StorageLimits(10**9, 1000, 10**8)


def run_script(name: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the page, whose folders are below another one."""
    text = SCRIPTS[name]
    for top in ("/data/", "/backup/"):
        text = text.replace(top, f"{folder}{top}")
    done = run_shell(text, os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def all_ids(service: SpectroscopicService) -> list[int]:
    asked = QueryRequest(CONTEXT, None, "", (), primary=False)
    ids: list[int] = service.query(asked).column(0).to_pylist()
    return ids


@pytest.mark.proof
def test_a_copy_made_during_an_ingest_is_restored(mock_survey: Path, tmp_path: Path) -> None:
    program("rsync")
    files = sorted(mock_survey.rglob("*.fits"))
    path = tmp_path / "data" / "specserver"
    data = open_root(path)
    run_ingest(data, CONTEXT, files[:FIRST], workers=1)
    token = TokenBook(data).create("ada", now=datetime.now(UTC))
    draft = data.user_storage("ada", ROOMY).draft("notes.txt", 5)
    draft.write(b"hello")
    draft.commit()
    run_script("backup.sh", tmp_path)
    before = SpectroscopicService(data)
    ids = all_ids(before)
    wanted = list(before.read(before.resolve(ids, CONTEXT)))
    # One process after the other, so that there are several commits.
    words = [["ingest", CONTEXT, *files[at : at + 45], "--data", path, "--workers", 1]
             for at in range(FIRST, len(files), 45)]  # fmt: skip
    copied = 0
    for some in words:
        ingest = Forked(some, env=os.environ)
        while ingest.poll() is None:
            run_script("backup.sh", tmp_path)
            copied += 1
        assert ingest.wait() == 0
    assert copied >= len(words)
    shutil.rmtree(path)

    told = run_script("restore.sh", tmp_path)
    assert "damaged" not in told.stdout + told.stderr
    restored = open_root(tmp_path / "data" / "restored")
    service = SpectroscopicService(restored)
    assert set(ids) <= set(all_ids(service))
    got = service.read(service.resolve(ids, CONTEXT))
    assert all(np.array_equal(one, two) for one, two in zip(got, wanted, strict=True))
    assert TokenBook(restored).caller(token, datetime.now(UTC)).user == "ada"
    file, _ = restored.user_storage("ada", ROOMY).open("notes.txt")
    with file:
        assert file.read() == b"hello"
    # What the ingest stored after the last copy is stored again, and nothing twice.
    run_ingest(restored, CONTEXT, files, workers=1)
    again = all_ids(SpectroscopicService(restored))
    assert len(again) == len(set(again)) >= len(ids)


@pytest.mark.parametrize("lost", ["index", "nothing"])
def test_a_private_release_stays_private_in_a_copy(
    lost: str, mock_data: Path, tmp_path: Path
) -> None:
    program("rsync")
    path = tmp_path / "data" / "specserver"
    shutil.copytree(mock_data, path)
    set_private(open_root(path), CONTEXT, private=True)
    run_script("backup.sh", tmp_path)
    if lost == "index":
        shutil.rmtree(tmp_path / "backup" / "specserver" / CONTEXT / "index")
    run_script("restore.sh", tmp_path)
    restored = open_root(tmp_path / "data" / "restored")
    assert is_private(restored, CONTEXT)
    folder = tmp_path / "data" / "restored" / CONTEXT
    assert folder.stat().st_mode & 0o077 == 0
    service = SpectroscopicService(restored)
    assert all_ids(service) == all_ids(SpectroscopicService(open_root(path)))
