"""Routes that call their endpoint themselves: they answer as FastAPI would."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from specserver.server.app import create_app
from specserver.server.dialects.bulk import bulk_query, bulk_spectra
from specserver.server.direct import DirectRoute
from specserver.server.runtime.responses import LimitedRoute
from specserver.settings import Settings
from specserver.wire.media_types import JSON

BY_FASTAPI = "/spec/by-fastapi"


@pytest.fixture(scope="module")
def app(mock_data: Path) -> FastAPI:
    """The application, in which FastAPI itself leads to two of the endpoints, too."""
    made = create_app(Settings(data=mock_data))
    plain = APIRouter(prefix=BY_FASTAPI, route_class=LimitedRoute)
    plain.post("/spectra")(bulk_spectra)
    plain.post("/query")(bulk_query)
    made.include_router(plain)
    return made


def ask(app: FastAPI, path: str, body: bytes, kind: str = JSON) -> tuple[int, bytes]:
    """Return the status and the body of an answer."""
    headers = [(b"content-type", kind.encode())] if kind else []
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "state": {},
             "headers": headers, "http_version": "1.1", "root_path": ""}  # fmt: skip
    messages: list[dict[str, Any]] = []

    came = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> dict[str, Any]:
        return next(came, None) or await asyncio.Future()

    async def send(message: Any) -> None:
        messages.append(message)

    asyncio.run(app(scope, receive, send))
    return messages[0]["status"], b"".join(message.get("body", b"") for message in messages)


def require_alike(app: FastAPI, endpoint: str, body: bytes, kind: str = JSON) -> int:
    """Return the status of an answer, having compared it with FastAPI's."""
    ours, theirs = ask(app, f"/spec/bulk/{endpoint}", body, kind), ask(
        app, f"{BY_FASTAPI}/{endpoint}", body, kind
    )  # fmt: skip
    assert ours == theirs
    return ours[0]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", JSON, 422),
        (b"", "", 422),
        (b"{}", JSON, 422),
        (b"{}", "", 422),
        (b"{}", "text/plain", 422),
        (b'{"cone": [10, 0, 0.1]}', "application/x.y+json; charset=utf-8", 200),
        (b'{"cone": [10, 0, 0.1]}', "APPLICATION/JSON", 200),
        (b'{"cone": [10, 0', JSON, 422),
        (b"[1]", JSON, 422),
        (b"null", JSON, 422),
        (b'"\xff"', JSON, 400),
        (b'{"cone": [1, NaN, "x"], "fields": 3, "more": 1}', JSON, 422),
        (b'{"fields": ["\\ud800"]}', JSON, 400),
        (b"[" * 9, JSON, 413),
        (b'{"constraint": "no_such_column > 1"}', JSON, 400),
        (b'{"context": "nowhere"}', JSON, 404),
    ],
)
def test_an_odd_body_is_answered_as_fastapi_would(
    app: FastAPI, body: bytes, kind: str, status: int
) -> None:
    found = require_alike(app, "query" if body != b"{}" else "spectra", body, kind)
    assert found == status


@given(st.text(st.sampled_from('{}[]":,.0e-1 \\un tids'), max_size=12))
def test_any_text_is_answered_as_fastapi_would(app: FastAPI, text: str) -> None:
    require_alike(app, "spectra", text.encode())


def test_a_request_does_not_pass_the_framework(
    app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> None:
        raise AssertionError("the router was asked")

    monkeypatch.setattr(type(app.router), "app", never)
    monkeypatch.setattr(type(app.router), "__call__", never)
    status, _ = ask(app, "/spec/bulk/query", b'{"cone": [10, 0, 0.1]}')
    assert status == 200
    with pytest.raises(AssertionError, match="the router was asked"):
        ask(app, "/spec/ping", b"")


def test_an_endpoint_with_other_parameters_is_refused() -> None:
    def endpoint(request: Settings, page: int) -> None:
        """Do nothing."""

    with pytest.raises(TypeError, match=r"endpoint takes \['page'\]"):
        APIRouter(route_class=DirectRoute).post("/", response_model=None)(endpoint)
