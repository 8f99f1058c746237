"""What the predecessor got wrong, one test for each, by a name that says it.

Others are tested where the thing itself is; docs/interface.md has the whole list.
"""

import json
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import urllib3
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.io import fits

from serving import Served
from specserver import specClient
from specserver.client.api import SpecClient
from specserver.errors import (
    BadConstraint,
    BadIdentifier,
    BadParameter,
    NotFound,
    QueryTimeout,
    SpecServerError,
)
from specserver.model.ids import pack_specobjid, unpack_specobjid
from specserver.model.lines import EMISSION_LINES

SCALE = u.Unit("1e-17 erg / (s cm2 Angstrom)")


@pytest.fixture(scope="module")
def spec(served: Served) -> SpecClient:
    return SpecClient(svc_url=served.url)


@pytest.fixture(scope="module")
def catalogue(spec: SpecClient) -> Any:
    """Positions and redshifts of all spectra."""
    names = "specobjid,ra,dec,z,specprimary,plate"
    return spec.query(constraint="plate > 0", fields=names, primary=False)


@pytest.fixture(scope="module")
def unequal(spec: SpecClient, served: Served) -> list[int]:
    """Identifiers of spectra that are not of one length."""
    lengths = [len(one) for one in spec.getSpec(served.ids, values="flux")]
    order = np.argsort(lengths, kind="stable")
    assert lengths[order[0]] != lengths[order[-1]]
    return [int(served.ids[order[0]]), int(served.ids[order[-1]])]


Ask = Callable[..., urllib3.BaseHTTPResponse]


@pytest.fixture(scope="module")
def ask(served: Served) -> Ask:
    """Send a form to a documented endpoint, or get one with parameters."""
    pool = urllib3.PoolManager(retries=False, timeout=60)

    def send(method: str, path: str, **fields: str) -> urllib3.BaseHTTPResponse:
        url = f"{served.url}/{path}"
        if method == "GET":
            return pool.request("GET", url, fields=fields)
        return pool.request_encode_body("POST", url, fields, encode_multipart=False)

    return send


# --- Spectra --------------------------------------------------------------------------------------


def test_align_false_is_obeyed(spec: SpecClient, unequal: list[int], ask: Ask) -> None:
    for keywords in ({}, {"align": False}):
        got = spec.getSpec(unequal, **keywords)
        assert isinstance(got, list)
        assert len(got[0]) != len(got[1])
    assert spec.getSpec(unequal, align=True).ndim == 2
    for word in ("False", "false", "0"):
        listed = ",".join(map(str, unequal))
        stream = BytesIO(ask("POST", "getSpec", id_list=listed, align=word).data)
        first, second = np.load(stream), np.load(stream)
        assert (first.shape, second.shape) == (got[0].shape, got[1].shape)


def test_cutout_is_obeyed_without_align(spec: SpecClient, unequal: list[int]) -> None:
    """It was passed over without a word."""
    cut = spec.getSpec(unequal, cutout="6500-7200", values="flux,loglam")
    wave = 10.0 ** cut["loglam"].astype(float)
    assert cut.ndim == 2
    assert 6499.9 < wave.min() < 6502
    assert 7198 < wave.max() < 7200.1
    for row, whole in zip(cut, spec.getSpec(unequal), strict=True):
        inside = np.isin(whole["loglam"], row["loglam"])
        assert row["flux"].tobytes() == whole["flux"][inside].tobytes()


def test_out_of_getspec_writes_files(spec: SpecClient, unequal: list[int], tmp_path: Path) -> None:
    """It was passed over without a word."""
    assert spec.getSpec(unequal, out=str(tmp_path / "some")) == "OK"
    written = {np.load(path).tobytes() for path in (tmp_path / "some").glob("*.npy")}
    assert written == {one.tobytes() for one in spec.getSpec(unequal)}


def test_spectrum1d_uncertainties_are_in_the_scale_of_the_flux(
    spec: SpecClient, unequal: list[int], served: Served
) -> None:
    """They were wrong by 1e34: ivar without the square of the flux's 1e-17."""
    for number in (unequal[0], int(served.ids[0])):
        one, record = spec.getSpec(number, "Spectrum1D"), spec.getSpec(number)
        good = record["ivar"] > 0
        ratio = (one.flux * one.uncertainty.quantity**0.5).to_value("")[good]
        # float32 of the flux times that of ivar: the signal to noise of each pixel.
        expected = record["flux"].astype(float) * np.sqrt(record["ivar"].astype(float))
        assert np.allclose(ratio, expected[good], rtol=1e-5)
        assert np.allclose(
            one.uncertainty.quantity.to_value(SCALE**-2)[good], record["ivar"][good], rtol=1e-6
        )


