"""Where a node keeps copies of objects, and how many."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from typing_extensions import override

from ...errors import BadParameter

SCHEMES: Final = ("s3", "gs", "az")
"""Of addresses of object stores."""
_FOLDER: Final = "SPECSERVER_CACHE"
_NBYTES: Final = "SPECSERVER_CACHE_BYTES"
USUAL_BYTES: Final = 20 * 10**9
_THIS: Final = uuid4().hex
"""This process: its number may be that of another one on another machine."""


@dataclass(frozen=True, slots=True)
class CacheOptions:
    """The cache of this node: a folder on its disk that all processes share.

    What is sent to another process is the cache there: the one that its environment names.
    """

    folder: str
    nbytes: int = USUAL_BYTES
    """Most bytes of copies. Parts of the index that are in use are kept beyond it."""

    @classmethod
    def usual(cls) -> "CacheOptions":
        """Return what the environment says: ``SPECSERVER_CACHE`` and ``SPECSERVER_CACHE_BYTES``.

        Raises `BadParameter` for a limit that is no number of bytes.
        """
        given = os.environ.get(_NBYTES) or str(USUAL_BYTES)
        if not given.isdecimal():
            raise BadParameter(_NBYTES, given, "a number of bytes, such as 20000000000")
        return cls(os.environ.get(_FOLDER) or usual_folder(), int(given))

    @override
    def __reduce__(self) -> tuple[object, ...]:
        """Pickle it: this one in this process, the usual one in others."""
        return _arrived, (self.folder, self.nbytes, _THIS, os.getpid())


def _arrived(folder: str, nbytes: int, program: str, process: int) -> CacheOptions:
    """Return the cache of this process; the one that was sent if it comes from here."""
    is_own = (program, process) == (_THIS, os.getpid())
    return CacheOptions(folder, nbytes) if is_own else CacheOptions.usual()


def usual_folder() -> str:
    """Return the folder in which this user's programs keep copies."""
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return str(Path(caches) / "specserver")
