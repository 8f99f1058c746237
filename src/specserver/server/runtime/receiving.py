"""Limits of bodies while they are received: of each, and of all in a process together."""

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import Overloaded, SpecServerError, TooMuch
from . import error_responses
from .connections import FREE_BYTES, Connections


class Receiving:
    """Middleware that refuses a body beyond a limit before it is held in memory.

    Parameters
    ----------
    connections : gives the memory for bodies
    max_bytes : longest body
    stored
        Beginning of the paths whose ``PUT`` bodies are written to the disk as they come, within
        limits of their own.
    """

    def __init__(self, app: ASGIApp, connections: Connections, max_bytes: int, stored: str) -> None:
        self.app = app
        self.connections = connections
        self.max_bytes = max_bytes
        self.stored = stored

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, counting what it sends."""
        stored = scope.get("method") == "PUT" and scope["path"].startswith(self.stored)
        if scope["type"] != "http" or stored:
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"0")
        size = int(stated) if stated.isdigit() else 0
        if size > self.max_bytes:
            await self._refuse(self._too_long(size), scope, receive, send)
            return
        body = _Body(self, receive, send)
        try:
            await self.app(scope, body.receive, body.send)
        except ClientDisconnect:
            if body.refusal is None:
                raise
        finally:
            self.connections.give_back(body.taken)
        if body.refusal is not None and not body.started:
            await self._refuse(body.refusal, scope, receive, send)

    async def _refuse(
        self, error: SpecServerError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer why a body is not received."""
        answer = error_responses.answer(error)
        if not isinstance(error, Overloaded):
            # The rest of this body is not read. After Overloaded it is read and dropped: a
            # client that cannot send all may never read Retry-After.
            answer.headers["Connection"] = "close"
        await answer(scope, receive, send)

    def _too_long(self, size: int) -> TooMuch:
        return TooMuch("bytes", size, self.max_bytes, "max_body_bytes")


class _Body:
    """One body that is being received, and held until its request is answered."""

    def __init__(self, receiving: Receiving, receive: Receive, send: Send) -> None:
        self.taken = 0
        self.started = False
        self.refusal: SpecServerError | None = None
        self._receiving, self._receive, self._send = receiving, receive, send
        self._received = 0

    async def receive(self) -> Message:
        """Hand a piece on, if there is memory for it."""
        message = await self._receive()
        body = message.get("body")
        if body:
            self._received += len(body)
            self.refusal = self.refusal or self._take()
        # The framework turns an exception here into a 400 of its own: end the body instead.
        return message if self.refusal is None else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Hand the answer on, unless a refusal takes its place."""
        if self.refusal is None or self.started:
            self.started = True
            await self._send(message)

    def _take(self) -> SpecServerError | None:
        """Reserve memory for what has been received; return the error if there is none."""
        if self._received > self._receiving.max_bytes:
            return self._receiving._too_long(self._received)  # noqa: SLF001  # the same module
        wanted = self._received - FREE_BYTES - self.taken
        if wanted > 0:
            try:
                self._receiving.connections.take(wanted)
            except Overloaded as error:
                return error
            self.taken += wanted
        return None
