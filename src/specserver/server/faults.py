"""Errors as answers: JSON ``{code, message}`` with a fitting status, never 200."""

import logging
from typing import Final

from fastapi import FastAPI, Request
from fastapi.encoders import jsonable_encoder
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from ..errors import (
    CallerError,
    MixedLattices,
    NotAllowed,
    NotFound,
    Overloaded,
    SpecServerError,
    TooMuch,
    UnknownCatalog,
    UnknownContext,
    UnknownProfile,
)

_LOG = logging.getLogger("specserver")
_RETRY_AFTER_S: Final = 2
_STATUS: Final[tuple[tuple[type[SpecServerError], int], ...]] = (
    (UnknownContext, 404),
    (UnknownProfile, 404),
    (UnknownCatalog, 404),
    (NotFound, 404),
    (NotAllowed, 403),
    (MixedLattices, 409),
    (TooMuch, 413),
    (CallerError, 400),
    (Overloaded, 503),
    (SpecServerError, 500),
)


def answer(error: SpecServerError) -> JSONResponse:
    """Return the answer that tells an error."""
    status = next(status for kind, status in _STATUS if isinstance(error, kind))
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if status == 503 else None
    body = {"code": error.code, "message": error.message}
    return JSONResponse(body, status_code=status, headers=headers)


def _ours(request: Request, error: Exception) -> JSONResponse:
    """Tell an error of the house; log those that are not the caller's."""
    assert isinstance(error, SpecServerError)
    if not isinstance(error, CallerError):
        _LOG.error("%s %s: %s", request.method, request.url.path, error.message)
    return answer(error)


def _invalid(_: Request, error: Exception) -> JSONResponse:
    """Tell which parameters are missing or of the wrong type."""
    assert isinstance(error, RequestValidationError)
    details = [
        {"where": ".".join(str(part) for part in one["loc"]), "problem": one["msg"]}
        for one in error.errors()
    ]
    message = "; ".join(f"{one['where']}: {one['problem']}" for one in details)
    body = {"code": "invalid_request", "message": message, "details": jsonable_encoder(details)}
    return JSONResponse(body, status_code=422)


def _http(_: Request, error: Exception) -> JSONResponse:
    """Tell errors of the framework, such as an unknown path, in the same form."""
    assert isinstance(error, HTTPException)
    body = {"code": f"http_{error.status_code}", "message": str(error.detail)}
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    """Tell that something broke, without telling strangers what; the log has it all."""
    _LOG.error("%s %s broke", request.method, request.url.path, exc_info=error)
    body = {"code": "service_error", "message": "internal error; the server's log has the details"}
    return JSONResponse(body, status_code=500)


def install(app: FastAPI) -> None:
    """Make an application tell its errors this way."""
    app.add_exception_handler(SpecServerError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _unforeseen)
