"""Identifiers as text."""

import time

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from specserver.errors import BadIdentifier, TooMuch, UnknownField
from specserver.model.id_contexts import ContextText
from specserver.model.id_names import tuple_text
from specserver.model.id_tables import id_columns
from specserver.model.id_text import parse_id_text
from specserver.model.id_tuple import (
    IdPattern,
    Span,
    format_id,
    format_ids,
    leads_list,
    marked_id,
    parse_id_tuple,
)
from specserver.model.ids import USUAL_FORM, IdForm

A, B = 299489676975171584, 11997690149582688256


def spans():
    ends = st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
    return ends.map(sorted).map(lambda both: Span(*both)) | st.integers(0, 2**16).map(
        lambda number: Span(number, number)
    )


def patterns(nparts=4):
    numbers = st.none() | st.lists(spans(), min_size=1, max_size=3).map(tuple)
    texts = st.none() | st.lists(
        st.from_regex(r"[A-Za-z0-9]\w{0,7}", fullmatch=True).filter(
            lambda text: text.isascii() and text != "None"
        ),
        min_size=1,
        max_size=3,
    ).map(tuple)
    parts = st.tuples(*[numbers] * (nparts - 1), texts).filter(lambda parts: any(parts[:-1]))
    form = form_of(nparts)
    return parts.map(lambda parts: IdPattern(parts, form))


def form_of(nparts):
    if nparts == len(USUAL_FORM.parts):
        return USUAL_FORM
    return IdForm("id", tuple(f"part{number}" for number in range(nparts)))


def numbers():
    return st.integers(-(2**63), 2**64 - 1)


def exact(*values):
    return parse_id_tuple(values)


@given(numbers() | patterns())
def test_format_and_parse_are_inverse(value):
    assert parse_id_text(format_id(value)) == [value]


@pytest.mark.proof
@given(st.lists(numbers() | patterns(), max_size=8))
def test_one_identifier_a_line(values):
    assert parse_id_text("\r\n".join(map(format_id, values))) == values


@given(st.lists(numbers(), max_size=20))
def test_printed_lists_of_numbers(values):
    assert parse_id_text(str(values)) == values
    assert parse_id_text(repr(values).replace(",", "")) == values
    assert parse_id_text("[" + ", ".join(f"np.int64({value})" for value in values) + "]") == values


@pytest.mark.proof
@given(st.integers(2, 6).flatmap(lambda n: st.tuples(st.just(n), patterns(n))))
def test_any_number_of_parts(both):
    nparts, pattern = both
    assert parse_id_text(format_id(pattern), form_of(nparts)) == [pattern]


@given(
    st.lists(
        st.tuples(st.integers(0, 2**14), st.integers(50000, 66383), st.integers(0, 4095)),
        min_size=1,
        max_size=5,
    )
)
def test_printed_tuples(rows):
    expected = [parse_id_tuple(row) for row in rows]
    assert parse_id_text(str(rows)) == expected
    assert parse_id_text(str(tuple(rows))) == expected
    assert parse_id_text(str(np.array(rows))) == expected
    assert parse_id_text(repr(np.array(rows))) == expected
    assert parse_id_text("\n".join(f"{p}, {m}, {f}" for p, m, f in rows)) == expected
    assert parse_id_text("plate mjd fiber\n" + "\n".join(f"{p} {m} {f}" for p, m, f in rows)) == (
        expected
    )


@given(
    st.text(alphabet="0123456789()[],'\"*-.# \n\tabvenpu_…:", max_size=40) | st.text(max_size=20)
)
@example("[(((((((((1")
@example("np.int64()")
@example("array([])")
@example("(,)")
def test_any_text_is_read_or_refused(text):
    try:
        found = parse_id_text(text)
    except (BadIdentifier, UnknownField):
        return
    assert all(isinstance(one, int | IdPattern) for one in found)
    assert parse_id_text("\n".join(map(format_id, found))) == found


