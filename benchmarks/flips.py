"""No flipped bit goes unnoticed: ``make flips`` damages a data folder one bit at a time.

A folder with an SDSS, a DESI, a survey of its own, a tree of original files and a value-added
table is copied for each flip, one bit of one file is changed, and the copy is asked for all of its
spectra and catalogue values and for some queries, and then verified. A flip is

* *harmless*: every answer is the same bit for bit, and ``verify`` finds nothing;
* *mended*: every answer is the same, as the damaged file was noticed and made again;
* *refused*: an answer is an error that names what is wrong, and no other answer is another;
* *verify*: ``verify`` finds it; answers may be others until then;
* *SILENT*: an answer is another, and nobody says so. One of these and the end is 1.
"""

import argparse
import hashlib
import logging
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from astropy.table import Table

from specserver.damage import damaged_files
from specserver.data.root import open_root
from specserver.errors import SpecServerError
from specserver.ingest import run_ingest
from specserver.ingest.declare import declare
from specserver.ingest.option_effects import SurveyOptions
from specserver.ingest.verify import verify
from specserver.model.region import Cone, cone
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.fits_tree_source import FitsTreeSource, add_tree
from specserver.service.stream import StreamRequest
from specserver.service.tables import attach_table
from specserver.simulate import simulate_desi, simulate_sdss

SEGMENTS, DESI, OWN, TREE = "sdss_dr17", "desi_edr", "mine", "sdss_dr16"
TABLE = "lines"
OUTCOMES = ("harmless", "mended", "refused", "verify", "SILENT")
_REDUCTIONS = ("26", "v5_7_0", "v5_10_0", "v5_11_0", "v5_13_0", "v5_13_2")
_KINDS = (
    ("segment.json", "commit record"),
    ("objects.parquet", "catalogue rows"),
    ("survey.json", "declaration"),
    ("targets-*", "table of targets"),
    ("tree.json", "tree record"),
    ("tree-*.npy", "tree fingerprints"),
    ("0*.json", "index manifest"),
    ("part.json", "index record"),
    ("core.arrow", "index core.arrow"),
    ("rest.arrow", "index rest.arrow"),
    ("*.npy", "index array"),
    ("*.parquet", "value-added table"),
    ("*.json", "other record"),
    ("spec-*", "original file of a tree"),
    ("*lock", "lock"),
)


Question: TypeAlias = tuple[str, Callable[[], str]]
"""What is asked, and what asks it."""


@dataclass(slots=True)
class Folder:
    """A data folder, and what a sound one answers."""

    data: Path
    tree: Path
    """Its tree of original files, outside of it."""
    ids: dict[str, list[int]] = field(default_factory=dict)
    sound: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Flip:
    """One changed bit, and what became of it."""

    kind: str
    file: str
    place: str
    outcome: str
    why: str


def make_folder(top: Path, nspec: int = 12) -> Folder:
    """Make the data folder that is to be damaged."""
    data, spectra = top / "data", top / "sdss"
    simulate_sdss(spectra, nspec, seed=3)
    run_ingest(open_root(data), SEGMENTS, [spectra], workers=1)
    simulate_desi(top / "desi", 8, seed=5, per_file=4)
    run_ingest(open_root(data), DESI, [top / "desi"], workers=1)
    own = top / "own"
    own.mkdir()
    wave = np.linspace(4000.0, 5000.0, 200)
    for number in range(4):
        one = Table({"wavelength": wave + number, "flux": np.sin(wave / 50) + number})
        one["wavelength"].unit, one["flux"].unit = "Angstrom", "1e-17 erg / (s cm2 Angstrom)"
        one.write(own / f"own_{number}.fits")
    rows = [
        f"own_{number}.fits,{number + 1},{10 + number},{number},0.{number}" for number in range(4)
    ]
    targets = top / "targets.csv"
    targets.write_text("\n".join(["file,id,ra,dec,z", *rows]) + "\n")
    declare(open_root(data), OWN, [own], SurveyOptions(catalog=targets, title="My own"))
    run_ingest(open_root(data), OWN, [own], workers=1)
    tree = top / "tree"
    simulate_sdss(tree, 6, seed=8)
    add_tree(open_root(data), TREE, tree, reductions=_REDUCTIONS)
    service = SpectroscopicService(open_root(data))
    found = service.query(QueryRequest(SEGMENTS, fields=("specobjid", "z"), primary=False))
    table = top / "lines.csv"
    lines = [f"{one['specobjid']},{one['z']},{n}" for n, one in enumerate(found.to_pylist())]
    table.write_text("\n".join(["specobjid,z_lines,number", *lines]) + "\n")
    attach_table(service.archive, SEGMENTS, TABLE, table, title="Lines")
    folder = Folder(data, tree)
    for context, name in ((SEGMENTS, "specobjid"), (DESI, "targetid"), (OWN, "id")):
        held = service.query(QueryRequest(context, fields=(name,), primary=False))
        folder.ids[context] = sorted(set(held.column(name).to_pylist()))
    (source,) = service.archive.search(TREE).sources
    assert isinstance(source, FitsTreeSource)
    held_tree = source.tree
    named = (held_tree.find(*one) for one in held_tree.search(lambda *_: True, None))
    folder.ids[TREE] = sorted(one.id for one in named if one)
    folder.sound, faults = ask(folder, data)
    if faults or check(data):
        raise SystemExit(f"the folder is not sound to begin with: {faults} {check(data)}")
    return folder


