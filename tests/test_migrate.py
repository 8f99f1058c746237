"""Segments of an older format are rewritten while they are served, whenever a migration is killed.

The folder is the one that version 0.1.0 wrote: its segments are of format 1.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from commands import command
from old_folder import ask_all, old_answers, old_token, unpack_old_folder
from serving import serve
from specserver.damage import damaged_files
from specserver.data.context import ContextFolder
from specserver.data.local import LocalFolder
from specserver.data.root import open_root
from specserver.errors import IngestError
from specserver.ingest.verify import verify
from specserver.service import QueryRequest, SpectroscopicService
from specserver.store.layout import list_segments
from specserver.store.migration import MigrationPlan, migrate, remove_leftovers
from specserver.store.zarr import Segment, open_segment
from stored import flip_chunks

CONTEXTS = ("sdss_dr17", "desi_edr", "my_survey")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The old folder, which nobody changes."""
    return unpack_old_folder(tmp_path_factory.mktemp("old"))


@pytest.fixture
def old(unpacked: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(unpacked, tmp_path / "data"))


def formats(context: ContextFolder) -> set[int]:
    """Return the formats of the segments of a context."""
    return {info.format_version for info in list_segments(context)}


def leftovers(data: Path) -> list[Path]:
    """Return all arrays that no commit record means."""
    return [
        arrays
        for record in data.glob("*/seg-*/segment.json")
        for arrays in record.parent.glob("*.zarr")
        if (arrays.name == "cube.zarr") != (json.loads(record.read_text())["format_version"] == 2)
    ]


def faults(data: Path) -> list[str]:
    """Return what ``verify`` finds."""
    return [fault for found in verify(open_root(data)) for fault in found.faults]


def read_all(service: SpectroscopicService, context: str) -> bytes:
    """Return the bits of all spectra of a context with all vectors, and of their frames."""
    name = service.archive.survey(context).id_column.name
    found = service.query(QueryRequest(context, fields=(name,), primary=False))
    selection = service.resolve(sorted(set(found.column(name).to_pylist())), context)
    survey = service.archive.survey(context)
    vectors = [vector.name for vector in (*survey.record, *survey.extra)]
    return b"".join(spectrum.tobytes() for spectrum in service.read(selection, vectors))


@pytest.mark.proof
def test_the_answers_of_a_migrated_folder_are_the_same(old: Path) -> None:
    with serve(old, old) as running:
        said = command("migrate", *CONTEXTS, "--data", old, "--grace", 0)
        assert ask_all(running.url, old_token(), "sdss_dr17") == old_answers()
    assert "sdss_dr17" in said
    for name in CONTEXTS:
        assert formats(open_root(old).context(name)) == {2}
    assert leftovers(old) == []
    assert faults(old) == []


def test_what_is_said(old: Path) -> None:
    said = command("migrate", "sdss_dr17", "--data", old, "--grace", 0)
    segments = len(open_root(old).context("sdss_dr17").segments())
    assert f"in {segments} segments" in said
    assert "of space for some time" in said
    again = command("migrate", "sdss_dr17", "--data", old, "--json")
    assert f'"segments": 0, "already": {segments}' in again
    assert "spectra are stored in" in command("migrate", "sdss_dr7", "--data", old, code=2)
    assert "--grace" in command("migrate", "--help")


def test_new_arrays_are_the_old_ones_bit_for_bit(old: Path) -> None:
    context = open_root(old).context("desi_edr")
    before = {name: Segment(context.segment(name)) for name in context.segments()}
    told = {
        name: segment.request(segment.vectors, np.arange(segment.nspec), segment.window)()
        for name, segment in before.items()
    }
    migrate(context, grace_s=0)
    for name, segment in before.items():
        now = open_segment(context.segment(name))
        assert now.arrays != segment.arrays
        for stored in (now, segment):
            rows = np.arange(stored.nspec)
            found = stored.request(stored.vectors, rows, stored.window)()
            assert {vector: found[vector].tobytes() for vector in found} == {
                vector: told[name][vector].tobytes() for vector in found
            }
            assert not stored.unreadable(stored.vectors, rows).any()
        assert (now.ids.tobytes(), now.first.tobytes()) == (
            segment.ids.tobytes(),
            segment.first.tobytes(),
        )
    assert damaged_files(old) == []