NAMED = IdForm("id", ("id", "name"), 1, False, False, ("name",))
"""Form of a survey whose spectra have names."""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NGC1068", ["('*', 'NGC1068')"]),
        ("NGC 1068 # mine\nMrk 421, 3C 273", ["NGC 1068", "Mrk 421", "3C 273"]),
        ("['NGC 1068', 5]", ["NGC 1068", "5"]),
        ("5, NGC1068", ["(5, 'NGC1068')"]),
        ("5\n6", ["5", "6"]),
        ("267-51602-13", ["267-51602-13"]),
    ],
)
def test_names_of_objects(text, expected):
    whole = [one if one[0] in "(56" else f"('*', '{one}')" for one in expected]
    assert list(map(format_id, parse_id_text(text, NAMED))) == whole


SPECTRA_NAMES = st.text(
    st.sampled_from("ab'\"\\,:#()[]*=. 0_é\u00a0\x85\u2028")
    | st.characters(codec="utf-8", exclude_characters="\r\n"),
    min_size=1,
    max_size=12,
).filter(lambda name: name.strip() not in {"", "*"})


@given(st.lists(st.tuples(numbers() | st.just("*"), SPECTRA_NAMES), min_size=1, max_size=3))
@example([(2**63, "4472832130942575872"), ("*", "nan"), (5, "None")])
@example([(5, "name=x"), (5, "own:b"), (6, "'x'"), ("*", "#hash"), (7, "array([1])")])
def test_names_within_tuples_are_data(rows):
    patterns = [parse_id_tuple(row, NAMED) for row in rows]
    assert [pattern.parts[1] for pattern in patterns] == [(name,) for _, name in rows]
    assert parse_id_text(format_ids(patterns), NAMED) == patterns
    assert parse_id_text("\n".join(map(format_id, patterns)), NAMED) == patterns
    assert parse_id_text("\n".join(map(tuple_text, rows)), NAMED) == patterns
    if all(name == name.strip() and "\t" not in name for _, name in rows):
        assert parse_id_text(repr(rows), NAMED) == patterns
    reader = ContextText("own", lambda _: NAMED, lambda name: name == "own")
    for text in (format_ids(patterns), "\n".join(f"own:{marked_id(one)}" for one in patterns)):
        (found,) = reader.read(text)
        assert found.ids == patterns


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("123", [123]),
        ("[1, 2, 3]", [1, 2, 3]),
        ("1\n2\n3", [1, 2, 3]),
        ("[123 456]", [123, 456]),
        ("[np.uint64(123), np.uint64(456)]", [123, 456]),
        (f"[{A}\n {B}]", [A, B]),
        (f"array([{A}, {B}], dtype=uint64)", [A, B]),
        (f"({A}, {B})", [A, B]),
        (f"({A},)", [A]),
        (f"({B - 2**64}, 5)", [B - 2**64, 5]),
        (f"['{A}', '{B}']", [A, B]),
        (f"{A},{B}", [A, B]),
        (f"{A}, {A}, {B}", [A, A, B]),
        (f'"{A}"', [A]),
        (f"{A},\n{B},\n", [A, B]),
        ("4055, 55359, 408", [exact(4055, 55359, 408)]),
        ("4055 55359 408", [exact(4055, 55359, 408)]),
        ("4055, 55359, 408, 26", [exact(4055, 55359, 408, 26)]),
        ("4055, 55359, 408, 'v5_7_0'", [exact(4055, 55359, 408, "v5_7_0")]),
        ("4055,55359,408,v5_7_0", [exact(4055, 55359, 408, "v5_7_0")]),
        ("(4055, 55359, 408, 'v5_7_0')", [exact(4055, 55359, 408, "v5_7_0")]),
        ("(4055, 55359, 408, None)", [exact(4055, 55359, 408)]),
        ("[4055, 55359, 408]", [4055, 55359, 408]),
        ("4055, 55359", [4055, 55359]),
        (f"4055, 55359, {2**24}", [4055, 55359, 2**24]),
        (f"4055, 55359, {2**24 - 1}", [exact(4055, 55359, 2**24 - 1)]),
        ("1,2,3,4,5", [1, 2, 3, 4, 5]),
        ("[(1963,54331,19), (1,2,3,'26')]", [exact(1963, 54331, 19), exact(1, 2, 3, 26)]),
        ("((1963,54331,19),)", [exact(1963, 54331, 19)]),
        (f"[(1963,54331,19), {B}]", [exact(1963, 54331, 19), B]),
        (
            "[(np.int64(1), np.int64(2), np.int64(3), np.str_('v5_7_0'))]",
            [exact(1, 2, 3, "v5_7_0")],
        ),
        ("1963,54331,*", [exact(1963, 54331)]),
        ("(1963,54331,1-100)", [exact(1963, 54331, "1-100")]),
        ("('1962,1963','*',100,'26,103')", [exact("1962,1963", "*", 100, "26,103")]),
        ("('*',54331,100)", [exact(None, 54331, 100)]),
        ("(1963,)", [exact(1963)]),
        ("267-51602-13", [exact(267, 51602, 13)]),
        ("267-51602-13, 267-51602-14", [exact(267, 51602, 13), exact(267, 51602, 14)]),
        ("['267-51602-13', (1,2,3)]", [exact(267, 51602, 13), exact(1, 2, 3)]),
        ("spec-0267-51602-0013.fits", [exact(267, 51602, 13)]),
        ("spec-4055-55359-0408-v5_7_0.npy\n5", [exact(4055, 55359, 408, "v5_7_0"), 5]),
        (f"spec-0267-51602-0013-{A}.fits.gz", [A]),
        ("SPEC-0267-51602-0350.FITS", [exact(267, 51602, 350)]),
        (
            "/a/b/spec-0267-51602-0350.fits, plot-267-51602-13.png",
            [exact(267, 51602, 350), exact(267, 51602, 13)],
        ),
        ("..\\Spec-4055-55359-0408-V5_7_0.Fits.GZ", [exact(4055, 55359, 408, "v5_7_0")]),
        (f"plot-{A}.png\nprospect-{B}.html\n/x/{A}.bz2", [A, B, A]),
        (f"# mine\n\n{A} # good\n  # end", [A]),
        (f"\ufeff{A}\r\n{B}\r\n", [A, B]),
        ("", []),
        (" \n", []),
        ("[]", []),
        ("# nothing", []),
    ],
)
def test_text(text, expected):
    assert parse_id_text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"specobjid\n{A}\n{B}\n", [A, B]),
        ("specobjid\n", []),
        (f"\ufeffSpecObjID\r\n{A}\r\n", [A]),
        (f"#Table1\nra,specobjid,class\n1.5,{A},GALAXY\n2.5,{B},STAR\n", [A, B]),
        (f'ra,"specobjid",note\n1.5,"{A}","a, (b)"\n', [A]),
        (f",specobjid\n0,{A}\n1,{B - 2**64}\n", [A, B - 2**64]),
        (f"ra\tspecobjid\n1.5\t{A}\n", [A]),
        (f"ra;specobjid\n1.5;{A}\n", [A]),
        (f"# %ECSV 1.0\n# ---\nspecobjid note\n{A} 'a'\n\n{B} \"b c\"\n", [A, B]),
        (f"ra (deg),specobjid\n1.5,{A}\n", [A]),
        (f"my_ids\n{A}\n", [A]),
        ("PLATE,MJD,FIBERID,RA\n266,51602,1,0.5\n", [exact(266, 51602, 1)]),
        ("run2d,fiber,mjd,plate\nv5_7_0,408,55359,4055\n", [exact(4055, 55359, 408, "v5_7_0")]),
        (f"plate,mjd,fiberid,specobjid\n266,51602,1,{A}\n", [A]),
        ('specobjid\n"(266, 51602, 1)"\n', [exact(266, 51602, 1)]),
    ],
)
def test_table(text, expected):
    assert parse_id_text(text) == expected


