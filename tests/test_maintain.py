"""The upkeep of a data folder: few parts, and nothing left of what was killed."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from commands import command
from specserver.auth import set_private
from specserver.catalog.index.manifest import (
    PartEntry,
    commit_manifest,
    new_rows,
    newest_manifest,
)
from specserver.catalog.index.marks import MARK, write_marks
from specserver.data.context import ContextFolder
from specserver.data.local import LocalFolder
from specserver.data.root import open_root
from specserver.digests import seal
from specserver.errors import CatalogError
from specserver.ingest import run_ingest
from specserver.ingest.maintain import maintain
from specserver.ingest.verify import verify
from specserver.service import SpectroscopicService
from specserver.service.query import QueryRequest
from specserver.service.tables import attach_table

CONTEXT = "sdss_dr17"
NFILES = 12


@pytest.fixture(scope="module")
def several(mock_survey: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder whose index has several parts."""
    data = tmp_path_factory.mktemp("several") / "data"
    files = list({path.name: path for path in sorted(mock_survey.rglob("spec-*.fits"))}.values())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("specserver.ingest.pipeline.merge_small_parts", lambda *_: None)
        for at in range(0, NFILES, 4):
            run_ingest(open_root(data), CONTEXT, files[at : at + 4], workers=1)
    return data


@pytest.fixture
def data(several: Path, tmp_path: Path) -> Path:
    """Return a copy of it that may be changed."""
    return Path(shutil.copytree(several, tmp_path / "data"))


def folder(data: Path) -> ContextFolder:
    return open_root(data).context(CONTEXT)


def nparts(data: Path) -> int:
    return len(newest_manifest(folder(data).index).parts)


def rows(data: Path) -> list[dict[str, object]]:
    service = SpectroscopicService(open_root(data))
    fields = ("specobjid", "ra", "dec", "z", "class", "specprimary")
    answer = service.query(QueryRequest(context=CONTEXT, fields=fields, primary=False))
    return list(answer.to_pylist())


def maintained(data: Path, *options: object) -> dict[str, object]:
    (line,) = command("maintain", "--data", data, "--json", *options).splitlines()
    record: dict[str, object] = json.loads(line)
    return record


def faults(data: Path) -> list[str]:
    return [fault for finding in verify(open_root(data)) for fault in finding.faults]


def test_parts_become_one_and_answers_stay(data: Path) -> None:
    before = rows(data)
    assert nparts(data) == NFILES // 4
    said = command("maintain", "--data", data)
    assert f"{CONTEXT}: 1 part of the index; 3 parts joined into 1 ({NFILES} rows)" in said
    assert nparts(data) == 1
    assert rows(data) == before
    assert len(before) == NFILES
    assert faults(data) == []


def test_replaced_parts_are_deleted_after_the_grace(data: Path) -> None:
    index = folder(data).index
    before = len(index.parts())
    for _ in range(2):
        assert maintained(data)["files"] == 0
        assert len(index.parts()) == before + 1
    assert maintained(data, "--grace", 0)["files"] == before
    assert [part.name for part in index.parts()] == [newest_manifest(index).parts[0].name]
    assert not newest_manifest(index).superseded
    assert maintained(data, "--grace", 0)["files"] == 0


@contextmanager
def left_behind(context: ContextFolder, lease: str) -> Iterator[list[Path]]:
    """Yield what a writer with a lease has made and not committed."""
    part, marks = context.index.new_part(lease), context.index.new_marks(lease)
    part.make()
    part.core.replace(b"half")
    marks.replace(b"half")
    segment = context.new_segment(lease)
    whole = context.segment(context.segments()[0])
    drafts = [
        file.local_path().with_name(f"{file.name}.01234567.draft")
        for file in (context.index.manifest(99), whole.record)
    ]
    for draft in drafts:
        draft.write_bytes(b"half")
    yield [part.local_path(), marks.local_path(), segment.local_path(), *drafts]


def test_what_killed_writers_left_is_deleted(data: Path) -> None:
    with left_behind(folder(data), "0123abcd") as left:
        # The writer was killed while it made its lease.
        left.append(folder(data).leases.entry("0123abcd.01234567.draft").local_path())
        left[-1].write_bytes(b"half")
        assert all(path.exists() for path in left)
        found = maintained(data)
        assert (found["removed"], found["files"]) == (1, 2)
        assert not any(path.exists() for path in left)
    assert faults(data) == []


