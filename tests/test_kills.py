"""kill -9 at random moments, and several writers at once: nothing lost, nothing twice or wrong.

`make kills` kills a hundred writers.
"""

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from commands import command
from killing import LONGEST_S, Reader, Truth, Writer, faults, left_over, migrate_with_kills
from old_folder import unpack_old_folder
from serving import serve
from specserver.data.root import open_root
from specserver.service import QueryRequest, SpectroscopicService
from specserver.simulate import simulate_desi, simulate_sdss

pytestmark = pytest.mark.proof

KILLS = int(os.environ.get("SPECSERVER_TEST_KILLS", "4"))
"""More of them: `make kills`."""
PER_KILL = 20 if KILLS > 20 else 6
"""Spectra to ingest for each writer that is killed."""
SDSS, DESI = "sdss_dr17", "desi_edr"
OLD = (SDSS, DESI, "my_survey")
"""Contexts of the folder of an older version."""


class Survey:
    """Files to be ingested, what they hold, and files that replace some of them."""

    def __init__(self, folder: Path) -> None:
        self.sdss, self.desi, self.newer = (folder / name for name in ("sdss", "desi", "newer"))
        simulate_sdss(self.sdss, PER_KILL * KILLS, seed=5)
        simulate_desi(self.desi, PER_KILL * KILLS // 2, seed=5, per_file=2)
        for path in sorted(self.desi.rglob("coadd-*.fits"))[::2]:
            _write_second(path)
        self.newer.mkdir()
        self.replaced = sorted(self.sdss.rglob("spec-*.fits"))[::8]
        for path in self.replaced:
            _brighten(Path(shutil.copy(path, self.newer)))
        self.truths = (
            Truth(SDSS, ("specobjid",)),
            Truth(DESI, ("targetid", "survey", "program", "coadd")),
        )
        self.truths[0].add(self.sdss.rglob("spec-*.fits"))
        self.truths[0].add(self.newer.iterdir())
        self.truths[1].add(self.desi.rglob("coadd-*.fits"))


def _write_second(coadd: Path) -> None:
    """Write the coadd of a file's targets in another programme; of some it is the best spectrum."""
    for path in (coadd, coadd.with_name(coadd.name.replace("coadd", "redrock"))):
        with fits.open(path, memmap=False) as units:
            old = units[0].header["PROGRAM"]
            units[0].header["PROGRAM"] = "other"
            for unit in units[1:]:
                if unit.name.endswith("_FLUX") and unit.data.ndim == 2:
                    unit.data *= np.float32(0.75)
                if getattr(unit, "columns", None) and "TSNR2_LRG" in unit.columns.names:
                    unit.data["TSNR2_LRG"][::2] *= 1.5
                    unit.data["TSNR2_LRG"][1::2] *= 0.5
            units.writeto(path.with_name(path.name.replace(f"-{old}-", "-other-")))


def _brighten(path: Path) -> None:
    """Give a spectrum other values."""
    with fits.open(path, mode="update", memmap=False) as units:
        units[1].data["flux"] *= np.float32(1.25)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    return Survey(tmp_path_factory.mktemp("survey"))


def committed(data: Path) -> int:
    return sum(1 for _ in data.glob("*/seg-*/segment.json"))


def kill_at_random(writer: Writer, data: Path, rng: random.Random) -> bool:
    """Kill a writer soon after its start or one of its commits; return whether it was at work."""
    target = committed(data) + (rng.randint(0, 2) if "ingest" in writer.words else 0)
    deadline = time.monotonic() + 120
    while committed(data) < target and not writer.has_ended():
        assert time.monotonic() < deadline, writer.words
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, LONGEST_S))
    return writer.kill()


def test_killed_writers_lose_nothing_and_store_nothing_twice(
    survey: Survey, tmp_path: Path
) -> None:
    rng = random.Random(77)
    data = tmp_path / "data"
    ingest = ("--data", data, "--workers", 1)
    command("ingest", SDSS, *survey.replaced[:1], *ingest)
    command("ingest", DESI, *sorted(survey.desi.rglob("coadd-*.fits"))[:2], *ingest)
    works: list[Callable[[], tuple[object, ...]]] = [
        lambda: ("ingest", SDSS, survey.sdss, *ingest),
        lambda: ("ingest", DESI, survey.desi, *ingest),
        lambda: ("maintain", "--data", data, "--grace", 1),
        lambda: ("ingest", SDSS, *rng.sample(_newer(survey), 2), "--replace", *ingest),
    ]
    with serve(data, survey.sdss) as served:
        reader = Reader(served.url, survey.truths)
        reader.start()
        killed = 0
        for number in count():
            writer = Writer(tmp_path / "told", *works[number % len(works)]())
            killed += kill_at_random(writer, data, rng)
            passes = reader.passes
            assert faults(data) == []
            while reader.passes < passes + 2 and not reader.faults:
                time.sleep(0.01)
            assert reader.faults == [], f"after {writer.words}"
            if killed == KILLS:
                break
        for words in (works[0](), works[1]()):
            command(*words)
        command("ingest", SDSS, survey.newer, "--replace", *ingest)
        reader.end()
        assert reader.faults == []
        assert [reader.count(truth.context) for truth in survey.truths] == [
            len(truth.versions) for truth in survey.truths
        ]
    command("maintain", "--data", data, "--grace", 0)
    assert faults(data) == []
    assert left_over(data) == []


@pytest.mark.skipif(KILLS <= 20, reason="make kills; one is killed in test_old_folder")
def test_killed_migrations_lose_nothing(tmp_path: Path) -> None:
    rng = random.Random(7)
    left = KILLS // 4
    for turn in count():
        data = unpack_old_folder(tmp_path / str(turn))
        with serve(data, data) as served:
            left -= migrate_with_kills(served.url, data, OLD, rng, min(left, 6))
        command("maintain", "--data", data, "--grace", 0)
        assert faults(data) == []
        assert left_over(data) == []
        if not left:
            break


def _newer(survey: Survey) -> list[Path]:
    return sorted(survey.newer.iterdir())


@pytest.mark.parametrize("nwriters", [2, 4] if KILLS > 50 else [2])
def test_ingests_at_once_store_the_union_once(
    nwriters: int, survey: Survey, tmp_path: Path
) -> None:
    """Each is given two thirds of the files, so that all overlap."""
    files = sorted(survey.sdss.rglob("spec-*.fits"))
    rng = random.Random(nwriters)
    shares = [rng.sample(files, len(files) * 2 // 3) for _ in range(nwriters)]
    words = ("--data", tmp_path / "data", "--workers", 1, "--json")
    writers = [
        Writer(tmp_path / f"told{number}", "ingest", SDSS, *share, *words)
        for number, share in enumerate(shares)
    ]
    told = [json.loads(writer.finish().splitlines()[0]) for writer in writers]
    union = {path for share in shares for path in share}
    assert sum(one["stored"] for one in told) == len(union)
    assert [one["stored"] + one["already_there"] for one in told] == [len(s) for s in shares]
    assert faults(tmp_path / "data") == []
    held = Truth(SDSS, ("specobjid",))
    held.add(union)
    service = SpectroscopicService(open_root(tmp_path / "data"))
    found = service.query(QueryRequest(SDSS, fields=("specobjid",), primary=False))
    assert sorted(found["specobjid"].to_pylist()) == sorted(key for (key,) in held.versions)