def test_table_with_a_named_column():
    text = f"specobjid,bestobjid\n1,{A}\n"
    assert parse_id_text(text, id_col="BESTOBJID") == [A]
    assert parse_id_text(text, IdForm("bestobjid", USUAL_FORM.parts)) == [A]
    with pytest.raises(UnknownField, match=r"'targetid'.*specobjid, bestobjid"):
        parse_id_text(text, id_col="targetid")
    with pytest.raises(UnknownField, match="known here: ra, dec"):
        parse_id_text("ra,dec\n1.5,2.5\n")
    with pytest.raises(UnknownField):
        parse_id_text("plate,mjd\n266,51602\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[0 1 2 ... 997 998 999]", "cut when it was printed"),
        ("[0, 1, 2, ..., 999]", "cut when it was printed"),
        ("[[1 2 3]\n ...\n [4 5 6]]", "cut when it was printed"),
        (f"{A}\n…\n{B}", "cut when it was printed"),
        ("0 1 2 ... 997", "cut when it was printed"),
        ("3.72236013965159E+018", "lost the last digits"),
        ("266.0, 51602.0, 1.0", "lost the last digits"),
        (f"specobjid\n{A}.0\n", "lost the last digits"),
        ("(266.0, 51602, 1)", "whole number"),
        ("nan", "missing"),
        (f"{A}\nNone", "missing"),
        ("specobjid,z\n,0.1\n", "missing"),
        ("''", "missing"),
        ("1-100", "within a tuple"),
        ("*", "within a tuple"),
        ("('*','*','*')", "whole survey"),
        ("(None,)", "whole survey"),
        ("('*','*','*','26')", "whole survey"),
        ("(1963, '100-1')", "smaller first"),
        ("(1963, -5)", "whole number"),
        ("(-5, 6, 7)", "whole number"),
        ("(1963, '')", "whole number"),
        ("(1963, '1,,2')", "whole number"),
        ("(1963, '1,*')", "whole number"),
        ("(1963, 54331, 19, '26-104')", "last part is text"),
        ("(1963, 54331, 19, '')", "last part is text"),
        ('(1963, 54331, 19, "26\'; drop")', "last part is text"),
        ("(1,2,3,4,5)", "1 to 4 parts"),
        (str(2**64), "64 bits"),
        (str(-(2**63) - 1), "64 bits"),
        ("1" * 5000, "64 bits"),
        (f"(1963, '5-{2**64}')", "64 bits"),
        ("(1963, '" + "1" * 30 + "')", "whole number"),
        ("1_000", "whole number"),
        ("0x10", "whole number"),
        ("1,,2", "empty place"),
        (",1", "empty place"),
        ("(1,,2)", "empty place"),
        ("[,1]", "empty place"),
        ("[1,2", "never closed"),
        ("(1,2]", "closes no bracket"),
        ("1)", "closes no bracket"),
        ("'1", "quote is never closed"),
        ("(" * 9 + ")" * 9, "nested too deeply"),
        ("hello", "write a whole number"),
        ("hello\nworld", "write a whole number"),
        (f"{A}, hello", "write a whole number"),
        ("spec-0266-51602.fits", "write a whole number"),
        ("vos://spec-0267-51602-0013.fits", "write a whole number"),
        ("spSpec-51602-0267-013.fit", "write a whole number"),
        (f"plot-{2**64}.png", "write a whole number"),
        ("__import__('os').system('ls')", "write a whole number"),
        ("plate,mjd,fiberid\n266,51602\n", "row has not all of"),
    ],
)
def test_refused_text(text, reason):
    with pytest.raises(BadIdentifier, match=reason):
        parse_id_text(text)