def killed(work: Callable[[], object]) -> None:
    """Do some work in another process, which ends without any clean-up."""

    def end() -> None:
        work()
        os._exit(9)

    process = multiprocessing.get_context("fork").Process(target=end)
    process.start()
    process.join()
    assert process.exitcode == 9


def test_nothing_is_left_of_a_first_ingest_that_was_killed(tmp_path: Path) -> None:
    data = open_root(tmp_path)
    context, own = data.context(CONTEXT), data.context("my_survey")

    def ingest() -> None:
        lease = context.leases.hold().__enter__()
        for _ in range(2):
            context.new_segment(lease.name).objects.replace(b"half")

    def declare() -> None:
        own.leases.hold().__enter__()
        own.target_table(b"").replace(b"")
        own.declaration.local_path().with_name("survey.json.01234567.draft").touch()

    killed(ingest)
    killed(declare)
    (tmp_path / "empty").mkdir()
    assert data.contexts() == set()
    said = command("maintain", "--data", tmp_path)
    assert f"{CONTEXT}: nothing is stored; 2 unfinished segments deleted" in said
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_the_first_ingest_of_a_release_is_left_alone(tmp_path: Path) -> None:
    context = open_root(tmp_path).context(CONTEXT)
    with context.writing() as lease:
        segment = context.new_segment(lease.name)
        assert command("maintain", "--data", tmp_path) == ""
        said = command("maintain", CONTEXT, "--data", tmp_path, code=2)
        assert f"unknown context '{CONTEXT}'; {tmp_path} has: none" in said
        assert maintain(open_root(tmp_path), CONTEXT).removed == 0
        lease.require()
        assert segment.exists()


def test_what_writers_at_work_have_made_stays(data: Path) -> None:
    context = folder(data)
    with context.writing() as lease, left_behind(context, lease.name) as left:
        found = maintained(data, "--grace", 0)
        assert (found["removed"], found["parts"]) == (0, 1)
        assert all(path.exists() for path in left)


def test_the_index_of_a_table_that_is_gone_is_deleted(data: Path) -> None:
    gone = folder(data).table("gone").index
    gone.manifest(1).replace(b"{}")
    maintained(data)
    assert not gone.exists()


def test_one_maintains_at_a_time_and_the_other_says_so(data: Path) -> None:
    with folder(data).maintenance.lock():
        said = command("maintain", CONTEXT, "--data", data)
        assert f"{CONTEXT}: another process maintains it" in said
        assert maintain(open_root(data), CONTEXT).busy
    assert nparts(data) == NFILES // 4


def test_what_a_killed_ingest_had_written_whole_is_committed(
    data: Path, mock_survey: Path, tmp_path: Path
) -> None:
    others = list({path.name: path for path in sorted(mock_survey.rglob("spec-*.fits"))}.values())
    run_ingest(open_root(tmp_path / "other"), CONTEXT, others[NFILES : NFILES + 2], workers=1)
    (whole,) = (tmp_path / "other" / CONTEXT).glob("seg-*")
    shutil.copytree(whole, data / CONTEXT / whole.name)
    assert len(rows(data)) == NFILES
    assert maintained(data)["committed"] == 1
    assert len(rows(data)) == NFILES + 2
    assert maintained(data)["committed"] == 0
    assert faults(data) == []


def test_an_index_that_is_gone_is_made_again(data: Path) -> None:
    before = rows(data)
    shutil.rmtree(data / CONTEXT / "index")
    assert maintained(data)["parts"] == 1
    assert rows(data) == before


