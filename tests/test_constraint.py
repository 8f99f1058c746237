"""Conditions: attacks are refused, and what is accepted means what the same Python means."""

import math
import re
from pathlib import Path

import duckdb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp, parse_one

from specserver.catalog.duckdb.conditions import ConditionWriter
from specserver.catalog.field_names import FieldNames
from specserver.catalog.sql.constraint import (
    MAX_LIST,
    MAX_NODES,
    parse_constraint,
)
from specserver.catalog.sql.expressions import Condition, ConeArgs, Order, PolygonArgs, Value
from specserver.catalog.sql.tokenizer import MAX_NESTING, MAX_TEXT
from specserver.errors import BadConstraint, SpecServerError, TooMuch, UnknownField
from specserver.model.survey import Column

COLUMNS = {
    "specobjid": "uint", "plate": "int", "mjd": "int", "zwarning": "int", "mask": "int",
    "specprimary": "int", "z": "float", "zerr": "float", "sn": "float", "ra": "float",
    "dec": "float", "class": "str", "run2d": "str", "ok": "bool",
}  # fmt: skip
ALIASES = {"scienceprimary": "specprimary", "z_err": "zerr"}
TYPES = {
    "specobjid": "UBIGINT", "plate": "INTEGER", "mjd": "INTEGER", "zwarning": "INTEGER",
    "mask": "BIGINT", "specprimary": "TINYINT", "z": "DOUBLE", "zerr": "DOUBLE", "sn": "FLOAT",
    "ra": "DOUBLE", "dec": "DOUBLE", "class": "VARCHAR", "run2d": "VARCHAR", "ok": "BOOLEAN",
}  # fmt: skip
NAN = math.nan
BIG = 11997690149582688256
ROWS: list[tuple] = [
    (299489676975171584, 266, 51630, 0, 0, 1, 0.5, 0.01, 4.25, 1.0, 2.0, "GALAXY", "26", True),
    (BIG, 10656, 58163, 4, 1 << 40, 1, 0.1, 0.2, 9.5, 1.1, 2.1, "QSO", "v5_13_2", False),
    (5, 266, 51630, 16, 1 << 41, 0, -0.25, 1e-4, -1.0, 359.0, -2.0, "STAR", "26", True),
    (1024, 7000, 56777, 20, -1, 0, 1.5, 0.3, 4.5, 0.0, 90.0, "O'BRIEN", "v5_7_0", False),
    (2**64 - 1, 300, 52000, 5, 3, 1, 0.0, 0.0, 0.0, 180.0, 0.5, "back\\slash", "103", True),
    (0, 1, 50000, 1, 0, 0, 2.75, 0.5, 1e9, 180.5, 0.0, "naïve ∑", "104", False),
    (7, -266, 50001, -1, 2, 0, NAN, NAN, NAN, 90.0, -90.0, "qso", "26", None),
    (8, None, 50002, None, None, None, None, None, None, 91.0, 0.0, None, None, None),
]
T = {
    name: np.array([row[at] for row in ROWS[:6]])
    for at, name in enumerate(COLUMNS)
    if name != "specobjid"
}
T["specobjid"] = np.array([row[0] for row in ROWS[:6]], dtype=np.uint64)


def parse(text: str) -> Condition:
    return parse_constraint(text, COLUMNS, ALIASES)


def sql_of(condition: Condition) -> tuple[str, tuple[Value, ...]]:
    """Return a condition as DuckDB gets it: text with placeholders, and their values."""
    writer = ConditionWriter()
    text = "" if condition.where is None else writer.write(condition.where)
    return text, tuple(writer.params)


def columns_of(condition: Condition) -> set[str]:
    """Return the names of the columns that a condition uses, those of ORDER BY included."""
    writer = ConditionWriter()
    if condition.where is not None:
        writer.write(condition.where)
    return writer.columns | {one.column for one in condition.order}


