"""Value-added tables joined with the catalogue of their context, against a merge by pandas."""

import math
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from commands import command
from conftest import TwoSurveys
from specserver.client.api import SpecClient
from specserver.data.root import open_root
from specserver.errors import BadConstraint, BadParameter, UnknownField
from specserver.service.archive import Archive
from specserver.service.tables import attach_table, detach_table

SDSS_FIELDS = "specobjid,ra,dec,z,class,sn_median,zwarning"
VAC = "sdss_dr17.myvac"


@pytest.fixture(scope="module")
def spec(two_surveys: TwoSurveys) -> SpecClient:
    return SpecClient("sdss_dr17", svc_url=two_surveys.served.url)


@pytest.fixture(scope="module")
def spectra(spec: SpecClient) -> pd.DataFrame:
    """The catalogue of all spectra."""
    table = spec.query(constraint="plate > 0", fields=SDSS_FIELDS, primary=False)
    return table.to_pandas()


@pytest.fixture(scope="module")
def own(spectra: pd.DataFrame) -> pd.DataFrame:
    """The rows of the table: fewer than spectra, some twice, two of spectra that are not held."""
    rng = np.random.default_rng(7)
    ids = rng.permutation(spectra["specobjid"].to_numpy())[:100]
    ids = np.concatenate([ids, ids[:10], np.array([2**62 + 1, 2**63 + 5], np.uint64)])
    rows = pd.DataFrame({"specobjid": ids, "z": rng.uniform(0.0, 3.0, len(ids))})
    rows["myflux"] = rng.uniform(0.0, 100.0, len(ids))
    rows.loc[5:20, "myflux"] = np.nan
    rows["note"] = rng.choice(["good", "bad"], len(ids))
    rows["number"] = np.arange(len(ids))
    return rows


