"""The log: its format, with the id of the request in each line, and the switch of debugging."""

import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Final

from pythonjsonlogger.json import JsonFormatter
from typing_extensions import override

from ...data.root import DataRoot
from ...errors import SpecServerError, StoreError
from ...settings import Settings

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="-")
"""Id of the request that is being answered, also in the threads that work for it."""
ACCESS: Final = logging.getLogger("specserver.access")
"""A line for each request, at level INFO."""

_LOOK_S: Final = 1.0
_LOG = logging.getLogger("specserver")
_TEXT: Final = "%(asctime)s %(levelname)s [%(request_id)s] %(message)s"


class NameRequest(logging.Filter):
    """Adds the request's name to a record."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass."""
        record.request_id = REQUEST_ID.get()
        return True


class JsonLines(JsonFormatter):
    """Writes an object a line, with what is known of a request as members of its own."""

    @override
    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        """Return the members."""
        known: dict[str, Any] = log_data.pop("exchange", {})
        return log_data | known


class AccessText(logging.Formatter):
    """Writes what is known of a request behind the message, for people."""

    @override
    def format(self, record: logging.LogRecord) -> str:
        """Return a line."""
        line = super().format(record)
        # As JSON: a client must not be able to write lines of its own into the log.
        known = getattr(record, "exchange", {})
        return " ".join([line, *(f"{name}={json.dumps(value)}" for name, value in known.items())])


class DebugSwitch:
    """Whether `request_log` writes a line for each request: while ``<data>/debug`` exists.

    So all processes agree, and it lasts until it is toggled again, also over a restart.
    """

    def __init__(self, data: DataRoot) -> None:
        self._file = data.debug
        self._known = False
        self._looked = -_LOOK_S
        # The event loop asks, which must not wait for a network.
        self._looking = ThreadPoolExecutor(1, "debug") if self._file.backend.is_far else None
        self._handler = logging.StreamHandler()
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(message)s"))

    def is_on(self) -> bool:
        """Return whether requests are logged, and make this process' logger follow."""
        on = self._file.exists() if self._looking is None else self._lately(self._looking)
        if on != (self._handler in _LOG.handlers):
            (_LOG.addHandler if on else _LOG.removeHandler)(self._handler)
            _LOG.setLevel(logging.DEBUG if on else logging.NOTSET)
        return on

    def _lately(self, looking: ThreadPoolExecutor) -> bool:
        """Return what was found a moment ago, and look again if that is long past."""

        def look() -> None:
            with suppress(OSError, SpecServerError):
                self._known = self._file.exists()

        if time.monotonic() - self._looked > _LOOK_S:
            self._looked = time.monotonic()
            looking.submit(look)
        return self._known

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


def logging_configuration(settings: Settings) -> dict[str, Any]:
    """Return the configuration of Python's logging for a server, as of `logging.config`."""
    formats = {
        "text": {"()": AccessText, "format": _TEXT},
        "json": {
            "()": JsonLines,
            "format": "{asctime}{levelname}{name}{process}{request_id}{message}",
            "style": "{",
            "timestamp": "time",
            "rename_fields": {"levelname": "level", "name": "logger"},
        },
    }
    usual = "info" if settings.log_format == "json" else "warning"
    level = (settings.log_level or usual).upper()
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": formats[settings.log_format]},
        "filters": {"request": {"()": NameRequest}},
        "handlers": {
            "stderr": {
                "class": "logging.StreamHandler",
                "formatter": "line",
                "filters": ["request"],
                # Here as well: the switch of debug logging opens its logger for its own handler.
                "level": level,
            }
        },
        "root": {"handlers": ["stderr"], "level": level},
        # uvicorn would configure its own.
        "loggers": {"uvicorn": {"level": level}, "uvicorn.error": {"level": level}},
    }