def corpus(name: str) -> list[str]:
    text = (Path(__file__).parent / "data" / name).read_text(encoding="utf-8")
    plain = {"n": "\n", "t": "\t", "\\": "\\"}
    return [
        re.sub(
            r"\\(n|t|\\|x[0-9a-f]{2}|u[0-9a-f]{4})",
            lambda found: plain.get(found[1]) or chr(int(found[1][1:], 16)),
            line,
        )
        for line in text.splitlines()
        if not line.startswith("#")
    ]


REFUSED = corpus("refused_constraints.txt")
ACCEPTED = corpus("accepted_constraints.txt")


@pytest.fixture(scope="session")
def table():
    with duckdb.connect() as connection:
        declared = ", ".join(f'"{name}" {kind}' for name, kind in TYPES.items())
        connection.execute(f"CREATE TABLE t (row INTEGER, {declared})")
        marks = ", ".join("?" * (len(TYPES) + 1))
        for number, row in enumerate(ROWS):
            connection.execute(f"INSERT INTO t VALUES ({marks})", [number, *row])
        yield connection


def select(table, condition: Condition) -> list[int]:
    sql, params = sql_of(condition)
    where = f" WHERE {sql}" if sql else ""
    found = table.execute(f"SELECT row FROM t{where} ORDER BY row", list(params))
    return [row for (row,) in found.fetchall()]


def test_corpora_are_large_enough():
    assert len(REFUSED) == len(set(REFUSED)) >= 300
    assert len(ACCEPTED) == len(set(ACCEPTED)) >= 150


@pytest.mark.parametrize("text", REFUSED)
def test_refused_with_a_reason(text):
    with pytest.raises((BadConstraint, UnknownField)) as refused:
        parse(text)
    message = refused.value.message
    assert "refused: " in message or "unknown field" in message
    assert len(message.split("refused: ")[-1]) > 10


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("z > 0 -- x", "comment"), ("z > 0; DROP TABLE t", "semicolon"), ("z::int = 1", "cast"),
        ("z IN (SELECT 1)", "SELECT"), ("E'a' = class", "before a quote"), ("z > ?", "parameter"),
        ("a || b", "concatenation"), ("sleep(9) = 1", "no function sleep"), ("z[1]", "array"),
        ("class = 5", "class: text stands beside a whole number; quote text"),
        ('class = "QSO"', "text stands in single quotes"), ("CASE WHEN ok THEN 1 END", "CASE"),
        ("z ^ 2 > 1", "power"), ("s.z > 1", "one catalogue"), ("z > 1e999", "double precision"),
    ],
)  # fmt: skip
def test_the_reason_names_the_construct(text, reason):
    with pytest.raises(BadConstraint, match=re.escape(reason)):
        parse(text)


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_runs(table, text):
    condition = parse(text)
    sql, params = sql_of(condition)
    assert sql.count("?") == len(params)
    assert set(select(table, condition)) <= set(range(len(ROWS)))
    only_allowed(condition)


ALLOWED = (
    exp.Column, exp.Identifier, exp.Placeholder, exp.Paren, exp.And, exp.Or, exp.Not, exp.EQ,
    exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.Between, exp.In, exp.Like, exp.ILike, exp.Is,
    exp.Null, exp.Boolean, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.Mod, exp.BitwiseAnd,
    exp.BitwiseOr, exp.BitwiseNot, exp.BitwiseRightShift, exp.Cast, exp.DataType, exp.DataTypeParam,
    exp.Nullif, exp.Try, exp.Coalesce, exp.Greatest, exp.Least, exp.Abs, exp.Sqrt, exp.Ln, exp.Log,
    exp.Exp, exp.Pow, exp.Floor, exp.Ceil, exp.Round, exp.Sin, exp.Cos, exp.Tan, exp.Radians,
    exp.Degrees, exp.Lower, exp.Upper, exp.Trim, exp.Length,
)  # fmt: skip
PLAIN_SQL = re.compile(
    r'(?:"[a-z0-9_]+"|[A-Z]+(?:10|128)?(?![A-Za-z0-9])|\?|<>|<=|>=|>>|[-+*/%&|~<>=(), ])*'
)


