"""The database of the catalogue, brought to what a command has stored."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..client.progress import Watch
from ..errors import Overloaded

if TYPE_CHECKING:
    from ..data.root import DataRoot


def follow(
    url: str | None, folder: "DataRoot", contexts: Sequence[str], *, replace: bool = False
) -> list[dict[str, Any]]:
    """Bring the database to the newest versions of contexts; without a URL, do nothing.

    Returns what was done with each context, as records to print.

    Parameters
    ----------
    replace : also where the database has them of another data folder

    Raises
    ------
    Overloaded
        The database cannot be reached; what is stored is safe, and the message says what to do.
    """
    if not url:
        return []
    from ..catalog.followed import open_database
    from ..catalog.following import Following
    from ..surveys import find_release

    database, found = open_database(url), []
    how = Following.REPLACING if replace else Following.ASKED
    try:
        for context in contexts:
            survey, _ = find_release(context, folder)
            with Watch("rows") as watch:
                change = database.sync(folder.context(context), survey, watch, how)
            found.append({
                "context": context,
                "version": change.version if change else None,
                "new": change.inserted if change else 0,
                "deleted": change.deleted if change else 0,
            })  # fmt: skip
    except Overloaded as error:
        text = (
            f"{error.message}; the data folder has all: 'specserver catalog sync' writes the rest"
        )
        raise error.saying(f"{text} when {database.shown} is back") from error
    finally:
        database.close()
    return found
