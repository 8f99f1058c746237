"""Spectra that share an identifier: a row of a table names its own one, whatever asked for it."""

import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table

from conftest import without_digests
from serving import serve
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadParameter, NotFound
from specserver.ingest import run_ingest
from specserver.ingest.verify import verify
from specserver.service.archive import Archive
from specserver.service.tables import attach_table
from specserver.simulate import simulate_desi, simulate_sdss

CONTEXT = "desi_edr"
TILE = "4-80605-thru20210205"


@dataclass(frozen=True)
class Place:
    """A coadd of the target as its file has it."""

    coadd: str
    ra: float
    flux_r: bytes
    healpix: int
    tileid: int


def write_coadd(
    source: Path, folder: Path, name: str, cards: dict[str, object], ra: float, scale: float
) -> None:
    """Write the files of a coadd of the same targets at another place, with other values."""
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("coadd", "redrock"):
        with fits.open(source.with_name(source.name.replace("coadd", kind))) as units:
            header = units[0].header
            if "TILEID" in cards:
                for card in ("SURVEY", "PROGRAM", "HPXPIXEL", "HPXNSIDE"):
                    header.remove(card, ignore_missing=True)
            header.update(cards)
            if kind == "coadd":
                table = units["FIBERMAP"].data
                table["TARGET_RA"][:] = (table["TARGET_RA"] + ra) % 360.0
                for arm in "BRZ":
                    units[f"{arm}_FLUX"].data *= scale
            units.writeto(folder / f"{kind}-{name}.fits")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of coadds of the same TARGETIDs: two pixels, two tiles, a row given twice."""
    made = tmp_path_factory.mktemp("mock")
    simulate_desi(made, 12, seed=3, per_file=12)
    source = next(iter(sorted(made.rglob("coadd-*.fits"))))
    with fits.open(source) as units:
        cards = {name: units[0].header[name] for name in ("SURVEY", "PROGRAM", "HPXPIXEL")}
    folder = tmp_path_factory.mktemp("files")
    place = f"{cards['SURVEY']}-{cards['PROGRAM']}"
    first = {"HPXPIXEL": 9144, "HPXNSIDE": 64}
    write_coadd(source, folder, f"{place}-9144", first, 0.0, 1.0)
    write_coadd(source, folder, f"{place}-9145", first | {"HPXPIXEL": 9145}, 1.0, 2.0)
    tile = {"PETAL": 4, "SPGRP": "cumulative", "SPGRPVAL": 20210205, "NIGHT": 20210205}
    write_coadd(source, folder, TILE, tile | {"TILEID": 80605}, 2.0, 4.0)
    other = TILE.replace("80605", "80606")
    write_coadd(source, folder, other, tile | {"TILEID": 80606}, 3.0, 8.0)
    with fits.open(folder / f"coadd-{place}-9145.fits", mode="update") as units:
        for table in ("FIBERMAP", "SCORES"):
            units[table].data["TARGETID"][1] = units[table].data["TARGETID"][0]
    return folder


@pytest.fixture(scope="module")
def places(files: Path) -> dict[int, list[Place]]:
    """Return what the files hold of each target."""
    found: dict[int, list[Place]] = {}
    for path in sorted(files.glob("coadd-*.fits")):
        with fits.open(path) as units:
            header, table = units[0].header, units["FIBERMAP"].data
            seen: dict[int, int] = {}
            for row, number in enumerate(table["TARGETID"].tolist()):
                seen[number] = seen.get(number, 0) + 1
                if "TILEID" in header:
                    label = f"{header['TILEID']}-{header['SPGRP']}-{header['SPGRPVAL']}"
                else:
                    label = f"{header['SURVEY']}-{header['PROGRAM']}-{header['HPXPIXEL']}"
                label += f".{seen[number]}" if seen[number] > 1 else ""
                one = Place(
                    label,
                    float(table["TARGET_RA"][row]),
                    units["R_FLUX"].data[row].astype("<f4").tobytes(),
                    int(header.get("HPXPIXEL", -1)),
                    int(header.get("TILEID", -1)),
                )
                found.setdefault(number, []).append(one)
    return found


@pytest.fixture(scope="module")
def data(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "data"
    summary = run_ingest(open_root(folder), CONTEXT, [files], workers=1)
    assert not summary.refused
    assert (summary.stored, summary.already) == (48, 0)
    assert not [fault for finding in verify(open_root(folder)) for fault in finding.faults]
    return folder


@pytest.fixture(scope="module")
def client(data: Path, files: Path) -> Iterator[SpecClient]:
    with serve(data, files) as running:
        yield SpecClient(CONTEXT, svc_url=running.url)


def red(client: SpecClient, given: object) -> list[bytes]:
    return [one["flux_r"].tobytes() for one in client.getSpec(given, values="flux_r")]


def expected(places: dict[int, list[Place]], rows: Table) -> list[bytes]:
    """Return the flux of rows by their position, which only one of the spectra of a target has."""
    found = []
    for row in rows:
        held = places[int(row["targetid"])]
        (one,) = {one.flux_r for one in held if one.ra == row["ra"]}
        found.append(one)
    return found


def test_a_row_that_match_found_is_what_getspec_gives(
    client: SpecClient, places: dict[int, list[Place]]
) -> None:
    with_ra = client.query(constraint="targetid <> 0", fields="ra,dec", primary=False)
    assert len(with_ra) == 48
    assert red(client, with_ra) == expected(places, with_ra)
    apart = client.match((with_ra["ra"], with_ra["dec"]), 0.001, primary=False)
    found = red(client, apart)
    assert found == expected(places, with_ra)
    assert client.getSpec(apart[5], values="flux_r")["flux_r"].tobytes() == found[5]
    frame = apart.to_pandas()
    assert red(client, frame) == found
    assert red(client, apart["targetid", "survey", "program", "coadd"].as_array()) == found


@pytest.mark.proof
def test_rows_of_a_query_with_any_fields_name_their_spectra(
    client: SpecClient, places: dict[int, list[Place]], tmp_path: Path
) -> None:
    for fields in ("ra,z", "z,ra,targetid", "*", "targetid,ra,survey,program"):
        rows = client.query(constraint="ra > 0", fields=fields, primary=False)
        assert red(client, rows) == expected(places, rows)
        rows.write(tmp_path / "rows.fits", overwrite=True)
        assert red(client, Table.read(tmp_path / "rows.fits")) == expected(places, rows)
    assert client.query(
        constraint="ra > 0", fields="ra,z", primary=False, out=tmp_path / "rows.csv"
    ) == "OK"  # fmt: skip
    rows = Table.read(tmp_path / "rows.csv")
    assert red(client, tmp_path / "rows.csv") == expected(places, rows)
    assert red(client, pd.read_csv(tmp_path / "rows.csv")) == expected(places, rows)
    tuples = client.query(constraint="ra > 0", fields="tuple", primary=False)
    assert red(client, tuples) == expected(places, rows)
    # The default is an array of identifiers, of which each means the best of its target.
    with pytest.warns(UserWarning, match="36 more are not the survey's primary spectra"):
        plain = client.query(constraint="ra > 0", fields=None)
    assert plain.dtype == np.int64
    best = client.query(constraint="ra > 0", fields="ra,z")
    assert red(client, plain) == expected(places, best)


def test_a_tuple_that_leaves_the_coadd_open_means_the_best(
    client: SpecClient, places: dict[int, list[Place]]
) -> None:
    # The shared client may have warned of the others before, and does so once.
    asking = SpecClient(CONTEXT, svc_url=client.get_svc_url())
    with pytest.warns(UserWarning, match="23 more are not the survey's primary spectra"):
        tuples = asking.query(constraint="healpix > 0", fields="tuple")
    number, survey, program, _ = tuples[0]
    one = client.getSpec((number, survey, program), values="flux_r")
    assert one.shape == (2326,)
    assert one["flux_r"].tobytes() in {each.flux_r for each in places[number]}
    assert len(client.getSpec((number, "*"))) == len(places[number])
    for each in places[number]:
        exact = client.getSpec((number, "*", "*", each.coadd), values="flux_r")
        assert exact["flux_r"].tobytes() == each.flux_r
    with pytest.raises(NotFound):
        client.getSpec((number, "*", "*", "main-dark-1"))


@pytest.mark.parametrize(
    ("columns", "label"),
    [(("healpix",), "9145"), (("tileid", "healpix"), "80606"), (("coadd",), ""), ((), "")],
)
def test_a_row_of_a_value_added_table_means_its_own_spectrum(
    data: Path,
    client: SpecClient,
    places: dict[int, list[Place]],
    tmp_path: Path,
    columns: tuple[str, ...],
    label: str,
) -> None:
    rows = client.query(
        constraint="ra > 0", fields="ra,dec,z,healpix,tileid,coadd", primary=not columns
    )
    if label:
        rows = rows[[label in one for one in rows["coadd"].tolist()]]
        # Of the target that a file has twice, the pixel does not tell which is meant.
        rows = rows[rows["targetid"] != min(places)]
    keep = rows["targetid", *columns]
    keep["VALUE"] = np.arange(len(keep), dtype=float)
    name = f"vac_{'_'.join(columns) or 'plain'}"
    keep.write(tmp_path / "table.fits")
    attach_table(Archive(open_root(data)), CONTEXT, name, tmp_path / "table.fits")
    fields = "value,ra,specobj.coadd,specobj.ra"
    asked = client.query(constraint="value >= 0", fields=fields, catalog=f"{CONTEXT}.{name}")
    asked.sort("value")
    assert len(asked) == len(rows)
    assert red(client, asked) == expected(places, rows)
    assert np.array_equal(asked["ra"], rows["ra"])
    assert np.array_equal(asked["specobj.ra"], rows["ra"])
    assert asked["specobj.coadd"].tolist() == rows["coadd"].tolist()
    found = client.match(
        (rows["ra"], rows["dec"]), 0.001, fields="value", catalog=f"{CONTEXT}.{name}"
    )
    assert red(client, found) == expected(places, rows)


def test_a_row_of_a_table_that_means_a_spectrum_not_held_gets_none(
    data: Path, client: SpecClient, places: dict[int, list[Place]], tmp_path: Path
) -> None:
    number = next(iter(places))
    Table({"TARGETID": [number], "HEALPIX": [17], "X": [1.0]}).write(tmp_path / "far.fits")
    attach_table(Archive(open_root(data)), CONTEXT, "far", tmp_path / "far.fits")
    rows = client.query(constraint="x > 0", fields="x,healpix", catalog=f"{CONTEXT}.far")
    with pytest.raises(NotFound):
        client.getSpec(rows)
    joined = client.query(constraint="x > 0", fields="x,specobj.z", catalog=f"{CONTEXT}.far")
    assert len(rows) == 1
    assert len(joined) == 0


def test_a_row_given_twice_in_a_file_of_exposures_is_told(tmp_path: Path) -> None:
    simulate_desi(tmp_path / "mock", 6, seed=4, per_file=6, exposures=True)
    path = next(iter(sorted((tmp_path / "mock").rglob("spectra-*.fits"))))
    with fits.open(path, mode="update") as units:
        table = units["FIBERMAP"].data
        for name in ("TARGETID", "EXPID"):
            table[name][1] = table[name][0]
        nrows = len(table)
    summary = run_ingest(open_root(tmp_path / "data"), "desi_edr_exposures", [path], workers=1)
    assert summary.stored == nrows - 1
    assert len(summary.conflicts) == 1


@pytest.mark.proof
def test_folders_of_older_versions_are_read(
    data: Path, files: Path, places: dict[int, list[Place]], tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    old = tmp_path / "old"
    shutil.copytree(data, old)
    shutil.rmtree(old / CONTEXT / "index")
    for name in open_root(old).context(CONTEXT).segments():
        rows = old / CONTEXT / name / "objects.parquet"
        table = pq.read_table(rows)
        pq.write_table(table.drop_columns(["coadd"]), rows)
        without_digests(rows.parent)
    with serve(old, files) as running:
        client = SpecClient(CONTEXT, svc_url=running.url)
        with_ra = client.query(constraint="targetid <> 0", fields="ra", primary=False)
        table = client.query(constraint="targetid <> 0", fields="ra,z", primary=False)
        assert len(with_ra) == 48
        assert red(client, table) == expected(places, table)


SUBSETS = [
    ("survey", "coadd"), ("coadd",), ("healpix",), ("HEALPIX", "TILEID"), ("PROGRAM", "healpix"),
    ("survey", "program", "healpix", "tileid"),
]  # fmt: skip


@pytest.mark.parametrize("columns", SUBSETS, ids=",".join)
def test_every_column_that_tells_spectra_apart_is_taken(
    client: SpecClient, places: dict[int, list[Place]], tmp_path: Path, columns: tuple[str, ...]
) -> None:
    fields = "ra,survey,program,healpix,tileid,coadd"
    rows = client.query(constraint="healpix >= 0", fields=fields, primary=False)
    # Of the target that a file has twice, only the coadd tells which is meant.
    rows = rows[[int(one) not in twice(places) for one in rows["targetid"]]]
    cut = Table({"targetid": rows["targetid"]})
    for name in columns:
        cut[name] = rows[name.lower()]
    wanted = expected(places, rows)
    assert len(wanted) > 10
    assert red(client, cut) == wanted
    assert red(client, cut.to_pandas()) == wanted
    assert red(client, cut.as_array()) == wanted
    assert red(client, list(cut)) == wanted
    assert client.getSpec(cut[3], values="flux_r")["flux_r"].tobytes() == wanted[3]
    assert red(client, "\n".join(",".join(map(str, one)) for one in [cut.colnames, *cut])) == wanted
    for ending in ("csv", "fits", "parquet", "vot", "ecsv"):
        client.write_table(cut, tmp_path / f"cut.{ending}")
        assert red(client, tmp_path / f"cut.{ending}") == wanted
    cut["context"] = CONTEXT
    assert red(client, cut) == wanted


def twice(places: dict[int, list[Place]]) -> set[int]:
    return {number for number, held in places.items() if any("." in one.coadd for one in held)}


def test_a_row_is_one_spectrum_whatever_it_leaves_open(
    client: SpecClient, places: dict[int, list[Place]]
) -> None:
    tiles = client.query(constraint="tileid = 80606", fields="ra,coadd,tileid", primary=False)
    numbers = tiles["targetid"].tolist()
    best = [red(client, [number])[0] for number in numbers]
    cut = Table({"targetid": numbers, "program": ["dark"] * len(numbers)}, masked=True)
    cut["coadd"] = tiles["coadd"]
    cut["program"].mask = True
    cut["coadd"].mask = [at % 2 == 0 for at in range(len(cut))]
    wanted = expected(places, tiles)
    half = [best[at] if at % 2 == 0 else wanted[at] for at in range(len(cut))]
    assert red(client, cut) == half
    assert red(client, cut.to_pandas()) == half
    told = pd.DataFrame({"targetid": numbers, "tileid": [80606.0] * len(numbers)})
    told.loc[1, "tileid"] = np.nan
    second = [best[1] if at == 1 else one for at, one in enumerate(wanted)]
    assert red(client, told) == second
    assert client.getSpec(told.astype(object).iloc[1], values="flux_r").shape == (2326,)
    # Several fit: the best of these.
    only = Table({"targetid": numbers, "healpix": [-1] * len(numbers)})
    held = [{one.flux_r for one in places[number] if one.healpix == -1} for number in numbers]
    found = red(client, only)
    assert len(found) == len(numbers)
    assert all(one in some for one, some in zip(found, held, strict=True))


def test_a_row_whose_columns_fit_no_spectrum_is_named(
    client: SpecClient, places: dict[int, list[Place]]
) -> None:
    number = next(iter(places))
    row = Table({"TARGETID": [number], "PROGRAM": ["nonesuch"], "HEALPIX": [9144]})
    with pytest.raises(NotFound, match=f"{number}.*program=nonesuch.*healpix=9144"):
        client.getSpec(row)


@pytest.fixture(scope="module")
def both(data: Path, files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SpecClient]:
    """Serve the context beside one whose identifiers name one spectrum each."""
    folder = tmp_path_factory.mktemp("both")
    shutil.copytree(data, folder / "data")
    simulate_sdss(folder / "sdss", 12, seed=2)
    run_ingest(open_root(folder / "data"), "sdss_dr17", [folder / "sdss"], workers=1)
    with serve(folder / "data", files) as running:
        yield SpecClient(CONTEXT, svc_url=running.url)


@pytest.mark.proof
@pytest.mark.parametrize("contexts", [[CONTEXT], [CONTEXT, "sdss_dr17"], ["sdss_dr17", CONTEXT]])
def test_rows_of_several_contexts_name_their_spectra(
    both: SpecClient, places: dict[int, list[Place]], tmp_path: Path, contexts: list[str]
) -> None:
    condition = "ra > -1 order by ra limit 40"
    alone = both.query(constraint=condition, fields="ra,z", primary=False)
    assert red(both, alone) == expected(places, alone)
    wanted = []
    for context in contexts:
        rows = both.query(constraint=condition, context=context, fields="z,ra", primary=False)
        wanted += [one.tobytes() for one in both.getSpec(rows, context=context)]
    asked: dict[str, Any] = {"constraint": condition, "context": contexts, "primary": False}

    def fluxes(given: object) -> list[bytes]:
        return [one.tobytes() for one in both.getSpec(given)]

    for fields in (None, "tuple", "z,ra", "*", "ra,survey"):
        given = both.query(**asked, fields=fields)
        assert fluxes(given) == wanted
        assert both.query(**asked, fields=fields, out=tmp_path / "a.csv") == "OK"
        assert fluxes(tmp_path / "a.csv") == wanted
    for ending in ("fits", "parquet", "vot", "ecsv"):
        both.query(**asked, fields="z,ra", out=tmp_path / f"a.{ending}")
        assert fluxes(tmp_path / f"a.{ending}") == wanted
    table = both.query(**asked, fields="z,ra")
    assert {"survey", "program", "coadd"} < set(table.colnames)
    assert len(both.getSpec(table.to_pandas())) == len(table)


@pytest.mark.proof
def test_numbers_that_repeat_are_told_once(data: Path, files: Path, tmp_path: Path) -> None:
    with serve(data, files) as running:
        client = SpecClient(CONTEXT, svc_url=running.url)
        with pytest.warns(UserWarning, match="identifiers repeat another.*fields='tuple'"):
            numbers = client.query(constraint="ra > 0", primary=False)
        assert numbers.dtype == np.int64
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.query(constraint="ra > 0", primary=False)
        client = SpecClient(CONTEXT, svc_url=running.url)
        with pytest.warns(UserWarning, match="identifiers repeat another"):
            client.query(constraint="ra > 0", primary=False, out=tmp_path / "ids.txt")
        client = SpecClient(CONTEXT, svc_url=running.url)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.query(constraint="ra > 0", primary=True)
            client.query(constraint="ra > 0", primary=False, fields="tuple")


@pytest.mark.proof
def test_numbers_of_rows_that_are_not_the_best_are_told(data: Path, files: Path) -> None:
    """Each identifier occurs once, and alone it means another spectrum than its row."""
    with serve(data, files) as running:
        client = SpecClient(CONTEXT, svc_url=running.url)
        exact = {"constraint": "zcat_primary = 0 and coadd like '%80606%'", "primary": False}
        rows = client.query(**exact, fields="ra,z")
        assert len(rows) == len(np.unique(rows["targetid"])) > 0
        told = rf"{len(rows)} of {len(rows)} rows are not the best of their .*fields='tuple'"
        with pytest.warns(UserWarning, match=told):
            client.query(**exact)
        # A column of the table knows it, the table names its rows.
        for given in (rows["targetid"], rows["targetid"][:1], rows[:1]["targetid"]):
            with pytest.warns(UserWarning, match=r"not the best.*give the table"):
                client.getSpec(given, values="flux")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.getSpec(rows, values="flux")
            client.getSpec(rows[0], values="flux")
            client = SpecClient(CONTEXT, svc_url=running.url)
            client.query(constraint="zcat_primary = 1", primary=False)
            good = client.query(constraint="zcat_primary = 1", primary=False, fields="z,ra")
            client.getSpec(good["targetid"], values="flux")
            client.query(constraint="ra > 0", fields="z", primary=False)


@pytest.mark.parametrize("contexts", [[CONTEXT, "sdss_dr17"], f"{CONTEXT},sdss_dr17"])
def test_match_takes_one_context(client: SpecClient, contexts: object) -> None:
    with pytest.raises(BadParameter, match="match takes one context"):
        client.match(([1.0], [2.0]), context=contexts)  # type: ignore[arg-type]
