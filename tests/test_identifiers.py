"""Identifiers from what a caller holds."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import QTable, Table
from astropy.utils.exceptions import AstropyWarning
from hypothesis import given
from hypothesis import strategies as st

from specserver.client.inputs.identifiers import IdentifierReader
from specserver.errors import BadIdentifier, UnknownField
from specserver.model.id_contexts import ContextText
from specserver.model.id_tables import Gaps
from specserver.model.id_tuple import IdPattern, parse_id_tuple
from specserver.model.ids import USUAL_FORM, IdForm, pack_specobjid, unpack_specobjid

A, B = 299489676975171584, 11997690149582688256
IDS = np.array([A, B, A], "u8")
PATTERNS = [parse_id_tuple((266, 51602, 1, 26)), parse_id_tuple((4055, 55359, 408, "v5_7_0"))]
COLUMNS = {
    "plate": [266, 4055],
    "mjd": [51602, 55359],
    "fiberid": [1, 408],
    "run2d": ["26", "v5_7_0"],
}


def read_identifiers(given, id_col=None, *, form=USUAL_FORM, read_vos=None, gaps=None):
    """Return the identifiers of one context, and whether a single one was given."""
    text = ContextText("", lambda _: form, lambda _: False)
    reader = IdentifierReader(text, id_col, read_vos, gaps or Gaps(), mixed=False)
    ids, single, contexts = reader.read(given)
    assert contexts is None
    return ids, single


def exact(*values):
    return parse_id_tuple(values)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (A, A),
        (B - 2**64, B - 2**64),
        (np.uint64(B), B),
        (np.int64(-5), -5),
        (np.array(B, "u8"), B),
        (str(B), B),
        (np.str_(A), A),
        (f" {A} ", A),
        (f"{A}".encode(), A),
        (np.bytes_(str(A)), A),
        (f"np.uint64({A})", A),
        ((1963, 54331, 19), exact(1963, 54331, 19)),
        (
            (np.int16(1963), np.int32(54331), np.int16(19), np.str_("26")),
            exact(1963, 54331, 19, 26),
        ),
        ("(1963, 54331, 19)", exact(1963, 54331, 19)),
        ("1963,54331,19,v5_7_0", exact(1963, 54331, 19, "v5_7_0")),
    ],
)
def test_single(one, expected):
    found, is_single = read_identifiers(one)
    assert (found, is_single) == ([expected], True)
    assert type(found[0]) in {int, IdPattern}


@pytest.mark.parametrize(
    ("many", "expected"),
    [
        ([A], [A]),
        ([A, B, A], [A, B, A]),
        ((A, B), [A, B]),
        ((A,), [A]),
        ((np.uint64(A), B), [A, B]),
        ((str(A), str(B)), [A, B]),
        ((B - 2**64, 5), [B - 2**64, 5]),
        (list(IDS), [A, B, A]),
        (IDS, [A, B, A]),
        (IDS.astype(">u8"), [A, B, A]),
        (IDS.view("i8"), [A, B - 2**64, A]),
        (IDS.astype(str), [A, B, A]),
        (IDS.astype("S"), [A, B, A]),
        (IDS[:0], []),
        (IDS.reshape(3, 1)[:0], []),
        ([], []),
        ((), []),
        (np.array([]), []),
        ("", []),
        (range(3), [0, 1, 2]),
        ((one for one in (A, B)), [A, B]),
        (((1, 2, 3), (4, 5, 6)), [exact(1, 2, 3), exact(4, 5, 6)]),
        ([(1, 2, 3)], [exact(1, 2, 3)]),
        ([[1, 2, 3], [4, 5, 6]], [exact(1, 2, 3), exact(4, 5, 6)]),
        (np.array([[1, 2, 3], [4, 5, 6]]), [exact(1, 2, 3), exact(4, 5, 6)]),
        (np.array([["1", "2", "3", "v5_7_0"]]), [exact(1, 2, 3, "v5_7_0")]),
        (np.array([A, (1, 2, 3)], dtype=object), [A, exact(1, 2, 3)]),
        ([A, (1, 2, "*"), str(B), np.int64(7), b"8"], [A, exact(1, 2), B, 7, 8]),
        (["1963,54331,19", f"{A}, {B}"], [exact(1963, 54331, 19), A, B]),
        ([[A, B], A], [A, B, A]),
        ((1963, 54331, "*"), [exact(1963, 54331)]),
        ((1963,), [exact(1963)]),
        (("1962,1963", "*", 100, "26,103"), [exact("1962,1963", "*", 100, "26,103")]),
        (f"{A}\n{B}\n", [A, B]),
        (f"{A},{B}", [A, B]),
        (f"[{A}]", [A]),
        (f"({A},)", [A]),
        ("((1963, 54331, 19),)", [exact(1963, 54331, 19)]),
        (f"specobjid\n{A}", [A]),
        ("1963,54331,*", [exact(1963, 54331)]),
    ],
)
def test_list(many, expected):
    found, is_single = read_identifiers(many)
    assert (found, is_single) == (expected, False)
    assert {type(one) for one in found} <= {int, IdPattern}


@given(st.lists(st.integers(-(2**63), 2**64 - 1) | st.tuples(*[st.integers(0, 9999)] * 3)))
def test_order_and_duplicates_are_kept(values):
    expected = [exact(*one) if isinstance(one, tuple) else one for one in values]
    assert read_identifiers(values) == (expected, False)
    assert read_identifiers(np.fromiter(values, dtype=object)) == (expected, False)


def tables():
    ids = {"ra": [0.5, 1.5, 2.5], "SpecObjID": IDS, "class": ["A", "B", "C"]}
    yield pytest.param(pd.DataFrame(ids), id="DataFrame")
    yield pytest.param(pd.DataFrame(ids).set_index("SpecObjID"), id="DataFrame index")
    yield pytest.param(pd.DataFrame(ids).astype({"SpecObjID": "UInt64"}), id="nullable")
    yield pytest.param(pd.DataFrame(ids).astype({"SpecObjID": "str"}), id="text column")
    yield pytest.param(pd.DataFrame(ids).astype({"SpecObjID": "object"}), id="object column")
    yield pytest.param(Table(ids), id="Table")
    yield pytest.param(Table(ids, masked=True), id="masked Table")
    yield pytest.param(QTable(ids), id="QTable")
    yield pytest.param(Table(ids).as_array(), id="structured array")
    yield pytest.param(Table(ids).as_array().view(np.recarray), id="recarray")
    yield pytest.param(Table({"id": IDS}), id="one column")


@pytest.mark.parametrize("table", list(tables()))
def test_id_column_of_a_table(table):
    assert read_identifiers(table) == ([A, B, A], False)


@pytest.mark.parametrize(
    "column",
    [
        pd.Series(IDS),
        pd.Series(IDS, index=["a", "b", "c"]),
        pd.Series(IDS.astype(str)),
        pd.Index(IDS),
        Table({"specobjid": IDS})["specobjid"],
        Table({"specobjid": IDS}, masked=True)["specobjid"],
    ],
    ids=lambda column: type(column).__name__,
)
def test_columns(column):
    assert read_identifiers(column) == ([A, B, A], False)


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame(COLUMNS),
        pd.DataFrame(COLUMNS).rename(columns={"fiberid": "FIBER", "plate": "PLATE"}),
        pd.MultiIndex.from_frame(pd.DataFrame(COLUMNS)),
        pd.DataFrame(COLUMNS).assign(z=0.5).set_index(list(COLUMNS)),
        Table(COLUMNS),
        Table(COLUMNS)
        .as_array()
        .astype([(name, "i4") for name in list(COLUMNS)[:3]] + [("run2d", "S6")]),
        unpack_specobjid([pack_specobjid(266, 51602, 1, 26), 4565636362342690816]),
    ],
    ids=range(7),
)
def test_tuple_columns_of_a_table(table):
    assert read_identifiers(table) == (PATTERNS, False)


def test_tuple_columns_without_the_last():
    found, _ = read_identifiers(Table(COLUMNS)["mjd", "fiberid", "plate"])
    assert found == [exact(266, 51602, 1), exact(4055, 55359, 408)]


@pytest.mark.parametrize(
    "table",
    [
        pd.DataFrame({"specobjid": IDS[:1], "class": ["A"]}).iloc[0],
        Table({"specobjid": IDS[:1], "ra": [0.5]})[0],
        Table({"specobjid": IDS[:1], "ra": [0.5]}).as_array()[0],
    ],
    ids=lambda row: type(row).__name__,
)
def test_row_is_single(table):
    assert read_identifiers(table) == ([A], True)


@pytest.mark.parametrize(
    "row", [Table(COLUMNS)[0], pd.DataFrame(COLUMNS).iloc[0], unpack_specobjid(A)]
)
def test_row_of_parts_is_single(row):
    assert read_identifiers(row) == ([PATTERNS[0]], True)


def test_list_of_rows():
    rows = list(Table({"specobjid": IDS})) + list(unpack_specobjid([A]))
    assert read_identifiers(rows) == ([A, B, A, PATTERNS[0]], False)


def test_named_column():
    table = Table({"specobjid": [1, 2], "bestobjid": IDS[:2]})
    for given_table in (table, table.to_pandas(), table.as_array()):
        assert read_identifiers(given_table, "bestobjid") == ([A, B], False)
        assert read_identifiers(given_table, form=IdForm("bestobjid", ("plate",))) == (
            [A, B],
            False,
        )
        with pytest.raises(UnknownField, match=r"'targetid'.*specobjid, bestobjid"):
            read_identifiers(given_table, id_col="targetid")
    with pytest.raises(UnknownField, match="'specobjid'; known here: ra, dec"):
        read_identifiers(Table({"ra": [1.0], "dec": [2.0]}))


@pytest.mark.parametrize(
    ("text", "id_col"),
    [
        (f"{A}\n{B}\n{A}\n", None),
        (f"\ufeffspecobjid\r\n{A}\r\n{B}\r\n{A}\r\n", None),
        (f"# mine\n{A}, {B}, {A}", None),
        (f"ra,specobjid\n1.5,{A}\n1.5,{B}\n1.5,{A}\n", None),
        (f"specobjid,other\n1,{A}\n2,{B}\n3,{A}\n", "other"),
    ],
)
def test_files(tmp_path, monkeypatch, text, id_col):
    path = tmp_path / "ids.csv"
    path.write_text(text, encoding="utf-8")
    expected = ([A, B, A], False)
    assert read_identifiers(path, id_col) == expected
    assert read_identifiers(str(path), id_col) == expected
    monkeypatch.chdir(tmp_path)
    assert read_identifiers("ids.csv", id_col) == expected


def test_file_of_one_is_a_list(tmp_path):
    path = tmp_path / "one"
    path.write_text(str(A))
    assert read_identifiers(path) == ([A], False)


def test_a_file_does_not_hide_a_number(tmp_path, monkeypatch):
    (tmp_path / "123").write_text(str(A))
    monkeypatch.chdir(tmp_path)
    assert read_identifiers("123") == ([123], True)
    assert read_identifiers(Path("123")) == ([A], False)


@pytest.mark.parametrize("size", [1000, 1001, 5000])
def test_files_of_more_than_a_thousand(tmp_path, size):
    """NumPy prints arrays of more than 1,000 values with dots in their middle."""
    ids = list(range(A, A + size))
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, ids)))
    assert read_identifiers(path)[0] == ids
    path.write_text(str(np.array(ids, "u8")))
    if size == 1000:
        assert read_identifiers(path)[0] == ids
    else:
        with pytest.raises(BadIdentifier, match="cut when it was printed"):
            read_identifiers(path)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (None, "missing"),
        (float("nan"), "missing"),
        (np.nan, "missing"),
        (pd.NA, "missing"),
        (np.ma.masked, "missing"),
        ([A, None], "missing"),
        ([A, ""], "missing"),
        (["specobjid"], "missing"),
        (Table({"specobjid": np.ma.array(IDS, mask=[0, 1, 0])}), "missing"),
        (Table({"specobjid": np.ma.array(IDS, mask=[0, 1, 0])})["specobjid"], "missing"),
        (Table({"specobjid": np.ma.array(IDS, mask=[0, 1, 0])})[1], "missing"),
        (float(A), "lost the last digits"),
        (np.float64(A), "lost the last digits"),
        ([A, float(B)], "lost the last digits"),
        (IDS.astype("f8"), "lost the last digits"),
        (pd.DataFrame({"specobjid": [A, None]}), "lost the last digits"),
        (Table({"specobjid": IDS.astype("f8")}), "lost the last digits"),
        (pd.DataFrame({**COLUMNS, "plate": [266.0, 1.0]}), "not a float"),
        ((1963.0, 54331, 19), "not a float"),
        (True, "bool"),
        (np.array([True]), "bool"),
        (2**64, "64 bits"),
        ([-(2**63) - 1], "64 bits"),
        (1j, "complex"),
        (object(), "object"),
        ({A, B}, "set has no order"),
        ({"specobjid": [A]}, "mapping has no rows"),
        (np.zeros((2, 2), int), "3 or 4 values"),
        (np.zeros((1, 1, 3), int), "3 or 4 values"),
        (b"\xff\xfe", "no text"),
        ("no_such_file.csv", "no such file"),
        (Path("no_such_file.csv"), "cannot be read"),
        (Path("/"), "cannot be read"),
        ("hello", "write a whole number"),
        ("[0 1 ... 9]", "cut when it was printed"),
        (("*", "*", "*"), "whole survey"),
    ],
)
def test_refused(bad, reason):
    with pytest.raises(BadIdentifier, match=reason):
        read_identifiers(bad)


def test_refused_files(tmp_path):
    path = tmp_path / "ids.npy"
    np.save(path, IDS)
    with pytest.raises(BadIdentifier, match=r"file is no text.*Table\.read"):
        read_identifiers(path)
    for name, begin in (
        ("a.fits", b"SIMPLE  =  T"),
        ("a.parquet", b"PAR1xx"),
        ("a.vot", b"<VOTABLE"),
    ):
        (tmp_path / name).write_bytes(begin)
        with pytest.raises(BadIdentifier, match="table in the file cannot be read"):
            read_identifiers(tmp_path / name)


def test_names_in_virtual_storage_are_read_by_whoever_can():
    files = {"vos://ids.txt": f"{A}\n{B}\n", "vos://one": f"{A}"}
    assert read_identifiers(" vos://ids.txt", read_vos=files.__getitem__) == ([A, B], False)
    assert read_identifiers("vos://one", read_vos=files.__getitem__) == ([A], False)
    with pytest.raises(BadIdentifier, match="no virtual storage"):
        read_identifiers("vos://ids.txt")


def test_import_loads_no_table_library():
    code = (
        "import sys; from specserver.client.inputs.identifiers import IdentifierReader;"
        "IdentifierReader(None, mixed=False).read([1]);"
        "print(*{'pandas', 'astropy'} & {name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_real_tables(real_spectra):
    path = real_spectra / "catalogs" / "specobj_excerpt.csv"
    with path.open(newline="") as file:
        expected = [int(row["specobjid"]) for row in csv.DictReader(file)]
    assert read_identifiers(path) == (expected, False)
    assert read_identifiers(str(path)) == (expected, False)
    assert read_identifiers(pd.read_csv(path, dtype={"specobjid": "uint64"})) == (expected, False)
    with pytest.warns(AstropyWarning, match="specobjid, reverting to String"):
        table = Table.read(path)
    assert read_identifiers(table) == (expected, False)


def test_real_tables_of_tuples(real_spectra):
    path = real_spectra / "catalogs" / "example_SPLUS_DR16Q_match.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    expected = [exact(*(int(row[name]) for name in ("PLATE", "MJD", "FIBERID"))) for row in rows]
    assert read_identifiers(path) == (expected, False)
    assert read_identifiers(Table.read(path)) == (expected, False)


def test_real_table_with_rounded_ids(real_spectra):
    with pytest.raises(BadIdentifier, match="lost the last digits"):
        read_identifiers(real_spectra / "catalogs" / "Skyserver_SQL2_27_2018.csv")


def test_real_negative_ids(real_spectra):
    found, _ = read_identifiers(
        real_spectra / "catalogs" / "desi_targets.csv",
        form=IdForm("targetid", ("targetid",), 0, has_reduction=False),
    )
    assert found[:3] == [39633345008634465, 39633345008634465, -1695072]
