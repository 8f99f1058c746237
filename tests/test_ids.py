"""Packing and unpacking of specobjids."""

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specserver.errors import BadIdentifier
from specserver.model.ids import (
    UNPACKED,
    as_specobjid,
    pack_specobjid,
    run2d_code,
    run2d_name,
    unpack_specobjid,
)

# plate, mjd, fiber, run2d: agreed on by two independent packers.
KNOWN = [
    ((751, 52251, 160, "26"), 845594848269461504),
    ((889, 52663, 1, "26"), 1000925336738752512),
    ((2000, 53000, 5, "103"), 2251801238406536192),
    ((4055, 55359, 408, "v5_7_0"), 4565636362342690816),
    ((8954, 57453, 1, "v5_13_2"), 10081308165788686336),
    ((16000, 59999, 1, "v6_0_3"), 18014398952125516800),
]
NEGATIVE = {10081308165788686336: -8365435907920865280, 18014398952125516800: -432345121584034816}


def names():
    versions = st.tuples(st.integers(5, 6), st.integers(0, 99), st.integers(0, 99)).filter(
        lambda v: (v[0] - 5) * 10000 + v[1] * 100 + v[2] < 2**14
    )
    return st.integers(0, 2**14 - 1).map(str) | versions.map(lambda v: "v{}_{}_{}".format(*v))


def rows():
    return st.tuples(
        st.integers(0, 2**14 - 1), st.integers(50000, 66383), st.integers(0, 4095), names()
    )


@pytest.mark.parametrize(("parts", "expected"), KNOWN)
def test_known_ids(parts, expected):
    packed = pack_specobjid(*parts)
    assert packed == expected
    assert isinstance(packed, np.uint64)
    assert tuple(unpack_specobjid(expected)) == parts
    assert unpack_specobjid(str(expected)).run2d == parts[3]


@pytest.mark.parametrize(("unsigned", "signed"), NEGATIVE.items())
def test_signed_forms(unsigned, signed):
    for given_id in (signed, np.int64(signed), str(signed), f" {signed} ".encode()):
        assert as_specobjid(given_id) == unsigned
    assert unpack_specobjid(signed) == unpack_specobjid(unsigned)


@given(rows())
def test_unpack_is_the_inverse_of_pack(row):
    plate, mjd, fiber, run2d = row
    found = unpack_specobjid(pack_specobjid(*row))
    assert (found.plate, found.mjd, found.fiber) == (plate, mjd, fiber)
    assert run2d_code(str(found.run2d)) == run2d_code(run2d)


@given(st.integers(0, 2**54 - 1))
def test_pack_is_the_inverse_of_unpack(bits):
    """For all ids whose line number, the lowest 10 bits, is 0."""
    packed = bits << 10
    assert pack_specobjid(*unpack_specobjid(packed).tolist()) == packed


@given(st.lists(rows(), max_size=5))
def test_arrays_equal_scalars(listed):
    columns = [list(column) for column in zip(*listed, strict=True)] or [[], [], [], []]
    packed = pack_specobjid(*columns)
    assert packed.dtype == np.uint64
    assert packed.tolist() == [int(pack_specobjid(*row)) for row in listed]
    back = unpack_specobjid(packed)
    assert back.dtype.names == UNPACKED.names
    assert back.tolist() == [unpack_specobjid(one).tolist() for one in packed]


@given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=8))
def test_mixed_lists_lose_no_digit(ids):
    """NumPy alone would make float64 of a list with values on both sides of 2^63."""
    expected = [one % 2**64 for one in ids]
    assert as_specobjid(ids).tolist() == expected
    assert as_specobjid([str(one) for one in ids]).tolist() == expected
    assert as_specobjid(np.array(ids, dtype=object)).tolist() == expected


@given(st.integers(0, 2**14 - 1))
def test_run2d_names_keep_their_code(code):
    assert run2d_code(run2d_name(code)) == code


def test_run2d_names():
    given_names = [26, "26", " 103 ", "v5_7_0", "v5_13_2", "v6_63_83"]
    assert [run2d_code(name) for name in given_names] == [26, 26, 103, 700, 1302, 16383]
    expected = ["26", "103", "104", "v5_4_45", "v5_13_2", "v6_0_4"]
    assert [run2d_name(run2d_code(name)) for name in expected] == expected


@pytest.mark.parametrize(
    "run2d", ["", "v5_7", "v5_7_0x", "x26", "-1", "26.0", 26.5, 16384, "v4_0_0", "v5_100_0", "٣"]
)
def test_refused_run2d(run2d):
    with pytest.raises(BadIdentifier):
        run2d_code(run2d)


@pytest.mark.parametrize(
    "parts",
    [
        (16384, 55359, 1, 26),
        (-1, 55359, 1, 26),
        (4055, 49999, 1, 26),
        (4055, 66384, 1, 26),
        (4055, 5359, 1, 26),
        (4055, 55359, 4096, 26),
        (4055.0, 55359, 1, 26),
        ("4055", 55359, 1, 26),
        ([1, 16384], [55359, 55359], [1, 1], 26),
        (1, 408, 55359, 26),
    ],
)
def test_refused_parts(parts):
    with pytest.raises(BadIdentifier):
        pack_specobjid(*parts)


@pytest.mark.parametrize(
    "ids",
    [1.0, [1.5], np.float64(5), True, [True], None, "1.5", "x", "", 2**64, -(2**63) - 1, [2.0, 5]],
)
def test_refused_ids(ids):
    with pytest.raises(BadIdentifier):
        as_specobjid(ids)


def test_run2d_spreads_over_arrays():
    packed = pack_specobjid(np.array([751, 751], "i2"), 52251, [160, 161], "26")
    assert packed.tolist() == [845594848269461504, 845594848269461504 + (1 << 38)]


def test_ids_of_real_files_can_be_rebuilt(real_spectra):
    with (real_spectra / "catalogs" / "specobj_excerpt.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    numbers = [[int(row[name]) for row in table] for name in ("plate", "mjd", "fiberid")]
    run2d = [row["run2d"] for row in table]
    expected = [row["specobjid"] for row in table]
    assert len(expected) > 500
    assert [str(one) for one in pack_specobjid(*numbers, run2d)] == expected
    back = unpack_specobjid(expected)
    assert [back.plate.tolist(), back.mjd.tolist(), back.fiber.tolist()] == numbers
    assert back.run2d.tolist() == run2d