def test_unicode_digits_are_no_number():
    with pytest.raises(BadIdentifier):
        parse_id_text("٣٣")


def test_tuple_parts():
    assert exact(np.int16(1963), "1-100", "1,5, 9-12", 26).parts == (
        (Span(1963, 1963),),
        (Span(1, 100),),
        (Span(1, 1), Span(5, 5), Span(9, 12)),
        ("26",),
    )
    assert exact(b"266", "51602", 1, b"v5_7_0 ").parts[3] == ("v5_7_0",)
    assert exact(None, "*", 5).parts == (None, None, (Span(5, 5),), None)
    assert parse_id_tuple((5,), form_of(2)).parts == ((Span(5, 5),), None)
    assert exact(1, 2, 3, "26,103").parts[3] == ("26", "103")


@pytest.mark.parametrize(
    "values",
    [
        (1.0,),
        (np.float64(1963), 2),
        (True,),
        (1, [2]),
        (1, np.nan),
        (1, -1),
        (2**64,),
        (),
        (1,) * 5,
    ],
)
def test_refused_tuples(values):
    with pytest.raises(BadIdentifier):
        parse_id_tuple(values)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1963, 54331, 19), True),
        ((1963, 54331, 19, "26"), True),
        ((1963, 54331, 19, "26,103"), False),
        ((1963, 54331, "19-20"), False),
        ((1963, 54331, "19-19"), True),
        ((1963, 54331, "19,21"), False),
        ((1963, 54331), False),
        (("*", 54331, 19), False),
    ],
)
def test_is_exact(values, expected):
    assert parse_id_tuple(values).is_exact is expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((1963, 54331, 19), "(1963, 54331, 19)"),
        ((1963,), "(1963,)"),
        ((1963, "*", "*"), "(1963,)"),
        (("*", 5), "('*', 5)"),
        (("1962,1963", "*", 100, "26,103"), "('1962,1963', '*', 100, '26,103')"),
        ((2**32, 1), "('4294967296-4294967296', 1)"),
    ],
)
def test_format(values, expected):
    assert format_id(parse_id_tuple(values)) == expected


