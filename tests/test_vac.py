"""Value-added tables: real excerpts and made ones, attached, linked, queried, removed."""

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import Table

from commands import command
from serving import serve
from specserver.catalog.tables.table_ids import valid_names
from specserver.catalog.tables.tablefile import read_table
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import (
    BadConstraint,
    BadFile,
    BadParameter,
    UnknownCatalog,
    UnknownContext,
    UnknownField,
)
from specserver.ingest import run_ingest
from specserver.model.ids import pack_specobjid, unpack_specobjid
from specserver.model.region import cone
from specserver.service import QueryRequest, SpectroscopicService
from specserver.service.fits_tree_source import add_tree
from specserver.service.tables import attach_table, attached_tables, detach_table


@pytest.fixture(scope="module")
def files(real_spectra: Path) -> list[Path]:
    """Real spectra of the plates that real value-added tables are of, and some more."""
    folder = real_spectra / "sdss"
    return sorted(
        [*folder.glob("spec-7102*"), *folder.glob("spec-3655*"), *folder.glob("spec-026*")]
    )


@pytest.fixture(scope="module")
def tables(real_spectra: Path) -> Path:
    return real_spectra / "catalogs"


@pytest.fixture(scope="module")
def data(files: list[Path], tables: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with real spectra and three real tables, attached by the command line."""
    folder = tmp_path_factory.mktemp("vac")
    run_ingest(open_root(folder), "sdss_dr17", files, workers=1)
    into = ("--data", folder)
    boss = tables / "cat_boss_test1.fits.gz"
    title = ("--title", "DR12 superset, plate 7102")
    said = command("catalog", "add", "sdss_dr17", "dr14q", boss, *title, *into)
    assert "140 rows" in said
    assert "PSFFLUX" in said
    said = command("catalog", "add", "sdss_dr17", "excerpt", tables / "specobj_excerpt.csv", *into)
    assert "607 rows, 19 columns; 33 rows are of spectra here" in said
    said = command(
        "catalog", "add", "sdss_dr17", "cas", tables / "Skyserver_SQL2_27_2018.csv", *into
    )
    assert "specobjid is not used" in said
    assert "lost the last digits" in said
    return folder


@pytest.fixture(scope="module")
def spec(data: Path, files: list[Path]) -> Iterator[SpecClient]:
    with serve(data, files[0].parent) as running:
        yield SpecClient(svc_url=running.url)


@pytest.fixture(scope="module")
def quasars(tables: Path) -> np.ndarray:
    """The rows of the quasar table as astropy reads them."""
    return fits.getdata(tables / "cat_boss_test1.fits.gz", 1)


def test_rows_link_to_the_spectra_that_are_here(
    spec: SpecClient, files: list[Path], quasars: np.ndarray
) -> None:
    ids = spec.query(constraint="z_vi > -10", catalog="sdss_dr17.dr14q")
    assert ids.dtype == np.uint64
    found = {(row["plate"], row["fiber"]) for row in unpack_specobjid(ids)}
    here = {(int(path.name[5:9]), int(path.name[16:20])) for path in files}
    listed = {(int(row["PLATE"]), int(row["FIBERID"])) for row in quasars if row["Z_VI"] > -10}
    assert found == here & listed
    assert len(found) >= 20
    assert len(spec.getSpec(ids)) == len(ids)


def test_all_values_of_all_rows_come_back(spec: SpecClient, quasars: np.ndarray) -> None:
    names = "sdss_name,ra,dec,z_vi,z_pipe,fiberid,boss_target1,sdss_morpho"
    table = spec.query(constraint="plate > 0", fields=names, catalog="dr14q")
    assert len(table) == len(quasars) == 140
    assert table.colnames[0] == "specobjid"
    by_fiber = {int(row["FIBERID"]): row for row in quasars}
    for row in table:
        one = by_fiber[int(row["fiberid"])]
        assert row["sdss_name"] == one["SDSS_NAME"].strip()
        for name in ("ra", "dec", "z_vi", "z_pipe", "boss_target1", "sdss_morpho"):
            assert row[name] == one[name.upper()], name
    # A row without a spectrum here has no identifier.
    missing = np.ma.getmaskarray(table["specobjid"])
    assert 0 < missing.sum() < 140


def test_readme_example_4_tuples_of_a_value_added_catalogue(
    spec: SpecClient, quasars: np.ndarray
) -> None:
    """As the description has it: query(ra, dec, size, catalog=…, fields='tuple')."""
    ids = spec.query(constraint="plate > 0", catalog="sdss_dr17.dr14q").tolist()
    parts = unpack_specobjid(ids).tolist()
    row = quasars[[int(one) for one in quasars["FIBERID"]].index(parts[0][2])]
    tuples = spec.query(
        float(row["RA"]), float(row["DEC"]), 0.5, catalog="sdss_dr17.dr14q", fields="tuple"
    )
    assert parts[0] in tuples
    assert set(tuples) <= set(parts)
    assert len(spec.getSpec(tuples)) == len(tuples)


def test_the_whole_grammar_of_a_query_works(spec: SpecClient, quasars: np.ndarray) -> None:
    ra, dec = float(np.median(quasars["RA"])), float(np.median(quasars["DEC"]))
    away = np.hypot((quasars["RA"] - ra) * np.cos(np.radians(dec)), quasars["DEC"] - dec)
    inside = quasars[away < 0.5]
    table = spec.query(ra, dec, 0.5, catalog="dr14q", fields="fiberid,z_vi,thing_id")
    assert {int(one) for one in table["fiberid"]} == {int(one) for one in inside["FIBERID"]}
    assert 0 < len(table) < 140
    corners = [(ra - 2, dec - 1), (ra + 2, dec - 1), (ra + 2, dec), (ra - 2, dec)]
    below = spec.query(corners, catalog="dr14q", fields="dec,ra")
    assert 0 < len(below) < 140
    assert (np.abs(below["dec"] - (dec - 0.5)) < 0.55).all()
    asked = "z_vi BETWEEN 2 AND 3 AND FIBER > 100 ORDER BY z_vi DESC LIMIT 5"
    best = spec.query(constraint=asked, catalog="dr14q", fields="z_vi,fiberid")
    wanted = quasars[(quasars["Z_VI"] >= 2) & (quasars["Z_VI"] <= 3) & (quasars["FIBERID"] > 100)]
    assert best["z_vi"].tolist() == sorted(wanted["Z_VI"].tolist(), reverse=True)[:5]
    redshifts = spec.query(constraint="z_vi > 3", catalog="dr14q", fields="z_vi")
    assert sorted(redshifts.tolist()) == sorted(quasars["Z_VI"][quasars["Z_VI"] > 3].tolist())
    with pytest.raises(UnknownField, match="z_pipe"):
        spec.query(constraint="plate > 0", catalog="dr14q", fields="z_pip")
    with pytest.raises(UnknownField, match="psfmag"):
        spec.query(constraint="psfmag > 0", catalog="dr14q")
    with pytest.raises(BadConstraint):
        spec.query(constraint="z_vi > 0; DROP TABLE objects", catalog="dr14q")


def test_identifiers_in_text_keep_every_digit(spec: SpecClient, tables: Path) -> None:
    with (tables / "specobj_excerpt.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    found = spec.query(constraint="mjd > 0", catalog="excerpt")
    assert sorted(found.tolist()) == sorted(int(row["specobjid"]) for row in rows)
    one = max(rows, key=lambda row: int(row["specobjid"]))
    assert int(one["specobjid"]) >= 2**63
    for number in (int(one["specobjid"]), int(one["specobjid"]) - 2**64):
        (same,) = spec.query(constraint=f"specobjid = {number}", catalog="excerpt")
        assert same == int(one["specobjid"])


def test_mangled_identifiers_are_refused_and_the_tuple_serves(
    data: Path, tables: Path, tmp_path: Path
) -> None:
    service = SpectroscopicService(open_root(data))
    (cas,) = [one for one in attached_tables(service.archive) if one.info.name == "cas"]
    assert (cas.info.nrows, cas.info.ids) == (10_000, "spectra")
    with (tables / "Skyserver_SQL2_27_2018.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    table = service.query(
        QueryRequest(catalog="cas", fields=("plate", "mjd", "fiberid", "redshift", "specobjid"))
    )
    got = sorted(zip(*(table.column(n).to_pylist() for n in ("plate", "mjd", "fiberid")),
                     strict=True))  # fmt: skip
    assert got == sorted((int(r["plate"]), int(r["mjd"]), int(r["fiberid"])) for r in rows)
    assert table.column("specobjid").null_count == 10_000
    # Without the tuple there is nothing that could be trusted.
    only = tmp_path / "only.csv"
    only.write_text("specobjid,z\n3.72236013965159E+018,0.1\n")
    with pytest.raises(BadParameter, match="lost the last digits"):
        attach_table(service.archive, "sdss_dr17", "only", only)
    assert "only" not in [one.info.name for one in attached_tables(service.archive)]


def test_catalogues_are_listed_with_their_columns(spec: SpecClient, data: Path) -> None:
    told = spec.catalogs(context="sdss_dr17", fmt="json")
    names = ["specobj", "specobjall", "cas", "dr14q", "excerpt"]
    assert list(told) == [f"sdss_dr17.{name}" for name in names]
    assert told["sdss_dr17.dr14q"]["nrows"] == 140
    assert told["sdss_dr17.dr14q"]["title"] == "DR12 superset, plate 7102"
    columns = {one["name"]: one for one in told["sdss_dr17.dr14q"]["columns"]}
    assert columns["ra"]["unit"] == "deg"
    assert "psfmag" not in columns
    assert spec.list_contexts("sdss_dr17")["catalogs"] == {
        name: info["title"] for name, info in told.items()
    }
    assert "sdss_dr17.cas" in spec.catalogs()
    printed = command("catalog", "list", "--data", data)
    assert "sdss_dr17.dr14q" in printed
    assert "sdss_dr17.excerpt" in command("info", "--data", data)
    assert "sdss_dr17.excerpt" in command("catalogs", "--data", data)


def test_unknown_tables_and_contexts(spec: SpecClient) -> None:
    with pytest.raises(UnknownCatalog, match=r"sdss_dr17\.dr14q"):
        spec.query(constraint="z > 0", catalog="sdss_dr17.emissionlinesport")
    with pytest.raises(UnknownContext):
        spec.query(constraint="z > 0", catalog="sdss_dr12.dr14q")
    with pytest.raises(UnknownContext):
        spec.query(constraint="z > 0", catalog="sdss_dr17.../index/catalog")
    with pytest.raises(UnknownCatalog):
        spec.query(constraint="z > 0", catalog="sdss_dr17./index")


@pytest.fixture
def few(files: list[Path], tmp_path: Path) -> tuple[SpectroscopicService, np.ndarray]:
    """A service over a few real spectra, and their identifiers."""
    run_ingest(open_root(tmp_path / "few"), "sdss_dr17", files[:6], workers=1)
    service = SpectroscopicService(open_root(tmp_path / "few"))
    ids = service.query(QueryRequest(primary=False)).column("specobjid").to_numpy()
    return service, ids


def write(path: Path, ids: np.ndarray, spelling: str) -> Path:
    """Write identifiers in one of the spellings that tables in the wild have."""
    ending = ENDINGS[spelling]
    file = path.with_suffix(ending)
    value = np.arange(len(ids)) + 0.5
    if spelling == "signed":
        pq.write_table(pa.table({"specObjID": ids.view(np.int64), "My_Value": value}), file)
    elif ending in {".csv.gz", ".tsv"}:
        parts = unpack_specobjid(ids)
        columns = [parts["plate"], parts["mjd"], parts["fiber"], parts["run2d"], value]
        rows = [",".join(map(str, row)) for row in zip(*columns, strict=True)]
        text = "\n".join(["PLATE,MJD,FIBER,RUN2D,My Value", *rows])
        if ending == ".tsv":
            file.write_text(text.replace(",", "\t"))
        else:
            file.write_bytes(gzip.compress(f"#Table1\n{text}".encode()))
    else:
        texts = {"padded text": np.array([f"{one:>22d} " for one in ids.tolist()], "S23"),
                 "votable": [str(one) for one in ids.tolist()]}  # fmt: skip
        table = Table({"SPECOBJID": texts.get(spelling, ids), "My_Value": value})
        table.write(file, **({"format": "votable"} if ending == ".vot" else {}))
    return file


ENDINGS = {
    "unsigned": ".fits",
    "signed": ".parquet",
    "padded text": ".fits",
    "votable": ".vot",
    "ecsv": ".ecsv",
    "csv": ".csv.gz",
    "tsv": ".tsv",
}


def test_every_format_and_every_spelling_of_identifiers(few: tuple, tmp_path: Path) -> None:
    service, own = few
    high = pack_specobjid([8954, 16000], [57453, 59999], [1, 1], ["v5_13_2", "v5_13_2"])
    ids = np.concatenate([own, high])
    assert ids.max() >= 2**63
    for number, spelling in enumerate(ENDINGS):
        file = write(tmp_path / f"t{number}", ids, spelling)
        found = attach_table(service.archive, "default", f"t{number}", file)
        assert (found.nlinked, found.nnamed, found.info.nrows) == (6, 8, 8), spelling
        # Positions come from the spectra held; the two others have none.
        assert found.nplaced == len(own), spelling
        table = service.query(
            QueryRequest(catalog=f"t{number}", fields=("specobjid", "my_value", "plate", "run2d"))
        )
        got = dict(zip(*(table.column(n).to_pylist() for n in ("specobjid", "my_value")),
                       strict=True))  # fmt: skip
        assert got == dict(zip(ids.tolist(), (np.arange(len(ids)) + 0.5).tolist(), strict=True))
        parts = unpack_specobjid(table.column("specobjid").to_numpy())
        assert table.column("plate").to_pylist() == parts["plate"].tolist()
        assert table.column("run2d").to_pylist() == parts["run2d"].tolist()
        held = service.query(QueryRequest(fields=("ra", "dec", "specobjid"), primary=False))
        one = {name: held.column(name)[0].as_py() for name in held.column_names}
        near = QueryRequest(catalog=f"t{number}", region=cone(one["ra"], one["dec"], 1e-4))
        assert one["specobjid"] in service.query(near).column(0).to_pylist()


def test_a_table_may_name_a_spectrum_twice_or_none(few: tuple, tmp_path: Path) -> None:
    service, ids = few
    one = int(ids[0])
    file = tmp_path / "lines.csv"
    file.write_text(f"specobjid,line,ew\n{one},Ha,1.5\n{one},Hb,0.5\n,sky,\n0,none,2\n")
    found = attach_table(service.archive, "default", "lines", file)
    assert (found.info.nrows, found.nlinked, found.nplaced) == (4, 2, 2)
    assert service.query(QueryRequest(catalog="lines")).column(0).to_pylist() == [one, one]
    table = service.query(QueryRequest(catalog="lines", fields=("line", "ew", "specobjid"),
                                       constraint="ew > 1 ORDER BY ew"))  # fmt: skip
    assert table.to_pylist() == [
        {"line": "Ha", "ew": 1.5, "specobjid": one},
        {"line": "none", "ew": 2.0, "specobjid": None},
    ]


def test_links_follow_what_is_ingested_later(files: list[Path], tmp_path: Path) -> None:
    first, second = files[-1], files[0]
    run_ingest(open_root(tmp_path), "sdss_dr17", [first], workers=1)
    service = SpectroscopicService(open_root(tmp_path))
    plate, mjd, fiber = (int(part) for part in second.name[5:-5].split("-"))
    file = tmp_path / "one.csv"
    file.write_text(f"plate,mjd,fiberid,note\n{plate},{mjd},{fiber},mine\n-1,-1,-1,nothing\n")
    assert attach_table(service.archive, "default", "one", file).nlinked == 0
    assert service.query(QueryRequest(catalog="one")).num_rows == 0
    joined = QueryRequest(catalog="fixed", fields=("note", "specobj.z"))
    # The index of this table depends on no spectrum.
    wanted = [pack_specobjid(plate, mjd, fiber, "v5_13_2"), pack_specobjid(plate, mjd, fiber, "26")]
    lines = [f"{number},1.0,2.0,mine" for number in wanted]
    (tmp_path / "fixed.csv").write_text("\n".join(["specobjid,ra,dec,note", *lines]))
    file = tmp_path / "fixed.csv"
    told = command("catalog", "add", "default", "fixed", file, "--data", tmp_path)
    assert "0 rows are of spectra here, 2 have a position" in told
    assert "note: 2 rows are of spectra that are not held here; they are linked when those" in told
    assert service.query(joined).num_rows == 0
    linked = {held.info.name: held.nlinked for held in attached_tables(service.archive)}
    assert linked == {"one": 0, "fixed": 0}
    # Such rows keep the identifier that their table states.
    stated = service.query(QueryRequest(catalog="fixed")).column(0).to_pylist()
    assert sorted(stated) == sorted(wanted)
    run_ingest(open_root(tmp_path), "sdss_dr17", [second], workers=1)
    service.archive.ensure_index("sdss_dr17")
    linked = {held.info.name: held.nlinked for held in attached_tables(service.archive)}
    assert linked == {"one": 1, "fixed": 1}
    assert service.query(joined).column("note").to_pylist() == ["mine"]
    (number,) = service.query(QueryRequest(catalog="one")).column(0).to_pylist()
    assert unpack_specobjid(number).tolist()[:3] == (plate, mjd, fiber)
    assert service.query(QueryRequest(catalog="one", fields=("note",))).num_rows == 2


def test_a_table_without_run2d_means_the_releases_own_reduction(
    mock_survey: Path, tmp_path: Path
) -> None:
    run_ingest(
        open_root(tmp_path),
        "sdss_dr17",
        [mock_survey / "v5_7_0", mock_survey / "v5_13_2"],
        workers=1,
    )
    service = SpectroscopicService(open_root(tmp_path))
    ids = service.query(QueryRequest(primary=False)).column(0).to_numpy()
    parts = unpack_specobjid(ids)
    table = Table({"Plate": parts["plate"], "MJD": parts["mjd"], "FIBER": parts["fiber"]})
    table.write(tmp_path / "all.fits")
    attach_table(service.archive, "default", "every", tmp_path / "all.fits")
    linked = service.query(QueryRequest(catalog="every")).column(0).to_pylist()
    assert sorted(linked) == sorted(ids.tolist())


def test_a_tree_without_a_catalogue_gets_one(mock_survey: Path, tmp_path: Path) -> None:
    add_tree(open_root(tmp_path), "sdss_dr17", mock_survey)
    service = SpectroscopicService(open_root(tmp_path))
    selection = service.resolve("(266,'*')\n(267,'*')", "default")
    parts = unpack_specobjid(selection.ids)
    rows = zip(parts["plate"], parts["mjd"], parts["fiber"], strict=True)
    lines = ["PLATE,MJD,FIBERID", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "p.csv").write_text("\n".join(lines))
    found = attach_table(service.archive, "default", "specs", tmp_path / "p.csv")
    assert (found.nlinked, found.nplaced) == (selection.nspec, selection.nspec)
    row = (
        selection.sources[0]
        .catalog.columns_of(["ra", "dec"], selection.catalogue_row[:1])
        .to_pylist()[0]
    )
    near = QueryRequest(catalog="specs", region=cone(row["ra"], row["dec"], 1e-4))
    assert int(selection.ids[0]) in service.query(near).column(0).to_pylist()
    assert service.archive.info("default").catalogs == ("sdss_dr17.specs",)
    assert service.query(QueryRequest(catalog="specs", constraint="specs.plate = 266")).num_rows
    with pytest.raises(BadConstraint, match=r"may begin with specs\.$"):
        service.query(QueryRequest(catalog="specs", constraint="specobj.plate = 266"))


def test_names_that_cannot_be(few: tuple, tmp_path: Path) -> None:
    service, ids = few
    file = write(tmp_path / "t", ids, "unsigned")
    for name in (
        "specobj",
        "specobjall",
        "",
        "2mass",
        "a-b",
        "a.b",
        "../x",
        "Z",
        "x" * 64,
        "select *",
    ):
        with pytest.raises(BadParameter, match="a-z"):
            attach_table(service.archive, "default", name, file)
    attach_table(service.archive, "default", "mine", file)
    with pytest.raises(
        BadParameter, match="sdss_dr17 has a table mine: take another NAME, or say --replace"
    ):
        attach_table(service.archive, "default", "mine", file)
    with pytest.raises(UnknownContext):
        attach_table(service.archive, "sdss_dr12", "mine", file)


def test_replaced_and_removed_while_it_is_in_use(few: tuple, tmp_path: Path) -> None:
    service, ids = few
    running = SpectroscopicService(service.archive.data)
    attach_table(service.archive, "default", "mine", write(tmp_path / "a", ids, "unsigned"))
    assert running.query(QueryRequest(catalog="mine")).num_rows == len(ids)
    shorter = write(tmp_path / "b", ids[:2], "signed")
    attach_table(service.archive, "default", "mine", shorter, overwrite=True)
    assert running.query(QueryRequest(catalog="mine")).num_rows == 2
    detach_table(service.archive, "default", "mine")
    with pytest.raises(UnknownCatalog):
        running.query(QueryRequest(catalog="mine"))
    with pytest.raises(UnknownCatalog):
        detach_table(service.archive, "default", "mine")
    assert not list(service.archive.data.context("sdss_dr17").catalogs.children())


def test_files_that_are_no_tables(few: tuple, files: list[Path], tmp_path: Path) -> None:
    service, _ = few
    bad = tmp_path / "bad.fits"
    bad.write_bytes(b"no fits at all")
    for file in (bad, tmp_path / "gone.parquet"):
        with pytest.raises(BadFile, match=file.name):
            attach_table(service.archive, "default", "bad", file)
    (tmp_path / "notes.txt").write_text("plate mjd")
    with pytest.raises(BadParameter, match=r"\.parquet"):
        attach_table(service.archive, "default", "bad", tmp_path / "notes.txt")
    (tmp_path / "photo.csv").write_text("ra,dec,g\n1,2,3\n")
    wanted = "spectra its rows are of: it needs specobjid .* plate, mjd, fiberid .* has ra, dec"
    with pytest.raises(BadParameter, match=wanted):
        attach_table(service.archive, "default", "bad", tmp_path / "photo.csv")
    assert not service.archive.data.context("sdss_dr17").catalogs.exists()


def test_masked_values_units_and_arrays(few: tuple, tmp_path: Path) -> None:
    service, ids = few
    table = Table({"specobjid": ids[:3], "Name": np.array(["a ", " b", ""], "U4")}, masked=True)
    table["n"] = np.ma.array([1, 2, 3], mask=[False, True, False])
    table["w"] = np.zeros((3, 4))
    table["x"] = [1.0, np.nan, 3.0]
    table["x"].unit = "km/s"
    table["class"] = [True, False, True]
    file = tmp_path / "m.fits"
    table.write(file)
    assert read_table(file).left_out == ("w",)
    attach_table(service.archive, "default", "m", file)
    rows = service.query(
        QueryRequest(catalog="m", fields=("specobjid", "name", "n", "class"), constraint="x > 0")
    ).to_pylist()
    assert {row["specobjid"] for row in rows} == {int(ids[0]), int(ids[2])}
    assert {row["name"] for row in rows} == {"a", ""}
    none = QueryRequest(catalog="m", constraint="n IS NULL")
    assert service.query(none).column(0).to_pylist() == [int(ids[1])]
    (told,) = (one for one in service.archive.catalogs("default") if one.name.endswith(".m"))
    assert {column.name: column.unit for column in told.columns}["x"] == "km / s"


def test_long_whole_numbers_of_a_csv_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "long.csv"
    file.write_text(f"a,b,c\n1237648704577142822,{2**64 - 1},-1\n,{2**63},{2**62}\n")
    table = read_table(file).table
    assert table.column("a").to_pylist() == [1237648704577142822, None]
    assert table.column("b").to_pylist() == [2**64 - 1, 2**63]
    assert table.column("c").to_pylist() == [-1, 2**62]


def test_names_are_made_valid_each_once() -> None:
    given = ["RA", "Flux (r)", "2MASS", "_z", "ra", "é", "Ra_2"]
    assert valid_names(given) == ["ra", "flux_r", "c2mass", "z", "ra_2", "col6", "ra_2_2"]
