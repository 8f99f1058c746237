"""Debug logging: a line for each request, while an administrator has switched it on.

It lasts until it is toggled again, also over a restart: ``<data>/debug`` is its switch.
"""

import logging
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...data.root import DataRoot
from ...errors import StoreError

_LOG = logging.getLogger("specserver")


class DebugSwitch:
    """Whether every request is logged: a file in the data folder, so that all processes agree."""

    def __init__(self, data: DataRoot) -> None:
        self._file = data.debug
        self._handler = logging.StreamHandler()
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))

    def is_on(self) -> bool:
        """Return whether requests are logged, and make this process' logger follow."""
        on = self._file.exists()
        if on != (self._handler in _LOG.handlers):
            (_LOG.addHandler if on else _LOG.removeHandler)(self._handler)
            _LOG.setLevel(logging.DEBUG if on else logging.NOTSET)
        return on

    def toggle(self) -> bool:
        """Change the state and return the new one."""
        on = not self._file.exists()
        try:
            if on:
                self._file.replace(b"")
            else:
                self._file.delete()
        except OSError as error:
            raise StoreError(str(self._file), f"cannot be written ({error.strerror})") from error
        return on


class DebugLog:
    """Log each request when the switch is on: who, what, with which end, in which time."""

    def __init__(self, app: ASGIApp, switch: DebugSwitch) -> None:
        self.app = app
        self.switch = switch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and log it when it is answered."""
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
            # %r: a client must not be able to write lines of its own into the log.
            _LOG.debug(
                "%s %r ?%r by %r: %d in %.4f s",
                scope["method"],
                scope["path"],
                scope["query_string"].decode("latin-1"),
                user or "anonymous",
                status,
                perf_counter() - began,
            )
