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

from ..damage import damaged_files
from ..errors import StoreError
from .context import ContextFolder
from .handles import Entry, Folder, NamedEntry
from .local import LocalFolder
from .user_storage import StorageLimits, UserStorage

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
        """Return this folder; raise `StoreError` if it does not exist or is no folder."""
        path = self.local_path()
        if not path.is_dir():
            what = "is no folder" if path.exists() else "there is no such data folder"
            raise StoreError(
                str(path.absolute()),
                f"{what}; name another with --data or SPECSERVER_DATA, or fill it with"
                " 'specserver ingest'",
            )
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
        names = context.segments()
        if names and not context.is_begun():
            self._committed[context.key] = context.segment(names[0]).record
            return True
        return context.tree.exists()

    def trees(self) -> list[str]:
        """Return the contexts that have a tree of original files, sorted."""
        return [context.key for context in self.folders() if context.tree.exists()]

    def declarations(self) -> list[str]:
        """Return the contexts whose survey the folder declares, sorted."""
        return [context.key for context in self.folders() if context.declaration.exists()]

    def user_storage(self, user: str, limits: StorageLimits) -> UserStorage:
        """Return the virtual storage of a user."""
        return UserStorage(self.backend.local_path(f"{_SPACES}/{user}"), limits)

    def damaged_files(self) -> list[tuple[str, str]]:
        """Return key and reason of each damaged file that this process found."""
        top = self.local_path()
        return [(path.relative_to(top).as_posix(), why) for path, why in damaged_files(top)]

    def full_paths(self) -> tuple[Path, Path]:
        """Return its absolute path, and its path with links resolved."""
        return self.local_path(), self.local_path().resolve()


def open_root(location: Path | str) -> DataRoot:
    """Return the data folder at a path; it need not exist.

    The path becomes absolute, for callers that change their folder, and free of ``.``, ``..`` and
    double slashes, which TensorStore refuses.
    """
    path = Path(location).absolute()
    return DataRoot(LocalFolder(str(path.resolve() if ".." in path.parts else path)), "")
