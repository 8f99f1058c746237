"""Versions of an index: of several writers none loses what another has committed."""

import os
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from specserver.catalog.index import manifest
from specserver.catalog.index.manifest import (
    Manifest,
    PartEntry,
    commit_manifest,
    new_rows,
    newest_manifest,
)
from specserver.damage import Identity
from specserver.data.context import IndexFolder
from specserver.data.local import LocalFolder
from specserver.data.root import open_root
from specserver.errors import DamagedFile, StoreError


@pytest.fixture
def index(tmp_path: Path) -> IndexFolder:
    """Return the folder of an index that does not exist yet."""
    return open_root(tmp_path).context("mock").index


def _with(name: str, base: Manifest) -> Manifest:
    return replace(base, rows=new_rows(), parts=(*base.parts, PartEntry(name, 1)))


def test_no_index_is_version_0(index: IndexFolder) -> None:
    assert newest_manifest(index) == Manifest()
    assert commit_manifest(index, lambda _: None) == Manifest()
    assert not index.exists()


def test_a_version_is_read_as_it_was_committed(index: IndexFolder) -> None:
    made = Manifest(
        rows="abc",
        parts=(PartEntry("part-1", 10), PartEntry("part-2", 5, "marks-1.npy")),
        superseded={"part-0": 12.5},
        covers=("table 10 20",),
    )
    assert commit_manifest(index, lambda _: made) == replace(made, version=1)
    assert newest_manifest(index) == replace(made, version=1)
    assert newest_manifest(index).nrows == 15


@pytest.mark.proof
def test_of_racing_writers_each_commits_once(index: IndexFolder) -> None:
    writers, each = 8, 15
    begin = threading.Barrier(writers)

    def write(writer: int) -> None:
        begin.wait()
        for number in range(each):
            commit_manifest(index, partial(_with, f"part-{writer}-{number}"))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    newest = newest_manifest(index)
    assert newest.version == writers * each
    wanted = {f"part-{writer}-{number}" for writer in range(writers) for number in range(each)}
    assert sorted(part.name for part in newest.parts) == sorted(wanted)


def test_a_reader_that_knows_the_newest_reads_nothing(index: IndexFolder) -> None:
    known = commit_manifest(index, partial(_with, "part-1"))
    assert newest_manifest(index, known) is known
    after = commit_manifest(index, partial(_with, "part-2"))
    assert newest_manifest(index, known) == after


def test_an_index_that_is_made_again_up_to_the_same_number_is_another(index: IndexFolder) -> None:
    known = commit_manifest(index, partial(_with, "part-1"))
    index.delete()
    made = commit_manifest(index, partial(_with, "part-2"))
    assert made.version == known.version
    assert newest_manifest(index, known) == made


def test_a_reader_that_knows_the_newest_asks_for_two_files(
    index: IndexFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, asked = commit_manifest(index, partial(_with, "part-1")), list[str]()
    stamp = LocalFolder.stamp

    def counted(folder: LocalFolder, key: str) -> Identity:
        asked.append(key)
        return stamp(folder, key)

    monkeypatch.setattr(LocalFolder, "stamp", counted)
    assert newest_manifest(index, known) is known
    assert len(asked) == 2


def test_a_manifest_in_the_place_of_another_is_damaged(index: IndexFolder) -> None:
    for name in ("part-1", "part-2"):
        commit_manifest(index, partial(_with, name))
    index.manifest(2).replace(index.manifest(1).read())
    with pytest.raises(DamagedFile, match="it is of version 1"):
        newest_manifest(index)


def _age(index: IndexFolder, hours: float) -> None:
    """Make all manifests older."""
    for version in index.versions():
        path = index.manifest(version).local_path()
        changed = path.stat().st_mtime - hours * 3600
        os.utime(path, (changed, changed))


def test_old_versions_are_deleted_and_readers_of_them_find_the_newest(index: IndexFolder) -> None:
    first = commit_manifest(index, partial(_with, "part-0"))
    for number in range(1, 25):
        commit_manifest(index, partial(_with, f"part-{number}"))
    assert index.versions()[0] == 1, "they are young"
    _age(index, 2)
    newest = commit_manifest(index, partial(_with, "part-25"))
    assert index.versions() == list(range(7, 27))
    assert newest_manifest(index, first) == newest


@pytest.mark.parametrize("begun", [0, 1, 5])
def test_a_writer_that_slept_long_loses_nothing(index: IndexFolder, begun: int) -> None:
    """Its number is free again, as the version that had it is deleted."""
    for number in range(begun):
        commit_manifest(index, partial(_with, f"part-{number}"))
    seen: list[int] = []

    def slow(base: Manifest) -> Manifest:
        seen.append(base.version)
        if len(seen) == 1:
            for number in range(30):
                commit_manifest(index, partial(_with, f"other-{number}"))
            _age(index, 2)
            commit_manifest(index, partial(_with, "other-30"))
            assert not index.manifest(begun + 1).exists()
        return _with("slow", base)

    made = commit_manifest(index, slow)
    assert seen == [begun, begun + 31]
    assert newest_manifest(index) == made
    assert len(made.parts) == begun + 32
    assert index.versions() == list(range(made.version - 19, made.version + 1))


def test_a_folder_without_hard_links_has_one_winner(
    index: IndexFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    commit_manifest(index, partial(_with, "part-1"))
    entry = index.manifest(2)
    entry.create(b"first")
    with pytest.raises(FileExistsError):
        entry.create(b"second")
    assert entry.read() == b"first"


def test_a_damaged_manifest_is_never_taken_for_none(index: IndexFolder) -> None:
    for name in ("part-1", "part-2"):
        commit_manifest(index, partial(_with, name))
    path = index.manifest(2).local_path()
    path.write_text(path.read_text().replace("part-2", "part-3"))
    with pytest.raises(DamagedFile, match="00000002"):
        newest_manifest(index)
    with pytest.raises(DamagedFile):
        commit_manifest(index, partial(_with, "part-4"))
    made = commit_manifest(index, partial(_with, "part-5"), anew=True)
    assert (made.version, [part.name for part in made.parts]) == (3, ["part-5"])
    assert newest_manifest(index) == made


def test_a_newer_format_is_refused(index: IndexFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_manifest(index, lambda base: _with("part-1", replace(base, format=99)))
    with pytest.raises(StoreError, match="format 99 is newer"):
        newest_manifest(index)
    assert manifest._FORMAT < 99


@pytest.mark.parametrize("kind", ["link", "folder", "no folder", "no folder at a link"])
def test_what_is_in_the_place_of_a_manifest_is_an_error(index: IndexFolder, kind: str) -> None:
    """It was taken for that of another writer, for ever."""
    place = index.manifest(2).local_path()
    if kind in {"link", "folder"}:
        commit_manifest(index, partial(_with, "part-1"))
        place.symlink_to("nowhere") if kind == "link" else place.mkdir()
    else:
        place.parent.parent.mkdir(parents=True)
        place.parent.symlink_to("nowhere") if "link" in kind else place.parent.touch()
    with pytest.raises((DamagedFile, NotADirectoryError), match=r"manifest"):
        commit_manifest(index, partial(_with, "part-2"))
    if kind == "link":
        with pytest.raises(DamagedFile, match=r"00000002.json"):
            newest_manifest(index)
        assert commit_manifest(index, partial(_with, "part-2"), anew=True).version == 3
