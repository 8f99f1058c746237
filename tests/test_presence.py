"""Which contexts a data folder holds: seen at once, however often it was looked before."""

import shutil
from pathlib import Path

from specserver.store.layout import SegmentInfo, commit_segment, new_segment
from specserver.store.presence import Presence
from specserver.store.trees import TreeInfo, remove_tree, write_tree


def _commit(data: Path, context: str) -> Path:
    """Commit an empty segment."""
    segment = new_segment(data, context)
    commit_segment(segment, SegmentInfo(segment.name, context, "mock", 0, True, 0, "test"))
    return segment


def test_no_folder_has_no_contexts(tmp_path: Path) -> None:
    assert Presence(tmp_path / "absent").contexts() == set()
    file = tmp_path / "file"
    file.touch()
    assert Presence(file).contexts() == set()


def test_a_context_is_there_from_its_first_commit_on(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    (tmp_path / "a file").touch()
    begun = new_segment(tmp_path, "one")
    assert presence.contexts() == set()
    info = SegmentInfo(begun.name, "one", "mock", 0, True, 0, "test")
    commit_segment(begun, info)
    assert presence.contexts() == {"one"}
    assert presence.contexts() == {"one"}
    _commit(tmp_path, "two")
    assert presence.contexts() == {"one", "two"}


def test_a_context_goes_with_its_last_segment(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    first, second = _commit(tmp_path, "one"), _commit(tmp_path, "one")
    assert presence.contexts() == {"one"}
    shutil.rmtree(first)
    assert presence.contexts() == {"one"}
    shutil.rmtree(second)
    assert presence.contexts() == set()
    _commit(tmp_path, "one")
    assert presence.contexts() == {"one"}
    shutil.rmtree(tmp_path / "one")
    assert presence.contexts() == set()


def test_a_tree_is_there_while_it_is_declared(tmp_path: Path) -> None:
    presence = Presence(tmp_path)
    assert presence.contexts() == set()
    write_tree(tmp_path, TreeInfo("one", "/files", ("v1",), 0))
    assert presence.contexts() == {"one"}
    remove_tree(tmp_path, "one")
    assert presence.contexts() == set()
