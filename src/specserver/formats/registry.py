"""The registry: which function writes a structure as bytes of a media type, and which reads one.

To add a media type, write one function in a module of this package and register it with `writes`
or `reads`. Every endpoint that negotiates the structure then offers it and describes it.
"""

from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Final, TypeVar

from ..errors import BadParameter

Structure = TypeVar("Structure")
Writer = Callable[[Structure], Iterator[bytes]]
FormatReader = Callable[[bytes, int | None], Structure]

_WRITERS: Final[dict[type, dict[str, Writer[Any]]]] = {}
_READERS: Final[dict[type, dict[str, FormatReader[Any]]]] = {}
_NAMES: Final[dict[type, dict[str, str]]] = {}
"""Media types by structure and short name, such as ``csv``."""


def writes(
    structure: type[Structure], media_type: str, name: str = ""
) -> Callable[[Writer[Structure]], Writer[Structure]]:
    """Register the function that writes a structure in a media type.

    Parameters
    ----------
    structure : type of the value that the function is given. It returns the body, in pieces.
    media_type : as in ``Content-Type`` and ``Accept``
    name : value of the parameter ``format`` that asks for it
    """

    def register(write: Writer[Structure]) -> Writer[Structure]:
        _WRITERS.setdefault(structure, {})[media_type] = write
        if name:
            _NAMES.setdefault(structure, {})[name] = media_type
        return write

    return register


def reads(
    structure: type[Structure], media_type: str
) -> Callable[[FormatReader[Structure]], FormatReader[Structure]]:
    """Register the function that reads a structure from a body of a media type.

    The function is given the body and the most rows to accept; None: any number.
    """

    def register(read: FormatReader[Structure]) -> FormatReader[Structure]:
        _READERS.setdefault(structure, {})[media_type] = read
        return read

    return register


def media_types(structure: type, first: str = "") -> list[str]:
    """Return the media types in which a structure is written, one of them first."""
    _import_modules()
    return sorted(_WRITERS[structure], key=lambda media_type: media_type != first)


def readable_types(structure: type) -> list[str]:
    """Return the media types from which a structure is read."""
    _import_modules()
    return list(_READERS[structure])


def names(structure: type) -> list[str]:
    """Return the values of ``format`` that a structure is written for."""
    _import_modules()
    return list(_NAMES[structure])


def negotiate(structure: type, accept: str, default: str) -> str:
    """Return the first media type of a header ``Accept`` in which a structure is written."""
    accepted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    known = media_types(structure)
    return next((media_type for media_type in accepted if media_type in known), default)


def media_type_of(structure: type, name: str) -> str:
    """Return the media type that a value of ``format`` asks for; raise `BadParameter` if none."""
    *most, last = names(structure)
    if name not in _NAMES[structure]:
        raise BadParameter("format", name, f"{', '.join(most)} or {last}")
    return _NAMES[structure][name]


def write(structure: type[Structure], value: Structure, media_type: str) -> Iterator[bytes]:
    """Return a structure as bytes of a media type, piece by piece."""
    _import_modules()
    return _WRITERS[structure][media_type](value)


def read(
    structure: type[Structure], body: bytes, content_type: str, most: int | None = None
) -> Structure:
    """Return the structure in a body.

    Parameters
    ----------
    content_type : header of the request; parameters such as ``charset`` are ignored
    most : rows that are accepted; None: any number

    Raises
    ------
    BadParameter
        The media type is none that can be read, or the body is not of it.
    TooMuch
        More rows than ``most``.
    """
    known = readable_types(structure)
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type not in known:
        raise BadParameter("Content-Type", content_type, " or ".join(known))
    found: Structure = _READERS[structure][media_type](body, most)
    return found


@cache
def _import_modules() -> None:
    """Import the modules of this package, which register their functions."""
    package = __package__ or ""
    for found in iter_modules(import_module(package).__path__):
        import_module(f"{package}.{found.name}")
