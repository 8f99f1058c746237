"""Tables of identifiers: rows without one are named or left out, and files keep every digit."""

import io
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from astropy.table import MaskedColumn, QTable, Table

from serving import Served
from specserver.auth import TokenBook
from specserver.client.api import SpecClient
from specserver.client.results.columns import Columns
from specserver.client.results.query_results import cells
from specserver.client.results.table_file import TABLES, read_table, table_bytes
from specserver.data.root import open_root
from specserver.errors import BadIdentifier, BadParameter, NoIdentifier, UnknownField
from specserver.model.id_tables import Gaps
from test_cli import run
from test_identifiers import read_identifiers

A, B = 299489676975171584, 2**64 - 5
MASKED = np.ma.MaskedArray(np.array([A, 7, B], np.uint64), [False, True, False])
STRUCTURED = np.ma.MaskedArray(
    np.array([(A, 1.0), (7, 2.0), (B, 3.0)], [("specobjid", "<u8"), ("z", "<f8")]),
    mask=[(False, False), (True, False), (False, True)],
)
HOLES: dict[str, Any] = {
    "pandas UInt64": pd.DataFrame({"specobjid": pd.array([A, None, B], "UInt64")}),
    "pandas UInt64 column": pd.Series(pd.array([A, None, B], "UInt64"), name="specobjid"),
    "pandas Int64": pd.DataFrame({"specobjid": pd.array([A, None, B - 2**64], "Int64")}),
    "pandas arrow": pd.DataFrame({"specobjid": pd.array([A, None, B], "uint64[pyarrow]")}),
    "pandas index": pd.Index(pd.array([A, None, B], "UInt64")),
    "pandas objects": pd.DataFrame({"specobjid": np.array([A, None, B], object)}),
    "pandas text": pd.DataFrame({"specobjid": [str(A), None, str(B)]}),
    "astropy": Table({"specobjid": MASKED}),
    "astropy quantities": QTable({"specobjid": MASKED}),
    "astropy column": MaskedColumn(MASKED, name="specobjid"),
    "astropy text": Table({"specobjid": np.ma.array([str(A), "x", str(B)], mask=[0, 1, 0])}),
    "numpy": MASKED,
    "numpy signed": np.ma.array(MASKED.view(np.int64)),
    "numpy records": STRUCTURED,
    "numpy objects": np.array([A, np.nan, B], object),
    "None": [A, None, B],
    "NaN": [A, float("nan"), B],
    "NA": [A, pd.NA, B],
    "masked": [A, np.ma.masked, B],
    "empty text": [str(A), "", str(B)],
    "pyarrow table": pa.table({"specobjid": pa.array([A, None, B], pa.uint64())}),
    "pyarrow batch": pa.record_batch({"specobjid": pa.array([A, None, B], pa.uint64())}),
    "pyarrow array": pa.array([A, None, B], pa.uint64()),
    "pyarrow chunks": pa.chunked_array([[A, None], [B]], pa.uint64()),
    "csv": f"row,specobjid\n0,{A}\n1,\n2,{B}\n",
    "ecsv": f'row specobjid\n0 {A}\n1 ""\n2 {B}\n',
}


def unsigned(ids: Any) -> list[int]:
    return [one % 2**64 for one in ids]


@pytest.mark.parametrize("form", HOLES)
def test_a_row_without_an_identifier_is_named_or_left_out(form: str) -> None:
    with pytest.raises(NoIdentifier, match=r"^row 1 has no identifier.*missing='skip'"):
        read_identifiers(HOLES[form])
    gaps = Gaps(skip=True)
    ids, single = read_identifiers(HOLES[form], gaps=gaps)
    assert unsigned(ids) == [A, B]
    assert not single
    assert gaps.rows == [1]


def test_rows_of_tuples_without_a_part() -> None:
    parts = {"plate": [266, 267, 268], "mjd": [51602, 51608, 51633], "fiberid": [1, 2, 3]}
    holes = pd.DataFrame(parts).astype("Int64")
    holes.loc[1, "mjd"] = pd.NA
    masked = Table(parts, masked=True)
    masked["mjd"].mask = [False, True, False]
    for table in (holes, masked, [(266, 51602, 1), (267, None, 2), (268, 51633, 3)]):
        with pytest.raises(NoIdentifier, match="row 1 has"):
            read_identifiers(table)
        ids, _ = read_identifiers(table, gaps=Gaps(skip=True))
        assert [one.parts[0] for one in ids] == [
            one.parts[0] for one in read_identifiers([(266, 51602, 1), (268, 51633, 3)])[0]
        ]


def test_all_rows_without_an_identifier() -> None:
    with pytest.raises(NoIdentifier, match="rows 0, 1 have no identifier"):
        read_identifiers(pd.DataFrame({"specobjid": [np.nan, np.nan]}))
    with pytest.raises(BadIdentifier, match="lost the last digits"):
        read_identifiers(pd.DataFrame({"specobjid": [A, None]}))


