"""The end of a server: it stays for a while that others can notice, then finishes its answers."""

import logging
import time
from types import FrameType

from typing_extensions import override
from uvicorn import Server

_LOG = logging.getLogger("specserver")
_CLOSE = ("connection", "close")


class Draining:
    """Whether a process is being stopped, and since when.

    Parameters
    ----------
    delay_s : how long it goes on answering, s
    """

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self._since: float | None = None

    def begin(self) -> None:
        """Note that the process is being stopped."""
        self._since = time.monotonic()

    @property
    def has_begun(self) -> bool:
        """Whether the process is being stopped."""
        return self._since is not None

    @property
    def is_over(self) -> bool:
        """Whether it has answered for as long as it should."""
        return self._since is not None and time.monotonic() - self._since >= self.delay_s


class DrainingServer(Server):
    """A server that answers for `Draining.delay_s` after SIGTERM or Ctrl-C; a second one ends that.

    Meanwhile it accepts connections and closes each after one answer, so that a web server in front
    keeps none on which it would send the next request when they are closed.
    """

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin the end."""
        draining = self._draining()
        if draining is None or draining.has_begun or not draining.delay_s:
            super().handle_exit(sig, frame)
            return
        self._captured_signals.append(sig)  # raised again at the end, as the server does it
        draining.begin()
        self.config.headers.append(_CLOSE)
        close = [(name.encode(), value.encode()) for name, value in [_CLOSE]]
        self.config.encoded_headers.extend(close)
        self.server_state.default_headers = [*self.server_state.default_headers, *close]
        _LOG.warning("stopping: answering for %g s more", draining.delay_s)

    @override
    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop accepting connections."""
        draining = self._draining()
        if draining is not None and draining.is_over:
            self.should_exit = True
        return await super().on_tick(counter)

    def _draining(self) -> Draining | None:
        """Return the state of the application; None: it has not started."""
        if not self.started:
            return None
        found = self.lifespan.state.get("draining")
        assert found is None or isinstance(found, Draining)
        return found
