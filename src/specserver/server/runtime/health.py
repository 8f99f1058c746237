"""Whether this server is alive, and whether it should be sent requests: for what is in front."""

import asyncio
import logging
import time
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from ... import __version__
from ...errors import NewerFormat, Overloaded, SpecServerError
from ...service import SpectroscopicService
from ...wire.media_types import JSON
from ..openapi import answers
from .draining import Draining
from .error_responses import RETRY_AFTER_S, error_responses

_LOG = logging.getLogger("specserver")
_WAIT_S: Final = 2.0
"""Longest time for a look at the data: a file system may hang."""
_KEPT_S: Final = 1.0
"""How long the result of a look is kept: many may ask."""

router = APIRouter(prefix="/health", tags=["operation"])


class Readiness:
    """Whether a process can answer requests for data."""

    def __init__(self, service: SpectroscopicService, draining: Draining) -> None:
        self._archive = service.archive
        self._draining = draining
        self._look: asyncio.Task[int] | None = None
        self._looked = 0.0
        self._reason = ""

    async def require(self) -> int:
        """Return the number of contexts that can be read.

        Raises
        ------
        Overloaded
            The server is being stopped, or the data cannot be read.
        """
        try:
            ncontexts = await self._checked()
        except Overloaded as error:
            self._tell(error.message)
            raise
        self._tell("")
        return ncontexts

    async def _checked(self) -> int:
        """Return what `require` does; one look at a time, as one that hangs holds a thread."""
        if self._draining.has_begun:
            raise Overloaded(RETRY_AFTER_S, "this server is being stopped")
        is_done = self._look is None or self._look.done()
        if is_done and time.monotonic() - self._looked > _KEPT_S:
            self._look = asyncio.create_task(asyncio.to_thread(self._count_contexts))
            # Nobody may be left to take the error of one that has hung.
            self._look.add_done_callback(lambda look: look.cancelled() or look.exception())
            self._looked = time.monotonic()
        assert self._look is not None
        done, _ = await asyncio.wait([self._look], timeout=_WAIT_S)
        if not done:
            raise Overloaded(RETRY_AFTER_S, f"the data folder does not answer in {_WAIT_S:g} s")
        return self._look.result()

    def _count_contexts(self) -> int:
        """Return how many contexts can be read; raise `Overloaded` if there are some and none can.

        One that a newer version has written is an error, too: servers that are updated can read it.
        """
        faults = []
        try:
            self._archive.data.require()
            names = self._archive.names()
            for name in names:
                try:
                    self._archive.info(name)
                except NewerFormat:
                    raise
                except SpecServerError as error:
                    faults.append(error.message)
        except Overloaded:
            raise
        except SpecServerError as error:
            raise Overloaded(RETRY_AFTER_S, error.message) from error
        except OSError as error:
            reason = f"the data folder cannot be read ({error.strerror})"
            raise Overloaded(RETRY_AFTER_S, reason) from error
        if faults and len(faults) == len(names):
            raise Overloaded(RETRY_AFTER_S, faults[0])
        return len(names) - len(faults)

    def _tell(self, reason: str) -> None:
        """Log a change."""
        if reason != self._reason:
            _LOG.warning("not ready: %s", reason) if reason else _LOG.warning("ready again")
            self._reason = reason


@router.get(
    "/live",
    summary="State whether the process answers",
    responses=answers("It does.", JSON, example={"status": "live", "version": __version__}),
)
async def live() -> JSONResponse:
    """Answer, if the process is alive: one that does not answer should be started again."""
    return JSONResponse({"status": "live", "version": __version__})


@router.get(
    "/ready",
    summary="State whether to send requests",
    responses=answers(
        "The data can be read.",
        JSON,
        example={"status": "ready", "version": __version__, "contexts": 2},
    )
    | error_responses(503),
)
async def ready(request: Request) -> JSONResponse:
    """Return whether requests should be sent here: not while the server is being stopped.

    Nor while the data folder cannot be read, no context of it can, or a newer version wrote one.
    """
    readiness: Readiness = request.app.state.readiness
    ncontexts = await readiness.require()
    return JSONResponse({"status": "ready", "version": __version__, "contexts": ncontexts})
