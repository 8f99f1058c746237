"""What a data folder holds, as handles: each knows its key, and asks the back end for the rest."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from typing_extensions import override

from ..damage import ABSENT, Identity, damaged
from ..digests import Record, check_file, digest_of, read_record
from ..errors import DamagedFile
from .backend import Backend, ByteSource

DAMAGED: Final = "damaged: restore the file"


@dataclass(frozen=True, slots=True)
class Handle:
    """Something below a data folder, whether or not it is there."""

    backend: Backend
    key: str

    @override
    def __hash__(self) -> int:
        """Return a hash that is quick: caches on the way to each spectrum ask for it."""
        return hash(self.key)

    @override
    def __str__(self) -> str:
        """Return its full path, for messages."""
        return self.backend.name_of(self.key)

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.key.rpartition("/")[2]

    def exists(self) -> bool:
        """Return whether it is there."""
        return self.backend.stamp(self.key) != ABSENT

    def local_path(self) -> Path:
        """Return where it is on this machine, for libraries that open files themselves."""
        return self.backend.local_path(self.key)


class Entry(Handle):
    """One object."""

    __slots__ = ()

    def resolved(self) -> tuple[Path, Path]:
        """Return the data folder and its own file on this machine, links followed."""
        return self.backend.local_path("").resolve(), self.local_path().resolve()

    def stamp(self) -> Identity:
        """Return what changes when it changes; `damage.ABSENT` where it is not there."""
        return self.backend.stamp(self.key)

    def state(self) -> Identity:
        """Return its stamp; `damage.ABSENT` also where it cannot be looked at."""
        try:
            return self.stamp()
        except OSError:
            return ABSENT

    def read(self) -> bytes:
        """Return its bytes."""
        return self.backend.read(self.key)

    def open(self) -> ByteSource:
        """Open it to read ranges of its bytes."""
        return self.backend.open(self.key)

    def replace(self, content: bytes | memoryview, *, owner_only: bool = False) -> None:
        """Write it whole, in place of what is there."""
        self.backend.replace(self.key, content, owner_only=owner_only)

    def delete(self) -> None:
        """Delete it where it is there."""
        self.backend.delete(self.key)

    def delete_drafts(self) -> None:
        """Delete what writers of it left that died; call where nobody else writes it."""
        self.backend.delete_drafts(self.key)

    def lock(self, *, wait: bool = True) -> AbstractContextManager[bool]:
        """Hold the exclusive lock that it is; yields False where another holds it."""
        return self.backend.lock(self.key, wait=wait)

    def allocate(self, head: bytes, nbytes: int) -> Path:
        """Make it, for libraries that write it themselves, with room taken on the disk.

        Parameters
        ----------
        head : its first bytes
        nbytes : how many zeros follow; `OSError` where the disk has no room for them
        """
        return self.backend.allocate(self.key, head, nbytes)

    def record(self, told: str = DAMAGED) -> Record:
        """Return what it says as a record; errors as `digests.read_record`."""
        return read_record(self.local_path(), told)

    def digest(self) -> str:
        """Return its digest as it is now."""
        return digest_of(self.local_path())

    def damaged(self, reason: str) -> DamagedFile:
        """Return the error that says that it is damaged; take note of that."""
        return damaged(str(self), reason)


class Folder(Handle):
    """What is below a prefix."""

    __slots__ = ()

    def entry(self, name: str) -> Entry:
        """Return an object below it, by its path from here."""
        return Entry(self.backend, f"{self.key}/{name}" if self.key else name)

    def below(self, name: str) -> "Folder":
        """Return a folder below it, by its path from here."""
        return Folder(self.backend, f"{self.key}/{name}" if self.key else name)

    def children(self) -> list[str]:
        """Return the names directly below it, sorted; those of folders end in a slash."""
        return sorted(self.backend.children(self.key))

    def files(self) -> list[str]:
        """Return the paths from here of all objects below it, sorted."""
        return sorted(key[len(self.key) + 1 :] for key in self.backend.keys(self.key))

    def delete(self) -> None:
        """Delete it, with all that is below it."""
        self.backend.delete_tree(self.key)

    def make(self) -> Path:
        """Make it, for libraries that write files themselves."""
        return self.backend.make_folder(self.key)

    def sync(self) -> None:
        """Make durable what libraries wrote below it."""
        self.backend.sync(self.key)

    def nbytes(self) -> int:
        """Return the bytes of all objects below it."""
        return sum(self.backend.stamp(key)[1] for key in self.backend.keys(self.key))

    def set_access(self, *, private: bool) -> None:
        """Let only the owner read what is below it, or let everyone."""
        self.backend.set_access(self.key, private=private)

    def inherit_access(self) -> None:
        """Let only the owner read it where the folder above it is so."""
        self.backend.inherit_access(self.key)

    def kvstore(self) -> dict[str, Any]:
        """Return what TensorStore calls it."""
        return self.backend.kvstore(self.key)

    def digests(self, names: Iterable[str]) -> dict[str, str]:
        """Return the digests of objects by their paths from here."""
        return {name: self.entry(name).digest() for name in names}

    def check(self, digests: Mapping[str, str]) -> None:
        """Compare objects with their digests, by their paths from here; raise `DamagedFile`."""
        for name, stated in digests.items():
            check_file(self.entry(name).local_path(), stated)


class Named:
    """An object of a name in each folder of a kind."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: Folder, kind: type[Folder]) -> Entry:
        """Return the object in a folder."""
        return folder.entry(self._name)