def test_a_clock_that_is_turned_back_delays_no_longer_than_the_grace(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(time, "time", lambda: 1e9)
    migrate(open_root(old).context("my_survey"), grace_s=5)
    assert set(slept) == {5}


class Killed(BaseException):
    """Stands for the end of the process."""


def killed_after(context: ContextFolder, steps: int) -> int | None:
    """Migrate; end before a step. Return the steps left if the migration came to its end."""
    left = steps

    def counted(act: Callable[..., object]) -> Callable[..., object]:
        def do(*args: object, **options: object) -> object:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return act(*args, **options)

        return do

    with pytest.MonkeyPatch.context() as patch:
        for name in ("create", "replace", "delete_tree", "sync"):
            patch.setattr(LocalFolder, name, counted(getattr(LocalFolder, name)))
        try:
            migrate(context, grace_s=0)
        except Killed:
            return None
    return left


@pytest.mark.proof
def test_a_migration_may_be_killed_at_any_step(old: Path) -> None:
    """A step writes, replaces, deletes or flushes; all values are read after each."""
    context, name = open_root(old).context("my_survey"), "my_survey"
    service = SpectroscopicService(open_root(old))
    whole = read_all(service, name)
    steps, done = 0, None
    while done is None:
        done = killed_after(context, steps)
        assert read_all(service, name) == whole
        steps += 1 if done is None else 0
        # A migration goes on where the last one was: it takes more steps each time.
        assert steps < 200
    assert steps > 10
    assert formats(context) == {2}
    assert leftovers(old / name) == []
    assert faults(old) == []


def test_what_a_killed_migration_has_left_is_removed(old: Path) -> None:
    name = "my_survey"
    context = open_root(old).context(name)
    assert killed_after(context, 5) is None
    assert leftovers(old) != []
    remove_leftovers(context, grace_s=0)
    assert leftovers(old) == []
    copy, total = Path(shutil.copytree(old, old.parent / "copy")), 1000
    left = killed_after(open_root(copy).context(name), total)
    assert left is not None
    # All but the deletion of the last old arrays.
    assert killed_after(context, total - left - 1) is None
    assert [path.name for path in leftovers(old)] == ["spectra.zarr"]
    remove_leftovers(context, grace_s=3600)
    assert [path.name for path in leftovers(old)] == ["spectra.zarr"]
    remove_leftovers(context, grace_s=0)
    assert leftovers(old) == []
    assert faults(old) == []


@pytest.mark.proof
def test_readers_in_a_loop_see_no_migration(old: Path) -> None:
    contexts = ("sdss_dr17", "desi_edr")
    service = SpectroscopicService(open_root(old))
    whole = {name: read_all(service, name) for name in contexts}
    ended = threading.Event()
    wrong: list[str] = []
    rounds = []

    def read(name: str) -> None:
        while not ended.is_set() or len(rounds) < len(contexts):
            try:
                if read_all(service, name) != whole[name]:
                    wrong.append(f"{name}: other values")
            except Exception as error:  # noqa: BLE001  # whatever it is, it is wrong
                wrong.append(f"{name}: {error!r}")
            rounds.append(name)

    readers = [threading.Thread(target=read, args=(name,)) for name in contexts]
    for reader in readers:
        reader.start()
    for name in contexts:
        migrate(open_root(old).context(name), grace_s=0.3)
    ended.set()
    for reader in readers:
        reader.join()
    assert wrong == []
    assert damaged_files(old) == []


def test_a_damaged_segment_stays_as_it_is(old: Path) -> None:
    context = open_root(old).context("sdss_dr17")
    segment = Segment(context.segment(context.segments()[0]))
    shard = flip_chunks(segment, "flux", [0])
    said = command("migrate", "sdss_dr17", "--data", old, "--grace", 0, code=1)
    assert f"{segment.info.name}: " in said
    assert "flux/c/0/0" in said
    assert open_segment(segment.folder).info.format_version == 1
    assert leftovers(old) == []
    flip_chunks(segment, "flux", [0])
    assert shard.exists()
    summary = migrate(context, grace_s=0)
    assert (summary.segments, summary.faults) == (1, [])


def test_a_shard_in_the_place_of_another_is_not_taken_over(old: Path) -> None:
    """Its chunks are sound: only its digest tells."""
    context = open_root(old).context("sdss_dr17")
    arrays = Segment(context.segment(context.segments()[0])).arrays.local_path()
    sky, model = arrays / "sky/c/0/0", arrays / "model/c/0/0"
    content = sky.read_bytes()
    size = len(content)
    os.truncate(model, size)
    assert model.stat().st_size == size
    shutil.copy(sky, model)
    assert migrate(context, grace_s=0).faults


def test_one_at_a_time(old: Path) -> None:
    context = open_root(old).context("sdss_dr17")
    with context.migration.lock(), pytest.raises(IngestError, match="another migration"):
        migrate(context)


def test_a_full_disk_is_told_before(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = open_root(old).context("sdss_dr17")
    monkeypatch.setattr(ContextFolder, "nfree", lambda _: 10)
    with pytest.raises(IngestError, match="10 bytes free"):
        migrate(context)
    assert formats(context) == {1}
    assert MigrationPlan.of(context).needed > 10


def size(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("is_full", [False, True])
def test_the_space_that_is_told_is_enough(
    old: Path, monkeypatch: pytest.MonkeyPatch, *, is_full: bool
) -> None:
    context = open_root(old).context("sdss_dr17")
    plan, before = MigrationPlan.of(context), size(old)
    assert plan.needed < plan.most
    most = plan.needed if is_full else plan.most
    sizes: list[int] = []
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(ContextFolder, "nfree", lambda _: most + before - size(old))
    done = migrate(
        context, grace_s=50, progress=lambda *_: sizes.append(size(old)), waiting=waited.append
    )
    assert before < max(sizes) <= before + most
    assert len(waited) == len(plan.old)
    assert abs(size(old) - (before + done.nbytes - plan.nbytes)) < 0.1 * before
    assert 0 < done.freed < before
    assert leftovers(old) == []


def test_a_private_context_stays_private(old: Path) -> None:
    folder = old / "my_survey"
    open_root(old).context("my_survey").set_access(private=True)
    assert all(not path.stat().st_mode & 0o077 for path in _all(folder))
    migrate(open_root(old).context("my_survey"), grace_s=0)
    assert all(not path.stat().st_mode & 0o077 for path in _all(folder))


def _all(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.rglob("*")
