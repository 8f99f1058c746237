"""What killed processes leave is never read in place of what was committed."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from astropy.io import fits

import specserver
from specserver.catalog.index import build, commit
from specserver.catalog.index.build import refresh_index
from specserver.catalog.index.manifest import newest_manifest
from specserver.catalog.opening import count_rows
from specserver.data.context import ContextFolder, RecordedFolder
from specserver.data.root import open_root
from specserver.errors import CatalogError
from specserver.ingest import run_ingest
from specserver.ingest.maintain import maintain
from specserver.surveys import find_release
from test_ingest import faults
from test_maintain import CONTEXT, folder

COMMITTED, KILLED = 2.0, 3.0


@pytest.fixture(scope="module")
def made(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which an ingest was killed before its commit; another has its spectrum."""
    top = tmp_path_factory.mktemp("uncommitted")
    first, other = sorted(mock_survey.rglob("spec-*.fits"))[:2]
    data = open_root(top / "data")
    run_ingest(data, CONTEXT, [other], workers=1)

    def overtaken(*_: Any) -> None:
        patch.undo()
        assert run_ingest(data, CONTEXT, [filled(first, top, COMMITTED)], workers=1).stored == 1
        sys.exit()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commit, "commit_manifest", overtaken)
        with pytest.raises(SystemExit):
            run_ingest(data, CONTEXT, [filled(first, top, KILLED)], workers=1)
    return top / "data"


def filled(file: Path, folder: Path, value: float) -> Path:
    """Return a copy of a file with one flux."""
    copy = folder / str(value) / file.name
    copy.parent.mkdir()
    with fits.open(file) as units:
        units[1].data["flux"][:] = value
        units.writeto(copy)
    return copy


@pytest.fixture
def data(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "data"))


def constants(data: Path) -> list[float]:
    """Return the flux of each spectrum that has only one, as readers get it."""
    flux = specserver.open(data).to_xarray(CONTEXT, ["flux"]).flux.values
    values = [np.unique(some[some != 0]) for some in flux]
    return [float(some[0]) for some in values if len(some) == 1]


def killed(data: Path) -> Path:
    """Return the segment that was not committed; its name is before that of the other."""
    _, left, committed = sorted((data / CONTEXT).glob("seg-*"))
    assert left.name < committed.name
    return left


def damage_columns(data: Path) -> None:
    index = folder(data).index
    for entry in newest_manifest(index).parts:
        index.part(entry.name).core.replace(b"damaged")


def damage_record(data: Path) -> None:
    index = folder(data).index
    index.part(newest_manifest(index).parts[-1].name).record.replace(b"damaged")


def damage_manifest(data: Path) -> None:
    index = folder(data).index
    index.manifest(index.versions()[-1]).replace(b"damaged")


def test_opening_leaves_a_segment_that_was_not_committed(data: Path) -> None:
    before = newest_manifest(folder(data).index)
    assert constants(data) == [COMMITTED]
    assert newest_manifest(folder(data).index) == before
    left = killed(data)
    assert maintain(open_root(data), CONTEXT).committed == 0
    assert not left.exists()
    assert constants(data) == [COMMITTED]
    assert faults(data) == []


@pytest.mark.parametrize("damage", [damage_columns, damage_record, damage_manifest])
def test_an_index_made_anew_answers_what_was_committed(
    data: Path, damage: Callable[[Path], None]
) -> None:
    damage(data)
    assert constants(data) == [COMMITTED]
    assert maintain(open_root(data), CONTEXT).committed == 0
    assert constants(data) == [COMMITTED]


def test_where_a_version_is_lost_all_that_is_complete_is_taken_in(data: Path) -> None:
    context = folder(data)
    context.index.manifest(context.index.versions()[-1]).delete()
    assert refresh_index(context, find_release(CONTEXT)[0], lost=True)
    assert {*context.segments()} == count_rows(context.index)[1]
    assert constants(data) == [COMMITTED]


def stopped(*_: object) -> None:
    """The process is killed when it has deleted the first file of a folder."""
    sys.exit()


def test_a_segment_whose_deletion_was_cut_off_is_not_read(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", stopped)
        with pytest.raises(SystemExit):
            maintain(open_root(data), CONTEXT)
    assert maintain(open_root(data), CONTEXT).removed == 1
    assert constants(data) == [COMMITTED]
    assert faults(data) == []


@pytest.mark.parametrize("gone", ["cube.zarr/zarr.json", "objects.parquet"])
def test_a_segment_that_lacks_a_file_is_not_taken_in(data: Path, gone: str) -> None:
    """An older version may have been killed while it deleted it."""
    left = killed(data)
    (left / gone).unlink()
    assert maintain(open_root(data), CONTEXT).committed == 0
    damage_columns(data)
    assert constants(data) == [COMMITTED]
    assert any(left.name in fault for fault in faults(data))


def recorded(context: ContextFolder) -> Iterator[RecordedFolder]:
    yield context.segment("seg-000001")
    yield context.index.part("part-01234567-01234567")
    yield context.index.generation("gen-0123456789ab")


@pytest.mark.parametrize("number", range(3))
def test_a_record_is_deleted_before_the_rest(
    tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = [*recorded(folder(tmp_path))][number]
    for name in ("a.npy", there.record.name, "z.npy"):
        there.entry(name).replace(b"x")
    monkeypatch.setattr(shutil, "rmtree", stopped)
    with pytest.raises(SystemExit):
        there.delete()
    assert there.children() == ["a.npy", "z.npy"]


def test_no_index_is_made_of_a_context_that_was_deleted_meanwhile(tmp_path: Path) -> None:
    context = open_root(tmp_path).context(CONTEXT)
    with pytest.raises(CatalogError, match="deleted meanwhile"):
        next(build._context_parts(context, find_release(CONTEXT)[0], False, Mock()))