def only_allowed(condition: Condition) -> None:
    sql, _ = sql_of(condition)
    assert PLAIN_SQL.fullmatch(sql), sql
    if not sql:
        return
    for node in parse_one(sql, dialect="duckdb", into=exp.Condition).walk():
        known = isinstance(node, ALLOWED)
        assert known or (isinstance(node, exp.Literal) and isinstance(node.parent, exp.Log)), node
        if isinstance(node, exp.Column):
            assert node.name in COLUMNS
            assert node.name in columns_of(condition)


def trunc_mod(values, divisor):
    return np.sign(values) * (np.abs(values) % divisor)


MEANT = {
    "z > 0.1": lambda t: t["z"] > 0.1,
    "z == 0.5": lambda t: t["z"] == 0.5,
    "z <> 0.5": lambda t: t["z"] != 0.5,
    "0.1 < z": lambda t: t["z"] > 0.1,
    "z > zerr": lambda t: t["z"] > t["zerr"],
    "Z_ERR < 1e-3": lambda t: t["zerr"] < 1e-3,
    'SPECOBJALL."z" > 0.1': lambda t: t["z"] > 0.1,
    "scienceprimary = 1": lambda t: t["specprimary"] == 1,
    "z > 0.1 OR class = 'STAR' AND plate = 266": lambda t: (
        (t["z"] > 0.1) | ((t["class"] == "STAR") & (t["plate"] == 266))
    ),
    "(z > 0.1 OR class = 'STAR') AND plate = 266": lambda t: (
        ((t["z"] > 0.1) | (t["class"] == "STAR")) & (t["plate"] == 266)
    ),
    "NOT z > 0.1 AND ok": lambda t: ~(t["z"] > 0.1) & t["ok"].astype(bool),
    "NOT (z > 0.1 AND ok)": lambda t: ~((t["z"] > 0.1) & t["ok"].astype(bool)),
    "class = 'O''BRIEN'": lambda t: t["class"] == "O'BRIEN",
    "class = 'naïve ∑'": lambda t: t["class"] == "naïve ∑",
    "class = 'back\\slash'": lambda t: t["class"] == "back\\slash",
    "class NOT IN ('QSO', 'STAR')": lambda t: ~np.isin(t["class"], ["QSO", "STAR"]),
    "class NOT LIKE 'G%'": lambda t: ~np.char.startswith(t["class"], "G"),
    "length(class) + 1 = 5": lambda t: np.char.str_len(t["class"]) + 1 == 5,
    "plate BETWEEN 266 AND 3000": lambda t: (t["plate"] >= 266) & (t["plate"] <= 3000),
    "plate NOT BETWEEN 266 AND 3000": lambda t: (t["plate"] < 266) | (t["plate"] > 3000),
    "plate IN (266.0, 0.5)": lambda t: t["plate"] == 266,
    "plate = 0x10A": lambda t: t["plate"] == 266,
    "plate = '266'": lambda t: t["plate"] == 266,
    "plate % 7 = 0": lambda t: t["plate"] % 7 == 0,
    "plate % 0 = 0": lambda t: t["plate"] < t["plate"],
    "plate / 4 > 66.25": lambda t: t["plate"] / 4 > 66.25,
    "plate * 10000 + mjd > 70000000": lambda t: t["plate"] * 10000 + t["mjd"] > 70000000,
    "2 + 3 * 4 = 14": lambda t: t["plate"] == t["plate"],
    "10 - 4 - 3 = 3": lambda t: t["plate"] == t["plate"],
    "zwarning & 4 = 0": lambda t: (t["zwarning"] & 4) == 0,
    "zwarning & 4 | 1 = 5": lambda t: ((t["zwarning"] & 4) | 1) == 5,
    "zwarning & ~4 = 0": lambda t: (t["zwarning"] & ~4) == 0,
    "~zwarning & 4 = 4": lambda t: (~t["zwarning"] & 4) == 4,
    "zwarning >> 2 = 1": lambda t: t["zwarning"] >> 2 == 1,
    "1 << 40 & mask != 0": lambda t: (t["mask"] & (1 << 40)) != 0,
    "mask & (1 << 41) = 0": lambda t: (t["mask"] & (1 << 41)) == 0,
    "-16 >> 2 = -4": lambda t: t["plate"] == t["plate"],
    "specobjid = 11997690149582688256": lambda t: t["specobjid"] == np.uint64(BIG),
    "specobjid = '11997690149582688256'": lambda t: t["specobjid"] == np.uint64(BIG),
    "specobjid = -6449053924126863360": lambda t: t["specobjid"] == np.uint64(BIG),
    "specobjid = '-6449053924126863360'": lambda t: t["specobjid"] == np.uint64(BIG),
    "specobjid != -6449053924126863360": lambda t: t["specobjid"] != np.uint64(BIG),
    "specobjid > 9223372036854775807": lambda t: t["specobjid"] > np.uint64(2**63 - 1),
    "specobjid > -1": lambda t: t["specobjid"] >= 0,
    "specobjid & 1023 = 0": lambda t: t["specobjid"] & np.uint64(1023) == 0,
    "~specobjid < 0": lambda t: t["specobjid"] >= 0,
    "specobjid * 4 > 18446744073709551615": lambda t: t["specobjid"] >= np.uint64(2**62),
    "ok != 0": lambda t: t["ok"].astype(bool),
    "ok = (z > 0.1)": lambda t: t["ok"].astype(bool) == (t["z"] > 0.1),
    "TRUE": lambda t: t["plate"] == t["plate"],
    "z = NULL": lambda t: t["plate"] < t["plate"],
    "sqrt(z) > 0.1": lambda t: np.sqrt(np.maximum(t["z"], 0)) > 0.1,
    "sqrt(z) IS NULL": lambda t: t["z"] < 0,
    "ln(z) < 0": lambda t: (t["z"] >= 0) & (t["z"] < 1),
    "log(z) < -0.5": lambda t: (t["z"] >= 0) & (t["z"] < 10**-0.5),
    "log(2, plate) > 12": lambda t: np.log2(t["plate"]) > 12,
    "power(z, 2) > 0.1": lambda t: t["z"] ** 2 > 0.1,
    "floor(z * 10) = 5": lambda t: np.floor(t["z"] * 10) == 5,
    "round(plate, -2) = 300": lambda t: np.round(t["plate"] / 100) == 3,
    "greatest(z, zerr) > 0.2": lambda t: np.maximum(t["z"], t["zerr"]) > 0.2,
    "least(z, zerr, 0.01) < 0": lambda t: np.minimum(t["z"], t["zerr"]) < 0,
    "1 / z > 3": lambda t: 1 / np.where(t["z"] == 0, 1e-300, t["z"]) > 3,
    "z / 0 > 1": lambda t: t["z"] > 0,
    "(1 + z) * 1215.67 > 1300": lambda t: (1 + t["z"]) * 1215.67 > 1300,
    "sn > 4.25": lambda t: t["sn"] > 4.25,
}


