"""Endpoints for administrators: end the service, toggle debug logging."""

import logging
import os
import signal
from multiprocessing import parent_process
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.background import BackgroundTask

from ...wire.media_types import JSON, TEXT
from ..dependencies import REFUSALS, Administrator
from ..openapi import answers
from ..runtime.log import DebugSwitch

ORDER: Final = 5
router = APIRouter(tags=["administration"], responses=REFUSALS)
_LOG = logging.getLogger("specserver")
_END: Final = answers("The service stops once this is sent.", TEXT)
_STATE: Final = answers("Whether requests are logged now.", JSON, example={"debug": True})


@router.get(
    "/shutdown", summary="Stop the service", response_class=PlainTextResponse, responses=_END
)
@router.post(
    "/shutdown", summary="Stop the service", response_class=PlainTextResponse, responses=_END
)
def shutdown(caller: Administrator) -> PlainTextResponse:
    """Stop the service: an administrator's token is needed."""
    _LOG.warning("shut down by %s", caller.user)
    return PlainTextResponse("OK: the service stops\n", background=BackgroundTask(_stop))


@router.get("/debug", summary="Toggle debug logging", responses=_STATE)
@router.post("/debug", summary="Toggle debug logging", responses=_STATE)
def debug(request: Request, caller: Administrator) -> JSONResponse:
    """Toggle debug logging and return the new state. Needs an administrator's token."""
    switch: DebugSwitch = request.app.state.debug
    on = switch.toggle()
    _LOG.warning("debug logging %s by %s", "on" if on else "off", caller.user)
    return JSONResponse({"debug": on})


def _stop() -> None:
    """Send SIGTERM to the main process of the service: a worker's parent, else this process."""
    # With several workers uvicorn's supervisor is their parent, and would replace a worker that
    # only ended itself. Both end regularly on SIGTERM: they finish running requests first.
    parent = parent_process()
    pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
    os.kill(pid, signal.SIGTERM)