COLUMNS = Columns(
    {
        "specobjid": np.array([A, B, 0, 2**53 + 1], np.uint64),
        "near": np.ma.MaskedArray(np.array([B, 0, 2**63, 5], np.uint64), [0, 1, 0, 0]),
        "targetid": np.array([-(2**63), 2**63 - 1, -1, 2**53 + 1], np.int64),
        "tile": np.ma.MaskedArray(np.array([2**32 - 1, 0, 999999, 3], np.uint32), [0, 1, 0, 0]),
        "flag": np.array([65535, 0, 1, 2], np.uint16),
        "plate": np.ma.MaskedArray(np.array([999999, 1, -(2**31) + 1, 3], np.int32), [0, 1, 0, 0]),
        "z": np.array([1.502987, np.nan, 1e-30, 0.1], np.float32),
        "class": np.array(["QSO", "GALAXY", "a,b", ""]),
        "best": np.array([True, False, True, True]),
    },
    {"z": "", "plate": "Angstrom"},
)


@pytest.mark.parametrize("ending", [one for one in TABLES if one != ".csv"])
def test_every_number_is_read_back_as_it_was(ending: str) -> None:
    data = table_bytes(COLUMNS, ending)
    if ending == ".ecsv":
        again = Table.read(data.decode(), format="ascii.ecsv")
    else:
        again = read_table(data, "x")
    if ending == ".parquet":
        kinds = pyarrow.parquet.read_schema(io.BytesIO(data))
        assert kinds.field("specobjid").type == pa.uint64()
        assert kinds.field("z").type == pa.float32()
        plain = pd.read_parquet(io.BytesIO(data))
        assert plain["near"].tolist() == [B, 0, 2**63, 5]
        assert plain["near.mask"].tolist() == [False, True, False, False]
    assert again.colnames == list(COLUMNS.values)
    for name, values in COLUMNS.values.items():
        gone = np.ma.getmaskarray(values)
        for row, value in enumerate(values.tolist()):
            read = again[name][row]
            if name == "near" and gone[row]:
                assert read is None or read is np.ma.masked or str(read) in {"", "--"}
            elif gone[row]:
                assert read is None or read is np.ma.masked, (name, row, read)
            elif name == "z":
                assert np.ma.is_masked(read) or np.float32(read) == values[row] or np.isnan(value)
            elif isinstance(value, str | bool):
                assert str(read) == str(value) or np.ma.is_masked(read)
            else:
                assert int(read) == value, (name, row, read)


def test_votable_says_what_became_of_unsigned_numbers() -> None:
    table = read_table(table_bytes(COLUMNS, ".vot"), "x")
    assert table["specobjid"].dtype.kind in "UO"
    assert "text" in table["specobjid"].description
    assert table["tile"].dtype == np.int64
    small = Columns({"specobjid": np.array([A], np.uint64)}, {})
    table = read_table(table_bytes(small, ".vot"), "x")
    assert table["specobjid"].dtype == np.int64
    assert "below 2^63" in table["specobjid"].description


def test_float32_has_its_own_digits_in_text() -> None:
    lines = table_bytes(COLUMNS, ".csv").decode().splitlines()
    assert lines[1] == f"{A},{B},{-(2**63)},4294967295,65535,999999,1.502987,QSO,True"
    assert lines[2].startswith(f"{B},,")
    assert cells(np.ma.array(np.float32([1.502987, 2]), mask=[0, 1])) == ["1.502987", ""]


@pytest.fixture(scope="module")
def spec(served: Served) -> SpecClient:
    client = SpecClient(svc_url=served.url)
    client.set_token(TokenBook(open_root(served.data)).create("tables", now=datetime.now(UTC)))
    return client


@pytest.fixture
def near(spec: SpecClient) -> tuple[Any, list[int]]:
    """Positions of which the second and last have no spectrum near, and ids of the others."""
    rows = spec.query(constraint="plate > 8192 limit 2", fields="specobjid,ra,dec")
    assert len(rows) == 2
    ra = np.array([rows["ra"][0], 200.0, rows["ra"][1], np.nan])
    dec = np.array([rows["dec"][0], -89.0, rows["dec"][1], 0.0])
    return (ra, dec), rows["specobjid"].tolist()


