"""What only administrators may do, how requests are logged, and how tokens are described.

===================  =============================================================================
``/shutdown``        stops the whole service, all its processes, once the answer has been sent
``/debug``           toggles the logging of every request by all processes; says the new state
===================  =============================================================================

Debug logging lasts until it is toggled again, also over a restart: ``<data>/debug`` is its switch.
"""

import logging
import os
import signal
from multiprocessing import parent_process
from pathlib import Path
from time import perf_counter
from typing import Any, Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.background import BackgroundTask
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import StoreError
from .deps import REFUSALS, Administrator
from .described import JSON, TEXT, answers

# Operations for which a token is a must; for all others it is a may.
CLOSED_TAGS: Final = frozenset({"administration", "storage"})

router = APIRouter(tags=["administration"], responses=REFUSALS)
_LOG = logging.getLogger("specserver")
_END: Final = answers("The service stops once this is sent.", TEXT)
_STATE: Final = answers("Whether requests are logged now.", JSON, example={"debug": True})


class DebugSwitch:
    """Whether every request is logged: a file in the data folder, so that all processes agree."""

    def __init__(self, data: Path) -> None:
        self._path = data / "debug"
        self._handler = logging.StreamHandler()
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))

    def is_on(self) -> bool:
        """Return whether requests are logged, and make this process' logger follow."""
        on = self._path.exists()
        if on != (self._handler in _LOG.handlers):
            (_LOG.addHandler if on else _LOG.removeHandler)(self._handler)
            _LOG.setLevel(logging.DEBUG if on else logging.NOTSET)
        return on

    def toggle(self) -> bool:
        """Change the state and return the new one."""
        on = not self._path.exists()
        try:
            if on:
                self._path.touch()
            else:
                self._path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(str(self._path), f"cannot be written ({error.strerror})") from error
        return on


class DebugLog:
    """Log each request when the switch is on: who, what, with which end, in which time."""

    def __init__(self, app: ASGIApp, switch: DebugSwitch) -> None:
        self.app = app
        self.switch = switch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with an eye on its answer."""
        if scope["type"] != "http" or not self.switch.is_on():
            await self.app(scope, receive, send)
            return
        began, status = perf_counter(), 0

        async def seen(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, seen)
        finally:
            caller = scope.get("state", {}).get("caller")
            user = caller.user if caller is not None else ""
            # %r: what a stranger sends must not write lines of its own into the log.
            _LOG.debug(
                "%s %r ?%r by %r: %d in %.4f s",
                scope["method"],
                scope["path"],
                scope["query_string"].decode("latin-1"),
                user or "anonymous",
                status,
                perf_counter() - began,
            )


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
    """Toggle debug logging and tell the new state: an administrator's token is needed."""
    switch: DebugSwitch = request.app.state.debug
    on = switch.toggle()
    _LOG.warning("debug logging %s by %s", "on" if on else "off", caller.user)
    return JSONResponse({"debug": on})


def describe_security(schema: dict[str, Any]) -> None:
    """Say in an OpenAPI description that a token may be left out where no door is closed."""
    for operations in schema["paths"].values():
        for operation in operations.values():
            security = operation.get("security")
            if security and CLOSED_TAGS.isdisjoint(operation.get("tags", ())):
                if {} not in security:
                    security.append({})
                operation["responses"].setdefault("401", REFUSALS[401])


def _stop() -> None:
    """Ask the process that leads the service to end it: the one that spawned this one, or this."""
    # With several workers uvicorn's supervisor is their parent, and would replace a worker that
    # only ended itself. Both take SIGINT for a regular end: what runs is finished first.
    parent = parent_process()
    pid = parent.pid if parent is not None and parent.pid is not None else os.getpid()
    os.kill(pid, signal.SIGINT)
