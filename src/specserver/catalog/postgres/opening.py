"""Catalogues of contexts opened from a database."""

from ...errors import Overloaded
from ...model.survey import Survey
from .catalogue import PostgresCatalogue
from .database import Database
from .state import ContextState, read_state

_RETRY_S = 2


def open_postgres(
    database: Database, survey: Survey, context: str, state: ContextState | None = None
) -> PostgresCatalogue:
    """Return the catalogue of a context as the database has it.

    Parameters
    ----------
    state : what is recorded of it, if that was read already

    Raises
    ------
    Overloaded
        It is not in the database yet, or the database cannot be reached.
    """
    state = state or read_state(database, context)
    if state is None:
        raise Overloaded(_RETRY_S, f"{context} is not in the database yet")
    return PostgresCatalogue(database, survey, state)
