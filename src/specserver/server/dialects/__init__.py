"""Dialects: each module or package here answers HTTP requests of one kind.

A dialect has a ``router``, with the prefix of its paths below ``/spec``. It may have an ``ORDER``:
routes of dialects with a lower one are tried first. No other module names a dialect.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from fastapi import APIRouter

_LAST: Final = 100


def find_routers() -> list[APIRouter]:
    """Return the routers of all dialects, in the order in which their routes are tried."""
    dialects = [import_module(f"{__name__}.{found.name}") for found in iter_modules(__path__)]
    dialects.sort(key=lambda dialect: getattr(dialect, "ORDER", _LAST))
    return [dialect.router for dialect in dialects]