def test_an_index_made_anew_stays_if_its_writer_is_interrupted_just_then(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, create = rows(data), LocalFolder.create
    shutil.rmtree(data / CONTEXT / "index")

    def failing(folder: LocalFolder, key: str, content: bytes) -> None:
        create(folder, key, content)
        if "/manifest/" in key:
            raise OSError(errno.EIO, "Input/output error", key)

    with monkeypatch.context() as patch:
        patch.setattr(LocalFolder, "create", failing)
        with pytest.raises(CatalogError, match="Input/output error"):
            maintain(open_root(data), CONTEXT)
    assert rows(data) == before
    assert faults(data) == []


def test_a_service_sees_an_index_that_was_deleted_and_made_again(data: Path) -> None:
    service = SpectroscopicService(open_root(data))
    question = QueryRequest(context=CONTEXT, fields=("specobjid",), primary=False)
    assert service.query(question).num_rows == NFILES
    index = folder(data).index
    last, entry = index.versions()[-1], newest_manifest(index).parts[0]
    index.manifests.delete()
    while newest_manifest(index).version < last:
        commit_manifest(index, lambda base: replace(base, rows=new_rows(), parts=(entry,)))
    assert service.query(question).num_rows == entry.nrows


def test_a_service_makes_an_index_again_whose_newest_manifest_is_lost(data: Path) -> None:
    service = SpectroscopicService(open_root(data))
    question = QueryRequest(context=CONTEXT, fields=("specobjid",), primary=False)
    assert service.query(question).num_rows == NFILES
    index = folder(data).index
    index.manifest(index.versions()[-1]).delete()
    assert service.query(question).num_rows < NFILES, "the version before answers"
    for thread in threading.enumerate():
        if thread.name == "index":
            thread.join()
    assert service.query(question).num_rows == NFILES


def foreign(context: ContextFolder, away: Path) -> list[Path]:
    """Make what is not of this program in the folder of a context; return it."""
    top, index = context.local_path(), context.index.local_path()
    made = [
        top / "seg-000001 (copy)",
        top / "seg-old",
        index / "marks-old",
        index / "marks-01234567-01234567.npy",
        index / "part-old",
        index / "part-",
        index / "gen-old",
        index / "manifest" / "99999999.json",
        index / "some.01234567.draft",
        top / "leases" / "kept",
        top / "catalogs" / "My tables.index",
    ]
    for path in made:
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "notes.txt").write_text("mine")
        os.utime(path, (0, 0))
    whole = context.segment(context.segments()[0]).local_path()
    shutil.copytree(whole, made[0], dirs_exist_ok=True)
    files = [
        index / "marks-notes.npy",
        index / "notes.draft",
        index / "part-notes",
        top / "leases" / ".nfs0001",
        top / "catalogs" / "My table.parquet",
        top / "catalogs" / "My table.json",
        top / "seg-notes",
    ]
    for path in files:
        path.write_text("mine")
        os.utime(path, (0, 0))
    links = [
        top / "seg-000009-01234567-01234567",
        top / "seg-000010-01234567",
        top / "leases" / "link",
        index / "part-link",
        index / "marks-link",
    ]
    for path in links:
        path.symlink_to(away, target_is_directory=True)
    loops = [
        top / "seg-000011-01234567-01234567",
        index / "part-loop",
        top / "catalogs" / "x.parquet",
    ]
    for path in loops:
        path.symlink_to(path)
    return [*made, *files, *links, *loops]


def test_what_is_of_another_is_left_alone(data: Path, mock_survey: Path, tmp_path: Path) -> None:
    away = tmp_path / "disk that is not mounted"
    (away / "deep").mkdir(parents=True)
    (away / "deep" / "notes.txt").write_text("mine")
    before = rows(data)
    left = foreign(folder(data), away)
    assert maintained(data, "--grace", 0)["removed"] == 0
    files = sorted(mock_survey.rglob("spec-*.fits"))
    run_ingest(open_root(data), CONTEXT, files[:1], workers=1)
    assert rows(data) == before
    assert [path for path in left if not (path.is_symlink() or path.exists())] == []
    assert all((path / "deep" / "notes.txt").exists() for path in left if (path / "deep").is_dir())


def test_a_segment_on_a_disk_that_is_not_mounted_is_kept_and_told(data: Path) -> None:
    name, before = folder(data).segments()[0], rows(data)
    away = (data / CONTEXT / name).rename(data.parent / "disk")
    (data / CONTEXT / name).symlink_to(away)
    away.rename(data.parent / "unmounted")
    away.mkdir()
    assert maintained(data)["removed"] == 0
    assert "segments that it covers are not there" in "".join(faults(data))
    away.rmdir()
    (data.parent / "unmounted").rename(away)
    assert faults(data) == []
    assert rows(data) == before


