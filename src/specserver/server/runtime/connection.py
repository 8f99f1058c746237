"""A connection of the HTTP server: that of uvicorn with limits of size and time.

The parser, httptools, takes lines and headers of any length, and uvicorn waits for ever for a
request to begin, for the rest of its body and for a reader to read.
"""

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from typing_extensions import override
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ...errors import BodyTooSlow, Overloaded, SpecServerError, TooMuch
from . import error_responses
from .connections import Connections
from .responses import ABORT, BREAK_OFF

# The parser counts the bytes of a URL in 16 bits.
_LONGEST_URL: Final = 2**16 - 1


class BoundedConnection(HttpToolsProtocol):
    """Refuses long headers; ends connections whose client neither sends nor reads."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        connections = app_state["connections"]
        assert isinstance(connections, Connections)
        self._all = connections
        self._settings = connections.settings
        self._head_bytes = 0
        self._in_head = True
        self._in_body = False
        self._has_asked = False
        self._body_began = self._last_data = 0.0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        if self._all.admit(self):
            self._await_head()
        else:
            self._refuse(Overloaded(error_responses.RETRY_AFTER_S))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all timers."""
        self._all.leave(self)
        if self._in_body and not self.cycle.response_started and not self.cycle.disconnected:
            self._all.tell("upload_broken_off", f"{self._who()} went away in the middle of a body")
        self._stop("head", "body", "reader")
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Pass data on, and count the bytes of request line and headers."""
        if self._in_head:
            self._head_bytes += len(data)
            if "head" not in self._timers:
                self._await_head()
        super().data_received(data)
        if self._in_body:
            self._await_body()
        limit = self._settings.max_header_bytes
        if self._in_head and self._head_bytes > limit and not self.transport.is_closing():
            self._refuse(TooMuch("bytes of headers", self._head_bytes, limit, "max_header_bytes"),
                         HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)  # fmt: skip

    @override
    def on_message_begin(self) -> None:
        """Begin a request; it may ask for the end of its connection."""
        super().on_message_begin()
        self._in_head = True
        ends = {ABORT: self.transport.abort, BREAK_OFF: self._break_off}
        self.scope["extensions"] = ends  # type: ignore[typeddict-item]

    @override
    def on_headers_complete(self) -> None:
        """Go on to the body."""
        # It raises an error for a URL that it cannot read. Then there is no request.
        super().on_headers_complete()
        self._in_head, self._in_body, self._head_bytes = False, True, 0
        self._has_asked = True
        self._all.busy(self)
        self._stop("head")

    @override
    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser cannot read."""
        nbytes = len(self.url or b"")
        if nbytes > _LONGEST_URL:
            error = TooMuch("bytes of a URL", nbytes, _LONGEST_URL)
            self._refuse(error, HTTPStatus.REQUEST_URI_TOO_LONG)
        else:
            super().send_400_response(msg)

    @override
    def on_message_complete(self) -> None:
        """Count what comes as the head of the next request."""
        super().on_message_complete()
        self._in_head, self._in_body = True, False
        self._stop("body")

    @override
    def on_response_complete(self) -> None:
        """Mark the connection as idle if no request is left."""
        super().on_response_complete()
        if not self.pipeline:
            self._all.idle(self)

    @override
    def pause_writing(self) -> None:
        """Begin to wait for the reader."""
        super().pause_writing()
        self._wait("reader", self._settings.send_timeout_s, self._end_reader)

    @override
    def resume_writing(self) -> None:
        """Stop the timer: the reader reads."""
        self._stop("reader")
        super().resume_writing()

    @override
    def _unsupported_upgrade_warning(self) -> None:
        """Answer requests for another protocol in HTTP/1.1, without a line in the log."""

    def end(self) -> None:
        """End the connection at once."""
        self.transport.abort()

    def stalled_s(self) -> float:
        """Return for how long the rest of a body has been waited for, s; 0: for none."""
        waits = self._in_body and not self.flow.read_paused
        return self.loop.time() - self._last_data if waits else 0.0

    def _break_off(self) -> None:
        """End the connection within an answer; the server's own complaint would say no more."""
        self.cycle.disconnected = True
        self.transport.close()

    def _wait(self, what: str, seconds: float, act: Callable[[], None]) -> None:
        """Call a function when what is waited for does not come in time."""
        self._timers[what] = self.loop.call_later(seconds, act)

    def _stop(self, *whats: str) -> None:
        """Wait no longer."""
        for what in whats:
            if timer := self._timers.pop(what, None):
                timer.cancel()

    def _await_head(self) -> None:
        self._wait("head", self._settings.head_timeout_s, self._end_head)

    def _end_head(self) -> None:
        self._all.tell("head_timeout", f"{self._who()} asked nothing in head_timeout_s")
        self.transport.abort()

    def _end_reader(self) -> None:
        self._all.tell("send_timeout", f"{self._who()} did not read its answer in send_timeout_s")
        self.transport.abort()

    def _await_body(self) -> None:
        self._last_data = self.loop.time()
        if "body" not in self._timers:
            self._body_began = self._last_data
            self._look_at_body()

    def _look_at_body(self) -> None:
        """End a body that has stalled, or that takes too long as a whole."""
        limits, now = self._settings, self.loop.time()
        if self.flow.read_paused:
            # The server has paused reading.
            self._last_data = now
        whole_s = limits.body_timeout_s * max(1.0, self._stated() / limits.max_body_bytes)
        stall_s = limits.body_stall_timeout_s
        left_s = min(self._last_data + stall_s, self._body_began + whole_s) - now
        if left_s > 0:
            self._wait("body", left_s, self._look_at_body)
            return
        stalled = now - self._last_data >= stall_s
        error = BodyTooSlow(*(
            (stall_s, "body_stall_timeout_s") if stalled else (whole_s, "body_timeout_s")
        ))  # fmt: skip
        self._all.tell("body_timeout", f"{self._who()}: {error.message}")
        if self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(error)

    def _stated(self) -> int:
        """Return the header Content-Length, bytes; 0 if there is none."""
        stated = dict(self.headers).get(b"content-length", b"")
        return int(stated) if stated.isdigit() else 0

    def _who(self) -> str:
        return self.client[0] if self.client else "a client"

    def _refuse(self, error: SpecServerError, status: HTTPStatus | None = None) -> None:
        """Answer with an error in place of the application, and end the connection."""
        begun = self._has_asked and self.cycle.response_started
        if begun and not self.cycle.response_complete:
            # An answer has begun: it cannot be replaced by an error.
            self.transport.abort()
            return
        answer = error_responses.answer(error)
        status = status or HTTPStatus(answer.status_code)
        body = bytes(answer.body)
        head = f"HTTP/1.1 {status.value} {status.phrase}\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in answer.headers.items())
        self.transport.write(f"{head}\r\n".encode() + body)
        self.transport.close()
        if self._has_asked:
            # The application sees this as a client that has gone away.
            self.cycle.disconnected = True
            self.cycle.message_event.set()
