"""The JSON object of an error, in an answer of its own and at the end of a stream."""

from collections.abc import Mapping
from typing import Any

from ..errors import SpecServerError


def error_object(error: SpecServerError, message: str) -> dict[str, Any]:
    """Return the object of an error.

    Parameters
    ----------
    message
        That of the error, as the caller may see it; settings that it does not name are left out.
    """
    settings = [setting for setting in error.settings if setting in message]
    return {"code": error.code, "message": message, "settings": settings}


def read_error(said: Mapping[str, Any]) -> SpecServerError:
    """Return the error of an object; services of earlier versions send no settings."""
    settings = map(str, said.get("settings", ()))
    return SpecServerError.from_wire(str(said["code"]), str(said.get("message", "")), settings)