@pytest.mark.parametrize("where", ["", "vos://"])
@pytest.mark.parametrize("ending", TABLES)
def test_getspec_reads_what_match_wrote(
    spec: SpecClient, near: Any, ending: str, where: str, tmp_path: Path
) -> None:
    positions, ids = near
    out = f"{where or tmp_path}/matched{ending}".replace("vos:///", "vos://")
    assert spec.match(positions, out=out, fields="z,class") == "OK"
    with pytest.raises(NoIdentifier, match="rows 1, 3 have no identifier"):
        spec.getSpec(out)
    with pytest.warns(UserWarning, match="2 rows have no identifier and are left out: 1, 3"):
        found = spec.getSpec(out, values="flux", missing="skip")
    for one, other in zip(found, spec.getSpec(ids, values="flux"), strict=True):
        assert np.array_equal(one, other)


def test_getspec_reads_the_table_of_a_match(spec: SpecClient, near: Any) -> None:
    positions, ids = near
    table = spec.match(positions)
    with pytest.raises(NoIdentifier, match="rows 1, 3"):
        spec.getSpec(table)
    for given in (table, table["specobjid"], table.to_pandas()):
        with pytest.warns(UserWarning, match="2 rows have no identifier"):
            assert len(spec.getSpec(given, values="flux", missing="skip")) == len(ids)


@pytest.mark.parametrize("fields", [None, "z,class", "tuple", "specobjid,tuple"])
@pytest.mark.parametrize("ending", ["", ".txt", *TABLES])
def test_getspec_reads_what_query_wrote(
    spec: SpecClient, ending: str, fields: str | None, tmp_path: Path
) -> None:
    asked = {"constraint": "plate > 8192 limit 3"}
    ids = spec.query(**asked)
    out = tmp_path / f"found{ending}"
    assert spec.query(**asked, fields=fields, out=out) == "OK"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = spec.getSpec(out, values="flux")
    for one, other in zip(found, spec.getSpec(ids, values="flux"), strict=True):
        assert np.array_equal(one, other)
    begin = {".fits": b"SIMPLE  =", ".parquet": b"PAR1", ".vot": b"<?xml", ".ecsv": b"# %ECSV"}
    assert out.read_bytes().startswith(begin.get(ending, b""))


def test_several_contexts_in_every_kind_of_table(two_surveys: Any, tmp_path: Path) -> None:
    spec = SpecClient(svc_url=two_surveys.served.url)
    asked: dict[str, Any] = {"constraint": "z > 0.02 limit 2", "context": "sdss_dr17,desi_edr"}
    ids = spec.query(**asked)
    for ending in TABLES:
        out = tmp_path / f"both{ending}"
        spec.query(**asked, fields="z", out=out)
        spec.query(**asked, out=tmp_path / f"ids{ending}")
        for path in (out, tmp_path / f"ids{ending}"):
            found = spec.getSpec(path, values="flux")
            assert len(found) == len(ids) == 4
    with pytest.raises(BadParameter, match="txt"):
        spec.query(**asked, fields="tuple", out=tmp_path / "t.fits")
    text = (tmp_path / "both.csv").read_text()
    (tmp_path / "both.csv").write_text(text + "sdss_dr17,,0.5\n")
    with pytest.raises(NoIdentifier, match="row 4 has"):
        spec.getSpec(tmp_path / "both.csv")
    with pytest.warns(UserWarning, match="1 rows"):
        assert len(spec.getSpec(tmp_path / "both.csv", values="flux", missing="skip")) == 4


OTHERS = r"no column 'specobjid'.*sdss_dr17.*targetid, .*desi_edr.*context='desi_edr'"


@pytest.mark.parametrize("call", ["getSpec", "files", "stack", "preview", "plot", "prospect",
                                  "plotGrid", "stackedImage", "resample"])  # fmt: skip
def test_a_table_of_another_context_is_told_with_what_to_say(
    two_surveys: Any, call: str, tmp_path: Path
) -> None:
    spec = SpecClient("sdss_dr17", svc_url=two_surveys.served.url)
    table = spec.query(constraint="z > 0.02 limit 2", fields="ra,dec,z", context="desi_edr")
    calls: dict[str, Any] = {
        "files": lambda given, **more: spec.getSpec(given, out=tmp_path / "a", **more),
        "resample": lambda given, **more: spec.getSpec(given, align="resample", **more),
        "plotGrid": lambda given, **more: spec.plotGrid(given, 2, 1, **more),
        "prospect": lambda given, **more: spec.prospect(given, show=False, **more),
        "plot": lambda given, **more: spec.plot(given, out=tmp_path / "a.png", **more),
    }
    ask = calls.get(call) or getattr(spec, call)
    with pytest.raises(UnknownField, match=OTHERS):
        ask(table)
    ask(table, context="desi_edr")