def test_format_numbers():
    assert format_id(np.uint64(B)) == str(B)
    assert format_id(-5) == "-5"


def test_impossible_values_cannot_be_made():
    with pytest.raises(BadIdentifier):
        Span(5, 4)
    with pytest.raises(BadIdentifier):
        Span(-1, 4)
    with pytest.raises(BadIdentifier):
        Span(0, 2**64)
    with pytest.raises(BadIdentifier):
        IdPattern((None, None, None, ("26",)))


def test_what_leads_a_list():
    assert [leads_list(value) for value in (A, str(A), -A, np.uint64(B), 2**32)] == [True] * 5
    assert [leads_list(value) for value in (1963, "*", "1-5", None, -5, 2**32 - 1)] == [False] * 6


def test_columns():
    assert id_columns(["ra", "SPECOBJID"], USUAL_FORM, None) == (1,)
    assert id_columns(["FIBER", "mjd", "plate"], USUAL_FORM, None) == (2, 1, 0)
    assert id_columns(["fiberid", "run2d", "mjd", "plate"], USUAL_FORM, None) == (3, 2, 0, 1)
    assert id_columns(["only"], USUAL_FORM, None) == (0,)
    with pytest.raises(UnknownField):
        id_columns(["only"], USUAL_FORM, "other")
    with pytest.raises(UnknownField):
        id_columns(["plate", "mjd", "fiber"], TARGETS, None)


def seconds(function, *args):
    begin = time.perf_counter()
    function(*args)
    return time.perf_counter() - begin


def test_long_lists_take_little_time():
    """About 40 ms each on an idle core; the bound only tells linear from worse."""
    text = "\n".join(map(format_id, range(A, A + 100_000)))
    assert seconds(parse_id_text, text) < 1.0
    assert seconds(parse_id_text, f"[{text}]".replace("\n", ", ")) < 1.0


@pytest.mark.parametrize(
    "text",
    [
        "1" * 300_000 + "x",
        "(" * 300_000,
        "'" + "1," * 150_000,
        "int(" * 100_000,
        "array([" + "],dtype=" * 50_000,
        "array([" + "]," * 100_000,
        "1" + " " * 300_000 + "x",
        "," + " " * 300_000 + "x",
        "a," * 100_000,
        "(1963, '" + "1-2," * 50_000 + "')",
        '"' * 200_000,
        'specobjid\n"' + "1" * 300_000,
    ],
    ids=range(12),
)
def test_hostile_text_takes_linear_time(text):
    def refuse():
        with pytest.raises((BadIdentifier, UnknownField, TooMuch)):
            parse_id_text(text)

    assert seconds(refuse) < 3.0


