"""Handles of objects and folders: a handle knows its key, and the back end does the work."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from typing_extensions import override

from ..damage import ABSENT, Identity, damaged
from ..digests import Record, difference, digest_of_blocks, digest_of_bytes, read_record
from ..errors import DamagedCopy, DamagedFile, NewerFormat
from .backend import Backend, ByteSource
from .remedies import remedy

Found = TypeVar("Found")
_TRIES: Final = 3
_AT_ONCE: Final = 2**24
"""Bytes of files far away that are read at once to be compared with their digests."""


@dataclass(frozen=True, slots=True)
class Handle:
    """An object or folder of a data folder; it need not exist."""

    backend: Backend
    key: str

    @override
    def __hash__(self) -> int:
        """Return the hash of the key: caches of open shards ask for it with each spectrum."""
        return hash(self.key)

    @override
    def __str__(self) -> str:
        """Return its full path, for messages."""
        return self.backend.name_of(self.key)

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]

    def local_path(self) -> Path:
        """Return its path on this machine, for libraries that read files themselves."""
        return self.backend.local_path(self.key)

    def delete_drafts(self) -> None:
        """Delete what killed writers left of it, or of objects below it.

        No other writer may be at work on them.
        """
        self.backend.delete_drafts(self.key)


class Entry(Handle):
    """One object."""

    __slots__ = ()

    def exists(self) -> bool:
        """Return whether it exists."""
        return self.backend.stamp(self.key) != ABSENT

    def new_path(self) -> Path:
        """Return the path at which a library writes it, in a folder that `Folder.make` made."""
        return self.backend.new_path(self.key)

    def stamp(self) -> Identity:
        """Return a value that changes when it changes; `damage.ABSENT`: it does not exist."""
        return self.backend.stamp(self.key)

    def stamp_now(self) -> Identity:
        """Return the stamp that it has now; it is never an answer from memory."""
        return self.backend.stamp_now(self.key)

    def state(self) -> Identity:
        """Return its stamp, which may be some seconds old: it is not expected to change.

        `damage.ABSENT` also if the system refuses to return it.
        """
        try:
            return self.backend.recent_stamp(self.key)
        except OSError:
            return ABSENT

    def read(self) -> bytes:
        """Return its bytes."""
        return self.backend.read(self.key)

    def open(self) -> ByteSource:
        """Open it to read ranges of its bytes."""
        return self.backend.open(self.key)

    def create(self, content: bytes | memoryview) -> None:
        """Write it; raise `FileExistsError` if it exists."""
        self.backend.create(self.key, content)

    def replace(self, content: bytes | memoryview, *, owner_only: bool = False) -> None:
        """Write or replace it; readers see the whole old object or the whole new one."""
        self.backend.replace(self.key, content, owner_only=owner_only)

    def touch(self) -> None:
        """Set the time of its stamp to the present time of the storage."""
        self.backend.touch(self.key)

    def delete(self) -> None:
        """Delete it, if it exists."""
        self.backend.delete(self.key)

    def lock(self, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold it as an exclusive lock; without waiting, yield False if another holds it."""
        return self.backend.lock(self.key, wait=wait)

    def allocate(self, head: bytes, nbytes: int) -> Path:
        """Make a file of ``head`` and ``nbytes`` zeros, at the path of `new_path`.

        Raises `OSError` if the disk has no space for it.
        """
        return self.backend.allocate(self.key, head, nbytes)

    def record(self, told: str = "damaged", newest: int | None = None) -> Record:
        """Return it as a record; ``told`` begins the message if it is damaged.

        Raises
        ------
        FileNotFoundError
            There is none.
        DamagedFile
            It is no record, or its values are not those that were written.
        NewerFormat
            It states a format newer than the ``newest`` that is known.
        """
        try:
            found = read_record(self.read())
        except FileNotFoundError:
            raise
        except (OSError, ValueError) as error:
            raise self.damaged(f"{told} ({error})") from error
        stated = found.values.get("format", found.values.get("format_version"))
        if newest is not None and isinstance(stated, int) and stated > newest:
            how = "install the newer specserver here, too"
            raise NewerFormat(str(self), f"format {stated} is newer than this program's: {how}")
        return found

    def digest(self) -> str:
        """Return its digest."""
        return self.backend.digest(self.key)

    def read_locally(
        self, read: Callable[[Path], Found], errors: tuple[type[Exception], ...]
    ) -> Found:
        """Return what a library reads at its path; a copy that it cannot read is fetched again.

        Parameters
        ----------
        errors : what ``read`` raises for a damaged file
        """
        for _ in range(_TRIES):
            try:
                return read(self.local_path())
            except errors as error:
                # A copy may also have been deleted to make room since its path was looked up.
                gone = isinstance(error, FileNotFoundError) and self.backend.is_far
                if not (gone or self.backend.discard_copies(self.key)):
                    raise
        return read(self.local_path())

    def fault(self, stated: str, go_on: Callable[[], None] = lambda: None) -> str:
        """Compare it with its digest; return why it is not as it was written, empty if it is.

        Raises `DamagedCopy` if only the copy of this node was not; it is given up.

        ``go_on`` is called between blocks; it may raise an error to end the work.
        """
        try:
            found = digest_of_blocks(self.backend.blocks(self.key), go_on)
            if found != stated and self.backend.discard_copies(self.key):
                found = digest_of_blocks(self.backend.blocks(self.key), go_on)
                if found == stated:
                    raise DamagedCopy(str(self), "the copy of this node was damaged")
        except OSError as error:
            return f"cannot be read ({error.strerror})"
        return difference(found, stated)

    def damaged(self, reason: str) -> DamagedFile:
        """Return the error for damage to it, and remember the damage."""
        return damaged(str(self), f"{reason}: {remedy(self.key)}", self.state())


