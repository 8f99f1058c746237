"""What is asked of the place that keeps a data folder: objects by keys, as object stores have them.

A key is a path with slashes from the top of the data folder, such as ``sdss_dr17/index/CURRENT``;
a prefix is that of a folder, and the empty one the data folder itself. There are no folders but
those that objects are in: who writes an object needs to make none.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from ..damage import Identity

Buffers: TypeAlias = Sequence["memoryview | bytearray"]


class ByteSource(Protocol):
    """One object, open for reading; the same bytes also when another object takes its place."""

    @property
    def state(self) -> Identity:
        """What tells it from another object in its place."""

    @property
    def nbytes(self) -> int:
        """Its length."""

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of bytes; fewer where the object ends."""

    def read_into(self, offset: int, buffers: Buffers, *, at_once: bool) -> int:
        """Read a range of bytes into buffers; return how many there were.

        Parameters
        ----------
        at_once : read only what takes no waiting; fewer bytes than asked for are then the rest
        """

    def will_need(self, offset: int, size: int) -> None:
        """Begin to bring a range of bytes, of which `read_into` is asked soon."""


class Backend(Protocol):
    """The objects of a data folder; safe to share between threads, and sent to other processes.

    Errors are those of the system: `FileNotFoundError` where there is no such object,
    `FileExistsError` where there is one, other `OSError`s.
    """

    def name_of(self, key: str) -> str:
        """Return what people call an object: its full path."""

    def stamp(self, key: str) -> Identity:
        """Return what changes when an object changes; `damage.ABSENT` where there is none.

        Of a folder it only says whether there is one.
        """

    def children(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix, in no order; those of folders end in a slash.

        Where there is no such folder the list is empty.
        """

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all objects below a prefix, in no order."""

    def read(self, key: str) -> bytes:
        """Return all bytes of an object."""

    def open(self, key: str) -> ByteSource:
        """Open an object to read ranges of its bytes."""

    def create(self, key: str, content: bytes | memoryview, *, owner_only: bool = False) -> None:
        """Write an object that is not there yet; of several writers one succeeds."""

    def replace(self, key: str, content: bytes | memoryview, *, owner_only: bool = False) -> None:
        """Write an object, in place of the one that is there: readers see one of them, whole."""

    def delete(self, key: str) -> None:
        """Delete an object, or a folder without any; nothing happens where there is none."""

    def delete_tree(self, prefix: str) -> None:
        """Delete all objects below a prefix; nothing happens where there are none."""

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold an exclusive lock, which ends with the process at the latest.

        Yields False at once when another holds it and it is not to be awaited.
        """

    # What libraries that open files themselves need: only a local folder has it.

    def local_path(self, key: str) -> Path:
        """Return where an object is on this machine, to be mapped, attached or written."""

    def kvstore(self, prefix: str) -> dict[str, Any]:
        """Return what TensorStore calls a folder."""

    def make_folder(self, prefix: str) -> Path:
        """Make a folder into which a library writes files itself, and return it."""

    def allocate(self, key: str, head: bytes, nbytes: int) -> Path:
        """Make a file of some bytes and so many zeros, whose place on the disk is taken.

        Raises `FileExistsError` where it is there.
        """

    def sync(self, prefix: str) -> None:
        """Make durable what libraries wrote below a prefix."""

    # What only a folder that others can enter needs.

    def delete_drafts(self, key: str) -> None:
        """Delete what writers left that died; call where nobody else writes the object."""

    def set_access(self, prefix: str, *, private: bool) -> None:
        """Let only the owner read what is below a prefix, or let everyone."""

    def inherit_access(self, prefix: str) -> None:
        """Let only the owner read a folder where the one above it is so."""