@pytest.mark.parametrize("text", MEANT)
def test_means_what_numpy_says(table, text):
    assert text in ACCEPTED
    expected = np.flatnonzero(MEANT[text](T)).tolist()
    assert [row for row in select(table, parse(text)) if row < 6] == expected


@pytest.mark.parametrize("text", ["z > 0", "z <= 0", "z = z", "z != 5", "NOT z > 0", "-z < 0",
                                  "sqrt(z) > -1", "abs(z) >= 0", "z + 1 > 0", "z > sqrt(-1)",
                                  "greatest(z, zerr) > -9", "z NOT IN (5, 6)"])  # fmt: skip
def test_nan_and_null_satisfy_nothing(table, text):
    assert not {6, 7} & set(select(table, parse(text)))


def test_null_is_found_by_is_null(table):
    assert select(table, parse("z IS NULL")) == [6, 7]
    assert select(table, parse("coalesce(z, 9) > 8")) == [6, 7]


# -- generated conditions, with their meaning in Python ------------------------------------------


class Meaning:
    """Text of an expression, and its value for a row; None is NULL."""

    def __init__(self, text, value):
        self.text, self.value = text, value


def lifted(function):
    return lambda *values: None if None in values else function(*values)


def cell(name):
    at = [*COLUMNS].index(name)
    return Meaning(name, lambda row: row[at])