def test_pixels_of_zero_ivar_are_masked_in_spectrum1d(spec: SpecClient, served: Served) -> None:
    seen = 0
    for one, record in zip(
        spec.getSpec(served.ids[:20], "Spectrum1D"), spec.getSpec(served.ids[:20]), strict=True
    ):
        assert one.mask[record["ivar"] == 0].all()
        seen += int((record["ivar"] == 0).sum())
    assert seen > 0


def test_ids_of_plates_from_8192_stay_numbers(spec: SpecClient, served: Served) -> None:
    """From 2^63 up they became text, and sorted and compared as such."""
    found = spec.query(constraint="plate >= 8192", primary=False)
    assert found.dtype == np.uint64
    assert len(found) > 0
    assert (found >= 2**63).all()
    table = spec.query(constraint="plate >= 8192", fields="specobjid,plate", primary=False)
    assert table["specobjid"].dtype == np.uint64
    assert set(found.tolist()) <= set(served.ids.tolist())
    number = int(found[0])
    expected = spec.getSpec(found[:1])[0].tobytes()
    for form in (number, number - 2**64, str(number), str(number - 2**64), found[0]):
        assert spec.getSpec(form).tobytes() == expected
    (again,) = spec.query(constraint=f"specobjid = {number}", primary=False)
    assert again == number


@pytest.mark.parametrize("count", [1000, 1001, 2500])
def test_files_of_more_than_1000_ids_are_sent_whole(
    spec: SpecClient, served: Served, ask: Ask, tmp_path: Path, count: int
) -> None:
    """They went as NumPy prints a long array: "0 1 … 999"."""
    ids = np.resize(served.ids, count)
    path = tmp_path / "ids.txt"
    path.write_text("\n".join(map(str, ids.tolist())))
    got = spec.getSpec(str(path), values="flux")
    assert len(got) == count
    first = spec.getSpec(served.ids, values="flux")
    for place in (0, 499, 500, 999, count - 1):
        assert got[place].tobytes() == first[place % len(first)].tobytes()
    # What NumPy prints is refused, and never taken for the few that it shows.
    answer = ask("POST", "getSpec", id_list=str(np.resize(served.ids, 1001)))
    assert (answer.status, json.loads(answer.data)["code"]) == (400, "bad_identifier")


def test_one_unknown_id_does_not_fail_the_list(spec: SpecClient, served: Served, ask: Ask) -> None:
    """It was an HTML page of status 500 for all."""
    ids = [int(served.ids[0]), 5, int(served.ids[1])]
    with pytest.raises(NotFound, match=r"5.*sdss_dr17"):
        spec.getSpec(ids)
    with pytest.warns(UserWarning, match="1 of 3"):
        got = spec.getSpec(ids, missing="skip")
    expected = spec.getSpec([ids[0], ids[2]])
    assert [one.tobytes() for one in got] == [one.tobytes() for one in expected]
    answer = ask("POST", "getSpec", id_list=str(ids))
    assert answer.status == 404
    assert "5" in json.loads(answer.data)["message"]


def test_errors_have_a_status_and_are_never_data(
    served: Served, ask: Ask, tmp_path: Path, spec: SpecClient
) -> None:
    """They came with status 200, or as the data itself."""
    number = str(served.ids[0])
    for method, path, fields, status in (
        ("POST", "getSpec", {"id_list": "abc"}, 400),
        ("POST", "getSpec", {"id_list": "5"}, 404),
        ("POST", "getSpec", {"id_list": number, "values": "nonesuch"}, 400),
        ("POST", "getSpec", {"id_list": number, "cutout": "9-1"}, 400),
        ("POST", "listSpan", {"id_list": "5"}, 404),
        ("POST", "stackedImage", {"id_list": "5"}, 404),
        ("GET", "preview", {"id": "5"}, 404),
        ("GET", "query", {"cond": "nonesuch > 1"}, 400),
        ("GET", "query", {"cond": "z >"}, 400),
        ("GET", "query", {"context": "nonesuch"}, 404),
        ("GET", "contexts", {"context": "nonesuch"}, 404),
        ("GET", "validate", {"what": "context", "value": "nonesuch"}, 404),
    ):
        answer = ask(method, path, **fields)
        assert answer.status == status, (path, fields)
        assert answer.headers["Content-Type"].startswith("application/json")
        assert set(json.loads(answer.data)) >= {"code", "message"}
    out = tmp_path / "ids.txt"
    with pytest.raises(SpecServerError):
        spec.query(constraint="nonesuch > 1", out=out)
    with pytest.raises(NotFound):
        spec.getSpec([5], out=tmp_path / "folder")
    assert not out.exists()
    assert not list(tmp_path.rglob("*.npy"))


# --- Queries --------------------------------------------------------------------------------------


