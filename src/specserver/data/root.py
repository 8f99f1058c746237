"""A data folder: its contexts, and the files that belong to no context.

::

    <data>/
        <context>/                      spectra of a release (`data.context`)
        tokens.json, tokens.lock        `auth`
        private.json, private.lock      private contexts (`auth`)
        debug                           there while requests are logged (`server.dialects.access`)
        spaces/<user>/                  users' own files (`data.user_storage`)
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ..damage import Identity, damaged_files
from ..errors import BadParameter
from ..extras import require
from .context import ContextFolder
from .handles import Entry, Folder, NamedEntry
from .local import LocalFolder
from .remote.options import SCHEMES, CacheOptions
from .user_storage import Space, StorageLimits

SERVER_LOOK_S: Final = 2.0
"""``look_s`` of servers: they see within this time what others changed in an object store."""
_SPACES: Final = "spaces"


@dataclass(frozen=True, slots=True)
class DataRoot(Folder):
    """A data folder; it need not exist. Threads may share it."""

    _committed: dict[str, Entry] = field(default_factory=dict, compare=False, repr=False)
    """Commit record of one segment of each context, by context."""
    tokens = NamedEntry("tokens.json")
    tokens_lock = NamedEntry("tokens.lock")
    private = NamedEntry("private.json")
    private_lock = NamedEntry("private.lock")
    debug = NamedEntry("debug")

    def require(self) -> "DataRoot":
        """Return this folder; raise `StoreError` if it does not exist, or cannot be used."""
        self.backend.probe(writing=False)
        return self

    def prepare(self) -> "DataRoot":
        """Return this folder, to be written to; raise `StoreError` if that is not possible."""
        self.backend.probe(writing=True)
        return self

    def context(self, name: str) -> ContextFolder:
        """Return a context by its name."""
        return ContextFolder(self.backend, name)

    def folders(self) -> list[ContextFolder]:
        """Return all folders that may be those of contexts, sorted."""
        names = (name[:-1] for name in self.children() if name.endswith("/"))
        return [self.context(name) for name in names if name != _SPACES]

    def contexts(self) -> set[str]:
        """Return the contexts with a committed segment or a tree.

        Each call sees the contexts of that moment. Every request calls this, so for a context
        with a known segment it only checks that the segment's record still exists.
        """
        return {context.key for context in self.folders() if self.has_spectra(context)}

    def has_spectra(self, context: ContextFolder) -> bool:
        """Return whether a context has a committed segment or a tree at this moment."""
        known = self._committed.get(context.key)
        if known is not None and known.exists():
            return True
        self._committed.pop(context.key, None)
        first = context.first_segment()
        if first is not None and not context.is_begun():
            self._committed[context.key] = first.record
            return True
        return context.tree.exists()

    def trees(self) -> list[str]:
        """Return the contexts that have a tree of original files, sorted."""
        return [context.key for context in self.folders() if context.tree.exists()]

    def declarations(self) -> list[str]:
        """Return the contexts whose survey the folder declares, sorted."""
        return [context.key for context in self.folders() if context.declaration.exists()]

    def user_storage(self, user: str, limits: StorageLimits) -> Space:
        """Return the virtual storage of a user."""
        return self.backend.user_storage(f"{_SPACES}/{user}", limits)

    def damaged_files(self) -> list[tuple[str, str]]:
        """Return key and reason of each damaged file that this process found."""
        top = self.backend.name_of("")

        def look(name: str) -> Identity:
            return self.entry(name[len(top) + 1 :]).state()

        return [(name[len(top) + 1 :], why) for name, why in damaged_files(top, look)]

    def names(self) -> tuple[str, ...]:
        """Return how messages may name it: its address, or its path as given and links resolved."""
        name = self.backend.name_of("")
        return (name,) if is_address(name) else (name, str(Path(name).resolve()))


def is_address(location: str) -> bool:
    """Return whether a location is an address, such as ``s3://bucket/prefix``, and no path."""
    return "://" in location


def open_root(
    location: Path | str, cache: CacheOptions | None = None, *, look_s: float = 0.0
) -> DataRoot:
    """Return the data folder at a path or an address; it need not exist.

    A path becomes absolute, for callers that change their folder, and free of ``.``, ``..`` and
    double slashes.

    Parameters
    ----------
    cache : where this machine keeps copies of objects; None: as the environment says
    look_s
        Of an object store: age in seconds of what may be answered from memory, and requests are
        not tried again for long. It is for those who answer users; 0 is for writers.

    Raises
    ------
    BadParameter
        It is an address of no kind that is known.
    MissingPackage
        An object store needs a package that is not installed.
    """
    if is_address(str(location)):
        require("a data folder in an object store", "s3")
        # It takes 30 ms to import, and most have a folder.
        from .remote.store import open_store  # noqa: PLC0415

        return DataRoot(open_store(str(location), cache or CacheOptions.usual(), look_s), "")
    # A name that begins with a scheme and a colon, such as s3:bucket, is a misspelt address.
    if str(location).partition(":")[0] in SCHEMES:
        raise BadParameter("data", str(location), "a folder, or an address: s3://bucket/prefix")
    path = Path(location).absolute()
    return DataRoot(LocalFolder(str(path.resolve() if ".." in path.parts else path)), "")
