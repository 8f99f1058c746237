"""A database that follows the index manifests of a data folder, and answers in their place.

The manifest in the data folder stays the commit, so the database can always be made again.
"""

from collections.abc import Callable
from typing import Protocol

from ..data.context import ContextFolder
from ..errors import BadParameter
from ..extras import require
from ..model.survey import Survey
from .base import Catalogue
from .database_url import is_url
from .following import Following
from .index.manifest import Manifest


class FollowedState(Protocol):
    """Which manifest the database has of a context."""

    @property
    def version(self) -> int:
        """Number of the manifest."""

    @property
    def serial(self) -> int:
        """Number that grows whenever rows change."""

    def is_of(self, manifest: Manifest) -> bool:
        """Return whether the database has the rows, and knows the parts, of a manifest."""

    def require_own(self, context: ContextFolder, manifest: Manifest) -> None:
        """Raise `CatalogError` if the database has the context of another data folder."""


class FollowedCatalogue(Catalogue, Protocol):
    """The catalogue of a context as a database has it."""

    @property
    def seen(self) -> int | None:
        """`FollowedState.serial` as an answer told it last; None: the database does not know it."""


class Change(Protocol):
    """What a synchronisation changed."""

    @property
    def version(self) -> int:
        """Number of the manifest that the database has now."""

    @property
    def inserted(self) -> int:
        """Number of new rows."""

    @property
    def deleted(self) -> int:
        """Number of rows that were deleted."""


class CatalogueDatabase(Protocol):
    """A database of catalogues; safe to share between threads.

    All methods raise `DatabaseAway` while it cannot be reached.
    """

    @property
    def shown(self) -> str:
        """What messages call it: without a password."""

    def state(self, context: str) -> FollowedState | None:
        """Return which manifest it has of a context; None: none."""

    def open(self, context: str, survey: Survey) -> FollowedCatalogue:
        """Return the catalogue of a context as the database has it; it must have a state."""

    def sync(
        self,
        context: ContextFolder,
        survey: Survey,
        tell: Callable[[int, int], object] | None = None,
        how: Following = Following.BY_ITSELF,
    ) -> Change | None:
        """Bring a context to the newest manifest of its folder; None: it was there.

        Parameters
        ----------
        tell : called with the number of rows written so far, and the number to be written

        Raises
        ------
        CatalogError
            The context has no index, the database has it of another data folder, or refuses a
            statement.
        DamagedFile
            The index is damaged.
        """

    def close(self) -> None:
        """Close the connections that are not in use."""


def open_database(url: str) -> CatalogueDatabase:
    """Return the database at a URL; it need not be reachable yet.

    Raises
    ------
    BadParameter
        The URL is none of a database.
    MissingPackage
        The extra ``postgres`` is not installed.
    """
    if not is_url(url):
        # It is not repeated: it may have a password.
        text = "--catalog takes the URL of a PostgreSQL database"
        raise BadParameter.saying(f"{text}: postgresql://user@host:5432/name")
    require("--catalog with a PostgreSQL database", "postgres")
    from .postgres.following import PostgresFollower  # noqa: PLC0415  # the extra may be missing

    return PostgresFollower(url)
