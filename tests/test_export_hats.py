"""Releases as HATS catalogues: valid for `hats`, read by LSDB, and the same as what is served."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import hpgeom
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from commands import command
from forked import run_forked
from specserver.catalog.healpix import pixel
from specserver.data.root import open_root
from specserver.errors import BadParameter, IngestError
from specserver.export import HatsExport, HatsOptions
from specserver.export.draft import draft_of
from specserver.export.partitions import INDEX_ORDER, margin_order, margins, split_sky
from specserver.ingest import run_ingest
from specserver.model.nested import DESCRIPTION, NestedSpectra
from specserver.model.properties import properties_text, read_properties
from specserver.model.region import cone, polygon
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.archive import Archive
from specserver.simulate import simulate_desi
from specserver.store.zarr import Segment
from stored import flip_chunks

pytestmark = pytest.mark.proof

FULL_DISK = "commands:main_on_a_full_disk"
SCRIPT = Path(__file__).with_name("lsdbreading.py")


@dataclass(frozen=True)
class Exported:
    """A release, and the collection that it was exported to."""

    context: str
    data: Path
    folder: Path

    def table(self) -> pa.Table:
        """Return all rows of the catalogue, partition by partition."""
        paths = sorted((self.folder / self.context).rglob("Npix=*.parquet"))
        return pa.concat_tables(pq.ParquetFile(path).read() for path in paths)

    def keyed(self) -> dict[tuple[Any, ...], dict[str, Any]]:
        """Return the structs of spectra by the values that name each."""
        table = self.table()
        described = description(table.schema)
        keys = zip(*(table[name].to_pylist() for name in described.name_columns), strict=True)
        column = table[described.column]
        return {key: column[row] for row, key in enumerate(keys)}


def description(schema: pa.Schema) -> NestedSpectra:
    """Return what an exported table says of its spectra."""
    return NestedSpectra.from_dict(json.loads(schema.metadata[DESCRIPTION]))


def export(data: Path, context: str, folder: Path, *more: object) -> Exported:
    """Export a release through the command."""
    command("export", "hats", context, folder, "--data", data, *more)
    return Exported(context, data, folder)


@pytest.fixture(scope="module")
def sdss(mock_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """All spectra of a mock SDSS, in partitions of several orders."""
    folder = tmp_path_factory.mktemp("sdss-hats") / "hats"
    return export(mock_data, "sdss_dr17", folder, "--all", "--max-rows", 20, "--margin", 3600)


@pytest.fixture(scope="module")
def desi(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """All spectra of a mock DESI, of which some share an identifier, and an empty margin."""
    folder = tmp_path_factory.mktemp("desi-hats")
    simulate_desi(folder / "mock", 60, seed=5)
    run_ingest(open_root(folder / "data"), "desi_dr1", [folder / "mock"], workers=1)
    words = "--all", "--max-rows", 20, "--margin", 1
    return export(folder / "data", "desi_dr1", folder / "hats", *words)


@pytest.fixture(scope="module")
def real(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Real files of SDSS."""
    folder = tmp_path_factory.mktemp("real-hats") / "hats"
    return export(real_data, "sdss_dr17", folder, "--all")


