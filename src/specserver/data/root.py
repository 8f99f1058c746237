"""A data folder: its contexts, and what is the whole folder's.

::

    <data>/
        <context>/                      spectra of a release (`data.context`)
        tokens.json, tokens.lock        `auth`
        private.json, private.lock      private contexts (`auth`)
        debug                           there while requests are logged (`server.access`)
        spaces/<user>/                  users' own files (`data.user_storage`)
"""

from pathlib import Path
from typing import Final

from typing_extensions import override

from ..damage import damaged_files
from ..errors import StoreError
from .backend import Backend
from .context import ContextFolder
from .handles import Entry
from .local import LocalFolder
from .user_storage import StorageLimits, UserStorage

_SPACES: Final = "spaces"


class DataRoot:
    """A data folder, whether or not it is there; safe to share between threads.

    Parameters
    ----------
    backend : what keeps its objects
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self._committed: dict[str, Entry] = {}
        """By context, the commit record of one of its segments."""

    @override
    def __str__(self) -> str:
        """Return its path, as it was given."""
        return self.backend.name_of("")

    def require(self) -> "DataRoot":
        """Return this folder, which must be there.

        Raises
        ------
        StoreError
            There is no such folder, or it is none.
        """
        path = self.backend.local_path("")
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
        """Return the folders that contexts may have, sorted, whatever is in them."""
        names = (one[:-1] for one in self.backend.children("") if one.endswith("/"))
        return [self.context(one) for one in sorted(names) if one != _SPACES]

    def contexts(self) -> set[str]:
        """Return the contexts with a committed segment or a tree.

        What comes or goes is seen at once. Of a context that had a segment, only the record of
        that segment is looked for: it is never changed, and goes with its folder. Every request
        asks.
        """
        return {one.key for one in self.folders() if self._has_segment(one) or one.tree.exists()}

    def _has_segment(self, context: ContextFolder) -> bool:
        known = self._committed.get(context.key)
        if known is not None and known.exists():
            return True
        self._committed.pop(context.key, None)
        names = context.segments()
        if names:
            self._committed[context.key] = context.segment(names[0]).record
        return bool(names)

    def trees(self) -> list[str]:
        """Return the contexts that have a tree of original files, sorted."""
        return [one.key for one in self.folders() if one.tree.exists()]

    def declarations(self) -> list[str]:
        """Return the contexts whose survey the folder declares, sorted."""
        return [one.key for one in self.folders() if one.declaration.exists()]

    @property
    def tokens(self) -> Entry:
        """The tokens."""
        return Entry(self.backend, "tokens.json")

    @property
    def tokens_lock(self) -> Entry:
        """Held by who changes the tokens."""
        return Entry(self.backend, "tokens.lock")

    @property
    def private(self) -> Entry:
        """The register of private contexts."""
        return Entry(self.backend, "private.json")

    @property
    def private_lock(self) -> Entry:
        """Held by who changes which contexts are private."""
        return Entry(self.backend, "private.lock")

    @property
    def debug(self) -> Entry:
        """The switch of debug logging: on where it is there."""
        return Entry(self.backend, "debug")

    def user_storage(self, user: str, limits: StorageLimits) -> UserStorage:
        """Return the own files of a user."""
        return UserStorage(self.backend.local_path(f"{_SPACES}/{user}"), limits)

    def damaged_files(self) -> list[tuple[str, str]]:
        """Return the key of each damaged file that this process found, and why."""
        top = self.backend.local_path("")
        return [(path.relative_to(top).as_posix(), why) for path, why in damaged_files(top)]

    def full_paths(self) -> tuple[Path, Path]:
        """Return its path from the root of the disk, and the one that links lead to."""
        top = self.backend.local_path("")
        return top.absolute(), top.resolve()


def open_root(location: Path | str) -> DataRoot:
    """Return the data folder at a path, whether or not it is there."""
    return DataRoot(LocalFolder(str(location)))
