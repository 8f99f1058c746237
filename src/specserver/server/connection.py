"""A connection of our HTTP server: uvicorn's, with bounds on what a client may hold of it.

The parser, httptools, takes lines and headers of any length, and uvicorn waits for ever for a
request to begin and for a reader to read.
"""

import asyncio
from functools import cache

from typing_extensions import override
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from ..errors import TooMuch
from ..settings import Settings
from . import faults
from .lanes import ABORT


@cache
def _limits() -> Settings:
    """Return the settings of this process, which the application reads as well."""
    return Settings()


class BoundedConnection(HttpToolsProtocol):
    """Refuses long heads; ends connections that ask nothing, or read nothing."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._head_bytes = 0
        self._in_head = True
        self._head_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._await_head()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Stop all clocks."""
        for timer in (self._head_timer, self._read_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._read_timer = None
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        """Pass data on, counting those that come before the end of a head."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
        super().data_received(data)
        limit = _limits().max_header_bytes
        if self._in_head and self._head_bytes > limit and not self.transport.is_closing():
            self._refuse(limit)

    @override
    def on_message_begin(self) -> None:
        """Begin a request; it may ask for the end of its connection."""
        super().on_message_begin()
        self._in_head = True
        self.scope["extensions"] = {ABORT: self.transport.abort}  # type: ignore[dict-item]

    @override
    def on_headers_complete(self) -> None:
        """Go on to the body, of which others know how long it may be."""
        self._in_head, self._head_bytes = False, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    @override
    def on_message_complete(self) -> None:
        """Count what comes as the head of the next request."""
        super().on_message_complete()
        self._in_head = True

    @override
    def pause_writing(self) -> None:
        """Begin to wait for the reader."""
        super().pause_writing()
        self._read_timer = self.loop.call_later(_limits().send_timeout_s, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        """Take note that the reader reads."""
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None
        super().resume_writing()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(_limits().head_timeout_s, self.transport.abort)

    def _refuse(self, limit: int) -> None:
        """Say what is too long, and end the connection."""
        error = TooMuch("bytes of headers", self._head_bytes, limit, "max_header_bytes")
        body = bytes(faults.answer(error).body)
        head = "HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)
        self.transport.close()
