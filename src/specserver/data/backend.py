"""The back end of a data folder: it keeps objects under keys, as an object store does.

A key is a path with slashes from the top of the data folder, such as ``sdss_dr17/index/CURRENT``.
A prefix is the path of a folder; the empty prefix is the data folder. Writing an object makes the
folders above it.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

from ..damage import Identity
from .user_storage import Space, StorageLimits

Buffers: TypeAlias = Sequence["memoryview | bytearray"]


class ByteSource(Protocol):
    """One object, open for reading. Its bytes stay the same when another object takes its place."""

    state: Identity
    """Its stamp when it was opened."""
    nbytes: int
    """Its length in bytes."""
    is_far: bool
    """Reading it takes a network's time: reads are begun early, and many at once."""

    def read(self, offset: int, size: int) -> bytes:
        """Return a range of bytes; fewer where the object ends."""

    def read_into(self, begin: int, end: int, buffers: Buffers, *, at_once: bool) -> int:
        """Read a range of bytes into buffers of that length; return how many bytes were read.

        Parameters
        ----------
        at_once : read only what is in memory
        """

    def will_need(self, ranges: Sequence[tuple[int, int]]) -> None:
        """Begin to fetch ranges of bytes, ascending (begin, end), that are read soon."""

    def discard_copies(self) -> bool:
        """Give up the copies of its bytes on this machine; return whether there were any.

        Their checksum is wrong: the storage may have the right bytes. Open it again to read them.
        """


class Backend(Protocol):
    """The objects of a data folder. Threads may share it, and it can be sent to other processes.

    Raises
    ------
    FileNotFoundError
        There is no such object.
    OSError
        The object cannot be read or written.
    Unavailable
        The storage does not answer at the moment.
    """

    @property
    def is_far(self) -> bool:
        """Reading it takes a network's time."""

    def probe(self, *, writing: bool) -> None:
        """Try whether the storage can do what is asked of it.

        Raises `StoreError` if there is no such storage, or if it cannot.
        """

    def name_of(self, key: str) -> str:
        """Return the full path of an object, for messages."""

    def stamp(self, key: str) -> Identity:
        """Return a value that changes when an object changes; `damage.ABSENT`: there is none.

        Its parts are one that changes with the content, the size in bytes, and the time of last
        change by the clock of the storage, nanoseconds since 1970.
        """

    def stamps(self, keys: Sequence[str]) -> list[Identity]:
        """Return the stamps of objects, asked for at once."""

    def recent_stamp(self, key: str) -> Identity:
        """Return the stamp, perhaps some seconds old, of an object that is not to change."""

    def stamp_now(self, key: str) -> Identity:
        """Return the stamp that an object has now; it is never an answer from memory."""

    def has_folder(self, prefix: str) -> bool:
        """Return whether a folder exists, also one without objects if the storage keeps such."""

    def children(self, prefix: str) -> list[str]:
        """Return the names directly below a prefix, in no order; names of folders end in a slash.

        The list is empty if there is no such folder.
        """

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield the keys of all objects below a prefix, in no order."""

    def read(self, key: str) -> bytes:
        """Return all bytes of an object."""

    def read_many(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return all bytes of some objects, asked for at once; None where there is none."""

    def blocks(self, key: str) -> Iterator[memoryview]:
        """Yield the bytes of an object block by block, each valid until the next one."""

    def digest(self, key: str) -> str:
        """Return the digest of an object, to be noted by who has written it."""

    def open(self, key: str) -> ByteSource:
        """Open an object to read ranges of its bytes."""

    def will_open(self, keys: Iterable[str], tail: int) -> None:
        """Begin to open objects of which ``tail`` bytes at the end are read first."""

    def create(self, key: str, content: bytes | memoryview) -> None:
        """Write a new object. One of several writers succeeds; `FileExistsError` for the others."""

    def replace(self, key: str, content: bytes | memoryview, *, owner_only: bool = False) -> None:
        """Write an object or replace it. Readers see the whole old object or the whole new one."""

    def touch(self, key: str) -> None:
        """Set the time of an object's stamp to the present time of the storage."""

    def delete(self, key: str) -> None:
        """Delete an object or an empty folder, if it exists."""

    def delete_tree(self, prefix: str, first: str = "") -> None:
        """Delete all objects below a prefix, if there are any.

        The object ``first`` below it is deleted, and the deletion flushed, before any other.
        """

    def lock(self, key: str, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold an exclusive lock, which the end of the process releases.

        Without ``wait`` it yields False at once if another process or thread holds the lock.
        """

    # For libraries that open files themselves.

    def local_path(self, key: str) -> Path:
        """Return the path of an object on this machine, to be mapped or read."""

    def make_folder(self, prefix: str) -> None:
        """Make a folder for the files that libraries write."""

    def new_path(self, key: str) -> Path:
        """Return the path at which a library writes a new file, in a folder that was made.

        `sync` of the folder makes it an object.
        """

    def allocate(self, key: str, head: bytes, nbytes: int) -> Path:
        """Make such a file of ``head`` and ``nbytes`` zeros, with its space on the disk reserved.

        Raises `FileExistsError` if it exists.
        """

    def nfree(self, prefix: str) -> int:
        """Return the bytes that can still be written below a prefix."""

    def sync(self, prefix: str) -> None:
        """Store the files that libraries wrote below a prefix: after a crash they are there."""

    def discard_copies(self, key: str) -> bool:
        """Give up the copy of an object on this machine; return whether there was one.

        Its digest is wrong: the storage may have the right bytes.
        """

    def is_link(self, prefix: str) -> bool:
        """Return whether a folder is a link, which may lead to a disk that is not mounted."""

    def user_storage(self, prefix: str, limits: StorageLimits) -> Space:
        """Return the virtual storage of a user below a prefix."""

    # For folders that other users of the machine can enter.

    def delete_drafts(self, key: str) -> None:
        """Delete what killed writers left of an object, or of those below a prefix.

        No other writer may be at work on them.
        """

    def set_access(self, prefix: str, *, private: bool) -> None:
        """Let only the owner, or everyone, read what is below a prefix."""

    def inherit_access(self, prefix: str) -> None:
        """Let only the owner read a folder if only the owner can read the folder above it."""
