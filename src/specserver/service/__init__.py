"""The use cases, named as users name them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .archive import Archive, CatalogInfo, ContextInfo
    from .query import QueryRequest
    from .selection import Selection
    from .service import SpectroscopicService

__all__ = [
    "Archive",
    "CatalogInfo",
    "ContextInfo",
    "QueryRequest",
    "Selection",
    "SpectroscopicService",
]


def __getattr__(name: str) -> Any:
    """Return a class, imported when it is first used: a command needs few of these modules."""
    modules = {"QueryRequest": "query", "Selection": "selection", "SpectroscopicService": "service"}
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{modules.get(name, 'archive')}", __name__), name)
