"""The documented endpoints where the old client does not lead: other parameters, and refusals."""

from io import BytesIO

import httpx
import numpy as np
import pytest


@pytest.fixture(scope="module")
def http(served):
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def ids(served):
    """The smallest and the largest identifier, and one between."""
    ordered = np.sort(served.ids)
    return ordered[[0, len(ordered) // 2, -1]].tolist()


def load_all(content):
    """Read arrays, one after the other, until the stream ends."""
    stream, arrays = BytesIO(content), []
    while stream.tell() < len(content):
        arrays.append(np.load(stream, allow_pickle=False))
    return arrays


def fetch(http, id_list, **fields):
    answer = http.post("/getSpec", data={"id_list": str(id_list), **fields})
    assert answer.status_code == 200, answer.text
    return load_all(answer.content)


def lattice_pixels(spectrum):
    return np.rint(spectrum["loglam"].astype(float) * 1e4).astype(int)


def refusal(answer):
    assert set(answer.json()) >= {"code", "message"}
    return answer.status_code, answer.json()["code"]


def test_unaligned_spectra_follow_one_another(http, ids):
    got = fetch(http, ids, align="False")
    assert [one.ndim for one in got] == [1, 1, 1]
    for one, number in zip(got, ids, strict=True):
        (alone,) = fetch(http, number)
        assert one.tobytes() == alone.tobytes()


def test_order_and_duplicates_are_kept(http, ids):
    asked = [ids[1], ids[0], ids[1]]
    (got,) = fetch(http, asked, align="true")
    assert got.shape[0] == 3
    assert got[0].tobytes() == got[2].tobytes() != got[1].tobytes()


def test_one_aligned_spectrum_has_two_dimensions(http, ids):
    (alone,), (row,) = fetch(http, ids[0]), fetch(http, ids[0], align="True")
    assert row.shape == (1, alone.size)
    assert row.tobytes() == alone.tobytes()


@pytest.mark.parametrize(("low_aa", "high_aa"), [(3000, 12000), (5000, 6000), (100, 200)])
def test_w0_and_w1_set_the_common_span(http, ids, low_aa, high_aa):
    (got,) = fetch(http, ids, align="true", w0=low_aa, w1=high_aa)
    (usual,) = fetch(http, ids, align="true")
    pixels, known = lattice_pixels(got[0]), lattice_pixels(usual[0])
    assert pixels[0] == round(np.log10(low_aa) * 1e4)
    assert pixels[-1] == round(np.log10(high_aa) * 1e4)
    inside = np.isin(pixels, known)
    for name in set(usual.dtype.names) - {"loglam"}:
        assert np.array_equal(got[name][:, inside], usual[name][:, np.isin(known, pixels)])
        assert not got[name][:, ~inside].any()


def test_the_listed_span_changes_nothing(http, ids):
    span = http.post("/listSpan", data={"id_list": str(ids)}).json()
    assert 0 < span["w0"] < span["w1"]
    (got,), (usual,) = fetch(http, ids, align="true", **span), fetch(http, ids, align="true")
    assert got.tobytes() == usual.tobytes()


@pytest.mark.parametrize("cutout", ["5500-6000", "(5500, 6000)", "[5500.0,6e3]"])
def test_a_cutout_of_one_spectrum_is_its_slice(http, ids, cutout):
    (whole,), (cut,) = fetch(http, ids[0]), fetch(http, ids[0], cutout=cutout)
    wave = np.power(10.0, lattice_pixels(whole) * 1e-4)
    inside = (wave >= 5500) & (wave <= 6000)
    assert cut.tobytes() == whole[inside].tobytes()


@pytest.mark.parametrize("values", ["flux,loglam", "['flux', 'loglam']", ["flux", "loglam"]])
def test_values_name_the_vectors(http, ids, values):
    (got,) = fetch(http, ids[0], values=values)
    assert got.dtype.names == ("flux", "loglam")


def test_an_empty_list_is_answered_by_nothing(http):
    assert fetch(http, []) == []
    assert fetch(http, [], align="true")[0].shape == (0, 0)


def test_a_long_list_is_one_form(http, ids):
    many = ids * 30_000
    answer = http.post("/listSpan", data={"id_list": str(many)})
    assert answer.json() == http.post("/listSpan", data={"id_list": str(ids)}).json()


@pytest.mark.parametrize("fields", ["z", "tuple", "specobjid,z,specprimary"])
def test_columns_of_spectra_by_identifier(http, ids, fields):
    everything = http.get("/query", params={"fields": f"specobjid,{fields}", "primary": "False"})
    rows = dict(line.split(",", 1) for line in everything.text.splitlines()[1:])
    got = http.get("/query", params={"id": str(ids), "fields": fields, "cond": ""})
    expected = [rows[str(number)] for number in ids]
    if fields.startswith("specobjid"):
        expected = [f"{number},{rest}" for number, rest in zip(ids, expected, strict=True)]
    assert got.text.splitlines()[1:] == expected


def test_the_usual_catalogue_of_another_context_is_not_obeyed(http):
    context = http.get("/contexts", params={"context": "default"}).json()["resolved"]
    plain = http.get("/query", params={"context": context})
    old = http.get("/query", params={"context": context, "catalog": "sdss_dr9.specobj"})
    assert old.status_code == 200
    assert old.text == plain.text
    wrong = http.get("/query", params={"context": context, "catalog": "sdss_dr9.nonesuch"})
    assert wrong.status_code == 404


@pytest.mark.parametrize("path", ["/contexts", "/profiles", "/catalogs", "/available"])
def test_lists_have_three_forms(http, path):
    text, comma, full = (http.get(path, params={"format": one}) for one in ("text", "csv", "json"))
    assert "{" not in text.text
    header, *rows = comma.text.splitlines()
    assert text.text.splitlines()[0].split() == header.split(",")
    assert len(text.text.splitlines()) == 1 + len(rows) > 1
    assert full.json()
    assert refusal(http.get(path, params={"format": "xml"})) == (400, "bad_parameter")


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({}, 422, "invalid_request"),
        ({"id_list": "1", "align": "perhaps"}, 422, "invalid_request"),
        ({"id_list": "0 1 2 ... 997 998 999"}, 400, "bad_identifier"),
        ({"id_list": "5"}, 404, "not_found"),
        ({"id_list": "5", "context": "nonesuch"}, 404, "unknown_context"),
        ({"id_list": "5", "profile": "nonesuch"}, 404, "unknown_profile"),
        ({"format": "fits", "align": "True"}, 400, "bad_parameter"),
        ({"format": "xml"}, 400, "bad_parameter"),
        ({"values": "flux,nonesuch"}, 400, "unknown_field"),
        ({"cutout": "7200-6500"}, 400, "bad_parameter"),
        ({"cutout": "__import__('os')"}, 400, "bad_parameter"),
        ({"align": "true", "w0": "6000", "w1": "5000"}, 400, "bad_parameter"),
        ({"align": "true", "w0": "5000", "w1": "inf"}, 400, "bad_parameter"),
        ({"align": "true", "w0": "1e-300", "w1": "1e300"}, 413, "too_much"),
    ],
)
def test_what_cannot_be_done_is_refused(http, ids, fields, status, code):
    known = {"id_list": str(ids[0])} if "id_list" not in fields and fields else {}
    assert refusal(http.post("/getSpec", data=known | fields)) == (status, code)


@pytest.mark.parametrize(
    ("path", "parameters", "status", "code"),
    [
        ("/contexts", {"context": "nonesuch"}, 404, "unknown_context"),
        ("/profiles", {"profile": "nonesuch"}, 404, "unknown_profile"),
        ("/catalogs", {"context": "nonesuch"}, 404, "unknown_context"),
        ("/validate", {"what": "context", "value": "nonesuch"}, 404, "unknown_context"),
        ("/validate", {"what": "profile", "value": "nonesuch"}, 404, "unknown_profile"),
        ("/validate", {"what": "weather", "value": "fine"}, 400, "bad_parameter"),
        ("/validate", {"what": "context"}, 422, "invalid_request"),
        ("/query", {"fields": "nonesuch"}, 400, "unknown_field"),
        ("/query", {"cond": "1=1; drop table x"}, 400, "bad_constraint"),
        ("/query", {"id": "5", "fields": "z"}, 404, "not_found"),
        ("/query", {"id": "5", "cond": "z > 0"}, 400, "bad_parameter"),
        ("/query", {"timeout": "-1"}, 422, "invalid_request"),
    ],
)
def test_what_is_not_there_is_refused(http, path, parameters, status, code):
    assert refusal(http.get(path, params=parameters)) == (status, code)