def test_every_kind_of_table_of_another_context(two_surveys: Any, tmp_path: Path) -> None:
    spec = SpecClient("sdss_dr17", svc_url=two_surveys.served.url)
    asked: dict[str, Any] = {"constraint": "z > 0.02 limit 2", "fields": "ra,dec,z"}
    table = spec.query(**asked, context="desi_edr")
    held: list[Any] = [table, table[0], table.to_pandas(), table.as_array(), table.as_array()[0]]
    # A row of a DataFrame whose labels are no column of the survey is a list of its values.
    held += [table.to_pandas().iloc[0], pa.table(dict(table.items())), list(table)]
    for ending in TABLES:
        held.append(tmp_path / f"desi{ending}")
        spec.query(**asked, context="desi_edr", out=held[-1])
    for given in held:
        with pytest.raises(UnknownField, match=OTHERS):
            spec.getSpec(given)
    # The other way round, and of releases that have none.
    back = spec.query(**asked)
    spec.set_context("desi_edr")
    with pytest.raises(UnknownField, match=r"'targetid'.*desi_edr.*specobjid.*context='sdss_dr17'"):
        spec.getSpec(back)
    assert len(spec.getSpec(back, context="sdss_dr17")) == 2
    for other in (back["ra", "dec"], spec.query(**asked)["ra", "z"]):
        with pytest.raises(UnknownField, match=r"'targetid'.*columns are ra, .*id_col="):
            spec.getSpec(other)
    # What the caller names is not guessed at.
    with pytest.raises(UnknownField, match="'yours'; known here: specobjid"):
        spec.getSpec(back, id_col="yours")
    got = run("get", "--ids", str(tmp_path / "desi.csv"), "--url", two_surveys.served.url,
              "--context", "sdss_dr17", code=2)  # fmt: skip
    assert "--context desi_edr" in got.stderr


def test_other_endings_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    spec = SpecClient(svc_url="http://127.0.0.1:9/spec")
    for wrong in ("a.xlsx", "vos://a.dat", tmp_path / "a.png"):
        with pytest.raises(BadParameter, match=r"\.txt, \.csv, \.ecsv, \.fits, \.parquet, \.vot"):
            spec.query(constraint="z > 1", out=wrong)
        with pytest.raises(BadParameter, match=r"\.csv, \.ecsv, \.fits, \.parquet, \.vot"):
            spec.match((1, 2), out=wrong)
        with pytest.raises(BadParameter, match=r"\.vot"):
            spec.write_table(Table({"a": [1]}), wrong)


def test_write_table_takes_tables_of_every_kind(spec: SpecClient, tmp_path: Path) -> None:
    out = tmp_path / "t.vot"
    frame = pd.DataFrame({"id": pd.array([A, None, B], "UInt64")})
    records = np.array([(A,), (7,), (B,)], [("id", "<u8")])
    for table in (Table({"id": MASKED}), frame, records):
        assert spec.write_table(table, out) == "OK"
        again = Table.read(out)
        assert [again["id"][0], again["id"][2]] == [str(A), str(B)]
    assert spec.write_table(Table({"id": [1]}), "vos://t.fits") == "OK"
    assert spec.vos.get("vos://t.fits").startswith(b"SIMPLE")
    with pytest.raises(BadParameter, match="structured array"):
        spec.write_table({"id": [A, 7, B]}, out)


@pytest.mark.proof
def test_commands_write_and_read_tables(served: Served, tmp_path: Path) -> None:
    spec = SpecClient(svc_url=served.url)
    z = spec.query(constraint="plate > 0 order by specobjid limit 3", fields="z")
    where = ["--where", "plate > 0 order by specobjid limit 3", "--url", served.url]
    assert run("query", *where, "--fields", "z").stdout.split() == [str(one) for one in z]
    several = run("query", *where, "--fields", "z,class").stdout.splitlines()
    assert [line.split(",")[1] for line in several[1:]] == [str(one) for one in z]
    out = tmp_path / "q.fits"
    run("query", *where, "--fields", "z,class", "--out", str(out))
    assert out.read_bytes().startswith(b"SIMPLE")
    assert (
        "3"
        in run("get", "--ids", str(out), "--out", str(tmp_path / "s"), "--url", served.url).stderr
    )
    assert len(list((tmp_path / "s").iterdir())) == 3
    at = tmp_path / "at.csv"
    rows = spec.query(constraint="plate > 0 order by specobjid limit 1", fields="ra,dec")
    at.write_text(f"ra,dec\n{rows['ra'][0]},{rows['dec'][0]}\n1,-89\n")
    printed = run("match", str(at), "--fields", "z", "--all", "--url", served.url).stdout
    assert printed.splitlines()[1].split(",")[3] == str(z[0])
    assert printed.splitlines()[2].split(",")[1] == ""
    run("match", str(at), "--all", "--out", str(tmp_path / "m.parquet"), "--url", served.url)
    got = run(
        "get", "--ids", str(tmp_path / "m.parquet"), "--skip-missing", "--url", served.url,
        "--out", str(tmp_path / "t"),
    )  # fmt: skip
    assert "row" in got.stderr
    assert len(list((tmp_path / "t").iterdir())) == 1
