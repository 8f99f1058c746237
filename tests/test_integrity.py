"""Damage to a data folder: noticed, told, confined to what is damaged, and mended where it can be.

The data folder is the one that ``make flips`` damages bit by bit.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import google_crc32c
import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from benchmarks import flips

from commands import command
from conftest import without_digests
from forked import run_forked
from serving import serve
from specserver.catalog.index.build import refresh_index
from specserver.catalog.index.manifest import commit_manifest, new_rows, newest_manifest
from specserver.client.api import SpecClient
from specserver.client.pools import RETRY
from specserver.damage import damaged_files
from specserver.data.root import open_root
from specserver.digests import NO_DIGESTS, digest_of, read_record, seal
from specserver.errors import (
    CatalogError,
    DamagedFile,
    NoOriginal,
    Overloaded,
    ServiceError,
    StoreError,
)
from specserver.ingest.verify import verify
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.originals import original_files
from specserver.store import shards
from specserver.store.layout import list_segments
from specserver.store.zarr import Segment
from specserver.surveys.sdss import SDSS
from stored import flip_chunks


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> flips.Folder:
    """A data folder of all kinds of files, not to be written to."""
    return flips.make_folder(tmp_path_factory.mktemp("sound"))


@pytest.fixture
def data(sound: flips.Folder, tmp_path: Path) -> Path:
    """A copy of it."""
    copy = tmp_path / "data"
    shutil.copytree(sound.data, copy)
    return copy


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client comes again as often as ever, but at once, where a service says when."""
    told = "Retry-After"
    monkeypatch.setattr(
        type(RETRY), "get_retry_after", lambda _, answer: 0.01 if told in answer.headers else None
    )


def part_of(data: Path, context: str) -> Path:
    """Return the folder of the one part of the index of a context."""
    index = open_root(data).context(context).index
    (entry,) = newest_manifest(index).parts
    return index.part(entry.name).local_path()


