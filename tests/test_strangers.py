"""What strangers send breaks nothing, and what they are told says nothing of this machine."""

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import urllib3
from selenium import webdriver
from selenium.webdriver.support.wait import WebDriverWait

from serving import Served, serve
from specserver.server.app import create_app
from specserver.settings import Settings

DESCRIPTION = create_app(Settings()).openapi()
# Percent-encoded: bytes that are no UTF-8, a NUL, half of a surrogate pair, a line end.
FORM = "application/x-www-form-urlencoded"
BYTES = ["%FF%FE", "%00", "%ED%A0%80", "%0D%0AX-a:%20b", "%C3%28"]
JSON_TEXTS = [b'"\\ud800"', b'"\\u0000"', b'"\xff"', b'"\\ud800,1"', b"[" * 2000]


def operations(*methods: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, one)
        for path, known in DESCRIPTION["paths"].items()
        for method, one in known.items()
        if method in methods and one["tags"] != ["administration"]
    ]


def ask(running: Served, method: str, path: str, **more: Any) -> urllib3.BaseHTTPResponse:
    url = running.url.removesuffix("/spec") + path
    return urllib3.request(method, url, timeout=60, retries=False, **more)


def held_back(answer: urllib3.BaseHTTPResponse, *folders: Path) -> None:
    """Check that an answer says nothing of the folders of this machine."""
    text = answer.data + repr(dict(answer.headers)).encode()
    for folder in folders:
        assert str(folder).encode() not in text
        assert str(folder.parent).encode() not in text


# --- Bytes that are no text -----------------------------------------------------------------------


@pytest.mark.parametrize(("method", "path", "one"), operations("get", "delete"),
                         ids=lambda one: one if isinstance(one, str) else "")  # fmt: skip
@pytest.mark.parametrize("sent", BYTES)
def test_no_query_string_breaks_an_endpoint(
    served: Served, method: str, path: str, one: dict[str, Any], sent: str
) -> None:
    path = path.replace("{name}", sent)
    for name in [each["name"] for each in one.get("parameters", [])]:
        answer = ask(served, method, f"{path}?{name}={sent}")
        assert answer.status < 500, answer.data
        assert answer.headers.get("X-a") is None
        held_back(answer, served.data, served.folder)


@pytest.mark.parametrize(("method", "path", "one"), operations("post", "put"),
                         ids=lambda one: one if isinstance(one, str) else "")  # fmt: skip
def test_no_body_breaks_an_endpoint(
    served: Served, method: str, path: str, one: dict[str, Any]
) -> None:
    path = path.replace("{name}", "x%FFy")
    schemas: dict[str, Any] = DESCRIPTION["components"]["schemas"]
    for kind, about in one["requestBody"]["content"].items():
        schema = about["schema"]
        named = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
        names = list(named.get("properties", {})) or ["ids"]
        bodies = [f"{name}={sent}".encode() for name in names for sent in BYTES]
        bodies += [b'{"%s": %s}' % (name.encode(), sent) for name in names for sent in JSON_TEXTS]
        needed = json.dumps(dict.fromkeys(named.get("required", []), "1"))[1:-1].encode()
        bodies += [
            b'{%s, "%s": %s}' % (needed, name.encode(), sent)
            for name in names
            for sent in JSON_TEXTS
            if needed
        ]
        for body in [*bodies, b"ra,dec,\xff\n1,2,3\n", b"\xff\xfe", b"ra\xff,dec\n1,2\n"]:
            answer = ask(served, method, path, body=body, headers={"Content-Type": kind})
            assert answer.status < 500, (body, answer.data)
            held_back(answer, served.data, served.folder)


@pytest.mark.parametrize(
    "body", [b"ra,dec,\xff\n1,2,3\n", b"r\xffa,dec\n1,2\n", b"ra,dec\n\xff,2\n", b"\xff\n"]
)
def test_a_table_that_is_no_text_is_told_so(served: Served, body: bytes) -> None:
    headers = {"Content-Type": "text/csv"}
    answer = ask(served, "POST", "/spec/bulk/match", body=body, headers=headers)
    if b"," in body.split(b"\n")[0] and body.startswith(b"ra,dec,"):
        # Another column, whose name nobody needs.
        assert answer.status in {200, 400}
    else:
        assert (answer.status, json.loads(answer.data)["code"]) == (400, "bad_parameter")


@pytest.mark.parametrize("name", ["X-DL-AuthToken", "Authorization", "Accept", "Content-Type",
                                  "X-Request-ID", "X-Forwarded-For", "Cookie",
                                  "If-None-Match"])  # fmt: skip