def ask(folder: Folder, data: Path) -> tuple[dict[str, str], list[str]]:
    """Return a digest of each answer, and the errors in place of those there are none of."""
    answers: dict[str, str] = {}
    faults: list[str] = []
    service = SpectroscopicService(open_root(data))
    # As a server does when it starts.
    service.archive.ensure_indexes()
    for name, made in _questions(folder, service):
        try:
            answers[name] = made()
        except SpecServerError as error:
            faults.append(f"{name}: {error.message}")
    return answers, faults


def _questions(
    folder: Folder, service: SpectroscopicService
) -> Iterator[tuple[str, Callable[[], str]]]:
    """Yield the name of each question, and what asks it."""

    def spectra(context: str) -> str:
        hashed = hashlib.blake2b()
        survey = service.archive.survey(context)
        names = [one.name for one in (*survey.record, *survey.extra)]
        selection = service.resolve(folder.ids[context], context)
        hashed.update(selection.ids.tobytes())
        for one in service.read(selection, names):
            hashed.update(one.tobytes())
        stream = service.stream(selection, StreamRequest())
        for batch in stream.batches:
            hashed.update(batch.first.tobytes() + batch.count.tobytes() + batch.start.tobytes())
            for name, cells in batch.cells.items():
                hashed.update(name.encode() + cells.data.tobytes())
        hashed.update(repr(stream.head.to_json()).encode())
        return hashed.hexdigest()

    def table(
        context: str, catalog: str | None, constraint: str = "", region: Cone | None = None
    ) -> str:
        opened = service.archive.table(context, catalog, primary=False).catalog
        fields = tuple(opened.columns)
        request = QueryRequest(context, region, constraint, fields, catalog, primary=False)
        return _hash(service.query(request))

    for context in folder.ids:
        yield f"{context} spectra", partial(spectra, context)
        yield f"{context} about", partial(_told, service.archive.info, context)
    for context, catalog in (
        (SEGMENTS, None),
        (DESI, None),
        (OWN, None),
        (SEGMENTS, f"{SEGMENTS}.{TABLE}"),
    ):
        about = catalog or context
        yield f"{about} rows", partial(table, context, catalog)
        yield f"{about} condition", partial(table, context, catalog, "ra > 1 order by ra")
        yield f"{about} cone", partial(table, context, catalog, region=cone(10.0, 1.0, 90.0))
        yield f"{about} listed", partial(_told, service.archive.catalogs, context)


def _told(ask: Callable[[str], object], context: str) -> str:
    """Return an answer as text."""
    return repr(ask(context))


def _hash(table: pa.Table) -> str:
    """Return a digest of a table's names, types and values."""
    return hashlib.blake2b(repr((table.schema, table.to_pydict())).encode()).hexdigest()


def check(data: Path) -> list[str]:
    """Return the faults that ``verify`` finds."""
    return [
        f"{one.context}/{one.what}: {fault}"
        for one in verify(open_root(data))
        for fault in one.faults
    ]


def kind_of(path: Path, data: Path) -> str:
    """Return what kind of file a file is."""
    if "cube.zarr" in path.parts:
        inner = path.parts[path.parts.index("cube.zarr") + 1 :]
        if inner[-1] == "zarr.json":
            return "zarr.json of the group" if len(inner) == 1 else "zarr.json of an array"
        return "shard" if len(inner) > 3 else f"array {inner[0]}"
    del data
    return next(kind for pattern, kind in _KINDS if path.match(pattern))