def test_a_or_b_stays_inside_the_cone(spec: SpecClient, catalogue: Any, ask: Ask) -> None:
    ra, dec = float(catalogue["ra"][0]), float(catalogue["dec"][0])
    near = set(spec.query(ra, dec, 0.5, primary=False).tolist())
    assert 0 < len(near) < len(catalogue)
    for either in ("z > 0 OR z <= 0", "z <= 0 or plate > 0", "plate = 1 OR plate > 0"):
        assert set(spec.query(ra, dec, 0.5, either, primary=False).tolist()) <= near
        cond = f"q3c_radial_query(ra,dec,{ra},{dec},0.5) AND {either}"
        lines = ask("GET", "query", cond=cond, primary="False").data.decode().split()[1:]
        assert {int(line) for line in lines} <= near
    assert set(spec.query(ra, dec, 0.5, "z > 0 OR z <= 0", primary=False).tolist()) == near


def test_fields_z_returns_redshifts(spec: SpecClient, catalogue: Any) -> None:
    """It returned identifiers."""
    z = spec.query(constraint="plate > 0 order by z", fields="z", primary=False)
    assert z.dtype.kind == "f"
    assert np.array_equal(z, np.sort(np.asarray(catalogue["z"])))


def test_the_frame_of_a_skycoord_is_obeyed(spec: SpecClient, catalogue: Any) -> None:
    ra, dec = float(catalogue["ra"][0]), float(catalogue["dec"][0])
    place = SkyCoord(ra * u.deg, dec * u.deg)
    expected = set(spec.query(ra, dec, 0.4, primary=False).tolist())
    assert int(catalogue["specobjid"][0]) in expected
    for frame in ("icrs", "galactic", "fk5", "fk4", "barycentrictrueecliptic"):
        found = spec.query(place.transform_to(frame), 0.4, primary=False)
        assert set(found.tolist()) == expected, frame


def test_primary_is_obeyed(spec: SpecClient, catalogue: Any) -> None:
    primary = catalogue[catalogue["specprimary"] > 0]["specobjid"].tolist()
    assert 0 < len(primary) < len(catalogue)
    for keywords in ({}, {"primary": True}):
        assert sorted(spec.query(constraint="plate > 0", **keywords)) == sorted(primary)
    everything = spec.query(constraint="plate > 0", primary=False)
    assert sorted(everything) == sorted(catalogue["specobjid"].tolist())


def test_timeout_is_obeyed(spec: SpecClient, ask: Ask) -> None:
    """It was passed over without a word."""
    with pytest.raises(QueryTimeout):
        spec.query(constraint="plate > 0", timeout=1e-9)
    assert len(spec.query(constraint="plate > 0 limit 1", timeout=30)) == 1
    answer = ask("GET", "query", cond="plate > 0", timeout="1e-9")
    assert (answer.status, json.loads(answer.data)["code"]) == (413, "query_timeout")


def test_out_of_a_query_writes_a_file(spec: SpecClient, tmp_path: Path) -> None:
    """It was passed over without a word."""
    out = tmp_path / "ids.txt"
    assert spec.query(constraint="plate > 0", out=str(out)) == "OK"
    assert sorted(map(int, out.read_text().split())) == sorted(spec.query(constraint="plate > 0"))


def test_the_readmes_own_query_examples_run(spec: SpecClient, catalogue: Any) -> None:
    """They raised. The fourth, of a value-added catalogue, is in test_vac.py."""
    region = [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0)]
    ra, dec = catalogue["ra"], catalogue["dec"]
    inside = (ra > 0) & (dec > 0) & (ra + dec < 0.999)
    found = spec.query(region, primary=False)
    assert set(catalogue[inside]["specobjid"].tolist()) <= set(found.tolist())
    pos = SkyCoord("0h8m05.63s +14d50m23.3s", frame="icrs")
    for got, place, size in (
        (spec.query(pos, size=0.1, primary=False), pos, 0.1),
        (spec.query(0.125, 12.123, 0.1, primary=False), SkyCoord(0.125, 12.123, unit="deg"), 0.1),
    ):
        away = place.separation(SkyCoord(ra, dec, unit="deg")).deg
        assert got.dtype == np.uint64
        assert set(got.tolist()) == set(catalogue[away <= size]["specobjid"].tolist())
    # The same words, where the mock survey has objects.
    one = catalogue[0]
    near = [(one["ra"] + x, one["dec"] + y) for x, y in ((-1, -1), (1, -1), (0, 1))]
    assert int(one["specobjid"]) in spec.query(near, primary=False).tolist()
    assert int(one["specobjid"]) in spec.query(
        SkyCoord(one["ra"], one["dec"], unit="deg"), size=0.1, primary=False
    ).tolist()  # fmt: skip
    tuples = spec.query(float(one["ra"]), float(one["dec"]), 10.0, fields="tuple")
    assert all(len(parts) == 4 for parts in tuples)
    assert len(spec.getSpec(tuples)) == len(tuples)


