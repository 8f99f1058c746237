"""The use cases, named as users name them."""

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