TARGETS = IdForm("targetid", ("targetid", "survey", "program"), texts=2, has_reduction=False)
EXPOSURES = IdForm("targetid", ("targetid", "expid"), texts=0, has_reduction=False)
NAMES = IdForm("id", ("name",), texts=1, has_reduction=False)
T = 39627652591521181


@given(
    numbers().filter(lambda number: number < 2**63),
    st.sampled_from([None, ("sv3",), ("main", "sv1")]),
    st.sampled_from([None, ("dark",), ("bright", "dark")]),
)
def test_tuples_that_an_identifier_leads(number, survey, program):
    parts = ((Span(number, number),), survey, program)
    pattern = IdPattern(parts, TARGETS)
    assert parse_id_text(format_id(pattern), TARGETS) == [pattern]
    assert pattern.is_exact == (len(survey or ()) == len(program or ()) == 1)


@pytest.mark.parametrize(
    ("text", "form", "expected"),
    [
        (f"({T}, 'sv3', 'dark')", TARGETS, [(T, "sv3", "dark")]),
        (f"({T}, sv3)", TARGETS, [(T, "sv3")]),
        (f"{T}, sv3, dark\n{T}, main, *", TARGETS, [(T, "sv3", "dark"), (T, "main")]),
        (f"({T}, {T + 1})", TARGETS, [T, T + 1]),
        (f"[({T}, 'sv3', 'dark'), {T}]", TARGETS, [(T, "sv3", "dark"), T]),
        ("(-1695072, 'main', '*')", TARGETS, [(-1695072, "main")]),
        ("('*', 'sv3', 'dark')", TARGETS, [("*", "sv3", "dark")]),
        (f"targetid,survey,program,z\n{T},sv3,dark,1.5\n", TARGETS, [(T, "sv3", "dark")]),
        (f"targetid,z\n{T},1.5\n", TARGETS, [T]),
        (f"({T}, 77)", EXPOSURES, [(T, 77)]),
        (f"({T}, {T})", EXPOSURES, [T, T]),
        (f"({T}, '*')", EXPOSURES, [(T,)]),
        ("ngc-1068\nngc-4151", NAMES, [("ngc-1068",), ("ngc-4151",)]),
        ("12", NAMES, [12]),
        ("name,ra\nngc-1068,1.0", NAMES, [("ngc-1068",)]),
    ],
)
def test_tuples_of_other_forms(text, form, expected):
    wanted = [parse_id_tuple(one, form) if isinstance(one, tuple) else one for one in expected]
    assert parse_id_text(text, form) == wanted
    assert parse_id_text("\n".join(map(format_id, wanted)), form) == wanted


# Three dots say that a list was cut when it was printed.
FOLDERS = (
    st.text("ab0-_.~:\\/é", max_size=12)
    .filter(lambda text: "..." not in text)
    .map(lambda text: f"{text}/" if text else "")
)


@given(
    st.tuples(st.integers(1, 99999), st.integers(1, 99999), st.integers(1, 9999)),
    FOLDERS,
    st.sampled_from(["", "spec-", "plot-", "preview-", "grid-", "prospect-"]),
    st.sampled_from(["", ".fits", ".fits.gz", ".png", ".html", ".bz2"]),
    st.booleans(),
)
def test_a_name_of_a_file_is_read_in_any_folder_and_case(parts, folder, prefix, ending, upper):
    name = f"{folder}{prefix}{parts[0]:04}-{parts[1]}-{parts[2]:04}{ending}"
    assert parse_id_text(name.upper() if upper else name) == [exact(*parts)]


def test_long_text_with_slashes_is_read_in_linear_time():
    began = time.perf_counter()
    for text in ("/" * 200_000, "a/" * 100_000, "1-" * 100_000, "/1-1-1" * 50_000 + "x"):
        with pytest.raises(BadIdentifier):
            parse_id_text(text)
    assert time.perf_counter() - began < 5
