"""Errors as answers: JSON ``{code, message}`` with a fitting status, never 200."""

import logging
import re
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from ...data.root import DataRoot
from ...errors import (
    SKIPPED,
    BadParameter,
    BodyTooSlow,
    CallerError,
    MixedLattices,
    NewerFormat,
    NoOriginal,
    NoSuchFile,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    OldProtocol,
    Overloaded,
    QuotaExceeded,
    SpecServerError,
    TooMuch,
    TooOften,
    TooSlow,
    Unavailable,
    UnknownCatalog,
    UnknownContext,
    UnknownProfile,
)
from ...wire.error import error_object
from ...wire.media_types import JSON
from .log import REQUEST_ID

_LOG = logging.getLogger("specserver")
_MAX_PROBLEMS: Final = 20
_MOST_SHOWN: Final = 80
"""Letters of a wrong value that a message repeats."""
RETRY_AFTER_S: Final = 2
"""Value of the header Retry-After, seconds."""
_STATUS: Final[tuple[tuple[type[SpecServerError], int], ...]] = (
    (UnknownContext, 404),
    (UnknownProfile, 404),
    (UnknownCatalog, 404),
    (NotFound, 404),
    (NoSuchFile, 404),
    (NotAuthenticated, 401),
    (NotAllowed, 403),
    (BodyTooSlow, 408),
    (OldProtocol, 505),
    (MixedLattices, 409),
    (NoOriginal, 410),
    (TooMuch, 413),
    (QuotaExceeded, 413),
    (CallerError, 400),
    (TooOften, 429),
    (Overloaded, 503),
    # Servers are being updated one by one: another one can answer.
    (NewerFormat, 503),
    (TooSlow, 504),
    (SpecServerError, 500),
)
_HEADERS: Final = {
    401: {"WWW-Authenticate": 'Bearer realm="specserver"'},
    429: {"Retry-After": str(RETRY_AFTER_S)},
    503: {"Retry-After": str(RETRY_AFTER_S)},
}
# Folders, as they stand in the messages of our own errors; not what follows the // of a URL.
_FOLDERS: Final = re.compile(r"(?<![\w/:.])/(?:[^\s/'\"`:;,()<>]+/)+")
_ADDRESSES: Final = re.compile(r"\b(?:s3|gs|az|https?)://\S+")
"""Addresses of object stores, and of what is in them."""
_TUPLE: Final = "(266,51602,14)"
_EXAMPLES: Final[dict[int, tuple[str, SpecServerError | dict[str, Any]]]] = {
    400: ("A value is not possible.", BadParameter("what", "color", "context or profile")),
    401: ("A token is missing, unknown, revoked or expired.", NotAuthenticated("no such token")),
    403: ("The token does not cover the request.", NotAllowed("/spec/shutdown")),
    404: ("There is no such thing here.", NotFound([_TUPLE], ["default"], SKIPPED)),
    408: ("The body did not arrive in time.", BodyTooSlow(30.0, "body_stall_timeout_s")),
    409: ("The spectra share no wavelength lattice.", MixedLattices([39627640672455445])),
    410: ("An original file is gone or has changed.", NoOriginal([_TUPLE], "the file has changed")),
    411: (
        "The header Content-Length is missing.",
        {"code": "bad_parameter", "message": "state the body's length in Content-Length"},
    ),
    413: (
        "More than a limit of the service.",
        TooMuch("spectra", 2_000_000, 1_000_000, "max_ids"),
    ),
    422: (
        "A parameter is missing or has the wrong type.",
        {
            "code": "invalid_request",
            "message": "id_list: Field required",
            "details": [{"where": "id_list", "problem": "Field required"}],
        },
    ),
    429: (
        "More than a caller's share; Retry-After says when to come again.",
        TooOften("requests a second", 200, "caller_requests_per_s", 1),
    ),
    500: (
        "The service or its data are at fault; its log has the details.",
        {"code": "service_error", "message": "internal error; the server's log has the details"},
    ),
    503: ("Too busy; Retry-After says when to come again.", Overloaded(RETRY_AFTER_S)),
    505: ("HTTP/1.0, for an answer whose length is not known.", OldProtocol("1.0")),
    504: ("No answer within the time limit of the service.", TooSlow(900.0)),
}

_OWN_FOLDERS: Final[set[str]] = set()
"""Data folders of this process, which are removed from messages."""


class Fault(BaseModel):
    """The body of every error."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    code: str
    """Stable, for programs."""
    message: str
    """Text for people: the value given, the values allowed, and the remedy."""
    settings: list[str] = []
    """Parameters that the message names, as it writes them: a client may say its own names."""
    details: list[dict[str, str]] = []
    """With 422: place and fault of each wrong value."""


def error_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of errors with these statuses."""
    return {status: _described(status) for status in statuses}


def _described(status: int) -> dict[str, Any]:
    """Return the OpenAPI description of errors with one status, with an example."""
    meaning, example = _EXAMPLES[status]
    if isinstance(example, SpecServerError):
        example = {"code": example.code, "message": example.message}
    schema = {"$ref": f"#/components/schemas/{Fault.__name__}"}
    headers = {name: {"schema": {"type": "string"}} for name in _HEADERS.get(status, {})}
    return {
        "description": meaning,
        "content": {JSON: {"schema": schema, "example": example}},
    } | ({"headers": headers} if headers else {})


USUAL_ERRORS: Final = error_responses(400, 401, 404, 413, 422, 503)
"""Errors of an endpoint that reads the catalogue or the store."""