def flip(path: Path, at: int = -20) -> None:
    """Change one bit of a file, and not its times."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[at] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def one(data: Path, pattern: str) -> Path:
    """Return the first file of a pattern."""
    return min(data.glob(pattern))


@pytest.mark.proof
def test_no_flipped_bit_is_silent(sound: flips.Folder, tmp_path: Path) -> None:
    found = list(flips.run_flips(sound, 23, 20, tmp_path))  # of each kind of file one
    assert [one for one in found if one.outcome == "SILENT"] == []
    assert len({one.kind for one in found}) >= 20


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [("step", b'"step": 0.0001', b'"step": 0.0003'), ("first", b'"first_pixel": ', b"")],
)
def test_a_lattice_that_is_not_the_surveys_is_refused_without_digests_too(
    data: Path, name: str, before: bytes, after: bytes
) -> None:
    marker = one(data, "sdss_dr17/seg-*/segment.json")
    without_digests(marker.parent)
    service = SpectroscopicService(open_root(data))
    ids = service.query(QueryRequest("sdss_dr17", primary=False)).column(0).to_pylist()
    assert len(list(service.read(service.resolve(ids, "sdss_dr17")))) == len(ids)
    notes = [note for found in verify(open_root(data)) for note in found.notes]
    assert NO_DIGESTS in notes
    assert not [fault for found in verify(open_root(data)) for fault in found.faults]
    group = marker.parent / "cube.zarr" / "zarr.json"
    text = group.read_bytes()
    if name == "first":
        start = json.loads(text)["attributes"]["first_pixel"]
        before, after = before + str(start).encode(), before + str(start + 1).encode()
    assert before in text
    group.write_bytes(text.replace(before, after))
    copy = data.with_name("copy")
    shutil.copytree(data, copy)
    service = SpectroscopicService(open_root(copy))
    with pytest.raises(DamagedFile, match=r"zarr\.json|first"):
        service.resolve(ids, "sdss_dr17")


def test_an_index_that_leads_elsewhere_is_refused(data: Path) -> None:
    path = part_of(data, "sdss_dr17")
    rows = np.load(path / "row.npy")
    np.save(path / "row.npy", rows[::-1])
    record = read_record((path / "part.json").read_bytes()).values
    record["digests"]["row.npy"] = digest_of(path / "row.npy")
    (path / "part.json").write_bytes(seal(record))
    service = SpectroscopicService(open_root(data))
    ids = service.query(QueryRequest("sdss_dr17", primary=False)).column(0).to_pylist()
    with pytest.raises(StoreError, match="another spectrum than"):
        service.resolve(ids, "sdss_dr17")


@pytest.mark.proof
def test_a_damaged_context_stops_no_other(data: Path, sound: flips.Folder) -> None:
    segment = one(data, "sdss_dr17/seg-*/cube.zarr/id/c/0")
    flip(segment)
    array = part_of(data, "desi_edr") / "ra.npy"
    array.write_bytes(b"")
    with serve(data, sound.tree) as running, httpx.Client(base_url=running.url) as client:
        told = client.get("/available", params={"format": "json"}).json()
        assert {"context": "sdss_dr17", "file": segment.relative_to(data).as_posix()} in told[
            "damaged"
        ]
        assert "mine" in told["contexts"]
        assert str(data) not in json.dumps(told)
        assert segment.relative_to(data).as_posix() in client.get("/available").text
        text = httpx.get(running.url.removesuffix("/spec") + "/metrics").text
        (line,) = [one for one in text.splitlines() if one.startswith("specserver_damaged_files")]
        assert float(line.split()[-1]) >= 1
        spec = SpecClient(svc_url=running.url)
        # The index of another context was made again, and a third is as it was.
        for context in ("desi_edr", "mine"):
            ids = sound.ids[context]
            assert len(spec.getSpec(ids, context=context)) == len(ids)
        with pytest.raises(StoreError, match="id/c/0"):
            spec.getSpec(sound.ids["sdss_dr17"], context="sdss_dr17")
        # Restored, it is served without a restart.
        shutil.copy(sound.data / segment.relative_to(data), segment)
        assert len(spec.getSpec(sound.ids["sdss_dr17"], context="sdss_dr17")) > 0
        told = client.get("/available", params={"format": "json"}).json()
        assert "sdss_dr17" not in {one["context"] for one in told["damaged"]}


def test_other_segments_of_a_damaged_one_are_served(data: Path, sound: flips.Folder) -> None:
    before = {info.name for info in list_segments(open_root(data).context("desi_edr"))}
    from specserver.ingest import run_ingest
    from specserver.simulate import simulate_desi

    simulate_desi(data.parent / "more", 4, seed=77, per_file=4)
    assert run_ingest(open_root(data), "desi_edr", [data.parent / "more"], workers=1).stored
    (name,) = {info.name for info in list_segments(open_root(data).context("desi_edr"))} - before
    ids = [int(number) for number in Segment(open_root(data).context("desi_edr").segment(name)).ids]
    flip(data / "desi_edr" / name / "cube.zarr" / "zarr.json")
    service = SpectroscopicService(open_root(data))
    others = [number for number in sound.ids["desi_edr"] if number not in ids]
    assert len(list(service.read(service.resolve(others, "desi_edr")))) == len(others)
    with pytest.raises(DamagedFile, match=name):
        service.resolve(ids, "desi_edr")


@pytest.mark.parametrize("how", ["renamed", "in place"])
def test_a_restored_shard_is_seen(data: Path, sound: flips.Folder, how: str) -> None:
    service = SpectroscopicService(open_root(data))
    ids = sound.ids["sdss_dr17"]

    def read() -> list[bytes]:
        return [one.tobytes() for one in service.read(service.resolve(ids, "sdss_dr17"))]

    good = read()
    shard = one(data, "sdss_dr17/seg-*/cube.zarr/float32/c/0/0/0")
    content = shard.read_bytes()
    for damage in (bytes(len(content)), content[:9000]):
        shard.write_bytes(damage)
        with pytest.raises(DamagedFile, match="float32/c/0/0/0"):
            read()
    assert [path for path, _ in damaged_files(data)] == [str(shard)]
    broken = shard.with_name("broken")
    if how == "renamed":
        broken.write_bytes(content)
        broken.replace(shard)
    else:
        shard.write_bytes(content)
    assert read() == good
    assert damaged_files(data) == []


def test_a_sound_array_in_the_place_of_another_is_refused(data: Path, sound: flips.Folder) -> None:
    first = one(data, "sdss_dr17/seg-*/cube.zarr/first/c/0")
    other = (first.parents[2] / "count" / "c" / "0").read_bytes()
    assert len(first.read_bytes()) == len(other)
    assert first.read_bytes() != other
    first.write_bytes(other)
    with pytest.raises(DamagedFile, match="first/c/0"):
        SpectroscopicService(open_root(data)).resolve(sound.ids["sdss_dr17"], "sdss_dr17")


@pytest.mark.proof
def test_a_shard_in_the_place_of_another_is_seen_while_served(
    data: Path, sound: flips.Folder
) -> None:
    context = "sdss_dr17"
    shard = one(data, f"{context}/seg-*/cube.zarr/float32/c/0/0/0")
    copy = shard.with_name("copy")
    shutil.copy(shard, copy)
    with serve(data, sound.tree) as running:
        spec = SpecClient(context, svc_url=running.url)

        def read() -> bytes:
            return b"".join(each.tobytes() for each in spec.getSpec(sound.ids[context]))

        good = read()
        # What is open stays readable: only a look at the place tells that it is another one.
        shutil.copy(shard.parents[4] / "int32" / "c" / "0" / "0" / "0", shard.with_name("other"))
        shard.with_name("other").replace(shard)
        time.sleep(shards._LOOK_S + 0.1)
        with pytest.raises(StoreError, match=r"float32/c/0/0/0: .*restore"):
            read()
        assert "float32/c/0/0/0" in command("verify", "--data", data, code=1)
        copy.replace(shard)
        assert read() == good
        # A restored one, in the place of one that is open, is as good.
        shutil.copy(shard, copy)
        copy.replace(shard)
        assert read() == good
        time.sleep(shards._LOOK_S + 0.1)
        assert read() == good


def test_a_shard_of_the_same_size_and_other_chunks_is_found_by_verify(data: Path) -> None:
    shard = one(data, "sdss_dr17/seg-*/cube.zarr/float32/c/0/0/0")
    nindex = 16 * 1000 * 5 + 4
    content = bytearray(shard.read_bytes())
    index = content[-nindex:-4]
    index[:16], index[16:32] = index[16:32], index[:16]
    content[-nindex:] = index + google_crc32c.value(bytes(index)).to_bytes(4, "little")
    assert len(content) == shard.stat().st_size
    shard.write_bytes(content)
    assert "float32/c/0/0/0" in command("verify", "--data", data, code=1)


@pytest.mark.proof
def test_verify_prints_each_fault_once(sound: flips.Folder, data: Path) -> None:
    """A fault is reported for one part, even if other parts are read through the damaged file."""
    # The two smaller ones have all kinds of files.
    shutil.rmtree(data / "desi_edr")
    shutil.rmtree(data / "sdss_dr17" / "catalogs")
    files: dict[str, Path] = {}
    for file in sorted(one for one in data.rglob("*") if one.is_file() and one.stat().st_size):
        files.setdefault(flips.kind_of(file, data), file)
    assert len(files) > 15
    for kind, file in files.items():
        content, status = file.read_bytes(), file.stat()
        flip(file, len(content) // 2)
        faults = [fault for found in verify(open_root(data)) for fault in found.faults]
        assert len(faults) <= 1, (kind, faults)
        file.write_bytes(content)
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    segment = one(data, "sdss_dr17/seg-*/segment.json")
    flip(segment, segment.stat().st_size // 2)
    flip(data / "mine" / "survey.json", 100)
    told = command("verify", "--data", data, code=1).replace("\n", "")
    assert told.count("segment.json") == 1
    assert told.count("survey.json") == 1
    assert "2 faults" in told


@pytest.mark.proof
def test_what_mends_a_damaged_file_is_said(sound: flips.Folder, data: Path) -> None:
    context, ids = flips.SEGMENTS, sound.ids[flips.SEGMENTS]
    table = one(data, f"{context}/catalogs/{flips.TABLE}.index/part-*/ra.npy")
    for path in (part_of(data, context) / "ra.npy", table):
        flip(path)
    folder = open_root(data).context(context)
    for name in folder.segments():
        flip_chunks(Segment(folder.segment(name)), "flux", [0])
    told = command("verify", "--data", data, code=1)
    remedy = f"'specserver maintain {context}' makes it anew where the folder can be written to"
    assert told.count(remedy) == 2
    remedy = "restore the file, or delete its segment and the folder index, and ingest the files"
    assert f"can be read: {remedy}" in told
    assert "Blosc" not in told
    assert "3 faults" in told
    told = command("maintain", "--data", data)
    assert f"made anew: the index of {context}, {context}.{flips.TABLE};" in told
    assert told.count("made anew") == 1
    told = command("verify", "--data", data, code=1)
    assert "1 fault\n" in told
    service = SpectroscopicService(open_root(data))
    with pytest.raises(DamagedFile):
        list(service.read(service.resolve(ids, context)))
    for name in folder.segments():
        folder.segment(name).delete()
    folder.index.delete()
    command("ingest", context, sound.data.parent / "sdss", "--data", data, "--workers", 1)
    service = SpectroscopicService(open_root(data))
    assert len(list(service.read(service.resolve(ids, context)))) == len(ids)


def test_a_large_index_that_is_damaged_is_made_anew(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its digests are compared by a thread: it is waited for."""
    monkeypatch.setattr("specserver.catalog.opening._CHECKED_BYTES", 0)
    flip(part_of(data, "desi_edr") / "ra.npy")
    assert "made anew: the index of desi_edr;" in command("maintain", "desi_edr", "--data", data)


