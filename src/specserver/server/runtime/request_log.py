"""The log of requests: each has an id, is timed and counted, and must be answered in time."""

import asyncio
import logging
import re
import secrets
from collections.abc import Callable
from time import perf_counter
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...errors import TooSlow
from . import error_responses
from .log import ACCESS, REQUEST_ID
from .metrics import Metrics

_LOG = logging.getLogger("specserver")
_SANE: Final = re.compile(rb"[A-Za-z0-9._:-]{1,64}")
_HEADER: Final = b"x-request-id"
# Browsers must not guess that an answer is a page.
_NO_GUESS: Final = (b"x-content-type-options", b"nosniff")
_SERVER_ERROR: Final = 500
# Methods of HTTP; any other text of a client gets one label.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class RequestLog:
    """Middleware around all others.

    Parameters
    ----------
    first_byte_s : longest time from a request to the first byte of its answer, s
    is_debugged : says whether a debug line is written for each request, to the log of the service
    """

    def __init__(
        self, app: ASGIApp, metrics: Metrics, first_byte_s: float, is_debugged: Callable[[], bool]
    ) -> None:
        self.app = app
        self.metrics = metrics
        self.first_byte_s = first_byte_s
        self.is_debugged = is_debugged

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it when it is answered."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self.first_byte_s)
        is_debugged = self.is_debugged()
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except BaseException:
            exchange.status = exchange.status or _SERVER_ERROR
            raise
        finally:
            await exchange.end()
            exchange.count(self.metrics)
            if ACCESS.isEnabledFor(logging.INFO):
                exchange.log()
            if is_debugged:
                exchange.debug()


class _Exchange:
    """One request with its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, first_byte_s: float) -> None:
        self.scope = scope
        self.status = 0
        self.nbytes = 0
        self.complete = False
        self.first_s = 0.0
        self._receive, self._send = receive, send
        self._name = _name_of(scope)
        REQUEST_ID.set(self._name.decode())
        self._late: asyncio.Task[None] | None = None
        self._limit_s = first_byte_s
        self._loop = asyncio.get_running_loop()
        self._began = self._asked = perf_counter()
        self._timer = self._loop.call_later(first_byte_s, self._look)

    async def receive(self) -> Message:
        """Hand on what the client sends; its time to wait begins when it has sent all."""
        message = await self._receive()
        if self._late is not None:
            return {"type": "http.disconnect"}
        self._asked = perf_counter()
        return message

    async def send(self, message: Message) -> None:
        """Hand on the answer, unless another one was given in its place."""
        if self._late is not None:
            return
        if message["type"] == "http.response.start":
            self._timer.cancel()
            self.first_s = perf_counter() - self._began
        await self._hand_on(message)

    async def end(self) -> None:
        """Stop the timer."""
        self._timer.cancel()
        if self._late is not None:
            await self._late

    def count(self, metrics: Metrics) -> None:
        """Count the exchange."""
        metrics.count_transfers()
        method = self.scope["method"] if self.scope["method"] in _METHODS else "other"
        endpoint = self._endpoint()
        metrics.requests.labels(endpoint, method, str(self.status)).inc()
        metrics.seconds.labels(endpoint, method).observe(perf_counter() - self._began)
        metrics.nbytes.labels(endpoint).inc(self.nbytes)
        if self.status:
            metrics.first_byte.labels(endpoint, method).observe(self.first_s)
        if not self.complete:
            metrics.broken_off.inc()
        elif nspec := self.scope.get("state", {}).get("nspec"):
            metrics.nspec.labels(endpoint).inc(nspec)

    def log(self) -> None:
        """Write the line of the exchange."""
        state = self.scope.get("state", {})
        caller = state.get("caller")
        client = self.scope.get("client")
        known: dict[str, Any] = {
            "method": self.scope["method"],
            "path": self.scope["path"],
            "route": self._endpoint(),
            "status": self.status,
            "seconds": round(perf_counter() - self._began, 6),
            "first_byte_s": round(self.first_s, 6),
            "bytes": self.nbytes,
            "spectra": state.get("nspec", 0),
            "complete": self.complete,
            "user": caller.user if caller is not None else "",
            "client": client[0] if client else "",
        }
        ACCESS.info("request", extra={"exchange": known})

    def debug(self) -> None:
        """Write the line of the exchange for an administrator who debugs."""
        caller = self.scope.get("state", {}).get("caller")
        # %r: a client must not be able to write lines of its own into the log.
        _LOG.debug(
            "%s %r ?%r by %r: %d in %.4f s",
            self.scope["method"],
            self.scope["path"],
            self.scope["query_string"].decode("latin-1"),
            (caller.user if caller is not None else "") or "anonymous",
            self.status,
            perf_counter() - self._began,
        )

    async def _hand_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message["headers"], (_HEADER, self._name), _NO_GUESS]
            message = {**message, "headers": headers}
        await self._send(message)
        if message["type"] == "http.response.body":
            self.nbytes += len(message.get("body", b""))
            self.complete = not message.get("more_body", False)

    def _look(self) -> None:
        """Answer with an error if the answer is late."""
        left_s = self._limit_s - (perf_counter() - self._asked)
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._look)
        else:
            self._late = asyncio.create_task(self._tell_late())

    async def _tell_late(self) -> None:
        """Answer in place of the late endpoint; its work ends at its next check for the client."""
        late = error_responses.answer(TooSlow(self._limit_s))
        await late(self.scope, self._receive, self._hand_on)

    def _endpoint(self) -> str:
        """Return the path of the endpoint as it is declared, for bounded labels."""
        declared = getattr(self.scope.get("route"), "path", None)
        if declared is None:
            return "none"
        # Paths are declared without the prefix; /metrics and /health have none.
        return declared if self.scope["path"] == declared else f"/spec{declared}"


def _name_of(scope: Scope) -> bytes:
    """Return the name that the client, or a proxy, gave to a request, or one made here."""
    for key, value in scope["headers"]:
        if key == _HEADER and _SANE.fullmatch(value):
            return bytes(value)
    return secrets.token_hex(8).encode()