def both(sign, one, other, function):
    compute = lifted(function)
    return Meaning(
        f"({one.text} {sign} {other.text})", lambda row: compute(one.value(row), other.value(row))
    )


def literal(value):
    return Meaning(str(value), lambda _: value)


def int_mod(left, right):
    return int(math.fmod(left, right)) if right else None


INTS = {
    "+": lambda a, b: a + b, "-": lambda a, b: a - b, "&": lambda a, b: a & b,
    "|": lambda a, b: a | b,
}  # fmt: skip
int_leaf = st.sampled_from(["plate", "mjd", "zwarning", "mask"]).map(cell) | st.integers(
    0, 2**20
).map(literal)
small = st.integers(0, 4)
ints = st.recursive(
    int_leaf,
    lambda inner: (
        st.builds(lambda s, a, b: both(s, a, b, INTS[s]), st.sampled_from([*INTS]), inner, inner)
        | st.builds(lambda a, n: both("<<", a, literal(n), lambda x, y: x << y), inner, small)
        | st.builds(lambda a, n: both(">>", a, literal(n), lambda x, y: x >> y), inner, small)
        | st.builds(lambda a, n: both("*", a, literal(n), lambda x, y: x * y), inner, small)
        | inner.map(
            lambda a: Meaning(f"(~{a.text})", lambda row: lifted(lambda x: ~x)(a.value(row)))
        )
        | inner.map(
            lambda a: Meaning(f"(- {a.text})", lambda row: lifted(lambda x: -x)(a.value(row)))
        )
    ),
    max_leaves=6,
)
mods = st.builds(lambda a, n: both("%", a, literal(n), int_mod), int_leaf, small)


def float_op(sign):
    ufunc = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide, "%": np.fmod}[sign]

    def compute(left, right):
        with np.errstate(all="ignore"):
            return float(ufunc(np.float64(left), np.float64(right)))

    return compute


float_leaf = st.sampled_from(["z", "zerr", "sn", "ra"]).map(cell) | st.floats(
    0, 100, allow_subnormal=False
).map(literal)
floats = st.recursive(
    float_leaf,
    lambda inner: st.builds(
        lambda s, a, b: both(s, a, b, float_op(s)), st.sampled_from("+-*/%"), inner, inner
    ),
    max_leaves=5,
)


def compared(sign, one, other):
    function = {
        "=": lambda a, b: a == b,
        "<>": lambda a, b: a != b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }[sign]

    def known(value):
        return None if value is None or math.isnan(value) else value

    compute = lifted(function)
    return Meaning(
        f"{one.text} {sign} {other.text}",
        lambda row: compute(known(one.value(row)), known(other.value(row))),
    )  # fmt: skip


def listed(column, values, denied):
    def value(row):
        found = column.value(row)
        return None if found is None else (found in values) != denied

    inside = ", ".join("'" + text.replace("'", "''") + "'" for text in values)
    return Meaning(f"{column.text} {'NOT ' if denied else ''}IN ({inside})", value)


signs = st.sampled_from(["=", "<>", "<", "<=", ">", ">="])
texts = st.sampled_from(["class", "run2d"]).map(cell)
words = st.sampled_from([value for row in ROWS[:7] for value in row[11:13]]) | st.text(
    st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=5
)
predicates = (
    st.builds(compared, signs, ints | mods, ints)
    | st.builds(compared, signs, floats, floats)
    | st.builds(listed, texts, st.lists(words, min_size=1, max_size=3), st.booleans())
    | st.just(cell("ok"))
)