@pytest.mark.parametrize("name", ["row.npy", "part.json", "manifest"])
def test_an_index_file_that_is_not_in_use_any_more_is_not_damaged(data: Path, name: str) -> None:
    part = part_of(data, "sdss_dr17")
    newest = max(part.parent.glob("manifest/*.json"))
    file = newest if name == "manifest" else part / name
    flip(file, 20 if name != "row.npy" else -50)
    service = SpectroscopicService(open_root(data))
    with suppress(DamagedFile, Overloaded):
        service.resolve([1], "sdss_dr17")
    assert [found.file for found in service.archive.damaged()] == [str(file.relative_to(data))]
    command("maintain", "sdss_dr17", "--data", data)
    assert file.exists()
    assert service.archive.damaged() == []


@pytest.mark.proof
def test_catalogue_rows_whose_columns_have_no_names_any_more(data: Path, mock_survey: Path) -> None:
    """pyarrow raises a UnicodeDecodeError there, not an error of its own."""
    rows = one(data, "sdss_dr17/seg-*/objects.parquet")
    content = rows.read_bytes()
    rows.write_bytes(content.replace(b"survey", b"sur\xf3ey"))
    assert rows.read_bytes() != content
    faults = [fault for found in verify(open_root(data)) for fault in found.faults]
    assert len(faults) == 1, faults
    assert "objects.parquet" in faults[0]
    # An ingest looks spectra up in the index, so it goes on; making the index again does not.
    assert "stored         149" in command("ingest", "sdss_dr17", mock_survey, "--data", data)
    shutil.rmtree(data / "sdss_dr17" / "index")
    told = command("ingest", "sdss_dr17", mock_survey, "--data", data, code=1).replace("\n", "")
    assert "objects.parquet" in told
    assert "restore the file" in told
    assert "Traceback" not in told


