"""PostgreSQL as a database that follows a data folder: `catalog.followed.CatalogueDatabase`."""

from collections.abc import Callable
from typing import Final

from ...data.context import ContextFolder
from ...errors import Overloaded
from ...model.survey import Survey
from ..following import Following
from .catalogue import PostgresCatalogue
from .database import Database
from .state import ContextState, read_state
from .sync import Change, sync_context

_RETRY_S: Final = 2


class PostgresFollower:
    """A schema of catalogues in a database.

    Parameters
    ----------
    url : as of `Database`
    """

    def __init__(self, url: str) -> None:
        self._database = Database(url)

    @property
    def shown(self) -> str:
        """What messages call it: without a password."""
        return self._database.shown

    def state(self, context: str) -> ContextState | None:
        """Return which manifest it has of a context; None: none."""
        return read_state(self._database, context)

    def open(self, context: str, survey: Survey) -> PostgresCatalogue:
        """Return the catalogue of a context as the database has it."""
        state = read_state(self._database, context)
        if state is None:
            raise Overloaded(_RETRY_S, f"{context} is not in the database yet")
        return PostgresCatalogue(self._database, survey, state)

    def sync(
        self,
        context: ContextFolder,
        survey: Survey,
        tell: Callable[[int, int], object] | None = None,
        how: Following = Following.BY_ITSELF,
    ) -> Change | None:
        """Bring a context to the newest manifest of its folder; None: it was there."""
        return sync_context(self._database, context, survey, tell, how)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._database.close()