@pytest.fixture(scope="module")
def real_desi(real_spectra: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Real files of DESI."""
    folder = tmp_path_factory.mktemp("real-desi-hats")
    run_ingest(open_root(folder / "data"), "desi_edr", [real_spectra / "desi"], workers=1)
    return export(folder / "data", "desi_edr", folder / "hats", "--all")


def served_records(exported: Exported) -> dict[tuple[Any, ...], np.ndarray]:
    """Return the records of all spectra of a release, by the values that name each."""
    service = SpectroscopicService(open_root(exported.data))
    parts = service.archive.survey(exported.context).id_form.parts
    table = service.query(
        QueryRequest(context=exported.context, fields=tuple(parts), primary=False)
    )
    keys = list(zip(*(table[name].to_pylist() for name in parts), strict=True))
    texts = "\n".join("(" + ",".join(map(str, key)) + ")" for key in keys)
    selection = service.resolve(texts, exported.context)
    return dict(zip(keys, service.read(selection), strict=True))


def without_position(exported: Exported) -> set[tuple[Any, ...]]:
    """Return the values that name spectra without a position."""
    service = SpectroscopicService(open_root(exported.data))
    parts = service.archive.survey(exported.context).id_form.parts
    fields = (*parts, "ra")
    asked = QueryRequest(context=exported.context, fields=fields, primary=False)
    rows = service.query(asked).to_pylist()
    return {tuple(row[part] for part in parts) for row in rows if row["ra"] is None}


# --- values ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["sdss", "desi", "real", "real_desi"])
def test_spectra_are_those_of_the_service_bit_for_bit(
    source: str, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(source)
    expected = served_records(exported)
    found = exported.keyed()
    # Two real spectra state no position.
    assert expected.keys() - found.keys() == without_position(exported)
    grid = description(exported.table().schema).grid
    for key, struct in found.items():
        record = expected[key]
        for name in record.dtype.names or ():
            values = struct[name].values.to_numpy()
            assert values.dtype == record.dtype[name].newbyteorder("="), name
            assert values.tobytes() == record[name].tobytes(), (key, name)
        wave = struct["wavelength"].values.to_numpy()
        np.testing.assert_allclose(wave, grid.wave_of(record[grid.axis]), rtol=1e-6)


@pytest.mark.parametrize("source", ["sdss", "desi"])
def test_the_catalogue_is_beside_the_spectra(source: str, request: pytest.FixtureRequest) -> None:
    exported: Exported = request.getfixturevalue(source)
    service = SpectroscopicService(open_root(exported.data))
    names = list(service.archive.open_release(exported.context).catalog.columns)
    fields = tuple(names)
    asked = QueryRequest(context=exported.context, fields=fields, primary=False)
    expected, found = service.query(asked), exported.table()
    keys = [(name, "ascending") for name in description(found.schema).name_columns]
    expected, found = expected.sort_by(keys), found.sort_by(keys)
    for name in names:
        assert found[name].type == expected[name].type
        assert found[name].equals(expected[name]), name
    survey = service.archive.survey(exported.context)
    stated = {column.name: column for column in survey.columns}
    for field in found.schema:
        if field.name in stated and stated[field.name].meaning:
            about = field.metadata
            assert about[b"description"].decode() == stated[field.name].meaning
            assert about.get(b"unit", b"").decode() == stated[field.name].unit


def test_lists_say_unit_meaning_medium_and_frame(sdss: Exported) -> None:
    lists = {field.name: field.metadata for field in sdss.table().schema.field("spectrum").type}
    assert lists["flux"][b"unit"] == b"1e-17 erg / (s cm2 Angstrom)"
    assert lists["wavelength"][b"unit"] == b"Angstrom"
    assert lists["wavelength"][b"medium"] == lists["loglam"][b"medium"] == b"vacuum"
    assert b"vacuum" in lists["wavelength"][b"frame"]
    assert all(about[b"description"] for about in lists.values())


def test_rows_are_sorted_and_in_their_pixels(sdss: Exported) -> None:
    orders = set()
    for path in (sdss.folder / "sdss_dr17").rglob("Npix=*.parquet"):
        table = pq.ParquetFile(path).read()
        pixels = table["_healpix_29"].to_numpy()
        assert (np.diff(pixels) >= 0).all()
        assert len(table) <= 20
        assert (pixels == pixel(table["ra"].to_numpy(), table["dec"].to_numpy())).all()
        order = int(path.parts[-3].removeprefix("Norder="))
        assert set((pixels >> 2 * (29 - order)).tolist()) == {int(path.stem[5:])}
        assert path.parts[-2] == f"Dir={int(path.stem[5:]) // 10_000 * 10_000}"
        orders.add(order)
    assert len(orders) > 1


def test_files_are_small(tmp_path: Path, sdss: Exported) -> None:
    """All in one file, as it is where many spectra are of a pixel."""
    whole = export(sdss.data, "sdss_dr17", tmp_path / "hats", "--cone", 180, 0, 180)
    paths = list((whole.folder / "sdss_dr17").rglob("Npix=*.parquet"))
    sizes: dict[str, int] = {}
    nrows = 0
    for path in paths:
        footer = pq.ParquetFile(path).metadata
        nrows += footer.num_rows
        for group in map(footer.row_group, range(footer.num_row_groups)):
            for column in map(group.column, range(footer.num_columns)):
                assert column.compression == "ZSTD"
                if column.physical_type in {"FLOAT", "DOUBLE"}:
                    assert "BYTE_STREAM_SPLIT" in column.encodings, column.path_in_schema
                name = column.path_in_schema
                sizes[name] = sizes.get(name, 0) + column.total_compressed_size
    wanted = ("flux", "ivar", "and_mask", "wdisp", "wavelength")
    each = sum(sizes[f"spectrum.{name}.list.element"] for name in wanted) / nrows
    assert each < 40_000


# --- LSDB --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cone:
    """A cone that holds half of the spectra of a release."""

    ra: float
    dec: float
    radius: float
    spectra: list[tuple[Any, ...]]
    """Of each in it, the identifier and the values that name it."""


def half_of(exported: Exported) -> Cone:
    """Return a cone around one of the spectra, as the service answers it."""
    service = SpectroscopicService(open_root(exported.data))
    survey = service.archive.survey(exported.context)
    asked = {"context": exported.context, "primary": False}
    every = service.query(QueryRequest(**asked, fields=("ra", "dec")))
    ra, dec = (every[name].to_numpy() for name in ("ra", "dec"))
    sky = SkyCoord(ra, dec, unit="deg")
    radius = float(np.median(sky.separation(sky[0]).deg))
    fields = tuple(dict.fromkeys((survey.id_column.name, *survey.id_form.parts)))
    near = service.query(QueryRequest(**asked, fields=fields, region=cone(ra[0], dec[0], radius)))
    assert 0 < len(near) < len(every)
    ids = near[survey.id_column.name].to_pylist()
    names = zip(*(near[part].to_pylist() for part in survey.id_form.parts), strict=True)
    return Cone(float(ra[0]), float(dec[0]), radius, list(zip(ids, names, strict=True)))


@pytest.fixture(scope="module")
def by_lsdb(sdss: Exported, desi: Exported) -> dict[str, tuple[Cone, dict[str, Any]]]:
    """What LSDB finds in both collections, and the cones that it searches."""
    exports = [sdss, desi]
    cones = [half_of(exported) for exported in exports]
    asked = [
        [str(exported.folder), each.ra, each.dec, each.radius]
        for exported, each in zip(exports, cones, strict=True)
    ]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", SCRIPT, json.dumps(asked)],
        capture_output=True,
        text=True,
        check=False,
        timeout=250,
        # Its imports take three times as long where their bytecode is not kept.
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": ""},
    )
    assert run.returncode == 0, run.stderr
    line = next(line for line in run.stdout.splitlines() if line.startswith("found "))
    found = json.loads(line.removeprefix("found "))
    contexts = [exported.context for exported in exports]
    return dict(zip(contexts, zip(cones, found, strict=True), strict=True))


@pytest.mark.parametrize("source", ["sdss", "desi"])
def test_lsdb_reads_the_same(
    source: str,
    by_lsdb: dict[str, tuple[Cone, dict[str, Any]]],
    request: pytest.FixtureRequest,
) -> None:
    exported: Exported = request.getfixturevalue(source)
    searched, found = by_lsdb[exported.context]
    assert found["valid"] == [True, True, True]
    assert found["rows"] == [len(exported.table())] * 2
    assert found["kind"].startswith("nested<")
    assert "flux: [float]" in found["kind"]
    records = served_records(exported)
    # The same values are added in the same order, so that sums are equal bit for bit.
    expected = [
        (number, float(records[name]["flux"].astype(np.float64).sum()).hex())
        for number, name in searched.spectra
    ]
    assert sorted(zip(found["ids"], found["sums"], strict=True)) == sorted(expected)


def test_margins_are_those_that_hats_means(
    sdss: Exported, by_lsdb: dict[str, tuple[Cone, dict[str, Any]]]
) -> None:
    _, found = by_lsdb["desi_dr1"]
    assert found["margin"] == {}
    assert found["margin_rows"] == 0
    _, found = by_lsdb["sdss_dr17"]
    held = {}
    for path in (sdss.folder / "sdss_dr17_3600arcs").rglob("Npix=*.parquet"):
        order = path.parts[-3].removeprefix("Norder=")
        table = pq.ParquetFile(path).read()
        held[f"{order}/{path.stem.removeprefix('Npix=')}"] = table["_healpix_29"].to_pylist()
    assert held == found["margin"]
    assert len({name.partition("/")[0] for name in held}) > 1
    assert found["margin_rows"] == sum(map(len, held.values()))


# --- partitions --------------------------------------------------------------------------------


@given(
    st.lists(st.integers(0, 12 * 4**INDEX_ORDER - 1), max_size=60),
    st.integers(1, 5),
    st.integers(0, 10),
)
def test_partitions_cover_the_sky_once(rows: list[int], most: int, highest: int) -> None:
    pixels = np.sort(np.array(rows, np.int64))
    sky = split_sky(pixels, most, highest)
    bounds = [partition.bounds for partition in sky]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == 12 * 4**INDEX_ORDER
    assert all(one[1] == other[0] for one, other in pairwise(bounds))
    for partition in sky:
        low, stop = partition.bounds
        assert partition.nrows == ((pixels >= low) & (pixels < stop)).sum()
        assert partition.nrows <= most or partition.order == highest
        if partition.order:
            # A larger one would have too many rows.
            shift = 2 * (INDEX_ORDER - partition.order + 1)
            assert (pixels >> shift == partition.pixel >> 2).sum() > most


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(1.0, 5000.0))
def test_a_margin_has_all_rows_within_its_width(seed: int, threshold: float) -> None:
    """By brute force: rows, and points of other partitions at the distance of the width."""
    random = np.random.default_rng(seed)
    order = margin_order(threshold)
    ra = random.uniform(0.0, 360.0, 200)
    dec = np.degrees(np.arcsin(random.uniform(-1.0, 1.0, 200)))
    # Half of the rows lie near the borders of large pixels.
    corners = hpgeom.boundaries(1, np.arange(12), 2)
    ra[:96] = np.ravel(corners[0]) + random.normal(0.0, threshold / 3600.0, 96)
    dec[:96] = np.clip(np.ravel(corners[1]) + random.normal(0.0, threshold / 3600.0, 96), -90, 90)
    ra %= 360.0
    index = np.argsort(pixel(ra, dec), kind="stable")
    ra, dec = ra[index], dec[index]
    pixels = pixel(ra, dec)
    sky = split_sky(pixels, 10, min(10, order - 1))
    starts = np.array([partition.bounds[0] for partition in sky])
    held = {
        (int(row), sky.index(partition))
        for partition, rows in margins(pixels, sky, order)
        for row in rows
    }
    own = np.searchsorted(starts, pixels, "right") - 1
    assert all(own[row] != number for row, number in held)
    here = SkyCoord(ra, dec, unit="deg")
    for angle in range(0, 360, 15):
        there = here.directional_offset_by(angle * u.deg, threshold * 0.999 * u.arcsec)
        theirs = np.searchsorted(starts, pixel(there.ra.deg, there.dec.deg), "right") - 1
        lacking = {(row, int(theirs[row])) for row in np.flatnonzero(theirs != own)} - held
        assert not lacking


def test_a_margin_wider_than_pixels_of_the_first_order_is_refused() -> None:
    with pytest.raises(BadParameter, match="at most 659"):
        margin_order(100_000.0)
    assert margin_order(60_000.0) == 1


# --- what is exported --------------------------------------------------------------------------


def identifiers(exported: Exported) -> set[int]:
    """Return the identifiers of all rows of a catalogue."""
    table = exported.table()
    return set(table[description(table.schema).id_column].to_pylist())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"--all": ""},
        {"--where": "class = 'QSO'"},
        {"--cone": "180 0 60", "--all": ""},
        {"--region": "150,-20,210,-20,210,40,150,40", "--where": "z > 0.1"},
    ],
)
def test_the_spectra_of_a_query_are_exported(
    options: dict[str, str], mock_data: Path, tmp_path: Path
) -> None:
    words = [
        word
        for name, value in options.items()
        for word in (name, *(value.split(" ") if name == "--cone" else [value] if value else []))
    ]
    exported = export(mock_data, "sdss_dr17", tmp_path / "hats", *words)
    region = None
    if "--cone" in options:
        region = cone(180.0, 0.0, 60.0)
    elif "--region" in options:
        region = polygon([150, -20, 210, -20, 210, 40, 150, 40])
    asked = QueryRequest(
        context="sdss_dr17",
        region=region,
        constraint=options.get("--where", ""),
        primary="--all" not in options,
    )
    expected = SpectroscopicService(open_root(mock_data)).query(asked)
    assert identifiers(exported) == set(expected["specobjid"].to_pylist())
    held = read_properties((exported.folder / "sdss_dr17" / "hats.properties").read_bytes())
    assert held["dataproduct_type"] == ("source" if "--all" in options else "object")
    assert held["hats_nrows"] == str(len(expected))


def test_a_dry_run_writes_nothing(mock_data: Path, tmp_path: Path) -> None:
    words = "export", "hats", "sdss_dr17", tmp_path / "hats", "--data", mock_data, "--all"
    planned = json.loads(command(*words, "--dry-run", "--json"))
    assert not list(tmp_path.iterdir())
    done = json.loads(command(*words, "--json"))
    assert planned["nbytes"] == 0 < done["nbytes"]
    for name in ("context", "nspec", "partitions", "orders", "margin_rows", "no_position"):
        assert planned[name] == done[name]


def test_spectra_off_the_lattice_keep_their_wavelengths(mock_survey: Path, tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    for number, original in enumerate(sorted(mock_survey.rglob("spec-*.fits"))[:4]):
        path = Path(shutil.copy(original, files))
        if number % 2:
            with fits.open(path, memmap=False) as hdus:
                name = next(n for n in hdus[1].columns.names if n.lower() == "loglam")
                hdus[1].data[name] += np.float32(3.3e-5)
                hdus.writeto(path, overwrite=True)
    run_ingest(open_root(tmp_path / "data"), "sdss_dr17", [files], workers=1)
    exported = export(tmp_path / "data", "sdss_dr17", tmp_path / "hats", "--all")
    expected, found = served_records(exported), exported.keyed()
    assert len(found) == len(expected) == 4
    for key, record in expected.items():
        for name in record.dtype.names or ():
            assert found[key][name].values.to_numpy().tobytes() == record[name].tobytes()
        wave = found[key]["wavelength"].values.to_numpy()
        np.testing.assert_allclose(wave, 10.0 ** record["loglam"].astype(float), rtol=1e-6)


def test_spectra_without_a_position_are_left_out_and_counted(real_desi: Exported) -> None:
    printed = command(
        *("export", "hats", real_desi.context, real_desi.folder.parent / "again"),
        *("--data", real_desi.data, "--all", "--dry-run"),
    )
    assert re.search(
        "warning: 2 spectra have no position, and are left out: [0-9]+, [0-9]+$",
        printed,
        re.MULTILINE,
    )


def test_nothing_to_export_is_an_error(mock_data: Path, tmp_path: Path) -> None:
    words = "export", "hats", "sdss_dr17", tmp_path / "hats", "--data", mock_data
    printed = command(*words, "--where", "z > 99", code=2)
    assert "none meets these conditions; nothing was written" in printed
    assert "too wide" not in command(*words, "--margin", 1e6, code=2)
    assert not list(tmp_path.iterdir())


# --- damage and interruption -------------------------------------------------------------------


@pytest.fixture
def damaged(mock_data: Path, tmp_path: Path) -> tuple[Path, int]:
    """A data folder with a damaged spectrum, and its identifier."""
    data = Path(shutil.copytree(mock_data, tmp_path / "data"))
    context = open_root(data).context("sdss_dr17")
    segment = Segment(context.segment(context.segments()[0]))
    flip_chunks(segment, "flux", [7])
    return data, int(segment.ids[7])


def test_a_damaged_spectrum_is_named_and_nothing_is_written(
    damaged: tuple[Path, int], tmp_path: Path
) -> None:
    data, number = damaged
    out = tmp_path / "out" / "hats"
    out.parent.mkdir()
    printed = command("export", "hats", "sdss_dr17", out, "--data", data, "--all", code=1)
    assert f"{number} cannot be read" in printed
    assert "--skip-missing" in printed
    assert not list(out.parent.iterdir())


def test_a_damaged_spectrum_may_be_left_out(damaged: tuple[Path, int], tmp_path: Path) -> None:
    data, number = damaged
    words = "export", "hats", "sdss_dr17", tmp_path / "hats", "--data", data, "--all"
    printed = command(*words, "--skip-missing")
    assert f"1 spectra are damaged, and left out: {number}" in printed
    exported = Exported("sdss_dr17", data, tmp_path / "hats")
    context = open_root(data).context("sdss_dr17")
    ids = np.concatenate([Segment(context.segment(name)).ids for name in context.segments()])
    assert identifiers(exported) == set(ids.tolist()) - {number}


def test_a_folder_with_something_in_it_is_left_alone(mock_data: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    words = "export", "hats", "sdss_dr17", tmp_path, "--data", mock_data
    assert "it is not empty; name a new folder" in command(*words, code=2)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    words = "export", "hats", "sdss_dr17", tmp_path / "mine", "--data", mock_data
    assert "it is a file; name a new folder" in command(*words, code=2)
    words = "export", "hats", "sdss_dr17", tmp_path / "mine" / "x", "--data", mock_data
    assert f"{tmp_path / 'mine'} is a file, not a folder" in command(*words, code=2)


def test_a_folder_among_the_contexts_is_refused(mock_data: Path) -> None:
    before = sorted(mock_data.iterdir())
    words = "export", "hats", "sdss_dr17", mock_data / "hz", "--data", mock_data
    assert "it is in the data folder" in command(*words, code=2)
    assert sorted(mock_data.iterdir()) == before


def test_a_mount_point_is_refused_at_the_start(mock_data: Path, tmp_path: Path) -> None:
    """Nothing can be renamed to it."""
    link = tmp_path / "link"
    link.symlink_to("/proc")
    for folder in ("/proc", link):
        words = "export", "hats", "sdss_dr17", folder, "--data", mock_data
        for more in ((), ("--dry-run",)):
            printed = command(*words, *more, code=2)
            assert f"it is a mount point; name a folder inside it, such as {folder}/hats" in printed


def test_an_interrupted_export_ends_with_the_group_that_it_is_at(
    mock_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while the last partition is written."""
    monkeypatch.setattr("specserver.export.hats.GROUP_ROWS", 1)
    asked = QueryRequest(context="sdss_dr17", fields=("specobjid", "ra", "dec"))
    rows = SpectroscopicService(open_root(mock_data)).query(asked)
    whole = pixel(rows["ra"].to_numpy(), rows["dec"].to_numpy()) >> 2 * INDEX_ORDER
    ids = rows["specobjid"].to_numpy()[whole == np.bincount(whole).argmax()]
    chosen = f"specobjid in ({', '.join(map(str, ids))})"
    options = HatsOptions(constraint=chosen, max_rows=10**6, margin_arcsec=0.0)
    export = HatsExport(Archive(open_root(mock_data)), "sdss_dr17", options)
    planned = export.plan(tmp_path / "hats")
    assert planned.partitions == 1
    assert planned.nspec > 9
    told: list[int] = []

    def progress(done: int, _: int) -> None:
        told.append(done)
        if len(told) == 1:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        time.sleep(0.02)

    with pytest.raises(KeyboardInterrupt):
        export.write(tmp_path / "hats", progress)
    assert 0 < len(told) < planned.nspec
    assert not list(tmp_path.iterdir())


def test_an_export_goes_on_where_its_version_of_the_index_is_deleted(
    mock_data: Path, tmp_path: Path
) -> None:
    """As ``maintain`` does, a while after other parts have replaced it."""
    data = Path(shutil.copytree(mock_data, tmp_path / "data"))
    made = HatsExport(Archive(open_root(data)), "sdss_dr17", HatsOptions(everything=True))
    shutil.rmtree(data / "sdss_dr17" / "index")
    made.write(tmp_path / "hats")
    exported = Exported("sdss_dr17", data, tmp_path / "hats")
    whole = export(mock_data, "sdss_dr17", tmp_path / "whole", "--all")
    assert exported.table().equals(whole.table())


def test_an_empty_folder_is_filled(mock_data: Path, tmp_path: Path) -> None:
    out = tmp_path / "hats"
    out.mkdir()
    link = tmp_path / "link"
    link.symlink_to(out)
    export(mock_data, "sdss_dr17", link)
    assert (out / "collection.properties").is_file()
    assert {path.name for path in tmp_path.iterdir()} == {"hats", "link"}


def test_what_a_killed_export_has_left_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "hats"
    left = tmp_path / ".hats.draft"
    (left / "sdss_dr17").mkdir(parents=True)
    with draft_of(out) as draft:
        assert draft == left
        assert not list(draft.iterdir())
        assert not out.exists()
        with pytest.raises(IngestError, match="another export"), draft_of(out):
            pass
        (draft / "file").write_text("whole")
    assert (out / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["hats"]


@pytest.mark.parametrize("workers", [1, 3])
def test_on_a_full_disk_nothing_is_left(workers: int, mock_data: Path, tmp_path: Path) -> None:
    words = ["export", "hats", "sdss_dr17", tmp_path / "hats", "--data", mock_data, "--all"]
    words += ["--max-rows", 5, "--workers", workers]
    done = run_forked([str(word) for word in words], os.environ, main=FULL_DISK)
    assert done.returncode == 1
    assert "hats cannot be written: " in done.stderr
    assert "File too large; nothing is left of it" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_spectra_in_several_units_are_exported_unit_by_unit(tmp_path: Path) -> None:
    for unit in ("mJy", "Jy"):
        (tmp_path / unit).mkdir()
        wave, flux = np.linspace(4000, 5000, 100) * u.AA, np.arange(100.0) * u.Unit(unit)
        Table({"wave": wave, "flux": flux}).write(tmp_path / unit / f"{unit}.ecsv")
    (tmp_path / "targets.csv").write_text("id,file,ra,dec\n1,mJy,10,0\n2,Jy,20,0\n")
    words = ["ingest", "own", "--reader", "specutils", "--data", tmp_path / "data"]
    words += ["--catalog", tmp_path / "targets.csv"]
    command(*words, tmp_path / "mJy", tmp_path / "Jy")
    words = ["export", "hats", "own", tmp_path / "hats", "--data", tmp_path / "data"]
    printed = command(*words, code=2)
    assert "fluxes in 'Jy', 'mJy'" in printed
    assert "--where \"flux_unit = 'Jy'\"" in printed
    command(*words, "--where", "flux_unit = 'Jy'")
    exported = Exported("own", tmp_path / "data", tmp_path / "hats")
    assert identifiers(exported) == {2}
    lists = {field.name: field.metadata for field in exported.table().schema.field("spectrum").type}
    assert lists["flux"][b"unit"] == b"Jy"
    assert lists["wavelength"][b"medium"] == b"as column medium states"


# --- properties --------------------------------------------------------------------------------


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,9}", fullmatch=True), st.text()))
def test_properties_are_read_as_they_were_written(values: dict[str, str]) -> None:
    jproperties = pytest.importorskip("jproperties")
    text = properties_text("title", values)
    assert text.isascii()
    read = jproperties.Properties()
    read.load(text, "utf-8")
    # Blanks are one blank, and ends of lines blanks too.
    expected = {name: " ".join(value.split()) for name, value in values.items()}
    assert {name: value.data for name, value in read.items()} == expected