def describe(schema: dict[str, Any]) -> None:
    """Add the schema of errors, and errors of any operation, to an OpenAPI document."""
    schema["components"]["schemas"][Fault.__name__] = Fault.model_json_schema()
    for operations in schema["paths"].values():
        for operation in operations.values():
            heavy = "503" in operation["responses"]
            for status in [505] * heavy + [408, 503] * ("requestBody" in operation):
                operation["responses"].setdefault(str(status), _described(status))
            # The filter of requests checks the host and the rate of each.
            for status in (400, 429):
                operation["responses"].setdefault(str(status), _described(status))
            # Operations without a token do no work that could fail.
            if "401" in operation["responses"]:
                operation["responses"].setdefault("500", _described(500))
                operation["responses"].setdefault("504", _described(504))


def status_of(kind: type[SpecServerError]) -> int:
    """Return the status of a class of errors."""
    return next(status for known, status in _STATUS if issubclass(kind, known))


def answer(error: SpecServerError) -> JSONResponse:
    """Return the response for an error."""
    status = status_of(type(error))
    headers = dict(_HEADERS.get(status, {}))
    if isinstance(error, (TooOften, Overloaded)):
        headers["Retry-After"] = str(error.retry_after_s)
    body = error_object(error, message_for_visitors(error))
    if not body["settings"]:
        del body["settings"]
    return JSONResponse(_sendable(body), status_code=status, headers=headers)


def message_for_visitors(error: SpecServerError) -> str:
    """Return the message of an error without folders and addresses of the service's own.

    The log has them. What a caller has sent is not changed.
    """
    if isinstance(error, Unavailable):
        # Its reason has the address of the object store, and the name of the bucket.
        return Overloaded(error.retry_after_s, "the storage of the service does not answer").message
    message = error.message
    for folder in _OWN_FOLDERS:
        message = message.replace(folder, "")
    if isinstance(error, CallerError):
        return message
    return _FOLDERS.sub("", _ADDRESSES.sub("the storage", message))


def _sendable(body: Any) -> Any:
    """Return a body as valid Unicode: lone surrogates are escaped."""
    if isinstance(body, str):
        return body.encode("utf-8", "backslashreplace").decode()
    if isinstance(body, dict):
        return {_sendable(name): _sendable(value) for name, value in body.items()}
    return [_sendable(value) for value in body] if isinstance(body, list) else body


def _ours(request: Request, error: Exception) -> JSONResponse:
    """Answer an error of this package; log those that are not the caller's."""
    assert isinstance(error, SpecServerError)
    # Refusals under load are many: they are counted, not logged. What does not answer is logged.
    if isinstance(error, Unavailable):
        _LOG.warning("%s %s: %s", request.method, request.url.path, error.message)
    elif not isinstance(error, (CallerError, TooOften, Overloaded)):
        _LOG.error("%s %s: %s", request.method, request.url.path, error.message)
    return answer(error)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Answer which parameters are missing or of the wrong type."""
    assert isinstance(error, RequestValidationError)
    details = [
        {"where": ".".join(str(part) for part in problem["loc"]), "problem": _problem(problem)}
        for problem in error.errors()
    ]
    # There may be thousands of wrong fields.
    details = details[:_MAX_PROBLEMS]
    message = "; ".join(f"{detail['where']}: {detail['problem']}" for detail in details)
    body = {"code": "invalid_request", "message": message, "details": jsonable_encoder(details)}
    return JSONResponse(_sendable(body), status_code=422)


def _problem(problem: dict[str, Any]) -> str:
    """Return what is wrong with a value, and the value where it is short."""
    given = problem.get("input")
    plain = given is None or isinstance(given, str | int | float)
    shown = f", not {given!r}" if plain and problem["type"] != "missing" else ""
    return str(problem["msg"]) + (shown if len(shown) < _MOST_SHOWN else "")


def _http(request: Request, error: Exception) -> JSONResponse:
    """Answer errors of the framework, such as an unknown path, in the same form."""
    assert isinstance(error, HTTPException)
    body = {"code": f"http_{error.status_code}", "message": str(error.detail)}
    headers = dict(error.headers or {})
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["Allow"] = _methods(request) or headers.get("Allow", "")
    return JSONResponse(body, status_code=error.status_code, headers=headers)


def _methods(request: Request) -> str:
    """Return all methods that a path knows; the framework names those of one function."""
    here, paths = request.scope["path"], request.app.openapi()["paths"]
    known = (
        paths[path] for path in paths if re.fullmatch(re.sub(r"{\w+}", ".*", path), here, re.DOTALL)
    )
    return ", ".join(sorted({method.upper() for methods in known for method in methods}))


def _gone(_: Request, __: Exception) -> Response:
    """End a request whose client went away before it had sent all; its connection logs this."""
    return Response(status_code=400)


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Answer an unforeseen error without details; the log has them."""
    _LOG.error("%s %s broke", request.method, request.url.path, exc_info=error)
    body = {"code": "service_error", "message": "internal error; the server's log has the details"}
    # This response is made outside the middleware that adds the request id.
    return JSONResponse(body, status_code=500, headers={"X-Request-ID": REQUEST_ID.get()})


HANDLERS: Final[dict[type[Exception], Callable[[Request, Exception], Response]]] = {
    SpecServerError: _ours,
    RequestValidationError: _invalid,
    HTTPException: _http,
    ClientDisconnect: _gone,
}
"""What answers an error that a request may raise, by its class."""


def install(app: FastAPI, data: DataRoot) -> None:
    """Make an application answer errors this way, without the path of its data folder."""
    _OWN_FOLDERS.update(f"{folder}/" for folder in data.names())
    for kind, handle in HANDLERS.items():
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(Exception, _unforeseen)