def denied(inner):
    def value(row):
        found = inner.value(row)
        return None if found is None else not found

    return Meaning(f"NOT ({inner.text})", value)


def joined(groups):
    """Write OR of ANDs without parentheses: AND binds tighter."""

    def all_of(values):
        return False if False in values else None if None in values else True

    def value(row):
        values = [all_of([one.value(row) for one in group]) for group in groups]
        return True if True in values else None if None in values else False

    return Meaning(" OR ".join(" AND ".join(one.text for one in group) for group in groups), value)


def wrapped(one):
    return Meaning(f"({one.text})", one.value)


conditions = st.recursive(
    predicates,
    lambda inner: (
        inner.map(denied)
        | st.lists(
            st.lists(inner.map(wrapped) | predicates, min_size=1, max_size=3),
            min_size=1,
            max_size=3,
        ).map(joined)
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(meaning=conditions)
def test_generated_conditions_mean_the_same_in_python(table, meaning):
    condition = parse(meaning.text)
    only_allowed(condition)
    stored = table.execute("SELECT * EXCLUDE (row) FROM t ORDER BY row").fetchall()
    expected = [number for number, row in enumerate(stored) if meaning.value(row) is True]
    assert select(table, condition) == expected


FRAGMENTS = [
    "z", "plate", "class", "ok", "specobjid", "specobj.", "nosuch", "1", "0.5", "1e5", "'a'", '"z"',
    "''", "'", '"', "(", ")", ",", ";", "--", "/*", "*/", "=", "<", ">", "<>", "+", "-", "*", "/",
    "%", "&", "|", "~", "^", "<<", ">>", "AND", "OR", "NOT", "IN", "IS", "NULL", "LIKE", "BETWEEN",
    "TRUE", "SELECT", "UNION", "abs(", "sqrt(", "coalesce(", "q3c_radial_query(ra,dec,1,2,3)",
    "q3c_poly_query(ra,dec,ARRAY[", "ORDER BY", "LIMIT", "WHERE", "::", "[", "?", "\0", "é", "\\",
]  # fmt: skip


@settings(max_examples=400)
@given(
    st.text(max_size=60)
    | st.lists(st.sampled_from(FRAGMENTS), max_size=14).map(" ".join)
    | st.lists(st.sampled_from(FRAGMENTS), max_size=8).map("".join)
    | st.lists(st.sampled_from(["z", "1", "(", ")", "NOT", "-", "=", "&", "ok"]), max_size=9).map(
        " ".join
    )
)
def test_any_text_is_refused_or_safe(table, text):
    try:
        condition = parse(text)
    except SpecServerError:
        return
    only_allowed(condition)
    sql, params = sql_of(condition)
    assert sql.count("?") == len(params)
    select(table, condition)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30))
def test_any_string_literal_arrives_unchanged(table, text):
    condition = parse("class = '" + text.replace("'", "''") + "'")
    assert sql_of(condition) == ('"class" = ?', (text,))
    assert table.execute("SELECT ? = ?", [text, text]).fetchone() == (True,)


@given(st.integers(0, 2**64 - 1))
def test_any_identifier_stays_exact(number):
    signed = number - 2**64 if number >= 2**63 else number
    for form in (f"{number}", f"'{number}'", f"{signed}", f"'{signed}'", f" - {-signed}"):
        if form.startswith(" - ") and signed >= 0:
            continue
        (value,) = sql_of(parse(f"specobjid = {form}"))[1]
        assert (type(value), value) == (int, number)
        assert sql_of(parse(f"specobjid IN ({form})"))[1] == (number,)


# -- position, order and limit --------------------------------------------------------------------


