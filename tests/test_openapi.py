"""The description of the interface is complete, and true for whatever is sent."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.csv
import pytest
import schemathesis
import urllib3
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from serving import Served, serve
from specserver.auth import TokenBook
from specserver.data.root import open_root
from specserver.model.ids import unpack_specobjid
from specserver.server.app import create_app
from specserver.server.openapi import AN_ID
from specserver.settings import Settings
from specserver.wire.media_types import ARROW

DESCRIPTION = create_app(Settings()).openapi()
EXAMPLES = 12
"""Requests drawn at random for each operation, beside those that each limit of it suggests."""
# What a valid value is, the schema cannot say in full: identifiers, conditions, colours and names
# of files are languages of their own. Nor is all that it does not say refused: numbers and yes or
# no are also taken as text, and fields that only old clients send are passed over.
SAID_IN_WORDS = ["positive_data_acceptance", "negative_data_rejection"]


# Bytes at random: none of them are a table.
schemathesis.serializer.alias(["text/csv", ARROW], "application/octet-stream")


@pytest.fixture(scope="module")
def own(
    mock_survey: Path, mock_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, str]]:
    """A service that nobody else uses, with the token of a user who is no administrator."""
    data = tmp_path_factory.mktemp("openapi") / "data"
    shutil.copytree(mock_data / "sdss_dr17", data / "sdss_dr17")
    token = TokenBook(open_root(data)).create("ada", now=datetime.now(UTC))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPECSERVER_VOS_QUOTA_BYTES", "100000")
        patch.setenv("SPECSERVER_MAX_IMAGE_PIXELS", "500000")
        with serve(data, mock_survey) as running:
            yield running, token


def described() -> Any:
    """Return the description as schemathesis reads it."""
    config = SchemathesisConfig(seed=1)
    schema = schemathesis.openapi.from_dict(DESCRIPTION, config=config)
    schema.config.generation.update(deterministic=True, max_examples=EXAMPLES)
    schema.config.checks.update(excluded_check_names=SAID_IN_WORDS)
    return schema


@pytest.fixture(scope="module")
def held(own: tuple[Served, str]) -> str:
    """An identifier that is held, to stand for the one of the examples."""
    parts = unpack_specobjid(own[0].ids[:1])[0]
    return f"({parts['plate']},{parts['mjd']},{parts['fiber']})"


@pytest.mark.proof
@described().parametrize()
@settings(suppress_health_check=list(HealthCheck))
def test_no_request_breaks_the_service_or_is_answered_as_nowhere_said(
    case: Any, own: tuple[Served, str], held: str
) -> None:
    for fields in (case.query, case.body):
        if isinstance(fields, dict):
            fields.update({name: held for name, value in fields.items() if value == AN_ID})
    base = own[0].url.removesuffix("/spec")
    case.call_and_validate(base_url=base, headers={"X-DL-AuthToken": own[1]}, timeout=30)


# --- The description is complete ------------------------------------------------------------------


def operations() -> list[tuple[str, str, dict[str, Any]]]:
    """Return method, path and description of every operation; what makes comes first."""
    order = ["put", "post", "get", "delete"]
    listed = [
        (method, path, one)
        for path, methods in DESCRIPTION["paths"].items()
        for method, one in methods.items()
    ]
    return sorted(listed, key=lambda one: order.index(one[0]))


each_operation = pytest.mark.parametrize(
    ("method", "path", "one"), operations(), ids=lambda one: one if isinstance(one, str) else ""
)


def bodies(one: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return media type → schema of the body of an operation."""
    content = one.get("requestBody", {}).get("content", {})
    schemas = {kind: about["schema"] for kind, about in content.items()}
    known = DESCRIPTION["components"]["schemas"]
    return {
        kind: known[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        for kind, schema in schemas.items()
    }


@each_operation
def test_everything_is_described(method: str, path: str, one: dict[str, Any]) -> None:
    assert one["summary"]
    assert len(one["description"]) > 20
    for each in one.get("parameters", []):
        assert each["description"], each["name"]
    for kind, schema in bodies(one).items():
        for name, about in schema.get("properties", {}).items():
            assert about["description"], (kind, name)
    for status, answer in one["responses"].items():
        assert answer["description"] not in {"", "Successful Response"}
        if int(status) >= 400:
            (kind, about), *others = answer["content"].items()
            assert (kind, others) == ("application/json", [])
            assert about["schema"] == {"$ref": "#/components/schemas/Fault"}
            assert {"code", "message"} <= set(about["example"])
        elif status != "304":
            assert answer["content"]
            assert all(about["schema"] for about in answer["content"].values())
    if "401" in one["responses"] and "shutdown" not in path and "debug" not in path:
        assert examples_of(one) or path.endswith("{name}")


def test_both_names_of_a_grid_are_there_and_mean_the_same() -> None:
    one, other = (dict(DESCRIPTION["paths"][f"/spec/{name}"]["post"]) for name in GRIDS)
    assert one.pop("operationId") != other.pop("operationId")
    assert one == other


GRIDS = ("plotGrid", "gridPlot")
DOCUMENTED = {
    "/spec/getSpec": "400 401 404 408 409 410 413 422 429 503 505",
    "/spec/query": "400 401 404 413 422 429 503 505",
    "/spec/stackedImage": "400 401 404 408 409 413 422 429 503 505",
    "/spec/bulk/spectra": "400 401 404 408 409 413 422 429 503 505",
    "/spec/bulk/files": "400 401 404 408 410 413 422 429 503 505",
    "/spec/bulk/match": "400 401 404 408 413 422 429 503 505",
    "/spec/shutdown": "400 401 403 429",
    "/spec/vos/{name}": "400 401 404 429",
    "/spec/ping": "400 429",
    "/metrics": "400 429",
    "/health/live": "400 429",
    "/health/ready": "400 429 503",
}


@pytest.mark.parametrize("path", DOCUMENTED)
def test_the_ways_to_fail_are_told(path: str) -> None:
    for one in DESCRIPTION["paths"][path].values():
        assert set(DOCUMENTED[path].split()) <= set(one["responses"])


# --- The examples work ----------------------------------------------------------------------------


def examples_of(one: dict[str, Any]) -> dict[str, Any]:
    """Return name → first example of every parameter and field that has one."""
    fields = [(each["name"], each["schema"]) for each in one.get("parameters", [])]
    for schema in bodies(one).values():
        fields += schema.get("properties", {}).items()
    return {name: about["examples"][0] for name, about in fields if about.get("examples")}


def shown_table(one: dict[str, Any], kind: str) -> bytes | None:
    """Return the table that an operation shows as CSV, as a body of a media type, or None."""
    content = one.get("requestBody", {}).get("content", {})
    text = content.get("text/csv", {}).get("example")
    if text is None or kind == "text/csv":
        return None if text is None else text.encode()
    table = pa.csv.read_csv(BytesIO(text.encode()))
    sink = BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("method", "path", "one"),
    # What only administrators may do is for tests/test_auth.py.
    [each for each in operations() if each[2]["tags"] != ["administration"]],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_what_the_description_shows_works(
    method: str, path: str, one: dict[str, Any], own: tuple[Served, str], held: str
) -> None:
    given = {name: held if value == AN_ID else value for name, value in examples_of(one).items()}
    url = own[0].url.removesuffix("/spec") + path.replace("{name}", str(given.pop("name", "")))
    headers = {"X-DL-AuthToken": own[1]}
    if "{name}" in path:
        # To be had or removed, a file has to be there.
        urllib3.request("PUT", url, body=b"1\n", headers=headers)
    for kind in bodies(one) or [""]:
        table = shown_table(one, kind)
        if table is not None:
            sent = {**headers, "Content-Type": kind}
            asked = f"{url}?{urlencode(given)}"
            answer = urllib3.request(method.upper(), asked, body=table, headers=sent)
        elif not kind:
            answer = urllib3.request(method.upper(), url, fields=given, headers=headers)
        else:
            body = json.dumps(given) if kind == "application/json" else urlencode(given)
            sent = {**headers, "Content-Type": kind}
            answer = urllib3.request(method.upper(), url, body=body, headers=sent)
        assert 200 <= answer.status < 300, answer.data[:300]
        kinds = one["responses"][str(answer.status)]["content"]
        assert answer.headers["Content-Type"].partition(";")[0] in kinds


# --- What was found by asking, each a 500 once ----------------------------------------------------

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def ask(own: tuple[Served, str], method: str, path: str, kind: str, body: bytes) -> Any:
    """Return the answer to a request as it stands."""
    headers = {"X-DL-AuthToken": own[1], **({"Content-Type": kind} if kind else {})}
    return urllib3.request(
        method, own[0].url + path, body=body, headers=headers, retries=False, timeout=60
    )


@pytest.mark.parametrize("path", ["/preview", "/plotGrid", "/stackedImage"])
@pytest.mark.parametrize("body", [b"[" * 200_000, b'{"a":' * 50_000], ids=["lists", "objects"])
def test_json_nested_without_end_is_refused(
    own: tuple[Served, str], path: str, body: bytes
) -> None:
    answer = ask(own, "POST", path, JSON, body)
    assert (answer.status, answer.json()["code"]) == (413, "too_much")


def test_half_a_character_is_refused(own: tuple[Served, str]) -> None:
    body = json.dumps({"constraint": "class = '\ud83d'"}).encode()
    answer = ask(own, "POST", "/bulk/query", JSON, body)
    assert (answer.status, answer.json()["code"]) == (400, "bad_constraint")


@pytest.mark.parametrize("ids", ["%0A", "[]", "%EF%BB%BF"])
def test_columns_of_no_spectra_are_a_header(own: tuple[Served, str], ids: str) -> None:
    answer = ask(own, "GET", f"/query?id={ids}&fields=tuple,z", "", b"")
    assert (answer.status, answer.data) == (200, b"plate,mjd,fiberid,run2d,z\n")
    assert ask(own, "GET", f"/query?id={ids}&fields=nosuch", "", b"").status == 400


def test_columns_asked_for_twice_come_once(own: tuple[Served, str]) -> None:
    ids = str(own[0].ids[0])
    body = json.dumps({"ids": ids, "columns": ["z", "z", "Z"]}).encode()
    answer = ask(own, "POST", "/bulk/spectra", JSON, body)
    assert answer.status == 200
    names = pa.ipc.open_stream(answer.data).schema.names
    assert [name for name in names if name.startswith("col:")] == ["col:z", "col:Z"]
    answer = ask(own, "GET", f"/query?id={ids}&fields=z,z,plate", "", b"")
    assert answer.data.startswith(b"z,plate\n")


@pytest.mark.parametrize("number", ["1e308", "9" * 400, "9" * 4000, "2147483648"])
def test_sizes_beyond_arithmetic_are_refused(own: tuple[Served, str], number: str) -> None:
    ids = str(own[0].ids[0])
    for path, names in (
        ("/plotGrid", ("nx", "ny", "ncols", "page")),
        ("/stackedImage", ("xscale", "yscale", "thickness", "width", "height")),
    ):
        for name in names:
            for kind, body in (
                (JSON, f'{{"id_list": "{ids}", "nx": 1, "{name}": {number}}}'),
                (FORM, f"id_list={ids}&{name}={number}"),
            ):
                answer = ask(own, "POST", path, kind, body.encode())
                assert (answer.status, name) in ((422, name), (413, name)), answer.data


def test_a_space_that_was_never_written_to_holds_nothing(own: tuple[Served, str]) -> None:
    token = TokenBook(open_root(own[0].data)).create("newcomer", now=datetime.now(UTC))
    for method, path in (("GET", "/vos/ids.txt"), ("GET", "/vos?path=a"), ("DELETE", "/vos/a")):
        answer = ask((own[0], token), method, path, "", b"")
        assert (answer.status, answer.json()["code"]) == (404, "no_such_file"), (method, path)


@pytest.mark.parametrize(
    ("path", "allowed"), [("/preview", "GET, POST"), ("/vos/a/b", "DELETE, GET, PUT")]
)
def test_a_method_that_is_not_allowed_hears_which_are(
    own: tuple[Served, str], path: str, allowed: str
) -> None:
    answer = ask(own, "PATCH", path, "", b"")
    assert (answer.status, answer.headers["Allow"]) == (405, allowed)