# --- The rest -------------------------------------------------------------------------------------


def test_isalive_is_true_of_a_service_and_false_of_none(served: Served, spec: SpecClient) -> None:
    """It was never true."""
    assert spec.isAlive() is True
    assert spec.isAlive(served.url) is True
    assert specClient.isAlive(served.url) is True
    assert spec.isAlive("http://127.0.0.1:9/spec", timeout=1) is False


def test_4341_68_is_h_gamma_and_5756_19_is_n_ii() -> None:
    names = {round(line.wave_aa, 2): line.name for line in EMISSION_LINES}
    assert names[4341.68] == "Hγ"
    assert names[5756.19] == "[N II]"
    assert names[4862.68] == "Hβ"


def test_text_of_a_request_is_never_evaluated(
    served: Served, spec: SpecClient, ask: Ask, tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    evil = f"__import__('pathlib').Path('{mark}').touch()"
    number = str(served.ids[0])
    for path in ("getSpec", "listSpan", "preview", "plotGrid", "stackedImage"):
        for text in (evil, f"[{evil}]", f"[{number}, {evil}]", f"({evil},1,2)"):
            more = {"nx": "1", "ny": "1"} if path == "plotGrid" else {}
            assert ask("POST", path, id_list=text, **more).status == 400, (path, text)
    for name in ("values", "cutout", "align", "format"):
        assert ask("POST", "getSpec", id_list=number, **{name: evil}).status in {400, 422}, name
    for name in ("fields", "cond", "catalog", "id"):
        assert ask("GET", "query", **{name: evil}).status in {400, 404}, name
    with pytest.raises(BadIdentifier):
        spec.getSpec(evil)
    with pytest.raises(BadParameter):
        spec.getSpec(number, cutout=evil)
    assert not mark.exists()


def test_text_of_a_request_is_never_sql(
    served: Served, spec: SpecClient, catalogue: Any, ask: Ask, tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    for condition in (
        "z > 0; DROP TABLE objects",
        "z > 0) OR (1 = 1",
        "z > (SELECT max(z) FROM objects)",
        "z > 0 UNION SELECT 1",
        "z > 0 -- and no more",
        "z > 0 /* */",
        f"1 = 1; COPY objects TO '{out}'",
        "read_csv('/etc/passwd') IS NOT NULL",
        "pragma_version() > 0",
    ):
        with pytest.raises((BadConstraint, SpecServerError)) as refused:
            spec.query(constraint=condition)
        assert refused.value.code in {"bad_constraint", "unknown_field"}, condition
        assert ask("GET", "query", cond=condition).status == 400, condition
    for fields in ("z; DROP TABLE objects", "count(*)", "z FROM objects --", "(SELECT 1)"):
        assert ask("GET", "query", cond="z > 0", fields=fields).status == 400, fields
    for catalog in ("sqlite_master", "information_schema.tables", "x; DROP TABLE objects"):
        answer = ask("GET", "query", cond="z > 0", catalog=catalog)
        assert answer.status in {400, 404}, catalog
    assert not out.exists()
    assert len(spec.query(constraint="plate > 0", primary=False)) == len(catalogue)


@pytest.mark.proof
def test_1000_aligned_spectra_take_seconds_and_block_nobody(served: Served, ask: Ask) -> None:
    """They took 48 s, and every other user waited for 47 of them."""
    listed = ",".join(map(str, np.resize(served.ids, 1000).tolist()))
    answers: list[bytes] = []
    waits: list[float] = []
    worker = threading.Thread(
        target=lambda: answers.append(ask("POST", "getSpec", id_list=listed, align="True").data)
    )
    began = time.monotonic()
    worker.start()
    with urllib3.PoolManager(retries=False, timeout=60) as pool:
        while worker.is_alive():
            sent = time.monotonic()
            assert pool.request("GET", f"{served.url}/ping").status == 200
            waits.append(time.monotonic() - sent)
            time.sleep(0.01)
    worker.join()
    # Bounds for a busy machine; alone it takes a fraction of a second.
    assert time.monotonic() - began < 24
    assert max(waits) < 10
    array = np.load(BytesIO(answers[0]))
    assert array.shape[0] == 1000


def test_whatever_the_plate_the_original_file_tells_the_same(served: Served) -> None:
    """Identifiers come of the parts, whatever form their file gives them in."""
    for path in sorted(served.folder.rglob("spec-*.fits"))[::15]:
        row = fits.getdata(path, 2)[0]
        number = int(str(row["SPECOBJID"]).strip()) % 2**64
        parts = [int(row[name]) for name in ("PLATE", "MJD", "FIBERID")]
        assert pack_specobjid(*parts, str(row["RUN2D"]).strip()) == number
        assert unpack_specobjid(number).tolist()[:3] == tuple(parts)
