"""The client over HTTP: what it asks, what it makes of answers, errors and broken connections."""

import json
import threading
import warnings
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO

import astropy.units as u
import numpy as np
import pyarrow as pa
import pytest
from astropy.table import Table
from specutils import Spectrum

from specserver import specClient
from specserver.client.api import SpecClient
from specserver.errors import (
    BadParameter,
    Overloaded,
    ServiceError,
    StoreError,
    UnknownContext,
    Unreachable,
)
from test_client_decode import MANY, VECTORS, bits, encode

DOCUMENTED = [
    "getClient",
    "isAlive",
    "set_svc_url",
    "get_svc_url",
    "set_context",
    "get_context",
    "list_contexts",
    "set_profile",
    "get_profile",
    "list_profiles",
    "catalogs",
    "query",
    "getSpec",
    "plot",
    "prospect",
    "preview",
    "plotGrid",
    "getGridPlot",
    "stackedImage",
    "to_pandas",
    "to_Spectrum1D",
    "to_Table",
    "airtovac",
    "vactoair",
    "pack_specobjid",
    "unpack_specobjid",
]
ADDED = ["set_token", "get_token", "vos", "match", "stack", "write_table", "read_inspection"]


@dataclass
class Canned:
    """A service that says what it is told to, and remembers what it was asked."""

    url: str = ""
    answers: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    def say(self, body: bytes | str | dict, status: int = 200, cut: int = 0, **headers) -> None:
        if isinstance(body, dict):
            body = json.dumps(body)
        self.answers.append(
            (body if isinstance(body, bytes) else body.encode(), status, cut, headers)
        )

    def body(self, index: int = -1) -> dict:
        return json.loads(self.asked[index][2])