def test_a_damaged_tree_file_is_refused_or_found(sound: flips.Folder, data: Path) -> None:
    tree = data.parent / "tree"
    shutil.copytree(sound.tree, tree)
    command("tree", "add", flips.TREE, tree, "--data", data,
            *(word for one in flips._REDUCTIONS for word in ("--run2d", one)))  # fmt: skip
    file = min(tree.rglob("spec-*.fits"))
    flip(file, 60_000)
    service = SpectroscopicService(open_root(data))
    with pytest.raises(DamagedFile, match=file.name):
        list(service.read(service.resolve(sound.ids[flips.TREE], flips.TREE)))
    assert file.name in command("verify", "--data", data, code=1)
    os.utime(file)
    assert file.name in command("verify", "--data", data, code=1)


def test_an_original_of_a_tree_is_sent_as_it_was_declared(sound: flips.Folder, data: Path) -> None:
    tree = data.parent / "tree"
    shutil.copytree(sound.tree, tree)
    command("tree", "add", flips.TREE, tree, "--data", data,
            *(word for one in flips._REDUCTIONS for word in ("--run2d", one)))  # fmt: skip
    service = SpectroscopicService(open_root(data))

    def files() -> int:
        selection = service.resolve(sound.ids[flips.TREE], flips.TREE)
        return len(list(original_files(selection)))

    assert files() == len(sound.ids[flips.TREE])
    # Read once, and remembered by its size and time, which damage leaves as they were.
    file = min(tree.rglob("spec-*.fits"))
    status = file.stat()
    flip(file, 60_000)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(NoOriginal, match=f"{file.name} is damaged"):
        files()
    os.utime(file)
    assert files() == len(sound.ids[flips.TREE])


