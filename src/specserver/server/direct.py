"""Routes of small requests: described by FastAPI, and answered without its way to an endpoint.

FastAPI and Starlette lead a request to its endpoint through some fifteen layers, which took half
the time of a small one. `DirectRoutes` stands beneath the middleware that all requests pass, and
hands requests for a `DirectRoute` to it; the route reads the body and calls the endpoint itself.
"""

import json
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, get_type_hints

from anyio import to_thread
from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from ..wire.media_types import JSON
from .dependencies import BEARER, KEY, get_service
from .runtime.error_responses import HANDLERS
from .runtime.responses import LimitedRoute, Responder, answer_in_limits

_GIVEN: Final = frozenset({"responder", "service", "settings"})
"""Parameters that an endpoint may have besides ``request``, its JSON body."""


class DirectRoute(LimitedRoute):
    """A route that calls its endpoint itself.

    The endpoint is a function of ``responder`` and ``request``, the model of its JSON body; it may
    take ``service`` and ``settings``. FastAPI's description is made of the same annotations.
    """

    def __init__(self, path: str, endpoint: Callable[..., Response], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        hints = get_type_hints(endpoint)
        self._model: type[BaseModel] = hints.pop("request")
        self._takes = frozenset(hints) - {"return"}
        if unknown := self._takes - _GIVEN:
            raise TypeError(f"{endpoint.__name__} takes {sorted(unknown)}: it needs a LimitedRoute")

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return `respond`: a request that the framework brings here is answered likewise."""
        return self.respond

    async def respond(self, request: Request) -> Response:
        """Answer a request."""
        return await answer_in_limits(request, self._call)

    async def _call(self, request: Request) -> Response:
        """Read the body, and call the endpoint in a thread."""
        asked = self._read(await request.body(), request.headers.get("content-type", ""))
        given = {
            "responder": Responder(request),
            "service": await get_service(request, await KEY(request), await BEARER(request)),
            "settings": request.app.state.settings,
        }
        taken = {name: given[name] for name in self._takes}
        return await to_thread.run_sync(partial(self.endpoint, request=asked, **taken))

    def _read(self, body: bytes, content_type: str) -> BaseModel:
        """Return the fields of a body; errors are those that FastAPI raises."""
        kind = content_type.partition(";")[0].strip().lower()
        try:
            if not body:
                raise _invalid({"type": "missing", "loc": (), "msg": "Field required"})
            is_json = kind == JSON or (kind.startswith("application/") and kind.endswith("+json"))
            fields = json.loads(body) if is_json else body
            return self._model.model_validate(fields, from_attributes=True)
        except ValidationError as error:
            raise _invalid(*error.errors(include_url=False)) from error
        except json.JSONDecodeError as error:
            said = {"type": "json_invalid", "msg": "JSON decode error", "input": {}}
            raise _invalid(said | {"loc": (error.pos,)}) from error
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "There was an error parsing the body") from error


def _invalid(*problems: Mapping[str, Any]) -> RequestValidationError:
    """Return the error of a body with faults."""
    return RequestValidationError(
        [{**problem, "loc": ("body", *problem["loc"])} for problem in problems]
    )


class DirectRoutes:
    """Middleware that hands requests for direct routes to them, and all others on.

    Parameters
    ----------
    routes : by path
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, DirectRoute]) -> None:
        self.app = app
        self.routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        route = self.routes.get(scope["path"]) if scope["type"] == "http" else None
        if route is None or scope["method"] not in (route.methods or ()):
            await self.app(scope, receive, send)
            return
        scope["route"] = route
        request = Request(scope, receive)
        try:
            response = await route.respond(request)
            await response(scope, receive, send)
        except tuple(HANDLERS) as error:
            handle = next(HANDLERS[kind] for kind in type(error).mro() if kind in HANDLERS)
            await handle(request, error)(scope, receive, send)