@pytest.fixture
def service(monkeypatch):
    canned = Canned()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def reply(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            canned.asked.append((self.path, self.headers, self.rfile.read(length)))
            body, status, cut, headers = canned.answers.pop(0)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(body) - cut, 700):
                piece = body[at : min(at + 700, len(body) - cut)]
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            if cut:
                self.close_connection = True
            else:
                self.wfile.write(b"0\r\n\r\n")

        def do_GET(self) -> None:
            self.reply()

        def do_POST(self) -> None:
            self.reply()

        def log_message(self, *args) -> None:
            """Keep the test's output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    canned.url = f"http://127.0.0.1:{server.server_port}/spec"
    monkeypatch.setenv("SPECSERVER_URL", canned.url)
    yield canned
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(service) -> SpecClient:
    return SpecClient()


def rows(**columns) -> bytes:
    """A stream of catalogue columns."""
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    out = BytesIO()
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table)
    return out.getvalue()


IDS = [one.id for one in MANY]


def test_public_names_are_the_documented_ones():
    assert sorted(specClient.__all__) == sorted(DOCUMENTED + ADDED)
    assert all(callable(getattr(specClient, name)) for name in DOCUMENTED)
    client_names = {name for name in dir(SpecClient) if not name.startswith("_")}
    utilities = {"getClient", "airtovac", "vactoair", "pack_specobjid", "unpack_specobjid"}
    utilities |= {"to_pandas", "to_Spectrum1D", "to_Table", "read_inspection"}
    beside = {"read_named", "fetch_named", "context"}
    assert client_names - beside == {*DOCUMENTED, *ADDED} - utilities


def test_the_url_is_what_was_set_else_the_environment_else_local(monkeypatch):
    client = SpecClient()
    monkeypatch.delenv("SPECSERVER_URL", raising=False)
    assert client.get_svc_url() == "http://127.0.0.1:6998/spec"
    monkeypatch.setenv("SPECSERVER_URL", "http://elsewhere/spec/")
    assert client.get_svc_url() == "http://elsewhere/spec"
    client.set_svc_url("http://there:1/spec")
    assert client.get_svc_url() == "http://there:1/spec"


def test_a_client_shows_its_service_its_context_and_whose_it_is(monkeypatch):
    monkeypatch.delenv("SPECSERVER_TOKEN", raising=False)
    client = SpecClient("sdss_dr17", svc_url="http://there:1/spec/")
    assert repr(client) == "<SpecClient of http://there:1/spec, as a visitor, context sdss_dr17>"
    client.set_token("specserver.k3x.secret")
    assert repr(client.vos) == "<Storage vos:// of http://there:1/spec, as token specserver.k3x.…>"
    client.set_token("secret")
    assert "secret" not in repr(client)
    assert "as a token, context" in repr(client)


def test_is_alive(client, service):
    service.say("Hello World, specserver is here")
    service.say("It works!")
    assert client.isAlive() is True
    assert client.isAlive(service.url) is False
    assert client.isAlive("http://127.0.0.1:9/spec", timeout=0.5) is False
    assert client.isAlive("not a url") is False


def test_no_service_says_how_to_get_one():
    client = SpecClient(svc_url="http://127.0.0.1:9/spec")
    with pytest.raises(Unreachable, match=r"127.0.0.1:9.*refused.*specserver serve"):
        client.query(1.0, 2.0, 0.1)


def test_contexts_are_validated_by_the_service(client, service):
    service.say("OK")
    assert client.set_context("sdss_dr16") == "OK"
    assert client.get_context() == "sdss_dr16"
    assert service.asked[0][0] == "/spec/validate?what=context&value=sdss_dr16"
    service.say({"code": "unknown_context", "message": "unknown; this service has: default"}, 404)
    with pytest.raises(UnknownContext, match="this service has: default"):
        client.set_context("sdss_dr99")
    assert client.get_context() == "sdss_dr16"
    service.say({"default": {}, "sdss_dr16": {}})
    assert list(client.list_contexts(fmt="json")) == ["default", "sdss_dr16"]
    service.say("default\n")
    assert client.list_contexts() == "default\n"
    assert service.asked[-1][0] == "/spec/contexts?format=text"
    with pytest.raises(BadParameter, match="text, json, csv"):
        client.catalogs(fmt="xml")


def test_spectra_come_as_arrays(client, service):
    service.say(encode(MANY))
    got = client.getSpec(IDS, token="me.1")
    assert [bits(one) for one in got] == [bits(one.values) for one in MANY]
    path, headers, _ = service.asked[0]
    assert path == "/spec/bulk/spectra"
    assert headers["X-DL-AuthToken"] == "me.1"
    assert service.body() == {
        "ids": "\n".join(map(str, IDS)),
        "context": "default",
        "profile": "default",
        "vectors": None,
        "cutout": None,
        "align": False,
        "columns": [],
        "missing": "error",
    }


def test_one_identifier_gives_one_object_and_a_list_of_one_a_list(client, service):
    for _ in range(3):
        service.say(encode(MANY[:1]))
    assert client.getSpec(IDS[0]).shape == (40,)
    (one,) = client.getSpec([IDS[0]])
    assert one.shape == (40,)
    assert client.getSpec(IDS[0], align=True).shape == (40,)
    assert client.getSpec([]) == []
    assert len(service.asked) == 3


def test_values_cutout_and_align_are_asked_for(client, service):
    service.say(encode(MANY, vectors=["flux", "ivar"]))
    got = client.getSpec(IDS, values=["ivar", "loglam"], cutout="3600-3700", context="sdss_dr9")
    assert got.dtype.names == ("loglam", "ivar")
    assert got.shape == (5, 70)
    asked = service.body()
    assert asked["vectors"] == ["ivar"]
    assert asked["cutout"] == [3600.0, 3700.0]
    assert (asked["align"], asked["context"]) == (True, "sdss_dr9")


@pytest.mark.parametrize(
    ("cutout", "limits"),
    [
        ("6500 - 7200", [6500, 7200]),
        ((6500, 7200.5), [6500, 7200.5]),
        ([650, 720] * u.nm, [6500, 7200]),
    ],
)
def test_cutouts_are_read(client, service, cutout, limits):
    service.say(encode(MANY))
    client.getSpec(IDS, cutout=cutout)
    assert service.body()["cutout"] == pytest.approx(limits)


@pytest.mark.parametrize(
    "cutout", ["7200-6500", "6500", "a-b", (1, 2, 3), 5, (1, float("nan")), "0-1"]
)
def test_cutouts_that_are_none_are_refused(client, cutout):
    with pytest.raises(BadParameter, match="cutout"):
        client.getSpec(IDS, cutout=cutout)


@pytest.mark.parametrize("fmt", ["Spectrum1D", "spectrum"])
def test_spectra_come_as_spectrum1d_in_one_request(client, service, fmt):
    service.say(encode(MANY[:2]))
    got = client.getSpec(IDS[:2], fmt=fmt)
    assert [isinstance(one, Spectrum) for one in got] == [True, True]
    assert service.body()["columns"] == ["@redshift"]
    service.say(encode(MANY[:2]))
    assert client.getSpec(IDS[:2], fmt=fmt, align=True).flux.shape == (2, 60)


def test_spectra_come_as_frames_and_tables(client, service):
    service.say(encode(MANY[:1]))
    service.say(encode(MANY[:2]))
    frame = client.getSpec(IDS[0], fmt="PANDAS")
    assert frame["flux"].to_numpy().tobytes() == MANY[0].values["flux"].tobytes()
    tables = client.getSpec(IDS[:2], fmt="tables")
    assert [type(one) for one in tables] == [Table, Table]


def test_what_is_wrong_or_to_come_says_so(client):
    with pytest.raises(BadParameter, match="cutout"):
        client.getSpec(IDS, fmt="fits", cutout="1-2")
    with pytest.raises(BadParameter, match="numpy, pandas"):
        client.getSpec(IDS, fmt="hdf5")
    with pytest.raises(BadParameter, match="missing"):
        client.getSpec(IDS, missing="maybe")
    with pytest.raises(BadParameter, match="resample"):
        client.getSpec(IDS, align="rebin")
    with pytest.raises(BadParameter, match="rebuilt"):
        client.getSpec(IDS, fmt="FITS", fits="forged")
    with pytest.raises(TypeError, match="colour"):
        client.getSpec(IDS, colour="red")
    with pytest.raises(TypeError, match="colour"):
        client.query(1, 2, 3, colour="red")


def test_missing_spectra_are_warned_of(client, service):
    service.say(encode(MANY, missing=["17", "18"]))
    with pytest.warns(UserWarning, match="2 of 7 identifiers .* 17, 18"):
        got = client.getSpec([*IDS, 17, 18], missing="skip")
    assert len(got) == 5


def test_errors_keep_their_class_and_words(client, service):
    service.say({"code": "unknown_context", "message": "unknown context 'x'"}, 404)
    service.say({"detail": [{"loc": ["body", "ids"], "msg": "Field required"}]}, 422)
    service.say("<html>Bad gateway</html>", 502)
    with pytest.raises(UnknownContext, match="unknown context 'x'"):
        client.getSpec(IDS, context="x")
    with pytest.raises(ServiceError, match=r"422.*Field required"):
        client.getSpec(IDS)
    with pytest.raises(ServiceError, match=r"502.*Bad gateway"):
        client.getSpec(IDS)


def test_a_busy_service_is_asked_again_when_it_says_when(client, service):
    busy = {"code": "overloaded", "message": "busy"}
    service.say(busy, 503, Retry_After="0")
    service.say(encode(MANY))
    assert len(client.getSpec(IDS)) == 5
    service.say(busy, 503)
    with pytest.raises(Overloaded, match="busy"):
        client.getSpec(IDS)
    for _ in range(4):
        service.say(busy, 503, Retry_After="0")
    with pytest.raises(Overloaded, match="busy"):
        client.getSpec(IDS)
    assert service.answers == []


@pytest.mark.parametrize("cut", [1, 900, 5000])
def test_a_broken_connection_is_no_answer_and_the_next_one_works(client, service, cut):
    service.say(encode(MANY), cut=cut)
    with pytest.raises(StoreError, match="cut off"):
        client.getSpec(IDS)
    service.say(rows(specobjid=np.arange(3000, dtype="u8")), cut=cut)
    with pytest.raises(StoreError, match="cut off"):
        client.query(1, 2, 3)
    service.say(encode(MANY))
    assert len(client.getSpec(IDS)) == 5


def test_a_query_gives_identifiers(client, service):
    service.say(rows(specobjid=np.array([2**64 - 1, 7], dtype="u8")))
    got = client.query(30.0, 1.5, 0.1, "z > 0.1", context="sdss_dr16", timeout=20, primary=False)
    assert got.dtype == np.uint64
    assert got.tolist() == [2**64 - 1, 7]
    assert service.body() == {
        "cone": [30.0, 1.5, 0.1],
        "polygon": None,
        "constraint": "z > 0.1",
        "fields": [],
        "catalog": None,
        "primary": False,
        "count_others": True,
        "context": "sdss_dr16",
        "profile": "default",
        "timeout_s": 20,
    }


def test_a_limit_is_one_of_the_condition(client, service):
    for given, sent in (
        ({"constraint": "z > 1"}, "z > 1 limit 3"),
        ({"constraint": " z > 1 ; "}, "z > 1 limit 3"),
        ({"constraint": "z > 1 order by z;"}, "z > 1 order by z limit 3"),
        ({"ra": 1.0, "dec": 2.0, "size": 3.0}, "limit 3"),
        ({}, "limit 3"),
    ):
        for limit in (3, np.int32(3), "3"):
            service.say(rows(specobjid=np.array([7], dtype="u8")))
            client.query(**given, limit=limit, primary=False)
            assert service.body()["constraint"] == sent
    service.say(rows(specobjid=np.array([7], dtype="u8")))
    client.query(constraint="z > 1", limit=10**30, primary=False)
    assert service.body()["constraint"] == f"z > 1 limit {2**63 - 1}"
    for wrong in (-1, 2.5, "x", np.inf):
        with pytest.raises(BadParameter, match=r"limit=.* is not possible: .*number"):
            client.query(constraint="z > 1", limit=wrong)


def test_a_query_gives_tuples_columns_and_tables(client, service, tmp_path):
    ids = np.array([4565636362342690816], dtype="u8")
    service.say(rows(specobjid=ids))
    assert client.query(constraint="z > 1", fields="tuple") == [(4055, 55359, 408, "v5_7_0")]
    assert service.body()["fields"] == []
    service.say(rows(z=np.array([0.5], dtype="f4")))
    assert client.query(constraint="z > 1", fields="z").tolist() == [0.5]
    several = rows(specobjid=ids, z=np.array([0.1], dtype="f4"), **{"class": ["QSO"]})
    service.say({"name": "default", "id_main": "specobjid"})
    service.say(several)
    table = client.query(constraint="z > 1", fields=["z", "SpecObjID", "class"])
    assert service.asked[-2][0] == "/spec/contexts?context=default&format=json"
    assert service.body()["fields"] == ["specobjid", "z", "class"]
    assert table.colnames == ["specobjid", "z", "class"]
    assert table["specobjid"].dtype == np.uint64
    service.say(several)
    out = tmp_path / "list.csv"
    assert client.query(constraint="z > 1", fields="z,class", out=out) == "OK"
    assert out.read_text() == "specobjid,z,class\n4565636362342690816,0.1,QSO\n"
    service.say(rows(specobjid=ids))
    assert client.query(constraint="z > 1", out=str(out)) == "OK"
    assert out.read_text() == "4565636362342690816\n"
    service.say(rows(specobjid=ids))
    client.query(constraint="z > 1", fields="tuple", out=out)
    assert out.read_text() == "(4055,55359,408,v5_7_0)\n"
    service.say(rows(specobjid=np.empty(0, dtype="u8")))
    assert client.query(constraint="z > 1", fields="tuple") == []


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("context", lambda client: client.query(constraint="z > 1", context=1)),
        ("profile", lambda client: client.query(constraint="z > 1", profile=1)),
        ("fields", lambda client: client.query(constraint="z > 1", fields=5)),
        ("timeout", lambda client: client.query(constraint="z > 1", timeout="a")),
        ("token", lambda client: client.query(constraint="z > 1", token=5)),
        ("context", lambda client: client.getSpec(IDS, context=1)),
        ("profile", lambda client: client.getSpec(IDS, profile=1)),
        ("values", lambda client: client.getSpec(IDS, values=5)),
        ("timeout", lambda client: client.getSpec(IDS, timeout="a")),
        ("timeout", lambda client: client.getSpec(IDS, timeout=0)),
        ("token", lambda client: client.getSpec(IDS, token=5)),
        ("context", lambda client: client.match((1.0, 2.0), context=1)),
        ("fields", lambda client: client.match((1.0, 2.0), fields=5)),
        ("timeout", lambda client: client.match((1.0, 2.0), timeout="a")),
        ("context", lambda client: client.stack(IDS, context=1)),
        ("timeout", lambda client: client.preview(IDS[0], timeout="a")),
        ("token", lambda client: client.vos.ls(token=5)),
    ],
)
def test_values_of_the_wrong_type_name_their_parameter(client, service, name, call):
    service.say(encode(MANY))
    with pytest.raises(BadParameter, match=f"^{name}="):
        call(client)


def test_a_query_of_nothing_is_refused(client):
    with pytest.raises(BadParameter, match="a region, a constraint or fields"):
        client.query()


def test_a_fetched_answer_leaves_no_warning_and_all_vectors(client, service):
    service.say(encode(MANY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (first, *_) = client.getSpec(IDS)
    assert set(first.dtype.names) == {*VECTORS, "loglam"}


@pytest.mark.parametrize(("name", "value"), [("page", None), ("page", 1.5), ("nx", "many")])
def test_counts_of_a_grid_are_whole_numbers(name: str, value: object) -> None:
    given = {"nx": 2, "ny": 2, name: value}
    with pytest.raises(BadParameter, match=f"{name}=.* is not possible: a whole number"):
        SpecClient(svc_url="http://127.0.0.1:9/spec").plotGrid([1], **given)