def test_targets_that_are_damaged_are_not_believed(data: Path, sound: flips.Folder) -> None:
    flip(one(data, "mine/targets-*.parquet"), 10)
    assert "declaration" in command("verify", "--data", data, code=1)
    file = sound.data.parent / "own" / "own_0.fits"
    more = data.parent / "own_9.fits"
    shutil.copy(file, more)
    said = command("ingest", "mine", more, "--data", data, "--workers", 1, "--strict", code=1)
    assert "is damaged" in said


@pytest.mark.proof
@pytest.mark.parametrize("lost", ["sdss_dr17/index", "sdss_dr17"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    data: Path, sound: flips.Folder, lost: str
) -> None:
    shutil.rmtree(data / lost)
    words = ("ingest", "sdss_dr17", sound.data.parent / "sdss", "--data", data, "--workers", 1)
    done = run_forked(words, os.environ, main="commands:main_on_a_full_disk")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list((data / "sdss_dr17").glob("index/part-*"))
    command(*words)
    command("verify", "--data", data)


@pytest.fixture
def read_only(data: Path) -> Iterator[Path]:
    """The data folder on a file system that cannot be written to."""
    there = data.parent / "read-only"
    there.mkdir()
    mounted = subprocess.run(["mount", "--bind", data, there], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("no right to mount a folder read-only")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", there], check=True, capture_output=True)
        yield there
    finally:
        subprocess.run(["umount", "--lazy", there], check=True)


@pytest.mark.proof
def test_a_read_only_folder_with_a_stale_index_is_served(
    read_only: Path, data: Path, sound: flips.Folder, caplog: pytest.LogCaptureFixture
) -> None:
    service = SpectroscopicService(open_root(read_only))
    table = f"{flips.SEGMENTS}.{flips.TABLE}"
    os.utime(one(data, f"{flips.SEGMENTS}/catalogs/{flips.TABLE}.parquet"))
    service.archive.ensure_indexes()
    assert service.query(QueryRequest("desi_edr", primary=False)).num_rows
    assert service.query(QueryRequest(flips.SEGMENTS, catalog=table)).num_rows
    for thread in threading.enumerate():
        if thread.name == "index":
            thread.join()
    (said,) = [found for found in caplog.records if found.name.startswith("specserver")]
    assert said.levelname == "WARNING"
    assert said.getMessage().startswith(f"{table}: its index cannot be renewed here")
    with serve(read_only, sound.tree) as running:
        spec = SpecClient(svc_url=running.url)
        assert len(spec.getSpec(sound.ids["desi_edr"], context="desi_edr"))
        assert spec.isAlive()
    lines = sound.data.parent / "lines.csv"
    for words in (
        ("ingest", "desi_edr", sound.data.parent / "desi"),
        ("ingest", "new_one", sound.data.parent / "own", "--reader", "specutils"),
        ("catalog", "add", "sdss_dr17", "more", lines),
        ("catalog", "remove", "sdss_dr17", flips.TABLE),
        ("tree", "add", "sdss_dr16", sound.tree, "--run2d", "26"),
        ("tree", "remove", "sdss_dr16"),
        ("migrate", "desi_edr"),
        ("maintain", "desi_edr"),
        ("token", "create", "--user", "somebody"),
    ):
        said = command(*words, "--data", read_only, code=1)
        advice = "Read-only file system; run this where the folder can be written to"
        assert advice in said.splitlines()[-1], (words, said)
        assert said.count("specserver: ") + said.count("fault: ") == 1, (words, said)
        assert "to rewrite" not in said


@pytest.mark.proof
@pytest.mark.usefixtures("soon")
def test_a_read_only_folder_without_an_index_says_what_to_do(
    read_only: Path, data: Path, sound: flips.Folder
) -> None:
    table = f"{flips.SEGMENTS}.{flips.TABLE}"
    root = open_root(data)
    for index in (
        root.context("desi_edr").index,
        root.context(flips.SEGMENTS).table(flips.TABLE).index,
    ):
        index.delete()
    advice = "'specserver maintain desi_edr' makes it where the folder can be written to"
    with serve(read_only, sound.tree) as running:
        spec = SpecClient(svc_url=running.url)
        told = httpx.get(f"{running.url}/available", params={"format": "json"}).json()
        (refused,) = told["unavailable"]
        assert refused == {"context": "desi_edr", "reason": f"desi_edr has no index: {advice}"}
        assert "desi_edr" not in told["contexts"]
        assert "desi_edr" in httpx.get(f"{running.url}/available").text
        with pytest.raises(CatalogError, match=f"no index: {advice}"):
            spec.getSpec(sound.ids["desi_edr"], context="desi_edr")
        with pytest.raises(ServiceError, match=f"{flips.TABLE}"):
            spec.query(constraint="number > 0", fields="number", catalog=table)
        # All else is served.
        context = flips.SEGMENTS
        assert len(spec.getSpec(sound.ids[context], context=context))
    command("verify", "--data", read_only)
    # Where the folder can be written to they are made when a service begins.
    assert not flips.ask(sound, data)[1]
    assert not flips.ask(sound, read_only)[1]


def test_what_killed_writers_left_is_removed(data: Path, sound: flips.Folder) -> None:
    context = data / "sdss_dr17"
    begun = context / "seg-000007-00000000"
    begun.mkdir()
    said = command("verify", "--data", data)
    assert "cut off" in said
    assert "no fault" in said
    command("ingest", "sdss_dr17", sound.data.parent / "sdss", "--data", data, "--workers", 1)
    assert not begun.exists()


def test_a_stale_index_is_no_fault(data: Path) -> None:
    shutil.rmtree(data / "desi_edr" / "index")
    assert "no fault" in command("verify", "--data", data)


@pytest.mark.proof
def test_a_damaged_index_is_made_again(data: Path, sound: flips.Folder) -> None:
    for name in ("row.npy", "id_rank.npy", "core.arrow", "rest.arrow", "part.json", "manifest"):
        part = part_of(data, "sdss_dr17")
        versions = sorted(part.parent.glob("manifest/*.json"))
        flip(versions[-1] if name == "manifest" else part / name, 20 if name[-1] != "y" else -50)
        answers, faults = flips.ask(sound, data)
        assert not faults
        assert answers == sound.sound
        assert part_of(data, "sdss_dr17") != part
    assert not [fault for found in verify(open_root(data)) for fault in found.faults]


def test_an_index_that_is_damaged_while_it_is_served_is_made_again_beside_requests(
    data: Path, sound: flips.Folder
) -> None:
    service, ids = SpectroscopicService(open_root(data)), sound.ids["sdss_dr17"]
    part = part_of(data, "sdss_dr17")
    flip(part / "row.npy", -50)
    index = open_root(data).context("sdss_dr17").index
    # Another version with the same part: it is opened, and its digests are compared.
    (entry,) = newest_manifest(index).parts
    other = index.new_part("test")
    part.rename(other.local_path())
    parts = (replace(entry, name=other.name),)
    commit_manifest(index, lambda base: replace(base, parts=parts, rows=new_rows()))
    with pytest.raises(Overloaded, match="sdss_dr17: its index is being made again; try again"):
        service.resolve(ids, "sdss_dr17")
    end, found = time.monotonic() + 20, 0
    while not found and time.monotonic() < end:
        with suppress(Overloaded):
            found = service.resolve(ids, "sdss_dr17").nspec
    assert found == len(ids)


def test_catalogue_rows_that_are_damaged_make_no_index(data: Path) -> None:
    rows = one(data, "sdss_dr17/seg-*/objects.parquet")
    flip(rows, 5000)
    assert pq.read_metadata(rows).num_rows
    shutil.rmtree(data / "sdss_dr17" / "index")
    with pytest.raises(DamagedFile, match=r"objects\.parquet"):
        refresh_index(open_root(data).context("sdss_dr17"), SDSS)
