"""Which contexts a data folder holds: seen at once, however often it was looked before."""

import shutil
from pathlib import Path

from specserver.data.context import SegmentFolder
from specserver.data.root import DataRoot, open_root
from specserver.store.layout import SegmentInfo, commit_segment
from specserver.store.trees import TreeInfo, remove_tree, write_tree


def _commit(data: DataRoot, context: str) -> SegmentFolder:
    """Commit an empty segment."""
    segment = data.context(context).new_segment()
    commit_segment(segment, SegmentInfo(segment.name, context, "mock", 0, True, 0, "test"))
    return segment


def test_no_folder_has_no_contexts(tmp_path: Path) -> None:
    assert open_root(tmp_path / "absent").contexts() == set()
    file = tmp_path / "file"
    file.touch()
    assert open_root(file).contexts() == set()


def test_a_context_is_there_from_its_first_commit_on(tmp_path: Path) -> None:
    root = open_root(tmp_path)
    (tmp_path / "a file").touch()
    begun = root.context("one").new_segment()
    assert root.contexts() == set()
    info = SegmentInfo(begun.name, "one", "mock", 0, True, 0, "test")
    commit_segment(begun, info)
    assert root.contexts() == {"one"}
    assert root.contexts() == {"one"}
    _commit(root, "two")
    assert root.contexts() == {"one", "two"}


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