def run_flips(folder: Folder, number: int, seed: int, scratch: Path) -> Iterator[Flip]:
    """Flip bits one after the other, each in a copy of its own; files of all kinds in turn."""
    chosen = random.Random(seed)
    kinds: dict[str, list[Path]] = {}
    for file in sorted((*folder.data.rglob("*"), *folder.tree.rglob("*"))):
        if file.is_file() and file.stat().st_size and not file.name.startswith("photo"):
            kinds.setdefault(kind_of(file, folder.data), []).append(file)
    names = sorted(kinds)
    for count in range(number):
        kind = names[count % len(names)]
        yield _flip(folder, kind, chosen.choice(kinds[kind]), chosen, scratch / f"flip-{count}")


def _flip(folder: Folder, kind: str, file: Path, chosen: random.Random, copy: Path) -> Flip:
    """Flip one bit of a file in a copy of the folder, and see what becomes of it."""
    content = bytearray(file.read_bytes())
    at, bit = chosen.randrange(len(content)), chosen.randrange(8)
    content[at] ^= 1 << bit
    # A disk that forgets changes no time; a hand does. Both are tried.
    aged = chosen.random() < 0.5
    _copy(folder.data, copy)
    inside = file.is_relative_to(folder.data)
    target = copy / file.relative_to(folder.data) if inside else file
    original = file.read_bytes()
    status = file.stat()
    try:
        if inside:
            target.unlink()
        target.write_bytes(content)
        if aged:
            _set_times(target, status)
        outcome, why = _outcome(folder, copy)
    finally:
        if not inside:
            target.write_bytes(original)
            _set_times(target, status)
        shutil.rmtree(copy, ignore_errors=True)
    shown = str(file.relative_to(folder.data if inside else folder.tree))
    return Flip(kind, shown, f"byte {at} bit {bit}", outcome, why)


def _set_times(path: Path, status: os.stat_result) -> None:
    """Give a file the times that it had."""
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy(data: Path, copy: Path) -> None:
    """Copy a data folder; files that nobody changes are shared."""
    shutil.copytree(data, copy, copy_function=os.link)


def _outcome(folder: Folder, copy: Path) -> tuple[str, str]:
    """Return what became of a flip, and the reason."""
    answers, faults = ask(folder, copy)
    noticed = damaged_files(copy) + damaged_files(folder.tree)
    other = [name for name, one in answers.items() if folder.sound[name] != one]
    found = check(copy)
    if other:
        why = f"{', '.join(other)}; {found}"
        return ("verify" if found else "SILENT"), why
    if faults:
        return "refused", faults[0]
    if found:
        return "verify", found[0]
    return ("mended", str(noticed[0])) if noticed else ("harmless", "")


def table_of(flips: list[Flip]) -> str:
    """Return how many flips of each kind of file had which outcome."""
    counts = Counter((one.kind, one.outcome) for one in flips)
    lines = [f"{'kind of file':26}" + "".join(f"{one:>10}" for one in OUTCOMES)]
    lines += [
        f"{kind:26}" + "".join(f"{counts[kind, one]:10}" for one in OUTCOMES)
        for kind in sorted({one.kind for one in flips})
    ]
    totals = Counter(one.outcome for one in flips)
    last = f"{f'{len(flips)} flips':26}" + "".join(f"{totals[one]:10}" for one in OUTCOMES)
    return "\n".join([*lines, last])


def main() -> int:
    """Flip, print the table, and end with 1 when a flip was silent."""
    parser = argparse.ArgumentParser(description="Flip bits of a data folder, one at a time.")
    parser.add_argument("--flips", type=int, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--verbose", action="store_true", help="say of each flip what became of it")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="specserver-flips-") as name:
        folder = make_folder(Path(name))
        flips = []
        for one in run_flips(folder, given.flips, given.seed, Path(name)):
            flips.append(one)
            if given.verbose or one.outcome == "SILENT":
                print(f"{one.outcome}: {one.kind}: {one.file}, {one.place}: {one.why}", flush=True)
    print(table_of(flips))
    return int(any(one.outcome == "SILENT" for one in flips))


if __name__ == "__main__":
    sys.exit(main())
