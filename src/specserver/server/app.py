"""The application: dialects mounted on one service."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .. import __version__
from ..auth import TokenBook
from ..errors import SpecServerError, TooMuch
from ..processes import end_with_parent
from ..service import SpectroscopicService
from ..service.pictures import warm_up
from ..settings import Settings
from . import access, bulk, classic, composite, faults, match, metrics, pictures, vos
from .admission import Admission
from .exchange import Observed

PREFIX = "/spec"
_LOG = logging.getLogger("specserver")


class BodyLimit:
    """Refuse bodies beyond a limit, before they are held in memory."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting what it sends."""
        # Virtual storage bounds its uploads itself: it writes them to the disk as they come.
        stored = scope.get("method") == "PUT" and scope["path"].startswith(f"{PREFIX}/vos/")
        if scope["type"] != "http" or stored:
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(stated) if stated.isdigit() else 0
        if size > self.max_bytes:
            await self._refuse(size, scope, receive, send)
            return
        received = 0
        started = False

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # The framework turns an exception here into a 400 of its own: end the body instead.
            return message if received <= self.max_bytes else {"type": "http.disconnect"}

        async def watched(message: Message) -> None:
            nonlocal started
            if received <= self.max_bytes:
                started = True
                await send(message)

        try:
            await self.app(scope, counted, watched)
        except ClientDisconnect:
            if received <= self.max_bytes:
                raise
        if received > self.max_bytes and not started:
            await self._refuse(received, scope, receive, send)

    async def _refuse(self, size: int, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer that a body is too long, and end the connection: its rest is never read."""
        answer = faults.answer(TooMuch("bytes", size, self.max_bytes, "max_body_bytes"))
        answer.headers["Connection"] = "close"
        await answer(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the catalogues before the first request has to wait for them."""
    service: SpectroscopicService = app.state.service
    settings: Settings = app.state.settings
    to_thread.current_default_thread_limiter().total_tokens = settings.light_threads
    try:
        await asyncio.to_thread(service.warm_up)
        await asyncio.to_thread(warm_up, service)
    except SpecServerError as error:
        # Served all the same: other contexts may be well, and each request tells its own error.
        _LOG.error("a catalogue cannot be opened: %s", error.message)
    yield


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application; with no settings given they come from the environment."""
    end_with_parent()
    settings = settings or Settings()
    app = FastAPI(
        title="specserver",
        version=__version__,
        summary="Survey spectra: found, fetched and looked at.",
        docs_url=f"{PREFIX}/docs",
        redoc_url=None,
        openapi_url=f"{PREFIX}/openapi.json",
        lifespan=_lifespan,
    )
    app.state.settings = settings
    app.state.service = SpectroscopicService(settings.data)
    app.state.tokens = TokenBook(settings.data)
    app.state.debug = access.DebugSwitch(settings.data)
    app.state.metrics = metrics.Metrics()
    app.state.admission = Admission(settings)
    app.state.admission.on_change = app.state.metrics.tell_heavy
    app.state.admission.on_refusal = app.state.metrics.refused.inc
    app.add_middleware(BodyLimit, max_bytes=settings.max_body_bytes)
    app.add_middleware(access.DebugLog, switch=app.state.debug)
    app.add_middleware(
        Observed, metrics=app.state.metrics, first_byte_s=settings.first_byte_timeout_s
    )
    faults.install(app)
    # Routes are tried in this order: first those that are asked for most.
    app.include_router(bulk.router, prefix=PREFIX)
    app.include_router(classic.router, prefix=PREFIX)
    app.include_router(match.router, prefix=PREFIX)
    app.include_router(composite.router, prefix=PREFIX)
    app.include_router(pictures.router, prefix=PREFIX)
    app.include_router(access.router, prefix=PREFIX)
    app.include_router(vos.router, prefix=PREFIX)
    app.include_router(metrics.router)
    access.describe_security(app.openapi())
    faults.describe(app.openapi())
    return app
