"""Which contexts a data folder holds: seen at once, however often it was looked before."""

import errno
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import specserver
from specserver.cli.main import app
from specserver.data.context import SegmentFolder
from specserver.data.root import DataRoot, open_root
from specserver.store.layout import SegmentInfo, commit_segment
from specserver.store.trees import TreeInfo, remove_tree, write_tree


def _commit(data: DataRoot, context: str) -> SegmentFolder:
    """Commit an empty segment."""
    segment = data.context(context).new_segment("0a1b2c3d")
    commit_segment(segment, SegmentInfo(segment.name, context, "mock", 0, True, 0, "test"))
    return segment


def test_no_folder_has_no_contexts(tmp_path: Path) -> None:
    assert open_root(tmp_path / "absent").contexts() == set()
    file = tmp_path / "file"
    file.touch()
    assert open_root(file).contexts() == set()


@pytest.mark.parametrize("spelling", ["data/", "./data", "sub/../data", "sub//..//data/", "data"])
def test_every_spelling_of_a_path_is_written_and_read(
    mock_survey: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    files = sorted(mock_survey.rglob("spec-*.fits"))[:2]
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    text = ["ingest", "sdss_dr17", *map(str, files), "--workers", "1", "--data", spelling]
    assert (done := CliRunner().invoke(app, text)).exit_code == 0, done.output
    assert (done := CliRunner().invoke(app, ["verify", "--data", spelling])).exit_code == 0
    assert "2 spectra" in done.output
    spectra = specserver.open(spelling).to_xarray("sdss_dr17")
    monkeypatch.chdir(tmp_path / "sub")
    assert spectra.flux.compute().shape[0] == 2


def test_a_path_through_a_link_and_back_is_that_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "far" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far" / "inner")
    assert open_root(tmp_path / "link" / ".." / "data").local_path() == tmp_path / "far" / "data"


def test_a_context_is_there_from_its_first_commit_on(tmp_path: Path) -> None:
    root = open_root(tmp_path)
    (tmp_path / "a file").touch()
    begun = root.context("one").new_segment("0a1b2c3d")
    assert root.contexts() == set()
    info = SegmentInfo(begun.name, "one", "mock", 0, True, 0, "test")
    commit_segment(begun, info)
    assert root.contexts() == {"one"}
    assert root.contexts() == {"one"}
    _commit(root, "two")
    assert root.contexts() == {"one", "two"}


def test_a_segment_is_committed_once(tmp_path: Path) -> None:
    segment = _commit(open_root(tmp_path), "one")
    record = segment.record.read()
    info = SegmentInfo(segment.name, "one", "mock", 0, True, 7, "another writer")
    with pytest.raises(FileExistsError):
        commit_segment(segment, info)
    assert segment.record.read() == record


def test_a_segment_is_committed_on_a_disk_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, _target: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", str(path))

    monkeypatch.setattr(Path, "hardlink_to", refused)
    assert _commit(open_root(tmp_path), "one").is_committed()


def test_a_context_goes_with_its_last_segment(tmp_path: Path) -> None:
    root = open_root(tmp_path)
    first, second = _commit(root, "one"), _commit(root, "one")
    assert root.contexts() == {"one"}
    first.delete()
    assert root.contexts() == {"one"}
    second.delete()
    assert root.contexts() == set()
    _commit(root, "one")
    assert root.contexts() == {"one"}
    shutil.rmtree(tmp_path / "one")
    assert root.contexts() == set()


def test_a_tree_is_there_while_it_is_declared(tmp_path: Path) -> None:
    root = open_root(tmp_path)
    assert root.contexts() == set()
    write_tree(root.context("one"), TreeInfo("one", "/files", ("v1",), 0))
    assert root.contexts() == {"one"}
    remove_tree(root.context("one"))
    assert root.contexts() == set()