def test_or_stays_apart_from_the_position():
    condition = parse("q3c_radial_query(ra,dec,180.0,-0.5,1.0) AND z > 0.1 OR class = 'STAR'")
    alone = parse("z > 0.1 OR class = 'STAR'")
    assert condition.region == ConeArgs(180.0, -0.5, 1.0)
    assert condition.where == alone.where
    assert "ra" not in columns_of(condition)


@pytest.mark.parametrize(
    "array",
    ["[(1, 2), (3.5, -4), (5, 6e0)]", "[1,2,3.5,-4,5,6]", "[[1,2],[3.5,-4.0],[5,6]]",
     "[[1,2],(3.5,-4),[+5,6.]]"],
)  # fmt: skip
def test_polygon_in_every_form(array):
    condition = parse(f"q3c_poly_query(ra,dec,ARRAY{array}) LIMIT 7")
    assert condition.region == PolygonArgs(((1.0, 2.0), (3.5, -4.0), (5.0, 6.0)))
    assert (condition.where, condition.limit) == (None, 7)


@given(st.tuples(*[st.floats(-1e6, 1e6)] * 3))
def test_cone_numbers_as_the_old_client_writes_them(numbers):
    ra, dec, size = numbers
    written = f"q3c_radial_query(ra,dec,{ra:f},{dec:f},{size:f})"
    expected = ConeArgs(*(float(f"{number:f}") for number in numbers))
    assert parse(f"{written} AND ok").region == expected


def test_order_and_limit():
    condition = parse('z > 0.1 ORDER BY Z_ERR DESC, specobj.plate, "class" asc LIMIT 10;')
    assert condition.order == (Order("zerr", True), Order("plate", False), Order("class", False))
    assert condition.limit == 10
    assert columns_of(condition) == {"z", "zerr", "plate", "class"}
    assert parse("LIMIT 9223372036854775807").limit == 2**63 - 1


@pytest.mark.parametrize("text", ["", " ", "\n\t ", None])
def test_blank_is_no_condition(text):
    assert parse(text) == Condition()


def test_unknown_name_suggests():
    with pytest.raises(UnknownField, match="did you mean plate"):
        parse("plat > 1")


DESCRIBED = [
    Column("ra", "f8", "deg", "right ascension of the object"),
    Column("dec", "f8", "deg", "declination of the object"),
    Column("z", "f4", "", "best-fit redshift"),
    Column("zerr", "f4", "", "error of z"),
    Column("zwarning", "i4", "", "ZWARNING bits; 0 is good"),
    Column("class", "U", "", "class: GALAXY, QSO or STAR"),
    Column("sn", "f4", "", "median signal to noise"),
]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("redshift", "z"), ("REDSHIFT", "z"), ("redshfit", "z"), ("decl", "dec"),
        ("dej2000", "dec"), ("RAJ2000", "ra"), ("object_class", "class"), ("type", "class"),
        ("snr", "sn"), ("warning", "zwarning"), ("uncertainty", "zerr"), ("plat", "plate"),
    ],
)  # fmt: skip
def test_an_unknown_name_suggests_what_astronomers_mean_by_it(name, meant):
    for text in (f"{name} > 2", f"order by {name}", f"sqrt({name}) > 1"):
        with pytest.raises(UnknownField) as refused:
            parse_constraint(text, COLUMNS, ALIASES, DESCRIBED)
        message = refused.value.message
        assert f"unknown field '{name}' (did you mean {meant}" in message
        assert "text" not in message
        # The catalogue's own order, in which the main columns come first.
        assert "known here: specobjid, plate, mjd, zwarning, mask" in message
        assert message.endswith("; spec.catalogs(fmt='json') describes them")


WORDS = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True),
    st.sampled_from(["redshift", "type", "decl", "s_n", "objclass", "zz", "mjdd", "class_"]),
)


@given(WORDS)
def test_a_suggestion_is_a_column_and_never_the_unknown_name(name):
    names = FieldNames(COLUMNS, ALIASES, DESCRIBED)
    if name in names:
        return
    for near in names.near(name):
        assert near != name
        assert columns_of(parse(f"{near} is not null")) == {names[near]}


