"""Answers: light ones are made at once, heavy ones a batch at a time."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, suppress
from functools import partial
from typing import Annotated, Any, Final

from anyio import CancelScope, to_thread
from fastapi import Depends, Request
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from ...errors import CallerError, OldProtocol, SpecServerError
from ...formats import registry
from ...formats.arrow import BrokenOff
from ...formats.registry import Structure
from ...model.region import Cone
from ...service import QueryRequest
from ...service.limits import HeavyWork
from ...settings import Settings
from ...wire.media_types import ARROW
from .bodies import check_json
from .concurrency import AnswerSlot, ConcurrencyLimits
from .error_responses import message_for_visitors
from .request_filter import CALLER

_LOG = logging.getLogger("specserver")
ABORT: Final = "specserver.abort"
"""ASGI extension of our own server: ends a connection without waiting for its reader."""
BREAK_OFF: Final = "specserver.break_off"
"""ASGI extension of our own server: ends a connection in an answer when what was sent has gone."""
PIECE_BYTES: Final = 256 * 2**10
"""Bytes handed to the connection at a time; it holds them beside their batch."""
# Some 5,000 identifiers: the search takes a thread tens of milliseconds.
_LONG_BODY_BYTES: Final = 100_000

HEAVY: Final = 2**31
"""The cost of a request that is always heavy."""
_SMALL_DEG: Final = 1.0

Pieces = Iterator[bytes]


class Streamed(Response):
    """A heavy answer: made a piece at a time, and never faster than its reader takes it.

    Parameters
    ----------
    make : returns the pieces; what it raises before the first one is answered as an error
    """

    def __init__(
        self,
        make: Callable[[], Pieces],
        limits: ConcurrencyLimits,
        media_type: str,
        headers: Mapping[str, str] | None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(headers)
        self._make = make
        self._limits = limits

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, and stop all work behind it when the client goes away.

        Raises `OldProtocol` if the client would not see that the answer breaks off.
        """
        if scope["http_version"] == "1.0" and "content-length" not in self.headers:
            raise OldProtocol(scope["http_version"])
        with CancelScope() as work:
            extensions = scope.get("extensions", {})
            cut: Callable[[], None] = extensions.get(ABORT, work.cancel)
            listener = asyncio.create_task(_when_gone(receive, work.cancel))
            try:
                caller = scope["state"].get(CALLER)
                async with (
                    self._limits.answer_slot(cut, caller) as slot,
                    aclosing(self._made()) as made,
                ):
                    if not await self._send(made, slot, send):
                        extensions.get(BREAK_OFF, work.cancel)()
            finally:
                listener.cancel()

    async def _made(self) -> AsyncGenerator[bytes, None]:
        """Yield the pieces, each made in a work slot."""
        run = self._limits.run
        pieces = await run(lambda: iter(self._make()))
        try:
            while True:
                piece = await run(next, pieces, None)
                if piece is None:
                    return
                yield piece
                # Free the memory before the next wait for a work slot.
                del piece
        finally:
            # Left to the garbage collector, its files would stay open. No thread is in it, as work
            # ends before its cancellation is noticed, except when the process is being ended.
            with suppress(ValueError, AttributeError):
                pieces.close()  # type: ignore[attr-defined]

    async def _send(self, made: AsyncIterator[bytes], slot: AnswerSlot, send: Send) -> bool:
        """Send pieces as they come, in parts that show whether the reader takes them.

        Returns whether these were all. Errors before the first byte are raised.
        """
        begun = False
        try:
            async for piece in made:
                if not piece:
                    continue
                if not begun:
                    await send(self._head())
                    begun = True
                await self._send_piece(piece, slot, send)
                del piece
        except (BrokenOff, SpecServerError) as end:
            error = end.error if isinstance(end, BrokenOff) else end
            if not begun:
                raise error from end
            level = logging.INFO if isinstance(error, CallerError) else logging.ERROR
            _LOG.log(level, "an answer breaks off: %s", error.message)
            if isinstance(end, BrokenOff):
                words = end.last_words(message_for_visitors(error))
                await self._send_piece(words, slot, send)
            # The body has no end mark, so the connection is closed: every client notices that.
            return False
        if not begun:
            await send(self._head())
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        return True

    async def _send_piece(self, piece: bytes, slot: AnswerSlot, send: Send) -> None:
        """Send a piece in parts."""
        now = asyncio.get_running_loop().time
        view = memoryview(piece)
        for at in range(0, len(view), PIECE_BYTES):
            slot.sending_since = now()
            await send(
                {
                    "type": "http.response.body",
                    "body": view[at : at + PIECE_BYTES],
                    "more_body": True,
                }
            )
        slot.sending_since = None

    def _head(self) -> dict[str, object]:
        return {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }


class Responder:
    """Makes the response to one request: at once if it is light, else within the limits.

    Parameters
    ----------
    request : its state takes the number of spectra, for log and metrics
    """

    def __init__(self, request: Request) -> None:
        self._state = request.state
        self._accept = request.headers.get("accept", "")
        self._limits: ConcurrencyLimits = request.app.state.concurrency
        settings: Settings = request.app.state.settings
        self._light_spectra = settings.light_spectra

    def accepted(self, structure: type, default: str = ARROW) -> str:
        """Return the media type of a structure that the header ``Accept`` asks for."""
        return registry.negotiate(structure, self._accept, default)

    def send(
        self,
        structure: type[Structure],
        make: Callable[[], Structure],
        media_type: str,
        *,
        nspec: int = 0,
        cost: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return a structure, which ``make`` returns, in one media type; else as `answer`."""
        return self.answer(
            lambda: registry.write(structure, make(), media_type),
            media_type,
            nspec=nspec,
            cost=cost,
            headers=headers,
        )

    def answer(
        self,
        make: Callable[[], Pieces],
        media_type: str,
        *,
        nspec: int = 0,
        cost: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        """Return an answer: made now when it is light, else in parts when it is heavy.

        Parameters
        ----------
        make : returns the pieces of the body
        nspec : spectra that are served
        cost : spectra that have to be read, or what is worth as many; None: those served
        """
        self._state.nspec = nspec
        if (nspec if cost is None else cost) > self._light_spectra:
            return Streamed(make, self._limits, media_type, headers)
        try:
            return Response(b"".join(make()), media_type=media_type, headers=headers)
        except BrokenOff as end:
            raise end.error from end


def query_cost(asked: QueryRequest) -> int:
    """Return the cost of a query: 0 for a small cone without a condition."""
    region = asked.region
    small = isinstance(region, Cone) and region.radius_deg <= _SMALL_DEG
    return 0 if small and not asked.constraint else HEAVY


class LimitedRoute(APIRoute):
    """A route whose endpoint works in a heavy slot when it is given much to find.

    That is a long body, or one for which the endpoint raises `HeavyWork` before it begins.
    """

    @override
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request."""
        handle = super().get_route_handler()

        async def in_limits(request: Request) -> Response:
            return await answer_in_limits(request, handle)

        return in_limits


async def answer_in_limits(
    request: Request, handle: Callable[[Request], Coroutine[Any, Any, Response]]
) -> Response:
    """Return the answer of ``handle`` to a request, given in a heavy slot if that is needed."""
    nbytes = len(await request.body())
    await _check(request)
    request.state.is_light = nbytes <= _LONG_BODY_BYTES
    if request.state.is_light:
        with suppress(HeavyWork):
            return await handle(request)
        request.state.is_light = False
    limits: ConcurrencyLimits = request.app.state.concurrency
    async with limits.answer_and_work_slot(request.scope["state"].get(CALLER)):
        return await handle(request)


async def _check(request: Request) -> None:
    """Check the JSON of a request, wherever the framework would parse it."""
    body = await request.body()
    kind = request.headers.get("content-type", "")
    if "json" not in kind.lower() and (kind or body.lstrip()[:1] not in {b"{", b"["}):
        return
    check = partial(check_json, body, request.app.state.settings)
    # The check takes milliseconds for each megabyte.
    if len(body) > _LONG_BODY_BYTES:
        await to_thread.run_sync(check)
    else:
        check()


async def _when_gone(receive: Receive, act: Callable[[], None]) -> None:
    """Call a function when the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
    act()


async def get_responder(request: Request) -> Responder:
    """Return the object that answers a request to a `LimitedRoute`."""
    return Responder(request)


# The route itself waits for its slots: a dependency that ends would cost 30 µs of each request.
RouteResponder = Annotated[Responder, Depends(get_responder)]