@pytest.mark.parametrize("value", [b"\xff\xfe", b"Bearer \xc3\x28", b"specserver.\xff.x", b""])
def test_no_header_breaks_an_endpoint(served: Served, name: str, value: bytes) -> None:
    host, port = served.url.split("/")[2].split(":")
    for line in (b"GET /spec/contexts", b"POST /spec/bulk/match", b"GET /spec/vos/a"):
        with socket.create_connection((host, int(port)), timeout=30) as link:
            head = line + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n"
            link.sendall(head + name.encode() + b": " + value + b"\r\n\r\n1\n")
            got = b""
            with suppress(ConnectionResetError):
                got = link.makefile("rb").read()
        assert got.startswith(b"HTTP/1.1 ")
        assert int(got[9:12]) < 500, got


# --- Where things are on this machine -------------------------------------------------------------


@pytest.fixture(scope="module")
def damaged(
    mock_data: Path, mock_survey: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Served, Path]]:
    """A service whose data are damaged, with its log."""
    folder = tmp_path_factory.mktemp("a secret place")
    data, log = folder / "data", folder / "log"
    shutil.copytree(mock_data, data)
    with serve(data, mock_survey, log=log) as running:
        # Once it has begun: what is damaged at the start is another matter.
        for shard in (data / "sdss_dr17").glob("**/float32/c/**/*"):
            if shard.is_file():
                shard.write_bytes(b"no shard")
        (data / "tokens.json").write_text("{")
        yield running, log


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("POST", "bulk/spectra", {"json": {"ids": "ID"}}),
        ("POST", "bulk/files", {"json": {"ids": "ID", "fits": "rebuilt"}}),
        ("POST", "bulk/stack", {"json": {"ids": "ID"}}),
        ("POST", "getSpec", {"body": "id_list=ID", "headers": {"Content-Type": FORM}}),
        ("POST", "preview", {"json": {"id": "ID"}}),
        ("GET", "contexts", {"headers": {"X-DL-AuthToken": "specserver.0123456789." + "a" * 43}}),
    ],
)
def test_an_error_names_the_file_but_not_its_folder(
    damaged: tuple[Served, Path], method: str, path: str, more: dict[str, Any]
) -> None:
    running, log = damaged
    number = str(running.ids[0])
    more = json.loads(json.dumps(more).replace('ID"', f'{number}"'))
    answer = ask(running, method, f"/spec/{path}", **more)
    assert answer.status == 500, answer.data
    assert json.loads(answer.data)["code"] != "unknown"
    held_back(answer, running.data, running.folder)
    assert b"secret" not in answer.data
    assert str(running.data) in log.read_text()


def test_no_listing_tells_where_things_are(served: Served) -> None:
    for path in ("available", "contexts", "catalogs", "profiles", "contexts?context=default"):
        for form in ("text", "json", "csv"):
            mark = "&" if "?" in path else "?"
            answer = ask(served, "GET", f"/spec/{path}{mark}format={form}")
            assert answer.status == 200
            held_back(answer, served.data, served.folder)
    for path in ("/metrics", "/spec/openapi.json", "/spec/docs", "/spec/ping", "/spec/nowhere"):
        held_back(ask(served, "GET", path), served.data, served.folder)
    for field in ("_source", "_size", "*", "ra,_source"):
        answer = ask(served, "GET", f"/spec/query?fields={quote(field)}&cond=z%3E0")
        held_back(answer, served.data, served.folder)


# --- Pages ----------------------------------------------------------------------------------------


def test_every_answer_is_what_it_is_said_to_be(served: Served) -> None:
    for path in ("/spec/ping", "/spec/docs", "/spec/docs/start.js", "/nowhere", "/metrics"):
        assert ask(served, "GET", path).headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.proof
def test_the_description_asks_nobody_else(served: Served, browser: webdriver.Chrome) -> None:
    """It loaded scripts from a content delivery network."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(f"{served.url}/docs")
    wait = WebDriverWait(browser, 30)
    wait.until(lambda page: len(page.find_elements("css selector", ".opblock-summary")) > 20)
    browser.execute_script("document.querySelector('.opblock-summary-control').click()")
    wait.until(lambda page: page.find_elements("css selector", ".try-out__btn"))
    assert [one["message"] for one in browser.get_log("browser") if one["level"] != "INFO"] == []
    messages = [json.loads(one["message"])["message"] for one in browser.get_log("performance")]
    asked = {
        one["params"]["request"]["url"]
        for one in messages
        if one["method"] == "Network.requestWillBeSent"
    }
    own = (served.url, "data:", "about:", "chrome:")
    assert any("swagger-ui-bundle.js" in url for url in asked)
    assert [url for url in asked if not url.startswith(own)] == []
    policy = ask(served, "GET", "/spec/docs").headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
