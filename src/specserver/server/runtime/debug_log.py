"""The switch of debug logging: while it is on, `request_log` writes a line for each request.

It lasts until it is toggled again, also over a restart: ``<data>/debug`` is its switch.
"""

import logging

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