def test_only_a_link_to_a_folder_is_deleted(data: Path, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    unused = folder(data).index.part("part-01234567-01234567").local_path()
    unused.symlink_to(tmp_path / "away")
    assert maintained(data)["files"] == 1
    assert not unused.is_symlink()
    assert (tmp_path / "away").exists()


def test_what_is_left_of_a_table_whose_writer_was_killed_is_deleted(data: Path) -> None:
    catalogs = folder(data).catalogs
    names = ["vac.json", "vac.parquet.01234567.draft", "vac.json.01234567.draft", "own.json.draft"]
    for name in names:
        catalogs.entry(name).replace(b"half")
    with folder(data).writing():
        maintained(data)
        assert catalogs.children() == sorted(names), "it may be at work"
    maintained(data)
    assert catalogs.children() == ["own.json.draft"]


def test_a_table_is_attached_by_a_writer_with_a_lease(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, held = tmp_path / "vac.csv", list[bool]()
    table.write_text(f"specobjid,mass\n{rows(data)[0]['specobjid']},1.5\n")
    write = LocalFolder.replace

    def watched(files: LocalFolder, key: str, content: bytes, **options: bool) -> None:
        if "catalogs/" in key:
            held.append(folder(data).leases.are_held())
        write(files, key, content, **options)

    monkeypatch.setattr(LocalFolder, "replace", watched)
    archive = SpectroscopicService(open_root(data)).archive
    attach_table(archive, CONTEXT, "vac", table)
    assert len(held) > 1
    assert all(held)


def test_what_is_merged_is_as_private_as_the_rest(data: Path) -> None:
    set_private(open_root(data), CONTEXT, private=True)
    maintained(data)
    for path in (data / CONTEXT).rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) in {0o700, 0o600}, path


def test_the_rest_is_maintained_where_one_release_is_at_fault(data: Path) -> None:
    shutil.copytree(data / CONTEXT, data / "sdss_dr16")
    (record,) = (data / CONTEXT / "index" / "manifest").glob("00000003.json")
    record.write_text("no manifest")
    (parquet, *_) = (data / CONTEXT).glob("seg-*/objects.parquet")
    parquet.write_bytes(b"no rows")
    shutil.copytree(data / "sdss_dr16", data / "sdss_dr15")
    (data / "sdss_dr15" / "maintain.lock").mkdir()
    said = command("maintain", "--data", data, code=1)
    assert "fault: sdss_dr17:" in said
    assert re.search(r"fault: sdss_dr15: cannot write to .*/maintain.lock: Is a directory", said)
    assert "sdss_dr16: 1 part of the index; 3 parts joined into 1" in said


def test_a_release_that_is_not_there_is_named(data: Path) -> None:
    assert f"unknown context 'sdss_dr9'; {data} has: {CONTEXT}" in command(
        "maintain", "sdss_dr9", "--data", data, code=2
    )


def test_verify_finds_what_no_digest_tells(data: Path) -> None:
    """Each is written with right digests, as a writer would write it that is wrong."""
    context = folder(data)
    index, before = context.index, newest_manifest(context.index)
    part = index.part(before.parts[0].name)
    segment = context.segment(context.segments()[0])

    def told(parts: tuple[PartEntry, ...] = before.parts) -> str:
        commit_manifest(index, lambda newest: replace(newest, parts=parts))
        return "; ".join(faults(data))

    assert told() == ""
    assert "several rows of one spectrum: " in told(before.parts + before.parts[:1])

    dead = index.new_marks("lease")
    write_marks(dead, np.array([(2, False, False)], MARK))
    number = np.load(part.column("id").local_path())[2]
    lost = told((replace(before.parts[0], marks=dead.name), *before.parts[1:]))
    assert lost.endswith(f" are in no row, and no others are in their place: {number}")

    record = segment.record.read()
    for left_out in ([1], [4]):
        segment.record.replace(seal(segment.record.record().values | {"left_out": left_out}))
        assert told() == f"{segment.name} says that other rows are left out than those that are"
    segment.record.replace(record)

    covered = np.load(part.coverage.local_path())
    covered[0] ^= 1
    np.save(part.coverage.local_path(), covered)
    values = part.record.record().values
    values["digests"] |= part.digests([part.coverage.name])
    part.record.replace(seal(values))
    assert told() == f"{part.name}: the pixels that it says it covers are not those of its rows"