@pytest.mark.parametrize(
    ("text", "is_text"),
    [
        ("class = QSO", True), ("class <> QSO", True), ("class in ('STAR', QSO)", True),
        ("class not in (QSO)", True), ("class not like QSO", True), ("lower(class) = QSO", True),
        ("z = QSO", False), ("QSO > 2", False), ("class = 'STAR' or QSO = 1", False),
        ("z in (QSO)", False), ("(QSO) = 1", False), ("not QSO", False), ("QSO", False),
    ],
)  # fmt: skip
def test_only_where_text_stands_text_is_suggested(text, is_text):
    with pytest.raises(UnknownField) as refused:
        parse(text)
    assert ("did you mean the text 'QSO'" in refused.value.message) == is_text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("class = 'QSO' lmit 3", "lmit .* did you mean LIMIT"), ("lmit 3", "mean LIMIT"),
        ("z > 1 limit3", "mean LIMIT"), ("z > 1 adn z < 2", "adn .* mean AND"),
        ("z betwen 1 and 2", "mean BETWEEN"), ("wher z > 1", "mean WHERE"),
        ("(z > 1) adn (z < 2)", "mean AND"), ("z > 1 ordr by z", "mean ORDER"),
        ("z > 1 foo", "foo stands directly after 1: an operator, AND"),
        ('"clas" = \'QSO\'', r"no column .* \(did you mean class\?\); text stands in single"),
    ],
)  # fmt: skip
def test_a_misspelt_word_of_the_grammar_is_no_unknown_field(text, said):
    with pytest.raises(BadConstraint, match=said):
        parse(text)


def test_a_column_named_like_a_word_of_sql_works(table):
    columns = {"date": "int", "filter": "str", "odd name": "float"}
    condition = parse_constraint("date > 5 AND Filter = 'r' AND \"odd name\" < 1", columns, {})
    assert columns_of(condition) == set(columns)
    assert '"date" > ?' in sql_of(condition)[0]


def test_limits_have_edges():
    assert parse("(" * MAX_NESTING + "z" + ")" * MAX_NESTING + " > 1").where
    with pytest.raises(BadConstraint, match="levels of nesting"):
        parse("(" * (MAX_NESTING + 1) + "z" + ")" * (MAX_NESTING + 1) + " > 1")
    with pytest.raises(BadConstraint, match="levels of nesting"):
        parse("NOT " * (MAX_NESTING + 1) + "ok")
    with pytest.raises(BadConstraint, match="inside each other"):
        parse("+".join(["z"] * 200) + " > 1")
    chain = parse(" OR ".join(["plate = 1"] * (MAX_NODES // 3 - 1)))
    assert len(sql_of(chain)[1]) > 1000
    with pytest.raises(BadConstraint, match="parts"):
        parse(" OR ".join(["plate = 1"] * (MAX_NODES // 3 + 1)))
    ids = [str(2**64 - 1 - number) for number in range(MAX_LIST + 1)]
    assert len(sql_of(parse(f"specobjid IN ({', '.join(ids[:-1])})"))[1]) == MAX_LIST
    with pytest.raises(TooMuch, match="values in a list"):
        parse(f"specobjid IN ({','.join(ids)})")
    with pytest.raises(TooMuch, match="characters"):
        parse("z > 1" + " " * MAX_TEXT)


@pytest.mark.parametrize(
    "text",
    ["(" * 200_000, "z > " + "-~" * 100_000, "'" * 200_001, '"' * 200_001, "1" * 200_000,
     "z+" * 100_000, "0x" + "f" * 200_000, "1." + "0" * 200_000 + "e", " NOT" * 50_000,
     "q3c_poly_query(ra,dec,ARRAY[" + "1," * 100_000, "abs(" * 60_000, "," * 200_000],
)  # fmt: skip
@pytest.mark.timeout(10)
def test_monstrous_text_is_refused_at_once(text):
    with pytest.raises((BadConstraint, TooMuch)):
        parse(text)
