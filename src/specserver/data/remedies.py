"""What mends a damaged file, by its place in the data folder (`data.context`)."""

import re
from typing import Final

_OF_INDEX: Final = re.compile(r"([^/]+)/(?:index|catalogs/[^/]+\.index)(?=/)")
_OTHERS: Final = (
    (
        "/seg-",
        "restore the file, or delete its segment and the folder index, and ingest the files again",
    ),
    ("/catalogs/", "restore the file, or attach the table again"),
    ("/tree", "restore the file, or declare the tree anew"),
    ("/survey.json", "restore the file, or declare it anew with ingest --reader specutils or hats"),
)
"""What the key of a file has behind the context, and what mends the file."""


def making(context: str, *, anew: bool = False) -> str:
    """Return how an index of a context is made."""
    how = "makes it anew" if anew else "makes it"
    return f"'specserver maintain {context}' {how} where the folder can be written to"


def index_of(key: str) -> str:
    """Return the key of the index that a file belongs to; empty: it is of none."""
    found = _OF_INDEX.match(key)
    return found[0] if found else ""


def remedy(key: str) -> str:
    """Return what mends a damaged file."""
    context, _, _ = key.partition("/")
    if index_of(key):
        return making(context, anew=True)
    below = key.removeprefix(context)
    return next((what for begin, what in _OTHERS if below.startswith(begin)), "restore the file")
