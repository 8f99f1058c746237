"""The application: dialects mounted on one service."""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import FastAPI

from .. import __version__
from ..auth import TokenBook
from ..catalog.duckdb.database import Bounds, bound_database
from ..catalog.followed import open_database
from ..data.remote.options import CacheOptions
from ..data.root import SERVER_LOOK_S, open_root
from ..errors import SpecServerError
from ..processes import end_with_parent
from ..service import SpectroscopicService
from ..service.archive import Archive
from ..service.open_contexts import OpenContexts
from ..settings import Settings
from . import docs_page
from .dependencies import describe_security
from .dialects import find_routers
from .direct import DirectRoute, DirectRoutes
from .runtime import error_responses, health, metrics
from .runtime.concurrency import ConcurrencyLimits
from .runtime.connections import Connections
from .runtime.draining import Draining
from .runtime.log import DebugSwitch
from .runtime.receiving import Receiving
from .runtime.request_filter import RequestFilter
from .runtime.request_log import RequestLog

PREFIX = "/spec"
_LOG = logging.getLogger("specserver")
_INSPECT_S = 5.0
"""Time that the start waits for the search for damaged files, which goes on beside requests."""
_SWITCH_S = 0.001
"""How long a thread may keep the interpreter's lock from others: a fifth of what is usual.

An answer to a small request needs the lock several times while two threads do heavy work; its
longest wait became a third.
"""


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """Open the catalogues before the first request has to wait for them."""
    service: SpectroscopicService = app.state.service
    settings: Settings = app.state.settings
    sys.setswitchinterval(_SWITCH_S)
    to_thread.current_default_thread_limiter().total_tokens = settings.light_threads
    try:
        await asyncio.to_thread(service.archive.ensure_indexes)
        await asyncio.to_thread(service.warm_up)
    except SpecServerError as error:
        # Other contexts may be readable; a request for this one is answered with its error.
        _LOG.error("a catalogue cannot be opened: %s", error.message)
    looking = asyncio.create_task(asyncio.to_thread(service.archive.inspect))
    await asyncio.wait([looking], timeout=_INSPECT_S)
    # uvicorn passes this to each connection, and `DrainingServer` looks into it.
    yield {"connections": app.state.connections, "draining": app.state.draining}


def create_app(settings: Settings) -> FastAPI:
    """Return the application."""
    end_with_parent()
    app = FastAPI(
        title="specserver",
        version=__version__,
        summary="Survey spectra: found, fetched and looked at.",
        docs_url=None,
        redoc_url=None,
        # A redirect would contain the Host that the client sent.
        redirect_slashes=False,
        openapi_url=f"{PREFIX}/openapi.json",
        lifespan=_lifespan,
    )
    app.state.settings = settings
    bound_database(Bounds(settings.database_memory_bytes, settings.database_threads))
    app.state.data = open_root(
        settings.data, CacheOptions(settings.cache, settings.cache_bytes), look_s=SERVER_LOOK_S
    )
    database = open_database(settings.catalog.get_secret_value()) if settings.catalog else None
    app.state.service = SpectroscopicService(Archive(OpenContexts(app.state.data, database)))
    app.state.tokens = TokenBook(app.state.data)
    app.state.debug = DebugSwitch(app.state.data)
    app.state.metrics = metrics.Metrics()
    app.state.concurrency = ConcurrencyLimits(settings, app.state.metrics)
    app.state.connections = Connections(settings, app.state.metrics.connection_fault)
    app.state.draining = Draining(settings.drain_delay_s)
    app.state.readiness = health.Readiness(app.state.service, app.state.draining)
    routers = find_routers()
    direct = [
        route for router in routers for route in router.routes if isinstance(route, DirectRoute)
    ]
    app.add_middleware(DirectRoutes, routes={f"{PREFIX}{route.path}": route for route in direct})
    app.add_middleware(
        Receiving,
        connections=app.state.connections,
        max_bytes=settings.max_body_bytes,
        stored=f"{PREFIX}/vos/",
    )
    app.add_middleware(RequestFilter, settings=settings, tokens=app.state.tokens)
    app.add_middleware(
        RequestLog,
        metrics=app.state.metrics,
        first_byte_s=settings.first_byte_timeout_s,
        is_debugged=app.state.debug.is_on,
    )
    error_responses.install(app, app.state.data)
    for router in routers:
        app.include_router(router, prefix=PREFIX)
    app.include_router(metrics.router)
    app.include_router(health.router)
    app.include_router(docs_page.router, prefix=PREFIX)
    describe_security(app.openapi())
    error_responses.describe(app.openapi())
    return app