@pytest.fixture(scope="module", autouse=True)
def attached(
    two_surveys: TwoSurveys, own: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """A table of SDSS and one of DESI of one name, while the tests of this module run."""
    folder = tmp_path_factory.mktemp("tables")
    archive = Archive(open_root(two_surveys.served.data))
    table = Table.from_pandas(own)
    table["myflux"].unit = "1e-17 erg / (s cm2)"
    table.write(folder / "myvac.fits")
    pair = [targetid for _, targetid in two_surveys.pairs]
    Table({"targetid": pair, "myflux": np.arange(len(pair)) + 0.5}).write(folder / "desi.fits")
    attach_table(archive, "sdss_dr17", "myvac", folder / "myvac.fits")
    attach_table(archive, "desi_edr", "myvac", folder / "desi.fits")
    yield
    for context in ("sdss_dr17", "desi_edr"):
        detach_table(archive, context, "myvac")


@pytest.fixture(scope="module")
def merged(own: pd.DataFrame, spectra: pd.DataFrame) -> pd.DataFrame:
    """What the join is: an inner merge by identifier."""
    return own.merge(spectra, on="specobjid", suffixes=("", "_1"))


def rows_of(table: Any, *names: str) -> list[tuple[Any, ...]]:
    """Return rows in an order of their own, missing values as None."""
    frame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    listed = [frame[name].tolist() for name in names]
    rows = [
        tuple(None if isinstance(value, float) and math.isnan(value) else value for value in row)
        for row in zip(*listed, strict=True)
    ]
    return sorted(rows, key=repr)


def test_columns_of_both_come_together_as_pandas_merges_them(
    spec: SpecClient, merged: pd.DataFrame
) -> None:
    fields = "number,myflux,z,specobj.z,class,sn_median"
    found = spec.query(constraint="number >= 0", fields=fields, catalog=VAC)
    assert found.colnames == ["specobjid", *fields.split(",")]
    assert len(found) == len(merged) == 110
    expected = merged.rename(columns={"z_1": "specobj.z"})
    assert rows_of(found, *found.colnames) == rows_of(expected, *found.colnames)
    # Values have the type and the unit that their catalogue states.
    assert found["specobj.z"].dtype == np.float32
    assert found["z"].dtype == np.float64
    assert found["myflux"].unit == "1e-17 erg / (s cm2)"
    degrees = spec.query(constraint="number = 0", fields="specobj.ra,myvac.ra", catalog=VAC)
    assert degrees["specobj.ra"].unit == degrees["myvac.ra"].unit == "deg"


@pytest.mark.parametrize(
    ("constraint", "meant"),
    [
        ("myflux > 30 and class = 'GALAXY'", "myflux > 30 and `class` == 'GALAXY'"),
        ("specobj.z > z", "z_1 > z"),
        ("myvac.z < 1 OR SpecObjAll.Z_Err >= 0 and specobj.z < 0.1", "z < 1 or z_1 < 0.1"),
        ("myflux / sn_median between 1 and 9", "1 <= myflux / sn_median <= 9"),
        ("myflux is null and (zwarning & 4) = 0", "myflux != myflux and zwarning // 4 % 2 == 0"),
        ('number > 9 and not "specobj"."z" < 1', "number > 9 and z_1 >= 1"),
        ("number < 50", "number < 50"),
    ],
)  # fmt: skip
def test_conditions_on_both(
    spec: SpecClient, merged: pd.DataFrame, constraint: str, meant: str
) -> None:
    found = spec.query(constraint=constraint, fields="number,specobj.z", catalog=VAC)
    expected = merged.query(meant).rename(columns={"z_1": "specobj.z"})
    assert 0 < len(expected) < 110
    assert rows_of(found, "number", "specobj.z") == rows_of(expected, "number", "specobj.z")


def test_region_order_and_limit(spec: SpecClient, merged: pd.DataFrame) -> None:
    first = merged.iloc[0]
    ra, dec = float(first["ra"]), float(first["dec"])
    away = np.hypot((merged["ra"] - ra) * np.cos(np.radians(dec)), merged["dec"] - dec)
    near = merged[away < 1.0]
    found = spec.query(ra, dec, 1.0, "sn_median > 0", fields="number,class", catalog=VAC)
    assert 0 < len(near) < len(merged)
    assert rows_of(found, "number", "class") == rows_of(near, "number", "class")
    asked = "class <> 'STAR' ORDER BY specobj.z DESC, number LIMIT 7"
    best = spec.query(constraint=asked, fields="number", catalog=VAC)
    some = merged[merged["class"] != "STAR"].sort_values(["z_1", "number"], ascending=[False, True])
    assert best.tolist() == some["number"].tolist()[:7]
    # Of a limit without a condition, rows whose spectrum is not held are none either.
    all_held = spec.query(constraint="limit 1000", fields="specobj.z", catalog=VAC)
    assert len(all_held) == len(merged)
    ids = spec.query(constraint="specobj.z > 2", catalog=VAC)
    assert sorted(ids.tolist()) == sorted(merged[merged["z_1"] > 2]["specobjid"])
    assert len(spec.getSpec(ids)) == len(ids)


def test_a_query_of_the_tables_own_columns_finds_all_its_rows(
    spec: SpecClient, own: pd.DataFrame
) -> None:
    asked = {"constraint": "number >= 0", "catalog": VAC}
    for fields in ("number,z", "myvac.number,plate"):
        assert len(spec.query(fields=fields, **asked)) == len(own)
    every = spec.query(fields="*", **asked)
    assert {"z", "myflux", "note"} < set(every.colnames)
    assert not {"class", "specobj.z"} & set(every.colnames)
    qualified = spec.query(fields="myvac.z,number", **asked)
    assert rows_of(qualified, "number", "myvac.z") == rows_of(
        own.rename(columns={"z": "myvac.z"}), "number", "myvac.z"
    )


def test_names_that_mean_nothing(spec: SpecClient) -> None:
    with pytest.raises(UnknownField, match=r"specobj\.zz.*did you mean specobj\.z.*known here: "):
        spec.query(constraint="specobj.zz > 0", catalog=VAC)
    # The table's own columns are not the catalogue's.
    for fields in ("specobj.myflux", "specobj._row", "other.z"):
        with pytest.raises(UnknownField):
            spec.query(constraint="number > 0", fields=fields, catalog=VAC)
    with pytest.raises(UnknownField, match="myflux"):
        spec.query(constraint="specobj.myflux > 0", catalog=VAC)
    with pytest.raises(BadConstraint, match=r"begin with myvac\., specobj\., specobjall\."):
        spec.query(constraint="other.z > 0", catalog=VAC)
    with pytest.raises(BadConstraint, match="begin with"):
        spec.query(constraint="sdss_dr17.specobj.z > 0", catalog=VAC)
    with pytest.raises(UnknownField):
        spec.query(constraint="myflux > 0", fields="z")


@pytest.mark.parametrize("ending", ["fits", "parquet", "vot", "ecsv", "csv"])
def test_every_kind_of_file_has_columns_of_both(
    spec: SpecClient, merged: pd.DataFrame, tmp_path: Path, ending: str
) -> None:
    file = tmp_path / f"joined.{ending}"
    asked = {"constraint": "class = 'QSO'", "fields": "number,specobj.z", "catalog": VAC}
    assert spec.query(out=file, **asked) == "OK"
    pandas_readers = {"csv": pd.read_csv, "parquet": pd.read_parquet}
    table = pandas_readers.get(ending, Table.read)(file)
    expected = merged[merged["class"] == "QSO"]
    got = zip(*(table[name] for name in ("specobjid", "number", "specobj.z")), strict=True)
    known = zip(*(expected[name] for name in ("specobjid", "number", "z_1")), strict=True)
    # VOTable has no unsigned integers of 64 bits.
    found = {(int(number), int(row), np.float32(z)) for number, row, z in got}
    assert found == set(known)
    assert len(spec.getSpec(str(file))) == len(expected)


def test_the_documented_endpoint_and_csv(spec: SpecClient, merged: pd.DataFrame) -> None:
    where = "class = 'STAR' and myflux > 20"
    expected = merged.query("`class` == 'STAR' and myflux > 20")
    asked = {"fields": "number,specobj.z", "catalog": VAC, "cond": where, "id": ""}
    url = spec.session.url("query")
    text = spec.session.get_text(url, fields={**asked, "context": "sdss_dr17"})
    found = pd.read_csv(StringIO(text))
    assert 0 < len(expected) == len(found)
    assert set(found["number"]) == set(expected["number"])
    assert set(found["specobj.z"].astype("f4")) == set(expected["z_1"])


def test_a_match_looks_values_up_in_both(spec: SpecClient, merged: pd.DataFrame) -> None:
    some = merged.drop_duplicates("specobjid")[:20]
    positions = some["ra"].to_numpy(), some["dec"].to_numpy()
    found = spec.match(positions, fields="specobj.z,sn_median,note", catalog=VAC)
    assert len(found) == 20
    known = merged.set_index("specobjid")["z_1"].to_dict()
    assert found["specobj.z"].tolist() == [known[number] for number in found["specobjid"].tolist()]


def test_catalogues_tell_what_they_are_joined_with(
    spec: SpecClient, two_surveys: TwoSurveys
) -> None:
    told = spec.catalogs("sdss_dr17", fmt="json")
    assert told[VAC]["joined_with"] == "sdss_dr17.specobj"
    assert told["sdss_dr17.specobj"]["joined_with"] == ""
    assert "from myvac.fits; joined with sdss_dr17.specobj" in spec.catalogs("sdss_dr17")
    printed = command("catalogs", "--data", two_surveys.served.data, "--context", "sdss_dr17")
    (header, *rows) = [line.split("\t") for line in printed.splitlines() if "\t" in line]
    told = {row[0]: row[header.index("joined_with")] for row in rows if len(row) == len(header)}
    assert told[VAC] == "sdss_dr17.specobj"


def test_tables_of_several_contexts_are_each_joined_with_their_own(
    spec: SpecClient, two_surveys: TwoSurveys, merged: pd.DataFrame
) -> None:
    found = spec.query(
        constraint="myflux > 0 and specobj.z > 0",
        fields="myflux,class,specobj.z",
        catalog="myvac",
        context=["sdss_dr17", "desi_edr"],
    )
    counts = {name: int(np.sum(found["context"] == name)) for name in set(found["context"])}
    assert counts["sdss_dr17"] == len(merged.query("myflux > 0 and z_1 > 0"))
    assert 0 < counts["desi_edr"] <= len(two_surveys.pairs)


def test_the_context_of_a_catalogue_is_that_of_its_rows(
    spec: SpecClient, two_surveys: TwoSurveys
) -> None:
    ids = [targetid for _, targetid in two_surveys.pairs]
    own = SpecClient("desi_edr", svc_url=two_surveys.served.url)
    where = {"catalog": "desi_edr.myvac", "constraint": "myflux >= 0"}
    for fields in ("myflux,z", "z,myflux,specobj.coadd", "tuple", None, "myflux", "targetid"):
        found, expected = (client.query(**where, fields=fields) for client in (spec, own))
        assert str(found) == str(expected)
        assert type(found) is type(expected)
    table = spec.query(**where, fields="myflux")
    assert len(table) == len(ids)
    every = spec.query(catalog="desi_edr.specobjall", fields="z", constraint="targetid = targetid")
    assert len(every) >= len(ids)
    rows = spec.query(**where, fields="myflux,z")
    assert rows.colnames[:3] == ["targetid", "myflux", "z"]
    assert len(spec.getSpec(rows, context="desi_edr")) == len(rows)
    near = spec.match(own.query(**where, fields="ra,dec"), catalog="desi_edr.myvac")
    assert near.meta["context"] == "desi_edr"
    # The shell says the context of the identifiers that it prints.
    url = ("--url", two_surveys.served.url, "--catalog", "desi_edr.myvac")
    said = command("query", *url, "--where", "myflux >= 0", "--json")
    assert said.count('"context": "desi_edr"') == len(ids)
    said = command("query", *url, "--where", "myflux >= 0", "--fields", "myflux,z")
    assert said.startswith("targetid,myflux,z")


def test_a_catalogue_of_one_context_is_not_one_of_several(spec: SpecClient) -> None:
    both = ["sdss_dr17", "desi_edr"]
    with pytest.raises(BadParameter, match=r"desi_edr.* is not possible.*such as 'myvac'"):
        spec.query(constraint="myflux >= 0", catalog="desi_edr.myvac", context=both)
    assert len(spec.query(constraint="myflux >= 0", catalog="myvac", context=both))
    assert len(spec.query(constraint="myflux >= 0", catalog=VAC, context=["sdss_dr17"]))