class Folder(Handle):
    """One folder."""

    __slots__ = ()

    def entry(self, name: str) -> Entry:
        """Return an object below it, by its path from this folder."""
        return Entry(self.backend, f"{self.key}/{name}" if self.key else name)

    def below(self, name: str) -> "Folder":
        """Return a folder below it, by its path from this folder."""
        return Folder(self.backend, f"{self.key}/{name}" if self.key else name)

    def children(self) -> list[str]:
        """Return the names directly below it, sorted; names of folders end in a slash."""
        return sorted(self.backend.children(self.key))

    def folder_names(self) -> list[str]:
        """Return the names of the folders directly below it, sorted."""
        return [name[:-1] for name in self.children() if name.endswith("/")]

    def files(self) -> list[str]:
        """Return the paths from this folder of all objects below it, sorted."""
        return sorted(key[len(self.key) + 1 :] for key in self.backend.keys(self.key))

    def delete(self) -> None:
        """Delete it and all objects below it."""
        self.backend.delete_tree(self.key)

    def exists(self) -> bool:
        """Return whether it exists."""
        return self.backend.has_folder(self.key)

    def is_link(self) -> bool:
        """Return whether it is a link, which may lead to a disk that is not mounted."""
        return self.backend.is_link(self.key)

    def make(self) -> None:
        """Make it, for libraries that write files themselves."""
        self.backend.make_folder(self.key)

    def sync(self) -> None:
        """Store the files that libraries wrote below it."""
        self.backend.sync(self.key)

    def nbytes(self) -> int:
        """Return the bytes of all objects below it."""
        return sum(stamp[1] for stamp in self.backend.stamps([*self.backend.keys(self.key)]))

    def sizes(self, names: Sequence[str]) -> list[int]:
        """Return the bytes of objects, by their paths from this folder; 0: there is none."""
        stamps = self.backend.stamps([self.entry(name).key for name in names])
        return [stamp[1] for stamp in stamps]

    def read_many(self, names: Sequence[str]) -> list[bytes | None]:
        """Return the bytes of objects, by their paths from this folder; None: there is none."""
        return self.backend.read_many([self.entry(name).key for name in names])

    def nfree(self) -> int:
        """Return the bytes that can still be written below it."""
        return self.backend.nfree(self.key)

    def set_access(self, *, private: bool) -> None:
        """Let only the owner, or everyone, read what is below it."""
        self.backend.set_access(self.key, private=private)

    def inherit_access(self) -> None:
        """Let only the owner read it if only the owner can read the folder above it."""
        self.backend.inherit_access(self.key)

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the digests of objects, by their paths from this folder."""
        return {name: self.entry(name).digest() for name in names}

    def check(self, digests: Mapping[str, str], go_on: Callable[[], None] = lambda: None) -> None:
        """Raise `DamagedFile` if objects, by their paths from here, have other digests.

        ``go_on`` is called between blocks; it may raise an error to end the work.
        """
        sizes = (int(stated.split()[0]) for stated in digests.values())
        if self.backend.is_far and sum(sizes) <= _AT_ONCE:
            contents = self.read_many([*digests])
            sound = {
                name
                for (name, stated), content in zip(digests.items(), contents, strict=True)
                if content is not None and digest_of_bytes(content) == stated
            }
            digests = {name: stated for name, stated in digests.items() if name not in sound}
        for name, stated in digests.items():
            entry = self.entry(name)
            if fault := entry.fault(stated, go_on):
                raise entry.damaged(fault)


class NamedEntry:
    """Descriptor: the object of one name in each folder of a class."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: Folder, kind: type[Folder]) -> Entry:
        """Return the object in a folder."""
        return folder.entry(self._name)
